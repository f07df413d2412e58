//! A launcher inside a test: no process, no signal, no file, and any number at once. Feature `testing`.
//!
//! ```
//! use seamless_client::testing::Launcher;
//! use std::time::Duration;
//!
//! let (launcher, seamless) = Launcher::pair();
//! let daemon = std::thread::spawn(move || {
//!     seamless.status("warm")?;
//!     seamless.started()?;
//!     seamless.wait();
//!     Ok::<(), seamless_client::Error>(())
//! });
//! assert!(launcher.wait_started(Duration::from_secs(10)));
//! assert_eq!(launcher.last_status().as_deref(), Some("warm"));
//! assert!(launcher.prepare(Duration::from_secs(10)));
//! launcher.drain();
//! daemon.join().unwrap()?;
//! # Ok::<(), seamless_client::Error>(())
//! ```

use crate::builder::PATIENCE;
use crate::error::{Error, ErrorKind};
use crate::inbox::Inbox;
use crate::inherited;
use crate::line::Line;
use crate::listeners::Listeners;
use crate::seamless::{Seamless, Told};
use crate::signals::{Arrived, Meaning, Signals};
use nix::libc;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The launcher's end of the line.
///
/// When it is dropped the launcher is gone: what the daemon says then fails with [`ErrorKind::Gone`].
#[derive(Debug)]
pub struct Launcher {
    rehearsal: Arc<Rehearsal>,
    /// The daemon's requests, but not a hold on them: they end with the daemon's handles.
    inbox: Arc<Inbox>,
}

/// What both ends see.
#[derive(Debug, Default)]
pub(crate) struct Rehearsal {
    said: Mutex<Said>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Said {
    started: bool,
    prepared: u64,
    status: Option<String>,
    refusal: Option<String>,
    gone: bool,
    sockets: Vec<(String, OwnedFd)>,
    claimed: bool,
}

impl Launcher {
    /// A launcher and the daemon's handle to it. The daemon is generation 1.
    #[must_use]
    pub fn pair() -> (Launcher, Seamless) {
        let rehearsal = Arc::new(Rehearsal::default());
        let told = Told::new(true, NonZeroU32::new(1), PATIENCE);
        // For `inject` only: nothing is caught.
        let signals = Signals {
            prepare: Some(libc::SIGUSR2),
            drain: vec![libc::SIGTERM],
        };
        let line = Line::Rehearsal(Arc::clone(&rehearsal));
        let seamless = Seamless::new(line, told, signals, Arrived::default(), None);
        let inbox = Arc::clone(seamless.inbox());
        (Launcher { rehearsal, inbox }, seamless)
    }

    /// Asks the daemon to prepare; whether it answered within `limit`.
    #[must_use]
    pub fn prepare(&self, limit: Duration) -> bool {
        let before = self.rehearsal.said().prepared;
        self.inbox.put(Meaning::Prepare);
        self.rehearsal.wait(limit, |said| said.prepared > before)
    }

    /// Tells the daemon to drain.
    pub fn drain(&self) {
        self.inbox.put(Meaning::Drain);
    }

    /// Waits for the daemon's *started*; whether it came within `limit`, or had come before.
    #[must_use]
    pub fn wait_started(&self, limit: Duration) -> bool {
        self.rehearsal.wait(limit, |said| said.started)
    }

    /// Makes the next *started* fail with [`ErrorKind::Refused`] and these words. The one after it succeeds.
    pub fn refuse(&self, why: &str) {
        self.rehearsal.said().refusal = Some(why.to_owned());
    }

    /// Hands over a socket under a name, before the daemon calls [`Seamless::listeners`]: this handle's own, and not the
    /// process's. Several may have the same name. One that comes after the call nobody gets.
    ///
    /// ```
    /// # use seamless_client::testing::Launcher;
    /// let (launcher, seamless) = Launcher::pair();
    /// launcher.listen("http", std::net::TcpListener::bind("127.0.0.1:0")?);
    /// assert!(seamless.listeners()?.tcp("http")?.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn listen(&self, name: &str, socket: impl Into<OwnedFd>) {
        let socket = (name.to_owned(), socket.into());
        self.rehearsal.said().sockets.push(socket);
    }

    /// The last status line, as the daemon gave it.
    #[must_use]
    pub fn last_status(&self) -> Option<String> {
        self.rehearsal.said().status.clone()
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        self.rehearsal.said().gone = true;
    }
}

impl Rehearsal {
    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, limit: Duration, holds: impl Fn(&Said) -> bool) -> bool {
        let waited = self
            .changed
            .wait_timeout_while(self.said(), limit, |said| !holds(said));
        let (said, _) = waited.unwrap_or_else(PoisonError::into_inner);
        holds(&said)
    }

    fn say(
        &self,
        word: &str,
        say: impl FnOnce(&mut Said) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut said = self.said();
        if said.gone {
            let message =
                format!("cannot say {word:?} to the launcher of this test: it was dropped");
            return Err(Error::new(ErrorKind::Gone, message));
        }
        let result = say(&mut said);
        self.changed.notify_all();
        result
    }

    pub(crate) fn started(&self) -> Result<(), Error> {
        self.say("started", |said| match said.refusal.take() {
            Some(words) => {
                let message = format!(
                    "cannot say \"started\" to the launcher of this test: it answered: {words}"
                );
                Err(Error::new(ErrorKind::Refused, message))
            }
            None => {
                said.started = true;
                Ok(())
            }
        })
    }

    pub(crate) fn status(&self, text: &str) -> Result<(), Error> {
        self.say("status", |said| {
            said.status = Some(text.to_owned());
            Ok(())
        })
    }

    pub(crate) fn prepared(&self) -> Result<(), Error> {
        self.say("prepared", |said| {
            said.prepared += 1;
            Ok(())
        })
    }

    /// Those that were handed over, though the launcher may have gone since: as with real ones.
    pub(crate) fn listeners(&self) -> Result<Listeners, Error> {
        let mut said = self.said();
        if said.claimed {
            return Err(inherited::already_claimed());
        }
        said.claimed = true;
        Ok(Listeners::new(std::mem::take(&mut said.sockets)))
    }
}
