//! `--on SIGNAL=ACTION`: where nobody can be asked, or somebody knows better.

use nix::sys::signal::Signal;

use super::{LINGERS, Recipe, Told};
use crate::stage::{STARTED, Stage};
use crate::support::{self, Kind, Spawn};

const PREPARED: &str = r#""$SEAMLESS_RUN" notify prepared"#;

/// Whatever the supervisor wants: *up*, here.
#[test]
fn term_is_a_stop() {
    let recipe = Recipe {
        options: &["--on", "TERM=stop"],
        ..Recipe::default()
    };
    let told = Told::serving_with(Kind::Runit, &recipe);
    told.script("drain", LINGERS);
    let launcher = told.launcher();
    told.restart();
    told.wait("app: stop: generation 1 (pid ");
    told.wait("daemon 1 got TERM");
    told.assert_up(&launcher);
    told.release(1);
    told.assert_launcher_left_last();
    assert_eq!(told.count("got USR2"), 0, "{}", told.listing());
    // runit wanted it up.
    told.wait("daemon 2 is started");
    told.stop();
    told.wait("daemon 2 got TERM");
    told.release(2);
    told.assert_all_ended();
}

/// Nothing is asked at the signal. But the launcher leaves only if somebody will start another one.
#[test]
fn term_is_a_restart() {
    let recipe = Recipe {
        options: &["--on", "TERM=restart"],
        ..Recipe::default()
    };
    let told = Told::serving_with(Kind::Runit, &recipe);
    told.restart();
    told.wait("daemon 2 is started");
    told.wait("daemon 1 ends");
    told.assert_no_stop();
    told.stop();
    told.wait("daemon 2 got USR2");
    told.wait("daemon 2 got TERM");
    told.assert_all_ended();
}

/// Another signal than TERM asks the supervisor.
#[test]
fn another_signal_asks() {
    let recipe = Recipe {
        options: &["--on", "USR1=auto"],
        ..Recipe::default()
    };
    let told = Told::serving_with(Kind::Runit, &recipe);
    told.verb(&["1"]);
    told.wait("daemon 1 got USR2");
    told.wait("daemon 2 is started");
    told.wait("daemon 1 ends");
    told.assert_no_stop();
    told.stop();
    told.wait("app: stop: generation 2 (pid ");
    told.assert_all_ended();
    assert_eq!(told.count("daemon 2 got USR2"), 0, "{}", told.listing());
}

/// A launcher that no supervisor has started: TERM is a restart unless it is said otherwise.
#[test]
fn without_a_supervisor() {
    for (options, is_stop) in [
        (&[][..], false),
        (&["--on", "TERM=auto"], false),
        (&["--on", "TERM=restart"], false),
        (&["--on", "TERM=stop"], true),
    ] {
        let stage = Stage::new();
        let (launcher, daemon) = stage.daemon(options, STARTED, PREPARED);
        launcher.signal(Signal::SIGTERM);
        assert_eq!(launcher.finish().code(), Some(0));
        let prepared = stage.log.count(&format!("{daemon} got USR2"));
        let listing = stage.log.listing();
        assert_eq!(prepared == 0, is_stop, "{options:?}: {listing}");
        if !is_stop {
            Spawn::new(&stage.scratch, support::program())
                .arg("stop")
                .arg(&stage.pid_file)
                .finish()
                .expect_success();
        }
        stage.scratch.wait_only(&[]);
    }
}
