//! Settings that give the service a place of its own: its runtime directory, its /tmp, a file system that it cannot
//! write to.

use std::path::Path;

use super::{Machine, READY, RUNTIME_DIRECTORY};
use crate::support::process::Pid;
use crate::support::{Service, Spawn, Supervisor};

fn with(service: Service, lines: &[&str]) -> Service {
    let service = service.env("FIRST", READY);
    lines
        .iter()
        .fold(service, |service, line| service.unit_service(*line))
}

/// Restarts it three times: each generation finds its predecessor. Then stops it.
fn restarts_and_stops(machine: &Machine, service: &Service) {
    let mut before = machine.start(service);
    for generation in 2..=4 {
        let next = machine.restart(generation);
        machine.wait_said(before, "got TERM");
        machine.wait_exit(before);
        before = next;
    }
    machine.stop();
    machine.wait_said(before, "got TERM");
}

#[test]
fn a_runtime_directory_that_is_preserved() {
    for preserve in ["yes", "restart"] {
        let machine = Machine::boot_with_runtime_directory();
        let preserve = format!("RuntimeDirectoryPreserve={preserve}");
        let lines = [RUNTIME_DIRECTORY[0], &preserve];
        let service = with(machine.service(&[]), &lines);
        let mut before = machine.start(&service);
        for generation in 2..=4 {
            let next = machine.restart(generation);
            machine.wait_exit(before);
            before = next;
        }
        machine.run(&["stop", "app"]).expect_success();
        assert!(!machine.alive(before), "{}", machine.listing());
        let left = machine.names_in(machine.pid_file.parent().unwrap());
        let kept = preserve.ends_with("yes");
        assert_eq!(left, if kept { vec!["app.pid.lock"] } else { vec![] });
    }
}

/// The default: it goes with each stop, of a restart too, and with it all that is known of the old generation.
#[test]
fn a_runtime_directory_that_is_not_preserved_loses_the_old_generation() {
    let machine = Machine::boot_with_runtime_directory();
    let service = with(
        machine.service(&["--orphan-timeout", "1s"]),
        &["RuntimeDirectory=app"],
    );
    let first = machine.start(&service);
    // The same number will be given again, and orders go by it.
    machine.install(&service.env("ORDERS", format!("{}-again", machine.orders)));
    machine.systemd.restart().expect_success();
    // The next one takes itself for the first, and the old one sees that nobody can find it (R16).
    machine.wait_said(first, "got TERM");
    machine.wait_exit(first);
    assert_eq!(machine.stage.log.count("generation 1 is up: "), 2);
    assert!(!machine.says("generation 2 is up"));
}

#[test]
fn a_file_system_that_the_service_cannot_write_to() {
    let machine = Machine::boot_with_runtime_directory();
    let lines = [
        RUNTIME_DIRECTORY[0],
        RUNTIME_DIRECTORY[1],
        "ProtectSystem=strict",
        "ProtectHome=yes",
        "PrivateDevices=yes",
        "ProtectKernelTunables=yes",
        "ProtectControlGroups=yes",
        "NoNewPrivileges=yes",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
        "SystemCallFilter=@system-service",
        "CapabilityBoundingSet=",
    ];
    restarts_and_stops(&machine, &with(machine.service(&[]), &lines));
}

/// The PID file's directory has to be writable: one clear line says that it is not.
#[test]
fn a_pid_file_where_the_service_cannot_write_is_refused() {
    let machine = Machine::boot();
    let service = with(
        machine.service(&[]),
        &["ProtectSystem=strict", "Restart=no"],
    );
    machine.install(&service);
    let start = machine.run(&["start", "app"]);
    assert_eq!(start.code(), Some(1));
    assert_eq!(machine.property("ExecMainStatus"), "125");
    machine.stage.log.wait_seen("Read-only file system");
    let shown = machine.run(&["status", "app"]).stdout;
    assert!(shown.contains("Read-only file system"), "{shown}");
}

/// A file in the /tmp of a process inside.
fn in_tmp_of(machine: &Machine, daemon: Pid, command: &str) -> Spawn {
    let path = Path::new(&format!("/proc/{daemon}/root")).join("tmp/mine");
    machine.systemd.inside(command).arg(path)
}

/// Each start has its own /tmp, and systemd empties that of the old generation while it drains.
#[test]
fn a_private_tmp_is_another_one_for_each_generation() {
    let machine = Machine::boot_with_runtime_directory();
    machine.systemd.own_tmp();
    let scratch = format!(
        "BindReadOnlyPaths={}",
        machine.stage.scratch.path().display()
    );
    let lines = [
        RUNTIME_DIRECTORY[0],
        RUNTIME_DIRECTORY[1],
        "PrivateTmp=yes",
        &scratch,
    ];
    let service = with(machine.service(&[]), &lines);
    let first = machine.start(&service);
    in_tmp_of(&machine, first, "touch")
        .finish()
        .expect_success();
    let second = machine.restart(2);
    machine.wait_exit(first);
    assert_eq!(in_tmp_of(&machine, second, "ls").finish().code(), Some(2));
    machine.stop();

    // What is lost: the old one's files, before it has finished.
    let lingering = service.env("LINGER", "1");
    machine.install(&lingering);
    machine.run(&["start", "app"]).expect_success();
    let third = machine.up(3);
    in_tmp_of(&machine, third, "touch")
        .finish()
        .expect_success();
    machine.restart(4);
    machine.wait_said(third, "got TERM");
    assert!(machine.alive(third));
    let gone = || in_tmp_of(&machine, third, "ls").finish().code() == Some(2);
    machine.systemd.wait_property("ActiveState", |_| gone());
}
