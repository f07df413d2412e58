//! The prepare signal, on programs that do one thing or another with USR2.

use super::*;

/// Restarted in each way, and with USR2 asked for by hand or not.
fn unharmed(program: impl Fn(&Stage) -> Program) {
    for way in Way::ALL {
        for by_hand in [false, true] {
            let stage = Stage::new();
            let program = program(&stage);
            restart(&stage, &program, way, by_hand);
        }
    }
}

fn restart(stage: &Stage, program: &Program, way: Way, by_hand: bool) {
    let by_us = by_hand || way == Way::Silent;
    // One that is ended then is to have said what it got.
    let timeout = match (by_us && program.says, way) {
        (true, Way::Silent) => "2s",
        _ => "100ms",
    };
    let mut options = vec!["--prepare-timeout", timeout];
    if by_hand {
        options.extend(["--prepare-signal", "USR2"]);
    }
    let (launcher, daemon) = start(stage, program, way, &options);
    let log = &stage.log;
    let what = || format!("{way:?}, by hand: {by_hand}: {}", log.listing());
    launcher.signal(Signal::SIGTERM);

    let told = match program.listens {
        Listens::No => false,
        // Whoever becomes ready in another way than ours has no reason to know of us.
        Listens::Yes => by_us,
        Listens::Runtime => by_hand,
    };
    let ready = way != Way::Silent;
    let outcome = match (told, ready) {
        (true, true) => "did not answer within the prepare timeout (0.1 s); it serves on",
        (true, false) => "and never said that it is ready; it is ended",
        (false, true) => "serves on, detached and unasked",
        (false, false) => "does not listen to USR2; it is ended",
    };
    log.wait_for(outcome);
    let ended = launcher.finish();
    assert_eq!(
        log.count("is told to prepare (USR2)"),
        usize::from(told),
        "{}",
        what()
    );
    if told && program.says {
        log.wait_seen("got USR2");
    } else {
        assert_eq!(log.count("got USR2"), 0, "{}", what());
    }
    if ready {
        assert_eq!(ended.code(), Some(0), "{}", what());
        assert!(lives(daemon), "{}", what());
        stop(stage, daemon);
    }
    let of_term = [
        "killed by TERM after",
        "exit status 143 after",
        "exit status 0 after",
    ];
    let line = log.wait_seen(&format!(
        "(pid {daemon}) is {}: ",
        if ready { "gone" } else { "stopped" }
    ));
    assert!(of_term.iter().any(|end| line.contains(end)), "{}", what());
}

fn unharmed_in_c(what: &str, listens: Listens) {
    unharmed(|stage| Program::c(stage, "USR2", what, listens));
}

#[test]
fn one_that_would_die_of_it() {
    unharmed_in_c("dies", Listens::No);
}

#[test]
fn one_that_ignores_it() {
    unharmed_in_c("ignores", Listens::Yes);
}

#[test]
fn one_that_catches_it() {
    unharmed_in_c("catches", Listens::Yes);
}

#[test]
fn one_that_holds_it_back() {
    unharmed_in_c("blocks", Listens::Yes);
}

#[test]
fn one_that_waits_for_it_with_sigwait() {
    unharmed_in_c("sigwait", Listens::Yes);
}

#[test]
fn one_that_waits_for_it_with_signalfd() {
    unharmed_in_c("signalfd", Listens::Yes);
}

/// What it does at the moment of the look says nothing of what it wants.
#[test]
fn one_with_a_signalfd_that_has_much_to_do() {
    unharmed_in_c("busy-signalfd", Listens::Yes);
}

#[test]
fn one_with_a_thread_that_waits_for_it() {
    unharmed_in_c("thread-waits", Listens::Yes);
}

#[test]
fn one_that_holds_it_back_in_the_thread_that_waits_only() {
    unharmed_in_c("only-thread-waits", Listens::No);
}

#[test]
fn one_that_holds_it_back_in_the_main_thread_only() {
    unharmed_in_c("only-main-blocks", Listens::No);
}

#[test]
fn one_whose_main_thread_has_ended() {
    unharmed_in_c("main-gone", Listens::No);
}

#[test]
fn a_go_program() {
    unharmed(|stage| Program::go(stage, ""));
}

#[test]
fn a_go_program_that_catches_everything() {
    unharmed(|stage| Program::go(stage, "all"));
}

#[test]
fn node() {
    unharmed(|_| Program::node());
}

#[test]
fn python_as_it_comes() {
    unharmed(|_| Program::python());
}

#[test]
fn a_jvm() {
    in_a_jvm("");
}

#[test]
fn a_jvm_that_leaves_signals_alone() {
    in_a_jvm("-Xrs");
}

/// USR2 is its own, and one that comes from elsewhere ends it: by hand nobody should ask for that.
fn in_a_jvm(words: &str) {
    for way in Way::ALL {
        let stage = Stage::new();
        restart(&stage, &Program::java(words), way, false);
    }
}

/// Before it has done anything about it, whatever it will do: it would die.
#[test]
fn one_that_is_not_as_far_yet() {
    for options in [&[][..], &["--prepare-signal", "USR2"]] {
        let stage = Stage::new();
        let program = Program::c(&stage, "USR2", "late", Listens::No);
        let nothing = stage.scratch.join("nothing");
        let code = format!("exec {} <>{}", program.command, nothing.display());
        let launcher = stage
            .seamless_run(options)
            .arg("--")
            .args(stage.sh(&code))
            .start();
        let starting = stage.log.wait(|line| line.starts_with("starting "));
        let daemon = pid_in(&starting);
        launcher.signal(Signal::SIGTERM);
        stage.log.wait_for("does not listen to USR2");
        let ended = stage.log.wait_for(&format!("(pid {daemon}) is stopped: "));
        assert!(ended.contains("killed by TERM after"), "{ended}");
        assert_eq!(launcher.finish().signal(), Some(Signal::SIGTERM));
        assert_eq!(stage.log.count("told to prepare"), 0);
    }
}
