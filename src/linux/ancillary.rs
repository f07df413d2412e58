//! What came with a message beside its bytes (cmsg(3)), read from what the kernel wrote.
//!
//! The C library's macros walk over it by pointers. Here it is bytes: a wrong length ends the walk.

use std::mem::offset_of;
use std::os::fd::RawFd;

use nix::libc;

/// Each message begins at a multiple of this, and its header with a length of this size.
const WORD: usize = size_of::<usize>();
/// Length, level and type.
const HEADER: usize = WORD + 8;

// The C library's own picture of what the kernel writes.
const _: () = assert!(
    size_of::<libc::cmsghdr>() == HEADER
        && offset_of!(libc::cmsghdr, cmsg_len) == 0
        && offset_of!(libc::cmsghdr, cmsg_level) == WORD
        && offset_of!(libc::cmsghdr, cmsg_type) == WORD + 4
        && HEADER % WORD == 0
        && size_of::<libc::ucred>() == 12
        && offset_of!(libc::ucred, pid) == 0
        && offset_of!(libc::ucred, uid) == 4
        && offset_of!(libc::ucred, gid) == 8
);

/// Who sent it, as the kernel knows it (SO_PASSCRED).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sender {
    /// 0 for a process that this PID namespace cannot see.
    pub(crate) pid: i32,
    /// The real ones.
    pub(crate) user: u32,
    pub(crate) group: u32,
}

/// What of it is of use. The descriptors are numbers here: nobody owns them yet.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ancillary {
    pub(crate) sender: Option<Sender>,
    pub(crate) descriptors: Vec<RawFd>,
}

/// Reads as much of the buffer as the kernel says that it filled.
pub(crate) fn read(mut control: &[u8]) -> Ancillary {
    let mut all = Ancillary::default();
    while let Some((level, kind, data, rest)) = first(control) {
        match (level, kind) {
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) => {
                all.sender = sender(data).or(all.sender);
            }
            (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                let numbers = (0..data.len() / size_of::<RawFd>()).filter_map(|index| {
                    number(data, index * size_of::<RawFd>()).map(RawFd::from_ne_bytes)
                });
                all.descriptors.extend(numbers);
            }
            _ => {}
        }
        control = rest;
    }
    all
}

fn sender(data: &[u8]) -> Option<Sender> {
    Some(Sender {
        pid: i32::from_ne_bytes(number(data, 0)?),
        user: u32::from_ne_bytes(number(data, 4)?),
        group: u32::from_ne_bytes(number(data, 8)?),
    })
}

/// Level, type and data of the first one, and what comes after it.
fn first(control: &[u8]) -> Option<(i32, i32, &[u8], &[u8])> {
    let length = usize::from_ne_bytes(number(control, 0)?);
    let level = i32::from_ne_bytes(number(control, WORD)?);
    let kind = i32::from_ne_bytes(number(control, WORD + 4)?);
    let data = control.get(HEADER..length)?;
    // The last one is not filled up.
    let rest = control.get(length.next_multiple_of(WORD)..);
    Some((level, kind, data, rest.unwrap_or_default()))
}

fn number<const SIZE: usize>(bytes: &[u8], at: usize) -> Option<[u8; SIZE]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message as the kernel writes it, filled up to where the next one begins.
    fn message(length: usize, level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(WORD), 0xff);
        bytes
    }

    fn credentials(pid: i32, user: u32) -> Vec<u8> {
        let numbers = [pid as u32, user, 7].map(u32::to_ne_bytes).concat();
        message(
            HEADER + 12,
            libc::SOL_SOCKET,
            libc::SCM_CREDENTIALS,
            &numbers,
        )
    }

    fn rights(numbers: impl IntoIterator<Item = i32>) -> Vec<u8> {
        let data: Vec<u8> = numbers.into_iter().flat_map(i32::to_ne_bytes).collect();
        let length = HEADER + data.len();
        message(length, libc::SOL_SOCKET, libc::SCM_RIGHTS, &data)
    }

    #[test]
    fn credentials_and_descriptors_in_any_order() {
        let all = Ancillary {
            sender: Some(Sender {
                pid: 0,
                user: 33,
                group: 7,
            }),
            descriptors: (3..256).collect(),
        };
        let (sender, descriptors) = (credentials(0, 33), rights(3..256));
        assert_eq!(read(&[&sender[..], &descriptors].concat()), all);
        assert_eq!(read(&[&descriptors[..], &sender].concat()), all);
        // What nobody asked for lies between them.
        let other = message(HEADER + 3, libc::SOL_SOCKET, libc::SCM_TIMESTAMP, b"now");
        assert_eq!(read(&[&descriptors[..], &other, &sender].concat()), all);
        let other = message(HEADER + 4, libc::SOL_TCP, libc::SCM_RIGHTS, &[9, 0, 0, 0]);
        assert_eq!(read(&[&other[..], &sender, &descriptors].concat()), all);
    }

    #[test]
    fn nothing_is_nothing() {
        assert_eq!(read(&[]), Ancillary::default());
        assert_eq!(read(&[0; 2048]), Ancillary::default());
        assert_eq!(read(&rights([])), Ancillary::default());
    }

    #[test]
    fn the_last_one_is_not_filled_up() {
        let whole = rights([3]);
        let read = read(&whole[..HEADER + 4]);
        assert_eq!(read.descriptors, [3]);
    }

    #[test]
    fn a_length_that_cannot_be_ends_the_walk() {
        let whole = rights([3]);
        for length in [
            0,
            1,
            HEADER - 1,
            whole.len() + 1,
            usize::MAX - 3,
            usize::MAX,
        ] {
            let wrong = message(length, libc::SOL_SOCKET, libc::SCM_RIGHTS, &[4, 0, 0, 0]);
            let read = read(&[&whole[..], &wrong, &whole].concat()[..2 * whole.len()]);
            assert_eq!(read.descriptors, [3], "{length}");
        }
    }

    #[test]
    fn cut_anywhere_it_gives_what_is_whole() {
        let all = [credentials(5, 6), rights([3, 4]), rights([5])].concat();
        for length in 0..all.len() {
            let found = read(&all[..length]);
            let whole = length >= HEADER + 12;
            assert_eq!(found.sender.is_some(), whole, "{length}");
            let count = [2 * HEADER + 24, 3 * HEADER + 28].map(|end| length >= end);
            assert_eq!(
                found.descriptors.len(),
                2 * usize::from(count[0]) + usize::from(count[1])
            );
        }
    }

    #[test]
    fn half_a_sender_is_none() {
        let short = message(
            HEADER + 8 - 1,
            libc::SOL_SOCKET,
            libc::SCM_CREDENTIALS,
            &[1; 7],
        );
        assert_eq!(read(&short), Ancillary::default());
    }

    #[test]
    fn any_bytes_at_all() {
        // xorshift: the lengths small, so that the walk goes on.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut draw = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let rounds = if cfg!(miri) { 50 } else { 20_000 };
        for _ in 0..rounds {
            let mut bytes = Vec::new();
            for _ in 0..draw(6) {
                let length = draw(64) as usize;
                let data: Vec<u8> = (0..draw(40)).map(|_| draw(256) as u8).collect();
                let kind = draw(4) as i32;
                bytes.extend(message(length, libc::SOL_SOCKET, kind, &data));
            }
            bytes.truncate(draw(300) as usize);
            let found = read(&bytes);
            assert!(found.descriptors.len() * size_of::<RawFd>() <= bytes.len());
        }
    }
}
