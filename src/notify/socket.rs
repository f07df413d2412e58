//! The keeper's end of the notify socket: who is believed, and the answers (R22).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, getsockname, send,
    socket_with, sockopt,
};

use super::{Message, let_go};
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
    /// From somebody who is not (given where it was a message), or of no meaning: it changes
    /// nothing.
    Refused {
        sender: Option<Sender>,
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

    pub(crate) fn receive(&self, daemon: i32) -> Received {
        let mut bytes = [0; LONGEST];
        let datagram = loop {
            match sys::receive(self.socket.as_fd(), &mut bytes) {
                Ok(datagram) => break datagram,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Received::NothingYet,
            }
        };
        let Datagram {
            length,
            whole,
            sender,
            descriptors,
        } = datagram;
        let believed = sender.is_some_and(|sender| is_believed(sender, daemon));
        let message = Message::parse(&bytes[..length.min(LONGEST)]);
        if believed && whole {
            if let Some(message) = message {
                // Only a word of ours asks for an answer.
                let asks = message.voice == Voice::Ours;
                let mut descriptors = descriptors.into_iter();
                let answer = Answer(if asks { descriptors.next() } else { None });
                return Received::Message(Delivered {
                    message,
                    answer,
                    descriptors: descriptors.collect(),
                });
            }
        }
        let_go(descriptors);
        Received::Refused {
            sender: sender.filter(|_| message.is_some()),
        }
    }
}

impl AsFd for NotifySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// R22: root; the daemon, its descendants, its session; our own user where the daemon has another.
///
/// Who has gone before it could be looked at is judged by its user: the daemon's own user has power
/// over the daemon anyway, and many a daemon speaks through a short-lived child.
fn is_believed(sender: Sender, daemon: i32) -> bool {
    if sender.user == 0 {
        return true;
    }
    let own = nix::unistd::geteuid().as_raw();
    let daemons = Status::of(daemon).map_or(own, |status| status.user);
    if sender.user == own && daemons != own {
        return true;
    }
    match Stat::of(sender.pid) {
        Ok(_) => process::is_of(sender.pid, daemon),
        Err(_) => sender.user == daemons,
    }
}
