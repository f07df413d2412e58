//! What the launcher asks, and the forms in which a daemon may wait for it.

use crate::bell::Bell;
use crate::error::{Error, ErrorKind};
use crate::inbox::{Found, Hold, WITHOUT_THREAD};
use crate::line::Line;
use std::future::Future;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

/// What the launcher asks.
#[derive(Debug)]
#[non_exhaustive]
pub enum Request {
    /// A successor will come: let go of what it needs (a lock, an admin port), and go on serving. Answered when the
    /// token is dropped.
    Prepare(Prepare),
    /// Accept nothing new, finish what is in hand, exit. A second one means: hurry.
    Drain,
}

/// An owed answer to [`Request::Prepare`]. Dropping it gives the answer, so it cannot be forgotten.
#[derive(Debug)]
#[must_use = "dropping it at once answers at once"]
pub struct Prepare {
    line: Option<Arc<Line>>,
    limit: Duration,
}

impl Prepare {
    pub(crate) fn new(line: &Arc<Line>, limit: Duration) -> Self {
        Prepare {
            line: Some(Arc::clone(line)),
            limit,
        }
    }

    /// Answers, waits until the launcher has taken note of it, and says how that went.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Gone`], [`ErrorKind::TimedOut`], [`ErrorKind::Refused`] or [`ErrorKind::Io`]. The launcher goes on
    /// without an answer in its own time, so the error is news for the log.
    pub fn done(mut self) -> Result<(), Error> {
        self.line
            .take()
            .map_or(Ok(()), |line| line.prepared(Some(self.limit)))
    }
}

impl Drop for Prepare {
    fn drop(&mut self) {
        if let Some(line) = self.line.take() {
            // Whoever wants to know calls `done`.
            drop(line.prepared(None));
        }
    }
}

/// Requests behind a descriptor, for an event loop. See [`Seamless::requests`](crate::Seamless::requests).
#[derive(Debug)]
pub struct Requests {
    hold: Arc<Hold>,
    bell: Arc<Bell>,
    seen: AtomicU64,
    limit: Duration,
}

impl Requests {
    pub(crate) fn new(hold: &Arc<Hold>, limit: Duration) -> Result<Self, Error> {
        let bell = hold.inbox().new_bell().map_err(|error| {
            let what = "cannot make a descriptor to wait for requests with";
            Error::caused(ErrorKind::Io, what, &error).consequence("the other forms still work")
        })?;
        // What came before the bell was there would not ring it.
        if hold.inbox().look(|state| {
            state.readers += 1;
            state.holds_for(0)
        }) {
            bell.ring();
        }
        Ok(Requests {
            hold: Arc::clone(hold),
            bell,
            seen: AtomicU64::new(0),
            limit,
        })
    }

    /// The next request, if one is there. Never blocks.
    ///
    /// The descriptor is readable while there may be one; being readable is no promise. With an edge-triggered poller
    /// call it until it returns `None`.
    #[must_use = "a request that is dropped is lost for this taker"]
    pub fn try_next(&self) -> Option<Request> {
        self.bell.silence();
        let (found, more) = self.hold.inbox().look(|state| {
            let found = state.take(self.seen.load(Ordering::Relaxed));
            if found == Some(Found::Drain) {
                self.seen.fetch_add(1, Ordering::Relaxed);
            }
            (found, state.holds_for(self.seen.load(Ordering::Relaxed)))
        });
        if more {
            self.bell.ring();
        }
        found.map(|found| match found {
            Found::Prepare => Request::Prepare(Prepare::new(self.hold.inbox().line(), self.limit)),
            Found::Drain => Request::Drain,
        })
    }

    /// As [`Seamless::inject`](crate::Seamless::inject).
    pub fn inject(&self, signal: i32) -> bool {
        self.hold.inbox().inject(signal)
    }
}

impl AsFd for Requests {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

impl AsRawFd for Requests {
    fn as_raw_fd(&self) -> RawFd {
        self.bell.as_fd().as_raw_fd()
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.hold.inbox().look(|state| state.readers -= 1);
        // A question that waited for this reader is now for `wait` or a future.
        self.hold.inbox().stir();
    }
}

/// Resolves when this daemon shall drain. See [`Seamless::drain_requested`](crate::Seamless::drain_requested).
///
/// Once resolved it stays so. Dropping it early loses nothing.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct DrainRequested {
    hold: Arc<Hold>,
    ticket: Option<u64>,
}

impl DrainRequested {
    pub(crate) fn new(hold: &Arc<Hold>) -> Self {
        hold.inbox().look(|state| state.waiters += 1);
        hold.inbox().start_thread();
        // A question that nobody waited for is now ours to answer.
        hold.inbox().stir();
        DrainRequested {
            hold: Arc::clone(hold),
            ticket: None,
        }
    }
}

impl Future for DrainRequested {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let inbox = this.hold.inbox();
        let waker = context.waker().clone();
        let (ready, _earlier) = inbox.look(|state| {
            if state.drains > 0 {
                return (true, Some(waker));
            }
            (false, state.wake_later(&mut this.ticket, waker))
        });
        if ready {
            return Poll::Ready(());
        }
        if !inbox.start_thread() {
            // No thread is to be had: slow, but neither deaf nor spinning.
            std::thread::sleep(WITHOUT_THREAD);
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl Drop for DrainRequested {
    fn drop(&mut self) {
        let _waker = self.hold.inbox().look(|state| {
            state.waiters -= 1;
            self.ticket.and_then(|ticket| state.forget_waker(ticket))
        });
    }
}
