//! The launcher's word to its supervisor: readiness, and whatever its keeper passes on (R23).
//!
//! A supervisor believes its main process, which is the launcher; the keeper could not say it.

use std::collections::VecDeque;
use std::env;
use std::ffi::OsString;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, sendmsg, socket_with,
};

use super::notice::{Notice, let_go, make_room};
use crate::sys;

/// The most that one message can bring; unix(7).
pub(crate) const MOST_DESCRIPTORS: usize = 253;

/// The ways to the supervisor, if it has opened any.
#[derive(Debug, Default)]
pub(crate) struct Upstream {
    /// `NOTIFY_SOCKET`, as it was given.
    address: Option<OsString>,
    /// Connected, for only then does poll(2) say when there is room.
    socket: Option<OwnedFd>,
    unsent: VecDeque<Notice>,
    /// `--notification-fd`, until it has been used.
    notification: Option<OwnedFd>,
}

impl Upstream {
    /// What the supervisor gave. To be called before anything is opened.
    pub(crate) fn find(notification: Option<i32>) -> Result<Upstream> {
        let notification = match notification {
            Some(number) if sys::is_open(number) => Some(sys::take(number)?),
            Some(number) => bail!(
                "--notification-fd {number}: this descriptor is not open; let the supervisor open it (s6: a file notification-fd with {number} in the service directory)"
            ),
            None => None,
        };
        Ok(Upstream {
            address: env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty()),
            notification,
            ..Upstream::default()
        })
    }

    /// The daemon is ready.
    pub(crate) fn ready(&mut self) {
        if let Some(notification) = self.notification.take() {
            // Whoever does not read, or listens no more, has no use for it, and is not waited for.
            let mut room = [PollFd::new(notification.as_fd(), PollFlags::POLLOUT)];
            if poll(&mut room, PollTimeout::ZERO).is_ok_and(|ready| ready > 0) {
                let _ = rustix::io::write(&notification, b"\n");
            }
        }
        self.pass(Notice::new("READY=1".to_owned()));
    }

    /// Says whether something else was lost for it.
    pub(crate) fn pass(&mut self, notice: Notice) -> bool {
        if self.address.is_none() {
            return false;
        }
        let lost = make_room(&mut self.unsent, |notice| Some(notice));
        self.unsent.push_back(notice);
        self.flush();
        lost
    }

    /// Sends what can be sent without waiting, in order (R24).
    pub(crate) fn flush(&mut self) {
        while let Some(notice) = self.unsent.front() {
            let Some(socket) = self.socket.take().or_else(|| self.connect()) else {
                // There is no such supervisor, or no more.
                for notice in self.unsent.drain(..) {
                    let_go(notice.descriptors);
                }
                return;
            };
            let sent = send(&socket, notice);
            if !matches!(
                sent,
                Err(Errno::CONNREFUSED | Errno::CONNRESET | Errno::NOTCONN)
            ) {
                // Else it listens anew, perhaps: the next one finds out.
                self.socket = Some(socket);
            }
            match sent {
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Ok(_) => drop(self.unsent.pop_front()),
                Err(_) => {
                    let notice = self.unsent.pop_front();
                    let_go(notice.map_or_else(Vec::new, |notice| notice.descriptors));
                }
            }
        }
    }

    /// Sends the rest, to a supervisor that reads in time.
    pub(crate) fn finish(&mut self, patience: Duration) {
        let by = Instant::now() + patience;
        self.flush();
        while let Some(behind) = self.behind() {
            let left = by.saturating_duration_since(Instant::now());
            let mut room = [PollFd::new(behind, PollFlags::POLLOUT)];
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            let _ = poll(&mut room, timeout);
            if left.is_zero() {
                return;
            }
            self.flush();
        }
    }

    /// To be waited for until there is room.
    pub(crate) fn behind(&self) -> Option<BorrowedFd<'_>> {
        let waits = !self.unsent.is_empty();
        self.socket.as_ref().map(AsFd::as_fd).filter(|_| waits)
    }

    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let all = [&self.socket, &self.notification];
        all.into_iter().flatten().map(AsFd::as_fd)
    }

    fn connect(&self) -> Option<OwnedFd> {
        let address = self.address.as_deref()?.as_bytes();
        let address = match address.strip_prefix(b"@") {
            Some(name) => SocketAddrUnix::new_abstract_name(name),
            None => SocketAddrUnix::new(address),
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None).ok()?;
        connect(&socket, &address.ok()?).ok()?;
        Some(socket)
    }
}

/// Says upstream why there will be no generation.
pub(crate) fn report_failed_start(why: &str) {
    if let Ok(mut upstream) = Upstream::find(None) {
        upstream.pass(Notice::status(why));
    }
}

/// One message with its descriptors, without waiting.
pub(crate) fn send(socket: &OwnedFd, notice: &Notice) -> Result<usize, Errno> {
    send_bytes(
        socket,
        &[IoSlice::new(notice.text.as_bytes())],
        &notice.descriptors,
    )
}

pub(crate) fn send_bytes(
    socket: &OwnedFd,
    bytes: &[IoSlice<'_>],
    descriptors: &[OwnedFd],
) -> Result<usize, Errno> {
    let passed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !passed.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&passed));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(socket, bytes, &mut control, flags)
}
