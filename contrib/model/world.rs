//! Everything that the model knows at one moment: a supervisor, some generations with their launchers, keepers and
//! daemons, the files, and what is on its way between them.
//!
//! Phases, events and actions are the program's own (`src/generation`). What is here is only what a keeper's loop
//! (`src/keeper`) has around them, and it is written after that: each piece names the one that it stands for.

use std::sync::OnceLock;
use std::time::Instant;

use crate::generation::{News, Patience, Phase};

/// More generations than this are never looked at.
pub(crate) const MOST: usize = 4;

/// In the PID file: a daemon of a generation that has gone.
pub(crate) const NOBODY: u8 = u8::MAX;

/// The one moment of the model. Deadlines lie after it, and may be over at any time.
pub(crate) fn now() -> Instant {
    static NOW: OnceLock<Instant> = OnceLock::new();
    *NOW.get_or_init(Instant::now)
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    /// What the supervisor wants.
    pub(crate) wanted: bool,
    /// The generation whose launcher is its child.
    pub(crate) runs: Option<u8>,
    pub(crate) begun: u8,
    /// Processes that were KILLed since a generation last served alone.
    pub(crate) killed: u8,
    /// The generation whose keeper holds it. It goes with that keeper.
    pub(crate) lock: Option<u8>,
    /// The generation whose daemon the PID file names.
    pub(crate) pid_file: Option<u8>,
    pub(crate) generations: [Generation; MOST],
    /// The promise that was broken on the way here.
    pub(crate) broken: Option<Promise>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Promise {
    /// R11, R13, R16.
    DrainsOnlyForAReason,
    /// R19.
    OneIsSupervised,
    /// R11.
    OlderOnesAreTold,
    /// R18.
    NoStrangerIsSignalled,
    /// R18.
    NoStrangerIsNamed,
    /// R24.
    LeavesOnce,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Generation {
    pub(crate) launcher: Launcher,
    pub(crate) keeper: Keeper,
    pub(crate) daemon: Daemon,
    pub(crate) entry: Option<Entry>,
    /// A stop was asked for while it was there, or it was left without a successor for so long that this was taken for
    /// one (R16): it may be told to end.
    pub(crate) may_end: bool,
    /// Its keeper has had the lock, and with it a number: before that it is nobody's successor.
    pub(crate) claimed: bool,
    /// Its daemon has been ready, or has lived for as long as counts (R13).
    pub(crate) was_ready: bool,
    /// Its keeper was KILLed before it could record that: one that the record knows as not ready is ended (R20).
    pub(crate) is_unknown: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Launcher {
    /// Not yet there, or gone.
    #[default]
    Absent,
    Lives {
        /// A TERM that no keeper has dealt with. The kernel merges what comes meanwhile.
        term: bool,
        /// The keeper has said that it shall leave, and it has not read that yet.
        leaves: bool,
        /// Its supervisor has died (R19).
        orphan: bool,
        /// It was sent a TERM, so it has to leave some day.
        asked: bool,
        /// Its keeper has got as far as knowing its daemon.
        settled: bool,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Keeper {
    /// Not yet there, gone or KILLed.
    #[default]
    Absent,
    /// The lock is to be taken.
    Claims,
    /// It has the lock, has attached to the older ones, and has no daemon yet.
    Attached(Box<Mind>),
    /// In the place of one that was KILLed (R20), and has done nothing yet.
    Adopts,
    Lives(Box<Mind>),
}

/// What a keeper knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Mind {
    pub(crate) phase: Phase,
    pub(crate) supervised: bool,
    /// The supervisor has been asked (`Action::AskWish`).
    pub(crate) asked: bool,
    /// A TERM of which the supervisor will say later what it means (§7).
    pub(crate) unclear: bool,
    pub(crate) said_ready: bool,
    pub(crate) reaped: bool,
    /// Its daemon was told to prepare, and may answer.
    pub(crate) older: [Option<Older>; MOST],
    pub(crate) newer: [Option<Line>; MOST],
}

/// One older generation, as its successor's keeper holds it (`src/predecessors`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Older {
    pub(crate) connection: Connection,
    pub(crate) state: State,
    /// It never said that it is ready; its life was taken for that.
    pub(crate) assumed: bool,
    /// What its keeper was told and has not said to have done; whether the daemon knows already.
    pub(crate) errand: Option<bool>,
    /// KILL is ours to send.
    pub(crate) kill_is_ours: bool,
    /// Its daemon was seen to have ended.
    pub(crate) dead: bool,
    /// Its daemon is dead, and its keeper keeps the sockets until it is told to go.
    pub(crate) holds: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Connection {
    None,
    Open,
    /// The other end has gone, and that was not read yet.
    Ended,
}

/// What a successor's keeper says to an older one, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Line {
    pub(crate) words: Vec<Word>,
    /// How its attempt ended, as it said.
    pub(crate) attempt: Option<Attempt>,
    /// It has attached, as far as the older one has read.
    pub(crate) attached: bool,
    /// After the last word: the successor's keeper has gone.
    pub(crate) ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Word {
    Attach,
    Commit { told: bool },
    End,
    Attempt(Attempt),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Attempt {
    Failed,
    Withdrawn { explicit: bool },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Daemon {
    #[default]
    Absent,
    /// Forked, and not let run before it is recorded (R5). It ends with its keeper.
    Waits,
    Lives {
        /// It got the drain signal.
        told: bool,
    },
    Dead,
}

/// One line of the record (`src/files/record.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    pub(crate) state: State,
    pub(crate) assumed: bool,
    pub(crate) begun: Option<Begun>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum State {
    Starting,
    Ready,
    Draining,
    Holding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Begun {
    Preparing,
    Restarting,
    Stopping,
    Ending,
}

impl World {
    /// The supervisor has just been started, and has started nothing.
    pub(crate) fn begin() -> World {
        World {
            wanted: true,
            runs: None,
            begun: 0,
            killed: 0,
            lock: None,
            pid_file: None,
            generations: Default::default(),
            broken: None,
        }
    }

    pub(crate) fn mind(&self, generation: usize) -> Option<&Mind> {
        match &self.generations[generation].keeper {
            Keeper::Lives(mind) | Keeper::Attached(mind) => Some(mind),
            Keeper::Absent | Keeper::Claims | Keeper::Adopts => None,
        }
    }

    pub(crate) fn mind_mut(&mut self, generation: usize) -> Option<&mut Mind> {
        match &mut self.generations[generation].keeper {
            Keeper::Lives(mind) | Keeper::Attached(mind) => Some(mind),
            Keeper::Absent | Keeper::Claims | Keeper::Adopts => None,
        }
    }

    /// The newest generation whose keeper runs its loop.
    pub(crate) fn newest_keeper(&self) -> Option<usize> {
        let lives = |it: &usize| matches!(self.generations[*it].keeper, Keeper::Lives(_));
        (0..usize::from(self.begun)).rev().find(lives)
    }

    /// A process of its own is left.
    pub(crate) fn is_alive(&self, generation: usize) -> bool {
        let it = &self.generations[generation];
        it.launcher != Launcher::Absent || it.keeper != Keeper::Absent || it.daemon.is_alive()
    }

    /// The first promise broken stays.
    pub(crate) fn breaks(&mut self, promise: Promise) {
        self.broken.get_or_insert(promise);
    }

    /// The keeper is gone, by a KILL or by itself: what the kernel holds for it goes with it.
    pub(crate) fn end_keeper(&mut self, generation: usize) {
        let number = Some(generation as u8);
        let keeper = std::mem::take(&mut self.generations[generation].keeper);
        if keeper == Keeper::Absent {
            return;
        }
        if self.lock == number {
            self.lock = None;
        }
        let it = &mut self.generations[generation];
        let recorded = it.entry.is_some_and(|entry| entry.state != State::Starting);
        it.is_unknown |= it.daemon.is_alive() && !recorded;
        if self.generations[generation].daemon == Daemon::Waits {
            self.generations[generation].daemon = Daemon::Dead;
        }
        for other in 0..MOST {
            let Some(mind) = self.mind_mut(other) else {
                continue;
            };
            if let Some(line) = &mut mind.newer[generation] {
                line.ended = true;
            }
            if let Some(older) = &mut mind.older[generation] {
                if older.connection == Connection::Open {
                    older.connection = Connection::Ended;
                }
            }
        }
    }

    /// Worlds that differ only in what can never matter again are one. So a generation that has gone is forgotten, and
    /// another one may begin in its place: there are so many at once, and any number in all.
    pub(crate) fn tidy(&mut self) {
        let mut older_lives = false;
        for number in 0..usize::from(self.begun) {
            let alive = self.is_alive(number);
            let it = &mut self.generations[number];
            if !alive {
                // It counts as a successor of whoever lives.
                it.was_ready &= older_lives;
                it.may_end = false;
                it.is_unknown = false;
                it.entry = None;
                it.daemon = Daemon::Absent;
                if self.pid_file == Some(number as u8) {
                    self.pid_file = Some(NOBODY);
                }
            }
            older_lives |= alive;
            it.tidy();
        }
        for number in (0..usize::from(self.begun)).rev() {
            let matters = self.is_alive(number)
                || self.generations[number].was_ready
                || (0..MOST)
                    .filter_map(|it| self.mind(it))
                    .any(|mind| mind.older[number].is_some() || mind.newer[number].is_some());
            if !matters {
                self.remove(number);
            }
        }
        for it in &mut self.generations {
            if let Keeper::Lives(mind) = &mut it.keeper {
                mind.tidy();
            }
        }
        let alone = self.begun == 1
            && self
                .mind(0)
                .is_some_and(|mind| matches!(mind.phase, Phase::Serving { .. }));
        if alone || self.begun == 0 {
            self.killed = 0;
        }
    }

    fn remove(&mut self, number: usize) {
        self.generations[number..].rotate_left(1);
        self.generations[MOST - 1] = Generation::default();
        self.begun -= 1;
        let down =
            |it: Option<u8>| it.map(|it| it - u8::from(it != NOBODY && usize::from(it) > number));
        self.runs = down(self.runs);
        self.lock = down(self.lock);
        self.pid_file = down(self.pid_file);
        for it in &mut self.generations {
            if let Keeper::Lives(mind) | Keeper::Attached(mind) = &mut it.keeper {
                mind.older[number..].rotate_left(1);
                mind.newer[number..].rotate_left(1);
            }
        }
    }

    /// Generations are numbered in the order in which they take the lock. Gives the new number.
    pub(crate) fn number(&mut self, generation: usize) -> usize {
        let claimed = self.generations.iter().filter(|it| it.claimed).count();
        self.generations.swap(claimed, generation);
        self.generations[claimed].claimed = true;
        let (old, new) = (generation as u8, claimed as u8);
        self.runs = self.runs.map(|runs| match runs {
            _ if runs == old => new,
            _ if runs == new => old,
            _ => runs,
        });
        claimed
    }
}

impl Generation {
    /// What nobody will ever look at again.
    fn tidy(&mut self) {
        let holds = match &self.keeper {
            Keeper::Lives(mind) => matches!(mind.phase, Phase::Holding { .. }),
            Keeper::Absent | Keeper::Claims | Keeper::Attached(_) | Keeper::Adopts => false,
        };
        if self.launcher == Launcher::Absent {
            // Another keeper would be forked by that launcher only.
            if let Some(entry) = &mut self.entry {
                entry.begun = None;
            }
            if !self.daemon.is_alive() && !holds {
                self.entry = None;
            }
        }
        match self.daemon {
            // Whether there was a reason for that has been looked at.
            Daemon::Lives { told: true } => self.may_end = true,
            Daemon::Dead => self.may_end = false,
            Daemon::Absent | Daemon::Waits | Daemon::Lives { told: false } => {}
        }
        self.is_unknown &= self.daemon == Daemon::Lives { told: false };
        if let Launcher::Lives {
            term,
            leaves,
            asked,
            ..
        } = &mut self.launcher
        {
            *asked &= !*leaves;
            *term &= !*leaves;
        }
    }
}

impl Daemon {
    pub(crate) fn is_alive(self) -> bool {
        match self {
            Daemon::Waits | Daemon::Lives { .. } => true,
            Daemon::Absent | Daemon::Dead => false,
        }
    }
}

impl Mind {
    pub(crate) fn new(phase: Phase) -> Mind {
        Mind {
            phase,
            supervised: true,
            asked: false,
            unclear: false,
            said_ready: false,
            reaped: false,
            older: [None; MOST],
            newer: Default::default(),
        }
    }

    /// Moments that are only compared with one another, and words that are only for people.
    fn tidy(&mut self) {
        let some = |until: &mut Option<Instant>| {
            if let Some(until) = until {
                *until = now();
            }
        };
        match &mut self.phase {
            Phase::Preparing { until, .. }
            | Phase::Holding { until }
            | Phase::Draining { until, .. }
            | Phase::Stopping { until, .. }
            | Phase::Standby {
                patience: Patience::Until(until),
                ..
            } => some(until),
            Phase::Parting { news, .. } => *news = News::Prepared,
            Phase::Starting { .. }
            | Phase::Serving { .. }
            | Phase::Standby { .. }
            | Phase::Killing { .. }
            | Phase::Lingering { .. }
            | Phase::Gone => {}
        }
        self.asked &= matches!(self.phase, Phase::Parting { .. });
        if self.phase == Phase::Gone {
            // It hears nothing any more, but the end of who may need it.
            for line in self.newer.iter_mut().flatten() {
                line.words.clear();
                line.attempt = None;
            }
        }
    }

    /// `Predecessors::serving`.
    pub(crate) fn serving(&self) -> impl Iterator<Item = &Older> {
        let all = self.older.iter().flatten();
        all.filter(|one| !one.holds && !one.dead && one.state != State::Draining)
    }

    pub(crate) fn any_serves(&self) -> bool {
        self.serving().next().is_some()
    }

    /// `Predecessors::never_said_ready`.
    pub(crate) fn none_said_ready(&self) -> bool {
        self.any_serves()
            && self
                .serving()
                .all(|one| one.state == State::Starting || one.assumed)
    }

    /// `Predecessors::need_us`.
    pub(crate) fn is_needed(&self) -> bool {
        let mut all = self.older.iter().flatten();
        all.any(|one| one.kill_is_ours || one.errand.is_some() || one.dead)
    }

    pub(crate) fn has_successor(&self) -> bool {
        self.newer.iter().flatten().any(|line| line.attached)
    }

    /// `Keeper::has_committed`.
    pub(crate) fn has_committed(&self) -> bool {
        match self.phase {
            Phase::Serving { .. } => true,
            Phase::Preparing { ready, .. }
            | Phase::Parting { ready, .. }
            | Phase::Standby { ready, .. } => ready,
            Phase::Starting { .. }
            | Phase::Holding { .. }
            | Phase::Draining { .. }
            | Phase::Stopping { .. }
            | Phase::Killing { .. }
            | Phase::Lingering { .. }
            | Phase::Gone => false,
        }
    }

    /// `Keeper::entry`.
    pub(crate) fn entry(&self) -> Entry {
        let ready = if self.said_ready || self.has_committed() {
            State::Ready
        } else {
            State::Starting
        };
        let begun_by = |why| match why {
            crate::generation::Why::Stop => Begun::Stopping,
            crate::generation::Why::Restart | crate::generation::Why::NotReady => Begun::Ending,
        };
        let preparing = |explicit| {
            Some(if explicit {
                Begun::Restarting
            } else {
                Begun::Preparing
            })
        };
        let (state, begun) = match self.phase {
            Phase::Starting { .. } => (State::Starting, None),
            // The launcher has not been told to leave yet.
            Phase::Standby { patience, .. } if self.supervised => {
                (ready, preparing(patience == Patience::ForGood))
            }
            Phase::Serving { .. } | Phase::Standby { .. } => (ready, None),
            Phase::Preparing { explicit, .. } | Phase::Parting { explicit, .. } => {
                (ready, preparing(explicit))
            }
            Phase::Stopping { why, .. } => (State::Draining, Some(begun_by(why))),
            Phase::Killing { launcher } => (State::Draining, launcher.map(begun_by)),
            Phase::Holding { .. } => (State::Holding, None),
            Phase::Draining { .. } | Phase::Lingering { .. } | Phase::Gone => {
                (State::Draining, None)
            }
        };
        Entry {
            state,
            assumed: !self.said_ready && self.has_committed(),
            begun,
        }
    }
}
