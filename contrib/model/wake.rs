//! What a keeper hears, one thing at a time (`src/keeper/wake.rs`, `control.rs`, `wish.rs`).

use crate::Supervisor;
use crate::departure::Ending;
use crate::generation::{Event, Phase, Reception, Voice, Wish};
use crate::keeper::{Signal, Work};
use crate::world::{Attempt, Launcher, Promise, Word};

/// The status of a daemon in this model. No rule here depends on it.
const ENDED: Ending = Ending::Exited(1);

impl Work<'_> {
    /// The next word of a successor's keeper, or its end.
    pub(crate) fn hear_successor(&mut self, number: usize) {
        let Some(mind) = self.mind() else { return };
        let Some(line) = &mut mind.newer[number] else {
            return;
        };
        let supervised = mind.supervised;
        if line.words.is_empty() {
            let attempt = line.attempt;
            mind.newer[number] = None;
            if supervised || mind.has_successor() {
                return;
            }
            let another = match attempt {
                Some(Attempt::Failed) => true,
                Some(Attempt::Withdrawn { explicit }) => explicit,
                None => false,
            };
            self.apply(Event::SuccessorLost { another });
            return self.last_one_gone();
        }
        match line.words.remove(0) {
            Word::Attach => {
                line.attached = true;
                self.apply(Event::SuccessorAttached);
            }
            Word::Attempt(attempt) => line.attempt = Some(attempt),
            Word::Commit { .. } | Word::End if supervised => {}
            Word::Commit { told } => self.apply(Event::Superseded { told }),
            Word::End => self.apply(Event::Stop {
                within: self.rules.policy.stop_timeout,
            }),
        }
        self.last_one_gone();
    }

    pub(crate) fn hear_end(&mut self) {
        let sockets = self.rules.sockets;
        let Some(mind) = self.mind() else { return };
        mind.reaped = true;
        let leaves_sockets = sockets && !mind.any_serves();
        self.apply(Event::DaemonEnded {
            ending: ENDED,
            leaves_sockets,
        });
        // Where a successor has the lock it will see to that.
        if self.may_write() && self.world.pid_file == Some(self.generation as u8) {
            self.world.breaks(Promise::NoStrangerIsNamed);
        }
        self.last_one_gone();
    }

    pub(crate) fn hear_ready(&mut self, voice: Voice, told: Option<usize>) {
        self.world.generations[self.generation].was_ready = true;
        if let Some(mind) = self.mind() {
            mind.said_ready = true;
        }
        if let Some(older) = told {
            // R12: the daemon tells its predecessor itself, and then says that it is ready.
            self.world.signal(older, Signal::Drain);
            self.told_by_daemon = told;
        }
        self.apply(Event::Ready(voice));
        self.last_one_gone();
    }

    pub(crate) fn hear_prepared(&mut self) {
        self.apply(Event::Prepared);
        self.last_one_gone();
    }

    pub(crate) fn see_directory_gone(&mut self) {
        self.apply(Event::DirectoryGone);
    }

    /// `seamless-run restart` (`asked_to_restart`, `restart_if`): only where somebody would start a successor.
    pub(crate) fn asked_to_restart(&mut self, reception: Reception) {
        let asks_first = matches!(
            self.phase(),
            Phase::Starting { .. }
                | Phase::Serving { .. }
                | Phase::Preparing { .. }
                | Phase::Parting { .. }
        );
        let detached = matches!(self.phase(), Phase::Standby { .. } | Phase::Holding { .. });
        let known = self.rules.supervisor != Supervisor::Unreadable;
        let refused = asks_first && known && !self.world.wanted;
        if !refused && (asks_first || detached) {
            self.apply(Event::Restart {
                reception,
                explicit: true,
            });
        }
        self.last_one_gone();
    }

    /// A TERM from the supervisor (`wish.rs`).
    pub(crate) fn hear_term(&mut self, reception: Reception) {
        let wanted = self.world.wanted;
        let readable = self.rules.supervisor;
        let restart = Event::Restart {
            reception,
            explicit: false,
        };
        match readable {
            Supervisor::Readable if wanted => self.apply(restart),
            Supervisor::Readable => self.stop(),
            Supervisor::Unreadable => self.apply(restart),
            Supervisor::Late => {
                let serves = matches!(self.phase(), Phase::Serving { .. });
                if let Some(mind) = self.mind() {
                    mind.unclear = true;
                }
                if serves {
                    self.apply(restart);
                }
                return self.last_one_gone();
            }
        }
        self.deal_with_term();
        self.last_one_gone();
    }

    /// The supervisor's wish has settled.
    pub(crate) fn settle(&mut self, reception: Reception) {
        if let Some(mind) = self.mind() {
            mind.unclear = false;
        }
        if self.world.wanted {
            self.apply(Event::Restart {
                reception,
                explicit: false,
            });
        } else {
            self.stop();
        }
        self.deal_with_term();
        self.last_one_gone();
    }

    /// `Word::Handled`: the launcher listens to the next one.
    pub(crate) fn deal_with_term(&mut self) {
        if !self.dead {
            let launcher = &mut self.world.generations[self.generation].launcher;
            if let Launcher::Lives { term, .. } = launcher {
                *term = false;
            }
        }
    }

    pub(crate) fn stop(&mut self) {
        self.apply(Event::Stop {
            within: self.rules.policy.stop_timeout,
        });
    }

    pub(crate) fn hear_wish(&mut self) {
        if let Some(mind) = self.mind() {
            mind.asked = false;
        }
        let wish = match (self.rules.supervisor, self.world.wanted) {
            (Supervisor::Unreadable, _) => Wish::Unknown,
            (_, true) => Wish::Up,
            (_, false) => Wish::Down,
        };
        if matches!(self.phase(), Phase::Parting { .. }) {
            self.apply(Event::Wish(wish));
        }
        self.last_one_gone();
    }

    /// In standby it looks for itself.
    pub(crate) fn look(&mut self) {
        let wish = if self.world.wanted {
            Wish::Up
        } else {
            Wish::Down
        };
        self.apply(Event::Wish(wish));
        self.last_one_gone();
    }

    pub(crate) fn hear_launcher_lost(&mut self, reception: Reception, orphaned: bool) {
        if orphaned {
            self.apply(Event::Orphaned(reception));
        } else {
            if let Some(mind) = self.mind() {
                mind.supervised = false;
                mind.unclear = false;
            }
            self.apply(Event::LauncherLost(reception));
        }
        self.last_one_gone();
    }

    pub(crate) fn hear_deadline(&mut self) {
        let phase = self.phase();
        let own = self.generation;
        match phase {
            // R16: nobody has come, and nothing can say whether anybody will.
            Phase::Standby { .. } => self.world.generations[own].may_end = true,
            Phase::Starting { waits, .. }
                if waits.ahead().is_some_and(|(what, _)| what == "commit") =>
            {
                self.world.generations[own].was_ready = true;
            }
            _ => {}
        }
        self.apply(Event::Deadline);
        self.last_one_gone();
    }
}
