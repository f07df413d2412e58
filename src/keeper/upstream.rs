//! What the supervisor hears of this generation, through the launcher (R23). A detached one says nothing:
//! it would be taken for its successor.

use std::os::fd::OwnedFd;
use std::time::Duration;

use super::Keeper;
use crate::generation::{AttemptEnd, Phase};
use crate::link::{Link, Word};
use crate::notify::{Notice, let_go};

/// The supervisor shall not end its wait just before we end ours.
const MARGIN: Duration = Duration::from_secs(5);
/// For a wait that has no end.
const LONG: Duration = Duration::from_secs(24 * 3600);

impl Keeper {
    /// This generation begins, and others serve: that it is not ready is no outage.
    pub(super) fn announce_start(&self, link: &mut Link) {
        let Some(names) = self.predecessors.names() else {
            return;
        };
        let failed = self
            .failure
            .as_ref()
            .map_or_else(String::new, |(failure, _)| {
                format!(
                    "; generation {} failed: {}",
                    failure.generation, failure.why
                )
            });
        let name = self.name();
        let words = format!("{name} starts; until it is ready: {names}{failed}");
        self.say_upstream(Notice::status(&words), link);
    }

    /// This generation serves.
    pub(super) fn announce_ready(&self, link: &mut Link) {
        if self.status.is_empty() {
            let words = format!("{} serves", self.name());
            self.say_upstream(Notice::status(&words), link);
        }
        if self.supervised {
            link.say(Word::Ready);
        }
    }

    /// `systemctl status` says why.
    pub(super) fn announce_failure(&self, end: AttemptEnd, link: &mut Link) {
        let why = match end {
            AttemptEnd::Died(ending) => self.words_on_failure(ending),
            AttemptEnd::NotReady => self.words_on_lateness(),
            AttemptEnd::Withdrawn { .. } => return,
        };
        let still = match self.predecessors.names() {
            Some(names) => format!("still serving: {names}"),
            None => "nobody serves".to_owned(),
        };
        let words = format!("generation {}: {why}; {still}", self.number);
        self.say_upstream(Notice::status(&words), link);
    }

    /// What the daemon has said. `was_ready`: before that.
    pub(super) fn pass_on(
        &self,
        text: &str,
        was_ready: bool,
        descriptors: Vec<OwnedFd>,
        link: &mut Link,
    ) {
        let notice = Notice::of(text, was_ready, !descriptors.is_empty());
        match notice.filter(|_| self.supervised && self.is_heard) {
            Some(notice) => {
                let text = notice.text;
                self.say_upstream(Notice { text, descriptors }, link);
            }
            None => let_go(descriptors),
        }
    }

    /// Whatever the supervisor's own patience is, ours counts.
    pub(super) fn ask_for_time(&self, link: &mut Link) {
        let until = match self.phase {
            Phase::Starting { waits, .. } => match waits.gives_up() {
                Some(until) => Some(until),
                // Then it is the supervisor's to say.
                None => return,
            },
            Phase::Preparing { until, .. } | Phase::Stopping { until, .. } => until,
            Phase::Serving { .. }
            | Phase::Parting { .. }
            | Phase::Standby { .. }
            | Phase::Holding { .. }
            | Phase::Draining { .. }
            | Phase::Killing { .. }
            | Phase::Lingering { .. }
            | Phase::Gone => return,
        };
        let left = until.map_or(LONG, |until| {
            until.saturating_duration_since(self.clock.now())
        });
        let time = (left + MARGIN).as_micros();
        self.say_upstream(Notice::new(format!("EXTEND_TIMEOUT_USEC={time}")), link);
    }

    fn say_upstream(&self, notice: Notice, link: &mut Link) {
        if self.supervised && self.is_heard {
            link.pass(notice);
        }
    }
}
