//! Every restart verb is seamless, and nothing of it is taken for a stop.

use super::{CRASHES, LINGERS, PREPARES_LATE, Recipe, SILENT, STARTED, Told, on_each};
use crate::support::Kind;

on_each!(
    every_verb,
    again_before_ready,
    again_in_the_gap,
    again_during_the_prepare,
    again_while_draining,
    again_while_a_new_version_crashes,
);

/// Field notes §1: every verb that is a restart, those that show *down* for a moment too.
fn verbs(kind: Kind) -> &'static [&'static [&'static str]] {
    match kind {
        Kind::Runit => &[
            &["term"],
            &["restart"],
            &["force-restart"],
            &["try-restart"],
        ],
        Kind::Daemontools => &[&["-t"], &["-du"], &["-t"]],
        Kind::S6 => &[&["-r"], &["-t"], &["-du"]],
        Kind::Systemd => &[
            &["restart"],
            &["try-restart"],
            &["reload-or-restart"],
            &["kill", "--kill-who=main"],
            &["kill", "--kill-who=main", "--signal=TERM"],
        ],
        Kind::Supervisord => &[],
    }
}

fn every_verb(kind: Kind) {
    let told = Told::serving(kind);
    let mut last = 1;
    for words in verbs(kind) {
        // sv and systemctl return when they are content; they have what they want when the new one serves.
        let verb = told.begin(words);
        let next = last + 1;
        told.wait(&format!("daemon {next} is started"));
        told.wait(&format!("daemon {last} ends"));
        verb.finish().expect_success();
        told.assert_no_stop();
        for (line, times) in [("got USR2", 1), ("got TERM", 1)] {
            let got = told.count(&format!("daemon {last} {line}"));
            assert_eq!(got, times, "{words:?}: {}", told.listing());
        }
        last = next;
    }
    assert_served_throughout(&told, last);
    told.stop();
    told.wait(&format!("daemon {last} got TERM"));
    told.assert_all_ended();
}

/// Promise 2: each was told to drain only when its successor was there. (The lines of two processes race; of those that
/// are in order on purpose, this is the last.)
fn assert_served_throughout(told: &Told, last: u32) {
    let lines = told.stage.log.lines();
    let place = |part: String| lines.iter().position(|line| line.contains(&part));
    for one in 1..last {
        let successor = place(format!("daemon {} is up", one + 1));
        let drain = place(format!("daemon {one} got TERM"));
        assert!(
            successor.is_some() && successor < drain,
            "{}",
            told.listing()
        );
    }
}

/// The one in standby is not touched; the one that was not ready is ended for the next attempt.
fn again_before_ready(kind: Kind) {
    let told = Told::serving(kind);
    told.script("start", SILENT);
    told.restart();
    told.wait("daemon 2 is silent");
    told.script("start", STARTED);
    told.restart();
    told.wait("daemon 2 got TERM");
    told.wait("daemon 3 is started");
    told.wait("daemon 1 ends");
    told.assert_no_stop();
    told.stop();
    told.assert_all_ended();
}

/// A run script that is told to end before it has become a launcher.
fn again_in_the_gap(kind: Kind) {
    let recipe = Recipe {
        gate: true,
        ..Recipe::default()
    };
    let told = Told::serving_with(kind, &recipe);
    told.script("gate", "");
    told.restart();
    told.wait("at the gate");
    let script = told.supervisor.wait_main_pid();
    told.restart();
    crate::support::process::wait_exit(script);
    assert_eq!(told.count("daemon 1 got TERM"), 0, "{}", told.listing());
    for _ in 0..2 {
        told.release("gate");
    }
    std::fs::remove_file(told.scripts.join("gate")).unwrap();
    told.wait("daemon 2 is started");
    told.wait("daemon 1 ends");
    told.assert_no_stop();
    told.stop();
    told.assert_all_ended();
}

/// A second restart while the daemon prepares changes nothing (R9).
fn again_during_the_prepare(kind: Kind) {
    let told = Told::serving(kind);
    told.script("prepare", PREPARES_LATE);
    told.restart();
    told.wait("daemon 1 got USR2");
    told.restart();
    told.release("prepare");
    told.wait("serves on, detached");
    told.wait("daemon 1 ends");
    told.assert_no_stop();
    assert_eq!(told.count("daemon 1 got USR2"), 1, "{}", told.listing());
    assert_eq!(told.count("daemon 1 got TERM"), 1, "{}", told.listing());
    told.stop();
    told.assert_all_ended();
}

/// R14: two drain at once.
fn again_while_draining(kind: Kind) {
    let told = Told::serving(kind);
    told.script("drain", LINGERS);
    told.restart();
    told.wait("daemon 2 is started");
    told.wait("daemon 1 got TERM");
    told.restart();
    told.wait("daemon 3 is started");
    told.wait("daemon 2 got TERM");
    told.assert_no_stop();
    for number in 1..=3 {
        told.release(number);
    }
    told.wait("daemon 1 ends");
    told.wait("daemon 2 ends");
    told.stop();
    told.assert_all_ended();
}

/// The old one serves on, and the next good version takes over.
fn again_while_a_new_version_crashes(kind: Kind) {
    let told = Told::serving(kind);
    told.script("start", CRASHES);
    told.restart();
    told.wait("died before it was ready: exit status 3");
    told.restart();
    let attempts = told.count("died before it was ready");
    for _ in 0..=attempts {
        told.stage.log.wait_for("died before it was ready");
    }
    told.assert_no_stop();
    assert_eq!(told.count("daemon 1 got TERM"), 0, "{}", told.listing());
    told.script("start", STARTED);
    told.wait("daemon 1 ends");
    told.assert_no_stop();
    told.stop();
    told.assert_all_ended();
}
