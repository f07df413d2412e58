//! Files that are executed as soon as they are there.
//!
//! Whoever writes one himself may find it busy (ETXTBSY): a child that another test forks in that moment has it open
//! for writing as well, up to its own exec. So another program writes it.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use tempfile::NamedTempFile;

use super::{Spawn, tool};

/// A file of this content in the place of whatever was there.
pub(crate) fn write(path: &Path, content: &[u8], mode: u32) {
    let mut beside = NamedTempFile::new().unwrap();
    beside.write_all(content).unwrap();
    copy(beside.path(), path, mode);
}

/// A copy in the place of whatever was there.
pub(crate) fn copy(from: &Path, to: &Path, mode: u32) {
    Spawn::from(Command::new(tool("install", "coreutils")))
        .args(["-m", &format!("{mode:o}"), "--"])
        .args([from, to])
        .finish()
        .expect_success();
}
