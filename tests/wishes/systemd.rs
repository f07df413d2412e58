//! What only systemd does: start timeouts, run times, units that wait or have failed.

use super::{CRASHES, LINGERS, Recipe, SILENT, STARTED, Told};
use crate::support::Kind;
use crate::support::process;

fn show(told: &Told, property: &str) -> String {
    let property = format!("--property={property}");
    let words = ["show", &property, "--value"];
    let shown = told.supervisor.say(&words).finish().expect_success();
    shown.stdout.trim().to_owned()
}

/// It sends KillSignal, as a stop does, with a job that is none.
#[test]
fn a_start_timeout_stops_nothing() {
    let recipe = Recipe {
        unit_service: &["TimeoutStartSec=4s"],
        ..Recipe::default()
    };
    let told = Told::serving_with(Kind::Systemd, &recipe);
    told.script("start", SILENT);
    // The verb fails, when systemd has lost its patience.
    let verb = told.begin(&["restart"]);
    told.wait("daemon 2 is silent");
    told.wait("daemon 2 got TERM");
    assert_ne!(verb.finish().code(), Some(0), "{}", told.listing());
    told.wait("daemon 3 is silent");
    assert_eq!(told.count("daemon 1 got TERM"), 0, "{}", told.listing());
    told.assert_no_stop();
    told.script("start", STARTED);
    told.wait("daemon 3 got TERM");
    told.wait("daemon 1 ends");
    told.assert_no_stop();
    told.stop();
    told.assert_all_ended();
}

/// Without a predecessor it ends what does not get ready, as systemd asked, and the next start is another attempt.
#[test]
fn a_start_timeout_without_a_predecessor() {
    let recipe = Recipe {
        unit_service: &["TimeoutStartSec=4s"],
        ..Recipe::default()
    };
    let told = Told::start(Kind::Systemd, SILENT, &recipe);
    told.wait("daemon 1 is silent");
    told.script("start", STARTED);
    told.wait("daemon 2 is started");
    told.wait("daemon 1 ends");
    told.stop();
    told.assert_all_ended();
}

/// KillSignal, with no job at all.
#[test]
fn the_end_of_its_run_time_is_a_restart() {
    let recipe = Recipe {
        unit_service: &["RuntimeMaxSec=1s"],
        ..Recipe::default()
    };
    let told = Told::serving_with(Kind::Systemd, &recipe);
    told.wait("daemon 2 is started");
    told.wait("daemon 1 got USR2");
    told.wait("daemon 1 ends");
    told.wait("daemon 3 is started");
    told.assert_no_stop();
    told.stop();
    told.assert_all_ended();
}

/// The unit waits for its next start: nobody is there to be signalled.
#[test]
fn a_stop_before_an_automatic_restart() {
    let recipe = Recipe {
        unit_service: &["RestartSec=1h"],
        ..Recipe::default()
    };
    let told = Told::serving_with(Kind::Systemd, &recipe);
    told.script("start", CRASHES);
    told.restart();
    told.wait("generation 2 (pid ");
    told.wait("died before it was ready");
    // `--wait` would be for a unit that is over; this one returns when the state is what it asks for.
    while show(&told, "SubState") != "auto-restart" {
        std::thread::yield_now();
    }
    assert_eq!(told.count("daemon 1 got TERM"), 0, "{}", told.listing());
    told.stop();
    told.wait("the supervisor wants the service down");
    told.wait("daemon 1 got TERM");
    told.assert_all_ended();
}

/// The start limit: a bad version, not a stop. `reset-failed` and `stop` are one.
#[test]
fn a_failed_unit_serves_on() {
    let recipe = Recipe {
        unit: &["StartLimitIntervalSec=1h", "StartLimitBurst=4"],
        ..Recipe::default()
    };
    let told = Told::serving_with(Kind::Systemd, &recipe);
    told.script("start", CRASHES);
    told.restart();
    while show(&told, "ActiveState") != "failed" {
        std::thread::yield_now();
    }
    let daemon = process::children(told.supervisor.own_processes()[0]);
    assert!(!daemon.is_empty(), "{}", told.listing());
    told.assert_no_stop();
    assert_eq!(told.count("daemon 1 got TERM"), 0, "{}", told.listing());
    told.verb(&["reset-failed"]);
    told.wait("the supervisor wants the service down");
    told.wait("daemon 1 got TERM");
    told.assert_all_ended();
}

/// `systemctl stop` returns when the launcher has left, so nothing is left in the unit's cgroup then.
#[test]
fn a_stop_returns_when_all_have_ended() {
    let told = Told::serving(Kind::Systemd);
    told.script("drain", LINGERS);
    told.restart();
    told.wait("daemon 2 is started");
    told.wait("daemon 1 got TERM");
    let mut verb = told.begin(&["stop"]);
    told.wait("daemon 2 got TERM");
    assert_eq!(
        show(&told, "ActiveState"),
        "deactivating",
        "{}",
        told.listing()
    );
    told.release(2);
    told.wait("is stopped: exit status 7");
    told.let_pass();
    assert_eq!(
        show(&told, "ActiveState"),
        "deactivating",
        "{}",
        told.listing()
    );
    assert!(verb.alive());
    told.release(1);
    assert!(verb.wait().success());
    assert_eq!(told.count("daemon 1 ends"), 1, "{}", told.listing());
    told.assert_all_ended();
    told.assert_status_seen(7);
}
