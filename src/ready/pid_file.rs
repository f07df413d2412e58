//! The seed's way of *started*: the daemon writes its own PID into the PID file (R12).

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::files::{Files, Found};

const READS_AT_ONCE: usize = 16;

/// Watches the PID file while a daemon starts.
#[derive(Debug)]
pub(crate) struct PidFileWatch {
    inotify: Inotify,
    files: Files,
    name: OsString,
    removed: bool,
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
    pub(crate) fn open(files: &Files) -> nix::Result<PidFileWatch> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        // Some keep it open, some link it into place.
        let wanted = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_ONLYDIR;
        inotify.add_watch(files.directory(), wanted)?;
        let name = files.pid_file.file_name().unwrap_or_default().to_owned();
        Ok(PidFileWatch {
            inotify,
            files: files.clone(),
            name,
            removed: false,
        })
    }

    /// What has happened since the last look.
    pub(crate) fn look(&mut self, daemon: i32) -> Option<Named> {
        let mut look = false;
        // Somebody else may write there without end; what is left wakes us again.
        for _ in 0..READS_AT_ONCE {
            let Ok(events) = self.inotify.read_events() else {
                break;
            };
            for event in events {
                let about_it = event.name.as_ref() == Some(&self.name);
                let gone = AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM;
                if about_it && event.mask.intersects(gone) {
                    self.removed = true;
                }
                // Where events were lost, the file itself still tells.
                look |= about_it || event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW);
            }
        }
        // Whoever owns the file: it is enough that it names our own child (R18).
        let named = look && self.files.found() == Found::Pid(daemon);
        named.then_some(Named {
            predecessor_told: self.removed,
        })
    }
}

impl AsFd for PidFileWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn watch() -> (tempfile::TempDir, PidFileWatch, std::path::PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.pid");
        fs::write(&path, "7\n").unwrap();
        let watch = PidFileWatch::open(&Files::beside(&path)).unwrap();
        (directory, watch, path)
    }

    #[test]
    fn removed_and_then_written_is_the_seeds_way() {
        let (_directory, mut watch, path) = watch();
        assert_eq!(watch.look(42), None);
        fs::remove_file(&path).unwrap();
        assert_eq!(watch.look(42), None);
        fs::write(&path, "42").unwrap();
        assert_eq!(
            watch.look(42),
            Some(Named {
                predecessor_told: true
            })
        );
    }

    #[test]
    fn written_over_tells_nobody() {
        let (_directory, mut watch, path) = watch();
        fs::write(&path, "42").unwrap();
        assert_eq!(
            watch.look(42),
            Some(Named {
                predecessor_told: false
            })
        );
    }

    #[test]
    fn another_file_and_another_pid_are_nothing() {
        let (directory, mut watch, path) = watch();
        fs::write(directory.path().join("other.pid"), "42").unwrap();
        assert_eq!(watch.look(42), None);
        fs::write(&path, "43").unwrap();
        assert_eq!(watch.look(42), None);
    }
}
