//! Commands beside the daemon (§9): one before its start, which may forbid it, one after; and where the
//! commands that are asked whether it is ready are run.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

use super::{Keeper, LIFE_THAT_COUNTS};
use crate::cli::Service;
use crate::daemon::for_command;
use crate::departure::{Ending, FAILED};
use crate::generation::{Event, Phase, Voice};
use crate::link::Link;
use crate::ready::{Readiness, Subject, When};
use crate::report::cause;
use crate::shell::{Progress, Run, Surroundings};

/// Those that run, and what they are run with.
#[derive(Debug, Default)]
pub(super) struct Commands {
    /// Where the launcher was started, while one may be run: nobody keeps it longer (R2).
    directory: Option<OwnedFd>,
    before: Option<Run>,
    /// The one after the start has not been run.
    after_is_due: bool,
    after: Option<Run>,
}

impl Commands {
    pub(super) fn new(service: &Service) -> Commands {
        let asks = |when: &When| matches!(when, When::Command(_));
        let after_is_due = service.post_start.is_some();
        let any = after_is_due || service.pre_start.is_some() || service.ready.iter().any(asks);
        Commands {
            // Where it cannot be opened, they are run in the root directory.
            directory: any.then(|| hold(".")).flatten(),
            after_is_due,
            ..Commands::default()
        }
    }

    /// For a daemon whose keeper was lost: only probes are run again.
    pub(super) fn resume(daemon: i32) -> Commands {
        Commands {
            directory: hold(&format!("/proc/{daemon}/cwd")),
            ..Commands::default()
        }
    }

    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.directory.iter().map(AsFd::as_fd)
    }

    pub(super) fn to_watch(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let all = [&self.before, &self.after];
        all.into_iter().flatten().filter_map(Run::to_watch)
    }

    /// The daemon waits for the command before it.
    pub(super) fn is_before_start(&self) -> bool {
        self.before.is_some()
    }

    fn surroundings<'a>(&'a self, environment: &'a [CString]) -> Surroundings<'a> {
        Surroundings {
            environment,
            directory: self.directory.as_ref().map(AsFd::as_fd),
        }
    }
}

/// It may be one that can be entered, and not read.
fn hold(directory: &str) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(directory, flags, Mode::empty()).ok()
}

impl Keeper {
    fn environment_of_commands(&self) -> Vec<CString> {
        for_command(self.daemon.pid(), self.number, &self.service.pid_file)
    }

    fn run(&self, line: &str) -> std::io::Result<Run> {
        let environment = self.environment_of_commands();
        let surroundings = self.commands.surroundings(&environment);
        Run::begin(line, surroundings, None, self.clock.now())
    }

    /// `--pre-start`: the daemon is there already, and waits at its gate.
    pub(super) fn begin_before_start(&mut self, line: &str) -> std::io::Result<()> {
        self.commands.before = Some(self.run(line)?);
        Ok(())
    }

    /// What the commands have written, and whether the one before the start has ended.
    pub(super) fn read_commands(&mut self) -> Option<Ending> {
        if self.commands.before.is_none() && self.commands.after.is_none() {
            return None;
        }
        let now = self.clock.now();
        let name = self.name();
        if let Some(run) = &mut self.commands.after {
            let progress = run.progress(now);
            for line in run.lines() {
                self.report.note(&format!("post-start: {line}"));
            }
            if let Progress::Ended(ending) = progress {
                if !ending.is_success() {
                    self.report.warn(&format!(
                        "the post-start command of {name} failed: {}; the daemon goes on",
                        outcome(run, ending, now)
                    ));
                }
                self.commands.after = None;
            }
        }
        let run = self.commands.before.as_mut()?;
        let progress = run.progress(now);
        for line in run.lines() {
            self.report.note(&format!("pre-start: {line}"));
        }
        match progress {
            Progress::Ended(ending) => Some(ending),
            Progress::Pending | Progress::Late => None,
        }
    }

    /// The command before the start has ended: the daemon may run, or shall not.
    pub(super) fn decide_start(&mut self, ending: Ending, link: &mut Link) {
        let Some(run) = self.commands.before.take() else {
            return;
        };
        let now = self.clock.now();
        if !ending.is_success() {
            let how = outcome(&run, ending, now);
            self.exec_failure = Some(format!("the pre-start command failed: {how}"));
            self.daemon.refuse(status_of(ending));
            return;
        }
        if let Err(error) = self.let_run() {
            // Its end will be seen.
            self.report.warn(&format!("{error:#}"));
            return;
        }
        self.started = now;
        if let Some(readiness) = &mut self.readiness {
            readiness.started(now);
        }
        let life = self.life_that_counts();
        self.apply(Event::Released { life }, link);
    }

    /// R13: where there is no readiness to wait for.
    pub(super) fn life_that_counts(&self) -> Option<Duration> {
        let none_is_typed = !self.service.has_readiness;
        (none_is_typed && self.predecessors.never_said_ready()).then_some(LIFE_THAT_COUNTS)
    }

    /// This generation is over before its daemon ran.
    pub(super) fn abandon_start(&mut self) {
        if self.commands.before.take().is_some() {
            self.daemon.refuse(status_of(Ending::Unknown));
        }
    }

    /// `--post-start`, once.
    pub(super) fn begin_after_start(&mut self) {
        let line = self.service.post_start.as_deref();
        let Some(line) = line.filter(|_| self.commands.after_is_due && self.is_running()) else {
            return;
        };
        match self.run(line) {
            Ok(run) => self.commands.after = Some(run),
            Err(error) => self.report.warn(&format!(
                "cannot run the post-start command of {}: {}; the daemon goes on",
                self.name(),
                cause(&error)
            )),
        }
        self.commands.after_is_due = false;
    }

    /// Nothing beside the daemon outlives it.
    pub(super) fn end_commands(&mut self) {
        self.readiness = None;
        self.commands = Commands::default();
    }

    /// The command has been executed; whether it could be is known by then.
    fn is_running(&self) -> bool {
        self.daemon.is_executed() && self.exec_failure.is_none()
    }

    /// The next moment to look whether it is ready.
    pub(super) fn next_look(&self) -> Option<Instant> {
        let readiness = self.readiness.as_ref().filter(|_| self.is_running());
        readiness.and_then(Readiness::deadline)
    }

    /// Whether all that it takes to be ready holds (R12).
    pub(super) fn readiness_holds(&mut self) -> bool {
        if self.readiness.is_none() || !self.is_running() {
            return false;
        }
        let environment = self.environment_of_commands();
        let Some(readiness) = &mut self.readiness else {
            return false;
        };
        let subject = Subject {
            daemon: self.daemon.pid(),
            surroundings: self.commands.surroundings(&environment),
        };
        let before = readiness.met().len();
        let holds = readiness.look(&subject, self.clock.now());
        if !holds && readiness.met().len() != before {
            // For whoever has to go on where this keeper is (R20).
            self.record_phase();
        }
        holds
    }

    /// The daemon says that it is ready.
    pub(super) fn said_ready(&mut self, voice: Voice, link: &mut Link) {
        let counts = self.readiness.as_mut().is_none_or(Readiness::said);
        if !counts {
            return;
        }
        if self.readiness.is_none() || self.readiness_holds() {
            self.become_ready(voice, link);
        } else {
            // For whoever has to go on where this keeper is (R20).
            self.record_phase();
        }
    }

    /// What is not needed any more is let go of.
    pub(super) fn tidy_commands(&mut self) {
        let may_become_ready = match self.phase {
            Phase::Starting { .. } => true,
            Phase::Preparing { ready, .. }
            | Phase::Parting { ready, .. }
            | Phase::Standby { ready, .. } => !ready,
            Phase::Serving { .. }
            | Phase::Holding { .. }
            | Phase::Draining { .. }
            | Phase::Stopping { .. }
            | Phase::Killing { .. }
            | Phase::Lingering { .. }
            | Phase::Gone => false,
        };
        if !may_become_ready {
            self.readiness = None;
        }
        if !matches!(self.phase, Phase::Starting { .. }) {
            self.abandon_start();
        }
        let needed = self.readiness.is_some() || self.commands.after_is_due;
        if !needed {
            self.commands.directory = None;
        }
    }
}

/// `exit status 1 after 0.02 s: what it said`.
fn outcome(run: &Run, ending: Ending, now: Instant) -> String {
    let lasted = run.lasted(now).as_secs_f64();
    match run.said() {
        said if said.is_empty() => format!("{ending} after {lasted:.2} s"),
        said => format!("{ending} after {lasted:.2} s: {said}"),
    }
}

/// What a launcher leaves with whose daemon was not to run: the command's own status, if it has one.
fn status_of(ending: Ending) -> u8 {
    let status = match ending {
        Ending::Exited(status) => status,
        Ending::Killed(_) | Ending::Unknown => FAILED,
    };
    u8::try_from(status).unwrap_or(u8::MAX)
}
