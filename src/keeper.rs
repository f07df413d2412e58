//! The story of one generation, top to bottom: the keeper starts the daemon, and stays with it for
//! life.
//!
//! It takes hold of the files, starts the daemon ([`Keeper::begin`]), and from then on turns what
//! happens into events, asks [`step`] what they mean, and does it. Once the daemon runs, no error
//! ends the loop (R4).
#![deny(clippy::wildcard_enum_match_arm)]

mod words;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::cli::Service;
use crate::daemon::{Daemon, Environment};
use crate::departure::{Ending, FAILED};
use crate::events;
use crate::files::{Claim, Entry, Files, Lock, Record, State};
use crate::generation::{Action, Event, Phase, PrepareWhen, Reception, Voice, step};
use crate::launcher::let_go_of_inherited;
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
pub(crate) fn run(service: Service, mut link: Link, launcher: i32, mask: &SigSet) -> ! {
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
    launcher: Option<Identity>,
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
    predecessors_gone: bool,
    launcher_lost: bool,
}

impl Keeper {
    /// From nothing to a daemon that runs. An error here leaves nothing behind.
    fn begin(service: Service, link: &mut Link, launcher: i32, mask: &SigSet) -> Result<Keeper> {
        nix::unistd::setsid().context("cannot make a session")?;
        nix::sys::prctl::set_name(c"seamless-keeper").context("cannot name the keeper")?;
        let report = Report::new(service.name.clone(), service.volume);
        let identity = Identity::of_this_process().context("cannot read /proc")?;

        let files = Files::beside(&service.pid_file);
        let Claim {
            lock,
            record,
            next: number,
            named,
        } = files.claim(&report)?;
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
            launcher,
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
            launcher: Identity::of(launcher).ok(),
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
        let_go_of_inherited(&keep).or_else(|error| {
            self.report.warn(&format!(
                "{error:#}; the supervisor may wait for the keeper to let go"
            ));
            Ok(())
        })
    }

    fn live(mut self, mut link: Link) -> ! {
        while self.phase != Phase::Gone {
            let room = link.is_behind().then(|| link.as_fd());
            let mut sources = self.sources();
            sources.push(link.as_fd());
            events::wait(&sources, room, self.phase.deadline());
            link.flush();
            let wake = self.read(&link);
            self.act(wake, &mut link);
        }
        // The daemon's lock, files and socket are let go before the launcher reads its last word:
        // the next launcher may start at once.
        drop(self);
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
    fn read(&mut self, link: &Link) -> Wake {
        let mut wake = Wake::default();
        for _ in 0..MESSAGES_AT_ONCE {
            match self.notify.receive(self.daemon.pid()) {
                Received::Message(message, answer) => wake.messages.push((message, answer)),
                Received::Refused => self
                    .report
                    .detail("a message from somebody else, or of no meaning, was dropped"),
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
        self.predecessors.forget_dead();
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
            self.report_end(ending);
            self.apply(Event::DaemonEnded(ending), link);
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
        if wake.launcher_lost && self.launcher.take().is_some() {
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
            Action::Drain => self.send(Signal::TERM, None),
            Action::Kill => self.send(Signal::KILL, None),
            Action::Commit => self.commit(),
            Action::DrainPredecessors => self.predecessors.drain(Signal::TERM, None, &self.report),
            Action::Detach => self.lock = None,
            Action::LeaveDetached => self.dismiss(Ending::Exited(0), link),
            Action::LeaveWith(ending) => self.dismiss(ending, link),
            Action::CleanUp => self.clean_up(),
            Action::Report(news) => self.report_news(news),
        }
    }

    /// The launcher's end of the link will close, and that is no loss.
    fn dismiss(&mut self, ending: Ending, link: &mut Link) {
        if self.launcher.take().is_some() {
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

    /// R11: the PID file, then the predecessors. What cannot be written is said, and the daemon
    /// serves all the same (R4).
    fn commit(&mut self) {
        self.pid_file_watch = None;
        self.report.note(&self.words_on_commit());
        self.predecessors.forget_dead();
        let written = self.with_lock(|keeper, lock| {
            if keeper.files.found() != crate::files::Found::Pid(keeper.daemon.pid()) {
                keeper.files.write_pid(lock, keeper.daemon.pid())?;
            }
            // A daemon whose life was taken for readiness never said it, and so the next one
            // cannot be waited for either (R13).
            let own = if keeper.said_ready {
                State::Ready
            } else {
                State::Starting
            };
            let mut record = keeper.record_of_others()?;
            record
                .generations
                .iter_mut()
                .for_each(|entry| entry.state = State::Draining);
            record.generations.push(keeper.entry(own));
            keeper.files.write_record(lock, &record)
        });
        self.commit_failure = match written {
            Ok(Some(())) => None,
            Ok(None) => Some("a successor has taken over already".to_owned()),
            Err(error) => Some(format!("{error:#}; a successor may not find this daemon")),
        };
        if let Some(failure) = &self.commit_failure {
            self.report.warn(failure);
        }
        self.predecessors
            .drain(Signal::TERM, self.told_by_daemon, &self.report);
        self.predecessors = Predecessors::default();
    }

    /// R21: takes back what this generation wrote, unless it is a successor's by now.
    fn clean_up(&mut self) {
        let cleaned = self.with_lock(|keeper, lock| {
            if keeper.files.found() == crate::files::Found::Pid(keeper.daemon.pid()) {
                keeper.files.remove_pid_file(lock)?;
            }
            let record = keeper.record_of_others()?;
            keeper.files.write_record(lock, &record)
        });
        if let Err(error) = cleaned {
            self.report.warn(&format!(
                "{error:#}; the next start will find a stale file there"
            ));
        }
        self.lock = None;
    }

    /// Does it while holding the lock; `None` if somebody else has it.
    fn with_lock<T>(&self, write: impl FnOnce(&Keeper, &Lock) -> Result<T>) -> Result<Option<T>> {
        let taken;
        let lock = match &self.lock {
            Some(lock) => lock,
            None => {
                taken = Lock::try_take(&self.files.lock)?;
                match &taken {
                    Some(lock) => lock,
                    None => return Ok(None),
                }
            }
        };
        write(self, lock).map(Some)
    }

    /// The living generations but this one, as the file has them now.
    fn record_of_others(&self) -> io::Result<Record> {
        let mut record = match self.files.read_record() {
            Ok(record) => record,
            Err(_) => Record::of_this_boot()?,
        };
        record
            .generations
            .retain(|entry| entry.daemon != self.daemon.identity);
        record.retain_living();
        Ok(record)
    }

    fn entry(&self, state: State) -> Entry {
        Entry {
            number: self.number,
            state,
            daemon: self.daemon.identity,
            keeper: Some(self.identity),
            launcher: self.launcher,
            unknown: Vec::new(),
        }
    }
}
