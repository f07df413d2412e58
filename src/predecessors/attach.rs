//! How a new keeper finds the older ones, and attaches to them (R11, R20).

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use anyhow::{Result, bail};

use super::one::{Errand, Predecessor, after, state_of};
use super::{ANSWER, HOLDING, Holder, Limits, Predecessors};
use crate::clock::Clock;
use crate::control::wire::State as Told;
use crate::control::{Connection, Message, Received, Standing, Unreachable, connect_to_keeper};
use crate::events;
use crate::files::{Entry, Files, Record, State};
use crate::listen::Handed;
use crate::process::{Identity, Process};
use crate::report::Report;

impl Predecessors {
    /// Attaches to every older generation that the record names, and to whoever they know of, and
    /// receives the sockets that they hand over. Takes [`ANSWER`] at most; those whose keepers have not
    /// answered by then are held all the same.
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
        search.knock(files.connect(), &path, Whose::AtPath(None));
        for entry in &record.generations {
            search.add(entry, None);
            if !search.has_knocked_at(entry) {
                search.knock_at(entry);
            }
        }
        let until = Instant::now() + ANSWER;
        while !search.waiting.is_empty() && Instant::now() < until {
            let sources: Vec<_> = search.waiting.iter().map(|(one, _)| one.as_fd()).collect();
            events::wait(&sources, None, Some(until));
            search.listen()?;
        }
        Ok(search.end(record))
    }

    /// R20: a daemon whose keeper was lost before it was ready is no predecessor: nobody waits for
    /// it. One that drained goes on with the time that it had.
    pub(crate) fn end_what_nobody_knows(&mut self, record: &Record, report: &Report) {
        let clock = Clock::start();
        let now = clock.now();
        let limits = self.limits;
        for one in self.all.iter_mut().filter(|one| one.keeper.is_none()) {
            match one.state {
                // Holding: its keeper was all that there was.
                State::Ready | State::Holding => {}
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
    /// Those who have not answered.
    waiting: Vec<(Connection, Whose)>,
    report: &'a Report,
}

/// Whose keeper was knocked at: its daemon.
#[derive(Clone, Copy, Debug)]
enum Whose {
    /// Whoever has the path of the control socket, and whose that is where the record says it.
    AtPath(Option<Identity>),
    Recorded(Identity),
}

impl Whose {
    fn daemon(self) -> Option<Identity> {
        match self {
            Whose::AtPath(daemon) => daemon,
            Whose::Recorded(daemon) => Some(daemon),
        }
    }
}

impl Search<'_> {
    /// At the path: as a rule the newest in the record has it, and one visit is enough for both.
    fn has_knocked_at(&mut self, entry: &Entry) -> bool {
        let keeper = entry.keeper.map(|keeper| keeper.pid);
        let mut waiting = self.waiting.iter_mut();
        let at_path = waiting.find_map(|(connection, whose)| match whose {
            Whose::AtPath(daemon) if keeper.is_some() && connection.peer() == keeper => {
                Some(daemon)
            }
            Whose::AtPath(_) | Whose::Recorded(_) => None,
        });
        let has = at_path.is_some();
        if let Some(daemon) = at_path {
            *daemon = Some(entry.daemon);
        }
        has
    }

    fn knock_at(&mut self, entry: &Entry) {
        if let (Some(keeper), Some(number)) = (entry.keeper, entry.control) {
            let name = format!("the keeper of generation {}", entry.number);
            let connection = connect_to_keeper(keeper, number);
            self.knock(connection, &name, Whose::Recorded(entry.daemon));
        }
    }

    fn knock(&mut self, connection: Result<Connection, Unreachable>, name: &str, whose: Whose) {
        let generation = self.own;
        match connection {
            Ok(connection) => {
                if connection.send(&Message::Attach { generation }).is_ok() {
                    self.waiting.push((connection, whose));
                }
            }
            Err(Unreachable::Missing | Unreachable::Dead) => {}
            Err(Unreachable::Suspicious(words)) => self.report.warn(&format!(
                "cannot talk to {name}: {words}; the record is believed instead"
            )),
        }
    }

    /// Reads the answers that have come.
    fn listen(&mut self) -> Result<()> {
        for (connection, whose) in std::mem::take(&mut self.waiting) {
            match connection.receive() {
                Received::NothingYet => self.waiting.push((connection, whose)),
                Received::Message(Message::State(told), descriptors) => {
                    let by_path = matches!(whose, Whose::AtPath(_));
                    if let Some(connection) = self.answered(connection, told, descriptors, by_path)
                    {
                        self.waiting.push((connection, whose));
                    }
                }
                // R19: somebody has removed the lock under it.
                Received::Message(Message::Supervised { why }, _) => bail!("{why}"),
                Received::Message(Message::Refused { why: words }, _)
                | Received::Unreadable(words) => self.report.warn(&format!(
                    "an older keeper cannot be attached to: {words}; the record is believed instead"
                )),
                // Its daemon has ended in this very moment, and what has become of it comes next; or it passes
                // somebody on to us, who sees an end, and asks again.
                Received::Message(..) => self.waiting.push((connection, whose)),
                Received::End => {}
            }
        }
        Ok(())
    }

    /// A keeper has answered. Whoever else it knows of is asked in turn. Gives the connection back where the
    /// daemon has ended a moment ago: the keeper's next word is that it holds the sockets, or there is none.
    fn answered(
        &mut self,
        connection: Connection,
        told: Told,
        descriptors: Vec<OwnedFd>,
        by_path: bool,
    ) -> Option<Connection> {
        let now = Instant::now();
        let mut generations = told.generations.into_iter();
        let own = generations.next()?;
        let mut later = None;
        if by_path {
            self.found.failure = told.failure.map(|failure| (failure, now));
        }
        let passed = self.hand_over(&own, descriptors);
        if own.phase == HOLDING {
            let mut known = self.found.holders.iter();
            // Or it was found in two ways.
            if !known.any(|holder| holder.number == own.number) {
                let (number, keeper) = (own.number, own.keeper);
                let holder = Holder::new(number, keeper, &own.sockets, connection);
                self.found.holders.push(holder);
            }
        } else if let Some(entry) = entry_of(&own) {
            let passed = passed.into_iter().next();
            let process = passed.map(|descriptor| Process::new(entry.daemon.pid, descriptor));
            self.add(&entry, process);
            if by_path {
                self.found.shown = Some(entry.number);
            }
            let mut known = self.found.all.iter_mut();
            if let Some(one) = known.find(|one| one.identity == entry.daemon) {
                one.keeper = entry.keeper;
                one.hear(own, now);
                // Or it was found in two ways.
                if one.connection.is_none() {
                    one.connection = Some(connection);
                }
            } else {
                later = Some(connection);
            }
        }
        for other in generations.filter_map(|standing| entry_of(&standing)) {
            if self.add(&other, None) {
                self.knock_at(&other);
            }
        }
        later
    }

    /// Takes the sockets out of what was passed, and gives the rest. Which is which its number says: a
    /// keeper of another version may know of more kinds than this one (R25). The newest one's come
    /// first: it may have opened others in the place of an older one's.
    fn hand_over(&mut self, own: &Standing, descriptors: Vec<OwnedFd>) -> Vec<OwnedFd> {
        let mut rest = Vec::new();
        for descriptor in descriptors {
            match Handed::of(descriptor, &own.sockets) {
                Ok(handed) => self.found.handed.push((own.number, handed)),
                Err(other) => rest.push(other),
            }
        }
        self.found
            .handed
            .sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        rest
    }

    /// Holds one that lives and was not known; says whether it did. `process`: where its keeper
    /// passed it.
    fn add(&mut self, entry: &Entry, process: Option<Process>) -> bool {
        let mut known = self.found.all.iter();
        if known.any(|one| one.identity == entry.daemon) {
            return false;
        }
        let opened = process.or_else(|| entry.open_daemon().ok().flatten());
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
            drain: entry.drain,
            sockets: entry.sockets.clone(),
            holds: false,
        });
        true
    }

    fn end(self, record: &Record) -> Predecessors {
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
            let whose = whose.daemon();
            let mut recorded = record.generations.iter();
            let recorded = recorded.find(|entry| Some(entry.daemon) == whose);
            // One that stands still has the sockets all the same.
            let keeper = recorded.and_then(|entry| entry.keeper?.open().ok().flatten());
            if let (Some(keeper), Some(entry)) = (keeper, recorded) {
                found.silent.push((keeper, entry.sockets.clone()));
            }
            let one = found.all.iter_mut().find(|one| Some(one.identity) == whose);
            match (one, recorded) {
                (Some(one), _) if one.connection.is_none() => one.connection = Some(connection),
                (None, Some(entry)) if !entry.daemon_lives() => {
                    let (number, keeper) = (entry.number, entry.keeper);
                    let holder = Holder::new(number, keeper, &entry.sockets, connection);
                    found.holders.push(holder);
                }
                (Some(_), _) | (None, _) => {}
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
        sockets: standing.sockets.clone(),
        ..Entry::new(standing.number, standing.daemon?, state_of(standing))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Accepted, Listener};
    use crate::report::Volume;

    /// A newcomer is in a hurry: who has the path, and is in the record, is visited once.
    #[test]
    fn a_keeper_that_is_found_in_two_ways_is_visited_once() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::beside(&directory.path().join("app.pid"));
        let mut listener = Listener::open(&files.socket, &files.whose().unwrap()).unwrap();
        let own = Identity::of_this_process().unwrap();
        let mut entry = Entry::new(7, own, State::Ready);
        entry.keeper = Some(own);
        entry.control = Some(listener.number());
        let mut record = Record::of_this_boot().unwrap();
        record.generations.push(entry);
        let state = Told {
            generations: vec![Standing {
                number: 7,
                phase: "standby".to_owned(),
                ready: true,
                daemon: Some(own),
                keeper: Some(own),
                ..Standing::default()
            }],
            failure: None,
        };
        let keeper = std::thread::spawn(move || {
            loop {
                events::wait(&[listener.as_fd()], None, None);
                if let Accepted::Caller(newcomer) = listener.accept().unwrap() {
                    newcomer.send(&Message::State(state)).unwrap();
                    return (listener, newcomer);
                }
            }
        });
        let report = Report::new("app".to_owned(), Volume::Quiet);
        let limits = Limits::default();
        let found = Predecessors::attach(&record, &files, 8, limits, &report).unwrap();
        let (mut listener, _newcomer) = keeper.join().unwrap();
        assert!(matches!(listener.accept().unwrap(), Accepted::Nobody));
        assert!(found.any_serves() && found.one_is_shown());
    }
}
