//! What can be seen of a service in the directory of its PID file: every file that appears there, every record, and
//! the death of every process that a record names.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};

use super::{
    Outcome,
    innocents::{Innocents, StillNamed},
    plan::Victim,
    support::process::{self, Handle, Identity, Pid},
};

/// A line `generation …` of the record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Generation {
    pub(crate) number: u32,
    pub(crate) state: String,
    pub(crate) daemon: Option<Identity>,
    pub(crate) keeper: Option<Identity>,
    pub(crate) launcher: Option<Identity>,
}

impl Generation {
    fn parse(line: &str) -> Option<Generation> {
        let mut words = line.split(' ');
        if words.next() != Some("generation") {
            return None;
        }
        let mut generation = Generation {
            number: words.next()?.parse().ok()?,
            ..Generation::default()
        };
        for word in words {
            match word.split_once('=') {
                Some(("state", state)) => state.clone_into(&mut generation.state),
                Some(("daemon", text)) => generation.daemon = identity(text),
                Some(("keeper", text)) => generation.keeper = identity(text),
                Some(("launcher", text)) => generation.launcher = identity(text),
                _ => {}
            }
        }
        Some(generation)
    }

    /// ` (daemon 7, keeper 6, launcher 5)`
    fn pids(&self) -> String {
        let each = self.processes().map(|(what, identity)| {
            format!("{} {}", format!("{what:?}").to_lowercase(), identity.pid)
        });
        format!(" ({})", each.collect::<Vec<_>>().join(", "))
    }

    fn processes(&self) -> impl Iterator<Item = (Victim, Identity)> {
        let all = [
            (Victim::Daemon, self.daemon),
            (Victim::Keeper, self.keeper),
            (Victim::Launcher, self.launcher),
        ];
        all.into_iter()
            .filter_map(|(what, identity)| Some((what, identity?)))
    }
}

fn identity(text: &str) -> Option<Identity> {
    let (pid, start) = text.split_once(':')?;
    Some(Identity {
        pid: Pid::from_raw(pid.parse().ok()?),
        start: start.parse().ok()?,
    })
}

pub(crate) fn generations(text: &str) -> Vec<Generation> {
    text.lines().filter_map(Generation::parse).collect()
}

#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A file has come under this name.
    Named(String),
    Record(Vec<Generation>),
    Died(Victim, u32, Identity),
}

#[derive(Debug)]
pub(crate) struct Watch {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    news: Condvar,
    over: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    events: Vec<(Instant, Event)>,
    record: Vec<Generation>,
    handles: BTreeMap<(i32, u64), Living>,
}

#[derive(Clone, Debug)]
struct Living {
    handle: Arc<Handle>,
    what: Victim,
    generation: u32,
    identity: Identity,
}

impl Watch {
    /// The directory itself, whatever its name is meanwhile.
    pub(crate) fn start(directory: &Path, service: usize, innocents: Innocents) -> Outcome<Watch> {
        let held = Arc::new(File::open(directory)?);
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        inotify.add_watch(
            directory,
            AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE,
        )?;
        let shared = Arc::new(Shared::default());
        let watch = Watch {
            shared: Arc::clone(&shared),
        };
        let place = PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()));
        let still_named: StillNamed = Arc::new({
            let place = place.clone();
            // It is the owner of the descriptor.
            let held = Arc::clone(&held);
            move |pid| {
                let _ = &held;
                names(&place, pid)
            }
        });
        thread::spawn(move || {
            let _held = held;
            while !shared.over.load(Ordering::Relaxed) {
                shared.look(&inotify, &place, |identity| {
                    innocents.take(identity, service, Arc::clone(&still_named));
                });
            }
        });
        Ok(watch)
    }

    /// How many events there were so far.
    pub(crate) fn length(&self) -> usize {
        self.shared.lock().events.len()
    }

    /// Waits for an event from this one on, counted from 0.
    pub(crate) fn seen_by(
        &self,
        deadline: Instant,
        from: usize,
        mut wanted: impl FnMut(&Event) -> bool,
    ) -> bool {
        let mut state = self.shared.lock();
        let mut next = from;
        loop {
            while let Some((_, event)) = state.events.get(next) {
                if wanted(event) {
                    return true;
                }
                next += 1;
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return false;
            };
            (state, _) = self
                .shared
                .news
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until something happens here, or for a moment.
    pub(crate) fn wait_news(&self, moment: Duration) {
        let state = self.shared.lock();
        drop(self.shared.news.wait_timeout(state, moment));
    }

    /// Whether this daemon had ended when no newer generation had been recorded as ready yet, of those events. What is
    /// seen in one moment has no order; the record of a commit is written long before anybody is told. One that died at once
    /// may be seen as *holding* only.
    pub(crate) fn ended_too_soon(&self, from: usize, old: u32) -> bool {
        let state = self.shared.lock();
        let events = &state.events[from.min(state.events.len())..];
        let at = |wanted: &dyn Fn(&Event) -> bool| {
            let found = events.iter().find(|(_, event)| wanted(event));
            found.map(|(at, _)| *at)
        };
        let ended =
            at(&|event| matches!(event, Event::Died(Victim::Daemon, number, _) if *number == old));
        let ready = at(&|event| {
            let Event::Record(record) = event else {
                return false;
            };
            record
                .iter()
                .any(|one| one.number > old && one.state != "starting")
        });
        matches!((ended, ready), (Some(ended), Some(ready)) if ended < ready)
    }

    /// What was seen from this moment on, for people.
    pub(crate) fn since(&self, from: Instant) -> Vec<(Instant, String)> {
        let state = self.shared.lock();
        let after = state.events.iter().filter(|(at, _)| *at >= from);
        after
            .map(|(at, event)| {
                let words = match event {
                    Event::Named(name) => format!("file {name}"),
                    Event::Record(generations) => {
                        let each = generations
                            .iter()
                            .map(|one| format!(" {} {}{}", one.number, one.state, one.pids()));
                        format!("record:{}", each.collect::<String>())
                    }
                    Event::Died(what, number, identity) => {
                        format!(
                            "{what:?} of generation {number} ({}) has ended",
                            identity.pid
                        )
                    }
                };
                (*at, words)
            })
            .collect()
    }

    /// What the record said last.
    pub(crate) fn record(&self) -> Vec<Generation> {
        self.shared.lock().record.clone()
    }

    /// Opened when it was recorded.
    pub(crate) fn handle(&self, identity: Identity) -> Option<Arc<Handle>> {
        let state = self.shared.lock();
        let living = state
            .handles
            .get(&(identity.pid.as_raw(), identity.start))?;
        Some(Arc::clone(&living.handle))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, inotify: &Inotify, place: &Path, take: impl Fn(Identity)) {
        let living: Vec<Living> = self.lock().handles.values().cloned().collect();
        let mut waits = vec![PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
        for one in &living {
            waits.push(PollFd::new(one.handle.as_fd(), PollFlags::POLLIN));
        }
        // No longer than the end of the service may take to be noticed.
        if poll(&mut waits, PollTimeout::from(100u8)).is_err() {
            return;
        }
        let now = Instant::now();
        let mut happened = Vec::new();
        for (one, wait) in living.iter().zip(&waits[1..]) {
            if wait.any() == Some(true) {
                happened.push(Event::Died(one.what, one.generation, one.identity));
                let identity = one.identity;
                let key = (identity.pid.as_raw(), identity.start);
                self.lock().handles.remove(&key);
                take(identity);
            }
        }
        let mut is_recorded = false;
        for event in inotify.read_events().unwrap_or_default() {
            let name = event.name.unwrap_or_default();
            let name = name.to_string_lossy().into_owned();
            if event.mask.contains(AddWatchFlags::IN_DELETE) {
                is_recorded |= name.ends_with(".record");
                continue;
            }
            is_recorded |= name.ends_with(".record");
            happened.push(Event::Named(name));
        }
        if is_recorded {
            let text = fs::read_to_string(place.join("app.pid.record")).unwrap_or_default();
            let record = generations(&text);
            let mut state = self.lock();
            for generation in &record {
                for (what, identity) in generation.processes() {
                    let key = (identity.pid.as_raw(), identity.start);
                    if state.handles.contains_key(&key) {
                        continue;
                    }
                    if let Some(handle) = opened(identity) {
                        let living = Living {
                            handle: Arc::new(handle),
                            what,
                            generation: generation.number,
                            identity,
                        };
                        state.handles.insert(key, living);
                    }
                }
            }
            state.record.clone_from(&record);
            happened.push(Event::Record(record));
        }
        let mut state = self.lock();
        state
            .events
            .extend(happened.into_iter().map(|event| (now, event)));
        drop(state);
        self.news.notify_all();
    }
}

/// This process, and no innocent that has its number by now.
pub(crate) fn opened(identity: Identity) -> Option<Handle> {
    let handle = Handle::open(identity.pid)?;
    let still = process::identity(identity.pid) == Some(identity);
    (still && !is_innocent(identity.pid)).then_some(handle)
}

pub(crate) fn is_innocent(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "innocent")
}

/// Whether the PID file or the record names this one.
fn names(place: &Path, pid: i32) -> bool {
    let read = |name: &str| fs::read_to_string(place.join(name)).unwrap_or_default();
    let in_record = generations(&read("app.pid.record"))
        .iter()
        .flat_map(|one| {
            one.processes()
                .map(|(_, identity)| identity)
                .collect::<Vec<_>>()
        })
        .any(|identity| identity.pid.as_raw() == pid);
    in_record || read("app.pid").trim() == pid.to_string()
}
