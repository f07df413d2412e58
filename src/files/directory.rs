//! The end of the PID file's directory (R16): without it no successor can find us.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::Files;

/// Watches the directory from the one above it: the kernel does not speak of the end of a directory
/// as long as a socket is bound in it, under whatever name, and ours is.
#[derive(Debug)]
pub(crate) struct DirectoryWatch {
    inotify: Inotify,
    name: OsString,
    removed: bool,
}

impl DirectoryWatch {
    pub(crate) fn open(files: &Files) -> nix::Result<DirectoryWatch> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let directory = files.directory();
        let above = directory.parent().unwrap_or(directory);
        let wanted =
            AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM | AddWatchFlags::IN_ONLYDIR;
        inotify.add_watch(above, wanted)?;
        Ok(DirectoryWatch {
            inotify,
            name: directory.file_name().unwrap_or_default().to_owned(),
            removed: false,
        })
    }

    /// Whether it has been removed, whatever has been made in its place. To be asked when the watch has
    /// become readable.
    pub(crate) fn was_removed(&mut self) -> bool {
        // Once is enough: what is left wakes us again.
        let events = self.inotify.read_events().unwrap_or_default();
        self.removed |= events.iter().any(|event| {
            let deleted = event.mask.contains(AddWatchFlags::IN_DELETE);
            deleted && event.name.as_ref() == Some(&self.name)
        });
        self.removed
    }
}

impl AsFd for DirectoryWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}
