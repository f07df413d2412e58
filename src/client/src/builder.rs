//! The choices before there is a handle, and what the environment makes of them.

use crate::bare::Bare;
use crate::environment::Launch;
use crate::error::{Error, ErrorKind};
use crate::keeper::Keeper;
use crate::line::Line;
#[cfg(doc)]
use crate::requests::{Prepare, Request};
use crate::seamless::{Seamless, Told};
use crate::signals::{Arrived, Caught, Signals};
use nix::libc;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the launcher is waited for, unless the builder says otherwise.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Choices before [`Seamless`] exists.
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until `build`"]
pub struct Builder {
    pid_file: Option<PathBuf>,
    without_signals: bool,
    timeout: Option<Duration>,
    drain: Option<i32>,
    prepare: Option<i32>,
}

impl Builder {
    /// Without a launcher, write this PID file on [`started`](Seamless::started), and tell the generation before to
    /// drain. A relative path counts from the working directory at [`build`](Self::build). A launcher has a PID file of
    /// its own, and this one is not touched.
    pub fn pid_file(mut self, path: impl AsRef<Path>) -> Self {
        self.pid_file = Some(path.as_ref().to_owned());
        self
    }

    /// Installs no handlers: the daemon owns its signals, and reports them with [`Seamless::inject`].
    pub fn without_signals(mut self) -> Self {
        self.without_signals = true;
        self
    }

    /// How long [`started`](Seamless::started) and [`Prepare::done`] wait for the launcher. Default: 10 s.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Without a launcher, the signal that means [`Request::Drain`] beside INT, instead of TERM. The record
    /// names it, for the successor. A launcher names its own.
    pub fn drain_signal(mut self, signal: i32) -> Self {
        self.drain = Some(signal);
        self
    }

    /// Without a launcher, the signal that means [`Request::Prepare`], instead of USR2. A launcher names its own.
    pub fn prepare_signal(mut self, signal: i32) -> Self {
        self.prepare = Some(signal);
        self
    }

    /// Reads the environment and makes the handle: see [`Seamless::from_env`].
    ///
    /// # Errors
    ///
    /// As [`Seamless::from_env`]; [`ErrorKind::Io`] if a relative PID file is named and there is no working directory.
    pub fn build(self) -> Result<Seamless, Error> {
        let launch = Launch::from_env()?;
        // A launcher names only the signals that are not the usual ones: without a name it is those, not our choice.
        let (prepare, drain) = match &launch {
            Some(launch) => (
                launch.prepare.unwrap_or(Some(libc::SIGUSR2)),
                launch.drain.unwrap_or(libc::SIGTERM),
            ),
            None => (
                Some(self.prepare.unwrap_or(libc::SIGUSR2)),
                self.drain.unwrap_or(libc::SIGTERM),
            ),
        };
        let mut drains = vec![drain];
        // A launcher makes a drain of INT by itself; without one it is somebody's Ctrl-C.
        if launch.is_none() && drain != libc::SIGINT && prepare != Some(libc::SIGINT) {
            drains.push(libc::SIGINT);
        }
        let signals = Signals::new(prepare, drains)?;
        let generation = launch.as_ref().and_then(|launch| launch.generation);
        let told = Told::new(
            launch.is_some(),
            generation,
            self.timeout.unwrap_or(PATIENCE),
        );
        let line = match launch {
            Some(Launch {
                keeper, address, ..
            }) => Line::Keeper(Keeper {
                pid: keeper,
                address,
            }),
            None => Line::Bare(Bare {
                pid_file: self.pid_file.as_deref().map(absolute).transpose()?,
                drain,
            }),
        };
        let arrived = Arrived::default();
        let caught = if self.without_signals {
            None
        } else {
            Some(Caught::catch(&signals, &arrived)?)
        };
        Ok(Seamless::new(line, told, signals, arrived, caught))
    }
}

/// A daemon may leave its directory between now and *started*.
fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(|error| {
        Error::caused(
            ErrorKind::Io,
            format!("cannot tell where the PID file {} is", path.display()),
            &error,
        )
    })
}
