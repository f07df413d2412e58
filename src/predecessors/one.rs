//! One older generation: what its keeper says, what it is told, and what is done without it.

use std::io;
use std::time::{Duration, Instant};

use super::{ANSWER, HOLDING, Limits, News};
use crate::control::{Connection, Deadline, Message, Received, Standing};
use crate::daemon::Drain;
use crate::files::State;
use crate::listen::Label;
use crate::process::{Identity, Process};
use crate::report::{Report, cause};
use crate::signals::Signal;

#[derive(Debug)]
pub(super) struct Predecessor {
    pub(super) number: u32,
    pub(super) state: State,
    /// It never said that it is ready; its life was taken for that (R13).
    pub(super) assumed: bool,
    pub(super) identity: Identity,
    pub(super) process: Process,
    pub(super) keeper: Option<Identity>,
    /// To its keeper, while that lives.
    pub(super) connection: Option<Connection>,
    /// What the keeper said last, and when.
    pub(super) told: Option<(Standing, Instant)>,
    /// What its keeper was told, and may take until then to do.
    pub(super) errand: Option<(Errand, Instant)>,
    /// Its keeper is lost, or deaf: KILL is ours to send.
    pub(super) kill_at: Option<Instant>,
    /// It has ended; until then its keeper may take to say how, and to go.
    pub(super) leave_by: Option<Instant>,
    /// How it ended, in its keeper's words.
    pub(super) how: Option<String>,
    /// How its daemon is told to finish.
    pub(super) drain: Drain,
    /// Held sockets that its daemon was given.
    pub(super) sockets: Vec<Label>,
    /// Its daemon has died, and its keeper stays for them.
    pub(super) holds: bool,
}

/// What a message to a predecessor's keeper is to bring about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Errand {
    /// For KILL, where the keeper is not there to see to it.
    pub(super) patience: Option<Duration>,
    /// The daemon knows already.
    pub(super) told: bool,
}

impl Predecessor {
    pub(super) fn name(&self) -> String {
        format!("generation {} (pid {})", self.number, self.process.pid)
    }

    /// Says whether its keeper has now done what it was told.
    pub(super) fn hear(&mut self, standing: Standing, now: Instant) -> bool {
        self.state = match (self.state, state_of(&standing)) {
            // What it was told it will do; this answer is older.
            (State::Draining, _) => State::Draining,
            (_, state) => state,
        };
        let mut done = false;
        if state_of(&standing) == State::Draining {
            done = self.errand.take().is_some();
            self.kill_at = None;
        }
        self.told = Some((standing, now));
        done
    }

    pub(super) fn read(&mut self, now: Instant, limits: Limits, news: &mut Vec<News>) {
        while let Some(connection) = &self.connection {
            match connection.receive() {
                Received::NothingYet => return,
                Received::Message(Message::State(state), _) => {
                    let own = state.generations.into_iter().next();
                    if let Some(own) = own.filter(|own| own.number == self.number) {
                        let held = std::mem::replace(&mut self.holds, own.phase == HOLDING);
                        if self.holds && !held {
                            news.push(News::Holds);
                        }
                        if self.hear(own, now) {
                            news.push(News::Drains);
                        }
                        news.push(News::Changed);
                    }
                }
                Received::Message(Message::Gone { how, .. }, _) => self.how = Some(how),
                Received::Message(message, descriptors) => {
                    if let Some(caller) = descriptors.into_iter().next() {
                        news.push(News::Passed(message, caller));
                    }
                }
                Received::Unreadable(_) => {}
                Received::End => {
                    self.connection = None;
                    self.keeper = None;
                    if self.leave_by.is_none() && !self.process.has_ended() {
                        self.take_over(limits, now);
                        news.push(News::KeeperLost {
                            number: self.number,
                            pid: self.process.pid,
                        });
                    }
                }
            }
        }
    }

    /// Its keeper was lost, perhaps before it did what it was told.
    fn take_over(&mut self, limits: Limits, now: Instant) {
        if let Some((_, answer_by)) = &mut self.errand {
            *answer_by = now;
        } else if self.state == State::Draining {
            let known = self.kill_deadline(now);
            self.kill_at = self.kill_at.or(known).or(after(limits.drain, now));
        }
    }

    /// When its keeper would have sent KILL.
    pub(super) fn kill_deadline(&self, now: Instant) -> Option<Instant> {
        let (standing, told) = self.told.as_ref()?;
        let deadline = standing.deadline.as_ref()?;
        let moment = told.checked_add(deadline.left)?;
        (state_of(standing) == State::Draining).then_some(moment.max(now))
    }

    /// Through its keeper, if there is one. Says whether it could be told.
    pub(super) fn tell(
        &mut self,
        message: &Message,
        errand: Errand,
        now: Instant,
        report: &Report,
    ) -> bool {
        let sent = self
            .connection
            .as_ref()
            .is_some_and(|connection| connection.send(message).is_ok());
        if !sent {
            return self.do_it_ourselves(errand, now, report);
        }
        self.errand = Some((errand, now + ANSWER));
        self.state = State::Draining;
        true
    }

    /// It drains already, for want of a successor; what it still holds is ours by now.
    pub(super) fn tell_of_succession(&self) {
        if let Some(connection) = &self.connection {
            // A keeper that cannot be told holds them until its daemon has ended.
            let _ = connection.send(&Message::Commit { told: true });
        }
    }

    /// Without its keeper.
    pub(super) fn do_it_ourselves(
        &mut self,
        errand: Errand,
        now: Instant,
        report: &Report,
    ) -> bool {
        self.kill_at = [self.kill_at, after(errand.patience, now)]
            .into_iter()
            .flatten()
            .min();
        self.state = State::Draining;
        errand.told || self.drain(report)
    }

    fn drain(&self, report: &Report) -> bool {
        let Drain { signal, .. } = self.drain;
        let sent = self.drain.send_to(&self.process);
        if let Some(other) = sent.as_ref().ok().filter(|sent| **sent != signal) {
            report.note(&format!(
                "{} does not handle {signal}; it is told to end by {other}",
                self.name()
            ));
        }
        self.is_sent(signal, sent.map(drop), report)
    }

    /// With its process group: the workers of a dead master would go on.
    pub(super) fn kill(&self, report: &Report) {
        let sent = self.process.send_to_group(Signal::KILL);
        self.is_sent(Signal::KILL, sent, report);
    }

    fn is_sent(&self, signal: Signal, sent: io::Result<()>, report: &Report) -> bool {
        if let Err(error) = &sent {
            report.warn(&format!(
                "cannot send {signal} to {}: {}; it goes on serving",
                self.name(),
                cause(error)
            ));
        }
        sent.is_ok()
    }

    pub(super) fn standing(&self, now: Instant) -> Standing {
        let mut standing = match &self.told {
            Some((standing, told)) => {
                let since = now.saturating_duration_since(*told);
                let deadline = standing.deadline.as_ref().map(|deadline| Deadline {
                    what: deadline.what.clone(),
                    left: deadline.left.saturating_sub(since),
                });
                Standing {
                    age: standing.age + since,
                    deadline,
                    ..standing.clone()
                }
            }
            None => Standing {
                number: self.number,
                phase: match self.state {
                    State::Starting | State::Ready | State::Holding => "standby".to_owned(),
                    State::Draining => "draining".to_owned(),
                },
                ready: self.state == State::Ready,
                daemon: Some(self.identity),
                ..Standing::default()
            },
        };
        standing.keeper = self.keeper;
        if let Some(at) = self.kill_at {
            standing.deadline = Some(Deadline {
                what: "kill".to_owned(),
                left: at.saturating_duration_since(now),
            });
        }
        standing
    }
}

pub(super) fn state_of(standing: &Standing) -> State {
    match (standing.phase.as_str(), standing.ready) {
        ("draining" | "stopping" | "killing", _) => State::Draining,
        (_, true) => State::Ready,
        (_, false) => State::Starting,
    }
}

pub(super) fn after(timeout: Option<Duration>, now: Instant) -> Option<Instant> {
    now.checked_add(timeout?)
}
