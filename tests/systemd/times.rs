//! systemd's patience, and how more of it is asked for: `EXTEND_TIMEOUT_USEC=` (R23).

use nix::sys::signal::Signal;

use super::{Machine, READY, write_plain_unit};
use crate::support::{Supervisor, Verb};

/// A unit that is never ready, and nobody asks more time for it. To be installed first: a `daemon-reload` sets the timers
/// of other units anew, and forgets what they were extended by.
fn install_silent(machine: &Machine) {
    let lines = "Type=notify\nTimeoutStartSec=8\nExecStart=/bin/sleep infinity";
    write_plain_unit(machine, "silent.service", lines);
}

/// Until systemd has lost its patience with that one.
fn wait_past_a_timeout_of_8_seconds(machine: &Machine) {
    let start = machine.run(&["start", "silent"]);
    assert_eq!(start.code(), Some(1));
    let result = machine.systemd.property_of("silent.service", "Result");
    assert_eq!(result, "timeout");
}

#[test]
fn a_daemon_that_asks_for_more_time_to_start_gets_it() {
    let machine = Machine::boot();
    let service = machine
        .service(&[])
        .env("FIRST", "EXTEND_TIMEOUT_USEC=60000000")
        .unit_service("TimeoutStartSec=3");
    install_silent(&machine);
    machine.install(&service);
    let start = machine.systemd.begin(Verb::Up);
    let daemon = machine.up(1);
    machine.wait_said(daemon, "said EXTEND_TIMEOUT_USEC=60000000: 1");
    wait_past_a_timeout_of_8_seconds(&machine);
    assert_eq!(machine.active_state(), "activating");
    machine.order(1, "say READY=1");
    start.finish().expect_success();
    assert_eq!(machine.up(1), daemon);

    // A successor, too, while the first one serves.
    let restart = machine.systemd.begin(Verb::Restart);
    let second = machine.up(2);
    machine.wait_said(second, "said EXTEND_TIMEOUT_USEC=60000000: 1");
    wait_past_a_timeout_of_8_seconds(&machine);
    assert!(machine.alive(daemon));
    machine.order(2, "say READY=1");
    restart.finish().expect_success();
    machine.wait_exit(daemon);
    machine.stop();
}

/// A start timeout is no stop: the new one is ended, the old one serves on.
#[test]
fn a_start_timeout_ends_the_new_generation_alone() {
    let machine = Machine::boot();
    let service = machine.service(&[]).env("FIRST", READY);
    let first = machine.start(&service);
    machine.install(&machine.service(&[]).unit_service("TimeoutStartSec=4"));
    let restart = machine.systemd.begin(Verb::Restart);
    let second = machine.up(2);
    let ended = restart.finish();
    assert_eq!(ended.code(), Some(1), "{}", ended.stderr);
    machine.wait_said(second, "got TERM");
    machine
        .systemd
        .messages()
        .wait_for("start operation timed out. Terminating.");
    machine.wait_exit(second);
    assert!(machine.alive(first), "{}", machine.listing());
    assert!(!machine.says(&format!("daemon {first} got TERM")));
    machine.install(&service);
    machine.systemd.restart().expect_success();
    machine.wait_exit(first);
    machine.stop();
}

/// A drain that is longer than `TimeoutStopSec=`, within `--stop-timeout`: the launcher asks for the time by itself.
#[test]
fn a_stop_takes_as_long_as_the_drain_may() {
    let machine = Machine::boot();
    let service = machine
        .service(&["--stop-timeout", "60s"])
        .env("FIRST", READY)
        .env("LINGER", "1")
        .unit_service("TimeoutStopSec=3");
    let daemon = machine.start(&service);
    // One that nobody asks more time for.
    let lines =
        "TimeoutStopSec=8\nExecStart=/bin/sh -c 'trap \"\" TERM; while :; do sleep 1000; done'";
    write_plain_unit(&machine, "stubborn.service", lines);
    machine.run(&["start", "stubborn"]).expect_success();

    let stop = machine.systemd.begin(Verb::Down);
    machine.wait_said(daemon, "got TERM");
    machine.run(&["stop", "stubborn"]).expect_success();
    let result = machine.systemd.property_of("stubborn.service", "Result");
    assert_eq!(result, "timeout");
    assert_eq!(machine.active_state(), "deactivating");
    assert!(machine.alive(daemon), "{}", machine.listing());
    machine.order(1, "exit 0");
    stop.finish().expect_success();
    machine.assert_nothing_left();
    assert_eq!(machine.property("Result"), "success");
    let messages = machine.systemd.messages();
    assert_eq!(
        messages.count("app.service: State 'stop-sigterm' timed out"),
        0
    );
}

/// Nor is an older generation forgotten, which drains when the stop comes.
#[test]
fn a_stop_waits_for_every_generation() {
    let machine = Machine::boot();
    install_silent(&machine);
    let service = machine
        .service(&["--stop-timeout", "60s"])
        .env("FIRST", READY)
        .env("LINGER", "1")
        .unit_service("TimeoutStopSec=3");
    let first = machine.start(&service);
    let second = machine.restart(2);
    machine.wait_said(first, "got TERM");
    let stop = machine.systemd.begin(Verb::Down);
    machine.wait_said(second, "got TERM");
    machine.order(2, "exit 0");
    machine.wait_exit(second);
    wait_past_a_timeout_of_8_seconds(&machine);
    assert_eq!(machine.active_state(), "deactivating");
    assert!(machine.alive(first), "{}", machine.listing());
    machine.order(1, "exit 0");
    stop.finish().expect_success();
    machine.assert_nothing_left();
    assert_eq!(machine.property("Result"), "success");
}

/// Where the daemon does not finish, `--stop-timeout` is the end, and not systemd's patience.
#[test]
fn a_stop_is_over_at_the_stop_timeout() {
    let machine = Machine::boot();
    let service = machine
        .service(&["--stop-timeout", "2s"])
        .env("FIRST", READY)
        .env("LINGER", "1");
    let daemon = machine.start(&service);
    machine.run(&["stop", "app"]).expect_success();
    machine.wait_said(daemon, "got TERM");
    machine.assert_nothing_left();
    // It was killed, and the launcher's end says so.
    assert_eq!(
        machine.property("ExecMainStatus"),
        (Signal::SIGKILL as i32).to_string()
    );
}

/// `systemctl kill --signal=KILL`, or a stop that systemd lost its patience with: the keepers finish it (R15).
#[test]
fn a_stop_whose_launcher_is_killed_is_finished_by_the_keepers() {
    let machine = Machine::boot();
    let service = machine
        .service(&["--stop-timeout", "60s"])
        .env("FIRST", READY)
        .env("LINGER", "1");
    let first = machine.start(&service);
    let second = machine.restart(2);
    machine.wait_said(first, "got TERM");
    let stop = machine.systemd.begin(Verb::Down);
    machine.wait_said(second, "got TERM");
    let kill = ["kill", "--kill-who=main", "--signal=KILL", "app"];
    machine.run(&kill).expect_success();
    stop.finish();
    for (generation, daemon) in [(1, first), (2, second)] {
        assert!(machine.alive(daemon), "{}", machine.listing());
        machine.order(generation, "exit 0");
        machine.wait_exit(daemon);
    }
}

/// A lifetime that is over sends TERM without a job: a restart, and as seamless as another.
#[test]
fn a_service_whose_time_is_over_is_replaced() {
    let machine = Machine::boot();
    let service = machine.service(&[]).env("FIRST", READY);
    let first = machine.start(&service.unit_service("RuntimeMaxSec=3"));
    machine.up(2);
    machine
        .systemd
        .messages()
        .wait_for("Service reached runtime time limit");
    machine.wait_said(first, "got TERM");
    machine.wait_exit(first);
    let lines = machine.stage.log.lines();
    let at = |part: &str| lines.iter().position(|line| line.contains(part));
    let told = at(&format!("daemon {first} got TERM"));
    assert!(told > at("generation 2 is up: "), "{}", machine.listing());
    machine
        .systemd
        .wait_property("ActiveState", |state| state == "active");
    machine.stop();
}
