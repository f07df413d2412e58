//! A supervisor that is shut down takes its service along: the generation that serves, and one that still drains.

use nix::sys::signal::Signal;

use super::{CRASHES, LINGERS, Recipe, Told};
use crate::support::process::{self, Handle, Pid};
use crate::support::{Kind, Verb};

/// The first generation drains, the second serves.
fn draining(kind: Kind, otherwise: bool) -> Told {
    let recipe = Recipe {
        otherwise,
        ..Recipe::default()
    };
    let told = Told::serving_with(kind, &recipe);
    told.script("drain", LINGERS);
    told.restart();
    told.wait("daemon 2 is started");
    told.wait("daemon 1 got TERM");
    told.supervisor.settle();
    told
}

/// The supervisor has been told to go: it waits for the launcher, and the launcher for everybody.
fn assert_ends(mut told: Told, launcher: &Handle) {
    told.wait("daemon 2 got TERM");
    told.release(2);
    told.wait("is stopped: exit status 7");
    told.let_pass();
    assert!(process::alive(launcher.pid), "{}", told.listing());
    told.release(1);
    told.supervisor.wait_exit();
    told.wait("daemon 1 ends");
    told.assert_only(&[]);
    assert_eq!(told.count("daemon 1 got TERM"), 1, "{}", told.listing());
    told.assert_launcher_left_last();
}

fn process_of(told: &Told, comm: &str) -> Pid {
    let found = told.stage.scratch.processes();
    let mut found = found.iter().filter(|process| process.comm == comm);
    let one = found.next().unwrap_or_else(|| panic!("no {comm}"));
    assert!(found.next().is_none(), "more than one {comm}");
    one.pid
}

fn signal(pid: Pid, signal: Signal) {
    Handle::open(pid).expect("it lives").signal(signal);
}

fn exits_by_its_own_verb(kind: Kind) {
    let told = draining(kind, false);
    let launcher = told.launcher();
    told.supervisor.run(Verb::Exit).expect_success();
    assert_ends(told, &launcher);
}

#[test]
fn sv_exit() {
    exits_by_its_own_verb(Kind::Runit);
}

#[test]
fn svc_dx() {
    exits_by_its_own_verb(Kind::Daemontools);
}

#[test]
fn s6_svscanctl_t() {
    exits_by_its_own_verb(Kind::S6);
}

#[test]
fn systemctl_halt() {
    exits_by_its_own_verb(Kind::Systemd);
}

#[test]
fn term_to_runsv() {
    let told = draining(Kind::Runit, false);
    let launcher = told.launcher();
    signal(process_of(&told, "runsv"), Signal::SIGTERM);
    assert_ends(told, &launcher);
}

#[test]
fn term_to_s6_supervise() {
    let told = draining(Kind::S6, true);
    let launcher = told.launcher();
    signal(process_of(&told, "s6-supervise"), Signal::SIGTERM);
    assert_ends(told, &launcher);
}

/// It TERMs every runsv.
#[test]
fn hup_to_runsvdir() {
    let mut told = draining(Kind::Runit, true);
    let launcher = told.launcher();
    signal(process_of(&told, "runsvdir"), Signal::SIGHUP);
    // It does not wait for them.
    told.supervisor.wait_exit();
    assert_ends(told, &launcher);
}

/// It leaves every runsv alone, as a machine's shutdown relies on: the service is supervised, and restarted, as before.
#[test]
fn term_to_runsvdir_ends_nothing() {
    let mut told = draining(Kind::Runit, true);
    let [runsvdir, runsv] = ["runsvdir", "runsv"].map(|comm| process_of(&told, comm));
    told.release(1);
    told.wait("daemon 1 ends");
    signal(runsvdir, Signal::SIGTERM);
    told.supervisor.wait_exit();
    told.script("drain", super::AT_ONCE);
    told.restart();
    told.wait("daemon 3 is started");
    told.wait("daemon 2 ends");
    told.assert_no_stop();
    told.supervisor.run(Verb::Exit).expect_success();
    process::wait_exit(runsv);
    told.assert_only(&[]);
    told.wait("daemon 3 ends");
}

/// Nobody but the standby's keeper is there to be told.
fn exits_while_a_new_version_crashes(kind: Kind) {
    exits_in_a_crash_loop(Told::serving(kind));
}

fn exits_in_a_crash_loop(mut told: Told) {
    told.script("start", CRASHES);
    told.restart();
    told.wait("died before it was ready: exit status 3");
    told.supervisor.settle();
    told.supervisor.run(Verb::Exit).expect_success();
    told.supervisor.wait_exit();
    told.wait("daemon 1 ends");
    told.stage.scratch.wait_only(&[]);
}

#[test]
fn sv_exit_while_a_new_version_crashes() {
    exits_while_a_new_version_crashes(Kind::Runit);
}

#[test]
fn svc_dx_while_a_new_version_crashes() {
    exits_while_a_new_version_crashes(Kind::Daemontools);
}

/// In the pause before the next start s6-supervise leaves without a word, and its status says *up*: nothing but the
/// orphan timeout can end what is in standby (R16).
#[test]
fn s6_svscanctl_t_while_a_new_version_crashes() {
    let recipe = Recipe {
        orphan_timeout: Some("--orphan-timeout=1s"),
        ..Recipe::default()
    };
    exits_in_a_crash_loop(Told::serving_with(Kind::S6, &recipe));
}

/// PID 1 ends whoever is left, by TERM first, keepers too: no socket is held for anybody then.
#[test]
fn systemctl_halt_while_a_new_version_crashes() {
    let recipe = Recipe {
        options: &["--listen=http=127.0.0.1:0"],
        ..Recipe::default()
    };
    exits_in_a_crash_loop(Told::serving_with(Kind::Systemd, &recipe));
}
