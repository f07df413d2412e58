//! A daemon on strings, `puppet.py`: it does what the test says at the moment that the test says it, so that a thing can
//! come late, never, or come and go, without anybody waiting for time.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::scene::python;
use crate::stage::{Stage, pid_in};
use crate::support::process::{self, Pid, Process};
use crate::support::{self, Finished, Log, PATIENCE, Spawn, Spawned};

/// A daemon, or a child of one, that does what it is told.
#[derive(Debug)]
pub(crate) struct Puppet {
    pub(crate) pid: Pid,
    strings: PathBuf,
    done: std::cell::Cell<u32>,
}

/// A generation whose daemon is a puppet.
#[derive(Debug)]
pub(crate) struct Generation {
    pub(crate) launcher: Spawned,
    pub(crate) keeper: Pid,
    pub(crate) daemon: Puppet,
}

impl Stage {
    /// `puppet.py` under the launcher, whether or not it will come up.
    pub(crate) fn spawn_puppet(&self, options: &[&str]) -> Spawn {
        let script = self.scratch.join("puppet.py");
        if !script.exists() {
            let here = Path::new(env!("CARGO_MANIFEST_DIR"));
            fs::copy(here.join("tests/puppet.py"), &script).unwrap();
        }
        self.seamless_run(options)
            .env("LOG", self.log.path())
            .directory(self.scratch.path())
            .arg("--")
            .arg(python())
            .args(["-I", "-S"])
            .arg(script)
    }

    /// One that is up, and has said nothing of readiness.
    pub(crate) fn begin(&self, options: &[&str], environment: &[(&str, &str)]) -> Generation {
        let spawn = self.spawn_puppet(options);
        let spawn = environment
            .iter()
            .fold(spawn, |spawn, (name, value)| spawn.env(name, value));
        self.begun(spawn.start())
    }

    /// The puppet of this launcher is up.
    pub(crate) fn begun(&self, launcher: Spawned) -> Generation {
        let parent = |pid| Process::read(pid).map(|process| process.parent);
        let is_ours = |pid: Pid| parent(pid).and_then(parent) == Some(launcher.pid());
        let ours = |line: &str| line.starts_with("up ") && is_ours(pid_in(line));
        let pid = pid_in(&self.log.wait(ours));
        Generation {
            launcher,
            keeper: parent(pid).unwrap(),
            daemon: self.puppet(pid),
        }
    }

    pub(crate) fn puppet(&self, pid: Pid) -> Puppet {
        Puppet {
            pid,
            strings: self.scratch.join("pipes").join(pid.to_string()),
            done: std::cell::Cell::new(0),
        }
    }

    /// The puppet does a line, and has done it.
    #[track_caller]
    pub(crate) fn has(&self, puppet: &Puppet, line: &str) {
        self.asks(puppet, line);
        let outcome = format!("{} did {} ", puppet.pid, puppet.done.get());
        let done = self.log.wait_seen(&outcome);
        assert!(done.ends_with(" ok"), "{line}: {done}");
    }

    /// The puppet begins to do a line.
    pub(crate) fn asks(&self, puppet: &Puppet, line: &str) {
        // For reading too: nobody waits for a puppet that has ended.
        let mut strings = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&puppet.strings)
            .unwrap();
        puppet.done.set(puppet.done.get() + 1);
        strings.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// The log, when all that was written until now has come: a process that has ended may have been faster.
    pub(crate) fn settled(&self) -> &Log {
        let line = format!("settled at line {}", self.log.length());
        let log = OpenOptions::new().append(true).open(self.log.path());
        log.unwrap()
            .write_all(format!("{line}\n").as_bytes())
            .unwrap();
        self.log.wait_seen(&line);
        &self.log
    }

    /// The nth line, from 0, that begins with this, whatever came before or after it.
    #[track_caller]
    pub(crate) fn nth(&self, start: &str, nth: usize) -> String {
        let mut seen = 0;
        let wanted = |line: &str| {
            seen += usize::from(line.starts_with(start));
            seen > nth
        };
        let found = self.log.seen_by(Instant::now() + PATIENCE, 0, wanted);
        found.unwrap_or_else(|| panic!("`{start}` {nth} times:{}", self.log.listing()))
    }

    /// What the puppet says to an expression.
    pub(crate) fn answer(&self, puppet: &Puppet, expression: &str) -> String {
        let line = format!("say(os.getpid(), 'answers', {expression})");
        self.has(puppet, &line);
        let lines = self.log.lines();
        let start = format!("{} answers ", puppet.pid);
        let mut answers = lines.iter().filter_map(|line| line.strip_prefix(&start));
        answers.next_back().expect("an answer").to_owned()
    }

    /// A child of the puppet, made by a call of `child`.
    pub(crate) fn child(&self, puppet: &Puppet, call: &str) -> Puppet {
        let before = self.log.length();
        self.asks(puppet, call);
        let deadline = Instant::now() + PATIENCE;
        let up = self
            .log
            .seen_by(deadline, before, |line| line.starts_with("up "));
        let up = up.unwrap_or_else(|| panic!("{}", self.log.listing()));
        self.puppet(pid_in(&up))
    }

    /// The generation of this daemon has committed.
    pub(crate) fn wait_ready(&self, puppet: &Puppet) -> String {
        let line = format!("(pid {}) is ready after", puppet.pid);
        let line = self.log.wait_seen(&line);
        // That is said first; whoever answers this has written the files as well.
        self.told();
        line
    }

    pub(crate) fn is_ready(&self, puppet: &Puppet) -> bool {
        let line = format!("(pid {}) is ready after", puppet.pid);
        self.settled().count(&line) > 0
    }

    /// It became ready, and only after it began to do this.
    #[track_caller]
    pub(crate) fn ready_since(&self, daemon: &Puppet, line: &str) -> String {
        self.ready_since_other(daemon, daemon, line)
    }

    /// It became ready, and only after another one began to do this.
    #[track_caller]
    pub(crate) fn ready_since_other(&self, daemon: &Puppet, other: &Puppet, line: &str) -> String {
        assert!(!self.is_ready(daemon), "{}", self.log.listing());
        self.has(other, line);
        let ready = self.wait_ready(daemon);
        let begun = format!("{} does {} ", other.pid, other.done.get());
        self.assert_order(&begun, &format!("(pid {}) is ready after", daemon.pid));
        ready
    }

    /// The first line with one part came before the first line with the other.
    #[track_caller]
    pub(crate) fn assert_order(&self, first: &str, second: &str) {
        let lines = self.settled().lines();
        let place = |part: &str| lines.iter().position(|line| line.contains(part));
        assert!(
            place(first).is_some() && place(first) < place(second),
            "`{first}`, then `{second}`:{}",
            self.log.listing()
        );
    }

    pub(crate) fn verb(&self, words: &[&str]) -> Finished {
        Spawn::new(&self.scratch, support::program())
            .args(words)
            .arg(&self.pid_file)
            .finish()
    }

    pub(crate) fn told(&self) -> Value {
        let told = self.verb(&["status", "--json"]);
        serde_json::from_str(&told.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", told.stdout, told.stderr))
    }

    /// Why the last attempt failed, as `status` has it.
    pub(crate) fn why(&self) -> String {
        let told = self.told();
        let why = &told["failure"]["why"];
        why.as_str().unwrap_or_else(|| panic!("{told}")).to_owned()
    }

    /// Until `status` says what is waited for, and this is in it or, `wanted` being false, not in it: so a look has been
    /// taken meanwhile.
    #[track_caller]
    pub(crate) fn wait_waits(&self, part: &str, wanted: bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let told = self.verb(&["status"]).stdout;
            let waits: Vec<&str> = told
                .lines()
                .filter_map(|line| Some(line.split_once("waits for ")?.1))
                .collect();
            if let Some(waits) = waits.first().filter(|waits| waits.contains(part) == wanted) {
                return (*waits).to_owned();
            }
            assert!(Instant::now() < deadline, "{told}{}", self.log.listing());
        }
    }

    /// Its launcher leaves, and it serves on.
    #[track_caller]
    pub(crate) fn detach(&self, one: Generation) -> Puppet {
        one.launcher.signal(Signal::SIGTERM);
        let ended = one.launcher.finish();
        assert_eq!(ended.code(), Some(0), "{}", self.log.listing());
        assert!(process::alive(one.daemon.pid), "{}", self.log.listing());
        one.daemon
    }

    /// One that is ready, by a message of our own.
    pub(crate) fn serving(&self, options: &[&str], environment: &[(&str, &str)]) -> Generation {
        let one = self.begin(options, environment);
        self.has(&one.daemon, "notify('X_SEAMLESS=started')");
        self.wait_ready(&one.daemon);
        one
    }

    /// One that serves in standby.
    pub(crate) fn standby(&self, options: &[&str], environment: &[(&str, &str)]) -> Puppet {
        let one = self.serving(options, environment);
        self.detach(one)
    }

    pub(crate) fn got(&self, puppet: &Puppet, signal: &str) -> usize {
        let lines = self.settled().lines();
        let got = format!("{} got {signal}", puppet.pid);
        lines.iter().filter(|line| **line == got).count()
    }

    /// It serves as if nobody else had come.
    #[track_caller]
    pub(crate) fn assert_serves(&self, puppet: &Puppet) {
        assert!(process::alive(puppet.pid), "{}", self.log.listing());
        assert_eq!(self.got(puppet, "TERM"), 0, "{}", self.log.listing());
        assert_eq!(self.pid_in_file(), Some(puppet.pid));
    }

    /// The attempt has failed: `part` is in the log's line and in `status`, and nothing of it is left.
    #[track_caller]
    pub(crate) fn assert_failed(&self, one: Generation, predecessor: &Puppet, part: &str) {
        let Generation {
            launcher,
            keeper,
            daemon,
        } = one;
        launcher.finish();
        process::wait_exit(daemon.pid);
        process::wait_exit(keeper);
        assert!(!self.is_ready(&daemon), "{}", self.log.listing());
        self.assert_serves(predecessor);
        let why = self.why();
        assert!(why.contains(part), "{why}");
    }
}

/// For an attempt that shall fail: there are some looks until then, and nobody waits long.
///
/// A second is too short on a busy machine: the puppet is to be up by then, and to have done what it was told.
pub(crate) const SOON: &str = "--ready-timeout=3s";
/// What the log says of it then.
pub(crate) const NOT_SOON: &str = "was not ready within the ready timeout (3 s";
