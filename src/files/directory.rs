//! The end of the PID file's directory (R16): without it no successor can find us.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::Files;
use crate::changes::{Change, Watch};

/// Watches the directory from the one above it: the kernel does not speak of the end of a directory
/// as long as a socket is bound in it, under whatever name, and ours is.
#[derive(Debug)]
pub(crate) struct DirectoryWatch {
    above: Watch,
}

impl DirectoryWatch {
    pub(crate) fn open(files: &Files) -> io::Result<DirectoryWatch> {
        let directory = files.directory();
        let above = directory.parent().unwrap_or(directory);
        let above = Watch::open(above, Change::Removal)?;
        Ok(DirectoryWatch { above })
    }
}

impl AsFd for DirectoryWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.above.as_fd()
    }
}
