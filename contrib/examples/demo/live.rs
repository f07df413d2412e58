//! The live picture: what is heard, what is done, and a new drawing ten times a second.

use std::{
    env,
    io::{self, Write},
    os::unix::process::CommandExt,
    process::{self, Command, ExitCode},
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::process::Signal;

use super::{
    FAST_CLIENTS, LIMIT, Outcome, SLOW, chart,
    generations::Generations,
    keys::{self, Key},
    last_words,
    load::{Load, Target},
    pid_file::PidFile,
    screen::{Keys, Picture},
    service::{End, News, Service, Version},
    status::Seen,
    story::{self, Action, Caption},
    summary,
    tally::{BUCKET, Tally},
    terminal::{self, Abilities},
};

const FRAME: Duration = Duration::from_millis(100);
/// Leaves most of two cores to whoever looks on.
const RATE: u32 = 2_000;
/// How long the last picture stays.
const LAST: Duration = Duration::from_millis(2500);
/// Of the log.
const LINES: usize = 100;

#[derive(Debug)]
pub(crate) enum Event {
    Key(Key),
    Signal(i32),
    Resized,
    News(News),
    Status(Vec<Seen>),
    /// After a stop: every process has gone.
    Ended(End),
}

struct Live<'a> {
    service: &'a Arc<Service>,
    events: Sender<Event>,
    tally: Arc<Tally>,
    load: Option<Load>,
    generations: Generations,
    log: Vec<String>,
    caption: Caption,
    /// Of the script: the scene, how long it has been shown, and how long those before it.
    scene: usize,
    shown: Duration,
    paused: bool,
    has_keys: bool,
    abilities: Abilities,
    stopping: Option<JoinHandle<()>>,
    /// It was a key that stopped it, and one ends it.
    by_key: bool,
    end: Option<(End, Instant)>,
}

/// Why there is nothing more to be seen.
enum Leave {
    /// The stop has been shown.
    Over(End),
    Quit,
    /// The same, and all of it once more.
    Again,
    Signal(i32),
}

pub(crate) fn run(
    service: &Arc<Service>,
    events: Sender<Event>,
    heard: &Receiver<Event>,
    pace: f64,
) -> Outcome<ExitCode> {
    let (news, service_says) = mpsc::channel();
    let pid_file = PidFile::watch(&service.directory)?;
    Service::supervise(service, news)?;
    if pid_file.wait(LIMIT, |_| true).is_none() {
        let end = service.end();
        return Err(format!("the first generation was not ready in time\n{}", end.log).into());
    }
    let forward = events.clone();
    thread::spawn(move || {
        for news in service_says {
            if forward.send(Event::News(news)).is_err() {
                return;
            }
        }
    });
    let seen = events.clone();
    let watch = service.watch(move |generations| seen.send(Event::Status(generations)).is_ok())?;
    let tally = Arc::new(Tally::new(Instant::now()));
    let listener = Arc::clone(&tally);
    let load = Load::start_heard(
        Target::Unix(service.socket()),
        FAST_CLIENTS,
        Some(SLOW),
        RATE,
        Some(Box::new(move |asked| listener.count(asked))),
    );
    terminal::take()?;
    let mut live = Live {
        service,
        has_keys: keys::listen(events.clone()),
        events,
        tally,
        load: Some(load),
        generations: Generations::default(),
        log: Vec::new(),
        caption: story::BEGINNING,
        scene: 0,
        shown: Duration::ZERO,
        paused: false,
        abilities: Abilities::of_this_one(),
        stopping: None,
        by_key: false,
        end: None,
    };
    let left = live.show(heard, pace);
    terminal::restore();
    drop(watch);
    live.conclude(left)
}

impl Live<'_> {
    fn show(&mut self, heard: &Receiver<Event>, pace: f64) -> Leave {
        let mut last = Instant::now();
        loop {
            // A terminal that takes nothing has gone, or will be given back by whoever hears of that.
            self.draw().ok();
            let next = Instant::now() + FRAME;
            loop {
                let left = next.saturating_duration_since(Instant::now());
                match heard.recv_timeout(left) {
                    Ok(event) => {
                        if let Some(leave) = self.hear(event) {
                            return leave;
                        }
                    }
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
                }
            }
            if let Some((end, since)) = &self.end {
                if !self.by_key && since.elapsed() >= LAST.div_f64(pace) {
                    return Leave::Over(end.clone());
                }
            }
            let now = Instant::now();
            if !self.paused {
                self.go_on((now - last).mul_f64(pace));
            }
            last = now;
        }
    }

    fn go_on(&mut self, passed: Duration) {
        self.shown += passed;
        let (_, length) = story::SCRIPT[self.scene];
        if self.shown < length || self.scene + 1 == story::SCRIPT.len() {
            return;
        }
        self.shown = Duration::ZERO;
        self.scene += 1;
        if let (Some(action), _) = story::SCRIPT[self.scene] {
            self.act(action);
        }
    }

    fn hear(&mut self, event: Event) -> Option<Leave> {
        match event {
            Event::Signal(signal) => return Some(Leave::Signal(signal)),
            Event::Key(Key::Quit) => return Some(Leave::Quit),
            Event::Key(Key::Pause) if self.is_over() => {}
            Event::Key(Key::Pause) => {
                self.paused = !self.paused;
            }
            Event::Key(Key::Do(Action::Restart)) if self.may_go_again() => {
                return Some(Leave::Again);
            }
            Event::Key(Key::Do(_)) if self.is_over() => {}
            Event::Key(Key::Do(action)) => {
                // Who types is the one who tells from here on.
                self.paused = true;
                self.by_key = action == Action::Stop;
                self.act(action);
            }
            // At once, and not before the next drawing.
            Event::Resized => drop(terminal::write(b"\x1b[2J")),
            Event::News(News::Line(line)) => self.log(line),
            Event::News(News::Left { status, .. }) => {
                self.log(format!("demo: the launcher has left: {status}"));
            }
            Event::Status(seen) => self.generations.hear(seen),
            Event::Ended(end) => {
                self.end = Some((end, Instant::now()));
                if self.may_go_again() {
                    self.caption = story::STOPPED;
                }
            }
        }
        None
    }

    /// Nothing runs any more that could be restarted.
    fn is_over(&self) -> bool {
        self.load.is_none()
    }

    /// Whoever has stopped it by a key can start it once more by another one.
    fn may_go_again(&self) -> bool {
        self.by_key
            && self
                .end
                .as_ref()
                .is_some_and(|(end, _)| end.outcome.is_ok())
    }

    fn log(&mut self, line: String) {
        self.log.push(line);
        if self.log.len() > LINES {
            self.log.remove(0);
        }
    }

    fn act(&mut self, action: Action) {
        self.caption = action.caption(self.service.due());
        let done = match action {
            Action::Restart => {
                self.restart(Version::Good);
                Ok(())
            }
            Action::Crash => {
                self.restart(Version::Crashes);
                Ok(())
            }
            Action::Hang => {
                self.restart(Version::Hangs);
                Ok(())
            }
            Action::Mend => {
                self.service.deploy(Version::Good);
                self.log("demo: the next attempt will be a good version".to_owned());
                Ok(())
            }
            Action::KillDaemon => self.kill_daemon(),
            Action::KillKeeper => {
                let newest = self.generations.newest(|seen| seen.keeper);
                self.kill("keeper", newest).map(drop)
            }
            Action::KillLauncher => {
                let newest = self.generations.newest(|seen| seen.launcher);
                self.kill("launcher", newest).map(drop)
            }
            Action::Stop => {
                self.stop();
                Ok(())
            }
        };
        if let Err(error) = done {
            self.log(format!("demo: not now: {error}"));
        }
    }

    fn restart(&mut self, version: Version) {
        self.service.deploy(version);
        let what = match version {
            Version::Good => "",
            Version::Crashes => "; the new version will crash",
            Version::Hangs => "; the new version will hang",
        };
        // Between two attempts there is none.
        let done = match self.service.signal(Signal::TERM) {
            Ok(()) => "TERM to the launcher",
            Err(_) => "the supervisor is about to start the next launcher",
        };
        self.log(format!("demo: {done}{what}"));
    }

    fn kill_daemon(&mut self) -> Outcome<()> {
        let newest = self.generations.newest(|seen| seen.daemon);
        let (generation, _) = newest.ok_or("no daemon serves")?;
        self.tally.killing(generation);
        let dead = self.kill("daemon", newest);
        self.tally.killed(dead.as_ref().ok().copied());
        dead.map(drop)
    }

    fn kill(&mut self, who: &str, newest: Option<(u32, u32)>) -> Outcome<Instant> {
        let (generation, pid) = newest.ok_or_else(|| format!("there is no {who}"))?;
        let dead = self.service.kill(pid)?;
        self.log(format!(
            "demo: kill -9 {pid}, the {who} of generation {generation}"
        ));
        Ok(dead)
    }

    /// The clients first: nobody is to be refused.
    fn stop(&mut self) {
        // The script has nothing more to show.
        self.paused = false;
        self.scene = story::SCRIPT.len() - 1;
        let (service, events, load) = (
            Arc::clone(self.service),
            self.events.clone(),
            self.load.take(),
        );
        if !service.serves() {
            self.log("demo: a good version first, for those who wait in the queue".to_owned());
        }
        self.log("demo: the clients leave; then INT to the launcher".to_owned());
        self.stopping = Some(thread::spawn(move || {
            // Where nobody serves in the end, the clients say so.
            service.mend().ok();
            if let Some(load) = load {
                load.stop();
            }
            events.send(Event::Ended(service.end())).ok();
        }));
    }

    fn keys(&self) -> Keys {
        match (self.has_keys, self.is_over()) {
            (false, _) => Keys::None,
            (true, true) => Keys::Over {
                again: self.may_go_again(),
            },
            (true, false) => Keys::All {
                broken: self.service.due() != Version::Good,
            },
        }
    }

    fn draw(&self) -> io::Result<()> {
        let (rows, width) = terminal::size();
        let sums = self.tally.sums();
        let second = usize::try_from(1000 / BUCKET.as_millis()).unwrap_or(1);
        let buckets = self.tally.last(chart::columns(width).max(second));
        let generations = self.generations.worth_showing(&sums);
        let before: Duration = story::SCRIPT[..self.scene]
            .iter()
            .map(|scene| scene.1)
            .sum();
        let picture = Picture {
            caption: self.caption,
            step: (self.scene + 1, story::SCRIPT.len()),
            time: (
                before + self.shown.min(story::SCRIPT[self.scene].1),
                story::length(),
            ),
            paused: self.paused,
            keys: self.keys(),
            generations: &generations,
            sums: &sums,
            buckets: &buckets,
            slow_in_flight: self
                .load
                .as_ref()
                .map_or(0, |load| load.report().slow_in_flight),
            log: &self.log,
            abilities: self.abilities,
        };
        // In one piece, where the terminal knows how: no half of a picture is seen.
        let mut frame = String::from("\x1b[?2026h");
        for (number, row) in picture.draw(rows, width).iter().enumerate() {
            frame += &format!("\x1b[{};1H{}\x1b[K", number + 1, row.as_str());
        }
        frame += "\x1b[?2026l";
        terminal::write(frame.as_bytes())
    }

    fn conclude(mut self, left: Leave) -> Outcome<ExitCode> {
        let mut out = io::stdout();
        let again = matches!(left, Leave::Again);
        let end = match left {
            Leave::Over(end) => end,
            Leave::Quit | Leave::Again => {
                if self.end.is_none() {
                    writeln!(out, "{}\n", self.farewell())?;
                }
                self.let_clients_leave();
                self.service.end()
            }
            Leave::Signal(signal) => {
                let waits = format!("Interrupted. {}\n", self.farewell());
                // To a terminal that may have gone.
                terminal::write(waits.as_bytes()).ok();
                self.let_clients_leave();
                if let Err(error) = self.service.end().outcome {
                    terminal::write(format!("demo: {error}\n").as_bytes()).ok();
                }
                process::exit(128 + signal);
            }
        };
        let sums = self.tally.sums();
        summary::write(&sums, terminal::size().1, &mut out)?;
        let passed = sums.failed == 0 && end.outcome.is_ok();
        let code = last_words(&end, sums.failed == 0, &mut out)?;
        if again && passed {
            writeln!(out)?;
            // Nothing of this one is left but its process.
            let words = env::args_os().skip(1);
            let error = Command::new(env::current_exe()?).args(words).exec();
            return Err(error.into());
        }
        Ok(code)
    }

    fn farewell(&self) -> &'static str {
        if self.service.serves() {
            "The service is stopped, and finishes the requests in flight."
        } else {
            "The service is stopped, and finishes the requests in flight; a good version first, for those\n\
             who wait in the queue."
        }
    }

    /// Nobody is to be refused, nor to wait in vain.
    fn let_clients_leave(&mut self) {
        if let Some(stopping) = self.stopping.take() {
            // A thread that panics ends all of it.
            stopping.join().ok();
        }
        if let Some(load) = self.load.take() {
            // Where nobody serves in the end, the clients say so.
            self.service.mend().ok();
            load.stop();
        }
    }
}
