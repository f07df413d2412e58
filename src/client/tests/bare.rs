//! A daemon without a launcher, and two of them that succeed each other.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is how a test fails, in its helpers too"
)]

mod support;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal::{self, SIGINT, SIGPROF, SIGTERM, SIGUSR1, SIGUSR2};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};
use support::{Daemon, Directory, text};

/// Not a test by itself: what the others start.
#[test]
fn daemon() {
    if std::env::var_os("ROLE").is_some() {
        support::serve();
    }
}

fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap()
        .trim()
        .to_owned()
}

/// What a record says of whose it is.
fn home(directory: &Directory) -> String {
    let found = fs::metadata(directory.path("app.pid").parent().unwrap()).unwrap();
    format!("home {}:{} app.pid", found.dev(), found.ino())
}

fn with_pid_file(directory: &Directory) -> Daemon {
    Daemon::bare(&[("PID_FILE", &text(&directory.path("app.pid")))])
}

fn mode(directory: &Directory, name: &str) -> u32 {
    fs::symlink_metadata(directory.path(name))
        .unwrap()
        .permissions()
        .mode()
        & 0o7777
}

/// A process that no daemon knows.
struct Stranger(Child);

impl Stranger {
    fn new() -> Self {
        Stranger(Command::new("sleep").arg("1000").spawn().unwrap())
    }

    fn identity(&self) -> String {
        support::identity(self.0.id())
    }

    /// Which signal ended it: PROF, if nobody has sent it one before. The first deadly signal decides as it is sent.
    fn ended_by(&mut self) -> Option<Signal> {
        kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), SIGPROF).unwrap();
        self.0
            .wait()
            .unwrap()
            .signal()
            .map(|number| Signal::try_from(number).unwrap())
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn without_a_pid_file_nothing_happens() {
    let mut daemon = Daemon::bare(&[("NOTIFY_SOCKET", "/nonexistent/manager")]);
    assert_eq!(daemon.ask("who"), "false None");
    for command in ["started", "status x"] {
        assert_eq!(daemon.ask(command), "ok");
    }
    daemon.signal(SIGUSR2);
    assert_eq!(daemon.ask("next"), "prepare");
    assert_eq!(daemon.ask("done"), "ok");
}

#[test]
fn term_and_int_are_a_drain() {
    for signal in [SIGTERM, SIGINT] {
        let mut daemon = Daemon::bare(&[]);
        daemon.tell("wait").signal(signal);
        daemon.expect("drained");
    }
}

#[test]
fn the_builder_names_the_signals() {
    let [drain, prepare] = [SIGUSR2, SIGUSR1].map(|signal| (signal as i32).to_string());
    let mut daemon = Daemon::bare(&[("DRAIN", &drain), ("PREPARE", &prepare)]);
    assert!(!daemon.has_in_status("SigCgt", SIGTERM));
    daemon.signal(SIGUSR1);
    assert_eq!(daemon.ask("next"), "prepare");
    daemon.signal(SIGUSR2);
    assert_eq!(daemon.ask("next"), "drain");
    let said = Daemon::start({
        let mut command = support::itself("daemon");
        command.env("DRAIN", "9");
        command
    });
    assert!(said.hear().starts_with("Signal: cannot wait for signal 9"));
}

#[test]
fn the_first_writes_its_files() {
    let directory = Directory::new();
    let mut daemon = with_pid_file(&directory);
    assert_eq!(directory.names(), [""; 0]);
    assert_eq!(daemon.ask("started"), "ok");
    assert_eq!(
        directory.names(),
        ["app.pid", "app.pid.lock", "app.pid.record"]
    );
    assert_eq!(
        fs::read_to_string(directory.path("app.pid")).unwrap(),
        format!("{}\n", daemon.pid())
    );
    let record = fs::read_to_string(directory.path("app.pid.record")).unwrap();
    let expected = format!(
        "seamless-record 1.0\nboot {}\nlast 1\n{}\ngeneration 1 state=ready daemon={}\n",
        boot(),
        home(&directory),
        daemon.identity()
    );
    assert_eq!(record, expected);
    assert_eq!(fs::read(directory.path("app.pid.lock")).unwrap(), b"");
    assert_eq!(
        ["app.pid", "app.pid.lock", "app.pid.record"].map(|name| mode(&directory, name)),
        [0o644, 0o600, 0o644]
    );
}

#[test]
fn the_second_succeeds_the_first_and_the_third_only_the_second() {
    let directory = Directory::new();
    let mut daemons: Vec<_> = (0..3).map(|_| with_pid_file(&directory)).collect();
    assert_eq!(daemons[0].ask("started"), "ok");
    daemons[0].tell("wait");
    assert_eq!(daemons[1].ask("started"), "ok");
    daemons[0].expect("drained");
    let record = fs::read_to_string(directory.path("app.pid.record")).unwrap();
    let expected = format!(
        "seamless-record 1.0\nboot {}\nlast 2\n{}\ngeneration 1 state=draining daemon={}\ngeneration 2 state=ready daemon={}\n",
        boot(),
        home(&directory),
        daemons[0].identity(),
        daemons[1].identity()
    );
    assert_eq!(record, expected);
    assert_eq!(
        fs::read_to_string(directory.path("app.pid")).unwrap(),
        format!("{}\n", daemons[1].pid())
    );

    // Without a handle a second TERM would end it, before PROF does.
    assert_eq!(daemons[0].ask("forget"), "forgotten");
    assert_eq!(daemons[2].ask("started"), "ok");
    assert_eq!(daemons[1].ask("wait"), "drained");
    daemons[0].signal(SIGPROF);
    assert_eq!(daemons[0].ended_by(), Some(SIGPROF));
    // Once only: the third is known by its own call.
    assert_eq!(daemons[2].ask("started"), "ok");
    let record = fs::read_to_string(directory.path("app.pid.record")).unwrap();
    assert!(
        record.ends_with(&format!(
            "generation 3 state=ready daemon={}\n",
            daemons[2].identity()
        )),
        "{record}"
    );

    // Who is dead is no longer in it; its number is not given again.
    assert!(daemons[1].leave().success() && daemons[2].leave().success());
    let mut last = with_pid_file(&directory);
    assert_eq!(last.ask("started"), "ok");
    let record = fs::read_to_string(directory.path("app.pid.record")).unwrap();
    assert_eq!(record.lines().count(), 5, "{record}");
    assert!(record.contains("generation 4 state=ready"), "{record}");
}

#[test]
fn starts_at_once_leave_one_that_was_not_told() {
    let directory = Directory::new();
    let mut daemons: Vec<_> = (0..5).map(|_| with_pid_file(&directory)).collect();
    for daemon in &mut daemons {
        daemon.tell("started");
    }
    for daemon in &daemons {
        daemon.expect("ok");
    }
    let record = fs::read_to_string(directory.path("app.pid.record")).unwrap();
    let states = |state: &str| record.lines().filter(|line| line.contains(state)).count();
    assert_eq!(
        (states("state=ready"), states("state=draining")),
        (1, 4),
        "{record}"
    );
    let serving = fs::read_to_string(directory.path("app.pid")).unwrap();
    for daemon in &mut daemons {
        if serving != format!("{}\n", daemon.pid()) {
            assert_eq!(daemon.ask("wait"), "drained");
        }
    }
}

/// Puts a record with a stranger in it, changes something about it, and says what became of the stranger.
fn stranger_in_record(line: &str, change: impl Fn(&Directory)) -> (Option<Signal>, String) {
    let mut stranger = Stranger::new();
    let directory = Directory::new();
    let (pid, start) = stranger
        .identity()
        .split_once(':')
        .map(|(pid, start)| (pid.to_owned(), start.to_owned()))
        .unwrap();
    let line = line.replace("PID", &pid).replace("START", &start);
    let record = directory.path("app.pid.record");
    fs::write(
        &record,
        format!("seamless-record 1.0\nboot {}\n{line}\n", boot()),
    )
    .unwrap();
    fs::set_permissions(&record, Permissions::from_mode(0o644)).unwrap();
    fs::write(directory.path("app.pid"), format!("{pid}\n")).unwrap();
    change(&directory);
    let mut daemon = with_pid_file(&directory);
    assert_eq!(daemon.ask("started"), "ok");
    assert_eq!(
        fs::read_to_string(directory.path("app.pid")).unwrap(),
        format!("{}\n", daemon.pid())
    );
    assert_eq!(
        directory
            .names()
            .iter()
            .filter(|name| name.starts_with("app.pid"))
            .count(),
        3,
        "no file is left over"
    );
    (stranger.ended_by(), fs::read_to_string(record).unwrap())
}

const BELIEVED: &str = "generation 7 state=ready daemon=PID:START";

#[test]
fn a_recorded_daemon_is_told_and_what_is_not_understood_is_kept() {
    let line = "generation 7 new=word state=ready daemon=PID:START more=1\nfuture line";
    let (signal, record) = stranger_in_record(line, |_| {});
    assert_eq!(signal, Some(SIGTERM));
    let line = record.lines().nth(4).unwrap();
    assert!(
        line.starts_with("generation 7 state=draining new=word daemon=")
            && line.ends_with(" more=1"),
        "{record}"
    );
    assert!(
        record.contains("\nfuture line\ngeneration 8 state=ready daemon="),
        "{record}"
    );
    let (signal, _) = stranger_in_record("generation 7 state=starting daemon=PID:START", |_| {});
    assert_eq!(signal, Some(SIGTERM));
}

#[test]
fn a_draining_daemon_is_not_told_twice() {
    let (signal, record) =
        stranger_in_record("generation 7 state=draining daemon=PID:START", |_| {});
    assert_eq!(signal, Some(SIGPROF));
    assert!(
        record.contains("generation 7 state=draining")
            && record.contains("generation 8 state=ready"),
        "{record}"
    );
}

#[test]
fn a_keeper_without_its_daemon_stays_in_the_record() {
    let (signal, record) = stranger_in_record(
        "generation 7 state=ready daemon=PID:1 keeper=PID:START",
        |_| {},
    );
    assert_eq!(signal, Some(SIGPROF));
    assert!(
        record.contains("generation 7 state=ready") && record.contains("generation 8 state=ready"),
        "{record}"
    );
}

#[test]
fn nobody_else_is_ever_told() {
    type Change = fn(&Directory);
    let nothing: Change = |_| {};
    let cases: [(&str, &str, Change); 10] = [
        (
            "another start time",
            "generation 7 state=ready daemon=PID:1",
            nothing,
        ),
        (
            "no start time",
            "generation 7 state=ready daemon=PID",
            nothing,
        ),
        ("only the PID file", "", nothing),
        ("no record", "", |directory| {
            fs::remove_file(directory.path("app.pid.record")).unwrap()
        }),
        ("of another boot", BELIEVED, |directory| {
            let record = fs::read_to_string(directory.path("app.pid.record")).unwrap();
            fs::write(
                directory.path("app.pid.record"),
                record.replace(&boot(), "another"),
            )
            .unwrap();
        }),
        (
            "of another PID file",
            "home 1:2 app.pid\ngeneration 7 state=ready daemon=PID:START",
            nothing,
        ),
        ("writable by its group", BELIEVED, |directory| {
            fs::set_permissions(
                directory.path("app.pid.record"),
                Permissions::from_mode(0o664),
            )
            .unwrap();
        }),
        ("writable by all", BELIEVED, |directory| {
            fs::set_permissions(
                directory.path("app.pid.record"),
                Permissions::from_mode(0o646),
            )
            .unwrap();
        }),
        ("a symbolic link", BELIEVED, |directory| {
            fs::rename(
                directory.path("app.pid.record"),
                directory.path("elsewhere"),
            )
            .unwrap();
            symlink(
                directory.path("elsewhere"),
                directory.path("app.pid.record"),
            )
            .unwrap();
        }),
        ("a FIFO", BELIEVED, |directory| {
            fs::remove_file(directory.path("app.pid.record")).unwrap();
            let status = Command::new("mkfifo")
                .arg(directory.path("app.pid.record"))
                .status()
                .unwrap();
            assert!(status.success());
        }),
    ];
    for (what, line, change) in cases {
        let (signal, record) = stranger_in_record(line, change);
        assert_eq!(signal, Some(SIGPROF), "{what}");
        assert!(
            record.contains("generation 1 state=ready"),
            "{what}: {record}"
        );
    }
}

#[test]
fn a_record_of_somebody_else_is_not_believed() {
    // Only root can give a file away.
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let (signal, record) = stranger_in_record(BELIEVED, |directory| {
        std::os::unix::fs::chown(directory.path("app.pid.record"), Some(65534), None).unwrap();
    });
    assert_eq!(signal, Some(SIGPROF));
    assert!(record.contains("generation 1 state=ready"), "{record}");
}

#[test]
fn a_record_of_a_later_version_is_left_alone() {
    let directory = Directory::new();
    let record = "seamless-record 2.0\nboot x\n";
    fs::write(directory.path("app.pid.record"), record).unwrap();
    let said = with_pid_file(&directory).ask("started");
    assert!(
        said.starts_with("PidFile: ") && said.contains("it has version 2.0"),
        "{said}"
    );
    assert_eq!(
        fs::read_to_string(directory.path("app.pid.record")).unwrap(),
        record
    );
    assert_eq!(directory.names(), ["app.pid.lock", "app.pid.record"]);
}

#[test]
fn a_wrong_path_costs_nobody_a_file() {
    for (what, content) in [
        ("words", "hello\n"),
        ("a number and words", "12 x\n"),
        ("too much", &"1".repeat(33)),
    ] {
        let directory = Directory::new();
        fs::write(directory.path("app.pid"), content).unwrap();
        let said = with_pid_file(&directory).ask("started");
        assert!(
            said.starts_with("PidFile: ") && said.contains("whose content is no PID"),
            "{what}: {said}"
        );
        assert_eq!(
            fs::read_to_string(directory.path("app.pid")).unwrap(),
            content
        );
        assert_eq!(directory.names(), ["app.pid"]);
    }
    let directory = Directory::new();
    fs::create_dir(directory.path("app.pid")).unwrap();
    let said = with_pid_file(&directory).ask("started");
    assert!(
        said.starts_with("PidFile: ") && said.contains("a directory lies there"),
        "{said}"
    );
    assert_eq!(directory.names(), ["app.pid"]);

    let directory = Directory::new();
    let status = Command::new("mkfifo")
        .arg(directory.path("app.pid"))
        .status()
        .unwrap();
    assert!(status.success());
    let said = with_pid_file(&directory).ask("started");
    assert!(
        said.starts_with("PidFile: ") && said.contains("no regular file"),
        "{said}"
    );
    assert!(
        fs::symlink_metadata(directory.path("app.pid"))
            .unwrap()
            .file_type()
            .is_fifo()
    );
}

#[test]
fn an_empty_pid_file_and_a_link_are_replaced() {
    let directory = Directory::new();
    fs::write(directory.path("app.pid"), "").unwrap();
    assert_eq!(with_pid_file(&directory).ask("started"), "ok");

    let directory = Directory::new();
    fs::write(directory.path("precious"), "hello\n").unwrap();
    symlink(directory.path("precious"), directory.path("app.pid")).unwrap();
    let mut daemon = with_pid_file(&directory);
    assert_eq!(daemon.ask("started"), "ok");
    assert_eq!(
        fs::read_to_string(directory.path("precious")).unwrap(),
        "hello\n"
    );
    assert!(
        fs::symlink_metadata(directory.path("app.pid"))
            .unwrap()
            .is_file()
    );
    assert_eq!(
        fs::read_to_string(directory.path("app.pid")).unwrap(),
        format!("{}\n", daemon.pid())
    );
}

#[test]
fn a_link_for_a_lock_is_not_followed() {
    let directory = Directory::new();
    symlink(directory.path("planted"), directory.path("app.pid.lock")).unwrap();
    let said = with_pid_file(&directory).ask("started");
    assert!(said.contains("cannot lock "), "{said}");
    assert_eq!(directory.names(), ["app.pid.lock"]);
}

#[test]
fn what_cannot_be_written_leaves_nothing_behind_and_the_rest_is_done() {
    let directory = Directory::new();
    let mut first = with_pid_file(&directory);
    assert_eq!(first.ask("started"), "ok");
    let mut second = with_pid_file(&directory);
    // No file can be renamed over a directory, whoever tries.
    fs::remove_file(directory.path("app.pid.record")).unwrap();
    fs::create_dir(directory.path("app.pid.record")).unwrap();
    let said = second.ask("started");
    assert!(
        said.starts_with("Io: cannot write ") && said.contains("app.pid.record"),
        "{said}"
    );
    assert_eq!(
        directory.names(),
        ["app.pid", "app.pid.lock", "app.pid.record"]
    );
    // The rest is done.
    assert_eq!(
        fs::read_to_string(directory.path("app.pid")).unwrap(),
        format!("{}\n", second.pid())
    );
}

#[test]
fn a_supervised_pid_file_is_refused_by_name() {
    let directory = Directory::new();
    let lock = File::create(directory.path("app.pid.lock")).unwrap();
    let lock = Flock::lock(lock, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .unwrap();
    let mut stranger = Stranger::new();
    let line = format!(
        "generation 7 state=ready daemon={} keeper=4711:1",
        stranger.identity()
    );
    fs::write(
        directory.path("app.pid.record"),
        format!("seamless-record 1.0\nboot {}\n{line}\n", boot()),
    )
    .unwrap();
    let mut daemon = with_pid_file(&directory);
    let said = daemon.ask("started");
    let holder = format!("generation 7 (daemon {}, keeper 4711)", stranger.0.id());
    assert!(
        said.starts_with("Refused: ")
            && said.contains("it is supervised")
            && said.contains(&holder),
        "{said}"
    );
    assert_eq!(directory.names(), ["app.pid.lock", "app.pid.record"]);
    assert_eq!(stranger.ended_by(), Some(SIGPROF));
    // Free again, and it succeeds.
    drop(lock);
    assert_eq!(daemon.ask("started"), "ok");
}

#[test]
fn a_relative_path_counts_from_where_the_handle_was_made() {
    let directory = Directory::new();
    let mut command = support::itself("daemon");
    command
        .env("PID_FILE", "app.pid")
        .current_dir(directory.path(""));
    assert_eq!(Daemon::up(command).ask("started"), "ok");
    assert!(directory.path("app.pid").exists());
}
