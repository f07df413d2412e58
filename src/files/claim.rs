//! How a new generation takes hold of the files, and what it makes of what it finds (R5, R18, R19).
#![deny(clippy::wildcard_enum_match_arm)]

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::{Disbelief, Entry, Files, Found, Lock, Record, State};
use crate::process::Identity;
use crate::report::Report;

/// The longest that anyone but a supervised generation's keeper has a reason to hold the lock.
const CLEANING: Duration = Duration::from_secs(2);

/// The files are this generation's to write.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) lock: Lock,
    /// The living generations, oldest first, and the new one's number as the last.
    pub(crate) record: Record,
    /// The daemon that the PID file names, if a living generation has it.
    pub(crate) named: Option<i32>,
}

/// What became of a wish for the lock.
#[derive(Debug)]
pub(crate) enum Taken {
    Lock(Lock),
    /// A supervised generation has it.
    Supervised(Entry),
    /// Somebody has it whom no record names.
    Held,
}

impl Files {
    pub(crate) fn claim(&self, report: &Report) -> Result<Claim> {
        let lock = match self.take_lock()? {
            Taken::Lock(lock) => lock,
            Taken::Supervised(holder) => bail!(
                "{} is supervised already: generation {} (pid {}), {}; stop that one first, or name another PID file",
                self.pid_file.display(),
                holder.number,
                holder.daemon.pid,
                holder.parents()
            ),
            Taken::Held => bail!(
                "the lock {} is held by a process that no record names; stop that one first, or name another PID file",
                self.lock.display()
            ),
        };
        let mut record = match self.read_record() {
            Ok(record) => record,
            Err(disbelief) => {
                if let Disbelief::Suspicious(words) | Disbelief::Unreadable(words) = disbelief {
                    report.warn(&format!(
                        "the record {} {words}; it is not believed, and nobody that it names is signalled",
                        self.record.display()
                    ));
                }
                Record::of_this_boot()?
            }
        };
        record.last = record.next();
        record.retain_living();
        let named = self.judge_pid_file(&lock, &record, report)?;
        Ok(Claim {
            lock,
            record,
            named,
        })
    }

    /// The lock, if it can be had within a moment.
    pub(crate) fn take_lock(&self) -> Result<Taken> {
        let begin = Instant::now();
        loop {
            if let Some(lock) = Lock::try_take(&self.lock)? {
                return Ok(Taken::Lock(lock));
            }
            if let Some(holder) = self.supervised() {
                return Ok(Taken::Supervised(holder));
            }
            // A keeper whose daemon has gone holds it for a moment, to clean up (R21). flock has
            // no wait with an end, so this one looks again; it is rare, and soon over.
            if begin.elapsed() > CLEANING {
                return Ok(Taken::Held);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The generation that has a living launcher, by the record.
    fn supervised(&self) -> Option<Entry> {
        let record = self.read_record().ok()?;
        let lives = |identity: Option<Identity>| identity.is_some_and(Identity::is_alive);
        record
            .generations
            .into_iter()
            .rev()
            .find(|entry| lives(entry.keeper) && lives(entry.launcher))
    }

    /// A daemon may read the PID file and believe it, the seed's way; so what the record does not
    /// vouch for goes before one is started (R5, R18).
    fn judge_pid_file(&self, lock: &Lock, record: &Record, report: &Report) -> Result<Option<i32>> {
        let path = self.pid_file.display();
        match self.found() {
            Found::Nothing => return Ok(None),
            Found::Pid(pid) => {
                let known = record.generations.iter().find(|entry| entry.daemon.pid == pid);
                match known.map(|entry| entry.state) {
                    Some(State::Starting | State::Ready) => return Ok(Some(pid)),
                    Some(State::Draining) => {}
                    None => report.warn(&format!(
                        "removing the stale PID file {path}: no living generation has pid {pid}; nobody is signalled"
                    )),
                }
            }
            Found::Empty => report.warn(&format!("removing the empty PID file {path}")),
            Found::Link => report.warn(&format!(
                "removing the symbolic link {path}: a PID file is written in its place; nobody is signalled"
            )),
            Found::Other(words) => {
                bail!("the PID file {path} {words}; remove it, or name another file")
            }
        }
        self.remove_pid_file(lock)?;
        Ok(None)
    }
}

impl Entry {
    fn parents(&self) -> String {
        let pid = |identity: Option<Identity>| identity.map_or(0, |identity| identity.pid);
        format!(
            "under launcher {} and keeper {}",
            pid(self.launcher),
            pid(self.keeper)
        )
    }
}
