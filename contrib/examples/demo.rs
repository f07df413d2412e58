//! Five restarts of an HTTP server under load, with nothing but a small respawn loop for a supervisor.
//!
//!     cargo run --release --example demo
#![expect(clippy::print_stderr, reason = "it is run by people")]

#[path = "../load.rs"]
mod load;

use std::{
    env, fs,
    fs::File,
    io::{self, BufRead, BufReader, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{fs::MetadataExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{self, Command, ExitCode, ExitStatus, Stdio},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use load::{Load, Report, SlowSpec, Target, milliseconds};
use nix::{
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
    unistd::pipe2,
};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

const RESTARTS: usize = 5;
/// From one restart to the next.
const INTERVAL: Duration = Duration::from_secs(2);
const FAST_CLIENTS: usize = 8;
/// Leaves something of two cores to the restarts, so that their times say something.
const RATE: u32 = 5_000;
const SLOW: SlowSpec = SlowSpec {
    clients: 4,
    delay: Duration::from_secs(2),
};
/// For anything that takes milliseconds when all is well.
const LIMIT: Duration = Duration::from_secs(10);

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<bool> {
    // `println!` would panic when nobody reads any more, and leave everything behind.
    let mut out = io::stdout();
    writeln!(
        out,
        "{RESTARTS} restarts of an HTTP server, while {FAST_CLIENTS} clients open a connection for each request\n\
         and {} more always wait for an answer that takes {} s.\n",
        SLOW.clients,
        SLOW.delay.as_secs(),
    )?;
    let programs = Programs::build()?;
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let directory = tempfile::Builder::new()
        .prefix("seamless-demo-")
        .tempdir()?;
    let demo = Arc::new(Demo::new(programs, directory.keep()));
    // Ctrl-C too leaves nothing behind.
    let interrupted = Arc::clone(&demo);
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            eprintln!(
                "\nInterrupted: the service is stopped, and finishes the requests in flight."
            );
            if let Err(error) = interrupted.end().outcome {
                eprintln!("demo: {error}");
            }
            process::exit(128 + signal);
        }
    });

    let outcome = restarts(&demo, &mut out);
    if demo.state().ending {
        // Interrupted: the other thread ends everything, this process last.
        loop {
            thread::park();
        }
    }
    let end = demo.end();
    let passed = match outcome {
        Ok(report) => conclusion(&report, &mut out)?,
        Err(error) => {
            writeln!(out, "\nFAILED: {error}")?;
            false
        }
    };
    if let Err(error) = &end.outcome {
        writeln!(out, "\nFAILED: {error}")?;
    } else {
        writeln!(out, "Every process has ended; nothing is left behind.")?;
    }
    let passed = passed && end.outcome.is_ok();
    if !passed {
        writeln!(out, "\nThe log of seamless-run:\n{}", end.log)?;
    }
    Ok(passed)
}

fn restarts(demo: &Arc<Demo>, out: &mut impl Write) -> Outcome<Report> {
    let pid_file = PidFile::watch(&demo.directory)?;
    let departures = Demo::supervise(demo)?;
    let Some(mut serving) = pid_file.wait(|_| true) else {
        let left = departures.try_iter().last();
        let launcher = left.map(|departure| format!("; its launcher left: {}", departure.status));
        let launcher = launcher.unwrap_or_default();
        return Err(format!("the first generation was not ready in time{launcher}").into());
    };

    let target = Target::Unix(demo.directory.join("app.sock"));
    let load = Load::start_at_rate(target, FAST_CLIENTS, Some(SLOW), RATE);
    writeln!(
        out,
        "                                launcher  successor             slow in"
    )?;
    writeln!(
        out,
        "restart   pid                       left    answers   requests   flight   failed"
    )?;
    for restart in 1..=RESTARTS {
        if !load.wait_slow_in_flight(LIMIT, SLOW.clients) {
            return Err(format!("no slow requests in flight\n{}", load.report()).into());
        }
        thread::sleep(INTERVAL);
        let before = load.report();
        let began = Instant::now();
        demo.signal(Signal::TERM)?;
        let departure = departures
            .recv_timeout(LIMIT)
            .map_err(|_| format!("restart {restart}: the launcher did not leave"))?;
        if !departure.status.success() {
            return Err(format!("restart {restart}: launcher: {}", departure.status).into());
        }
        let answer = load
            .wait_answer(LIMIT, |answer| !before.answers.contains_key(&answer.pid))
            .ok_or_else(|| format!("restart {restart}: no answer from a new generation"))?;
        pid_file.wait(|pid| pid == answer.pid).ok_or_else(|| {
            format!(
                "restart {restart}: pid {} was not ready in time",
                answer.pid
            )
        })?;
        let now = load.report();
        writeln!(
            out,
            "{restart:>7}   {:<17} {:>9.1} ms {:>7.1} ms {:>10} {:>8} {:>8}",
            format!("{serving} → {}", answer.pid),
            milliseconds(departure.at - began),
            milliseconds(answer.first - began),
            now.fast.finished(),
            before.slow_in_flight,
            now.failed(),
        )?;
        serving = answer.pid;
    }
    thread::sleep(INTERVAL);
    Ok(load.stop())
}

fn conclusion(report: &Report, out: &mut impl Write) -> io::Result<bool> {
    let (fast, slow) = (&report.fast, &report.slow);
    writeln!(
        out,
        "\n{RESTARTS} restarts, {} requests, {} failed; the slowest took {:.1} ms.",
        fast.finished(),
        fast.failed(),
        milliseconds(fast.slowest),
    )?;
    writeln!(
        out,
        "{} slow requests finished, {} were cut off.",
        slow.ok,
        slow.failed()
    )?;
    let passed = report.failed() == 0;
    if !passed {
        writeln!(out, "\nFAILED:\n{report}")?;
    }
    Ok(passed)
}

/// What is demonstrated.
struct Programs {
    seamless_run: PathBuf,
    http_unix: PathBuf,
}

impl Programs {
    /// They lie where cargo put this one: TARGET/PROFILE/examples/demo. Under `cargo run`, cargo sees to it that they
    /// are there.
    fn build() -> Outcome<Self> {
        let demo = env::current_exe()?;
        let examples = demo.parent().ok_or("where am I?")?;
        let profile = examples.parent().ok_or("where am I?")?;
        if let (Some(cargo), Some(package)) =
            (env::var_os("CARGO"), env::var_os("CARGO_MANIFEST_DIR"))
        {
            let mut build = Command::new(cargo);
            build
                .args(["build", "--bin", "seamless-run", "--example", "http_unix"])
                .current_dir(package);
            if let Some(target) = profile.parent() {
                build.arg("--target-dir").arg(target);
            }
            if profile.ends_with("release") {
                build.arg("--release");
            }
            quietly(build)?;
        }
        let programs = Self {
            seamless_run: profile.join("seamless-run"),
            http_unix: examples.join("http_unix"),
        };
        for program in [&programs.seamless_run, &programs.http_unix] {
            if !program.exists() {
                return Err(format!("{} is not there", program.display()).into());
            }
        }
        Ok(programs)
    }
}

/// Shows what cargo says only if it takes longer than two seconds, or fails.
fn quietly(mut build: Command) -> Outcome<()> {
    let mut cargo = build.stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let (sender, lines) = mpsc::channel();
    let stderr = cargo.stderr.take();
    thread::spawn(move || {
        for line in stderr
            .into_iter()
            .flat_map(|stderr| BufReader::new(stderr).lines())
        {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let patience = Instant::now() + Duration::from_secs(2);
    let mut held = Vec::new();
    loop {
        match lines.recv_timeout(patience.saturating_duration_since(Instant::now())) {
            Ok(line) => held.push(line),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                for line in held.drain(..).chain(lines.iter()) {
                    eprintln!("{line}");
                }
                eprintln!();
                break;
            }
        }
    }
    let status = cargo.wait()?;
    if !status.success() {
        for line in held {
            eprintln!("{line}");
        }
        return Err(format!("cargo build: {status}").into());
    }
    Ok(())
}

/// The supervisor, and everything that has to end in the end.
struct Demo {
    programs: Programs,
    directory: PathBuf,
    state: Mutex<State>,
    /// The log's pipe is at its end: nobody is left who holds the other end.
    gone: Condvar,
    ended: Mutex<Option<End>>,
}

struct State {
    /// The launcher that runs now. By pidfd, which cannot come to mean another process.
    launcher: Option<OwnedFd>,
    /// Start no more.
    ending: bool,
    gone: bool,
    /// Device and inode of the log's pipe.
    log: Option<(u64, u64)>,
}

/// How it all ended.
#[derive(Clone)]
struct End {
    outcome: Result<(), String>,
    log: String,
}

/// A launcher has left.
struct Departure {
    at: Instant,
    status: ExitStatus,
}

impl Demo {
    fn new(programs: Programs, directory: PathBuf) -> Self {
        Self {
            programs,
            directory,
            state: Mutex::new(State {
                launcher: None,
                ending: false,
                // There is nobody yet.
                gone: true,
                log: None,
            }),
            gone: Condvar::new(),
            ended: Mutex::new(None),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pid_file(&self) -> PathBuf {
        self.directory.join("app.pid")
    }

    fn signal(&self, signal: Signal) -> Outcome<()> {
        match &self.state().launcher {
            Some(launcher) => Ok(pidfd_send_signal(launcher, signal)?),
            None => Err("the launcher is not there".into()),
        }
    }

    /// Does what a supervisor does: starts the service whenever it is not there.
    ///
    /// Everything it starts has one pipe for its stderr. It carries the log; and launchers, keepers and daemons hold it to
    /// their end, so that end of file means that all of them have gone, the detached ones too.
    fn supervise(demo: &Arc<Self>) -> Outcome<Receiver<Departure>> {
        let (log, stderr) = pipe2(OFlag::O_CLOEXEC)?;
        let mut file = File::create(demo.directory.join("log"))?;
        let log = File::from(log);
        let pipe = log.metadata()?;
        {
            let mut state = demo.state();
            state.gone = false;
            state.log = Some((pipe.dev(), pipe.ino()));
        }
        let reader = Arc::clone(demo);
        thread::spawn(move || {
            if let Err(error) = io::copy(&mut &log, &mut file) {
                eprintln!("demo: log: {error}");
            }
            reader.state().gone = true;
            reader.gone.notify_all();
        });
        let (sender, departures) = mpsc::channel();
        let demo = Arc::clone(demo);
        thread::spawn(move || {
            // A launcher that leaves without being asked makes it one start too many: no loop without end.
            for _ in 0..=RESTARTS {
                match demo.start(&stderr, &sender) {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(error) => {
                        eprintln!("demo: {error}");
                        return;
                    }
                }
            }
        });
        Ok(departures)
    }

    /// Starts a launcher and waits for its end. `false`: no more.
    fn start(&self, stderr: &OwnedFd, departures: &Sender<Departure>) -> Outcome<bool> {
        let mut state = self.state();
        if state.ending {
            return Ok(false);
        }
        let mut launcher = Command::new(&self.programs.seamless_run)
            .arg("--pid-file")
            .arg(self.pid_file())
            .arg("--listen")
            .arg(format!(
                "http={}",
                self.directory.join("app.sock").display()
            ))
            .arg("--")
            .arg(&self.programs.http_unix)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr.try_clone()?)
            // Ctrl-C is for the demo, which then ends the service in good order.
            .process_group(0)
            .spawn()?;
        state.launcher = Some(pidfd_open(Pid::from_child(&launcher), PidfdFlags::empty())?);
        drop(state);
        let status = launcher.wait()?;
        let at = Instant::now();
        self.state().launcher = None;
        // Nobody listens any more when the demo is ending.
        departures.send(Departure { at, status }).ok();
        Ok(status.success())
    }

    /// Ends the service, waits until every process has gone, and removes the directory. Whoever comes second waits for
    /// the first.
    fn end(&self) -> End {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(end) = &*ended {
            return end.clone();
        }
        self.state().ending = true;
        let mut outcome = Ok(());
        // INT is the signal for a stop. It ends every generation.
        let told = self.signal(Signal::INT).is_ok();
        let gone = if told {
            self.wait_until_gone()
        } else {
            self.state().gone
        };
        if !gone {
            // No launcher at this moment, or it is stuck: the verb finds the generations by the PID file.
            let stop = Command::new(&self.programs.seamless_run)
                .arg("stop")
                .arg(self.pid_file())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .process_group(0)
                .spawn();
            let gone = self.wait_until_gone();
            if let Ok(mut stop) = stop {
                // It has done its work, or never will.
                stop.kill().ok();
                stop.wait().ok();
            }
            if !gone {
                let killed = self.kill_all();
                outcome = Err(format!("{killed} processes did not end and were killed"));
                if !self.wait_until_gone() {
                    outcome = Err("some processes are still there".to_owned());
                }
            }
        }
        let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            outcome = Err(format!("{}: {error}", self.directory.display()));
        }
        ended.insert(End { outcome, log }).clone()
    }

    fn wait_until_gone(&self) -> bool {
        let (state, _) = self
            .gone
            .wait_timeout_while(self.state(), LIMIT, |state| !state.gone)
            .unwrap_or_else(PoisonError::into_inner);
        state.gone
    }

    /// The last resort: whoever holds the log's pipe as its stderr has been started by us.
    fn kill_all(&self) -> usize {
        let Some(log) = self.state().log else {
            return 0;
        };
        let mut killed = 0;
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let id = process
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            let Some(pid) = id.and_then(Pid::from_raw) else {
                continue;
            };
            // First the pidfd, then the look: so it is this process that was looked at.
            let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else {
                continue;
            };
            let stderr = fs::metadata(process.path().join("fd/2"));
            if stderr.is_ok_and(|stderr| (stderr.dev(), stderr.ino()) == log)
                && pidfd_send_signal(&pidfd, Signal::KILL).is_ok()
            {
                killed += 1;
            }
        }
        killed
    }
}

/// The PID file, and a watch for its changes: the launcher renames a new one into place when a generation is ready.
struct PidFile {
    path: PathBuf,
    changes: Inotify,
}

impl PidFile {
    fn watch(directory: &Path) -> io::Result<Self> {
        let changes = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        changes.add_watch(directory, AddWatchFlags::IN_MOVED_TO)?;
        Ok(Self {
            path: directory.join("app.pid"),
            changes,
        })
    }

    /// Waits until it names a process that is `wanted`.
    fn wait(&self, wanted: impl Fn(u32) -> bool) -> Option<u32> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let text = fs::read_to_string(&self.path).unwrap_or_default();
            let named: Option<u32> = text.trim().parse().ok();
            if let Some(pid) = named.filter(|pid| wanted(*pid)) {
                return Some(pid);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            let timeout = PollTimeout::try_from(left).ok()?;
            poll(
                &mut [PollFd::new(self.changes.as_fd(), PollFlags::POLLIN)],
                timeout,
            )
            .ok()?;
            // What changed does not matter: the file is read anew.
            self.changes.read_events().ok();
        }
    }
}
