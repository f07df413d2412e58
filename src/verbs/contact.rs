//! How a verb finds a keeper that answers.

use std::thread;
use std::time::{Duration, Instant};

use super::Target;
use super::doorbell::Doorbell;
use crate::control::{self, Connection, Message, Received, Unreachable};
use crate::files::{Entry, Record, State};
use crate::process::Identity;

/// How long a keeper may take to answer (R11): one that is stopped must not stop us.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// Between two attempts to reach one who just leaves.
pub(super) const PACE: Duration = Duration::from_millis(20);

/// Where a keeper is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// Whoever listens beside the PID file.
    Path,
    /// That keeper, by the number of its listening socket.
    Keeper(Identity, i32),
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) connection: Connection,
    pub(super) message: Message,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// Nobody listens.
    Nobody,
    /// Somebody does, and says nothing; he may yet.
    Silent(Connection),
    /// In words: not ours, or not in our words.
    Unusable(String),
}

/// What came over a connection.
#[derive(Debug)]
pub(super) enum Heard {
    Message(Message),
    /// In words.
    Unreadable(String),
    End,
    /// Nothing in time.
    Late,
}

pub(super) fn hear(connection: &Connection, until: Option<Instant>) -> Heard {
    loop {
        if !connection.wait(until) {
            return Heard::Late;
        }
        match connection.receive() {
            Received::Message(message, _) => return Heard::Message(message),
            Received::Unreadable(words) => return Heard::Unreadable(words),
            Received::End => return Heard::End,
            Received::NothingYet => {}
        }
    }
}

impl Way {
    /// To the keeper of a generation in the record.
    pub(super) fn to(entry: &Entry) -> Option<Way> {
        Some(Way::Keeper(entry.keeper?, entry.control?))
    }
}

impl Target {
    pub(super) fn connect(&self, way: Way) -> Result<Connection, NoAnswer> {
        let connection = match way {
            Way::Path => self.files.connect(),
            Way::Keeper(keeper, number) => control::connect_to_keeper(keeper, number),
        };
        connection.map_err(|unreachable| match unreachable {
            Unreachable::Missing | Unreachable::Dead => NoAnswer::Nobody,
            Unreachable::Suspicious(words) => NoAnswer::Unusable(format!(
                "cannot use the control socket {}: {words}",
                self.files.socket.display()
            )),
        })
    }

    /// Asks whoever is there, and waits for the first message.
    pub(super) fn ask(&self, way: Way, question: &Message) -> Result<Answer, NoAnswer> {
        let until = Instant::now() + PATIENCE;
        loop {
            let connection = self.connect(way)?;
            // Should he have gone, reading says so.
            let _ = connection.send(question);
            match hear(&connection, Some(until)) {
                Heard::Message(message) => {
                    return Ok(Answer {
                        connection,
                        message,
                    });
                }
                Heard::Unreadable(words) => {
                    let words = format!("the answer of its keeper {words}");
                    return Err(NoAnswer::Unusable(words));
                }
                Heard::Late => return Err(NoAnswer::Silent(connection)),
                // He left as we came: whoever follows him is there in a moment.
                Heard::End if Instant::now() < until => thread::sleep(PACE),
                Heard::End => return Err(NoAnswer::Nobody),
            }
        }
    }

    /// Asks at the path and, where nobody is there, the keepers of the record, newest first, to that of the
    /// generation that serves.
    pub(super) fn reach(&self, question: &Message) -> Result<Answer, NoAnswer> {
        let mut failure = match self.ask(Way::Path, question) {
            Err(NoAnswer::Nobody) => NoAnswer::Nobody,
            done => return done,
        };
        let record = self.files.read_record().unwrap_or_default();
        for entry in record.generations.iter().rev() {
            match Way::to(entry).map(|way| self.ask(way, question)) {
                None | Some(Err(NoAnswer::Nobody)) => {}
                Some(Err(other)) => failure = other,
                Some(Ok(answer)) => return Ok(answer),
            }
            // Those before the one that serves drain, and know nothing of it.
            if entry.state == State::Ready && entry.daemon_lives() {
                break;
            }
        }
        Err(failure)
    }

    /// Waits a moment for the keeper that a launcher forks in the place of a lost one (R20).
    pub(super) fn somebody_comes(&self, record: &Record) -> bool {
        let launchers = record.generations.iter().filter_map(|entry| entry.launcher);
        let Ok(mut bell) = Doorbell::open(&self.files.pid_file) else {
            return false;
        };
        if !launchers.into_iter().any(Identity::is_alive) {
            return false;
        }
        let until = Some(Instant::now() + PATIENCE);
        loop {
            match self.connect(Way::Path) {
                Ok(_) => return true,
                Err(_) if bell.wait(until) => {}
                Err(_) => return false,
            }
        }
    }
}

/// To every keeper in the record, newest first.
pub(super) fn ways(record: &Record) -> impl Iterator<Item = Way> {
    record.generations.iter().rev().filter_map(Way::to)
}
