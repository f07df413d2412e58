//! The launcher: what the supervisor started, and what it sees.
//!
//! It forks the keeper, passes every signal on to it, and ends as the keeper says. It decides
//! nothing, so that it may be killed at any time. What it must not do is lose a signal: each one
//! stays pending in the kernel until the keeper has dealt with the one of its kind before (R24).

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::ForkResult;
use rustix::process::{Pid, WaitOptions, waitpid};

use crate::cli::Service;
use crate::departure::{Ending, FAILED};
use crate::keeper;
use crate::link::{Heard, Link, Word};
use crate::report::{Report, complain};
use crate::signals::{self, Signal};
use crate::sys;

/// Starts the service's next generation, and says how to end. The keeper is this process's child
/// and never returns from here.
pub(crate) fn run(service: Service) -> Ending {
    match launch(service) {
        Ok(ending) => ending,
        Err(error) => {
            complain(&format!("{error:#}"));
            Ending::Exited(FAILED)
        }
    }
}

fn launch(service: Service) -> Result<Ending> {
    let inherited = block_signals()?;
    sys::watch_children();
    let (link, keepers_link) = Link::pair().context("cannot make a socket pair")?;
    let launcher = std::process::id() as i32;
    match sys::fork().context("cannot fork")? {
        ForkResult::Child => {
            drop(link);
            keeper::run(service, keepers_link, launcher, &inherited)
        }
        ForkResult::Parent { child } => {
            drop(keepers_link);
            Launcher::new(service, link, child.as_raw())?.pass_on()
        }
    }
}

/// From here on every signal waits until somebody reads it. Gives the mask as it was, for the
/// daemon (R1).
fn block_signals() -> Result<SigSet> {
    let all = signals::set_of(signals::all_that_can_be_caught());
    all.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)
        .context("cannot block signals")
}

/// Lets go of what was inherited but stderr (R2): a copy would keep a log pipe, a lock or a mounted
/// directory alive.
pub(crate) fn let_go_of_inherited(keep: &[BorrowedFd<'_>]) -> Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    drop(null);
    sys::close_all_but(keep).context("cannot close inherited descriptors")?;
    std::env::set_current_dir("/")?;
    Ok(())
}

struct Launcher {
    link: Link,
    keeper: i32,
    signals: SignalFd,
    /// With the keeper; they are left pending in the kernel meanwhile.
    on_their_way: Vec<Signal>,
    report: Report,
}

impl Launcher {
    fn new(service: Service, link: Link, keeper: i32) -> Result<Launcher> {
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals =
            SignalFd::with_flags(&signals::set_of(signals::all_that_can_be_caught()), flags)
                .context("cannot make a signalfd")?;
        let_go_of_inherited(&[link.as_fd(), signals.as_fd()])?;
        let report = Report::new(service.name, service.volume);
        Ok(Launcher {
            link,
            keeper,
            signals,
            on_their_way: Vec::new(),
            report,
        })
    }

    fn pass_on(mut self) -> Result<Ending> {
        loop {
            if let Some(ending) = self.hear() {
                return Ok(ending);
            }
            self.pass_signals_on();
            self.link.flush();
            self.wait();
        }
    }

    fn wait(&self) {
        let behind = if self.link.is_behind() {
            PollFlags::POLLOUT
        } else {
            PollFlags::empty()
        };
        let mut sources = [
            PollFd::new(self.link.as_fd(), PollFlags::POLLIN | behind),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        // Whatever it returns, everything is read anew.
        let _ = poll(&mut sources, PollTimeout::NONE);
    }

    /// Reads what the keeper says, to the last word.
    fn hear(&mut self) -> Option<Ending> {
        loop {
            match self.link.hear() {
                Heard::Word(Word::Leave(ending)) => return Some(ending),
                Heard::Word(Word::Handled(signal)) => {
                    self.on_their_way.retain(|other| *other != signal);
                    self.listen_again();
                }
                // Only the keeper's end hears of signals.
                Heard::Word(Word::Signal(..)) => {}
                Heard::NothingYet => return None,
                Heard::End => return Some(self.keeper_lost()),
            }
        }
    }

    fn pass_signals_on(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let number = info.ssi_signo as i32;
            // Our child's end shows on the link; a CHLD from anyone else means nothing (R7).
            let signal = match Signal::from_number(number) {
                Some(signal) if signal != Signal::CHLD => signal,
                _ => continue,
            };
            let queued = info.ssi_code == nix::libc::SI_QUEUE;
            self.on_their_way.push(signal);
            self.listen_again();
            self.link
                .say(Word::Signal(signal, queued.then_some(info.ssi_int)));
            if signal == Signal::TSTP && info.ssi_code == nix::libc::SI_KERNEL {
                // ^Z at a terminal: the shell there waits for this process to stop.
                let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP);
            }
        }
    }

    /// A signal that is on its way is not read again: the kernel keeps the next of its kind, and
    /// every real-time one, in order.
    fn listen_again(&self) {
        let wanted = signals::all_that_can_be_caught();
        let wanted = signals::set_of(wanted.filter(|signal| !self.on_their_way.contains(signal)));
        if let Err(errno) = self.signals.set_mask(&wanted) {
            self.report.warn(&format!(
                "cannot change the signals to wait for: {}",
                errno.desc()
            ));
        }
    }

    /// It went without a word, which it does only if it was killed.
    fn keeper_lost(&self) -> Ending {
        let waited = waitpid(Pid::from_raw(self.keeper), WaitOptions::empty());
        let ending = waited
            .ok()
            .flatten()
            .and_then(|(_, status)| Ending::from_wait(status));
        let how = ending.map_or_else(|| "lost".to_owned(), |ending| ending.to_string());
        self.report.warn(&format!(
            "the keeper (pid {}) is gone: {how}; its daemon goes on without it until the next start",
            self.keeper
        ));
        Ending::Exited(FAILED)
    }
}
