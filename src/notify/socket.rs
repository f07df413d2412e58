//! The keeper's end of the notify socket: who is believed, and the answers (R22).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags,
    SocketAddrUnix, SocketFlags, SocketType, UCred, bind, getsockname, recvmsg, send, socket_with,
    sockopt,
};

use super::Message;
use crate::process::{self, Stat, Status};

/// Longer than any message that a daemon has a reason to send.
const LONGEST: usize = 8192;
/// Descriptors that one message may bring; the kernel closes the others.
const DESCRIPTORS: usize = 8;

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
    Message(Message, Answer),
    /// From somebody who is not, or of no meaning: it changes nothing.
    Refused,
    NothingYet,
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
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        sockopt::set_socket_passcred(&socket, true)?;
        // An address without a name makes the kernel choose one (unix(7), autobind).
        bind(&socket, &SocketAddrUnix::new_unnamed())?;
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
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1), ScmRights(DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
            match recvmsg(
                &self.socket,
                &mut [io::IoSliceMut::new(&mut bytes)],
                &mut control,
                flags,
            ) {
                Ok(received) => break received,
                Err(Errno::INTR) => {}
                Err(_) => return Received::NothingYet,
            }
        };
        let (mut sender, mut descriptors) = (None, Vec::new());
        for item in control.drain() {
            match item {
                RecvAncillaryMessage::ScmCredentials(credentials) => sender = Some(credentials),
                RecvAncillaryMessage::ScmRights(rights) => descriptors.extend(rights),
                _ => {}
            }
        }
        let whole = !received.flags.contains(ReturnFlags::TRUNC);
        let believed = sender.is_some_and(|sender| is_believed(sender, daemon));
        match Message::parse(&bytes[..received.bytes]) {
            // Only a word of ours asks for an answer; any other descriptor is closed, which is
            // all that BARRIER=1 wants.
            Some(message) if whole && believed => {
                let asks = message.voice == crate::generation::Voice::Ours;
                let answer = Answer(descriptors.into_iter().next().filter(|_| asks));
                Received::Message(message, answer)
            }
            _ => Received::Refused,
        }
    }
}

impl AsFd for NotifySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// R22: root; the daemon, its descendants, its session; our own user where the daemon has another.
fn is_believed(sender: UCred, daemon: i32) -> bool {
    let user = sender.uid.as_raw();
    if user == 0 {
        return true;
    }
    let own = nix::unistd::geteuid().as_raw();
    if user == own && Status::of(daemon).is_ok_and(|status| status.user != own) {
        return true;
    }
    let pid = sender.pid.as_raw_nonzero().get();
    Stat::of(pid).is_ok_and(|stat| stat.session == daemon) || process::descends_from(pid, daemon)
}
