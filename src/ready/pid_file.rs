//! The seed's way of *started*: the daemon writes its own PID into the PID file (R12).

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use nix::libc;

use crate::changes::{Change, Changes, Watch};
use crate::files::{Files, Found};

/// Watches the PID file while a daemon starts.
#[derive(Debug)]
pub(crate) struct PidFileWatch {
    watches: Vec<Watch>,
    files: Files,
    /// What has its name. Held, so that its number is not given to another file.
    known: Option<File>,
    removed: bool,
    looked: bool,
}

/// The daemon has named itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// It removed the old file first, so it has told its predecessor itself: a second signal would
    /// cut that one's drain short.
    pub(crate) predecessor_told: bool,
}

impl PidFileWatch {
    /// To be opened before the daemon runs, so that nothing it does is missed.
    pub(crate) fn open(files: &Files) -> io::Result<PidFileWatch> {
        let watch = |change| Watch::open(files.directory(), change);
        // Some keep it open, some link it into place.
        let mut own = PidFileWatch::by(vec![watch(Change::Any)?], files);
        if own.known.is_some() {
            own.watches.push(watch(Change::Removal)?);
            own.watches.push(watch(Change::Renaming)?);
        }
        Ok(own)
    }

    fn by(watches: Vec<Watch>, files: &Files) -> PidFileWatch {
        PidFileWatch {
            watches,
            files: files.clone(),
            known: hold(files),
            removed: false,
            looked: false,
        }
    }

    /// What has happened since the last look.
    pub(crate) fn look(&mut self, changes: Changes, daemon: i32) -> Option<Named> {
        if std::mem::replace(&mut self.looked, true) && changes == Changes::default() {
            return None;
        }
        match fs::symlink_metadata(&self.files.pid_file) {
            Ok(found) if self.is_known(&found) => {}
            Ok(_) => {
                // Another one. A file that was renamed into its place has removed nothing; where somebody
                // renamed another one in the same moment, a second signal is the lesser evil than a
                // predecessor that nobody tells.
                self.removed |= self.known.is_some() && changes.removal && !changes.renaming;
                self.known = hold(&self.files);
            }
            Err(_) => self.removed |= self.known.take().is_some(),
        }
        // Whoever owns the file: it is enough that it names our own child (R18).
        let named = self.files.found() == Found::Pid(daemon);
        named.then_some(Named {
            predecessor_told: self.removed,
        })
    }

    fn is_known(&self, found: &fs::Metadata) -> bool {
        let known = self.known.as_ref().and_then(|known| known.metadata().ok());
        known.is_some_and(|known| known.dev() == found.dev() && known.ino() == found.ino())
    }

    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let known = self.known.iter().map(AsFd::as_fd);
        self.watches.iter().map(AsFd::as_fd).chain(known)
    }
}

fn hold(files: &Files) -> Option<File> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_NOFOLLOW);
    options.open(&files.pid_file).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: Changes = Changes {
        any: true,
        removal: false,
        renaming: false,
    };
    const REMOVED: Changes = Changes {
        removal: true,
        ..WRITTEN
    };
    const RENAMED: Changes = Changes {
        renaming: true,
        ..REMOVED
    };

    /// Without signals, which would reach whatever test runs.
    fn watch() -> (tempfile::TempDir, PidFileWatch, std::path::PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.pid");
        fs::write(&path, "7\n").unwrap();
        let mut watch = PidFileWatch::by(Vec::new(), &Files::beside(&path));
        assert_eq!(watch.look(Changes::default(), 42), None);
        (directory, watch, path)
    }

    fn named(predecessor_told: bool) -> Option<Named> {
        Some(Named { predecessor_told })
    }

    #[test]
    fn removed_and_then_written_is_the_seeds_way() {
        for seen_between in [true, false] {
            let (_directory, mut watch, path) = watch();
            fs::remove_file(&path).unwrap();
            if seen_between {
                assert_eq!(watch.look(REMOVED, 42), None);
            }
            fs::write(&path, "42").unwrap();
            let changes = if seen_between { WRITTEN } else { REMOVED };
            assert_eq!(watch.look(changes, 42), named(true), "{seen_between}");
        }
    }

    #[test]
    fn written_over_tells_nobody() {
        let (_directory, mut watch, path) = watch();
        fs::write(&path, "42").unwrap();
        assert_eq!(watch.look(WRITTEN, 42), named(false));
    }

    #[test]
    fn renamed_into_place_tells_nobody() {
        let (directory, mut watch, path) = watch();
        let beside = directory.path().join("new");
        fs::write(&beside, "42").unwrap();
        fs::rename(beside, &path).unwrap();
        assert_eq!(watch.look(RENAMED, 42), named(false));
    }

    #[test]
    fn what_others_do_there_is_nothing() {
        let (directory, mut watch, path) = watch();
        fs::write(directory.path().join("other.pid"), "42").unwrap();
        assert_eq!(watch.look(WRITTEN, 42), None);
        fs::remove_file(directory.path().join("other.pid")).unwrap();
        assert_eq!(watch.look(REMOVED, 42), None);
        fs::write(&path, "43").unwrap();
        assert_eq!(watch.look(WRITTEN, 42), None);
        fs::write(&path, "42").unwrap();
        assert_eq!(watch.look(Changes::default(), 42), None, "nothing was told");
        assert_eq!(watch.look(WRITTEN, 42), named(false));
    }
}
