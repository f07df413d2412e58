//! Instances of a template unit, whose names hold what a pattern or a shell would take for something else.

use super::{Machine, READY};
use crate::support::process::Pid;

/// Restart and stop of one are told apart, and are no affair of another one's.
#[test]
fn instances_of_a_template_are_services_of_their_own() {
    for name in ["one", r"a\x2db", "a-b", "odd:name.with@more"] {
        let machine = Machine::boot();
        let text = format!(
            "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=notify\nKillMode=process\nRestart=always\nRestartSec=0\n\
             RuntimeDirectory=%p/%i\nRuntimeDirectoryPreserve=yes\nStandardOutput=append:{}\nStandardError=inherit\n\
             Environment=SEAMLESS_TEST={} \"ORDERS={}-%i\" FIRST={READY}\nExecStart={} --pid-file %t/%p/%i/app.pid -- {}\n",
            machine.stage.log.path().display(),
            machine.stage.scratch.path().display(),
            machine.orders,
            machine.program.display(),
            machine.daemon.display(),
        );
        machine.systemd.write_unit("app@.service", &text);
        let unit = format!("app@{name}.service");
        let property = |name: &str| machine.systemd.property_of(&unit, name);
        let other = "app@other.service";
        machine.run(&["start", other]).expect_success();
        let bystander = next(&machine);
        machine.run(&["start", &unit]).expect_success();
        let first = next(&machine);
        machine.run(&["restart", &unit]).expect_success();
        let second = next(&machine);
        machine.wait_exit(first);
        assert_eq!(property("MainPID"), machine.launcher_of(second).to_string());
        // Another one's job is not taken for its own.
        machine.run(&["stop", &unit]).expect_success();
        assert!(!machine.alive(second), "{name}: {}", machine.listing());
        machine.wait_said(second, "got TERM");
        assert_eq!(property("ActiveState"), "inactive", "{name}");
        assert!(machine.alive(bystander), "{name}: {}", machine.listing());
        assert!(!machine.says(&format!("daemon {bystander} got TERM")));
        machine.run(&["stop", other]).expect_success();
        assert!(!machine.alive(bystander), "{name}: {}", machine.listing());
    }
}

/// The next daemon that comes up, of whatever instance.
fn next(machine: &Machine) -> Pid {
    let line = machine.stage.log.wait_for(" is up: ");
    let (_, pid) = line.rsplit_once(' ').unwrap();
    Pid::from_raw(pid.parse().unwrap())
}
