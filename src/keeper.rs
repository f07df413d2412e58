//! The story of one generation, top to bottom: the keeper starts the daemon, and stays with it for
//! life.
//!
//! It takes hold of the files and attaches to the older generations, starts the daemon
//! ([`Keeper::begin`]), and from then on turns what happens into events, asks [`step()`] what they
//! mean, and does it. Once the daemon runs, no error ends the loop (R4).
#![deny(clippy::wildcard_enum_match_arm)]

mod adopt;
mod commands;
mod commit;
mod control;
mod messages;
mod orders;
mod sockets;
mod upstream;
mod wake;
mod wish;
mod words;

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};

use self::commands::Commands;
use crate::changes;
use crate::cli::Service;
use crate::clock::Clock;
use crate::control::wire::Failure;
use crate::control::{Callers, Id, Listener};
use crate::daemon::{Daemon, Environment, Given, end_commands_of};
use crate::departure::{Ending, FAILED};
use crate::events;
use crate::files::{Claim, DirectoryWatch, Files, Home, Lock, Record, State};
use crate::generation::{Action, Event, Phase, PrepareWhen, Voice, Waits, step};
use crate::inherited;
use crate::link::{Link, Word};
use crate::listen::{Passed, Sockets};
use crate::notify::{Notice, NotifySocket};
use crate::predecessors::{Limits, Predecessors};
use crate::process::Identity;
use crate::ready::{PidFileWatch, Readiness, When};
use crate::report::{Report, cause, complain};
use crate::signals::{self, Signal};
use crate::supervisor::{Supervisor, Wishes};
use crate::sys;

/// The seed's timer: so long a life is taken for readiness where nothing else is to be had (R13).
const LIFE_THAT_COUNTS: Duration = Duration::from_secs(10);

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
    /// The numbers of all sockets among what it inherits, where its readiness asks for them.
    pub(crate) numbers: Vec<u64>,
}

/// Runs a generation from its start to its end. This is the child of the launcher's fork.
pub(crate) fn run(
    service: Service,
    mut link: Link,
    kin: Kin,
    supervisor: Supervisor,
    inherited: &Inheritance,
) -> ! {
    let files = Files::beside(&service.pid_file);
    match Keeper::begin(service, &mut link, kin, supervisor, inherited) {
        Ok(keeper) => keeper.live(link),
        Err(error) => give_up(&error, &files, link),
    }
}

/// Takes the place of a keeper that this launcher has lost (R20). A child of its fork, too.
///
/// `inherited`: the numbers of the sockets that the launcher was started with, which the daemon has.
pub(crate) fn take_over(
    service: Service,
    mut link: Link,
    kin: Kin,
    supervisor: Supervisor,
    inherited: &[u64],
) -> ! {
    let files = Files::beside(&service.pid_file);
    match Keeper::adopt(service, &mut link, kin, supervisor, inherited) {
        Ok(keeper) => keeper.live(link),
        Err(error) => give_up(&error, &files, link),
    }
}

fn give_up(error: &anyhow::Error, files: &Files, mut link: Link) -> ! {
    let why = format!("{error:#}");
    complain(&why);
    crate::control::report_failed_start(files, &why);
    link.pass(Notice::status(&why));
    link.say(Word::LeaveLast(Ending::Exited(FAILED)));
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
    /// Where they are.
    home: Option<Home>,
    /// While this generation is the supervised one.
    lock: Option<Lock>,
    number: u32,
    identity: Identity,
    kin: Kin,
    /// The launcher has neither been told to leave nor been lost.
    supervised: bool,
    /// The supervisor listens to sd_notify's words.
    is_heard: bool,
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
    wishes: Wishes,
    /// Signals of which the supervisor has not said yet what they mean.
    unclear: Vec<Signal>,
    /// How the daemon ended while one of them was on its way.
    unsettled_end: Option<Ending>,
    /// Callers who want a restart, while the supervisor is asked whether it would start a successor.
    to_restart: Vec<Id>,
    predecessors: Predecessors,
    sockets: Sockets,
    /// The predecessor that the PID file named when the daemon was started.
    named: Option<i32>,
    /// That one was told to drain by the daemon itself (R12).
    told_by_daemon: Option<i32>,
    /// Until ready: what it takes.
    readiness: Option<Readiness>,
    commands: Commands,
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
    /// A newcomer has asked, and is to be answered when it is known what becomes of the daemon's.
    newcomer_waits: bool,
}

impl Keeper {
    /// From nothing to a daemon that runs. An error here leaves nothing behind.
    ///
    /// What it has on the stack goes before the keeper's life begins.
    #[inline(never)]
    fn begin(
        service: Service,
        link: &mut Link,
        kin: Kin,
        supervisor: Supervisor,
        inherited: &Inheritance,
    ) -> Result<Keeper> {
        let (report, identity) = become_keeper(&service)?;
        let files = Files::beside(&service.pid_file);
        let Claim { lock, mut record } = files.claim(&report)?;
        let number = record.last;
        let notify = NotifySocket::open().context("cannot open a notify socket")?;
        let pid_file_watch = PidFileWatch::open(&files).inspect_err(|error| {
            report.warn(&format!(
                "cannot watch the PID file: {}; a daemon that says started by it will not be heard",
                cause(error)
            ));
        });
        let signals = signals_of(&service)?;
        let limits = limits_of(&service);
        let mut predecessors = Predecessors::attach(&record, &files, number, limits, &report)?;
        for entry in &record.generations {
            if !entry.keeper.is_some_and(Identity::is_alive) {
                end_commands_of(entry.daemon.pid, entry.number, &service.pid_file);
            }
        }
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
        if service.drain.signal != Signal::TERM {
            environment.drain_signal(service.drain.signal);
        }
        if !sockets.is_empty() {
            let convention = service.listen.convention;
            environment.sockets(convention.variables(passed, &sockets.labels(), number));
        }
        let started = Instant::now();
        let mut given = inherited.numbers.clone();
        given.extend(sockets.labels().iter().map(|label| label.inode));
        let readiness = Readiness::begin(&service.ready, service.probe_timeout, given, started);
        let (readiness, lines) = readiness.inspect_err(|_| {
            sockets.abandon();
            let _ = files.hide(&lock, &listener);
        })?;
        let given = Given {
            sockets: &sockets.for_daemon(),
            first: passed.end(),
            lines: &lines,
        };
        let forked = Daemon::fork(&service.command, &environment, given, &inherited.mask);
        let daemon = forked.inspect_err(|_| {
            sockets.abandon();
            let _ = files.hide(&lock, &listener);
        })?;
        drop(lines);
        let waits = Waits::begin(started, None, service.policy.ready_timeout);
        let commands = Commands::new(&service);
        // R6: whoever does not say that it is ready does not know us, whatever it handles.
        let voice = if service.ready.contains(&When::Notify) {
            Voice::Silent
        } else {
            Voice::Plain
        };
        let mut keeper = Keeper {
            phase: Phase::Starting {
                voice,
                predecessor: predecessors.any_serves(),
                waits,
            },
            since: started,
            started,
            clock: Clock::start(),
            kin,
            supervised: true,
            is_heard: std::env::var_os("NOTIFY_SOCKET").is_some(),
            lock: Some(lock),
            said_ready: false,
            voice,
            told_to_end: None,
            status: String::new(),
            wishes: Wishes::new(supervisor, kin),
            unclear: Vec::new(),
            unsettled_end: None,
            to_restart: Vec::new(),
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
            newcomer_waits: false,
            service,
            report,
            home: files.home(),
            files,
            number,
            identity,
            daemon,
            predecessors,
            sockets,
            named,
            readiness: Some(readiness),
            commands,
            pid_file_watch: pid_file_watch.ok(),
            notify,
            listener,
            signals,
        };
        if let Err(error) = keeper.start(record, link) {
            // What could not be written is why it could not start.
            let _ = keeper.leave_out(&[keeper.number]);
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
        let before = self.service.pre_start.clone();
        if before.is_none() {
            self.let_run()?;
            let life = self.life_that_counts();
            self.apply(Event::Released { life }, link);
        }
        self.report_trouble();
        self.settle(link);
        self.files.warn_of_other_hands(&self.report);
        if let Some(line) = before {
            self.report.note(&self.words_before_start(&line));
            let begun = self.begin_before_start(&line);
            begun.context("cannot run the pre-start command")?;
        }
        link.say(Word::Settled(self.daemon.pid()));
        self.announce_start(link);
        self.ask_for_time(link);
        Ok(())
    }

    fn let_run(&mut self) -> Result<()> {
        self.daemon.release()?;
        self.report.note(&self.words_on_start());
        self.relieve_holders(false);
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
        keep.extend(self.readiness.iter().flat_map(Readiness::descriptors));
        keep.extend(self.commands.descriptors());
        keep.extend(self.wishes.descriptors());
        let watched = self.pid_file_watch.iter();
        keep.extend(watched.filter_map(PidFileWatch::descriptor));
        keep.extend(self.directory_watch.iter().map(AsFd::as_fd));
        keep.extend(self.sockets.descriptors());
        keep.extend(self.lock.as_ref().map(AsFd::as_fd));
        if let Err(error) = inherited::let_go(&keep) {
            self.report.warn(&format!(
                "the keeper cannot let go of what it inherited: {}; who waits for the end of a pipe may wait",
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
        sys::return_stack();
        events::wait(&sources, room, until);
        self.clock.waited(deadline);
    }

    fn deadline(&self) -> Option<Instant> {
        let all = [
            self.phase.deadline(),
            self.predecessors.deadline(),
            self.wishes.deadline(),
            self.deaf_until,
            self.next_look(),
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
        sources.extend(self.readiness.iter().flat_map(Readiness::to_watch));
        sources.extend(self.commands.to_watch());
        let watched = self.pid_file_watch.iter();
        sources.extend(watched.filter_map(PidFileWatch::to_watch));
        sources.extend(self.wishes.to_watch());
        sources.extend(self.predecessors.to_watch());
        sources.extend(self.callers.to_watch());
        sources
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
            self.watch_wish();
            self.ask_for_time(link);
        }
        self.tidy_commands();
    }

    fn perform(&mut self, action: Action, link: &mut Link) {
        match action {
            Action::Prepare => {
                self.report.note(&self.words_on_prepare());
                self.send(self.service.prepare_signal, None);
            }
            Action::Drain => {
                self.told_to_end.get_or_insert(self.clock.now());
                self.drain();
            }
            Action::Kill => self.kill(),
            Action::Commit => {
                self.commit();
                self.announce_ready(link);
            }
            Action::StopPredecessors(within) => {
                let now = self.clock.now();
                self.predecessors.end(within, false, now, &self.report);
                self.mark_draining(&[]);
                self.refuse_waiters();
            }
            Action::EndAttempt(end) => {
                self.end_attempt(end);
                self.announce_failure(end, link);
            }
            Action::AskWish => self.wishes.ask(self.clock.now()),
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
                // The lock is about to be let go: a name of one that has ended would stay.
                self.forget_predecessors();
                self.hold();
                self.show_where_nobody_is();
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
            // One that has nothing left to do ends before its launcher does (R15).
            let goes = self.phase == Phase::Gone && !self.predecessors.need_us();
            link.say(if goes {
                Word::LeaveLast(ending)
            } else {
                Word::Leave(ending)
            });
        }
    }
}

/// What every keeper does first.
fn become_keeper(service: &Service) -> Result<(Report, Identity)> {
    nix::unistd::setsid().context("cannot make a session")?;
    nix::sys::prctl::set_name(c"seamless-keeper").context("cannot name the keeper")?;
    let report = Report::new(service.name.clone(), service.volume);
    let identity = Identity::of(std::process::id() as i32);
    let identity = identity.context("cannot read the keeper's start time in /proc")?;
    Ok((report, identity))
}

fn signals_of(service: &Service) -> Result<SignalFd> {
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let own = [Signal::CHLD, Signal::TERM, service.detach_signal];
    let wanted = signals::set_of(own.into_iter().chain(changes::signals()));
    SignalFd::with_flags(&wanted, flags).context("cannot make a signalfd")
}

fn limits_of(service: &Service) -> Limits {
    Limits {
        drain: service.policy.drain_timeout,
        stop: service.policy.stop_timeout,
    }
}
