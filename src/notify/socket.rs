//! The keeper's end of the notify socket: who is believed, and the answers (R22).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, getsockname, send,
    socket_with, sockopt,
};

use super::Message;
use crate::generation::Voice;
use crate::process::{self, Stat, Status};
use crate::sys::{self, Datagram, Sender};

/// Longer than any message that a daemon has a reason to send.
pub(crate) const LONGEST: usize = 8192;

/// An abstract socket, named by the kernel: it can be reached after a chroot and without any right
/// to a directory.
#[derive(Debug)]
pub(crate) struct NotifySocket {
    socket: OwnedFd,
    address: String,
}

/// What one datagram was.
#[derive(Debug)]
pub(crate) enum Received {
    /// From somebody who is believed.
    Message(Delivered),
    /// From somebody who is not, or of no meaning: it changes nothing.
    Refused {
        believed: bool,
    },
    NothingYet,
}

/// A message, and what came with it.
#[derive(Debug)]
pub(crate) struct Delivered {
    pub(crate) message: Message,
    pub(crate) answer: Answer,
    /// For whoever it is passed on to; closed, where it is not, which is all that `BARRIER=1` wants.
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// Where the sender waits for the outcome, if it does.
#[derive(Debug, Default)]
pub(crate) struct Answer(Option<OwnedFd>);

impl Answer {
    /// `ok`, or `error=` and words. The sender may be gone; that is its own affair.
    pub(crate) fn give(self, outcome: Result<(), String>) {
        let Some(socket) = self.0 else { return };
        let text = match outcome {
            Ok(()) => "ok".to_owned(),
            Err(words) => format!("error={words}"),
        };
        let _ = send(
            &socket,
            text.as_bytes(),
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        );
    }
}

impl NotifySocket {
    pub(crate) fn open() -> io::Result<NotifySocket> {
        // An address without a name makes the kernel choose one (unix(7), autobind).
        NotifySocket::at(&SocketAddrUnix::new_unnamed())
    }

    /// The address that a lost keeper had: its daemon knows no other (R20).
    pub(crate) fn reopen(address: &str) -> io::Result<NotifySocket> {
        let name = address.strip_prefix('@').unwrap_or(address);
        NotifySocket::at(&SocketAddrUnix::new_abstract_name(name.as_bytes())?)
    }

    fn at(address: &SocketAddrUnix) -> io::Result<NotifySocket> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        sockopt::set_socket_passcred(&socket, true)?;
        bind(&socket, address)?;
        let address = SocketAddrUnix::try_from(getsockname(&socket)?)?;
        let name = address
            .abstract_name()
            .ok_or(io::ErrorKind::AddrNotAvailable)?;
        let address = format!("@{}", String::from_utf8_lossy(name));
        Ok(NotifySocket { socket, address })
    }

    /// As `NOTIFY_SOCKET` has it.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Looked at first, and taken when it is known whose it is: what a stranger passes along never becomes
    /// a descriptor here, to be closed when its owner likes.
    pub(crate) fn receive(&self, daemon: i32, strangers: &mut Strangers) -> Received {
        let mut bytes = [0; LONGEST];
        let Some(seen) = self.take(|socket| sys::peek(socket, &mut bytes)) else {
            return Received::NothingYet;
        };
        let brings = seen.brings_more;
        let believed = strangers.know(seen.sender, brings, |sender| {
            is_believed(sender, daemon, brings)
        });
        let length = seen.length.min(LONGEST);
        let message = believed.then(|| Message::parse(&bytes[..length])).flatten();
        let Some(message) = message.filter(|_| seen.whole) else {
            sys::discard(self.socket.as_fd(), brings);
            return Received::Refused { believed };
        };
        let Some(taken) = self.take(|socket| sys::receive(socket, &mut bytes)) else {
            return Received::NothingYet;
        };
        // Only a word of ours asks for an answer.
        let asks = message.voice == Voice::Ours;
        let mut descriptors = taken.descriptors.into_iter();
        let answer = Answer(if asks { descriptors.next() } else { None });
        Received::Message(Delivered {
            message,
            answer,
            descriptors: descriptors.collect(),
        })
    }

    fn take(
        &self,
        mut receive: impl FnMut(BorrowedFd<'_>) -> io::Result<Datagram>,
    ) -> Option<Datagram> {
        loop {
            match receive(self.socket.as_fd()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                received => return received.ok(),
            }
        }
    }
}

/// Who was not believed in one wake, and how often: whoever floods us is looked at once.
#[derive(Debug, Default)]
pub(crate) struct Strangers(Vec<Stranger>);

#[derive(Debug)]
struct Stranger {
    sender: Option<Sender>,
    brings: bool,
    messages: usize,
}

impl Strangers {
    /// Whether it is none.
    fn know(
        &mut self,
        sender: Option<Sender>,
        brings: bool,
        is_believed: impl FnOnce(Sender) -> bool,
    ) -> bool {
        let is_it = |other: &&mut Stranger| other.sender == sender && other.brings == brings;
        if let Some(known) = self.0.iter_mut().rev().find(is_it) {
            known.messages += 1;
            return false;
        }
        let believed = sender.is_some_and(is_believed);
        if !believed {
            self.0.push(Stranger {
                sender,
                brings,
                messages: 1,
            });
        }
        believed
    }

    /// To look at one may take a moment: it may have many ancestors.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Each, with the number of its messages.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Option<Sender>, usize)> {
        self.0
            .iter()
            .map(|stranger| (stranger.sender, stranger.messages))
    }
}

impl AsFd for NotifySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// R22: the daemon, its descendants, its session; root, and our own user where the daemon has another, if
/// they show that they mean it.
///
/// `brought`: a descriptor came with the message, as `seamless-run notify` sends one for the answer. Without
/// one it may be what some set-user-ID program has printed, whose caller gave it this socket as stderr. Who
/// has gone before it could be looked at is judged by its user: the daemon's own has power over the daemon
/// anyway, and many a daemon speaks through a short-lived child. Root's child is of the daemon's group, too;
/// such a program is of its caller's.
fn is_believed(sender: Sender, daemon: i32, brought: bool) -> bool {
    if process::is_of(sender.pid, daemon) {
        // Or its PID was somebody else's when the message was sent. The daemon itself, and root, may have
        // become another user since.
        return sender.pid == daemon
            || sender.user == 0
            || Status::of(sender.pid).is_ok_and(|status| status.has_user(sender.user));
    }
    // After the look: one that goes meanwhile has gone.
    let is_gone = Stat::of(sender.pid).is_err();
    let own = nix::unistd::geteuid().as_raw();
    let status = Status::of(daemon).ok();
    let daemons = status.as_ref().map_or(own, |status| status.user);
    let is_its_group = || status.is_some_and(|status| status.groups.contains(&sender.group));
    let is_above = sender.user == 0 || (sender.user == own && daemons != own);
    let is_its_childs = is_gone && sender.user == daemons && (!is_above || is_its_group());
    is_its_childs || (is_above && brought)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::{getegid, geteuid};

    /// It spoke through a child, which has gone; or somebody else did, who is root's user alone.
    #[test]
    fn who_has_gone_is_judged_by_user_and_group() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let own = std::process::id() as i32;
        let (user, group) = (geteuid().as_raw(), getegid().as_raw());
        let pid = child.id() as i32;
        let sender = Sender { pid, user, group };
        assert!(is_believed(sender, own, false));
        let group = group + 1;
        let other = Sender { group, ..sender };
        assert_eq!(is_believed(other, own, false), user != 0);
        assert!(is_believed(other, own, true));
        let user = user + 1;
        assert!(!is_believed(Sender { user, ..sender }, own, true));
    }
}
