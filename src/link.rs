//! The line between launcher and keeper (R24): a socket pair that keeps message boundaries.
//!
//! Both ends are the same program, forked, so the words need no version. Neither end ever waits
//! for the other: what the socket does not take now is kept in order and sent when it does.
#![deny(clippy::wildcard_enum_match_arm)]

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::departure::Ending;
use crate::notify::{LONGEST, Notice, make_room, send_bytes};
use crate::signals::Signal;
use crate::sys::{self, Datagram};

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
    /// Keeper to launcher: the daemon is ready, and the supervisor may know.
    Ready,
    /// Keeper to launcher: end like this.
    Leave(Ending),
    /// The same, when this keeper has ended: it is about to.
    LeaveLast(Ending),
    /// Launcher to keeper: a process that the launcher inherited has ended (R17, R20).
    Reaped(i32, Ending),
}

/// Kind, signal, value, PID.
pub(crate) const LENGTH: usize = 10;

impl Word {
    pub(crate) fn encode(self) -> [u8; LENGTH] {
        let (kind, number, value, pid) = match self {
            Word::Signal(signal, None) => (b's', signal.number(), 0, 0),
            Word::Signal(signal, Some(value)) => (b'q', signal.number(), value, 0),
            Word::Handled(signal) => (b'h', signal.number(), 0, 0),
            Word::Settled(pid) => (b'o', 0, 0, pid),
            Word::Ready => (b'y', 0, 0, 0),
            Word::Leave(ending) => (b'l', kind_of(ending), value_of(ending), 0),
            Word::LeaveLast(ending) => (b'e', kind_of(ending), value_of(ending), 0),
            Word::Reaped(pid, ending) => (b'r', kind_of(ending), value_of(ending), pid),
        };
        let mut bytes = [0; LENGTH];
        bytes[0] = kind;
        bytes[1] = u8::try_from(number).unwrap_or_default();
        bytes[2..6].copy_from_slice(&value.to_le_bytes());
        bytes[6..].copy_from_slice(&pid.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: [u8; LENGTH]) -> Option<Word> {
        let [kind, number, v0, v1, v2, v3, p0, p1, p2, p3] = bytes;
        let number = i32::from(number);
        let value = i32::from_le_bytes([v0, v1, v2, v3]);
        let pid = i32::from_le_bytes([p0, p1, p2, p3]);
        match kind {
            b's' => Some(Word::Signal(Signal::from_number(number)?, None)),
            b'q' => Some(Word::Signal(Signal::from_number(number)?, Some(value))),
            b'h' => Some(Word::Handled(Signal::from_number(number)?)),
            b'o' => Some(Word::Settled(pid)),
            b'y' => Some(Word::Ready),
            b'l' => Some(Word::Leave(ending_of(number, value)?)),
            b'e' => Some(Word::LeaveLast(ending_of(number, value)?)),
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

/// The first byte of a [`Notice`], which is text of any length.
const NOTICE: u8 = b'n';

/// What waits for room in the socket.
#[derive(Debug)]
enum Parcel {
    Word(Word),
    Notice(Notice),
}

/// One end of the line.
#[derive(Debug)]
pub(crate) struct Link {
    socket: OwnedFd,
    unsent: VecDeque<Parcel>,
    ended: bool,
}

/// What reading gave.
#[derive(Debug)]
pub(crate) enum Heard {
    Word(Word),
    /// Keeper to launcher, for the supervisor.
    Notice(Notice),
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
        self.unsent.push_back(Parcel::Word(word));
        self.flush();
    }

    /// Something for the supervisor. Words are never dropped, and these only where many wait; says
    /// whether one was lost.
    pub(crate) fn pass(&mut self, notice: Notice) -> bool {
        let lost = make_room(&mut self.unsent, |parcel| match parcel {
            Parcel::Notice(notice) => Some(notice),
            Parcel::Word(_) => None,
        });
        self.unsent.push_back(Parcel::Notice(notice));
        self.flush();
        lost
    }

    /// Whether something waits for room in the socket.
    pub(crate) fn is_behind(&self) -> bool {
        !self.unsent.is_empty()
    }

    pub(crate) fn flush(&mut self) {
        if self.ended {
            self.unsent.clear();
        }
        while let Some(parcel) = self.unsent.front() {
            let sent = match parcel {
                Parcel::Word(word) => {
                    send_bytes(&self.socket, &[IoSlice::new(&word.encode())], &[])
                }
                Parcel::Notice(Notice { text, descriptors }) => {
                    let bytes = [IoSlice::new(&[NOTICE]), IoSlice::new(text.as_bytes())];
                    send_bytes(&self.socket, &bytes, descriptors)
                }
            };
            match sent {
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
        self.ended = matches!(heard, Heard::End);
        heard
    }

    fn receive(&self) -> Heard {
        let mut bytes = [0; 1 + LONGEST];
        loop {
            let Datagram {
                length,
                descriptors,
                ..
            } = match sys::receive(self.socket.as_fd(), &mut bytes) {
                Ok(datagram) => datagram,
                Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
                    // ECONNRESET says that the other end left something unread, once; what it sent
                    // before comes after that (R24).
                    Some(Errno::INTR | Errno::CONNRESET) => continue,
                    Some(Errno::AGAIN) => return Heard::NothingYet,
                    _ => return Heard::End,
                },
            };
            match &bytes[..length] {
                [] => return Heard::End,
                [NOTICE, text @ ..] => {
                    let text = String::from_utf8_lossy(text).into_owned();
                    return Heard::Notice(Notice { text, descriptors });
                }
                word => {
                    if let Some(word) = word.try_into().ok().and_then(Word::decode) {
                        return Heard::Word(word);
                    }
                }
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
            Word::LeaveLast(Ending::Killed(9)),
            Word::Ready,
            Word::Settled(4242),
            Word::Reaped(4_194_303, Ending::Exited(3)),
        ]
    }

    fn heard(link: &mut Link) -> Option<Word> {
        match link.hear() {
            Heard::Word(word) => Some(word),
            Heard::Notice(_) | Heard::NothingYet | Heard::End => None,
        }
    }

    #[test]
    fn a_notice_brings_its_descriptors_and_many_do_not_crowd_out_a_word() {
        let (mut launcher, mut keeper) = Link::pair().unwrap();
        let null = || std::fs::File::open("/dev/null").unwrap().into();
        keeper.pass(Notice {
            text: "FDSTORE=1".to_owned(),
            descriptors: vec![null(), null()],
        });
        for number in 0..5000 {
            keeper.pass(Notice::new(format!("STATUS={number}")));
        }
        keeper.say(Word::Ready);
        let Heard::Notice(Notice { text, descriptors }) = launcher.hear() else {
            panic!("it was said first");
        };
        assert_eq!((text.as_str(), descriptors.len()), ("FDSTORE=1", 2));
        let mut last = String::new();
        let word = loop {
            keeper.flush();
            match launcher.hear() {
                Heard::Notice(notice) => last = notice.text,
                Heard::Word(word) => break word,
                Heard::NothingYet | Heard::End => panic!("a word was lost after {last}"),
            }
        };
        assert_eq!((word, last.as_str()), (Word::Ready, "STATUS=4999"));
    }

    #[test]
    fn every_word_arrives_as_it_was_said() {
        let (mut one, mut other) = Link::pair().unwrap();
        for word in words() {
            one.say(word);
            assert_eq!(heard(&mut other), Some(word));
        }
        assert!(matches!(other.hear(), Heard::NothingYet));
        assert!(other.to_watch().is_some());
        drop(one);
        assert!(matches!(other.hear(), Heard::End));
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
        assert_eq!(heard(&mut launcher), Some(Word::Leave(Ending::Exited(7))));
        assert!(matches!(launcher.hear(), Heard::End));
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
        let mut count = 0;
        while let Some(word) = heard(&mut other) {
            assert_eq!(word, Word::Leave(Ending::Exited(count)));
            count += 1;
            one.flush();
        }
        assert_eq!(count, said + 1);
    }
}
