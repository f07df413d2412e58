//! The load on the service, from a start to a stop.

use std::{
    mem, thread,
    time::{Duration, Instant},
};

use super::{
    load::{Failure, Load, Report, SlowSpec, Target},
    service::LIMIT,
};

const CLIENTS: usize = 4;

/// Those who ask the service, and what became of it.
#[derive(Debug)]
pub(crate) struct Requests {
    target: Target,
    slow: SlowSpec,
    rate: u32,
    load: Option<Load>,
    /// Those of the load that were counted already.
    failed: u64,
    pub(crate) answered: u64,
    /// Slow ones that the service had in hand when it was stopped, and did not answer.
    pub(crate) cut_off: u64,
}

impl Requests {
    pub(crate) fn new(target: Target, slow: SlowSpec, rate: u32) -> Requests {
        Requests {
            target,
            slow,
            rate,
            load: None,
            failed: 0,
            answered: 0,
            cut_off: 0,
        }
    }

    pub(crate) fn are_sent(&self) -> bool {
        self.load.is_some()
    }

    pub(crate) fn begin(&mut self) {
        let target = self.target.clone();
        let load = Load::start_at_rate(target, CLIENTS, Some(self.slow), self.rate);
        self.load = Some(load);
        self.failed = 0;
    }

    fn report(&self) -> Option<Report> {
        self.load.as_ref().map(Load::report)
    }

    /// Somebody answers who is none of these.
    pub(crate) fn wait_answer(&self, not: &[u32]) -> Result<u32, String> {
        let load = self.load.as_ref().ok_or("there is no load")?;
        let answer = load.wait_answer(LIMIT, |answer| !not.contains(&answer.pid));
        answer
            .map(|answer| answer.pid)
            .ok_or_else(|| format!("nobody new has answered in {} s", LIMIT.as_secs()))
    }

    /// This one answers after now.
    pub(crate) fn wait_answer_of(&self, pid: u32) -> Result<(), String> {
        let load = self.load.as_ref().ok_or("there is no load")?;
        let now = Instant::now();
        let deadline = now + LIMIT;
        while Instant::now() < deadline {
            let last = load
                .report()
                .answers
                .values()
                .any(|one| one.pid == pid && one.last > now);
            if last {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(2));
        }
        Err(format!("pid {pid}, which was in standby, answers no more"))
    }

    /// Slow requests are in flight.
    pub(crate) fn wait_busy(&self) {
        if let Some(load) = &self.load {
            load.wait_slow_in_flight(LIMIT, self.slow.clients);
        }
    }

    /// What has failed, for people.
    pub(crate) fn failures(&self) -> String {
        let report = self.report();
        report.map_or_else(String::new, |report| report.to_string())
    }

    /// How many requests have failed since the last time this was asked, or since the load began.
    pub(crate) fn newly_failed(&mut self) -> u64 {
        let failed = self.report().map_or(0, |report| report.failed());
        failed - mem::replace(&mut self.failed, failed)
    }

    /// No more requests; those that the service had in hand when it was stopped are waited for.
    pub(crate) fn end(&mut self) {
        let Some(load) = self.load.take() else { return };
        let report = load.stop();
        self.answered += report.fast.ok + report.slow.ok;
        self.cut_off += report.slow.count(Failure::Truncated);
    }

    /// Whoever has answered so far.
    pub(crate) fn known(&self) -> Vec<u32> {
        let report = self.report();
        report.map_or_else(Vec::new, |report| report.answers.keys().copied().collect())
    }

    /// The newest of those who have answered. (Not who was last: that may be one that drains.)
    pub(crate) fn serving(&self) -> Option<u32> {
        let report = self.report()?;
        let newest = report
            .answers
            .values()
            .max_by_key(|answer| answer.generation);
        newest.map(|answer| answer.pid)
    }
}
