//! What can go wrong, in a sentence for people and a kind for `match`.

use std::fmt;
use std::io;

/// What went wrong. Displays as one whole sentence: what was tried, on what, why it failed, and what follows.
///
/// Names no type of another crate, so that an update of a dependency is never a change of this interface.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    os: Option<i32>,
}

/// Kinds of [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A variable of the launcher is there but makes no sense, or a descriptor that it announces is not there.
    Environment,
    /// The sockets that were opened for this daemon were taken before.
    Claimed,
    /// A socket is of another kind than the one that was asked for. It can still be taken as what it is.
    WrongKind,
    /// A signal was chosen that cannot be caught, or its handler cannot be installed.
    Signal,
    /// The launcher answered with an error, in its own words; or, without a launcher, the PID file is supervised by
    /// somebody else.
    Refused,
    /// The launcher did not answer in time. It may still do what it was asked to.
    TimedOut,
    /// The launcher cannot be reached, or it went away without an answer, or it does not believe this process.
    Gone,
    /// What lies at the place of the PID file, or beside it, is not ours to replace.
    PidFile,
    /// The operating system failed us; see [`Error::raw_os_error`].
    Io,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error {
            kind,
            message: message.into(),
            os: None,
        }
    }

    /// `what` could not be done, because of `cause`: two clauses that make one sentence.
    pub(crate) fn caused(kind: ErrorKind, what: impl fmt::Display, cause: &io::Error) -> Self {
        Error {
            kind,
            message: format!("{what}: {cause}"),
            os: cause.raw_os_error(),
        }
    }

    /// Adds what follows from it.
    pub(crate) fn consequence(mut self, consequence: &str) -> Self {
        self.message.push_str("; ");
        self.message.push_str(consequence);
        self
    }

    /// The kind, for `match`.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The error number of the operating system, where there is one: what [`io::Error::from_raw_os_error`] takes.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        self.os
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

/// The sentence holds its cause already, so there is no [`source`](std::error::Error::source) that would repeat it.
impl std::error::Error for Error {}
