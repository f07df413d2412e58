//! A final stop, at every moment of a service's life.

use super::{
    AT_ONCE, CRASHES, LINGERS, PREPARED, PREPARES_LATE, Recipe, SILENT, STARTED, Told, on_each,
    stop_words,
};
use crate::support::Kind;

on_each!(
    while_serving,
    before_ready,
    before_ready_with_a_predecessor,
    right_after_a_restart,
    during_the_prepare,
    in_the_gap,
    while_draining,
    while_a_new_version_crashes,
    and_up_again,
);

/// In order: the daemon, its keeper, the launcher; and the supervisor sees the daemon's own status.
fn while_serving(kind: Kind) {
    let told = Told::serving(kind);
    let launcher = told.launcher();
    told.script("drain", LINGERS);
    // systemctl returns when the unit is down, and its status is there to be read.
    let words = match kind {
        Kind::Systemd => &["stop"],
        _ => stop_words(kind),
    };
    let verb = told.begin(words);
    told.wait("app: stop: generation 1 (pid ");
    told.wait("daemon 1 got TERM");
    told.assert_up(&launcher);
    told.release(1);
    verb.finish().expect_success();
    told.assert_all_ended();
    told.assert_status_seen(7);
    let prepares = told.count("daemon 1 got USR2");
    match kind {
        // Their status is written after the signal, so the first reading may still be *up*.
        Kind::Daemontools | Kind::S6 => assert!(prepares <= 1, "{}", told.listing()),
        Kind::Runit | Kind::Systemd | Kind::Supervisord => {
            assert_eq!(prepares, 0, "{}", told.listing());
        }
    }
    told.assert_launcher_left_last();
}

/// It handles USR2, but is not sent it: nobody was to come.
fn before_ready(kind: Kind) {
    let told = Told::start(kind, SILENT, &Recipe::default());
    told.wait("daemon 1 is silent");
    let launcher = told.launcher();
    told.script("drain", LINGERS);
    told.stop();
    told.wait("daemon 1 got TERM");
    told.assert_up(&launcher);
    told.release(1);
    told.assert_all_ended();
    assert_eq!(told.count("got USR2"), 0, "{}", told.listing());
    told.assert_launcher_left_last();
}

/// The one that serves in standby ends as well, and before the launcher leaves.
fn before_ready_with_a_predecessor(kind: Kind) {
    let told = Told::serving(kind);
    told.script("start", SILENT);
    told.script("drain", LINGERS);
    told.restart();
    told.wait("daemon 2 is silent");
    let launcher = told.launcher();
    told.stop();
    told.wait("daemon 2 got TERM");
    told.wait("daemon 1 got TERM");
    told.release(2);
    told.wait("is stopped: exit status 7");
    told.assert_up(&launcher);
    told.release(1);
    told.assert_all_ended();
    told.assert_launcher_left_last();
}

/// Within a millisecond or two, wherever the two signals find the service.
fn right_after_a_restart(kind: Kind) {
    let told = Told::serving(kind);
    told.restart();
    told.supervisor
        .say(stop_words(kind))
        .finish()
        .expect_success();
    told.wait("daemon 1 got TERM");
    told.assert_all_ended();
}

/// The second reading (R15): systemd sends no second signal for a stop in a restart's stop phase.
fn during_the_prepare(kind: Kind) {
    let told = Told::serving(kind);
    let launcher = told.launcher();
    told.script("prepare", PREPARES_LATE);
    told.script("drain", LINGERS);
    told.restart();
    told.wait("daemon 1 got USR2");
    told.stop();
    told.wait_wanted_down();
    told.release("prepare");
    told.wait("app: stop: generation 1 (pid ");
    told.wait("daemon 1 got TERM");
    told.assert_up(&launcher);
    told.release(1);
    told.assert_all_ended();
    assert_eq!(told.count("daemon 1 got TERM"), 1, "{}", told.listing());
    assert_eq!(told.count("serves on, detached"), 0, "{}", told.listing());
    told.assert_launcher_left_last();
}

/// The launcher has gone, the next one has not come: the standby's own watch.
fn in_the_gap(kind: Kind) {
    let recipe = Recipe {
        gate: true,
        ..Recipe::default()
    };
    let told = Told::serving_with(kind, &recipe);
    told.script("gate", "");
    told.restart();
    told.wait("serves on, detached");
    told.wait("at the gate");
    told.stop();
    told.wait("the supervisor wants the service down");
    told.wait("daemon 1 got TERM");
    told.assert_all_ended();
    assert_eq!(told.count("daemon 2"), 0, "{}", told.listing());
}

/// A replaced generation is waited for, but not told twice.
fn while_draining(kind: Kind) {
    let told = Told::serving(kind);
    told.script("drain", LINGERS);
    told.restart();
    told.wait("daemon 2 is started");
    told.wait("daemon 1 got TERM");
    let launcher = told.launcher();
    told.stop();
    told.wait("daemon 2 got TERM");
    told.release(2);
    told.wait("is stopped: exit status 7");
    told.assert_up(&launcher);
    told.release(1);
    told.assert_all_ended();
    for number in [1, 2] {
        let got = told.count(&format!("daemon {number} got TERM"));
        assert_eq!(got, 1, "{}", told.listing());
    }
    told.assert_launcher_left_last();
}

/// Whether it finds a launcher or a gap, the one that serves ends.
fn while_a_new_version_crashes(kind: Kind) {
    let told = Told::serving(kind);
    told.script("start", CRASHES);
    told.restart();
    for number in [2, 3] {
        let died = format!("generation {number} (pid ");
        (told.stage.log)
            .wait(|line| line.contains(&died) && line.contains("died before it was ready"));
    }
    told.assert_no_stop();
    assert_eq!(told.count("daemon 1 got TERM"), 0, "{}", told.listing());
    told.stop();
    told.wait("daemon 1 got TERM");
    told.assert_all_ended();
}

/// What was stopped can be started, and nothing of the stop is remembered.
fn and_up_again(kind: Kind) {
    let told = Told::serving(kind);
    told.stop();
    told.assert_all_ended();
    told.supervisor.settle();
    told.verb(match kind {
        Kind::Runit => &["up"],
        Kind::Systemd => &["start", "--no-block"],
        Kind::Daemontools | Kind::S6 | Kind::Supervisord => &["-u"],
    });
    told.wait("daemon 2 is started");
    told.restart();
    told.wait("daemon 3 is started");
    told.wait("daemon 2 ends");
    told.script("prepare", PREPARED);
    told.script("start", STARTED);
    told.script("drain", AT_ONCE);
    told.stop();
    told.wait("daemon 3 got TERM");
    told.assert_all_ended();
}
