//! What happened, and when.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{load::Asked, status::Seen};

/// A generation's life, as `status` tells it. Everything since the beginning of the picture.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Life {
    pub(crate) starting: Duration,
    pub(crate) ready: Option<Duration>,
    pub(crate) draining: Option<Duration>,
    pub(crate) gone: Option<Duration>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    /// When, and of which generation.
    pub(crate) answers: Vec<(Duration, u32)>,
    pub(crate) failures: Vec<Duration>,
    pub(crate) marks: Vec<(Duration, &'static str)>,
    pub(crate) lives: BTreeMap<u32, Life>,
    pub(crate) length: Duration,
}

impl Record {
    /// The newest that was ready.
    pub(crate) fn serving(&self) -> Option<u32> {
        let mut newest_first = self.lives.iter().rev();
        let serving = newest_first.find(|(_, life)| life.ready.is_some() && life.gone.is_none());
        serving.map(|(number, _)| *number)
    }

    /// How many were never ready, and have gone.
    pub(crate) fn failed(&self) -> usize {
        let lives = self.lives.values();
        lives
            .filter(|life| life.ready.is_none() && life.gone.is_some())
            .count()
    }

    pub(crate) fn is_gone(&self, number: u32) -> bool {
        self.lives
            .get(&number)
            .is_some_and(|life| life.gone.is_some())
    }
}

/// Written to by the clients and by whoever watches.
#[derive(Clone, Debug)]
pub(crate) struct Recorder(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    record: Mutex<(Instant, Record)>,
    /// A generation began, was ready, or went.
    news: Condvar,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared {
            record: Mutex::new((Instant::now(), Record::default())),
            news: Condvar::new(),
        }))
    }

    fn record(&self) -> MutexGuard<'_, (Instant, Record)> {
        self.0.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on it is in the picture. Whoever lives now has always been there.
    pub(crate) fn begin(&self) {
        let mut guard = self.record();
        let (began, record) = &mut *guard;
        *began = Instant::now();
        for life in record.lives.values_mut() {
            *life = Life {
                ready: life.ready.map(|_| Duration::ZERO),
                ..Life::default()
            };
        }
    }

    pub(crate) fn asked(&self, asked: &Asked) {
        let mut guard = self.record();
        let (began, record) = &mut *guard;
        let at = asked.ended - *began;
        match (&asked.failure, asked.by) {
            (None, Some((_, Some(generation)))) => record.answers.push((at, generation)),
            _ => record.failures.push(at),
        }
    }

    pub(crate) fn mark(&self, what: &'static str) {
        let mut guard = self.record();
        let at = guard.0.elapsed();
        guard.1.marks.push((at, what));
    }

    pub(crate) fn seen(&self, generations: &[Seen]) {
        let mut guard = self.record();
        let now = guard.0.elapsed();
        let lives = &mut guard.1.lives;
        for seen in generations {
            let life = lives.entry(seen.number).or_insert(Life {
                starting: now,
                ..Life::default()
            });
            // Phases may be added; what is not one of these changes nothing in the picture.
            match seen.phase.as_str() {
                "serving" => drop(life.ready.get_or_insert(now)),
                "draining" | "stopping" if seen.ready => {
                    life.draining.get_or_insert(now);
                }
                "gone" => drop(life.gone.get_or_insert(now)),
                _ => {}
            }
        }
        for (number, life) in lives {
            if !generations.iter().any(|seen| seen.number == *number) {
                life.gone.get_or_insert(now);
            }
        }
        self.0.news.notify_all();
    }

    pub(crate) fn look<T>(&self, question: impl Fn(&Record) -> T) -> T {
        question(&self.record().1)
    }

    /// Whether it is so, or comes to be so within the limit.
    pub(crate) fn wait(&self, limit: Duration, question: impl Fn(&Record) -> bool) -> bool {
        let waited = self
            .0
            .news
            .wait_timeout_while(self.record(), limit, |(_, record)| !question(record));
        let (guard, _) = waited.unwrap_or_else(PoisonError::into_inner);
        question(&guard.1)
    }

    /// What comes later is counted, and not seen any more.
    pub(crate) fn end(&self) {
        let mut guard = self.record();
        guard.1.length = guard.0.elapsed();
    }

    pub(crate) fn finish(&self) -> Record {
        self.record().1.clone()
    }
}
