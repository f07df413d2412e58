//! Probes that hang, fork, flood, and what becomes of a probe when the daemon, the keeper or the service ends.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;

use crate::puppet::{Generation, SOON};
use crate::scene::kill;
use crate::stage::{Stage, pid_in};
use crate::support::process::{self, Pid};

/// A probe that says when it begins, and that another one is still at work if one is; `hold` never ends.
fn probe(stage: &Stage, code: &str) -> String {
    let hold = stage.scratch.join("hold");
    if !hold.exists() {
        nix::unistd::mkfifo(&hold, Mode::S_IRWXU).unwrap();
    }
    let code = format!(
        "if [ -e at-work ]; then
    read -r other <at-work
    case $(cat \"/proc/$other/stat\" 2>/dev/null) in '' | *') Z '*) ;; *) echo overlaps >>\"$LOG\" ;; esac
fi
echo $$ >at-work
hold() {{ read -r _ <{}; }}
echo \"asked $$\" >>\"$LOG\"
{code}",
        hold.display()
    );
    format!("--ready=exec:{}", stage.sh(&code).join(" "))
}

/// The PID in the nth line `WHAT PID`, of a probe or its child.
fn said(stage: &Stage, what: &str, nth: usize) -> Pid {
    pid_in(&stage.nth(what, nth))
}

/// It is KILLed with its process group, and the next one follows; two never run at once.
#[test]
fn one_that_hangs() {
    for code in [
        "[ -e made ] || hold",
        "trap '' TERM INT HUP QUIT; [ -e made ] || hold",
        "[ -e made ] || { sh -c 'echo child $$ >>$LOG; trap \"\" TERM; read -r _ <hold'; }",
        "[ -e made ] || { sh -c 'echo child $$ >>$LOG; read -r _ <hold' & hold; }",
        "[ -e made ] || kill -STOP $$",
    ] {
        let stage = Stage::new();
        let option = probe(&stage, code);
        // Within it a probe is to say that it was begun, and a good one is to be over.
        let one = stage.begin(&[&option, "--probe-timeout=500ms"], &[]);
        for nth in 0..3 {
            if code.contains("child") {
                process::wait_exit(said(&stage, "child", nth));
            }
            process::wait_exit(said(&stage, "asked", nth));
            stage.wait_waits("0.5 s", true);
        }
        stage.ready_since(&one.daemon, "write('made', '')");
        assert_eq!(
            stage.settled().count("overlaps"),
            0,
            "{}",
            stage.log.listing()
        );
        stage.stop(one.launcher, &[]);
    }
}

/// Never: it hangs until the generation's own time is over.
#[test]
fn one_that_hangs_to_the_end() {
    let stage = Stage::new();
    let old = stage.standby(&[], &[]);
    for timeout in ["--probe-timeout=200ms", "--probe-timeout=10m"] {
        let before = stage.settled().count("asked ");
        let option = probe(&stage, "hold");
        let two = stage.begin(&[&option, timeout, SOON], &[]);
        stage.assert_failed(two, &old, "exec:");
        for nth in before..stage.settled().count("asked ") {
            process::wait_exit(said(&stage, "asked", nth));
        }
        // One that was KILLed before it could say so may not be gone yet: nobody waits for it any more.
        let at_work = fs::read_to_string(stage.scratch.join("at-work")).unwrap();
        if let Ok(last) = at_work.trim().parse() {
            process::wait_exit(Pid::from_raw(last));
        }
        assert!(stage.settled().count("asked ") > before);
    }
    assert_eq!(
        stage.settled().count("overlaps"),
        0,
        "{}",
        stage.log.listing()
    );
}

/// What it leaves in the background ends with it, whether it succeeded or not, and holds nothing up.
#[test]
fn one_that_forks() {
    for (code, succeeds) in [
        (
            "(trap '' TERM; echo left $$ >/dev/null; sh -c 'echo left $$ >>$LOG; read -r _ <hold') & exit 1",
            false,
        ),
        (
            "sh -c 'echo left $$ >>$LOG; read -r _ <hold' & while ! [ -s left ]; do [ -e left ] || break; done; exit 0",
            true,
        ),
        (
            "sh -c 'echo left $$ >>$LOG; read -r _ <hold' >/dev/null 2>&1 & exit 1",
            false,
        ),
    ] {
        let stage = Stage::new();
        // It leaves when its child has spoken.
        let code = code.replace(
            "exit",
            "until grep -q left said 2>/dev/null; do :; done; exit",
        );
        let code = code.replace(
            "echo left $$ >>$LOG",
            "echo left $$ >>$LOG; echo left >said",
        );
        let option = probe(&stage, &format!("rm -f said\n{code}"));
        let one = stage.begin(&[&option, "--probe-timeout=10m"], &[]);
        for nth in 0..(if succeeds { 1 } else { 3 }) {
            process::wait_exit(said(&stage, "asked", nth));
            process::wait_exit(said(&stage, "left", nth));
        }
        assert_eq!(
            stage.settled().count("overlaps"),
            0,
            "{}",
            stage.log.listing()
        );
        if succeeds {
            stage.wait_ready(&one.daemon);
        }
        stage.stop(one.launcher, &[]);
    }
}

fn kilobytes(pid: Pid, field: &str) -> u64 {
    let text = process::status_field(pid, field).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// What it writes without end is read and forgotten: the keeper answers meanwhile, and does not grow.
#[test]
fn one_that_floods() {
    let stage = Stage::new();
    let option = probe(
        &stage,
        "[ -e made ] || while :; do echo 'and on and on and on and on and on and on'; done",
    );
    let one = stage.begin(&[&option, "--probe-timeout=1s"], &[]);
    said(&stage, "asked", 0);
    let before = kilobytes(one.keeper, "VmHWM");
    for nth in 1..3 {
        said(&stage, "asked", nth);
        for _ in 0..10 {
            assert_eq!(stage.told()["generations"][0]["phase"], "starting");
        }
    }
    // The kernel counts for each processor, and adds up now and then: it may be less.
    let grown = kilobytes(one.keeper, "VmHWM").saturating_sub(before);
    assert!(grown < 2048, "the keeper has grown by {grown} kB");
    let waits = stage.wait_waits("and on and on", true);
    assert!(waits.len() < 8192, "{} bytes", waits.len());
    stage.ready_since(&one.daemon, "write('made', '')");
    stage.stop(one.launcher, &[]);
}

/// A lot of output is no fault of its own; and one line without an end is a line.
#[test]
fn one_that_says_much_and_succeeds() {
    let stage = Stage::new();
    let option = probe(
        &stage,
        "head -c 20000000 /dev/zero | tr '\\0' x; head -c 20000000 /dev/zero >&2",
    );
    let one = stage.begin(&[&option, "--probe-timeout=none"], &[]);
    stage.wait_ready(&one.daemon);
    assert_eq!(
        stage.settled().count("asked "),
        1,
        "{}",
        stage.settled().lines().len()
    );
    stage.stop(one.launcher, &[]);
}

/// A stop and a restart wait for no probe, and leave none behind.
#[test]
fn a_stop_and_a_restart_meanwhile() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let stage = Stage::new();
        let option = probe(
            &stage,
            "sh -c 'echo child $$ >>$LOG; read -r _ <hold' & hold",
        );
        let one = stage.begin(&[&option, "--probe-timeout=10m"], &[]);
        let probes = ["asked", "child"].map(|what| said(&stage, what, 0));
        one.launcher.signal(signal);
        assert_eq!(
            one.launcher.finish().code(),
            Some(0),
            "{}",
            stage.log.listing()
        );
        assert_eq!(stage.got(&one.daemon, "TERM"), 1);
        for pid in probes {
            process::wait_exit(pid);
        }
        stage.scratch.wait_no_processes_but(&[]);
    }
}

/// The daemon dies while it is asked about: what the probe says then is nobody's readiness.
#[test]
fn the_daemon_dies_meanwhile() {
    let stage = Stage::new();
    let old = stage.standby(&[], &[]);
    let option = probe(&stage, "hold");
    let two = stage.begin(&[&option, "--probe-timeout=10m"], &[]);
    let asked = said(&stage, "asked", 0);
    stage.asks(&two.daemon, "leave(3)");
    stage.assert_failed(two, &old, "it died before it was ready: exit status 3");
    process::wait_exit(asked);
    assert_eq!(stage.got(&old, "TERM"), 0);
}

/// R20: the next keeper asks anew, and what the lost one asked does not live on.
#[test]
fn the_keeper_is_killed_meanwhile() {
    let stage = Stage::new();
    let option = probe(
        &stage,
        "[ -e made ] || { sh -c 'echo child $$ >>$LOG; read -r _ <hold' & hold; }",
    );
    let one = stage.begin(&[&option, "--probe-timeout=10m"], &[]);
    let first = ["asked", "child"].map(|what| said(&stage, what, 0));
    stage.has(&one.daemon, "write('made', '')");
    kill(one.keeper);
    stage.log.wait_for("goes on in its place");
    stage.wait_ready(&one.daemon);
    for pid in first {
        process::wait_exit(pid);
    }
    let Generation { launcher, .. } = one;
    stage.stop(launcher, &[]);
}

/// The launcher is KILLed meanwhile: with a predecessor the attempt is over, without one it goes on (§3).
#[test]
fn the_launcher_is_killed_meanwhile() {
    let stage = Stage::new();
    let option = probe(&stage, "[ -e made ] || hold");
    let mut one = stage.begin(&[&option, "--probe-timeout=10m"], &[]);
    let first = said(&stage, "asked", 0);
    one.launcher.kill();
    stage.log.wait_for("the launcher of generation 1");
    assert!(process::alive(first), "{}", stage.log.listing());
    fs::write::<PathBuf, _>(stage.scratch.join("hold"), "yes\n").unwrap();
    stage.wait_ready(&one.daemon);

    let again = probe(&stage, "hold");
    let mut two = stage.begin(&[&again, "--probe-timeout=10m"], &[]);
    let second = said(&stage, "asked", 1);
    two.launcher.kill();
    process::wait_exit(two.daemon.pid);
    process::wait_exit(second);
    stage.assert_serves(&one.daemon);
    assert_eq!(stage.verb(&["stop"]).code(), Some(0));
    stage.scratch.wait_no_processes_but(&[]);
}
