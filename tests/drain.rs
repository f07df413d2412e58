//! `--drain-signal` and `--drain-group`: how a daemon is told to finish, by whomever.

mod group;
mod refusals;

pub(crate) use self::refusals::assert_refused;

use nix::sys::signal::Signal;

use crate::puppet::{Generation, Puppet, SOON};
use crate::scene::{kill, signal};
use crate::stage::Stage;
use crate::support::process;

/// What servers understand as a graceful end, and what else one may choose. WINCH does nothing to whoever does not
/// catch it.
const SIGNALS: [&str; 5] = ["QUIT", "USR1", "WINCH", "HUP", "RTMIN+1"];

/// A daemon that drains by this signal, and dies of no other one.
fn obeys<'a>(name: &'a str, traps: &'a str) -> [(&'a str, &'a str); 2] {
    [("TRAPS", traps), ("EXITS", name)]
}

/// It has ended by this signal, which came once, and by no other one.
#[track_caller]
fn assert_drained(stage: &Stage, one: &Puppet, name: &str) {
    process::wait_exit(one.pid);
    let lines = stage.settled().lines();
    let start = format!("{} got ", one.pid);
    let got: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.strip_prefix(&start))
        .collect();
    assert_eq!(got, [name], "{}", stage.log.listing());
}

#[test]
fn at_the_commit_and_at_a_stop() {
    for name in SIGNALS {
        let stage = Stage::new();
        let option = format!("--drain-signal={name}");
        let traps = format!("TERM {name}");
        let environment = obeys(name, &traps);
        let old = stage.standby(&[&option], &environment);
        let two = stage.serving(&[&option], &environment);
        assert_drained(&stage, &old, name);
        let line = stage
            .log
            .wait_seen(&format!("generation 1 (pid {}) is told to drain", old.pid));
        assert!(line.contains(&format!("({name})")), "{line}");
        stage.log.wait_seen(&format!(
            "generation 1 (pid {}) is gone: exit status 0",
            old.pid
        ));

        let told = stage.answer(&two.daemon, "os.environ['SEAMLESS_DRAIN_SIGNAL']");
        assert_eq!(told, name);
        let Generation {
            launcher, daemon, ..
        } = two;
        launcher.signal(Signal::SIGINT);
        assert_eq!(launcher.finish().code(), Some(0), "{}", stage.log.listing());
        assert_drained(&stage, &daemon, name);
        let line = stage.log.wait_seen("stop: generation 2");
        assert!(line.contains(&format!("told to drain ({name})")), "{line}");
        stage.scratch.wait_no_processes_but(&[]);
    }
}

#[test]
fn it_may_be_spelled_otherwise() {
    for (spelled, name) in [
        ("SIGQUIT", "QUIT"),
        ("quit", "QUIT"),
        ("3", "QUIT"),
        ("rtmin+1", "RTMIN+1"),
        ("15", "TERM"),
    ] {
        let stage = Stage::new();
        let traps = format!("TERM {name}");
        let option = format!("--drain-signal={spelled}");
        let one = stage.serving(&[&option], &obeys(name, &traps));
        // TERM goes without saying.
        let told = stage.answer(&one.daemon, "os.environ.get('SEAMLESS_DRAIN_SIGNAL')");
        assert_eq!(told, if name == "TERM" { "None" } else { name });
        one.launcher.signal(Signal::SIGINT);
        assert_eq!(one.launcher.finish().code(), Some(0));
        assert_drained(&stage, &one.daemon, name);
    }
}

/// Each has its own: a new configuration is no reason to send the old daemon something else.
#[test]
fn generations_with_different_signals() {
    let stage = Stage::new();
    let traps = "TERM QUIT USR1";
    let first = stage.standby(&["--drain-signal=QUIT"], &obeys("QUIT", traps));
    let second = stage.serving(&[], &obeys("TERM", traps));
    assert_drained(&stage, &first, "QUIT");
    let second = stage.detach(second);
    let third = stage.serving(&["--drain-signal=USR1"], &obeys("USR1", traps));
    assert_drained(&stage, &second, "TERM");
    let third = stage.detach(third);
    // The same where nobody but the record can tell.
    let keeper = process::Process::read(third.pid).unwrap().parent;
    kill(keeper);
    let fourth = stage.serving(&["--drain-signal=QUIT"], &obeys("QUIT", traps));
    assert_drained(&stage, &third, "USR1");
    stage.stop(fourth.launcher, &[]);
}

/// Whoever does not listen to it gets TERM, and would not even notice WINCH.
#[test]
fn a_daemon_that_does_not_handle_it() {
    for name in SIGNALS {
        let stage = Stage::new();
        let option = format!("--drain-signal={name}");
        let old = stage.standby(&[&option], &[]);
        let two = stage.serving(&[&option], &[]);
        assert_drained(&stage, &old, "TERM");
        let line = stage
            .log
            .wait_seen(&format!("generation 1 (pid {}) is told to drain", old.pid));
        assert!(line.contains("(TERM: it does not handle "), "{line}");
        two.launcher.signal(Signal::SIGINT);
        assert_eq!(two.launcher.finish().code(), Some(0));
        assert_drained(&stage, &two.daemon, "TERM");
        let line = stage.log.wait_seen("stop: generation 2");
        let why = "told to drain (TERM: it does not handle ";
        assert!(line.contains(why), "{line}");
    }
}

/// The same, where its keeper was KILLed, and the successor or the verb has to tell it.
#[test]
fn a_daemon_that_does_not_handle_it_and_has_no_keeper() {
    for name in ["WINCH", "QUIT"] {
        let stage = Stage::new();
        let option = format!("--drain-signal={name}");
        let one = stage.serving(&[&option], &[]);
        let keeper = one.keeper;
        let old = stage.detach(one);
        kill(keeper);
        let two = stage.serving(&[&option], &[]);
        assert_drained(&stage, &old, "TERM");
        let keeper = two.keeper;
        let old = stage.detach(two);
        kill(keeper);
        assert_eq!(
            stage.verb(&["stop"]).code(),
            Some(0),
            "{}",
            stage.log.listing()
        );
        assert_drained(&stage, &old, "TERM");
    }
}

/// R20: whoever goes on where a keeper was lost knows the signal.
#[test]
fn a_keeper_that_was_lost() {
    let environment = obeys("QUIT", "TERM QUIT");
    let options = ["--drain-signal=QUIT"];
    // Detached: its successor tells it.
    let stage = Stage::new();
    let one = stage.serving(&options, &environment);
    assert!(stage.record().contains("drain=QUIT"), "{}", stage.record());
    let keeper = one.keeper;
    let old = stage.detach(one);
    kill(keeper);
    let two = stage.serving(&[], &[]);
    assert_drained(&stage, &old, "QUIT");
    stage.stop(two.launcher, &[]);

    // Supervised: the launcher's next keeper does.
    let stage = Stage::new();
    let one = stage.serving(&options, &environment);
    kill(one.keeper);
    stage.log.wait_for("goes on in its place");
    one.launcher.signal(Signal::SIGINT);
    one.launcher.finish();
    assert_drained(&stage, &one.daemon, "QUIT");

    // Alone in the world: the verb does.
    let stage = Stage::new();
    let one = stage.serving(&options, &environment);
    let keeper = one.keeper;
    let old = stage.detach(one);
    kill(keeper);
    let stopped = stage.verb(&["stop"]);
    assert_eq!(
        stopped.code(),
        Some(0),
        "{}{}",
        stopped.stdout,
        stopped.stderr
    );
    assert_drained(&stage, &old, "QUIT");
}

#[test]
fn every_other_way_to_end() {
    let environment = obeys("QUIT", "TERM QUIT");
    // Nobody has come: R16.
    let stage = Stage::new();
    let one = stage.serving(
        &["--drain-signal=QUIT", "--orphan-timeout=100ms"],
        &environment,
    );
    one.launcher.signal(Signal::SIGTERM);
    assert_eq!(one.launcher.finish().code(), Some(0));
    assert_drained(&stage, &one.daemon, "QUIT");
    stage.log.wait_seen("is told to drain (QUIT)");
    // A shutdown of the machine.
    let stage = Stage::new();
    let one = stage.serving(&["--drain-signal=QUIT"], &environment);
    signal(one.keeper, Signal::SIGTERM);
    assert_eq!(one.launcher.finish().code(), Some(0));
    assert_drained(&stage, &one.daemon, "QUIT");
    // The verb.
    let stage = Stage::new();
    let one = stage.serving(&["--drain-signal=QUIT"], &environment);
    assert_eq!(stage.verb(&["stop"]).code(), Some(0));
    assert_eq!(one.launcher.finish().code(), Some(0));
    assert_drained(&stage, &one.daemon, "QUIT");
    // It was not ready in time, and nobody is there to tell it from one that drains: R13.
    let stage = Stage::new();
    let one = stage.begin(&["--drain-signal=QUIT", SOON], &environment);
    one.launcher.finish();
    assert_drained(&stage, &one.daemon, "QUIT");
    // A restart before it was ready: R9.
    let stage = Stage::new();
    let one = stage.begin(&["--drain-signal=QUIT"], &environment);
    one.launcher.signal(Signal::SIGTERM);
    one.launcher.finish();
    assert_drained(&stage, &one.daemon, "QUIT");
}

/// `stop --old` gives it no second signal, only a nearer end (R15).
#[test]
fn one_that_drains_already() {
    let stage = Stage::new();
    let options = ["--drain-signal=QUIT", "--stop-timeout=100ms"];
    let old = stage.standby(&options, &[("TRAPS", "TERM QUIT"), ("EXITS", "")]);
    let two = stage.serving(&options, &[("TRAPS", "TERM QUIT"), ("EXITS", "QUIT")]);
    stage.log.wait_seen(&format!("{} got QUIT", old.pid));
    let stopped = stage.verb(&["stop", "--old"]);
    assert_eq!(
        stopped.code(),
        Some(0),
        "{}{}",
        stopped.stdout,
        stopped.stderr
    );
    assert_drained(&stage, &old, "QUIT");
    stage.log.wait_seen(&format!(
        "generation 1 (pid {}) is gone: killed by KILL",
        old.pid
    ));
    assert!(process::alive(two.daemon.pid));
    assert_eq!(stage.got(&two.daemon, "QUIT"), 0);
    stage.stop(two.launcher, &[]);
}
