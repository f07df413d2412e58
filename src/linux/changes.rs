//! Changes in a directory, told by signals: `F_NOTIFY` of fcntl(2), "dnotify".
//!
//! Not by inotify, where it need not be: to close one of its descriptors takes 10 ms and more, for the kernel
//! waits until nobody can be on his way to a watch any more; three such closes stood in the way of each
//! restart. And a user has 128 of them (`fs.inotify.max_user_instances`), for all his programs together. A
//! signal does not say which file it was: whoever watches looks. Signals of one kind that nobody has read
//! yet are one, so that nobody can pile them up.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;

use crate::signals::Signal;
use crate::sys;

/// What may happen in a directory, each with the signal that tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Something was made there, written, renamed, or removed.
    Any,
    /// Something was removed, or renamed.
    Removal,
}

impl Change {
    const ALL: [Change; 2] = [Change::Any, Change::Removal];

    /// Of those that nobody sends to a keeper, and whose default is harmless or which it blocks.
    fn signal(self) -> Signal {
        match self {
            Change::Any => Signal::IO,
            Change::Removal => Signal::URG,
        }
    }

    fn mask(self) -> u32 {
        match self {
            Change::Any => DN_CREATE | DN_MODIFY | DN_RENAME | DN_DELETE,
            Change::Removal => DN_DELETE,
        }
    }
}

const DN_MODIFY: u32 = 0x0000_0002;
const DN_CREATE: u32 = 0x0000_0004;
const DN_DELETE: u32 = 0x0000_0008;
const DN_RENAME: u32 = 0x0000_0010;
const DN_MULTISHOT: u32 = 0x8000_0000;

/// The signals to read.
pub(crate) fn signals() -> impl Iterator<Item = Signal> {
    Change::ALL.into_iter().map(Change::signal)
}

/// What was told since the last look, in whatever directory is watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) any: bool,
    pub(crate) removal: bool,
}

impl Changes {
    /// Takes note of a signal that has come.
    pub(crate) fn hear(&mut self, number: i32) {
        self.any |= number == Change::Any.signal().number();
        self.removal |= number == Change::Removal.signal().number();
    }
}

/// As long as it lives, this process is told.
#[derive(Debug)]
pub(crate) struct Watch {
    directory: File,
}

impl Watch {
    /// Needs the right to read the directory. `EINVAL` from a kernel that does not have it.
    pub(crate) fn open(path: &Path, change: Change) -> io::Result<Watch> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_DIRECTORY);
        let directory = options.open(path)?;
        let signal = change.signal().number();
        sys::tell_of_changes(directory.as_fd(), change.mask() | DN_MULTISHOT, signal)?;
        Ok(Watch { directory })
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}
