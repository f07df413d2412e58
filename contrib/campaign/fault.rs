//! How each fault is done, and undone.

use std::{
    fs,
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        signal::Signal,
        stat::Mode,
        time::{TimeSpec, TimeValLike},
    },
    time::{ClockId, clock_gettime, clock_settime},
    unistd::mkfifo,
};
use rustix::process::{Resource, Rlimit, prlimit};

use super::{
    Outcome, daemon,
    plan::{Age, Kind, Trial, Victim},
    requests::Killed,
    service::{Service, Serving},
    support::{
        Pid, Spawn, Spawned,
        disk::Fault,
        process::{self, Handle, Process},
        tool,
    },
    tracer::Tracer,
    watch,
};

/// Enough descriptors.
const MOST: u64 = 4096;

/// What is to be undone.
#[derive(Debug, Default)]
pub(crate) struct Broken {
    stopped: Vec<Arc<Handle>>,
    disk: Option<Fault>,
    limited: Option<(Arc<Handle>, Rlimit)>,
    /// It reads what the new generation writes.
    reader: Option<Spawned>,
    tracer: Option<Tracer>,
}

impl Broken {
    /// What has to be there before the restart is asked for. Says what it was.
    pub(crate) fn prepare(&mut self, service: &Service, trial: &Trial) -> Outcome<()> {
        let mut snippet = format!("export {}={}\n", daemon::START, trial.start.as_millis());
        let version = match trial.kind {
            Kind::Crash => "crash",
            Kind::Hang => "hang",
            Kind::Silent => "silent",
            Kind::Nothing
            | Kind::Kill(..)
            | Kind::KillChild
            | Kind::KillAtCall
            | Kind::Stop(..)
            | Kind::FullDisk
            | Kind::ReadOnly
            | Kind::MovedDirectory
            | Kind::Descriptors(_)
            | Kind::Processes
            | Kind::DeadLog
            | Kind::Clock => "",
        };
        snippet.push_str(&format!("export {}={version}\n", daemon::VERSION));
        if trial.kind == Kind::DeadLog {
            let pipe = service.scripts.join("pipe");
            fs::remove_file(&pipe).ok();
            mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR)?;
            let cat = Spawn::new(&service.scratch, tool("cat", "coreutils"));
            self.reader = Some(cat.arg(&pipe).output_to(&service.log).start());
            snippet.push_str(&format!("exec >'{}' 2>&1\n", pipe.display()));
        }
        if trial.kind == Kind::KillAtCall {
            let (call, number) = trial.call;
            let (tracer, words) = Tracer::prepare(service, call, number)?;
            snippet.push_str(&words);
            self.tracer = Some(tracer);
        }
        if trial.kind == Kind::Processes {
            let group = service.group.as_ref().ok_or("no control group for it")?;
            // For the launcher alone, with its keeper, or with keeper and daemon.
            let most = 1 + trial.lasts.as_micros() % 3;
            fs::write(group.join("pids.max"), most.to_string())?;
            // Last, since the shell could start nothing any more.
            snippet.push_str(&format!("echo $$ >'{}/cgroup.procs'\n", group.display()));
        }
        service.once(&snippet)
    }

    /// Says what was done, in words; `None` if there was nobody to do it to.
    pub(crate) fn strike(
        &mut self,
        service: &mut Service,
        trial: &Trial,
        old: &Serving,
    ) -> Outcome<Option<String>> {
        let words = match trial.kind {
            Kind::Nothing => "nothing is done".to_owned(),
            Kind::Crash | Kind::Hang | Kind::Silent | Kind::Processes | Kind::KillAtCall => {
                "it is in the new one itself".to_owned()
            }
            Kind::Kill(victim, age) => {
                let victims = victims(service, old, victim, age);
                return Ok(kill(service, victims));
            }
            Kind::KillChild => {
                let child = service.supervisor.main_pid();
                let child = child.and_then(|pid| child_of(service, pid));
                return Ok(kill(service, child.into_iter().collect()));
            }
            Kind::Stop(victim, age) => {
                let victims = victims(service, old, victim, age);
                if victims.is_empty() {
                    return Ok(None);
                }
                let words = format!("STOP to {}", names(&victims));
                for victim in victims {
                    victim.handle.signal(Signal::SIGSTOP);
                    self.stopped.push(victim.handle);
                }
                words
            }
            Kind::FullDisk => self.strike_disk(service, Fault::Full),
            Kind::ReadOnly => self.strike_disk(service, Fault::ReadOnly),
            Kind::MovedDirectory => self.strike_disk(service, Fault::Moved),
            Kind::Descriptors(age) => {
                let Some(keeper) = victims(service, old, Victim::Keeper, age).pop() else {
                    return Ok(None);
                };
                return self.limit(keeper);
            }
            Kind::DeadLog => match &mut self.reader {
                Some(reader) => {
                    reader.kill();
                    "the log's reader is KILLed".to_owned()
                }
                None => return Ok(None),
            },
            Kind::Clock => {
                jump()?;
                "the clock is an hour ahead, and back".to_owned()
            }
        };
        Ok(Some(words))
    }

    fn strike_disk(&mut self, service: &Service, fault: Fault) -> String {
        service.disk.strike(fault);
        self.disk = Some(fault);
        format!("the disk is {fault:?}")
    }

    fn limit(&mut self, keeper: Found) -> Outcome<Option<String>> {
        let open = fs::read_dir(format!("/proc/{}/fd", keeper.handle.pid));
        let Ok(open) = open else { return Ok(None) };
        let numbers: Vec<u64> = open
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        let lowest = (0..).find(|number| !numbers.contains(number)).unwrap_or(0);
        let pid = rustix::process::Pid::from_raw(keeper.handle.pid.as_raw());
        let none = Rlimit {
            current: Some(lowest),
            maximum: Some(MOST),
        };
        let Ok(before) = prlimit(pid, Resource::Nofile, none) else {
            return Ok(None);
        };
        let words = format!("no descriptor from {lowest} on for {}", keeper.name);
        self.limited = Some((keeper.handle, before));
        Ok(Some(words))
    }

    /// Whether it goes on until it is undone.
    pub(crate) fn lasts(&self) -> bool {
        !self.stopped.is_empty() || self.disk.is_some() || self.limited.is_some()
    }

    pub(crate) fn heal(&mut self, service: &Service) -> Outcome<()> {
        for handle in self.stopped.drain(..) {
            handle.signal(Signal::SIGCONT);
        }
        if let Some(fault) = self.disk.take() {
            service.disk.heal(fault);
        }
        if let Some((handle, before)) = self.limited.take() {
            // It may have gone, and its number may be another's.
            let pid = rustix::process::Pid::from_raw(handle.pid.as_raw());
            let again = Rlimit {
                // Not everybody may raise the hard one again.
                current: Some(before.current.map_or(MOST, |current| current.min(MOST))),
                maximum: Some(MOST),
            };
            if !handle.wait_until(Instant::now()) {
                let healed = prlimit(pid, Resource::Nofile, again);
                // It may have gone in this moment.
                if !handle.wait_until(Instant::now()) {
                    healed?;
                }
            }
        }
        Ok(())
    }

    /// Whether somebody was KILLed at a call; `None` if that was not to be.
    pub(crate) fn struck_at_call(&self) -> Option<bool> {
        self.tracer.as_ref().map(Tracer::has_struck)
    }

    /// What was there for the whole handover.
    pub(crate) fn clear(&mut self, service: &Service) {
        self.reader = None;
        if let Some(group) = &service.group {
            // Whoever serves in it is limited no more.
            fs::write(group.join("pids.max"), "max").ok();
        }
    }
}

/// A process, and who it is.
#[derive(Debug)]
struct Found {
    name: String,
    handle: Arc<Handle>,
    daemon_of: Option<u32>,
}

fn names(victims: &[Found]) -> String {
    let names: Vec<&str> = victims.iter().map(|one| one.name.as_str()).collect();
    names.join(" and ")
}

fn kill(service: &mut Service, victims: Vec<Found>) -> Option<String> {
    if victims.is_empty() {
        return None;
    }
    let words = format!("KILL to {}", names(&victims));
    let at = Instant::now();
    for victim in &victims {
        victim.handle.signal(Signal::SIGKILL);
    }
    for victim in victims {
        // A process in the middle of an exit is no victim of ours for long.
        victim
            .handle
            .wait_until(Instant::now() + Duration::from_secs(10));
        if let Some(generation) = victim.daemon_of {
            service.killed.push(Killed {
                pid: victim.handle.pid.as_raw(),
                generation,
                at,
                dead: Instant::now(),
            });
        }
    }
    Some(words)
}

/// The living ones of these.
fn victims(service: &Service, old: &Serving, victim: Victim, age: Age) -> Vec<Found> {
    let wanted: &[Victim] = match victim {
        Victim::Both => &[Victim::Launcher, Victim::Keeper],
        Victim::Launcher => &[Victim::Launcher],
        Victim::Keeper => &[Victim::Keeper],
        Victim::Daemon => &[Victim::Daemon],
    };
    let found = wanted.iter().filter_map(|&victim| match age {
        Age::Old => of_old(old, victim),
        Age::New => of_new(service, old, victim),
    });
    found
        .filter(|one| !one.handle.wait_until(Instant::now()))
        .collect()
}

fn of_old(old: &Serving, victim: Victim) -> Option<Found> {
    let [daemon, keeper, launcher] = &old.handles;
    let (word, handle) = match victim {
        Victim::Daemon => ("daemon", daemon),
        Victim::Keeper => ("keeper", keeper),
        Victim::Launcher => ("launcher", launcher),
        Victim::Both => return None,
    };
    Some(Found {
        name: format!("the old {word} {}", handle.pid),
        handle: Arc::clone(handle),
        daemon_of: (victim == Victim::Daemon).then_some(old.number),
    })
}

/// By the record; what it does not name yet is found by its parent.
fn of_new(service: &Service, old: &Serving, victim: Victim) -> Option<Found> {
    let record = service.watch.record();
    let newest = record
        .iter()
        .filter(|one| one.number > old.number)
        .max_by_key(|one| one.number);
    if let Some(newest) = newest {
        let (word, identity) = match victim {
            Victim::Daemon => ("daemon", newest.daemon?),
            Victim::Keeper => ("keeper", newest.keeper?),
            Victim::Launcher => ("launcher", newest.launcher?),
            Victim::Both => return None,
        };
        return Some(Found {
            name: format!("the new {word} {}", identity.pid),
            handle: service.watch.handle(identity)?,
            daemon_of: (victim == Victim::Daemon).then_some(newest.number),
        });
    }
    let launcher = service.supervisor.main_pid()?;
    if launcher == old.launcher.pid {
        return None;
    }
    match victim {
        Victim::Launcher => child_of(service, launcher),
        Victim::Keeper => {
            let children = process::children(launcher);
            let keeper = children.into_iter().filter_map(Process::read);
            let keeper = keeper
                .filter(|one| one.comm == "seamless-keeper")
                .find_map(|one| Handle::open(one.pid));
            keeper.map(|handle| Found {
                name: format!("the new keeper {}", handle.pid),
                handle: Arc::new(handle),
                daemon_of: None,
            })
        }
        Victim::Daemon | Victim::Both => None,
    }
}

/// The supervisor's child, and nobody else who has its number by now.
fn child_of(service: &Service, pid: Pid) -> Option<Found> {
    let handle = Handle::open(pid)?;
    let process = Process::read(pid)?;
    let supervisors = service.supervisor.own_processes();
    let ours = supervisors.contains(&process.parent) && !watch::is_innocent(pid);
    ours.then(|| Found {
        name: format!("the supervisor's child {pid} ({})", process.comm),
        handle: Arc::new(handle),
        daemon_of: None,
    })
}

/// For `lasts`: the time that was drawn.
pub(crate) fn pass(time: Duration) {
    thread::sleep(time);
}

/// It is the whole machine's, so it comes back at once, and no time is lost: how much has passed says another clock.
fn jump() -> Outcome<()> {
    let (then, at) = (clock_gettime(ClockId::CLOCK_REALTIME)?, Instant::now());
    clock_settime(ClockId::CLOCK_REALTIME, then + TimeSpec::hours(1))?;
    thread::sleep(Duration::from_millis(2));
    let passed = TimeSpec::from_duration(at.elapsed());
    clock_settime(ClockId::CLOCK_REALTIME, then + passed)?;
    Ok(())
}

/// What `--clock` needs is more than most containers have.
pub(crate) fn can_set_clock() -> bool {
    let now = clock_gettime(ClockId::CLOCK_REALTIME);
    now.and_then(|now| clock_settime(ClockId::CLOCK_REALTIME, now))
        .is_ok()
}

/// A tool that is there, with these words.
pub(crate) fn run(name: &str, package: &str, words: &[&str]) -> Outcome<()> {
    let status = Command::new(tool(name, package)).args(words).status()?;
    if !status.success() {
        return Err(format!("{name} {words:?}: {status}").into());
    }
    Ok(())
}
