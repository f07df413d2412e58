//! What a keeper does with what happens: it asks the program's own `step`, and carries out what that says, as
//! `src/keeper` does, in a world without processes.
//!
//! Everything that others could see, or find after its death, is an effect. A keeper may be KILLed after any of them.

use crate::Rules;
use crate::generation::{Action, AttemptEnd, Event, Phase, Reception, Voice, Waits, Why};
use crate::world::{
    Attempt, Begun, Connection, Daemon, Entry, Keeper, Launcher, MOST, Mind, NOBODY, Older,
    Promise, State, Word, World, now,
};

/// One keeper at work.
pub(crate) struct Work<'a> {
    pub(crate) rules: &'a Rules,
    pub(crate) world: &'a mut World,
    pub(crate) generation: usize,
    /// It is KILLed after so many effects.
    fuse: Option<u8>,
    pub(crate) effects: u8,
    pub(crate) dead: bool,
    /// The older generation that its daemon has told by itself (R12).
    pub(crate) told_by_daemon: Option<usize>,
}

impl<'a> Work<'a> {
    pub(crate) fn of(
        rules: &'a Rules,
        world: &'a mut World,
        generation: usize,
        fuse: Option<u8>,
    ) -> Work<'a> {
        Work {
            rules,
            world,
            generation,
            fuse,
            effects: 0,
            dead: false,
            told_by_daemon: None,
        }
    }

    /// Whether it lives to see it done.
    pub(crate) fn does(&mut self) -> bool {
        if self.dead {
            return false;
        }
        if self.fuse == Some(self.effects) {
            self.dead = true;
            self.world.end_keeper(self.generation);
            return false;
        }
        self.effects += 1;
        true
    }

    /// Of a keeper that is dead by now nothing can be seen.
    pub(crate) fn mind(&mut self) -> Option<&mut Mind> {
        if self.dead {
            return None;
        }
        self.world.mind_mut(self.generation)
    }

    pub(crate) fn phase(&mut self) -> Phase {
        self.mind().map_or(Phase::Gone, |mind| mind.phase)
    }

    // ---- Keeper::claim and Predecessors::attach

    /// Takes the lock, and attaches to whom the record names.
    pub(crate) fn claim(&mut self) {
        if !self.does() {
            return;
        }
        let own = self.generation;
        self.world.lock = Some(own as u8);
        let phase = Phase::Gone;
        let mut mind = Box::new(Mind::new(phase));
        self.attach(&mut mind);
        self.world.generations[own].keeper = Keeper::Attached(mind);
        // A stale name goes before a daemon could read it (R5).
        if self.world.pid_file == Some(NOBODY) {
            if self.does() {
                self.world.pid_file = None;
            }
        } else if let Some(named) = self.world.pid_file {
            let named = &self.world.generations[usize::from(named)];
            let serves = named
                .entry
                .is_some_and(|entry| matches!(entry.state, State::Starting | State::Ready));
            if !(serves && named.daemon.is_alive()) && self.does() {
                self.world.pid_file = None;
            }
        }
    }

    fn attach(&mut self, mind: &mut Mind) {
        let own = self.generation;
        for number in 0..own {
            let Some(entry) = self.world.generations[number].entry else {
                continue;
            };
            let daemon_lives = self.world.generations[number].daemon.is_alive();
            let their = self.world.mind_mut(number);
            let holds = their
                .as_ref()
                .is_some_and(|mind| matches!(mind.phase, Phase::Holding { .. }));
            // One that has ended, and whose keeper does not hold its sockets, is nobody.
            if !daemon_lives && !holds {
                continue;
            }
            let connection = match their {
                Some(their) if their.phase != Phase::Gone => {
                    let line = their.newer[own].insert(Default::default());
                    line.words.push(Word::Attach);
                    Connection::Open
                }
                _ => Connection::None,
            };
            mind.older[number] = Some(Older {
                connection,
                state: entry.state,
                assumed: entry.assumed,
                errand: None,
                kill_is_ours: false,
                dead: false,
                holds,
            });
        }
    }

    /// `Predecessors::end_what_nobody_knows`.
    fn end_what_nobody_knows(&mut self) {
        for number in 0..self.generation {
            let Some(older) = self.older(number) else {
                continue;
            };
            if older.connection != Connection::None {
                continue;
            }
            match older.state {
                State::Ready | State::Holding => {}
                State::Draining => self.change(number, |older| older.kill_is_ours = true),
                State::Starting => self.do_it_ourselves(number, false),
            }
        }
    }

    // ---- Keeper::begin and Keeper::start

    /// Forks the daemon, records it, and lets it run.
    pub(crate) fn begin(&mut self) {
        let own = self.generation;
        self.end_what_nobody_knows();
        if self.dead {
            return;
        }
        self.world.generations[own].daemon = Daemon::Waits;
        let waits = Waits::begin(now(), None, self.rules.policy.ready_timeout);
        let rules = self.rules;
        let Some(mind) = self.mind() else { return };
        mind.phase = Phase::Starting {
            voice: Voice::Silent,
            predecessor: mind.any_serves(),
            waits,
        };
        let life = mind.none_said_ready().then_some(rules.life);
        let entry = mind.entry();
        if !self.does() {
            return;
        }
        self.world.generations[own].entry = Some(entry);
        if !self.does() {
            return;
        }
        self.world.generations[own].daemon = Daemon::Lives { told: false };
        let keeper = std::mem::take(&mut self.world.generations[own].keeper);
        if let Keeper::Attached(mind) = keeper {
            self.world.generations[own].keeper = Keeper::Lives(mind);
        }
        self.settled();
        self.relieve_holders();
        self.apply(Event::Released { life });
    }

    fn settled(&mut self) {
        let launcher = &mut self.world.generations[self.generation].launcher;
        if let Launcher::Lives { settled, .. } = launcher {
            *settled = true;
        }
    }

    /// `relieve_holders`: we have their sockets.
    pub(crate) fn relieve_holders(&mut self) {
        for number in 0..self.generation {
            let holds = self.older(number).is_some_and(|older| older.holds);
            if holds && self.does() {
                self.say(number, Word::Commit { told: true });
                self.world.generations[number].entry = None;
                if let Some(mind) = self.mind() {
                    mind.older[number] = None;
                }
            }
        }
    }

    // ---- Keeper::adopt

    pub(crate) fn adopt(&mut self, reception: Reception) {
        if !self.does() {
            return;
        }
        let own = self.generation;
        let entry = self.world.generations[own].entry;
        let (Some(entry), None) = (entry, self.world.lock) else {
            // Another launcher has taken its place, or nothing is known of the daemon.
            self.world.end_keeper(own);
            self.dead = true;
            return;
        };
        self.world.lock = Some(own as u8);
        let mut mind = Box::new(Mind::new(Phase::Gone));
        self.attach(&mut mind);
        mind.said_ready = entry.state == State::Ready && !entry.assumed;
        mind.phase = phase_of(&entry, self.rules, mind.any_serves());
        self.world.generations[own].keeper = Keeper::Lives(mind);
        self.end_what_nobody_knows();
        self.relieve_holders();
        match (self.phase(), entry.state) {
            (Phase::Serving { .. }, _) => {
                self.take_the_place();
                self.begin_restart_anew(entry.begun, reception);
            }
            (Phase::Starting { .. }, _) => self.begin_restart_anew(entry.begun, reception),
            (Phase::Stopping { .. }, State::Starting) => {
                self.tell_attempt(Attempt::Withdrawn { explicit: false });
                self.perform(Action::Drain);
            }
            (Phase::Stopping { why: Why::Stop, .. }, _) => {
                self.perform(Action::StopPredecessors(self.rules.policy.stop_timeout));
            }
            _ => {}
        }
        self.record_phase();
        if !self.dead {
            self.settled();
        }
        self.last_one_gone();
    }

    fn begin_restart_anew(&mut self, begun: Option<Begun>, reception: Reception) {
        if let Some(begun @ (Begun::Preparing | Begun::Restarting)) = begun {
            self.apply(Event::Restart {
                reception,
                explicit: begun == Begun::Restarting,
            });
        }
    }

    // ---- Keeper::apply and Keeper::perform

    pub(crate) fn apply(&mut self, event: Event) {
        let Some(before) = self.mind().map(|mind| mind.phase) else {
            return;
        };
        let at = match event {
            Event::Deadline => due(before),
            _ => now(),
        };
        let (next, actions) = self.rules.step(before, event, at);
        if let Some(mind) = self.mind() {
            mind.phase = next;
        }
        for action in actions {
            self.perform(action);
        }
        if before != next {
            self.record_phase();
        }
    }

    pub(crate) fn perform(&mut self, action: Action) {
        let own = self.generation;
        match action {
            Action::Prepare => self.signal(own, Signal::Prepare),
            Action::Drain => self.signal(own, Signal::Drain),
            Action::Kill => self.signal(own, Signal::Kill),
            Action::Commit => self.take_the_place(),
            Action::StopPredecessors(_) => self.stop_predecessors(),
            Action::EndAttempt(end) => {
                let attempt = match end {
                    AttemptEnd::Died(_) | AttemptEnd::NotReady => Attempt::Failed,
                    AttemptEnd::Withdrawn { explicit } => Attempt::Withdrawn { explicit },
                };
                self.tell_attempt(attempt);
            }
            Action::AskWish => {
                if let Some(mind) = self.mind() {
                    mind.asked = true;
                }
            }
            Action::Detach => {
                self.record_phase();
                if self.does() && self.world.lock == Some(own as u8) {
                    self.world.lock = None;
                }
            }
            Action::LeaveDetached | Action::LeaveWith(_) => self.dismiss(),
            Action::Unname => self.unname(),
            Action::Hold => {
                self.unname();
                if self.may_write() && self.does() {
                    let entry = self.mind().map(|mind| mind.entry());
                    self.world.generations[own].entry = entry;
                }
            }
            Action::CleanUp => self.forget(true),
            Action::PassOn | Action::Close | Action::Report(_) => {}
        }
    }

    /// `Keeper::dismiss`.
    pub(crate) fn dismiss(&mut self) {
        let supervised = self
            .mind()
            .is_some_and(|mind| std::mem::take(&mut mind.supervised));
        if !supervised || !self.does() {
            return;
        }
        if let Launcher::Lives { leaves, .. } =
            &mut self.world.generations[self.generation].launcher
        {
            if std::mem::replace(leaves, true) {
                self.world.breaks(Promise::LeavesOnce);
            }
        }
    }

    // ---- commit.rs

    pub(crate) fn may_write(&self) -> bool {
        let own = self.generation as u8;
        !self.dead && self.world.lock.is_none_or(|holder| holder == own)
    }

    pub(crate) fn take_the_place(&mut self) {
        let own = self.generation;
        if !self.may_write() {
            return;
        }
        if self.does() {
            self.retain_living();
            self.world.generations[own].entry = self.mind().map(|mind| mind.entry());
        }
        if self.does() {
            self.world.pid_file = Some(own as u8);
        }
        self.relieve_holders();
        for number in 0..own {
            let Some(older) = self.older(number) else {
                continue;
            };
            if older.dead || older.holds {
                continue;
            }
            if older.state == State::Draining {
                self.tell_of_succession(number);
            } else {
                let told = self.told_by_daemon == Some(number);
                self.tell(number, Word::Commit { told }, told);
            }
        }
        self.mark_draining();
    }

    pub(crate) fn mark_draining(&mut self) {
        if !self.may_write() || !self.does() {
            return;
        }
        for number in 0..self.generation {
            let drains = self
                .older(number)
                .is_some_and(|older| older.state == State::Draining && older.errand.is_none());
            if let Some(entry) = &mut self.world.generations[number].entry {
                if drains {
                    entry.state = State::Draining;
                }
            }
        }
    }

    pub(crate) fn record_phase(&mut self) {
        let own = self.generation;
        let holds_lock = self.world.lock == Some(own as u8);
        let Some(mind) = self.mind() else { return };
        if !holds_lock || matches!(mind.phase, Phase::Lingering { .. } | Phase::Gone) {
            return;
        }
        let entry = mind.entry();
        if self.world.generations[own].entry != Some(entry) && self.does() {
            self.world.generations[own].entry = Some(entry);
        }
    }

    fn retain_living(&mut self) {
        for number in 0..MOST {
            let held = self
                .world
                .mind(number)
                .is_some_and(|mind| matches!(mind.phase, Phase::Holding { .. }));
            let it = &mut self.world.generations[number];
            if !it.daemon.is_alive() && !held {
                it.entry = None;
            }
        }
    }

    pub(crate) fn unname(&mut self) {
        let own = Some(self.generation as u8);
        if self.may_write() && self.world.pid_file == own && self.does() {
            self.world.pid_file = None;
        }
    }

    /// `Keeper::forget`: who has gone, and for `own` this generation, too.
    pub(crate) fn forget(&mut self, own: bool) {
        if !self.may_write() || !self.does() {
            return;
        }
        self.retain_living();
        if own {
            self.world.generations[self.generation].entry = None;
        }
        let named = self.world.pid_file.map(usize::from);
        let names_nobody = named.is_some_and(|named| {
            named == usize::from(NOBODY)
                || (own && named == self.generation)
                || !self.world.generations[named].daemon.is_alive()
        });
        if names_nobody && self.does() {
            self.world.pid_file = None;
        }
    }

    pub(crate) fn signal(&mut self, number: usize, signal: Signal) {
        let own = number == self.generation;
        let reaped = own && self.mind().is_some_and(|mind| mind.reaped);
        if !self.does() {
            return;
        }
        if reaped {
            return self.world.breaks(Promise::NoStrangerIsSignalled);
        }
        self.world.signal(number, signal);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Prepare,
    Drain,
    Kill,
}

impl World {
    /// To the daemon, by a pidfd or as a child that is not reaped: one that has ended gets nothing.
    pub(crate) fn signal(&mut self, number: usize, signal: Signal) {
        let newer_was_ready = self.generations[number + 1..].iter().any(|it| it.was_ready);
        let it = &mut self.generations[number];
        let Daemon::Lives { told } = &mut it.daemon else {
            return;
        };
        let may = it.may_end || newer_was_ready || !it.was_ready || it.is_unknown;
        match signal {
            Signal::Prepare => {}
            Signal::Drain => {
                *told = true;
                if !may {
                    self.breaks(Promise::DrainsOnlyForAReason);
                }
            }
            Signal::Kill => {
                let was_told = *told;
                it.daemon = Daemon::Dead;
                if !may || !was_told {
                    self.breaks(Promise::DrainsOnlyForAReason);
                }
            }
        }
    }
}

/// When the phase's deadline is over; what is only said is not waited for.
fn due(phase: Phase) -> std::time::Instant {
    let ahead = match phase {
        Phase::Starting { waits, .. } => waits.ahead().map(|(_, moment)| moment),
        _ => phase.deadline(),
    };
    ahead.unwrap_or_else(now)
}

/// `adopt.rs`.
fn phase_of(entry: &Entry, rules: &Rules, any_serves: bool) -> Phase {
    let policy = &rules.policy;
    let after = |timeout: Option<_>| now().checked_add(timeout?);
    let voice = Voice::Ours;
    match (entry.begun, entry.state) {
        (Some(Begun::Stopping), _) => Phase::Stopping {
            until: after(policy.stop_timeout),
            why: Why::Stop,
        },
        (Some(Begun::Ending), _) | (_, State::Draining | State::Holding) => Phase::Stopping {
            until: after(policy.stop_timeout),
            why: Why::Restart,
        },
        (_, State::Ready) => Phase::Serving { voice },
        (_, State::Starting) if any_serves => Phase::Stopping {
            until: after(policy.stop_timeout),
            why: Why::NotReady,
        },
        (_, State::Starting) => Phase::Starting {
            voice,
            predecessor: false,
            waits: Waits::begin(now(), None, policy.ready_timeout),
        },
    }
}
