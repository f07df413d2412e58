//! The units of systemd.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use super::{PATIENCE, Shipped, Words, names_in, port};
use crate::support::machine::{DAEMON, Machine, shipped, with_machine};
use crate::support::{Supervisor, Systemd};

/// What is added to a unit in a test, beside the file as it is: where its output goes, and whose processes these are.
pub(super) fn beside(machine: &Machine<'_>) -> String {
    format!(
        "[Service]\nStandardOutput=append:{log}\nStandardError=inherit\nEnvironment=SEAMLESS_TEST={mark}\n",
        log = machine.log.path().display(),
        mark = machine.scratch.path().display(),
    )
}

fn install(machine: &Machine<'_>, systemd: &Systemd, units: Words<'_>) {
    for unit in units {
        let text = fs::read_to_string(shipped(&format!("systemd/{unit}"))).unwrap();
        if unit.ends_with(".service") {
            let drop_in = format!("{unit}.d/test.conf");
            let directory = machine
                .scratch
                .join("systemd/units")
                .join(format!("{unit}.d"));
            fs::create_dir(directory).unwrap();
            systemd.write_unit(&drop_in, &beside(machine));
        }
        systemd.write_unit(unit, &text);
    }
}

pub(super) fn words<'a>(
    machine: &'a Machine<'a>,
    systemd: &'a Systemd,
    [restart, reload, stop]: [Words<'a>; 3],
    address: SocketAddr,
    pid_file: &'a str,
) -> Shipped<'a> {
    let directory = Path::new(pid_file).parent().unwrap();
    Shipped {
        machine,
        shell: Box::new(|words| systemd.systemctl(words)),
        restart,
        program: Some(Box::new(|| systemd.inside("/usr/local/bin/seamless-run"))),
        reload: Some(reload),
        stop,
        address,
        root: format!("/proc/{}/root", systemd.init()).into(),
        directory: directory.to_str().unwrap(),
        pid_file,
        cleans: false,
        stays: systemd.own_processes(),
        settled: None,
    }
}

pub(super) fn type_in(systemd: &Systemd, words: Words<'_>) {
    systemd.systemctl(words).finish().expect_success();
}

#[test]
fn the_service() {
    with_machine(|machine| {
        let systemd = Systemd::boot(machine.scratch);
        install(machine, &systemd, &["app.service"]);
        type_in(&systemd, &["start", "app"]);
        let verbs: [Words<'_>; 3] = [&["restart", "app"], &["reload", "app"], &["stop", "app"]];
        Shipped {
            cleans: true,
            ..words(machine, &systemd, verbs, port(80), "/run/app/app.pid")
        }
        .keeps_its_promises();
        assert_eq!(systemd.property("Result"), "success");
    });
}

/// Promise 2, as `systemctl` tells it.
#[test]
fn a_new_version_that_does_not_get_ready() {
    with_machine(|machine| {
        let systemd = Systemd::boot(machine.scratch);
        install(machine, &systemd, &["app.service"]);
        type_in(&systemd, &["start", "app"]);
        let verbs: [Words<'_>; 3] = [&["restart", "app"], &["reload", "app"], &["stop", "app"]];
        let app = words(machine, &systemd, verbs, port(80), "/run/app/app.pid");
        let load = app.load_at_once();
        let good = fs::read_to_string(DAEMON).unwrap();
        machine.write(DAEMON, "#!/bin/sh\nexit 3\n", 0o755);
        let restart = systemd.systemctl(&["restart", "app"]).finish();
        assert_eq!(restart.code(), Some(1), "{restart:?}");
        assert_eq!(load.report().pids().len(), 1);
        // systemd tries again and again; one day it is a good one.
        machine.log.wait_for("generation 4 ");
        machine.write(DAEMON, &good, 0o755);
        let first = load.report().pids();
        let next = load.wait_answer(PATIENCE, |answer| !first.contains(&answer.pid));
        let next = next.unwrap_or_else(|| panic!("{}", machine.log.listing()));
        machine
            .log
            .wait_seen(&format!("(pid {}) is ready after", next.pid));
        let report = load.stop();
        assert_eq!(report.failed(), 0, "{report}");
        app.stops();
    });
}

#[test]
fn the_socket_and_its_service() {
    with_machine(|machine| {
        let systemd = Systemd::boot(machine.scratch);
        install(machine, &systemd, &["web.socket", "web.service"]);
        // Whoever connects first starts the service.
        type_in(&systemd, &["start", "web.socket"]);
        let stop: Words<'_> = &["stop", "web.socket", "web"];
        let verbs: [Words<'_>; 3] = [&["restart", "web"], &["reload", "web"], stop];
        let web = words(machine, &systemd, verbs, port(80), "/run/web/web.pid");
        let load = web.load_at_once();
        machine.log.wait_seen(" is ready after");
        let serving = web.restarts(&load);
        web.reloads(serving);
        web.nothing_was_lost(load);
        web.stops();
    });
}

/// What is done to one instance is not felt by the other.
#[test]
fn the_template() {
    with_machine(|machine| {
        fs::create_dir("/etc/app").unwrap();
        machine.write("/etc/app/blue.env", "LISTEN=127.0.0.1:8081\n", 0o644);
        machine.write("/etc/app/green.env", "LISTEN=127.0.0.1:8082\n", 0o644);
        let systemd = Systemd::boot(machine.scratch);
        install(machine, &systemd, &["app@.service"]);
        // They are ready when this returns.
        type_in(&systemd, &["start", "app@blue", "app@green"]);
        let instance =
            |verbs, number, pid_file| words(machine, &systemd, verbs, port(number), pid_file);
        let verbs: [Words<'_>; 3] = [
            &["restart", "app@blue"],
            &["reload", "app@blue"],
            &["stop", "app@blue"],
        ];
        let blue = instance(verbs, 8081, "/run/app-blue/app.pid");
        let verbs: [Words<'_>; 3] = [
            &["restart", "app@*"],
            &["reload", "app@green"],
            &["stop", "app@green"],
        ];
        let green = instance(verbs, 8082, "/run/app-green/app.pid");

        let at_blue = blue.load_at_once();
        let at_green = green.load_at_once();
        let serving = blue.restarts(&at_blue);
        blue.reloads(serving);
        blue.nothing_was_lost(at_blue);
        type_in(&systemd, blue.stop);
        assert_eq!(names_in(&blue.path("")), ["app.pid.lock"]);
        assert_eq!(at_green.report().pids().len(), 1);

        let serving = green.restarts(&at_green);
        green.reloads(serving);
        green.nothing_was_lost(at_green);
        green.stops();
    });
}
