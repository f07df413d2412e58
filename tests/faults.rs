//! What breaks around a service while it runs (R4): the disk, the directory, the descriptors, the log. And what is
//! there already when it starts.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, chown};
use std::thread;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use crate::stage::{BY_CHLD, DAEMON, STARTED, Stage};
use crate::support::disk::{Disk, Fault, with_own_mounts};
use crate::support::process::{self, Handle, Pid};
use crate::support::{self, Finished, Spawn, Spawned, tool};

/// A stage whose PID file lies on a small file system of its own.
pub(crate) struct Scene {
    // The mounts go first, the directory that they are on goes after them.
    pub(crate) disk: Disk,
    pub(crate) stage: Stage,
}

impl Scene {
    fn new() -> Scene {
        let mut stage = Stage::new();
        let parent = stage.pid_file.parent().unwrap().to_owned();
        let disk = Disk::mount(&parent.join("disk"));
        stage.pid_file = parent.join("disk/app.pid");
        Scene { disk, stage }
    }

    /// In a thread of its own with mounts of its own, which end with it and with what it started.
    pub(crate) fn play(scene: impl FnOnce(&Scene) + Send) {
        with_own_mounts(|| scene(&Scene::new()));
    }
}

/// Says *started* when it gets USR1, and what it was answered.
const STARTED_ON_USR1: &str = r#"
    trap 'said=$("$SEAMLESS_RUN" notify started 2>&1); echo "$$ asked: $? $said"' USR1
    echo "$$ is started by USR1"
"#;

fn keeper_of(launcher: &Spawned) -> Pid {
    process::children(launcher.pid())[0]
}

/// It lives, it answers, and nobody has told it to end.
fn assert_serves(stage: &Stage, daemon: Pid) {
    assert!(process::alive(daemon), "{}", stage.log.listing());
    Handle::open(daemon).unwrap().signal(Signal::SIGHUP);
    stage.log.wait_for(&format!("{daemon} got HUP"));
    let told = stage.log.count(&format!("{daemon} got TERM"));
    assert_eq!(told, 0, "{}", stage.log.listing());
}

/// Our own lines that name this cause, of all that has been written by now.
fn warnings(stage: &Stage, cause: &str) -> Vec<String> {
    let end = format!("the end of {} lines", stage.log.lines().len());
    let mut log = File::options().append(true).open(stage.log.path()).unwrap();
    log.write_all(format!("{end}\n").as_bytes()).unwrap();
    stage.log.wait_seen(&end);
    let ours = |line: &String| line.starts_with("app: ") && line.contains(cause);
    stage.log.lines().into_iter().filter(ours).collect()
}

/// R4: it is said once.
#[track_caller]
fn assert_one_warning(stage: &Stage, cause: &str) {
    let warnings = warnings(stage, cause);
    let some = &warnings[..warnings.len().min(5)];
    assert_eq!(warnings.len(), 1, "{some:#?}");
}

/// R4: nor is anything else that could not be done complained of twice.
#[track_caller]
fn assert_none_repeated(stage: &Stage, cause: &str) {
    let warnings = warnings(stage, cause);
    let what = warnings.iter().map(|line| line.split(';').next().unwrap());
    let different: BTreeSet<&str> = what.collect();
    assert_eq!(different.len(), warnings.len(), "{warnings:#?}");
}

/// The supervisor's restart, up to the launcher's end.
fn let_go(stage: &Stage, launcher: Spawned, daemon: Pid) {
    launcher.signal(Signal::SIGTERM);
    stage.log.wait_for(&format!("{daemon} got USR2"));
    assert_eq!(launcher.finish().code(), Some(0), "{}", stage.log.listing());
    assert_serves(stage, daemon);
}

/// The next generation: the old one drains when this is ready, and nothing is left of it.
fn succeed(stage: &Stage, old: Pid) -> (Spawned, Pid) {
    assert_serves(stage, old);
    let (launcher, new) = stage.daemon(&[], STARTED, BY_CHLD);
    stage.log.wait_seen(&format!("{old} got TERM"));
    process::wait_exit(old);
    assert_eq!(stage.log.count(&format!("{old} got TERM")), 1);
    assert_eq!(stage.pid_in_file(), Some(new), "{}", stage.log.listing());
    (launcher, new)
}

fn restart(stage: &Stage, launcher: Spawned, daemon: Pid) -> (Spawned, Pid) {
    let_go(stage, launcher, daemon);
    succeed(stage, daemon)
}

fn status(stage: &Stage) -> Finished {
    let verb = stage.spawn(support::program()).arg("status");
    let verb = verb.arg(&stage.pid_file).arg("--json");
    let said = tempfile::NamedTempFile::new_in(stage.scratch.path()).unwrap();
    let mut finished = verb.stdout(said.reopen().unwrap()).finish();
    finished.stdout = fs::read_to_string(said.path()).unwrap();
    finished
}

fn assert_status(stage: &Stage, daemon: Pid) {
    let status = status(stage);
    assert_eq!(status.code(), Some(0), "{}", stage.log.listing());
    assert!(
        status.stdout.contains(&daemon.to_string()),
        "{}",
        status.stdout
    );
}

/// User and system time, in clock ticks.
fn processor_time(pid: Pid) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<u64>().unwrap();
    ticks(11) + ticks(12)
}

/// While nothing happens, nothing is done: a busy loop would take some fifty ticks in this time.
fn assert_idle(pid: Pid) {
    let before = processor_time(pid);
    thread::sleep(Duration::from_millis(500));
    let spent = processor_time(pid) - before;
    assert!(spent <= 5, "{spent} ticks in half a second");
}

/// Each descriptor's number, in order, and what it leads to without what is a number there.
fn descriptors(pid: Pid) -> Vec<(i32, String)> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let mut all: Vec<(i32, String)> = entries
        .map(|entry| {
            let entry = entry.unwrap();
            let number = entry.file_name().to_str().unwrap().parse().unwrap();
            let target = fs::read_link(entry.path()).unwrap_or_default();
            (number, target.to_string_lossy().into_owned())
        })
        .collect();
    all.sort();
    all
}

/// How few descriptors a process may have from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fewest {
    /// Below the lowest free number: not even one that is closed may be opened again, if it is above.
    NoMore,
    /// Up to the highest that it has: the gaps may be filled.
    NoneAbove,
}

impl Fewest {
    const BOTH: [Fewest; 2] = [Fewest::NoMore, Fewest::NoneAbove];
}

fn forbid_descriptors(pid: Pid, fewest: Fewest) {
    let open: Vec<i32> = descriptors(pid).iter().map(|(number, _)| *number).collect();
    let limit = match fewest {
        Fewest::NoMore => (0..).find(|number| !open.contains(number)),
        Fewest::NoneAbove => open.last().map(|highest| highest + 1),
    };
    limit_descriptors(pid, limit.unwrap());
}

fn limit_descriptors(pid: Pid, limit: i32) {
    let prlimit = std::process::Command::new(tool("prlimit", "util-linux"));
    let words = [format!("--pid={pid}"), format!("--nofile={limit}:4096")];
    Spawn::from(prlimit).args(words).finish().expect_success();
}

/// R4: the disk fails a daemon that serves. It is told to prepare and let go all the same; what cannot start beside
/// it does not harm it; and when the disk is well again, the next restart is as ever.
#[test]
fn the_disk_fails_while_the_daemon_serves() {
    for fault in Fault::ALL {
        Scene::play(|Scene { disk, stage }| {
            let (launcher, first) = stage.daemon(&[], STARTED, BY_CHLD);
            let keeper = keeper_of(&launcher);
            disk.strike(fault);
            let_go(stage, launcher, first);
            assert_one_warning(stage, fault.cause());
            assert_idle(keeper);
            match fault {
                Fault::Moved => assert_eq!(status(stage).code(), Some(3)),
                Fault::Full | Fault::NoInodes | Fault::ReadOnly => {
                    assert_status(stage, first);
                    refused_without_a_trace(stage, disk, fault);
                }
            }
            disk.heal(fault);
            let (launcher, second) = succeed(stage, first);
            let (launcher, _) = restart(stage, launcher, second);
            stage.stop(launcher, &[]);
            assert_eq!(disk.names(), ["app.pid.lock"], "{fault:?}");
        });
    }
}

/// 125, one line that names the file and the cause, and nothing else is different.
fn refused_without_a_trace(stage: &Stage, disk: &Disk, fault: Fault) {
    let before = disk.names();
    let complaints = || {
        let lines = stage.log.lines();
        let ours = |line: &&String| line.starts_with("seamless-run: ");
        lines.iter().filter(ours).cloned().collect::<Vec<_>>()
    };
    let earlier = complaints().len();
    let warned = warnings(stage, fault.cause()).len();
    let newcomer = stage.seamless_run(&["sh", "-c", "echo it runs"]).finish();
    assert_eq!(newcomer.code(), Some(125), "{}", stage.log.listing());
    stage.log.wait_for(fault.cause());
    let said = complaints();
    assert_eq!(said.len(), earlier + 1, "{}", stage.log.listing());
    let line = said.last().unwrap();
    assert!(line.contains(fault.cause()), "{line}");
    assert!(line.contains(stage.pid_file.to_str().unwrap()), "{line}");
    assert_eq!(warnings(stage, fault.cause()).len(), warned, "{said:?}");
    assert_eq!(stage.log.count("it runs"), 0);
    assert_eq!(disk.names(), before);
}

/// R4, R11: it is ready when nothing can be written: it serves all the same, and is told.
#[test]
fn the_disk_fails_before_the_daemon_is_ready() {
    for fault in Fault::ALL {
        Scene::play(|Scene { disk, stage }| {
            let (launcher, first) = stage.daemon(&[], STARTED_ON_USR1, BY_CHLD);
            disk.strike(fault);
            launcher.signal(Signal::SIGUSR1);
            let answer = stage.log.wait_for("asked: ");
            assert!(answer.contains("asked: 1 "), "{answer}");
            assert!(answer.contains(fault.cause()), "{answer}");
            assert_serves(stage, first);
            assert_eq!(stage.log.count("is ready after"), 1);
            assert_one_warning(stage, fault.cause());
            assert_idle(keeper_of(&launcher));

            disk.heal(fault);
            let (launcher, _) = restart(stage, launcher, first);
            stage.stop(launcher, &[]);
            assert_eq!(disk.names(), ["app.pid.lock"], "{fault:?}");
        });
    }
}

/// As above, with a predecessor: the handover is complete, though no file can tell of it.
#[test]
fn the_disk_fails_before_a_successor_is_ready() {
    for fault in Fault::ALL {
        Scene::play(|Scene { disk, stage }| {
            let (launcher, first) = stage.daemon(&[], STARTED, BY_CHLD);
            let_go(stage, launcher, first);
            let (launcher, second) = stage.daemon(&[], STARTED_ON_USR1, BY_CHLD);
            disk.strike(fault);
            launcher.signal(Signal::SIGUSR1);
            stage
                .log
                .wait_for_all(&["asked: 1 ", &format!("{first} got TERM")]);
            process::wait_exit(first);
            assert_serves(stage, second);
            stage
                .scratch
                .wait_no_processes_but(&[launcher.pid(), keeper_of(&launcher), second]);
            assert_idle(keeper_of(&launcher));
            if fault != Fault::Moved {
                assert_status(stage, second);
            }
            assert_none_repeated(stage, fault.cause());

            disk.heal(fault);
            let (launcher, _) = restart(stage, launcher, second);
            stage.stop(launcher, &[]);
            assert_eq!(disk.names(), ["app.pid.lock"], "{fault:?}");
        });
    }
}

/// R20: what could not be written at the commit is written with the next thing that is.
#[test]
fn the_record_is_made_good_when_the_disk_is_well_again() {
    const HELD: &str = r#"
        mkfifo "$PIPES/hold"
        trap 'echo "$$ got TERM"; read -r _ <"$PIPES/hold"; exit 0' TERM
        "$SEAMLESS_RUN" notify started && echo "$$ is started"
    "#;
    Scene::play(|Scene { disk, stage }| {
        let (launcher, first) = stage.daemon(&[], HELD, BY_CHLD);
        let_go(stage, launcher, first);
        let (launcher, second) = stage.daemon(&[], STARTED_ON_USR1, BY_CHLD);
        disk.strike(Fault::Full);
        launcher.signal(Signal::SIGUSR1);
        stage
            .log
            .wait_for_all(&["asked: 1 ", &format!("{first} got TERM")]);
        disk.heal(Fault::Full);
        fs::write(stage.scratch.join("pipes/hold"), "now\n").unwrap();
        process::wait_exit(first);
        while stage.generations().len() > 1 {
            thread::yield_now();
        }
        let record = stage.record();
        assert!(record.contains("generation 2 state=ready"), "{record}");
        let (launcher, _) = restart(stage, launcher, second);
        stage.stop(launcher, &[]);
    });
}

/// R4: a stop needs no file.
#[test]
fn the_disk_fails_before_a_stop() {
    for fault in Fault::ALL {
        Scene::play(|Scene { disk, stage }| {
            let (launcher, first) = stage.daemon(&[], STARTED, BY_CHLD);
            let_go(stage, launcher, first);
            let (launcher, _) = succeed(stage, first);
            disk.strike(fault);
            launcher.signal(Signal::SIGINT);
            assert_eq!(launcher.finish().code(), Some(0), "{}", stage.log.listing());
            stage.scratch.wait_no_processes_but(&[]);
            assert_none_repeated(stage, fault.cause());

            // What could not be removed is not believed by the next one.
            disk.heal(fault);
            let (launcher, _) = stage.daemon(&[], STARTED, BY_CHLD);
            stage.stop(launcher, &[]);
            assert_eq!(disk.names(), ["app.pid.lock"], "{fault:?}");
        });
    }
}

/// R20 on a disk that fails: whether or not another keeper can take the lost one's place, the daemon serves, and the
/// next start that finds a disk has it.
#[test]
fn the_keeper_is_killed_on_a_disk_that_fails() {
    for fault in Fault::ALL {
        Scene::play(|Scene { disk, stage }| {
            let by_message = r#""$SEAMLESS_RUN" notify prepared"#;
            let (launcher, first) = stage.daemon(&[], STARTED, by_message);
            let keeper = Handle::open(keeper_of(&launcher)).unwrap();
            disk.strike(fault);
            keeper.signal(Signal::SIGKILL);
            let outcome = stage.log.wait(|line| {
                line.contains("goes on in its place") || line.starts_with("seamless-run: ")
            });
            assert_serves(stage, first);
            if outcome.starts_with("seamless-run: ") {
                assert!(outcome.contains(fault.cause()), "{outcome}");
                assert_eq!(launcher.finish().code(), Some(125));
                disk.heal(fault);
            } else {
                let_go(stage, launcher, first);
                assert_one_warning(stage, fault.cause());
                disk.heal(fault);
            }
            assert_serves(stage, first);
            let (launcher, second) = succeed(stage, first);
            let (launcher, _) = restart(stage, launcher, second);
            stage.stop(launcher, &[]);
            assert_eq!(disk.names(), ["app.pid.lock"], "{fault:?}");
        });
    }
}

/// The first start, on a disk that fails already.
#[test]
fn nothing_is_started_on_a_disk_that_fails() {
    for fault in [Fault::Full, Fault::NoInodes, Fault::ReadOnly] {
        Scene::play(|Scene { disk, stage }| {
            disk.strike(fault);
            let newcomer = stage.seamless_run(&["sh", "-c", "echo it runs"]).finish();
            assert_eq!(newcomer.code(), Some(125));
            let line = stage.log.wait_for(fault.cause());
            assert!(line.contains(stage.pid_file.to_str().unwrap()), "{line}");
            assert_eq!(stage.log.count("it runs"), 0);
            let left = disk.names();
            assert!(left.iter().all(|name| name == "app.pid.lock"), "{left:?}");
            stage.scratch.wait_no_processes_but(&[]);
            disk.heal(fault);
            let (launcher, _) = stage.daemon(&[], STARTED, BY_CHLD);
            stage.stop(launcher, &[]);
        });
    }
}

/// R16: nobody can succeed a generation whose directory was deleted. It serves until it is told otherwise; detached,
/// until the orphan timeout is over.
#[test]
fn the_directory_is_deleted() {
    let stage = Stage::new();
    let directory = stage.pid_file.parent().unwrap();
    // It is seen to serve on within it.
    let options = ["--orphan-timeout", "3s"];
    let (launcher, first) = stage.daemon(&options, STARTED, BY_CHLD);
    let keeper = keeper_of(&launcher);
    fs::remove_dir_all(directory).unwrap();
    for verb in ["status", "restart", "stop"] {
        let verb = stage.spawn(support::program()).arg(verb);
        assert_eq!(verb.arg(&stage.pid_file).finish().code(), Some(3));
    }
    assert_idle(keeper);
    let_go(&stage, launcher, first);
    assert_one_warning(&stage, "No such file or directory");
    stage.log.wait_for("no successor of generation 1");
    stage.log.wait_for(&format!("{first} got TERM"));
    stage.scratch.wait_no_processes_but(&[]);
    assert!(!directory.exists());
    let missing = stage.seamless_run(&["true"]).finish();
    assert_eq!(missing.code(), Some(125));
    stage.log.wait_for("create it first");

    // One that is stopped instead.
    fs::create_dir(directory).unwrap();
    let (launcher, _) = stage.daemon(&[], STARTED, BY_CHLD);
    fs::remove_dir_all(directory).unwrap();
    stage.stop(launcher, &[]);

    // And one that is deleted and made anew before it is ready: the next commit heals everything.
    fs::create_dir(directory).unwrap();
    let (launcher, third) = stage.daemon(&[], STARTED_ON_USR1, BY_CHLD);
    fs::remove_dir_all(directory).unwrap();
    fs::create_dir(directory).unwrap();
    launcher.signal(Signal::SIGUSR1);
    stage.log.wait_for("asked: ");
    assert_serves(&stage, third);
    assert_eq!(stage.pid_in_file(), Some(third));
    assert_status(&stage, third);
    let (launcher, _) = restart(&stage, launcher, third);
    stage.stop(launcher, &[]);
}

/// Connected to the control socket, and silent.
fn caller(stage: &Stage) -> Option<OwnedFd> {
    let family = AddressFamily::Unix;
    let caller = socket(family, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let place = UnixAddr::new(&stage.beside(".sock")).unwrap();
    connect(caller.as_raw_fd(), &place).ok().map(|()| caller)
}

/// R4: a keeper without a descriptor to spare, and fifty who want to talk to it.
fn callers_of_a_poor_keeper(fewest: Fewest) {
    let stage = Stage::new();
    let (launcher, first) = stage.daemon(&[], STARTED, BY_CHLD);
    let keeper = keeper_of(&launcher);
    forbid_descriptors(keeper, fewest);
    let callers: Vec<_> = (0..50).map(|_| caller(&stage)).collect();
    launcher.signal(Signal::SIGHUP);
    stage.log.wait_for(&format!("{first} got HUP"));
    assert_idle(keeper);
    assert_eq!(callers.iter().flatten().count(), 50);
    assert_one_warning(&stage, "Too many open files");
    assert_serves(&stage, first);
    launcher.signal(Signal::SIGTERM);
    assert_eq!(launcher.finish().code(), Some(0));
    assert_idle(keeper);
    drop(callers);
    // A newcomer whom the old keeper cannot hear has the record.
    let (launcher, second) = succeed(&stage, first);
    process::wait_exit(keeper);
    let (launcher, _) = restart(&stage, launcher, second);
    stage.stop(launcher, &[]);
}

#[test]
fn callers_fill_the_keepers_last_descriptors() {
    callers_of_a_poor_keeper(Fewest::NoneAbove);
}

#[test]
fn callers_find_a_keeper_without_descriptors() {
    callers_of_a_poor_keeper(Fewest::NoMore);
}

/// R4: and when it may have more again, it hears everyone again.
#[test]
fn the_keepers_limit_is_raised_again() {
    for fewest in Fewest::BOTH {
        let stage = Stage::new();
        let (launcher, first) = stage.daemon(&[], STARTED, BY_CHLD);
        let keeper = keeper_of(&launcher);
        forbid_descriptors(keeper, fewest);
        // The record is there to be read.
        assert_status(&stage, first);
        limit_descriptors(keeper, 1024);
        assert_status(&stage, first);
        let (launcher, second) = restart(&stage, launcher, first);
        let (launcher, _) = restart(&stage, launcher, second);
        stage.stop(launcher, &[]);
    }
}

/// R6: a daemon that shall be told to prepare is, though its keeper can open nothing in /proc.
#[test]
fn a_keeper_without_descriptors_tells_its_daemon_to_prepare() {
    for fewest in Fewest::BOTH {
        let stage = Stage::new();
        let (launcher, first) = stage.daemon(&[], STARTED, BY_CHLD);
        forbid_descriptors(keeper_of(&launcher), fewest);
        launcher.signal(Signal::SIGTERM);
        stage.log.wait_for("restart: ");
        assert_eq!(launcher.finish().code(), Some(0));
        let (launcher, _) = succeed(&stage, first);
        let told = stage.log.count(&format!("{first} got USR2"));
        assert_eq!(told, 1, "{fewest:?}{}", stage.log.listing());
        stage.stop(launcher, &[]);
    }
}

/// R11: it cannot write a file, and commits all the same.
#[test]
fn a_keeper_without_descriptors_hears_that_the_daemon_is_ready() {
    for fewest in Fewest::BOTH {
        let stage = Stage::new();
        let (launcher, first) = stage.daemon(&[], STARTED_ON_USR1, BY_CHLD);
        let keeper = keeper_of(&launcher);
        forbid_descriptors(keeper, fewest);
        launcher.signal(Signal::SIGUSR1);
        let answer = stage.log.wait_for("asked: ");
        // The socket for the answer may not have come through; or it has, and a file could not be opened.
        let causes = ["no descriptor left", "Too many open files"];
        let explained = causes.iter().any(|cause| answer.contains(cause));
        let known = answer.contains("asked: 1 ") && explained;
        assert!(answer.contains("asked: 0 ") || known, "{answer}");
        assert_serves(&stage, first);
        // An answer that did not come through ends before it is ready.
        stage.log.wait_seen("is ready after");
        assert_eq!(
            stage.log.count("is ready after"),
            1,
            "{}",
            stage.log.listing()
        );
        if fewest == Fewest::NoMore {
            stage.log.wait_seen("Too many open files");
        }
        assert_none_repeated(&stage, "Too many open files");
        limit_descriptors(keeper, 1024);
        let (launcher, _) = restart(&stage, launcher, first);
        stage.stop(launcher, &[]);
    }
}

/// poll(2) refuses to look at more descriptors than the limit allows, open or not.
#[test]
fn a_limit_below_what_is_open_already() {
    let stage = Stage::new();
    let (launcher, first) = stage.daemon(&[], STARTED, BY_CHLD);
    let keeper = keeper_of(&launcher);
    limit_descriptors(keeper, 1);
    limit_descriptors(launcher.pid(), 1);
    launcher.signal(Signal::SIGHUP);
    stage.log.wait_for(&format!("{first} got HUP"));
    assert_idle(keeper);
    assert_idle(launcher.pid());
    limit_descriptors(keeper, 1024);
    limit_descriptors(launcher.pid(), 1024);
    let (launcher, _) = restart(&stage, launcher, first);
    stage.stop(launcher, &[]);
}

#[test]
fn a_keeper_without_descriptors_stops() {
    for fewest in Fewest::BOTH {
        let stage = Stage::new();
        let (launcher, first) = stage.daemon(&[], STARTED, BY_CHLD);
        let_go(&stage, launcher, first);
        let (launcher, _) = succeed(&stage, first);
        forbid_descriptors(keeper_of(&launcher), fewest);
        launcher.signal(Signal::SIGINT);
        assert_eq!(launcher.finish().code(), Some(0));
        stage.scratch.wait_no_processes_but(&[]);
        let (launcher, _) = stage.daemon(&[], STARTED, BY_CHLD);
        stage.stop(launcher, &[]);
    }
}

#[test]
fn a_launcher_without_descriptors() {
    let stage = Stage::new();
    let (launcher, first) = stage.daemon(&[], STARTED, BY_CHLD);
    forbid_descriptors(launcher.pid(), Fewest::NoMore);
    launcher.signal(Signal::SIGHUP);
    stage.log.wait_for(&format!("{first} got HUP"));
    assert_idle(launcher.pid());
    let (launcher, second) = restart(&stage, launcher, first);

    // R20: it cannot make another keeper. It says so and leaves, and the next one takes over.
    forbid_descriptors(launcher.pid(), Fewest::NoMore);
    let keeper = Handle::open(keeper_of(&launcher)).unwrap();
    keeper.signal(Signal::SIGKILL);
    assert_eq!(launcher.finish().code(), Some(125));
    assert_one_warning(&stage, "Too many open files");
    let (launcher, _) = succeed(&stage, second);
    stage.stop(launcher, &[]);
}

/// A limit that is there before: whatever it is, a new generation either takes over or leaves everything as it was.
#[test]
fn a_start_with_few_descriptors_succeeds_or_changes_nothing() {
    let stage = Stage::new();
    let (launcher, first) = stage.daemon(&["--orphan-timeout", "1h"], STARTED, BY_CHLD);
    let_go(&stage, launcher, first);
    let newcomer = r#"prlimit --pid $$ --nofile=1024:1024
        "$SEAMLESS_RUN" notify started && exit 7"#;
    let daemon = stage.sh(newcomer);
    let names = || {
        fs::read_dir(stage.pid_file.parent().unwrap())
            .unwrap()
            .count()
    };
    let before = names();
    // With 4 the program's libraries can be loaded.
    for limit in 4..64 {
        let ended = stage
            .spawn(tool("prlimit", "util-linux"))
            .arg(format!("--nofile={limit}:1024"))
            .arg(support::program())
            .arg("-p")
            .arg(&stage.pid_file)
            .args(&daemon)
            .finish();
        if ended.code() == Some(7) {
            stage.log.wait_seen(&format!("{first} got TERM"));
            process::wait_exit(first);
            assert!(limit > 8, "few enough were tried");
            return;
        }
        assert_eq!(ended.code(), Some(125), "{limit}{}", stage.log.listing());
        assert_serves(&stage, first);
        assert_eq!(names(), before, "{limit}");
        stage.log.wait_seen("Too many open files");
    }
    panic!("64 descriptors must do{}", stage.log.listing());
}

/// R4: nobody reads the log any more, and the pipe is dead or full.
#[test]
fn a_log_that_nobody_reads() {
    for dead in [true, false] {
        let stage = Stage::new();
        let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
        let daemon = stage.sh(DAEMON);
        let start = || {
            let launcher = stage
                .seamless_run(&[])
                .args(&daemon)
                .env("READY", STARTED)
                // CHLD would go to the keeper that is lost.
                .env("PREPARE", r#""$SEAMLESS_RUN" notify prepared"#)
                .stderr(writer.try_clone().unwrap())
                .start();
            let pid = stage.up();
            stage.log.wait_for(&format!("{pid} is started"));
            (launcher, pid)
        };
        let (launcher, first) = start();
        let reader = Some(reader).filter(|_| !dead);
        if !dead {
            let mut full = File::from(writer.try_clone().unwrap());
            rustix::fs::fcntl_setfl(&full, rustix::fs::OFlags::NONBLOCK).unwrap();
            while full.write(&[b'x'; 1000]).is_ok() {}
            // A byte at a time, to the last.
            while full.write(b"x").is_ok() {}
            rustix::fs::fcntl_setfl(&full, rustix::fs::OFlags::empty()).unwrap();
        }
        let keeper = keeper_of(&launcher);
        // R20: what a launcher says about a lost keeper is heard by nobody either.
        Handle::open(keeper).unwrap().signal(Signal::SIGKILL);
        process::wait_exit(keeper);
        launcher.signal(Signal::SIGHUP);
        stage.log.wait_for(&format!("{first} got HUP"));
        assert_idle(keeper_of(&launcher));
        let_go(&stage, launcher, first);
        let (launcher, second) = start();
        stage.log.wait_seen(&format!("{first} got TERM"));
        process::wait_exit(first);
        assert_serves(&stage, second);
        assert_idle(launcher.pid());
        launcher.signal(Signal::SIGINT);
        assert_eq!(launcher.finish().code(), Some(0));
        stage.scratch.wait_no_processes_but(&[]);
        drop(reader);
    }
}

/// Nothing is kept of who has gone: thirty restarts and fifty questions later it is as in the beginning.
#[test]
fn no_descriptor_is_leaked() {
    let numbers = |pid: Pid| {
        let all = descriptors(pid).into_iter();
        all.map(|(number, _)| number).collect::<Vec<_>>()
    };
    let stage = Stage::new();
    let (mut launcher, mut daemon) = stage.daemon(&[], STARTED, BY_CHLD);
    let settled = |launcher: &Spawned, daemon: Pid| {
        stage
            .scratch
            .wait_no_processes_but(&[launcher.pid(), keeper_of(launcher), daemon]);
        launcher.signal(Signal::SIGHUP);
        stage.log.wait_for(&format!("{daemon} got HUP"));
        (
            numbers(launcher.pid()).len(),
            numbers(keeper_of(launcher)).len(),
        )
    };
    (launcher, daemon) = restart(&stage, launcher, daemon);
    let in_the_beginning = settled(&launcher, daemon);
    for _ in 0..30 {
        (launcher, daemon) = restart(&stage, launcher, daemon);
    }
    let after_restarts = settled(&launcher, daemon);
    for _ in 0..50 {
        assert_status(&stage, daemon);
    }
    let after_questions = settled(&launcher, daemon);
    assert_eq!(
        [after_restarts, after_questions],
        [in_the_beginning, in_the_beginning],
        "{:?}",
        descriptors(keeper_of(&launcher))
    );
    stage.stop(launcher, &[]);
}

/// §6: a socket's path holds 108 bytes, a name in a directory 255; ours are longer than the PID file's.
#[test]
fn a_long_path_and_a_long_name() {
    let mut stage = Stage::new();
    let deep = stage.scratch.join("d".repeat(200)).join("e".repeat(200));
    fs::create_dir_all(&deep).unwrap();
    stage.pid_file = deep.join("n".repeat(240));
    let (launcher, first) = stage.daemon(&[], STARTED, BY_CHLD);
    assert_status(&stage, first);
    let (launcher, second) = restart(&stage, launcher, first);
    assert_status(&stage, second);
    stage.stop(launcher, &[]);
    assert_eq!(fs::read_dir(&deep).unwrap().count(), 1, "the lock stays");
    fs::remove_file(stage.beside(".lock")).unwrap();

    // A name for which there is no room is refused before anything runs.
    for length in 241..=255 {
        stage.pid_file = deep.join("n".repeat(length));
        let runs = || {
            stage
                .log
                .lines()
                .iter()
                .filter(|line| *line == "it runs")
                .count()
        };
        let before = runs();
        let ended = stage
            .seamless_run(&["sh", "-c", "echo it runs; exit 7"])
            .finish();
        if ended.code() == Some(7) {
            stage.log.wait(|line| line == "it runs");
            assert!(length < 255);
        } else {
            assert_eq!(ended.code(), Some(125));
            stage.log.wait_for("File name too long");
            assert_eq!(runs(), before, "{length}");
        }
        fs::remove_file(stage.beside(".lock")).ok();
        assert_eq!(fs::read_dir(&deep).unwrap().count(), 0, "{length}");
    }
}

/// More callers than anybody has a use for, who say nothing and do not go: nobody waits for them.
#[test]
fn a_crowd_at_the_control_socket() {
    let stage = Stage::new();
    let (launcher, first) = stage.daemon(&[], STARTED, BY_CHLD);
    let keeper = keeper_of(&launcher);
    let crowd: Vec<_> = (0..300).map(|_| caller(&stage)).collect();
    launcher.signal(Signal::SIGHUP);
    stage.log.wait_for(&format!("{first} got HUP"));
    assert_eq!(crowd.iter().flatten().count(), 300);
    assert_idle(keeper);
    assert_status(&stage, first);
    let (launcher, second) = restart(&stage, launcher, first);
    process::wait_exit(keeper);
    drop(crowd);
    let (launcher, _) = restart(&stage, launcher, second);
    stage.stop(launcher, &[]);
}

/// An ordinary user's service in its own directory, with whatever umask: a whole life, and the verbs.
#[test]
fn a_service_of_an_ordinary_user() {
    for umask in ["022", "0777"] {
        let stage = Stage::new();
        let directory = stage.pid_file.parent().unwrap();
        chown(directory, Some(65534), Some(65534)).unwrap();
        let program = stage.program_for_all();
        // The daemon itself makes a file that it wants to open.
        let daemon = stage.sh(&format!("umask 077\n{DAEMON}"));
        let nobody = |words: &[&str]| {
            let script = format!(r#"umask {umask}; exec "$0" "$@""#);
            stage
                .spawn(tool("setpriv", "util-linux"))
                .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
                .args(["sh", "-c", &script])
                .arg(&program)
                .args(words)
                .env("SEAMLESS_RUN", &program)
        };
        let path = stage.pid_file.to_str().unwrap();
        let start = || {
            let launcher = nobody(&["-p", path, "--"])
                .args(&daemon)
                .env("READY", STARTED)
                .env("PREPARE", BY_CHLD)
                .start();
            let pid = stage.up();
            stage.log.wait_for(&format!("{pid} is started"));
            (launcher, pid)
        };
        let asked = |words: &[&str]| nobody(words).finish().code();
        let (launcher, first) = start();
        assert_eq!(
            fs::metadata(format!("/proc/{first}")).unwrap().uid(),
            65534,
            "it is nobody's"
        );
        assert_eq!(asked(&["status", path]), Some(0), "{umask}");
        stage.log.wait_for(&format!("{first}"));
        let_go(&stage, launcher, first);
        assert_eq!(asked(&["status", path]), Some(0), "{umask}");
        let (launcher, second) = start();
        stage.log.wait_seen(&format!("{first} got TERM"));

        let verb = nobody(&["restart", path]).start();
        assert_eq!(launcher.finish().code(), Some(0));
        let (launcher, third) = start();
        assert_eq!(verb.finish().code(), Some(0), "{}", stage.log.listing());
        stage.log.wait_seen(&format!("{second} got TERM"));
        assert_eq!(stage.pid_in_file(), Some(third));
        assert_eq!(asked(&["stop", path]), Some(0), "{umask}");
        assert_eq!(launcher.finish().code(), Some(0));
        stage.scratch.wait_no_processes_but(&[]);
        assert_eq!(fs::read_dir(directory).unwrap().count(), 1, "{umask}");
        assert_eq!(stage.log.count("cannot"), 0, "{}", stage.log.listing());
    }
}
