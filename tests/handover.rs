//! The handover from one generation to the next, and what becomes of it when something goes wrong
//! (R8, R9, R11, R13 to R16).

use std::cell::Cell;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::load::{Load, SlowSpec, Target};
use crate::stage::{BY_CHLD, DAEMON, STARTED, Stage, pid_in};
use crate::support::process::{self, Handle, Pid, status_field};
use crate::support::{self, Log, PATIENCE, Runit, Service, Spawned, Supervisor, Verb};

const CLIENTS: usize = 4;
const REQUESTS_PER_SECOND: u32 = 500;
/// Some are always in hand, so that nobody drains at once.
const SLOW: SlowSpec = SlowSpec {
    clients: 2,
    delay: Duration::from_millis(500),
};

/// `http_unix` under runit, in a version that can be changed as a deployment does.
struct Deployed {
    // Dropped first: it starts anew what the stage ends.
    runit: Runit,
    stage: Stage,
    socket: PathBuf,
    version: PathBuf,
}

impl Deployed {
    fn start(options: &[&str]) -> Deployed {
        let stage = Stage::new();
        let socket = stage.scratch.join("app.sock");
        let version = stage.scratch.join("version");
        write_in_one_step(&version, &good(&socket));
        let program = support::program();
        let words = [
            program.to_str().unwrap(),
            "--pid-file",
            stage.pid_file.to_str().unwrap(),
        ];
        let command = ["--", "sh", version.to_str().unwrap()];
        let all = words.iter().chain(options).chain(&command);
        let service = Service::new(all.map(|word| (*word).to_owned()));
        let runit = Runit::start(&stage.scratch, &stage.log, &service);
        stage.log.wait_for(" is ready after");
        Deployed {
            runit,
            stage,
            socket,
            version,
        }
    }

    fn deploy(&self, code: &str) {
        write_in_one_step(&self.version, code);
    }

    fn load(&self) -> Load {
        let target = Target::Unix(self.socket.clone());
        let load = Load::start_at_rate(target, CLIENTS, Some(SLOW), REQUESTS_PER_SECOND);
        assert!(load.wait_slow_in_flight(PATIENCE, SLOW.clients));
        load
    }

    /// Nothing is left but what stays by design.
    fn end(mut self) {
        self.runit.want_down();
        self.stage
            .scratch
            .wait_no_processes_but(&self.runit.own_processes());
        self.runit.shutdown();
        assert_only_the_lock_is_left(&self.stage);
    }
}

fn write_in_one_step(path: &Path, code: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, code).unwrap();
    fs::rename(&beside, path).unwrap();
}

fn good(socket: &Path) -> String {
    let example = support::example("http_unix");
    format!(
        "exec '{}' --socket '{}'\n",
        example.display(),
        socket.display()
    )
}

fn assert_only_the_lock_is_left(stage: &Stage) {
    let left = fs::read_dir(stage.pid_file.parent().unwrap()).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["app.pid.lock"], "{}", stage.log.listing());
}

/// `seamless-run VERB FILE …`, whose output is kept.
fn verb(stage: &Stage, name: &str, options: &[&str]) -> Spawned {
    support::Spawn::new(&stage.scratch, support::program())
        .arg(name)
        .arg(&stage.pid_file)
        .args(options)
        .start()
}

/// The generations that `status --json` shows, newest first.
fn generations(stage: &Stage) -> Vec<Value> {
    let status = verb(stage, "status", &["--json"]).finish();
    generations_in(&status.expect_success().stdout)
}

fn generations_in(line: &str) -> Vec<Value> {
    let status: Value = serde_json::from_str(line).unwrap();
    status["generations"].as_array().unwrap().clone()
}

/// `5 serving, 4 draining`
fn phases(generations: &[Value]) -> String {
    let phases: Vec<String> = generations
        .iter()
        .map(|one| format!("{} {}", one["generation"], one["phase"].as_str().unwrap()))
        .collect();
    phases.join(", ")
}

fn pid_of(generation: &Value, which: &str) -> Pid {
    let number = generation[which].as_i64().expect("it has one");
    Pid::from_raw(number.try_into().unwrap())
}

/// `status --watch --json`, as events.
struct Watch {
    lines: Log,
    _status: Spawned,
}

impl Watch {
    fn start(stage: &Stage) -> Watch {
        let name = format!(
            "watch{}",
            fs::read_dir(stage.scratch.path()).unwrap().count()
        );
        let lines = Log::new(&stage.scratch, &name);
        let status = support::Spawn::new(&stage.scratch, support::program())
            .args(["status", "--watch", "--json"])
            .arg(&stage.pid_file)
            .output_to(&lines)
            .start();
        Watch {
            lines,
            _status: status,
        }
    }

    fn wait(&self, mut wanted: impl FnMut(&[Value]) -> bool) -> Vec<Value> {
        generations_in(&self.lines.wait(|line| wanted(&generations_in(line))))
    }
}

fn parent_of(pid: Pid) -> Pid {
    let parent = status_field(pid, "PPid").expect("it lives");
    Pid::from_raw(parent.parse().unwrap())
}

fn kill(pid: Pid) {
    Handle::open(pid).expect("it lives").signal(Signal::SIGKILL);
}

fn named(number: u32, pid: Pid) -> String {
    format!("generation {number} (pid {pid})")
}

/// Scenarios that mostly wait: side by side, whatever number of tests is.
fn all_at_once(scenarios: &[fn()]) {
    thread::scope(|scope| {
        for scenario in scenarios {
            scope.spawn(scenario);
        }
    });
}

// ---- A new version that is bad (promise 2, R9, R13, R16, R20)

const TIMEOUTS: [&str; 10] = [
    "--prepare-timeout",
    "1s",
    "--drain-timeout",
    "2s",
    "--stop-timeout",
    "1s",
    "--orphan-timeout",
    "3s",
    "--hold-timeout",
    "1s",
];
/// Longer than any of them.
const LONG: Duration = Duration::from_millis(3500);

const HANGS: &str = r#"echo "bad $$"; exec sleep 1000"#;

/// The bad one is started until [`LONG`] is over, and `ends` each time; nobody notices. Then a good one takes over.
fn a_bad_version_costs_nothing(bad: &str, options: &[&str], ends: impl Fn(&Deployed, Pid, &str)) {
    let service = Deployed::start(&[&TIMEOUTS[..], options].concat());
    let log = &service.stage.log;
    let load = service.load();
    let first = load
        .wait_answer(PATIENCE, |_| true)
        .expect("the first one answers")
        .pid;
    let first_pid = Pid::from_raw(first.try_into().unwrap());
    service.deploy(bad);
    // sv waits until the new one is up for a while, which is its own affair.
    let verb = service.runit.begin(Verb::Restart);
    let began = Instant::now();
    loop {
        let pid = pid_in(&log.wait(|line| line.starts_with("bad ")));
        let over = began.elapsed() > LONG;
        if over {
            assert_eq!(load.report().pids().len(), 1, "{}", log.listing());
            assert_eq!(service.stage.pid_in_file(), Some(first_pid));
            service.deploy(&good(&service.socket));
        }
        ends(&service, pid, &named(1, first_pid));
        if over {
            break;
        }
    }
    drop(verb);
    let next = load
        .wait_answer(PATIENCE, |answer| answer.pid != first)
        .unwrap_or_else(|| panic!("nobody new answers: {}", log.listing()));
    log.wait_seen(&format!("(pid {}) is ready after", next.pid));
    log.wait_seen(&format!("{} is gone: exit status 0", named(1, first_pid)));
    let report = load.stop();
    assert_eq!(report.failed(), 0, "{report}\n{}", log.listing());
    assert_eq!(report.pids().len(), 2, "{report}\n{}", log.listing());
    service.end();
}

/// What the log says of an attempt that failed, and who serves on.
fn wait_failure(service: &Deployed, bad: Pid, words: &str, first: &str) {
    let log = &service.stage.log;
    let line = log.wait_for(&format!("(pid {bad}) {words}"));
    assert!(line.contains(&format!("still serving: {first}")), "{line}");
}

fn it_crashes_at_once() {
    let bad = r#"echo "bad $$"; exit 1"#;
    a_bad_version_costs_nothing(bad, &[], |service, pid, first| {
        wait_failure(
            service,
            pid,
            "died before it was ready: exit status 1",
            first,
        );
    });
}

fn it_crashes_after_two_seconds() {
    let bad = r#"echo "bad $$"; sleep 2; exit 1"#;
    a_bad_version_costs_nothing(bad, &[], |service, pid, first| {
        wait_failure(
            service,
            pid,
            "died before it was ready: exit status 1",
            first,
        );
    });
}

fn it_exits_with_0_before_it_is_ready() {
    let bad = r#"echo "bad $$"; exit 0"#;
    a_bad_version_costs_nothing(bad, &[], |service, pid, first| {
        wait_failure(
            service,
            pid,
            "died before it was ready: exit status 0",
            first,
        );
    });
}

fn it_hangs_until_its_ready_timeout() {
    // The good one has to be as fast.
    let options = ["--ready-timeout", "2s"];
    a_bad_version_costs_nothing(HANGS, &options, |service, pid, first| {
        let words = "was not ready within the ready timeout (2 s)";
        wait_failure(service, pid, words, first);
        process::wait_exit(pid);
    });
}

fn it_hangs_until_somebody_restarts_it() {
    let first_time = Cell::new(true);
    a_bad_version_costs_nothing(HANGS, &[], |service, pid, _| {
        if first_time.take() {
            // The passage of time is the test: no timeout ends this attempt, and none its predecessor.
            thread::sleep(LONG);
        }
        service.runit.term();
        let log = &service.stage.log;
        log.wait_for(&format!("(pid {pid}) is not ready, and is ended"));
        process::wait_exit(pid);
    });
}

fn it_is_killed() {
    a_bad_version_costs_nothing(HANGS, &[], |service, pid, first| {
        kill(pid);
        wait_failure(
            service,
            pid,
            "died before it was ready: killed by KILL",
            first,
        );
    });
}

fn its_launcher_is_killed() {
    a_bad_version_costs_nothing(HANGS, &[], |service, pid, _| {
        kill(parent_of(parent_of(pid)));
        let log = &service.stage.log;
        log.wait(|line| {
            line.contains("the launcher of generation ")
                && line.contains(&format!("(pid {pid}) is gone; it is ended"))
        });
        process::wait_exit(pid);
    });
}

fn its_keeper_is_killed() {
    a_bad_version_costs_nothing(HANGS, &[], |service, pid, _| {
        kill(parent_of(pid));
        let log = &service.stage.log;
        log.wait_for(&format!("(pid {pid}) was lost; this one"));
        process::wait_exit(pid);
    });
}

#[test]
fn a_new_version_that_crashes_costs_nothing() {
    all_at_once(&[
        it_crashes_at_once,
        it_crashes_after_two_seconds,
        it_exits_with_0_before_it_is_ready,
    ]);
}

#[test]
fn a_new_version_that_hangs_costs_nothing() {
    all_at_once(&[
        it_hangs_until_its_ready_timeout,
        it_hangs_until_somebody_restarts_it,
    ]);
}

#[test]
fn a_new_version_that_is_killed_costs_nothing() {
    all_at_once(&[it_is_killed, its_launcher_is_killed, its_keeper_is_killed]);
}

// ---- Restarts in quick succession (R9, R14, R19)

const APART: [u64; 5] = [0, 1, 10, 100, 700];

/// Two requests, and then three; the service settles each time. `request` gives what has to end before that.
fn restarts_apart<Asked>(
    milliseconds: u64,
    request: impl Fn(&Deployed) -> Asked,
    answered: impl Fn(Asked),
) {
    let service = Deployed::start(&[]);
    // So that requests come before it is ready, too.
    service.deploy(&format!("sleep 0.3; {}", good(&service.socket)));
    let load = service.load();
    for requests in [2, 3] {
        // What has lived for less than a second is started anew only after that second.
        thread::sleep(Duration::from_secs(1));
        let before = newest(&service);
        let asked: Vec<Asked> = (0..requests)
            .map(|number| {
                if number > 0 {
                    thread::sleep(Duration::from_millis(milliseconds));
                }
                request(&service)
            })
            .collect();
        asked.into_iter().for_each(&answered);
        assert_settled(&service, before);
    }
    let report = load.stop();
    assert_eq!(
        report.failed(),
        0,
        "{milliseconds} ms apart: {report}\n{}",
        service.stage.log.listing()
    );
    service.end();
}

fn newest(service: &Deployed) -> u64 {
    generations(&service.stage)[0]["generation"]
        .as_u64()
        .unwrap()
}

/// One generation is left, newer than `before`; it serves, and everything names it and nobody else.
fn assert_settled(service: &Deployed, before: u64) {
    let stage = &service.stage;
    let watch = Watch::start(stage);
    let alone = watch.wait(|generations| {
        generations.len() == 1
            && generations[0]["phase"] == "serving"
            && generations[0]["generation"].as_u64() > Some(before)
    });
    drop(watch);
    let daemon = pid_of(&alone[0], "pid");
    let keeper = pid_of(&alone[0], "keeper");
    let launcher = pid_of(&alone[0], "launcher");
    let runsv = service.runit.own_processes()[0];
    assert_eq!(service.runit.wait_main_pid(), launcher);
    assert_eq!(stage.pid_in_file(), Some(daemon));
    let record = stage.generations();
    assert_eq!(record.len(), 1, "{record:?}");
    let recorded = process::identity(daemon).expect("it lives");
    assert!(
        record[0].contains(&format!("daemon={recorded} ")),
        "{record:?}, not {recorded}"
    );
    assert_eq!(who_answers(&service.socket), daemon);
    // Older keepers go a moment after their daemons. Not `wait_no_processes_but(&[runsv])`: a
    // second child of one of these would be a leak, too.
    wait_children(runsv, launcher);
    wait_children(launcher, keeper);
    wait_children(keeper, daemon);
    stage
        .scratch
        .wait_no_processes_but(&[runsv, launcher, keeper]);
}

/// Waits until `child` is the only one.
fn wait_children(parent: Pid, child: Pid) {
    for other in process::children(parent) {
        if other != child {
            process::wait_exit(other);
        }
    }
}

/// The PID that an answer names.
fn who_answers(socket: &Path) -> Pid {
    let mut connection = UnixStream::connect(socket).unwrap();
    connection
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    let line = answer.lines().find(|line| line.starts_with("pid "));
    pid_in(line.unwrap_or_else(|| panic!("it answers {answer:?}")))
}

fn in_parallel(apart: fn(u64)) {
    thread::scope(|scope| {
        for milliseconds in APART {
            scope.spawn(move || apart(milliseconds));
        }
    });
}

/// The supervisor's TERM goes to whatever main process it has at that moment, or to nobody.
#[test]
fn restarts_by_term_in_quick_succession() {
    in_parallel(|milliseconds| {
        let request = |service: &Deployed| {
            let launcher = service.runit.shown_pid().and_then(Handle::open)?;
            launcher.signal(Signal::SIGTERM);
            Some(launcher)
        };
        restarts_apart(milliseconds, request, |launcher| {
            // Until it has, its signal may be on its way still.
            let left =
                launcher.is_none_or(|launcher| launcher.wait_until(Instant::now() + PATIENCE));
            assert!(left, "a launcher does not leave");
        });
    });
}

#[test]
fn restarts_by_verb_in_quick_succession() {
    in_parallel(|milliseconds| {
        let request = |service: &Deployed| verb(&service.stage, "restart", &["--no-wait"]);
        restarts_apart(milliseconds, request, |verb| {
            verb.finish().expect_success();
        });
    });
}

// ---- Many that drain at once (R11, R14)

/// A request names a FIFO, and is answered when somebody has written to that. Who is told to drain answers those
/// that it has in hand.
const HELD: &str = r#"
import os, signal, socket, subprocess, sys, threading

def say(*words):
    # One write: several processes write to the log.
    os.write(1, (" ".join(map(str, words)) + "\n").encode())

def answer(connection):
    hold = connection.makefile().readline().strip()
    say("holds", os.getpid())
    open(hold).read()
    connection.sendall(b"done by %d" % os.getpid())
    connection.close()

def drain(*_):
    say(os.getpid(), "got TERM")
    sys.exit(0)

signal.signal(signal.SIGTERM, drain)
signal.signal(signal.SIGUSR2, lambda *_: os.kill(os.getppid(), signal.SIGCHLD))
listener = socket.socket(socket.AF_UNIX)
beside = "%s.%d" % (sys.argv[1], os.getpid())
listener.bind(beside)
listener.listen()
os.rename(beside, sys.argv[1])
subprocess.run([os.environ["SEAMLESS_RUN"], "notify", "started"], check=True)
say("up", os.getpid())
while True:
    threading.Thread(target=answer, args=[listener.accept()[0]]).start()
"#;

/// A request in flight.
struct Held {
    connection: UnixStream,
    hold: PathBuf,
    pid: Pid,
}

impl Held {
    fn begin(stage: &Stage, socket: &Path, pid: Pid) -> Held {
        let hold = stage.scratch.join(format!("hold{pid}"));
        nix::unistd::mkfifo(&hold, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut connection = UnixStream::connect(socket).unwrap();
        connection
            .write_all(format!("{}\n", hold.display()).as_bytes())
            .unwrap();
        stage.log.wait_for(&format!("holds {pid}"));
        Held {
            connection,
            hold,
            pid,
        }
    }

    fn end(mut self) {
        fs::write(&self.hold, "").unwrap();
        let mut answer = String::new();
        self.connection.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, format!("done by {}", self.pid));
    }
}

/// [`HELD`] under the launcher, when it is ready.
fn held(stage: &Stage, socket: &Path) -> (Spawned, Pid) {
    let code = stage.scratch.join("held.py");
    fs::write(&code, HELD).unwrap();
    let python = support::tool("python3", "python3");
    let launcher = stage
        .seamless_run(&["--"])
        .args([python, code, socket.to_owned()])
        .start();
    (launcher, stage.up())
}

/// As a supervisor's restart verb does it.
fn restart(launcher: Spawned) {
    launcher.signal(Signal::SIGTERM);
    assert_eq!(launcher.finish().code(), Some(0));
}

/// R11, R14: whoever drains is given its time, whatever becomes of the others.
#[test]
fn many_generations_drain_at_once() {
    let stage = Stage::new();
    let socket = stage.scratch.join("held.sock");
    let mut requests = Vec::new();
    let mut pids = Vec::new();
    for _ in 1..=3 {
        let (launcher, pid) = held(&stage, &socket);
        requests.push(Held::begin(&stage, &socket, pid));
        pids.push(pid);
        restart(launcher);
    }
    let watch = Watch::start(&stage);
    // The fourth hears no TERM.
    let deaf = format!("trap '' TERM; {STARTED}");
    let (launcher, fourth) = stage.daemon(&["--drain-timeout", "3s"], &deaf, BY_CHLD);
    for pid in &pids {
        stage.log.wait_seen(&format!("{pid} got TERM"));
    }
    let all = watch.wait(|all| phases(all) == "4 serving, 3 draining, 2 draining, 1 draining");
    for (one, pid) in all[1..].iter().rev().zip(&pids) {
        assert_eq!(pid_of(one, "pid"), *pid);
    }
    // The one in the middle loses its keeper, and its time goes on.
    kill(pid_of(&all[2], "keeper"));
    stage
        .log
        .wait_for(&format!("the keeper of {} is gone", named(2, pids[1])));
    let all = watch.wait(|all| all.len() == 4 && all[2]["keeper"].is_null());
    assert_eq!(
        phases(&all),
        "4 serving, 3 draining, 2 draining, 1 draining"
    );
    assert_eq!(all[2]["deadline"]["what"], "kill");

    let keeper = parent_of(fourth);
    restart(launcher);
    let (launcher, fifth) = stage.daemon(&[], STARTED, BY_CHLD);
    watch.wait(|all| phases(all) == "5 serving, 4 draining, 3 draining, 2 draining, 1 draining");
    stage.log.wait_seen(&format!(
        "{} did not end in time; it is killed",
        named(4, fourth)
    ));
    stage.log.wait_seen(": killed by KILL after ");
    // It had taken over the deadline of the one in the middle, and is not taken for one that hangs.
    process::wait_exit(keeper);
    assert_eq!(
        stage.log.count("has not left"),
        0,
        "{}",
        stage.log.listing()
    );
    watch.wait(|all| phases(all) == "5 serving, 3 draining, 2 draining, 1 draining");
    assert_eq!(
        phases(&generations(&stage)),
        "5 serving, 3 draining, 2 draining, 1 draining"
    );

    // The oldest last.
    requests.swap(0, 2);
    for request in requests {
        let pid = request.pid;
        assert!(process::alive(pid));
        request.end();
        process::wait_exit(pid);
    }
    for number in [1, 3] {
        let pid = pids[number - 1];
        let name = named(number.try_into().unwrap(), pid);
        stage
            .log
            .wait_seen(&format!("{name} is gone: exit status 0"));
    }
    watch.wait(|all| phases(all) == "5 serving");
    assert_eq!(stage.generations().len(), 1, "{}", stage.record());
    assert_eq!(stage.pid_in_file(), Some(fifth));
    for pid in pids {
        assert_eq!(stage.log.count(&format!("{pid} got TERM")), 1);
    }
    drop(watch);
    stage.stop(launcher, &[]);
}

/// R11: whoever loses a keeper takes over its deadlines.
#[test]
fn a_successors_keeper_kills_what_does_not_drain_in_time() {
    let stage = Stage::new();
    let options = ["--drain-timeout", "4s"];
    let deaf = format!("trap '' TERM; {STARTED}");
    let (launcher, first) = stage.daemon(&options, &deaf, BY_CHLD);
    restart(launcher);
    let (launcher, second) = stage.daemon(&options, STARTED, BY_CHLD);
    let name = named(1, first);
    stage
        .log
        .wait_seen(&format!("{name} is told to drain (TERM)"));
    kill(parent_of(first));
    stage.log.wait_seen(&format!(
        "the keeper of {name} is gone; this one sees to it that it ends"
    ));
    assert!(process::alive(first), "it has its time");
    stage.log.wait_seen(&format!(
        "{name} did not end in time, and its keeper does not see to it; it is killed"
    ));
    process::wait_exit(first);
    assert!(process::alive(second));
    stage.stop(launcher, &[]);
    assert_only_the_lock_is_left(&stage);
}

// ---- No successor (R16)

const ORPHAN: [&str; 2] = ["--orphan-timeout", "3s"];
/// The passage of time is the test: in so much more than the timeout nothing happens.
const BEYOND: Duration = Duration::from_millis(4500);

/// A daemon in standby: its launcher was told to restart.
fn standby(stage: &Stage) -> Pid {
    let (launcher, first) = stage.daemon(&ORPHAN, STARTED, BY_CHLD);
    restart(launcher);
    first
}

/// An attempt that ends at once by its own fault.
fn failed_attempt(stage: &Stage) {
    let crash = stage.sh("exit 7");
    let launcher = stage.seamless_run(&ORPHAN).arg("--").args(crash).start();
    assert_eq!(launcher.finish().code(), Some(7));
}

/// An attempt that never gets ready, and is ended by a TERM.
fn withdrawn_attempt(stage: &Stage) {
    let (launcher, pid) = stage.daemon(&ORPHAN, "", BY_CHLD);
    launcher.signal(Signal::SIGTERM);
    stage.log.wait_for(&format!("{pid} got TERM"));
    launcher.finish();
}

fn assert_serves_on(stage: &Stage, pid: Pid) {
    thread::sleep(BEYOND);
    assert!(process::alive(pid), "{}", stage.log.listing());
    assert_eq!(stage.log.count(&format!("{pid} got TERM")), 0);
    assert_eq!(stage.log.count("no successor of"), 0);
}

/// It drains by itself, and nothing is left.
fn wait_given_up(stage: &Stage, number: u32, pid: Pid) {
    let name = named(number, pid);
    stage.log.wait_for(&format!(
        "no successor of {name} has come within the orphan timeout (3 s), so it was a stop"
    ));
    stage.log.wait_seen(&format!("{pid} got TERM"));
    stage
        .log
        .wait_seen(&format!("{name} is gone: exit status 0"));
    stage.scratch.wait_no_processes_but(&[]);
}

fn without_a_successor_it_was_a_stop() {
    let stage = Stage::new();
    let first = standby(&stage);
    wait_given_up(&stage, 1, first);
    assert_only_the_lock_is_left(&stage);
}

fn after_a_failed_attempt_it_serves_on_until_one_was_ended() {
    let stage = Stage::new();
    let first = standby(&stage);
    failed_attempt(&stage);
    assert_serves_on(&stage, first);
    withdrawn_attempt(&stage);
    wait_given_up(&stage, 1, first);
    assert_only_the_lock_is_left(&stage);
}

fn a_failed_attempt_after_one_that_was_ended_disarms_the_timeout() {
    let stage = Stage::new();
    let first = standby(&stage);
    withdrawn_attempt(&stage);
    failed_attempt(&stage);
    assert_serves_on(&stage, first);
    let (launcher, _) = stage.daemon(&ORPHAN, STARTED, BY_CHLD);
    stage
        .log
        .wait_seen(&format!("{} is gone: exit status 0", named(1, first)));
    stage.stop(launcher, &[]);
}

/// Somebody who asks for it in so many words cannot have meant a stop, but whoever ends the next attempt may.
fn an_explicit_restart_arms_no_timeout() {
    let stage = Stage::new();
    let (launcher, first) = stage.daemon(&ORPHAN, STARTED, BY_CHLD);
    verb(&stage, "restart", &["--no-wait"])
        .finish()
        .expect_success();
    assert_eq!(launcher.finish().code(), Some(0));
    assert_serves_on(&stage, first);
    withdrawn_attempt(&stage);
    wait_given_up(&stage, 1, first);
}

fn an_explicit_restart_of_one_that_prepares_disarms_the_timeout() {
    let stage = Stage::new();
    let hold = stage.scratch.join("hold");
    nix::unistd::mkfifo(&hold, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let prepare = format!("read -r _ <{}; {BY_CHLD}", hold.display());
    let (launcher, first) = stage.daemon(&ORPHAN, STARTED, &prepare);
    launcher.signal(Signal::SIGTERM);
    stage.log.wait_for(&format!("{first} got USR2"));
    verb(&stage, "restart", &["--no-wait"])
        .finish()
        .expect_success();
    fs::write(&hold, "now\n").unwrap();
    assert_eq!(launcher.finish().code(), Some(0));
    assert_serves_on(&stage, first);
}

/// No successor can find it any more.
fn the_timeout_counts_when_the_directory_has_gone() {
    let stage = Stage::new();
    let first = standby(&stage);
    failed_attempt(&stage);
    assert_serves_on(&stage, first);
    fs::remove_dir_all(stage.pid_file.parent().unwrap()).unwrap();
    wait_given_up(&stage, 1, first);
}

#[test]
fn a_standby_waits_for_its_successor_as_long_as_makes_sense() {
    all_at_once(&[
        without_a_successor_it_was_a_stop,
        the_timeout_counts_when_the_directory_has_gone,
        an_explicit_restart_of_one_that_prepares_disarms_the_timeout,
    ]);
}

#[test]
fn attempts_that_fail_and_attempts_that_are_ended_tell_a_standby_different_things() {
    all_at_once(&[
        after_a_failed_attempt_it_serves_on_until_one_was_ended,
        a_failed_attempt_after_one_that_was_ended_disarms_the_timeout,
        an_explicit_restart_arms_no_timeout,
    ]);
}

// ---- Not ready in time (R13)

/// A daemon that runs this code when it is up, and never says that it is ready.
fn never_ready(stage: &Stage, options: &[&str], code: &str) -> (Spawned, Pid) {
    let launcher = stage
        .seamless_run(options)
        .arg("--")
        .args(stage.sh(DAEMON))
        .env("READY", code)
        .start();
    (launcher, stage.up())
}

#[test]
fn an_attempt_ends_with_its_ready_timeout() {
    let stage = Stage::new();
    let (launcher, first) = stage.daemon(&[], STARTED, BY_CHLD);
    restart(launcher);
    // It has to be up by then.
    let options = ["--ready-timeout", "2s"];
    // It ends with status 0 when it gets TERM; a supervisor that restarts only what fails must not take it for that.
    let (launcher, second) = stage.daemon(&options, "", BY_CHLD);
    stage.log.wait_seen(&format!(
        "{} was not ready within the ready timeout (2 s); it is ended; still serving: {}",
        named(2, second),
        named(1, first)
    ));
    stage.log.wait_seen(&format!(
        "{} is stopped: exit status 0 after",
        named(2, second)
    ));
    assert_eq!(launcher.finish().code(), Some(125));
    assert_eq!(stage.pid_in_file(), Some(first));
    assert!(process::alive(first));

    // One that ends otherwise is mirrored.
    let code = "trap 'echo \"$$ got TERM\"; exit 9' TERM";
    let (launcher, third) = never_ready(&stage, &options, code);
    stage.log.wait_for(&format!("{third} got TERM"));
    assert_eq!(launcher.finish().code(), Some(9));

    // One that does not end has the stop timeout.
    let options = ["--ready-timeout", "2s", "--stop-timeout", "1s"];
    let (launcher, fourth) = never_ready(&stage, &options, "trap '' TERM");
    stage
        .log
        .wait_for(&format!("{} did not end in time", named(4, fourth)));
    assert_eq!(launcher.finish().signal(), Some(Signal::SIGKILL));
    assert!(process::alive(first));
    assert_eq!(stage.log.count(&format!("{first} got TERM")), 0);

    let (launcher, _) = stage.daemon(&[], STARTED, BY_CHLD);
    stage
        .log
        .wait_seen(&format!("{} is gone: exit status 0", named(1, first)));
    stage.stop(launcher, &[]);
}

#[test]
fn the_log_says_how_to_become_ready() {
    let words = "has not said that it is ready, ";
    let how = "(it says so by READY=1 or seamless-run notify started; or it is seen: --ready listen:PORT)";
    let alone = Stage::new();
    let (lonely_launcher, lonely) = alone.daemon(&[], "", BY_CHLD);
    let stage = Stage::new();
    let (launcher, first) = stage.daemon(&[], STARTED, BY_CHLD);
    restart(launcher);
    let (launcher, second) = stage.daemon(&[], "", BY_CHLD);

    let line = stage.log.wait_for(words);
    assert!(line.contains(&named(2, second)), "{line}");
    let still = format!("still serving: {}", named(1, first));
    assert!(line.contains(&still) && line.contains(how), "{line}");
    let line = alone.log.wait_seen(words);
    assert!(line.contains(&named(1, lonely)), "{line}");
    let end = "a restart would end it before the next one starts";
    assert!(line.contains(end) && line.contains(how), "{line}");
    stage.stop(launcher, &[]);
    alone.stop(lonely_launcher, &[]);
}

// ---- What is said of a drain (R11)

/// The seconds of `… after 1.23 s`.
fn seconds_in(line: &str) -> f64 {
    let (_, after) = line.rsplit_once(" after ").expect("it says how long");
    after.strip_suffix(" s").unwrap().parse().unwrap()
}

/// For a daemon that has something in hand when it gets TERM: it ends when somebody has written to the FIFO.
fn slow_to_drain(stage: &Stage, name: &str, at_once: &str, end: &str) -> (String, PathBuf) {
    let hold = stage.scratch.join(name);
    nix::unistd::mkfifo(&hold, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let path = hold.display();
    let ready =
        format!("trap 'echo \"$$ got TERM\"; {at_once}; read -r _ <{path}; {end}' TERM; {STARTED}");
    (ready, hold)
}

/// Each older keeper says how its daemon ended, and how long that took from the TERM (not from its start).
#[test]
fn every_keeper_says_how_its_drain_went() {
    const DRAIN: Duration = Duration::from_millis(700);
    let stage = Stage::new();
    let mut older = Vec::new();
    for (end, words) in [
        ("exit 0", "exit status 0"),
        ("exit 3", "exit status 3"),
        ("kill -KILL $$", "killed by KILL"),
    ] {
        let (ready, hold) = slow_to_drain(&stage, &format!("hold{}", older.len()), ":", end);
        let (launcher, pid) = stage.daemon(&[], &ready, BY_CHLD);
        restart(launcher);
        older.push((pid, hold, words));
    }
    // The third one lives for a while before it drains.
    thread::sleep(DRAIN);
    let began = Instant::now();
    let (launcher, _) = stage.daemon(&[], STARTED, BY_CHLD);
    for (pid, ..) in &older {
        stage.log.wait_seen(&format!("{pid} got TERM"));
    }
    thread::sleep(DRAIN);
    let mut took = Vec::new();
    for (number, (pid, hold, words)) in (1..).zip(&older) {
        fs::write(hold, "now\n").unwrap();
        let gone = format!("{} is gone: {words} after ", named(number, *pid));
        took.push(seconds_in(&stage.log.wait_seen(&gone)));
    }
    // Bounds that hold however slow the machine is: each had got its TERM before the sleep, and the third one not
    // before `began`.
    assert!(
        took.iter().all(|&seconds| seconds >= 0.69) && took[2] <= began.elapsed().as_secs_f64(),
        "{}",
        stage.log.listing()
    );
    stage.stop(launcher, &[]);
}

// ---- A keeper that stood still (§3, R11)

/// A daemon stops its keeper, which was about to do more than to send a signal.
const STOP: &str = r#"kill -STOP $PPID; echo "$$ has stopped it""#;

/// A daemon's keeper is stopped for longer than the three seconds of its deadline, and has then seen what time it is.
fn stand_still(stage: &Stage, daemon: Pid, when_it_waits: bool) {
    let keeper = Handle::open(parent_of(daemon)).expect("it lives");
    if when_it_waits {
        wait_state(keeper.pid, 'S');
        keeper.signal(Signal::SIGSTOP);
    } else {
        stage.log.wait_seen(&format!("{daemon} has stopped it"));
    }
    wait_state(keeper.pid, 'T');
    thread::sleep(Duration::from_secs(5));
    keeper.signal(Signal::SIGCONT);
    // It has looked at the clock, and done what that told it.
    wait_state(keeper.pid, 'S');
}

fn wait_state(process: Pid, letter: char) {
    while status_field(process, "State").is_some_and(|state| !state.starts_with(letter)) {
        thread::yield_now();
    }
}

/// Stopped in the middle of its work, and while it waits.
const WHEN_IT_WAITS: [bool; 2] = [false, true];

/// A deadline is of the time that the keeper had: whoever stood still with it had no more either.
fn stands_still_while_preparing(when_it_waits: bool) {
    let stage = Stage::new();
    let hold = stage.scratch.join("hold");
    nix::unistd::mkfifo(&hold, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let at_once = if when_it_waits { ":" } else { STOP };
    let prepare = format!("{at_once}; read -r _ <{}; {BY_CHLD}", hold.display());
    let options = ["--prepare-timeout", "3s"];
    let (launcher, first) = stage.daemon(&options, STARTED, &prepare);
    launcher.signal(Signal::SIGTERM);
    stage.log.wait_for(&format!("{first} got USR2"));
    stand_still(&stage, first, when_it_waits);
    assert_eq!(
        phases(&generations(&stage)),
        "1 preparing",
        "{}",
        stage.log.listing()
    );
    fs::write(&hold, "now\n").unwrap();
    stage
        .log
        .wait_for(&format!("{} is prepared", named(1, first)));
    assert_eq!(launcher.finish().code(), Some(0));
    assert_eq!(stage.log.count("did not answer within"), 0);
}

/// The same, for one that finishes what it has in hand.
fn stands_still_while_draining(when_it_waits: bool) {
    let stage = Stage::new();
    let at_once = if when_it_waits { ":" } else { STOP };
    let (slow, hold) = slow_to_drain(&stage, "hold", at_once, "exit 3");
    let (launcher, first) = stage.daemon(&["--drain-timeout", "3s"], &slow, BY_CHLD);
    restart(launcher);
    let (launcher, _) = stage.daemon(&[], STARTED, BY_CHLD);
    stage.log.wait_seen(&format!("{first} got TERM"));
    stand_still(&stage, first, when_it_waits);
    fs::write(&hold, "now\n").unwrap();
    stage
        .log
        .wait_seen(&format!("{} is gone: exit status 3", named(1, first)));
    assert_eq!(stage.log.count("did not end in time"), 0);
    stage.stop(launcher, &[]);
}

#[test]
fn a_keeper_that_stood_still_while_preparing_gives_the_time_again() {
    thread::scope(|scope| {
        for when_it_waits in WHEN_IT_WAITS {
            scope.spawn(move || stands_still_while_preparing(when_it_waits));
        }
    });
}

#[test]
fn a_keeper_that_stood_still_while_draining_gives_the_time_again() {
    thread::scope(|scope| {
        for when_it_waits in WHEN_IT_WAITS {
            scope.spawn(move || stands_still_while_draining(when_it_waits));
        }
    });
}
