//! What cannot be waited for: one clear line, 125, and nothing is started.

use std::os::unix::net::UnixStream;

use crate::drain::assert_refused;
use crate::stage::Stage;

#[test]
fn malformed_conditions() {
    let stage = Stage::new();
    let file = format!("--pid-file={}", stage.pid_file.display());
    for condition in [
        "",
        "bogus",
        "notify:",
        "notify:x",
        "notified",
        "fd",
        "fd:",
        "fd:x",
        "fd:0",
        "fd:1",
        "fd:2",
        "fd:-1",
        "fd:3.0",
        "fd:99999999999",
        "listen",
        "listen:",
        "listen:70000",
        "listen:nonsense:x",
        "listen:tcp:",
        "listen:unix:",
        "pid-file",
        "pid-file:",
        "exec",
        "exec:",
        "exec: ",
        "after",
        "after:",
        "after:soon",
        "after:-1s",
        "after:none",
        "Notify",
        "after=3s",
    ] {
        let option = format!("--ready={condition}");
        assert_refused(&stage, &[&file, &option], &["--ready"]);
    }
    for time in ["", "soon", "-1s", "5x"] {
        let option = format!("--probe-timeout={time}");
        assert_refused(
            &stage,
            &[&file, "--ready=exec:true", &option],
            &["--probe-timeout"],
        );
    }
}

/// What is wrong is named by what was typed.
#[test]
fn the_line_names_what_was_typed() {
    let stage = Stage::new();
    let file = format!("--pid-file={}", stage.pid_file.display());
    for (condition, part) in [
        ("bogus", "bogus"),
        ("fd:two", "two"),
        ("fd:1", "fd:1"),
        ("listen:70000", "70000"),
        ("after:soon", "soon"),
    ] {
        let option = format!("--ready={condition}");
        assert_refused(&stage, &[&file, &option], &[part]);
    }
}

/// Without a PID file nobody is there who would look.
#[test]
fn without_a_pid_file() {
    let stage = Stage::new();
    for option in [
        "--ready=notify",
        "--ready=listen:80",
        "--probe-timeout=1s",
        "--pre-start=true",
        "--post-start=true",
    ] {
        assert_refused(&stage, &[option], &["--pid-file"]);
    }
}

#[test]
fn a_descriptor_that_is_taken() {
    let stage = Stage::new();
    let file = format!("--pid-file={}", stage.pid_file.display());
    // A held socket's number.
    for (sockets, number) in [(1, 3), (2, 3), (2, 4)] {
        let listen: Vec<String> = (0..sockets)
            .map(|index| format!("--listen=@probe{index}"))
            .collect();
        let ready = format!("--ready=fd:{number}");
        let mut options = vec![file.as_str(), &ready];
        options.extend(listen.iter().map(String::as_str));
        assert_refused(&stage, &options, &[&format!("fd:{number}")]);
    }
    // One that the daemon inherits: it would not find its own.
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let refused = stage
        .spawn(crate::support::program())
        .args([file.as_str(), "--ready=fd:5", "--", "echo", "started"])
        .descriptor(5, theirs)
        .finish();
    assert_eq!(refused.code(), Some(125), "{}", stage.log.listing());
    stage.log.wait_for("fd:5");
    assert_eq!(stage.log.length(), 1, "{}", stage.log.listing());
}

/// Ours is written when the generation is ready, and not before.
#[test]
fn our_own_pid_file() {
    let stage = Stage::new();
    let file = format!("--pid-file={}", stage.pid_file.display());
    for path in [
        stage.pid_file.to_str().unwrap().to_owned(),
        "run/app.pid".to_owned(),
        "./run/app.pid".to_owned(),
    ] {
        let ready = format!("--ready=pid-file:{path}");
        assert_refused(&stage, &[&file, &ready], &["pid-file"]);
    }
}

/// R11: a wrong option is a bad version, and the old one serves.
#[test]
fn the_predecessor_is_told_why() {
    let stage = Stage::new();
    let old = stage.standby(&[], &[]);
    for (options, part) in [
        (&["--ready=bogus"][..], "bogus"),
        (&["--listen=@taken", "--ready=fd:3"], "fd:3"),
        (&["--drain-signal=KILL"], "KILL"),
    ] {
        let refused = stage.spawn_puppet(options).finish();
        assert_eq!(refused.code(), Some(125), "{}", stage.log.listing());
        stage.assert_serves(&old);
        let why = stage.why();
        assert!(why.contains(part), "{why}");
    }
}
