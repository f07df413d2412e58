//! A question to a manager that has to be waited for: a child process waits, and the keeper does not.
//!
//! The child's end comes as any child's does, by CHLD; what it has written then is the answer.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::SigSet;
use nix::unistd::{ForkResult, execvpe, getpid, getppid, pipe2};
use rustix::process::{Pid, WaitOptions, waitpid};

use crate::report::cause;
use crate::signals::Signal;
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
    child: i32,
    answer: File,
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

    /// The child ends with a failure where `body` returns.
    fn fork(now: Instant, body: impl FnOnce(OwnedFd)) -> io::Result<Inquiry> {
        let (answer, output) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let keeper = getpid();
        match sys::fork()? {
            ForkResult::Child => {
                drop(answer);
                // Nobody else would end it, should the answer never come.
                let _ = set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
                if getppid() != keeper {
                    std::process::exit(1);
                }
                sys::restore_what_was_found();
                let _ = SigSet::empty().thread_set_mask();
                body(output);
                std::process::exit(1)
            }
            ForkResult::Parent { child } => Ok(Inquiry {
                child: child.as_raw(),
                answer: answer.into(),
                until: now + PATIENCE,
            }),
        }
    }

    /// Is not waited for any longer than that.
    pub(super) fn until(mut self, moment: Instant) -> Inquiry {
        self.until = self.until.min(moment);
        self
    }

    /// To be called at every wake.
    pub(super) fn progress(&mut self, now: Instant) -> Progress {
        let status = match waitpid(Pid::from_raw(self.child), WaitOptions::NOHANG) {
            Ok(None) | Err(rustix::io::Errno::INTR) if now < self.until => {
                return Progress::Pending;
            }
            Ok(None) | Err(_) => {
                let seconds = PATIENCE.as_secs();
                return Progress::Failed(format!("no answer within {seconds} s"));
            }
            Ok(Some((_, status))) => status,
        };
        self.child = 0;
        let mut text = Vec::new();
        // Nothing to read is an answer, too; and whoever else may hold the other end is not waited for.
        let _ = (&self.answer).take(LONGEST).read_to_end(&mut text);
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
        self.answer.as_fd()
    }
}

impl Drop for Inquiry {
    /// One that nobody waits for any more is ended, and reaped: a killed process takes no time to go.
    fn drop(&mut self) {
        if self.child != 0 {
            let _ = sys::kill_child(self.child, Signal::KILL.number());
            let _ = waitpid(Pid::from_raw(self.child), WaitOptions::empty());
        }
    }
}
