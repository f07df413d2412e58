//! `--drain-group`: the daemon's children are told, too. And KILL is for all of them, always.

use nix::sys::signal::Signal;

use crate::puppet::{Generation, Puppet};
use crate::scene::kill;
use crate::stage::{Stage, assert_unharmed, innocent};
use crate::support::process;

/// The children of a daemon: one in its process group, one that has left it, one that has left the session too.
struct Family {
    near: Puppet,
    far: Puppet,
    farther: Puppet,
}

impl Family {
    fn of(stage: &Stage, daemon: &Puppet) -> Family {
        let near = stage.child(daemon, "child()");
        let far = stage.child(daemon, "child(group=True)");
        let farther = stage.child(daemon, "child(session=True)");
        Family { near, far, farther }
    }

    /// Those who left the group have heard nothing, and live.
    #[track_caller]
    fn assert_others_live(&self, stage: &Stage) {
        for one in [&self.far, &self.farther] {
            // A signal would have been heard before this is done.
            stage.has(one, "pass");
            for name in ["TERM", "QUIT"] {
                assert_eq!(stage.got(one, name), 0, "{}", stage.log.listing());
            }
            stage.asks(one, "leave()");
            process::wait_exit(one.pid);
        }
    }
}

const QUITS: &[(&str, &str)] = &[("TRAPS", "TERM QUIT"), ("EXITS", "TERM QUIT")];
const STUBBORN: &[(&str, &str)] = &[("EXITS", "")];

#[test]
fn the_group_is_told_at_the_commit() {
    for lost in [false, true] {
        let stage = Stage::new();
        let one = stage.serving(&["--drain-signal=QUIT", "--drain-group"], QUITS);
        let record = stage.record();
        assert!(record.contains("drain=QUIT,group"), "{record}");
        let family = Family::of(&stage, &one.daemon);
        let keeper = one.keeper;
        let old = stage.detach(one);
        if lost {
            kill(keeper);
        }
        let two = stage.serving(&[], QUITS);
        for one in [&old, &family.near] {
            process::wait_exit(one.pid);
            assert_eq!(stage.got(one, "QUIT"), 1, "{}", stage.log.listing());
        }
        family.assert_others_live(&stage);
        stage.stop(two.launcher, &[]);
    }
}

/// By its keeper, by the one that its launcher forks in that one's place, and by the verb where nobody is left.
#[test]
fn the_group_is_told_at_a_stop() {
    for (lost, detached) in [(false, false), (true, false), (true, true)] {
        let stage = Stage::new();
        let one = stage.serving(&["--drain-group"], &[]);
        let family = Family::of(&stage, &one.daemon);
        let Generation {
            launcher,
            keeper,
            daemon,
        } = one;
        if detached {
            launcher.signal(Signal::SIGTERM);
            launcher.finish();
            kill(keeper);
            assert_eq!(stage.verb(&["stop"]).code(), Some(0));
        } else {
            if lost {
                kill(keeper);
                stage.log.wait_for("goes on in its place");
            }
            launcher.signal(Signal::SIGINT);
            launcher.finish();
        }
        for one in [&daemon, &family.near] {
            process::wait_exit(one.pid);
            assert_eq!(stage.got(one, "TERM"), 1, "{}", stage.log.listing());
        }
        family.assert_others_live(&stage);
        stage.scratch.wait_no_processes_but(&[]);
    }
}

/// Without it the daemon tells its children itself.
#[test]
fn without_it_the_daemon_alone_is_told() {
    for lost in [false, true] {
        let stage = Stage::new();
        let one = stage.serving(&["--drain-signal=QUIT"], QUITS);
        let family = Family::of(&stage, &one.daemon);
        let keeper = one.keeper;
        let old = stage.detach(one);
        if lost {
            kill(keeper);
        }
        let two = stage.serving(&[], QUITS);
        process::wait_exit(old.pid);
        stage.has(&family.near, "pass");
        let heard = stage.got(&family.near, "QUIT");
        assert_eq!(heard, 0, "{}", stage.log.listing());
        stage.asks(&family.near, "leave()");
        family.assert_others_live(&stage);
        stage.stop(two.launcher, &[]);
    }
}

/// A shell around a server handles nothing by itself, and the server does.
#[test]
fn a_leader_that_does_not_handle_it() {
    let stage = Stage::new();
    let one = stage.serving(&["--drain-signal=WINCH", "--drain-group"], &[]);
    let server = stage.child(&one.daemon, "child()");
    let handles = "signal.signal(signal.SIGWINCH, caught); exits.add(signal.SIGWINCH)";
    stage.has(&server, handles);
    stage.asks(&one.daemon, "os.wait(); leave()");
    let Generation {
        launcher, daemon, ..
    } = one;
    launcher.signal(Signal::SIGINT);
    assert_eq!(launcher.finish().code(), Some(0), "{}", stage.log.listing());
    process::wait_exit(server.pid);
    assert_eq!(stage.got(&server, "WINCH"), 1, "{}", stage.log.listing());
    assert_eq!(stage.got(&daemon, "TERM"), 0, "{}", stage.log.listing());
}

/// A stranger with a group of its own is never told, whoever tells the daemon's group.
#[test]
fn a_stranger_is_never_told() {
    for lost in [false, true] {
        let stage = Stage::new();
        let innocent = innocent(&stage);
        let options = ["--drain-group", "--drain-timeout=100ms"];
        let one = stage.serving(&options, STUBBORN);
        let keeper = one.keeper;
        let old = stage.detach(one);
        if lost {
            kill(keeper);
        }
        let two = stage.serving(&options, &[]);
        process::wait_exit(old.pid);
        assert_unharmed(&stage, &innocent);
        stage.stop(two.launcher, &[innocent.pid()]);
    }
}

/// KILL ends the whole group, whoever sends it: the workers of a dead master would go on.
#[test]
fn kill_ends_the_group_after_a_drain() {
    for option in ["--drain-group", "--drain-signal=TERM"] {
        for lost in [false, true] {
            let stage = Stage::new();
            // It is to say what it got before it is KILLed.
            let options = [option, "--drain-timeout=2s"];
            let one = stage.serving(&options, STUBBORN);
            let family = Family::of(&stage, &one.daemon);
            let keeper = one.keeper;
            let old = stage.detach(one);
            if lost {
                kill(keeper);
            }
            let two = stage.serving(&options, &[]);
            process::wait_exit(old.pid);
            process::wait_exit(family.near.pid);
            assert_eq!(stage.got(&old, "TERM"), 1, "{}", stage.log.listing());
            family.assert_others_live(&stage);
            stage.stop(two.launcher, &[]);
        }
    }
}

#[test]
fn kill_ends_the_group_at_a_stop() {
    for lost in [false, true] {
        let stage = Stage::new();
        let one = stage.serving(&["--stop-timeout=100ms"], STUBBORN);
        let family = Family::of(&stage, &one.daemon);
        let Generation {
            launcher,
            keeper,
            daemon,
        } = one;
        if lost {
            kill(keeper);
            stage.log.wait_for("goes on in its place");
        }
        launcher.signal(Signal::SIGINT);
        launcher.finish();
        process::wait_exit(daemon.pid);
        process::wait_exit(family.near.pid);
        family.assert_others_live(&stage);
        stage.scratch.wait_no_processes_but(&[]);
    }
}

/// A generation ends with its daemon: who of the group needs longer has the time that it takes.
#[test]
fn a_leader_that_ends_before_its_group() {
    let stage = Stage::new();
    let one = stage.serving(&["--drain-group"], &[]);
    let slow = stage.child(&one.daemon, "child()");
    stage.has(&slow, "exits.clear()");
    let old = stage.detach(one);
    let two = stage.serving(&[], &[]);
    stage.log.wait_seen(&format!("{} got TERM", slow.pid));
    stage
        .log
        .wait_seen(&format!("generation 1 (pid {}) is gone", old.pid));
    stage.has(&slow, "pass");
    stage.asks(&slow, "leave()");
    process::wait_exit(slow.pid);
    stage.stop(two.launcher, &[]);
}
