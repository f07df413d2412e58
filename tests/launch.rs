//! How a generation is started, and how its end is seen (R1, R3); what is wrongly asked for.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use crate::stage::{BY_CHLD, DAEMON, STARTED, Stage};
use crate::support::{self, Spawn, executable};

#[test]
fn the_daemons_own_end_is_the_launchers() {
    for (code, status, signal) in [
        ("exit 0", Some(0), None),
        ("exit 3", Some(3), None),
        ("exit 255", Some(255), None),
        ("ulimit -c unlimited; kill -SEGV $$", None, Some(11)),
        ("kill -KILL $$", None, Some(9)),
        ("kill -TERM $$", None, Some(15)),
        ("kill -36 $$", None, Some(36)),
    ] {
        let stage = Stage::new();
        let ended = stage
            .seamless_run(&["sh", "-c", code])
            .directory(stage.scratch.path())
            .finish();
        assert_eq!(
            (ended.status.code(), ended.status.signal()),
            (status, signal),
            "{code}"
        );
        assert!(!ended.status.core_dumped(), "a core of our own");
        stage.log.wait_for("generation 1 (pid ");
        assert_eq!(
            fs::read_dir(stage.pid_file.parent().unwrap())
                .unwrap()
                .count(),
            1,
            "the lock"
        );
        stage.scratch.wait_no_processes_but(&[]);
    }
}

#[test]
fn a_command_that_cannot_be_run() {
    let stage = Stage::new();
    let script = |name: &str, text: &str| {
        let path = stage.scratch.join(name);
        executable::write(&path, text.as_bytes(), 0o755);
        path.to_str().unwrap().to_owned()
    };
    let lost = script("lost", "#!/no/interpreter\n");
    let plain = script("plain", "echo hello\n");
    for (command, status, words) in [
        (
            "no-such-command",
            127,
            "cannot find the command no-such-command: No such file or directory",
        ),
        (
            "./no-such-command",
            127,
            "cannot find the command ./no-such-command",
        ),
        (
            "/etc/passwd/x",
            127,
            "cannot find the command /etc/passwd/x: Not a directory",
        ),
        ("", 127, "cannot find the command"),
        (
            "/etc/passwd",
            126,
            "cannot execute /etc/passwd: Permission denied",
        ),
        ("/tmp", 126, "cannot execute /tmp: Permission denied"),
        (&lost, 126, "the interpreter that it names is not there"),
        (
            &plain,
            126,
            "it is no program, and does not name its interpreter",
        ),
    ] {
        let ended = stage.seamless_run(&["--", command]).finish();
        assert_eq!(ended.code(), Some(status), "{command}");
        assert!(
            stage.log.wait_for(": cannot ").contains(words),
            "{}",
            stage.log.listing()
        );
        let bare = Spawn::new(&stage.scratch, support::program())
            .args(["--", command])
            .finish();
        assert_eq!(bare.code(), Some(status), "{command}, without a PID file");
        assert!(bare.stderr.contains(words), "{}", bare.stderr);
    }
    assert_eq!(
        fs::read_dir(stage.pid_file.parent().unwrap())
            .unwrap()
            .count(),
        1,
        "the lock"
    );
}

#[test]
fn the_path_is_searched_past_what_cannot_be_executed() {
    let stage = Stage::new();
    let (first, second) = (stage.scratch.join("first"), stage.scratch.join("second"));
    fs::create_dir_all(&first).unwrap();
    fs::create_dir_all(&second).unwrap();
    fs::write(first.join("found"), "").unwrap();
    let path = format!("/nowhere:{}:{}", first.display(), second.display());
    let run = || {
        stage
            .seamless_run(&["found"])
            .env("PATH", &path)
            .finish()
            .code()
    };
    assert_eq!(run(), Some(126));
    executable::copy(Path::new("/bin/true"), &second.join("found"), 0o755);
    assert_eq!(run(), Some(0));
}

#[test]
fn without_a_pid_file_nobody_stands_in_the_way() {
    let stage = Stage::new();
    let mut daemon = stage
        .spawn(support::program())
        .args(["sh", "-c", DAEMON])
        .start();
    assert_eq!(stage.up(), daemon.pid());
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    stage.log.wait_for("got TERM");
    assert!(daemon.wait().success());
}

#[test]
fn one_line_on_what_was_wrong_and_nothing_left_behind() {
    let stage = Stage::new();
    let file = stage.pid_file.to_str().unwrap();
    let unwritable = "/proc/app.pid";
    for (words, status, part) in [
        (&["-p", file][..], 125, "COMMAND is missing"),
        (&[], 125, "COMMAND is missing"),
        (
            &["-p", file, "--bogus", "true"],
            125,
            "unknown option --bogus",
        ),
        (&["--bogus"], 125, "unknown option --bogus"),
        (
            &["-p", file, "--stop-timeout", "soon", "true"],
            125,
            "\"soon\"",
        ),
        (
            &["-p", file, "--prepare-signal", "USR3", "true"],
            125,
            "\"USR3\"",
        ),
        (&["-p", file, "--on", "HUP=", "true"], 125, "HUP="),
        (
            &["-p", "/no/such/app.pid", "true"],
            125,
            "there is no directory /no/such; create it first",
        ),
        (&["-p", "/etc/passwd/app.pid", "true"], 125, "/etc/passwd"),
        (&["-p", "/tmp/", "true"], 125, "is a directory"),
        (
            &["-p", unwritable, "true"],
            125,
            "cannot open the lock /proc/app.pid.lock",
        ),
        (&["notify"], 2, "WORD is missing"),
        (&["notify", "strated"], 2, "\"strated\""),
        (&["notify", "started"], 3, "there is no launcher"),
    ] {
        let ended = Spawn::new(&stage.scratch, support::program())
            .args(words)
            .finish();
        assert_eq!(ended.code(), Some(status), "{words:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(part), "{words:?}: {}", ended.stderr);
        assert!(
            ended.stderr.starts_with("seamless-run: "),
            "{}",
            ended.stderr
        );
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        assert_eq!(ended.stdout, "");
    }
    assert_eq!(
        fs::read_dir(stage.pid_file.parent().unwrap())
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn help_and_version_go_to_stdout() {
    let stage = Stage::new();
    for (words, part) in [
        (&["--help"][..], "--pid-file"),
        (&["-V"], env!("CARGO_PKG_VERSION")),
        (&["notify", "--help"], "started"),
    ] {
        let ended = Spawn::new(&stage.scratch, support::program())
            .args(words)
            .finish();
        let ended = ended.expect_success();
        assert!(ended.stdout.contains(part), "{}", ended.stdout);
        assert_eq!(ended.stderr, "");
    }
}

#[test]
fn a_second_launcher_is_told_who_supervises_already() {
    let stage = Stage::new();
    let (launcher, daemon) = stage.daemon(&[], STARTED, BY_CHLD);
    let record = stage.record();
    let second = Spawn::new(&stage.scratch, support::program())
        .arg("-p")
        .arg(&stage.pid_file)
        .arg("true")
        .finish();
    assert_eq!(second.code(), Some(125));
    let holder = format!(
        "generation 1 (pid {daemon}) (under launcher {}",
        launcher.pid()
    );
    assert!(second.stderr.contains(&holder), "{}", second.stderr);
    assert_eq!(second.stderr.lines().count(), 1);
    assert_eq!(stage.record(), record, "nothing was changed");
    assert_eq!(stage.pid_in_file(), Some(daemon));
    stage.stop(launcher, &[]);
}

#[test]
fn a_daemon_that_forks_itself_away_is_named() {
    let stage = Stage::new();
    // The one that stays says that it runs: in the middle of its exec a process shows no environment.
    let code = "mkfifo $NOTHING.up; exec 9<>$NOTHING 8<>$NOTHING.up
setsid sh -c 'echo up >&8; read _ <&9' & read _ <&8; exit 0";
    let ended = stage.seamless_run(&[]).args(stage.sh(code)).finish();
    assert_eq!(ended.code(), Some(0));
    let line = stage.log.wait_for("put itself into the background");
    let left = stage.scratch.processes();
    assert!(
        left.iter()
            .any(|one| line.contains(&format!("pid {}", one.pid))),
        "{line}"
    );
}
