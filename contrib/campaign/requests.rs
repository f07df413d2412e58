//! The load on a service, and what became of each request.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::load::{Asked, Failure, Load, SlowSpec, Target};

const CLIENTS: usize = 3;
const SLOW: SlowSpec = SlowSpec {
    clients: 1,
    delay: Duration::from_millis(250),
};

#[derive(Debug)]
pub(crate) struct Requests {
    shared: Arc<Shared>,
    _load: Load,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct State {
    finished: u64,
    failures: Vec<Asked>,
    /// The last answer of each of the newest generations.
    answers: BTreeMap<u32, Instant>,
}

/// A daemon that was KILLed: what it had in hand is lost, and nothing else may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Killed {
    pub(crate) pid: i32,
    pub(crate) generation: u32,
    /// Just before.
    pub(crate) at: Instant,
    /// When it was seen to be dead.
    pub(crate) dead: Instant,
}

impl Killed {
    /// Whether it was in that daemon's hands, as far as can be told.
    pub(crate) fn had(&self, asked: &Asked) -> bool {
        let lost = matches!(
            asked.failure,
            Some((Failure::Reset | Failure::Truncated, _))
        );
        let in_flight = asked.began < self.dead && asked.ended >= self.at;
        let by_it = asked.by.is_none_or(|(pid, generation)| {
            (i64::from(pid), generation) == (i64::from(self.pid), Some(self.generation))
        });
        lost && in_flight && by_it
    }
}

impl Requests {
    pub(crate) fn start(target: Target, rate: u32) -> Requests {
        let shared = Arc::new(Shared::default());
        let hearing = Arc::clone(&shared);
        let listener = Box::new(move |asked: &Asked| hearing.hear(asked));
        let load = Load::start_heard(target, CLIENTS, Some(SLOW), rate, Some(listener));
        Requests {
            shared,
            _load: load,
        }
    }

    /// Waits until this generation has answered something.
    pub(crate) fn answered_by(&self, generation: u32, deadline: Instant) -> bool {
        let mut state = self.shared.lock();
        while !state.answers.contains_key(&generation) {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return false;
            };
            (state, _) = self
                .shared
                .news
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    /// Waits until a generation newer than this one has; says which.
    pub(crate) fn answered_by_newer(&self, than: u32, deadline: Instant) -> Option<u32> {
        let mut state = self.shared.lock();
        loop {
            let newest = state.answers.keys().next_back().copied();
            if let Some(newest) = newest.filter(|&newest| newest > than) {
                return Some(newest);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            (state, _) = self
                .shared
                .news
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What has come to its end since this was asked last: how many, and those that failed.
    pub(crate) fn finished(&self) -> (u64, Vec<Asked>) {
        let mut state = self.shared.lock();
        (
            mem::take(&mut state.finished),
            mem::take(&mut state.failures),
        )
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, asked: &Asked) {
        let mut state = self.lock();
        state.finished += 1;
        if asked.failure.is_some() {
            state.failures.push(asked.clone());
            return;
        }
        let Some((_, Some(generation))) = asked.by else {
            return;
        };
        let is_first = state.answers.insert(generation, asked.ended).is_none();
        while state.answers.len() > 16 {
            state.answers.pop_first();
        }
        drop(state);
        if is_first {
            self.news.notify_all();
        }
    }
}
