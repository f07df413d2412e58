//! The examples in other languages, which speak the protocol without any library of ours: under a real runit, with
//! clients, through restarts, a bad version and a stop; and where nobody listens to what they say.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::load::{Answer, Target};
use crate::scene::python;
use crate::servers::{RESTARTS, SLOW, Server, Site, bound, get, show};
use crate::stage::Stage;
use crate::support::process::{Handle, Pid, Process};
use crate::support::{self, PATIENCE, Spawn, Supervisor, executable, network, tool};

/// How a daemon's source becomes a command, in sh.
struct Language {
    source: &'static str,
    command: fn(&Stage, &Path) -> String,
    /// Whether it opens an address by itself where it was given no socket.
    binds: bool,
}

const PYTHON: Language = Language {
    source: "contrib/examples/daemon.py",
    command: |_, source| interpreted(&python(), source),
    binds: true,
};
const NODE: Language = Language {
    source: "contrib/examples/daemon.js",
    command: |_, source| interpreted(&tool("node", "nodejs"), source),
    binds: true,
};
const GO: Language = Language {
    source: "contrib/examples/daemon.go",
    command: go,
    binds: true,
};
const C: Language = Language {
    source: "contrib/examples/daemon.c",
    command: |stage, source| {
        let program = stage.scratch.join("daemon");
        // The language as it was in 2011, and whatever the compiler has to say.
        Spawn::from(Command::new(tool("cc", "gcc")))
            .args(["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-o"])
            .args([&program, source])
            .finish()
            .expect_success();
        program.display().to_string()
    },
    binds: false,
};

fn interpreted(interpreter: &Path, source: &Path) -> String {
    format!("{} {}", interpreter.display(), source.display())
}

/// Longer than usual: a compiler that brings no compiled library (Go 1.20 and later) compiles that first.
const LONG: Duration = Duration::from_secs(600);

/// Built offline. What it knows of the standard library stays for the next test: that takes a minute. So one is built
/// after the other.
pub(crate) fn go(stage: &Stage, source: &Path) -> String {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let program = stage.scratch.join("daemon");
    let build = Spawn::from(Command::new(tool("go", "golang-go")))
        .args(["build", "-o"])
        .args([&program, source])
        .env("GO111MODULE", "off")
        .env("GOCACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("go"))
        .env("GOFLAGS", "")
        .directory(stage.scratch.path())
        .start();
    let handle = Handle::open(build.pid()).expect("it is our child");
    handle.wait_until(Instant::now() + LONG);
    build.finish().expect_success();
    program.display().to_string()
}

impl Language {
    fn source(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(self.source)
    }

    fn command(&self, stage: &Stage) -> String {
        (self.command)(stage, &self.source())
    }

    fn file_name(&self) -> &str {
        self.source.rsplit('/').next().unwrap()
    }
}

/// A daemon that can be deployed anew: what the supervisor starts is always the same file.
pub(crate) struct Deployed {
    pub(crate) path: PathBuf,
}

impl Deployed {
    pub(crate) fn new(stage: &Stage, code: &str) -> Deployed {
        let deployed = Deployed {
            path: stage.scratch.join("app"),
        };
        deployed.deploy(code);
        deployed
    }

    /// Beside its place, and renamed: it may be started at any moment.
    pub(crate) fn deploy(&self, code: &str) {
        let new = self.path.with_extension("new");
        // `seamless-run notify` is found in PATH.
        let program = support::program();
        let directory = program.parent().unwrap().display();
        let text = format!("#!/bin/sh\nPATH={directory}:$PATH\n{code}\n");
        executable::write(&new, text.as_bytes(), 0o755);
        fs::rename(new, &self.path).unwrap();
    }
}

/// Restarts, a new version that dies, one that is mended, a stop: nobody hears of any of it.
fn loses_nothing(language: &Language) {
    let network = network::isolate();
    let stage = Stage::new();
    let command = format!("exec {}", language.command(&stage));
    let app = Deployed::new(&stage, &command);
    let options = ["--listen", "http=127.0.0.1:0"];
    let server = Server::start(network, stage, &options, &[app.path.to_str().unwrap()]);
    let log = &server.stage.log;
    server.wait_ready(1);
    let target = Target::Tcp(bound(&server.stage, "http"));
    // The keeper sets it right again when a later one commits.
    assert_whole_queue();
    let sites = [Site::new("http", target, Some(SLOW))];
    for generation in 2..=RESTARTS + 1 {
        server.restart(&sites, generation);
        server.wait_ready(generation);
        let old = format!("generation {} (pid ", generation - 1);
        for outcome in [" is prepared; it serves on", " is gone: exit status 0"] {
            let seen = |line: &str| line.contains(&old) && line.contains(outcome);
            if !log.lines().iter().any(|line| seen(line)) {
                log.wait(seen);
            }
        }
    }

    // runit starts it again and again.
    app.deploy("echo broken; exit 3");
    server.runit.term().expect_success();
    for _ in 0..2 {
        log.wait_for("died before it was ready: exit status 3");
    }
    let last = RESTARTS + 1;
    let status = Spawn::new(&server.stage.scratch, support::program())
        .arg("status")
        .arg(&server.stage.pid_file)
        .finish();
    assert!(
        status.stdout.contains(&format!("generation {last} ")),
        "{status:?}"
    );
    assert!(
        status.stdout.contains("it died before it was ready"),
        "{status:?}"
    );
    sites[0].wait_answers(&server.stage, last);
    app.deploy(&command);
    let mended = |answer: &Answer| answer.generation > Some(last);
    let [Site { load, .. }] = sites;
    let answer = load.wait_answer(PATIENCE, mended);
    assert!(answer.is_some(), "{}\n{}", load.report(), log.listing());
    let old = format!("generation {last} (pid ");
    log.wait(|line| line.contains(&old) && line.contains(" is gone: exit status 0"));

    let report = load.stop();
    show(language.file_name(), &report);
    assert_eq!(report.failed(), 0, "{report}\n{}", log.listing());
    assert!(report.slow.ok > 0);
    assert_eq!(log.count("serving on"), 0, "{}", log.listing());
    server.end(&[]);
}

/// A runtime that calls listen(2) on the held socket changes how many may wait there, for every generation.
fn assert_whole_queue() {
    let shown = Spawn::from(Command::new(tool("ss", "iproute2")))
        .args(["--listening", "--tcp", "--no-header"])
        .finish()
        .expect_success();
    let limit = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let queue = shown.stdout.split_ascii_whitespace().nth(2);
    assert_eq!(queue, Some(limit.trim()), "{}", shown.stdout);
}

/// R4: what is refused is said in the log, and is no reason to stop serving. The socket is a Unix one this time.
fn is_refused(language: &Language) {
    let stage = Stage::new();
    let socket = stage.scratch.join("app.sock");
    let program = support::program();
    // The directory of the PID file goes between the start and *started*.
    let code = format!(
        "rm -r {}; PATH={}:$PATH; exec {}",
        stage.pid_file.parent().unwrap().display(),
        program.parent().unwrap().display(),
        language.command(&stage)
    );
    let listen = format!("http={}", socket.display());
    let launcher = stage
        .seamless_run(&["--listen", &listen, "--"])
        .args(stage.sh(&code))
        .start();
    let refused = stage
        .log
        .wait(|line| line.contains("started: ") && line.ends_with("serving on"));
    assert!(refused.contains("cannot write"), "{refused}");
    let target = Target::Unix(socket);
    let body = get(&target);
    assert!(body.ends_with(" generation 1\n"), "{body}");

    let daemon = Pid::from_raw(body.split(' ').nth(1).unwrap().parse().unwrap());
    launcher.signal(Signal::SIGTERM);
    stage.log.wait_for("is prepared; it serves on");
    assert_eq!(launcher.finish().code(), Some(0));
    assert_eq!(get(&target), body);
    // A stop, since nobody finds the control socket any more.
    let keeper = Process::read(daemon).unwrap().parent;
    Handle::open(keeper).unwrap().signal(Signal::SIGTERM);
    let gone = format!("generation 1 (pid {daemon}) is gone: exit status 0");
    stage.log.wait_for(&gone);
    stage.scratch.wait_no_processes_but(&[]);
}

/// Variables that were left from somewhere, and nobody behind them: it serves all the same.
fn nobody_listens(language: &Language) {
    let _network = network::isolate();
    let stage = Stage::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target::Tcp(listener.local_addr().unwrap());
    let nobody = format!("@{}/nobody", stage.scratch.path().display());
    let code = format!("LISTEN_PID=$$ exec {}", language.command(&stage));
    let daemon = stage
        .spawn("sh")
        .args(["-c", &code])
        .descriptor(3, listener)
        .env("PATH", path())
        .env("SEAMLESS", "1")
        .env("NOTIFY_SOCKET", nobody)
        .env("LISTEN_FDS", "1")
        .start();
    stage
        .log
        .wait(|line| line.contains("started: ") && line.ends_with("serving on"));
    for signal in [Some(Signal::SIGUSR2), None] {
        assert_eq!(get(&target), format!("pid {} generation -\n", daemon.pid()));
        if let Some(signal) = signal {
            daemon.signal(signal);
            stage
                .log
                .wait(|line| line.contains("prepared: ") && line.ends_with("serving on"));
        }
    }
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.finish().code(), Some(0), "{}", stage.log.listing());
}

/// Without any of our variables: as a person would try it first.
fn by_itself(language: &Language) {
    let _network = network::isolate();
    let stage = Stage::new();
    let code = format!("exec {}", language.command(&stage));
    for end in [Signal::SIGTERM, Signal::SIGINT] {
        let daemon = stage.spawn("sh").args(["-c", &code]).start();
        let address = SocketAddr::from(([127, 0, 0, 1], 8080));
        let load = Site::new("bare", Target::Tcp(address), None).load;
        let report = load.stop();
        let pid = u32::try_from(daemon.pid().as_raw()).unwrap();
        assert_eq!(report.answers[&pid].generation, None);
        daemon.signal(end);
        assert_eq!(daemon.finish().code(), Some(0), "{}", stage.log.listing());
    }
    assert_eq!(stage.log.lines(), [""; 0], "nothing to complain of");
}

fn path() -> String {
    let program = support::program();
    let own = program.parent().unwrap().display().to_string();
    format!("{own}:{}", std::env::var("PATH").unwrap())
}

/// Whoever listens to what it says, or nobody.
fn speaks(language: &Language) {
    is_refused(language);
    nobody_listens(language);
    if language.binds {
        by_itself(language);
    }
}

#[test]
fn a_daemon_in_python_loses_nothing() {
    loses_nothing(&PYTHON);
}

#[test]
fn a_daemon_in_go_loses_nothing() {
    loses_nothing(&GO);
}

#[test]
fn a_daemon_in_node_loses_nothing() {
    loses_nothing(&NODE);
}

#[test]
fn a_daemon_in_c_loses_nothing() {
    loses_nothing(&C);
}

#[test]
fn a_daemon_in_python_serves_whoever_listens_to_it() {
    speaks(&PYTHON);
}

#[test]
fn a_daemon_in_go_serves_whoever_listens_to_it() {
    speaks(&GO);
}

#[test]
fn a_daemon_in_node_serves_whoever_listens_to_it() {
    speaks(&NODE);
}

#[test]
fn a_daemon_in_c_serves_whoever_listens_to_it() {
    speaks(&C);
}
