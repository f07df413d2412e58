//! Who is bound to a file, whatever that was called then: sock_diag(7).

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{major, minor};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

use super::listening::type_of;
use crate::listen::address::Kind;

/// `SOCK_DIAG_BY_FAMILY`; `NLM_F_REQUEST | NLM_F_DUMP`; `NLMSG_DONE` and `NLMSG_ERROR`.
const BY_FAMILY: u16 = 20;
const DUMP: u16 = 0x301;
const DONE: [u16; 2] = [3, 2];
/// `UDIAG_SHOW_VFS`, and the attribute that comes of it.
const SHOW_FILE: u32 = 2;
const FILE: u16 = 1;
/// `TCP_LISTEN`.
const LISTENS: u8 = 10;
/// What netlink(7) sends at once is never more.
const LONGEST: usize = 1 << 15;

/// The numbers of the sockets of that kind that are bound to the file at `path`, in our own network namespace.
pub(super) fn at(path: &Path, kind: Kind) -> Vec<u64> {
    let Ok(file) = std::fs::metadata(path) else {
        return Vec::new();
    };
    // The kernel's own way to write a device; and of the file's number it gives 32 bits.
    let device = (major(file.dev()) << 20) | minor(file.dev());
    let is_it = |one: &Bound| {
        let listens = one.state == LISTENS || !kind.has_connections();
        let file_is_it = one.file == Some((file.ino() as u32, device));
        file_is_it && listens && u32::from(one.kind) == type_of(kind)
    };
    let all = ask().unwrap_or_default();
    all.iter()
        .filter(|one| is_it(one))
        .map(|one| u64::from(one.number))
        .collect()
}

/// A Unix socket.
pub(crate) struct Bound {
    pub(crate) kind: u8,
    pub(crate) state: u8,
    pub(crate) number: u32,
    /// Number and device.
    pub(crate) file: Option<(u32, u32)>,
}

fn ask() -> io::Result<Vec<Bound>> {
    let flags = SocketFlags::CLOEXEC;
    let protocol = Some(netlink::SOCK_DIAG);
    let kernel = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
    send(&kernel, &question(), SendFlags::empty())?;
    let (mut all, mut answer) = (Vec::new(), vec![0; LONGEST]);
    loop {
        // The kernel has all of it ready: this never waits.
        let (length, _) = recv(&kernel, &mut answer, RecvFlags::DONTWAIT)?;
        let mut rest = &answer[..length];
        while let Some((kind, message, behind)) = next(rest) {
            if DONE.contains(&kind) {
                return Ok(all);
            }
            all.extend(Bound::parse(message));
            rest = behind;
        }
    }
}

/// A `struct nlmsghdr` and a `struct unix_diag_req`.
fn question() -> Vec<u8> {
    let states = u32::MAX;
    let header = [40_u32.to_ne_bytes(), both(BY_FAMILY, DUMP), [0; 4], [0; 4]];
    let family = [AddressFamily::UNIX.as_raw() as u8, 0, 0, 0];
    let request = [
        family,
        states.to_ne_bytes(),
        [0; 4],
        SHOW_FILE.to_ne_bytes(),
        [0; 4],
        [0; 4],
    ];
    [header.concat(), request.concat()].concat()
}

fn both(first: u16, second: u16) -> [u8; 4] {
    let (first, second) = (first.to_ne_bytes(), second.to_ne_bytes());
    [first[0], first[1], second[0], second[1]]
}

/// Type and content of the first message, and what lies behind it.
pub(crate) fn next(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = word(bytes, 0)? as usize;
    let message = bytes.get(16..length)?;
    let behind = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((half(bytes, 4)?, message, behind))
}

impl Bound {
    /// A `struct unix_diag_msg` and its attributes.
    pub(crate) fn parse(message: &[u8]) -> Option<Bound> {
        let mut bound = Bound {
            kind: *message.get(1)?,
            state: *message.get(2)?,
            number: word(message, 4)?,
            file: None,
        };
        let mut rest = message.get(16..)?;
        while let (Some(length), Some(kind)) = (half(rest, 0), half(rest, 2)) {
            if kind == FILE {
                bound.file = word(rest, 4).zip(word(rest, 8));
            }
            let step = usize::from(length).next_multiple_of(4).max(4);
            rest = rest.get(step..).unwrap_or_default();
        }
        Some(bound)
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_ne_bytes(word))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let half = bytes.get(at..at + 2)?.try_into().ok()?;
    Some(u16::from_ne_bytes(half))
}
