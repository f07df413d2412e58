//! A daemon under a keeper that the test plays: real processes, sockets and signals.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is how a test fails, in its helpers too"
)]

mod support;

use nix::sys::signal::Signal::{SIGINT, SIGPROF, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use std::io::Write;
use std::process::Command;
use support::{Daemon, Keeper};

/// Not a test by itself: what the others start.
#[test]
fn daemon() {
    match std::env::var("ROLE").as_deref() {
        Ok("daemon") => support::serve(),
        Ok("parent") => parent(),
        _ => {}
    }
}

#[test]
fn it_knows_its_launcher_and_starts_no_thread_for_it() {
    let mut daemon = Keeper::new().launch();
    assert_eq!(daemon.ask("who"), "true Some(3)");
    assert_eq!(daemon.ask("threads"), "0");
}

#[test]
fn started_returns_when_it_has_taken_effect() {
    let keeper = Keeper::new();
    let mut daemon = keeper.launch();
    daemon.tell("started");
    let message = keeper.expect("X_SEAMLESS=started");
    message.answer("ok");
    daemon.expect("ok");
}

#[test]
fn started_says_nothing_the_second_time() {
    let keeper = Keeper::new();
    let mut daemon = keeper.launch();
    daemon.tell("started");
    keeper.expect("X_SEAMLESS=started").answer("ok");
    daemon.expect("ok");
    assert_eq!(daemon.ask("started"), "ok");
    assert_eq!(daemon.ask("status next"), "ok");
    keeper.expect("STATUS=next");
}

#[test]
fn of_many_threads_one_says_started() {
    let keeper = Keeper::new();
    let mut daemon = keeper.launch();
    daemon.tell("started-by-many");
    keeper.expect("X_SEAMLESS=started").answer("ok");
    daemon.expect("true");
    assert_eq!(daemon.ask("status next"), "ok");
    keeper.expect("STATUS=next");
}

#[test]
fn started_is_refused_in_the_launchers_words_and_may_be_said_again() {
    let keeper = Keeper::new();
    let mut daemon = keeper.launch();
    daemon.tell("started");
    keeper
        .expect("X_SEAMLESS=started")
        .answer("error=cannot write /run/x.pid: disk full");
    let said = daemon.hear();
    assert!(said.starts_with("Refused: "), "{said}");
    assert!(
        said.contains("it answered: cannot write /run/x.pid: disk full; this daemon serves on"),
        "{said}"
    );
    daemon.tell("started");
    keeper.expect("X_SEAMLESS=started").answer("ok");
    daemon.expect("ok");
}

#[test]
fn started_does_not_wait_for_ever() {
    let keeper = Keeper::new();
    let mut command = keeper.command();
    command.env("TIMEOUT", "50");
    let mut daemon = Daemon::up(command);
    daemon.tell("started");
    // Held open, and not answered.
    let _message = keeper.expect("X_SEAMLESS=started");
    let said = daemon.hear();
    assert!(
        said.starts_with("TimedOut: ") && said.contains("no answer within 50ms"),
        "{said}"
    );
}

#[test]
fn an_end_of_file_is_an_answer() {
    let keeper = Keeper::new();
    let mut daemon = keeper.launch();
    daemon.tell("started");
    drop(keeper.expect("X_SEAMLESS=started"));
    let said = daemon.hear();
    assert!(
        said.starts_with("Gone: ") && said.contains("does not believe this process"),
        "{said}"
    );
}

#[test]
fn a_launcher_that_is_gone_is_told_from_a_silent_one() {
    // Not a socket that was closed: a child of another test may hold that for a moment, between its fork and its exec.
    let mut command = support::itself("daemon");
    command
        .env("SEAMLESS", std::process::id().to_string())
        .env("NOTIFY_SOCKET", "@seamless-client-test-nobody");
    let mut daemon = Daemon::up(command);
    for command in ["started", "status x"] {
        let said = daemon.ask(command);
        assert!(
            said.starts_with("Gone: ") && said.contains("Connection refused"),
            "{said}"
        );
    }
}

#[test]
fn an_answer_from_the_future_is_no_success() {
    let keeper = Keeper::new();
    let mut daemon = keeper.launch();
    daemon.tell("started");
    keeper.expect("X_SEAMLESS=started").answer("maybe");
    let said = daemon.hear();
    assert!(
        said.starts_with("Io: ") && said.contains("\"maybe\" is not understood"),
        "{said}"
    );
}

#[test]
fn a_status_is_one_line() {
    let keeper = Keeper::new();
    let mut daemon = keeper.launch();
    assert_eq!(daemon.ask("status warm\\nX_SEAMLESS=started"), "ok");
    assert!(
        !keeper
            .expect("STATUS=warm X_SEAMLESS=started")
            .wants_an_answer()
    );
}

#[test]
fn a_token_answers_when_dropped() {
    let keeper = Keeper::new();
    let mut daemon = keeper.launch();
    daemon.signal(SIGUSR2);
    assert_eq!(daemon.ask("next"), "prepare");
    // Nothing has been said so far: this is the first message.
    assert_eq!(daemon.ask("status busy"), "ok");
    keeper.expect("STATUS=busy");
    assert_eq!(daemon.ask("drop"), "dropped");
    assert!(!keeper.expect("X_SEAMLESS=prepared").wants_an_answer());
}

#[test]
fn a_token_that_is_done_reports_how_it_went() {
    let keeper = Keeper::new();
    let mut daemon = keeper.launch();
    for (answer, expected) in [("ok", "ok"), ("error=too late", "Refused: ")] {
        daemon.signal(SIGUSR2);
        assert_eq!(daemon.ask("next"), "prepare");
        daemon.tell("done");
        keeper.expect("X_SEAMLESS=prepared").answer(answer);
        let said = daemon.hear();
        assert!(said.starts_with(expected), "{said}");
    }
}

#[test]
fn a_callback_comes_before_its_answer() {
    let keeper = Keeper::new();
    let mut daemon = keeper.launch();
    assert_eq!(daemon.ask("callback"), "registered");
    for _ in 0..3 {
        daemon.signal(SIGUSR2);
        daemon.expect("called");
        keeper.expect("X_SEAMLESS=prepared");
    }
}

#[test]
fn a_panic_in_a_callback_is_an_answer_and_no_end() {
    let keeper = Keeper::new();
    let mut daemon = keeper.launch();
    assert_eq!(daemon.ask("panicking-callback"), "registered");
    for _ in 0..2 {
        daemon.signal(SIGUSR2);
        keeper.expect("X_SEAMLESS=prepared");
    }
    assert_eq!(daemon.ask("callback"), "registered");
    daemon.signal(SIGUSR2);
    daemon.expect("called");
    keeper.expect("X_SEAMLESS=prepared");
}

#[test]
fn a_descriptor_becomes_readable() {
    let keeper = Keeper::new();
    let mut daemon = keeper.launch();
    for _ in 0..2 {
        daemon.tell("fd");
        daemon.signal(SIGUSR2);
        daemon.expect("prepare");
        assert_eq!(daemon.ask("drop"), "dropped");
        keeper.expect("X_SEAMLESS=prepared");
    }
    for _ in 0..2 {
        daemon.tell("fd").signal(SIGTERM);
        daemon.expect("drain");
    }
    assert_eq!(daemon.ask("threads"), "0", "a descriptor needs no thread");
}

#[test]
fn waiting_for_the_drain_answers_every_prepare() {
    for form in ["wait", "future"] {
        let keeper = Keeper::new();
        let mut daemon = keeper.launch();
        daemon.tell(form);
        for _ in 0..3 {
            daemon.signal(SIGUSR2);
            keeper.expect("X_SEAMLESS=prepared");
        }
        daemon.signal(SIGTERM);
        daemon.expect("drained");
        assert_eq!(daemon.ask("threads"), "1");
    }
}

#[test]
fn what_comes_before_anybody_looks_is_not_lost() {
    for form in ["next", "fd"] {
        let keeper = Keeper::new();
        let mut daemon = keeper.launch();
        daemon.signal(SIGUSR2);
        daemon.signal(SIGTERM);
        // In either order: of two pending signals the kernel runs the handler of the last one first.
        let mut seen = [daemon.ask(form), daemon.ask(form)];
        seen.sort();
        assert_eq!(seen, ["drain", "prepare"]);
    }
    for form in ["wait", "future"] {
        let keeper = Keeper::new();
        let mut daemon = keeper.launch();
        daemon.signal(SIGUSR2);
        daemon.tell(form);
        keeper.expect("X_SEAMLESS=prepared");
        daemon.signal(SIGTERM);
        daemon.expect("drained");
    }
}

#[test]
fn a_drain_is_seen_by_every_form_and_a_second_one_is_news() {
    let keeper = Keeper::new();
    let mut daemon = keeper.launch();
    daemon.tell("wait").signal(SIGTERM);
    daemon.expect("drained");
    for (form, seen) in [
        ("wait", "drained"),
        ("future", "drained"),
        ("next", "drain"),
        ("fd", "drain"),
    ] {
        assert_eq!(daemon.ask(form), seen);
    }
    for form in ["next", "fd"] {
        daemon.tell(form).signal(SIGTERM);
        daemon.expect("drain");
        assert_eq!(daemon.ask("wait"), "drained");
    }
}

#[test]
fn the_launcher_names_the_signals() {
    let keeper = Keeper::new();
    let mut command = keeper.command();
    command
        .env("SEAMLESS_PREPARE_SIGNAL", "RTMIN+2")
        .env("SEAMLESS_DRAIN_SIGNAL", "SIGQUIT")
        .env("DRAIN", "10");
    let mut daemon = Daemon::up(command);
    assert!(daemon.has_in_status("SigCgt", SIGQUIT));
    for other in [SIGTERM, SIGUSR2, SIGINT, SIGUSR1] {
        assert!(!daemon.has_in_status("SigCgt", other), "{other}");
    }
    let number = nix::libc::SIGRTMIN() + 2;
    let status = Command::new("sh")
        .args(["-c", &format!("kill -{number} {}", daemon.pid())])
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(daemon.ask("next"), "prepare");
    daemon.signal(SIGQUIT);
    assert_eq!(daemon.ask("next"), "drain");
}

#[test]
fn a_launcher_that_names_no_signals_means_the_usual_ones() {
    let keeper = Keeper::new();
    let mut command = keeper.command();
    command.env("DRAIN", "3").env("PREPARE", "10");
    let mut daemon = Daemon::up(command);
    daemon.signal(SIGUSR2);
    assert_eq!(daemon.ask("next"), "prepare");
    daemon.signal(SIGTERM);
    assert_eq!(daemon.ask("next"), "drain");
}

#[test]
fn there_may_be_no_prepare_signal() {
    let keeper = Keeper::new();
    let mut command = keeper.command();
    command.env("SEAMLESS_PREPARE_SIGNAL", "none");
    let daemon = Daemon::up(command);
    assert!(!daemon.has_in_status("SigCgt", SIGUSR2));
    assert!(daemon.has_in_status("SigCgt", SIGTERM));
}

#[test]
fn an_ignored_signal_stays_ignored() {
    let keeper = Keeper::new();
    let mut command = Command::new("sh");
    let itself = keeper.command();
    command
        .args(["-c", "trap '' USR2 TERM; exec \"$0\" \"$@\""])
        .arg(itself.get_program())
        .args(itself.get_args());
    for (name, value) in itself.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let mut daemon = Daemon::up(command);
    // A descriptor registers for signals too.
    assert!(daemon.has_in_status("SigIgn", SIGTERM) && daemon.has_in_status("SigIgn", SIGUSR2));
    assert_eq!(daemon.ask("inject 15"), "true");
    assert_eq!(daemon.ask("fd"), "drain");
    assert!(daemon.has_in_status("SigIgn", SIGTERM) && daemon.has_in_status("SigIgn", SIGUSR2));
}

#[test]
fn a_daemon_may_own_its_signals() {
    let keeper = Keeper::new();
    let mut command = keeper.command();
    command.env("WITHOUT_SIGNALS", "1");
    let mut daemon = Daemon::up(command);
    assert!(!daemon.has_in_status("SigCgt", SIGTERM) && !daemon.has_in_status("SigCgt", SIGUSR2));
    assert_eq!(daemon.ask(&format!("inject {}", SIGUSR1 as i32)), "false");
    assert_eq!(daemon.ask(&format!("inject {}", SIGUSR2 as i32)), "true");
    assert_eq!(daemon.ask("fd"), "prepare");
    assert_eq!(daemon.ask(&format!("inject {}", SIGTERM as i32)), "true");
    assert_eq!(daemon.ask("fd"), "drain");
}

#[test]
fn without_a_handle_the_drain_signal_ends_the_process() {
    let keeper = Keeper::new();
    let mut daemon = keeper.launch();
    assert_eq!(daemon.ask("callback"), "registered");
    assert_eq!(daemon.ask("forget"), "forgotten");
    daemon.signal(SIGTERM);
    assert_eq!(daemon.ended_by(), Some(SIGTERM));
}

#[test]
fn behind_a_wrapper_the_socket_makes_the_launch() {
    let keeper = Keeper::new();
    let mut command = keeper.command();
    command.env("SEAMLESS", "1");
    let mut daemon = Daemon::up(command);
    assert_eq!(daemon.ask("who"), "true Some(3)");
    daemon.tell("started");
    keeper.expect("X_SEAMLESS=started").answer("ok");
    daemon.expect("ok");
    // No signal to a parent that is not the keeper.
    drop(keeper);
    daemon.signal(SIGUSR2);
    assert_eq!(daemon.ask("next"), "prepare");
    let said = daemon.ask("done");
    assert!(said.starts_with("Gone: "), "{said}");
}

#[test]
fn garbage_in_a_variable_is_named() {
    let mut command = support::itself("daemon");
    command.env("SEAMLESS", "yes");
    let said = Daemon::start(command).hear();
    assert!(
        said.starts_with("Environment: ") && said.contains("SEAMLESS") && said.contains("\"yes\""),
        "{said}"
    );
}

#[test]
fn a_child_does_not_speak_for_the_daemon() {
    let keeper = Keeper::new();
    let mut command = keeper.command();
    command
        .env("SEAMLESS_PID_FILE", "/x")
        .env("SEAMLESS_DRAIN_SIGNAL", "TERM")
        .env("SEAMLESS_PREPARE_SIGNAL", "USR2");
    assert_eq!(Daemon::up(command).ask("environment-of-child"), "");
    let mut command = support::itself("daemon");
    command
        .env("NOTIFY_SOCKET", "/run/manager")
        .env("SEAMLESS_PID_FILE", "/x");
    assert_eq!(
        Daemon::up(command).ask("environment-of-child"),
        "NOTIFY_SOCKET=/run/manager"
    );
}

#[test]
fn where_the_socket_does_not_reach_the_answer_is_chld() {
    let mut parent = Daemon::start(support::itself("parent"));
    parent.expect("dropped, CHLD came");
    parent.expect("done, CHLD came");
    assert!(parent.leave().success());
}

/// A keeper of which nothing but signals can be reached, in a process of its own: every test's child sends CHLD as it ends.
fn parent() {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::io::Read;
    use std::os::fd::AsFd;
    let (mut read, write) = std::os::unix::net::UnixStream::pair().unwrap();
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGCHLD, write).unwrap();
    let mut command = support::itself("daemon");
    command
        .env("SEAMLESS", std::process::id().to_string())
        .env("NOTIFY_SOCKET", "@seamless-client-test-nobody");
    let mut daemon = Daemon::up(command);
    for (verb, expected) in [("drop", "dropped"), ("done", "ok")] {
        daemon.signal(SIGUSR2);
        assert_eq!(daemon.ask("next"), "prepare");
        let mut silent = [PollFd::new(read.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut silent, PollTimeout::ZERO), Ok(0));
        assert_eq!(daemon.ask(verb), expected);
        // It lives still, so this is not the kernel's CHLD.
        read.read_exact(&mut [0]).unwrap();
        let word = if verb == "drop" { "dropped" } else { "done" };
        std::io::stdout()
            .write_all(format!("\n@ {word}, CHLD came\n").as_bytes())
            .unwrap();
    }
    assert_eq!(daemon.ask("who"), "true None");
    daemon.signal(SIGPROF);
    assert_eq!(daemon.ended_by(), Some(SIGPROF));
    std::process::exit(0);
}
