//! What a launched daemon says to its keeper.

use crate::error::{Error, ErrorKind};
use crate::wire::{self, Address, Answer};
use nix::libc;
use std::io;
use std::time::Duration;

/// How long a message without an answer may wait for room in the keeper's queue.
const PATIENCE: Duration = Duration::from_secs(1);

/// A status is one line for people.
const LONGEST_STATUS: usize = 1024;

/// The other end of the line.
#[derive(Debug)]
pub(crate) struct Keeper {
    /// The PID that `SEAMLESS` named; our parent, unless there is a wrapper between.
    pub(crate) pid: i32,
    pub(crate) address: Option<Address>,
}

impl Keeper {
    pub(crate) fn started(&self, limit: Duration) -> Result<(), Error> {
        let result = self.ask("started", limit);
        result.map_err(|error| match error.kind() {
            // The keeper has heard of it, and its words say what did not work.
            ErrorKind::Refused => error.consequence("this daemon serves on"),
            _ => error.consequence("this daemon serves on, but it is not known to be ready"),
        })
    }

    pub(crate) fn status(&self, text: &str) -> Result<(), Error> {
        let line = format!("STATUS={}", wire::one_line(text, LONGEST_STATUS));
        let result = wire::send(self.address("status")?, &line, None, PATIENCE);
        result.map_err(|error| {
            self.failed("status", &error)
                .consequence("the last status stays")
        })
    }

    /// `limit`: how long to wait for the answer; without one nothing is waited for.
    pub(crate) fn prepared(&self, limit: Option<Duration>) -> Result<(), Error> {
        let said = match (self.address, limit) {
            (None, _) => Err(self.no_address("prepared")),
            (Some(address), Some(limit)) => wire::ask(&address, "X_SEAMLESS=prepared", limit)
                .map_err(|error| self.failed("prepared", &error)),
            (Some(address), None) => wire::send(&address, "X_SEAMLESS=prepared", None, PATIENCE)
                .map(|()| Answer::Ok)
                .map_err(|error| self.failed("prepared", &error)),
        };
        let result = match said {
            Ok(answer) => self.outcome("prepared", answer, limit.unwrap_or(PATIENCE)),
            // Its queue is full: it lives, and is slow. A signal would not make it faster.
            Err(error) if error.kind() == ErrorKind::TimedOut => Err(error),
            // Another network namespace cannot reach the socket, a signal can (R7).
            Err(error) => signal_parent(self.pid).map_err(|_| error),
        };
        result.map_err(|error| error.consequence("the launcher goes on without this answer"))
    }

    fn ask(&self, word: &str, limit: Duration) -> Result<(), Error> {
        let answer = wire::ask(self.address(word)?, &format!("X_SEAMLESS={word}"), limit);
        self.outcome(
            word,
            answer.map_err(|error| self.failed(word, &error))?,
            limit,
        )
    }

    fn outcome(&self, word: &str, answer: Answer, limit: Duration) -> Result<(), Error> {
        let (kind, why) = match answer {
            Answer::Ok => return Ok(()),
            Answer::Error(words) => (ErrorKind::Refused, format!("it answered: {words}")),
            Answer::Unknown(words) => (
                ErrorKind::Io,
                format!("its answer {words:?} is not understood"),
            ),
            Answer::Silence => (ErrorKind::TimedOut, format!("no answer within {limit:?}")),
            Answer::Nobody => {
                let why = "it closed the line without an answer, so it ended or does not believe this process";
                (ErrorKind::Gone, why.to_owned())
            }
        };
        Err(Error::new(
            kind,
            format!(
                "cannot say {word:?} to the launcher (PID {}): {why}",
                self.pid
            ),
        ))
    }

    fn address(&self, word: &str) -> Result<&Address, Error> {
        self.address.as_ref().ok_or_else(|| self.no_address(word))
    }

    fn no_address(&self, word: &str) -> Error {
        let why = "SEAMLESS is set but NOTIFY_SOCKET is not";
        let message = format!(
            "cannot say {word:?} to the launcher (PID {}): {why}",
            self.pid
        );
        Error::new(ErrorKind::Gone, message)
    }

    fn failed(&self, word: &str, error: &io::Error) -> Error {
        let gone = [
            libc::ECONNREFUSED,
            libc::ENOENT,
            libc::ECONNRESET,
            libc::EPIPE,
            libc::ENOTCONN,
        ];
        let kind = if wire::is_timeout(error) {
            ErrorKind::TimedOut
        } else if error
            .raw_os_error()
            .is_some_and(|number| gone.contains(&number))
        {
            ErrorKind::Gone
        } else {
            ErrorKind::Io
        };
        let place = self
            .address
            .map_or_else(|| "no address".to_owned(), |address| address.to_string());
        let what = format!(
            "cannot say {word:?} to the launcher (PID {}) at {place}",
            self.pid
        );
        let error = Error::caused(kind, what, error);
        if kind == ErrorKind::Gone {
            return error
                .consequence("it has ended, or this process is in another network namespace");
        }
        error
    }
}

/// `CHLD` to our parent, if that is still the keeper: a parent that died has been replaced by a stranger.
#[cfg(target_os = "linux")]
fn signal_parent(keeper: i32) -> io::Result<()> {
    use crate::sys;
    use std::os::fd::AsFd;
    // Opened before the look: from then on the descriptor means the process that was our parent at the look, or a dead one.
    let process = sys::pidfd_open(keeper)?;
    if nix::unistd::getppid().as_raw() != keeper {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    sys::pidfd_send_signal(process.as_fd(), libc::SIGCHLD)
}

/// There is no launcher that would understand it.
#[cfg(not(target_os = "linux"))]
fn signal_parent(_: i32) -> io::Result<()> {
    Err(io::Error::from_raw_os_error(libc::ESRCH))
}
