//! The keeper's time: it goes on only while the keeper does.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// A wait that ends later than this after its time was no wait, but a time in which this process
/// stood still: a SIGSTOP, a frozen container, a machine out of memory. (The clock itself stands
/// still while the machine is suspended.)
const LATE: Duration = Duration::from_secs(1);

/// Deadlines are of this clock's time. Whoever stood still with us, the daemon most likely, has
/// not had that time either; so none of it counts, and no deadline fires when we wake.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    lost: Duration,
    /// The end of the last wait.
    woke: Instant,
}

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock {
            lost: Duration::ZERO,
            woke: Instant::now(),
        }
    }

    pub(crate) fn now(self) -> Instant {
        let now = Instant::now();
        now.checked_sub(self.lost).unwrap_or(now)
    }

    /// The moment by which deadlines are judged: a stop may as well come between the end of a wait
    /// and the look at the clock.
    pub(crate) fn woke(self) -> Instant {
        self.woke
    }

    /// How long to wait until `deadline`.
    pub(crate) fn real(self, deadline: Instant) -> Instant {
        deadline.checked_add(self.lost).unwrap_or(deadline)
    }

    /// A wait is over that should have ended at `deadline`, if there was one. Its time is counted
    /// from the end of the one before: a stop need not come within the wait.
    pub(crate) fn waited(&mut self, deadline: Option<Instant>) {
        let now = self.now();
        if deadline.is_some_and(|deadline| now.saturating_duration_since(deadline) > LATE) {
            self.lost += now.saturating_duration_since(self.woke);
        }
        self.woke = self.now();
    }

    /// A moment as every process of this boot understands it: milliseconds of `CLOCK_MONOTONIC`.
    pub(crate) fn as_boot_time(self, moment: Instant) -> u64 {
        let ahead = self.real(moment).saturating_duration_since(Instant::now());
        let moment = since_boot().saturating_add(ahead);
        u64::try_from(moment.as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn at_boot_time(self, milliseconds: u64) -> Option<Instant> {
        let ahead = Duration::from_millis(milliseconds).saturating_sub(since_boot());
        self.now().checked_add(ahead)
    }
}

fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn woken_a_minute_ago() -> Clock {
        Clock {
            woke: Instant::now().checked_sub(Duration::from_secs(60)).unwrap(),
            ..Clock::start()
        }
    }

    #[test]
    fn time_that_this_process_did_not_have_does_not_count() {
        let mut clock = woken_a_minute_ago();
        let deadline = clock.woke() + Duration::from_secs(5);
        clock.waited(Some(deadline));
        assert!(clock.woke() < deadline, "all of its five seconds are left");
        assert!(clock.real(deadline) > Instant::now() + Duration::from_secs(4));
    }

    #[test]
    fn a_wait_that_ended_in_time_or_had_no_end_changes_nothing() {
        let mut clock = woken_a_minute_ago();
        clock.waited(None);
        clock.waited(Some(Instant::now()));
        assert_eq!(clock.lost, Duration::ZERO);
    }

    #[test]
    fn a_moment_is_the_same_for_every_process() {
        let clock = Clock::start();
        let moment = clock.now() + Duration::from_secs(9);
        let again = clock.at_boot_time(clock.as_boot_time(moment)).unwrap();
        let apart = moment.max(again) - moment.min(again);
        assert!(apart < Duration::from_millis(100), "{apart:?}");
        assert!(clock.at_boot_time(0).unwrap() <= clock.now());
    }
}
