//! Waiting for somebody to come where nobody is: by inotify, without looking again and again.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::events;

/// Rings when something happens to the files beside a PID file, or to a directory on the way there.
#[derive(Debug)]
pub(super) struct Doorbell {
    inotify: Inotify,
    /// The names that the path goes through, the PID file's last.
    names: Vec<OsString>,
}

impl Doorbell {
    /// To be opened before one looks whether somebody is there.
    pub(super) fn open(pid_file: &Path) -> Result<Doorbell> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
            .context("cannot watch the directory of the PID file")?;
        let wanted = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE;
        // From the root down: what is not there yet will be seen when it is made.
        let directories: Vec<&Path> = pid_file.ancestors().skip(1).collect();
        for directory in directories.into_iter().rev() {
            match inotify.add_watch(directory, wanted) {
                Ok(_) => {}
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) => {}
                Err(errno) => {
                    return Err(errno)
                        .with_context(|| format!("cannot watch {}", directory.display()));
                }
            }
        }
        let names = pid_file.iter().map(OsStr::to_owned).collect();
        Ok(Doorbell { inotify, names })
    }

    /// Whether it rang since the last call.
    pub(super) fn rang(&mut self) -> bool {
        let mut rang = false;
        while let Ok(events) = self.inotify.read_events() {
            rang |= events
                .iter()
                .any(|event| self.is_on_the_way(event.name.as_deref()));
        }
        rang
    }

    /// Events without a name are about the watch itself.
    fn is_on_the_way(&self, name: Option<&OsStr>) -> bool {
        let Some(name) = name else {
            return true;
        };
        let beside = self.names.last().is_some_and(|pid_file| {
            let (name, pid_file) = (name.as_encoded_bytes(), pid_file.as_encoded_bytes());
            name.starts_with(pid_file)
        });
        beside || self.names.iter().any(|known| known == name)
    }

    /// Waits until it rings; says whether it did in time.
    pub(super) fn wait(&mut self, until: Option<Instant>) -> bool {
        loop {
            events::wait(&[self.inotify.as_fd()], None, until);
            if self.rang() {
                return true;
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return false;
            }
        }
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn it_rings_for_the_path_and_for_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("a").join("b");
        let mut bell = Doorbell::open(&deep.join("app.pid")).unwrap();
        assert!(!bell.wait(Some(Instant::now())));
        fs::write(directory.path().join("other"), "").unwrap();
        assert!(!bell.rang());
        fs::create_dir_all(&deep).unwrap();
        assert!(bell.wait(None));
        bell = Doorbell::open(&deep.join("app.pid")).unwrap();
        fs::write(deep.join("app.pid.sock"), "").unwrap();
        assert!(bell.wait(None));
        assert!(!bell.rang());
    }
}
