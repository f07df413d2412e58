//! A shell script that starts a server and says when it is up.

use std::time::Duration;

use super::change::{answers, replace, the_next_one_fails};
use super::scene::{Recipe, Scene, WEB};
use crate::load::SlowSpec;
use crate::support::machine::with_machine;
use crate::support::tool;

const RUN: &str = "/etc/sv/script/run";
const CONFIGURATION: &str = "/etc/web.conf";
const DAEMON: &str = "/usr/local/sbin/web";
const APPLICATION: &str = "/usr/local/share/app/app.py";
const SCRIPT: Recipe = Recipe {
    name: "script",
    files: &[
        ("web", DAEMON),
        ("web.conf", CONFIGURATION),
        ("../gunicorn/app.py", APPLICATION),
    ],
    configuration: CONFIGURATION,
    writes_to: &[],
    target: WEB,
    slow: SlowSpec {
        clients: 2,
        delay: Duration::from_secs(2),
    },
    per_second: 300,
};

fn with_script(test: impl FnOnce(Scene<'_>) + Send) {
    tool("gunicorn", "gunicorn");
    with_machine(|machine| test(Scene::new(machine, &SCRIPT)));
}

#[test]
fn restarts_lose_nothing() {
    with_script(|mut scene| {
        scene.start();
        scene.loses_nothing();
        scene.stops();
    });
}

#[test]
fn a_broken_configuration_is_not_started() {
    with_script(|mut scene| {
        scene.start();
        let broken = |text: &str| text.replace("generation 1'", "generation 1");
        scene.survives(broken, "Syntax error: Unterminated quoted string");
        scene.stops();
    });
}

/// The server of the new script does not come up: nothing was said to be ready.
#[test]
fn a_server_that_dies_is_the_end_of_its_script() {
    with_script(|mut scene| {
        // The first one that accepts makes a generation ready: no other one shall find what comes now.
        replace(CONFIGURATION, "WORKERS=2", "WORKERS=1");
        scene.start();
        answers(&scene, 1);
        replace(APPLICATION, "import os\n", "import os\nimport nowhere\n");
        the_next_one_fails(&scene, "Worker failed to boot");
        let status = scene.status().stdout;
        assert!(status.contains("exit status 3"), "{status}");
        scene.stops();
    });
}

/// The script passes nothing on: TERM goes to its server, too.
#[test]
fn a_drain_signal_for_the_whole_group_reaches_the_server() {
    with_script(|mut scene| {
        replace(RUN, "--ready-timeout", "--drain-group --ready-timeout");
        let trap = "trap 'if [ -n \"${!-}\" ]; then kill -TERM \"$!\"; else exit; fi' TERM";
        replace(DAEMON, trap, "trap : TERM");
        scene.start();
        scene.loses_nothing();
        scene.stops();
    });
}
