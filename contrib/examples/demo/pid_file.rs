//! Who is ready, as everybody can see it.

use std::{
    fs, io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};

/// The process that it names.
pub(crate) fn named(pid_file: &Path) -> Option<u32> {
    fs::read_to_string(pid_file).ok()?.trim().parse().ok()
}

/// The PID file, and a watch for its changes: the launcher renames a new one into place when a generation is ready.
pub(crate) struct PidFile {
    path: PathBuf,
    changes: Inotify,
}

impl PidFile {
    pub(crate) fn watch(directory: &Path) -> io::Result<Self> {
        let changes = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        changes.add_watch(directory, AddWatchFlags::IN_MOVED_TO)?;
        Ok(Self {
            path: directory.join("app.pid"),
            changes,
        })
    }

    /// Waits until it names a process that is `wanted`.
    pub(crate) fn wait(&self, limit: Duration, wanted: impl Fn(u32) -> bool) -> Option<u32> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(pid) = named(&self.path).filter(|pid| wanted(*pid)) {
                return Some(pid);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            let timeout = PollTimeout::try_from(left).ok()?;
            poll(
                &mut [PollFd::new(self.changes.as_fd(), PollFlags::POLLIN)],
                timeout,
            )
            .ok()?;
            // What changed does not matter: the file is read anew.
            self.changes.read_events().ok();
        }
    }
}
