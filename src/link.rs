//! The line between launcher and keeper (R24): a socket pair that keeps message boundaries.
//!
//! Both ends are the same program, forked, so the words need no version. Neither end ever waits
//! for the other: what the socket does not take now is kept in order and sent when it does.
#![deny(clippy::wildcard_enum_match_arm)]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};

use crate::departure::Ending;
use crate::signals::Signal;

/// One message; at most one [`Word::Signal`] of each number is on its way at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// Launcher to keeper: this signal came, with the value of a sigqueue(3).
    Signal(Signal, Option<i32>),
    /// Keeper to launcher: that one has been dealt with; the next of its kind may come.
    Handled(Signal),
    /// Keeper to launcher: this keeper knows its daemon, which has this PID, and will not be lost for
    /// nothing.
    Settled(i32),
    /// Keeper to launcher: end like this.
    Leave(Ending),
    /// Launcher to keeper: a process that the launcher inherited has ended (R17, R20).
    Reaped(i32, Ending),
}

/// Kind, signal, value, PID.
const LENGTH: usize = 10;

impl Word {
    fn encode(self) -> [u8; LENGTH] {
        let (kind, number, value, pid) = match self {
            Word::Signal(signal, None) => (b's', signal.number(), 0, 0),
            Word::Signal(signal, Some(value)) => (b'q', signal.number(), value, 0),
            Word::Handled(signal) => (b'h', signal.number(), 0, 0),
            Word::Settled(pid) => (b'o', 0, 0, pid),
            Word::Leave(ending) => (b'l', kind_of(ending), value_of(ending), 0),
            Word::Reaped(pid, ending) => (b'r', kind_of(ending), value_of(ending), pid),
        };
        let mut bytes = [0; LENGTH];
        bytes[0] = kind;
        bytes[1] = u8::try_from(number).unwrap_or_default();
        bytes[2..6].copy_from_slice(&value.to_le_bytes());
        bytes[6..].copy_from_slice(&pid.to_le_bytes());
        bytes
    }

    fn decode(bytes: [u8; LENGTH]) -> Option<Word> {
        let [kind, number, v0, v1, v2, v3, p0, p1, p2, p3] = bytes;
        let number = i32::from(number);
        let value = i32::from_le_bytes([v0, v1, v2, v3]);
        let pid = i32::from_le_bytes([p0, p1, p2, p3]);
        match kind {
            b's' => Some(Word::Signal(Signal::from_number(number)?, None)),
            b'q' => Some(Word::Signal(Signal::from_number(number)?, Some(value))),
            b'h' => Some(Word::Handled(Signal::from_number(number)?)),
            b'o' => Some(Word::Settled(pid)),
            b'l' => Some(Word::Leave(ending_of(number, value)?)),
            b'r' => Some(Word::Reaped(pid, ending_of(number, value)?)),
            _ => None,
        }
    }
}

fn kind_of(ending: Ending) -> i32 {
    match ending {
        Ending::Exited(_) => 0,
        Ending::Killed(_) => 1,
        Ending::Unknown => 2,
    }
}

fn value_of(ending: Ending) -> i32 {
    match ending {
        Ending::Exited(value) | Ending::Killed(value) => value,
        Ending::Unknown => 0,
    }
}

fn ending_of(kind: i32, value: i32) -> Option<Ending> {
    match kind {
        0 => Some(Ending::Exited(value)),
        1 => Some(Ending::Killed(value)),
        2 => Some(Ending::Unknown),
        _ => None,
    }
}

/// One end of the line.
#[derive(Debug)]
pub(crate) struct Link {
    socket: OwnedFd,
    unsent: VecDeque<Word>,
    ended: bool,
}

/// What reading gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Word(Word),
    NothingYet,
    /// The other end is gone, and everything that it said has been read.
    End,
}

impl Link {
    pub(crate) fn pair() -> io::Result<(Link, Link)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let end = |socket| Link {
            socket,
            unsent: VecDeque::new(),
            ended: false,
        };
        Ok((end(one), end(other)))
    }

    pub(crate) fn say(&mut self, word: Word) {
        self.unsent.push_back(word);
        self.flush();
    }

    /// Whether something waits for room in the socket.
    pub(crate) fn is_behind(&self) -> bool {
        !self.unsent.is_empty()
    }

    pub(crate) fn flush(&mut self) {
        if self.ended {
            self.unsent.clear();
        }
        while let Some(word) = self.unsent.front() {
            match send(&self.socket, &word.encode(), SendFlags::NOSIGNAL) {
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => continue,
                // Sent; or the other end is gone, and reading will say so.
                _ => drop(self.unsent.pop_front()),
            }
        }
    }

    /// What to wait for: nothing once the other end is gone, which would be readable for ever.
    pub(crate) fn to_watch(&self) -> Option<BorrowedFd<'_>> {
        (!self.ended).then(|| self.socket.as_fd())
    }

    pub(crate) fn hear(&mut self) -> Heard {
        let heard = if self.ended {
            Heard::End
        } else {
            self.receive()
        };
        self.ended = heard == Heard::End;
        heard
    }

    fn receive(&self) -> Heard {
        let mut bytes = [0; LENGTH];
        loop {
            match recv(&self.socket, &mut bytes, RecvFlags::empty()) {
                Ok((0, _)) => return Heard::End,
                Ok((LENGTH, _)) => match Word::decode(bytes) {
                    Some(word) => return Heard::Word(word),
                    None => continue,
                },
                // ECONNRESET says that the other end left something unread, once; what it sent
                // before comes after that (R24).
                Ok(_) | Err(Errno::INTR | Errno::CONNRESET) => continue,
                Err(Errno::AGAIN) => return Heard::NothingYet,
                Err(_) => return Heard::End,
            }
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> Vec<Word> {
        vec![
            Word::Signal(Signal::HUP, None),
            Word::Signal(Signal::from_number(40).unwrap(), Some(-7)),
            Word::Handled(Signal::TERM),
            Word::Leave(Ending::Exited(255)),
            Word::Leave(Ending::Killed(11)),
            Word::Leave(Ending::Unknown),
            Word::Settled(4242),
            Word::Reaped(4_194_303, Ending::Exited(3)),
        ]
    }

    #[test]
    fn every_word_arrives_as_it_was_said() {
        let (mut one, mut other) = Link::pair().unwrap();
        for word in words() {
            one.say(word);
            assert_eq!(other.hear(), Heard::Word(word));
        }
        assert_eq!(other.hear(), Heard::NothingYet);
        assert!(other.to_watch().is_some());
        drop(one);
        assert_eq!(other.hear(), Heard::End);
        assert!(
            other.to_watch().is_none(),
            "an end is no event that comes again"
        );
    }

    #[test]
    fn what_was_said_before_the_end_is_heard_though_something_was_left_unread() {
        let (mut launcher, mut keeper) = Link::pair().unwrap();
        launcher.say(Word::Signal(Signal::HUP, None));
        keeper.say(Word::Leave(Ending::Exited(7)));
        drop(keeper);
        assert_eq!(launcher.hear(), Heard::Word(Word::Leave(Ending::Exited(7))));
        assert_eq!(launcher.hear(), Heard::End);
    }

    #[test]
    fn what_does_not_fit_is_kept_in_order() {
        let (mut one, mut other) = Link::pair().unwrap();
        let mut said = 0;
        while !one.is_behind() {
            one.say(Word::Leave(Ending::Exited(said)));
            said += 1;
        }
        one.say(Word::Leave(Ending::Exited(said)));
        let mut heard = 0;
        while let Heard::Word(word) = other.hear() {
            assert_eq!(word, Word::Leave(Ending::Exited(heard)));
            heard += 1;
            one.flush();
        }
        assert_eq!(heard, said + 1);
    }
}
