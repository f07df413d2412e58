//! A supervisor that reads late or not at all, and words that it must not hear (R23, R24).

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal;
use nix::unistd::pipe2;

use super::verb;
use crate::scene::python;
use crate::stage::{DAEMON, STARTED, Stage};
use crate::support::{PATIENCE, Spawn};

/// A daemon that says `SPEECH`, in Python.
const SPEAKER: &str = r#"
import array, os, signal, socket, struct, sys
keeper = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
keeper.connect("\0" + os.environ["NOTIFY_SOCKET"][1:])
def say(text, *passed):
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", passed))] if passed else []
    keeper.sendmsg([text.encode()], rights)
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
signal.signal(signal.SIGHUP, lambda *_: os.write(1, b"got HUP\n"))
exec(os.environ["SPEECH"])
os.write(1, b"has spoken\n")
while True:
    signal.pause()
"#;

fn speaker(stage: &Stage, speech: &str) -> Spawn {
    stage
        .seamless_run(&["--"])
        .arg(python())
        .args(["-I", "-S", "-c", SPEAKER])
        .env("SPEECH", speech)
}

/// What a supervisor would read.
struct Upstream {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Upstream {
    fn of(stage: &Stage) -> Upstream {
        let path = stage.scratch.join("upstream");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Upstream { socket, path }
    }

    /// So that it takes nothing more until it is read.
    fn fill(&self) {
        let other = UnixDatagram::unbound().unwrap();
        other.set_nonblocking(true).unwrap();
        loop {
            match other.send_to(JUNK, &self.path) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Every message but our own, to the one that ends with `last`.
    fn hear_to(&self, last: &str) -> Vec<String> {
        let mut heard = Vec::new();
        loop {
            let mut bytes = [0; 9000];
            let length = self.socket.recv(&mut bytes).unwrap_or_else(|error| {
                panic!("{error}: {last} did not come after {heard:?}");
            });
            if &bytes[..length] == JUNK {
                continue;
            }
            let text = String::from_utf8(bytes[..length].to_vec()).unwrap();
            let is_last = text.ends_with(last);
            heard.push(text);
            if is_last {
                return heard;
            }
        }
    }
}

const JUNK: &[u8] = b"X_JUNK=1";

/// systemd takes it for the end of a line.
#[test]
fn a_carriage_return_smuggles_no_word_to_the_supervisor() {
    let stage = Stage::new();
    let upstream = Upstream::of(&stage);
    let speech = r#"
say("READY=1")
say("STATUS=half\rMAINPID=%d\rSTOPPING=1\r\nNOTIFYACCESS=all\rWATCHDOG=1" % os.getpid())
say("STATUS=last")
"#;
    let launcher = speaker(&stage, speech)
        .env("NOTIFY_SOCKET", &upstream.path)
        .start();
    let heard = upstream.hear_to("STATUS=last");
    assert!(
        heard.contains(&"STATUS=half\nWATCHDOG=1".to_owned()),
        "{heard:?}"
    );
    for word in ["MAINPID", "STOPPING", "NOTIFYACCESS", "\r"] {
        assert!(!heard.iter().any(|text| text.contains(word)), "{heard:?}");
    }
    stage.stop(launcher, &[]);
}

/// As PID 1 in the middle of a daemon-reload.
#[test]
fn a_supervisor_that_does_not_read_for_a_while_misses_nothing_that_matters() {
    let stage = Stage::new();
    let upstream = Upstream::of(&stage);
    upstream.fill();
    let speech = r#"
say("READY=1")
stored = os.open("/dev/null", os.O_RDONLY)
for number in range(200):
    say("STATUS=%d" % number)
    say("FDSTORE=1\nFDNAME=n%d" % number, stored)
say("STATUS=last")
"#;
    let launcher = speaker(&stage, speech)
        .env("NOTIFY_SOCKET", &upstream.path)
        .start();
    stage.log.wait_for("has spoken");
    // The launcher hears its keeper out before it looks at a signal.
    launcher.signal(Signal::SIGHUP);
    stage.log.wait_for("got HUP");
    let heard = upstream.hear_to("STATUS=last");
    let mut wanted = vec!["READY=1".to_owned()];
    wanted.extend((0..200).map(|number| format!("FDSTORE=1\nFDNAME=n{number}")));
    let mut matters = heard;
    matters
        .retain(|text| !text.starts_with("STATUS=") && !text.starts_with("EXTEND_TIMEOUT_USEC="));
    assert_eq!(matters, wanted);
    stage.stop(launcher, &[]);
}

#[test]
fn a_full_notification_pipe_does_not_make_the_launcher_deaf() {
    let stage = Stage::new();
    let (_reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).unwrap();
    let mut full = fs::File::from(writer.try_clone().unwrap());
    while full.write(&[0; 4096]).is_ok() {}
    // As a supervisor opens it.
    fcntl(writer.as_fd(), FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    let launcher = stage
        .seamless_run(&["--notification-fd", "7", "--"])
        .args(stage.sh(DAEMON))
        .env("READY", STARTED)
        .descriptor(7, writer)
        .start();
    let daemon = stage.up();
    stage.log.wait_for(&format!("{daemon} is started"));
    launcher.signal(Signal::SIGHUP);
    stage.log.wait_for(&format!("{daemon} got HUP"));
    stage.stop(launcher, &[]);
}

/// Nobody relays it here, and whoever closes it last waits until the other end has read everything.
#[test]
fn a_socket_that_lingers_does_not_hold_up_its_keeper() {
    let stage = Stage::new();
    let speech = r#"
say("READY=1")
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
stored, _ = listener.accept()
stored.setblocking(False)
try:
    while True:
        stored.send(bytes(1 << 16))
except BlockingIOError:
    pass
stored.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))
os.kill(os.getppid(), signal.SIGSTOP)
say("FDSTORE=1", stored.fileno())
# Its keeper has the last one, then: here nobody waits.
stored.close()
os.kill(os.getppid(), signal.SIGCONT)
"#;
    let launcher = speaker(&stage, speech).env_remove("NOTIFY_SOCKET").start();
    stage.log.wait_for("has spoken");
    let told = verb(&stage, &["status"]).expect_success();
    assert!(!told.stderr.contains("by the record"), "{}", told.stderr);
    stage.stop(launcher, &[]);
}
