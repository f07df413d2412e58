//! What most tests need: a scratch directory, a log, a PID file, and small daemons in sh.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use crate::support::executable;
use crate::support::process::{self, Pid};
use crate::support::{self, Log, Scratch, Spawn, Spawned};

/// Says what it gets. `READY=sh code` is run when it is up; `PREPARE=sh code` on USR2.
///
/// It waits for a child that ends when it does. A `read` that never ends would need none, but a
/// signal that comes a moment before the system call is left until another one wakes it; dash's
/// `wait` has no such moment.
pub(crate) const DAEMON: &str = r#"
    mkfifo "$PIPES/$$"
    cat "$PIPES/$$" &
    exec 9>"$PIPES/$$"
    rm "$PIPES/$$"
    trap 'echo "$$ got HUP"' HUP
    trap 'echo "$$ got USR2"; eval "$PREPARE"' USR2
    trap 'echo "$$ got TERM"; exit 0' TERM
    echo "up $$ $SEAMLESS_GENERATION"
    eval "$READY"
    while :; do wait; done
"#;
/// Before another daemon's traps, that it can wait as [`DAEMON`] does: `while :; do wait; done`.
pub(crate) const WAITS: &str =
    r#"mkfifo "$PIPES/$$"; cat "$PIPES/$$" & exec 9>"$PIPES/$$"; rm "$PIPES/$$""#;
/// [`DAEMON`]'s `READY`, and its `PREPARE` by the seed's way.
pub(crate) const STARTED: &str = r#""$SEAMLESS_RUN" notify started && echo "$$ is started""#;
pub(crate) const BY_CHLD: &str = "kill -CHLD $PPID";

pub(crate) struct Stage {
    pub(crate) scratch: Scratch,
    pub(crate) log: Log,
    pub(crate) pid_file: PathBuf,
}

impl Stage {
    pub(crate) fn new() -> Stage {
        let scratch = Scratch::new();
        let log = Log::new(&scratch, "log");
        let nothing = scratch.join("nothing");
        nix::unistd::mkfifo(&nothing, nix::sys::stat::Mode::S_IRWXU).unwrap();
        // For daemons of every user.
        fs::set_permissions(&nothing, fs::Permissions::from_mode(0o666)).unwrap();
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let pipes = scratch.join("pipes");
        fs::create_dir(&pipes).unwrap();
        fs::set_permissions(&pipes, fs::Permissions::from_mode(0o1777)).unwrap();
        let run = scratch.join("run");
        fs::create_dir(&run).unwrap();
        Stage {
            scratch,
            log,
            pid_file: run.join("app.pid"),
        }
    }

    /// A process with the test's environment, whose output goes to the log.
    pub(crate) fn spawn(&self, program: impl AsRef<OsStr>) -> Spawn {
        Spawn::new(&self.scratch, program)
            .env("NOTHING", self.scratch.join("nothing"))
            .env("PIPES", self.scratch.join("pipes"))
            .env("SEAMLESS_RUN", support::program())
            .output_to(&self.log)
    }

    /// `sh FILE` with this code in the file: what is in a command line shows in the log.
    pub(crate) fn sh(&self, code: &str) -> Vec<String> {
        let name = format!(
            "daemon{}",
            fs::read_dir(self.scratch.path()).unwrap().count()
        );
        let path = self.scratch.join(name);
        fs::write(&path, code).unwrap();
        vec!["sh".to_owned(), path.to_str().unwrap().to_owned()]
    }

    /// The PID in the daemon's next `up PID`.
    pub(crate) fn up(&self) -> Pid {
        pid_in(&self.log.wait(|line| line.starts_with("up ")))
    }

    /// `seamless-run --pid-file …`, and more words.
    pub(crate) fn seamless_run(&self, words: &[&str]) -> Spawn {
        self.spawn(support::program())
            .arg("--pid-file")
            .arg(&self.pid_file)
            .args(words)
    }

    /// [`DAEMON`] under the launcher; both PIDs when it is up.
    pub(crate) fn daemon(&self, options: &[&str], ready: &str, prepare: &str) -> (Spawned, Pid) {
        let launcher = self
            .seamless_run(options)
            .arg("--")
            .args(self.sh(DAEMON))
            .env("READY", ready)
            .env("PREPARE", prepare)
            .start();
        let pid = self.up();
        if !ready.is_empty() {
            self.log.wait_for(&format!("{pid} is started"));
        }
        (launcher, pid)
    }

    /// A copy of the program that every user can run, wherever the tests were built.
    pub(crate) fn program_for_all(&self) -> PathBuf {
        let copy = self.scratch.join("seamless-run");
        executable::copy(&support::program(), &copy, 0o755);
        copy
    }

    pub(crate) fn record(&self) -> String {
        fs::read_to_string(self.beside(".record")).unwrap_or_default()
    }

    /// The living generations of the record, without the number that was given last.
    pub(crate) fn generations(&self) -> Vec<String> {
        let record = self.record();
        let generations = record
            .lines()
            .filter(|line| line.starts_with("generation "));
        generations.map(str::to_owned).collect()
    }

    pub(crate) fn pid_in_file(&self) -> Option<Pid> {
        let text = fs::read_to_string(&self.pid_file).ok()?;
        Some(Pid::from_raw(text.strip_suffix('\n')?.parse().unwrap()))
    }

    pub(crate) fn beside(&self, ending: &str) -> PathBuf {
        let mut path = self.pid_file.clone().into_os_string();
        path.push(ending);
        path.into()
    }

    /// INT is a stop (§9): ends a supervised generation, and waits until nothing is left but `others`.
    pub(crate) fn stop(&self, launcher: Spawned, others: &[Pid]) {
        launcher.signal(Signal::SIGINT);
        launcher.finish();
        self.scratch.wait_no_processes_but(others);
    }
}

/// A measured number, for whoever reads the run: past the capture of a passing test's output.
pub(crate) fn tell(line: &str) {
    let whole = format!("{line}\n");
    std::io::stderr().write_all(whole.as_bytes()).unwrap();
}

/// The PID in `up PID GENERATION`.
pub(crate) fn pid_in(line: &str) -> Pid {
    let word = line.split(' ').nth(1).expect("up PID");
    Pid::from_raw(word.parse().expect("a PID"))
}

/// A process that says what signals it gets, and that nobody has a reason to signal.
pub(crate) fn innocent(stage: &Stage) -> Spawned {
    let innocent = stage.spawn("sh").args(["-c", DAEMON]).start();
    assert_eq!(stage.up(), innocent.pid());
    innocent
}

/// The innocent lives, and is heard only when it is asked now.
pub(crate) fn assert_unharmed(stage: &Stage, innocent: &Spawned) {
    let pid = innocent.pid();
    assert!(process::alive(pid), "{}", stage.log.listing());
    innocent.signal(Signal::SIGHUP);
    stage.log.wait_for(&format!("{pid} got HUP"));
    assert_eq!(
        stage.log.count(&format!("{pid} got ")),
        1,
        "{}",
        stage.log.listing()
    );
}
