//! Node's own http server, and a probe that no predecessor can answer.

use std::time::Duration;

use super::change::{answers, replace};
use super::scene::{Recipe, Scene, WEB};
use crate::load::SlowSpec;
use crate::support::machine::with_machine;
use crate::support::tool;

const APPLICATION: &str = "/usr/local/share/app/app.js";
const NODE: Recipe = Recipe {
    name: "node",
    files: &[("app.js", APPLICATION)],
    configuration: APPLICATION,
    writes_to: &[],
    target: WEB,
    slow: SlowSpec {
        clients: 2,
        delay: Duration::from_secs(2),
    },
    per_second: 400,
};

fn with_node(test: impl FnOnce(Scene<'_>) + Send) {
    tool("node", "nodejs");
    with_machine(|machine| test(Scene::new(machine, &NODE)));
}

#[test]
fn restarts_lose_nothing() {
    with_node(|mut scene| {
        scene.start();
        scene.loses_nothing();
        scene.stops();
    });
}

#[test]
fn a_broken_application_is_not_started() {
    with_node(|mut scene| {
        scene.start();
        let broken = |text: &str| text.replace("server.listen(", "server.listen((");
        scene.survives(broken, "SyntaxError: ");
        scene.stops();
    });
}

/// It lives, but has not come so far as to accept; its predecessor answers meanwhile, and is not taken for it.
#[test]
fn one_that_does_not_accept_yet_is_not_ready() {
    with_node(|mut scene| {
        scene.start();
        let at_a_word = "process.on('SIGUSR2', () => server.listen({ fd: 3 }));\nsetInterval(() => {}, 1e6);\nconsole.error('it waits');";
        scene.deploy(1, 2);
        replace(APPLICATION, "server.listen({ fd: 3 });", at_a_word);
        scene.sv("term");
        scene.log().wait_seen("it waits");
        // After 5 s of looking the log says so.
        scene
            .log()
            .wait(|line| line.contains("generation 2 (pid ") && line.contains(" waits for "));
        answers(&scene, 1);
        scene.sv("2");
        scene.wait_ready(2);
        scene
            .log()
            .wait(|line| line.contains("generation 1 (pid ") && line.contains(" is gone"));
        answers(&scene, 2);
        scene.stops();
    });
}

/// The trap: node without a handler dies of TERM, with all that it has in hand.
#[test]
fn without_a_handler_for_term_it_cuts_off_what_it_has_in_hand() {
    with_node(|mut scene| {
        replace(APPLICATION, "process.on('SIGTERM'", "process.on('SIGUSR2'");
        scene.start();
        let load = scene.load();
        scene.deploy(1, 2);
        scene.sv("restart");
        scene.wait_ready(2);
        scene.wait_answers(&load, 2);
        let report = load.stop();
        assert!(report.slow.failed() > 0, "{report}");
        scene.stops();
    });
}
