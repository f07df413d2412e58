//! How a process ends, and how ours ends likewise (R3).

use std::fmt;

use rustix::process::WaitStatus;

use crate::sys;

/// `seamless-run` itself failed, or was wrongly used.
pub(crate) const FAILED: i32 = 125;
/// The command was found, but cannot be executed.
pub(crate) const CANNOT_EXECUTE: i32 = 126;
/// There is no such command.
pub(crate) const NOT_FOUND: i32 = 127;

/// What the verbs exit with, where it is not a daemon's status (§9).
pub(crate) mod verb {
    pub(crate) const YES: i32 = 0;
    pub(crate) const NO: i32 = 1;
    pub(crate) const USAGE: i32 = 2;
    pub(crate) const NOTHING_RUNNING: i32 = 3;
    pub(crate) const CANNOT_TELL: i32 = 4;
    pub(crate) const TIMED_OUT: i32 = 124;
}

/// How a daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Ending {
    Exited(i32),
    /// By this signal's number.
    Killed(i32),
    /// Nobody can tell: the keeper whose child it was had been lost (R20).
    Unknown,
}

impl Ending {
    pub(crate) fn is_success(self) -> bool {
        self == Ending::Exited(0)
    }

    /// `None` for a stop or a continuation, which end nothing.
    pub(crate) fn from_wait(status: WaitStatus) -> Option<Ending> {
        let exited = status.exit_status().map(Ending::Exited);
        exited.or_else(|| status.terminating_signal().map(Ending::Killed))
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Exited(code) => write!(formatter, "exit status {code}"),
            Ending::Killed(number) => match crate::signals::Signal::from_number(*number) {
                Some(signal) => write!(formatter, "killed by {signal}"),
                None => write!(formatter, "killed by signal {number}"),
            },
            Ending::Unknown => formatter.write_str("exit status unknown"),
        }
    }
}

/// Ends this process as that one ended, without a core of our own.
pub(crate) fn depart(ending: Ending) -> ! {
    match ending {
        Ending::Exited(code) => std::process::exit(code),
        Ending::Unknown => std::process::exit(FAILED),
        Ending::Killed(signal) => {
            // RLIMIT_CORE would not do: it is not asked where cores go to a pipe. A failure costs
            // a core file of an empty process.
            let _ = nix::sys::prctl::set_dumpable(false);
            sys::die_of(signal);
            // Only for a signal that ends nobody, which cannot have ended the daemon.
            std::process::exit(128 + signal)
        }
    }
}
