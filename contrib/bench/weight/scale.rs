//! A thousand services at once on this machine: what they weigh, how long it takes to start and to restart all of them,
//! and whether anything is lost meanwhile.
//!
//! They run under a real runsvdir, each with a directory of its own, and a Unix socket that its keeper holds.

use std::{
    fs::{self, File, Permissions},
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    Outcome,
    memory::Weight,
    programs::{Programs, Who, packaged},
    support::{Scratch, Spawn, process},
};

/// For the whole of it, less what is needed to end it.
const LIMIT: Duration = Duration::from_secs(240);
/// Whoever asks, at once. More would only stand in the way of those who are to answer.
const CLIENTS: usize = 2;
/// runsv starts a service that has run for less than a second only a second later.
const LEAST_AGE: Duration = Duration::from_millis(1500);

#[derive(Clone, Debug, Default)]
pub(crate) struct Scale {
    pub(crate) services: usize,
    /// Launchers and keepers.
    pub(crate) ours: Weight,
    pub(crate) our_processes: usize,
    pub(crate) daemons: Weight,
    /// runsv's, and runsvdir.
    pub(crate) supervisors: Weight,
    pub(crate) to_start: Duration,
    pub(crate) to_restart: Duration,
    /// Until no old generation is left.
    pub(crate) to_drain: Duration,
    pub(crate) requests: u64,
    pub(crate) lost: u64,
    pub(crate) slowest: Duration,
    /// How often this was logged, and a sample of it.
    pub(crate) warnings: Vec<(usize, String)>,
}

struct Services {
    /// Of each: service directory, socket.
    all: Vec<(PathBuf, PathBuf)>,
    requests: AtomicU64,
    lost: AtomicU64,
    slowest: AtomicU64,
    /// Who answered last.
    answered: Vec<Mutex<String>>,
    ended: AtomicBool,
}

pub(crate) fn measure(
    programs: &Programs,
    scratch: &Scratch,
    files: &Path,
    services: usize,
    one_directory: bool,
) -> Outcome<Scale> {
    let deadline = Instant::now() + LIMIT;
    let runsvdir = packaged("runsvdir", "runit")?;
    let log = scratch.join("scale.log");
    let place = |number: usize| match one_directory {
        true => files.join("all"),
        false => files.join(format!("{number:04}")),
    };
    let places = (0..services).map(place);
    let services = Services::prepare(programs, scratch, places, &log)?;
    let mut scale = Scale {
        services: services.all.len(),
        ..Scale::default()
    };
    let began = Instant::now();
    let mut runsvdir = Spawn::new(scratch, runsvdir)
        .arg(scratch.join("services"))
        .start();
    services.wait_all(deadline, |answer| !answer.is_empty())?;
    scale.to_start = began.elapsed();
    thread::sleep(LEAST_AGE);

    scale.weigh(scratch);

    let before = services.answers();
    thread::scope(|scope| -> Outcome<()> {
        for number in 0..CLIENTS {
            let services = &services;
            scope.spawn(move || services.ask_all_the_time(number));
        }
        let done = services.restart_all(&mut scale, &before, deadline, scratch);
        services.ended.store(true, Ordering::Relaxed);
        done
    })?;
    scale.requests = services.requests.load(Ordering::Relaxed);
    scale.lost = services.lost.load(Ordering::Relaxed);
    scale.slowest = Duration::from_micros(services.slowest.load(Ordering::Relaxed));
    scale.warnings = warnings(&fs::read_to_string(&log).unwrap_or_default());
    runsvdir.kill();
    Ok(scale)
}

impl Services {
    fn prepare(
        programs: &Programs,
        scratch: &Scratch,
        places: impl Iterator<Item = PathBuf>,
        log: &Path,
    ) -> Outcome<Services> {
        let ours = programs.parent(Who::Static);
        let ours = ours.or_else(|| programs.parent(Who::Plain));
        let ours = ours.ok_or("seamless-run is not there")?;
        let mut all = Vec::new();
        for (number, place) in places.enumerate() {
            let directory = scratch.join(format!("services/{number:04}"));
            fs::create_dir_all(&directory)?;
            fs::create_dir_all(&place)?;
            let socket = place.join(format!("{number:04}.sock"));
            let script = format!(
                "#!/bin/sh\nexec 2>>{log}\nexec {ours} -q --pid-file {place}/{number:04}.pid --listen {socket} -- {small} serve READY=1\n",
                log = log.display(),
                ours = ours.program.display(),
                place = place.display(),
                socket = socket.display(),
                small = programs.small(),
            );
            let run = directory.join("run");
            fs::write(&run, script)?;
            fs::set_permissions(&run, Permissions::from_mode(0o755))?;
            all.push((directory, socket));
        }
        Ok(Services {
            answered: all.iter().map(|_| Mutex::default()).collect(),
            all,
            requests: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            slowest: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        })
    }

    fn answers(&self) -> Vec<String> {
        let answers = self.answered.iter();
        answers.map(|answer| lock(answer).clone()).collect()
    }

    /// Until each has been heard, and its answer is one that was waited for.
    fn wait_all(&self, deadline: Instant, wanted: impl Fn(&str) -> bool) -> Outcome<()> {
        for ((_, socket), answered) in self.all.iter().zip(&self.answered) {
            loop {
                let answer = ask(socket).unwrap_or_default();
                if wanted(&answer) {
                    *lock(answered) = answer;
                    break;
                }
                if Instant::now() > deadline {
                    return Err(format!("{} is not served", socket.display()).into());
                }
                thread::sleep(Duration::from_millis(2));
            }
        }
        Ok(())
    }

    fn ask_all_the_time(&self, from: usize) {
        let all = self.all.iter().zip(&self.answered);
        let turns = all.cycle().skip(from * self.all.len() / CLIENTS);
        for ((_, socket), answered) in turns {
            if self.ended.load(Ordering::Relaxed) {
                return;
            }
            let began = Instant::now();
            let answer = ask(socket);
            let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.slowest.fetch_max(took, Ordering::Relaxed);
            self.requests.fetch_add(1, Ordering::Relaxed);
            match answer {
                Ok(answer) if !answer.is_empty() => *lock(answered) = answer,
                Ok(_) | Err(_) => {
                    self.lost.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    fn restart_all(
        &self,
        scale: &mut Scale,
        before: &[String],
        deadline: Instant,
        scratch: &Scratch,
    ) -> Outcome<()> {
        let old: Vec<i32> = before
            .iter()
            .filter_map(|answer| answer.trim().parse().ok())
            .collect();
        let began = Instant::now();
        for (directory, _) in &self.all {
            // What `sv term` writes; a thousand `sv` would be measured else.
            let control = directory.join("supervise/control");
            File::options().write(true).open(control)?.write_all(b"t")?;
        }
        loop {
            let now = self.answers();
            if now.iter().zip(before).all(|(now, before)| now != before) {
                break;
            }
            if Instant::now() > deadline {
                let left = now.iter().zip(before).filter(|(now, before)| now == before);
                return Err(format!("{} are not restarted", left.count()).into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        scale.to_restart = began.elapsed();
        while old
            .iter()
            .any(|pid| process::alive(process::Pid::from_raw(*pid)))
        {
            if Instant::now() > deadline {
                return Err("old generations stay".into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        scale.to_drain = began.elapsed();
        // A short while with the new ones alone.
        thread::sleep(Duration::from_millis(300));
        let keepers = scratch
            .processes()
            .iter()
            .filter(|process| process.comm == "seamless-keeper")
            .count();
        debug_assert!(keepers >= self.all.len());
        Ok(())
    }
}

impl Scale {
    fn weigh(&mut self, scratch: &Scratch) {
        for process in scratch.processes() {
            let Ok(weight) = Weight::of(process.pid) else {
                continue;
            };
            match process.comm.as_str() {
                "seamless-run" | "seamless-keeper" => {
                    self.our_processes += 1;
                    self.ours.add(weight);
                }
                "small" => self.daemons.add(weight),
                "runsv" | "runsvdir" => self.supervisors.add(weight),
                _ => {}
            }
        }
    }
}

fn lock(answer: &Mutex<String>) -> std::sync::MutexGuard<'_, String> {
    answer.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ask(socket: &Path) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The lines of the log, those that differ only in numbers taken together.
fn warnings(log: &str) -> Vec<(usize, String)> {
    let mut kinds: Vec<(String, usize, String)> = Vec::new();
    for line in log.lines() {
        let kind: String = line
            .chars()
            .filter(|character| !character.is_ascii_digit())
            .collect();
        match kinds.iter_mut().find(|(known, ..)| *known == kind) {
            Some((_, count, _)) => *count += 1,
            None => kinds.push((kind, 1, line.to_owned())),
        }
    }
    kinds
        .into_iter()
        .map(|(_, count, sample)| (count, sample))
        .collect()
}
