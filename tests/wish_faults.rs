//! What the supervisor's wish hangs on, when it breaks: status files that lie, questions that hang, a supervisor
//! that has died, or does not read (R15, R16, R23, R24).

mod managers;
mod relay;

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use nix::unistd::mkfifo;
use serde_json::Value;

use crate::scene::freeze;
use crate::stage::{BY_CHLD, DAEMON, STARTED, Stage};
use crate::support::process::{self, Pid};
use crate::support::{self, Daemontools, Finished, Runit, Service, Spawn, Supervisor, tool};

/// Nobody who waits for it ends before the test does.
const NEVER: &str = "1h";

fn verb(stage: &Stage, words: &[&str]) -> Finished {
    let verb = Spawn::new(&stage.scratch, support::program()).args(words);
    verb.arg(&stage.pid_file).finish()
}

/// [`DAEMON`] under the launcher; where a file `bad` is, a version that crashes.
struct Place {
    stage: Stage,
    bad: PathBuf,
}

impl Place {
    fn new() -> Place {
        let stage = Stage::new();
        let bad = stage.scratch.join("bad");
        Place { stage, bad }
    }

    fn launcher(&self, options: &[&str]) -> Vec<String> {
        let bad = self.bad.display();
        let daemon = self
            .stage
            .sh(&format!("[ ! -e {bad} ] || exit 3\n{DAEMON}"));
        let program = support::program();
        let words = [
            program.to_str().unwrap(),
            "--pid-file",
            self.stage.pid_file.to_str().unwrap(),
        ];
        let words = words.iter().chain(options).chain(&["--"]);
        words.map(|word| (*word).to_owned()).chain(daemon).collect()
    }

    fn service(&self, argv: impl IntoIterator<Item = String>) -> Service {
        let service = Service::new(argv);
        self.environment()
            .into_iter()
            .fold(service, |service, (name, value)| service.env(name, value))
    }

    fn environment(&self) -> [(&str, String); 4] {
        let pipes = self.stage.scratch.join("pipes");
        [
            ("PIPES", pipes.to_str().unwrap().to_owned()),
            (
                "SEAMLESS_RUN",
                support::program().to_str().unwrap().to_owned(),
            ),
            ("READY", STARTED.to_owned()),
            ("PREPARE", BY_CHLD.to_owned()),
        ]
    }

    /// The first generation serves.
    fn wait_started(&self) -> Pid {
        let daemon = self.stage.up();
        self.stage.log.wait_for(&format!("{daemon} is started"));
        daemon
    }

    fn deploy_a_crash(&self) {
        fs::write(&self.bad, "").unwrap();
    }

    /// A `finish` script that keeps runsv from the next attempt.
    fn finish(&self) -> String {
        let hold = self.stage.scratch.join("hold");
        mkfifo(&hold, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (bad, hold) = (self.bad.display(), hold.display());
        format!("[ ! -e {bad} ] || {{ echo finish waits; read -r _ <{hold}; }}")
    }

    fn status(&self) -> Value {
        let told = verb(&self.stage, &["status", "--json"]).expect_success();
        serde_json::from_str(&told.stdout).unwrap()
    }

    fn listing(&self) -> String {
        self.stage.log.listing()
    }
}

/// One runsv supervises both, and each has a wish of its own.
#[test]
fn the_log_service_is_judged_by_its_own_wish() {
    let place = Place::new();
    let mut script = format!(
        "#!/bin/sh\nexec >>{} 2>&1\n",
        place.stage.log.path().display()
    );
    for (name, value) in place.environment() {
        script += &format!("export {name}='{value}'\n");
    }
    let words = place.launcher(&["--orphan-timeout", NEVER]);
    script += &format!("exec {}\n", words.join(" "));
    let service = Service::new(["sh", "-c", "exec sleep 1000000"]).script("log/run", script);
    let supervisor = Runit::start(&place.stage.scratch, &place.stage.log, &service);
    let daemon = place.wait_started();
    let sv = Spawn::new(&place.stage.scratch, tool("sv", "runit"));
    let directory = supervisor.directory().join("log");
    sv.args(["-w", "0", "down", directory.to_str().unwrap()])
        .finish();
    place.stage.log.wait_for("app: stop: generation 1");
    process::wait_exit(daemon);
}

#[test]
fn an_explicit_restart_whose_supervisor_has_died_is_refused() {
    let place = Place::new();
    let service = place.service(place.launcher(&["--orphan-timeout", "1s"]));
    let mut supervisor = Runit::start(&place.stage.scratch, &place.stage.log, &service);
    let daemon = place.wait_started();
    supervisor.shutdown();
    let refused = verb(&place.stage, &["restart"]);
    assert_eq!(refused.code(), Some(1), "{}", place.listing());
    assert!(
        refused.stderr.contains("nobody would start a successor"),
        "{}",
        refused.stderr
    );
    assert_eq!(place.stage.log.count("got USR2"), 0, "{}", place.listing());
    assert!(process::alive(daemon));
    verb(&place.stage, &["stop"]).expect_success();
    place.stage.scratch.wait_no_processes_but(&[]);
}

/// It counts as much as the first one.
#[test]
fn a_supervisor_that_has_taken_the_place_of_a_lost_one_is_believed() {
    let place = Place::new();
    let service = place.service(place.launcher(&["--orphan-timeout", NEVER]));
    let service = service.finish(place.finish());
    let mut first = Runit::start(&place.stage.scratch, &place.stage.log, &service);
    let daemon = place.wait_started();
    place.deploy_a_crash();
    first.term().expect_success();
    place.stage.log.wait_for("finish waits");
    first.shutdown();
    let second = Runit::start(&place.stage.scratch, &place.stage.log, &service);
    place.stage.log.wait_for("died before it was ready");
    place.stage.log.wait_for("finish waits");
    let status = place.status();
    let deadline = &status["generations"][0]["deadline"];
    assert!(deadline.is_null(), "{status}\n{}", place.listing());
    second.sv(&["-w", "0", "down"]).finish();
    place.stage.log.wait_for("wants the service down");
    process::wait_exit(daemon);
}

#[test]
fn a_fifo_in_the_place_of_the_status_file_stops_nobody() {
    let place = Place::new();
    let service = place.service(place.launcher(&["--orphan-timeout", "1s"]));
    let supervisor = Runit::start(&place.stage.scratch, &place.stage.log, &service);
    let daemon = place.wait_started();
    let launcher = supervisor.wait_main_pid();
    // It would write the file anew.
    freeze(supervisor.own_processes()[0]);
    let status = supervisor.directory().join("supervise/status");
    fs::remove_file(&status).unwrap();
    mkfifo(&status, nix::sys::stat::Mode::S_IRWXU).unwrap();
    process::Handle::open(launcher)
        .expect("it serves")
        .signal(Signal::SIGTERM);
    place.stage.log.wait_for("within the orphan timeout (1 s)");
    process::wait_exit(daemon);
}

/// As on a full disk: supervise goes on, and its file says what it said before.
#[test]
fn a_status_file_that_cannot_be_written_anew_does_not_keep_a_service_up() {
    let place = Place::new();
    let service = place.service(place.launcher(&["--orphan-timeout", "1s"]));
    let supervisor = Daemontools::start(&place.stage.scratch, &place.stage.log, &service);
    let daemon = place.wait_started();
    supervisor.settle();
    fs::create_dir(supervisor.directory().join("supervise/status.new")).unwrap();
    supervisor.want_down().expect_success();
    place.stage.log.wait_for("within the orphan timeout (1 s)");
    process::wait_exit(daemon);
}
