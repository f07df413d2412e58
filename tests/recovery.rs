//! `kill -9` of the launcher, of the keeper and of both, in every phase; and keepers that are stopped for good
//! (R19, R20, §3). Each scenario tells a row of what happened.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::load::{Load, SlowSpec, Target};
use crate::stage::{BY_CHLD, DAEMON, STARTED, Stage, tell};
use crate::support::process::{self, Handle, Pid};
use crate::support::{self, Finished, Runit, Service, Spawned, Supervisor, Verb, tool};

/// A daemon's `READY`: it says that it has started when it gets USR1.
const LATER: &str = r#"
    trap '"$SEAMLESS_RUN" notify started && echo "$$ is started"' USR1
    echo "$$ waits for USR1"
"#;
/// It is ready, and does not end when it is told to.
const STUBBORN: &str = r#"
    trap 'echo "$$ got TERM"' TERM
    "$SEAMLESS_RUN" notify started && echo "$$ is started"
"#;
/// It is ready, and speaks to its keeper when it gets USR1.
const TALKATIVE: &str = r#"
    trap '"$SEAMLESS_RUN" notify status "all is well" && echo "$$ was heard"' USR1
    "$SEAMLESS_RUN" notify started && echo "$$ is started"
"#;
/// It drains as long as the test holds it.
const HELD: &str = r#"
    [ -p "$PIPES/hold" ] || mkfifo "$PIPES/hold"
    trap 'echo "$$ got TERM"; read -r _ <"$PIPES/hold"; exit 0' TERM
    "$SEAMLESS_RUN" notify started && echo "$$ is started"
"#;
/// It is ready by sd_notify's own word, and says nothing of ours.
const PLAIN: &str = r#"systemd-notify --ready && echo "$$ is started""#;
/// A daemon's `PREPARE`, by message: a keeper that was not its parent from the start hears that too.
const BY_MESSAGE: &str = r#""$SEAMLESS_RUN" notify prepared"#;
/// It never answers.
const SILENT: &str = ":";

/// A supervised generation.
struct Generation {
    launcher: Spawned,
    keeper: Pid,
    daemon: Pid,
}

/// A generation whose daemon is up. What it says then is the caller's to wait for.
fn begin(stage: &Stage, options: &[&str], ready: &str, prepare: &str) -> Generation {
    let launcher = stage
        .seamless_run(options)
        .arg("--")
        .args(stage.sh(DAEMON))
        .env("READY", ready)
        .env("PREPARE", prepare)
        .start();
    let daemon = stage.up();
    let keeper = only_child(launcher.pid());
    Generation {
        launcher,
        keeper,
        daemon,
    }
}

/// One that serves.
fn serving(stage: &Stage, options: &[&str], ready: &str, prepare: &str) -> Generation {
    let generation = begin(stage, options, ready, prepare);
    stage
        .log
        .wait_for(&format!("{} is started", generation.daemon));
    generation
}

/// One that starts, until it gets USR1.
fn starting(stage: &Stage, options: &[&str]) -> Generation {
    let generation = begin(stage, options, LATER, BY_CHLD);
    stage
        .log
        .wait_for(&format!("{} waits for USR1", generation.daemon));
    generation
}

/// One that serves in standby, and prepares by CHLD.
fn standby(stage: &Stage, options: &[&str], ready: &str) -> (Pid, Pid) {
    let generation = serving(stage, options, ready, BY_CHLD);
    let (keeper, daemon) = (generation.keeper, generation.daemon);
    generation.launcher.signal(Signal::SIGTERM);
    stage.log.wait_seen(&format!("(pid {daemon}) is prepared"));
    assert_eq!(generation.launcher.finish().code(), Some(0));
    (keeper, daemon)
}

fn only_child(pid: Pid) -> Pid {
    let children = process::children(pid);
    assert_eq!(children.len(), 1, "the children of {pid}: {children:?}");
    children[0]
}

fn signal(pid: Pid, signal: Signal) {
    let handle = Handle::open(pid).unwrap_or_else(|| panic!("{pid} is gone"));
    handle.signal(signal);
}

fn kill(pid: Pid) {
    signal(pid, Signal::SIGKILL);
    process::wait_exit(pid);
}

/// SIGSTOP, and its effect: there is no event for whoever is not the parent.
fn freeze(pid: Pid) {
    signal(pid, Signal::SIGSTOP);
    while !process::status_field(pid, "State").is_some_and(|state| state.starts_with('T')) {
        thread::yield_now();
    }
}

/// At once, as far as the two can tell: neither sees the other's end.
fn kill_both(generation: &mut Generation) {
    freeze(generation.keeper);
    generation.launcher.kill();
    kill(generation.keeper);
}

/// KILLs the keeper, and waits for the one that the launcher forks.
fn lose_keeper(stage: &Stage, generation: &mut Generation) {
    kill(generation.keeper);
    let line = stage.log.wait_for("goes on in its place");
    let (_, rest) = line.split_once("this one (pid ").unwrap();
    generation.keeper = Pid::from_raw(rest.split(')').next().unwrap().parse().unwrap());
}

/// A signal goes from the launcher through the keeper to the daemon: that keeper is at work.
fn hang_up(stage: &Stage, generation: &Generation) {
    generation.launcher.signal(Signal::SIGHUP);
    stage
        .log
        .wait_for(&format!("{} got HUP", generation.daemon));
}

fn say_started(stage: &Stage, daemon: Pid) {
    signal(daemon, Signal::SIGUSR1);
    stage.log.wait_for(&format!("{daemon} is started"));
}

fn verb(stage: &Stage, words: &[&str]) -> Finished {
    support::Spawn::new(&stage.scratch, support::program())
        .args(words)
        .arg(&stage.pid_file)
        .finish()
}

fn told(stage: &Stage) -> Value {
    let told = verb(stage, &["status", "--json"]);
    serde_json::from_str(&told.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", told.stdout, told.stderr))
}

/// The generations as a keeper tells them, newest first.
fn status(stage: &Stage) -> Vec<Value> {
    let state = told(stage);
    assert_eq!(state["source"], "keeper", "{state}");
    state["generations"].as_array().unwrap().clone()
}

/// Waits until the keeper answers, where no signal may be passed on to the daemon.
fn wait_at_work(stage: &Stage, generation: &Generation) {
    while told(stage)["generations"][0]["keeper"] != generation.keeper.as_raw()
        || told(stage)["source"] != "keeper"
    {
        thread::yield_now();
    }
}

/// The newest generation is this one, with this keeper.
fn assert_shown(stage: &Stage, generation: &Generation, phase: &str) {
    let all = status(stage);
    let newest = &all[0];
    assert_eq!(newest["phase"], phase, "{all:?}");
    for (key, pid) in [
        ("pid", generation.daemon),
        ("keeper", generation.keeper),
        ("launcher", generation.launcher.pid()),
    ] {
        assert_eq!(newest[key], pid.as_raw(), "{key}: {all:?}");
    }
}

/// It serves, and nobody has told it to end.
fn assert_serves(stage: &Stage, daemon: Pid) {
    assert!(process::alive(daemon), "{}", stage.log.listing());
    assert_eq!(terms(stage, daemon), 0, "{}", stage.log.listing());
    assert_eq!(stage.pid_in_file(), Some(daemon));
}

fn terms(stage: &Stage, daemon: Pid) -> usize {
    stage.log.count(&format!("{daemon} got TERM"))
}

/// No process, and no file but the lock.
fn assert_nothing_left(stage: &Stage) {
    stage.scratch.wait_no_processes_but(&[]);
    let left = fs::read_dir(stage.pid_file.parent().unwrap()).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["app.pid.lock"], "{}", stage.log.listing());
}

/// Waits for the end of daemons that were told to drain, each of them once.
fn wait_drained(stage: &Stage, daemons: &[Pid]) {
    for daemon in daemons {
        process::wait_exit(*daemon);
        stage.log.wait_seen(&format!("{daemon} got TERM"));
        assert_eq!(terms(stage, *daemon), 1, "{}", stage.log.listing());
    }
}

/// How a service is brought to an end, after whatever was done to it.
#[derive(Clone, Copy, Debug)]
enum End {
    /// The next start takes over, drains what it finds, and is stopped.
    NextStart,
    /// `seamless-run stop FILE`.
    Verb,
}

impl End {
    const BOTH: [End; 2] = [End::NextStart, End::Verb];

    /// Ends it; these still live, and end by one TERM each.
    fn of(self, stage: &Stage, daemons: &[Pid]) {
        match self {
            End::NextStart => {
                let next = serving(stage, &[], STARTED, BY_CHLD);
                wait_drained(stage, daemons);
                assert_eq!(stage.pid_in_file(), Some(next.daemon));
                stop(stage, next, daemons);
            }
            End::Verb => {
                verb(stage, &["stop"]).expect_success();
                wait_drained(stage, daemons);
                assert_nothing_left(stage);
            }
        }
    }
}

/// A final stop through the launcher.
fn stop(stage: &Stage, generation: Generation, before: &[Pid]) {
    generation.launcher.signal(Signal::SIGINT);
    let ended = generation.launcher.finish();
    assert_eq!(ended.code(), Some(0), "{}", stage.log.listing());
    wait_drained(stage, &[generation.daemon]);
    wait_drained(stage, before);
    assert_nothing_left(stage);
}

/// One row of the table: the sum of these tests' output.
fn row(phase: &str, victim: &str, daemon: &str, launcher: &str) {
    tell(&format!(
        "recovery | {phase:<26} | {victim:<24} | {daemon:<74} | launcher: {launcher}"
    ));
}

// The launcher.

/// §3: it may serve without saying so, so it is left alone, and may still say so.
#[test]
fn the_launcher_is_killed_while_its_daemon_starts() {
    for end in End::BOTH {
        for says_so in [false, true] {
            let stage = Stage::new();
            let mut one = starting(&stage, &[]);
            one.launcher.kill();
            stage.log.wait_for("the launcher of generation 1");
            if says_so {
                say_started(&stage, one.daemon);
                assert_serves(&stage, one.daemon);
            }
            assert!(process::alive(one.daemon));
            end.of(&stage, &[one.daemon]);
        }
    }
    let became = "goes on, in standby; drained by its successor or the stop verb";
    row("starting", "launcher", became, "KILLed");
}

/// §3: two detached generations would each wait for a successor's word.
#[test]
fn the_launcher_is_killed_while_its_daemon_starts_beside_a_predecessor() {
    for end in End::BOTH {
        let stage = Stage::new();
        let (_, old) = standby(&stage, &[], STARTED);
        let mut two = starting(&stage, &[]);
        two.launcher.kill();
        wait_drained(&stage, &[two.daemon]);
        assert_serves(&stage, old);
        end.of(&stage, &[old]);
    }
    let became = "the new one is ended, its predecessor serves on";
    row("starting, with predecessor", "launcher", became, "KILLed");
}

#[test]
fn the_launcher_is_killed_while_its_daemon_serves() {
    for end in End::BOTH {
        let stage = Stage::new();
        let mut one = serving(&stage, &[], STARTED, BY_CHLD);
        one.launcher.kill();
        stage.log.wait_for_all(&[
            "it serves on until its successor is ready",
            &format!("{} got USR2", one.daemon),
        ]);
        assert_serves(&stage, one.daemon);
        end.of(&stage, &[one.daemon]);
    }
    let became = "serves on, in standby; drained by its successor or the stop verb";
    row("serving", "launcher", became, "KILLed");
}

#[test]
fn the_launcher_is_killed_while_its_daemon_prepares() {
    for end in End::BOTH {
        let stage = Stage::new();
        let mut one = serving(&stage, &[], STARTED, SILENT);
        one.launcher.signal(Signal::SIGTERM);
        stage.log.wait_for(&format!("{} got USR2", one.daemon));
        one.launcher.kill();
        stage.log.wait_for("the launcher of generation 1");
        assert_serves(&stage, one.daemon);
        end.of(&stage, &[one.daemon]);
        assert_eq!(stage.log.count("got USR2"), 1, "it was told already");
    }
    let became = "serves on, in standby; drained by its successor or the stop verb";
    row("preparing", "launcher", became, "KILLed");
}

/// R15: `sv force-stop` and its like; the keepers finish the stop, each with its daemon.
#[test]
fn the_launcher_is_killed_in_a_final_stop() {
    let stage = Stage::new();
    let options = ["--stop-timeout", "1s"];
    let (_, old) = standby(&stage, &options, STUBBORN);
    let mut two = serving(&stage, &options, STUBBORN, BY_CHLD);
    stage.log.wait_seen(&format!("{old} got TERM"));
    two.launcher.signal(Signal::SIGINT);
    stage.log.wait_for(&format!("{} got TERM", two.daemon));
    two.launcher.kill();
    wait_drained(&stage, &[old, two.daemon]);
    assert_nothing_left(&stage);
    for daemon in [old, two.daemon] {
        stage
            .log
            .wait_seen(&format!("(pid {daemon}) did not end in time; it is killed"));
    }
    let became = "it and the draining one are KILLed at the stop timeout";
    row("stopping", "launcher", became, "KILLed");
}

/// §3: its own daemon has ended, and an older one drains still.
#[test]
fn the_launcher_is_killed_while_it_lingers() {
    let stage = Stage::new();
    let options = ["--stop-timeout", "1s"];
    let (_, old) = standby(&stage, &options, STUBBORN);
    let mut two = serving(&stage, &options, STARTED, BY_CHLD);
    stage.log.wait_seen(&format!("{old} got TERM"));
    two.launcher.signal(Signal::SIGINT);
    stage
        .log
        .wait_for(&format!("generation 2 (pid {}) is stopped", two.daemon));
    two.launcher.kill();
    wait_drained(&stage, &[old, two.daemon]);
    assert_nothing_left(&stage);
    let became = "the one that still drained is KILLed at the stop timeout";
    row("lingering", "launcher", became, "KILLed");
}

// The keeper.

/// What is done with a generation in its second keeper's hands.
#[derive(Clone, Copy, Debug)]
enum After {
    Restart,
    Stop,
    Verb,
}

impl After {
    const ALL: [After; 3] = [After::Restart, After::Stop, After::Verb];

    /// The daemon prepares by message.
    fn of(self, stage: &Stage, generation: Generation) {
        let Generation {
            launcher, daemon, ..
        } = generation;
        match self {
            After::Restart => {
                launcher.signal(Signal::SIGTERM);
                stage.log.wait_seen(&format!("(pid {daemon}) is prepared"));
                assert_eq!(launcher.finish().code(), Some(0));
                assert_serves(stage, daemon);
                End::NextStart.of(stage, &[daemon]);
            }
            After::Stop => {
                launcher.signal(Signal::SIGINT);
                let ended = launcher.finish();
                assert_eq!(ended.code(), Some(0), "{}", stage.log.listing());
                wait_drained(stage, &[daemon]);
                assert_nothing_left(stage);
            }
            After::Verb => {
                verb(stage, &["stop"]).expect_success();
                assert_eq!(launcher.finish().code(), Some(0));
                wait_drained(stage, &[daemon]);
                assert_nothing_left(stage);
            }
        }
    }
}

/// R20, R22: the daemon says that it is ready when its first keeper has gone.
#[test]
fn the_keeper_is_killed_while_its_daemon_starts() {
    for after in After::ALL {
        let stage = Stage::new();
        let mut one = begin(&stage, &[], LATER, BY_MESSAGE);
        stage.log.wait_for("waits for USR1");
        lose_keeper(&stage, &mut one);
        hang_up(&stage, &one);
        assert_shown(&stage, &one, "starting");
        assert_eq!(stage.pid_in_file(), None);
        say_started(&stage, one.daemon);
        assert_serves(&stage, one.daemon);
        assert_shown(&stage, &one, "serving");
        after.of(&stage, one);
    }
    let became = "goes on; the next keeper hears that it is ready";
    row("starting", "keeper", became, "stays; 0 by restart or stop");
}

/// It could be for ever, as fast as it can fork.
#[test]
fn a_launcher_that_loses_every_keeper_gives_up() {
    let stage = Stage::new();
    let mut one = serving(&stage, &[], STARTED, BY_MESSAGE);
    for _ in 0..49 {
        lose_keeper(&stage, &mut one);
        hang_up(&stage, &one);
    }
    kill(one.keeper);
    let launcher = one.launcher.finish();
    assert_eq!(launcher.code(), Some(125), "{}", stage.log.listing());
    stage.log.wait_for("as 49 before it");
    assert_serves(&stage, one.daemon);
}

/// R12: the next keeper watches the PID file too.
#[test]
fn the_keeper_is_killed_before_its_daemon_writes_its_pid_file() {
    let stage = Stage::new();
    let seed = r#"trap 'echo $$ >"$SEAMLESS_PID_FILE"' USR1; echo "$$ waits for USR1""#;
    let mut one = begin(&stage, &[], seed, BY_MESSAGE);
    stage.log.wait_for("waits for USR1");
    lose_keeper(&stage, &mut one);
    hang_up(&stage, &one);
    signal(one.daemon, Signal::SIGUSR1);
    stage
        .log
        .wait_for(&format!("(pid {}) is ready after", one.daemon));
    assert_serves(&stage, one.daemon);
    After::Restart.of(&stage, one);
}

/// R20, §3: one that was not ready is stopped, and its predecessor serves.
#[test]
fn the_keeper_is_killed_while_its_daemon_starts_beside_a_predecessor() {
    for end in End::BOTH {
        let stage = Stage::new();
        let (_, old) = standby(&stage, &[], STARTED);
        let two = starting(&stage, &[]);
        kill(two.keeper);
        let ended = two.launcher.finish();
        // A failure: a supervisor that restarts what fails, and only that, shall try again.
        assert_eq!(ended.code(), Some(125), "{}", stage.log.listing());
        wait_drained(&stage, &[two.daemon]);
        assert_serves(&stage, old);
        end.of(&stage, &[old]);
    }
    let became = "the new one is ended, its predecessor serves on";
    row("starting, with predecessor", "keeper", became, "125");
}

#[test]
fn the_keeper_is_killed_while_its_daemon_serves() {
    for after in After::ALL {
        let stage = Stage::new();
        let mut one = serving(&stage, &[], TALKATIVE, BY_MESSAGE);
        // The next one may be lost just as well.
        for _ in 0..2 {
            lose_keeper(&stage, &mut one);
            hang_up(&stage, &one);
            assert_shown(&stage, &one, "serving");
        }
        signal(one.daemon, Signal::SIGUSR1);
        stage.log.wait_for(&format!("{} was heard", one.daemon));
        assert_eq!(status(&stage)[0]["status"], "all is well");
        assert_serves(&stage, one.daemon);
        after.of(&stage, one);
    }
    let became = "serves on, twice; its messages reach the next keeper";
    row("serving", "keeper", became, "stays; 0 by restart or stop");
}

/// R20: only the daemon's exit status is lost with its parent.
#[test]
fn a_daemon_ends_by_itself_after_its_keeper_was_killed() {
    let stage = Stage::new();
    let mut one = serving(&stage, &[], STARTED, BY_MESSAGE);
    lose_keeper(&stage, &mut one);
    hang_up(&stage, &one);
    kill(one.daemon);
    assert_eq!(one.launcher.finish().code(), Some(125));
    stage.log.wait_for("exit status unknown");
    assert_nothing_left(&stage);
    let became = "ends by itself later; how, nobody can tell";
    row("serving", "keeper", became, "125");
}

/// R8, R20: who never said that it was ready is not committed by another keeper, but ended.
#[test]
fn the_keeper_is_killed_while_one_that_was_never_ready_prepares() {
    let stage = Stage::new();
    // The keeper is KILLed within it.
    let options = ["--prepare-timeout", "2s"];
    let mut one = begin(&stage, &options, "", SILENT);
    freeze(one.keeper);
    one.launcher.signal(Signal::SIGTERM);
    signal(one.keeper, Signal::SIGCONT);
    stage.log.wait_for(&format!("{} got USR2", one.daemon));
    lose_keeper(&stage, &mut one);
    stage.log.wait_for(&format!("{} got USR2", one.daemon));
    assert_eq!(stage.pid_in_file(), None, "{}", stage.log.listing());
    stage
        .log
        .wait_seen("and never said that it is ready; it is ended");
    stage.log.wait_seen(&format!("{} got TERM", one.daemon));
    assert_eq!(one.launcher.finish().code(), Some(0));
    assert_nothing_left(&stage);
}

/// R8, R20: the restart that had begun still happens.
#[test]
fn the_keeper_is_killed_while_its_daemon_prepares() {
    // It answers when it is asked once more; or never, and is detached all the same.
    let second_time = format!("if [ -n \"$ASKED\" ]; then {BY_MESSAGE}; fi; ASKED=1");
    for (prepare, options, words) in [
        (second_time.as_str(), [].as_slice(), "is prepared"),
        (
            SILENT,
            // The keeper is KILLed within it.
            &["--prepare-timeout", "2s"],
            "did not answer within",
        ),
    ] {
        for end in End::BOTH {
            let stage = Stage::new();
            let mut one = serving(&stage, options, STARTED, prepare);
            // Nothing of it may be over before the keeper is lost.
            freeze(one.keeper);
            one.launcher.signal(Signal::SIGTERM);
            signal(one.keeper, Signal::SIGCONT);
            stage.log.wait_for(&format!("{} got USR2", one.daemon));
            lose_keeper(&stage, &mut one);
            stage.log.wait_for(&format!("(pid {}) {words}", one.daemon));
            let ended = one.launcher.finish();
            assert_eq!(ended.code(), Some(0), "{}", stage.log.listing());
            assert_serves(&stage, one.daemon);
            end.of(&stage, &[one.daemon]);
        }
    }
    let became = "is asked once more, and serves on in standby";
    row("preparing", "keeper", became, "0, the restart goes on");
}

/// R6, R20: what has answered, or was to be let go unasked, is let go by the next keeper; nobody is asked who should not be.
#[test]
fn the_keeper_is_killed_when_it_lets_go_of_the_lock() {
    for (ready, asked) in [(STARTED, true), (PLAIN, false)] {
        let stage = Stage::new();
        let mut one = serving(&stage, &[], ready, BY_MESSAGE);
        // The next one is the unlock.
        let strace = dies_of(&stage, one.keeper, "flock", 1);
        one.launcher.signal(Signal::SIGTERM);
        let line = stage.log.wait_for("goes on in its place");
        let (_, rest) = line.split_once("this one (pid ").unwrap();
        one.keeper = Pid::from_raw(rest.split(')').next().unwrap().parse().unwrap());
        let ended = one.launcher.finish();
        assert_eq!(ended.code(), Some(0), "{}", stage.log.listing());
        strace.finish();
        assert_serves(&stage, one.daemon);
        let prepares = stage.log.count(&format!("{} got USR2", one.daemon));
        assert_eq!(prepares > 0, asked, "{}", stage.log.listing());
        End::NextStart.of(&stage, &[one.daemon]);
    }
    row(
        "parting",
        "keeper",
        "serves on in standby",
        "0, the restart goes on",
    );
}

/// R15, R20: a stop comes before a keeper has done what it was told at the commit, and that keeper never will.
#[test]
fn a_keeper_that_has_not_heard_of_the_commit_is_killed_in_a_stop() {
    let stage = Stage::new();
    let (keeper, old) = standby(&stage, &[], STARTED);
    let two = starting(&stage, &[]);
    freeze(keeper);
    say_started(&stage, two.daemon);
    two.launcher.signal(Signal::SIGINT);
    stage.log.wait_for(&format!("{} got TERM", two.daemon));
    kill(keeper);
    wait_drained(&stage, &[old]);
    let ended = two.launcher.finish();
    assert_eq!(ended.code(), Some(0), "{}", stage.log.listing());
    wait_drained(&stage, &[two.daemon]);
    assert_nothing_left(&stage);
    let became = "is told by the successor's keeper, once, and drains";
    row(
        "standby, told of the commit",
        "keeper, in a stop",
        became,
        "had left",
    );
}

#[test]
fn the_keeper_is_killed_in_standby() {
    for end in End::BOTH {
        let stage = Stage::new();
        let (keeper, daemon) = standby(&stage, &[], STARTED);
        kill(keeper);
        assert_serves(&stage, daemon);
        end.of(&stage, &[daemon]);
    }
    let became = "serves on; drained by pidfd";
    row("standby", "keeper", became, "had left");
}

/// §6, R11: the newcomer shows its own socket at once, and ends the predecessor itself.
#[test]
fn the_keeper_is_killed_in_standby_while_its_successor_starts() {
    let stage = Stage::new();
    let (keeper, old) = standby(&stage, &[], STARTED);
    let two = starting(&stage, &[]);
    kill(keeper);
    stage
        .log
        .wait_for("is gone; this one sees to it that it ends");
    hang_up(&stage, &two);
    assert_shown(&stage, &two, "starting");
    assert_eq!(status(&stage)[1]["pid"], old.as_raw());
    assert_serves(&stage, old);
    say_started(&stage, two.daemon);
    wait_drained(&stage, &[old]);
    assert_serves(&stage, two.daemon);
    stop(&stage, two, &[old]);
    let became = "serves on until its successor is ready, which drains it";
    row("standby, with successor", "keeper", became, "had left");
}

/// R11: whoever loses a keeper takes over its deadlines.
#[test]
fn the_keeper_is_killed_while_its_daemon_drains() {
    let stage = Stage::new();
    let (keeper, old) = standby(&stage, &["--drain-timeout", "4s"], STUBBORN);
    let two = serving(&stage, &[], STARTED, BY_CHLD);
    stage.log.wait_seen(&format!("{old} got TERM"));
    kill(keeper);
    stage
        .log
        .wait_seen("is gone; this one sees to it that it ends");
    wait_drained(&stage, &[old]);
    stage
        .log
        .wait_seen("its keeper does not see to it; it is killed");
    stop(&stage, two, &[old]);
    let became = "KILLed by the successor's keeper at its own drain timeout";
    row("draining", "keeper", became, "had left");
}

/// R15: nothing is told twice, whoever looks after it.
#[test]
fn a_drain_outlives_both_keepers() {
    for end in End::BOTH {
        let stage = Stage::new();
        let (keeper, old) = standby(&stage, &[], HELD);
        let mut two = serving(&stage, &[], STARTED, BY_CHLD);
        stage.log.wait_seen(&format!("{old} got TERM"));
        hang_up(&stage, &two);
        kill(keeper);
        kill_both(&mut two);
        let hold = stage.scratch.join("pipes/hold");
        let release = thread::spawn(move || fs::write(hold, "now\n").unwrap());
        release.join().unwrap();
        process::wait_exit(old);
        end.of(&stage, &[old, two.daemon]);
    }
    let became = "finishes in its own time, told once";
    row("draining", "both keepers, launcher", became, "KILLed");
}

/// R20: a stop goes on where the lost keeper was, its deadline included.
#[test]
fn the_keeper_is_killed_in_a_final_stop() {
    let stage = Stage::new();
    let options = ["--stop-timeout", "4s"];
    let (_, old) = standby(&stage, &options, STUBBORN);
    let mut two = serving(&stage, &options, STUBBORN, BY_CHLD);
    stage.log.wait_seen(&format!("{old} got TERM"));
    two.launcher.signal(Signal::SIGINT);
    stage.log.wait_for(&format!("{} got TERM", two.daemon));
    // Between the signal and the record a second signal would be the lesser evil.
    hang_up(&stage, &two);
    lose_keeper(&stage, &mut two);
    let ended = two.launcher.finish();
    assert_eq!(ended.code(), Some(0), "{}", stage.log.listing());
    for daemon in [old, two.daemon] {
        assert!(!process::alive(daemon), "{}", stage.log.listing());
    }
    wait_drained(&stage, &[old, two.daemon]);
    assert_nothing_left(&stage);
    let became = "it and the draining one are KILLed at the stop timeout";
    row("stopping", "keeper", became, "0, when both have ended");
}

/// R15, R20: the launcher leaves when all are gone, whoever looks after them.
#[test]
fn the_keeper_is_killed_while_it_lingers() {
    let stage = Stage::new();
    let options = ["--stop-timeout", "4s"];
    let (_, old) = standby(&stage, &options, STUBBORN);
    let two = serving(&stage, &options, STARTED, BY_CHLD);
    stage.log.wait_seen(&format!("{old} got TERM"));
    two.launcher.signal(Signal::SIGINT);
    stage
        .log
        .wait_for(&format!("generation 2 (pid {}) is stopped", two.daemon));
    // No file tells of it any more: what it goes on with is no longer its daemon.
    while stage.pid_in_file().is_some() {
        thread::yield_now();
    }
    kill(two.keeper);
    let ended = two.launcher.finish();
    let older_left = process::alive(old);
    wait_drained(&stage, &[old, two.daemon]);
    assert_nothing_left(&stage);
    let left = format!("{:?}, {}", ended.code(), stage.log.listing());
    assert!(!older_left, "the launcher left too early: {left}");
    assert_eq!(ended.code(), Some(0), "{left}");
    let became = "the one that still drained is KILLed at the stop timeout";
    row("lingering", "keeper", became, "0");
}

/// The keeper dies of its `which`th rename from now on.
fn dies_of_rename(stage: &Stage, keeper: Pid, which: usize) -> Spawned {
    dies_of(stage, keeper, "rename,renameat,renameat2", which)
}

/// It is KILLed in place of the system call.
fn dies_of(stage: &Stage, keeper: Pid, calls: &str, which: usize) -> Spawned {
    let strace = stage
        .spawn(tool("strace", "strace"))
        .args(["-e", &format!("trace={calls}")])
        .args(["-e", &format!("inject={calls}:signal=KILL:when={which}")])
        .args(["-o", "/dev/null", "-p", &keeper.to_string()])
        .start();
    stage.log.wait_for(&format!("Process {keeper} attached"));
    strace
}

/// A generation that says that it is ready beside a predecessor, and whose keeper dies of a step of the commit.
struct Commit {
    stage: Stage,
    old: Pid,
    new: Generation,
    killed: bool,
}

fn commit_until(step: usize, launcher_too: bool) -> Commit {
    let stage = Stage::new();
    let (_, old) = standby(&stage, &[], STARTED);
    let new = starting(&stage, &[]);
    let strace = dies_of_rename(&stage, new.keeper, step);
    if launcher_too {
        freeze(new.launcher.pid());
    }
    signal(new.daemon, Signal::SIGUSR1);
    let whole = |stage: &Stage| !process::alive(old) && stage.generations().len() == 1;
    while process::alive(new.keeper) && !whole(&stage) {
        thread::yield_now();
    }
    let killed = !process::alive(new.keeper);
    drop(strace);
    Commit {
        stage,
        old,
        new,
        killed,
    }
}

/// Waits until one of two has ended; gives the other one.
fn survivor(one: Pid, other: Pid) -> Pid {
    let handles = [one, other].map(Handle::open);
    let [Some(first), Some(second)] = &handles else {
        return if handles[0].is_some() { one } else { other };
    };
    let deadline = Instant::now() + support::PATIENCE;
    let ended = process::wait_any_readable(&[first.as_fd(), second.as_fd()], deadline);
    match ended {
        Some(0) => other,
        Some(_) => one,
        None => panic!("neither {one} nor {other} has ended"),
    }
}

/// R20: every write of a commit may be the keeper's last. Whichever generations the next keeper finds ready, one is
/// left, and serves.
#[test]
fn the_keeper_is_killed_at_each_step_of_a_commit() {
    let mut step = 1;
    loop {
        let Commit {
            stage,
            old,
            mut new,
            killed,
        } = commit_until(step, false);
        if !killed {
            stop(&stage, new, &[old]);
            break;
        }
        stage.log.wait_seen("goes on in its place");
        let serves = survivor(old, new.daemon);
        assert_serves(&stage, serves);
        if serves == old {
            assert_eq!(new.launcher.finish().code(), Some(125));
            End::NextStart.of(&stage, &[old]);
        } else {
            hang_up(&stage, &new);
            new.keeper = only_child(new.launcher.pid());
            assert_shown(&stage, &new, "serving");
            stop(&stage, new, &[old]);
        }
        let became = format!(
            "generation {} serves on alone",
            if serves == old { 1 } else { 2 }
        );
        row(
            &format!("commit, write {step}"),
            "keeper",
            &became,
            if serves == old { "125" } else { "stays" },
        );
        step += 1;
    }
    assert!(step > 3, "PID file, record, socket: {step}");
}

/// R20: there may be two that are ready, and both are predecessors.
#[test]
fn keeper_and_launcher_are_killed_at_each_step_of_a_commit() {
    let mut step = 1;
    loop {
        let Commit {
            stage,
            old,
            mut new,
            killed,
        } = commit_until(step, true);
        new.launcher.kill();
        if !killed {
            End::Verb.of(&stage, &[new.daemon]);
            break;
        }
        let next = starting(&stage, &[]);
        let serves: Vec<Pid> = [old, new.daemon]
            .into_iter()
            .filter(|daemon| process::alive(*daemon) && terms(&stage, *daemon) == 0)
            .collect();
        assert!(!serves.is_empty(), "{}", stage.log.listing());
        say_started(&stage, next.daemon);
        stop(&stage, next, &[old, new.daemon]);
        let became = format!(
            "{} of the two serve until the next one is ready",
            serves.len()
        );
        row(&format!("commit, write {step}"), "both", &became, "KILLed");
        step += 1;
    }
    assert!(step > 3, "PID file, record, socket: {step}");
}

// As PID 1.

/// R17, R20: whoever inherits the daemon knows how it ended.
#[test]
fn the_keeper_is_killed_under_a_launcher_that_is_pid_1() {
    let stage = Stage::new();
    let ready = format!("trap 'exit 7' USR1; {STARTED}");
    let outside = stage
        .spawn(tool("unshare", "util-linux"))
        .args(["--pid", "--fork", "--mount-proc", "--kill-child", "--"])
        .arg(support::program())
        .arg("--pid-file")
        .arg(&stage.pid_file)
        .arg("--")
        .args(stage.sh(DAEMON))
        .env("READY", ready)
        .start();
    stage.log.wait_for(" is started");
    let launcher = only_child(outside.pid());
    let inside = process::status_field(launcher, "NSpid").unwrap();
    assert_eq!(inside.split_whitespace().last(), Some("1"));
    let keeper = only_child(launcher);
    let daemon = only_child(keeper);
    kill(keeper);
    stage.log.wait_for("goes on in its place");
    assert_eq!(process::children(launcher).len(), 2, "keeper and daemon");
    signal(launcher, Signal::SIGHUP);
    stage.log.wait_for("got HUP");
    signal(daemon, Signal::SIGUSR1);
    stage.log.wait_for("died: exit status 7");
    assert_eq!(outside.finish().code(), Some(7));
    assert_nothing_left(&stage);
    row(
        "serving, as PID 1",
        "keeper",
        "serves on; exits with 7 later",
        "7, the daemon's",
    );
}

// Both.

#[test]
fn keeper_and_launcher_are_killed_while_the_daemon_starts() {
    for end in End::BOTH {
        let stage = Stage::new();
        let mut one = starting(&stage, &[]);
        kill_both(&mut one);
        end.of(&stage, &[one.daemon]);
    }
    let became = "goes on unseen; ended by the next start, before anything else";
    row("starting", "both", became, "KILLed");
}

/// R20: of two that lost everybody only the one that was ready is a predecessor.
#[test]
fn keeper_and_launcher_are_killed_while_the_daemon_starts_beside_a_predecessor() {
    for end in End::BOTH {
        let stage = Stage::new();
        let (old_keeper, old) = standby(&stage, &[], STARTED);
        let mut two = starting(&stage, &[]);
        kill_both(&mut two);
        kill(old_keeper);
        assert_serves(&stage, old);
        if matches!(end, End::NextStart) {
            let three = starting(&stage, &[]);
            wait_drained(&stage, &[two.daemon]);
            assert_serves(&stage, old);
            say_started(&stage, three.daemon);
            stop(&stage, three, &[old, two.daemon]);
        } else {
            end.of(&stage, &[old, two.daemon]);
        }
    }
    let became = "the new one is ended by the next start, its predecessor serves until then";
    row(
        "starting, with predecessor",
        "both, and the old keeper",
        became,
        "KILLed",
    );
}

#[test]
fn keeper_and_launcher_are_killed_while_the_daemon_serves() {
    for end in End::BOTH {
        let stage = Stage::new();
        let mut one = serving(&stage, &[], STARTED, BY_CHLD);
        kill_both(&mut one);
        assert_serves(&stage, one.daemon);
        let told = verb(&stage, &["status"]);
        assert_eq!(told.code(), Some(0), "by the record: {}", told.stdout);
        assert!(told.stdout.contains(&format!("pid {}", one.daemon)));
        if matches!(end, End::NextStart) {
            let two = starting(&stage, &[]);
            assert_serves(&stage, one.daemon);
            say_started(&stage, two.daemon);
            stop(&stage, two, &[one.daemon]);
        } else {
            end.of(&stage, &[one.daemon]);
        }
    }
    let became = "serves on; drained when the next one is ready, or by the stop verb";
    row("serving", "both", became, "KILLed");
}

#[test]
fn keeper_and_launcher_are_killed_in_a_restart() {
    for end in End::BOTH {
        let stage = Stage::new();
        let mut one = serving(&stage, &[], STARTED, SILENT);
        one.launcher.signal(Signal::SIGTERM);
        stage.log.wait_for(&format!("{} got USR2", one.daemon));
        kill_both(&mut one);
        assert_serves(&stage, one.daemon);
        end.of(&stage, &[one.daemon]);
    }
    let became = "serves on; drained when the next one is ready, or by the stop verb";
    row("preparing", "both", became, "KILLed");
}

/// R20: a stop that nobody is left to finish is finished by whoever comes, at its own deadline.
#[test]
fn keeper_and_launcher_are_killed_in_a_final_stop() {
    for end in End::BOTH {
        let stage = Stage::new();
        let mut one = serving(&stage, &["--stop-timeout", "4s"], STUBBORN, BY_CHLD);
        one.launcher.signal(Signal::SIGINT);
        stage.log.wait_for(&format!("{} got TERM", one.daemon));
        hang_up(&stage, &one);
        kill_both(&mut one);
        // The time that it has left is in the record; it would be 30 s otherwise.
        end.of(&stage, &[one.daemon]);
    }
    let became = "KILLed at its stop timeout by the next start or the stop verb";
    row("stopping", "both", became, "KILLed");
}

// A keeper that is stopped for good.

/// R11: the successor waits for it for a moment, and does without it.
#[test]
fn a_keeper_is_stopped_for_good_in_standby() {
    let stage = Stage::new();
    let (keeper, old) = standby(&stage, &[], STARTED);
    freeze(keeper);
    let two = starting(&stage, &[]);
    stage
        .log
        .wait_seen("did not answer within 2 s; the record is believed instead");
    assert_serves(&stage, old);
    say_started(&stage, two.daemon);
    assert_eq!(stage.pid_in_file(), Some(two.daemon));
    stage
        .log
        .wait_for("does not answer; this one does its work");
    wait_drained(&stage, &[old]);
    process::wait_exit(keeper);
    stage.log.wait_for("has not left; it is killed");
    stop(&stage, two, &[old]);
    let became = "serves on until its successor is ready; drained by pidfd";
    row("standby", "keeper by STOP", became, "had left");
}

/// R19: whoever holds the lock and does not answer is KILLed by the record.
#[test]
fn a_keeper_is_stopped_for_good_and_its_launcher_killed() {
    let stage = Stage::new();
    let mut one = serving(&stage, &[], STARTED, BY_CHLD);
    freeze(one.keeper);
    one.launcher.kill();
    let two = starting(&stage, &[]);
    stage
        .log
        .wait_seen("its keeper does not answer: it is killed");
    process::wait_exit(one.keeper);
    assert_serves(&stage, one.daemon);
    say_started(&stage, two.daemon);
    stop(&stage, two, &[one.daemon]);
    let became = "serves on until the next one is ready";
    row("serving", "keeper by STOP, launcher", became, "KILLed");
}

/// Each waits for keepers that do not answer, so they wait at the same time.
#[test]
fn the_stop_verb_ends_what_has_a_stopped_keeper() {
    thread::scope(|scope| {
        scope.spawn(stop_a_standby_with_a_stopped_keeper);
        scope.spawn(|| stop_a_supervised_one_with_a_stopped_keeper(false));
        scope.spawn(|| stop_a_supervised_one_with_a_stopped_keeper(true));
    });
    let became = "ended by the stop verb, which KILLs the keeper";
    row("standby", "keeper by STOP", became, "had left");
    row("serving", "keeper by STOP", became, "0");
    row("serving", "keeper by STOP, launcher", became, "KILLed");
}

fn stop_a_standby_with_a_stopped_keeper() {
    let stage = Stage::new();
    let (keeper, daemon) = standby(&stage, &[], STARTED);
    freeze(keeper);
    let stopped = verb(&stage, &["stop"]).expect_success();
    let words = "does not answer within 2 s; it is killed";
    assert!(stopped.stderr.contains(words), "{}", stopped.stderr);
    wait_drained(&stage, &[daemon]);
    assert_nothing_left(&stage);
}

/// A launcher that lives forks another keeper, which does the rest.
fn stop_a_supervised_one_with_a_stopped_keeper(launcher_too: bool) {
    let stage = Stage::new();
    let mut one = serving(&stage, &[], STARTED, BY_CHLD);
    freeze(one.keeper);
    if launcher_too {
        one.launcher.kill();
    }
    verb(&stage, &["stop"]).expect_success();
    let ended = one.launcher.finish();
    if !launcher_too {
        assert_eq!(ended.code(), Some(0), "{}", stage.log.listing());
    }
    wait_drained(&stage, &[one.daemon]);
    assert_nothing_left(&stage);
}

// A supervisor.

fn service(stage: &Stage, options: &[&str]) -> Service {
    let words = [
        support::program().to_str().unwrap().to_owned(),
        "--pid-file".to_owned(),
        stage.pid_file.to_str().unwrap().to_owned(),
    ];
    let options = options.iter().map(|word| (*word).to_owned());
    let all = words.into_iter().chain(options);
    Service::new(all.chain(["--".to_owned()]).chain(stage.sh(DAEMON)))
        .env("NOTHING", stage.scratch.join("nothing"))
        .env("PIPES", stage.scratch.join("pipes"))
        .env("SEAMLESS_RUN", support::program())
        .env("READY", STARTED)
        .env("PREPARE", BY_CHLD)
}

/// The daemon that runit's launcher has started, when it serves.
fn served(stage: &Stage) -> Pid {
    let daemon = stage.up();
    stage.log.wait_for(&format!("{daemon} is started"));
    daemon
}

/// R19: the old launcher has lost its parent, whatever process has inherited it, and is told to leave.
#[test]
fn a_supervisor_is_killed_and_started_again() {
    let stage = Stage::new();
    let service = service(&stage, &["--orphan-timeout", "2s"]);
    let mut runit = Runit::start(&stage.scratch, &stage.log, &service);
    let old = served(&stage);
    let launcher = runit.wait_main_pid();
    runit.shutdown();
    assert!(process::alive(launcher));
    assert_serves(&stage, old);

    let mut runit = Runit::start(&stage.scratch, &stage.log, &service);
    let new = served(&stage);
    stage
        .log
        .wait_seen("is gone, and another one has started a launcher");
    process::wait_exit(launcher);
    wait_drained(&stage, &[old]);
    assert_eq!(stage.pid_in_file(), Some(new));
    assert_eq!(stage.log.count("is supervised already"), 0);

    // Until it comes back: a stop verb is told from a restart by the orphan timeout at the latest.
    runit.run(Verb::Down);
    wait_drained(&stage, &[new]);
    stage.scratch.wait_no_processes_but(&runit.own_processes());
    runit.shutdown();
    assert_nothing_left(&stage);
    let became = "serves until the next supervisor's is ready";
    row("serving", "supervisor", became, "0, told to leave");
}

/// R19: nobody takes a service from a supervisor that lives.
#[test]
fn a_second_launcher_finds_the_first_one_supervised() {
    let stage = Stage::new();
    let mut runit = Runit::start(&stage.scratch, &stage.log, &service(&stage, &[]));
    let daemon = served(&stage);
    let launcher = runit.wait_main_pid();
    let record = stage.record();
    let second = support::Spawn::new(&stage.scratch, support::program())
        .arg("--pid-file")
        .arg(&stage.pid_file)
        .args(["--", "sh", "-c", "echo never"])
        .finish();
    assert_eq!(second.code(), Some(125));
    for words in [
        format!("under launcher {launcher} "),
        format!("generation 1 (pid {daemon})"),
    ] {
        assert!(second.stderr.contains(&words), "{}", second.stderr);
    }
    assert_eq!(second.stdout, "");
    assert_serves(&stage, daemon);
    assert_eq!(stage.log.count(&format!("{daemon} got ")), 0);
    assert_eq!(stage.record(), record);
    assert_eq!(runit.wait_main_pid(), launcher);

    // It has not been cut off from its files, either.
    let shown = status(&stage);
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0]["launcher"], launcher.as_raw());
    runit.shutdown();
    verb(&stage, &["stop"]).expect_success();
    wait_drained(&stage, &[daemon]);
    assert_nothing_left(&stage);
}

// Attempts.

/// After a new launcher's start, its end: from before its keeper to a daemon that is about to be ready.
const MOMENTS: [u64; 9] = [0, 1, 2, 3, 4, 5, 7, 10, 15];

/// Promise 3: an attempt may be KILLed at any moment.
#[test]
fn attempts_are_killed_at_once() {
    let stage = Stage::new();
    let (_, old) = standby(&stage, &[], STARTED);
    let mut ends = Vec::new();
    for keeper_only in [false, true] {
        for moment in MOMENTS {
            let mut launcher = stage
                .seamless_run(&["--"])
                // One that has no child yet, at whatever moment it is ended.
                .args(stage.sh("exec cat \"$NOTHING\""))
                .start();
            thread::sleep(Duration::from_millis(moment));
            if keeper_only {
                let mut children = process::children(launcher.pid());
                while children.is_empty() {
                    children = process::children(launcher.pid());
                }
                kill(children[0]);
            } else {
                launcher.kill();
            }
            ends.push(launcher.finish().status.to_string());
            stage.scratch.wait_no_processes_but(&[old, parent(old)]);
            assert_serves(&stage, old);
        }
    }
    End::NextStart.of(&stage, &[old]);
    ends.sort();
    ends.dedup();
    let became = "the new one ends, its predecessor serves on";
    row(
        "attempt, at once",
        "launcher, or keeper",
        became,
        &ends.join(", "),
    );
}

fn parent(pid: Pid) -> Pid {
    process::Process::read(pid).unwrap().parent
}

/// R19: one of two wins, and the other one says so.
#[test]
fn two_are_started_at_once() {
    for _ in 0..5 {
        let stage = Stage::new();
        let (_, old) = standby(&stage, &[], STARTED);
        let mut both = [(); 2].map(|()| {
            let run = stage.seamless_run(&["--"]).args(stage.sh(DAEMON));
            run.env("READY", STARTED).env("PREPARE", BY_CHLD).start()
        });
        let deadline = Instant::now() + support::PATIENCE;
        let handles = both.each_ref().map(|one| Handle::open(one.pid()).unwrap());
        let ends = handles.each_ref().map(AsFd::as_fd);
        let loser = process::wait_any_readable(&ends, deadline).unwrap();
        assert_eq!(both[loser].wait().code(), Some(125));
        let new = served(&stage);
        let [first, second] = both;
        let winner = if loser == 0 { second } else { first };
        let new = Generation {
            keeper: only_child(winner.pid()),
            launcher: winner,
            daemon: new,
        };
        wait_drained(&stage, &[old]);
        assert_serves(&stage, new.daemon);
        stop(&stage, new, &[old]);
        assert_eq!(stage.log.count("up "), 2, "{}", stage.log.listing());
    }
}

// Under load.

const SLOW: SlowSpec = SlowSpec {
    clients: 2,
    delay: Duration::from_millis(500),
};
const CLIENTS: usize = 4;
const REQUESTS_PER_SECOND: u32 = 500;

/// `http_unix` under the launcher, when it is ready.
fn serving_http(stage: &Stage, socket: &Path) -> Generation {
    let launcher = stage
        .seamless_run(&["--"])
        .arg(support::example("http_unix"))
        .arg("--socket")
        .arg(socket)
        .start();
    let line = stage.log.wait_for(" is ready after ");
    let (_, rest) = line.split_once("(pid ").unwrap();
    let daemon = Pid::from_raw(rest.split(')').next().unwrap().parse().unwrap());
    while !stage
        .generations()
        .iter()
        .any(|entry| entry.contains(&format!(" state=ready daemon={daemon}:")))
    {
        // It is said before it is written.
        thread::yield_now();
    }
    let keeper = only_child(launcher.pid());
    Generation {
        launcher,
        keeper,
        daemon,
    }
}

fn answers(load: &Load, daemon: Pid) {
    let pid = u32::try_from(daemon.as_raw()).unwrap();
    let answer = load.wait_answer(support::PATIENCE, |answer| answer.pid == pid);
    assert!(
        answer.is_some(),
        "{daemon} does not answer: {}",
        load.report()
    );
}

/// Promise 2: the keeper is KILLed again and again, and the one in standby is stopped for good; not one request fails.
#[test]
fn no_request_is_refused_whatever_becomes_of_the_keepers() {
    let stage = Stage::new();
    let socket = stage.scratch.join("app.sock");
    let mut one = serving_http(&stage, &socket);
    let target = Target::Unix(socket.clone());
    let load = Load::start_at_rate(target, CLIENTS, Some(SLOW), REQUESTS_PER_SECOND);
    assert!(load.wait_slow_in_flight(support::PATIENCE, SLOW.clients));
    answers(&load, one.daemon);

    // In serving, and then restarted by the keeper that took over.
    for _ in 0..2 {
        lose_keeper(&stage, &mut one);
        wait_at_work(&stage, &one);
    }
    one.launcher.signal(Signal::SIGTERM);
    stage
        .log
        .wait_for(&format!("(pid {}) is prepared", one.daemon));
    assert_eq!(one.launcher.finish().code(), Some(0));

    // In standby, for good.
    freeze(one.keeper);
    let mut two = serving_http(&stage, &socket);
    answers(&load, two.daemon);
    process::wait_exit(one.daemon);
    process::wait_exit(one.keeper);

    // Everybody but the daemon.
    kill_both(&mut two);
    let three = serving_http(&stage, &socket);
    answers(&load, three.daemon);
    process::wait_exit(two.daemon);

    let report = load.stop();
    assert_eq!(report.failed(), 0, "{report}\n{}", stage.log.listing());
    assert_eq!(report.pids().len(), 3, "{report}");
    assert!(report.slow.finished() > 0);
    three.launcher.signal(Signal::SIGINT);
    assert_eq!(three.launcher.finish().code(), Some(0));
    assert_nothing_left(&stage);
    tell(&format!(
        "recovery | under load: {} requests, {} failed; {} slow ones, {} cut off",
        report.fast.finished(),
        report.fast.failed(),
        report.slow.finished(),
        report.slow.failed()
    ));
}
