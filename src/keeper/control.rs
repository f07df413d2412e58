//! What others ask of a keeper over the control socket, and what it tells them (§6, R11, R16, R19).

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::Keeper;
use super::wake::AT_ONCE;
use crate::changes::Changes;
use crate::control::wire::{Failure, State};
use crate::control::{Accepted, Attempt, Deadline, Id, Message, Role, Standing};
use crate::departure::Ending;
use crate::files::DirectoryWatch;
use crate::generation::{AttemptEnd, Event, Patience, Phase, Why};
use crate::link::Link;
use crate::predecessors::News;
use crate::process;
use crate::report::cause;

/// Generations in one state, the newest ones; and characters of what one of them says.
const MOST: usize = 64;
const SHOWN: usize = 256;
/// How long nobody is listened to, where no descriptor is left even to turn somebody away.
const DEAF: Duration = Duration::from_secs(1);
/// How a generation ends of which only the sockets were left.
const HELD_NO_MORE: &str = "its daemon had died, and its sockets are closed";

impl Keeper {
    /// The daemon has gone: whoever has a question finds somebody else.
    pub(super) fn dismiss_callers(&mut self) {
        self.callers.dismiss_all(|_| true);
    }

    pub(super) fn accept_callers(&mut self) {
        if self.phase == Phase::Gone {
            return;
        }
        let now = self.clock.now();
        self.deaf_until = self.deaf_until.filter(|until| *until > now);
        if self.deaf_until.is_some() {
            return;
        }
        for _ in 0..AT_ONCE {
            let accepted = self.listener.accept();
            let failed = std::mem::replace(&mut self.turned_away, false);
            let error = match accepted {
                Ok(Accepted::Caller(caller)) => {
                    // Where there are too many, he is turned away, too.
                    let _ = self.callers.add(caller);
                    continue;
                }
                Ok(Accepted::Nobody) => {
                    self.turned_away = failed;
                    return;
                }
                Ok(Accepted::TurnedAway(error)) => error,
                Err(error) => {
                    // He waits, and would wake us without end.
                    self.deaf_until = now.checked_add(DEAF);
                    error
                }
            };
            self.turned_away = true;
            if !failed {
                self.report.warn(&format!(
                    "cannot answer callers at the control socket: {}; they are turned away",
                    cause(&error)
                ));
            }
            if self.deaf_until.is_some() {
                return;
            }
        }
    }

    pub(super) fn requested(&mut self, id: Id, request: Message, link: &mut Link) {
        match request {
            Message::Attach { generation } => self.attached(id, generation, link),
            // From one that was refused, since we are in our own supervisor's hands (R19).
            Message::Commit { .. } | Message::End { .. } if self.supervised => {}
            Message::Commit { told } => {
                self.apply(Event::Superseded { told }, link);
                // Whoever could not be passed on looks for the one who serves now.
                self.callers
                    .dismiss_all(|role| matches!(role, Role::Watcher | Role::Waiter { .. }));
                // It waits for our word, though it may be no news.
                self.changed = true;
            }
            Message::End { within } => {
                self.apply(Event::Stop { within }, link);
                self.changed = true;
            }
            // A newcomer knows better how things stand (§6).
            Message::Yield
            | Message::Status { .. }
            | Message::Restart
            | Message::Await { .. }
            | Message::Stop { .. }
                if self.callers.pass_on(id, &request) => {}
            Message::Yield => self.asked_to_yield(id, link),
            // He came as it ended; whoever is there next answers him, if anybody is.
            Message::Status { .. } | Message::Restart if self.phase == Phase::Gone => {
                self.callers.dismiss(id);
            }
            Message::Status { watch: true } if !self.callers.has_room_for_a_watcher() => {
                self.refuse(id, "as many watch it as there may be".to_owned());
            }
            Message::Status { watch } => {
                self.callers.answer(id, &Message::State(self.state()));
                if watch {
                    self.callers.assign(id, Role::Watcher);
                } else {
                    self.callers.dismiss(id);
                }
            }
            Message::Restart => self.asked_to_restart(id, link),
            Message::Await { newer } => self.awaited(id, newer),
            Message::Stop { old } => self.asked_to_stop(id, old, link),
            Message::Attempt(_)
            | Message::State(_)
            | Message::Restarting { .. }
            | Message::Committed { .. }
            | Message::Failed { .. }
            | Message::Gone { .. }
            | Message::Yielded
            | Message::Supervised { .. }
            | Message::Refused { .. } => {
                let why = "this is an answer, and nobody has asked".to_owned();
                self.refuse(id, why);
            }
        }
    }

    fn refuse(&mut self, id: Id, why: String) {
        self.callers.answer(id, &Message::Refused { why });
        self.callers.dismiss(id);
    }

    /// A newer generation's keeper has come.
    fn attached(&mut self, id: Id, generation: u32, link: &mut Link) {
        if self.supervised {
            // It can hold the lock only if the lock file was removed under us (R19).
            let why = self.words_on_holding();
            self.callers.answer(id, &Message::Supervised { why });
            return self.callers.dismiss(id);
        }
        // One without a number only says that it has failed.
        let comes = generation > 0;
        let mut state = self.state();
        let process = self.daemon.identity.open().ok().flatten();
        let held = self.sockets.to_hand_over().filter(|_| comes);
        let (labels, sockets): (Vec<_>, Vec<_>) = held.unzip();
        if let Some(own) = state.generations.first_mut() {
            own.sockets = labels.into_iter().cloned().collect();
        }
        let daemon = process.as_ref().map(AsFd::as_fd);
        let passed: Vec<_> = daemon.into_iter().chain(sockets).collect();
        self.callers
            .answer_with(id, &Message::State(state), &passed);
        self.apply(Event::SuccessorAttached, link);
        if comes {
            self.pass_waiting_on();
        }
    }

    /// R16: a successor's keeper has gone without a commit.
    pub(super) fn successor_lost(
        &mut self,
        generation: u32,
        attempt: Option<Attempt>,
        link: &mut Link,
    ) {
        if self.supervised {
            // It was refused.
            return;
        }
        // One that failed before it had a number would have had the next.
        let generation = generation.max(self.number + 1);
        let another = match attempt {
            Some(Attempt::Failed { why }) => {
                let failure = Failure {
                    generation,
                    why,
                    ago: Duration::ZERO,
                };
                self.failure = Some((failure, self.clock.now()));
                self.changed = true;
                true
            }
            Some(Attempt::Withdrawn { restart }) => restart,
            // Somebody has killed it without a word.
            None => false,
        };
        if !self.callers.has_successor() {
            let another = another && self.can_be_found();
            self.apply(Event::SuccessorLost { another }, link);
            if self.holds() {
                // It had the lock when the daemon ended.
                self.hold();
                self.show_where_nobody_is();
            }
        }
    }

    /// Whoever waits for good has to be found by its successor (R16).
    pub(super) fn watch_directory(&mut self) {
        let for_good = matches!(
            self.phase,
            Phase::Standby {
                patience: Patience::ForGood | Patience::Wanted,
                ..
            } | Phase::Holding { until: None }
        );
        if !for_good {
            self.directory_watch = None;
        } else if self.directory_watch.is_none() {
            match DirectoryWatch::open(&self.files) {
                Ok(watch) => self.directory_watch = Some(watch),
                Err(error) => self.report.warn(&format!(
                    "cannot watch {}: {}; its end would not be seen",
                    self.files.directory().display(),
                    cause(&error)
                )),
            }
        }
    }

    pub(super) fn directory_has_gone(&self, changes: Changes) -> bool {
        changes.removal && self.directory_watch.is_some() && !self.can_be_found()
    }

    /// Whether the directory is there in which we have our files, and not another one (R16).
    pub(super) fn can_be_found(&self) -> bool {
        self.home.is_some() && self.files.home() == self.home
    }

    /// R19: another supervisor's newcomer has found the lock held.
    fn asked_to_yield(&mut self, id: Id, link: &mut Link) {
        let orphan = process::is_orphan(self.kin.launcher, self.kin.supervisor);
        if self.supervised && !orphan {
            let why = self.words_on_holding();
            self.callers.answer(id, &Message::Supervised { why });
        } else {
            if self.supervised {
                let reception = self.daemon.reception(self.service.prepare_signal);
                self.apply(Event::Orphaned(reception), link);
            }
            self.callers.answer(id, &Message::Yielded);
        }
        self.callers.dismiss(id);
    }

    fn asked_to_restart(&mut self, id: Id, link: &mut Link) {
        match self.phase {
            Phase::Starting { .. }
            | Phase::Serving { .. }
            | Phase::Preparing { .. }
            | Phase::Parting { .. } => match self.wishes.ask_followed(self.clock.now()) {
                Some(followed) => self.restart_if(followed, id, link),
                None => self.to_restart.push(id),
            },
            // The supervisor has seen the launcher leave, and a newcomer is to be expected.
            Phase::Standby { .. } | Phase::Holding { .. } => {
                let failed = self.failure.as_ref().map(|(failure, _)| failure.generation);
                let generation = failed.unwrap_or_default().max(self.number);
                self.callers.assign(id, Role::Waiter { newer: generation });
                self.callers.answer(id, &Message::Restarting { generation });
                self.restart(true, link);
            }
            // Another attempt is due.
            Phase::Stopping {
                why: Why::Restart | Why::NotReady,
                ..
            }
            | Phase::Killing {
                launcher: Some(Why::Restart | Why::NotReady),
            } => {
                let generation = self.number;
                self.callers.assign(id, Role::Waiter { newer: generation });
                self.callers.answer(id, &Message::Restarting { generation });
            }
            Phase::Draining { .. }
            | Phase::Stopping { why: Why::Stop, .. }
            | Phase::Killing {
                launcher: Some(Why::Stop) | None,
            }
            | Phase::Lingering { .. } => {
                self.refuse(id, format!("{} is being stopped", self.name()));
            }
            // Not refused: why it has ended is no word on the service.
            Phase::Gone => self.callers.dismiss(id),
        }
    }

    /// Somebody wants a restart for certain; whether there would be a successor is known by now.
    pub(super) fn restart_if(&mut self, followed: Result<(), String>, id: Id, link: &mut Link) {
        let asked = matches!(
            self.phase,
            Phase::Starting { .. }
                | Phase::Serving { .. }
                | Phase::Preparing { .. }
                | Phase::Parting { .. }
        );
        match followed {
            Err(why) => self.refuse(id, why),
            // A newcomer that has come meanwhile is what was wanted.
            Ok(()) if asked || self.callers.has_successor() => {
                let generation = self.number;
                self.callers.assign(id, Role::Waiter { newer: generation });
                self.callers.answer(id, &Message::Restarting { generation });
                self.restart(true, link);
                self.pass_waiting_on();
            }
            // It has become something else meanwhile.
            Ok(()) => self.asked_to_restart(id, link),
        }
    }

    /// What a newcomer will know, and not this generation.
    fn pass_waiting_on(&mut self) {
        for (caller, wish) in self.callers.to_pass_on() {
            self.callers.pass_on(caller, &wish);
        }
    }

    /// A final stop: the restart that somebody waits for will not come.
    pub(super) fn refuse_waiters(&mut self) {
        let why = format!("{} is being stopped", self.name());
        let refused = Message::Refused { why };
        self.callers
            .dismiss_with(&refused, |role| matches!(role, Role::Waiter { .. }));
    }

    fn awaited(&mut self, id: Id, newer: u32) {
        let failed = self.failure.as_ref().map(|(failure, _)| failure);
        if self.number > newer && self.has_committed() {
            self.callers.answer(id, &self.committed());
            self.callers.dismiss(id);
        } else if let Some(failure) = failed.filter(|failure| failure.generation > newer) {
            let answer = Message::Failed {
                generation: failure.generation,
                why: failure.why.clone(),
            };
            self.callers.answer(id, &answer);
            self.callers.dismiss(id);
        } else if self.ends_for_good() {
            self.refuse(id, format!("{} is being stopped", self.name()));
        } else {
            self.callers.assign(id, Role::Waiter { newer });
        }
    }

    pub(super) fn has_committed(&self) -> bool {
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

    /// The daemon has died, and its sockets are left.
    pub(super) fn holds(&self) -> bool {
        matches!(self.phase, Phase::Holding { .. })
    }

    fn committed(&self) -> Message {
        Message::Committed {
            generation: self.number,
            daemon: self.daemon.pid(),
        }
    }

    fn waits_for_us(&self) -> impl Fn(&Role) -> bool + use<> {
        let number = self.number;
        move |role| matches!(role, Role::Waiter { newer } if *newer < number)
    }

    pub(super) fn tell_of_commit(&mut self) {
        let committed = self.committed();
        self.callers.dismiss_with(&committed, self.waits_for_us());
    }

    /// This generation will not serve: says so to its predecessors, and to those who wait for it.
    pub(super) fn end_attempt(&mut self, end: AttemptEnd) {
        let why = match end {
            AttemptEnd::Died(ending) => self.words_on_failure(ending),
            AttemptEnd::NotReady => self.words_on_lateness(),
            AttemptEnd::Withdrawn { explicit } => {
                let withdrawn = Attempt::Withdrawn { restart: explicit };
                self.predecessors.tell_attempt(&withdrawn);
                return;
            }
        };
        let failed = Message::Failed {
            generation: self.number,
            why: why.clone(),
        };
        // For whoever asks later, where this keeper stays for the sockets.
        let failure = Failure {
            generation: self.number,
            why: why.clone(),
            ago: Duration::ZERO,
        };
        self.failure = Some((failure, self.clock.now()));
        self.predecessors.tell_attempt(&Attempt::Failed { why });
        self.callers.dismiss_with(&failed, self.waits_for_us());
    }

    fn asked_to_stop(&mut self, id: Id, old: bool, link: &mut Link) {
        self.callers.assign(id, Role::Stopper { old });
        if old {
            let within = self.service.policy.stop_timeout;
            let now = self.clock.now();
            self.predecessors.end(within, true, now, &self.report);
            if matches!(self.phase, Phase::Draining { .. }) {
                self.stop(link);
            } else if !self.predecessors.any_drains() {
                self.callers.dismiss(id);
            }
        } else {
            if self.holds() {
                self.callers.answer(id, &self.gone(HELD_NO_MORE.to_owned()));
            }
            self.stop(link);
        }
    }

    fn gone(&self, how: String) -> Message {
        Message::Gone {
            generation: self.number,
            daemon: self.daemon.pid(),
            how,
        }
    }

    /// To be called before the machine learns of it.
    pub(super) fn tell_of_our_end(&mut self, ending: Ending) {
        let gone = self.gone(self.words_on_end(ending));
        self.callers.tell(&gone, |role| {
            matches!(role, Role::Successor { .. } | Role::Stopper { .. })
        });
    }

    pub(super) fn hear_of_predecessors(&mut self, news: Vec<News>, link: &mut Link) {
        for one in news {
            match one {
                News::Changed => {
                    self.changed = true;
                    if self.predecessors.one_is_ready() {
                        self.apply(Event::PredecessorReady, link);
                    }
                }
                News::Drains => self.mark_draining(&[]),
                News::Died => {
                    self.changed = true;
                    // From now on its PID may become a stranger's.
                    self.forget_predecessors();
                }
                News::Holds => {
                    self.changed = true;
                    let committed = self.has_committed();
                    self.relieve_holders(committed);
                }
                News::Passed(request, caller) => {
                    if let Ok(Some(id)) = self.callers.add_passed(caller) {
                        self.requested(id, request, link);
                    }
                }
                News::KeeperLost { number, pid } => {
                    self.report.warn(&format!(
                        "the keeper of generation {number} (pid {pid}) is gone; this one sees to it that it ends"
                    ));
                    self.changed = true;
                    self.show_where_nobody_is();
                }
                News::Ended { number, pid, how } => {
                    let how = how.unwrap_or_else(|| {
                        "its exit status is not known: its keeper was lost".to_owned()
                    });
                    let gone = Message::Gone {
                        generation: number,
                        daemon: pid,
                        how,
                    };
                    self.callers
                        .tell(&gone, |role| matches!(role, Role::Stopper { .. }));
                    if !self.predecessors.any_drains() {
                        self.callers
                            .dismiss_all(|role| *role == Role::Stopper { old: true });
                    }
                    self.changed = true;
                    // It might have held sockets until now.
                    self.forget_predecessors();
                    self.show_where_nobody_is();
                }
            }
        }
    }

    /// §6: the path of the control socket belongs to the serving generation while its keeper lives.
    pub(super) fn show_where_nobody_is(&self) {
        let ended = matches!(self.phase, Phase::Lingering { .. } | Phase::Gone);
        let may = self.lock.is_some() || self.holds();
        if may && !ended && !self.predecessors.one_is_shown() {
            self.show_socket();
        }
    }

    pub(super) fn tell_watchers(&mut self) {
        if std::mem::take(&mut self.changed) {
            let state = Message::State(self.state());
            // A watcher looks for whoever is there next.
            let ended = self.phase == Phase::Gone;
            self.callers.tell(&state, |role| {
                matches!(role, Role::Successor { .. }) || (*role == Role::Watcher && !ended)
            });
        }
    }

    fn state(&self) -> State {
        let now = self.clock.now();
        let own = Standing {
            number: self.number,
            phase: self.phase_word().to_owned(),
            ready: self.said_ready,
            supervised: self.supervised,
            daemon: Some(self.daemon.identity).filter(|_| !self.holds()),
            keeper: Some(self.identity),
            launcher: Some(self.kin.launcher).filter(|_| self.supervised),
            control: Some(self.listener.number()),
            age: now.saturating_duration_since(self.since),
            deadline: self.deadline_ahead(now),
            command: self.service.command.line.clone(),
            // A text of 8 kB would be one of many in one message.
            status: self.status_to_show().chars().take(SHOWN).collect(),
            sockets: self.sockets.labels(),
        };
        let failure = self.failure.as_ref().map(|(failure, when)| Failure {
            ago: failure.ago + now.saturating_duration_since(*when),
            ..failure.clone()
        });
        State {
            generations: std::iter::once(own)
                .chain(self.predecessors.standings(now))
                .take(MOST)
                .collect(),
            failure,
        }
    }

    /// What the daemon says of itself, or what is to be said of it.
    fn status_to_show(&self) -> String {
        match (self.phase, self.what_is_missing()) {
            (Phase::Starting { .. }, Some(missing)) if self.status.is_empty() => {
                format!("it waits for {missing}")
            }
            _ => self.status.clone(),
        }
    }

    fn phase_word(&self) -> &'static str {
        match self.phase {
            Phase::Starting { .. } => "starting",
            Phase::Serving { .. } => "serving",
            Phase::Preparing { .. } | Phase::Parting { .. } => "preparing",
            Phase::Standby { .. } => "standby",
            Phase::Holding { .. } => "holding",
            Phase::Draining { .. } => "draining",
            Phase::Stopping { .. } | Phase::Lingering { .. } => "stopping",
            Phase::Killing { .. } => "killing",
            Phase::Gone => "gone",
        }
    }

    /// What the phase's deadline will bring.
    fn deadline_ahead(&self, now: Instant) -> Option<Deadline> {
        let moment = self.phase.deadline();
        let (what, moment) = match self.phase {
            Phase::Starting { waits, .. } => waits.ahead()?,
            Phase::Preparing { ready: true, .. } => ("detach", moment?),
            Phase::Preparing { ready: false, .. } => ("stop", moment?),
            Phase::Standby { .. } => ("drain", moment?),
            Phase::Holding { .. } => ("close", moment?),
            Phase::Draining { .. } | Phase::Stopping { .. } => ("kill", moment?),
            Phase::Serving { .. }
            | Phase::Parting { .. }
            | Phase::Killing { .. }
            | Phase::Lingering { .. }
            | Phase::Gone => return None,
        };
        Some(Deadline {
            what: what.to_owned(),
            left: moment.saturating_duration_since(now),
        })
    }
}
