//! `--ready exec:COMMAND`: what a probe finds, when it is asked, and what its answer means.

use std::fs;

use crate::commands::{ENVIRONMENT, LOOK, assert_found};
use crate::puppet::{NOT_SOON, SOON};
use crate::stage::{Stage, pid_in};
use crate::support::process;

use super::Mark;

/// `--ready` with a probe that says each time that it was asked.
fn probe(stage: &Stage, code: &str) -> String {
    let code = format!("echo \"asked $$\" >>\"$LOG\"\n{code}");
    format!("--ready=exec:{}", stage.sh(&code).join(" "))
}

/// Succeeds once the test has made this file.
const WHEN_MADE: &str = "[ -e made ]";

#[test]
fn it_is_asked_until_it_succeeds() {
    let stage = Stage::new();
    let one = stage.begin(&[&probe(&stage, WHEN_MADE)], &[]);
    for _ in 0..3 {
        stage.log.wait_for("asked ");
    }
    let ready = stage.ready_since(&one.daemon, "write('made', '')");
    assert!(!ready.contains("the probe"), "nobody else could: {ready}");
    let asked = stage.settled().count("asked ");
    // Once it has committed, nobody is asked any more.
    stage.stop(one.launcher, &[]);
    assert_eq!(stage.settled().count("asked "), asked);
}

/// A predecessor may have answered: the log says so, unless the probe asks for this very daemon.
#[test]
fn a_probe_that_may_have_been_fooled() {
    let said = "unless a predecessor has answered the probe";
    let stage = Stage::new();
    let mut old = stage.standby(&[], &[]);
    for (code, may_be_fooled) in [
        ("true", true),
        ("kill -0 $SEAMLESS_PID", false),
        ("curl --version >/dev/null || :", true),
        ("test ${SEAMLESS_GENERATION} -gt 3", false),
    ] {
        let option = format!("--ready=exec:{code}");
        let next = stage.begin(&[&option, "--ready=fd:3"], &[]);
        let ready = stage.ready_since(&next.daemon, "os.write(3, b'\\n')");
        assert_eq!(ready.contains(said), may_be_fooled, "{code}: {ready}");
        process::wait_exit(old.pid);
        old = stage.detach(next);
    }
}

/// The environment, and all else that a command stands on; nothing of the daemon's: a probe that stays would keep
/// it alive.
#[test]
fn what_it_finds() {
    let stage = Stage::new();
    let option = format!("--ready=exec:{LOOK}; [ -e made ]");
    let options = ["--listen=http=127.0.0.1:0", "--ready=fd:9", &option];
    let one = stage.begin(&options, ENVIRONMENT);
    stage.has(&one.daemon, "os.write(9, b'\\n'); write('made', '')");
    stage.wait_ready(&one.daemon);
    assert_found(&stage, one.daemon.pid, one.keeper);
    stage.stop(one.launcher, &[]);
}

/// Whoever is not there yet need not be asked how it is.
#[test]
fn it_is_asked_when_all_else_holds() {
    let stage = Stage::new();
    let one = stage.begin(
        &[&probe(&stage, WHEN_MADE), "--ready=fd:3", "--ready=notify"],
        &[],
    );
    stage.wait_waits("fd:3", true);
    stage.has(&one.daemon, "os.write(3, b'\\n')");
    stage.wait_waits("fd:3", false);
    assert_eq!(
        stage.settled().count("asked "),
        0,
        "{}",
        stage.log.listing()
    );
    stage.has(&one.daemon, "notify('X_SEAMLESS=started')");
    stage.log.wait_for("asked ");
    stage.ready_since(&one.daemon, "write('made', '')");
    stage.assert_order("does 2 notify", "asked ");
    stage.stop(one.launcher, &[]);
}

/// All must hold at one moment: what was asked while something else ceased to hold is asked again.
#[test]
fn something_else_ceases_to_hold_meanwhile() {
    let stage = Stage::new();
    nix::unistd::mkfifo(&stage.scratch.join("hold"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mark = Mark::new(&stage);
    let option = probe(&stage, "read -r _ <hold");
    let one = stage.begin(&[&mark.option, &option, "--probe-timeout=10m"], &[]);
    let names_it = format!("{}\n", one.daemon.pid);
    let path = stage.scratch.join("mark.pid");
    let write = || {
        fs::write(path.with_extension("new"), &names_it).unwrap();
        fs::rename(path.with_extension("new"), &path).unwrap();
    };
    write();
    let asked = pid_in(&stage.log.wait_for("asked "));
    fs::remove_file(&path).unwrap();
    fs::write(stage.scratch.join("hold"), "yes\n").unwrap();
    // Its end, and the keeper's look at it: before that it could still hold when the other thing does again.
    process::wait_exit(asked);
    stage.told();
    // It has succeeded, and something else does not hold.
    stage.wait_waits("mark.pid", true);
    assert!(!stage.is_ready(&one.daemon), "{}", stage.log.listing());
    assert_eq!(stage.settled().count("asked "), 1);
    write();
    stage.log.wait_for("asked ");
    fs::write(stage.scratch.join("hold"), "yes\n").unwrap();
    stage.wait_ready(&one.daemon);
    stage.stop(one.launcher, &[]);
}

/// Two probes: both must succeed.
#[test]
fn two_probes() {
    let stage = Stage::new();
    let first = probe(&stage, "echo first >>\"$LOG\"");
    let second = probe(&stage, WHEN_MADE);
    let one = stage.begin(&[&first, &second], &[]);
    stage.log.wait_for("first");
    for _ in 0..4 {
        stage.log.wait_for("asked ");
    }
    stage.ready_since(&one.daemon, "write('made', '')");
    stage.stop(one.launcher, &[]);
}

/// What it said last is what people need: in the log, and in `status`.
#[test]
fn why_it_failed() {
    for (code, parts) in [
        (
            "echo this is what is wrong; echo and this >&2; exit 7",
            &["exit status 7", "this is what is wrong", "and this"][..],
        ),
        ("kill -SEGV $$", &["killed by SEGV"]),
        ("kill -KILL $$", &["killed by KILL"]),
        ("exit 1", &["exit status 1"]),
        (
            "printf 'half a line'; exit 3",
            &["exit status 3", "half a line"],
        ),
        (
            r"printf '\033[31mred\a\377'; exit 3",
            &["exit status 3", "red"],
        ),
        (
            "no-such-command-anywhere",
            &["exit status 127", "not found"],
        ),
    ] {
        let stage = Stage::new();
        let old = stage.standby(&[], &[]);
        let option = format!("--ready=exec:{code}");
        let two = stage.begin(&[&option, SOON], &[]);
        stage.assert_failed(two, &old, "exec:");
        let why = stage.why();
        let line = stage.log.wait_seen(NOT_SOON);
        let status = stage.verb(&["status"]).stdout;
        for part in parts {
            assert!(why.contains(part), "{part}: {why}");
            assert!(status.contains(part), "{part}: {status}");
            assert!(
                stage.settled().count(part) > 0,
                "{part}: {line}{}",
                stage.log.listing()
            );
        }
        // Whoever reads it does so in a terminal.
        assert!(!why.contains(['\x1b', '\x07']), "{why:?}");
        assert!(!status.contains(['\x1b', '\x07']), "{status:?}");
    }
}

/// A command that is not there is no reason to give up: a deployment may bring it. But it is said.
#[test]
fn one_that_is_missing() {
    let stage = Stage::new();
    let old = stage.standby(&[], &[]);
    let two = stage.begin(&["--ready=exec:/no/such/probe --flag", SOON], &[]);
    stage.assert_failed(two, &old, "/no/such/probe");
    let why = stage.why();
    assert!(why.contains("127") && why.contains("not found"), "{why}");

    let file = stage.scratch.join("later");
    let option = format!("--ready=exec:{}", file.display());
    let three = stage.begin(&[&option], &[]);
    stage.wait_waits("127", true);
    fs::write(&file, "#!/bin/sh\n").unwrap();
    stage.wait_waits("126", true);
    let executable = "os.chmod('later', 0o755)";
    stage.ready_since(&three.daemon, executable);
    process::wait_exit(old.pid);
    stage.stop(three.launcher, &[]);
}
