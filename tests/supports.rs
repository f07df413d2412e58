//! The support of the integration tests, tested by itself: if this fails, no other failure means anything.

#![expect(clippy::unwrap_used, reason = "a failed call is a failed test")]

mod support;

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::sys::signal::Signal;
use support::process::{self, Pid};
use support::service::Output;
use support::{Kind, Log, Scratch, Service, Spawn, Supervisor, Systemd, Verb, executable, network};

/// Says when it is up and what it gets. It waits in a read, so it has no children. In bash, whose reads can end: a signal
/// that comes a moment before one is left until then.
const DAEMON: &str = r#"
    trap 'echo got HUP' HUP
    trap 'echo got TERM; exit 0' TERM
    exec 3<>"$1"
    echo "up $$"
    while :; do read -r -t 1 _ <&3; done
"#;

fn daemon(scratch: &Scratch) -> Vec<OsString> {
    let fifo = scratch.join("nothing");
    if !fifo.exists() {
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    ["bash", "-c", DAEMON, "daemon"]
        .map(OsString::from)
        .into_iter()
        .chain([fifo.into()])
        .collect()
}

/// The PID in a line `up PID`, as the daemon knows it.
fn pid_of(line: &str) -> Pid {
    Pid::from_raw(line.strip_prefix("up ").unwrap().parse().unwrap())
}

/// The main process, after the daemon said `up PID`, and that it is the one that spoke.
fn main_pid(supervisor: &dyn Supervisor, line: &str) -> Pid {
    let pid = supervisor.wait_main_pid();
    let inside = match supervisor.kind() {
        Kind::Systemd => Systemd::inside_of(pid),
        Kind::Runit | Kind::Daemontools | Kind::S6 | Kind::Supervisord => pid,
    };
    assert_eq!(inside, pid_of(line), "{}", supervisor.name());
    pid
}

fn restart_down_up(kind: Kind) {
    let scratch = Scratch::new();
    let log = Log::new(&scratch, "log");
    let service = Service::new(daemon(&scratch));
    let mut supervisor = kind.start(&scratch, &log, &service);
    let first = main_pid(&*supervisor, &log.wait_for("up "));

    supervisor.restart().expect_success();
    log.wait_for("got TERM");
    let second = main_pid(&*supervisor, &log.wait_for("up "));
    assert_ne!(first, second);
    assert!(!process::alive(first));

    supervisor
        .run(Verb::Signal(Signal::SIGHUP))
        .expect_success();
    log.wait_for("got HUP");
    assert_eq!(supervisor.main_pid(), Some(second));

    // TERM without a wish to be down: it comes again by itself.
    supervisor.term().expect_success();
    log.wait_for("got TERM");
    let third = main_pid(&*supervisor, &log.wait_for("up "));

    supervisor.want_down().expect_success();
    log.wait_for("got TERM");
    process::wait_exit(third);
    scratch.wait_no_processes_but(&supervisor.own_processes());
    assert_eq!(supervisor.main_pid(), None);
    assert_eq!(log.count("up "), 3);

    supervisor.want_up().expect_success();
    let fourth = main_pid(&*supervisor, &log.wait_for("up "));

    supervisor.shutdown();
    if kind == Kind::Systemd {
        process::wait_exit(fourth);
    } else {
        let left = scratch.processes();
        assert_eq!(left.len(), 1, "{}", process::list(&left));
        assert_eq!(left[0].pid, fourth);
        assert_eq!(log.count("got TERM"), 3, "nobody asked the service");
        process::Handle::open(fourth)
            .unwrap()
            .signal(Signal::SIGKILL);
    }
    scratch.wait_no_processes_but(&[]);
    supervisor.shutdown();
}

#[test]
fn runit_restarts_stops_and_starts() {
    restart_down_up(Kind::Runit);
}

#[test]
fn daemontools_restarts_stops_and_starts() {
    restart_down_up(Kind::Daemontools);
}

#[test]
fn s6_restarts_stops_and_starts() {
    restart_down_up(Kind::S6);
}

#[test]
fn systemd_restarts_stops_and_starts() {
    restart_down_up(Kind::Systemd);
}

#[test]
fn supervisord_restarts_stops_and_starts() {
    restart_down_up(Kind::Supervisord);
}

#[test]
fn each_leaves_on_its_own_verb_and_can_be_started_again() {
    for kind in Kind::ALL {
        let scratch = Scratch::new();
        let log = Log::new(&scratch, "log");
        let service = Service::new(daemon(&scratch));
        for _ in 0..2 {
            let mut supervisor = kind.start(&scratch, &log, &service);
            main_pid(&*supervisor, &log.wait_for("up "));
            supervisor.run(Verb::Exit).expect_success();
            log.wait_for("got TERM");
            supervisor.wait_exit();
            scratch.wait_no_processes_but(&[]);
        }
    }
}

#[test]
fn each_gives_the_service_what_was_asked_for() {
    // Everything that one of sh, systemd and supervisord would take for something else.
    let odd = "a 'b' \"c\" $HOME ${HOME} %n \\n ; # é";
    for kind in Kind::ALL {
        for setup in [false, true] {
            let scratch = Scratch::new();
            let log = Log::new(&scratch, "log");
            let script = r#"printf '%s\n' "argument $1" "variable $ODD" "limit $(ulimit -n)"; echo error >&2"#;
            let mut argv = daemon(&scratch);
            // What it prints comes before the daemon's own words.
            argv[2] = format!("{script}\nshift\n{DAEMON}").into();
            argv.insert(4, odd.into());
            let mut service = Service::new(argv).env("ODD", odd);
            if setup {
                service = service.setup("ulimit -n 64");
            }
            let supervisor = kind.start(&scratch, &log, &service);
            log.wait(|line| line == format!("argument {odd}"));
            log.wait(|line| line == format!("variable {odd}"));
            let limit = log.wait_for("limit ");
            assert_eq!(limit == "limit 64", setup, "{}: {limit}", supervisor.name());
            log.wait_for("error");
            main_pid(&*supervisor, &log.wait_for("up "));
        }
    }
}

#[test]
fn runit_and_s6_run_the_finish_script() {
    for (kind, ended, killed) in [
        (Kind::Runit, "finish 0 0", "finish -1 9"),
        (Kind::S6, "finish 0 0", "finish 256 9"),
    ] {
        let scratch = Scratch::new();
        let log = Log::new(&scratch, "log");
        let service = Service::new(daemon(&scratch)).finish(r#"echo "finish $1 $2""#);
        let supervisor = kind.start(&scratch, &log, &service);
        log.wait_for("up ");
        supervisor.term().expect_success();
        assert_eq!(log.wait_for("finish"), ended);
        log.wait_for("up ");
        supervisor
            .run(Verb::Signal(Signal::SIGKILL))
            .expect_success();
        assert_eq!(log.wait_for("finish"), killed);
        log.wait_for("up ");
    }
}

#[test]
fn each_takes_its_own_settings() {
    let scratch = Scratch::new();
    let log = Log::new(&scratch, "log");
    let service = Service::new(daemon(&scratch))
        .script(
            "control/t",
            "#!/bin/sh\nexec kill -HUP \"$(cat supervise/pid)\"\n",
        )
        .file("down-signal", "SIGHUP\n")
        .unit("PropagatesStopTo=other.target")
        .unit_service("RestartKillSignal=SIGHUP\nTimeoutStopSec=infinity")
        .program("stopsignal=HUP\nstopwaitsecs=600");
    for kind in Kind::ALL {
        if kind == Kind::Daemontools {
            // Nothing in its service directory changes what it does.
            continue;
        }
        let supervisor = kind.start(&scratch, &log, &service);
        log.wait_for("up ");
        // The daemon survives what these are set to, so some of the verbs do not end.
        let restart = supervisor.begin(Verb::Restart);
        log.wait_for("got HUP");
        drop(restart);
    }
}

#[test]
fn the_supervisor_can_keep_the_output() {
    let scratch = Scratch::new();
    let log = Log::new(&scratch, "log");
    let told = format!("echo kept; echo told >>{}", log.path().display());
    let service = Service::new(daemon(&scratch))
        .setup(told)
        .output(Output::Supervisor);
    for (kind, file) in [
        (Kind::Systemd, "systemd-app.out"),
        (Kind::Supervisord, "supervisord/app.out"),
    ] {
        let supervisor = kind.start(&scratch, &log, &service);
        log.wait_for("told");
        supervisor.want_down().expect_success();
        let kept = fs::read_to_string(scratch.join(file)).unwrap();
        assert!(kept.starts_with("kept\n"), "{kept}");
    }
    assert_eq!(log.lines(), ["told"; 2]);
}

#[test]
fn systemd_leaves_no_cgroup_and_keeps_out_of_the_machine() {
    let scratch = Scratch::new();
    let log = Log::new(&scratch, "log");
    let identity = fs::read_to_string("/etc/machine-id").ok();
    let name = scratch.path().file_name().unwrap().to_owned();
    // As everybody sees it: v2, or v2 beside v1. Where it is mounted nowhere, there is nothing to be seen.
    let groups = |name| {
        fs::read_dir("/sys/fs/cgroup/unified")
            .or_else(|_| fs::read_dir("/sys/fs/cgroup"))
            .map_or(0, |entries| {
                entries
                    .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.file_name() == name))
                    .count()
            })
    };

    let systemd = Systemd::start(&scratch, &log, &Service::new(daemon(&scratch)));
    log.wait_for("up ");
    let init = systemd.init();
    assert_eq!(
        process::status_field(init, "NSpid").unwrap(),
        format!("{init}\t1")
    );
    assert_eq!(systemd.property("ActiveState"), "active");
    assert_eq!(
        systemd.property("ControlGroup"),
        "/system.slice/app.service"
    );
    let environment = systemd
        .systemctl(&["show-environment"])
        .finish()
        .expect_success();
    assert!(!environment.stdout.contains("NOTIFY_SOCKET"));
    let main = systemd.main_pid().unwrap();
    let its = fs::read_to_string(format!("/proc/{main}/environ")).unwrap();
    assert!(!its.contains("NOTIFY_SOCKET"), "{its}");
    systemd.messages().wait_for("app.service");

    drop(systemd);
    assert!(!process::alive(init));
    assert_eq!(groups(name), 0);
    assert_eq!(fs::read_to_string("/etc/machine-id").ok(), identity);
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(scratch.path().to_str().unwrap()));
}

#[test]
fn dropping_the_scratch_ends_whatever_was_started() {
    let scratch = Scratch::new();
    let directory = scratch.path().to_owned();
    let log = Log::new(&scratch, "log");
    // An orphan in a session of its own that ignores every polite word, and one that breeds.
    let script = r#"
        setsid sh -c 'trap "" TERM HUP INT; echo orphan $$; while :; do sleep 1000; done' &
        setsid sh -c 'echo breeder $$; while :; do sleep 0.01 & wait; done' &
        exit 0
    "#;
    let shell = Spawn::new(&scratch, "sh")
        .args(["-c", script])
        .output_to(&log);
    shell.finish().expect_success();
    let orphans = log.wait_for_all(&["orphan ", "breeder "]);
    let orphans: Vec<Pid> = orphans
        .iter()
        .map(|line| Pid::from_raw(line.split_once(' ').unwrap().1.parse().unwrap()))
        .collect();
    assert!(scratch.processes().len() >= 2);

    // Another test's processes are none of ours.
    let other = Scratch::new();
    let bystander = Spawn::new(&other, "sleep").arg("1000").start();
    let unwound = catch_unwind(AssertUnwindSafe(move || {
        let _scratch = scratch;
        panic!("a failing test");
    }));
    assert!(unwound.is_err());
    assert!(orphans.iter().all(|&pid| !process::alive(pid)));
    assert!(!directory.exists());
    assert!(bystander.alive());
}

#[test]
fn what_a_killed_test_run_left_is_ended_by_the_next() {
    // Directories of another place, so that no other test of this machine takes them for its own.
    let place = tempfile::tempdir().unwrap();
    let [left, held] = ["left", "held"].map(|name| {
        let directory = place.path().join(format!("seamless-test-{name}"));
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("owner"), "").unwrap();
        directory
    });
    let owner = fs::File::open(held.join("owner")).unwrap();
    let lock = nix::fcntl::Flock::lock(owner, nix::fcntl::FlockArg::LockExclusive);
    let lock = lock.map_err(|(_, error)| error).unwrap();

    let start = |mark: &Path| {
        Spawn::new(&Scratch::new(), "sleep")
            .arg("1000")
            .env("SEAMLESS_TEST", mark)
            .start()
    };
    let mut orphan = start(&left);
    let living = start(&held);
    // In the middle of its exec a process shows no environment.
    for mark in [&left, &held] {
        while support::scratch::processes_of(mark).is_empty() {
            thread::yield_now();
        }
    }
    support::scratch::sweep(place.path());
    orphan.wait();
    assert!(living.alive());
    assert!(!left.exists());
    assert!(held.exists());
    drop(lock);
}

#[test]
fn waiting_for_the_end_of_all_but_some() {
    let scratch = Scratch::new();
    let log = Log::new(&scratch, "log");
    let stays = Spawn::new(&scratch, "sleep").arg("1000").start();
    let goes = Spawn::new(&scratch, "sh").args(["-c", "echo here; read -r _"]);
    let (ours, its) = UnixStream::pair().unwrap();
    let goes = goes.stdin(OwnedFd::from(its)).output_to(&log).start();
    log.wait_for("here");
    // In the middle of its exec a process shows no environment.
    while scratch.processes().len() < 2 {
        thread::yield_now();
    }
    let listed = scratch.processes();
    let line = process::list(&listed);
    assert!(
        line.contains(&format!(
            "{} (child of {}, sleep): sleep 1000",
            stays.pid(),
            std::process::id()
        )),
        "{line}"
    );
    let mut pids: Vec<Pid> = listed.iter().map(|process| process.pid).collect();
    pids.sort();
    let mut expected = [stays.pid(), goes.pid()];
    expected.sort();
    assert_eq!(pids, expected);
    drop(ours);
    scratch.wait_no_processes_but(&[stays.pid()]);
    assert!(
        !goes.alive(),
        "a zombie, not yet reaped, is no living process"
    );
}

#[test]
fn a_process_is_seen_from_outside() {
    let scratch = Scratch::new();
    let log = Log::new(&scratch, "log");
    let script = r#"trap '' USR1; trap 'exit 3' TERM; sleep 1000 & echo child $!; wait"#;
    let mut parent = Spawn::new(&scratch, "sh")
        .args(["-c", script])
        .output_to(&log)
        .start();
    let child = log.wait_for("child ");
    let child = Pid::from_raw(child.split_once(' ').unwrap().1.parse().unwrap());

    assert_eq!(process::children(parent.pid()), [child]);
    assert_eq!(parent.identity(), process::identity(parent.pid()).unwrap());
    assert!(parent.identity().start <= process::identity(child).unwrap().start);
    let ignored =
        u64::from_str_radix(&process::status_field(parent.pid(), "SigIgn").unwrap(), 16).unwrap();
    assert_ne!(ignored & (1 << (Signal::SIGUSR1 as i32 - 1)), 0);
    assert_eq!(process::status_field(parent.pid(), "NoSuchField"), None);

    parent.signal(Signal::SIGTERM);
    process::wait_exit(parent.pid());
    assert!(!process::alive(parent.pid()));
    assert!(
        process::identity(parent.pid()).is_some(),
        "its zombie still has the number"
    );
    assert_eq!(parent.wait().code(), Some(3));
    assert_eq!(process::identity(parent.pid()), None);
    assert!(process::alive(child));
}

#[test]
fn a_log_goes_forward() {
    let scratch = Scratch::new();
    let log = Log::new(&scratch, "log");
    let shell =
        Spawn::new(&scratch, "sh").args(["-c", "printf 'a 1\\nb 1\\na 2\\nc 1\\nb 2\\nno end'"]);
    shell.output_to(&log).finish().expect_success();
    assert_eq!(log.wait_for("a"), "a 1");
    assert_eq!(log.wait_for("a"), "a 2");
    assert_eq!(log.wait_for_all(&["b", "c"]), ["b 2", "c 1"]);
    assert_eq!(log.count("a"), 2);
    assert_eq!(log.lines(), ["a 1", "b 1", "a 2", "c 1", "b 2"]);

    // Ten times what a FIFO holds.
    let mut writer = fs::OpenOptions::new()
        .append(true)
        .open(log.path())
        .unwrap();
    for number in 0..40_000 {
        writeln!(writer, " line {number:09}").unwrap();
    }
    assert_eq!(log.wait_for("line 000039999"), " line 000039999");
    assert_eq!(log.lines()[5], "no end line 000000000");
}

/// Whatever thread was faster: what a process has written before it ended is there.
#[test]
fn a_log_has_what_was_written_until_now() {
    let scratch = Scratch::new();
    let log = Log::new(&scratch, "log");
    let mut writer = fs::OpenOptions::new()
        .append(true)
        .open(log.path())
        .unwrap();
    for number in 1..=10_000 {
        writeln!(writer, "line").unwrap();
        assert_eq!(log.count("line"), number);
    }
    assert_eq!(log.length(), 10_000);
    writeln!(writer, "last").unwrap();
    assert_eq!(log.lines().last().unwrap(), "last");
}

/// Other tests fork all the time, and their children have open what was open then.
#[test]
fn what_was_written_can_be_executed_at_once() {
    let scratch = Scratch::new();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    // With one to be inherited it is a fork, which takes longer.
                    let null = fs::File::open("/dev/null").unwrap();
                    let child = Spawn::new(&scratch, "true").descriptor(7, null);
                    child.finish().expect_success();
                }
            });
        }
        for _ in 0..500 {
            let path = scratch.join("program");
            executable::write(&path, b"#!/bin/sh\nexit 3\n", 0o755);
            let ended = catch_unwind(|| Spawn::new(&scratch, &path).finish().code());
            over.store(ended.is_err(), Ordering::Relaxed);
            assert_eq!(ended.unwrap(), Some(3));
        }
        over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn what_a_test_writes_can_be_read_by_a_daemon_of_every_user() {
    let scratch = Scratch::new();
    let file = scratch.join("file");
    fs::write(&file, "").unwrap();
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
}

/// From a script's background, under nohup, with a strict umask, with a descriptor too many.
#[test]
fn however_the_tests_were_started() {
    let scratch = Scratch::new();
    let script = r#"trap '' TERM HUP; umask 077; exec "$0" --exact "$@""#;
    let null = fs::File::open("/dev/null").unwrap();
    Spawn::new(&scratch, "sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .args([
            // With a shell that traps TERM; with the descriptor 117; with the umask.
            "a_process_is_seen_from_outside",
            "a_child_inherits_descriptors_under_chosen_numbers",
            "what_a_test_writes_can_be_read_by_a_daemon_of_every_user",
        ])
        .descriptor(117, null)
        .finish()
        .expect_success();
}

#[test]
fn a_child_inherits_descriptors_under_chosen_numbers() {
    let scratch = Scratch::new();
    let (mut first, its_first) = UnixStream::pair().unwrap();
    let (mut second, its_second) = UnixStream::pair().unwrap();
    // bash: dash knows no numbers above 9.
    let script = "printf one >&3; printf two >&17; pwd; echo $WORD; echo oops >&2; exit 4";
    let finished = Spawn::new(&scratch, "bash")
        .args(["-c", script])
        .env("WORD", "word")
        .directory(scratch.path())
        // Where they are now is where the other one goes, perhaps.
        .descriptor(17, its_second)
        .descriptor(3, its_first)
        .finish();
    for (stream, expected) in [(&mut first, "one"), (&mut second, "two")] {
        let mut read = String::new();
        stream.read_to_string(&mut read).unwrap();
        assert_eq!(read, expected);
    }
    assert_eq!(finished.code(), Some(4));
    assert_eq!(finished.stderr, "oops\n");
    let lines: Vec<&str> = finished.stdout.lines().collect();
    assert_eq!(lines, [scratch.path().to_str().unwrap(), "word"]);

    // No more than that one, but for what cargo itself was started with.
    let listed = |spawn: Spawn| {
        let finished = spawn.arg("/proc/self/fd").finish().expect_success();
        finished
            .stdout
            .lines()
            .map(str::to_owned)
            .collect::<Vec<String>>()
    };
    let without = listed(Spawn::new(&scratch, "ls"));
    let null = fs::File::open("/dev/null").unwrap();
    let mut with = listed(Spawn::new(&scratch, "ls").descriptor(117, null));
    with.retain(|number| !without.contains(number));
    assert_eq!(with, ["117"]);

    let killed = Spawn::new(&scratch, "sh")
        .args(["-c", "kill -USR1 $$"])
        .finish();
    assert_eq!(killed.signal(), Some(Signal::SIGUSR1));
}

#[test]
fn a_test_can_have_a_network_of_its_own() {
    let outside = fs::read_link("/proc/thread-self/ns/net").unwrap();
    {
        let network = network::isolate();
        assert_ne!(fs::read_link("/proc/thread-self/ns/net").unwrap(), outside);
        assert_eq!(network.get("ipv4.tcp_migrate_req"), "0");
        network.set("ipv4.tcp_migrate_req", "1");
        assert_eq!(network.get("ipv4.tcp_migrate_req"), "1");

        // Another test, in a thread that was there before, is where it was; ours is inherited.
        thread::spawn(|| {
            let fresh = network::isolate();
            assert_eq!(fresh.get("ipv4.tcp_migrate_req"), "0");
        })
        .join()
        .unwrap();
        assert_eq!(network.get("ipv4.tcp_migrate_req"), "1");

        let listener = std::net::TcpListener::bind("127.0.0.1:80").unwrap();
        let connected = std::net::TcpStream::connect(listener.local_addr().unwrap());
        assert!(connected.is_ok(), "lo is up: {connected:?}");

        for kind in Kind::ALL {
            let scratch = Scratch::new();
            let log = Log::new(&scratch, "log");
            let service =
                Service::new(daemon(&scratch)).setup("echo in $(readlink /proc/self/ns/net)");
            let _supervisor = kind.start(&scratch, &log, &service);
            let inside = fs::read_link("/proc/thread-self/ns/net").unwrap();
            assert_eq!(log.wait_for("in "), format!("in {}", inside.display()));
            log.wait_for("up ");
        }
    }
    assert_eq!(fs::read_link("/proc/thread-self/ns/net").unwrap(), outside);
}

#[test]
fn the_programs_are_found() {
    assert!(support::program().is_file());
    assert!(support::example("demo").is_file());
    let missing = catch_unwind(|| support::tool("no-such-tool", "no-such-package")).unwrap_err();
    let sentence = missing.downcast::<String>().unwrap();
    assert!(
        sentence.contains("install the Debian package no-such-package"),
        "{sentence}"
    );
}
