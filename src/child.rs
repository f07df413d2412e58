//! A short-lived child process of a keeper, and what it writes: a question to a manager, a probe, a
//! command. The child waits, and the keeper does not.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::SigSet;
use nix::unistd::{ForkResult, getpid, getppid, pipe2};
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, WaitStatus, waitid, waitpid};

use crate::signals::Signal;
use crate::sys;

/// How long a killed process is waited for, in moments.
const TRIES: usize = 20;
const MOMENT: Duration = Duration::from_millis(1);

/// It has not been reaped, so its PID names no stranger (R18).
#[derive(Debug)]
pub(crate) struct Child {
    /// 0: it has been reaped.
    pid: i32,
    /// What it writes; a read never waits.
    pub(crate) output: File,
}

impl Child {
    /// The child does `body` with the descriptor that it writes to, and ends with a failure where that
    /// returns.
    pub(crate) fn fork(body: impl FnOnce(OwnedFd)) -> io::Result<Child> {
        let (output, theirs) = pipe2(OFlag::O_CLOEXEC)?;
        rustix::io::ioctl_fionbio(&output, true)?;
        let keeper = getpid();
        match sys::fork()? {
            ForkResult::Child => {
                drop(output);
                // Nobody else would end it, should it never end by itself.
                let _ = set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
                if getppid() != keeper {
                    std::process::exit(1);
                }
                sys::restore_what_was_found();
                let _ = SigSet::empty().thread_set_mask();
                body(theirs);
                std::process::exit(1)
            }
            ForkResult::Parent { child } => Ok(Child {
                pid: child.as_raw(),
                output: output.into(),
            }),
        }
    }

    /// How it ended, once. Its end comes as any child's does, by CHLD.
    pub(crate) fn end(&mut self) -> Option<WaitStatus> {
        match waitpid(Some(self.id()?), WaitOptions::NOHANG) {
            Ok(Some((_, status))) => {
                self.pid = 0;
                Some(status)
            }
            // Nobody else reaps it.
            Ok(None) | Err(_) => None,
        }
    }

    /// The same; whatever it has left in its process group is ended with it.
    pub(crate) fn end_of_all(&mut self) -> Option<WaitStatus> {
        let only_look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let ended = waitid(WaitId::Pid(self.id()?), only_look).ok().flatten();
        ended?;
        // Before it is reaped: then another group might have its number.
        let _ = sys::kill_group_of_child(self.pid, Signal::KILL.number());
        self.end()
    }

    /// With its process group. Its end comes as any other; it may not come, if it has become another user's.
    pub(crate) fn kill(&self) {
        if self.pid != 0 {
            let _ = sys::kill_group_of_child(self.pid, Signal::KILL.number());
        }
    }

    /// `None` once it has been reaped.
    fn id(&self) -> Option<Pid> {
        Pid::from_raw(self.pid)
    }
}

impl AsFd for Child {
    /// Readable when there is output, or nobody is left to write any.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.output.as_fd()
    }
}

impl Drop for Child {
    /// One that nobody waits for any more is ended, with its process group, and reaped: a killed process
    /// takes no time to go. For one that is not to be killed (a command that has become another user's, a
    /// disk that does not answer) nobody stands still; its zombie goes with the keeper.
    fn drop(&mut self) {
        self.kill();
        for _ in 0..TRIES {
            if self.pid == 0 || self.end().is_some() {
                return;
            }
            std::thread::sleep(MOMENT);
        }
    }
}
