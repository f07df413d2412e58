//! The recipes of `contrib/`, each one exactly as shipped, on a machine of its own: the supervisor's restart verb is
//! seamless, its stop verb stops, and what cleans up does so at a real stop only.

mod openrc;
mod package;
mod simple;
mod systemd;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::load::{Load, SlowSpec, Target};
use crate::support::machine::{Machine, wait_pending};
use crate::support::{Log, Pid, Spawn};

const PATIENCE: Duration = Duration::from_secs(60);
const CLIENTS: usize = 4;
const REQUESTS_PER_SECOND: u32 = 400;
/// Always in flight: a generation that drains has something in hand.
const SLOW: SlowSpec = SlowSpec {
    clients: 2,
    delay: Duration::from_secs(1),
};
/// With the first start more than systemd allows in ten seconds.
const RESTARTS: usize = 5;

/// What a person types, word by word.
type Words<'a> = &'a [&'a str];

/// A service that has been started by its recipe.
struct Shipped<'a> {
    machine: &'a Machine<'a>,
    /// Makes a command of what is typed.
    shell: Box<dyn Fn(Words<'_>) -> Spawn + 'a>,
    restart: Words<'a>,
    /// `seamless-run`, to be told `restart FILE`, where the supervisor starts the next one then.
    program: Option<Box<dyn Fn() -> Spawn + 'a>>,
    /// HUP, where the recipe has a word for it.
    reload: Option<Words<'a>>,
    stop: Words<'a>,
    address: SocketAddr,
    /// The root of the file system that the service sees, from here.
    root: PathBuf,
    directory: &'a str,
    pid_file: &'a str,
    /// Whether there is something to be cleaned up at a stop: `tmp` in the directory.
    cleans: bool,
    /// The supervisor's own processes, which stay.
    stays: Vec<Pid>,
    /// What the supervisor says when it is through with a restart, if it refuses the next one before that.
    settled: Option<(&'a Log, &'a str)>,
}

impl Shipped<'_> {
    /// All that a recipe promises.
    fn keeps_its_promises(&self) {
        let load = self.load();
        let serving = self.restarts(&load);
        self.reloads(serving);
        self.nothing_was_lost(load);
        self.stops();
    }

    fn load(&self) -> Load {
        self.log().wait_seen(" is ready after");
        self.load_at_once()
    }

    /// Where there is a socket already.
    fn load_at_once(&self) -> Load {
        let target = Target::Tcp(self.address);
        let load = Load::start_at_rate(target, CLIENTS, Some(SLOW), REQUESTS_PER_SECOND);
        assert!(load.wait_slow_in_flight(PATIENCE, SLOW.clients));
        let first = load.wait_answer(PATIENCE, |_| true);
        assert!(first.is_some(), "{}", self.log().listing());
        if self.cleans {
            // The daemon's, for as long as one lives.
            fs::write(self.path("tmp/kept"), "").unwrap();
        }
        load
    }

    /// Every time a process that nobody has known answers; the last one.
    fn restarts(&self, load: &Load) -> u32 {
        let mut serving = 0;
        for _ in 0..RESTARTS {
            serving = self.restarted(load, || self.type_in(self.restart));
            if let Some((messages, done)) = self.settled {
                messages.wait_for(done);
            }
        }
        if let Some(program) = &self.program {
            serving = self.restarted(load, || {
                let restart = program().args(["restart", self.pid_file]);
                restart.finish().expect_success();
            });
        }
        let kept = !self.cleans || self.path("tmp/kept").exists();
        assert!(kept, "cleaned at a restart: {}", self.log().listing());
        serving
    }

    fn restarted(&self, load: &Load, restart: impl FnOnce()) -> u32 {
        let known = load.report().pids();
        restart();
        let answer = load.wait_answer(PATIENCE, |answer| !known.contains(&answer.pid));
        let answer =
            answer.unwrap_or_else(|| panic!("nobody new answers: {}", self.log().listing()));
        // It answers before it has said so; a restart in that moment would end it (R9).
        let ready = format!("(pid {}) is ready after", answer.pid);
        self.log().wait_seen(&ready);
        answer.pid
    }

    fn reloads(&self, serving: u32) {
        let Some(reload) = self.reload else { return };
        self.type_in(reload);
        let status = format!("proc/{serving}/status");
        wait_pending(&self.root.join(status), Signal::SIGHUP);
    }

    fn nothing_was_lost(&self, load: Load) {
        let report = load.stop();
        let generations = 1 + RESTARTS + usize::from(self.program.is_some());
        assert_eq!(report.pids().len(), generations, "{report}");
        let listing = || format!("{report}\n{}", self.log().listing());
        assert_eq!(report.failed(), 0, "{}", listing());
        assert!(report.slow.finished() > 0, "{report}");
    }

    /// Of the service nothing is left but its lock.
    fn stops(&self) {
        self.type_in(self.stop);
        let scratch = self.machine.scratch;
        scratch.wait_no_processes_but(&self.stays);
        let launchers = scratch.processes().into_iter();
        let launchers: Vec<_> = launchers
            .filter(|process| process.comm == "seamless-run")
            .collect();
        assert!(launchers.is_empty(), "{launchers:?}");
        let lock = format!("{}.lock", name_of(self.pid_file));
        assert_eq!(names_in(&self.path("")), [lock], "{}", self.log().listing());
    }

    fn type_in(&self, words: Words<'_>) {
        (self.shell)(words).finish().expect_success();
    }

    fn log(&self) -> &Log {
        &self.machine.log
    }

    /// A path in the service's directory.
    fn path(&self, name: &str) -> PathBuf {
        self.root.join(inside(self.directory)).join(name)
    }
}

/// An absolute path, from the root that it counts from.
fn inside(path: &str) -> &str {
    path.trim_start_matches('/')
}

fn name_of(path: &str) -> &str {
    let path = Path::new(path);
    path.file_name().and_then(|name| name.to_str()).unwrap()
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

fn port(number: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], number))
}
