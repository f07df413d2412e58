//! The sockets of older generations: handed over by their keepers, or, where a keeper was lost,
//! fetched from the daemon itself (R11, R20).

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use super::one::{Errand, Predecessor};
use super::{ANSWER, Holder, Predecessors, kill_keeper};
use crate::control::Message;
use crate::events;
use crate::files::State;
use crate::listen::{self, Handed, Label, Wanted, fetch};
use crate::report::{Report, cause};

/// The stop timeout, by default.
const USUAL: Duration = Duration::from_secs(30);

impl Predecessors {
    /// What the keepers handed over, the newest generations' first.
    pub(crate) fn take_sockets(&mut self) -> impl Iterator<Item = Handed> {
        let handed = std::mem::take(&mut self.handed);
        handed.into_iter().map(|(_, handed)| handed)
    }

    /// Whether it is one of theirs that answers at a path: what lies there is recorded, or the process
    /// with that PID, which listened, is a daemon or its keeper.
    pub(crate) fn answer_at(&self, path: &Path, pid: i32) -> bool {
        let listens = |one: &Predecessor| {
            let keeper = one.keeper.map(|keeper| keeper.pid);
            one.process.pid == pid || keeper == Some(pid)
        };
        self.all.iter().any(listens) || self.labels().any(|label| label.is_at(path))
    }

    /// All that anybody has, as far as it is known.
    fn labels(&self) -> impl Iterator<Item = &Label> {
        let daemons = self.all.iter().flat_map(|one| &one.sockets);
        let holders = self.holders.iter().flat_map(|holder| &holder.sockets);
        let silent = self.silent.iter().flat_map(|(_, sockets)| sockets);
        daemons.chain(holders).chain(silent)
    }

    /// In words: a predecessor that serves at an address which cannot be had beside its own.
    pub(crate) fn in_the_way(&self, wanted: &Wanted) -> Option<String> {
        let rival = |label: &&Label| listen::may_mean(wanted, label);
        let found = |one: &Predecessor| {
            let label = one.sockets.iter().find(rival)?;
            Some(format!("{} has {} there", one.name(), label.shown()))
        };
        self.all.iter().rev().find_map(found)
    }

    /// Nobody is served by those who only hold sockets: one that is in the way closes them. Says whether
    /// there was one.
    pub(crate) fn send_rivals_away(&mut self, wanted: &Wanted, report: &Report) -> bool {
        let is_rival = |holder: &Holder| {
            let mut sockets = holder.sockets.iter();
            sockets.any(|label| listen::may_mean(wanted, label))
        };
        let (rivals, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.holders)
            .into_iter()
            .partition(is_rival);
        self.holders = others;
        for holder in &rivals {
            let _ = holder.connection.send(&Message::Commit { told: true });
            let until = Instant::now() + ANSWER;
            while holder.is_there() && Instant::now() < until {
                holder.connection.wait(Some(until));
            }
            if holder.is_there() {
                let whose = format!("generation {}", holder.number);
                kill_keeper(&whose, holder.keeper, report);
            }
        }
        !rivals.is_empty()
    }

    /// Whether of that generation only the sockets are left; of one that has just ended it is not known
    /// yet.
    pub(crate) fn may_hold(&self, number: u32) -> bool {
        let has_ended = |one: &Predecessor| one.leave_by.is_some() && one.connection.is_some();
        let may = |one: &Predecessor| has_ended(one) && !one.sockets.is_empty();
        let mut holders = self.holders.iter();
        holders.any(|holder| holder.number == number && holder.leave_by.is_none())
            || self.all.iter().any(|one| one.number == number && may(one))
    }

    /// What holders keep that is not `taken`, for people.
    pub(crate) fn left_with_holders(&self, taken: impl Fn(u64) -> bool) -> Vec<String> {
        let waiting = self
            .holders
            .iter()
            .filter(|holder| holder.leave_by.is_none());
        let words = |holder: &Holder| {
            let sockets = holder.sockets.iter();
            let names: Vec<String> = sockets
                .filter(|label| !taken(label.inode))
                .map(|label| format!("{}={}", label.name, label.shown()))
                .collect();
            format!("generation {} holds {}", holder.number, names.join(", "))
        };
        waiting.map(words).collect()
    }

    /// A socket whose keeper was lost, or cannot hand it over: from whoever has it, the newest first.
    /// `known`: those that need not be fetched.
    pub(crate) fn fetch(
        &self,
        wanted: &Wanted,
        known: impl Fn(u64) -> bool,
        report: &Report,
    ) -> Option<Handed> {
        let daemons = self.all.iter().rev();
        let daemons = daemons.map(|one| (&one.process, &one.sockets));
        let keepers = self.silent.iter();
        let keepers = keepers.map(|(keeper, sockets)| (keeper, sockets));
        let all = daemons
            .chain(keepers)
            .flat_map(|(process, sockets)| sockets.iter().map(move |label| (process, label)));
        let likely =
            |label: &Label| listen::may_be(wanted, label) || listen::may_mean(wanted, label);
        for (process, label) in all.filter(|(_, label)| likely(label) && !known(label.inode)) {
            let (name, pid) = (&label.name, process.pid);
            match fetch(process, label) {
                Ok(Some(fetched)) if listen::is_there(wanted, label, fetched.socket.as_fd()) => {
                    report.note(&format!(
                        "the socket {name} is fetched from pid {pid}: no keeper has handed it over"
                    ));
                    return Some(fetched);
                }
                // It is another one; or it has been closed there.
                Ok(_) => {}
                Err(error) => report.warn(&format!(
                    "cannot fetch the socket {name} from pid {pid}: {}",
                    cause(&error)
                )),
            }
        }
        None
    }

    /// R20's exception: whoever was given this socket, which cannot be fetched, is ended, so that its
    /// address can be bound anew. Says whether there was one.
    pub(crate) fn make_way(&mut self, wanted: &Wanted, report: &Report) -> bool {
        let within = self.limits.stop;
        let now = Instant::now();
        let mut made = false;
        for one in &mut self.all {
            let mut labels = one.sockets.iter();
            if one.leave_by.is_some() || !labels.any(|label| listen::may_be(wanted, label)) {
                continue;
            }
            report.warn(&format!(
                "{} is ended before the new one starts: no keeper has its socket {}, nor can it be fetched, and {} cannot be bound beside it",
                one.name(),
                wanted.name,
                wanted.address
            ));
            let errand = Errand {
                patience: within,
                told: one.state == State::Draining,
            };
            if one.told.is_some() {
                one.tell(&Message::End { within }, errand, now, report);
            } else {
                // Its keeper is gone, or stands still.
                one.do_it_ourselves(errand, now, report);
            }
            one.wait_for_end(within, report);
            made = true;
        }
        made
    }

    /// Those who only hold sockets may go, once all of these are `taken`. Gives their generations.
    pub(crate) fn relieve_holders(
        &mut self,
        taken: impl Fn(u64) -> bool,
        now: Instant,
    ) -> Vec<u32> {
        let mut relieved = Vec::new();
        // Of one that stands still no copy is needed any more.
        self.silent.clear();
        for holder in &mut self.holders {
            let all = holder.sockets.iter().all(|label| taken(label.inode));
            if all && holder.leave_by.is_none() {
                // One that cannot be told is killed.
                let _ = holder.connection.send(&Message::Commit { told: true });
                holder.leave_by = Some(now + ANSWER);
                relieved.push(holder.number);
            }
        }
        relieved
    }
}

impl Predecessor {
    /// A connection to whoever holds the address would be answered by it, so nothing goes on before.
    /// Where nobody is ever killed it is waited for no longer than that is usual.
    fn wait_for_end(&self, within: Option<Duration>, report: &Report) {
        let until = Instant::now() + within.unwrap_or(USUAL);
        while !self.process.has_ended() {
            let over = until <= Instant::now();
            match (over, within) {
                (true, None) => return,
                (true, Some(_)) => {
                    self.kill(report);
                    events::wait(&[self.process.as_fd()], None, None);
                }
                (false, _) => events::wait(&[self.process.as_fd()], None, Some(until)),
            }
        }
    }
}
