//! How a new keeper finds the older ones, and attaches to them (R11, R20).

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use anyhow::{Result, bail};

use super::one::{Errand, Predecessor, after, state_of};
use super::{ANSWER, Limits, Predecessors};
use crate::clock::Clock;
use crate::control::wire::State as Told;
use crate::control::{
    Connection, Message, Received, Standing, Unreachable, connect, connect_to_keeper,
};
use crate::events;
use crate::files::{Entry, Files, Record, State};
use crate::process::{Identity, Process};
use crate::report::Report;

impl Predecessors {
    /// Attaches to every older generation that the record names, and to whoever they know of. Takes
    /// [`ANSWER`] at most; those whose keepers have not answered by then are held all the same.
    pub(crate) fn attach(
        record: &Record,
        files: &Files,
        own: u32,
        limits: Limits,
        report: &Report,
    ) -> Result<Predecessors> {
        let mut search = Search {
            found: Predecessors {
                limits,
                ..Predecessors::default()
            },
            own,
            waiting: Vec::new(),
            report,
        };
        let path = format!("the keeper at {}", files.socket.display());
        search.knock(connect(&files.socket), &path, None);
        for entry in &record.generations {
            search.add(entry, None);
            search.knock_at(entry);
        }
        let until = Instant::now() + ANSWER;
        while !search.waiting.is_empty() && Instant::now() < until {
            let sources: Vec<_> = search.waiting.iter().map(|(one, _)| one.as_fd()).collect();
            events::wait(&sources, None, Some(until));
            search.listen()?;
        }
        let mut found = search.end();
        found.end_what_nobody_knows(record, report);
        Ok(found)
    }

    /// R20: a daemon whose keeper was lost before it was ready is no predecessor: nobody waits for
    /// it. One that drained goes on with the time that it had.
    fn end_what_nobody_knows(&mut self, record: &Record, report: &Report) {
        let clock = Clock::start();
        let now = clock.now();
        let limits = self.limits;
        for one in self.all.iter_mut().filter(|one| one.keeper.is_none()) {
            match one.state {
                State::Ready => {}
                State::Draining => {
                    let mut recorded = record.generations.iter();
                    let until = recorded
                        .find(|entry| entry.daemon == one.identity)
                        .and_then(|entry| clock.at_boot_time(entry.until?));
                    one.kill_at = until.or(after(limits.drain, now));
                }
                State::Starting => {
                    report.warn(&format!(
                        "{} has lost its keeper, and never said that it was ready; it is ended",
                        one.name()
                    ));
                    let errand = Errand {
                        patience: limits.stop,
                        told: false,
                    };
                    one.do_it_ourselves(errand, now, report);
                }
            }
        }
    }
}

/// The older keepers, while their answers come in.
struct Search<'a> {
    found: Predecessors,
    /// The generation that attaches.
    own: u32,
    /// Those who have not answered, and whose keeper each is; `None`: whoever has the path.
    waiting: Vec<(Connection, Option<Identity>)>,
    report: &'a Report,
}

impl Search<'_> {
    fn knock_at(&mut self, entry: &Entry) {
        if let (Some(keeper), Some(number)) = (entry.keeper, entry.control) {
            let whose = format!("the keeper of generation {}", entry.number);
            let connection = connect_to_keeper(keeper, number);
            self.knock(connection, &whose, Some(entry.daemon));
        }
    }

    fn knock(
        &mut self,
        connection: Result<Connection, Unreachable>,
        whose: &str,
        daemon: Option<Identity>,
    ) {
        let generation = self.own;
        match connection {
            Ok(connection) => {
                if connection.send(&Message::Attach { generation }).is_ok() {
                    self.waiting.push((connection, daemon));
                }
            }
            Err(Unreachable::Missing | Unreachable::Dead) => {}
            Err(Unreachable::Suspicious(words)) => self.report.warn(&format!(
                "cannot talk to {whose}: {words}; the record is believed instead"
            )),
        }
    }

    /// Reads the answers that have come.
    fn listen(&mut self) -> Result<()> {
        for (connection, whose) in std::mem::take(&mut self.waiting) {
            match connection.receive() {
                Received::NothingYet => self.waiting.push((connection, whose)),
                Received::Message(Message::State(told), descriptors) => {
                    self.answered(connection, told, descriptors, whose.is_none());
                }
                // R19: somebody has removed the lock under it.
                Received::Message(Message::Supervised { why }, _) => bail!("{why}"),
                Received::Message(Message::Refused { why: words }, _)
                | Received::Unreadable(words) => self.report.warn(&format!(
                    "an older keeper cannot be attached to: {words}; the record is believed instead"
                )),
                Received::Message(..) | Received::End => {}
            }
        }
        Ok(())
    }

    /// A keeper has answered. Whoever else it knows of is asked in turn.
    fn answered(
        &mut self,
        connection: Connection,
        told: Told,
        descriptors: Vec<OwnedFd>,
        by_path: bool,
    ) {
        let now = Instant::now();
        let mut generations = told.generations.into_iter();
        let Some(own) = generations.next() else {
            return;
        };
        let Some(entry) = entry_of(&own) else {
            return;
        };
        let passed = descriptors.into_iter().next();
        let process = passed.map(|descriptor| Process::new(entry.daemon.pid, descriptor));
        self.add(&entry, process);
        if by_path {
            self.found.shown = Some(entry.number);
            self.found.failure = told.failure.map(|failure| (failure, now));
        }
        let mut known = self.found.all.iter_mut();
        if let Some(one) = known.find(|one| one.identity == entry.daemon) {
            one.keeper = entry.keeper;
            one.hear(own, now);
            // Or it was found in two ways.
            if one.connection.is_none() {
                one.connection = Some(connection);
            }
        }
        for other in generations.filter_map(|standing| entry_of(&standing)) {
            if self.add(&other, None) {
                self.knock_at(&other);
            }
        }
    }

    /// Holds one that lives and was not known; says whether it did. `process`: where its keeper
    /// passed it.
    fn add(&mut self, entry: &Entry, process: Option<Process>) -> bool {
        let mut known = self.found.all.iter();
        if known.any(|one| one.identity == entry.daemon) {
            return false;
        }
        let opened = process.or_else(|| entry.daemon.open().ok().flatten());
        let Some(process) = opened else { return false };
        self.found.all.push(Predecessor {
            number: entry.number,
            state: entry.state,
            assumed: entry.assumed,
            identity: entry.daemon,
            process,
            keeper: entry.keeper.filter(|keeper| keeper.is_alive()),
            connection: None,
            told: None,
            errand: None,
            kill_at: None,
            leave_by: None,
            how: None,
        });
        true
    }

    fn end(self) -> Predecessors {
        let mut found = self.found;
        if !self.waiting.is_empty() {
            self.report.warn(&format!(
                "{} of the older keepers did not answer within {} s; the record is believed instead",
                self.waiting.len(),
                ANSWER.as_secs()
            ));
        }
        // They may answer yet.
        for (connection, whose) in self.waiting {
            let one = found.all.iter_mut().find(|one| Some(one.identity) == whose);
            if let Some(one) = one.filter(|one| one.connection.is_none()) {
                one.connection = Some(connection);
            }
        }
        found.all.sort_by_key(|one| one.number);
        found
    }
}

/// What a keeper says of a generation, as the record would have it.
fn entry_of(standing: &Standing) -> Option<Entry> {
    Some(Entry {
        keeper: standing.keeper,
        launcher: standing.launcher,
        control: standing.control,
        ..Entry::new(standing.number, standing.daemon?, state_of(standing))
    })
}
