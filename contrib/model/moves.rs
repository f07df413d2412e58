//! What can happen next, and what comes of it.

use crate::generation::{Patience, Phase, Reception, Voice};
use crate::keeper::Work;
use crate::world::{Attempt, Connection, Daemon, Keeper, Launcher, Line, MOST, State, Word, World};
use crate::{Rules, Supervisor};

/// One thing that happens. Numbers are generations, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Move {
    /// The supervisor's verbs.
    SupervisorRestarts,
    SupervisorStops,
    SupervisorWantsItUp,
    /// It has seen its launcher's exit, and starts another one.
    SupervisorStarts,
    /// It dies; another one takes its place (R19).
    SupervisorDies,
    /// `seamless-run restart` and `stop`.
    AskedToRestart(u8, Reception),
    AskedToStop(u8),
    /// Faults.
    LauncherKilled(u8),
    KeeperKilled(u8),
    DaemonDies(u8),
    /// What one keeper does; `fuse`: it is KILLed after so many of its effects.
    Keeper {
        number: u8,
        step: Step,
        fuse: Option<u8>,
    },
    /// The launcher reads that it shall leave.
    LauncherLeaves(u8),
    /// The launcher has lost its keeper, and forks another, or leaves.
    LauncherForks(u8),
    /// A start that fails before there is a daemon.
    StartFails(u8),
    /// The newcomer is refused: another one is supervised (R19).
    Refused(u8),
    /// A daemon that was told to end does.
    DaemonEnds(u8),
    /// The keeper has nothing left to do.
    KeeperLeaves(u8),
}

impl Move {
    /// It happens by itself, and at once.
    pub(crate) fn is_progress(self) -> bool {
        match self {
            Move::SupervisorRestarts
            | Move::SupervisorStops
            | Move::SupervisorWantsItUp
            | Move::SupervisorStarts
            | Move::SupervisorDies
            | Move::AskedToRestart(..)
            | Move::AskedToStop(_)
            | Move::LauncherKilled(_)
            | Move::KeeperKilled(_)
            | Move::DaemonDies(_)
            | Move::StartFails(_) => false,
            Move::Keeper { step, fuse, .. } => {
                let depends = matches!(
                    step,
                    Step::HearReady(_)
                        | Step::HearReadyOfSeed(_)
                        | Step::HearPrepared
                        | Step::SeeDirectoryGone
                );
                fuse.is_none() && !depends
            }
            Move::LauncherLeaves(_)
            | Move::LauncherForks(_)
            | Move::Refused(_)
            | Move::DaemonEnds(_)
            | Move::KeeperLeaves(_) => true,
        }
    }

    /// Some deadline has passed.
    fn takes_time(self) -> bool {
        match self {
            Move::Keeper { step, .. } => matches!(
                step,
                Step::HearDeadline | Step::DoErrand(_) | Step::KillOlder(_)
            ),
            _ => false,
        }
    }

    fn kills(self) -> bool {
        matches!(
            self,
            Move::LauncherKilled(_)
                | Move::KeeperKilled(_)
                | Move::DaemonDies(_)
                | Move::Keeper { fuse: Some(_), .. }
        )
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    Claim,
    Begin,
    Adopt(Reception),
    HearTerm(Reception),
    Settle(Reception),
    HearWish,
    Look,
    HearEnd,
    HearReady(Voice),
    /// The seed's way: the daemon tells its predecessor itself (R12).
    HearReadyOfSeed(u8),
    HearPrepared,
    HearLauncherLost(Reception),
    HearSuccessor(u8),
    HearOlder(u8),
    HearOlderLost(u8),
    SeeOlderEnd(u8),
    LetGoOfOlder(u8),
    DoErrand(u8),
    KillOlder(u8),
    HearDeadline,
    SeeDirectoryGone,
}

const RECEPTIONS: [Reception; 2] = [Reception::Handled, Reception::Unhandled];

impl World {
    pub(crate) fn moves(&self, rules: &Rules, moves: &mut Vec<Move>) {
        if self.broken.is_some() {
            return;
        }
        self.moves_of_the_supervisor(rules, moves);
        for number in 0..self.begun {
            self.moves_of(rules, number, moves);
        }
        if rules.patient && moves.iter().any(|it| it.takes_time()) {
            let happens = |it: &Move| it.is_progress() && !it.takes_time();
            if moves
                .iter()
                .any(|it| happens(it) && self.after(rules, *it) != *self)
            {
                moves.retain(|it| !it.takes_time());
            }
        }
    }

    fn launcher_that_runs(&self) -> Option<Launcher> {
        Some(self.generations[usize::from(self.runs?)].launcher)
    }

    fn moves_of_the_supervisor(&self, rules: &Rules, moves: &mut Vec<Move>) {
        let lives = matches!(self.launcher_that_runs(), Some(Launcher::Lives { .. }));
        if self.wanted {
            if lives {
                moves.push(Move::SupervisorRestarts);
            }
            if !lives && usize::from(self.begun) < rules.generations {
                moves.push(Move::SupervisorStarts);
            }
            moves.push(Move::SupervisorStops);
        } else {
            moves.push(Move::SupervisorWantsItUp);
        }
        if lives && rules.supervisor_dies {
            moves.push(Move::SupervisorDies);
        }
        if let Some(number) = self.newest_keeper().filter(|_| rules.verbs) {
            let phase = self.mind(number).map(|mind| mind.phase);
            moves.push(Move::AskedToStop(number as u8));
            for reception in receptions(phase) {
                moves.push(Move::AskedToRestart(number as u8, *reception));
            }
        }
    }

    fn moves_of(&self, rules: &Rules, number: u8, moves: &mut Vec<Move>) {
        let index = usize::from(number);
        let it = &self.generations[index];
        let may_kill = rules.kills.is_none_or(|kills| self.killed < kills);
        if let Launcher::Lives { leaves, .. } = it.launcher {
            if may_kill {
                moves.push(Move::LauncherKilled(number));
            }
            if leaves {
                moves.push(Move::LauncherLeaves(number));
            } else if it.keeper == Keeper::Absent {
                moves.push(Move::LauncherForks(number));
            }
        }
        match it.daemon {
            Daemon::Lives { told } => {
                if told {
                    moves.push(Move::DaemonEnds(number));
                } else if may_kill {
                    moves.push(Move::DaemonDies(number));
                }
            }
            Daemon::Absent | Daemon::Waits | Daemon::Dead => {}
        }
        if it.keeper != Keeper::Absent && may_kill {
            moves.push(Move::KeeperKilled(number));
        }
        let mut steps = Vec::new();
        match &it.keeper {
            Keeper::Absent => {}
            Keeper::Claims => {
                moves.push(Move::StartFails(number));
                match self.claim(index) {
                    Claim::Takes => steps.push(Step::Claim),
                    Claim::Refused => moves.push(Move::Refused(number)),
                    Claim::Waits => {}
                }
            }
            Keeper::Attached(_) => {
                moves.push(Move::StartFails(number));
                steps.push(Step::Begin);
            }
            Keeper::Adopts => steps.extend(RECEPTIONS.map(Step::Adopt)),
            Keeper::Lives(mind) => {
                let is_needed = mind.is_needed() && !mind.has_successor();
                if mind.phase == Phase::Gone && !is_needed {
                    moves.push(Move::KeeperLeaves(number));
                }
                self.steps_of(rules, index, &mut steps);
            }
        }
        for step in steps {
            let fuse = None;
            moves.push(Move::Keeper { number, step, fuse });
            if !may_kill {
                continue;
            }
            // It may be killed in the middle of it, where there is a middle.
            let mut world = self.clone();
            let effects = world.work(rules, index, step, None);
            for effects in 1..effects {
                let fuse = Some(effects);
                moves.push(Move::Keeper { number, step, fuse });
            }
        }
    }

    fn steps_of(&self, rules: &Rules, number: usize, steps: &mut Vec<Step>) {
        let it = &self.generations[number];
        let Keeper::Lives(mind) = &it.keeper else {
            return;
        };
        let receptions = receptions(Some(mind.phase));
        let (term, launcher_lives) = match it.launcher {
            Launcher::Lives { term, .. } => (term, true),
            Launcher::Absent => (false, false),
        };
        if mind.unclear && launcher_lives {
            steps.extend(receptions.iter().copied().map(Step::Settle));
        } else if term && mind.supervised {
            steps.extend(receptions.iter().copied().map(Step::HearTerm));
        }
        if mind.supervised && !launcher_lives {
            steps.extend(receptions.iter().copied().map(Step::HearLauncherLost));
        }
        if mind.asked {
            steps.push(Step::HearWish);
        }
        let alone = match mind.phase {
            Phase::Standby { patience, .. } => patience != Patience::Attached,
            Phase::Holding { .. } => true,
            _ => false,
        };
        if alone && !mind.supervised && rules.supervisor != Supervisor::Unreadable {
            steps.push(Step::Look);
        }
        if alone {
            steps.push(Step::SeeDirectoryGone);
        }
        // `unsettled_end`: whether that was a stop decides what becomes of it.
        let held_back =
            mind.unclear && mind.supervised && launcher_lives && !stops_for_good(mind.phase);
        if it.daemon == Daemon::Dead && !mind.reaped && !held_back {
            steps.push(Step::HearEnd);
        }
        if it.daemon.is_alive() {
            let waits = match mind.phase {
                Phase::Starting { .. } => true,
                Phase::Preparing { ready, .. }
                | Phase::Parting { ready, .. }
                | Phase::Standby { ready, .. } => !ready,
                _ => false,
            };
            if waits {
                steps.push(Step::HearReady(Voice::Ours));
                let named = self.pid_file.filter(|named| usize::from(*named) < number);
                if let Some(older) = named {
                    steps.push(Step::HearReadyOfSeed(older));
                }
            }
            steps.push(Step::HearPrepared);
        }
        for (other, line) in mind.newer.iter().enumerate() {
            if line
                .as_ref()
                .is_some_and(|line| line.ended || !line.words.is_empty())
            {
                steps.push(Step::HearSuccessor(other as u8));
            }
        }
        for (other, older) in mind.older.iter().enumerate() {
            let Some(older) = older else { continue };
            let number = other as u8;
            let daemon_lives = self.generations[other].daemon.is_alive();
            match older.connection {
                Connection::Open => steps.push(Step::HearOlder(number)),
                Connection::Ended => steps.push(Step::HearOlderLost(number)),
                Connection::None => {}
            }
            if !daemon_lives && !older.dead && !older.holds {
                steps.push(Step::SeeOlderEnd(number));
            }
            if older.dead && older.connection == Connection::None {
                steps.push(Step::LetGoOfOlder(number));
            }
            if older.errand.is_some() {
                steps.push(Step::DoErrand(number));
            }
            if older.kill_is_ours {
                steps.push(Step::KillOlder(number));
            }
        }
        let due = match mind.phase {
            Phase::Starting { waits, .. } => waits.ahead().is_some(),
            phase => phase.deadline().is_some(),
        };
        if due {
            steps.push(Step::HearDeadline);
        }
    }

    /// `Files::claim`.
    fn claim(&self, number: usize) -> Claim {
        if let Some(holder) = self.lock {
            let holder = usize::from(holder);
            let it = &self.generations[holder];
            // One that begins answers a moment later.
            let Keeper::Lives(mind) = &it.keeper else {
                return Claim::Waits;
            };
            let supervised = mind.supervised;
            return match it.launcher {
                Launcher::Lives { orphan: false, .. } => Claim::Refused,
                // It is asked to yield.
                Launcher::Lives { orphan: true, .. } | Launcher::Absent if supervised => {
                    Claim::Takes
                }
                // It cleans up.
                _ => Claim::Waits,
            };
        }
        // A launcher that has lost its keeper is left the time to fork another.
        let forks = |it: &usize| {
            let it = &self.generations[*it];
            let lives = matches!(it.launcher, Launcher::Lives { orphan: false, .. });
            lives && it.entry.is_some() && matches!(it.keeper, Keeper::Absent | Keeper::Adopts)
        };
        match (0..MOST).any(|it| it != number && forks(&it)) {
            true => Claim::Waits,
            false => Claim::Takes,
        }
    }

    /// Gives how many effects it had.
    fn work(&mut self, rules: &Rules, number: usize, step: Step, fuse: Option<u8>) -> u8 {
        let mut number = number;
        if step == Step::Claim {
            if let Some(holder) = self.lock {
                // R19: the holder is an orphan, and yields.
                let holder = usize::from(holder);
                let mut work = Work::of(rules, self, holder, None);
                work.hear_launcher_lost(Reception::Handled, true);
                if self.lock.is_some() {
                    return 1;
                }
            }
            number = self.number(number);
        }
        let mut work = Work::of(rules, self, number, fuse);
        match step {
            Step::Claim => work.claim(),
            Step::Begin => work.begin(),
            Step::Adopt(reception) => work.adopt(reception),
            Step::HearTerm(reception) => work.hear_term(reception),
            Step::Settle(reception) => work.settle(reception),
            Step::HearWish => work.hear_wish(),
            Step::Look => work.look(),
            Step::HearEnd => work.hear_end(),
            Step::HearReady(voice) => work.hear_ready(voice, None),
            Step::HearReadyOfSeed(older) => {
                work.hear_ready(Voice::Ours, Some(usize::from(older)));
            }
            Step::HearPrepared => work.hear_prepared(),
            Step::HearLauncherLost(reception) => work.hear_launcher_lost(reception, false),
            Step::HearSuccessor(other) => work.hear_successor(usize::from(other)),
            Step::HearOlder(other) => work.hear(usize::from(other)),
            Step::HearOlderLost(other) => work.hear_loss(usize::from(other)),
            Step::SeeOlderEnd(other) => work.see_end_of(usize::from(other)),
            Step::LetGoOfOlder(other) => work.let_go_of(usize::from(other)),
            Step::DoErrand(other) => work.do_errand(usize::from(other)),
            Step::KillOlder(other) => work.kill_older(usize::from(other)),
            Step::HearDeadline => work.hear_deadline(),
            Step::SeeDirectoryGone => work.see_directory_gone(),
        }
        work.effects
    }

    pub(crate) fn after(&self, rules: &Rules, chosen: Move) -> World {
        let mut world = self.clone();
        if rules.kills.is_some() && chosen.kills() {
            world.killed += 1;
        }
        world.make(rules, chosen);
        world.look_at_promises();
        world.tidy();
        world
    }

    fn make(&mut self, rules: &Rules, chosen: Move) {
        match chosen {
            Move::SupervisorRestarts => self.send_term(),
            Move::SupervisorStops => {
                self.wanted = false;
                self.all_may_end();
                self.send_term();
            }
            Move::SupervisorWantsItUp => self.wanted = true,
            Move::SupervisorStarts => {
                let number = usize::from(self.begun);
                self.runs = Some(self.begun);
                self.begun += 1;
                self.generations[number].keeper = Keeper::Claims;
                self.generations[number].launcher = Launcher::Lives {
                    term: false,
                    leaves: false,
                    orphan: false,
                    asked: false,
                    settled: false,
                };
            }
            Move::SupervisorDies => {
                if let Some(number) = self.runs.take() {
                    let launcher = &mut self.generations[usize::from(number)].launcher;
                    if let Launcher::Lives { orphan, .. } = launcher {
                        *orphan = true;
                    }
                }
            }
            Move::AskedToRestart(number, reception) => {
                let number = usize::from(number);
                Work::of(rules, self, number, None).asked_to_restart(reception);
            }
            Move::AskedToStop(number) => {
                self.all_may_end();
                Work::of(rules, self, usize::from(number), None).stop();
            }
            Move::LauncherKilled(number) | Move::LauncherLeaves(number) => {
                self.end_launcher(usize::from(number));
            }
            Move::KeeperKilled(number) | Move::KeeperLeaves(number) => {
                self.end_keeper(usize::from(number));
            }
            Move::DaemonDies(number) | Move::DaemonEnds(number) => {
                self.generations[usize::from(number)].daemon = Daemon::Dead;
            }
            Move::Keeper { number, step, fuse } => {
                self.work(rules, usize::from(number), step, fuse);
            }
            Move::LauncherForks(number) => {
                let it = &mut self.generations[usize::from(number)];
                if let Launcher::Lives { settled, .. } = &mut it.launcher {
                    if std::mem::replace(settled, false) {
                        it.keeper = Keeper::Adopts;
                        return;
                    }
                }
                self.end_launcher(usize::from(number));
            }
            Move::StartFails(number) => {
                let number = usize::from(number);
                self.tell_of_failed_start(number);
                self.end_keeper(number);
                self.end_launcher(number);
            }
            Move::Refused(number) => {
                self.end_keeper(usize::from(number));
                self.end_launcher(usize::from(number));
            }
        }
    }

    fn send_term(&mut self) {
        let Some(number) = self.runs else { return };
        let launcher = &mut self.generations[usize::from(number)].launcher;
        if let Launcher::Lives { term, asked, .. } = launcher {
            *term = true;
            *asked = true;
        }
    }

    fn all_may_end(&mut self) {
        for number in 0..usize::from(self.begun) {
            if self.is_alive(number) {
                self.generations[number].may_end = true;
            }
        }
    }

    fn end_launcher(&mut self, number: usize) {
        self.generations[number].launcher = Launcher::Absent;
        if self.runs == Some(number as u8) {
            self.runs = None;
        }
    }

    /// `report_failed_start`: whoever serves shall not take its absence for a stop (R16).
    fn tell_of_failed_start(&mut self, number: usize) {
        let lives = |it: &usize| matches!(self.generations[*it].keeper, Keeper::Lives(_));
        let Some(shown) = (0..MOST).rev().filter(|it| *it != number).find(lives) else {
            return;
        };
        let Some(mind) = self.mind_mut(shown) else {
            return;
        };
        // It has no number of its own.
        let line = mind.newer[shown].get_or_insert_with(Line::default);
        line.words = vec![Word::Attach, Word::Attempt(Attempt::Failed)];
        line.ended = true;
    }

    /// Which of them is the newest that is ready, as far as its keeper knows.
    pub(crate) fn serves(&self, number: usize) -> bool {
        let mind = self.mind(number);
        mind.is_some_and(|mind| mind.supervised && mind.has_committed())
            && matches!(self.generations[number].keeper, Keeper::Lives(_))
    }

    /// Somebody has been told, or will do it himself: it will end.
    pub(crate) fn is_on_its_way_out(&self, number: usize) -> bool {
        if let Daemon::Lives { told: true } = self.generations[number].daemon {
            return true;
        }
        let words = self.mind(number).is_some_and(|mind| {
            let mut words = mind.newer.iter().flatten().flat_map(|line| &line.words);
            !mind.supervised && words.any(|word| matches!(word, Word::Commit { .. } | Word::End))
        });
        let errand = (number + 1..MOST).any(|newer| {
            let older = self.mind(newer).and_then(|mind| mind.older[number]);
            older.is_some_and(|older| older.errand.is_some() || older.state == State::Draining)
        });
        words || errand
    }
}

enum Claim {
    Takes,
    Refused,
    Waits,
}

fn stops_for_good(phase: Phase) -> bool {
    use crate::generation::Why;
    matches!(
        phase,
        Phase::Stopping { why: Why::Stop, .. }
            | Phase::Killing {
                launcher: Some(Why::Stop)
            }
    )
}

/// What the daemon would do with the prepare signal, where that matters.
fn receptions(phase: Option<Phase>) -> &'static [Reception] {
    match phase {
        Some(Phase::Starting { .. } | Phase::Serving { .. }) => &RECEPTIONS,
        _ => &RECEPTIONS[..1],
    }
}
