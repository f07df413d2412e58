//! The launcher: what the supervisor started, and what it sees.
//!
//! It forks the keeper, passes every signal on to it, and ends as the keeper says. It decides
//! nothing, so that it may be killed at any time. What it must not do is lose a signal: each one
//! stays pending in the kernel until the keeper has dealt with the one of its kind before (R24).

use std::os::fd::AsFd;

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::ForkResult;
use rustix::process::{Pid, WaitOptions, waitpid};

use crate::cli::Service;
use crate::departure::{Ending, FAILED};
use crate::inherited;
use crate::keeper;
use crate::link::{Heard, Link, Word};
use crate::process::Identity;
use crate::report::{Report, cause, complain};
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
    let inherited = inherited::block_signals()?;
    sys::watch_children();
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let wanted = signals::set_of(signals::all_that_can_be_caught());
    let signals = SignalFd::with_flags(&wanted, flags).context("cannot make a signalfd")?;
    let (link, keepers_link) = Link::pair().context("cannot make a socket pair")?;
    // Before the fork: a launcher that is KILLed right after it could not be looked at any more.
    let launcher = Identity::of_this_process()?;
    match sys::fork().context("cannot fork")? {
        ForkResult::Child => {
            drop((link, signals));
            keeper::run(service, keepers_link, launcher, &inherited)
        }
        ForkResult::Parent { child } => {
            drop(keepers_link);
            let report = Report::new(service.name, service.volume);
            let keeper = child.as_raw();
            let launcher = Launcher {
                link,
                keeper,
                signals,
                on_their_way: Vec::new(),
                report,
            };
            Ok(launcher.pass_on())
        }
    }
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
    fn pass_on(mut self) -> Ending {
        if let Err(error) = inherited::let_go(&[self.link.as_fd(), self.signals.as_fd()]) {
            self.report.warn(&format!(
                "the launcher cannot let go of what it inherited: {}",
                cause(&error)
            ));
        }
        loop {
            if let Some(ending) = self.hear() {
                return ending;
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
            // A shell starts what is in the background with INT and QUIT ignored, so that the
            // terminal's do not reach it. One that somebody sent is meant.
            if info.ssi_code == nix::libc::SI_KERNEL && sys::is_ignored(signal.number()) {
                continue;
            }
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
