//! The first stage of a restart: who is told to prepare, and what counts as an answer (R6 to R9).

use std::process::Command;

use nix::sys::signal::{Signal, kill};

use crate::languages::go;
use crate::stage::{BY_CHLD, STARTED, Stage, WAITS, pid_in};
use crate::support::process::{self, Handle};
use crate::support::tool;

const BY_MESSAGE: &str = r#""$SEAMLESS_RUN" notify prepared"#;

/// Restarts a daemon twice, and sees each generation serve until the next one is ready.
fn restart_twice(prepare: &str) {
    let stage = Stage::new();
    let (first_launcher, first) = stage.daemon(&[], STARTED, prepare);
    assert_eq!(stage.pid_in_file(), Some(first));
    first_launcher.signal(Signal::SIGTERM);
    stage.log.wait_for(&format!("{first} got USR2"));
    assert_eq!(first_launcher.finish().code(), Some(0));
    assert!(process::alive(first));
    assert_eq!(stage.log.count("got TERM"), 0);
    assert_eq!(stage.pid_in_file(), Some(first), "it still serves");

    let (second_launcher, second) = stage.daemon(&[], STARTED, prepare);
    stage.log.wait_seen(&format!(
        "generation 1 (pid {first}) is gone: exit status 0"
    ));
    assert_eq!(stage.pid_in_file(), Some(second));
    assert_eq!(stage.log.count("got TERM"), 1);
    assert!(stage.record().contains("generation 2 state=ready"));

    second_launcher.signal(Signal::SIGTERM);
    assert_eq!(second_launcher.finish().code(), Some(0));
    let (third_launcher, third) = stage.daemon(&[], STARTED, prepare);
    stage.log.wait_seen(&format!(
        "generation 2 (pid {second}) is gone: exit status 0"
    ));
    assert_eq!(stage.pid_in_file(), Some(third));
    stage.stop(third_launcher, &[]);
    assert_eq!(stage.pid_in_file(), None);
    assert_eq!(stage.record(), "");
}

#[test]
fn a_daemon_that_answers_by_signal() {
    restart_twice(BY_CHLD);
}

#[test]
fn a_daemon_that_answers_by_message() {
    restart_twice(BY_MESSAGE);
}

/// The seed's plainest daemon: it traps the two signals, and never says that it has started.
#[test]
fn a_daemon_that_never_says_started() {
    let stage = Stage::new();
    let (launcher, first) = stage.daemon(&[], "", BY_CHLD);
    launcher.signal(Signal::SIGTERM);
    stage.log.wait_for(&format!("{first} got USR2"));
    assert_eq!(launcher.finish().code(), Some(0));
    assert!(process::alive(first));
    assert_eq!(stage.pid_in_file(), None, "it never said that it serves");

    // Ten seconds of the next one's life are taken for readiness, as the seed did (R13).
    let (launcher, second) = stage.daemon(&[], "", BY_CHLD);
    stage.log.wait_for("is taken for that");
    stage
        .log
        .wait_for_all(&[&format!("{first} got TERM"), "generation 1 "]);
    assert_eq!(stage.pid_in_file(), Some(second));

    launcher.signal(Signal::SIGTERM);
    stage.log.wait_for(&format!("{second} got USR2"));
    assert_eq!(launcher.finish().code(), Some(0));
    assert!(process::alive(second));
}

#[test]
fn a_plain_sd_notify_daemon_is_not_told() {
    let stage = Stage::new();
    let ready = r#"python3 -c '
import os, socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.sendto(b"READY=1\nSTATUS=up", "\0" + os.environ["NOTIFY_SOCKET"][1:])
' && echo "$$ is started""#;
    let (launcher, daemon) = stage.daemon(&[], ready, BY_CHLD);
    stage
        .log
        .wait_seen(&format!("generation 1 (pid {daemon}) is ready"));
    launcher.signal(Signal::SIGTERM);
    assert_eq!(launcher.finish().code(), Some(0));
    stage.log.wait_for("detached and unasked");
    assert!(process::alive(daemon));
    kill(daemon, Signal::SIGHUP).unwrap();
    stage.log.wait_for("got HUP");
    assert_eq!(stage.log.count("got USR2"), 0);
}

#[test]
fn no_answer_in_time() {
    // One that serves is detached all the same; its successor ends it.
    let stage = Stage::new();
    let (launcher, ready) = stage.daemon(&["--prepare-timeout", "100ms"], STARTED, ":");
    launcher.signal(Signal::SIGTERM);
    assert_eq!(launcher.finish().code(), Some(0));
    stage
        .log
        .wait_for("did not answer within the prepare timeout (0.1 s); it serves on");
    assert!(process::alive(ready));
    assert_eq!(stage.log.count("got TERM"), 0);

    // One that never said that it serves is ended.
    let stage = Stage::new();
    let (launcher, silent) = stage.daemon(&["--prepare-timeout", "100ms"], "", ":");
    launcher.signal(Signal::SIGTERM);
    stage
        .log
        .wait_for_all(&["and never said that it is ready", "got TERM"]);
    assert_eq!(launcher.finish().code(), Some(0));
    process::wait_exit(silent);
    stage.scratch.wait_no_processes_but(&[]);
}

/// The kernel sends CHLD when a child stops or goes on, and anybody may send one: neither answers.
#[test]
fn a_chld_that_is_not_the_daemons_answers_nothing() {
    let stage = Stage::new();
    let (launcher, daemon) = stage.daemon(&["--prepare-timeout", "1h"], STARTED, ":");
    launcher.signal(Signal::SIGTERM);
    stage.log.wait_for(&format!("{daemon} got USR2"));
    let keeper = stage_keeper(&stage);
    let handle = Handle::open(daemon).unwrap();
    handle.signal(Signal::SIGSTOP);
    handle.signal(Signal::SIGCONT);
    kill(keeper, Signal::SIGCHLD).unwrap();
    kill(launcher.pid(), Signal::SIGCHLD).unwrap();
    kill(launcher.pid(), Signal::SIGHUP).unwrap();
    stage.log.wait_for(&format!("{daemon} got HUP"));
    assert!(launcher.alive(), "nobody has answered");
    // A late answer counts as much as a quick one, and one by a stopped and continued daemon too.
    let code = format!("kill -CHLD {keeper}");
    assert!(
        Command::new("sh")
            .args(["-c", &code])
            .status()
            .unwrap()
            .success()
    );
    kill(launcher.pid(), Signal::SIGHUP).unwrap();
    stage.log.wait_for(&format!("{daemon} got HUP"));
    assert!(launcher.alive(), "a stranger has answered");
    stage.stop(launcher, &[]);
}

/// The kernel's own CHLD would hide the daemon's if both waited for a keeper that cannot run: it is not sent.
#[test]
fn an_answer_is_not_lost_behind_the_kernels() {
    let stage = Stage::new();
    let answer = "kill -STOP $PPID; kill -STOP $$; kill -CHLD $PPID; echo answered";
    let (launcher, daemon) = stage.daemon(&[], STARTED, answer);
    let keeper = Handle::open(stage_keeper(&stage)).unwrap();
    launcher.signal(Signal::SIGTERM);
    stage.log.wait_for(&format!("{daemon} got USR2"));
    while !process::status_field(daemon, "State")
        .unwrap()
        .starts_with('T')
    {
        std::thread::yield_now();
    }
    Handle::open(daemon).unwrap().signal(Signal::SIGCONT);
    stage.log.wait_for("answered");
    keeper.signal(Signal::SIGCONT);
    stage.log.wait_for("is prepared");
    assert_eq!(launcher.finish().code(), Some(0));
}

/// Between fork and exec the child's signals are ours, and say nothing of the daemon's wishes.
#[test]
fn a_restart_between_fork_and_exec() {
    let stage = Stage::new();
    let traced = stage
        .spawn(tool("strace", "strace"))
        .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=execve"])
        // As long as the TERM may take to come.
        .args(["-e", "inject=execve:delay_enter=3s"])
        .arg(crate::support::program())
        .arg("-p")
        .arg(&stage.pid_file)
        .arg("--")
        .args(stage.sh(crate::stage::DAEMON))
        .start();
    stage.log.wait_for("generation 1 ");
    let launcher = process::children(traced.pid())[0];
    kill(launcher, Signal::SIGTERM).unwrap();
    let ended = stage.log.wait_for("is stopped: ");
    assert!(
        ended.contains("is stopped: killed by TERM after"),
        "{ended}"
    );
    assert_eq!(stage.log.count("told to prepare"), 0);
    assert_eq!(traced.finish().signal(), Some(Signal::SIGTERM));
}

fn stage_keeper(stage: &Stage) -> process::Pid {
    let record = stage.record();
    let (_, rest) = record.rsplit_once("keeper=").unwrap();
    process::Pid::from_raw(rest.split(':').next().unwrap().parse().unwrap())
}

/// A daemon that would die of the signal is never sent it, whatever is configured.
#[test]
fn what_would_die_of_the_signal_does_not_get_it() {
    // It speaks our protocol and does not listen to USR2: it is detached unasked.
    let stage = Stage::new();
    let deaf = r#"trap 'echo TERM; exit 0' TERM; "$SEAMLESS_RUN" notify started; echo "up $$"; while :; do wait; done"#;
    let deaf = format!("{WAITS}\n{deaf}");
    let options = ["--prepare-signal", "USR2"];
    let launcher = stage.seamless_run(&options).args(stage.sh(&deaf)).start();
    let daemon = stage.up();
    launcher.signal(Signal::SIGTERM);
    assert_eq!(launcher.finish().code(), Some(0));
    stage.log.wait_for("detached and unasked");
    assert!(process::alive(daemon));

    // It says nothing at all: it is ended.
    let stage = Stage::new();
    let mute = r#"trap 'echo TERM; exit 9' TERM; echo "up $$"; while :; do wait; done"#;
    let mute = format!("{WAITS}\n{mute}");
    let launcher = stage.seamless_run(&options).args(stage.sh(&mute)).start();
    stage.up();
    launcher.signal(Signal::SIGTERM);
    stage.log.wait_for_all(&["does not listen to USR2", "TERM"]);
    assert_eq!(launcher.finish().code(), Some(9), "its own end");
}

#[test]
fn other_signals_can_be_chosen() {
    let stage = Stage::new();
    let code = r#"
        trap 'echo got USR1; kill -URG $PPID' USR1
        trap 'echo got TERM; exit 0' TERM
        "$SEAMLESS_RUN" notify started; echo "up $$ $SEAMLESS_PREPARE_SIGNAL"
        while :; do wait; done"#;
    let code = format!("{WAITS}\n{code}");
    let options = [
        "--prepare-signal",
        "SIGUSR1",
        "--detach-signal",
        "urg",
        "--on",
        "HUP=restart",
    ];
    let launcher = stage.seamless_run(&options).args(stage.sh(&code)).start();
    let up = stage.log.wait(|line| line.starts_with("up "));
    assert!(up.ends_with(" USR1"), "{up}");
    launcher.signal(Signal::SIGHUP);
    stage.log.wait_for("got USR1");
    assert_eq!(launcher.finish().code(), Some(0));
    assert!(process::alive(pid_in(&up)));
}

/// A daemon that never says a word, in a language whose runtime catches every signal: USR2 is not
/// meant for it (a JVM would crash of it), so it is ended for a restart.
fn a_silent_runtime_gets_term(stage: &Stage, command: &[&str]) {
    let launcher = stage
        .seamless_run(command)
        .directory(stage.scratch.path())
        .start();
    stage.log.wait(|line| line == "up");
    launcher.signal(Signal::SIGTERM);
    stage.log.wait_for("does not listen to USR2");
    let ended = launcher.finish();
    assert_ne!(ended.code(), Some(0));
    assert_ne!(ended.code(), Some(134), "the crash of a JVM on USR2");
    stage.log.wait_for("is stopped: ");
    stage.scratch.wait_no_processes_but(&[]);
}

#[test]
fn a_silent_jvm_gets_term() {
    let stage = Stage::new();
    let source = r#"public class Silent { public static void main(String[] a) throws Exception {
        System.out.println("up"); System.out.flush(); Thread.sleep(1000000); } }"#;
    std::fs::write(stage.scratch.join("Silent.java"), source).unwrap();
    let java = tool("java", "default-jdk-headless");
    a_silent_runtime_gets_term(&stage, &[java.to_str().unwrap(), "Silent.java"]);
}

#[test]
fn a_silent_go_program_gets_term() {
    let stage = Stage::new();
    let source = "package main\nimport (\"fmt\"; \"time\")\nfunc main() { fmt.Println(\"up\"); time.Sleep(time.Hour) }\n";
    let path = stage.scratch.join("silent.go");
    std::fs::write(&path, source).unwrap();
    a_silent_runtime_gets_term(&stage, &[&go(&stage, &path)]);
}

/// A program's name is any bytes that it likes, and `/proc` shows them.
#[test]
fn a_daemon_whose_name_is_no_text() {
    let stage = Stage::new();
    let named = format!("printf 'caf\\303' >/proc/$$/comm; {STARTED}");
    let (launcher, daemon) = stage.daemon(&[], &named, BY_CHLD);
    launcher.signal(Signal::SIGTERM);
    stage.log.wait_for(&format!("{daemon} got USR2"));
    assert_eq!(launcher.finish().code(), Some(0));
    assert!(process::alive(daemon));
}

/// R15: whoever was told to drain is not told again, whatever becomes of the one that told it.
#[test]
fn a_drain_that_a_stop_began_is_not_begun_again() {
    let stage = Stage::new();
    let hold = stage.scratch.join("hold");
    nix::unistd::mkfifo(&hold, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let slow = format!(
        "trap 'echo \"$$ got TERM\"; read -r _ <{}; exit 0' TERM; {STARTED}",
        hold.display()
    );
    let (launcher, first) = stage.daemon(&[], &slow, BY_CHLD);
    launcher.signal(Signal::SIGTERM);
    assert_eq!(launcher.finish().code(), Some(0));

    let (mut launcher, second) = stage.daemon(&[], "", BY_CHLD);
    launcher.signal(Signal::SIGINT);
    stage.log.wait_seen(&format!("{first} got TERM"));
    stage
        .log
        .wait_seen(&format!("generation 2 (pid {second}) is stopped"));
    // It waits for the first one, which takes its time.
    launcher.kill();
    stage.log.wait_seen("the launcher of generation 2");
    assert!(
        stage.record().contains("generation 1 state=draining"),
        "{}",
        stage.record()
    );

    let (launcher, third) = stage.daemon(&[], STARTED, BY_CHLD);
    assert_eq!(stage.pid_in_file(), Some(third));
    std::fs::write(&hold, "now\n").unwrap();
    process::wait_exit(first);
    assert_eq!(
        stage.log.count(&format!("{first} got TERM")),
        1,
        "{}",
        stage.log.listing()
    );
    stage.stop(launcher, &[]);
}

/// R9: a new generation that is not ready is in nobody's way; its predecessor serves on.
#[test]
fn a_restart_while_a_new_one_starts() {
    let stage = Stage::new();
    let (launcher, first) = stage.daemon(&[], STARTED, BY_CHLD);
    launcher.signal(Signal::SIGTERM);
    assert_eq!(launcher.finish().code(), Some(0));

    let (launcher, second) = stage.daemon(&[], "", BY_CHLD);
    launcher.signal(Signal::SIGTERM);
    stage.log.wait_for(&format!("{second} got TERM"));
    assert_eq!(launcher.finish().code(), Some(0));
    assert_eq!(stage.log.count("got USR2"), 1);
    assert!(process::alive(first));
    assert_eq!(stage.pid_in_file(), Some(first));
    assert!(stage.record().contains("generation 1 state=ready"));

    let (launcher, third) = stage.daemon(&[], STARTED, BY_CHLD);
    stage
        .log
        .wait_seen(&format!("generation 1 (pid {first}) is gone"));
    assert_eq!(stage.pid_in_file(), Some(third));
    stage.stop(launcher, &[]);
}

/// R9: whoever asks twice gets one restart.
#[test]
fn a_second_restart_while_preparing_changes_nothing() {
    let stage = Stage::new();
    let (launcher, daemon) = stage.daemon(&[], STARTED, "PREPARE=");
    launcher.signal(Signal::SIGTERM);
    stage.log.wait_for(&format!("{daemon} got USR2"));
    launcher.signal(Signal::SIGTERM);
    launcher.signal(Signal::SIGHUP);
    stage.log.wait_for(&format!("{daemon} got HUP"));
    assert_eq!(stage.log.count("got USR2"), 1);
    assert_eq!(stage.log.count("got TERM"), 0);
    stage.stop(launcher, &[]);
}
