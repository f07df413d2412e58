//! The example daemons, and with them the client crate, on the real launcher: launched, bare, and one after the other.

use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;

use crate::load::{Load, SlowSpec, Target};
use crate::stage::{BY_CHLD, STARTED, Stage};
use crate::support::process::{self, Pid};
use crate::support::{self, PATIENCE, Spawn, Spawned, network};

const DAEMON_SH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/examples/daemon.sh");

/// What `daemon.sh` does with a job: a file that names a FIFO takes until somebody writes to that.
const WORK: &str = r#"
    job=${1##*/}
    echo "begins $job"
    hold=$(cat "$1")
    [ -z "$hold" ] || read -r _ <"$hold"
    echo "ends $job"
"#;

/// Some are always in hand, so that nobody drains at once.
const SLOW: SlowSpec = SlowSpec {
    clients: 2,
    delay: Duration::from_millis(500),
};
const CLIENTS: usize = 4;
const REQUESTS_PER_SECOND: u32 = 500;

fn socket(stage: &Stage) -> PathBuf {
    stage.scratch.join("app.sock")
}

/// `http_unix` without a launcher.
fn bare(stage: &Stage, socket: &Path) -> Spawned {
    stage
        .spawn(support::example("http_unix"))
        .arg("--socket")
        .arg(socket)
        .arg("--pid-file")
        .arg(&stage.pid_file)
        .start()
}

/// [`bare`], which says nothing when it has started: the PID file tells.
fn bare_and_started(stage: &Stage, socket: &Path) -> Spawned {
    let changes = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).unwrap();
    let directory = stage.pid_file.parent().unwrap();
    changes
        .add_watch(directory, AddWatchFlags::IN_MOVED_TO)
        .unwrap();
    let daemon = bare(stage, socket);
    let deadline = Instant::now() + PATIENCE;
    while stage.pid_in_file() != Some(daemon.pid()) {
        let change = process::wait_any_readable(&[changes.as_fd()], deadline);
        assert!(
            change.is_some(),
            "the PID file does not name {}: {}",
            daemon.pid(),
            stage.log.listing()
        );
        changes.read_events().ok();
    }
    daemon
}

/// `http_unix` under the launcher; both PIDs when it is ready.
fn launched(stage: &Stage, socket: &Path) -> (Spawned, Pid) {
    let launcher = stage
        .seamless_run(&["--"])
        .arg(support::example("http_unix"))
        .arg("--socket")
        .arg(socket)
        .start();
    let daemon = ready(stage);
    (launcher, daemon)
}

/// The PID in the next `app: generation N (pid PID) is ready after …`.
fn ready(stage: &Stage) -> Pid {
    let line = stage.log.wait_for(" is ready after ");
    let (_, rest) = line.split_once("(pid ").expect("(pid PID)");
    Pid::from_raw(rest.split(')').next().unwrap().parse().unwrap())
}

/// The launcher leaves, and its daemon serves on.
fn detach(stage: &Stage, launcher: Spawned, daemon: Pid) {
    launcher.signal(Signal::SIGTERM);
    stage
        .log
        .wait_for(&format!("(pid {daemon}) is prepared; it serves on"));
    assert_eq!(launcher.finish().code(), Some(0));
    assert!(process::alive(daemon));
}

/// Requests of every kind, one of each answered or under way.
fn load(socket: &Path) -> Load {
    let target = Target::Unix(socket.to_owned());
    let load = Load::start_at_rate(target, CLIENTS, Some(SLOW), REQUESTS_PER_SECOND);
    assert!(load.wait_slow_in_flight(PATIENCE, SLOW.clients));
    load.wait_answer(PATIENCE, |_| true)
        .unwrap_or_else(|| panic!("nobody answers: {}", load.report()));
    load
}

/// Waits until this daemon has answered, as the generation that it is: None for a bare one.
fn answers(load: &Load, daemon: Pid, generation: Option<u32>) {
    let pid = u32::try_from(daemon.as_raw()).unwrap();
    let answer = load.wait_answer(PATIENCE, |answer| answer.pid == pid);
    let answer = answer.unwrap_or_else(|| panic!("{daemon} does not answer: {}", load.report()));
    assert_eq!(answer.generation, generation);
}

/// The load's end: `daemons` have answered, nobody else, and every request was.
fn stop_load(stage: &Stage, load: Load, daemons: usize) {
    let report = load.stop();
    assert_eq!(report.failed(), 0, "{report}\n{}", stage.log.listing());
    assert!(report.slow.finished() > 0);
    assert_eq!(report.pids().len(), daemons, "{report}");
}

/// A stop of the last supervised generation leaves no process, and no file but the lock.
fn stop(stage: &Stage, launcher: Spawned) {
    launcher.signal(Signal::SIGINT);
    assert_eq!(launcher.finish().code(), Some(0), "{}", stage.log.listing());
    stage.scratch.wait_no_processes_but(&[]);
    assert_eq!(stage.pid_in_file(), None);
    assert_eq!(stage.record(), "");
}

/// TERM ends a bare daemon with its own status.
fn end_bare(stage: &Stage, daemon: Spawned) {
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.finish().code(), Some(0), "{}", stage.log.listing());
    stage.scratch.wait_no_processes_but(&[]);
}

/// Puts a job into the spool, in one step.
fn put(spool: &Path, name: &str, content: &str) {
    let beside = spool.join("new");
    fs::write(&beside, content).unwrap();
    fs::rename(&beside, spool.join(name)).unwrap();
}

/// A FIFO that holds a job, and its other end. That one is open for reading too, so that nothing waits for the job
/// should it be gone.
fn hold(stage: &Stage) -> (PathBuf, File) {
    let path = stage.scratch.join("hold");
    nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
    let mut both = File::options();
    let release = both.read(true).write(true).open(&path).unwrap();
    (path, release)
}

/// `daemon.sh` under the launcher; both PIDs when it is ready.
fn working(stage: &Stage, spool: &Path) -> (Spawned, Pid) {
    let launcher = stage
        .seamless_run(&["--", DAEMON_SH])
        .arg(spool)
        .args(["sh", "-c", WORK, "work"])
        .start();
    let daemon = ready(stage);
    (launcher, daemon)
}

#[test]
fn the_shell_daemon_finishes_its_job_while_the_successor_takes_the_next_ones() {
    let stage = Stage::new();
    let spool = stage.scratch.join("spool");
    fs::create_dir(&spool).unwrap();
    let (hold, mut release) = hold(&stage);

    let (launcher, first) = working(&stage, &spool);
    put(&spool, "slow.job", hold.to_str().unwrap());
    stage.log.wait_for(&format!("begins slow.job.{first}"));
    detach(&stage, launcher, first);
    for job in ["a.job", "b.job", "c.job"] {
        put(&spool, job, "");
    }

    let (launcher, second) = working(&stage, &spool);
    for job in ["a.job", "b.job", "c.job"] {
        stage.log.wait_seen(&format!("ends {job}.{second}"));
    }
    assert!(process::alive(first), "its job was cut short");
    assert_eq!(stage.log.count("ends slow.job"), 0);
    release.write_all(b"now\n").unwrap();
    stage.log.wait_for_all(&[
        &format!("ends slow.job.{first}"),
        &format!("generation 1 (pid {first}) is gone: exit status 0"),
    ]);

    stop(&stage, launcher);
    stage.log.wait_for(&format!(
        "generation 2 (pid {second}) is stopped: exit status 0"
    ));
    assert_eq!(stage.log.count("begins "), 4, "{}", stage.log.listing());
    assert_eq!(stage.log.count("daemon.sh: "), 0, "an error");
    assert_eq!(fs::read_dir(&spool).unwrap().count(), 0, "nothing is left");
}

#[test]
fn the_shell_daemon_goes_on_working_while_nobody_supervises_it() {
    let stage = Stage::new();
    let spool = stage.scratch.join("spool");
    fs::create_dir(&spool).unwrap();
    let (launcher, first) = working(&stage, &spool);
    detach(&stage, launcher, first);
    put(&spool, "a.job", "");
    stage.log.wait_for(&format!("ends a.job.{first}"));

    let (launcher, second) = working(&stage, &spool);
    stage.log.wait_seen(&format!(
        "generation 1 (pid {first}) is gone: exit status 0"
    ));
    put(&spool, "b.job", "");
    stage.log.wait_seen(&format!("ends b.job.{second}"));
    stop(&stage, launcher);
    assert_eq!(fs::read_dir(&spool).unwrap().count(), 0, "nothing is left");
}

/// A job in hand is finished before a stop too.
#[test]
fn the_shell_daemon_is_stopped_after_its_job() {
    let stage = Stage::new();
    let spool = stage.scratch.join("spool");
    fs::create_dir(&spool).unwrap();
    let (hold, mut release) = hold(&stage);
    put(&spool, "slow.job", hold.to_str().unwrap());
    let (launcher, daemon) = working(&stage, &spool);
    stage.log.wait_seen(&format!("begins slow.job.{daemon}"));
    put(&spool, "never.job", "");
    launcher.signal(Signal::SIGINT);
    // It reaches the daemon after the TERM of the stop, so the daemon's word on it says that both have come.
    launcher.signal(Signal::SIGUSR2);
    stage.log.wait_for("daemon.sh: notify prepared: status 1");
    assert!(launcher.alive());
    release.write_all(b"now\n").unwrap();
    stage.log.wait_for(&format!("ends slow.job.{daemon}"));
    stop(&stage, launcher);
    let left = fs::read_dir(&spool).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["never.job"], "the next start's");
}

#[test]
fn a_launched_daemon_succeeds_a_bare_one() {
    let stage = Stage::new();
    let socket = socket(&stage);
    let first = bare_and_started(&stage, &socket);
    let load = load(&socket);
    answers(&load, first.pid(), None);

    let (launcher, second) = launched(&stage, &socket);
    stage
        .log
        .wait_seen(&format!("now draining: generation 1 (pid {})", first.pid()));
    assert_eq!(first.finish().code(), Some(0), "{}", stage.log.listing());
    answers(&load, second, Some(2));
    assert_eq!(stage.pid_in_file(), Some(second));
    assert!(stage.record().contains("generation 2 state=ready"));

    stop_load(&stage, load, 2);
    stop(&stage, launcher);
}

/// Promise 2 holds for a bare predecessor too.
#[test]
fn a_bare_daemon_serves_on_when_its_launched_successor_dies() {
    let stage = Stage::new();
    let socket = socket(&stage);
    let first = bare_and_started(&stage, &socket);
    let generations = stage.generations();
    let load = load(&socket);
    let ended = stage.seamless_run(&["sh", "-c", "exit 4"]).finish();
    assert_eq!(ended.code(), Some(4));
    let line = stage.log.wait_for("died before it was ready");
    let still = format!("still serving: generation 1 (pid {})", first.pid());
    assert!(line.contains(&still), "{line}");
    assert_eq!(stage.generations(), generations);
    assert_eq!(stage.pid_in_file(), Some(first.pid()));
    stop_load(&stage, load, 1);
    end_bare(&stage, first);
}

#[test]
fn a_bare_daemon_succeeds_a_detached_one() {
    let stage = Stage::new();
    let socket = socket(&stage);
    let (launcher, first) = launched(&stage, &socket);
    let load = load(&socket);
    answers(&load, first, Some(1));
    detach(&stage, launcher, first);

    let second = bare_and_started(&stage, &socket);
    stage.log.wait_for(&format!(
        "generation 1 (pid {first}) died in standby: exit status 0"
    ));
    // The keeper has gone too.
    stage.scratch.wait_no_processes_but(&[second.pid()]);
    answers(&load, second.pid(), None);
    assert_eq!(stage.pid_in_file(), Some(second.pid()));
    let record = stage.record();
    let own = format!("generation 2 state=ready daemon={}", second.identity());
    assert!(record.contains(&own), "{record}");

    stop_load(&stage, load, 2);
    end_bare(&stage, second);
}

#[test]
fn bare_daemons_succeed_each_other() {
    let stage = Stage::new();
    let socket = socket(&stage);
    let mut serving = bare_and_started(&stage, &socket);
    let load = load(&socket);
    for generation in 2..=4 {
        let next = bare_and_started(&stage, &socket);
        assert_eq!(serving.finish().code(), Some(0), "{}", stage.log.listing());
        answers(&load, next.pid(), None);
        let record = stage.record();
        let own = format!(
            "generation {generation} state=ready daemon={}",
            next.identity()
        );
        assert!(record.contains(&own), "{record}");
        serving = next;
    }
    stop_load(&stage, load, 4);
    end_bare(&stage, serving);
    assert_eq!(stage.log.lines(), [""; 0], "nothing to complain of");
}

/// Both kinds in turn, on one PID file: each finds the other by the record.
#[test]
fn bare_and_launched_daemons_take_turns() {
    let stage = Stage::new();
    let socket = socket(&stage);
    let first = bare_and_started(&stage, &socket);
    let load = load(&socket);
    let (launcher, second) = launched(&stage, &socket);
    assert_eq!(first.finish().code(), Some(0), "{}", stage.log.listing());
    answers(&load, second, Some(2));
    detach(&stage, launcher, second);
    let third = bare_and_started(&stage, &socket);
    process::wait_exit(second);
    answers(&load, third.pid(), None);
    let (launcher, fourth) = launched(&stage, &socket);
    assert_eq!(third.finish().code(), Some(0), "{}", stage.log.listing());
    answers(&load, fourth, Some(4));
    stop_load(&stage, load, 4);
    stop(&stage, launcher);
}

/// The bare one has a socket of its own here: who takes another's away is another question.
#[test]
fn a_bare_daemon_cannot_take_over_what_is_supervised() {
    let stage = Stage::new();
    let (launcher, supervised) = stage.daemon(&[], STARTED, BY_CHLD);
    let keeper = process::children(launcher.pid())[0];
    let record = stage.record();

    let socket = socket(&stage);
    let refused = bare(&stage, &socket);
    let line = stage.log.wait_for("started: ");
    let pid_file = stage.pid_file.display();
    let words = format!(
        "{}: started: cannot take over {pid_file}: it is supervised, generation 1 (daemon {supervised}, keeper {keeper}) has held its lock",
        refused.pid()
    );
    assert!(line.starts_with(&words), "{line}");
    assert!(
        line.ends_with("; nothing was changed and nobody was told to drain"),
        "{line}"
    );
    assert_eq!(stage.record(), record);
    assert_eq!(stage.pid_in_file(), Some(supervised));
    // It is no reason to stop serving.
    let load = load(&socket);
    answers(&load, refused.pid(), None);
    stop_load(&stage, load, 1);
    refused.signal(Signal::SIGTERM);
    assert_eq!(refused.finish().code(), Some(0));
    assert_eq!(stage.record(), record);
    assert_eq!(stage.pid_in_file(), Some(supervised));
    // The supervised one is heard only now that it is asked: nobody has signalled it.
    launcher.signal(Signal::SIGHUP);
    stage.log.wait_for(&format!("{supervised} got HUP"));
    assert_eq!(stage.log.count(" got "), 1, "{}", stage.log.listing());
    stop(&stage, launcher);
}

/// A new generation that never takes over gives the path back when it goes: with its end the service does not.
#[test]
fn a_socket_is_given_back_by_one_that_never_took_over() {
    let stage = Stage::new();
    let socket = socket(&stage);
    let (launcher, first) = launched(&stage, &socket);
    let load = load(&socket);
    answers(&load, first, Some(1));
    detach(&stage, launcher, first);

    // It cannot say that it is ready.
    let mute = stage
        .seamless_run(&["--", "env", "-u", "NOTIFY_SOCKET"])
        .arg(support::example("http_unix"))
        .arg("--socket")
        .arg(&socket)
        .start();
    load.wait_answer(PATIENCE, |answer| answer.generation == Some(2))
        .expect("it has the path meanwhile");
    mute.signal(Signal::SIGTERM);
    assert_eq!(mute.finish().code(), Some(0));
    assert!(process::alive(first));

    let (launcher, third) = launched(&stage, &socket);
    process::wait_exit(first);
    answers(&load, third, Some(3));
    stop_load(&stage, load, 3);
    let left = fs::read_dir(stage.scratch.path()).unwrap();
    let beside = left.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().starts_with("app.sock.")
    });
    assert_eq!(beside.count(), 0, "nothing is left beside the path");
    stop(&stage, launcher);
}

/// R4: what cannot be written is said, by the keeper and by the daemon, and the daemon serves.
#[test]
fn a_daemon_whose_started_is_answered_with_an_error_serves_on() {
    let stage = Stage::new();
    let socket = socket(&stage);
    let directory = stage.pid_file.parent().unwrap();
    // The directory goes between the start and *started*.
    let code = r#"rm -r "$1"; echo "up $$"; shift; exec "$@""#;
    let launcher = stage
        .seamless_run(&["--", "sh", "-c", code, "sh"])
        .arg(directory)
        .arg(support::example("http_unix"))
        .arg("--socket")
        .arg(&socket)
        .start();
    let daemon = stage.up();
    let keeper = process::children(launcher.pid())[0];
    let failure = format!(
        "cannot write {}: No such file or directory; until it can be, a successor may not find this daemon, nor another keeper go on where this one is",
        stage.beside(".record").display()
    );
    stage.log.wait_for(&format!("app: {failure}"));
    stage.log.wait_for(&format!(
        "{daemon}: started: cannot say \"started\" to the launcher (PID {keeper}): it answered: {failure}; this daemon serves on"
    ));
    let load = load(&socket);
    answers(&load, daemon, Some(1));

    // It counts as ready all the same: a restart detaches it.
    detach(&stage, launcher, daemon);
    stop_load(&stage, load, 1);
    process::Handle::open(daemon)
        .unwrap()
        .signal(Signal::SIGTERM);
    stage.log.wait_for("died in standby: exit status 0");
    stage.scratch.wait_no_processes_but(&[]);
}

#[test]
fn a_bare_daemon_that_cannot_write_its_pid_file_serves_on() {
    let stage = Stage::new();
    let socket = socket(&stage);
    fs::remove_dir(stage.pid_file.parent().unwrap()).unwrap();
    let daemon = bare(&stage, &socket);
    stage.log.wait_for(&format!(
        "{}: started: cannot lock {}.lock: No such file or directory",
        daemon.pid(),
        stage.pid_file.display()
    ));
    let load = load(&socket);
    answers(&load, daemon.pid(), None);
    stop_load(&stage, load, 1);
    end_bare(&stage, daemon);
}

#[test]
fn one_line_on_what_was_wrong_with_the_arguments() {
    let stage = Stage::new();
    let directory = stage.pid_file.parent().unwrap().to_str().unwrap();
    let path = socket(&stage);
    let path = path.to_str().unwrap();
    let unix = "usage: http_unix --socket PATH [--pid-file FILE]";
    let tcp = "usage: http_tcp [--listen ADDRESS:PORT] [--pid-file FILE]";
    let before = fs::read_dir(stage.scratch.path()).unwrap().count();
    for (name, words, part) in [
        ("http_unix", &[][..], unix),
        ("http_unix", &["--help"], unix),
        ("http_unix", &["--socket"], unix),
        ("http_unix", &["--pid-file", "app.pid"], unix),
        ("http_unix", &["--socket", path, "--pid-file"], unix),
        ("http_unix", &["--socket", path, "--bogus", "x"], unix),
        (
            "http_unix",
            &["--socket", "/no/such/app.sock"],
            "/no/such/app.sock: No such file or directory",
        ),
        ("http_unix", &["--bogus", "x", "--socket", path], unix),
        (
            "http_unix",
            &["--socket", directory],
            "there is something else than a socket",
        ),
        ("http_tcp", &["--help"], tcp),
        ("http_tcp", &["--listen"], tcp),
        ("http_tcp", &["--pid-file"], tcp),
        ("http_tcp", &["--bogus", "x"], tcp),
        ("http_tcp", &["--listen", "8080"], "8080: "),
        // RFC 5737: nobody's address.
        (
            "http_tcp",
            &["--listen", "192.0.2.1:8080"],
            "192.0.2.1:8080: Cannot assign requested address",
        ),
    ] {
        let ended = Spawn::new(&stage.scratch, support::example(name))
            .args(words)
            .finish();
        assert_eq!(ended.code(), Some(1), "{name} {words:?}: {}", ended.stderr);
        assert!(
            ended.stderr.contains(&format!(": {name}: ")) && ended.stderr.contains(part),
            "{name} {words:?}: {}",
            ended.stderr
        );
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        assert_eq!(ended.stdout, "");
    }
    let after = fs::read_dir(stage.scratch.path()).unwrap().count();
    assert_eq!(after, before, "a socket was left behind");
}

/// It needs no arguments: there is an address that it listens on then.
#[test]
fn http_tcp_without_arguments_serves() {
    let _network = network::isolate();
    let stage = Stage::new();
    let daemon = stage.spawn(support::example("http_tcp")).start();
    let address = SocketAddr::from(([127, 0, 0, 1], 8080));
    let load = Load::start_at_rate(Target::Tcp(address), 1, None, REQUESTS_PER_SECOND);
    answers(&load, daemon.pid(), None);
    load.stop();
    end_bare(&stage, daemon);
}
