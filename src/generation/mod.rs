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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// The daemon runs, or is about to, and has not become ready.
    Starting {
        voice: Voice,
        /// A predecessor serves until this daemon is ready.
        predecessor: bool,
        waits: Waits,
    },
    /// The daemon is ready, and its launcher stands between it and the supervisor.
    Serving { voice: Voice },
    /// The daemon was told that a successor will come, and has not answered. `explicit`: by
    /// somebody who wants a restart for certain.
    Preparing {
        ready: bool,
        until: Option<Instant>,
        explicit: bool,
    },
    /// A successor may come now, and the launcher would leave; but first the supervisor is asked once
    /// more whether it wants one (§7). `news`: what is said of it then.
    Parting {
        ready: bool,
        explicit: bool,
        news: News,
    },
    /// Detached: it serves until its successor tells it to drain.
    Standby { ready: bool, patience: Patience },
    /// The daemon is dead, and its keeper keeps the sockets until a successor has them: who connects
    /// waits, and is not refused.
    Holding { until: Option<Instant> },
    /// Detached, and told to finish. `hold`: for a restart that its launcher did not live to see; the
    /// next one shall find the sockets.
    Draining { until: Option<Instant>, hold: bool },
    /// Told to finish; the launcher waits for its end.
    Stopping { until: Option<Instant>, why: Why },
    /// It did not finish in time. `launcher`: one waits for its end, and why.
    Killing { launcher: Option<Why> },
    /// A final stop, and the daemon has ended; the launcher waits for older generations (R15).
    Lingering { ending: Ending },
    /// The daemon has ended; the keeper goes too.
    Gone,
}

impl Phase {
    /// The one deadline there is; when it has passed, the machine wants [`Event::Deadline`].
    pub(crate) fn deadline(self) -> Option<Instant> {
        match self {
            Phase::Starting { waits, .. } => waits.deadline(),
            Phase::Standby {
                patience: Patience::Until(until),
                ..
            }
            | Phase::Preparing { until, .. }
            | Phase::Holding { until }
            | Phase::Draining { until, .. }
            | Phase::Stopping { until, .. } => until,
            Phase::Serving { .. }
            | Phase::Parting { .. }
            | Phase::Standby {
                patience: Patience::Attached | Patience::Wanted | Patience::ForGood,
                ..
            }
            | Phase::Killing { .. }
            | Phase::Lingering { .. }
            | Phase::Gone => None,
        }
    }
}

/// What a daemon that is not ready yet has before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Waits {
    since: Instant,
    /// How many of [`REMINDERS`] are over.
    reminded: usize,
    /// Being alive then is taken for *ready*, where the service has no other readiness (R13).
    assume_ready: Option<Instant>,
    /// Not being ready then ends it.
    give_up: Option<Instant>,
}

/// When the log speaks of a daemon that has not become ready (R13).
const REMINDERS: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(60)];

impl Waits {
    pub(crate) fn begin(
        since: Instant,
        assume_ready: Option<Duration>,
        ready_timeout: Option<Duration>,
    ) -> Waits {
        let at = |time: Option<Duration>| since.checked_add(time?);
        Waits {
            since,
            reminded: 0,
            assume_ready: at(assume_ready),
            give_up: at(ready_timeout),
        }
    }

    fn with_assumption(self, life: Option<Duration>, now: Instant) -> Waits {
        Waits {
            assume_ready: life.and_then(|life| now.checked_add(life)),
            ..self
        }
    }

    fn without_assumption(self) -> Waits {
        Waits {
            assume_ready: None,
            ..self
        }
    }

    fn reminder(self) -> Option<Instant> {
        self.since.checked_add(*REMINDERS.get(self.reminded)?)
    }

    /// What will happen, in a word, and when; to speak of it is nothing.
    pub(crate) fn ahead(self) -> Option<(&'static str, Instant)> {
        let commit = self.assume_ready.map(|moment| ("commit", moment));
        let stop = self.give_up.map(|moment| ("stop", moment));
        commit
            .into_iter()
            .chain(stop)
            .min_by_key(|(_, moment)| *moment)
    }

    /// When it is ended for not being ready.
    pub(crate) fn gives_up(self) -> Option<Instant> {
        self.give_up
    }

    fn deadline(self) -> Option<Instant> {
        let all = [self.assume_ready, self.give_up, self.reminder()];
        all.into_iter().flatten().min()
    }
}

/// How long a detached daemon waits for a successor (R16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Patience {
    /// A successor has come, and is starting.
    Attached,
    /// Nobody has come: by then it was a stop.
    Until(Option<Instant>),
    /// Nobody has come; but the supervisor says that it wants the service up, and would say if not.
    Wanted,
    /// A successor came and failed by itself, or the restart was explicit: it is not a stop.
    ForGood,
}

/// What the supervisor wants of the service (§7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Wish {
    Up,
    Down,
    /// It has died, and did not say; another one may come in its place.
    Gone,
    /// It cannot be told.
    Unknown,
}

/// Why a daemon was told to finish while its launcher stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Why {
    /// A final stop, of every generation.
    Stop,
    /// A restart before it was ready (R9).
    Restart,
    /// It did not become ready in time (R13).
    NotReady,
}

/// How the daemon has spoken so far (R6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Voice {
    Silent,
    /// sd_notify's words only: whatever it does with USR2, it was not meant for us.
    Plain,
    /// Our protocol: an `X_SEAMLESS=` line, or its PID in the PID file.
    Ours,
}

/// What the daemon would do with the prepare signal, seen when it is about to be sent (R6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    /// A restart is wanted; what the daemon would do with the prepare signal. `explicit`: by a
    /// request that cannot have meant a stop.
    Restart {
        reception: Reception,
        explicit: bool,
    },
    /// An end is wanted, with KILL after this time.
    Stop { within: Option<Duration> },
    /// The daemon runs only now, after a command before it; being alive for that long from now on may be
    /// taken for *ready* (R13).
    Released { life: Option<Duration> },
    /// The supervisor has been asked, or looked at.
    Wish(Wish),
    /// The daemon said something that is no event of its own.
    Spoke(Voice),
    /// The daemon said that it is ready.
    Ready(Voice),
    /// The daemon answered *prepare*.
    Prepared,
    /// No predecessor is left that would serve.
    PredecessorsGone,
    /// One that serves has said that it is ready, perhaps only now.
    PredecessorReady,
    /// No older generation is left at all.
    LastOneGone,
    /// A successor's keeper has come (R11).
    SuccessorAttached,
    /// It has gone without a commit. `another`: one will come, since it failed by itself, or was ended
    /// for an explicit restart (R16).
    SuccessorLost { another: bool },
    /// The successor is ready; or, where there are only sockets to hand over, it has them. `told`: our
    /// daemon knows already (R12).
    Superseded { told: bool },
    /// The directory of the PID file is gone: no successor can find us (R16).
    DirectoryGone,
    /// The launcher went away without having been told to.
    LauncherLost(Reception),
    /// The launcher's supervisor has died, and another one has sent a newcomer (R19).
    Orphaned(Reception),
    /// `leaves_sockets`: no other generation holds them.
    DaemonEnded {
        ending: Ending,
        leaves_sockets: bool,
    },
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
    /// A final stop: tell every older generation to end within this time (R15).
    StopPredecessors(Option<Duration>),
    /// Tell those who wait for this generation that it will not serve (R13, R16).
    EndAttempt(AttemptEnd),
    /// Ask the supervisor; [`Event::Wish`] will say.
    AskWish,
    /// Let go of the lock: this generation is no longer the supervised one (R19).
    Detach,
    /// Tell the launcher to leave with status 0.
    LeaveDetached,
    /// Tell the launcher to leave as the daemon ended (R3).
    LeaveWith(Ending),
    /// The daemon has ended: its PID may become a stranger's, so no file shall name it.
    Unname,
    /// The same; but its sockets stay, and a successor shall find them.
    Hold,
    /// The sockets are the successor's by now.
    PassOn,
    /// No successor shall have the sockets: what the daemon still has of them is its own affair.
    Close,
    /// Take back what this generation wrote (R21).
    CleanUp,
    Report(News),
}

/// Why a new generation will not serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum AttemptEnd {
    Died(Ending),
    NotReady,
    /// It was told to end; `explicit`: for a restart that cannot have meant a stop.
    Withdrawn {
        explicit: bool,
    },
}

/// What people are told, beside what other actions say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum News {
    /// A stop was asked for.
    Stopping {
        within: Option<Duration>,
    },
    /// A stop was asked for, of a daemon that drains already.
    StoppingSooner {
        within: Option<Duration>,
    },
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
    /// R13: so far.
    NotReadyYet {
        predecessor: bool,
    },
    /// R13.
    NotReadyInTime {
        predecessor: bool,
    },
    /// R13.
    TakenForReady,
    /// The successor is ready.
    Superseded {
        told: bool,
    },
    /// R16.
    NoSuccessor,
    /// R16: the supervisor says so. `drains`: there is a daemon, which is told.
    NotWanted {
        drains: bool,
    },
    /// The daemon has died, and its sockets are kept.
    Holding,
    /// They were kept for nobody.
    NobodyCame,
    LauncherLost,
    /// R19.
    Orphaned,
    NotInTime,
}

/// The choices that the machine depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) prepare: PrepareWhen,
    /// For the answer to *prepare*.
    pub(crate) prepare_timeout: Option<Duration>,
    /// For *ready*.
    pub(crate) ready_timeout: Option<Duration>,
    /// From the drain signal of a replaced generation to KILL.
    pub(crate) drain_timeout: Option<Duration>,
    /// From the drain signal of a final stop to KILL.
    pub(crate) stop_timeout: Option<Duration>,
    /// For a successor, before its absence is taken for a stop (R16).
    pub(crate) orphan_timeout: Option<Duration>,
    /// For a successor of a daemon that has died, before its sockets are closed.
    pub(crate) hold_timeout: Option<Duration>,
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
