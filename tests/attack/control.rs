//! The control socket: who reaches it, who crowds it, and who takes its place (§6).

use nix::sys::signal::Signal;

use super::*;
use crate::stage::{assert_unharmed, innocent};
use crate::support::process;

fn keeper_of(launcher: &Spawned) -> Pid {
    process::children(launcher.pid())[0]
}

fn descriptors(pid: Pid) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// In directories of every mode, by its path and through the keeper's descriptors.
#[test]
fn another_user_cannot_connect() {
    for place in Place::ALL {
        let attack = Attack::new(place);
        let (launcher, _, _) = attack.daemon(&[], STARTED);
        let stage = &attack.stage;
        let record = stage.record();
        let control = record
            .split("control=")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap();
        let socket = stage.beside(".sock").display().to_string();
        let by_number = format!("/proc/{}/fd/{control}", keeper_of(&launcher));
        let said = attack.attack(&["reach", &socket, &by_number]);
        assert_eq!(said, "EACCES\nEACCES", "{place:?}");
        stage.stop(launcher, &[]);
    }
}

/// Those who may connect, a thousand of them, who say half of something, or nothing, or too much; and
/// ten thousand who go at once. Nobody waits for any of them.
#[test]
fn a_crowd_of_callers_holds_nobody_up() {
    let attack = Attack::new(Place::Roots);
    let stage = &attack.stage;
    let (launcher, first, _) = attack.daemon(&[], STARTED);
    let keeper = keeper_of(&launcher);
    let before = descriptors(keeper);
    let socket = stage.beside(".sock").display().to_string();
    let root = |words: &[&str]| {
        let python = stage.spawn(python()).args(["-I", "-S"]);
        python.arg(&attack.script).args(words)
    };
    let crowd = root(&["crowd", &socket, "1000"]).start();
    stage.log.wait_for("EMSGSIZE");
    stage.log.wait_for("crowded");
    assert_eq!(attack.verb(&["status"]).code(), Some(0));
    root(&["come_and_go", &socket, "10000"])
        .finish()
        .expect_success();
    let told = attack.verb(&["status"]);
    assert!(
        told.stdout.contains(&format!("pid {first}")),
        "{}",
        told.stdout
    );

    let verb = Spawn::new(&stage.scratch, support::program());
    let verb = verb.arg("restart").arg(&stage.pid_file).start();
    assert_eq!(launcher.finish().code(), Some(0));
    let (launcher, second, _) = attack.daemon(&[], STARTED);
    assert_eq!(verb.finish().code(), Some(0), "{}", stage.log.listing());
    process::wait_exit(first);
    assert_eq!(stage.pid_in_file(), Some(second));
    drop(crowd);
    assert_eq!(attack.verb(&["status"]).code(), Some(0));
    assert!(
        descriptors(keeper_of(&launcher)) <= before + 1,
        "{}",
        stage.log.listing()
    );
    stage.stop(launcher, &[]);
}

/// Another user's socket in the place of the keeper's: nobody connects, so nobody is lied to or kept waiting.
#[test]
fn an_impostor_at_the_control_socket_is_not_asked() {
    for place in [Place::Everybodys, Place::Groups, Place::Theirs] {
        for silent in [false, true] {
            let attack = Attack::new(place);
            let stage = &attack.stage;
            let stranger = innocent(stage);
            let who = stranger.identity();
            let lie = format!(
                "seamless-control 1.0 state\\ngeneration=9\\nphase=serving\\nready=1\\nsupervised=1\\ndaemon={who}\\nkeeper={who}\\nlauncher={who}\\n"
            );
            let (launcher, first, _) = attack.daemon(&[], STARTED);
            let socket = stage.beside(".sock").display().to_string();
            let answer = if silent { "" } else { &lie };
            let impostor = attack.stranger(&["impersonate", &socket, answer]).start();
            stage.log.wait_for("listens");

            let told = attack.verb(&["status"]);
            assert_eq!(told.code(), Some(0), "{told:?}");
            assert!(told.stdout.contains("it belongs to user 65534"), "{told:?}");
            assert!(told.stdout.contains(&format!("pid {first}")), "{told:?}");
            assert!(!told.stdout.contains(&who.pid.to_string()), "{told:?}");
            let restart = attack.verb(&["restart", "--timeout=5s"]);
            assert_eq!(restart.code(), Some(4), "{restart:?}");
            assert!(
                restart.stderr.contains("it belongs to user 65534"),
                "{restart:?}"
            );

            launcher.signal(Signal::SIGTERM);
            assert_eq!(launcher.finish().code(), Some(0), "{}", stage.log.listing());
            let (launcher, second, _) = attack.daemon(&[], STARTED);
            process::wait_exit(first);
            assert_eq!(stage.pid_in_file(), Some(second));
            // The newcomer has the path again; and loses it again.
            let again = attack.attack_in_background(&socket, answer);
            let stop = attack.verb(&["stop"]);
            assert_eq!(stop.code(), Some(0), "{stop:?}");
            launcher.finish();
            assert_eq!(stage.log.count("a caller"), 0, "{}", stage.log.listing());
            drop((impostor, again));
            stage.scratch.wait_no_processes_but(&[stranger.pid()]);
            assert_unharmed(stage, &stranger);
        }
    }
}

impl Attack {
    fn attack_in_background(&self, socket: &str, answer: &str) -> Spawned {
        fs::remove_file(format!("{socket}.away")).ok();
        let impostor = self.stranger(&["impersonate", socket, answer]).start();
        self.stage.log.wait_for("listens");
        impostor
    }
}
