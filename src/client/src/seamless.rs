//! The handle: everything that a daemon says and asks goes through it.

use crate::builder::Builder;
use crate::environment;
use crate::error::Error;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::inbox::{Found, Hold, Inbox};
use crate::line::Line;
use crate::listeners::Listeners;
use crate::requests::{DrainRequested, Prepare, Request, Requests};
use crate::signals::{Arrived, Caught, Signals};
use std::num::NonZeroU32;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// This process's place in a seamless restart: the line to its launcher.
///
/// `Send + Sync`, cheap to clone. Make one, early, and keep it for as long as the daemon serves: when the last clone
/// (and the last [`Requests`] and [`DrainRequested`]) has gone, the drain signals end the process again as they do by
/// default, unless it had handlers of its own for them.
#[derive(Debug)]
pub struct Seamless {
    hold: Arc<Hold>,
    told: Arc<Told>,
    /// How many drains `next_request` has given out on this handle.
    seen: AtomicU64,
    /// The last thing that was called on this handle is `next_request`: it will be called again.
    reads: AtomicBool,
}

/// What does not change, and whether *started* was said.
#[derive(Debug)]
pub(crate) struct Told {
    launched: bool,
    generation: Option<NonZeroU32>,
    limit: Duration,
    started: Mutex<bool>,
}

impl Told {
    pub(crate) fn new(launched: bool, generation: Option<NonZeroU32>, limit: Duration) -> Self {
        Told {
            launched,
            generation,
            limit,
            started: Mutex::new(false),
        }
    }
}

impl Seamless {
    /// Takes the handle from the environment. Call it early in `main`: from here on the prepare and drain signals are
    /// caught, and one that comes before anybody waits for it is kept.
    ///
    /// **Launched** is a process whose `SEAMLESS` names its parent, or that finds `NOTIFY_SOCKET` beside a `SEAMLESS`
    /// that names somebody else (it runs behind a wrapper, and the launcher believes its daemon's descendants). Then the
    /// signals are `SEAMLESS_PREPARE_SIGNAL` and `SEAMLESS_DRAIN_SIGNAL`, or USR2 and TERM.
    ///
    /// **Bare** is any other: TERM and INT are a [`Request::Drain`], USR2 is a [`Request::Prepare`] that nobody waits for.
    ///
    /// A signal that is ignored when this is called stays ignored. The environment is read, never changed; children are
    /// cleaned with [`scrub`](Self::scrub). No thread is started yet.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Environment`] if a variable is there but makes no sense (absence is not an error);
    /// [`ErrorKind::Signal`] if a handler cannot be installed.
    pub fn from_env() -> Result<Self, Error> {
        Builder::default().build()
    }

    /// Choices that [`from_env`](Self::from_env) does not make.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn new(
        line: Line,
        told: Told,
        signals: Signals,
        arrived: Arrived,
        caught: Option<Caught>,
    ) -> Self {
        Seamless {
            hold: Hold::new(Inbox::new(Arc::new(line), signals, arrived, caught)),
            told: Arc::new(told),
            seen: AtomicU64::new(0),
            reads: AtomicBool::new(false),
        }
    }

    #[cfg(feature = "testing")]
    pub(crate) fn inbox(&self) -> &Arc<Inbox> {
        self.hold.inbox()
    }

    /// Whether a launcher is there. A daemon seldom needs to ask.
    #[must_use]
    pub fn is_launched(&self) -> bool {
        self.told.launched
    }

    /// This daemon's generation, from 1; `None` when bare.
    #[must_use]
    pub fn generation(&self) -> Option<NonZeroU32> {
        self.told.generation
    }

    /// The sockets that were opened for this daemon: by the launcher, which keeps them through every restart, or by a
    /// service manager, as with systemd's socket activation. Where nobody opened any there are none, and each name gives
    /// `None`: the daemon binds by itself then.
    ///
    /// They are descriptors from 3, as many as `LISTEN_FDS` says, with names from `LISTEN_FDNAMES` (`unknown` where one
    /// is missing), if `LISTEN_PID` is this very process. So a wrapper has to `exec` the daemon, and who forks itself
    /// away takes them first.
    ///
    /// Each process gets them once, whichever handle asks. Call it early: until then every child inherits them; from
    /// then on they are close-on-exec. A descriptor that is so already did not come from the launcher and is not
    /// touched.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Claimed`] the second time. [`ErrorKind::Environment`] if a variable makes no sense, or a descriptor
    /// is closed or already close-on-exec; then nothing was taken, closed or changed.
    pub fn listeners(&self) -> Result<Listeners, Error> {
        self.hold.inbox().line().listeners()
    }

    /// Says that this daemon serves. Returns when the PID file is written and the predecessors have been told to drain.
    ///
    /// Idempotent: after a success it does nothing, and of several calls at once only one speaks. Bare, with a
    /// [`Builder::pid_file`], it does by itself what a launcher would have done; without one it does nothing.
    ///
    /// An error is news for the log, never a reason to stop serving.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`] with the launcher's words (the PID file cannot be written …), [`ErrorKind::TimedOut`]
    /// after 10 s or what [`Builder::timeout`] says, [`ErrorKind::Gone`] if the launcher cannot be reached. Bare:
    /// `Refused` if the PID file is supervised by a launcher, [`ErrorKind::PidFile`] if what lies in its place is none,
    /// [`ErrorKind::Io`].
    pub fn started(&self) -> Result<(), Error> {
        let mut started = self
            .told
            .started
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !*started {
            self.hold.inbox().line().started(self.told.limit)?;
            *started = true;
        }
        Ok(())
    }

    /// Shows one line to people, in `seamless-run status` and `systemctl status`. Bare it goes nowhere.
    ///
    /// Newlines and other control characters become spaces; what is longer than 1024 bytes is cut.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Gone`], [`ErrorKind::TimedOut`] or [`ErrorKind::Io`] if the launcher cannot be reached.
    pub fn status(&self, text: &str) -> Result<(), Error> {
        self.hold.inbox().line().status(text)
    }

    /// Blocks until the next request.
    ///
    /// Each clone of the handle gets every [`Request::Drain`], from the first one on, so give each thread its own. After
    /// the first call the handle counts as one that takes questions: call this in a loop, or [`wait`](Self::wait).
    pub fn next_request(&self) -> Request {
        let inbox = self.hold.inbox();
        let was_reading = self.reads.swap(true, Ordering::Relaxed);
        inbox.look(|state| state.readers += 1 + usize::from(!was_reading));
        let found = inbox.block(|state| {
            let found = state.take(self.seen.load(Ordering::Relaxed))?;
            if found == Found::Drain {
                self.seen.fetch_add(1, Ordering::Relaxed);
            }
            state.readers -= 1;
            Some(found)
        });
        match found {
            Found::Prepare => Request::Prepare(Prepare::new(inbox.line(), self.told.limit)),
            Found::Drain => Request::Drain,
        }
    }

    /// Blocks until this daemon shall drain, and answers every *prepare* on the way if nobody else takes them. Returns
    /// at once if it was told so before. Bare: until TERM or INT.
    pub fn wait(&self) {
        let inbox = self.hold.inbox();
        let was_reading = self.reads.swap(false, Ordering::Relaxed);
        inbox.look(|state| {
            state.readers -= usize::from(was_reading);
            state.waiters += 1;
        });
        // Our thread may have looked already and found a question that nobody waited for.
        inbox.stir();
        inbox.block(|state| {
            let drain = state.drains > 0;
            state.waiters -= usize::from(drain);
            drain.then_some(())
        });
    }

    /// [`wait`](Self::wait) as a future, for any executor: it is woken by our own thread. `Send + 'static`.
    pub fn drain_requested(&self) -> DrainRequested {
        DrainRequested::new(&self.hold)
    }

    /// Calls `callback` on each *prepare*, on our thread, before it is answered: let go of what the successor needs (a
    /// lock, an admin port), and go on serving.
    ///
    /// It replaces an earlier one, and gets every *prepare*: no other form sees one any more. A panic in it is an answer
    /// too, where panics unwind. A callback that owns a clone of the handle keeps that alive for ever.
    pub fn on_prepare(&self, callback: impl FnMut() + Send + 'static) {
        self.hold
            .inbox()
            .call_on_prepare(Arc::new(Mutex::new(callback)));
    }

    /// Requests without blocking, behind a descriptor that an event loop can poll (tokio's `AsyncFd`, mio's `SourceFd`,
    /// calloop, `poll(2)`). Needs no thread.
    ///
    /// While it lives it takes questions, so [`wait`](Self::wait) does not answer them. Each one gets every
    /// [`Request::Drain`], from the first one on.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] if there are no descriptors left.
    pub fn requests(&self) -> Result<Requests, Error> {
        Requests::new(&self.hold, self.told.limit)
    }

    /// Reports a signal that the daemon caught itself, after [`Builder::without_signals`]. Says whether it is one of
    /// ours; any other is left alone. Not to be called in a signal handler.
    pub fn inject(&self, signal: i32) -> bool {
        self.hold.inbox().inject(signal)
    }

    /// Removes our variables from a child's environment, so that it can neither speak for this daemon nor look for its
    /// sockets. Returns `command`.
    pub fn scrub<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        environment::scrub(command, self.told.launched);
        command
    }
}

impl Clone for Seamless {
    /// The same line, and a place of its own among the requests: from the first drain on.
    fn clone(&self) -> Self {
        Seamless {
            hold: Arc::clone(&self.hold),
            told: Arc::clone(&self.told),
            seen: AtomicU64::new(0),
            reads: AtomicBool::new(false),
        }
    }
}

impl Drop for Seamless {
    fn drop(&mut self) {
        if self.reads.load(Ordering::Relaxed) {
            self.hold.inbox().look(|state| state.readers -= 1);
            self.hold.inbox().stir();
        }
    }
}
