//! What is made of the files that a start finds, and how they are left (§6, R5, R18, R21).

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

use nix::sys::signal::Signal;

use crate::stage::{BY_CHLD, DAEMON, STARTED, Stage, assert_unharmed, innocent};
use crate::support::process::{self, Handle};

/// A whole restart beside whatever lies there; the innocent is named by it.
fn restart(stage: &Stage) {
    let (launcher, first) = stage.daemon(&[], STARTED, BY_CHLD);
    let first_keeper = process::children(launcher.pid())[0];
    launcher.signal(Signal::SIGTERM);
    assert_eq!(launcher.finish().code(), Some(0));
    let (launcher, second) = stage.daemon(&[], STARTED, BY_CHLD);
    stage
        .log
        .wait_seen(&format!("(pid {first}) is gone: exit status 0"));
    // Its successor's keeper sees that, and takes it out of the record.
    process::wait_exit(first_keeper);
    assert_eq!(stage.pid_in_file(), Some(second));
    launcher.signal(Signal::SIGHUP);
    stage.log.wait_for(&format!("{second} got HUP"));
    assert_eq!(stage.generations().len(), 1, "{}", stage.record());
    launcher.signal(Signal::SIGINT);
    assert_eq!(launcher.finish().code(), Some(0));
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap()
        .trim()
        .to_owned()
}

fn record_of(pid: process::Pid, start: u64, boot: &str) -> String {
    format!(
        "seamless-record 1.0\nboot {boot}\ngeneration 4 state=ready daemon={pid}:{start} keeper={pid}:{start} launcher={pid}:{start}\n"
    )
}

#[test]
fn a_stale_pid_file_that_names_a_living_stranger() {
    let stage = Stage::new();
    let stranger = innocent(&stage);
    fs::write(&stage.pid_file, format!("{}\n", stranger.pid())).unwrap();
    restart(&stage);
    assert_eq!(stage.log.count("removing the stale PID file"), 1);
    assert_unharmed(&stage, &stranger);
}

#[test]
fn a_pid_file_that_another_user_planted() {
    let stage = Stage::new();
    let stranger = innocent(&stage);
    let directory = stage.pid_file.parent().unwrap();
    fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(&stage.pid_file, format!("{}\n", stranger.pid())).unwrap();
    chown(&stage.pid_file, Some(65534), Some(65534)).unwrap();
    restart(&stage);
    assert_unharmed(&stage, &stranger);
}

#[test]
fn records_that_are_not_believed() {
    let stage = Stage::new();
    let stranger = innocent(&stage);
    let identity = stranger.identity();
    let path = stage.beside(".record");
    let plant = |text: String, owner: u32, mode: u32| {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        chown(&path, Some(owner), None).unwrap();
        fs::write(&stage.pid_file, format!("{}\n", stranger.pid())).unwrap();
    };
    let genuine = record_of(stranger.pid(), identity.start, &boot_id());
    for (text, owner, mode, complaint) in [
        (
            record_of(stranger.pid(), identity.start + 1, &boot_id()),
            0,
            0o644,
            "",
        ),
        (
            record_of(stranger.pid(), identity.start, "another-boot"),
            0,
            0o644,
            "",
        ),
        (genuine.clone(), 65534, 0o644, "owner 65534"),
        (genuine.clone(), 0, 0o664, "mode 664"),
        (genuine.clone(), 0, 0o646, "mode 646"),
        (
            genuine.replace("record 1.0", "record 2.0"),
            0,
            0o644,
            "version 2.0",
        ),
        ("\0\u{1}".to_owned(), 0, 0o644, "is not a record"),
        (String::new(), 0, 0o644, "is not a record"),
    ] {
        plant(text, owner, mode);
        restart(&stage);
        assert!(
            stage.log.count(complaint) > 0,
            "{complaint}: {}",
            stage.log.listing()
        );
        fs::remove_file(&path).ok();
        stage.scratch.wait_no_processes_but(&[stranger.pid()]);
    }
    assert_unharmed(&stage, &stranger);

    // The same record, believed: it is what a predecessor would have left.
    plant(genuine, 0, 0o644);
    let (launcher, _) = stage.daemon(&[], STARTED, BY_CHLD);
    stage.log.wait_seen(&format!("{} got TERM", stranger.pid()));
    stage.stop(launcher, &[]);
}

#[test]
fn a_symbolic_link_is_replaced_and_not_followed() {
    let stage = Stage::new();
    let stranger = innocent(&stage);
    let victim = stage.scratch.join("victim");
    let content = format!("{}\n", stranger.pid());
    fs::write(&victim, &content).unwrap();
    for ending in ["", ".record"] {
        symlink(&victim, stage.beside(ending)).unwrap();
    }
    restart(&stage);
    assert_eq!(fs::read_to_string(&victim).unwrap(), content);
    assert_unharmed(&stage, &stranger);

    // A lock that leads elsewhere is not opened at all.
    fs::remove_file(stage.beside(".lock")).unwrap();
    symlink(&victim, stage.beside(".lock")).unwrap();
    let ended = stage.seamless_run(&["true"]).finish();
    assert_eq!(ended.code(), Some(125));
    stage.log.wait_for("cannot open the lock");
    assert_eq!(fs::read_to_string(&victim).unwrap(), content);
}

#[test]
fn what_is_no_pid_file_is_not_ours_to_remove() {
    let stage = Stage::new();
    fs::write(&stage.pid_file, "precious notes\n").unwrap();
    let refused = |words: &str| {
        assert_eq!(stage.seamless_run(&["true"]).finish().code(), Some(125));
        stage.log.wait_for(words);
    };
    refused("holds something else than a PID; remove it, or name another file");
    assert_eq!(
        fs::read_to_string(&stage.pid_file).unwrap(),
        "precious notes\n"
    );
    fs::remove_file(&stage.pid_file).unwrap();
    fs::create_dir(&stage.pid_file).unwrap();
    refused("is not a regular file");
    fs::remove_dir(&stage.pid_file).unwrap();
    nix::unistd::mkfifo(&stage.pid_file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    refused("is not a regular file");
    fs::remove_file(&stage.pid_file).unwrap();

    // What a full disk leaves of a PID file is one all the same.
    fs::write(&stage.pid_file, "").unwrap();
    restart(&stage);
    assert_eq!(stage.log.count("removing the empty PID file"), 1);
}

/// An ordinary user, in a directory of its own with files of root's.
#[test]
fn files_that_cannot_be_read_or_belong_to_others() {
    let stage = Stage::new();
    let directory = stage.pid_file.parent().unwrap();
    chown(directory, Some(65534), Some(65534)).unwrap();
    let program = stage.program_for_all();
    let nobody = |words: &[&str]| {
        stage
            .spawn("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&program)
            .arg("-p")
            .arg(&stage.pid_file)
            .args(words)
            .finish()
    };
    fs::write(&stage.pid_file, "1\n").unwrap();
    fs::set_permissions(&stage.pid_file, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(nobody(&["true"]).code(), Some(125));
    stage
        .log
        .wait_for("cannot be read (Permission denied); remove it, or name another file");
    fs::remove_file(&stage.pid_file).unwrap();

    fs::remove_file(stage.beside(".lock")).unwrap();
    fs::write(stage.beside(".lock"), "").unwrap();
    fs::set_permissions(stage.beside(".lock"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(nobody(&["true"]).code(), Some(125));
    stage.log.wait_for("cannot open the lock");
    fs::remove_file(stage.beside(".lock")).unwrap();

    assert_eq!(nobody(&["true"]).code(), Some(0));
    chown(directory, Some(0), Some(0)).unwrap();
    fs::remove_file(stage.beside(".lock")).unwrap();
    assert_eq!(nobody(&["true"]).code(), Some(125));
    stage.log.wait_for("cannot open the lock");
}

#[test]
fn modes_do_not_depend_on_the_umask() {
    let stage = Stage::new();
    let script = format!(
        "umask 0; exec {} -p {} -- sh -c \"$DAEMON\"",
        crate::support::program().display(),
        stage.pid_file.display()
    );
    let launcher = stage
        .spawn("sh")
        .args(["-c", &script])
        .env("DAEMON", DAEMON)
        .env("READY", STARTED)
        .start();
    stage.log.wait_for("is started");
    let mode = |ending: &str| fs::symlink_metadata(stage.beside(ending)).unwrap().mode() & 0o7777;
    assert_eq!(
        [mode(""), mode(".record"), mode(".lock"), mode(".sock")],
        [0o644, 0o644, 0o600, 0o600]
    );
    let names = fs::read_dir(stage.pid_file.parent().unwrap())
        .unwrap()
        .count();
    assert_eq!(names, 4, "nothing else lies there");
    stage.stop(launcher, &[]);
    assert_eq!(
        fs::read_dir(stage.pid_file.parent().unwrap())
            .unwrap()
            .count(),
        1,
        "the lock stays"
    );
}

/// A generation that dies takes back what it wrote, and leaves what is its predecessor's.
#[test]
fn the_files_of_a_new_generation_that_dies() {
    let stage = Stage::new();
    let (launcher, first) = stage.daemon(&[], STARTED, BY_CHLD);
    launcher.signal(Signal::SIGTERM);
    assert_eq!(launcher.finish().code(), Some(0));
    let generations = stage.generations();
    assert_eq!(
        stage.seamless_run(&["sh", "-c", "exit 4"]).finish().code(),
        Some(4)
    );
    let line = stage.log.wait_for("died before it was ready");
    assert!(
        line.contains(&format!("still serving: generation 1 (pid {first})")),
        "{line}"
    );
    assert_eq!(stage.generations(), generations);
    assert_eq!(stage.pid_in_file(), Some(first));

    // The last one's end leaves nothing.
    Handle::open(first).unwrap().signal(Signal::SIGKILL);
    stage.log.wait_for("died in standby: killed by KILL");
    stage.scratch.wait_no_processes_but(&[]);
    assert_eq!(stage.pid_in_file(), None);
    assert_eq!(stage.record(), "");
}

/// An older generation that goes while another one has the files: that one's keeper forgets it.
#[test]
fn the_files_of_a_predecessor_that_dies() {
    let stage = Stage::new();
    let (launcher, first) = stage.daemon(&[], STARTED, BY_CHLD);
    launcher.signal(Signal::SIGTERM);
    assert_eq!(launcher.finish().code(), Some(0));
    let (launcher, second) = stage.daemon(&[], "", BY_CHLD);
    assert_eq!(stage.generations().len(), 2);
    Handle::open(first).unwrap().signal(Signal::SIGKILL);
    stage.log.wait_for("died in standby: killed by KILL");
    // What follows is told to the keeper after it has seen that end.
    launcher.signal(Signal::SIGHUP);
    stage.log.wait_for(&format!("{second} got HUP"));
    assert_eq!(stage.generations().len(), 1, "{}", stage.record());
    assert_eq!(
        stage.pid_in_file(),
        None,
        "it would name a stranger some day"
    );
    stage.stop(launcher, &[]);
    let left = fs::read_dir(stage.pid_file.parent().unwrap()).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["app.pid.lock"], "{}", stage.log.listing());
}

/// Somebody tidied up too much: the PID file goes all the same.
#[test]
fn the_pid_file_of_a_generation_whose_record_was_removed() {
    let stage = Stage::new();
    let (launcher, _) = stage.daemon(&[], STARTED, BY_CHLD);
    fs::remove_file(stage.beside(".record")).unwrap();
    stage.stop(launcher, &[]);
    assert_eq!(stage.pid_in_file(), None);
}

/// A daemon whose launcher and keeper were KILLed goes on; the next start knows it by the record.
#[test]
fn a_daemon_whose_keeper_was_killed_is_a_predecessor() {
    let stage = Stage::new();
    let (mut launcher, first) = stage.daemon(&[], STARTED, BY_CHLD);
    let keeper = process::children(launcher.pid())[0];
    // The launcher first: it would start another keeper.
    launcher.signal(Signal::SIGSTOP);
    Handle::open(keeper).unwrap().signal(Signal::SIGKILL);
    launcher.kill();
    assert!(process::alive(first));
    let (launcher, second) = stage.daemon(&[], STARTED, BY_CHLD);
    stage
        .log
        .wait_seen(&format!("now draining: generation 1 (pid {first})"));
    stage.log.wait_seen(&format!("{first} got TERM"));
    process::wait_exit(first);
    assert_eq!(stage.pid_in_file(), Some(second));
    stage.stop(launcher, &[]);
}

/// A launcher that was KILLed leaves keeper and daemon in standby.
#[test]
fn a_daemon_whose_launcher_was_killed_serves_on() {
    let stage = Stage::new();
    let (mut launcher, first) = stage.daemon(&[], STARTED, BY_CHLD);
    launcher.kill();
    stage.log.wait_for("the launcher of generation 1");
    assert!(process::alive(first));
    let (launcher, second) = stage.daemon(&[], STARTED, BY_CHLD);
    stage.log.wait_seen(&format!(
        "generation 1 (pid {first}) is gone: exit status 0"
    ));
    assert_eq!(stage.pid_in_file(), Some(second));
    stage.stop(launcher, &[]);
}

/// Two that go at the same moment: one of them is the last, and takes everything away.
#[test]
fn generations_that_end_together_leave_nothing() {
    for _ in 0..10 {
        let stage = Stage::new();
        // It goes on draining.
        let slow = format!("trap 'echo \"$$ got TERM\"' TERM; {STARTED}");
        let (launcher, first) = stage.daemon(&[], &slow, BY_CHLD);
        launcher.signal(Signal::SIGTERM);
        assert_eq!(launcher.finish().code(), Some(0));
        let (launcher, second) = stage.daemon(&[], STARTED, BY_CHLD);
        stage.log.wait_seen(&format!("{first} got TERM"));
        launcher.signal(Signal::SIGTERM);
        assert_eq!(launcher.finish().code(), Some(0));
        for daemon in [first, second].map(|pid| Handle::open(pid).unwrap()) {
            daemon.signal(Signal::SIGKILL);
        }
        stage.scratch.wait_no_processes_but(&[]);
        let left = fs::read_dir(stage.pid_file.parent().unwrap()).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["app.pid.lock"], "{}", stage.log.listing());
    }
}

/// A launcher that is KILLed while its keeper still waits for the lock is lost all the same.
#[test]
fn a_launcher_killed_before_the_daemon_was_started() {
    let stage = Stage::new();
    let lock = fs::File::create(stage.beside(".lock")).unwrap();
    let held = nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusive).unwrap();
    let mut launcher = stage
        .seamless_run(&["--"])
        .args(stage.sh(DAEMON))
        .env("READY", STARTED)
        .env("PREPARE", BY_CHLD)
        .start();
    while process::children(launcher.pid()).is_empty() {
        std::thread::yield_now();
    }
    launcher.kill();
    drop(held);
    stage.log.wait_seen("the launcher of generation 1");
    stage.up();
    stage.log.wait_for("is started");
    let (launcher, second) = stage.daemon(&[], STARTED, BY_CHLD);
    stage.log.wait_seen("is gone: exit status 0");
    assert_eq!(stage.pid_in_file(), Some(second));
    stage.stop(launcher, &[]);
}

/// A keeper that is KILLed between its record and its word to the predecessor: the next one says it.
#[test]
fn a_keeper_killed_in_the_middle_of_its_commit() {
    let stage = Stage::new();
    let (launcher, first) = stage.daemon(&[], STARTED, BY_CHLD);
    launcher.signal(Signal::SIGTERM);
    assert_eq!(launcher.finish().code(), Some(0));
    let gate = stage.scratch.join("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let ready = format!(
        r#"read -r _ <{}; "$SEAMLESS_RUN" notify started; echo "$$ has asked""#,
        gate.display()
    );
    let launcher = stage
        .seamless_run(&["--"])
        .args(stage.sh(DAEMON))
        .env("READY", ready)
        .env("PREPARE", BY_CHLD)
        .start();
    let second = stage.up();
    let keeper = process::children(launcher.pid())[0];
    let strace = stage
        .spawn(crate::support::tool("strace", "strace"))
        .args(["-o", "/dev/null", "-e", "trace=sendmsg", "-e"])
        .arg("inject=sendmsg:signal=KILL:error=EPERM:when=1")
        .args(["-p", &keeper.to_string()])
        .start();
    stage.log.wait_for("attached");
    fs::write(&gate, "now\n").unwrap();
    stage.log.wait_seen(&format!("{second} has asked"));
    stage.log.wait_seen(&format!(
        "the keeper of generation 2 (pid {second}) was lost"
    ));
    stage.log.wait_seen(&format!("{first} got TERM"));
    process::wait_exit(first);
    assert_eq!(stage.pid_in_file(), Some(second));
    assert_eq!(stage.log.count(&format!("{second} got TERM")), 0);
    drop(strace);
    stage.stop(launcher, &[]);
}

#[test]
fn the_proc_of_another_pid_namespace_is_not_believed() {
    let stage = Stage::new();
    let ended = stage
        .spawn("unshare")
        .args(["-p", "-f", "--kill-child"])
        .arg(crate::support::program())
        .arg("-p")
        .arg(&stage.pid_file)
        .arg("true")
        .finish();
    assert_eq!(ended.code(), Some(125));
    stage
        .log
        .wait_for("/proc belongs to another PID namespace; mount it anew");
}
