//! Messages of another user's at the notify socket: forged, with descriptors, in floods (R22).

use std::os::unix::net::UnixDatagram;
use std::time::Instant;

use nix::sys::signal::Signal;

use super::*;
use crate::support::disk::{SetUserId, with_own_mounts};
use crate::support::process;

const WORDS: [&str; 12] = [
    "X_SEAMLESS=started",
    "READY=1",
    "X_SEAMLESS=prepared",
    "X_SEAMLESS=ask",
    "STOPPING=1",
    "STATUS=forged",
    "MAINPID=1",
    "ERRNO=2\\nBUSERROR=forged",
    "RELOADING=1\\nMONOTONIC_USEC=1",
    "WATCHDOG=trigger\\nWATCHDOG_USEC=1",
    "FDSTORE=1\\nFDNAME=forged\\nEXTEND_TIMEOUT_USEC=1",
    "BARRIER=1",
];

fn keeper_of(launcher: &Spawned) -> Pid {
    process::children(launcher.pid())[0]
}

fn descriptors(pid: Pid) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// What the supervisor would hear, with a name of this test's.
fn supervisor() -> (UnixDatagram, String) {
    use std::os::linux::net::SocketAddrExt;
    let name = format!(
        "seamless-test-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    );
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    socket.set_read_timeout(Some(support::PATIENCE)).unwrap();
    (socket, format!("@{name}"))
}

/// No word of a stranger's does anything, to a daemon that starts and to one that serves; nor does the
/// supervisor hear of it; and what came with it is closed.
#[test]
fn a_strangers_words_change_nothing_and_his_descriptors_are_closed() {
    let attack = Attack::new(Place::Roots);
    let stage = &attack.stage;
    let (hears, address_above) = supervisor();
    let code = format!("echo \"socket $NOTIFY_SOCKET\"\ntrap 'eval \"$NEXT\"' USR1\n{DAEMON}");
    // It prepares for as long as that takes.
    let launcher = stage
        .seamless_run(&["--prepare-timeout=1h", "--"])
        .args(stage.sh(&code))
        .env("READY", "")
        .env("PREPARE", "true")
        .env(
            "NEXT",
            format!("{STARTED}; \"$SEAMLESS_RUN\" notify status genuine; echo said"),
        )
        .env("NOTIFY_SOCKET", &address_above)
        .start();
    let line = stage.log.wait(|line| line.starts_with("socket "));
    let (daemon, address) = (stage.up(), &line["socket ".len()..]);
    let keeper = keeper_of(&launcher);
    let forge = || {
        let before = descriptors(keeper);
        let words = [&["forge", address], &WORDS[..]].concat();
        assert_eq!(attack.attack(&words), format!("closed {}", WORDS.len()));
        let after = descriptors(keeper);
        assert!(after <= before, "{after} descriptors, and {before} before");
    };
    forge();
    assert_eq!(stage.pid_in_file(), None);
    assert!(
        stage.record().contains("state=starting"),
        "{}",
        stage.record()
    );
    // It says itself what only it may say.
    process::Handle::open(daemon)
        .unwrap()
        .signal(Signal::SIGUSR1);
    stage.log.wait_for("said");
    forge();
    // While it is asked to prepare nobody else answers.
    launcher.signal(Signal::SIGTERM);
    stage.log.wait_for(&format!("{daemon} got USR2"));
    forge();
    assert!(launcher.alive(), "{}", stage.log.listing());
    let told = attack.verb(&["status"]);
    assert!(
        told.stdout.contains("status: genuine") && told.stdout.contains("preparing"),
        "{}",
        told.stdout
    );
    stage.stop(launcher, &[]);

    let mut heard = Vec::new();
    hears.set_nonblocking(true).unwrap();
    let mut bytes = [0; 8192];
    while let Ok(length) = hears.recv(&mut bytes) {
        heard.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
    }
    assert!(
        heard.iter().any(|text| text.contains("STATUS=genuine")),
        "{heard:?}"
    );
    for word in [
        "forged",
        "MAINPID",
        "WATCHDOG",
        "FDSTORE",
        "BARRIER",
        "RELOADING",
        "ERRNO",
    ] {
        assert!(
            !heard.iter().any(|text| text.contains(word)),
            "{word}: {heard:?}"
        );
    }
}

/// The kernel says who a sender is; and one who has gone is not taken for somebody else.
#[test]
fn credentials_cannot_be_forged() {
    let attack = Attack::new(Place::Roots);
    let (launcher, daemon, address) = attack.daemon(&[], "");
    let said = attack.attack(&["credentials", &address, &daemon.to_string()]);
    assert_eq!(said, ["EPERM"; 5].join("\n"));
    assert_eq!(attack.attack(&["leave", &address, "100"]), "left 100");
    // Whoever is asked now has read them all.
    attack.verb(&["status"]);
    assert_eq!(attack.stage.pid_in_file(), None);
    attack.stage.stop(launcher, &[]);
}

/// The same, where the daemon's own user is an ordinary one, and the attacker another.
#[test]
fn another_ordinary_user_is_not_believed() {
    let attack = Attack::new(Place::Roots);
    let stage = &attack.stage;
    let run = stage.pid_file.parent().unwrap();
    chown(run, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
    let code = format!("echo \"socket $NOTIFY_SOCKET\"\n{DAEMON}");
    let launcher = attack.by(SOMEBODY, &attack.program);
    let launcher = launcher
        .arg("-p")
        .arg(&stage.pid_file)
        .arg("--")
        .args(stage.sh(&code))
        .start();
    let line = stage.log.wait(|line| line.starts_with("socket "));
    stage.up();
    let words = [&["forge", &line["socket ".len()..]], &WORDS[..]].concat();
    assert_eq!(attack.attack(&words), format!("closed {}", WORDS.len()));
    assert_eq!(
        attack.attack(&["leave", &line["socket ".len()..], "100"]),
        "left 100"
    );
    attack.verb(&["status"]);
    assert_eq!(stage.pid_in_file(), None);
    stage.stop(launcher, &[]);
}

const REUSE: &str = r#"
import ctypes, os, signal, socket, struct, time
libc = ctypes.CDLL(None, use_errno=True)
def fork_with(pid):
    wanted = (ctypes.c_int * 1)(pid)
    words = struct.pack("11Q", 0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, ctypes.addressof(wanted), 1, 0)
    return libc.syscall(435, ctypes.create_string_buffer(words, len(words)), len(words))
keeper = os.getppid()
while True:
    os.kill(keeper, signal.SIGSTOP)
    forger = os.fork()
    if forger == 0:
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.sendto(b"X_SEAMLESS=started", "\0" + os.environ["NOTIFY_SOCKET"][1:])
        os._exit(0)
    os.waitpid(forger, 0)
    child = fork_with(forger)
    if child == 0:
        # It ends with its parent.
        libc.prctl(1, signal.SIGKILL)
        open(os.environ["NOTHING"]).read()
    os.kill(keeper, signal.SIGCONT)
    # Somebody else was faster to take the number, on a busy machine.
    if child == forger: break
print("reused", flush=True)
open(os.environ["NOTHING"]).read()
"#;

/// By the time that it is read, the forger's PID is that of the daemon's child: his user is not.
#[test]
fn a_forger_whose_pid_has_become_the_daemons_childs_is_not_believed() {
    let attack = Attack::new(Place::Roots);
    let stage = &attack.stage;
    let launcher = stage
        .seamless_run(&["--"])
        .arg(python())
        .args(["-I", "-S", "-c", REUSE]);
    let launcher = launcher.start();
    stage.log.wait_for("reused");
    let told = attack.verb(&["status"]);
    assert!(told.stdout.contains("starting"), "{}", told.stdout);
    assert_eq!(stage.pid_in_file(), None, "{}", stage.log.listing());
    stage.stop(launcher, &[]);
}

const SET_USER_ID: &str = r#"
#include <string.h>
#include <unistd.h>
int main(int count, char **words) {
    return count == 2 && setuid(0) == 0 && write(2, words[1], strlen(words[1])) > 0 ? 0 : 1;
}
"#;

/// A program that anybody may run as root says what its caller wants, to the descriptor that he gives it.
#[test]
fn what_a_set_user_id_program_writes_is_not_roots_word() {
    with_own_mounts(a_set_user_id_program_writes);
}

fn a_set_user_id_program_writes() {
    let attack = Attack::new(Place::Roots);
    let stage = &attack.stage;
    let place = SetUserId::mount(stage.scratch.join("echo"));
    let (source, program) = (place.join("echo.c"), place.join("echo"));
    fs::write(&source, SET_USER_ID).unwrap();
    let compiler = Spawn::new(&stage.scratch, tool("cc", "gcc"));
    compiler
        .arg("-o")
        .arg(&program)
        .arg(&source)
        .finish()
        .expect_success();
    fs::set_permissions(&program, Permissions::from_mode(0o4755)).unwrap();
    let (launcher, _, address) = attack.daemon(&[], "");
    let program = program.to_str().unwrap();
    let said = attack.attack(&["borrow", &address, program, "X_SEAMLESS=started"]);
    assert_eq!(said, "borrowed 0");
    let told = attack.verb(&["status"]);
    assert!(told.stdout.contains("starting"), "{}", told.stdout);
    assert_eq!(stage.pid_in_file(), None, "{}", stage.log.listing());
    stage.stop(launcher, &[]);
}

const SLOW: &str = r#"
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
channel = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={channel},rootmode=40000,user_id=65534,group_id=65534".encode()
if libc.mount(b"slow", sys.argv[1].encode(), b"fuse", 6, options): sys.exit(os.strerror(ctypes.get_errno()))
os.setgroups([]); os.setgid(65534); os.setuid(65534)
print("mounted", flush=True)
def about(node):
    mode = 0o40755 if node == 1 else 0o100666
    return struct.pack("6Q3I7I", node, 0, 0, 0, 0, 0, 0, 0, 0, mode, 1, 65534, 65534, 0, 4096, 0)
while True:
    request = os.read(channel, 1 << 17)
    _, word, unique, node = struct.unpack_from("IIQQ", request)
    error, answer = 0, b""
    if word == 26: answer = struct.pack("IIIIHHII", 7, 31, 65536, 0, 8, 8, 65536, 1).ljust(64, b"\0")
    elif word == 1: answer = struct.pack("QQQQII", 2, 0, 3600, 3600, 0, 0) + about(2)
    elif word == 3: answer = struct.pack("QII", 3600, 0, 0) + about(node)
    elif word == 14: answer = struct.pack("QII", 7, 0, 0)
    elif word in (2, 25, 42): continue  # 25 is a close, which waits for ever
    else: error = -38
    os.write(channel, struct.pack("IiQ", 16 + len(answer), error, unique) + answer)
"#;

/// Everybody can have a file system of his own (FUSE), and let whoever closes a file of it wait for him.
#[test]
fn a_descriptor_whose_close_waits_for_its_owner_holds_nobody_up() {
    let attack = Attack::new(Place::Roots);
    let stage = &attack.stage;
    let mount = stage.scratch.join("slow");
    fs::create_dir(&mount).unwrap();
    // In the place of fusermount3, which is set-user-ID; the mounts are this test's own.
    let mounts = attack.by_root(&["unshare", "--mount", "--propagation=private"]);
    let script = stage.scratch.join("slow.py");
    fs::write(&script, SLOW).unwrap();
    let owner = mounts
        .arg(python())
        .args(["-I", "-S"])
        .arg(&script)
        .arg(&mount)
        .start();
    stage.log.wait_for("mounted");
    let (launcher, daemon, address) = attack.daemon(&[], "");
    let inside = format!("--mount=/proc/{}/ns/mnt", owner.pid());
    let file = mount.join("file");
    let user = STRANGER.to_string();
    let passer = attack
        .by_root(&[
            "nsenter",
            &inside,
            "setpriv",
            "--reuid",
            &user,
            "--regid",
            &user,
            "--clear-groups",
            "--",
        ])
        .arg(python())
        .args(["-I", "-S"])
        .arg(&attack.script)
        .args(["slow", &address])
        .arg(&file)
        .start();
    stage.log.wait_for("passed");
    let told = attack.verb(&["status"]);
    // First, or nobody could end the keeper: whoever closes waits until the file system has gone.
    drop(owner);
    drop(passer);
    assert!(!told.stdout.contains("does not answer"), "{}", told.stdout);
    launcher.signal(Signal::SIGHUP);
    stage.log.wait_for(&format!("{daemon} got HUP"));
    stage.stop(launcher, &[]);
}

impl Attack {
    fn by_root(&self, words: &[&str]) -> Spawn {
        self.stage
            .spawn(tool(words[0], "util-linux"))
            .args(&words[1..])
    }
}

/// 10,000 datagrams of each kind at once; the daemon is heard all the same, and nothing is kept.
#[test]
fn a_flood_of_datagrams_leaves_nothing_behind() {
    let _network = support::network::isolate();
    let attack = Attack::new(Place::Roots);
    let stage = &attack.stage;
    let (launcher, daemon, address) = attack.daemon(&[], "");
    let keeper = keeper_of(&launcher);
    let before = descriptors(keeper);
    for kind in ["plain", "empty", "huge", "descriptors", "flight"] {
        let flooders: Vec<_> = (0..4)
            .map(|_| attack.stranger(&["flood", kind, &address, "2500"]).start())
            .collect();
        // Root asks among them, and is answered.
        let asks =
            stage
                .spawn(support::program())
                .args(["notify", "STATUS=asked", "X_SEAMLESS=ask"]);
        let asks = asks
            .env("NOTIFY_SOCKET", &address)
            .env("SEAMLESS", keeper.to_string());
        assert_eq!(
            asks.finish().code(),
            Some(0),
            "{kind}: {}",
            stage.log.listing()
        );
        for flooder in flooders {
            assert_eq!(flooder.finish().code(), Some(0), "{}", stage.log.listing());
        }
        assert_eq!(stage.log.count(&format!("flooded {kind}")), 4);
        assert_eq!(attack.verb(&["status"]).code(), Some(1), "it starts");
    }
    // The last ones may still be in the queue: the answer to this comes after them.
    let asks = stage
        .spawn(support::program())
        .args(["notify", "X_SEAMLESS=ask"]);
    let asks = asks
        .env("NOTIFY_SOCKET", &address)
        .env("SEAMLESS", keeper.to_string());
    assert_eq!(asks.finish().code(), Some(0));
    // The socket of that answer is closed a moment after it.
    let until = Instant::now() + support::PATIENCE;
    while descriptors(keeper) != before {
        assert!(Instant::now() < until, "{before} at first");
        std::thread::yield_now();
    }
    assert_eq!(stage.pid_in_file(), None);
    assert!(process::alive(daemon));
    stage.stop(launcher, &[]);
}

/// `seamless-run notify started`, by that user: it passes a socket for the answer.
fn say_started(attack: &Attack, user: u32, keeper: Pid, address: &str) -> Option<i32> {
    let said = attack.by(user, &attack.program).args(["notify", "started"]);
    let said = said.env("NOTIFY_SOCKET", address);
    said.env("SEAMLESS", keeper.to_string()).finish().code()
}

/// Its close might wait for its owner.
#[test]
fn a_strangers_descriptor_is_never_taken() {
    let attack = Attack::new(Place::Roots);
    let stage = &attack.stage;
    let (launcher, _, address) = attack.daemon(&["-v"], "");
    let keeper = keeper_of(&launcher);
    let seen = stage.scratch.join("seen");
    let strace = stage
        .spawn(tool("strace", "strace"))
        .arg("-o")
        .arg(&seen)
        .args(["-e", "trace=recvmsg", "-p", &keeper.to_string()])
        .start();
    stage.log.wait_for("attached");
    assert_eq!(say_started(&attack, STRANGER, keeper, &address), Some(1));
    stage.log.wait_for("is not believed");
    let calls = fs::read_to_string(&seen).unwrap();
    assert!(calls.contains("uid=65534"), "{calls}");
    assert!(!calls.contains("SCM_RIGHTS"), "{calls}");
    // Root's is.
    assert_eq!(say_started(&attack, 0, keeper, &address), Some(0));
    drop(strace);
    assert!(fs::read_to_string(&seen).unwrap().contains("SCM_RIGHTS"));
    stage.stop(launcher, &[]);
}
