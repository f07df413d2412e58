//! What a parent keeps while its daemon is idle: memory, threads, wake-ups.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use super::{
    Outcome,
    programs::{Parent, Programs, Who},
    support::{
        Pid, Scratch, Spawn, Spawned,
        process::{self, Handle},
    },
};

/// For what takes milliseconds when all is well.
const LIMIT: Duration = Duration::from_secs(20);
/// tini wakes up once a second, and is never quieter than that.
const ROUSED: u32 = 8;

/// What ours are doing. The others know no difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The daemon runs, and has said nothing.
    Started,
    Ready,
    /// The launcher has left: a keeper alone, which waits for a successor.
    Standby,
    /// Ready, and the one before it has gone: as a service is for years.
    Restarted,
}

/// In kB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weight {
    /// What is no file's. What launcher and keeper share is counted once.
    pub(crate) anonymous: u64,
    /// Pages that no other process has mapped, those of its own program included.
    pub(crate) unshared: u64,
    pub(crate) page_tables: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Memory {
    pub(crate) who: Who,
    pub(crate) state: State,
    pub(crate) processes: usize,
    /// While it is the only service of its kind.
    pub(crate) alone: Weight,
    /// Beside another one like it: what each further service costs.
    pub(crate) further: Weight,
    pub(crate) threads: usize,
    /// In the seconds that were asked for.
    pub(crate) wakeups: u64,
}

struct Running {
    who: Who,
    state: State,
    /// Without the daemon.
    processes: Vec<Pid>,
    daemon: Pid,
    /// The daemon of a standby is nobody's that we started.
    _first: Spawned,
}

impl Drop for Running {
    /// The daemon first: then there is nothing left to look after. What is left is the scratch directory's.
    fn drop(&mut self) {
        if let Some(daemon) = Handle::open(self.daemon) {
            daemon.signal(Signal::SIGTERM);
            daemon.wait_until(Instant::now() + LIMIT);
        }
        for process in self.processes.iter().filter_map(|pid| Handle::open(*pid)) {
            process.wait_until(Instant::now() + Duration::from_secs(1));
        }
    }
}

pub(crate) fn measure(
    programs: &Programs,
    scratch: &Scratch,
    files: &Path,
    idle: Duration,
) -> Outcome<Vec<Memory>> {
    let quiet = (idle / 30).max(Duration::from_millis(50));
    let mut wanted = Vec::new();
    for parent in &programs.parents {
        let states: &[State] = match parent.who.is_ours() {
            true => &[
                State::Started,
                State::Ready,
                State::Standby,
                State::Restarted,
            ],
            false => &[State::Started],
        };
        wanted.extend(states.iter().map(|state| (parent, *state)));
    }
    // One kind after the other, so that nothing of another state of the same program is shared.
    let mut measured = Vec::new();
    for (parent, state) in &wanted {
        let name = format!("{state:?}");
        let first = Running::start(parent, *state, programs, scratch, files, &name)?;
        // Pages of a file that has just been written count as dirty, and those as nobody else's.
        nix::unistd::sync();
        first.wait_quiet(quiet);
        let alone = first.weight()?;
        let second = format!("{name}-2");
        let second = Running::start(parent, *state, programs, scratch, files, &second)?;
        second.wait_quiet(quiet);
        measured.push(Memory {
            who: parent.who,
            state: *state,
            processes: first.processes.len(),
            alone,
            further: first.weight()?,
            threads: first.threads()?,
            wakeups: 0,
        });
    }
    // All at once, or it would take minutes.
    let mut running = Vec::new();
    for (parent, state) in &wanted {
        let name = format!("idle-{state:?}-{}", parent.who.name());
        let name = name.replace([' ', ','], "-");
        running.push(Running::start(
            parent, *state, programs, scratch, files, &name,
        )?);
    }
    for one in &running {
        one.wait_quiet(quiet);
    }
    // A daemon that never says that it is ready is mentioned in the log after 5 s: not while this is counted.
    thread::sleep(Duration::from_secs(6).min(idle));
    let before: Vec<u64> = running.iter().map(Running::switches).collect();
    thread::sleep(idle);
    for ((memory, one), before) in measured.iter_mut().zip(&running).zip(before) {
        memory.wakeups = one.switches() - before;
    }
    Ok(measured)
}

impl Running {
    fn start(
        parent: &Parent,
        state: State,
        programs: &Programs,
        scratch: &Scratch,
        files: &Path,
        name: &str,
    ) -> Outcome<Running> {
        let daemon: &[&str] = match state {
            State::Started => &[programs.small(), "pause"],
            // Without a word to prepare: the launcher leaves at once.
            State::Ready | State::Standby | State::Restarted => {
                &[programs.small(), "ready", "READY=1"]
            }
        };
        let words = parent.command(files, name, daemon);
        let (program, rest) = words.split_first().ok_or("a command without a word")?;
        let start = || Spawn::new(scratch, program).args(rest).start();
        let pid_file = files.join(format!("{name}.pid"));
        let mut first = start();
        let waits = state != State::Started && parent.who.is_ours();
        let named = Some(pid_file.as_path()).filter(|_| waits);
        let (mut family, mut daemon) = family_of(&first, programs, named)?;
        if matches!(state, State::Standby | State::Restarted) {
            first.signal(Signal::SIGTERM);
            first.wait();
            family.retain(|pid| *pid != first.pid());
        }
        if state == State::Restarted {
            let before = std::mem::replace(&mut first, start());
            let older: Vec<Pid> = family.into_iter().chain([daemon]).collect();
            (family, daemon) = family_of(&first, programs, named)?;
            for process in older.into_iter().filter_map(Handle::open) {
                if !process.wait_until(Instant::now() + LIMIT) {
                    return Err(
                        format!("the one before does not leave: {}", before.describe()).into(),
                    );
                }
            }
        }
        Ok(Running {
            who: parent.who,
            state,
            processes: family,
            daemon,
            _first: first,
        })
    }

    /// Nothing happens for so long.
    fn wait_quiet(&self, quiet: Duration) {
        let mut before = self.switches();
        for _ in 0..ROUSED {
            thread::sleep(quiet);
            let now = self.switches();
            if now == before {
                return;
            }
            before = now;
        }
    }

    fn weight(&self) -> Outcome<Weight> {
        let mut sum = Weight::default();
        for pid in &self.processes {
            let weight = Weight::of(*pid)
                .map_err(|error| format!("{} ({:?}): {error}", self.who.name(), self.state))?;
            sum.add(weight);
        }
        Ok(sum)
    }

    fn threads(&self) -> Outcome<usize> {
        let mut most = 0;
        for pid in &self.processes {
            most = most.max(fs::read_dir(format!("/proc/{pid}/task"))?.count());
        }
        Ok(most)
    }

    /// How often a thread of theirs has stopped running: each wake-up ends with that.
    fn switches(&self) -> u64 {
        let of_one = |pid: &Pid| -> u64 {
            let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
                return 0;
            };
            tasks
                .flatten()
                .filter_map(|task| fs::read_to_string(task.path().join("status")).ok())
                .map(|status| sum_of(&status, "voluntary_ctxt_switches"))
                .sum()
        };
        self.processes.iter().map(of_one).sum()
    }
}

impl Weight {
    pub(crate) fn of(pid: Pid) -> std::io::Result<Weight> {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        Ok(Weight {
            anonymous: sum_of(&rollup, "Pss_Anon"),
            unshared: sum_of(&rollup, "Private_Clean") + sum_of(&rollup, "Private_Dirty"),
            page_tables: sum_of(&status, "VmPTE"),
        })
    }

    pub(crate) fn add(&mut self, other: Weight) {
        self.anonymous += other.anonymous;
        self.unshared += other.unshared;
        self.page_tables += other.page_tables;
    }
}

/// The number after `NAME:`, in every line where it stands, `nonvoluntary` for `voluntary` too.
fn sum_of(text: &str, name: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(key, _)| key.ends_with(name))
        .filter_map(|(_, rest)| rest.split_ascii_whitespace().next()?.parse::<u64>().ok())
        .sum()
}

/// Launcher and keeper, and their daemon, once that runs; `named`: in this PID file.
fn family_of(
    first: &Spawned,
    programs: &Programs,
    named: Option<&Path>,
) -> Outcome<(Vec<Pid>, Pid)> {
    let mut family = Vec::new();
    let mut found = None;
    let is_up = until(|| {
        family = descendants(first.pid());
        let mut runs = family.iter().copied();
        found = runs.find(|pid| is_running(*pid, &programs.small));
        let is_named = |file: &Path| {
            let text = fs::read_to_string(file).unwrap_or_default();
            text.trim().parse().ok() == found.map(Pid::as_raw)
        };
        found.is_some() && named.is_none_or(is_named)
    });
    match found.filter(|_| is_up) {
        Some(daemon) => {
            family.retain(|pid| *pid != daemon);
            Ok((family, daemon))
        }
        None => Err(format!("it does not start its daemon: {}", first.describe()).into()),
    }
}

fn descendants(pid: Pid) -> Vec<Pid> {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(pid) = all.get(next).copied() {
        all.extend(process::children(pid));
        next += 1;
    }
    all
}

fn is_running(pid: Pid, program: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|path| path == program)
}

fn until(mut seen: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + LIMIT;
    loop {
        if seen() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(3));
    }
}
