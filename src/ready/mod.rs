//! When a generation is ready (R12): what has to hold, and whether it does.
//!
//! Some of it happens once, and holds from then on: that the daemon says so, a line on a descriptor, a time.
//! The rest is looked at, again and again while it is not so, and all of it must hold in one look: a daemon
//! that listens for a moment and dies of its configuration is not ready. Commands are asked last.

pub(crate) mod bound;
mod line;
pub(crate) mod listening;
pub(crate) mod named;
mod pid_file;
pub(crate) mod waiting;
mod when;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use line::Line;
use listening::Listening;
pub(crate) use pid_file::{Named, PidFileWatch};
pub(crate) use when::When;

use crate::report::cause;
use crate::shell::{Progress, Run, Surroundings};

/// Between two looks: at first, and at most. There is nothing that one could wait for instead.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// A command that takes its time is not asked again at once.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// Characters of a condition, which may be a whole script.
const SHOWN: usize = 80;

/// Of whom it is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) daemon: i32,
    /// For commands.
    pub(crate) surroundings: Surroundings<'a>,
}

/// What has to hold, and how far that is.
#[derive(Debug)]
pub(crate) struct Readiness {
    conditions: Vec<Condition>,
    /// The daemon runs since then.
    since: Instant,
    /// For one run of a command.
    limit: Option<Duration>,
    /// The numbers of the sockets that the daemon was given.
    given: Vec<u64>,
    /// The run of the command that is asked, and how many before it have succeeded in this look.
    run: Option<Run>,
    asked: usize,
    pause: Duration,
    next_look: Option<Instant>,
    /// What did not hold, and why.
    missing: Option<(When, String)>,
}

#[derive(Debug)]
struct Condition {
    when: When,
    /// It has happened.
    met: bool,
    line: Option<Line>,
    /// Or why it cannot be found out.
    listening: Option<std::result::Result<Listening, String>>,
}

impl Readiness {
    /// Of a daemon that is about to be started. With the descriptors that it is to find, and where.
    pub(crate) fn begin(
        wanted: &[When],
        limit: Option<Duration>,
        given: Vec<u64>,
        now: Instant,
    ) -> Result<(Readiness, Vec<(OwnedFd, i32)>)> {
        let mut daemons = Vec::new();
        let mut open = |number: i32| {
            let opened = Line::open();
            let (line, end) =
                opened.with_context(|| format!("cannot make a pipe for --ready fd:{number}"))?;
            daemons.push((end, number));
            Ok(Some(line))
        };
        let readiness = Readiness::new(wanted, limit, given, now, &mut open)?;
        for Condition {
            when, listening, ..
        } in &readiness.conditions
        {
            if let Some(Err(why)) = listening {
                bail!("--ready {when}: {why}");
            }
        }
        Ok((readiness, daemons))
    }

    /// Of a daemon whose keeper was lost (R20). `met`: as that one had recorded it.
    pub(crate) fn resume(
        wanted: &[When],
        limit: Option<Duration>,
        given: Vec<u64>,
        since: Instant,
        daemon: i32,
        met: &[String],
    ) -> Result<Readiness> {
        let mut open = |number: i32| Ok(Line::reopen(daemon, number).ok());
        let mut readiness = Readiness::new(wanted, limit, given, since, &mut open)?;
        for condition in &mut readiness.conditions {
            condition.met = condition.when.is_event() && met.contains(&condition.when.to_string());
        }
        Ok(readiness)
    }

    fn new(
        wanted: &[When],
        limit: Option<Duration>,
        given: Vec<u64>,
        since: Instant,
        open: &mut dyn FnMut(i32) -> Result<Option<Line>>,
    ) -> Result<Readiness> {
        let mut condition = |when: &When| {
            let line = match when {
                When::Descriptor(number) => open(*number)?,
                _ => None,
            };
            let listening = match when {
                When::Listening(address) => Some(Listening::new(address)),
                _ => None,
            };
            Ok(Condition {
                when: when.clone(),
                met: false,
                line,
                listening,
            })
        };
        Ok(Readiness {
            conditions: wanted.iter().map(&mut condition).collect::<Result<_>>()?,
            since,
            limit,
            given,
            run: None,
            asked: 0,
            pause: FIRST_PAUSE,
            next_look: None,
            missing: None,
        })
    }

    /// The daemon runs only now.
    pub(crate) fn started(&mut self, now: Instant) {
        self.since = now;
    }

    /// The daemon has said that it is ready. Whether that counts.
    pub(crate) fn said(&mut self) -> bool {
        let mut counts = false;
        for condition in &mut self.conditions {
            if condition.when == When::Notify {
                counts = true;
                condition.met = true;
                self.next_look = None;
            }
        }
        counts
    }

    /// What has happened, for the record.
    pub(crate) fn met(&self) -> Vec<String> {
        let met = self.conditions.iter().filter(|one| one.met);
        met.map(|one| one.when.to_string()).collect()
    }

    /// A command was asked that does not tell this generation from others, so that a predecessor may have
    /// answered.
    pub(crate) fn may_be_fooled(&self) -> bool {
        self.conditions.iter().any(|one| one.when.asks_anybody())
    }

    /// Whether all of it holds. To be called at every wake.
    pub(crate) fn look(&mut self, subject: &Subject<'_>, now: Instant) -> bool {
        let happened = self.take_note(now);
        if let Some(run) = &mut self.run {
            match run.progress(now) {
                Progress::Pending if run.is_late => {
                    // It shall not be asked again beside that.
                    self.note_failure("it does not die of KILL");
                    return false;
                }
                Progress::Pending => return false,
                Progress::Ended(ending) if ending.is_success() => {
                    self.run = None;
                    self.asked += 1;
                }
                Progress::Ended(ending) => return self.has_failed(&ending.to_string(), now),
                Progress::Late => {
                    let limit = self.limit.unwrap_or_default().as_secs_f64();
                    return self.has_failed(&format!("it has not ended within {limit} s"), now);
                }
            }
        } else if !happened && self.next_look.is_some_and(|next| now < next) {
            return false;
        }
        let begin = Instant::now();
        match self.judge(subject, now) {
            Ok(holds) => holds,
            Err((when, why)) => {
                self.missing = Some((when, why));
                // A process may have thousands of descriptors.
                self.look_later(begin.elapsed() * 9, now);
                false
            }
        }
    }

    /// Takes note of what happens by itself. Says whether something has.
    fn take_note(&mut self, now: Instant) -> bool {
        let since = self.since;
        let mut happened = false;
        for condition in self.conditions.iter_mut().filter(|one| !one.met) {
            condition.met = match &condition.when {
                When::After(time) => since.checked_add(*time).is_some_and(|moment| moment <= now),
                When::Descriptor(_) => condition.line.as_mut().is_some_and(Line::read),
                When::Notify | When::Listening(_) | When::PidFile(_) | When::Command(_) => false,
            };
            happened |= condition.met;
        }
        happened
    }

    /// `Ok(false)`: it is not known yet.
    fn judge(
        &mut self,
        subject: &Subject<'_>,
        now: Instant,
    ) -> std::result::Result<bool, (When, String)> {
        for condition in &self.conditions {
            condition
                .holds(subject, &self.given)
                .map_err(|why| (condition.when.clone(), why))?;
        }
        let mut commands = self.conditions.iter().filter_map(|one| match &one.when {
            When::Command(line) => Some((&one.when, line)),
            _ => None,
        });
        let Some((when, line)) = commands.nth(self.asked) else {
            return Ok(true);
        };
        let failed = |error: io::Error| (when.clone(), cause(&error));
        self.run = Some(Run::begin(line, subject.surroundings, self.limit, now).map_err(failed)?);
        // Everything before it holds. Why it failed the last time is what people need until it is known anew.
        if self.missing.as_ref().map(|(missing, _)| missing) != Some(when) {
            self.missing = Some((when.clone(), "it is asked".to_owned()));
        }
        Ok(false)
    }

    fn has_failed(&mut self, how: &str, now: Instant) -> bool {
        self.note_failure(how);
        if let Some(run) = self.run.take() {
            self.look_later(run.lasted(now), now);
        }
        false
    }

    /// Of the command that is asked.
    fn note_failure(&mut self, how: &str) {
        let asked = self.conditions.iter().map(|one| &one.when);
        let mut commands = asked.filter(|when| matches!(when, When::Command(_)));
        let why = match self.run.as_ref().map(Run::said) {
            Some(said) if !said.is_empty() => format!("{how}: {said}"),
            _ => how.to_owned(),
        };
        self.missing = commands.nth(self.asked).map(|when| (when.clone(), why));
    }

    /// `rest`: after what took its time.
    fn look_later(&mut self, rest: Duration, now: Instant) {
        self.asked = 0;
        self.next_look = now.checked_add(self.pause.max(rest.min(LONGEST_REST)));
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// What does not hold: `listen:tcp:*:80 (nobody listens there)`.
    pub(crate) fn missing(&self) -> String {
        match &self.missing {
            Some((when, why)) => {
                let when: String = when.to_string().chars().take(SHOWN).collect();
                format!("{when} ({why})")
            }
            None => {
                let first = self.conditions.iter().find(|one| !one.met);
                first.map_or_else(String::new, |one| one.when.to_string())
            }
        }
    }

    /// It is waited for the daemon's own word, and nothing else.
    pub(crate) fn is_to_be_said(&self) -> bool {
        self.conditions.iter().all(|one| one.when == When::Notify)
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let of_run = self.run.as_ref().map(Run::deadline);
        let of_looks = of_run.unwrap_or(self.next_look.filter(|_| self.is_looked_at()));
        let moments = self.conditions.iter().filter_map(|one| match one.when {
            When::After(time) if !one.met => self.since.checked_add(time),
            _ => None,
        });
        moments.chain(of_looks).min()
    }

    /// Whatever happens by itself has happened.
    fn is_looked_at(&self) -> bool {
        let mut events = self.conditions.iter().filter(|one| one.when.is_event());
        events.all(|one| one.met)
    }

    pub(crate) fn to_watch(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let lines = self.lines().filter(|(met, line)| !met && !line.closed);
        let run = self.run.as_ref().and_then(Run::to_watch);
        lines.map(|(_, line)| line.as_fd()).chain(run)
    }

    /// Every descriptor that it has from the start.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.lines().map(|(_, line)| line.as_fd())
    }

    fn lines(&self) -> impl Iterator<Item = (bool, &Line)> {
        let all = self.conditions.iter();
        all.filter_map(|one| Some((one.met, one.line.as_ref()?)))
    }
}

impl Condition {
    /// A command is asked apart.
    fn holds(&self, subject: &Subject<'_>, given: &[u64]) -> std::result::Result<(), String> {
        let is_met = |why: &str| {
            if self.met {
                Ok(())
            } else {
                Err(why.to_owned())
            }
        };
        match &self.when {
            When::Notify => is_met("it has not said so"),
            When::After(_) => is_met("not yet"),
            When::Descriptor(_) => is_met(match &self.line {
                Some(line) if !line.closed => "it has written no line",
                _ => "it is closed, and no line was written",
            }),
            When::Listening(_) => match &self.listening {
                Some(Ok(listening)) => listening.is_held_by(subject.daemon, given),
                Some(Err(why)) => Err(why.clone()),
                None => Ok(()),
            },
            When::PidFile(path) => named::names(path, subject.daemon),
            When::Command(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn all_of_it_must_hold_in_one_look() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("own.pid");
        let wanted = [
            When::Notify,
            When::PidFile(path.clone()),
            When::After(SECOND),
        ];
        let begin = Instant::now();
        let (mut readiness, _) = Readiness::begin(&wanted, None, Vec::new(), begin).unwrap();
        let own = std::process::id() as i32;
        let subject = Subject {
            daemon: own,
            surroundings: Surroundings {
                environment: &[],
                directory: None,
            },
        };
        assert!(!readiness.look(&subject, begin));
        assert!(readiness.missing().starts_with("notify"));
        assert_eq!(
            readiness.deadline(),
            Some(begin + SECOND),
            "nothing else is looked at"
        );
        assert!(readiness.said());
        fs::write(&path, format!("{own}\n")).unwrap();
        assert!(!readiness.look(&subject, begin), "not yet");
        assert_eq!(readiness.met(), ["notify"]);
        fs::write(&path, "1\n").unwrap();
        assert!(!readiness.look(&subject, begin + SECOND));
        assert!(
            readiness.missing().contains("it names no process"),
            "{}",
            readiness.missing()
        );
        let next = readiness.deadline().unwrap();
        fs::write(&path, format!("{own}\n")).unwrap();
        assert!(
            !readiness.look(&subject, begin + SECOND),
            "it is looked at later"
        );
        assert!(readiness.look(&subject, next));
    }

    #[test]
    fn looks_become_less_and_less_frequent() {
        let wanted = [When::PidFile("/nowhere/own.pid".into())];
        let mut now = Instant::now();
        let (mut readiness, _) = Readiness::begin(&wanted, None, Vec::new(), now).unwrap();
        let subject = Subject {
            daemon: 1,
            surroundings: Surroundings {
                environment: &[],
                directory: None,
            },
        };
        let pauses = [5, 10, 20, 40, 80, 160, 250, 250];
        for milliseconds in pauses {
            assert!(!readiness.look(&subject, now));
            let next = readiness.deadline().unwrap();
            // A look takes its time, too, and is rested from.
            assert!(next - now >= Duration::from_millis(milliseconds));
            now = next;
        }
    }

    #[test]
    fn what_the_daemon_says_counts_only_where_it_is_wanted() {
        let wanted = [When::After(SECOND)];
        let begun = Readiness::begin(&wanted, None, Vec::new(), Instant::now());
        assert!(!begun.unwrap().0.said());
    }
}
