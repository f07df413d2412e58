//! `systemctl restart` of a new version that fails: the command fails, `systemctl status` says why, and nobody else
//! notices (promise 2).

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Machine, write_script};
use crate::load::{Load, SlowSpec, Target};
use crate::stage::tell;
use crate::support::process::Pid;
use crate::support::{self, PATIENCE, Supervisor};

const CLIENTS: usize = 8;
const REQUESTS_PER_SECOND: u32 = 2000;
const SLOW: SlowSpec = SlowSpec {
    clients: 2,
    delay: Duration::from_secs(1),
};

/// A link to a version, changed in one step as a deployment does.
fn deploy(version: &Path, current: &Path) {
    let beside = current.with_extension("new");
    fs::remove_file(&beside).ok();
    symlink(version, &beside).unwrap();
    fs::rename(&beside, current).unwrap();
}

struct Versions {
    current: PathBuf,
    good: PathBuf,
}

impl Versions {
    fn deploy_good(&self) {
        deploy(&self.good, &self.current);
    }
}

/// The good one under load, then `bad`, then the good one again; `why` is what systemd shows.
fn fails_and_nobody_notices(name: &str, bad: impl Fn(&Path), options: &[&str], why: &str) {
    let machine = Machine::boot();
    let versions = Versions {
        current: machine.stage.scratch.join("current"),
        good: support::example("http_unix"),
    };
    let broken = machine.stage.scratch.join("broken");
    bad(&broken);
    versions.deploy_good();
    let path = machine.stage.scratch.join("app.sock");
    let held = format!("--listen=http={}", path.display());
    let options = [&[held.as_str()], options].concat();
    // A version that fails is started again and again; it need not be all that the machine does.
    let service = machine
        .service_of(&options, &versions.current)
        .unit_service("TimeoutStartSec=infinity")
        .unit_service("RestartSec=300ms");
    machine.install(&service);
    machine.run(&["start", "app"]).expect_success();
    let load = Load::start_at_rate(Target::Unix(path), CLIENTS, Some(SLOW), REQUESTS_PER_SECOND);
    assert!(load.wait_slow_in_flight(PATIENCE, SLOW.clients));
    let first = load.wait_answer(PATIENCE, |_| true).unwrap();
    assert_eq!(first.generation, Some(1));

    deploy(&broken, &versions.current);
    let restart = machine.systemd.restart();
    assert_eq!(restart.code(), Some(1), "{name}: {}", restart.stderr);
    // It goes when the next attempt begins, and is there again when that has failed.
    let shown = machine.systemd.wait_status(why);
    let status = shown.lines().find(|line| line.contains("Status: "));
    let status = status.unwrap_or_else(|| panic!("{name}: no status in {shown}"));
    // And the one after it fails in the same way.
    let again = machine.systemd.restart();
    assert_eq!(again.code(), Some(1), "{name}: {}", again.stderr);
    assert_ne!(machine.active_state(), "active", "{name}");
    let pid = i32::try_from(first.pid).unwrap();
    assert!(machine.alive(Pid::from_raw(pid)), "{}", machine.listing());

    versions.deploy_good();
    machine.systemd.restart().expect_success();
    let next = load
        .wait_answer(PATIENCE, |answer| answer.pid != first.pid)
        .unwrap_or_else(|| panic!("{name}: nobody new answers: {}", machine.listing()));
    assert!(next.generation > Some(2));
    assert_eq!(machine.active_state(), "active", "{name}");
    machine.wait_exit(Pid::from_raw(pid));
    let report = load.stop();
    tell(&format!(
        "systemctl restart, the new version {name}: {} requests, {} failed; {} slow ones, {} cut off; {}",
        report.fast.finished(),
        report.fast.failed(),
        report.slow.finished(),
        report.slow.failed(),
        status.trim()
    ));
    assert_eq!(
        report.failed(),
        0,
        "{name}: {report}\n{}",
        machine.listing()
    );
    // systemd may have tried again by itself, in the moment before the restart by hand.
    let answered = report.pids().len();
    assert!(matches!(answered, 2 | 3), "{name}: {report}");
    // The good one says nothing of what was.
    let text = machine.property("StatusText");
    assert!(!text.contains(why), "{name}: {text}");
    machine.stop();
}

#[test]
fn a_new_version_that_exits_fails_the_restart() {
    let bad = |path: &Path| write_script(path, "exit 3");
    fails_and_nobody_notices("exits", bad, &[], "exit status 3");
}

#[test]
fn a_new_version_that_hangs_fails_the_restart_at_the_ready_timeout() {
    let bad = |path: &Path| write_script(path, "exec sleep 1000");
    // The good one has to be as fast.
    let options = ["--ready-timeout", "3s"];
    fails_and_nobody_notices("hangs", bad, &options, "was not ready");
}

#[test]
fn a_new_version_that_cannot_be_executed_fails_the_restart() {
    let bad = |path: &Path| {
        write_script(path, "exit 0");
        fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    };
    fails_and_nobody_notices("cannot be executed", bad, &[], "cannot execute");
}

#[test]
fn a_new_version_that_is_not_there_fails_the_restart() {
    let bad = |_: &Path| {};
    fails_and_nobody_notices("is missing", bad, &[], "No such file or directory");
}
