//! What became of each request, for each generation and each quarter of a second.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::load::{Asked, Failure};

/// One column of the chart.
pub(crate) const BUCKET: Duration = Duration::from_millis(250);
/// More than the widest terminal shows.
const KEPT: usize = 1000;

#[derive(Clone, Debug, Default)]
pub(crate) struct Bucket {
    /// Answers, by generation.
    pub(crate) answers: BTreeMap<u32, u32>,
    pub(crate) failed: u32,
    pub(crate) in_hand: u32,
}

impl Bucket {
    pub(crate) fn answered(&self) -> u32 {
        self.answers.values().sum()
    }
}

/// A daemon that was KILLed by us.
#[derive(Clone, Copy, Debug)]
struct Kill {
    generation: u32,
    began: Instant,
    /// When it was seen to be dead.
    dead: Option<Instant>,
    /// The first answer of another generation after that.
    next: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Lost {
    began: Instant,
    ended: Instant,
    failure: Failure,
    text: String,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Sums {
    pub(crate) answered: u64,
    /// By generation.
    pub(crate) answers: BTreeMap<u32, u64>,
    pub(crate) failed: u64,
    /// In the hands of a daemon when it was KILLed.
    pub(crate) in_hand: u64,
    /// Came while a KILLed daemon had no successor yet, and were answered by that.
    pub(crate) waited: u64,
    pub(crate) slowest: Duration,
    /// Why the first one failed.
    pub(crate) first_failure: Option<String>,
}

impl Sums {
    /// The place of this generation among those that have answered, by which it has its colour. Those that failed may be
    /// any number, and the next one is to look different all the same.
    pub(crate) fn place(&self, generation: u32) -> usize {
        self.answers.range(..generation).count()
    }
}

#[derive(Debug)]
pub(crate) struct Tally(Mutex<Books>);

#[derive(Debug)]
struct Books {
    began: Instant,
    /// The number of the first bucket that is kept.
    first: usize,
    buckets: VecDeque<Bucket>,
    sums: Sums,
    kills: Vec<Kill>,
    /// Failed while a daemon was being KILLed: whether it had them in hand is known when it is dead.
    unjudged: Vec<Lost>,
}

impl Tally {
    pub(crate) fn new(began: Instant) -> Self {
        Self(Mutex::new(Books {
            began,
            first: 0,
            buckets: VecDeque::new(),
            sums: Sums::default(),
            kills: Vec::new(),
            unjudged: Vec::new(),
        }))
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count(&self, asked: &Asked) {
        let mut books = self.books();
        match &asked.failure {
            None => books.answered(asked),
            Some((failure, text)) => {
                let lost = Lost {
                    began: asked.began,
                    ended: asked.ended,
                    failure: *failure,
                    text: text.clone(),
                };
                if books.kills.last().is_some_and(|kill| kill.dead.is_none()) {
                    books.unjudged.push(lost);
                } else {
                    books.judge(lost);
                }
            }
        }
    }

    /// This generation's daemon is about to be KILLed.
    pub(crate) fn killing(&self, generation: u32) {
        self.books().kills.push(Kill {
            generation,
            began: Instant::now(),
            dead: None,
            next: None,
        });
    }

    /// It was seen to be dead; or it could not be KILLed.
    pub(crate) fn killed(&self, dead: Option<Instant>) {
        let mut books = self.books();
        match (dead, books.kills.last_mut()) {
            (Some(_), Some(kill)) => kill.dead = dead,
            _ => drop(books.kills.pop()),
        }
        for lost in std::mem::take(&mut books.unjudged) {
            books.judge(lost);
        }
    }

    pub(crate) fn sums(&self) -> Sums {
        self.books().sums.clone()
    }

    /// The last complete ones, the newest last.
    pub(crate) fn last(&self, wanted: usize) -> Vec<Bucket> {
        let mut books = self.books();
        let now = books.number(Instant::now());
        // Nothing at all is something too.
        books.bucket(now);
        let complete = now - books.first;
        let from = complete.saturating_sub(wanted);
        books.buckets.range(from..complete).cloned().collect()
    }
}

impl Books {
    fn number(&self, at: Instant) -> usize {
        let elapsed = at.saturating_duration_since(self.began);
        usize::try_from(elapsed.as_millis() / BUCKET.as_millis()).unwrap_or(usize::MAX)
    }

    /// None where it is so old that it is not kept any more.
    fn bucket(&mut self, number: usize) -> Option<&mut Bucket> {
        while self.first + self.buckets.len() <= number {
            self.buckets.push_back(Bucket::default());
            if self.buckets.len() > KEPT {
                self.buckets.pop_front();
                self.first += 1;
            }
        }
        self.buckets.get_mut(number.checked_sub(self.first)?)
    }

    fn answered(&mut self, asked: &Asked) {
        let generation = asked.by.and_then(|(_, generation)| generation).unwrap_or(0);
        let sums = &mut self.sums;
        sums.answered += 1;
        *sums.answers.entry(generation).or_default() += 1;
        if !asked.is_slow {
            sums.slowest = sums.slowest.max(asked.ended - asked.began);
        }
        if let Some(kill) = self.kills.last_mut() {
            let by_another = generation != kill.generation;
            if by_another && kill.dead.is_some_and(|dead| asked.ended > dead) {
                let next = *kill.next.get_or_insert(asked.ended);
                sums.waited += u64::from(asked.began < next);
            }
        }
        let number = self.number(asked.ended);
        if let Some(bucket) = self.bucket(number) {
            *bucket.answers.entry(generation).or_default() += 1;
        }
    }

    /// In the hands of the dead it was if it was cut short, and had begun before the daemon was dead. Nobody there, a
    /// wrong answer or none in time is a failure at any moment.
    fn judge(&mut self, lost: Lost) {
        let cut_short = matches!(lost.failure, Failure::Reset | Failure::Truncated);
        let in_hand = cut_short
            && self.kills.iter().any(|kill| {
                lost.ended >= kill.began && kill.dead.is_some_and(|dead| lost.began <= dead)
            });
        let number = self.number(lost.ended);
        if in_hand {
            self.sums.in_hand += 1;
        } else {
            self.sums.failed += 1;
            let why = || format!("{:?}: {}", lost.failure, lost.text);
            self.sums.first_failure.get_or_insert_with(why);
        }
        if let Some(bucket) = self.bucket(number) {
            bucket.in_hand += u32::from(in_hand);
            bucket.failed += u32::from(!in_hand);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(began: Instant, ended: Instant, failure: Option<Failure>, generation: u32) -> Asked {
        Asked {
            began,
            ended,
            is_slow: false,
            failure: failure.map(|failure| (failure, "it failed".to_owned())),
            by: Some((1, Some(generation))),
        }
    }

    #[test]
    fn only_what_a_killed_daemon_had_in_hand_is_excused() {
        let began = Instant::now();
        let tally = Tally::new(began);
        let long_before = Instant::now();
        tally.count(&asked(long_before, Instant::now(), Some(Failure::Reset), 0));
        assert_eq!(tally.sums().failed, 1, "nobody was killed");

        tally.killing(1);
        tally.count(&asked(
            long_before,
            Instant::now(),
            Some(Failure::Truncated),
            0,
        ));
        tally.count(&asked(
            long_before,
            Instant::now(),
            Some(Failure::Refused),
            0,
        ));
        assert_eq!(
            (tally.sums().failed, tally.sums().in_hand),
            (1, 0),
            "not yet known"
        );
        let dead = Instant::now();
        let later = dead + Duration::from_millis(1);
        tally.killed(Some(dead));
        assert_eq!((tally.sums().failed, tally.sums().in_hand), (2, 1));
        tally.count(&asked(later, later, Some(Failure::Reset), 0));
        assert_eq!(tally.sums().failed, 3, "it was dead already");

        // Two that came before anybody was there, one after that.
        let first = later + Duration::from_millis(1);
        tally.count(&asked(later, first, None, 2));
        tally.count(&asked(later, first + Duration::from_millis(1), None, 2));
        tally.count(&asked(first, first + Duration::from_millis(1), None, 2));
        assert_eq!((tally.sums().waited, tally.sums().answered), (2, 3));
    }

    #[test]
    fn a_quarter_of_a_second_without_an_answer_is_there() {
        let began = Instant::now().checked_sub(BUCKET * 3).unwrap();
        let tally = Tally::new(began);
        tally.count(&asked(began, began, None, 1));
        tally.count(&asked(began, began + BUCKET * 2, None, 2));
        let counts: Vec<u32> = tally.last(3).iter().map(Bucket::answered).collect();
        assert_eq!(counts, [1, 0, 1]);
    }
}
