//! What a generation writes when it is ready, and takes back when it ends (R11, R21).

use std::time::Duration;

use anyhow::{Result, bail};

use super::Keeper;
use crate::files::{Begun, Disbelief, Entry, Found, Lock, Record, State, Taken};
use crate::generation::{Patience, Phase, Why};
use crate::ready::Readiness;

/// Of a file that cannot be written while the daemon runs (R4).
const CONSEQUENCE: &str = "until it can be, a successor may not find this daemon, nor another keeper go on where this one is";

/// R21: a detached keeper does not wait for a lock that a successor holds, only for another that
/// cleans up. (A newcomer that waits for this one holds it, too.)
const PATIENCE: Duration = Duration::from_millis(500);
/// Of one that cannot be removed.
const LEFT_BEHIND: &str = "it is left there, and names a process that has gone";

impl Keeper {
    /// R11: the files, then the predecessors. What cannot be written is said, and the daemon
    /// serves all the same (R4).
    pub(super) fn commit(&mut self) {
        let words = self.words_on_commit();
        self.take_the_place(Some(&words));
    }

    /// What a commit writes and says, with these words for people; it may be done twice (R20).
    pub(super) fn take_the_place(&mut self, words: Option<&str>) {
        let written = self.with_lock(|keeper, lock| {
            // The record first: whoever is named by the PID file is known to be ready (R20).
            let mut record = keeper.record()?;
            record.retain_living();
            keeper.enter(&mut record);
            keeper.files.write_record(lock, &record)?;
            if keeper.files.found() != Found::Pid(keeper.daemon.pid()) {
                keeper.files.write_pid(lock, keeper.daemon.pid())?;
            }
            keeper.files.show(lock, &keeper.listener)
        });
        self.commit_failure = match written {
            Ok(Some(())) => None,
            // A successor has come, and its commit is the one that counts; this daemon serves until
            // then.
            Ok(None) => return,
            Err(error) => Some(format!("{error:#}; {CONSEQUENCE}")),
        };
        // Not before: from now on another keeper knows it, too.
        if let Some(words) = words {
            self.report.note(words);
        }
        self.commit_sockets();
        self.relieve_holders(true);
        self.failure = None;
        if let Some(failure) = self.commit_failure.clone() {
            self.warn_of_writing(&failure);
        } else {
            self.write_failed = false;
        }
        let told = self.told_by_daemon;
        let deaf = self
            .predecessors
            .drain(told, self.clock.now(), &self.report);
        self.mark_draining(&deaf);
        self.tell_of_commit();
    }

    /// Records who was told to finish, after they were: should this keeper be killed in between, a
    /// second signal is the lesser evil than a predecessor that serves for ever. One whose keeper has not
    /// said that it has told it may be killed with that keeper, and would not know.
    pub(super) fn mark_draining(&mut self, deaf: &[i32]) {
        let now = self.clock.now();
        let marked = self.with_lock(|keeper, lock| {
            let mut record = keeper.record_now()?;
            let mut changed = false;
            for entry in &mut record.generations {
                let told = keeper.predecessors.was_told(entry.daemon, now);
                if let Some(until) = told
                    .filter(|_| entry.state != State::Draining && !deaf.contains(&entry.daemon.pid))
                {
                    entry.state = State::Draining;
                    entry.until = until.map(|until| keeper.clock.as_boot_time(until));
                    changed = true;
                }
            }
            if changed {
                keeper.files.write_record(lock, &record)
            } else {
                Ok(())
            }
        });
        if let Err(error) = marked {
            self.warn_of_writing(&format!("{error:#}; {CONSEQUENCE}"));
        }
    }

    /// R20: what another keeper would have to go on with, should this one be lost.
    pub(super) fn record_phase(&mut self) {
        if !self.is_recorded() {
            return;
        }
        let recorded = self.with_lock(|keeper, lock| {
            let mut record = keeper.record()?;
            let before = record.clone();
            keeper.enter(&mut record);
            if record == before {
                return Ok(());
            }
            keeper.files.write_record(lock, &record)
        });
        match recorded {
            Ok(_) => self.write_failed = false,
            Err(error) => self.warn_of_writing(&format!("{error:#}; {CONSEQUENCE}")),
        }
    }

    /// Once, until writing works again: a full disk is full for all of them.
    fn warn_of_writing(&mut self, words: &str) {
        if !std::mem::replace(&mut self.write_failed, true) {
            self.report.warn(words);
        }
    }

    /// Before the first commit it is shown only where nobody else is.
    pub(super) fn show_socket(&self) {
        let shown = self.with_lock(|keeper, lock| keeper.files.show(lock, &keeper.listener));
        if let Err(error) = shown {
            self.report.warn(&format!(
                "{error:#}; status, restart and stop will not find this keeper"
            ));
        }
    }

    /// R18: the PID of a daemon that has ended may become a stranger's.
    pub(super) fn unname(&mut self) {
        if let Err(error) = self.with_lock(Keeper::remove_name) {
            self.warn_of_writing(&format!("{error:#}; {LEFT_BEHIND}"));
        }
    }

    fn remove_name(&self, lock: &Lock) -> Result<()> {
        if self.files.found() == Found::Pid(self.daemon.pid()) {
            self.files.remove_pid_file(lock)?;
        }
        Ok(())
    }

    /// The same, of one whose sockets a successor shall find.
    pub(super) fn hold(&mut self) {
        let held = self.with_lock(|keeper, lock| {
            // First what needs no room on the disk.
            keeper.remove_name(lock)?;
            let mut record = keeper.record()?;
            keeper.enter(&mut record);
            keeper.files.write_record(lock, &record)
        });
        if let Err(error) = held {
            self.warn_of_writing(&format!("{error:#}; {CONSEQUENCE}"));
        }
    }

    /// R21: takes back what this generation wrote, unless it is a successor's by now.
    pub(super) fn clean_up(&mut self) {
        self.sockets.close();
        // One that served a moment ago serves, or holds them.
        let served = self.predecessors.any_serves();
        if !self.can_be_found() {
            // Nothing is left there to be taken back, and nobody else can be found there.
            self.sockets.remove_paths(served);
            return;
        }
        if let Some(others) = self.forget(Some(self.daemon.pid())) {
            self.sockets.remove_paths(others || served);
        }
    }

    /// Takes generations out of the record whose keepers have been told to go.
    pub(super) fn forget_generations(&mut self, numbers: &[u32]) {
        if let Err(error) = self.leave_out(numbers) {
            self.warn_of_writing(&format!("{error:#}; {LEFT_BEHIND}"));
        }
    }

    pub(super) fn leave_out(&self, numbers: &[u32]) -> Result<Option<()>> {
        self.with_lock(|keeper, lock| {
            let mut record = keeper.record_now()?;
            let left_out = |entry: &&Entry| numbers.contains(&entry.number);
            // R18: nobody else would compare it with the name of one that has ended.
            let mut dead = record
                .generations
                .iter()
                .filter(left_out)
                .filter(|entry| !entry.daemon_lives());
            if dead.any(|entry| keeper.files.found() == Found::Pid(entry.daemon.pid)) {
                keeper.files.remove_pid_file(lock)?;
            }
            record
                .generations
                .retain(|entry| !numbers.contains(&entry.number));
            keeper.files.write_record(lock, &record)
        })
    }

    /// Takes older generations out of the record that have gone. Their own keepers could not: the
    /// files are this one's to write while it is supervised.
    pub(super) fn forget_predecessors(&mut self) {
        if self.lock.is_some() || self.phase == Phase::Gone {
            let _ = self.forget(None);
        }
    }

    /// Leaves out of the record whoever has gone, and with them the PID file that names one. `own`:
    /// our daemon is among them, whether or not the record, which somebody may have removed, has it.
    /// Says whether a generation is left that serves, or holds sockets; `None` if a successor has the
    /// files.
    fn forget(&mut self, own: Option<i32>) -> Option<bool> {
        let forgotten = self.with_lock(|keeper, lock| {
            let mut record = keeper.record_now()?;
            let mut dead: Vec<i32> = own.into_iter().collect();
            record.generations.retain_mut(|entry| {
                let is_own = entry.daemon == keeper.daemon.identity;
                let ended = !is_own && !entry.daemon_lives();
                let held = keeper.predecessors.may_hold(entry.number);
                if ended && held {
                    entry.state = State::Holding;
                }
                // An older one that held sockets has been told to go, though it may take a moment.
                let is_relieved = entry.state == State::Holding && !held;
                let stays = if is_own {
                    own.is_none()
                } else {
                    entry.is_alive() && !(is_relieved && entry.number < keeper.number)
                };
                dead.extend((ended || !stays).then_some(entry.daemon.pid));
                stays
            });
            if dead
                .iter()
                .any(|pid| keeper.files.found() == Found::Pid(*pid))
            {
                keeper.files.remove_pid_file(lock)?;
            }
            if own.is_some() {
                keeper.files.hide(lock, &keeper.listener)?;
                // What a lost keeper left there, which could not take the lock.
                if keeper.lock.is_some() && !keeper.predecessors.one_is_shown() {
                    keeper.files.remove_socket(lock)?;
                }
            }
            let serves = |entry: &Entry| entry.state != State::Draining;
            let any = record.generations.iter().any(serves);
            keeper.files.write_record(lock, &record).map(|()| any)
        });
        forgotten.unwrap_or_else(|error| {
            self.warn_of_writing(&format!("{error:#}; {LEFT_BEHIND}"));
            None
        })
    }

    /// Does it while holding the lock; `None` if a successor has it.
    fn with_lock<T>(&self, write: impl FnOnce(&Keeper, &Lock) -> Result<T>) -> Result<Option<T>> {
        if let Some(lock) = &self.lock {
            return write(self, lock).map(Some);
        }
        // A newcomer that waits for our answer has it.
        let patience = match self.newcomer_waits {
            true => Duration::ZERO,
            false => PATIENCE,
        };
        match self.files.take_lock(patience)? {
            Taken::Lock(lock) => write(self, &lock).map(Some),
            Taken::Supervised(_) | Taken::Held(_) => Ok(None),
        }
    }

    /// The record as the file has it now.
    fn record(&self) -> Result<Record> {
        let mut record = match self.files.read_record() {
            Ok(record) => record,
            Err(Disbelief::Unreadable(words)) => {
                bail!("the record {} {words}", self.files.record.display())
            }
            Err(Disbelief::Missing | Disbelief::EarlierBoot | Disbelief::Suspicious(_)) => {
                Record::of_this_boot()?
            }
        };
        record.last = record.last.max(self.number);
        Ok(record)
    }

    /// With this generation as it is: what could not be written before is, whatever is to be written now.
    fn record_now(&self) -> Result<Record> {
        let mut record = self.record()?;
        if self.is_recorded() {
            self.enter(&mut record);
        }
        Ok(record)
    }

    /// At the end what was recorded last holds: a stop is being finished.
    fn is_recorded(&self) -> bool {
        self.lock.is_some() && !matches!(self.phase, Phase::Lingering { .. } | Phase::Gone)
    }

    /// Puts this generation into the record, in the place where it was.
    fn enter(&self, record: &mut Record) {
        let entry = self.entry();
        let mut known = record.generations.iter_mut();
        match known.find(|known| known.daemon == entry.daemon) {
            Some(known) => *known = entry,
            None => record.generations.push(entry),
        }
    }

    pub(super) fn entry(&self) -> Entry {
        let ready = if self.said_ready || self.has_committed() {
            State::Ready
        } else {
            State::Starting
        };
        let (state, begun, until) = match self.phase {
            Phase::Starting { .. } => (State::Starting, None, None),
            // The launcher has not been told to leave yet.
            Phase::Standby { patience, .. } if self.supervised => {
                let explicit = patience == Patience::ForGood;
                (ready, Some(begun_for(explicit)), None)
            }
            Phase::Serving { .. } | Phase::Standby { .. } => (ready, None, None),
            Phase::Preparing { explicit, .. } | Phase::Parting { explicit, .. } => {
                (ready, Some(begun_for(explicit)), None)
            }
            Phase::Draining { until, .. } => (State::Draining, None, until),
            Phase::Stopping { until, why } => (State::Draining, Some(begun_by(why)), until),
            Phase::Killing { launcher } => (
                State::Draining,
                launcher.map(begun_by),
                Some(self.clock.now()),
            ),
            Phase::Holding { .. } => (State::Holding, None, None),
            Phase::Lingering { .. } | Phase::Gone => (State::Draining, None, None),
        };
        Entry {
            keeper: Some(self.identity),
            launcher: Some(self.kin.launcher),
            supervisor: self.kin.supervisor,
            control: Some(self.listener.number()),
            notify: Some(self.notify.address().to_owned()),
            voice: self.voice,
            // The next one cannot be waited for either.
            assumed: !self.said_ready && self.has_committed(),
            begun,
            until: until.map(|until| self.clock.as_boot_time(until)),
            met: self
                .readiness
                .as_ref()
                .map_or_else(Vec::new, Readiness::met),
            drain: self.service.drain,
            sockets: self.sockets.labels(),
            ..Entry::new(self.number, self.daemon.identity, state)
        }
    }
}

/// A restart; for certain, or perhaps a stop (R16).
fn begun_for(explicit: bool) -> Begun {
    if explicit {
        Begun::Restarting
    } else {
        Begun::Preparing
    }
}

fn begun_by(why: Why) -> Begun {
    match why {
        Why::Stop => Begun::Stopping,
        Why::Restart | Why::NotReady => Begun::Ending,
    }
}
