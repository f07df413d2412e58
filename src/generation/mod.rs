//! One generation's life as a pure state machine: no clock, no I/O, no process.
//!
//! [`step()`] takes what is and what happened, and says what is next and what to do about it. The
//! keeper does it. `docs/state-machine.md` holds the whole table, printed from this code.
#![deny(clippy::wildcard_enum_match_arm)]

mod step;
#[cfg(test)]
mod table;

use std::time::{Duration, Instant};

use crate::departure::Ending;
pub(crate) use step::step;

/// Where a generation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The daemon runs, or is about to, and has not become ready.
    Starting {
        voice: Voice,
        /// A predecessor serves until this daemon is ready.
        predecessor: bool,
        /// Being alive then is taken for *ready*, where the service has no other readiness (R13).
        assume_ready: Option<Instant>,
    },
    /// The daemon is ready, and its launcher stands between it and the supervisor.
    Serving { voice: Voice },
    /// The daemon was told that a successor will come, and has not answered.
    Preparing { ready: bool, until: Option<Instant> },
    /// Detached: it serves until its successor tells it to drain.
    Standby { ready: bool },
    /// Detached, and told to finish.
    Draining { until: Option<Instant> },
    /// Told to finish; the launcher waits for its end.
    Stopping { until: Option<Instant> },
    /// It did not finish in time. `supervised`: the launcher waits for its end.
    Killing { supervised: bool },
    /// The daemon has ended; the keeper goes too.
    Gone,
}

impl Phase {
    pub(crate) fn starting(predecessor: bool, assume_ready: Option<Instant>) -> Phase {
        Phase::Starting {
            voice: Voice::Silent,
            predecessor,
            assume_ready,
        }
    }

    /// The one deadline there is; when it has passed, the machine wants [`Event::Deadline`].
    pub(crate) fn deadline(self) -> Option<Instant> {
        match self {
            Phase::Starting { assume_ready, .. } => assume_ready,
            Phase::Preparing { until, .. }
            | Phase::Draining { until }
            | Phase::Stopping { until } => until,
            Phase::Serving { .. } | Phase::Standby { .. } | Phase::Killing { .. } | Phase::Gone => {
                None
            }
        }
    }
}

/// How the daemon has spoken so far (R6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Voice {
    Silent,
    /// sd_notify's words only: whatever it does with USR2, it was not meant for us.
    Plain,
    /// Our protocol: an `X_SEAMLESS=` line, or its PID in the PID file.
    Ours,
}

/// What the daemon would do with the prepare signal, seen when it is about to be sent (R6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reception {
    /// Caught, ignored or held back: by the daemon's own wish, as far as can be told.
    Handled,
    /// Caught by a runtime that catches everything for its own ends.
    Runtime,
    /// Nobody looks: it would kill the daemon, or be lost.
    Unhandled,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The supervisor wants a restart; what the daemon would do with the prepare signal.
    Restart(Reception),
    /// The supervisor wants an end.
    Stop,
    /// The daemon said something that is no event of its own.
    Spoke(Voice),
    /// The daemon said that it is ready.
    Ready(Voice),
    /// The daemon answered *prepare*.
    Prepared,
    /// No predecessor is left that would serve.
    PredecessorsGone,
    /// The launcher went away without having been told to.
    LauncherLost,
    DaemonEnded(Ending),
    /// The phase's deadline has passed.
    Deadline,
}

/// What is to be done, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Send the daemon the prepare signal.
    Prepare,
    /// Send the daemon the drain signal.
    Drain,
    /// KILL the daemon.
    Kill,
    /// Write the PID file and tell every predecessor to drain (R11, R12).
    Commit,
    /// A final stop: tell every predecessor to drain, and write no file.
    DrainPredecessors,
    /// Let go of the lock: this generation is no longer the supervised one (R19).
    Detach,
    /// Tell the launcher to leave with status 0.
    LeaveDetached,
    /// Tell the launcher to leave as the daemon ended (R3).
    LeaveWith(Ending),
    /// Take back what this generation wrote (R21).
    CleanUp,
    Report(News),
}

/// What people are told, beside what other actions say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// A stop was asked for.
    Stopping,
    /// A restart was asked for, and the daemon is ended for it: R9.
    RestartedByStop {
        predecessor: bool,
    },
    /// A restart was asked for, and the daemon is not told: R6.
    DetachedUnasked,
    Prepared,
    /// R8.
    NeverPrepared {
        ready: bool,
    },
    /// R13.
    TakenForReady,
    LauncherLost,
    NotInTime,
}

/// The choices that the machine depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) prepare: PrepareWhen,
    /// For the answer to *prepare*.
    pub(crate) prepare_timeout: Option<Duration>,
    /// From the drain signal of a final stop to KILL.
    pub(crate) stop_timeout: Option<Duration>,
}

/// To whom the prepare signal is sent: `--prepare-signal` (R6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PrepareWhen {
    /// Whoever speaks our protocol, and whoever is silent and handles the signal by itself.
    Auto,
    /// Whoever would not die of it.
    Named,
    Never,
}
