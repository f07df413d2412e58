//! The lock of the supervised generation (R19).

use std::fs::{File, OpenOptions, Permissions};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::open_suspiciously;
use crate::report::cause;

/// A number and a newline.
const LONGEST: u64 = 11;

/// Held by the keeper of the supervised generation; whoever cleans up takes it for a moment.
///
/// Dropping it unlocks explicitly. Left to the end of the process, it was still seen held by a
/// successor now and then.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Lock {
    /// The lock, or `None` if another process holds it. Does not wait.
    pub(crate) fn try_take(path: &Path) -> Result<Option<Lock>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).mode(0o600);
        let file = open_suspiciously(&mut options, path).map_err(|error| {
            anyhow!("cannot open the lock {}: {}", path.display(), cause(&error))
        })?;
        let metadata = file.metadata()?;
        let owner = metadata.uid();
        if !metadata.is_file() {
            bail!(
                "the lock {} is not a regular file; remove it",
                path.display()
            );
        }
        if owner != 0 && owner != nix::unistd::geteuid().as_raw() {
            bail!(
                "the lock {} belongs to user {owner}; use a directory that only this user can write",
                path.display()
            );
        }
        // Who may write the directory can put another file of this user's here, by a link or by its name;
        // what is in that one is not ours to change (R18).
        if metadata.nlink() > 1 || metadata.len() > LONGEST {
            bail!(
                "the lock {} is not one: it {}; remove it, and use a directory that only this user can write",
                path.display(),
                if metadata.nlink() > 1 {
                    "has another name, too"
                } else {
                    "holds something else"
                }
            );
        }
        let ours = owner == nix::unistd::geteuid().as_raw();
        if ours && metadata.mode() & 0o777 != 0o600 {
            // The umask, which is the daemon's, may have taken our own right to it.
            let _ = file.set_permissions(Permissions::from_mode(0o600));
        }
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock { file })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => bail!("cannot lock {}: {}", path.display(), cause(&errno.into())),
        }
    }
}

impl Lock {
    /// The number of the newest generation so far: it outlives the record, so that no two
    /// generations of a service ever have the same.
    pub(crate) fn last(&self) -> u32 {
        let mut text = [0; 16];
        let length = self.file.read_at(&mut text, 0).unwrap_or(0);
        let text = std::str::from_utf8(&text[..length]).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    /// A number that cannot be written may be given again.
    pub(crate) fn remember(&self, last: u32) {
        let text = format!("{last}\n");
        let _ = self.file.write_all_at(text.as_bytes(), 0);
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Should it fail, the close that follows lets go as well, only later.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{chown, symlink};

    #[test]
    fn one_holder_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.pid.lock");
        let held = Lock::try_take(&path).unwrap().unwrap();
        assert!(Lock::try_take(&path).unwrap().is_none());
        drop(held);
        assert!(Lock::try_take(&path).unwrap().is_some());
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o600);
    }

    #[test]
    fn a_planted_lock_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.pid.lock");
        symlink(directory.path().join("elsewhere"), &path).unwrap();
        let words = |path: &Path| Lock::try_take(path).unwrap_err().to_string();
        assert!(words(&path).contains("cannot open the lock"));
        assert!(!directory.path().join("elsewhere").exists());

        let foreign = directory.path().join("foreign.lock");
        File::create(&foreign).unwrap();
        chown(&foreign, Some(65534), None).unwrap();
        assert!(words(&foreign).contains("belongs to user 65534"));
        assert!(words(directory.path()).contains("cannot open the lock"));
    }

    #[test]
    fn another_file_in_its_place_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let precious = directory.path().join("precious");
        fs::write(&precious, "as long as a password, or longer\n").unwrap();
        fs::set_permissions(&precious, Permissions::from_mode(0o644)).unwrap();
        let path = directory.path().join("app.pid.lock");
        let words = |path: &Path| Lock::try_take(path).unwrap_err().to_string();
        fs::hard_link(&precious, &path).unwrap();
        assert!(words(&path).contains("has another name, too"));
        fs::remove_file(&path).unwrap();
        fs::rename(&precious, &path).unwrap();
        assert!(words(&path).contains("holds something else"));
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o644);
    }
}
