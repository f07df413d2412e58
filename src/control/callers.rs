//! Those who have connected to this keeper, and what they wait for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::{Attempt, Connection, Message, Received};

/// Nobody has a use for more.
const MOST: usize = 128;
/// Of those who stay. One who had to go for another would come again, and so on without end.
const MOST_WATCHERS: usize = 64;
/// Read of one caller in one wake.
const MESSAGES_AT_ONCE: usize = 16;

/// A caller by the order of his coming.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id(u64);

/// What a caller waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// He has not said yet.
    Unknown,
    /// A newer generation's keeper; how its attempt ended, once it has said so.
    Successor {
        generation: u32,
        attempt: Option<Attempt>,
    },
    /// Every change (`status --watch`).
    Watcher,
    /// The verdict on a generation with a higher number than this (`restart`).
    Waiter { newer: u32 },
    /// The end of every generation, or of those that drain (`stop`).
    Stopper { old: bool },
}

#[derive(Debug)]
struct Caller {
    id: Id,
    connection: Connection,
    role: Role,
}

#[derive(Debug, Default)]
pub(crate) struct Callers {
    all: Vec<Caller>,
    came: u64,
}

/// What one of them did.
#[derive(Debug)]
pub(crate) enum Heard {
    Said(Id, Message),
    /// A successor's keeper has gone; how its attempt ended, if it said so.
    SuccessorLost {
        generation: u32,
        attempt: Option<Attempt>,
    },
}

impl Callers {
    /// Where there are too many, whoever has waited longest without being waited for has to go.
    pub(crate) fn add(&mut self, connection: Connection) -> Option<Id> {
        if self.all.len() >= MOST {
            let idle = |caller: &Caller| matches!(caller.role, Role::Unknown | Role::Watcher);
            let oldest = self.all.iter().position(idle)?;
            self.all.remove(oldest);
        }
        self.came += 1;
        let id = Id(self.came);
        self.all.push(Caller {
            id,
            connection,
            role: Role::Unknown,
        });
        Some(id)
    }

    /// One whom an older keeper has passed on.
    pub(crate) fn add_passed(&mut self, socket: OwnedFd) -> io::Result<Option<Id>> {
        Ok(self.add(Connection::new(socket)?))
    }

    pub(crate) fn to_watch(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.all.iter().map(|caller| caller.connection.as_fd())
    }

    pub(crate) fn read(&mut self) -> Vec<Heard> {
        let mut heard = Vec::new();
        self.all.retain_mut(|caller| {
            for _ in 0..MESSAGES_AT_ONCE {
                match caller.connection.receive() {
                    Received::Message(Message::Attempt(said), _) => {
                        if let Role::Successor { attempt, .. } = &mut caller.role {
                            *attempt = Some(said);
                        }
                    }
                    Received::Message(message, _) => {
                        // At once: how its attempt ended may come right behind, and its end, too.
                        if let Message::Attach { generation } = message {
                            caller.role = Role::Successor {
                                generation,
                                attempt: None,
                            };
                        }
                        // It counts though its sender has gone by the time it is acted on; and it is no
                        // word for anybody else.
                        let a_successors =
                            matches!(message, Message::Commit { .. } | Message::End { .. });
                        if !a_successors || caller.is_successor() {
                            heard.push(Heard::Said(caller.id, message));
                        }
                    }
                    Received::Unreadable(words) => {
                        let why = format!("this message {words}");
                        let _ = caller.connection.send(&Message::Refused { why });
                    }
                    Received::NothingYet => return true,
                    Received::End => {
                        if let Role::Successor {
                            generation,
                            attempt,
                        } = &mut caller.role
                        {
                            heard.push(Heard::SuccessorLost {
                                generation: *generation,
                                attempt: attempt.take(),
                            });
                        }
                        return false;
                    }
                }
            }
            true
        });
        heard
    }

    fn find(&self, id: Id) -> Option<&Caller> {
        self.all.iter().find(|caller| caller.id == id)
    }

    pub(crate) fn assign(&mut self, id: Id, role: Role) {
        if let Some(caller) = self.all.iter_mut().find(|caller| caller.id == id) {
            caller.role = role;
        }
    }

    /// Whoever does not read what he asked for, or has gone, will show when he is read from.
    pub(crate) fn answer(&self, id: Id, message: &Message) {
        self.answer_with(id, message, &[]);
    }

    pub(crate) fn answer_with(&self, id: Id, message: &Message, passed: &[BorrowedFd<'_>]) {
        if let Some(caller) = self.find(id) {
            let _ = caller.connection.send_with(message, passed);
        }
    }

    pub(crate) fn dismiss(&mut self, id: Id) {
        self.all.retain(|caller| caller.id != id);
    }

    /// Tells all whose role is such; one who has not made room for it is let go.
    pub(crate) fn tell(&mut self, message: &Message, such: impl Fn(&Role) -> bool) {
        self.all.retain(|caller| {
            !such(&caller.role) || caller.connection.send(message).is_ok() || caller.is_successor()
        });
    }

    /// Tells all whose role is such, for the last time.
    pub(crate) fn dismiss_with(&mut self, message: &Message, such: impl Fn(&Role) -> bool) {
        self.tell(message, &such);
        self.dismiss_all(such);
    }

    pub(crate) fn dismiss_all(&mut self, such: impl Fn(&Role) -> bool) {
        self.all.retain(|caller| !such(&caller.role));
    }

    pub(crate) fn has_room_for_a_watcher(&self) -> bool {
        let watchers = self.all.iter().filter(|one| one.role == Role::Watcher);
        watchers.count() < MOST_WATCHERS
    }

    pub(crate) fn has_successor(&self) -> bool {
        self.all.iter().any(Caller::is_successor)
    }

    /// Hands a caller on to the newest successor's keeper, with what he wants; says whether there
    /// was one who took him.
    pub(crate) fn pass_on(&mut self, id: Id, message: &Message) -> bool {
        let Some(caller) = self.find(id) else {
            return false;
        };
        let descriptor = [caller.connection.as_fd()];
        // One that has no number only says that it has failed; and a newcomer who has come in two
        // ways keeps the first.
        let number = |other: &&Caller| match other.role {
            Role::Successor { generation, .. } => Some(generation).filter(|number| *number > 0),
            Role::Unknown | Role::Watcher | Role::Waiter { .. } | Role::Stopper { .. } => None,
        };
        let mut successors: Vec<&Caller> = self
            .all
            .iter()
            .filter(|other| other.id != id && number(other).is_some())
            .collect();
        successors.sort_by_key(|other| std::cmp::Reverse(number(other)));
        let passed = successors
            .into_iter()
            .any(|other| other.connection.send_with(message, &descriptor).is_ok());
        if passed {
            self.dismiss(id);
        }
        passed
    }

    /// Those who wait for what only a successor will know.
    pub(crate) fn to_pass_on(&self) -> Vec<(Id, Message)> {
        let wish = |caller: &Caller| match caller.role {
            Role::Watcher => Some((caller.id, Message::Status { watch: true })),
            Role::Waiter { newer } => Some((caller.id, Message::Await { newer })),
            Role::Unknown | Role::Successor { .. } | Role::Stopper { .. } => None,
        };
        self.all.iter().filter_map(wish).collect()
    }
}

impl Caller {
    fn is_successor(&self) -> bool {
        matches!(self.role, Role::Successor { .. })
    }
}
