//! `--post-start`: once the daemon has been started; what becomes of it changes nothing.

use nix::sys::signal::Signal;

use crate::commands::{CHILD, ENVIRONMENT, LOOK, assert_found, command, said};
use crate::scene::kill;
use crate::stage::Stage;
use crate::support::process;

#[test]
fn it_is_run_once_for_each_start() {
    let stage = Stage::new();
    let option = command(&stage, "post-start", "echo 'a line'; echo 'to stderr' >&2");
    let one = stage.serving(&[&option], &[]);
    let daemon = one.daemon.pid;
    let line = stage.log.wait_seen("post-start ");
    assert!(line.ends_with(&format!(" {daemon} 1")), "{line}");
    for line in ["a line", "to stderr"] {
        stage.log.wait_seen(&format!("app: post-start: {line}"));
    }
    kill(one.keeper);
    stage.log.wait_for("goes on in its place");
    one.launcher.signal(Signal::SIGTERM);
    one.launcher.finish();
    let two = stage.serving(&[&option], &[]);
    let line = stage.nth("post-start ", 1);
    assert!(line.ends_with(&format!(" {} 2", two.daemon.pid)), "{line}");
    process::wait_exit(daemon);
    stage.stop(two.launcher, &[]);
    let runs = stage.settled().lines();
    let runs = runs.iter().filter(|line| line.starts_with("post-start "));
    assert_eq!(runs.count(), 2, "{}", stage.log.listing());
}

#[test]
fn what_it_finds() {
    let stage = Stage::new();
    let option = format!("--post-start={LOOK}; echo looked >>\"$LOG\"");
    let one = stage.begin(&["--listen=@post", "--ready=fd:7", &option], ENVIRONMENT);
    stage.log.wait_seen("looked");
    assert_found(&stage, one.daemon.pid, one.keeper);
    // It has been started: what stands there is the daemon's own command.
    let command_line = std::fs::read_to_string(stage.scratch.join("found.daemon")).unwrap();
    assert!(command_line.contains("puppet.py"), "{command_line}");
    stage.ready_since(&one.daemon, "os.write(7, b'\\n')");
    stage.stop(one.launcher, &[]);
}

/// Only logged.
#[test]
fn a_failure() {
    for (code, part) in [
        ("echo 'it is not there'; exit 3", "exit status 3"),
        ("kill -SEGV $$", "killed by SEGV"),
        ("no-such-command-anywhere", "exit status 127"),
    ] {
        let stage = Stage::new();
        let old = stage.standby(&[], &[]);
        // The code itself: a shell around it would say 139 for SEGV.
        let two = stage.begin(&[&format!("--post-start={code}")], &[]);
        let line = stage.log.wait_seen(part);
        assert!(line.contains("post-start"), "{line}");
        assert!(line.contains("generation 2"), "{line}");
        if code.contains("it is not there") {
            stage.log.wait_seen("app: post-start: it is not there");
        }
        stage.has(&two.daemon, "notify('X_SEAMLESS=started')");
        stage.wait_ready(&two.daemon);
        process::wait_exit(old.pid);
        assert!(stage.told()["failure"].is_null(), "{}", stage.told());
        two.launcher.signal(Signal::SIGINT);
        assert_eq!(
            two.launcher.finish().code(),
            Some(0),
            "the daemon's own end"
        );
    }
}

#[test]
fn one_that_cannot_be_run() {
    let stage = Stage::new();
    let one = stage.serving(&["--post-start=/no/such/command"], &[]);
    let line = stage.log.wait_seen("127");
    assert!(line.contains("post-start"), "{line}");
    stage.stop(one.launcher, &[]);
}

/// It holds up neither readiness nor a stop, and ends with its generation.
#[test]
fn one_that_hangs() {
    for code in ["hold", "trap '' TERM INT HUP; hold"] {
        let stage = Stage::new();
        let option = command(&stage, "post-start", &format!("{CHILD} {code}"));
        let one = stage.serving(&[&option], &[]);
        let first = ["post-start", "child"].map(|what| said(&stage, what, 0));
        let old = stage.detach(one);
        assert!(
            first.into_iter().all(process::alive),
            "its generation lives"
        );
        let two = stage.serving(&[&option], &[]);
        let second = ["post-start", "child"].map(|what| said(&stage, what, 1));
        process::wait_exit(old.pid);
        for pid in first {
            process::wait_exit(pid);
        }
        assert!(
            second.into_iter().all(process::alive),
            "its generation lives"
        );
        two.launcher.signal(Signal::SIGINT);
        assert_eq!(two.launcher.finish().code(), Some(0));
        stage.scratch.wait_no_processes_but(&[]);
    }
}

/// The daemon dies at once, and the launcher leaves as it ended.
#[test]
fn a_daemon_that_dies_at_once() {
    let stage = Stage::new();
    let option = command(&stage, "post-start", &format!("{CHILD} hold"));
    for status in [0, 3] {
        let daemon = format!("exit {status}");
        let ended = stage
            .seamless_run(&[&option])
            .env("LOG", stage.log.path())
            .directory(stage.scratch.path())
            .args(["--", "sh", "-c", &daemon])
            .finish();
        assert_eq!(ended.code(), Some(status), "{}", stage.log.listing());
        stage.scratch.wait_no_processes_but(&[]);
    }
    // One that is not there was never started.
    let runs = stage.settled().count("post-start ");
    let ended = stage
        .seamless_run(&[&option, "--", "/no/such/daemon"])
        .env("LOG", stage.log.path())
        .finish();
    assert_eq!(ended.code(), Some(127));
    stage.scratch.wait_no_processes_but(&[]);
    assert_eq!(
        stage.settled().count("post-start "),
        runs,
        "{}",
        stage.log.listing()
    );
}

/// Whom the veto has met, it is not run for.
#[test]
fn a_veto_comes_first() {
    let stage = Stage::new();
    let option = command(&stage, "post-start", ":");
    let ended = stage
        .spawn_puppet(&["--pre-start=exit 9", &option])
        .finish();
    assert_eq!(ended.code(), Some(9));
    assert_eq!(
        stage.settled().count("post-start "),
        0,
        "{}",
        stage.log.listing()
    );
    let pre = command(&stage, "pre-start", "echo from the first");
    let one = stage.serving(&[&pre, &option], &[]);
    stage.log.wait_seen("post-start ");
    stage.assert_order("pre-start: from the first", "post-start ");
    stage.stop(one.launcher, &[]);
}

/// R20: what the lost keeper ran does not outlive the service.
#[test]
fn the_keeper_is_killed_meanwhile() {
    let stage = Stage::new();
    let option = command(&stage, "post-start", &format!("{CHILD} hold"));
    let one = stage.serving(&[&option], &[]);
    let commands = ["post-start", "child"].map(|what| said(&stage, what, 0));
    kill(one.keeper);
    stage.log.wait_for("goes on in its place");
    one.launcher.signal(Signal::SIGINT);
    one.launcher.finish();
    process::wait_exit(one.daemon.pid);
    for pid in commands {
        process::wait_exit(pid);
    }
    stage.scratch.wait_no_processes_but(&[]);
}

/// Its output is the log's, as long as it is bearable.
#[test]
fn one_that_floods() {
    let stage = Stage::new();
    let code = "while :; do echo 'and on and on and on and on and on and on and on'; done";
    let option = command(&stage, "post-start", code);
    let one = stage.serving(&[&option], &[]);
    said(&stage, "post-start", 0);
    for _ in 0..20 {
        assert_eq!(stage.told()["generations"][0]["phase"], "serving");
    }
    let lines = stage.settled().count("and on and on");
    assert!(lines < 10_000, "{lines} lines in the log");
    stage.stop(one.launcher, &[]);
}
