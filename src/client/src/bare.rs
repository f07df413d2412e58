//! A daemon without a launcher: it succeeds its predecessor by itself, as far as one process can.

use crate::error::Error;
use crate::files;
use std::path::PathBuf;

#[derive(Debug)]
pub(crate) struct Bare {
    /// Absolute.
    pub(crate) pid_file: Option<PathBuf>,
    /// What the predecessor is told with.
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "nobody is signalled without a pidfd")
    )]
    pub(crate) drain: i32,
}

impl Bare {
    pub(crate) fn started(&self) -> Result<(), Error> {
        let Some(pid_file) = &self.pid_file else {
            return Ok(());
        };
        files::check_replaceable(pid_file)?;
        #[cfg(target_os = "linux")]
        return crate::succession::succeed(pid_file, self.drain);
        // Without pidfds there is a moment between a look at a process and a signal to its PID, and R18 allows none.
        #[cfg(not(target_os = "linux"))]
        return files::replace(pid_file, &format!("{}\n", std::process::id()));
    }
}
