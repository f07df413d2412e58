//! A question to a manager that has to be waited for: a child process waits, and the keeper does not. What
//! it has written at its end is the answer.

use std::ffi::CString;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::unistd::execvpe;

use crate::child::Child;
use crate::report::cause;
use crate::sys;

/// What a manager takes when all is well is milliseconds; one that is late is not asked any further.
const PATIENCE: Duration = Duration::from_secs(5);
/// What was meant for this service's main process.
const OURS: [&[u8]; 3] = [b"NOTIFY_SOCKET=", b"LISTEN_", b"WATCHDOG_"];
/// What a pipe takes. A unit's answer has all the commands of its `ExecStartPre=`, and what counts behind.
const LONGEST: u64 = 1 << 16;

/// A question that has been put.
#[derive(Debug)]
pub(super) struct Inquiry {
    child: Child,
    until: Instant,
}

/// How far it has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Pending,
    /// What was written, by a child that ended well.
    Answered(String),
    /// In words.
    Failed(String),
}

impl Inquiry {
    /// Asks by a command, whose output is the answer, or the complaint.
    pub(super) fn command(words: &[&str], now: Instant) -> io::Result<Inquiry> {
        let words: Vec<CString> = words
            .iter()
            .map(|word| CString::new(*word))
            .collect::<Result<_, _>>()?;
        // It would speak to the supervisor in our name (sd_notify(3)).
        let theirs = |entry: &CString| OURS.iter().all(|name| !entry.to_bytes().starts_with(name));
        let environment: Vec<CString> = sys::environment().into_iter().filter(theirs).collect();
        Inquiry::fork(now, |output| {
            let copied = nix::unistd::dup2_stderr(&output).map_err(io::Error::from);
            let _ = copied.and_then(|()| sys::put_in_place(&[output], 1));
            let Some(program) = words.first() else { return };
            let _ = execvpe(program, &words, &environment);
        })
    }

    /// Asks by a function of ours; what it gives is the answer.
    pub(super) fn function(
        ask: impl FnOnce() -> io::Result<String>,
        now: Instant,
    ) -> io::Result<Inquiry> {
        Inquiry::fork(now, |output| {
            // No copy of a lock or of a socket shall live on here.
            let _ = sys::close_all_but(&[output.as_fd()]);
            let (status, words) = match ask() {
                Ok(answer) => (0, answer),
                Err(error) => (1, cause(&error)),
            };
            let _ = rustix::io::write(&output, words.as_bytes());
            std::process::exit(status)
        })
    }

    fn fork(now: Instant, body: impl FnOnce(OwnedFd)) -> io::Result<Inquiry> {
        Ok(Inquiry {
            child: Child::fork(body)?,
            until: now + PATIENCE,
        })
    }

    /// Is not waited for any longer than that.
    pub(super) fn until(mut self, moment: Instant) -> Inquiry {
        self.until = self.until.min(moment);
        self
    }

    /// To be called at every wake.
    pub(super) fn progress(&mut self, now: Instant) -> Progress {
        let Some(status) = self.child.end() else {
            if now < self.until {
                return Progress::Pending;
            }
            let seconds = PATIENCE.as_secs();
            return Progress::Failed(format!("no answer within {seconds} s"));
        };
        let mut text = Vec::new();
        // Nothing to read is an answer, too; and whoever else may hold the other end is not waited for.
        let _ = (&self.child.output).take(LONGEST).read_to_end(&mut text);
        let text = String::from_utf8_lossy(&text).into_owned();
        match status.exit_status() {
            Some(0) => Progress::Answered(text),
            // One that could not be run at all says nothing.
            _ if text.is_empty() => Progress::Failed("it cannot be asked".to_owned()),
            _ => Progress::Failed(text.lines().next().unwrap_or_default().to_owned()),
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.until
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.child.as_fd()
    }
}
