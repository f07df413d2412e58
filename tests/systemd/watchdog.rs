//! `WatchdogSec=`: who pings lives; who does not is replaced, and nobody is refused meanwhile (R23).

use nix::sys::signal::Signal;

use super::{Machine, READY};
use crate::scene::{Place, freeze};
use crate::support::Service;

/// As long as a busy machine may need for a ping, and short enough to wait for.
const PERIOD: &str = "WatchdogSec=3";
const PINGS_IN_A_PERIOD: usize = 4;

fn pings(service: Service) -> Service {
    service
        .env("FIRST", READY)
        .env("PINGS", "1")
        .unit_service(PERIOD)
}

/// Waits until systemd has ended a generation for want of pings.
fn wait_bitten(machine: &Machine) {
    let messages = machine.systemd.messages();
    messages.wait_for("Watchdog timeout (limit 3s)!");
    messages.wait_for("Failed with result 'watchdog'");
}

#[test]
fn a_daemon_that_pings_lives() {
    let machine = Machine::boot();
    let first = machine.start(&pings(machine.service(&[])));
    machine.wait_said(first, "has a watchdog of 3000000 us");
    let second = machine.restart(2);
    machine.wait_said(second, "has a watchdog of 3000000 us");
    let line = format!("daemon {second} pings: 1");
    for _ in 0..3 * PINGS_IN_A_PERIOD {
        machine.stage.log.wait_for(&line);
    }
    assert_eq!(machine.active_state(), "active");
    assert_eq!(machine.property("NRestarts"), "0");
    assert_eq!(machine.up(2), second);
    assert!(!machine.says("generation 3"), "{}", machine.listing());
    let messages = machine.systemd.messages();
    assert_eq!(messages.count("Watchdog timeout"), 0);
    machine.stop();
}

/// The daemon can change its own period, and say by itself that it hangs.
#[test]
fn a_daemon_that_says_that_it_hangs_is_replaced_at_once() {
    let machine = Machine::boot();
    let service = pings(machine.service(&[])).unit_service("WatchdogSec=1h");
    let first = machine.start(&service);
    machine.wait_said(first, "has a watchdog of 3600000000 us");
    machine.order(1, "say WATCHDOG=trigger");
    machine.up(2);
    let messages = machine.systemd.messages();
    messages.wait_for("Failed with result 'watchdog'");
    machine
        .systemd
        .wait_property("ActiveState", |state| state == "active");
    machine.order(2, "say WATCHDOG_USEC=3000000");
    wait_bitten(&machine);
    machine.up(3);
    machine
        .systemd
        .wait_property("ActiveState", |state| state == "active");
    machine.stop();
}

/// Clients of a held socket wait, and the next generation answers them.
#[test]
fn a_daemon_that_stops_pinging_is_replaced_and_nobody_is_refused() {
    let machine = Machine::boot();
    let path = machine.stage.scratch.join("http.sock");
    let held = format!("--listen=http={}", path.display());
    let first = machine.start(&pings(machine.service(&[&held])));
    let place = Place::Unix(path);
    assert_eq!(place.wait_in().answered(), (first, 1));
    machine.order(1, "deaf");
    machine.wait_said(first, "is deaf");
    let mut waiting = vec![place.wait_in()];
    machine
        .systemd
        .messages()
        .wait_for("Watchdog timeout (limit 3s)!");
    waiting.push(place.wait_in());
    machine
        .systemd
        .messages()
        .wait_for("Failed with result 'watchdog'");
    waiting.push(place.wait_in());
    let second = machine.up(2);
    waiting.push(place.wait_in());
    for client in waiting {
        assert_eq!(client.answered(), (second, 2), "{}", machine.listing());
    }
    machine.wait_exit(first);
    machine
        .systemd
        .wait_property("ActiveState", |state| state == "active");
    machine.stop();
}

/// Nor does it matter what else lives: an old generation that drains, and pings, is no sign of life of the new one.
#[test]
fn the_pings_of_a_draining_generation_are_not_the_units() {
    let machine = Machine::boot();
    let service = pings(machine.service(&[])).env("LINGER", "1");
    let first = machine.start(&service);
    let second = machine.restart(2);
    machine.wait_said(first, "got TERM");
    machine.order(2, "deaf");
    machine.wait_said(second, "is deaf");
    wait_bitten(&machine);
    machine.up(3);
    assert!(machine.alive(first), "{}", machine.listing());
    machine.wait_exit(second);
    machine.order(1, "exit 0");
    machine.wait_exit(first);
    machine.order(3, "exit 0");
    machine.up(4);
    machine
        .systemd
        .wait_property("ActiveState", |state| state == "active");
}

/// One that cannot even die: systemd KILLs its launcher, and its successor's commit ends it.
#[test]
fn a_daemon_that_stands_still_is_replaced_too() {
    let machine = Machine::boot();
    let path = machine.stage.scratch.join("http.sock");
    let held = format!("--listen=http={}", path.display());
    let service = pings(machine.service(&[&held, "--drain-timeout", "1s"]))
        .unit_service("TimeoutAbortSec=1s");
    let first = machine.start(&service);
    let outside = machine.systemd.outside(first).unwrap();
    freeze(outside);
    let place = Place::Unix(path);
    let waiting = place.wait_in();
    wait_bitten(&machine);
    let second = machine.up(2);
    assert_eq!(
        waiting.answered(),
        (second, 2),
        "{:?} {}",
        Signal::SIGSTOP,
        machine.listing()
    );
    machine.wait_exit(first);
    machine
        .systemd
        .wait_property("ActiveState", |state| state == "active");
    machine.stop();
}
