//! The seed's way of *started*: the daemon writes its own PID into the PID file (R12).

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::changes::{Change, Changes, Watch};
use crate::files::{Files, Found};

const READS_AT_ONCE: usize = 16;

/// Watches the PID file while a daemon starts.
#[derive(Debug)]
pub(crate) struct PidFileWatch {
    /// Where somebody is named already it matters in which way the daemon takes his place, and that only
    /// inotify tells. To drop it takes 10 ms and more. Where there is none, what is found missing was removed.
    names: Option<Inotify>,
    /// Only held: its signals wake the keeper.
    changes: Option<Watch>,
    files: Files,
    name: OsString,
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
        let names = match files.found() {
            Found::Nothing => None,
            Found::Pid(_) | Found::Empty | Found::Link | Found::Other(_) => watch_names(files).ok(),
        };
        let changes = match names {
            Some(_) => None,
            None => Some(Watch::open(files.directory(), Change::Any)?),
        };
        Ok(PidFileWatch::by(names, changes, files))
    }

    fn by(names: Option<Inotify>, changes: Option<Watch>, files: &Files) -> PidFileWatch {
        PidFileWatch {
            names,
            changes,
            files: files.clone(),
            name: files.pid_file.file_name().unwrap_or_default().to_owned(),
            removed: false,
            looked: false,
        }
    }

    /// What has happened since the last look.
    pub(crate) fn look(&mut self, changes: Changes, daemon: i32) -> Option<Named> {
        let first = !std::mem::replace(&mut self.looked, true);
        let touched = match &self.names {
            Some(inotify) => {
                let (touched, removed) = read(inotify, &self.name);
                self.removed |= removed;
                touched
            }
            None => changes.any,
        };
        if !first && !touched {
            return None;
        }
        let found = self.files.found();
        self.removed |= found == Found::Nothing;
        // Whoever owns the file: it is enough that it names our own child (R18).
        (found == Found::Pid(daemon)).then_some(Named {
            predecessor_told: self.removed,
        })
    }

    pub(crate) fn to_watch(&self) -> Option<BorrowedFd<'_>> {
        self.names.as_ref().map(AsFd::as_fd)
    }

    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        let changes = self.changes.as_ref().map(AsFd::as_fd);
        self.to_watch().or(changes)
    }
}

fn watch_names(files: &Files) -> nix::Result<Inotify> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    // Some keep it open, some link it into place.
    let wanted = AddWatchFlags::IN_MODIFY
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_ONLYDIR;
    inotify.add_watch(files.directory(), wanted)?;
    Ok(inotify)
}

/// Whether that file was touched, and whether it was removed.
fn read(inotify: &Inotify, name: &OsString) -> (bool, bool) {
    let (mut touched, mut removed) = (false, false);
    // Somebody else may write there without end; what is left wakes us again.
    for _ in 0..READS_AT_ONCE {
        let Ok(events) = inotify.read_events() else {
            break;
        };
        for event in events {
            let about_it = event.name.as_ref() == Some(name);
            let gone = AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM;
            removed |= about_it && event.mask.intersects(gone);
            // Where events were lost, the file itself still tells.
            touched |= about_it || event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW);
        }
    }
    (touched, removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const CHANGED: Changes = Changes {
        any: true,
        removal: true,
    };

    /// How it is done, whether the predecessor was told by that, and the deed.
    type Way = (&'static str, bool, fn(&std::path::Path));

    fn named(predecessor_told: bool) -> Option<Named> {
        Some(Named { predecessor_told })
    }

    fn place() -> (tempfile::TempDir, std::path::PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.pid");
        fs::write(&path, "7\n").unwrap();
        (directory, path)
    }

    /// By names; and by what is found where there are none, for a signal would reach whatever test runs.
    fn watches(path: &std::path::Path) -> [PidFileWatch; 2] {
        let files = Files::beside(path);
        let names = PidFileWatch::open(&files).unwrap();
        assert!(names.names.is_some());
        let mut all = [names, PidFileWatch::by(None, None, &files)];
        for watch in &mut all {
            assert_eq!(watch.look(Changes::default(), 42), None);
        }
        all
    }

    /// In how many ways a daemon may take the place, and whether it has told its predecessor by that.
    #[test]
    fn whoever_removes_the_old_one_first_has_told_it() {
        let ways: [Way; 6] = [
            ("written over", false, |path| fs::write(path, "42").unwrap()),
            ("removed and written", true, |path| {
                fs::remove_file(path).unwrap();
                fs::write(path, "42").unwrap();
            }),
            ("renamed into place", false, |path| {
                let beside = path.with_extension("new");
                fs::write(&beside, "42").unwrap();
                fs::rename(beside, path).unwrap();
            }),
            ("removed, and renamed into place", true, |path| {
                fs::remove_file(path).unwrap();
                let beside = path.with_extension("new");
                fs::write(&beside, "42").unwrap();
                fs::rename(beside, path).unwrap();
            }),
            (
                "from elsewhere, while another one is removed",
                false,
                |path| {
                    let elsewhere = path.parent().unwrap().parent().unwrap();
                    let beside = elsewhere.join(format!("{}.42", std::process::id()));
                    let junk = path.with_extension("junk");
                    fs::write(&junk, "").unwrap();
                    fs::write(&beside, "42").unwrap();
                    fs::rename(beside, path).unwrap();
                    fs::remove_file(junk).unwrap();
                },
            ),
            ("moved away, and written", true, |path| {
                fs::rename(path, path.with_extension("old")).unwrap();
                fs::write(path, "42").unwrap();
            }),
        ];
        for (way, told, take_the_place) in ways {
            let (_directory, path) = place();
            let [mut names, mut by_sight] = watches(&path);
            take_the_place(&path);
            assert_eq!(names.look(CHANGED, 42), named(told), "{way}");
            // Nothing was missing when it looked.
            assert_eq!(by_sight.look(CHANGED, 42), named(false), "{way}");
        }
    }

    #[test]
    fn what_is_found_missing_was_removed() {
        let (_directory, path) = place();
        for mut watch in watches(&path) {
            fs::remove_file(&path).unwrap();
            assert_eq!(watch.look(CHANGED, 42), None);
            fs::write(&path, "42").unwrap();
            assert_eq!(watch.look(CHANGED, 42), named(true));
        }
    }

    #[test]
    fn another_file_and_another_pid_are_nothing() {
        let (directory, path) = place();
        for mut watch in watches(&path) {
            fs::write(directory.path().join("other.pid"), "42").unwrap();
            assert_eq!(watch.look(CHANGED, 42), None);
            fs::write(&path, "43").unwrap();
            assert_eq!(watch.look(CHANGED, 42), None);
        }
    }
}
