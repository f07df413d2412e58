//! The daemon's own user, behind a keeper of root's: it may speak for its daemon, and for nothing else.

use nix::sys::signal::Signal;

use super::*;
use crate::stage::{assert_unharmed, innocent};
use crate::support::process;

/// Says what it is told to, with odd descriptors, and then is ready.
const DAEMON_OF_ITS_OWN: &str = r#"
import array, ctypes, os, signal, socket, sys
libc = ctypes.CDLL(None)
# What /proc shows of it: a name that could be the rest of a line.
libc.prctl(15, b"x) R 1 1 1\nUid:")
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.connect("\0" + os.environ["NOTIFY_SOCKET"][1:])
def say(text, descriptors=()):
    control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    try: notify.sendmsg([text], control)
    except OSError as error: print("not sent:", error.strerror, flush=True)
def ask(text):
    own, other = socket.socketpair()
    say(text, [other.fileno()]); other.close()
    print(f"{os.getpid()} asked:", repr(own.recv(4096)), flush=True)
victim = int(os.environ["VICTIM"])
directory = os.open(".", os.O_RDONLY)
pipe = os.pipe()
for text in [b"MAINPID=%d" % victim, b"STATUS=" + b"x" * 1_000_000, b"STATUS=" + b"y" * 8000,
             b"STOPPING=1", b"ERRNO=1\nBUSERROR=x", b"NOTIFYACCESS=all"]:
    say(text)
for odd in [directory, pipe[1], notify.fileno(), 0, os.open("/dev/zero", os.O_RDONLY)]:
    say(b"FDSTORE=1\nFDNAME=odd", [odd] * 5)
    say(b"X_SEAMLESS=ask", [odd])
say(b"STATUS=\x1b]0;owned\x07\x1b[2J\xc2\x9b31mred\x0bapp: generation 99 (pid 1) is ready\x7f")
path = os.environ["SEAMLESS_PID_FILE"]
def write(content):
    try:
        os.unlink(path)
    except FileNotFoundError: pass
    if content.startswith(b"/"): os.symlink(content, path)
    else: open(path, "wb").write(content)
if os.environ.get("WRITES"):
    write(b"%d\n" % victim); write(b"/proc/self/stat"); write(os.environ["SECRET"].encode())
    write(b"%d\n" % os.getppid())
# In its session, and its child.
if os.fork() == 0:
    libc.prctl(15, b"y)\n) S 1 1 1 1")
    ask(b"X_SEAMLESS=ask\nX_SEAMLESS=\x1b[31mfly")
    os._exit(0)
os.wait()
ask(b"X_SEAMLESS=started")
def prepare(*_):
    say(b"X_SEAMLESS=prepared")
signal.signal(signal.SIGUSR2, prepare)
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
print("up", os.getpid(), flush=True)
while True: signal.pause()
"#;

/// Root's keeper, an ordinary user's daemon; whose directory it is.
fn speaks_for_itself_alone(place: Place) {
    let attack = Attack::new(place);
    let stage = &attack.stage;
    let victim = innocent(stage);
    let script = stage.scratch.join("daemon.py");
    fs::write(&script, DAEMON_OF_ITS_OWN).unwrap();
    let user = STRANGER.to_string();
    let start = || {
        let launcher = stage
            .seamless_run(&["-v", "--orphan-timeout=2s", "--"])
            .arg(tool("setpriv", "util-linux"))
            .args(["--reuid", &user, "--regid", &user, "--clear-groups", "--"])
            .arg(python())
            .args(["-I", "-S"])
            .arg(&script)
            .env("VICTIM", victim.pid().to_string())
            .env("WRITES", if place == Place::Theirs { "1" } else { "" })
            .env("SECRET", attack.vault("secret"))
            .start();
        (launcher, stage.up())
    };
    let (launcher, first) = start();
    let told = attack.verb(&["status"]);
    assert_eq!(told.code(), Some(0), "{told:?}");
    let shown = told
        .stdout
        .lines()
        .find(|line| line.contains("status:"))
        .unwrap();
    assert!(
        shown.contains("]0;owned") && shown.contains("red app: generation 99"),
        "{shown}"
    );
    let json = attack.verb(&["status", "--json"]);
    launcher.signal(Signal::SIGTERM);
    assert_eq!(launcher.finish().code(), Some(0), "{}", stage.log.listing());
    let (launcher, second) = start();
    process::wait_exit(first);
    assert_eq!(stage.pid_in_file(), Some(second), "{}", stage.log.listing());
    stage.stop(launcher, &[victim.pid()]);

    let log = stage.log.lines();
    let printed = [
        told.stdout.lines().collect(),
        json.stdout.lines().collect(),
        log.iter().map(String::as_str).collect::<Vec<_>>(),
    ];
    for line in printed.concat() {
        assert!(!line.contains(char::is_control), "{line:?}");
        assert!(!line.starts_with("app: generation 99"), "{line:?}");
        assert!(line.len() < 2100, "{} bytes", line.len());
    }
    attack.assert_untouched();
    assert_unharmed(stage, &victim);
}

#[test]
fn a_daemon_of_an_ordinary_users_behind_roots_keeper() {
    speaks_for_itself_alone(Place::Roots);
}

#[test]
fn a_daemon_of_an_ordinary_users_in_its_own_directory() {
    speaks_for_itself_alone(Place::Theirs);
}
