//! What a keeper tells people: which generation, which PID, and what happens next.

use std::time::Duration;

use super::Keeper;
use crate::departure::Ending;
use crate::generation::{News, Phase};
use crate::process;
use crate::sys::Sender;

impl Keeper {
    /// `generation 8 (pid 4300)`
    pub(super) fn name(&self) -> String {
        format!("generation {} (pid {})", self.number, self.daemon.pid())
    }

    fn age(&self) -> String {
        seconds(self.started.elapsed())
    }

    pub(super) fn words_on_start(&self) -> String {
        let name = self.name();
        let command = &self.service.command.line;
        match self.predecessors.names() {
            Some(names) => format!("{name} starts: {command}; until it is ready: {names}"),
            None => format!("{name} starts: {command}"),
        }
    }

    pub(super) fn words_on_prepare(&self) -> String {
        let signal = self.service.prepare_signal;
        format!("restart: {} is told to prepare ({signal})", self.name())
    }

    pub(super) fn words_on_commit(&self) -> String {
        let (name, age) = (self.name(), self.age());
        match self.predecessors.names() {
            Some(names) => format!("{name} is ready after {age}; now draining: {names}"),
            None => format!("{name} is ready after {age}"),
        }
    }

    pub(super) fn report_news(&self, news: News) {
        let name = self.name();
        let pid = self.daemon.pid();
        let time = |timeout: Option<Duration>| timeout.map_or("never".to_owned(), seconds);
        let prepare_timeout = time(self.service.policy.prepare_timeout);
        let stop_timeout = time(self.service.policy.stop_timeout);
        match news {
            News::Stopping => self.report.note(&format!(
                "stop: {name} is told to drain (TERM); KILL after: {stop_timeout}"
            )),
            News::RestartedByStop { predecessor: true } => self.report.note(&format!(
                "restart: {name} is not ready, and is ended; its predecessor serves until the next one is"
            )),
            News::RestartedByStop { predecessor: false } => self.report.note(&format!(
                "restart: {name} has not said that it is ready, and does not listen to {}; it is ended before the next one starts",
                self.service.prepare_signal
            )),
            News::DetachedUnasked => self.report.note(&format!(
                "restart: {name} serves on, detached and unasked, until its successor is ready (to end it: kill {pid})"
            )),
            News::Prepared => self.report.note(&format!(
                "{name} is prepared; it serves on, detached, until its successor is ready (to end it: kill {pid})"
            )),
            News::NeverPrepared { ready: true } => self.report.warn(&format!(
                "{name} did not answer within the prepare timeout ({prepare_timeout}); it serves on, detached, until its successor is ready"
            )),
            News::NeverPrepared { ready: false } => self.report.warn(&format!(
                "{name} did not answer within the prepare timeout ({prepare_timeout}), and never said that it is ready; it is ended"
            )),
            News::TakenForReady => self.report.warn(&format!(
                "{name} has not said that it is ready, as its predecessor never did; its life of {} is taken for that (a daemon says it with: seamless-run notify started)",
                self.age()
            )),
            News::LauncherLost => {
                self.report.warn(&format!("the launcher of {name} is gone; {}", self.after_loss()));
            }
            News::NotInTime => self.report.warn(&format!(
                "{name} did not end within the stop timeout ({stop_timeout}); it is killed"
            )),
        }
    }

    fn after_loss(&self) -> &'static str {
        match self.phase {
            Phase::Draining { .. } => "it is ended",
            Phase::Killing { .. } => "it is killed",
            Phase::Starting { .. }
            | Phase::Serving { .. }
            | Phase::Preparing { .. }
            | Phase::Standby { .. }
            | Phase::Stopping { .. }
            | Phase::Gone => "it serves on until its successor is ready",
        }
    }

    pub(super) fn report_refused(&self, sender: Option<Sender>) {
        self.report.detail(&match sender {
            Some(Sender { pid, user }) => {
                format!("a message of pid {pid} (user {user}) is not believed, and changes nothing")
            }
            None => "something that is no message was dropped".to_owned(),
        });
    }

    /// To be called before the machine learns of it. Says whether nobody had asked for the end.
    pub(super) fn report_end(&self, ending: Ending) -> bool {
        let still = match self.predecessors.names() {
            Some(names) => format!("still serving: {names}"),
            None => "nobody serves until the next start".to_owned(),
        };
        if let Some(failure) = &self.exec_failure {
            self.report
                .warn(&format!("generation {}: {failure}; {still}", self.number));
            return false;
        }
        let (name, age) = (self.name(), self.age());
        match self.phase {
            Phase::Starting { .. } => {
                self.report.warn(&format!(
                    "{name} died before it was ready: {ending} after {age}; {still}"
                ));
            }
            Phase::Serving { .. } | Phase::Preparing { .. } => {
                self.report
                    .warn(&format!("{name} died: {ending} after {age}; {still}"));
            }
            Phase::Standby { .. } | Phase::Draining { .. } => {
                self.report.note(&format!("{name} is gone: {ending}"));
            }
            Phase::Stopping { .. } | Phase::Killing { .. } => {
                self.report.note(&format!("{name} is stopped: {ending}"));
            }
            Phase::Gone => {}
        }
        matches!(
            self.phase,
            Phase::Starting { .. } | Phase::Serving { .. } | Phase::Preparing { .. }
        )
    }

    /// A daemon that forks itself away leaves children that nobody can watch.
    pub(super) fn report_background(&self) {
        let marked = process::with_variable(&format!("SEAMLESS={}", self.identity.pid));
        let left: Vec<String> = marked.iter().map(ToString::to_string).collect();
        if !left.is_empty() {
            self.report.warn(&format!(
                "{} put itself into the background (pid {} goes on, unwatched); run it in the foreground: a daemon that forks away cannot be supervised",
                self.name(),
                left.join(", ")
            ));
        }
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}
