//! `Type=notify` with `NotifyAccess=main`: the daemon speaks, and systemd hears it from its main process (R23).

use super::{Machine, READY};
use crate::support::{Supervisor, Verb};

/// `systemctl start` and `restart` return when the new daemon has said that it serves, and no sooner.
fn verbs_return_when(say_it: &str, voice: &str) {
    let machine = Machine::boot();
    machine.install(&machine.service(&[]));
    let mut before = None;
    for generation in 1..=3 {
        let verb = if generation == 1 {
            Verb::Up
        } else {
            Verb::Restart
        };
        let verb = machine.systemd.begin(verb);
        let daemon = machine.up(generation);
        assert_eq!(machine.active_state(), "activating", "{voice}");
        assert!(verb.alive(), "{voice}: {}", machine.listing());
        if let Some(before) = before {
            assert!(machine.alive(before), "{voice}: {}", machine.listing());
            let told = format!("daemon {before} got TERM");
            assert!(!machine.says(&told), "{voice}: {}", machine.listing());
        }
        machine.order(generation, say_it);
        verb.finish().expect_success();
        assert_eq!(machine.active_state(), "active", "{voice}");
        let launcher = machine.launcher_of(daemon);
        assert_eq!(machine.property("MainPID"), launcher.to_string(), "{voice}");
        let asked = format!("daemon {daemon} got USR2");
        assert!(!machine.says(&asked), "{voice}: {}", machine.listing());
        if let Some(before) = before {
            machine.wait_said(before, "got TERM");
            machine.wait_exit(before);
        }
        before = Some(daemon);
    }
    machine.stop();
}

#[test]
fn start_and_restart_return_when_the_daemon_says_ready_as_to_systemd() {
    verbs_return_when("say READY=1", "READY=1");
}

#[test]
fn start_and_restart_return_when_the_daemon_says_started_as_to_us() {
    verbs_return_when("say X_SEAMLESS=started", "X_SEAMLESS=started");
}

#[test]
fn start_and_restart_return_when_the_daemon_has_written_its_pid_file() {
    verbs_return_when("file", "the PID file");
}

/// A daemon that is told to prepare answers, and `restart` returns no sooner for it.
#[test]
fn a_daemon_that_prepares_is_replaced_when_the_next_one_is_ready() {
    let machine = Machine::boot();
    let service = machine.service(&[]).env("FIRST", "X_SEAMLESS=started");
    let first = machine.start(&service);
    let second = machine.restart(2);
    machine.wait_said(first, "got USR2");
    machine.wait_said(first, "said X_SEAMLESS=prepared");
    machine.wait_exit(first);
    assert!(machine.alive(second));
    machine.stop();
}

#[test]
fn what_the_daemon_says_of_itself_is_the_units_status() {
    let machine = Machine::boot();
    let service = machine.service(&[]).env("FIRST", READY);
    let daemon = machine.start(&service);
    machine.order(1, "say STATUS=Half of it, and more = better");
    machine.barrier(1, daemon);
    let text = machine.property("StatusText");
    assert!(text.contains("Half of it, and more = better"), "{text}");
    let shown = machine.run(&["status", "app"]).expect_success().stdout;
    assert!(shown.contains("Half of it, and more = better"), "{shown}");

    // The same datagram can say both.
    let service = machine
        .service(&[])
        .env("FIRST", "STATUS=The second one.\nREADY=1");
    machine.install(&service);
    machine.restart(2);
    let text = machine.property("StatusText");
    assert!(text.contains("The second one."), "{text}");
    machine.stop();
}

/// `systemctl reload` with `ExecReload=kill -HUP $MAINPID`: the daemon gets it, and what it says of it counts.
#[test]
fn a_reload_is_over_when_the_daemon_says_so() {
    let machine = Machine::boot();
    let service = machine
        .service(&[])
        .env("FIRST", READY)
        .unit_service("ExecReload=/bin/kill -HUP $MAINPID");
    let daemon = machine.start(&service);
    for _ in 0..2 {
        // It returns before or after RELOADING=1 has arrived, and in the second case waits for READY=1.
        let reload = machine.systemd.systemctl(&["reload", "app"]).start();
        machine
            .systemd
            .wait_property("ActiveState", |state| state == "reloading");
        // Not the one of the time before.
        let said = format!("daemon {daemon} said RELOADING=1 MONOTONIC_USEC=");
        machine.stage.log.wait_for(&said);
        machine.order(1, "say READY=1\nSTATUS=reloaded");
        machine
            .systemd
            .wait_property("ActiveState", |state| state == "active");
        reload.finish().expect_success();
    }
    assert_eq!(machine.up(1), daemon);
    assert_eq!(
        machine.property("MainPID"),
        machine.launcher_of(daemon).to_string()
    );
    machine.stop();
}

/// The unit is started anew after a crash, and that start is one that counts too.
#[test]
fn a_crash_is_followed_by_a_start_that_waits_for_the_daemon() {
    let machine = Machine::boot();
    let daemon = machine.start(&machine.service(&[]).env("FIRST", READY));
    machine.install(&machine.service(&[]));
    machine.run(&["kill", "--signal=KILL", "--kill-who=main", "app"]);
    // Its launcher is lost, and it serves on until the next one says that it is ready.
    let second = machine.up(2);
    assert_eq!(machine.active_state(), "activating");
    assert!(machine.alive(daemon));
    machine.order(2, "say READY=1");
    machine
        .systemd
        .wait_property("ActiveState", |state| state == "active");
    machine.wait_exit(daemon);
    let launcher = machine.launcher_of(second);
    assert_eq!(machine.property("MainPID"), launcher.to_string());
    machine.stop();
}
