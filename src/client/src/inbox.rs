//! What was asked of this daemon, and who gets it.
//!
//! There are three sources (signals, [`inject`](crate::Seamless::inject), a test) and four kinds of taker (a blocked
//! call, a future, a descriptor, a callback). A signal handler only raises a flag and rings bells; whoever looks first
//! moves the flag into the state, under its lock, and from then on it is news for everybody.

use crate::bell::Bell;
use crate::line::Line;
use crate::signals::{Arrived, Caught, Meaning, Signals};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;
use std::thread;
use std::time::Duration;

/// How often the blocking forms look by themselves while no thread can be started.
pub(crate) const WITHOUT_THREAD: Duration = Duration::from_millis(50);

type Callback = Arc<Mutex<dyn FnMut() + Send>>;

#[derive(Debug)]
pub(crate) struct Inbox {
    line: Arc<Line>,
    signals: Signals,
    arrived: Arrived,
    /// `None` without handlers, and when the last handle has gone.
    caught: Mutex<Option<Caught>>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
pub(crate) struct State {
    /// The last handle has gone.
    closed: bool,
    /// How often this daemon was told to drain. Never taken away: each taker counts for itself how many it has seen.
    pub(crate) drains: u64,
    /// A question that nobody has taken yet. One taker gets it.
    prepare: bool,
    /// Who promised to take questions: living `Requests`, calls of `next_request` and handles that made the last one.
    pub(crate) readers: usize,
    /// Who waits for nothing but the drain: calls of `wait`, living futures.
    pub(crate) waiters: usize,
    on_prepare: Option<Callback>,
    wakers: Vec<(u64, Waker)>,
    next_waker: u64,
    bells: Vec<Weak<Bell>>,
    threaded: bool,
}

/// What a taker finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Prepare,
    Drain,
}

/// What our thread does with a question.
enum Due {
    Callback(Callback),
    Answer,
}

impl State {
    /// The next thing for a taker that has seen `seen` drains. The question first: it came first, and is quickly done.
    pub(crate) fn take(&mut self, seen: u64) -> Option<Found> {
        if self.prepare && self.on_prepare.is_none() {
            self.prepare = false;
            return Some(Found::Prepare);
        }
        (self.drains > seen).then_some(Found::Drain)
    }

    pub(crate) fn holds_for(&self, seen: u64) -> bool {
        self.drains > seen || (self.prepare && self.on_prepare.is_none())
    }

    fn due(&mut self) -> Option<Due> {
        if !self.prepare {
            return None;
        }
        let due = match &self.on_prepare {
            Some(callback) => Due::Callback(Arc::clone(callback)),
            None if self.readers == 0 && self.waiters > 0 => Due::Answer,
            None => return None,
        };
        self.prepare = false;
        Some(due)
    }

    /// Remembers whom to wake at the first drain; `ticket` is the place of an earlier call. Gives back the waker that
    /// was there, to be dropped without our lock: a waker may own a task, and a task a handle to us.
    pub(crate) fn wake_later(&mut self, ticket: &mut Option<u64>, waker: Waker) -> Option<Waker> {
        let id = *ticket.get_or_insert_with(|| {
            self.next_waker += 1;
            self.next_waker
        });
        let earlier = self.forget_waker(id);
        self.wakers.push((id, waker));
        earlier
    }

    pub(crate) fn forget_waker(&mut self, ticket: u64) -> Option<Waker> {
        let place = self.wakers.iter().position(|(id, _)| *id == ticket)?;
        Some(self.wakers.swap_remove(place).1)
    }
}

impl Inbox {
    pub(crate) fn new(
        line: Arc<Line>,
        signals: Signals,
        arrived: Arrived,
        caught: Option<Caught>,
    ) -> Self {
        Inbox {
            line,
            signals,
            arrived,
            caught: Mutex::new(caught),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn line(&self) -> &Arc<Line> {
        &self.line
    }

    /// A panic of somebody else's code leaves nothing half done here, so a poisoned lock is as good as any.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks, with the newest news. Wakers are woken after the lock is let go: they may run anything, us too.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let prepare = self.arrived.prepare.swap(false, Ordering::SeqCst);
        let drain = self.arrived.drain.swap(false, Ordering::SeqCst);
        state.prepare |= prepare;
        state.drains += u64::from(drain);
        if prepare || drain {
            self.changed.notify_all();
        }
        let seen = look(&mut state);
        let wakers = if state.drains > 0 {
            std::mem::take(&mut state.wakers)
        } else {
            Vec::new()
        };
        drop(state);
        for (_, waker) in wakers {
            waker.wake();
        }
        seen
    }

    /// What a signal would have done.
    pub(crate) fn put(&self, meaning: Meaning) {
        self.look(|state| match meaning {
            Meaning::Prepare => state.prepare = true,
            Meaning::Drain => state.drains += 1,
        });
        self.stir();
    }

    pub(crate) fn inject(&self, signal: i32) -> bool {
        let meaning = self.signals.meaning(signal);
        if let Some(meaning) = meaning {
            self.put(meaning);
        }
        meaning.is_some()
    }

    /// Makes everybody look again: needed where the news is not a signal, or who takes what has changed.
    pub(crate) fn stir(&self) {
        let bells: Vec<_> = {
            let mut state = self.state();
            state.bells.retain(|bell| bell.strong_count() > 0);
            state.bells.iter().filter_map(Weak::upgrade).collect()
        };
        for bell in bells {
            bell.ring();
        }
        self.changed.notify_all();
    }

    /// Blocks until `take` finds something.
    pub(crate) fn block<T>(self: &Arc<Self>, mut take: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let threaded = self.start_thread();
            if !threaded {
                while self.serve_prepare() {}
            }
            let mut state = self.state();
            loop {
                if let Some(found) = take(&mut state) {
                    return found;
                }
                if !threaded {
                    break;
                }
                // Our thread looks at the flags, and notifies.
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            drop(state);
            thread::sleep(WITHOUT_THREAD);
        }
    }

    pub(crate) fn call_on_prepare(self: &Arc<Self>, callback: Callback) {
        let earlier = self.look(|state| state.on_prepare.replace(callback));
        // It may own a handle to us: never dropped under the lock.
        drop(earlier);
        self.start_thread();
        self.stir();
    }

    /// A bell that rings at signals and at [`stir`](Self::stir).
    pub(crate) fn new_bell(&self) -> std::io::Result<Arc<Bell>> {
        let bell = {
            let caught = self.caught.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::new(Bell::new(
                caught.as_ref().map_or(&[], |caught| &caught.signals),
            )?)
        };
        self.state().bells.push(Arc::downgrade(&bell));
        Ok(bell)
    }

    /// Starts our one thread if it does not run yet, and says whether it does. Without it (no memory, no more processes)
    /// the daemon still gets its requests, only later.
    pub(crate) fn start_thread(self: &Arc<Self>) -> bool {
        if self.state().threaded {
            return true;
        }
        let Ok(bell) = self.new_bell() else {
            return false;
        };
        let mut state = self.state();
        if !state.threaded {
            let inbox = Arc::clone(self);
            let thread = thread::Builder::new().name("seamless".to_owned());
            state.threaded = thread.spawn(move || inbox.serve(&bell)).is_ok();
        }
        state.threaded
    }

    fn serve(&self, bell: &Bell) {
        loop {
            bell.silence();
            if self.look(|state| state.closed) {
                return;
            }
            if !self.serve_prepare() {
                bell.wait();
            }
        }
    }

    /// Does with a question what is to be done without the daemon's own code, or with its callback. `false`: nothing.
    fn serve_prepare(&self) -> bool {
        let Some(due) = self.look(State::due) else {
            return false;
        };
        if let Due::Callback(callback) = due {
            let mut callback = callback.lock().unwrap_or_else(PoisonError::into_inner);
            // The panic has been reported by its hook. The launcher waits for an answer whatever became of the callback.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(&mut *callback)) {
                // It may panic once more when dropped.
                std::mem::forget(payload);
            }
        }
        // Nobody is there to be told of an error, and the launcher knows what to do without an answer (R8).
        drop(self.line.prepared(None));
        true
    }

    /// The last handle has gone: signals get their meaning back, and our thread ends.
    fn close(&self) {
        let caught = self
            .caught
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(caught);
        let callback = self.look(|state| {
            state.closed = true;
            state.on_prepare.take()
        });
        drop(callback);
        self.stir();
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("State")
            .field("drains", &self.drains)
            .field("prepare", &self.prepare)
            .field("readers", &self.readers)
            .field("waiters", &self.waiters)
            .finish_non_exhaustive()
    }
}

/// What every handle, future and descriptor holds: the inbox is closed when the last of them has gone.
#[derive(Debug)]
pub(crate) struct Hold(Arc<Inbox>);

impl Hold {
    pub(crate) fn new(inbox: Inbox) -> Arc<Self> {
        Arc::new(Hold(Arc::new(inbox)))
    }

    pub(crate) fn inbox(&self) -> &Arc<Inbox> {
        &self.0
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.close();
    }
}
