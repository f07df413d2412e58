//! How a new generation takes hold of the files, and what it makes of what it finds (R5, R18, R19).
#![deny(clippy::wildcard_enum_match_arm)]

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::{Disbelief, Entry, Files, Found, Hand, Lock, Record, State, hands_on};
use crate::control::{Message, Received, connect_to_keeper};
use crate::predecessors::ANSWER;
use crate::process::{self, Identity};
use crate::report::Report;
use crate::signals::Signal;

/// The longest that anyone but a supervised generation's keeper has a reason to hold the lock.
pub(crate) const CLEANING: Duration = Duration::from_secs(2);

/// The files are this generation's to write.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) lock: Lock,
    /// The living generations, oldest first, and the new one's number as the last.
    pub(crate) record: Record,
}

/// What became of a wish for the lock.
#[derive(Debug)]
pub(crate) enum Taken {
    Lock(Lock),
    /// A generation with a living launcher has it.
    Supervised(Entry),
    /// Somebody has it; perhaps the newest generation whose keeper lives.
    Held(Option<Entry>),
}

impl Files {
    pub(crate) fn claim(&self, report: &Report) -> Result<Claim> {
        let lock = match self.take_lock_of_a_service()? {
            Taken::Lock(lock) => lock,
            Taken::Supervised(holder) | Taken::Held(Some(holder)) => {
                self.succeed(&holder, report)?
            }
            Taken::Held(None) => bail!(
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
        record.last = record.last.max(lock.last());
        record.last = record.next();
        lock.remember(record.last);
        record.retain_what_may_be_left();
        // A file that is not ours to remove shall be told before anybody is disturbed.
        self.judge_pid_file(&lock, &record, report)?;
        Ok(Claim { lock, record })
    }

    /// A start cannot know whether the directory is the one that it was at the last.
    pub(crate) fn warn_of_other_hands(&self, report: &Report) {
        let own = nix::unistd::geteuid().as_raw();
        let mut hands = hands_on(self.directory()).into_iter();
        if let Some(Hand {
            path,
            owner,
            is_open,
        }) = hands.find(|hand| hand.is_foreign_to(own))
        {
            let who = if is_open {
                "anybody".to_owned()
            } else {
                format!("user {owner}")
            };
            report.warn(&format!(
                "{who} can write in {}, and so take these files away or have others written elsewhere; use a PID file to which only root's directories lead",
                path.display()
            ));
        }
    }

    /// As [`Files::take_lock`]; but a launcher that has lost its keeper, and is about to fork another
    /// (R20), is left the time for that.
    fn take_lock_of_a_service(&self) -> Result<Taken> {
        let begin = Instant::now();
        loop {
            let taken = self.take_lock(CLEANING)?;
            let Taken::Lock(lock) = taken else {
                return Ok(taken);
            };
            let Some(holder) = self.without_keeper() else {
                return Ok(Taken::Lock(lock));
            };
            drop(lock);
            if begin.elapsed() > CLEANING {
                return Ok(Taken::Supervised(holder));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// A generation whose launcher lives, under its supervisor, and whose keeper was lost.
    fn without_keeper(&self) -> Option<Entry> {
        let record = self.read_record().ok()?;
        let mut newest_first = record.generations.into_iter().rev();
        newest_first
            .find(|entry| lives(entry.launcher) && !entry.is_orphan() && !lives(entry.keeper))
    }

    /// The lock, if it can be had within a moment.
    pub(crate) fn take_lock(&self, patience: Duration) -> Result<Taken> {
        let begin = Instant::now();
        loop {
            if let Some(lock) = Lock::try_take(&self.lock)? {
                return Ok(Taken::Lock(lock));
            }
            if let Some(holder) = self.newest_with(|entry| lives(entry.launcher)) {
                return Ok(Taken::Supervised(holder));
            }
            // A keeper whose daemon has gone holds it for a moment, to clean up (R21). flock has
            // no wait with an end, so this one looks again; it is rare, and soon over.
            if begin.elapsed() > patience {
                return Ok(Taken::Held(self.newest_with(|_| true)));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// R19: takes over from a holder whose supervisor has died.
    fn succeed(&self, holder: &Entry, report: &Report) -> Result<Lock> {
        match self.ask_to_yield(holder) {
            Some(Message::Yielded) => {}
            Some(Message::Supervised { why } | Message::Refused { why }) => bail!("{why}"),
            _ if !holder.is_orphan() => bail!(
                "{} is supervised already: {}; stop that one first, or name another PID file",
                self.pid_file.display(),
                holder.name()
            ),
            _ => {
                report.warn(&format!(
                    "{} has no supervisor, and its keeper does not answer: it is killed, and its daemon is taken over",
                    holder.name()
                ));
                // The launcher first: it would start another keeper.
                for identity in [holder.launcher, holder.keeper].into_iter().flatten() {
                    if let Some(process) = identity.open()? {
                        process.send(Signal::KILL)?;
                    }
                }
            }
        }
        match self.take_lock(CLEANING)? {
            Taken::Lock(lock) => Ok(lock),
            Taken::Supervised(_) | Taken::Held(_) => bail!(
                "the lock {} was not let go; another launcher may have been faster",
                self.lock.display()
            ),
        }
    }

    /// The holder's answer, if it comes in time (R11). It may be given by the holder's newcomer.
    fn ask_to_yield(&self, holder: &Entry) -> Option<Message> {
        let by_number = || connect_to_keeper(holder.keeper?, holder.control?).ok();
        let connection = self.connect().ok().or_else(by_number)?;
        connection.send(&Message::Yield).ok()?;
        if !connection.wait(Some(Instant::now() + ANSWER)) {
            return None;
        }
        match connection.receive() {
            Received::Message(answer, _) => Some(answer),
            Received::Unreadable(_) | Received::NothingYet | Received::End => None,
        }
    }

    /// The newest such generation with a living keeper, by the record.
    fn newest_with(&self, such: impl Fn(&Entry) -> bool) -> Option<Entry> {
        let record = self.read_record().ok()?;
        let mut newest_first = record.generations.into_iter().rev();
        newest_first.find(|entry| lives(entry.keeper) && such(entry))
    }

    /// A daemon may read the PID file and believe it, the seed's way; so what the record does not
    /// vouch for goes before one is started (R5, R18). Gives the daemon that it names otherwise.
    pub(crate) fn judge_pid_file(
        &self,
        lock: &Lock,
        record: &Record,
        report: &Report,
    ) -> Result<Option<i32>> {
        let path = self.pid_file.display();
        match self.found() {
            Found::Nothing => return Ok(None),
            Found::Pid(pid) => {
                let known = record.generations.iter().find(|entry| entry.daemon.pid == pid);
                match known.map(|entry| entry.state) {
                    Some(State::Starting | State::Ready) => return Ok(Some(pid)),
                    Some(State::Draining | State::Holding) => {}
                    None => report.warn(&format!(
                        "removing the stale PID file {path}: no living generation has pid {pid}; nobody is signalled"
                    )),
                }
            }
            Found::Empty => report.warn(&format!("removing the empty PID file {path}; nobody is signalled")),
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

fn lives(identity: Option<Identity>) -> bool {
    identity.is_some_and(Identity::is_alive)
}

impl Entry {
    fn name(&self) -> String {
        let pid = |identity: Option<Identity>| identity.map_or(0, |identity| identity.pid);
        format!(
            "generation {} (pid {}, under launcher {} and keeper {})",
            self.number,
            self.daemon.pid,
            pid(self.launcher),
            pid(self.keeper)
        )
    }

    /// Its launcher has gone, or has another parent than at its start.
    fn is_orphan(&self) -> bool {
        match self.launcher {
            Some(launcher) => process::is_orphan(launcher, self.supervisor),
            None => true,
        }
    }
}
