//! The story of one generation, top to bottom: the keeper starts the daemon, and stays with it for
//! life.
//!
//! It takes hold of the files and attaches to the older generations, starts the daemon
//! ([`Keeper::begin`]), and from then on turns what happens into events, asks [`step()`] what they
//! mean, and does it. Once the daemon runs, no error ends the loop (R4).
#![deny(clippy::wildcard_enum_match_arm)]

mod adopt;
mod commit;
mod control;
mod messages;
mod sockets;
mod words;

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::cli::Service;
use crate::clock::Clock;
use crate::control::wire::Failure;
use crate::control::{
    Attempt, Callers, Heard as HeardFromCaller, Id, Listener, Message as Request,
};
use crate::daemon::{Daemon, Environment};
use crate::departure::{Ending, FAILED};
use crate::events;
use crate::files::{Claim, DirectoryWatch, Files, Lock, Record, State};
use crate::generation::{Action, Event, Phase, PrepareWhen, Reception, Voice, Waits, step};
use crate::inherited;
use crate::link::{Heard, Link, Word};
use crate::listen::{Passed, Sockets};
use crate::notify::{Answer, Message, NotifySocket, Received};
use crate::predecessors::{Limits, News as PredecessorNews, Predecessors};
use crate::process::Identity;
use crate::ready::{Named, PidFileWatch};
use crate::report::{Report, cause, complain};
use crate::signals::{self, Meaning, Signal};

/// The seed's timer: so long a life is taken for readiness where nothing else is to be had (R13).
const LIFE_THAT_COUNTS: Duration = Duration::from_secs(10);
/// Messages read in one wake, and callers accepted; the others wait in their sockets, and do not
/// keep a signal waiting.
const AT_ONCE: usize = 32;

/// What a keeper's launcher knows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kin {
    pub(crate) launcher: Identity,
    /// The launcher's parent when it started (R19).
    pub(crate) supervisor: Option<Identity>,
}

/// What the daemon inherits from the supervisor, beside what it finds in the launcher anyway.
#[derive(Clone, Debug)]
pub(crate) struct Inheritance {
    /// The signal mask.
    pub(crate) mask: SigSet,
    pub(crate) sockets: Passed,
}

/// Runs a generation from its start to its end. This is the child of the launcher's fork.
pub(crate) fn run(service: Service, mut link: Link, kin: Kin, inherited: &Inheritance) -> ! {
    let socket = Files::beside(&service.pid_file).socket;
    match Keeper::begin(service, &mut link, kin, inherited) {
        Ok(keeper) => keeper.live(link),
        Err(error) => give_up(&error, &socket, link),
    }
}

/// Takes the place of a keeper that this launcher has lost (R20). A child of its fork, too.
pub(crate) fn take_over(service: Service, mut link: Link, kin: Kin) -> ! {
    let socket = Files::beside(&service.pid_file).socket;
    match Keeper::adopt(service, &mut link, kin) {
        Ok(keeper) => keeper.live(link),
        Err(error) => give_up(&error, &socket, link),
    }
}

fn give_up(error: &anyhow::Error, socket: &Path, mut link: Link) -> ! {
    let why = format!("{error:#}");
    complain(&why);
    crate::control::report_failed_start(socket, &why);
    link.say(Word::Leave(Ending::Exited(FAILED)));
    finish(link)
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
    clock: Clock,
    files: Files,
    /// While this generation is the supervised one.
    lock: Option<Lock>,
    number: u32,
    identity: Identity,
    kin: Kin,
    /// The launcher has neither been told to leave nor been lost.
    supervised: bool,
    phase: Phase,
    /// When the phase began.
    since: Instant,
    daemon: Daemon,
    started: Instant,
    /// Whether the daemon has said that it is ready, or only lived long enough (R13).
    said_ready: bool,
    /// How the daemon has spoken, as the last phase that cared knew it.
    voice: Voice,
    /// When the daemon was told to finish.
    told_to_end: Option<Instant>,
    /// The daemon's last `STATUS=`.
    status: String,
    predecessors: Predecessors,
    sockets: Sockets,
    /// The predecessor that the PID file named when the daemon was started.
    named: Option<i32>,
    /// That one was told to drain by the daemon itself (R12).
    told_by_daemon: Option<i32>,
    /// Until ready.
    pid_file_watch: Option<PidFileWatch>,
    /// While a standby has no deadline (R16).
    directory_watch: Option<DirectoryWatch>,
    notify: NotifySocket,
    listener: Listener,
    callers: Callers,
    signals: SignalFd,
    /// Why the last attempt failed, and when.
    failure: Option<(Failure, Instant)>,
    /// What the last commit could not do; the answer to *started*.
    commit_failure: Option<String>,
    /// The command could not be run, in words.
    exec_failure: Option<String>,
    /// A file could not be written the last time; it is said once.
    write_failed: bool,
    /// The last caller could not be accepted; it is said once.
    turned_away: bool,
    /// Callers cannot even be turned away; until then nobody listens.
    deaf_until: Option<Instant>,
    /// Those who watch have not been told yet.
    changed: bool,
}

/// All that one wake found, before anything is done about it (§3).
#[derive(Default)]
struct Wake {
    signals: Vec<(Signal, Option<i32>)>,
    ending: Option<Ending>,
    messages: Vec<(Message, Answer)>,
    answered_by_signal: bool,
    named: Option<Named>,
    requests: Vec<(Id, Request)>,
    /// Successors that have gone; how their attempts ended, where they said so.
    lost_successors: Vec<(u32, Option<Attempt>)>,
    predecessors: Vec<PredecessorNews>,
    /// The last one that served.
    predecessors_gone: bool,
    directory_gone: bool,
    launcher_lost: bool,
}

impl Keeper {
    /// From nothing to a daemon that runs. An error here leaves nothing behind.
    fn begin(
        service: Service,
        link: &mut Link,
        kin: Kin,
        inherited: &Inheritance,
    ) -> Result<Keeper> {
        let (report, identity) = become_keeper(&service)?;
        let files = Files::beside(&service.pid_file);
        let Claim { lock, mut record } = files.claim(&report)?;
        let number = record.last;
        let notify = NotifySocket::open().context("cannot open a notify socket")?;
        let pid_file_watch = PidFileWatch::open(&files)
            .inspect_err(|errno| {
                report.warn(&format!(
                    "cannot watch the PID file: {}; a daemon that says started by it will not be heard",
                    errno.desc()
                ));
            })
            .ok();
        let signals = signals_of(&service)?;
        let limits = limits_of(&service);
        let mut predecessors = Predecessors::attach(&record, &files, number, limits, &report)?;
        // Not before: who died while it was attached to is in nobody's list.
        for entry in &mut record.generations {
            if predecessors.may_hold(entry.number) {
                // Its keeper could not write it: the lock is ours.
                entry.state = State::Holding;
            }
        }
        record.retain_living();
        let named = files.judge_pid_file(&lock, &record, &report)?;
        let listener = files.listen(&lock)?;
        let passed = &inherited.sockets;
        let gathered = sockets::gather(&service, &mut predecessors, &report);
        let mut sockets = gathered.inspect_err(|_| {
            let _ = files.hide(&lock, &listener);
        })?;
        // Not before: they may be the last who have what is asked for.
        predecessors.end_what_nobody_knows(&record, &report);

        let mut environment = Environment::new(
            kin.launcher.pid,
            identity.pid,
            &service.pid_file,
            number,
            notify.address(),
        );
        match service.policy.prepare {
            PrepareWhen::Auto => {}
            PrepareWhen::Named => environment.prepare_signal(Some(service.prepare_signal)),
            PrepareWhen::Never => environment.prepare_signal(None),
        }
        if !sockets.is_empty() {
            let convention = service.listen.convention;
            environment.sockets(convention.variables(passed, &sockets.labels(), number));
        }
        let started = Instant::now();
        let own = (&*sockets.for_daemon(), passed.end());
        let forked = Daemon::fork(&service.command, &environment, own, &inherited.mask);
        let daemon = forked.inspect_err(|_| {
            sockets.abandon();
            let _ = files.hide(&lock, &listener);
        })?;
        let assume_ready = predecessors.never_said_ready().then_some(LIFE_THAT_COUNTS);
        let waits = Waits::begin(started, assume_ready, service.policy.ready_timeout);
        let mut keeper = Keeper {
            phase: Phase::Starting {
                voice: Voice::Silent,
                predecessor: predecessors.any_serves(),
                waits,
            },
            since: started,
            started,
            clock: Clock::start(),
            kin,
            supervised: true,
            lock: Some(lock),
            said_ready: false,
            voice: Voice::Silent,
            told_to_end: None,
            status: String::new(),
            told_by_daemon: None,
            failure: predecessors.failure.clone(),
            commit_failure: None,
            exec_failure: None,
            directory_watch: None,
            callers: Callers::default(),
            write_failed: false,
            turned_away: false,
            deaf_until: None,
            changed: false,
            service,
            report,
            files,
            number,
            identity,
            daemon,
            predecessors,
            sockets,
            named,
            pid_file_watch,
            notify,
            listener,
            signals,
        };
        if let Err(error) = keeper.start(record, link) {
            keeper.sockets.abandon();
            if let Some(lock) = &keeper.lock {
                let _ = keeper.files.hide(lock, &keeper.listener);
            }
            return Err(error);
        }
        Ok(keeper)
    }

    /// Records the daemon, lets it run (R5), and lets go of what is the daemon's alone (R2).
    fn start(&mut self, mut record: Record, link: &mut Link) -> Result<()> {
        record.generations.push(self.entry());
        if let Some(lock) = &self.lock {
            self.files.write_record(lock, &record)?;
        }
        self.daemon.release()?;
        self.report.note(&self.words_on_start());
        self.relieve_holders(false);
        self.settle(link);
        link.say(Word::Settled(self.daemon.pid()));
        Ok(())
    }

    /// Lets go of what is not the loop's.
    fn settle(&mut self, link: &Link) {
        if !self.predecessors.one_is_shown() {
            self.show_socket();
        }
        let mut keep = self.sources();
        keep.push(link.as_fd());
        keep.extend(self.listener.descriptors());
        keep.extend(self.daemon.descriptors());
        keep.extend(self.sockets.descriptors());
        keep.extend(self.lock.as_ref().map(AsFd::as_fd));
        if let Err(error) = inherited::let_go(&keep) {
            self.report.warn(&format!(
                "the keeper cannot let go of what it inherited: {}",
                cause(&error)
            ));
        }
    }

    fn live(mut self, mut link: Link) -> ! {
        loop {
            // Before the first wait, too: an adopted daemon may have gone already.
            let wake = self.read(&mut link);
            self.act(wake, &mut link);
            // An older generation whose keeper was lost may have nobody else to look at its deadline.
            let needed = self.predecessors.need_us() && !self.callers.has_successor();
            if self.phase == Phase::Gone {
                if !needed {
                    finish(link);
                }
                self.dismiss_callers();
            }
            self.wait(&link);
            link.flush();
        }
    }

    fn wait(&mut self, link: &Link) {
        let room = link.is_behind().then(|| link.as_fd());
        let deadline = self.deadline();
        let until = deadline.map(|deadline| self.clock.real(deadline));
        let mut sources = self.sources();
        sources.extend(link.to_watch());
        events::wait(&sources, room, until);
        self.clock.waited(deadline);
    }

    fn deadline(&self) -> Option<Instant> {
        let all = [
            self.phase.deadline(),
            self.predecessors.deadline(),
            self.deaf_until,
        ];
        all.into_iter().flatten().min()
    }

    /// What to wait for, beside the link.
    fn sources(&self) -> Vec<BorrowedFd<'_>> {
        let mut sources = vec![self.signals.as_fd(), self.notify.as_fd()];
        let listens = self.deaf_until.is_none() && self.phase != Phase::Gone;
        sources.extend(listens.then(|| self.listener.as_fd()));
        sources.extend(self.daemon.gate());
        sources.extend(self.daemon.end());
        sources.extend(self.pid_file_watch.as_ref().map(AsFd::as_fd));
        sources.extend(self.directory_watch.as_ref().map(AsFd::as_fd));
        sources.extend(self.predecessors.to_watch());
        sources.extend(self.callers.to_watch());
        sources
    }

    /// Reads everything that waits, the senders of messages first: while the daemon is not reaped,
    /// its PID is its own.
    fn read(&mut self, link: &mut Link) -> Wake {
        let mut wake = Wake::default();
        for _ in 0..AT_ONCE {
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
                Heard::Word(Word::Reaped(pid, ending)) => {
                    wake.ending = wake.ending.or(self.daemon.reaped(pid, ending));
                }
                // Only the launcher's end hears these.
                Heard::Word(Word::Handled(_) | Word::Settled(_) | Word::Leave(_)) => {}
                Heard::NothingYet => break,
                Heard::End => {
                    wake.launcher_lost = true;
                    self.daemon.launcher_lost();
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
        wake.predecessors = self.predecessors.read(self.clock.now());
        wake.predecessors_gone = served && !self.predecessors.any_serves();
        self.accept_callers();
        for heard in self.callers.read() {
            match heard {
                HeardFromCaller::Said(id, request) => wake.requests.push((id, request)),
                HeardFromCaller::SuccessorLost {
                    generation,
                    attempt,
                } => wake.lost_successors.push((generation, attempt)),
            }
        }
        wake.directory_gone = self.directory_has_gone();
        wake.ending = wake.ending.or_else(|| self.daemon.reap());
        if wake.ending.is_some() {
            // It may have been written since the look above.
            let failure = self.daemon.exec_failure();
            self.exec_failure = self.exec_failure.take().or(failure);
        }
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
        let (stop_requests, requests): (Vec<_>, Vec<_>) =
            wake.requests.into_iter().partition(|(_, request)| {
                matches!(request, Request::Stop { .. } | Request::End { .. })
            });
        // A successor that had to tell our daemon itself says so after it has told us to: whatever
        // else it wanted, no second signal must go out.
        let told = |request: &Request| matches!(request, Request::Commit { told: true });
        if let Some((id, request)) = requests.iter().find(|(_, request)| told(request)) {
            self.requested(*id, request.clone(), link);
        }
        for (signal, _) in stops {
            self.stop(link);
            link.say(Word::Handled(signal));
        }
        for (id, request) in stop_requests {
            self.requested(id, request, link);
        }
        if let Some(ending) = wake.ending {
            let unasked = self.report_end(ending);
            self.tell_of_our_end(ending);
            let leaves_sockets = self.leaves_sockets();
            let ended = Event::DaemonEnded {
                ending,
                leaves_sockets,
            };
            self.apply(ended, link);
            if unasked && ending == Ending::Exited(0) {
                // After the launcher was told to leave: it looks at every process there is.
                self.report_background();
            }
        }
        self.hear_of_predecessors(wake.predecessors, link);
        if wake.predecessors_gone {
            self.take_places();
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
        // Who asks something else shall be told what has become of a successor, if that is over.
        let (of_successors, others_requests): (Vec<_>, Vec<_>) =
            requests.into_iter().partition(|(_, request)| {
                matches!(request, Request::Attach { .. } | Request::Commit { .. })
            });
        for (id, request) in of_successors {
            self.requested(id, request, link);
        }
        for (generation, attempt) in wake.lost_successors {
            self.successor_lost(generation, attempt, link);
        }
        for (id, request) in others_requests {
            self.requested(id, request, link);
        }
        if wake.directory_gone {
            self.apply(Event::DirectoryGone, link);
        }
        for (signal, value) in others {
            self.signalled(signal, value, meanings.of(signal), link);
            link.say(Word::Handled(signal));
        }
        if wake.launcher_lost && std::mem::take(&mut self.supervised) {
            let reception = self.daemon.reception(self.service.prepare_signal);
            self.apply(Event::LauncherLost(reception), link);
        }
        let now = self.clock.woke();
        if self
            .phase
            .deadline()
            .is_some_and(|deadline| deadline <= now)
        {
            self.apply(Event::Deadline, link);
        }
        self.predecessors.expire(now, &self.report);
        if self.predecessors.is_empty() {
            self.apply(Event::LastOneGone, link);
        }
        self.tell_watchers();
    }

    fn signalled(&mut self, signal: Signal, value: Option<i32>, meaning: Meaning, link: &mut Link) {
        match meaning {
            Meaning::Restart => self.restart(false, link),
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

    fn restart(&mut self, explicit: bool, link: &mut Link) {
        let reception = self.daemon.reception(self.service.prepare_signal);
        let event = Event::Restart {
            reception,
            explicit,
        };
        self.apply(event, link);
    }

    fn stop(&mut self, link: &mut Link) {
        let within = self.service.policy.stop_timeout;
        self.apply(Event::Stop { within }, link);
    }

    fn apply(&mut self, event: Event, link: &mut Link) {
        let now = self.clock.now();
        let (next, actions) = step(&self.service.policy, self.phase, event, now);
        let before = std::mem::replace(&mut self.phase, next);
        if before != next {
            self.changed = true;
        }
        if std::mem::discriminant(&before) != std::mem::discriminant(&next) {
            self.since = now;
        }
        if let Phase::Starting { voice, .. } | Phase::Serving { voice } = next {
            self.voice = voice;
        }
        for action in actions {
            self.perform(action, link);
        }
        if before != next {
            self.record_phase();
            self.watch_directory();
        }
    }

    fn perform(&mut self, action: Action, link: &mut Link) {
        match action {
            Action::Prepare => {
                self.report.note(&self.words_on_prepare());
                self.send(self.service.prepare_signal, None);
            }
            Action::Drain => {
                self.told_to_end.get_or_insert(self.clock.now());
                self.send(Signal::TERM, None);
            }
            Action::Kill => self.send(Signal::KILL, None),
            Action::Commit => self.commit(),
            Action::StopPredecessors(within) => {
                let now = self.clock.now();
                self.predecessors.end(within, false, now, &self.report);
                self.mark_draining(&[], within);
            }
            Action::EndAttempt(end) => self.end_attempt(end),
            Action::Detach => {
                self.record_phase();
                self.lock = None;
            }
            Action::LeaveDetached => self.dismiss(Ending::Exited(0), link),
            Action::LeaveWith(ending) => self.dismiss(ending, link),
            Action::Unname => self.unname(),
            Action::Hold => {
                self.sockets.listen_again();
                self.take_places();
                self.hold();
            }
            Action::PassOn => self.sockets.pass_on(),
            Action::Close => self.sockets.close(),
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

/// What every keeper does first.
fn become_keeper(service: &Service) -> Result<(Report, Identity)> {
    nix::unistd::setsid().context("cannot make a session")?;
    nix::sys::prctl::set_name(c"seamless-keeper").context("cannot name the keeper")?;
    let report = Report::new(service.name.clone(), service.volume);
    Ok((report, Identity::of_this_process()?))
}

fn signals_of(service: &Service) -> Result<SignalFd> {
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let wanted = signals::set_of([Signal::CHLD, service.detach_signal]);
    SignalFd::with_flags(&wanted, flags).context("cannot make a signalfd")
}

fn limits_of(service: &Service) -> Limits {
    Limits {
        drain: service.policy.drain_timeout,
        stop: service.policy.stop_timeout,
    }
}
