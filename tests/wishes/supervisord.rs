//! supervisord sends the same signal for both, and has no file that tells: by another signal, or by asking it.

use super::{AT_ONCE, CRASHES, LINGERS, Recipe, STARTED, Told};
use crate::support::{Kind, Verb};

/// INT is a stop, `signal TERM` the restart.
const INT: Recipe<'static> = Recipe {
    options: &[],
    orphan_timeout: None,
    gate: false,
    unit: &[],
    unit_service: &[],
    program: &["stopsignal=INT", "stopwaitsecs=3600"],
    otherwise: false,
};

/// The same signal for both; whether it comes back is asked by XML-RPC.
const ASKED: Recipe<'static> = Recipe {
    program: &["stopsignal=TERM", "stopwaitsecs=3600"],
    ..INT
};

#[test]
fn the_int_recipe() {
    let told = Told::serving_with(Kind::Supervisord, &INT);
    told.restart();
    told.wait("daemon 2 is started");
    told.wait("daemon 1 ends");
    told.assert_no_stop();
    told.script("drain", LINGERS);
    let launcher = told.launcher();
    let verb = told.begin(&["stop"]);
    told.wait("app: stop: generation 2 (pid ");
    told.wait("daemon 2 got TERM");
    told.assert_up(&launcher);
    told.release(2);
    verb.finish().expect_success();
    told.assert_all_ended();
    assert_eq!(told.count("daemon 2 got USR2"), 0, "{}", told.listing());
}

#[test]
fn the_int_recipe_while_draining() {
    let told = Told::serving_with(Kind::Supervisord, &INT);
    told.script("drain", LINGERS);
    told.restart();
    told.wait("daemon 1 got TERM");
    told.wait("daemon 2 is started");
    let launcher = told.launcher();
    let verb = told.begin(&["stop"]);
    told.wait("daemon 2 got TERM");
    told.release(2);
    told.wait("is stopped: exit status 7");
    told.assert_up(&launcher);
    told.release(1);
    verb.finish().expect_success();
    told.assert_all_ended();
    assert_eq!(told.count("daemon 1 got TERM"), 1, "{}", told.listing());
}

/// `supervisorctl shutdown` is a stop of everything.
#[test]
fn the_int_recipe_at_a_shutdown() {
    let mut told = Told::serving_with(Kind::Supervisord, &INT);
    told.supervisor.run(Verb::Exit).expect_success();
    told.supervisor.wait_exit();
    told.wait("daemon 1 ends");
    told.assert_only(&[]);
}

/// A restart is STOPPED for a moment: too short to be taken for a stop.
#[test]
fn asked_by_xml_rpc() {
    let told = Told::serving_with(Kind::Supervisord, &ASKED);
    for next in 2..=3 {
        told.supervisor.run(Verb::Restart).expect_success();
        let last = next - 1;
        told.wait(&format!("daemon {last} got USR2"));
        told.wait(&format!("daemon {next} is started"));
        told.wait(&format!("daemon {last} ends"));
        told.assert_no_stop();
    }
    told.verb(&["stop"]);
    told.wait("daemon 3 got USR2");
    told.wait("the supervisor wants the service down");
    told.wait("daemon 3 got TERM");
    told.assert_all_ended();
}

/// A new version that crashes is not a stop; a stop in its loop is one.
#[test]
fn asked_by_xml_rpc_while_a_new_version_crashes() {
    let told = Told::serving_with(Kind::Supervisord, &ASKED);
    told.script("start", CRASHES);
    told.supervisor.begin(Verb::Restart).finish();
    // supervisord goes on at once: longer than the keeper's second between two questions.
    for _ in 0..4 {
        told.stage.log.wait_for("died before it was ready");
    }
    told.assert_no_stop();
    assert_eq!(told.count("daemon 1 got TERM"), 0, "{}", told.listing());
    told.script("start", STARTED);
    told.wait("daemon 1 ends");
    told.assert_no_stop();
    told.script("start", CRASHES);
    told.script("drain", AT_ONCE);
    told.supervisor.begin(Verb::Restart).finish();
    told.stage.log.wait_for("died before it was ready");
    told.verb(&["stop"]);
    told.assert_all_ended();
}
