//! One line between two processes: a seqpacket socket, which keeps message boundaries and ends
//! when either process does.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::io::Errno;
use rustix::net::{
    RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, sendmsg,
    sockopt::set_socket_passcred,
};

use super::Message;
use crate::sys;

/// Longer than the longest state ([`super::wire::State`]), and shorter than what a socket takes
/// (`net.core.wmem_default` is 212992).
const LONGEST: usize = 200_000;

#[derive(Debug)]
pub(crate) struct Connection(OwnedFd);

/// What reading gave.
#[derive(Debug)]
pub(crate) enum Received {
    Message(Message, Vec<OwnedFd>),
    /// Why it cannot be read, in words.
    Unreadable(String),
    NothingYet,
    /// The other end has gone, or belongs to somebody who has no business here.
    End,
}

impl Connection {
    /// Asks the kernel to say with each message who sent it.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Connection> {
        set_socket_passcred(&socket, true)?;
        Ok(Connection(socket))
    }

    /// Of a connection that was made from here: the process that listens, where its PID can be told in this
    /// namespace.
    pub(crate) fn peer(&self) -> Option<i32> {
        let peer = getsockopt(&self.0, PeerCredentials).ok()?;
        Some(peer.pid()).filter(|pid| *pid > 0)
    }

    /// Sends, without waiting. An error means that the other end has gone or does not read, which
    /// is the same to us.
    pub(crate) fn send(&self, message: &Message) -> io::Result<()> {
        self.send_with(message, &[])
    }

    pub(crate) fn send_with(
        &self,
        message: &Message,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let size = SendAncillaryMessage::ScmRights(descriptors).size();
        let mut space = vec![MaybeUninit::uninit(); size];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let text = message.to_string();
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        loop {
            match sendmsg(
                &self.0,
                &[IoSlice::new(text.as_bytes())],
                &mut control,
                flags,
            ) {
                Err(Errno::INTR) => {}
                sent => return sent.map(|_| ()).map_err(io::Error::from),
            }
        }
    }

    /// Reads, without waiting. Only root and our own user are listened to.
    pub(crate) fn receive(&self) -> Received {
        let mut bytes = Vec::new();
        loop {
            let received = self.length_of_next().and_then(|length| {
                bytes.resize(length.min(LONGEST), 0);
                sys::receive(self.0.as_fd(), &mut bytes)
            });
            let datagram = match received {
                Ok(datagram) => datagram,
                // ECONNRESET: the other end left something unread; what it sent comes after that.
                Err(error) => match error.raw_os_error() {
                    Some(nix::libc::EINTR | nix::libc::ECONNRESET) => continue,
                    Some(nix::libc::EAGAIN) => return Received::NothingYet,
                    _ => return Received::End,
                },
            };
            if datagram.length == 0 && datagram.descriptors.is_empty() {
                return Received::End;
            }
            let own = nix::unistd::geteuid().as_raw();
            let trusted = |sender: sys::Sender| sender.user == 0 || sender.user == own;
            if !datagram.sender.is_some_and(trusted) {
                return Received::End;
            }
            if !datagram.whole {
                return Received::Unreadable("is too long".to_owned());
            }
            return match Message::parse(&bytes[..datagram.length]) {
                Ok(message) => Received::Message(message, datagram.descriptors),
                Err(unreadable) => Received::Unreadable(unreadable.0),
            };
        }
    }

    /// Room for the longest, each time, would stay with the process: its allocator keeps what was used once.
    fn length_of_next(&self) -> io::Result<usize> {
        let nothing: &mut [u8] = &mut [];
        let flags = RecvFlags::PEEK | RecvFlags::TRUNC | RecvFlags::DONTWAIT;
        let (_, length) = recv(&self.0, nothing, flags)?;
        Ok(length)
    }

    /// Waits until there is something to read, or the time is over; says which.
    pub(crate) fn wait(&self, until: Option<Instant>) -> bool {
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let mut source = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            let ready = poll(&mut source, left.map_or(PollTimeout::NONE, rounded_up));
            match (ready, left) {
                (Ok(0), Some(Duration::ZERO)) => return false,
                (Ok(0), _) | (Err(_), _) => {}
                (Ok(_), _) => return true,
            }
        }
    }
}

fn rounded_up(time: Duration) -> PollTimeout {
    PollTimeout::try_from(time.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Connection> for OwnedFd {
    fn from(connection: Connection) -> OwnedFd {
        connection.0
    }
}
