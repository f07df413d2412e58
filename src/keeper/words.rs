//! What a keeper tells people: which generation, which PID, and what happens next.

use std::time::Duration;

use super::Keeper;
use crate::departure::Ending;
use crate::generation::{News, Phase, PrepareWhen};
use crate::process;
use crate::ready::Readiness;
use crate::sys::Sender;

impl Keeper {
    /// `generation 8 (pid 4300)`
    pub(super) fn name(&self) -> String {
        format!("generation {} (pid {})", self.number, self.daemon.pid())
    }

    fn lived(&self) -> Duration {
        self.clock.now().saturating_duration_since(self.started)
    }

    fn age(&self) -> String {
        seconds(self.lived())
    }

    pub(super) fn words_on_start(&self) -> String {
        let name = self.name();
        let command = &self.service.command.line;
        match self.predecessors.names() {
            Some(names) => format!("{name} starts: {command}; until it is ready: {names}"),
            None => format!("{name} starts: {command}"),
        }
    }

    pub(super) fn words_before_start(&self, line: &str) -> String {
        format!("{}: before its start: {line}", self.name())
    }

    pub(super) fn words_on_prepare(&self) -> String {
        let signal = self.service.prepare_signal;
        format!("restart: {} is told to prepare ({signal})", self.name())
    }

    pub(super) fn words_on_commit(&self) -> String {
        let (name, age) = (self.name(), self.age());
        let asked = self
            .readiness
            .as_ref()
            .is_some_and(Readiness::may_be_fooled);
        match self.predecessors.names() {
            Some(names) if asked => format!(
                "{name} is ready after {age} (unless a predecessor has answered the probe, which names neither SEAMLESS_PID nor SEAMLESS_GENERATION); now draining: {names}"
            ),
            Some(names) => format!("{name} is ready after {age}; now draining: {names}"),
            None => format!("{name} is ready after {age}"),
        }
    }

    pub(super) fn words_on_adoption(&self) -> String {
        format!(
            "the keeper of {} was lost; this one (pid {}) goes on in its place",
            self.name(),
            self.identity.pid
        )
    }

    /// R19: for a newcomer who finds this one in its supervisor's hands.
    pub(super) fn words_on_holding(&self) -> String {
        format!(
            "{} is supervised already: {} (under launcher {} and keeper {}); stop that one first, or name another PID file",
            self.files.pid_file.display(),
            self.name(),
            self.kin.launcher.pid,
            self.identity.pid
        )
    }

    /// Why this generation never served.
    pub(super) fn words_on_failure(&self, ending: Ending) -> String {
        match &self.exec_failure {
            Some(failure) => failure.clone(),
            None => format!("it died before it was ready: {ending} after {}", self.age()),
        }
    }

    pub(super) fn words_on_lateness(&self) -> String {
        let timeout = in_words(self.service.policy.ready_timeout);
        match self.what_is_missing() {
            Some(missing) => format!("it was not ready in {timeout}: it waited for {missing}"),
            None => format!("it was not ready in {timeout}"),
        }
    }

    /// `exit status 0 after 1.20 s`: since it was told to end, or since its start.
    pub(super) fn words_on_end(&self, ending: Ending) -> String {
        let since = match self.told_to_end {
            Some(told) => self.clock.now().saturating_duration_since(told),
            None => self.lived(),
        };
        format!("{ending} after {}", seconds(since))
    }

    pub(super) fn report_news(&self, news: News) {
        let name = self.name();
        let path = self.files.pid_file.display();
        let policy = &self.service.policy;
        let drain = self.drain_in_words();
        let ends = |predecessor: bool| match (predecessor, self.predecessors.names()) {
            (true, Some(names)) => format!("it is ended; still serving: {names}"),
            (true, None) | (false, _) => "it is ended".to_owned(),
        };
        match news {
            News::Stopping { within } => self.report.note(&format!(
                "stop: {name} is told to drain ({drain}); KILL after: {}",
                in_words(within)
            )),
            News::StoppingSooner { within } => self.report.note(&format!(
                "stop: {name} drains already; KILL after: {}",
                in_words(within)
            )),
            News::RestartedByStop { predecessor: true } => self.report.note(&format!(
                "restart: {name} is not ready, and is ended; its predecessor serves until the next one is"
            )),
            News::RestartedByStop { predecessor: false } => {
                let why = match (self.what_is_missing(), policy.prepare) {
                    (Some(missing), _) => format!("is not ready (it waits for {missing})"),
                    (None, PrepareWhen::Never) => {
                        "has not said that it is ready, and has no prepare signal".to_owned()
                    }
                    (None, PrepareWhen::Auto | PrepareWhen::Named) => format!(
                        "has not said that it is ready, and does not listen to {}",
                        self.service.prepare_signal
                    ),
                };
                self.report.note(&format!(
                    "restart: {name} {why}; it is ended before the next one starts"
                ));
            }
            News::DetachedUnasked => self.report.note(&format!(
                "restart: {name} serves on, detached and unasked, until its successor is ready (to end it: seamless-run stop {path})"
            )),
            News::Prepared => self.report.note(&format!(
                "{name} is prepared; it serves on, detached, until its successor is ready (to end it: seamless-run stop {path})"
            )),
            News::NeverPrepared { ready: true } => self.report.warn(&format!(
                "{name} did not answer within the prepare timeout ({}); it serves on, detached, until its successor is ready",
                in_words(policy.prepare_timeout)
            )),
            News::NeverPrepared { ready: false } => self.report.warn(&format!(
                "{name} did not answer within the prepare timeout ({}), and never said that it is ready; it is ended",
                in_words(policy.prepare_timeout)
            )),
            News::NotReadyYet { predecessor } => {
                let meanwhile = match self.predecessors.names().filter(|_| predecessor) {
                    Some(names) => format!("still serving: {names}"),
                    None => "a restart would end it before the next one starts".to_owned(),
                };
                let age = self.age();
                self.report.warn(&match self.what_is_missing() {
                    Some(missing) => {
                        format!("{name} is not ready {age} after its start; it waits for {missing}; {meanwhile}")
                    }
                    None => format!(
                        "{name} has not said that it is ready, {age} after its start; {meanwhile} (it says so by READY=1 or seamless-run notify started; or it is seen: --ready listen:PORT)"
                    ),
                });
            }
            News::NotReadyInTime { predecessor } => self.report.warn(&format!(
                "{name} was not ready within the ready timeout ({}{}); {}",
                in_words(policy.ready_timeout),
                self.what_is_missing()
                    .map_or_else(String::new, |missing| format!("; it waited for {missing}")),
                ends(predecessor)
            )),
            News::TakenForReady => self.report.warn(&format!(
                "{name} has not said that it is ready, as its predecessor never did; its life of {} is taken for that (it says so by READY=1 or seamless-run notify started; or it is seen: --ready listen:PORT)",
                self.age()
            )),
            News::Superseded { told } => self.report.note(&format!(
                "{name} {}; KILL after: {}",
                if told {
                    "drains, as its successor told it".to_owned()
                } else {
                    format!("is told to drain ({drain}): its successor is ready")
                },
                in_words(policy.drain_timeout)
            )),
            News::NoSuccessor => self.report.warn(&format!(
                "no successor of {name} has come within the orphan timeout ({}), so it was a stop; {name} is told to drain ({drain}); KILL after: {}",
                in_words(policy.orphan_timeout),
                in_words(policy.drain_timeout)
            )),
            News::NotWanted { drains: true } => self.report.note(&format!(
                "the supervisor wants the service down: {name} is told to drain ({drain}); KILL after: {}",
                in_words(policy.stop_timeout)
            )),
            News::NotWanted { drains: false } => self.report.note(&format!(
                "the supervisor wants the service down: the sockets of {name} are closed"
            )),
            News::Holding => self.report.note(&format!(
                "the sockets of {name} are kept until its successor has them; whoever connects waits; closed after: {}",
                in_words(policy.hold_timeout)
            )),
            News::NobodyCame => self.report.warn(&format!(
                "no successor of {name} has come within the hold timeout ({}); its sockets are closed",
                in_words(policy.hold_timeout)
            )),
            News::LauncherLost => {
                self.report
                    .warn(&format!("the launcher of {name} is gone; {}", self.after_loss()));
            }
            News::Orphaned => self.report.warn(&format!(
                "the supervisor of {name} is gone, and another one has started a launcher; {}",
                self.after_loss()
            )),
            News::NotInTime => self
                .report
                .warn(&format!("{name} did not end in time; it is killed")),
        }
    }

    /// `QUIT`, or `TERM: it does not handle QUIT`.
    fn drain_in_words(&self) -> String {
        let (sent, wanted) = (self.drain_signal(), self.service.drain.signal);
        if sent == wanted || !self.daemon.is_executed() {
            sent.to_string()
        } else {
            format!("{sent}: it does not handle {wanted}")
        }
    }

    /// For what it is waited, where that is more than the daemon's own word.
    pub(super) fn what_is_missing(&self) -> Option<String> {
        if self.commands.is_before_start() {
            return Some("the pre-start command".to_owned());
        }
        let readiness = self.readiness.as_ref();
        readiness
            .filter(|readiness| !readiness.is_to_be_said())
            .map(Readiness::missing)
    }

    fn after_loss(&self) -> &'static str {
        match self.phase {
            Phase::Draining { .. } => "it is ended",
            Phase::Killing { .. } => "it is killed",
            Phase::Holding { .. } | Phase::Lingering { .. } | Phase::Gone => {
                "older generations end by themselves"
            }
            Phase::Starting { .. }
            | Phase::Serving { .. }
            | Phase::Preparing { .. }
            | Phase::Parting { .. }
            | Phase::Standby { .. }
            | Phase::Stopping { .. } => "it serves on until its successor is ready",
        }
    }

    pub(super) fn report_refused(&self, sender: Option<Sender>, messages: usize) {
        let who = match sender {
            Some(Sender { pid, user, .. }) => format!("pid {pid} (user {user})"),
            None => "nobody that the kernel names".to_owned(),
        };
        self.report.detail(&match messages {
            1 => format!("a message of {who} is not believed, and changes nothing"),
            _ => format!("{messages} messages of {who} are not believed, and change nothing"),
        });
    }

    pub(super) fn report_nonsense(&self) {
        self.report.detail(&format!(
            "something that is no message came to {}; it is dropped",
            self.name()
        ));
    }

    /// To be called before the machine learns of it. Says whether nobody had asked for the end.
    pub(super) fn report_end(&self, ending: Ending) -> bool {
        let still = match self.predecessors.names() {
            Some(names) => format!("still serving: {names}"),
            None if self.callers.has_successor() => {
                "nobody serves until its successor is ready".to_owned()
            }
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
            Phase::Serving { .. } | Phase::Preparing { .. } | Phase::Parting { .. } => {
                self.report
                    .warn(&format!("{name} died: {ending} after {age}; {still}"));
            }
            Phase::Standby { .. } => {
                self.report.warn(&format!(
                    "{name} died in standby: {ending} after {age}; {still}"
                ));
            }
            Phase::Draining { .. } | Phase::Killing { launcher: None } => {
                self.report
                    .note(&format!("{name} is gone: {}", self.words_on_end(ending)));
            }
            Phase::Stopping { .. } | Phase::Killing { launcher: Some(_) } => {
                self.report
                    .note(&format!("{name} is stopped: {}", self.words_on_end(ending)));
            }
            Phase::Holding { .. } | Phase::Lingering { .. } | Phase::Gone => {}
        }
        matches!(
            self.phase,
            Phase::Starting { .. }
                | Phase::Serving { .. }
                | Phase::Preparing { .. }
                | Phase::Parting { .. }
        )
    }

    /// A daemon that forks itself away leaves children that nobody can watch.
    pub(super) fn report_background(&self) {
        let mark = format!("SEAMLESS={}", self.identity.pid);
        let is_marked = |entries: &[&[u8]]| entries.contains(&mark.as_bytes());
        let marked = process::younger_with_environment(self.daemon.pid(), is_marked);
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

/// As one would type it.
fn in_words(timeout: Option<Duration>) -> String {
    match timeout {
        None => "never".to_owned(),
        Some(time) if time.subsec_millis() != 0 => format!("{} s", time.as_secs_f64()),
        Some(time) => format!("{} s", time.as_secs()),
    }
}
