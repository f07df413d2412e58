//! Signals to the launcher, one by one and in storms (R10, R15, R24).

use std::process::Command;

use nix::sys::signal::{Signal, kill};

use crate::stage::{BY_CHLD, STARTED, Stage, WAITS};
use crate::support::process::{self, Handle, Process, status_field};
use crate::support::tool;
use crate::verbs::status;

/// In Python, since a shell cannot catch them all: names each signal that comes, and its value.
const LISTENER: &str = r#"
import os, signal, sys
wanted = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}
signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
print("up", os.getpid(), flush=True)
while True:
    info = signal.sigwaitinfo(wanted)
    print("got", int(info.si_signo), flush=True)
    if info.si_signo == signal.SIGTERM:
        sys.exit(5)
"#;

#[test]
fn every_other_signal_goes_to_the_daemon_as_it_is() {
    let stage = Stage::new();
    std::fs::write(stage.scratch.join("listener.py"), LISTENER).unwrap();
    let launcher = stage
        .seamless_run(&["python3"])
        .arg(stage.scratch.join("listener.py"))
        .start();
    stage.up();
    let standard = Signal::iterator()
        .map(|signal| signal as i32)
        .filter(|number| {
            use Signal::*;
            // What nobody can catch, our own faults, a child's, and what means restart and stop.
            ![
                SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGCHLD, SIGTERM, SIGINT,
            ]
            .contains(&Signal::try_from(*number).unwrap())
        });
    for number in standard.chain(34..=64) {
        let words = [format!("-{number}"), launcher.pid().to_string()];
        assert!(Command::new("kill").args(words).status().unwrap().success());
        assert_eq!(stage.log.wait_for("got "), format!("got {number}"));
    }
    stage.stop(launcher, &[]);
}

#[test]
fn a_signal_can_be_given_another_meaning() {
    let stage = Stage::new();
    let options = [
        "--name",
        "web",
        "--on",
        "USR1=HUP",
        "--on",
        "USR2=ignore",
        "--on",
        "TERM=stop",
    ];
    let (launcher, daemon) = stage.daemon(&options, STARTED, BY_CHLD);
    launcher.signal(Signal::SIGUSR2);
    launcher.signal(Signal::SIGUSR1);
    stage.log.wait_for(&format!("{daemon} got HUP"));
    launcher.signal(Signal::SIGTERM);
    stage.log.wait_for(&format!("{daemon} got TERM"));
    assert_eq!(launcher.finish().code(), Some(0));
    stage.scratch.wait_no_processes_but(&[]);
    assert_eq!(stage.log.count("got USR2"), 0);
    assert_eq!(stage.log.count("web: "), 4, "{}", stage.log.listing());
}

#[test]
fn a_value_that_was_queued_arrives_in_order() {
    let stage = Stage::new();
    let code = r#"
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGRTMIN})
print("up", os.getpid(), flush=True)
libc = __import__("ctypes").CDLL(None)
info = __import__("ctypes").create_string_buffer(128)
mask = (__import__("ctypes").c_ulong * 16)(1 << (signal.SIGRTMIN - 1))
while True:
    libc.sigwaitinfo(mask, info)
    print("value", int.from_bytes(info.raw[24:28], "little"), flush=True)
"#;
    std::fs::write(stage.scratch.join("values.py"), code).unwrap();
    let launcher = stage
        .seamless_run(&["python3"])
        .arg(stage.scratch.join("values.py"))
        .start();
    stage.up();
    launcher.signal(Signal::SIGSTOP);
    for value in 1..=40 {
        let sent = Command::new("/bin/kill")
            .args([
                "-q",
                &value.to_string(),
                "-s",
                "RTMIN",
                &launcher.pid().to_string(),
            ])
            .status();
        assert!(sent.unwrap().success());
    }
    launcher.signal(Signal::SIGCONT);
    for value in 1..=40 {
        assert_eq!(stage.log.wait_for("value "), format!("value {value}"));
    }
    stage.stop(launcher, &[]);
}

#[test]
fn tstp_stops_a_daemon_that_does_not_catch_it() {
    let stage = Stage::new();
    let (launcher, daemon) = stage.daemon(&[], STARTED, BY_CHLD);
    let state = |pid| status_field(pid, "State").unwrap();
    launcher.signal(Signal::SIGTSTP);
    launcher.signal(Signal::SIGHUP);
    // STOP is seen by nobody but the kernel; the wait is for the state that it leaves.
    while !state(daemon).starts_with('T') {
        std::thread::yield_now();
    }
    launcher.signal(Signal::SIGCONT);
    stage.log.wait_for(&format!("{daemon} got HUP"));
    stage.stop(launcher, &[]);
}

#[test]
fn a_stop_ends_it_and_a_timeout_kills_it() {
    let stage = Stage::new();
    let (launcher, daemon) = stage.daemon(&[], STARTED, BY_CHLD);
    launcher.signal(Signal::SIGINT);
    stage.log.wait_for(&format!("{daemon} got TERM"));
    assert_eq!(launcher.finish().code(), Some(0));
    stage.scratch.wait_no_processes_but(&[]);
    assert_eq!(stage.pid_in_file(), None);

    let stubborn = "trap '' TERM; exec 9<>$NOTHING; echo up $$; read _ <&9";
    let launcher = stage
        .seamless_run(&["--stop-timeout", "100ms"])
        .args(stage.sh(stubborn))
        .start();
    stage.up();
    launcher.signal(Signal::SIGINT);
    assert_eq!(
        launcher.finish().signal(),
        Some(Signal::SIGKILL),
        "its own end"
    );
    stage.log.wait_for("did not end in time; it is killed");
    stage.scratch.wait_no_processes_but(&[]);
}

/// R24: whatever piles up while the launcher cannot run, what matters is not lost.
#[test]
fn a_storm_while_the_launcher_is_stopped() {
    let stage = Stage::new();
    let code = r#"trap 'exit 7' QUIT; trap 'n=1' HUP; trap 'exit 8' TERM; echo "up $$"; while :; do wait; done"#;
    let code = format!("{WAITS}\n{code}");
    let launcher = stage.seamless_run(&[]).args(stage.sh(&code)).start();
    let daemon = stage.up();
    // Some of the storm while it runs, the rest while it does not.
    for _ in 0..1000 {
        kill(launcher.pid(), Signal::SIGHUP).unwrap();
    }
    launcher.signal(Signal::SIGSTOP);
    for _ in 0..4000 {
        kill(launcher.pid(), Signal::SIGHUP).unwrap();
    }
    kill(launcher.pid(), Signal::SIGTERM).unwrap();
    kill(launcher.pid(), Signal::SIGINT).unwrap();
    let handle = Handle::open(daemon).unwrap();
    handle.signal(Signal::SIGQUIT);
    process::wait_exit(daemon);
    stage.log.wait_for("exit status 7");
    assert!(launcher.alive());
    launcher.signal(Signal::SIGCONT);
    assert_eq!(launcher.finish().code(), Some(7));
    stage.scratch.wait_no_processes_but(&[]);
}

/// The other way round: the keeper cannot run while the storm is on, and TERM is not lost in it.
#[test]
fn a_storm_while_the_keeper_is_stopped() {
    let stage = Stage::new();
    let (launcher, daemon) = stage.daemon(&[], STARTED, BY_CHLD);
    let keeper = process::children(launcher.pid())[0];
    let keeper = Handle::open(keeper).unwrap();
    keeper.signal(Signal::SIGSTOP);
    for _ in 0..2000 {
        kill(launcher.pid(), Signal::SIGHUP).unwrap();
        kill(launcher.pid(), Signal::SIGUSR1).ok();
    }
    kill(launcher.pid(), Signal::SIGTERM).unwrap();
    keeper.signal(Signal::SIGCONT);
    // USR1 kills this daemon; TERM or not, the end is one of the two that there are.
    process::wait_exit(daemon);
    assert_eq!(launcher.finish().signal(), Some(Signal::SIGUSR1));
    stage.scratch.wait_no_processes_but(&[]);
}

/// While its daemon starts, the keeper watches the directory of the PID file: whoever traces it may write there at
/// each of its steps, and it finds the time for others all the same.
#[test]
fn a_keeper_whose_steps_are_written_into_its_own_directory() {
    let stage = Stage::new();
    let code = r#"echo "up $$"; exec sleep 3600"#;
    let launcher = stage.seamless_run(&[]).args(stage.sh(code)).start();
    stage.up();
    let keeper = process::children(launcher.pid())[0];
    let trace = stage.pid_file.with_extension("trace");
    let strace = stage
        .spawn(tool("strace", "strace"))
        .args(["-o", trace.to_str().unwrap(), "-p", &keeper.to_string()])
        .start();
    stage.log.wait_for(&format!("Process {keeper} attached"));
    let (_, seen) = status(&stage);
    assert_eq!(seen["source"], "keeper");
    launcher.signal(Signal::SIGTERM);
    launcher.finish();
    strace.finish();
    stage.scratch.wait_no_processes_but(&[]);
}

fn is_keeper(process: &Process) -> bool {
    process.comm == "seamless-keeper"
}

/// A restart at any moment of a start: never a death by USR2, never a daemon that nobody knows, and
/// always a defined end.
#[test]
fn a_restart_at_any_moment_after_the_start() {
    let stage = Stage::new();
    // Without a child, which would be nobody's once this one is ended: whoever lives is a daemon. A signal
    // that comes a moment before a shell's `read` is left until that ends: hence a read that does.
    let code = r#"
        trap 'eval "$PREPARE"' USR2
        trap 'exit 0' TERM
        exec 9<>"$NOTHING"
        eval "$READY"
        while :; do read -r -t 1 _ <&9; done
    "#;
    let mut command = stage.sh(code);
    // That of dash has no end.
    "bash".clone_into(&mut command[0]);
    let delays = [0, 100, 1000, 2000, 5000, 10_000, 50_000];
    let (mut detached, mut restarted, mut untouched) = (0, 0, 0);
    for round in 0..300 {
        let delay = delays[round % delays.len()];
        let launcher = stage
            .seamless_run(&["-q", "--"])
            .args(&command)
            .env("READY", if round % 2 == 0 { "" } else { STARTED })
            .env("PREPARE", BY_CHLD)
            .start();
        // The one wait for time in these tests: the moment is what is tested.
        std::thread::sleep(std::time::Duration::from_micros(delay));
        launcher.signal(Signal::SIGTERM);
        let ended = launcher.finish();
        let record = stage.record();
        let left = stage.scratch.processes();
        for one in &left {
            // A keeper, or what one or the record knows, or what a known daemon has just started.
            let known = |pid| record.contains(&format!("={pid}:"));
            let keeper = |pid| {
                left.iter()
                    .any(|other| other.pid == pid && is_keeper(other))
            };
            let found = is_keeper(one) || known(one.pid) || keeper(one.parent) || known(one.parent);
            assert!(
                found || !process::alive(one.pid),
                "nobody knows of {one}: {record}"
            );
        }
        match (ended.code(), ended.signal()) {
            // It was told to prepare; or it was ended, and its own TERM trap said 0.
            (Some(0), None) if record.is_empty() => restarted += 1,
            (Some(0), None) => detached += 1,
            // It was ended before it had a trap, or the launcher was before it had begun.
            (None, Some(Signal::SIGTERM)) => untouched += 1,
            other => panic!("after {delay} µs: {other:?}\n{}", stage.log.listing()),
        }
        // The next round begins with nothing: keepers go with their daemons.
        for one in stage
            .scratch
            .processes()
            .iter()
            .filter(|one| !is_keeper(one))
        {
            if let Some(handle) = Handle::open(one.pid) {
                handle.signal(Signal::SIGKILL);
            }
        }
        stage.scratch.wait_no_processes_but(&[]);
    }
    crate::stage::tell(&format!(
        "300 restarts: {detached} detached, {restarted} ended by its trap, {untouched} by TERM"
    ));
    assert_eq!(stage.log.count("killed by USR2"), 0);
    assert!(detached > 0 && untouched > 0, "both ends were seen");
}
