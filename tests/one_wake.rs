//! Two things in one moment: the keeper stands still (SIGSTOP) until both wait for it, and reads them in one wake.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;

use nix::sys::signal::Signal;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv,
    send, socket_with,
};

use crate::scene::{freeze, kill};
use crate::stage::{BY_CHLD, STARTED, Stage};
use crate::support::process::{self, Handle, Pid};
use crate::support::{Spawn, Spawned, program, tool};
use crate::verbs::detach;

fn keeper_of(launcher: &Spawned) -> Pid {
    process::children(launcher.pid())[0]
}

fn thaw(keeper: Pid) {
    Handle::open(keeper).unwrap().signal(Signal::SIGCONT);
}

/// It has asked whatever it has to ask, and waits for the answer.
fn wait_waits(pid: Pid) {
    let wait = format!("/proc/{pid}/wchan");
    while !fs::read_to_string(&wait).unwrap().contains("poll") {
        std::thread::yield_now();
    }
}

fn verb(stage: &Stage, words: &[&str]) -> Spawned {
    let verb = Spawn::new(&stage.scratch, program());
    verb.args(words).arg(&stage.pid_file).start()
}

/// A new version that becomes nothing.
fn next(stage: &Stage, options: &[&str]) -> Spawned {
    let code = r#"echo "up $$"; exec sleep 3600"#;
    stage.seamless_run(options).args(stage.sh(code)).start()
}

/// A restart and the death of a new version: the predecessor answers.
#[test]
fn a_restart_as_a_new_version_dies() {
    let stage = Stage::new();
    let (launcher, first) = stage.daemon(&[], STARTED, BY_CHLD);
    detach(launcher);
    let second = next(&stage, &["--"]);
    let daemon = stage.up();
    let keeper = keeper_of(&second);
    freeze(keeper);
    let restart = verb(&stage, &["restart", "--no-wait"]);
    wait_waits(restart.pid());
    kill(daemon);
    thaw(keeper);
    let said = restart.finish().expect_success().stdout;
    assert_eq!(said, "app: generation 2 was asked to restart\n");
    second.finish();
    assert_eq!(stage.pid_in_file(), Some(first));
    let (launcher, _) = stage.daemon(&[], STARTED, BY_CHLD);
    stage.stop(launcher, &[]);
}

/// A question and the death of the only daemon: nobody is there any more.
#[test]
fn a_status_as_the_daemon_dies() {
    let stage = Stage::new();
    let (launcher, daemon) = stage.daemon(&[], STARTED, BY_CHLD);
    let watch = stage.spawn(program()).args(["status", "--watch", "--json"]);
    let watch = watch.arg(&stage.pid_file).start();
    let keeper = keeper_of(&launcher);
    stage.log.wait_for("\"serving\"");
    freeze(keeper);
    let status = verb(&stage, &["status"]);
    wait_waits(status.pid());
    kill(daemon);
    thaw(keeper);
    let status = status.finish();
    assert_eq!(status.code(), Some(3), "{}{}", status.stdout, status.stderr);
    launcher.finish();
    stage.log.wait_for("\"generations\":[]");
    // `gone` is no phase that anybody was told of.
    assert_eq!(stage.log.count("\"gone\""), 0, "{}", stage.log.listing());
    watch.signal(Signal::SIGTERM);
    watch.finish();
    stage.scratch.wait_no_processes_but(&[]);
}

/// A final stop and a newcomer who attaches: he is told of it, and ends with all the others.
#[test]
fn a_stop_as_a_newcomer_attaches() {
    let stage = Stage::new();
    let listens = "--listen=127.0.0.1:0";
    let (launcher, first) = stage.daemon(&[listens], STARTED, BY_CHLD);
    let keeper = keeper_of(&launcher);
    detach(launcher);
    freeze(keeper);
    let stop = caller(&stage);
    send(&stop, b"seamless-control 1.0 stop\n", SendFlags::NOSIGNAL).unwrap();
    let second = next(&stage, &[listens, "--"]);
    while process::children(second.pid()).is_empty() {
        std::thread::yield_now();
    }
    wait_waits(keeper_of(&second));
    thaw(keeper);
    second.finish();
    stage.log.wait_seen(&format!("{first} got TERM"));
    let gone = |number: u32| format!("seamless-control 1.0 gone\ngeneration={number}\n");
    let mut ended = [hear(&stop), hear(&stop)];
    ended.sort();
    assert!(ended[0].starts_with(&gone(1)), "{ended:?}");
    assert!(ended[1].starts_with(&gone(2)), "{ended:?}");
    assert_eq!(hear(&stop), "");
    assert_eq!(stage.log.count("no keeper has handed it over"), 0);
    stage.scratch.wait_no_processes_but(&[]);
}

/// Both daemons die: the PID file names nobody any more, though a keeper stays with the sockets (R18).
#[test]
fn both_daemons_die() {
    let stage = Stage::new();
    let listens = "--listen=127.0.0.1:0";
    let (launcher, first) = stage.daemon(&[listens], STARTED, BY_CHLD);
    detach(launcher);
    let second = next(&stage, &[listens, "--"]);
    let daemon = stage.up();
    assert_eq!(stage.pid_in_file(), Some(first));
    let keeper = keeper_of(&second);
    freeze(keeper);
    kill(first);
    kill(daemon);
    thaw(keeper);
    second.finish();
    let kept = format!("the sockets of generation 2 (pid {daemon}) are kept");
    stage.log.wait_seen(&kept);
    assert!(!stage.pid_file.exists());
    verb(&stage, &["stop"]).finish().expect_success();
    stage.scratch.wait_no_processes_but(&[]);
    assert!(!stage.beside(".sock").exists());
}

/// Somebody waits for a restart's verdict at the next keeper, and there is a final stop: there will be none.
#[test]
fn a_final_stop_as_somebody_waits() {
    let stage = Stage::new();
    let (launcher, _) = stage.daemon(&[], STARTED, BY_CHLD);
    let keeper = keeper_of(&launcher);
    freeze(keeper);
    let waits = caller(&stage);
    let question = b"seamless-control 1.0 await\nnewer=1\n";
    send(&waits, question, SendFlags::NOSIGNAL).unwrap();
    launcher.signal(Signal::SIGINT);
    thaw(keeper);
    let refused = hear(&waits);
    assert!(
        refused.starts_with("seamless-control 1.0 refused\nwhy=generation 1 (pid "),
        "{refused}"
    );
    launcher.finish();
    stage.scratch.wait_no_processes_but(&[]);
}

/// A daemon's last words and its end: the supervisor hears both (R23).
#[test]
fn the_last_words_of_a_daemon() {
    let code = r#"
import os, signal, socket, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
keeper = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
keeper.connect("\0" + os.environ["NOTIFY_SOCKET"][1:])
os.write(1, b"up %d\n" % os.getpid())
keeper.send(b"READY=1")
signal.sigwait([signal.SIGUSR1])
socket.send_fds(keeper, [b"FDSTORE=1\nFDNAME=state"], [os.open("/dev/null", os.O_RDONLY)])
keeper.send(b"STATUS=cannot open the database\nERRNO=2")
sys.exit(3)
"#;
    let stage = Stage::new();
    let path = stage.scratch.join("supervisor");
    let supervisor = UnixDatagram::bind(&path).unwrap();
    let launcher = stage
        .seamless_run(&["--"])
        .arg(tool("python3", "python3"))
        .args(["-c", code])
        .env("NOTIFY_SOCKET", &path)
        .start();
    let daemon = stage.up();
    stage.log.wait_seen("is ready after");
    let keeper = keeper_of(&launcher);
    freeze(keeper);
    Handle::open(daemon).unwrap().signal(Signal::SIGUSR1);
    process::wait_exit(daemon);
    thaw(keeper);
    assert_eq!(launcher.finish().code(), Some(3));
    let mut heard = Vec::new();
    supervisor.set_nonblocking(true).unwrap();
    let mut bytes = [0; 4096];
    while let Ok(length) = supervisor.recv(&mut bytes) {
        heard.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
    }
    for words in [
        "FDSTORE=1\nFDNAME=state",
        "STATUS=cannot open the database\nERRNO=2",
    ] {
        let times = heard.iter().filter(|one| *one == words).count();
        assert_eq!(times, 1, "{words}: {heard:?}");
    }
    stage.scratch.wait_no_processes_but(&[]);
}

/// Connected to the control socket.
fn caller(stage: &Stage) -> OwnedFd {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    let caller = socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap();
    connect(
        &caller,
        &SocketAddrUnix::new(stage.beside(".sock")).unwrap(),
    )
    .unwrap();
    caller
}

/// The next message; nothing at the end.
fn hear(caller: &OwnedFd) -> String {
    let mut bytes = [0; 4096];
    let (length, _) = recv(caller, &mut bytes, RecvFlags::empty()).unwrap();
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}
