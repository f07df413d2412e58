//! The end of the PID file's directory (R16): without it no successor can find us.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::Files;

/// Watches the directory from the one above it: the kernel does not speak of the end of a directory
/// as long as a socket is bound in it, under whatever name, and ours is.
#[derive(Debug)]
pub(crate) struct DirectoryWatch {
    inotify: Inotify,
    directory: PathBuf,
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
            directory: directory.to_owned(),
        })
    }

    /// Whether it is gone now. To be asked when the watch has become readable, and once before.
    pub(crate) fn has_gone(&self) -> bool {
        // Once is enough: what is left wakes us again.
        let _ = self.inotify.read_events();
        !self.directory.is_dir()
    }
}

impl AsFd for DirectoryWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}
