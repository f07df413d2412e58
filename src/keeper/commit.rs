//! What a generation writes when it is ready, and takes back when it ends (R11, R21).

use anyhow::{Result, bail};

use super::Keeper;
use crate::files::{Disbelief, Entry, Found, Lock, Record, State, Taken};
use crate::signals::Signal;

impl Keeper {
    /// R11: the PID file, then the predecessors. What cannot be written is said, and the daemon
    /// serves all the same (R4).
    pub(super) fn commit(&mut self) {
        self.pid_file_watch = None;
        self.report.note(&self.words_on_commit());
        self.predecessors.forget_dead();
        let written = self.with_lock(|keeper, lock| {
            if keeper.files.found() != Found::Pid(keeper.daemon.pid()) {
                keeper.files.write_pid(lock, keeper.daemon.pid())?;
            }
            // A daemon whose life was taken for readiness never said it, and so the next one
            // cannot be waited for either (R13).
            let own = if keeper.said_ready {
                State::Ready
            } else {
                State::Starting
            };
            let mut record = keeper.record()?;
            record
                .generations
                .retain(|entry| entry.daemon != keeper.daemon.identity);
            record.retain_living();
            record.generations.push(keeper.entry(own));
            keeper.files.write_record(lock, &record)
        });
        self.commit_failure = match written {
            Ok(Some(())) => None,
            Ok(None) => Some("a successor has taken over already".to_owned()),
            Err(error) => Some(format!("{error:#}; a successor may not find this daemon")),
        };
        if let Some(failure) = &self.commit_failure {
            self.report.warn(failure);
        }
        self.drain_predecessors();
    }

    pub(super) fn drain_predecessors(&mut self) {
        let told = self.told_by_daemon;
        let deaf = self.predecessors.drain(Signal::TERM, told, &self.report);
        self.mark_draining(|entry| {
            entry.number != self.number && !deaf.contains(&entry.daemon.pid)
        });
    }

    /// Records who was told to drain, after they were: should this keeper be killed in between, a
    /// second signal is the lesser evil than a predecessor that serves for ever.
    pub(super) fn mark_draining(&self, told: impl Fn(&Entry) -> bool) {
        let marked = self.with_lock(|keeper, lock| {
            let mut record = keeper.files.read_record().unwrap_or_default();
            let mut changed = false;
            for entry in record.generations.iter_mut().filter(|entry| told(entry)) {
                changed |= entry.state != State::Draining;
                entry.state = State::Draining;
            }
            if changed {
                keeper.files.write_record(lock, &record)
            } else {
                Ok(())
            }
        });
        if let Err(error) = marked {
            self.report
                .warn(&format!("{error:#}; who drains may be told so once more"));
        }
    }

    /// R21: takes back what this generation wrote, unless it is a successor's by now.
    pub(super) fn clean_up(&mut self) {
        self.forget(Some(self.daemon.pid()));
        self.lock = None;
    }

    /// Takes older generations out of the record that have gone. Their own keepers could not: the
    /// files are this one's to write while it is supervised.
    pub(super) fn forget_predecessors(&self) {
        if self.lock.is_some() {
            self.forget(None);
        }
    }

    /// Leaves out of the record whoever has gone, and with them the PID file that names one. `own`:
    /// our daemon is among them, whether or not the record, which somebody may have removed, has it.
    fn forget(&self, own: Option<i32>) {
        let forgotten = self.with_lock(|keeper, lock| {
            let mut record = keeper.record()?;
            let mut dead: Vec<i32> = own.into_iter().collect();
            record.generations.retain(|entry| {
                let stays = if entry.daemon == keeper.daemon.identity {
                    own.is_none()
                } else {
                    entry.daemon.is_alive()
                };
                dead.extend((!stays).then_some(entry.daemon.pid));
                stays
            });
            if dead
                .iter()
                .any(|pid| keeper.files.found() == Found::Pid(*pid))
            {
                keeper.files.remove_pid_file(lock)?;
            }
            keeper.files.write_record(lock, &record)
        });
        if let Err(error) = forgotten {
            self.report
                .warn(&format!("{error:#}; a stale file may be left there"));
        }
    }

    /// Does it while holding the lock; `None` if a successor has it.
    fn with_lock<T>(&self, write: impl FnOnce(&Keeper, &Lock) -> Result<T>) -> Result<Option<T>> {
        if let Some(lock) = &self.lock {
            return write(self, lock).map(Some);
        }
        match self.files.take_lock()? {
            Taken::Lock(lock) => write(self, &lock).map(Some),
            Taken::Supervised(_) | Taken::Held => Ok(None),
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

    pub(super) fn entry(&self, state: State) -> Entry {
        Entry {
            number: self.number,
            state,
            daemon: self.daemon.identity,
            keeper: Some(self.identity),
            launcher: Some(self.launcher),
            unknown: Vec::new(),
        }
    }
}
