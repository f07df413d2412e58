//! What launcher and keeper inherited from the supervisor, and what they do with it: the daemon
//! finds all of it (R1), and they keep nothing but stderr (R2).

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, SigmaskHow};

use crate::{signals, sys};

/// From here on every signal waits until somebody reads it. Gives the mask as it was, for the
/// daemon.
pub(crate) fn block_signals() -> Result<SigSet> {
    let all = signals::set_of(signals::all_that_can_be_caught());
    all.thread_swap_mask(SigmaskHow::SIG_BLOCK)
        .context("cannot block signals")
}

/// Lets go of descriptors and working directory: a copy would keep a log pipe, a lock or a mounted
/// file system alive.
pub(crate) fn let_go(keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    sys::close_all_but(keep)?;
    match (
        File::options().read(true).write(true).open("/dev/null"),
        keep.first(),
    ) {
        (Ok(null), _) => {
            nix::unistd::dup2_stdin(&null)?;
            nix::unistd::dup2_stdout(&null)?;
        }
        // Without /dev/null anything of our own is better than what is somebody's.
        (Err(_), Some(own)) => {
            nix::unistd::dup2_stdin(own)?;
            nix::unistd::dup2_stdout(own)?;
        }
        (Err(error), None) => return Err(error),
    }
    std::env::set_current_dir("/")
}
