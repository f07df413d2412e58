//! `--dry-run` says what would be done, and does nothing.

use std::fs;
use std::net::TcpListener;

use nix::sys::signal::Signal;

use super::run;
use crate::stage::{BY_CHLD, STARTED, Stage};
use crate::support::network::isolate;
use crate::support::{Spawn, program};

#[test]
fn everything_is_said_and_nothing_is_there_afterwards() {
    let stage = Stage::new();
    let file = stage.pid_file.to_str().unwrap();
    let socket = stage.scratch.join("app.sock");
    let ended = run(
        &stage.scratch,
        &[
            "--dry-run",
            "-p",
            file,
            "--listen",
            &format!("admin={}", socket.display()),
            "--listen-env",
            "nginx",
            "--ready",
            "after:2s",
            "--ready-timeout",
            "1m",
            "--pre-start",
            "touch pre-start",
            "--on",
            "HUP=restart",
            "--drain-signal",
            "QUIT",
            "--stop-timeout",
            "8s",
            "--",
            "sleep",
            "100",
        ],
    );
    let text = ended.expect_success().stdout;
    let lock = format!("{file}.lock");
    for part in [
        "command      sleep 100\n",
        "/sleep\n",
        file,
        "app.pid.lock (lock)",
        "generation 1, without a predecessor",
        &format!("fd 3: admin=unix:{}, opened\n", socket.display()),
        "pre-start    touch pre-start",
        "SEAMLESS_GENERATION=1\n",
        "SEAMLESS_PREPARE_SIGNAL=none\n",
        "SEAMLESS_DRAIN_SIGNAL=QUIT\n",
        "LISTEN_FDNAMES=admin\n",
        "NGINX=3;\n",
        "when after:2s holds",
        "if not within 1 min, it is stopped",
        "HUP: a restart",
        "INT: a stop",
        "a stop: KILL after 8 s",
        "supervisor   none is recognised",
        "seamless-run check",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    let left = fs::read_dir(stage.pid_file.parent().unwrap()).unwrap();
    assert_eq!(left.count(), 0);
    assert!(!socket.exists() && !fs::exists(lock).unwrap());
    assert!(!stage.scratch.join("pre-start").exists());
}

/// Who serves is asked as `status` asks, and is not disturbed; what is bound is not bound again.
#[test]
fn a_service_that_runs_is_not_disturbed() {
    let _network = isolate();
    let stage = Stage::new();
    let address = "http=127.0.0.1:8080";
    let (launcher, daemon) = stage.daemon(&["--listen", address], STARTED, BY_CHLD);
    let (record, log) = (stage.record(), stage.log.listing().lines().count());
    let file = stage.pid_file.to_str().unwrap();
    let other = TcpListener::bind("127.0.0.1:8081").unwrap();
    let words = [
        "--dry-run",
        "-p",
        file,
        "-l",
        address,
        "-l",
        "127.0.0.1:8081",
        "true",
    ];
    let text = run(&stage.scratch, &words).expect_success().stdout;
    for part in [
        &format!("runs now     generation 1 (pid {daemon}): serving\n")[..],
        "this start   refused while the launcher of generation 1 stands",
        "fd 3: http=tcp:127.0.0.1:8080, taken over from generation 1",
        "fd 4: tcp:127.0.0.1:8081, opened",
        "SEAMLESS_GENERATION=2\n",
        "LISTEN_FDNAMES=http:listen\n",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    assert_eq!(stage.record(), record);
    assert_eq!(
        stage.log.listing().lines().count(),
        log,
        "{}",
        stage.log.listing()
    );
    drop(other);
    stage.stop(launcher, &[]);
}

/// A start that is wrongly used is a failed attempt of the service (R16), and a rehearsal is no start.
#[test]
fn a_wrong_rehearsal_is_no_failed_attempt() {
    let stage = Stage::new();
    let (launcher, _) = stage.daemon(&[], STARTED, BY_CHLD);
    launcher.signal(Signal::SIGTERM);
    launcher.finish().expect_success();
    let file = stage.pid_file.to_str().unwrap();
    let status = |start: &[&str]| {
        let words = ["-p", file, "--stop-timeout", "soon", "true"];
        let wrong = run(&stage.scratch, &[start, &words].concat());
        assert_eq!(wrong.code(), Some(125));
        let status = run(&stage.scratch, &["status", file]);
        status.expect_success().stdout
    };
    let rehearsed = status(&["--dry-run"]);
    assert!(!rehearsed.contains("failed"), "{rehearsed}");
    let tried = status(&[]);
    assert!(tried.contains("failed"), "{tried}");
    run(&stage.scratch, &["stop", file]).expect_success();
    stage.scratch.wait_no_processes_but(&[]);
}

#[test]
fn what_a_start_would_end_with_is_the_status() {
    let stage = Stage::new();
    let file = stage.pid_file.to_str().unwrap();
    let plain = stage.scratch.join("plain");
    fs::write(&plain, "true\n").unwrap();
    for (words, status, line) in [
        (
            &["no-such-command"][..],
            127,
            "cannot find the command no-such-command",
        ),
        (&[plain.to_str().unwrap()], 126, "cannot execute"),
        (&["--prepare-signal", "USR9", "true"], 125, "USR9"),
        (&[], 125, "COMMAND is missing"),
    ] {
        for start in [&["--dry-run", "-p", file][..], &["--dry-run"]] {
            let ended = run(&stage.scratch, &[start, words].concat());
            assert_eq!(ended.code(), Some(status), "{words:?}: {}", ended.stderr);
            assert!(ended.stderr.contains(line), "{words:?}: {}", ended.stderr);
            assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        }
    }
}

#[test]
fn without_a_pid_file_it_says_that_nothing_is_seamless() {
    let stage = Stage::new();
    let words = [
        "--dry-run",
        "--listen",
        "@rehearsal",
        "sh",
        "-c",
        "touch done",
    ];
    let rehearsal = Spawn::new(&stage.scratch, program()).args(words);
    let text = rehearsal
        .directory(stage.scratch.path())
        .finish()
        .expect_success()
        .stdout;
    for part in [
        "nothing would be seamless",
        "unix:@rehearsal, opened",
        "LISTEN_FDS=1\n",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    assert!(!stage.scratch.join("done").exists());
    // The command's own option is the command's.
    let echo = run(&stage.scratch, &["echo", "--dry-run"]).expect_success();
    assert_eq!(echo.stdout, "--dry-run\n");
}
