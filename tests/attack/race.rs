//! The same, while generations come and go: files that change places with their evil twins all the time.

use nix::sys::signal::Signal;

use super::*;
use crate::stage::{assert_unharmed, innocent};
use crate::support::process::Handle;

const HANDOVERS: usize = 20;
/// More than there is time for; he ends with the test.
const SWAPS: &str = "1000000000";

fn race(place: Place) {
    let attack = Attack::new(place);
    let stage = &attack.stage;
    let stranger = innocent(stage);
    let directory = stage.pid_file.parent().unwrap();
    let attacker = attack
        .stranger(&[
            "swap",
            directory.to_str().unwrap(),
            &record_of(&stranger, "ready"),
            attack.vault("secret").to_str().unwrap(),
            SWAPS,
        ])
        .start();
    stage.log.wait_for("swapping");
    let (mut committed, mut refused) = (0, 0);
    for _ in 0..HANDOVERS {
        let before = stage.log.length();
        let launcher = stage
            .seamless_run(&["--orphan-timeout=2s", "--drain-timeout=1s", "--"])
            .args(stage.sh(DAEMON))
            .env("READY", STARTED)
            .env("PREPARE", BY_CHLD)
            .start();
        // Whatever it comes to: 125, or a daemon that is ready.
        let deadline = std::time::Instant::now() + support::PATIENCE;
        let is_decided =
            |line: &str| line.contains("is ready after") || line.starts_with("seamless-run: ");
        let decided = stage.log.seen_by(deadline, before, is_decided);
        match decided
            .expect("neither ready nor refused")
            .contains("is ready after")
        {
            true => committed += 1,
            false => refused += 1,
        }
        for words in [
            &["status"][..],
            &["restart", "--timeout=1s"],
            &["stop", "--old"],
        ] {
            let told = attack.verb(words);
            assert!(told.code().is_some(), "{told:?}");
            assert!(!format!("{told:?}").contains(SECRET), "{told:?}");
        }
        launcher.signal(Signal::SIGTERM);
        let ended = launcher.finish();
        assert!(ended.code().is_some(), "{ended:?}");
    }
    assert!(attacker.alive(), "the handovers outlasted him");
    drop(attacker);
    row(
        &format!("{place:?}: files swapped during {HANDOVERS} handovers"),
        &format!("{committed} committed, {refused} refused"),
    );
    // Whose files he has taken away serves on, and is found by nobody: TERM to a keeper is a stop.
    for process in stage.scratch.processes() {
        if process.comm == "seamless-keeper" {
            if let Some(keeper) = Handle::open(process.pid) {
                keeper.signal(Signal::SIGTERM);
            }
        }
    }
    stage.scratch.wait_no_processes_but(&[stranger.pid()]);
    attack.assert_untouched();
    assert_unharmed(stage, &stranger);
    assert!(
        place != Place::Sticky || committed == HANDOVERS,
        "{}",
        stage.log.listing()
    );
}

#[test]
fn files_are_swapped_in_a_sticky_directory() {
    race(Place::Sticky);
}

#[test]
fn files_are_swapped_where_everybody_may_write() {
    race(Place::Everybodys);
}

#[test]
fn files_are_swapped_in_the_attackers_own_directory() {
    race(Place::Theirs);
}
