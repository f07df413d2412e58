//! Start limits: five starts in ten seconds are systemd's default, and count those by hand too. (Here it is an hour: a
//! busy machine may not be so fast.)

use nix::sys::signal::Signal;

use super::{Machine, READY, RUNTIME_DIRECTORY, write_script};
use crate::support::process::Pid;
use crate::support::{Log, Service, Spawn, Supervisor, Verb};

/// systemd's own limit of starts, which the tests' unit has switched off.
fn default_limits(service: Service) -> Service {
    service
        .unit("StartLimitIntervalSec=1h")
        .unit("StartLimitBurst=5")
}

/// A bad version has used up all attempts; the daemon that serves on.
fn failed_unit(machine: &Machine, service: &Service) -> Pid {
    failed_by(machine, service, "exit 3")
}

fn failed_by(machine: &Machine, service: &Service, code: &str) -> Pid {
    let first = machine.start(service);
    let broken = machine.stage.scratch.join("broken");
    write_script(&broken, code);
    machine.install(&default_limits(machine.service_of(&[], &broken)));
    let restart = machine.systemd.restart();
    assert_eq!(restart.code(), Some(1), "{}", restart.stderr);
    machine
        .systemd
        .wait_property("ActiveState", |state| state == "failed");
    first
}

/// Of a service of nobody's, outside: whose own is shorter, and has counted, would be gone by then, and the keeper has
/// looked at the unit meanwhile.
fn wait_past_an_orphan_timeout_of_3_seconds(machine: &Machine) {
    let log = Log::new(&machine.stage.scratch, "orphan");
    let launcher = Spawn::new(&machine.stage.scratch, &machine.program)
        .arg("--pid-file")
        .arg(machine.stage.scratch.join("orphan.pid"))
        .args(["--orphan-timeout", "3s", "--"])
        .arg(&machine.daemon)
        .env("ORDERS", format!("{}-orphan", machine.orders))
        .env("FIRST", READY)
        .output_to(&log)
        .start();
    log.wait_for("is ready after");
    launcher.signal(Signal::SIGTERM);
    log.wait_for("has come within the orphan timeout");
}

/// The old one serves on in `failed`, however long: it is no stop (R16).
fn leaves_the_old_one_serving(code: &str, why: &str) {
    let machine = Machine::boot();
    let service = default_limits(machine.service(&["--orphan-timeout", "1s"])).env("FIRST", READY);
    let first = failed_by(&machine, &service, code);
    machine.systemd.wait_status(why);
    wait_past_an_orphan_timeout_of_3_seconds(&machine);
    assert!(machine.alive(first), "{}", machine.listing());
    assert!(!machine.says(&format!("daemon {first} got TERM")));

    // With the limit gone it can be started from there: a good version takes over.
    machine.install(&service.unit("StartLimitIntervalSec=0"));
    machine.run(&["start", "app"]).expect_success();
    assert_eq!(machine.active_state(), "active");
    machine.wait_said(first, "got TERM");
    machine.wait_exit(first);
    let drained = machine.stage.log.wait_seen("told to drain");
    assert!(drained.contains("its successor is ready"), "{drained}");
    machine.stop();
}

#[test]
fn a_version_that_uses_up_the_start_limit_leaves_the_old_one_serving() {
    leaves_the_old_one_serving("exit 3", "exit status 3");
}

/// The launcher dies as its daemon did, and the unit's result is `signal`.
#[test]
fn a_version_that_uses_up_the_start_limit_by_crashes_leaves_the_old_one_serving() {
    for signal in ["SEGV", "KILL", "TERM"] {
        leaves_the_old_one_serving(&format!("kill -{signal} $$"), signal);
    }
}

/// Quick restarts by hand end in `failed`, too, and with them nothing else does.
#[test]
fn quick_restarts_use_up_the_start_limit_and_the_last_one_serves_on() {
    let machine = Machine::boot();
    let service = default_limits(machine.service(&[])).env("FIRST", READY);
    let mut serving = machine.start(&service);
    for generation in 2..=5 {
        serving = machine.restart(generation);
    }
    let refused = machine.systemd.restart();
    assert_eq!(refused.code(), Some(1));
    assert!(refused.stderr.contains("too often"), "{}", refused.stderr);
    assert_eq!(machine.property("Result"), "start-limit-hit");
    assert!(machine.alive(serving), "{}", machine.listing());
    machine.run(&["reset-failed", "app"]).expect_success();
    machine.run(&["start", "app"]).expect_success();
    machine.wait_exit(serving);
    machine.stop();
}

/// A stop of a unit that has failed signals nobody, and leaves it failed: the verb of ours ends what serves.
#[test]
fn what_serves_in_a_failed_unit_is_stopped_by_our_own_verb() {
    let machine = Machine::boot();
    let service = default_limits(machine.service(&[])).env("FIRST", READY);
    let first = failed_unit(&machine, &service);
    machine.run(&["stop", "app"]).expect_success();
    assert_eq!(machine.active_state(), "failed");
    assert!(machine.alive(first), "{}", machine.listing());
    let stop = machine.systemd.inside(&machine.program).arg("stop");
    stop.arg(&machine.pid_file).finish().expect_success();
    machine.assert_nothing_left();
}

/// `systemctl reset-failed` makes it inactive: from then on it is seen to be down.
#[test]
fn what_serves_in_a_failed_unit_ends_when_the_unit_is_inactive() {
    let machine = Machine::boot();
    let service = default_limits(machine.service(&[])).env("FIRST", READY);
    let first = failed_unit(&machine, &service);
    machine.run(&["stop", "app"]).expect_success();
    machine.run(&["reset-failed", "app"]).expect_success();
    machine
        .stage
        .log
        .wait_seen("the supervisor wants the service down");
    machine.wait_exit(first);
}

/// A stop before there is a launcher ends what `ExecStartPre=` runs, and the unit has failed; but it is a stop.
#[test]
fn a_stop_while_the_next_start_is_being_prepared_ends_the_old_one() {
    for limits in [false, true] {
        let machine = Machine::boot();
        let limited = |service: Service| match limits {
            true => default_limits(service),
            false => service,
        };
        let service = limited(machine.service(&[])).env("FIRST", READY);
        let first = machine.start(&service);
        // More than a short answer holds: what counts stands behind all of it.
        let long = format!("ExecStartPre=/bin/true {}", "x".repeat(6000));
        let service = service.unit_service(long);
        machine.install(&service.unit_service("ExecStartPre=/bin/sleep infinity"));
        let restart = machine.systemd.begin(Verb::Restart);
        machine
            .systemd
            .wait_property("SubState", |state| state == "start-pre");
        assert!(machine.alive(first), "{}", machine.listing());
        machine.run(&["stop", "app"]).expect_success();
        assert_eq!(restart.finish().code(), Some(1));
        assert_eq!(machine.active_state(), "failed");
        let wanted = "the supervisor wants the service down";
        machine.stage.log.wait_seen(wanted);
        machine.wait_exit(first);
    }
}

/// `RuntimeDirectoryPreserve=restart` is not enough: the directory goes when the unit fails, and the record with it.
#[test]
fn a_runtime_directory_outlives_a_failure_only_if_it_is_always_preserved() {
    for preserve in ["yes", "restart"] {
        let machine = Machine::boot_with_runtime_directory();
        let broken = machine.stage.scratch.join("broken");
        write_script(&broken, "exit 3");
        let in_directory = |service: Service| {
            let service = default_limits(service).unit_service(RUNTIME_DIRECTORY[0]);
            service.unit_service(format!("RuntimeDirectoryPreserve={preserve}"))
        };
        let service = in_directory(machine.service(&[]).env("FIRST", READY));
        let first = machine.start(&service);
        machine.install(&in_directory(machine.service_of(&[], &broken)));
        assert_eq!(machine.systemd.restart().code(), Some(1));
        machine
            .systemd
            .wait_property("ActiveState", |state| state == "failed");
        assert!(machine.alive(first));
        let names = machine.names_in(machine.pid_file.parent().unwrap());
        if preserve == "yes" {
            assert!(names.contains(&"app.pid.record".to_owned()), "{names:?}");
            machine.install(&service);
            machine.run(&["reset-failed", "app"]).expect_success();
            machine.run(&["start", "app"]).expect_success();
            machine.wait_exit(first);
            machine.stop();
        } else {
            assert!(names.is_empty(), "{names:?}");
        }
    }
}
