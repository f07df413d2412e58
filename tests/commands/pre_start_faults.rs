//! `--pre-start` that hangs or floods, and what ends while it is at work: the daemon is never started unsupervised.

use nix::sys::signal::Signal;

use crate::commands::{CHILD, command, said};
use crate::puppet::SOON;
use crate::scene::{freeze, kill};
use crate::stage::{Stage, pid_in};
use crate::support::Spawned;
use crate::support::process::{self, Pid};

/// A start that is held up by its command, which has a child.
struct Held {
    launcher: Spawned,
    keeper: Pid,
    /// The command, and its child.
    command: [Pid; 2],
    /// The process that would be the daemon.
    daemon: Pid,
}

impl Held {
    fn start(stage: &Stage, options: &[&str]) -> Held {
        let option = command(stage, "pre-start", &format!("{CHILD} hold"));
        let options = [&[option.as_str()], options].concat();
        let launcher = stage.spawn_puppet(&options).start();
        let line = stage.nth("pre-start ", 0);
        let daemon = line.split(' ').nth(2).unwrap().parse().unwrap();
        let child = said(stage, "child", 0);
        let keepers = process::children(launcher.pid());
        assert_eq!(keepers.len(), 1, "{keepers:?}");
        Held {
            launcher,
            keeper: keepers[0],
            command: [pid_in(&line), child],
            daemon: Pid::from_raw(daemon),
        }
    }

    /// Nothing of it lives, and the daemon never did.
    #[track_caller]
    fn assert_gone(&self, stage: &Stage) {
        for pid in self.command {
            process::wait_exit(pid);
        }
        process::wait_exit(self.daemon);
        let up = format!("up {}", self.daemon);
        assert_eq!(stage.settled().count(&up), 0, "{}", stage.log.listing());
    }
}

/// `--ready-timeout` counts it in.
#[test]
fn one_that_hangs() {
    for other in ["", "trap '' TERM INT HUP;", "kill -STOP $$;"] {
        let stage = Stage::new();
        let old = stage.standby(&[], &[]);
        let option = command(&stage, "pre-start", &format!("{other} {CHILD} hold"));
        let ended = stage.spawn_puppet(&[&option, SOON]).finish();
        assert_eq!(ended.code(), Some(125), "{}", stage.log.listing());
        process::wait_exit(said(&stage, "pre-start", 0));
        stage.assert_serves(&old);
        let why = stage.why();
        assert!(why.contains("pre-start"), "{why}");
        assert_eq!(stage.settled().count("up "), 1, "{}", stage.log.listing());
        assert_eq!(stage.verb(&["stop"]).code(), Some(0));
        stage.scratch.wait_no_processes_but(&[]);
    }
}

/// Whoever asks meanwhile is answered.
#[test]
fn the_status_meanwhile() {
    let stage = Stage::new();
    let old = stage.standby(&[], &[]);
    let held = Held::start(&stage, &[]);
    let told = stage.told();
    assert_eq!(told["source"], "keeper", "{told}");
    let newest = &told["generations"][0];
    assert_eq!(newest["phase"], "starting", "{told}");
    assert_eq!(newest["pid"], held.daemon.as_raw(), "{told}");
    let waits = stage.wait_waits("pre-start", true);
    assert!(!waits.contains("notify"), "{waits}");
    stage.assert_serves(&old);
    assert_eq!(stage.verb(&["stop"]).code(), Some(0));
    held.assert_gone(&stage);
    process::wait_exit(old.pid);
    held.launcher.finish();
    stage.scratch.wait_no_processes_but(&[]);
}

/// A restart: this one is not ready, and goes; the old one serves (R9). A stop ends both.
#[test]
fn a_restart_and_a_stop_meanwhile() {
    for (signal, stops) in [(Signal::SIGTERM, false), (Signal::SIGINT, true)] {
        let stage = Stage::new();
        let old = stage.standby(&[], &[]);
        let held = Held::start(&stage, &[]);
        held.launcher.signal(signal);
        held.assert_gone(&stage);
        // The process that would be the daemon died of TERM, and the launcher leaves as it did (R3).
        let ended = held.launcher.finish();
        let listing = stage.log.listing();
        assert_eq!(ended.signal(), Some(Signal::SIGTERM), "{listing}");
        if stops {
            process::wait_exit(old.pid);
            stage.scratch.wait_no_processes_but(&[]);
            continue;
        }
        stage.assert_serves(&old);
        let next = stage.serving(&[], &[]);
        process::wait_exit(old.pid);
        stage.stop(next.launcher, &[]);
    }
}

/// What a daemon would catch ends a process that is not the daemon yet: it is kept from it. QUIT is meant to end it.
#[test]
fn other_signals_meanwhile() {
    let stage = Stage::new();
    let held = Held::start(&stage, &[]);
    for (signal, name) in [
        (Signal::SIGHUP, "HUP"),
        (Signal::SIGUSR1, "USR1"),
        (Signal::SIGUSR2, "USR2"),
    ] {
        held.launcher.signal(signal);
        stage.log.wait_for(&format!("does not get {name}"));
    }
    assert!(process::alive(held.daemon), "{}", stage.log.listing());
    held.launcher.signal(Signal::SIGQUIT);
    held.assert_gone(&stage);
    held.launcher.finish();
    stage.scratch.wait_no_processes_but(&[]);
}

/// Without anybody who serves: nobody is left, either.
#[test]
fn a_first_start_that_is_ended() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let stage = Stage::new();
        let held = Held::start(&stage, &[]);
        held.launcher.signal(signal);
        held.assert_gone(&stage);
        held.launcher.finish();
        stage.scratch.wait_no_processes_but(&[]);
        let names = crate::scene::names_in(stage.pid_file.parent().unwrap());
        assert_eq!(names, ["app.pid.lock"]);
    }
}

/// The verb waits for a verdict on the next one, and this one is in its way.
#[test]
fn the_verb_restart_meanwhile() {
    let stage = Stage::new();
    let old = stage.standby(&[], &[]);
    let held = Held::start(&stage, &[]);
    let asked = stage.verb(&["restart", "--no-wait"]);
    assert_eq!(asked.code(), Some(0), "{}{}", asked.stdout, asked.stderr);
    held.assert_gone(&stage);
    held.launcher.finish();
    stage.assert_serves(&old);
    let next = stage.serving(&[], &[]);
    process::wait_exit(old.pid);
    stage.stop(next.launcher, &[]);
}

/// Nobody would look after what it started.
#[test]
fn the_launcher_is_killed_meanwhile() {
    for predecessor in [true, false] {
        let stage = Stage::new();
        let old = predecessor.then(|| stage.standby(&[], &[]));
        let mut held = Held::start(&stage, &[]);
        held.launcher.kill();
        held.assert_gone(&stage);
        process::wait_exit(held.keeper);
        if let Some(old) = old {
            stage.assert_serves(&old);
            assert_eq!(stage.verb(&["stop"]).code(), Some(0));
        }
        stage.scratch.wait_no_processes_but(&[]);
    }
}

/// The daemon has not been started, and there is nobody who could know whether it may be.
#[test]
fn the_keeper_is_killed_meanwhile() {
    for predecessor in [true, false] {
        let stage = Stage::new();
        let old = predecessor.then(|| stage.standby(&[], &[]));
        let held = Held::start(&stage, &[]);
        kill(held.keeper);
        held.assert_gone(&stage);
        let ended = held.launcher.finish();
        assert_ne!(ended.code(), Some(0), "{}", stage.log.listing());
        if let Some(old) = old {
            stage.assert_serves(&old);
            let next = stage.serving(&[], &[]);
            process::wait_exit(old.pid);
            stage.stop(next.launcher, &[]);
        }
        stage.scratch.wait_no_processes_but(&[]);
    }
}

/// Nobody is left who knows of the command; but the daemon is not started, and the old one serves.
#[test]
fn launcher_and_keeper_are_killed_meanwhile() {
    let stage = Stage::new();
    let old = stage.standby(&[], &[]);
    let mut held = Held::start(&stage, &[]);
    freeze(held.keeper);
    held.launcher.kill();
    kill(held.keeper);
    process::wait_exit(held.daemon);
    stage.assert_serves(&old);
    let next = stage.serving(&[], &[]);
    process::wait_exit(old.pid);
    let up = format!("up {}", held.daemon);
    assert_eq!(stage.settled().count(&up), 0, "{}", stage.log.listing());
    for pid in held.command.into_iter().filter(|&pid| process::alive(pid)) {
        kill(pid);
    }
    stage.stop(next.launcher, &[]);
}

/// The process that would be the daemon is KILLed: there is nothing left to start.
#[test]
fn the_daemons_process_is_killed_meanwhile() {
    let stage = Stage::new();
    let old = stage.standby(&[], &[]);
    let held = Held::start(&stage, &[]);
    kill(held.daemon);
    held.assert_gone(&stage);
    held.launcher.finish();
    stage.assert_serves(&old);
    assert!(stage.told()["failure"]["why"].is_string());
    assert_eq!(stage.verb(&["stop"]).code(), Some(0));
    stage.scratch.wait_no_processes_but(&[]);
}

/// What it writes without end fills nobody's disk and nobody's memory.
#[test]
fn one_that_floods() {
    let stage = Stage::new();
    let code = "while ! [ -e made ]; do echo 'and on and on and on and on and on and on and on'; done; echo 'at last'; exit $(cat made)";
    for (nth, status) in ["1", "0"].into_iter().enumerate() {
        std::fs::remove_file(stage.scratch.join("made")).ok();
        let option = command(&stage, "pre-start", code);
        let launcher = stage.spawn_puppet(&[&option]).start();
        said(&stage, "pre-start", nth);
        let keeper = process::children(launcher.pid())[0];
        let resident = || {
            let text = process::status_field(keeper, "VmHWM").unwrap();
            text.split(' ').next().unwrap().parse::<u64>().unwrap()
        };
        let before = resident();
        for _ in 0..20 {
            assert_eq!(stage.told()["generations"][0]["phase"], "starting");
        }
        // The kernel counts for each processor, and adds up now and then: it may be less.
        let grown = resident().saturating_sub(before);
        assert!(grown < 2048, "the keeper has grown by {grown} kB");
        let made = stage.scratch.join("made");
        std::fs::write(made.with_extension("new"), status).unwrap();
        std::fs::rename(made.with_extension("new"), made).unwrap();
        if status == "0" {
            let one = stage.begun(launcher);
            stage.stop(one.launcher, &[]);
        } else {
            assert_eq!(launcher.finish().code(), Some(1));
            stage
                .log
                .wait_for("the pre-start command failed: exit status 1");
        }
        let lines = stage.settled().count("and on and on");
        assert!(lines < 10_000, "{lines} lines in the log");
    }
}

/// One very long line.
#[test]
fn a_line_without_end() {
    let stage = Stage::new();
    let code = "head -c 5000000 /dev/zero | tr '\\0' x; exit 2";
    let option = command(&stage, "pre-start", code);
    let ended = stage.spawn_puppet(&[&option]).finish();
    assert_eq!(ended.code(), Some(2));
    stage
        .log
        .wait_for("the pre-start command failed: exit status 2");
    let longest = stage
        .settled()
        .lines()
        .iter()
        .map(String::len)
        .max()
        .unwrap();
    assert!(longest < 20_000, "a line of {longest} bytes in the log");
}
