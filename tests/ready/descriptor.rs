//! `--ready fd:N`: a newline on a descriptor, as s6 has it.

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixStream;

use crate::puppet::{NOT_SOON, SOON};
use crate::stage::Stage;
use crate::support::process::{self, Pid};

use super::Mark;

fn descriptors(pid: Pid) -> Vec<(i32, String)> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let mut found: Vec<(i32, String)> = entries
        .filter_map(|entry| {
            let path = entry.unwrap().path();
            let number = path.file_name()?.to_str()?.parse().ok()?;
            let target = fs::read_link(path).ok()?;
            Some((number, target.to_str()?.to_owned()))
        })
        // The puppet's own are above.
        .filter(|(number, _)| *number < 100)
        .collect();
    found.sort();
    found
}

#[test]
fn a_newline() {
    for (number, last) in [
        (3, r"b'\n'"),
        (3, r"b'ready\n'"),
        (3, r"b'ready\nand more'"),
        (9, r"b'\n'"),
        (42, r"b'\n\n'"),
    ] {
        let stage = Stage::new();
        let mark = Mark::new(&stage);
        let ready = format!("--ready=fd:{number}");
        let one = stage.begin(&[&mark.option, &ready], &[]);
        // No end yet.
        stage.has(&one.daemon, &format!("os.write({number}, b'nearly ')"));
        mark.assert_waits(&stage, &one, &format!("fd:{number}"));
        stage.ready_since(&one.daemon, &format!("os.write({number}, {last})"));
        stage.has(&one.daemon, &format!("os.close({number})"));
        stage.stop(one.launcher, &[]);
    }
}

/// R1: it finds what it would find without us, and this pipe.
#[test]
fn what_the_daemon_is_given() {
    let stage = Stage::new();
    let plain = stage.begin(&[], &[]);
    let before = descriptors(plain.daemon.pid);
    stage.stop(plain.launcher, &[]);

    let one = stage.begin(&["--ready=fd:7"], &[]);
    let after = descriptors(one.daemon.pid);
    let added: Vec<_> = after
        .iter()
        .filter(|(number, _)| before.iter().all(|(other, _)| other != number))
        .collect();
    let [(7, pipe)] = &added[..] else {
        panic!("{before:?} {after:?}");
    };
    assert!(pipe.starts_with("pipe:"), "{pipe}");
    let waits = "__import__('fcntl').fcntl(7, 3) & os.O_NONBLOCK == 0";
    assert_eq!(stage.answer(&one.daemon, waits), "True");
    // Inherited by what the daemon executes, as it must be.
    assert_eq!(stage.answer(&one.daemon, "os.get_inheritable(7)"), "True");
    stage.ready_since(&one.daemon, r"os.write(7, b'\n')");
    stage.stop(one.launcher, &[]);
}

/// Beside sockets, whose numbers are given.
#[test]
fn beside_held_sockets() {
    let stage = Stage::new();
    let path = stage.scratch.join("app.sock");
    let listen = format!("--listen={}", path.display());
    let one = stage.begin(&[&listen, "--ready=fd:4"], &[]);
    let names: Vec<String> = descriptors(one.daemon.pid)
        .into_iter()
        .map(|(_, name)| name)
        .collect();
    assert!(
        names[3].starts_with("socket:") && names[4].starts_with("pipe:"),
        "{names:?}"
    );
    assert_eq!(stage.answer(&one.daemon, "os.environ['LISTEN_FDS']"), "1");
    stage.ready_since(&one.daemon, r"os.write(4, b'\n')");
    stage.stop(one.launcher, &[]);
}

/// Never: it closes the descriptor, or says half a line.
#[test]
fn an_end_without_a_newline() {
    for line in ["os.close(3)", "os.write(3, b'ready'); os.close(3)"] {
        let stage = Stage::new();
        let old = stage.standby(&[], &[]);
        let two = stage.begin(&["--ready=fd:3", SOON], &[]);
        stage.has(&two.daemon, line);
        stage.assert_failed(two, &old, "fd:3");
        stage.log.wait_seen(NOT_SOON);
    }
}

/// A shell's daemon hands the descriptor down, and closes its own.
#[test]
fn a_child_says_it() {
    let stage = Stage::new();
    let mark = Mark::new(&stage);
    let one = stage.begin(&[&mark.option, "--ready=fd:3"], &[]);
    let child = stage.child(&one.daemon, "child(session=True)");
    stage.has(&one.daemon, "os.close(3)");
    mark.assert_waits(&stage, &one, "fd:3");
    stage.ready_since_other(&one.daemon, &child, r"os.write(3, b'\n')");
    stage.asks(&child, "leave()");
    stage.stop(one.launcher, &[]);
}

/// What was said stays said, though the descriptor is closed and something else is waited for.
#[test]
fn once_true_it_stays_true() {
    let stage = Stage::new();
    let mark = Mark::new(&stage);
    let one = stage.begin(&["--ready=fd:3", &mark.option], &[]);
    stage.has(&one.daemon, r"os.write(3, b'\n'); os.close(3)");
    stage.wait_waits("fd:3", false);
    stage.ready_since(&one.daemon, "write('mark.pid', str(os.getpid()))");
    stage.stop(one.launcher, &[]);
}

/// A daemon may say more than a line, and may say it when nobody waits any more: it does not die of it.
#[test]
fn whoever_says_more_is_not_harmed() {
    let stage = Stage::new();
    let one = stage.begin(&["--ready=fd:3"], &[]);
    stage.has(&one.daemon, "signal.signal(signal.SIGPIPE, signal.SIG_DFL)");
    stage.ready_since(&one.daemon, r"os.write(3, b'\n')");
    stage.has(&one.daemon, r"os.write(3, b'once more\n')");
    assert!(process::alive(one.daemon.pid), "{}", stage.log.listing());
    stage.stop(one.launcher, &[]);
}

/// The number that s6 gave to the launcher is free for the daemon's own, and what it says there is passed on.
#[test]
fn the_same_number_as_the_supervisors() {
    let stage = Stage::new();
    let (mut supervisor, theirs) = UnixStream::pair().unwrap();
    let launcher = stage
        .spawn_puppet(&["--notification-fd=3", "--ready=fd:3"])
        .descriptor(3, theirs)
        .start();
    let one = stage.begun(launcher);
    stage.ready_since(
        &one.daemon,
        r"os.write(3, b'from the daemon\n'); os.close(3)",
    );
    let mut heard = String::new();
    supervisor.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "\n");
    stage.stop(one.launcher, &[]);
}

/// Two of them: both must be said.
#[test]
fn two_descriptors() {
    let stage = Stage::new();
    let one = stage.begin(&["--ready=fd:3", "--ready=fd:5"], &[]);
    stage.has(&one.daemon, r"os.write(5, b'\n')");
    stage.wait_waits("fd:5", false);
    stage.ready_since(&one.daemon, r"os.write(3, b'\n')");
    stage.stop(one.launcher, &[]);
}

/// What the daemon writes, it writes to us; nothing that we write reaches it.
#[test]
fn a_flood_on_the_descriptor() {
    let stage = Stage::new();
    let one = stage.begin(&["--ready=fd:3"], &[]);
    stage.has(
        &one.daemon,
        "[os.write(3, b'x' * 65536) for _ in range(64)]",
    );
    assert!(!stage.is_ready(&one.daemon));
    stage.ready_since(&one.daemon, r"os.write(3, b'\n')");
    stage.stop(one.launcher, &[]);
}
