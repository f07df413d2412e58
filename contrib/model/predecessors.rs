//! What a keeper knows of older generations, and does to them (`src/predecessors`).

use crate::generation::{Event, Phase};
use crate::keeper::{Signal, Work};
use crate::world::{Attempt, Connection, Older, State, Word};

impl Work<'_> {
    pub(crate) fn older(&mut self, number: usize) -> Option<Older> {
        self.mind()?.older[number]
    }

    pub(crate) fn change(&mut self, number: usize, change: impl FnOnce(&mut Older)) {
        if let Some(older) = self.mind().and_then(|mind| mind.older[number].as_mut()) {
            change(older);
        }
    }

    /// Puts a word on the line to an older generation's keeper; whether it lives.
    pub(crate) fn say(&mut self, number: usize, word: Word) -> bool {
        let own = self.generation;
        let open = self
            .older(number)
            .is_some_and(|older| older.connection == Connection::Open);
        let their = self.world.mind_mut(number).filter(|_| open);
        let line = their.and_then(|mind| mind.newer[own].as_mut());
        // A word that waits already says nothing new by being said again.
        line.map(|line| {
            if !line.words.contains(&word) {
                line.words.push(word);
            }
        })
        .is_some()
    }

    pub(crate) fn tell(&mut self, number: usize, word: Word, told: bool) {
        if !self.does() {
            return;
        }
        if !self.say(number, word) {
            return self.do_it_ourselves(number, told);
        }
        self.change(number, |older| {
            older.errand = Some(told);
            older.state = State::Draining;
        });
    }

    pub(crate) fn tell_of_succession(&mut self, number: usize) {
        if self.does() {
            self.say(number, Word::Commit { told: true });
        }
    }

    pub(crate) fn stop_predecessors(&mut self) {
        for number in 0..self.generation {
            let Some(older) = self.older(number) else {
                continue;
            };
            if older.dead {
                continue;
            }
            if older.holds {
                if self.does() {
                    self.say(number, Word::End);
                }
                continue;
            }
            let drains = older.state == State::Draining;
            self.tell(number, Word::End, older.errand.unwrap_or(drains));
        }
        self.mark_draining();
    }

    pub(crate) fn do_it_ourselves(&mut self, number: usize, told: bool) {
        self.change(number, |older| {
            older.kill_is_ours = true;
            older.state = State::Draining;
            older.errand = None;
        });
        if !told {
            self.signal(number, Signal::Drain);
        }
    }

    pub(crate) fn tell_attempt(&mut self, attempt: Attempt) {
        for number in 0..self.generation {
            let serves = self
                .older(number)
                .is_some_and(|one| !one.holds && !one.dead && one.state != State::Draining);
            if serves && self.does() {
                self.say(number, Word::Attempt(attempt));
            }
        }
    }

    /// `Predecessors::expire`: its keeper does not answer, or is lost.
    pub(crate) fn do_errand(&mut self, number: usize) {
        let Some(told) = self.older(number).and_then(|older| older.errand) else {
            return;
        };
        // Should it wake up: the daemon has been told.
        self.tell_of_succession(number);
        self.do_it_ourselves(number, told);
        self.mark_draining();
    }

    pub(crate) fn kill_older(&mut self, number: usize) {
        self.change(number, |older| older.kill_is_ours = false);
        self.signal(number, Signal::Kill);
    }

    /// What an older keeper says of itself.
    pub(crate) fn hear(&mut self, number: usize) {
        let Some((phase, assumed, ready)) = self.world.mind(number).map(|their| {
            let entry = their.entry();
            (their.phase, entry.assumed, their.said_ready)
        }) else {
            return;
        };
        let before = self.mind().is_some_and(|mind| mind.any_serves());
        let drains = matches!(
            phase,
            Phase::Draining { .. }
                | Phase::Stopping { .. }
                | Phase::Killing { .. }
                | Phase::Lingering { .. }
        );
        let holds = matches!(phase, Phase::Holding { .. });
        let does_so = drains
            && self
                .older(number)
                .is_some_and(|older| older.errand.is_some());
        self.change(number, |older| {
            if drains {
                older.errand = None;
                older.kill_is_ours = false;
                older.state = State::Draining;
            } else if older.state != State::Draining {
                older.state = if ready { State::Ready } else { State::Starting };
            }
            older.assumed &= assumed;
            older.holds |= holds;
        });
        if does_so {
            self.mark_draining();
        }
        if holds {
            self.relieve_holders();
        }
        let one_is_ready = self.mind().is_some_and(|mind| {
            mind.serving()
                .any(|one| one.state == State::Ready && !one.assumed)
        });
        if one_is_ready {
            self.apply(Event::PredecessorReady);
        }
        self.served(before);
    }

    /// The end of the connection to an older keeper.
    pub(crate) fn hear_loss(&mut self, number: usize) {
        let lives = self.world.generations[number].daemon.is_alive();
        self.change(number, |older| older.connection = Connection::None);
        let Some(older) = self.older(number) else {
            return;
        };
        if older.holds {
            if let Some(mind) = self.mind() {
                mind.older[number] = None;
            }
        } else if lives && !older.dead {
            if let Some(told) = older.errand {
                self.do_it_ourselves(number, told);
            } else if older.state == State::Draining {
                self.change(number, |older| older.kill_is_ours = true);
            }
        }
        self.last_one_gone();
    }

    pub(crate) fn see_end_of(&mut self, number: usize) {
        let before = self.mind().is_some_and(|mind| mind.any_serves());
        self.change(number, |older| {
            older.dead = true;
            older.kill_is_ours = false;
            older.errand = None;
        });
        if self.world.lock == Some(self.generation as u8) || self.phase() == Phase::Gone {
            self.forget(false);
        }
        self.served(before);
    }

    pub(crate) fn let_go_of(&mut self, number: usize) {
        if let Some(mind) = self.mind() {
            mind.older[number] = None;
        }
        if self.world.lock == Some(self.generation as u8) || self.phase() == Phase::Gone {
            self.forget(false);
        }
        self.last_one_gone();
    }

    pub(crate) fn served(&mut self, before: bool) {
        if before && !self.mind().is_some_and(|mind| mind.any_serves()) {
            self.apply(Event::PredecessorsGone);
        }
        self.last_one_gone();
    }

    /// The end of `Keeper::act`.
    pub(crate) fn last_one_gone(&mut self) {
        let none = self
            .mind()
            .is_some_and(|mind| mind.older.iter().all(Option::is_none));
        if none {
            self.apply(Event::LastOneGone);
        }
    }
}
