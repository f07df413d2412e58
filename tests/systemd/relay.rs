//! What is passed on to systemd, what is not, and when a barrier has been passed (R23).

use std::time::Instant;

use nix::sys::signal::Signal;

use super::{Machine, READY};
use crate::scene::{freeze, kill, signal};
use crate::support::process::Process;
use crate::support::{PATIENCE, Spawn, Supervisor, Verb};

/// What the keeper knows, asked from outside.
fn status(machine: &Machine) -> String {
    let status = Spawn::new(&machine.stage.scratch, &machine.program).arg("status");
    status.arg(&machine.stage.pid_file).finish().stdout
}

/// sd_notify_barrier(3) returns when systemd has read what was said before, and no sooner.
#[test]
fn a_barrier_is_passed_when_systemd_has_read_what_was_said_before() {
    let machine = Machine::boot();
    let service = machine
        .service(&[])
        .env("FIRST", READY)
        .unit_service("FileDescriptorStoreMax=10");
    let daemon = machine.start(&service);
    // Whatever has been said can be seen at once.
    for (number, file) in ["a", "b", "c", "d", "e"].iter().enumerate() {
        machine.order(1, &format!("say STATUS=about to store {file}"));
        machine.order(1, &format!("store {file} content"));
        machine.barrier(1, daemon);
        assert_eq!(
            machine.property("NFileDescriptorStore"),
            (number + 1).to_string()
        );
        let text = machine.property("StatusText");
        assert!(text.contains(&format!("about to store {file}")), "{text}");
    }

    // Nobody else can answer for it: while systemd stands still, so does the daemon.
    let init = machine.systemd.init();
    freeze(init);
    machine.order(1, "say STATUS=read at last");
    machine.wait_said(daemon, "said STATUS=read at last");
    machine.order(1, "barrier late");
    // The keeper has read it when it answers this: it reads all that waits before it acts.
    let known = status(&machine);
    assert!(known.contains("read at last"), "{known}");
    assert!(!machine.says("barrier late"), "{}", machine.listing());
    signal(init, Signal::SIGCONT);
    let passed = machine.wait_said(daemon, "barrier late: ");
    assert!(passed.ends_with(": 1"), "{passed}");
    let text = machine.property("StatusText");
    assert!(text.contains("read at last"), "{text}");
    machine.stop();
}

/// The main process is the launcher, whatever the daemon says: another one would be KILLed without a drain.
#[test]
fn a_daemon_cannot_make_itself_the_main_process() {
    let machine = Machine::boot();
    let daemon = machine.start(&machine.service(&[]).env("FIRST", READY));
    let launcher = machine.launcher_of(daemon).to_string();
    machine.order(
        1,
        &format!("say MAINPID={daemon}\nSTATUS=I am the main one"),
    );
    machine.barrier(1, daemon);
    assert_eq!(machine.property("MainPID"), launcher);
    let text = machine.property("StatusText");
    assert!(text.contains("I am the main one"), "{text}");
    machine.stop();
}

/// `STOPPING=1` would put the unit into a stop that nobody asked for: it is the launcher that stops, or does not.
#[test]
fn a_daemon_that_is_about_to_exit_does_not_stop_the_unit() {
    let machine = Machine::boot();
    let daemon = machine.start(&machine.service(&[]).env("FIRST", READY));
    machine.order(1, "say STOPPING=1");
    machine.barrier(1, daemon);
    assert_eq!(machine.property("SubState"), "running");
    machine.order(1, "exit 0");
    // Restart=always.
    machine.up(2);
    machine
        .systemd
        .wait_property("ActiveState", |state| state == "active");
    machine.stop();
}

/// The unit is the new generation's: nothing that an old one says while it drains is passed on.
#[test]
fn what_a_draining_generation_says_is_its_own_affair() {
    let machine = Machine::boot();
    let service = machine
        .service(&[])
        .env("FIRST", READY)
        .env("LINGER", "1")
        .unit_service("FileDescriptorStoreMax=10");
    let first = machine.start(&service);
    let second = machine.restart(2);
    machine.wait_said(first, "got TERM");
    machine.order(2, "say STATUS=the second serves");
    machine.barrier(2, second);
    for text in [
        "STOPPING=1",
        "STATUS=the first says goodbye",
        "RELOADING=1",
        "STOPPING=1\nSTATUS=the first says it once more",
        "ERRNO=5",
    ] {
        machine.order(1, &format!("say {text}"));
    }
    machine.order(1, "store leftover content");
    machine.wait_said(first, "stored leftover: 1");
    // Its barriers are passed all the same: it must not wait for what nobody will read.
    machine.barrier(1, first);
    // And systemd has read all that could have been passed on.
    machine.barrier(2, second);
    assert_eq!(machine.property("SubState"), "running");
    assert_eq!(machine.property("NFileDescriptorStore"), "0");
    let text = machine.property("StatusText");
    assert!(text.contains("the second serves"), "{text}");
    assert_eq!(machine.property("StatusErrno"), "0");
    machine.order(1, "exit 0");
    machine.wait_exit(first);
    machine.order(2, "say STATUS=the first has gone");
    machine.barrier(2, second);
    assert_eq!(machine.property("SubState"), "running");
    let launcher = machine.launcher_of(second).to_string();
    assert_eq!(machine.property("MainPID"), launcher);
    // LINGER: the stop is over when the daemon has ended.
    let stop = machine.systemd.begin(Verb::Down);
    machine.wait_said(second, "got TERM");
    machine.order(2, "exit 0");
    stop.finish().expect_success();
    machine.assert_nothing_left();
}

/// One that is detached and serves until its successor is ready: the unit's words are the new one's.
#[test]
fn what_a_generation_in_standby_says_is_its_own_affair() {
    let machine = Machine::boot();
    let first = machine.start(&machine.service(&[]).env("FIRST", READY));
    machine.install(&machine.service(&[]));
    let restart = machine.systemd.begin(Verb::Restart);
    let second = machine.up(2);
    machine.order(2, "say STATUS=the second starts");
    machine.barrier(2, second);
    for text in ["READY=1", "STATUS=the first serves", "STOPPING=1"] {
        machine.order(1, &format!("say {text}"));
    }
    machine.barrier(1, first);
    machine.barrier(2, second);
    assert_eq!(machine.active_state(), "activating");
    let text = machine.property("StatusText");
    assert!(text.contains("the second starts"), "{text}");
    machine.order(2, "say READY=1");
    restart.finish().expect_success();
    machine.stop();
}

/// Nobody waits for a systemd that does not read. What counts is not lost, and comes in order (R24).
#[test]
fn nothing_that_counts_is_lost_on_a_systemd_that_stands_still() {
    let machine = Machine::boot();
    let service = machine
        .service(&[])
        .env("FIRST", READY)
        .unit_service("FileDescriptorStoreMax=20");
    let daemon = machine.start(&service);
    let init = machine.systemd.init();
    freeze(init);
    for number in 0..20 {
        for step in 0..100 {
            machine.order(
                1,
                &format!("say STATUS=step {step} of {number}\nWATCHDOG=1"),
            );
        }
        machine.order(1, &format!("store number-{number} content"));
    }
    machine.wait_said(daemon, "stored number-19: 1");
    machine.order(1, "say STATUS=the last word");
    machine.order(1, "barrier behind-all");
    // The keeper hears it all, and is there for others.
    let deadline = Instant::now() + PATIENCE;
    while !status(&machine).contains("the last word") {
        assert!(Instant::now() < deadline, "{}", machine.listing());
    }
    assert!(!machine.says("barrier behind-all"), "{}", machine.listing());
    signal(init, Signal::SIGCONT);
    let passed = machine.wait_said(daemon, "barrier behind-all: ");
    assert!(passed.ends_with(": 1"), "{passed}");
    assert_eq!(machine.property("NFileDescriptorStore"), "20");
    let text = machine.property("StatusText");
    assert!(text.contains("the last word"), "{text}");
    machine.stop();
}

/// The keeper that goes on in a lost one's place hears the daemon, and passes on what it says.
#[test]
fn what_the_daemon_says_is_passed_on_after_its_keeper_was_lost() {
    let machine = Machine::boot();
    let service = machine
        .service(&[])
        .unit_service("FileDescriptorStoreMax=10");
    machine.install(&service);
    let start = machine.systemd.begin(Verb::Up);
    for (generation, say_ready) in [(1, true), (2, false)] {
        let daemon = machine.up(generation);
        let outside = machine.systemd.outside(daemon).unwrap();
        let keeper = Process::read(outside).unwrap().parent;
        kill(keeper);
        machine.stage.log.wait_for("goes on in its place");
        if say_ready {
            assert_eq!(machine.active_state(), "activating");
            machine.order(generation, "say READY=1");
        }
        machine
            .systemd
            .wait_property("ActiveState", |state| state == "active");
        machine.order(generation, "say STATUS=still heard");
        machine.order(generation, "store one hello");
        machine.barrier(generation, daemon);
        let text = machine.property("StatusText");
        assert!(text.contains("still heard"), "{text}");
        assert_eq!(machine.property("NFileDescriptorStore"), "1");
        if say_ready {
            machine.install(
                &machine
                    .service(&[])
                    .env("FIRST", READY)
                    .unit_service("FileDescriptorStoreMax=10"),
            );
            machine.restart(2);
            machine.wait_exit(daemon);
            let second = machine.up(2);
            machine.order(2, "say FDSTOREREMOVE=1\nFDNAME=one");
            machine.barrier(2, second);
        }
    }
    start.finish().expect_success();
    machine.stop();
}

/// The error of a daemon's own is shown as its status is.
#[test]
fn the_errors_that_a_daemon_tells_are_the_units() {
    let machine = Machine::boot();
    let daemon = machine.start(&machine.service(&[]).env("FIRST", READY));
    machine.order(1, "say ERRNO=13\nSTATUS=cannot read it");
    machine.barrier(1, daemon);
    assert_eq!(machine.property("StatusErrno"), "13");
    machine.stop();
}
