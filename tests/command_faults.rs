//! What readiness and commands hang on, when it breaks: a name that is not known any more, an exec that fails, a
//! look that must not be taken, sockets that were there before us (R4, R12, R18, R20).

use std::net::TcpListener;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::commands::{CHILD, command, said};
use crate::puppet::SOON;
use crate::ready::Mark;
use crate::scene::{Scene, kill, python};
use crate::stage::{DAEMON, Stage};
use crate::support::disk::{SetUserId, with_own_mounts};
use crate::support::process;
use crate::support::{Spawn, executable, network, tool};

/// An address that hangs on the name of an interface.
const SCOPED: &str = "--ready=listen:[fe80::1%lo]:80";
/// It covers that address.
const LISTENS: &str = "listen(1, 'tcp6', ('::', 80))";

/// The name says nothing to anybody any more, as a host's does where the resolver is down.
fn rename_the_interface(stage: &Stage) {
    for words in ["lo down", "lo name gone", "gone up"] {
        Spawn::new(&stage.scratch, tool("ip", "iproute2"))
            .args(["link", "set"])
            .args(words.split(' '))
            .finish()
            .expect_success();
    }
}

/// The next keeper of this launcher is there, and asked nobody for names that it does not need.
#[test]
fn a_name_that_is_gone_when_a_ready_daemon_loses_its_keeper() {
    let _network = network::isolate();
    let stage = Stage::new();
    let one = stage.begin(&[SCOPED], &[]);
    stage.ready_since(&one.daemon, LISTENS);
    rename_the_interface(&stage);
    kill(one.keeper);
    stage.log.wait_for("goes on in its place");
    assert_eq!(stage.told()["generations"][0]["phase"], "serving");
    assert!(one.launcher.alive(), "{}", stage.log.listing());
    one.launcher.signal(Signal::SIGINT);
    one.launcher.finish();
    stage.scratch.wait_no_processes_but(&[]);
}

/// It cannot become ready so, and the reason is known; nothing ends for that.
#[test]
fn a_name_that_is_gone_when_a_starting_daemon_loses_its_keeper() {
    let _network = network::isolate();
    let stage = Stage::new();
    let one = stage.begin(&[SCOPED], &[]);
    rename_the_interface(&stage);
    kill(one.keeper);
    stage.log.wait_for("goes on in its place");
    let waits = stage.wait_waits("fe80::1%lo", true);
    assert!(waits.contains("interface"), "{waits}");
    assert!(process::alive(one.daemon.pid));
    one.launcher.signal(Signal::SIGINT);
    one.launcher.finish();
    stage.scratch.wait_no_processes_but(&[]);
}

/// A time may have passed before the exec could fail: that is no life of a daemon.
#[test]
fn a_command_that_cannot_be_executed_never_lived() {
    let stage = Stage::new();
    let old = stage.standby(&[], &[]);
    let ran = stage.scratch.join("ran");
    let after = format!("--post-start=: >{}", ran.display());
    for _ in 0..12 {
        let options = ["--ready=after:1ms", &after, "--", "/no/such/command"];
        let failed = stage.seamless_run(&options).finish();
        assert_eq!(failed.code(), Some(127), "{}", stage.log.listing());
        stage.assert_serves(&old);
    }
    let ready = stage.settled().count(") is ready after");
    assert_eq!(ready, 1, "{}", stage.log.listing());
    assert!(!ran.exists());
    stage.verb(&["stop"]).expect_success();
    process::wait_exit(old.pid);
}

/// The moment of `after:` passes while the daemon may not run yet: the keeper has nothing to do then.
#[test]
fn a_time_that_passes_before_the_start() {
    let stage = Stage::new();
    // A second of it is the keeper's own to sleep through; it says how much of that it did not.
    let code = r#"
        keeper=$(sed -n 's/^PPid:[^0-9]*//p' "/proc/$SEAMLESS_PID/status")
        ticks() {
            set -- $(sed 's/.*) //' "/proc/$keeper/stat")
            echo $((${12} + ${13}))
        }
        before=$(ticks)
        sleep 1
        echo "busy $(($(ticks) - before))" >>"$LOG"
    "#;
    let option = command(&stage, "pre-start", code);
    let one = stage.begin(&["--ready=after:10ms", &option], &[]);
    stage.wait_ready(&one.daemon);
    let busy = stage.nth("busy ", 0);
    let hundredths: u32 = busy["busy ".len()..].parse().unwrap();
    assert!(hundredths < 20, "{busy} of 100");
    stage.stop(one.launcher, &[]);
}

/// A socket of the supervisor's own is listened at before anybody serves; the keeper that comes later knows that, too.
#[test]
fn a_socket_of_the_supervisors_when_the_keeper_is_lost() {
    let _network = network::isolate();
    let stage = Stage::new();
    let mark = Mark::new(&stage);
    let listener = TcpListener::bind("127.0.0.1:8080").unwrap();
    let launcher = stage
        .spawn_puppet(&[&mark.option, "--ready=listen:8080"])
        .env("LISTEN_FDS", "1")
        .descriptor(3, listener)
        .start();
    let one = stage.begun(launcher);
    mark.assert_waits(&stage, &one, "listen:tcp:*:8080");
    mark.withdraw(&stage);
    kill(one.keeper);
    stage.log.wait_for("goes on in its place");
    mark.assert_waits(&stage, &one, "listen:tcp:*:8080");
    let waits = "import threading; threading.Thread(target=socket.socket(fileno=3).accept, daemon=True).start()";
    stage.ready_since(&one.daemon, waits);
    one.launcher.signal(Signal::SIGINT);
    one.launcher.finish();
    stage.scratch.wait_no_processes_but(&[]);
}

/// Root without CAP_SYS_PTRACE, as in most containers, cannot look at another user's descriptors: that is what it says.
#[test]
fn descriptors_that_cannot_be_seen() {
    let _network = network::isolate();
    let stage = Stage::new();
    let old = stage.standby(&[], &[]);
    // The puppet's script, and with it the place of everything.
    let script = stage.scratch.join("puppet.py");
    let program = crate::support::program();
    let launcher = stage
        .spawn(tool("setpriv", "util-linux"))
        .args(["--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"])
        .arg(program)
        .arg("--pid-file")
        .arg(&stage.pid_file)
        .args(["--ready=listen:8080", SOON, "--"])
        .arg(python())
        .args(["-I", "-S"])
        .arg(script)
        .env("LOG", stage.log.path())
        .env(
            "FIRST",
            "listen(1, 'tcp', ('127.0.0.1', 8080)); os.setuid(65534)",
        )
        .directory(stage.scratch.path())
        .start();
    let two = stage.begun(launcher);
    let part = format!("cannot look at pid {}: Permission denied", two.daemon.pid);
    stage.assert_failed(two, &old, &part);
    stage.verb(&["stop"]).expect_success();
    process::wait_exit(old.pid);
}

/// Nobody is left but the daemon and what runs beside it: a stop ends all of it.
#[test]
fn launcher_and_keeper_are_killed_and_then_it_is_stopped() {
    let stage = Stage::new();
    let probe = format!("--ready=exec:echo probe $$ >>$LOG; {CHILD} read -r _ <hold");
    let after = command(&stage, "post-start", &format!("{CHILD} hold"));
    let mut one = stage.begin(&[&probe, &after], &[]);
    let mut beside = vec![said(&stage, "post-start", 0), said(&stage, "probe", 0)];
    beside.extend([said(&stage, "child", 0), said(&stage, "child", 1)]);
    crate::scene::freeze(one.keeper);
    one.launcher.kill();
    kill(one.keeper);
    stage.verb(&["stop"]).expect_success();
    process::wait_exit(one.daemon.pid);
    for pid in beside {
        process::wait_exit(pid);
    }
    stage.scratch.wait_no_processes_but(&[]);
}

/// A command that has become another user's cannot be KILLed by an ordinary one: the keeper does not wait for it.
#[test]
fn a_command_that_may_not_be_killed() {
    for option in ["ready=exec:", "post-start="] {
        with_own_mounts(|| may_not_be_killed(option));
    }
}

fn may_not_be_killed(option: &str) {
    let scene = Scene::of_an_ordinary_user();
    let stage = &scene.stage;
    // What sudo and its like do.
    let place = SetUserId::mount(stage.scratch.join("privileged"));
    let privileged = place.join("setpriv");
    executable::copy(&tool("setpriv", "util-linux"), &privileged, 0o4755);
    let hold = stage.scratch.join("hold");
    mkfifo(&hold, Mode::S_IRWXU).unwrap();
    let code = format!("echo \"held $$\" >>\"$LOG\"; read -r _ <{}", hold.display());
    let words = [privileged.to_str().unwrap(), "--reuid=0"].map(str::to_owned);
    let words = [&words[..], &stage.sh(&code)].concat().join(" ");
    let command = format!("--{option}exec {words}");
    let launcher = scene
        .launcher(&["--probe-timeout=500ms", &command, "--"])
        .args(stage.sh(DAEMON))
        .env("LOG", stage.log.path())
        .start();
    let daemon = stage.up();
    let held = said(stage, "held", 0);
    if option.starts_with("ready") {
        // Said by a keeper that has seen the run's limit pass long since.
        stage.log.wait_for("it waits for exec:");
    }
    launcher.signal(Signal::SIGINT);
    launcher.finish();
    process::wait_exit(daemon);
    let lost = stage.settled().count("goes on in its place");
    assert_eq!(lost, 0, "{}", stage.log.listing());
    assert_eq!(stage.settled().count("held "), 1);
    kill(held);
    stage.scratch.wait_no_processes_but(&[]);
}
