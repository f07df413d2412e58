//! One service with its supervisor, on a small file system of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Outcome, daemon,
    innocents::Innocents,
    load::Target,
    requests::{Killed, Requests},
    support::{
        self, Kind as SupervisorKind, Log, Pid, Scratch, Supervisor,
        disk::Disk,
        process::{self, Handle, Identity, Process},
    },
    watch::{self, Generation, Watch},
};

const FIRST_PORT: usize = 18080;

/// For what takes seconds at most when all is well.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// A snippet of shell beside the service is run by the next start, and by no other.
const ONCE: &str =
    r#"if mv "$SCRIPTS/once" "$SCRIPTS/taken" 2>/dev/null; then . "$SCRIPTS/taken"; fi"#;

/// Short enough that whoever hangs is over with within a handover.
const OPTIONS: [&str; 4] = [
    "--ready-timeout=1500ms",
    "--stop-timeout=2s",
    "--prepare-timeout=1s",
    "--drain-timeout=20s",
];

pub(crate) struct Service {
    pub(crate) index: usize,
    pub(crate) log: Log,
    /// When the log's own clock began.
    pub(crate) log_began: Instant,
    // The load goes first, and the directory last.
    pub(crate) requests: Requests,
    pub(crate) supervisor: Box<dyn Supervisor>,
    pub(crate) watch: Watch,
    pub(crate) disk: Disk,
    pub(crate) scripts: PathBuf,
    directory: PathBuf,
    /// What the run script becomes.
    pub(crate) command: String,
    /// How many descriptors launcher, keeper and supervisor have, once that is known.
    pub(crate) descriptors: Option<[usize; 3]>,
    /// Since when it was whole, last.
    pub(crate) up_since: Instant,
    /// Daemons that were KILLed.
    pub(crate) killed: Vec<Killed>,
    /// Where its processes can be counted and limited.
    pub(crate) group: Option<PathBuf>,
    pub(crate) scratch: Scratch,
}

/// The one generation of a service that is whole.
#[derive(Clone, Debug)]
pub(crate) struct Serving {
    pub(crate) number: u32,
    pub(crate) keeper: Identity,
    pub(crate) launcher: Identity,
    pub(crate) handles: [Arc<Handle>; 3],
}

/// Why a service is not whole.
#[derive(Clone, Debug)]
pub(crate) enum Wrong {
    /// The generation that should serve does not, or others are still there.
    Broken(String),
    /// It serves, and something is left.
    Leak(String),
}

impl Service {
    pub(crate) fn start(
        index: usize,
        kind: SupervisorKind,
        rate: u32,
        innocents: &Innocents,
        groups: Option<&Path>,
    ) -> Outcome<Service> {
        let scratch = Scratch::new();
        let log_began = Instant::now();
        let log = Log::new(&scratch, "log");
        let scripts = scratch.join("scripts");
        fs::create_dir(&scripts)?;
        fs::create_dir(scratch.join("run"))?;
        let directory = scratch.join("run/disk");
        let disk = Disk::mount(&directory);
        let watch = Watch::start(&directory, index, innocents.clone())?;
        let port = u16::try_from(FIRST_PORT + index)?;
        let target = Target::Tcp(([127, 0, 0, 1], port).into());
        let mut argv = vec![
            support::program().to_string_lossy().into_owned(),
            "--pid-file".to_owned(),
            directory.join("app.pid").to_string_lossy().into_owned(),
            "--listen".to_owned(),
            format!("http=127.0.0.1:{port}"),
        ];
        argv.extend(OPTIONS.map(str::to_owned));
        let this = std::env::current_exe()?.to_string_lossy().into_owned();
        argv.extend(["--".to_owned(), this, "--role=daemon".to_owned()]);
        // Nothing in it needs to be quoted twice.
        let command = argv.iter().map(|word| format!("'{word}'"));
        let command = command.collect::<Vec<_>>().join(" ");
        let service = support::Service::new(argv)
            .env("SCRIPTS", &scripts)
            .env(daemon::VERSION, "")
            .setup(ONCE);
        let supervisor = kind.start(&scratch, &log, &service);
        let first = log.seen_by(Instant::now() + LIMIT, 0, |line| {
            line.contains(" is ready after")
        });
        first.ok_or_else(|| format!("the first generation is not ready: {}", log.listing()))?;
        let group = match groups {
            None => None,
            Some(groups) => {
                let group = groups.join(format!("service-{index}"));
                fs::create_dir_all(&group)?;
                Some(group)
            }
        };
        Ok(Service {
            index,
            log,
            log_began,
            requests: Requests::start(target, rate),
            supervisor,
            watch,
            disk,
            scripts,
            directory,
            command,
            descriptors: None,
            up_since: Instant::now(),
            killed: Vec::new(),
            group,
            scratch,
        })
    }

    pub(crate) fn once(&self, snippet: &str) -> Outcome<()> {
        let beside = self.scripts.join("new");
        fs::write(&beside, format!("{snippet}\n"))?;
        fs::rename(&beside, self.scripts.join("once"))?;
        Ok(())
    }

    /// Waits until one generation, newer than `old`, serves, and nothing else is left.
    pub(crate) fn wait_whole(&mut self, old: u32, limit: Duration) -> Result<Serving, Wrong> {
        let deadline = Instant::now() + limit;
        loop {
            let wrong = match self.look(old, deadline) {
                Ok(serving) => {
                    self.up_since = Instant::now();
                    return Ok(serving);
                }
                Err(wrong) => wrong,
            };
            if Instant::now() > deadline {
                return Err(wrong);
            }
            // What is heard of here ends it; for what is not, a moment.
            self.watch.wait_news(Duration::from_millis(30));
        }
    }

    /// Waits until a newer one answers, and the old daemon is gone; whatever else there is, and whatever the files say.
    /// Says which.
    pub(crate) fn wait_serving(&self, old: &Serving, limit: Duration) -> Option<u32> {
        let deadline = Instant::now() + limit;
        let newer = self.requests.answered_by_newer(old.number, deadline)?;
        old.handles[0].wait_until(deadline).then_some(newer)
    }

    fn read_record(&self) -> Vec<Generation> {
        let text = fs::read_to_string(self.directory.join("app.pid.record"));
        watch::generations(&text.unwrap_or_default())
    }

    /// The newest one that is ready, by the record.
    pub(crate) fn newest_ready(&self) -> u32 {
        let record = self.read_record();
        let ready = record.iter().filter(|one| one.state == "ready");
        ready.map(|one| one.number).max().unwrap_or(0)
    }

    /// A record that was written when this one alone was left, and still calls it starting.
    pub(crate) fn is_misrecorded(&self, number: u32) -> bool {
        let record = self.read_record();
        matches!(record.as_slice(), [one] if one.number == number && one.state == "starting")
    }

    fn look(&self, old: u32, deadline: Instant) -> Result<Serving, Wrong> {
        let broken = |words: String| Wrong::Broken(words);
        let record = fs::read_to_string(self.directory.join("app.pid.record")).unwrap_or_default();
        let generations = watch::generations(&record);
        let [
            Generation {
                number,
                state,
                daemon: Some(daemon),
                keeper: Some(keeper),
                launcher: Some(launcher),
            },
        ] = generations.as_slice()
        else {
            return Err(broken(format!(
                "not one generation with all of its processes: {record}"
            )));
        };
        let (number, daemon, keeper, launcher) = (*number, *daemon, *keeper, *launcher);
        if number <= old || state != "ready" {
            return Err(broken(format!("generation {number} is {state}")));
        }
        let handle = |name: &str, identity: Identity| {
            let handle = watch::opened(identity).filter(|_| process::alive(identity.pid));
            handle
                .map(Arc::new)
                .ok_or_else(|| broken(format!("the {name} of generation {number} is gone")))
        };
        let handles = [
            handle("daemon", daemon)?,
            handle("keeper", keeper)?,
            handle("launcher", launcher)?,
        ];
        let supervisors = self.supervisor.own_processes();
        let parent = Process::read(launcher.pid).map(|process| process.parent);
        if !parent.is_some_and(|parent| supervisors.contains(&parent)) {
            return Err(broken(format!(
                "the parent of launcher {launcher} is {parent:?}"
            )));
        }
        let named = fs::read_to_string(self.directory.join("app.pid")).unwrap_or_default();
        if named.trim() != daemon.pid.to_string() {
            return Err(broken(format!(
                "app.pid holds {named:?}, not {}",
                daemon.pid
            )));
        }
        if !self.requests.answered_by(number, deadline) {
            return Err(broken(format!("generation {number} has answered nobody")));
        }
        let own = [daemon.pid, keeper.pid, launcher.pid];
        let mut others = self.scratch.processes();
        others.retain(|one| !own.contains(&one.pid) && !supervisors.contains(&one.pid));
        if !others.is_empty() {
            return Err(Wrong::Leak(format!(
                "these processes are left:{}",
                process::list(&others)
            )));
        }
        let known = ["app.pid", "app.pid.lock", "app.pid.record", "app.pid.sock"];
        let mut names = self.disk.names();
        names.retain(|name| !known.contains(&name.as_str()));
        if !names.is_empty() {
            return Err(Wrong::Leak(format!("these files are left: {names:?}")));
        }
        if let Some(mut expected) = self.descriptors {
            // A keeper that took another's place sees its daemon's end by a pidfd.
            let is_child = Process::read(daemon.pid).is_some_and(|one| one.parent == keeper.pid);
            expected[1] += usize::from(!is_child);
            let found = self.descriptors_of(launcher.pid, keeper.pid);
            if found
                .iter()
                .zip(expected)
                .any(|(&found, expected)| found > expected)
            {
                return Err(Wrong::Leak(format!(
                    "launcher, keeper and supervisor have {found:?} descriptors, not {expected:?}: {:#?}",
                    [launcher.pid, keeper.pid].map(targets)
                )));
            }
        }
        Ok(Serving {
            number,
            keeper,
            launcher,
            handles,
        })
    }

    pub(crate) fn descriptors_of(&self, launcher: Pid, keeper: Pid) -> [usize; 3] {
        let first = self.supervisor.own_processes().first().copied();
        let count = |pid: Option<Pid>| pid.map_or(0, |pid| targets(pid).len());
        [count(Some(launcher)), count(Some(keeper)), count(first)]
    }
}

/// What each descriptor leads to.
fn targets(pid: Pid) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten();
    let mut all: Vec<String> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let target = fs::read_link(entry.path()).ok()?;
            let number = entry.file_name().to_string_lossy().into_owned();
            Some(format!("{number} {}", target.display()))
        })
        .collect();
    all.sort();
    all
}
