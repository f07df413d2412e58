//! `--pre-start`: a veto before the daemon is started.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;

use crate::commands::{CHILD, ENVIRONMENT, LOOK, assert_found, command, said};
use crate::scene::{kill, python};
use crate::stage::Stage;
use crate::support::{self, Runit, Service, Supervisor, process};

#[test]
fn it_comes_first() {
    let stage = Stage::new();
    let code = format!(
        "kill -0 $SEAMLESS_PID && echo 'a first line'; {LOOK}; echo 'to stderr' >&2; printf 'half a line'"
    );
    let option = command(&stage, "pre-start", &code);
    let direct = format!("--pre-start={code}; :");
    let one = stage.serving(&["--listen=@pre", &option], ENVIRONMENT);
    let daemon = one.daemon.pid;
    stage.log.wait_seen(&format!(" {daemon} 1"));
    stage.assert_order("pre-start ", &format!("up {daemon}"));
    for line in ["a first line", "to stderr", "half a line"] {
        stage.assert_order(&format!("app: pre-start: {line}"), &format!("up {daemon}"));
    }
    stage.stop(one.launcher, &[]);

    // The code itself, whose shell has no file open.
    let one = stage.serving(&["--listen=@pre", &direct], ENVIRONMENT);
    let environment = fs::read_to_string(stage.scratch.join("found.env")).unwrap();
    let environment = environment.replace("SEAMLESS_GENERATION=2", "SEAMLESS_GENERATION=1");
    fs::write(stage.scratch.join("found.env"), environment).unwrap();
    assert_found(&stage, one.daemon.pid, one.keeper);
    // The daemon's process was not the daemon yet.
    let command_line = fs::read_to_string(stage.scratch.join("found.daemon")).unwrap();
    assert!(
        !command_line.starts_with("/usr/bin/python3"),
        "{command_line}"
    );
    stage.stop(one.launcher, &[]);
}

/// Once for each start; the next keeper of a daemon that runs does not ask again.
#[test]
fn once_for_each_start() {
    let stage = Stage::new();
    let option = command(&stage, "pre-start", ":");
    let one = stage.serving(&[&option], &[]);
    kill(one.keeper);
    stage.log.wait_for("goes on in its place");
    one.launcher.signal(Signal::SIGTERM);
    one.launcher.finish();
    assert_eq!(
        stage.settled().count("pre-start "),
        1,
        "{}",
        stage.log.listing()
    );
    let two = stage.serving(&[&option], &[]);
    process::wait_exit(one.daemon.pid);
    assert_eq!(
        stage.settled().count("pre-start "),
        2,
        "{}",
        stage.log.listing()
    );
    stage.stop(two.launcher, &[]);
}

/// It leaves with its status, the daemon is never started, and the old one serves.
#[test]
fn a_veto() {
    let stage = Stage::new();
    // Without anybody who serves.
    let option = command(&stage, "pre-start", "echo 'the port is missing'; exit 7");
    let ended = stage.spawn_puppet(&[&option]).finish();
    assert_eq!(ended.code(), Some(7), "{}", stage.log.listing());
    stage.log.wait_for("app: pre-start: the port is missing");
    let line = stage
        .log
        .wait_for("the pre-start command failed: exit status 7");
    assert!(line.contains("generation 1"), "{line}");
    assert_eq!(stage.settled().count("up "), 0, "{}", stage.log.listing());
    stage.scratch.wait_no_processes_but(&[]);

    let old = stage.standby(&[], &[]);
    for (code, status, part) in [
        (
            "echo 'line 3: no such word' >&2; exit 1",
            1,
            "exit status 1 after",
        ),
        ("exit 3", 3, "exit status 3"),
        ("exit 255", 255, "exit status 255"),
        ("no-such-command-anywhere", 127, "exit status 127"),
        ("kill -TERM $$", 125, "killed by TERM"),
        ("kill -KILL $$", 125, "killed by KILL"),
    ] {
        // The code itself: a shell around it would say 143 for TERM.
        let option = format!("--pre-start={code}");
        let ended = stage.spawn_puppet(&[&option]).finish();
        assert_eq!(
            ended.code(),
            Some(status),
            "{code}: {}",
            stage.log.listing()
        );
        stage.assert_serves(&old);
        let why = stage.why();
        assert!(
            why.contains(part) && why.contains("the pre-start command failed"),
            "{why}"
        );
        if code.contains("line 3") {
            assert!(why.contains("line 3: no such word"), "{why}");
        }
        stage.log.wait_for(part);
    }
    assert_eq!(stage.settled().count("up "), 1, "{}", stage.log.listing());
    let mended = stage.serving(&["--pre-start=true"], &[]);
    process::wait_exit(old.pid);
    stage.stop(mended.launcher, &[]);
}

/// A command that is not there, or that cannot be executed, is a veto.
#[test]
fn one_that_is_missing() {
    let stage = Stage::new();
    let old = stage.standby(&[], &[]);
    let plain = stage.scratch.join("plain");
    fs::write(&plain, "").unwrap();
    for (path, status) in [("/no/such/check", 127), (plain.to_str().unwrap(), 126)] {
        let option = format!("--pre-start={path} --flag");
        let ended = stage.spawn_puppet(&[&option]).finish();
        assert_eq!(ended.code(), Some(status), "{}", stage.log.listing());
        stage.assert_serves(&old);
        assert!(stage.why().contains(path), "{}", stage.why());
    }
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o755)).unwrap();
    let option = format!("--pre-start={}", plain.display());
    let next = stage.serving(&[&option], &[]);
    process::wait_exit(old.pid);
    stage.stop(next.launcher, &[]);
}

/// What a Unix path led to before, it leads to afterwards.
#[test]
fn a_veto_leaves_the_sockets_alone() {
    let stage = Stage::new();
    let (first, second) = (stage.scratch.join("first"), stage.scratch.join("second"));
    let listen = [&first, &second].map(|path| format!("--listen={}", path.display()));
    let old = stage.standby(&[&listen[0]], &[]);
    let ended = stage
        .spawn_puppet(&[&listen[0], &listen[1], "--pre-start=exit 1"])
        .finish();
    assert_eq!(ended.code(), Some(1), "{}", stage.log.listing());
    stage.assert_serves(&old);
    std::os::unix::net::UnixStream::connect(&first).unwrap();
    assert!(!second.exists());
    // Its own are closed with it: the next one finds the address free.
    let next = stage.serving(&[&listen[0], &listen[1]], &[]);
    process::wait_exit(old.pid);
    stage.stop(next.launcher, &[]);
}

/// Under a supervisor, as people meet it: the restart says what is wrong, and the mended configuration takes over by
/// itself.
#[test]
fn a_restart_with_a_broken_configuration() {
    let stage = Stage::new();
    let (config, puppet) = (
        stage.scratch.join("config"),
        stage.scratch.join("puppet.py"),
    );
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::copy(here.join("tests/puppet.py"), &puppet).unwrap();
    fs::write(&config, "good 1\n").unwrap();
    let check = format!(
        "--pre-start=grep -q ^good {0} || {{ echo \"{0}: line 1: not good\" >&2; exit 4; }}",
        config.display()
    );
    let (program, python) = (support::program(), python());
    let words = [
        program.to_str().unwrap(),
        "--pid-file",
        stage.pid_file.to_str().unwrap(),
        &check,
        "--",
        python.to_str().unwrap(),
        "-I",
        "-S",
        puppet.to_str().unwrap(),
    ];
    let service = Service::new(words)
        .env("PIPES", stage.scratch.join("pipes"))
        .env("FIRST", "notify('X_SEAMLESS=started')");
    let mut runit = Runit::start(&stage.scratch, &stage.log, &service);
    let first = stage.puppet(stage.up());
    stage.wait_ready(&first);

    fs::write(&config, "bad 2\n").unwrap();
    let verdict = stage.verb(&["restart"]);
    assert_eq!(
        verdict.code(),
        Some(1),
        "{}{}",
        verdict.stdout,
        verdict.stderr
    );
    let said = format!("{}{}", verdict.stdout, verdict.stderr);
    for part in ["pre-start", "exit status 4", "line 1: not good"] {
        assert!(said.contains(part), "{said}");
    }
    // Every attempt fails, the first one's daemon serves on.
    for _ in 0..2 {
        stage.log.wait_for("app: pre-start: ");
    }
    stage.assert_serves(&first);
    let status = stage.verb(&["status"]);
    assert_eq!(status.code(), Some(0), "{}", status.stdout);
    assert!(
        status.stdout.contains("line 1: not good"),
        "{}",
        status.stdout
    );

    fs::write(&config, "good 3\n").unwrap();
    let second = stage.puppet(stage.up());
    stage.wait_ready(&second);
    process::wait_exit(first.pid);
    runit.want_down().expect_success();
    stage.scratch.wait_no_processes_but(&runit.own_processes());
    runit.shutdown();
}

/// What it leaves in the background holds nobody up, and ends with it.
#[test]
fn one_that_forks() {
    let stage = Stage::new();
    let code = format!("{CHILD} until grep -q x said 2>/dev/null; do :; done; exit 0");
    let code = code.replace("echo child $$ >>$LOG", "echo child $$ >>$LOG; echo x >said");
    let option = command(&stage, "pre-start", &code);
    let one = stage.serving(&[&option], &[]);
    process::wait_exit(said(&stage, "child", 0));
    stage.stop(one.launcher, &[]);
}

/// What a command writes is shown to people, in their terminals.
#[test]
fn what_it_writes_is_made_harmless() {
    let stage = Stage::new();
    let code = r"printf '\033[2Jcleared\007\n\377\376 no text\n\n\ttabbed\n'; exit 1";
    let option = command(&stage, "pre-start", code);
    let ended = stage.spawn_puppet(&[&option]).finish();
    assert_eq!(ended.code(), Some(1));
    stage.log.wait_for("the pre-start command failed");
    let lines = stage.settled().lines();
    for part in ["cleared", "no text", "tabbed"] {
        let line = lines.iter().find(|line| line.contains(part));
        let line = line.unwrap_or_else(|| panic!("{part}: {}", stage.log.listing()));
        assert!(!line.contains(['\x1b', '\x07']), "{line:?}");
    }
}
