//! Support for the integration tests: real processes and real supervisors in a scratch directory.
//!
//! A test makes a [`Scratch`], a [`Log`] that its processes write to, and starts a [`Service`] under one of the
//! supervisors ([`Kind`]) or a program of its own ([`Spawn`]). Everything that it started ends with the scratch
//! directory, on a panic too. Tests wait for events (a line, an exit), never for time.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "each test binary uses a part of this; a failed call here is a failed test"
)]

pub(crate) mod disk;
pub(crate) mod executable;
pub(crate) mod log;
pub(crate) mod machine;
pub(crate) mod network;
pub(crate) mod process;
pub(crate) mod scratch;
pub(crate) mod service;
pub(crate) mod spawn;

pub(crate) mod daemontools;
pub(crate) mod openrc;
pub(crate) mod runit;
pub(crate) mod s6;
pub(crate) mod supervisord;
pub(crate) mod systemd;

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::sys::signal::Signal;

pub(crate) use self::daemontools::Daemontools;
pub(crate) use self::log::Log;
pub(crate) use self::process::Pid;
pub(crate) use self::runit::Runit;
pub(crate) use self::s6::S6;
pub(crate) use self::scratch::Scratch;
pub(crate) use self::service::Service;
pub(crate) use self::spawn::{Finished, Spawn, Spawned};
pub(crate) use self::supervisord::Supervisord;
pub(crate) use self::systemd::Systemd;

/// How long to wait for what must come: never reached by a passing test, however loaded the machine is.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What a supervisor can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Its ordinary restart verb.
    Restart,
    /// The service shall be down.
    Down,
    /// The service shall be up.
    Up,
    /// One signal to the main process, without a change of the wish. Not every supervisor can send every signal.
    Signal(Signal),
    /// The supervisor shall stop the service and leave, as at a shutdown of the machine.
    Exit,
}

/// The supervisors that the tests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Runit,
    Daemontools,
    S6,
    Systemd,
    Supervisord,
}

impl Kind {
    pub(crate) const ALL: [Kind; 5] = [
        Kind::Runit,
        Kind::Daemontools,
        Kind::S6,
        Kind::Systemd,
        Kind::Supervisord,
    ];

    /// Starts the supervisor, with the service wanted up.
    pub(crate) fn start(
        self,
        scratch: &Scratch,
        log: &Log,
        service: &Service,
    ) -> Box<dyn Supervisor> {
        match self {
            Kind::Runit => Box::new(Runit::start(scratch, log, service)),
            Kind::Daemontools => Box::new(Daemontools::start(scratch, log, service)),
            Kind::S6 => Box::new(S6::start(scratch, log, service)),
            Kind::Systemd => Box::new(Systemd::start(scratch, log, service)),
            Kind::Supervisord => Box::new(Supervisord::start(scratch, log, service)),
        }
    }
}

/// A running supervisor with its one service, `app`.
///
/// Dropping it is a [`Supervisor::shutdown`]. Afterwards another one can be started on the same scratch directory.
pub(crate) trait Supervisor {
    fn kind(&self) -> Kind;

    /// The command that a person would type for `verb`.
    fn command(&self, verb: Verb) -> Spawn;

    /// The supervisor's own tool with these words and the service: `sv WORDS app`, `svc WORDS app`,
    /// `s6-svc WORDS app`, `systemctl WORDS app.service`, `supervisorctl WORDS app`.
    fn say(&self, words: &[&str]) -> Spawn;

    /// The main process, by the number that it has for the test, as the supervisor knows it at this moment.
    fn shown_pid(&self) -> Option<Pid>;

    /// The supervisor's own processes, which are no leak while it lives.
    fn own_processes(&self) -> Vec<Pid>;

    /// Waits until the supervisor has left by itself, after [`Verb::Exit`].
    fn wait_exit(&mut self);

    /// A program that knows the service's processes by the numbers that they know themselves by.
    fn beside(&self, scratch: &Scratch, program: &Path) -> Spawn {
        Spawn::new(scratch, program)
    }

    fn name(&self) -> String {
        format!("{:?}", self.kind()).to_lowercase()
    }

    /// The service's main process; None while none lives.
    fn main_pid(&self) -> Option<Pid> {
        self.shown_pid().filter(|&pid| process::alive(pid))
    }

    /// The service's main process, after the service was heard.
    ///
    /// runit, daemontools and s6 write down the PID only after the fork: the service can be heard before.
    fn wait_main_pid(&self) -> Pid {
        poll(|| self.main_pid()).unwrap_or_else(|| panic!("{} shows no main process", self.name()))
    }

    /// Waits until a verb has its effect at once (daemontools is deaf for a second after each start).
    fn settle(&self) {}

    /// Runs a verb to its end.
    ///
    /// Some wait for the outcome (`sv restart` up to 7 s, `systemctl` and `supervisorctl` until it is there),
    /// the others only leave the wish.
    fn run(&self, verb: Verb) -> Finished {
        self.begin(verb).finish()
    }

    /// Starts a verb and does not wait for it.
    fn begin(&self, verb: Verb) -> Spawned {
        self.settle();
        self.command(verb).start()
    }

    fn restart(&self) -> Finished {
        self.run(Verb::Restart)
    }

    fn term(&self) -> Finished {
        self.run(Verb::Signal(Signal::SIGTERM))
    }

    fn want_down(&self) -> Finished {
        self.run(Verb::Down)
    }

    fn want_up(&self) -> Finished {
        self.run(Verb::Up)
    }

    /// KILLs the supervisor, so that nothing is respawned. The service is not asked and not signalled;
    /// under systemd the kernel ends everything in its PID namespace. A second call does nothing.
    fn shutdown(&mut self);
}

/// The program under test.
pub(crate) fn program() -> PathBuf {
    // Cargo tells it to tests only; a benchmark finds it where cargo put it.
    match option_env!("CARGO_BIN_EXE_seamless-run") {
        Some(path) => path.into(),
        None => profile().join("seamless-run"),
    }
}

/// `target/<profile>`, from this one's place in its `deps` or `examples`.
fn profile() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let profile = this.parent().and_then(Path::parent);
    profile.expect("target/<profile>/deps").to_owned()
}

/// An example of the package, built by cargo beside the tests.
pub(crate) fn example(name: &str) -> PathBuf {
    let example = profile().join("examples").join(name);
    assert!(
        example.exists(),
        "the example `{name}` is not built: `cargo test` without a choice of targets builds it, `cargo build --examples` does too"
    );
    example
}

/// The path of a tool that the tests cannot do without. Nothing is skipped for want of one.
pub(crate) fn tool(name: &str, debian_package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // sbin: where Debian keeps ip, and an ordinary user's PATH does not look.
    let elsewhere = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(elsewhere)
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| {
            panic!("the tests need `{name}`: install the Debian package {debian_package}")
        })
}

/// The one place that polls, for what a supervisor gives no event for: the PID that it shows, its control FIFO or
/// socket being served. None if nothing was seen within [`PATIENCE`].
fn poll<Seen>(mut look: impl FnMut() -> Option<Seen>) -> Option<Seen> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = look();
        if seen.is_some() || Instant::now() > deadline {
            return seen;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until a supervisor that has been started serves its verbs; panics with what it wrote if it does not.
fn wait_serving(supervisor: &Spawned, mut serving: impl FnMut() -> bool) {
    let seen = poll(|| (serving() || !supervisor.alive()).then(|| supervisor.alive()));
    assert!(
        seen == Some(true),
        "the supervisor did not start: {}",
        supervisor.describe()
    );
}

/// Whether some process has a FIFO open for reading: what svok and s6-svok look at.
fn has_reader(fifo: &Path) -> bool {
    OpenOptions::new()
        .write(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(fifo)
        .is_ok()
}

/// The main process in `supervise/status`, the same 18 and more bytes on runit and daemontools: 12 of TAI64N time,
/// 4 of PID (little endian, 0: none). The file is replaced by rename, so it is never read half written.
fn main_pid_in_status(service: &Path) -> Option<Pid> {
    let status = std::fs::read(service.join("supervise/status")).ok()?;
    let pid = i32::from_le_bytes(status.get(12..16)?.try_into().unwrap());
    (pid > 0).then(|| Pid::from_raw(pid))
}

/// A command with the test's mark.
fn marked(program: impl AsRef<OsStr>, mark: &Path) -> Command {
    let mut command = Command::new(program);
    command.env(scratch::VARIABLE, mark);
    command
}

/// The living processes of this name among those of a test.
fn marked_pids(mark: &Path, comm: &str) -> Vec<Pid> {
    let ours = scratch::processes_of(mark).into_iter();
    ours.filter(|process| process.comm == comm)
        .map(|process| process.pid)
        .collect()
}

/// KILLs them, and waits for their end.
fn kill_marked(mark: &Path, comm: &str) {
    for handle in marked_pids(mark, comm)
        .into_iter()
        .filter_map(process::Handle::open)
    {
        handle.signal(Signal::SIGKILL);
        handle.wait_until(Instant::now() + PATIENCE);
    }
}
