//! What cannot be a drain signal: one clear line, 125, and nothing is started.

use crate::stage::Stage;
use crate::support::{self, Spawn};

#[test]
fn what_cannot_be_a_drain_signal() {
    let stage = Stage::new();
    let file = format!("--pid-file={}", stage.pid_file.display());
    for name in [
        "",
        "USR3",
        "SIGTERMS",
        "none",
        "auto",
        "0",
        "-1",
        "99",
        "RTMIN+99",
        "TERM,QUIT",
        "KILL",
        "STOP",
    ] {
        let option = format!("--drain-signal={name}");
        assert_refused(&stage, &[&file, &option], &["--drain-signal", name]);
    }
    assert_refused(&stage, &[&file, "--drain-group=yes"], &["--drain-group"]);
}

/// Without a PID file nobody is there who would send it.
#[test]
fn without_a_pid_file() {
    let stage = Stage::new();
    for option in ["--drain-signal=QUIT", "--drain-group"] {
        assert_refused(&stage, &[option], &["--pid-file"]);
    }
}

#[track_caller]
pub(crate) fn assert_refused(stage: &Stage, options: &[&str], parts: &[&str]) {
    let ended = Spawn::new(&stage.scratch, support::program())
        .args(options)
        .args(["--", "echo", "started"])
        .directory(stage.scratch.path())
        .finish();
    let said = format!("{options:?}: {}{}", ended.stdout, ended.stderr);
    assert_eq!(ended.code(), Some(125), "{said}");
    assert_eq!(ended.stdout, "", "{said}");
    assert_eq!(ended.stderr.lines().count(), 1, "{said}");
    for part in parts {
        assert!(ended.stderr.contains(part), "{part}: {said}");
    }
}
