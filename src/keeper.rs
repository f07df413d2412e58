//! The story of one generation, top to bottom: the keeper starts the daemon, and stays with it for
//! life.
//!
//! It takes hold of the files, starts the daemon ([`Keeper::begin`]), and from then on turns what
//! happens into events, asks [`step()`] what they mean, and does it. Once the daemon runs, no error
//! ends the loop (R4).
#![deny(clippy::wildcard_enum_match_arm)]

mod commit;
mod words;

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::cli::Service;
use crate::daemon::{Daemon, Environment};
use crate::departure::{Ending, FAILED};
use crate::events;
use crate::files::{Claim, Files, Lock, Record, State};
use crate::generation::{Action, Event, Phase, PrepareWhen, Reception, Voice, step};
use crate::inherited;
use crate::link::{Heard, Link, Word};
use crate::notify::{Answer, Message, NotifySocket, Received, Statement};
use crate::predecessors::Predecessors;
use crate::process::Identity;
use crate::ready::{Named, PidFileWatch};
use crate::report::{Report, cause, complain};
use crate::signals::{self, Meaning, Signal};

/// The seed's timer: so long a life is taken for readiness where nothing else is to be had (R13).
const LIFE_THAT_COUNTS: Duration = Duration::from_secs(10);
/// Messages read in one wake; the others wait in the socket, and do not keep a signal waiting.
const MESSAGES_AT_ONCE: usize = 32;

/// Runs a generation from its start to its end. This is the child of the launcher's fork.
pub(crate) fn run(service: Service, mut link: Link, launcher: Identity, mask: &SigSet) -> ! {
    match Keeper::begin(service, &mut link, launcher, mask) {
        Ok(keeper) => keeper.live(link),
        Err(error) => {
            complain(&format!("{error:#}"));
            link.say(Word::Leave(Ending::Exited(FAILED)));
            finish(link)
        }
    }
}

/// Leaves, when the last word is on its way.
fn finish(mut link: Link) -> ! {
    while link.is_behind() {
        events::wait(&[], Some(link.as_fd()), None);
        link.flush();
    }
    std::process::exit(0)
}

struct Keeper {
    service: Service,
    report: Report,
    files: Files,
    /// While this generation is the supervised one.
    lock: Option<Lock>,
    number: u32,
    identity: Identity,
    launcher: Identity,
    /// The launcher has neither been told to leave nor been lost.
    supervised: bool,
    phase: Phase,
    daemon: Daemon,
    /// Whether the daemon has said that it is ready, or only lived long enough (R13).
    said_ready: bool,
    started: Instant,
    predecessors: Predecessors,
    /// The predecessor that the PID file named when the daemon was started.
    named: Option<i32>,
    /// That one was told to drain by the daemon itself (R12).
    told_by_daemon: Option<i32>,
    /// Until ready.
    pid_file_watch: Option<PidFileWatch>,
    notify: NotifySocket,
    signals: SignalFd,
    /// What the last commit could not do; the answer to *started*.
    commit_failure: Option<String>,
    /// The command could not be run, in words.
    exec_failure: Option<String>,
}

/// All that one wake found, before anything is done about it (§3).
#[derive(Default)]
struct Wake {
    signals: Vec<(Signal, Option<i32>)>,
    ending: Option<Ending>,
    messages: Vec<(Message, Answer)>,
    answered_by_signal: bool,
    named: Option<Named>,
    predecessor_ended: bool,
    /// The last one that served.
    predecessors_gone: bool,
    launcher_lost: bool,
}

impl Keeper {
    /// From nothing to a daemon that runs. An error here leaves nothing behind.
    fn begin(
        service: Service,
        link: &mut Link,
        launcher: Identity,
        mask: &SigSet,
    ) -> Result<Keeper> {
        nix::unistd::setsid().context("cannot make a session")?;
        nix::sys::prctl::set_name(c"seamless-keeper").context("cannot name the keeper")?;
        let report = Report::new(service.name.clone(), service.volume);
        let identity = Identity::of_this_process()?;

        let files = Files::beside(&service.pid_file);
        let Claim {
            lock,
            record,
            named,
        } = files.claim(&report)?;
        let number = record.last;
        let predecessors = Predecessors::from_record(&record);
        let notify = NotifySocket::open().context("cannot open a notify socket")?;
        let pid_file_watch = PidFileWatch::open(&files)
            .inspect_err(|errno| {
                report.warn(&format!(
                    "cannot watch the PID file: {}; a daemon that says started by it will not be heard",
                    errno.desc()
                ));
            })
            .ok();
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let wanted = signals::set_of([Signal::CHLD, service.detach_signal]);
        let signals = SignalFd::with_flags(&wanted, flags).context("cannot make a signalfd")?;

        let own_pid = identity.pid;
        let mut environment = Environment::new(
            launcher.pid,
            own_pid,
            &service.pid_file,
            number,
            notify.address(),
        );
        match service.policy.prepare {
            PrepareWhen::Auto => {}
            PrepareWhen::Named => environment.prepare_signal(Some(service.prepare_signal)),
            PrepareWhen::Never => environment.prepare_signal(None),
        }
        let daemon = Daemon::fork(&service.command, &environment, mask)?;

        let started = Instant::now();
        let assume_ready = predecessors
            .never_said_ready()
            .then(|| started + LIFE_THAT_COUNTS);
        let mut keeper = Keeper {
            phase: Phase::starting(predecessors.any_serves(), assume_ready),
            launcher,
            supervised: true,
            lock: Some(lock),
            said_ready: false,
            told_by_daemon: None,
            commit_failure: None,
            exec_failure: None,
            service,
            report,
            files,
            number,
            identity,
            daemon,
            started,
            predecessors,
            named,
            pid_file_watch,
            notify,
            signals,
        };
        keeper.start(record, link)?;
        Ok(keeper)
    }

    /// Records the daemon, lets it run (R5), and lets go of what is the daemon's alone (R2).
    fn start(&mut self, mut record: Record, link: &Link) -> Result<()> {
        record.generations.push(self.entry(State::Starting));
        if let Some(lock) = &self.lock {
            self.files.write_record(lock, &record)?;
        }
        self.daemon.release()?;
        self.report.note(&self.words_on_start());
        let mut keep = self.sources();
        keep.push(link.as_fd());
        keep.extend(self.lock.as_ref().map(AsFd::as_fd));
        if let Err(error) = inherited::let_go(&keep) {
            self.report.warn(&format!(
                "the keeper cannot let go of what it inherited: {}",
                cause(&error)
            ));
        }
        Ok(())
    }

    fn live(mut self, mut link: Link) -> ! {
        while self.phase != Phase::Gone {
            let room = link.is_behind().then(|| link.as_fd());
            let mut sources = self.sources();
            sources.extend(link.to_watch());
            events::wait(&sources, room, self.phase.deadline());
            link.flush();
            let wake = self.read(&mut link);
            self.act(wake, &mut link);
        }
        finish(link)
    }

    /// What to wait for, beside the link: every descriptor of ours but the lock.
    fn sources(&self) -> Vec<BorrowedFd<'_>> {
        let mut sources = vec![self.signals.as_fd(), self.notify.as_fd()];
        sources.extend(self.daemon.gate());
        sources.extend(self.pid_file_watch.as_ref().map(AsFd::as_fd));
        sources.extend(self.predecessors.to_watch());
        sources
    }

    /// Reads everything that waits, the senders of messages first: while the daemon is not reaped,
    /// its PID is its own.
    fn read(&mut self, link: &mut Link) -> Wake {
        let mut wake = Wake::default();
        for _ in 0..MESSAGES_AT_ONCE {
            match self.notify.receive(self.daemon.pid()) {
                Received::Message(message, answer) => wake.messages.push((message, answer)),
                Received::Refused { sender } => self.report_refused(sender),
                Received::NothingYet => break,
            }
        }
        while let Ok(Some(info)) = self.signals.read_signal() {
            // The kernel's own CHLD says nothing; one from anyone else is ignored (R7).
            let by_daemon = info.ssi_code <= 0 && info.ssi_pid as i32 == self.daemon.pid();
            let answers = info.ssi_signo as i32 == self.service.detach_signal.number();
            wake.answered_by_signal |= by_daemon && answers;
        }
        loop {
            match link.hear() {
                Heard::Word(Word::Signal(signal, value)) => wake.signals.push((signal, value)),
                // Only the launcher's end hears these.
                Heard::Word(Word::Handled(_) | Word::Leave(_)) => {}
                Heard::NothingYet => break,
                Heard::End => {
                    wake.launcher_lost = true;
                    break;
                }
            }
        }
        let failure = self.daemon.exec_failure();
        self.exec_failure = self.exec_failure.take().or(failure);
        let daemon = self.daemon.pid();
        wake.named = self
            .pid_file_watch
            .as_mut()
            .and_then(|watch| watch.look(daemon));
        let served = self.predecessors.any_serves();
        wake.predecessor_ended = self.predecessors.forget_dead();
        wake.predecessors_gone = served && !self.predecessors.any_serves();
        wake.ending = self.daemon.reap();
        wake
    }

    /// In the fixed order of §3: requests to stop, the child's status, messages, other signals, the
    /// clock.
    fn act(&mut self, wake: Wake, link: &mut Link) {
        let meanings = self.service.meanings.clone();
        let (stops, others): (Vec<_>, Vec<_>) = wake
            .signals
            .into_iter()
            .partition(|(signal, _)| meanings.of(*signal) == Meaning::Stop);
        for (signal, _) in stops {
            self.apply(Event::Stop, link);
            link.say(Word::Handled(signal));
        }
        if let Some(ending) = wake.ending {
            let unasked = self.report_end(ending);
            self.apply(Event::DaemonEnded(ending), link);
            if unasked && ending == Ending::Exited(0) {
                // After the launcher was told to leave: it looks at every process there is.
                self.report_background();
            }
        }
        if wake.predecessor_ended {
            self.forget_predecessors();
        }
        if wake.predecessors_gone {
            self.apply(Event::PredecessorsGone, link);
        }
        if let Some(Named { predecessor_told }) = wake.named {
            self.told_by_daemon = self.named.filter(|_| predecessor_told);
            self.become_ready(Voice::Ours, link);
        }
        if wake.answered_by_signal {
            self.apply(Event::Prepared, link);
        }
        for (message, answer) in wake.messages {
            let outcome = self.hear_out(message, link);
            answer.give(outcome);
        }
        for (signal, value) in others {
            self.signalled(signal, value, meanings.of(signal), link);
            link.say(Word::Handled(signal));
        }
        if wake.launcher_lost && std::mem::take(&mut self.supervised) {
            self.apply(Event::LauncherLost, link);
        }
        if self
            .phase
            .deadline()
            .is_some_and(|deadline| deadline <= Instant::now())
        {
            self.apply(Event::Deadline, link);
        }
    }

    fn signalled(&mut self, signal: Signal, value: Option<i32>, meaning: Meaning, link: &mut Link) {
        match meaning {
            Meaning::Restart => {
                let reception = self.daemon.reception(self.service.prepare_signal);
                self.apply(Event::Restart(reception), link);
            }
            // Dealt with before everything else.
            Meaning::Stop | Meaning::Ignore => {}
            Meaning::Forward(Signal::TSTP)
                if self.daemon.reception(Signal::TSTP) == Reception::Unhandled =>
            {
                // R10: in a session without a terminal the default of TSTP does nothing.
                self.send(Signal::STOP, None);
            }
            Meaning::Forward(other) => self.send(other, value.filter(|_| other == signal)),
        }
    }

    /// What one message says, and the answer to it.
    fn hear_out(&mut self, message: Message, link: &mut Link) -> Result<(), String> {
        let mut outcome = Ok(());
        self.apply(Event::Spoke(message.voice), link);
        for statement in message.statements {
            let said = match statement {
                Statement::Ready => {
                    self.become_ready(message.voice, link);
                    self.answer_to_ready()
                }
                Statement::Prepared => {
                    self.apply(Event::Prepared, link);
                    self.answer_to_prepared()
                }
                Statement::Stopping => {
                    self.report
                        .detail(&format!("{} is about to exit", self.name()));
                    Ok(())
                }
                Statement::Status(text) => {
                    self.report.detail(&format!("{} says: {text}", self.name()));
                    Ok(())
                }
                Statement::Unknown(word) => Err(format!(
                    "this version of seamless-run does not know X_SEAMLESS={word}"
                )),
            };
            outcome = outcome.and(said);
        }
        outcome
    }

    fn become_ready(&mut self, voice: Voice, link: &mut Link) {
        self.said_ready = true;
        self.apply(Event::Ready(voice), link);
    }

    fn answer_to_ready(&self) -> Result<(), String> {
        match (self.phase, &self.commit_failure) {
            (Phase::Serving { .. } | Phase::Preparing { .. } | Phase::Standby { .. }, None) => {
                Ok(())
            }
            (
                Phase::Serving { .. } | Phase::Preparing { .. } | Phase::Standby { .. },
                Some(words),
            ) => Err(words.clone()),
            (
                Phase::Starting { .. }
                | Phase::Draining { .. }
                | Phase::Stopping { .. }
                | Phase::Killing { .. }
                | Phase::Gone,
                _,
            ) => Err("this generation is being stopped".to_owned()),
        }
    }

    fn answer_to_prepared(&self) -> Result<(), String> {
        match self.phase {
            Phase::Standby { .. } => Ok(()),
            Phase::Starting { .. } | Phase::Serving { .. } | Phase::Preparing { .. } => {
                Err("nobody has asked this daemon to prepare".to_owned())
            }
            Phase::Draining { .. }
            | Phase::Stopping { .. }
            | Phase::Killing { .. }
            | Phase::Gone => Err("this generation is being stopped".to_owned()),
        }
    }

    fn apply(&mut self, event: Event, link: &mut Link) {
        let (next, actions) = step(&self.service.policy, self.phase, event, Instant::now());
        self.phase = next;
        for action in actions {
            self.perform(action, link);
        }
    }

    fn perform(&mut self, action: Action, link: &mut Link) {
        match action {
            Action::Prepare => {
                self.report.note(&self.words_on_prepare());
                self.send(self.service.prepare_signal, None);
            }
            Action::Drain => {
                self.send(Signal::TERM, None);
                self.mark_draining(|entry| entry.number == self.number);
            }
            Action::Kill => self.send(Signal::KILL, None),
            Action::Commit => self.commit(),
            Action::DrainPredecessors => self.drain_predecessors(),
            Action::Detach => {
                self.lock = None;
                // The successor's keeper has an eye on them.
                self.predecessors = Predecessors::default();
            }
            Action::LeaveDetached => self.dismiss(Ending::Exited(0), link),
            Action::LeaveWith(ending) => self.dismiss(ending, link),
            Action::CleanUp => self.clean_up(),
            Action::Report(news) => self.report_news(news),
        }
    }

    /// The launcher's end of the link will close, and that is no loss.
    fn dismiss(&mut self, ending: Ending, link: &mut Link) {
        if std::mem::take(&mut self.supervised) {
            link.say(Word::Leave(ending));
        }
    }

    fn send(&self, signal: Signal, value: Option<i32>) {
        if let Err(error) = self.daemon.send(signal, value) {
            let name = self.name();
            self.report.warn(&format!(
                "cannot send {signal} to {name}: {}",
                cause(&error)
            ));
        }
    }
}
