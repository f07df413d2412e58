//! The other end of the nursery: which PIDs were taken, and who was hit.

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead, BufReader, Write},
    process::{ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Instant,
};

use super::{Outcome, support::process::Identity};

/// Asked when a PID of ours has been taken over: whether a file of ours still names it.
pub(crate) type StillNamed = Arc<dyn Fn(i32) -> bool + Send + Sync>;

#[derive(Clone, Debug)]
pub(crate) struct Innocents(Arc<Shared>);

struct Shared {
    nursery: Mutex<ChildStdin>,
    state: Mutex<State>,
    same_tick: bool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shared").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    forks: u64,
    /// PIDs of ours that have died, with whose they were.
    dead: BTreeMap<i32, (usize, StillNamed)>,
    taken: BTreeMap<i32, usize>,
    counts: BTreeMap<usize, Count>,
    hits: Vec<Hit>,
}

/// Of one service.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    pub(crate) reused: u64,
    /// While the PID file or the record named it.
    pub(crate) named: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Hit {
    pub(crate) at: Instant,
    pub(crate) words: String,
    /// Whose PID it had taken, if it had.
    pub(crate) service: Option<usize>,
}

impl Innocents {
    /// `same_tick`: a PID may be taken in the very tick in which the dead one was started.
    pub(crate) fn start(same_tick: bool) -> Outcome<Innocents> {
        let mut child = Command::new(env::current_exe()?)
            .arg("--role=nursery")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (stdin, stdout) = stdin.zip(stdout).ok_or("the nursery has no pipes")?;
        let innocents = Innocents(Arc::new(Shared {
            nursery: Mutex::new(stdin),
            state: Mutex::default(),
            same_tick,
        }));
        let listening = innocents.clone();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                listening.hear(&line);
            }
            // Without it nothing is proved. Nobody ends it but the end of everything.
            listening.hear("ended by itself: the nursery is gone");
            child.wait().ok();
        });
        Ok(innocents)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process of this service has died: its number is to be taken.
    pub(crate) fn take(&self, identity: Identity, service: usize, still_named: StillNamed) {
        let pid = identity.pid.as_raw();
        let start = if self.0.same_tick { 0 } else { identity.start };
        self.state().dead.insert(pid, (service, still_named));
        let mut nursery = self
            .0
            .nursery
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // If it has gone, that is heard from its other pipe.
        writeln!(nursery, "{pid} {start}").ok();
    }

    fn hear(&self, line: &str) {
        let mut words = line.split(' ');
        let kind = words.next().unwrap_or_default();
        let number = words.next().and_then(|word| word.parse::<i32>().ok());
        match (kind, number) {
            ("forks", Some(number)) => self.state().forks = number.unsigned_abs().into(),
            ("took", Some(pid)) => {
                let found = self.state().dead.remove(&pid);
                let Some((service, still_named)) = found else {
                    return;
                };
                let named = still_named(pid);
                let mut state = self.state();
                state.taken.insert(pid, service);
                let count = state.counts.entry(service).or_default();
                count.reused += 1;
                count.named += u64::from(named);
            }
            _ => {
                let mut state = self.state();
                let service = number.and_then(|pid| state.taken.get(&pid).copied());
                state.hits.push(Hit {
                    at: Instant::now(),
                    words: line.to_owned(),
                    service,
                });
            }
        }
    }

    pub(crate) fn count(&self, service: usize) -> Count {
        self.state()
            .counts
            .get(&service)
            .copied()
            .unwrap_or_default()
    }

    pub(crate) fn forks(&self) -> u64 {
        self.state().forks
    }

    /// Those of this service from then on; those that nobody's are, too.
    pub(crate) fn hits_since(&self, service: usize, since: Instant) -> Vec<Hit> {
        let state = self.state();
        let ours = |hit: &&Hit| hit.at >= since && hit.service.is_none_or(|one| one == service);
        state.hits.iter().filter(ours).cloned().collect()
    }

    pub(crate) fn all_hits(&self) -> usize {
        self.state().hits.len()
    }
}
