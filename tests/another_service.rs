//! Files that are genuine, but another service's: who may write both directories can move them (R18).

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use nix::sys::signal::Signal;

use crate::stage::{BY_CHLD, STARTED, Stage};
use crate::support::process::{self, Handle, Pid};
use crate::verbs::verb;

const MOVED: [&[&str]; 3] = [&[".sock"], &[".record"], &[".sock", ".record"]];

fn moved(from: &Stage, to: &Stage, endings: &[&str]) {
    for ending in endings {
        fs::rename(from.beside(ending), to.beside(ending)).unwrap();
    }
}

/// A service that waits for its successor: its daemon, and its keeper.
fn standing_by(stage: &Stage) -> (Pid, Handle) {
    let (launcher, daemon) = stage.daemon(&[], STARTED, BY_CHLD);
    let keeper = Handle::open(process::children(launcher.pid())[0]).unwrap();
    launcher.signal(Signal::SIGTERM);
    assert_eq!(launcher.finish().code(), Some(0));
    (daemon, keeper)
}

fn assert_untouched(stage: &Stage, daemon: Pid) {
    assert!(process::alive(daemon), "{}", stage.log.listing());
    assert_eq!(stage.log.count("got TERM"), 0, "{}", stage.log.listing());
}

#[test]
fn no_verb_reaches_it() {
    let (ours, theirs) = (Stage::new(), Stage::new());
    let (launcher, daemon) = theirs.daemon(&[], STARTED, BY_CHLD);
    for endings in MOVED {
        moved(&theirs, &ours, endings);
        for name in ["status", "restart", "stop"] {
            let said = verb(&ours, name, &[]).finish();
            assert_ne!(said.code(), Some(0), "{name}: {}", said.stdout);
            let words = format!("{}{}", said.stdout, said.stderr);
            assert!(
                words.contains("is that of another PID file"),
                "{name}: {words}"
            );
            assert!(!words.contains(&daemon.to_string()), "{name}: {words}");
        }
        assert_untouched(&theirs, daemon);
        moved(&ours, &theirs, endings);
    }
    assert!(launcher.alive());
    assert_eq!(verb(&theirs, "status", &[]).finish().code(), Some(0));
    theirs.stop(launcher, &[]);
}

#[test]
fn a_start_takes_nothing_over_from_it() {
    for endings in MOVED {
        let (ours, theirs) = (Stage::new(), Stage::new());
        let (daemon, keeper) = standing_by(&theirs);
        moved(&theirs, &ours, endings);
        let (launcher, _) = ours.daemon(&[], STARTED, BY_CHLD);
        ours.log.wait_seen("is that of another PID file");
        assert_eq!(ours.log.count(&daemon.to_string()), 0);
        assert_untouched(&theirs, daemon);
        ours.stop(launcher, &[]);
        assert_untouched(&theirs, daemon);
        // TERM to a keeper is a stop.
        keeper.signal(Signal::SIGTERM);
        theirs.scratch.wait_no_processes_but(&[]);
    }
}

/// R16: another name of the same directory changes nothing.
#[test]
fn its_own_directory_may_get_another_name() {
    let mut stage = Stage::new();
    let (launcher, daemon) = stage.daemon(&[], STARTED, BY_CHLD);
    let elsewhere = stage.scratch.join("elsewhere");
    fs::rename(stage.pid_file.parent().unwrap(), &elsewhere).unwrap();
    stage.pid_file = elsewhere.join("app.pid");
    let said = verb(&stage, "stop", &[]).finish();
    assert_eq!(said.code(), Some(0), "{}{}", said.stdout, said.stderr);
    process::wait_exit(daemon);
    drop(launcher);
    stage.scratch.wait_no_processes_but(&[]);
}

/// A start cannot know whether somebody has put another directory in the place of its own: it says who could.
#[test]
fn a_start_says_who_could_put_another_directory_in_its_place() {
    let stage = Stage::new();
    let run = stage.pid_file.parent().unwrap().to_owned();
    let starts = |expected: &[&str]| {
        let before = stage.log.count("use a PID file to which");
        let (launcher, _) = stage.daemon(&[], STARTED, BY_CHLD);
        let said = stage.log.count("use a PID file to which") - before;
        assert_eq!(said, expected.len(), "{}", stage.log.listing());
        for part in expected {
            stage.log.wait_seen(part);
        }
        stage.stop(launcher, &[]);
    };
    let checked = |expected: &str| {
        let said = crate::support::Spawn::new(&stage.scratch, crate::support::program())
            .args(["check", "--pid-file"])
            .arg(&stage.pid_file)
            .args(["--", "true"])
            .finish();
        assert!(said.stdout.contains(expected), "{}", said.stdout);
    };
    starts(&[]);
    chown(&run, Some(65534), None).unwrap();
    starts(&[&format!("user 65534 can write in {}, ", run.display())]);
    chown(&run, Some(0), None).unwrap();
    let above = stage.scratch.path();
    chown(above, Some(65534), None).unwrap();
    starts(&[&format!("user 65534 can write in {}, ", above.display())]);
    checked(&format!(
        "{}, through which it is found, belongs to user 65534",
        above.display()
    ));
    chown(above, Some(0), None).unwrap();
    fs::set_permissions(&run, fs::Permissions::from_mode(0o777)).unwrap();
    starts(&[&format!("anybody can write in {}, ", run.display())]);
    fs::set_permissions(&run, fs::Permissions::from_mode(0o1777)).unwrap();
    starts(&[]);
}
