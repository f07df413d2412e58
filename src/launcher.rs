//! The launcher: what the supervisor started, and what it sees.
//!
//! It forks the keeper, passes every signal on to it, and ends as the keeper says. It decides
//! nothing, so that it may be killed at any time. What it must not do is lose a signal: each one
//! stays pending in the kernel until the keeper has dealt with the one of its kind before (R24).

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::ForkResult;
use rustix::process::{Pid, WaitOptions, wait, waitpid};

use crate::cli::Service;
use crate::control;
use crate::departure::{Ending, FAILED};
use crate::events::poll_or_pause;
use crate::files::Files;
use crate::inherited;
use crate::keeper::{self, Inheritance, Kin};
use crate::link::{Heard, Link, Word};
use crate::listen::Passed;
use crate::notify::{self, Upstream};
use crate::process::{self, Identity};
use crate::ready::When;
use crate::report::{Report, cause, complain};
use crate::signals::{self, Meaning, Signal};
use crate::supervisor::Supervisor;
use crate::sys;

/// What a keeper that has said its last word may take to go, and a supervisor to hear it.
const FAREWELL: Duration = Duration::from_secs(1);
/// Whoever loses that many keepers one after the other, none of them as old as this, would go on losing
/// them as fast as it can fork.
const TOO_MANY: u32 = 50;
const OLD: Duration = Duration::from_secs(10);
/// Signals read in one wake; the others wait in the kernel.
const AT_ONCE: usize = 32;

/// Starts the service's next generation, and says how to end. The keeper is this process's child
/// and never returns from here.
pub(crate) fn run(service: Service) -> Ending {
    let files = Files::beside(&service.pid_file);
    match launch(service) {
        Ok(ending) => ending,
        Err(error) => {
            let why = format!("{error:#}");
            complain(&why);
            // Whoever serves shall not take its absence for a stop (R16).
            control::report_failed_start(&files, &why);
            notify::report_failed_start(&why);
            Ending::Exited(FAILED)
        }
    }
}

fn launch(service: Service) -> Result<Ending> {
    // Before anything is opened: what is open now was inherited.
    let sockets = Passed::find(
        &service.listen.wanted,
        service.notification,
        &service.lines(),
    )?;
    let looks = service.ready.iter().any(When::is_listening);
    let numbers = if looks {
        process::own_sockets()
    } else {
        Vec::new()
    };
    let upstream = Upstream::find(service.notification)?;
    let comes_back = service.meanings.of(Signal::TERM) == Meaning::Restart;
    let parent = process::parent_of_this_process();
    let name = parent.as_ref().map_or("", |(_, name)| name);
    let supervisor = Supervisor::find(comes_back, name);
    let mask = inherited::block_signals()?;
    let inherited = Inheritance {
        mask,
        sockets,
        numbers,
    };
    sys::watch_children();
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let wanted = signals::set_of(signals::all_that_can_be_caught());
    let signals = SignalFd::with_flags(&wanted, flags).context("cannot make a signalfd")?;
    let (link, keepers_link) = Link::pair().context("cannot make a socket pair")?;
    // Before the fork: a launcher that is KILLed right after it could not be looked at any more.
    let kin = Kin {
        launcher: Identity::of_this_process()?,
        supervisor: parent.map(|(parent, _)| parent),
    };
    match sys::fork().context("cannot fork")? {
        ForkResult::Child => {
            drop((link, signals, upstream));
            keeper::run(service, keepers_link, kin, supervisor, &inherited)
        }
        ForkResult::Parent { child } => {
            drop(keepers_link);
            let report = Report::new(service.name.clone(), service.volume);
            let launcher = Launcher {
                service,
                kin,
                supervisor,
                inherited: inherited.numbers,
                upstream,
                lost_some: false,
                link,
                keeper: child.as_raw(),
                keeper_ended: None,
                settled: true,
                lost: 0,
                forked: Instant::now(),
                signals,
                on_their_way: Vec::new(),
                last_word: None,
                daemon: None,
                daemon_ended: None,
                report,
            };
            Ok(launcher.run())
        }
    }
}

struct Launcher {
    service: Service,
    kin: Kin,
    /// For the next keeper, should this one be lost.
    supervisor: Supervisor,
    /// The same: the numbers of the sockets that this process was started with.
    inherited: Vec<u64>,
    upstream: Upstream,
    /// Something for the supervisor was lost; it is said once.
    lost_some: bool,
    link: Link,
    keeper: i32,
    keeper_ended: Option<Ending>,
    /// The keeper has got as far as knowing its daemon; one that does not may fail for ever.
    settled: bool,
    /// Young keepers that were lost, and when this one was forked.
    lost: u32,
    forked: Instant,
    signals: SignalFd,
    /// With the keeper; they are left pending in the kernel meanwhile.
    on_their_way: Vec<(Signal, Option<i32>)>,
    /// How to end once the keeper has, or by then at the latest.
    last_word: Option<(Ending, Instant)>,
    /// The daemon's PID, and how it ended if it was inherited from a lost keeper.
    daemon: Option<i32>,
    daemon_ended: Option<Ending>,
    report: Report,
}

impl Launcher {
    fn run(mut self) -> Ending {
        let ending = self.pass_on();
        self.upstream.finish(FAREWELL);
        ending
    }

    fn pass_on(&mut self) -> Ending {
        let mut keep = vec![self.link.as_fd(), self.signals.as_fd()];
        keep.extend(self.supervisor.descriptor());
        keep.extend(self.upstream.descriptors());
        if let Err(error) = inherited::let_go(&keep) {
            self.report.warn(&format!(
                "the launcher cannot let go of what it inherited: {}; who waits for the end of a pipe may wait",
                cause(&error)
            ));
        }
        loop {
            if let Some(ending) = self.hear() {
                return ending;
            }
            if let Some((ending, _)) = self.last_word.filter(|(_, by)| *by <= Instant::now()) {
                return ending;
            }
            self.pass_signals_on();
            self.link.flush();
            self.upstream.flush();
            self.wait();
        }
    }

    fn wait(&self) {
        let behind = if self.link.is_behind() {
            PollFlags::POLLOUT
        } else {
            PollFlags::empty()
        };
        let mut sources = vec![
            PollFd::new(self.link.as_fd(), PollFlags::POLLIN | behind),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        let upstream = self.upstream.behind();
        sources.extend(upstream.map(|socket| PollFd::new(socket, PollFlags::POLLOUT)));
        let timeout = match self.last_word {
            Some(_) => PollTimeout::try_from(FAREWELL).unwrap_or(PollTimeout::MAX),
            None => PollTimeout::NONE,
        };
        sys::return_stack();
        // Whatever comes of it, everything is read anew.
        poll_or_pause(&mut sources, timeout);
    }

    /// Reads what the keeper says, to the last word.
    fn hear(&mut self) -> Option<Ending> {
        loop {
            match self.link.hear() {
                Heard::Word(Word::Leave(ending)) => return Some(ending),
                Heard::Word(Word::LeaveLast(ending)) => {
                    self.last_word = Some((ending, Instant::now() + FAREWELL));
                }
                Heard::Word(Word::Ready) => self.upstream.ready(),
                Heard::Notice(notice) => {
                    if self.upstream.pass(notice) && !std::mem::replace(&mut self.lost_some, true) {
                        self.report.warn(
                            "the supervisor does not read what it is told, and some of it is lost; the service goes on",
                        );
                    }
                }
                Heard::Word(Word::Handled(signal)) => {
                    self.on_their_way.retain(|(other, _)| *other != signal);
                    self.listen_again();
                }
                Heard::Word(Word::Settled(daemon)) => {
                    self.settled = true;
                    self.daemon = Some(daemon);
                }
                // Only the keeper's end hears these.
                Heard::Word(Word::Signal(..) | Word::Reaped(..)) => {}
                Heard::NothingYet => return None,
                Heard::End => match self.keeper_gone() {
                    Some(ending) => return Some(ending),
                    None => continue,
                },
            }
        }
    }

    fn pass_signals_on(&mut self) {
        // Children of others may end without end (R17); the keeper wants to be heard meanwhile.
        for _ in 0..AT_ONCE {
            let Ok(Some(info)) = self.signals.read_signal() else {
                return;
            };
            let number = info.ssi_signo as i32;
            let signal = match Signal::from_number(number) {
                Some(Signal::CHLD) => {
                    self.reap();
                    continue;
                }
                Some(signal) => signal,
                None => continue,
            };
            // A shell starts what is in the background with INT and QUIT ignored, so that the
            // terminal's do not reach it. One that somebody sent is meant.
            if info.ssi_code == nix::libc::SI_KERNEL && sys::is_ignored(signal.number()) {
                continue;
            }
            let queued = info.ssi_code == nix::libc::SI_QUEUE;
            let value = queued.then_some(info.ssi_int);
            self.on_their_way.push((signal, value));
            self.listen_again();
            self.link.say(Word::Signal(signal, value));
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
        let on_its_way = |signal: &Signal| {
            let mut all = self.on_their_way.iter();
            all.any(|(other, _)| other == signal)
        };
        let wanted = signals::set_of(wanted.filter(|signal| !on_its_way(signal)));
        if let Err(errno) = self.signals.set_mask(&wanted) {
            self.report.warn(&format!(
                "cannot change the signals to wait for: {}; those of before are waited for",
                errno.desc()
            ));
        }
    }

    /// Takes note of every child that has ended. A launcher that is PID 1 inherits orphans (R17), and
    /// with them the daemon of a keeper that was lost.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let Some(ending) = Ending::from_wait(status) else {
                continue;
            };
            let pid = pid.as_raw_nonzero().get();
            if pid == self.keeper {
                self.keeper_ended = Some(ending);
            } else if Some(pid) == self.daemon {
                // Kept for the next keeper, too: this one may be lost before it has heard.
                self.daemon_ended = Some(ending);
                self.link.say(Word::Reaped(pid, ending));
            }
        }
    }

    /// It went, and without a last word only if it was killed. Then its daemon lives, and another keeper
    /// goes on with it (R20). Gives the ending where there is to be none.
    fn keeper_gone(&mut self) -> Option<Ending> {
        self.reap();
        let how = self.keeper_ended.take().or_else(|| {
            // The link's end comes a moment before the process's own.
            let waited = waitpid(Pid::from_raw(self.keeper), WaitOptions::empty());
            waited
                .ok()
                .flatten()
                .and_then(|(_, status)| Ending::from_wait(status))
        });
        if let Some((ending, _)) = self.last_word {
            return Some(ending);
        }
        let how = how.map_or_else(|| "lost".to_owned(), |ending| ending.to_string());
        let gone = format!("the keeper (pid {}) is gone: {how}", self.keeper);
        if !self.settled {
            self.report.warn(&format!(
                "{gone}, as the one before; its daemon goes on without one until the next start"
            ));
            return Some(Ending::Exited(FAILED));
        }
        let now = Instant::now();
        let is_old = now.saturating_duration_since(self.forked) >= OLD;
        self.lost = if is_old { 1 } else { self.lost + 1 };
        self.forked = now;
        if self.lost >= TOO_MANY {
            self.report.warn(&format!(
                "{gone}, as {} before it; its daemon goes on without one until the next start",
                TOO_MANY - 1
            ));
            return Some(Ending::Exited(FAILED));
        }
        match self.fork_another() {
            Ok(()) => None,
            Err(error) => {
                self.report.warn(&format!(
                    "{gone}, and there can be no other: {error:#}; its daemon goes on without one until the next start"
                ));
                Some(Ending::Exited(FAILED))
            }
        }
    }

    fn fork_another(&mut self) -> Result<()> {
        let (link, keepers_link) = Link::pair().context("cannot make a socket pair")?;
        self.link = link;
        self.settled = false;
        // Before the fork: the new keeper reads it before it looks at its daemon.
        if let (Some(daemon), Some(ending)) = (self.daemon, self.daemon_ended) {
            self.link.say(Word::Reaped(daemon, ending));
        }
        match sys::fork().context("cannot fork")? {
            ForkResult::Child => {
                let nobody = Supervisor::Unreadable(None);
                let supervisor = std::mem::replace(&mut self.supervisor, nobody);
                self.upstream = Upstream::default();
                let service = self.service.clone();
                keeper::take_over(service, keepers_link, self.kin, supervisor, &self.inherited)
            }
            ForkResult::Parent { child } => {
                self.keeper = child.as_raw();
                // The lost one had not dealt with them.
                for (signal, value) in &self.on_their_way {
                    self.link.say(Word::Signal(*signal, *value));
                }
                Ok(())
            }
        }
    }
}
