//! One handover: what is broken in it, and what must hold afterwards.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use super::{
    Outcome,
    fault::{self, Broken},
    innocents::Innocents,
    load::Asked,
    plan::{Age, Kind, Point, Trial, Victim},
    service::{LIMIT, Service, Serving, Wrong},
    support::{Kind as SupervisorKind, Spawned, Verb},
    watch::Event,
};

/// A point that does not come within this time does not come.
const POINT: Duration = Duration::from_secs(6);

/// The log's words for R20's exception: no keeper has the socket, it cannot be fetched, nor bound beside that daemon.
const EXCEPTION: &str = "is ended before the new one starts: no keeper has its socket";

/// What came out of one handover.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    pub(crate) struck: bool,
    pub(crate) requests: u64,
    /// In the hands of a daemon that was KILLed.
    pub(crate) by_rule: u64,
    /// R20's exception.
    pub(crate) excepted: u64,
    /// Without any such reason.
    pub(crate) lost: u64,
    pub(crate) leaks: u64,
    pub(crate) hits: u64,
    pub(crate) reused: u64,
    pub(crate) named: u64,
    /// What is wrong, and the timeline.
    pub(crate) wrong: Option<String>,
    pub(crate) serving: Option<Serving>,
}

impl Judged {
    pub(crate) fn failed(&self) -> u64 {
        self.by_rule + self.excepted + self.lost
    }
}

/// What was done when.
#[derive(Debug)]
struct Story {
    began: Instant,
    lines: Vec<(Instant, String)>,
}

impl Story {
    fn begin() -> Story {
        Story {
            began: Instant::now(),
            lines: Vec::new(),
        }
    }
}

impl Story {
    fn note(&mut self, words: impl Into<String>) {
        self.lines.push((Instant::now(), words.into()));
    }

    /// With what the service wrote, what was seen of it, and the requests that failed.
    fn told(mut self, service: &Service, failures: &[Asked]) -> String {
        for line in service.log.listing().lines() {
            let Some((time, words)) = line.trim_start().split_once(' ') else {
                continue;
            };
            let Ok(seconds) = time.parse::<f64>() else {
                continue;
            };
            let at = service.log_began + Duration::from_secs_f64(seconds);
            if at >= self.began {
                self.lines.push((at, format!("| {words}")));
            }
        }
        self.lines.extend(service.watch.since(self.began));
        for asked in failures {
            let words = format!(
                "a {} request, begun {:.1} ms before, failed: {:?}, {:?}",
                if asked.is_slow { "slow" } else { "fast" },
                (asked.ended - asked.began).as_secs_f64() * 1e3,
                asked.failure,
                asked.by,
            );
            self.lines.push((asked.ended, words));
        }
        self.lines.sort_by_key(|(at, _)| *at);
        let mut told = String::new();
        let skipped = self.lines.len().saturating_sub(300);
        for (at, words) in self.lines.iter().take(self.lines.len() - skipped) {
            let after = at.saturating_duration_since(self.began).as_secs_f64();
            // A String takes everything.
            writeln!(told, "    {after:9.4} {words}").ok();
        }
        if skipped > 0 {
            writeln!(told, "    … and {skipped} lines more").ok();
        }
        told
    }
}

pub(crate) fn run(
    service: &mut Service,
    old: &Serving,
    trial: &Trial,
    innocents: &Innocents,
) -> Judged {
    let mut story = Story::begin();
    let from_line = service.log.length();
    let from_event = service.watch.length();
    let before = innocents.count(service.index);
    let mut judged = Judged::default();
    let mut broken = Broken::default();
    let done = go_through(service, old, trial, &mut broken, &mut story, &mut judged);
    let healed = broken.heal(service);
    let mut wrong = Vec::new();
    for done in [done, healed] {
        if let Err(error) = done {
            wrong.push(error.to_string());
        }
    }
    broken.clear(service);
    let mut from = old.number;
    if trial.kind.needs_another() {
        let is_lost = trial.kind == Kind::KillAtCall;
        let limit = if is_lost {
            Duration::from_secs(3)
        } else {
            LIMIT
        };
        match service.wait_serving(old, limit) {
            Some(number) => {
                if !is_lost && service.is_misrecorded(number) {
                    wrong.push(format!("the record was written when generation {number} was ready, and calls it starting"));
                }
                from = number;
                story.note(format!(
                    "generation {number} serves; a restart, to clean up"
                ));
            }
            // Its launcher may go on without a keeper, until the next start.
            None if is_lost => story.note("nobody new serves; a restart, to clean up"),
            None => wrong.push(format!("nobody new serves after {} s", LIMIT.as_secs())),
        }
        from = service.newest_ready().max(from);
        restart(service, &mut story).finish();
    }
    let whole = service.wait_whole(from, LIMIT);
    if let Some(struck) = broken.struck_at_call() {
        judged.struck = struck;
    }
    match whole {
        Ok(serving) => {
            story.note(format!("whole: generation {} serves", serving.number));
            judged.serving = Some(serving);
        }
        Err(Wrong::Broken(words)) => {
            wrong.push(format!("not whole after {} s: {words}", LIMIT.as_secs()))
        }
        Err(Wrong::Leak(words)) => {
            judged.leaks += 1;
            wrong.push(words);
        }
    }
    let (finished, failures) = service.requests.finished();
    judged.requests = finished;
    let excepted = service
        .log
        .seen_by(Instant::now(), from_line, |line| line.contains(EXCEPTION))
        .is_some();
    for asked in &failures {
        if service.killed.iter().any(|killed| killed.had(asked)) {
            judged.by_rule += 1;
        } else if excepted {
            judged.excepted += 1;
        } else {
            judged.lost += 1;
        }
    }
    // Promise 2. One that was KILLed had no choice; and where nothing can be written, nothing can be said.
    let cannot_tell = excepted
        || match trial.kind {
            Kind::Kill(Victim::Daemon, Age::Old) => true,
            Kind::KillAtCall => false,
            kind => kind.needs_another(),
        };
    if !cannot_tell && service.watch.ended_too_soon(from_event, old.number) {
        wrong.push(format!(
            "generation {} had ended before a newer one was ready",
            old.number
        ));
    }
    if judged.lost > 0 {
        wrong.push(format!("{} requests were lost", judged.lost));
    }
    for hit in innocents.hits_since(service.index, story.began) {
        judged.hits += 1;
        wrong.push(format!("an innocent: {}", hit.words));
        story
            .lines
            .push((hit.at, format!("innocent: {}", hit.words)));
    }
    let after = innocents.count(service.index);
    judged.reused = after.reused - before.reused;
    judged.named = after.named - before.named;
    if !wrong.is_empty() {
        judged.wrong = Some(format!(
            "{}\n{}",
            wrong.join("\n"),
            story.told(service, &failures)
        ));
    }
    judged
}

/// Up to the fault's end.
fn go_through(
    service: &mut Service,
    old: &Serving,
    trial: &Trial,
    broken: &mut Broken,
    story: &mut Story,
    judged: &mut Judged,
) -> Outcome<()> {
    broken.prepare(service, trial)?;
    if trial.settled {
        // runit: until the launcher has lived for a second.
        let age = story.began.saturating_duration_since(service.up_since);
        fault::pass(Duration::from_millis(1050).saturating_sub(age));
    }
    let seen = Seen {
        line: service.log.length(),
        event: service.watch.length(),
    };
    let mut asked = None;
    if trial.point != Point::Before {
        asked = Some(restart(service, story));
    }
    if seen.reaches(service, old, trial) {
        fault::pass(trial.delay);
        let at = Instant::now();
        match broken.strike(service, trial, old)? {
            Some(words) => {
                judged.struck = true;
                story
                    .lines
                    .push((at, format!("{}: {words}", trial.point.name())));
            }
            None => story.note(format!("{}: nobody is there", trial.point.name())),
        }
    } else {
        story.note(format!("{} does not come", trial.point.name()));
    }
    let struck = Instant::now();
    let asked = match asked {
        Some(asked) => asked,
        None => restart(service, story),
    };
    if broken.lasts() {
        fault::pass(trial.lasts.saturating_sub(struck.elapsed()));
        broken.heal(service)?;
        story.note("healed");
    }
    asked.finish();
    Ok(())
}

fn restart(service: &Service, story: &mut Story) -> Spawned {
    story.note("a restart is asked for");
    if service.supervisor.kind() == SupervisorKind::Runit {
        // It waits for what it cannot know: that the next one is up.
        service.supervisor.say(&["-w", "1", "restart"]).start()
    } else {
        service.supervisor.begin(Verb::Restart)
    }
}

/// Lines and events before these were there before.
struct Seen {
    line: usize,
    event: usize,
}

impl Seen {
    fn reaches(&self, service: &Service, old: &Serving, trial: &Trial) -> bool {
        let deadline = Instant::now() + POINT;
        let is_new = matches!(
            trial.kind,
            Kind::Kill(_, Age::New)
                | Kind::Stop(_, Age::New)
                | Kind::Descriptors(Age::New)
                | Kind::DeadLog
        );
        let line = |parts: &[&str]| {
            let wanted = |line: &str| parts.iter().all(|part| line.contains(part));
            service.log.seen_by(deadline, self.line, wanted).is_some()
        };
        // On a busy machine the last handover's line may be read only now.
        let own_line = format!("app: generation {} (", old.number);
        let line_of_newer = |part: &str| {
            let wanted = |line: &str| line.contains(part) && !line.starts_with(&own_line);
            service.log.seen_by(deadline, self.line, wanted).is_some()
        };
        let event =
            |wanted: &dyn Fn(&Event) -> bool| service.watch.seen_by(deadline, self.event, wanted);
        let named =
            |wanted: &str| event(&|event| matches!(event, Event::Named(name) if name == wanted));
        let recorded = |state: &str| {
            event(&|event| {
                let Event::Record(record) = event else {
                    return false;
                };
                record
                    .iter()
                    .any(|one| one.number > old.number && (state.is_empty() || one.state == state))
            })
        };
        let of_old = format!("generation {} (", old.number);
        match trial.point {
            Point::Before | Point::Asked | Point::Call => true,
            Point::Told => line(&[&of_old, " is told to prepare"]),
            Point::Prepared => line(&[&of_old, " is prepared"]),
            Point::Left => old.handles[2].wait_until(deadline),
            Point::Newcomer => named("app.pid.sock.new"),
            Point::Recorded => recorded(""),
            Point::Starts => line_of_newer(" starts: "),
            Point::PidFile => named("app.pid"),
            Point::ReadyRecord => recorded("ready"),
            Point::Socket => named("app.pid.sock"),
            Point::Ready => line_of_newer(" is ready after"),
            Point::Drains => line(&[&of_old, " is told to drain"]),
            Point::Answers => service
                .requests
                .answered_by_newer(old.number, deadline)
                .is_some(),
            Point::Gone => line(&[&of_old, " is gone"]),
            // What is not there yet cannot be broken.
            Point::Drawn => !is_new || recorded(""),
        }
    }
}

/// The first handovers of a service, in which nothing is broken: what is found then is what must be found later.
pub(crate) fn warm_up(service: &mut Service) -> Result<Serving, String> {
    let words = |wrong: Wrong| match wrong {
        Wrong::Broken(words) | Wrong::Leak(words) => words,
    };
    let mut serving = service.wait_whole(0, LIMIT).map_err(words)?;
    for _ in 0..2 {
        service.supervisor.settle();
        let mut story = Story::begin();
        restart(service, &mut story).finish();
        serving = service.wait_whole(serving.number, LIMIT).map_err(words)?;
    }
    // The fewest of several looks: a connection to the one before may be on its way out.
    let mut fewest = service.descriptors_of(serving.launcher.pid, serving.keeper.pid);
    for _ in 0..10 {
        service.watch.wait_news(Duration::from_millis(30));
        let found = service.descriptors_of(serving.launcher.pid, serving.keeper.pid);
        for (fewest, found) in fewest.iter_mut().zip(found) {
            *fewest = found.min(*fewest);
        }
    }
    service.descriptors = Some(fewest);
    let (_, failures) = service.requests.finished();
    if failures.is_empty() {
        Ok(serving)
    } else {
        Err(format!("{} requests failed in the warm-up", failures.len()))
    }
}
