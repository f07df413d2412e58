//! gunicorn, which takes a held socket as it takes one of systemd's.

use std::fs;
use std::time::Duration;

use super::change::{answers, replace, the_next_one_fails};
use super::scene::{Recipe, Scene, WEB};
use crate::load::SlowSpec;
use crate::support::machine::{Machine, with_machine};
use crate::support::tool;

const RUN: &str = "/etc/sv/gunicorn/run";
const CONFIGURATION: &str = "/etc/gunicorn/gunicorn.conf.py";
const APPLICATION: &str = "/usr/local/share/app/app.py";
const GUNICORN: Recipe = Recipe {
    name: "gunicorn",
    files: &[("gunicorn.conf.py", CONFIGURATION), ("app.py", APPLICATION)],
    configuration: CONFIGURATION,
    writes_to: &[],
    target: WEB,
    slow: SlowSpec {
        clients: 2,
        delay: Duration::from_secs(2),
    },
    per_second: 300,
};

fn with_gunicorn(test: impl FnOnce(&Machine<'_>, Scene<'_>) + Send) {
    tool("gunicorn", "gunicorn");
    with_machine(|machine| test(machine, Scene::new(machine, &GUNICORN)));
}

fn break_application() {
    replace(APPLICATION, "import os\n", "import os\nimport nowhere\n");
}

/// The first one that accepts makes a generation ready: no other one shall find what the test changes afterwards.
fn with_one_worker() {
    replace(CONFIGURATION, "workers = 4", "workers = 1");
}

/// What the recipe has against a broken version before it is started.
fn without_pre_start() {
    let run = fs::read_to_string(RUN).unwrap();
    let line = run.lines().find(|line| line.contains("--pre-start '"));
    replace(RUN, &format!("{}\n", line.unwrap()), "");
}

#[test]
fn restarts_lose_nothing() {
    with_gunicorn(|_, mut scene| {
        scene.start();
        scene.loses_nothing();
        scene.stops();
    });
}

#[test]
fn a_broken_configuration_is_not_started() {
    with_gunicorn(|_, mut scene| {
        scene.start();
        let broken = |text: &str| text.replace("workers = 4", "workers = none");
        scene.survives(broken, "name 'none' is not defined");
        scene.stops();
    });
}

#[test]
fn an_application_that_cannot_be_loaded_is_not_started() {
    with_gunicorn(|_, mut scene| {
        with_one_worker();
        scene.start();
        break_application();
        the_next_one_fails(&scene, "No module named 'nowhere'");
        let status = scene.status().stdout;
        assert!(status.contains("No module named 'nowhere'"), "{status}");
        assert_eq!(scene.log().count("Starting gunicorn"), 1);
        scene.stops();
    });
}

/// No worker comes so far as to accept.
#[test]
fn an_application_that_fails_in_its_workers_is_not_ready() {
    with_gunicorn(|_, mut scene| {
        with_one_worker();
        without_pre_start();
        scene.start();
        break_application();
        the_next_one_fails(&scene, "No module named 'nowhere'");
        scene.log().wait_seen("Worker failed to boot");
        scene.stops();
    });
}

/// The trap: its READY=1 means that the master listens. Taken for readiness, it costs the service.
#[test]
fn by_itself_it_is_ready_before_its_application() {
    with_gunicorn(|_, mut scene| {
        with_one_worker();
        without_pre_start();
        replace(RUN, "--ready listen:80 ", "");
        // A worker cannot be done before the master has been believed.
        let slowly = "import os\nwhile not os.path.exists('/usr/local/share/app/told'): __import__('time').sleep(0.01)\n";
        scene.start();
        // So it has loaded what it was to load.
        answers(&scene, 1);
        replace(
            APPLICATION,
            "import os\n",
            &format!("{slowly}import nowhere\n"),
        );
        scene.sv("term");
        scene.wait_ready(2);
        // The old one has been told, and is gone.
        scene
            .log()
            .wait(|line| line.contains("generation 1 (pid ") && line.contains(" is gone"));
        fs::write("/usr/local/share/app/told", "").unwrap();
        scene.log().wait_seen("Worker failed to boot");
        scene.stops();
    });
}

/// The trap: the second master finds the first one's PID file, and the first one alive.
#[test]
fn a_pid_file_of_its_own_keeps_the_next_one_out() {
    with_gunicorn(|machine, mut scene| {
        fs::create_dir("/run/gunicorn").unwrap();
        machine
            .command(&["chown", "app:", "/run/gunicorn"], "coreutils")
            .finish()
            .expect_success();
        let with = "graceful_timeout = 600\npidfile = '/run/gunicorn/gunicorn.pid'";
        replace(CONFIGURATION, "graceful_timeout = 600", with);
        scene.start();
        the_next_one_fails(&scene, "Already running on PID");
        answers(&scene, 1);
        scene.stops();
    });
}
