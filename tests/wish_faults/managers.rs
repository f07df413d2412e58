//! systemd and supervisord: questions that hang, and states that are somebody else's.

use std::fs::{self, File};
use std::io::Write;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::{NEVER, Place};
use crate::scene::kill;
use crate::stage::{STARTED, pid_in};
use crate::support::process;
use crate::support::{self, Kind, Service, Supervisor, Systemd, Verb, executable, tool};

fn notify_service(place: &Place, options: &[&str]) -> Service {
    place
        .service(place.launcher(options))
        .unit_service("Type=notify")
        .unit_service("NotifyAccess=main")
}

/// In the place of `systemctl`: where its words match `pattern`, it does this first.
fn systemctl_but(place: &Place, pattern: &str, first: &str) -> String {
    let programs = place.stage.scratch.join("programs");
    fs::create_dir(&programs).unwrap();
    let fake = programs.join("systemctl");
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in {pattern}) {first};; esac\nexec {} \"$@\"\n",
        tool("systemctl", "systemd").display(),
    );
    executable::write(&fake, script.as_bytes(), 0o755);
    format!("{}:/usr/bin:/bin", programs.display())
}

/// Somebody asks for a restart, and systemd does not say at once whether there would be one; meanwhile another
/// restarts it. That newcomer is what both wanted, and its readiness is the answer.
#[test]
fn a_restart_that_another_was_faster_with() {
    let place = Place::new();
    let [gate, ready] = ["gate", "ready"].map(|name| place.stage.scratch.join(name));
    let mut opened = [&gate, &ready].map(|fifo| {
        mkfifo(fifo, Mode::S_IRWXU).unwrap();
        // Whether or not somebody reads it.
        File::options().read(true).write(true).open(fifo).unwrap()
    });
    let log = place.stage.log.path().display();
    let waits = format!("echo asked >>{log}; read -r _ <{}", gate.display());
    let path = systemctl_but(&place, "*property=Restart\\ *", &waits);
    let is_ready = format!(
        "[ $SEAMLESS_GENERATION = 1 ] || read -r _ <{}; {STARTED}",
        ready.display()
    );
    let service = notify_service(&place, &["--orphan-timeout", NEVER]);
    let service = service.env("PATH", path).env("READY", is_ready);
    let scratch = &place.stage.scratch;
    let supervisor = Systemd::start(scratch, &place.stage.log, &service);
    place.wait_started();
    let restart = supervisor.inside(support::program()).arg("restart");
    let restart = restart.arg(&place.stage.pid_file).start();
    place.stage.log.wait_for("asked");
    let other = supervisor.begin(Verb::Restart);
    place.stage.log.wait_for("app: generation 2 (pid ");
    for fifo in &mut opened {
        fifo.write_all(b"now\n").unwrap();
    }
    let said = restart.finish().expect_success().stdout;
    assert!(said.starts_with("app: generation 2 (pid "), "{said}");
    other.finish().expect_success();
    assert_eq!(place.stage.log.count("is ended"), 0, "{}", place.listing());
}

#[test]
fn another_keeper_asks_again_and_the_question_of_the_lost_one_ends_with_it() {
    let place = Place::new();
    let scratch = &place.stage.scratch;
    let programs = scratch.join("programs");
    let answer = scratch.join("answer");
    fs::create_dir(&programs).unwrap();
    let fake = programs.join("systemctl");
    let script = format!(
        "#!/bin/sh\n[ ! -e {} ] || exec {} \"$@\"\necho \"asked $$\" >>{}\nexec sleep 1000000\n",
        answer.display(),
        tool("systemctl", "systemd").display(),
        place.stage.log.path().display(),
    );
    executable::write(&fake, script.as_bytes(), 0o755);
    let path = format!("{}:/usr/bin:/bin", programs.display());
    let service = notify_service(&place, &["--orphan-timeout", NEVER]).env("PATH", path);
    let supervisor = Systemd::start(scratch, &place.stage.log, &service);
    place.wait_started();
    let keeper = process::children(supervisor.wait_main_pid())[0];
    let stop = supervisor.begin(Verb::Down);
    let asked = pid_in(&place.stage.log.wait_for("asked "));
    let asked = supervisor.outside(asked).expect("it hangs");
    fs::write(&answer, "").unwrap();
    kill(keeper);
    place.stage.log.wait_for("app: stop: generation 1");
    stop.finish().expect_success();
    process::wait_exit(asked);
}

/// systemd does not start anybody after a success, then.
#[test]
fn an_explicit_restart_of_a_unit_that_restarts_failures_only_is_refused() {
    let place = Place::new();
    let service = notify_service(&place, &[]).unit_service("Restart=on-failure");
    let scratch = &place.stage.scratch;
    let mut supervisor = Systemd::start(scratch, &place.stage.log, &service);
    place.wait_started();
    let restart = supervisor
        .inside(support::program())
        .arg("restart")
        .arg(&place.stage.pid_file)
        .finish();
    assert_eq!(restart.code(), Some(1), "{}", place.listing());
    assert!(
        restart.stderr.contains("Restart=on-failure"),
        "{}",
        restart.stderr
    );
    assert_eq!(supervisor.property("ActiveState"), "active");
    assert_eq!(place.stage.log.count("got USR2"), 0, "{}", place.listing());
    supervisor.want_down().expect_success();
    supervisor.shutdown();
}

/// It has that one's variables, and not its state.
#[test]
fn a_launcher_below_a_program_of_supervisords_is_not_that_program() {
    let place = Place::new();
    let words = place.launcher(&["--orphan-timeout", "3s"]).join(" ");
    let code = format!("{words} & echo \"launcher $!\"; wait; exec sleep 1000000");
    let service = place.service(["sh".to_owned(), "-c".to_owned(), code]);
    let _supervisor = Kind::Supervisord.start(&place.stage.scratch, &place.stage.log, &service);
    let launcher = pid_in(&place.stage.log.wait_for("launcher "));
    let daemon = place.wait_started();
    process::Handle::open(launcher)
        .expect("it serves")
        .signal(Signal::SIGTERM);
    place.stage.log.wait_for("within the orphan timeout (3 s)");
    process::wait_exit(daemon);
}

#[test]
fn supervisord_is_shut_down_while_a_new_version_crashes() {
    let place = Place::new();
    let service = place.service(place.launcher(&["--orphan-timeout", "10s"]));
    let mut supervisor = Kind::Supervisord.start(&place.stage.scratch, &place.stage.log, &service);
    let daemon = place.wait_started();
    place.deploy_a_crash();
    supervisor.term().expect_success();
    place.stage.log.wait_for("died before it was ready");
    supervisor.run(Verb::Exit).expect_success();
    supervisor.wait_exit();
    place.stage.log.wait_for(&format!("{daemon} got TERM"));
    process::wait_exit(daemon);
}

/// It says what it wants a second later, and that is no fault of its.
#[test]
fn a_supervisord_that_can_be_asked_is_not_complained_of() {
    let place = Place::new();
    let service = place.service(place.launcher(&["--orphan-timeout", NEVER]));
    let mut supervisor = Kind::Supervisord.start(&place.stage.scratch, &place.stage.log, &service);
    let daemon = place.wait_started();
    supervisor.term().expect_success();
    process::wait_exit(daemon);
    place.wait_started();
    supervisor.want_down().expect_success();
    place.stage.log.wait_for("wants the service down");
    place
        .stage
        .scratch
        .wait_no_processes_but(&supervisor.own_processes());
    assert_eq!(
        place.stage.log.count("cannot ask"),
        0,
        "{}",
        place.listing()
    );
    supervisor.shutdown();
}
