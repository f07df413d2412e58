//! What is broken, when, in which order: all of it drawn from the seed before anything runs.

use std::{fmt, time::Duration};

use super::random::Random;

/// Whom a signal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Victim {
    Launcher,
    Keeper,
    Daemon,
    /// Launcher and keeper.
    Both,
}

/// Of which generation: the one that served when the restart was asked for, or the one that it brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Age {
    Old,
    New,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Nothing,
    Kill(Victim, Age),
    /// Whatever the supervisor has for its child at that moment: a launcher, or the script that becomes one.
    KillChild,
    /// Launcher or keeper of the new generation, at a call of the system that was drawn, and whoever takes its place at
    /// the same one.
    KillAtCall,
    Stop(Victim, Age),
    FullDisk,
    ReadOnly,
    MovedDirectory,
    /// No descriptor more, for the keeper.
    Descriptors(Age),
    /// No process more, for the new generation.
    Processes,
    /// Nobody reads what the new generation writes.
    DeadLog,
    /// The new version ends at once, hangs, or never says that it is ready.
    Crash,
    Hang,
    Silent,
    /// Only where it is asked for: the clock is the whole machine's.
    Clock,
}

impl Kind {
    pub(crate) const ALL: [Kind; 27] = [
        Kind::Nothing,
        Kind::Kill(Victim::Launcher, Age::Old),
        Kind::Kill(Victim::Launcher, Age::New),
        Kind::Kill(Victim::Keeper, Age::Old),
        Kind::Kill(Victim::Keeper, Age::New),
        Kind::Kill(Victim::Daemon, Age::Old),
        Kind::Kill(Victim::Daemon, Age::New),
        Kind::Kill(Victim::Both, Age::Old),
        Kind::Kill(Victim::Both, Age::New),
        Kind::KillChild,
        Kind::KillAtCall,
        Kind::Stop(Victim::Launcher, Age::Old),
        Kind::Stop(Victim::Launcher, Age::New),
        Kind::Stop(Victim::Keeper, Age::Old),
        Kind::Stop(Victim::Keeper, Age::New),
        Kind::Stop(Victim::Daemon, Age::Old),
        Kind::Stop(Victim::Daemon, Age::New),
        Kind::FullDisk,
        Kind::ReadOnly,
        Kind::MovedDirectory,
        Kind::Descriptors(Age::Old),
        Kind::Descriptors(Age::New),
        Kind::Processes,
        Kind::DeadLog,
        Kind::Crash,
        Kind::Hang,
        Kind::Silent,
    ];

    pub(crate) fn name(self) -> String {
        let age = |age| match age {
            Age::Old => "old",
            Age::New => "new",
        };
        let victim = |victim| match victim {
            Victim::Launcher => "launcher",
            Victim::Keeper => "keeper",
            Victim::Daemon => "daemon",
            Victim::Both => "both",
        };
        match self {
            Kind::Nothing => "nothing".to_owned(),
            Kind::Kill(one, of) => format!("kill-{}-{}", age(of), victim(one)),
            Kind::KillChild => "kill-child".to_owned(),
            Kind::KillAtCall => "kill-at-call".to_owned(),
            Kind::Stop(one, of) => format!("stop-{}-{}", age(of), victim(one)),
            Kind::FullDisk => "full-disk".to_owned(),
            Kind::ReadOnly => "read-only".to_owned(),
            Kind::MovedDirectory => "moved-directory".to_owned(),
            Kind::Descriptors(of) => format!("descriptors-{}", age(of)),
            Kind::Processes => "processes".to_owned(),
            Kind::DeadLog => "dead-log".to_owned(),
            Kind::Crash => "version-crashes".to_owned(),
            Kind::Hang => "version-hangs".to_owned(),
            Kind::Silent => "version-silent".to_owned(),
            Kind::Clock => "clock".to_owned(),
        }
    }

    pub(crate) fn named(name: &str) -> Result<Kind, String> {
        let mut all = Kind::ALL.into_iter().chain([Kind::Clock]);
        all.find(|kind| kind.name() == name)
            .ok_or_else(|| format!("no fault has the name {name}; `--list` names them"))
    }

    /// Whether something of it stays until the next restart: what could not be written, or who was lost for good.
    pub(crate) fn needs_another(self) -> bool {
        match self {
            Kind::KillAtCall
            | Kind::FullDisk
            | Kind::ReadOnly
            | Kind::MovedDirectory
            | Kind::Descriptors(_)
            | Kind::DeadLog => true,
            Kind::Nothing
            | Kind::Kill(..)
            | Kind::KillChild
            | Kind::Stop(..)
            | Kind::Processes
            | Kind::Crash
            | Kind::Hang
            | Kind::Silent
            | Kind::Clock => false,
        }
    }

    /// At which points of the protocol it can come.
    pub(crate) fn points(self) -> &'static [Point] {
        use Point::*;
        match self {
            Kind::KillAtCall => &[Call],
            // It comes with the start of the new one.
            Kind::Nothing | Kind::Processes | Kind::Crash | Kind::Hang | Kind::Silent => &[Asked],
            Kind::Kill(Victim::Launcher | Victim::Both, Age::Old)
            | Kind::Stop(Victim::Launcher | Victim::Both, Age::Old) => {
                &[Before, Asked, Told, Prepared, Drawn]
            }
            Kind::Kill(_, Age::Old) | Kind::Stop(_, Age::Old) => &[
                Before,
                Asked,
                Told,
                Prepared,
                Left,
                Newcomer,
                Recorded,
                Starts,
                PidFile,
                ReadyRecord,
                Socket,
                Ready,
                Drains,
                Answers,
                Drawn,
            ],
            Kind::Kill(_, Age::New) | Kind::Stop(_, Age::New) => &[
                Newcomer,
                Recorded,
                Starts,
                PidFile,
                ReadyRecord,
                Socket,
                Ready,
                Drains,
                Answers,
                Gone,
                Drawn,
            ],
            Kind::KillChild
            | Kind::FullDisk
            | Kind::ReadOnly
            | Kind::MovedDirectory
            | Kind::Clock => &[
                Before,
                Asked,
                Told,
                Prepared,
                Left,
                Newcomer,
                Recorded,
                Starts,
                PidFile,
                ReadyRecord,
                Socket,
                Ready,
                Drains,
                Answers,
                Gone,
                Drawn,
            ],
            Kind::Descriptors(Age::Old) => &[Before, Asked, Told, Prepared, Left, Newcomer, Drawn],
            Kind::Descriptors(Age::New) | Kind::DeadLog => &[
                Newcomer,
                Recorded,
                Starts,
                PidFile,
                ReadyRecord,
                Socket,
                Ready,
                Drains,
                Answers,
                Drawn,
            ],
        }
    }
}

/// The steps of a handover, in their order, each of which can be seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Point {
    Before,
    Asked,
    Told,
    Prepared,
    Left,
    Newcomer,
    Recorded,
    Starts,
    PidFile,
    ReadyRecord,
    Socket,
    Ready,
    Drains,
    Answers,
    Gone,
    /// Some time after the restart was asked for.
    Drawn,
    /// The new launcher or keeper makes a call of the system for so many times.
    Call,
}

/// Calls of the system, and how many of each there are in a handover at most. A daemon that has been exec'ed is not
/// looked at any more.
const CALLS: [(&str, u64); 10] = [
    ("renameat", 10),
    ("sendmsg", 9),
    ("sendto", 7),
    ("write", 13),
    ("unlink", 17),
    ("flock", 3),
    ("pidfd_open", 12),
    ("openat", 55),
    ("recvmsg", 30),
    ("close", 75),
];

impl Point {
    pub(crate) const ALL: [Point; 17] = [
        Point::Before,
        Point::Asked,
        Point::Told,
        Point::Prepared,
        Point::Left,
        Point::Newcomer,
        Point::Recorded,
        Point::Starts,
        Point::PidFile,
        Point::ReadyRecord,
        Point::Socket,
        Point::Ready,
        Point::Drains,
        Point::Answers,
        Point::Gone,
        Point::Drawn,
        Point::Call,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Point::Before => "before",
            Point::Asked => "asked",
            Point::Told => "told",
            Point::Prepared => "prepared",
            Point::Left => "left",
            Point::Newcomer => "newcomer",
            Point::Recorded => "recorded",
            Point::Starts => "starts",
            Point::PidFile => "pid-file",
            Point::ReadyRecord => "ready-record",
            Point::Socket => "socket",
            Point::Ready => "ready",
            Point::Drains => "drains",
            Point::Answers => "answers",
            Point::Gone => "gone",
            Point::Drawn => "drawn",
            Point::Call => "call",
        }
    }

    pub(crate) fn what(self) -> &'static str {
        match self {
            Point::Before => "just before the supervisor is asked for a restart",
            Point::Asked => "the supervisor has been asked",
            Point::Told => "the log: the old daemon is told to prepare",
            Point::Prepared => "the log: the old daemon is prepared",
            Point::Left => "the old launcher has exited",
            Point::Newcomer => "the new keeper listens (app.pid.sock.new appears)",
            Point::Recorded => "the record names the new generation",
            Point::Starts => "the log: the new generation starts",
            Point::PidFile => "app.pid is replaced: the commit begins",
            Point::ReadyRecord => "the record calls the new generation ready",
            Point::Socket => "app.pid.sock is replaced",
            Point::Ready => "the log: the new generation is ready",
            Point::Drains => "the log: the old daemon is told to drain",
            Point::Answers => "the new generation has answered its first request",
            Point::Gone => "the log: the old generation is gone",
            Point::Drawn => "a drawn delay after the restart was asked for",
            Point::Call => "the new launcher or keeper enters a system call for the n-th time",
        }
    }
}

/// One handover and what breaks it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trial {
    pub(crate) number: usize,
    pub(crate) kind: Kind,
    pub(crate) point: Point,
    /// At `drawn`, how long after the restart; elsewhere, how long after the point.
    pub(crate) delay: Duration,
    /// How long it lasts, where it can be healed.
    pub(crate) lasts: Duration,
    /// How long the new daemon takes to start.
    pub(crate) start: Duration,
    /// runsv waits where its child has lived for less than a second; this one is to have lived longer.
    pub(crate) settled: bool,
    /// At `call`: which one, and the how manieth.
    pub(crate) call: (&'static str, u64),
}

impl fmt::Display for Trial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "handover {}: {} at {}",
            self.number,
            self.kind.name(),
            self.point.name()
        )?;
        write!(
            formatter,
            ", after {:.1} ms, for {:.0} ms; the new daemon takes {:.0} ms to start{}",
            self.delay.as_secs_f64() * 1e3,
            self.lasts.as_secs_f64() * 1e3,
            self.start.as_secs_f64() * 1e3,
            if self.settled { "; settled" } else { "" }
        )?;
        if self.point == Point::Call {
            let (name, number) = self.call;
            write!(formatter, "; {name} {number}")?;
        }
        Ok(())
    }
}

/// The trials up to this number. Each kind as often as any other, as far as the number goes.
pub(crate) fn plan(seed: u64, handovers: usize, kinds: &[Kind]) -> Vec<Trial> {
    let mut order = Random::new(seed, 0);
    let mut trials: Vec<Trial> = Vec::new();
    while trials.len() < handovers {
        let mut round = kinds.to_vec();
        order.shuffle(&mut round);
        for kind in round {
            trials.push(trial(seed, trials.len(), kind));
        }
    }
    trials.truncate(handovers);
    trials
}

fn trial(seed: u64, number: usize, kind: Kind) -> Trial {
    // Of its own, so that one alone can be repeated.
    let mut random = Random::new(seed, 1 + number as u64);
    let point = random.one_of(kind.points());
    let delay = match point {
        Point::Drawn => random.pause(60),
        // Half of them at once.
        _ if random.below(2) == 0 => Duration::ZERO,
        _ => random.pause(3),
    };
    let lasts = match random.below(4) {
        // Longer than anybody waits for an answer (R11).
        0 => Duration::from_millis(2100) + random.pause(700),
        1 => random.pause(60),
        _ => Duration::from_millis(60) + random.pause(600),
    };
    let (name, most) = random.one_of(&CALLS);
    Trial {
        number,
        kind,
        point,
        delay,
        lasts,
        start: Duration::from_millis(random.one_of(&[0, 0, 20, 150])),
        settled: random.below(3) == 0,
        call: (name, 1 + random.below(most)),
    }
}
