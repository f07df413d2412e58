//! Files beside each other: looked at without following a link, and replaced in one step.

use super::error::{Error, ErrorKind};
use nix::libc;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// More than any PID and its newline.
const LONGEST_PID: u64 = 32;

/// `app.pid` and `.lock` make `app.pid.lock`.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// Opens a file for reading, but not through a symbolic link at its place, and without waiting for a FIFO's writer.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK)
        .open(path)
}

/// Whether the PID file's place holds nothing of worth: nothing at all, a PID, an empty file, or a symbolic link, which
/// is replaced and never followed. A wrong path in a configuration must not cost anybody a file.
pub(crate) fn check_replaceable(path: &Path) -> Result<(), Error> {
    let not_ours = |what: &str| {
        let message = format!(
            "cannot write the PID file {}: {what} lies there",
            path.display()
        );
        Err(Error::new(ErrorKind::PidFile, message)
            .consequence("nothing was changed and nobody was told to drain"))
    };
    let unreadable = |error: &io::Error| {
        Error::caused(
            ErrorKind::PidFile,
            format!("cannot look at the PID file {}", path.display()),
            error,
        )
        .consequence("nothing was changed and nobody was told to drain")
    };
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unreadable(&error)),
    };
    if kind.is_symlink() {
        return Ok(());
    }
    if kind.is_dir() {
        return not_ours("a directory");
    }
    if !kind.is_file() {
        return not_ours("something that is no regular file");
    }
    let mut content = Vec::new();
    let read = open(path).and_then(|file| file.take(LONGEST_PID + 1).read_to_end(&mut content));
    read.map_err(|error| unreadable(&error))?;
    let is_pid = content.trim_ascii().iter().all(u8::is_ascii_digit);
    if content.len() as u64 > LONGEST_PID || !is_pid {
        return not_ours("a file whose content is no PID");
    }
    Ok(())
}

/// Writes `content` to a new file beside `path`, readable by all, and renames it over `path`.
pub(crate) fn replace(path: &Path, content: &str) -> Result<(), Error> {
    let write = || {
        let (mut file, temporary) = new_beside(path)?;
        file.write_all(content.as_bytes())?;
        // By hand: the umask of a daemon may keep others from reading it.
        file.set_permissions(Permissions::from_mode(0o644))?;
        fs::rename(&temporary.0, path)?;
        std::mem::forget(temporary);
        Ok(())
    };
    write().map_err(|error: io::Error| {
        Error::caused(
            ErrorKind::Io,
            format!("cannot write {}", path.display()),
            &error,
        )
    })
}

/// Removed when dropped: whatever fails on the way to its place, nothing is left.
#[derive(Debug)]
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // What cannot be removed now could not be removed later either.
        drop(fs::remove_file(&self.0));
    }
}

fn new_beside(path: &Path) -> io::Result<(File, Temporary)> {
    loop {
        // Random keys, as every hash map has them: a name that nobody can have planted something at.
        let name = format!(".{:016x}", RandomState::new().build_hasher().finish());
        let temporary = beside(path, &name);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(&temporary);
        match file {
            Ok(file) => return Ok((file, Temporary(temporary))),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}
