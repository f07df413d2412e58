//! The drain signal, asked for by hand: whoever hears it gets it; whoever would not gets TERM, which everybody knows.

use super::*;

/// Those that a daemon may have for it: one that would be ignored, one that would dump core, one that would end it.
const SIGNALS: [&str; 3] = ["WINCH", "QUIT", "USR1"];

/// Who tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// Its keeper, at a stop.
    Stop,
    /// Its keeper, when its successor is ready.
    Commit,
    /// Its successor's keeper, since its own was KILLed.
    Alone,
}

fn drained(program: impl Fn(&Stage, &str) -> Program) {
    for signal in SIGNALS {
        for moment in [Moment::Stop, Moment::Commit, Moment::Alone] {
            let stage = Stage::new();
            let program = program(&stage, signal);
            drain(&stage, &program, signal, moment);
        }
    }
}

fn drain(stage: &Stage, program: &Program, signal: &str, moment: Moment) {
    let options = ["--drain-signal", signal];
    let (launcher, daemon) = start(stage, program, Way::After, &options);
    let handle = Handle::open(daemon).unwrap();
    let log = &stage.log;
    let successor = match moment {
        Moment::Stop => {
            launcher.signal(Signal::SIGINT);
            None
        }
        Moment::Commit | Moment::Alone => {
            let keeper = process::children(launcher.pid())[0];
            launcher.signal(Signal::SIGTERM);
            assert_eq!(launcher.finish().code(), Some(0), "{}", log.listing());
            if moment == Moment::Alone {
                Handle::open(keeper).unwrap().signal(Signal::SIGKILL);
                process::wait_exit(keeper);
            }
            Some(start(stage, program, Way::After, &options))
        }
    };
    let got = format!("got {signal}");
    let heard = program.listens == Listens::Yes;
    if heard {
        log.wait_seen(&got);
        // It has the signal, and does not end of it.
        handle.signal(Signal::SIGKILL);
    }
    assert!(
        handle.wait_until(Instant::now() + PATIENCE),
        "{signal} {moment:?}: {}",
        log.listing()
    );
    if !heard {
        assert_eq!(log.count(&got), 0, "{signal} {moment:?}: {}", log.listing());
    }
    let name = match heard {
        true => signal.to_owned(),
        false => format!("TERM: it does not handle {signal}"),
    };
    let told = format!("generation 1 (pid {daemon}) is told to drain ({name})");
    let ended = match moment {
        Moment::Stop => Some(" is stopped: "),
        Moment::Commit => Some(" is gone: "),
        Moment::Alone => None,
    };
    if let Some(ended) = ended {
        log.wait_seen(&told);
        let line = log.wait_seen(&format!("(pid {daemon}){ended}"));
        let end = if heard { "KILL" } else { "TERM" };
        assert!(line.contains(&format!("killed by {end} after")), "{line}");
    }
    drop(successor);
}

fn drained_in_c(what: &str, listens: Listens) {
    drained(|stage, signal| Program::c(stage, signal, what, listens));
}

#[test]
fn one_that_does_nothing_about_it() {
    drained_in_c("dies", Listens::No);
}

/// As a shell starts its background jobs, with QUIT.
#[test]
fn one_that_was_started_with_it_ignored() {
    drained_in_c("ignores", Listens::No);
}

#[test]
fn one_that_catches_it() {
    drained_in_c("catches", Listens::Yes);
}

#[test]
fn one_that_waits_for_it_with_sigwait() {
    drained_in_c("sigwait", Listens::Yes);
}

#[test]
fn one_with_a_signalfd_that_has_much_to_do() {
    drained_in_c("busy-signalfd", Listens::Yes);
}

#[test]
fn one_with_a_thread_that_waits_for_it() {
    drained_in_c("thread-waits", Listens::Yes);
}

#[test]
fn one_that_holds_it_back_in_the_thread_that_waits_only() {
    drained_in_c("only-thread-waits", Listens::No);
}

#[test]
fn one_that_holds_it_back_in_the_main_thread_only() {
    drained_in_c("only-main-blocks", Listens::No);
}

/// To `/proc` it looks like a zombie, and it lives: nobody may forget it.
#[test]
fn one_whose_main_thread_has_ended() {
    drained_in_c("main-gone", Listens::No);
}

#[test]
fn python_as_it_comes() {
    drained(|_, _| Program::python());
}

/// Its own exec is still to come: the signals are ours so far.
#[test]
fn one_that_has_not_been_executed() {
    for signal in SIGNALS {
        let stage = Stage::new();
        let traced = stage
            .spawn(tool("strace", "strace"))
            .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=execve"])
            // As long as the INT may take to come.
            .args(["-e", "inject=execve:delay_enter=3s"])
            .arg(crate::support::program())
            .args(["--drain-signal", signal, "-p"])
            .arg(&stage.pid_file)
            .arg("--")
            .args(stage.sh(crate::stage::DAEMON))
            .start();
        stage.log.wait_for("generation 1 ");
        let launcher = process::children(traced.pid())[0];
        Handle::open(launcher).unwrap().signal(Signal::SIGINT);
        let ended = stage.log.wait_for("is stopped: ");
        assert!(
            ended.contains("is stopped: killed by TERM after"),
            "{ended}"
        );
        traced.finish();
    }
}
