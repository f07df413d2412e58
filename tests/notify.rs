//! What reaches the keeper, from whom, and what it answers (R22).

use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};

use crate::stage::{BY_CHLD, DAEMON, STARTED, Stage};
use crate::support::process::{self, Handle};

/// Runs a piece of sh inside a daemon and gives what it printed as its last line.
fn from_daemon(wrapper: &[&str], code: &str) -> (Stage, String) {
    let stage = Stage::new();
    let program = format!("{code}\necho \"said $?\"; exec 9<>$NOTHING; read _ <&9");
    let launcher = stage
        .seamless_run(&["-v", "--"])
        .args(wrapper)
        .args(stage.sh(&program));
    let launcher = launcher
        .env("SEAMLESS_RUN", stage.program_for_all())
        .start();
    let said = stage.log.wait(|line| line.starts_with("said "));
    drop(launcher);
    (stage, said)
}

#[test]
fn every_word_returns_when_it_has_taken_effect() {
    for (words, effect) in [
        ("started", "is ready after"),
        ("ready", "is ready after"),
        ("status 'half done'", "says: half done"),
        ("stopping", "is about to exit"),
        ("READY=1 STATUS=up", "is ready after"),
    ] {
        let (stage, said) = from_daemon(
            &[],
            &format!(
                "\"$SEAMLESS_RUN\" notify {words}; r=$?; cat \"$SEAMLESS_PID_FILE\" 2>/dev/null | sed \"s/^/file /\"; (exit $r)"
            ),
        );
        assert_eq!(said, "said 0", "{words}");
        assert_eq!(
            stage.log.count(effect),
            1,
            "{words}: {}",
            stage.log.listing()
        );
        let started = words == "started" || words.contains("eady") || words.contains("READY");
        assert_eq!(
            stage.log.count("file "),
            usize::from(started),
            "the file is there before notify returns"
        );
    }
}

#[test]
fn a_refusal_has_its_own_status_and_words() {
    let (stage, said) = from_daemon(&[], "\"$SEAMLESS_RUN\" notify prepared");
    assert_eq!(said, "said 1");
    assert_eq!(
        stage.log.count("nobody has asked this daemon to prepare"),
        1
    );
    let (stage, said) = from_daemon(&[], "\"$SEAMLESS_RUN\" notify X_SEAMLESS=fly");
    assert_eq!(said, "said 1");
    assert_eq!(stage.log.count("does not know X_SEAMLESS=fly"), 1);
}

#[test]
fn from_wherever_a_daemon_may_speak() {
    let notify = r#""$SEAMLESS_RUN" notify started"#;
    for (what, wrapper, code) in [
        ("a child", &[][..], notify.to_owned()),
        (
            "a grandchild",
            &[],
            "sh -c 'sh -c \"\\\"\\$SEAMLESS_RUN\\\" notify started\"; exit $?'".to_owned(),
        ),
        ("a session of its own", &[], format!("setsid -w {notify}")),
        (
            "all other descriptors closed",
            &[],
            format!("exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-; {notify}"),
        ),
        (
            "no standard descriptors",
            &[],
            format!("({notify}) <&- >&- 2>&-"),
        ),
        (
            "another user",
            &[
                "setpriv",
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
            ],
            notify.to_owned(),
        ),
        (
            "a child of another user",
            &[],
            format!("setpriv --reuid=65534 --clear-groups {notify}"),
        ),
    ] {
        let (stage, said) = from_daemon(wrapper, &code);
        assert_eq!(said, "said 0", "{what}: {}", stage.log.listing());
        assert_eq!(stage.log.count("is ready after"), 1, "{what}");
    }
}

#[test]
fn after_a_chroot() {
    let stage = Stage::new();
    let root = stage.scratch.join("root");
    std::fs::create_dir(&root).unwrap();
    // The whole file system again, under another root.
    let code = format!(
        "mount --bind / {root} && exec chroot {root} \"$SEAMLESS_RUN\" notify started",
        root = root.display()
    );
    let launcher = stage
        .seamless_run(&["unshare", "-m"])
        .args(stage.sh(&code))
        .start();
    assert_eq!(launcher.finish().code(), Some(0), "{}", stage.log.listing());
    assert_eq!(stage.log.count("is ready after"), 1);
}

#[test]
fn another_network_namespace_is_out_of_reach_and_says_so() {
    let stage = Stage::new();
    let code = "unshare -n \"$SEAMLESS_RUN\" notify started; echo \"said $?\"";
    stage.seamless_run(&[]).args(stage.sh(code)).finish();
    stage.log.wait_for("is in another network namespace");
    stage.log.wait_for("said 3");
}

/// Another user, and our own user from elsewhere where the daemon has that user too: not believed.
#[test]
fn a_forged_message_changes_nothing_and_gets_nothing() {
    let stage = Stage::new();
    let drop_to = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    let code = format!("echo \"socket $NOTIFY_SOCKET $SEAMLESS\"\n{DAEMON}");
    let launcher = stage
        .seamless_run(&["-v", "--"])
        .args(drop_to)
        .args(stage.sh(&code))
        .env("READY", "")
        .env("PREPARE", BY_CHLD)
        .start();
    let socket = stage.log.wait(|line| line.starts_with("socket "));
    let mut words = socket.split(' ').skip(1);
    let (address, keeper) = (words.next().unwrap(), words.next().unwrap());
    let daemon = stage.up();
    for word in ["started", "prepared"] {
        let forged = stage
            .spawn(drop_to[0])
            .args(&drop_to[1..])
            .args([
                "sh",
                "-c",
                r#""$SEAMLESS_RUN" notify "$0"; echo "said $?""#,
                word,
            ])
            .env("SEAMLESS_RUN", stage.program_for_all())
            .env("NOTIFY_SOCKET", address)
            .env("SEAMLESS", keeper)
            .start();
        stage.log.wait_for("was not believed");
        stage.log.wait_for("said 1");
        drop(forged);
    }
    assert_eq!(stage.pid_in_file(), None);
    assert!(stage.record().contains("state=starting"));
    assert!(process::alive(daemon) && launcher.alive());

    // Root is believed, wherever it speaks from.
    let root = stage.seamless_run_verb(&["notify", "started"], address, keeper);
    assert_eq!(root.finish().code(), Some(0));
    assert_eq!(stage.pid_in_file(), Some(daemon));
    stage.stop(launcher, &[]);
}

impl Stage {
    fn seamless_run_verb(
        &self,
        words: &[&str],
        address: &str,
        keeper: &str,
    ) -> crate::support::Spawn {
        self.spawn(crate::support::program())
            .args(words)
            .env("NOTIFY_SOCKET", address)
            .env("SEAMLESS", keeper)
    }
}

#[test]
fn what_is_no_message_is_nothing() {
    let stage = Stage::new();
    let code = format!("echo \"socket $NOTIFY_SOCKET $SEAMLESS\"\n{DAEMON}");
    let launcher = stage.seamless_run(&["--"]).args(stage.sh(&code)).start();
    let socket = stage.log.wait(|line| line.starts_with("socket "));
    let address = socket.split(' ').nth(1).unwrap();
    let keeper = socket.split(' ').nth(2).unwrap().to_owned();
    stage.up();
    let to = UnixAddr::new_abstract(address.strip_prefix('@').unwrap().as_bytes()).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    let descriptors = || -> Vec<OwnedFd> {
        (0..200)
            .map(|_| OwnedFd::from(sender.try_clone().unwrap()))
            .collect()
    };
    let open = descriptors();
    let raw: Vec<i32> = open.iter().map(AsRawFd::as_raw_fd).collect();
    let long = vec![b'X'; 100_000];
    for bytes in [
        &b""[..],
        b"\0",
        b"hello",
        b"READY",
        b"READY=\xff\xfe",
        b"X_SEAMLESS=",
        b"\n\n=\n==",
        &long,
    ] {
        for passed in [&[][..], &raw] {
            let control = [ControlMessage::ScmRights(passed)];
            let control = if passed.is_empty() {
                &control[..0]
            } else {
                &control
            };
            sendmsg(
                sender.as_raw_fd(),
                &[IoSlice::new(bytes)],
                control,
                MsgFlags::empty(),
                Some(&to),
            )
            .unwrap();
        }
    }
    // It still listens, and kept none of 1,600 descriptors.
    assert_eq!(
        stage
            .seamless_run_verb(&["notify", "started"], address, &keeper)
            .finish()
            .code(),
        Some(0)
    );
    let kept = std::fs::read_dir(format!("/proc/{keeper}/fd"))
        .unwrap()
        .count();
    assert!(kept < 20, "{kept}");
    stage.stop(launcher, &[]);
}

/// Once ready, a further *started* changes nothing.
#[test]
fn started_twice_is_started_once() {
    let stage = Stage::new();
    let twice = format!("\"$SEAMLESS_RUN\" notify started; {STARTED}");
    let (launcher, daemon) = stage.daemon(&[], &twice, BY_CHLD);
    assert_eq!(stage.log.count("is ready after"), 1);
    assert_eq!(stage.pid_in_file(), Some(daemon));
    stage.stop(launcher, &[]);
}

/// R4, R11: what cannot be written is said, to the daemon too; it serves all the same.
#[test]
fn started_where_the_pid_file_cannot_be_written() {
    let stage = Stage::new();
    let (launcher, first) = stage.daemon(&[], STARTED, BY_CHLD);
    launcher.signal(Signal::SIGTERM);
    assert_eq!(launcher.finish().code(), Some(0));
    let run = stage.pid_file.parent().unwrap().to_owned();
    // The directory goes away while the second one starts.
    let ready = format!(
        "rm -r {}; \"$SEAMLESS_RUN\" notify started; echo \"said $?\"; echo \"$$ is started\"",
        run.display()
    );
    let (launcher, second) = stage.daemon(&[], &ready, BY_CHLD);
    assert_eq!(stage.log.count("said 1"), 1);
    assert!(
        stage.log.count("cannot write") >= 1,
        "{}",
        stage.log.listing()
    );
    process::wait_exit(first);
    assert!(
        process::alive(second) && launcher.alive(),
        "it has committed all the same"
    );
    stage.stop(launcher, &[]);
}

const SEND_READY: &str = r#"
import os, socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.sendto(b"READY=1", "\0" + os.environ["NOTIFY_SOCKET"][1:])
"#;

/// A daemon may speak through a child that has gone before anybody could look at it.
#[test]
fn a_sender_that_has_gone_is_judged_by_its_user() {
    let stage = Stage::new();
    let ready = stage.scratch.join("ready.py");
    std::fs::write(&ready, SEND_READY).unwrap();
    // The keeper cannot look while its daemon speaks.
    let code = format!(
        "kill -STOP $PPID; python3 {}; echo \"up $$\"; exec 9<>$NOTHING; read _ <&9",
        ready.display()
    );
    let as_nobody = "exec setpriv --reuid=65534 --regid=65534 --clear-groups sh -c \"$0\"";
    // Only root may stop root's keeper: that is done before the privileges go.
    let code = code.replace("kill -STOP $PPID; ", "");
    let launcher = stage
        .seamless_run(&["--", "sh", "-c"])
        .arg(format!("kill -STOP $PPID; {as_nobody}"))
        .arg(&code)
        .start();
    let daemon = stage.up();
    let keeper = process::children(launcher.pid())[0];
    assert_eq!(stage.log.count("is ready"), 0);
    Handle::open(keeper).unwrap().signal(Signal::SIGCONT);
    stage
        .log
        .wait_for(&format!("generation 1 (pid {daemon}) is ready"));
    stage.stop(launcher, &[]);
}

const LINGER: &str = r#"
import array, os, socket, struct, sys
address = sys.argv[1]
listener = socket.socket(); listener.bind(("127.0.0.1", 0)); listener.listen()
sender = socket.create_connection(listener.getsockname())
never_read, _ = listener.accept()
sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))
sender.setblocking(False)
try:
    while True: sender.send(bytes(65536))
except BlockingIOError: pass
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
os.setgroups([]); os.setgid(65534); os.setuid(65534)
passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [sender.fileno()]))]
notify.sendmsg([b"READY=1"], passed, 0, "\0" + address[1:])
sender.close()
print("forged", flush=True)
open(os.environ["NOTHING"]).read()
"#;

/// A stranger passes a descriptor whose close would wait for an hour: the keeper does not.
#[test]
fn a_descriptor_that_lingers_holds_nobody_up() {
    let stage = Stage::new();
    let code = format!("echo \"socket $NOTIFY_SOCKET\"\n{DAEMON}");
    let launcher = stage.seamless_run(&["--"]).args(stage.sh(&code)).start();
    let socket = stage.log.wait(|line| line.starts_with("socket "));
    stage.up();
    let forger = stage
        .spawn("python3")
        .args(["-c", LINGER])
        .arg(socket.split(' ').nth(1).unwrap());
    let keeper = Handle::open(process::children(launcher.pid())[0]).unwrap();
    // Until the forger has closed its own: then the message has the last one.
    keeper.signal(Signal::SIGSTOP);
    let forger = forger.start();
    stage.log.wait_for("forged");
    keeper.signal(Signal::SIGCONT);
    launcher.signal(Signal::SIGINT);
    assert_eq!(launcher.finish().code(), Some(0));
    drop(forger);
    stage.scratch.wait_no_processes_but(&[]);
}

/// Nobody reads: every asker gets its own status in the end, those too that find the queue full.
#[test]
fn a_keeper_that_does_not_read_is_not_waited_for_for_ever() {
    let stage = Stage::new();
    let code = format!("echo \"socket $NOTIFY_SOCKET $SEAMLESS\"\n{DAEMON}");
    let launcher = stage.seamless_run(&["--"]).args(stage.sh(&code)).start();
    let socket = stage.log.wait(|line| line.starts_with("socket "));
    let words: Vec<&str> = socket.split(' ').collect();
    stage.up();
    let keeper = Handle::open(process::children(launcher.pid())[0]).unwrap();
    keeper.signal(Signal::SIGSTOP);
    let askers: Vec<_> = (0..16)
        .map(|_| {
            stage
                .seamless_run_verb(&["notify", "status", "x"], words[1], words[2])
                .start()
        })
        .collect();
    for asker in askers {
        assert_eq!(asker.finish().code(), Some(124));
    }
    keeper.signal(Signal::SIGCONT);
    stage.stop(launcher, &[]);
}
