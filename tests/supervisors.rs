//! The real supervisors: ten restarts each by their own restart verb, under load; and what runit sees of an end.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::load::{Load, Report, SlowSpec, Target};
use crate::support::process::{self, Pid, status_field};
use crate::support::{
    self, Kind, Log, Runit, Scratch, Service, Spawn, Supervisor, executable, network,
};

const RESTARTS: usize = 10;
/// Always in flight: the drain of one generation and the start of the next go on around them.
const SLOW: SlowSpec = SlowSpec {
    clients: 4,
    delay: Duration::from_secs(2),
};
/// Enough to meet the moments that matter, and little enough to leave the supervisor a share of two cores.
const REQUESTS_PER_SECOND: u32 = 3000;
const CLIENTS: usize = 8;
const ANSWERS_OF_EACH: u64 = 1000;
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
enum Socket {
    /// Each generation binds the path anew.
    OwnUnix,
    HeldUnix,
    HeldTcp,
}

struct Place {
    scratch: Scratch,
    log: Log,
    pid_file: PathBuf,
}

impl Place {
    fn new() -> Place {
        let scratch = Scratch::new();
        let log = Log::new(&scratch, "log");
        let run = scratch.join("run");
        fs::create_dir(&run).unwrap();
        Place {
            scratch,
            log,
            pid_file: run.join("app.pid"),
        }
    }

    fn service(&self, options: &[&str], command: &[&str]) -> Service {
        let program = support::program();
        let pid_file = self.pid_file.to_str().unwrap();
        let words = [program.to_str().unwrap(), "--pid-file", pid_file];
        Service::new(
            words
                .iter()
                .chain(options)
                .chain(&["--"])
                .chain(command)
                .map(|word| (*word).to_owned()),
        )
    }

    /// Takes the service down for good, by the supervisor's own stop verb.
    fn end(&self, supervisor: &mut dyn Supervisor) {
        supervisor.want_down();
        self.scratch
            .wait_no_processes_but(&supervisor.own_processes());
        supervisor.shutdown();
        let left = fs::read_dir(self.pid_file.parent().unwrap()).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["app.pid.lock"]);
    }
}

/// Restarts again and again; every time another process answers.
fn restart_under_load(kind: Kind, socket: Socket) -> Report {
    let network = network::isolate();
    let place = Place::new();
    let path = place.scratch.join("app.sock");
    let address = SocketAddr::from(([127, 0, 0, 1], 8080));
    // Nobody's queue may be saved by the kernel.
    network.set("ipv4.tcp_migrate_req", "0");
    let at_path = path.to_str().unwrap().to_owned();
    let (example, target) = match socket {
        Socket::OwnUnix | Socket::HeldUnix => ("http_unix", Target::Unix(path)),
        Socket::HeldTcp => ("http_tcp", Target::Tcp(address)),
    };
    let example = support::example(example);
    let mut command = vec![example.to_str().unwrap()];
    let held = match socket {
        Socket::OwnUnix => {
            command.extend(["--socket", &at_path]);
            None
        }
        Socket::HeldUnix => Some(format!("http={at_path}")),
        Socket::HeldTcp => Some(format!("http={address}")),
    };
    let options: Vec<&str> = held.iter().flat_map(|held| ["--listen", held]).collect();
    let service = place.service(&options, &command);
    let mut supervisor = kind.start(&place.scratch, &place.log, &service);
    place.log.wait_for(" is ready after");

    let load = Load::start_at_rate(target, CLIENTS, Some(SLOW), REQUESTS_PER_SECOND);
    assert!(load.wait_slow_in_flight(PATIENCE, SLOW.clients));
    load.wait_answer(PATIENCE, |_| true)
        .expect("the first generation answers");
    for restart in 1..=RESTARTS {
        let known = load.report().pids();
        supervisor.restart().expect_success();
        let answer = load.wait_answer(PATIENCE, |answer| !known.contains(&answer.pid));
        let answer =
            answer.unwrap_or_else(|| panic!("nobody new answers: {}", place.log.listing()));
        // Each has its share of the load, however fast the supervisor is.
        let busy = load.wait_answer(PATIENCE, |one| {
            one.pid == answer.pid && one.answers >= ANSWERS_OF_EACH
        });
        assert!(busy.is_some(), "{}", place.log.listing());
        // It answers before it has said so; a restart in that moment would end it (R9).
        place
            .log
            .wait_seen(&format!("(pid {}) is ready after", answer.pid));
        assert_eq!(
            answer.generation,
            Some((restart + 1).try_into().unwrap()),
            "{}",
            place.log.listing()
        );
    }
    let report = load.stop();
    assert_eq!(report.pids().len(), RESTARTS + 1);
    assert_eq!(
        report.slow.failed(),
        0,
        "a slow request was cut off: {report}\n{}",
        place.log.listing()
    );
    assert!(report.slow.finished() > 0);
    place.end(&mut *supervisor);
    report
}

fn show(kind: Kind, socket: &str, report: &Report) {
    crate::stage::tell(&format!(
        "{kind:?}, {socket}: {RESTARTS} restarts, {} requests, {} failed; {} slow ones, {} cut off; the slowest fast one took {:.0?}",
        report.fast.finished(),
        report.fast.failed(),
        report.slow.finished(),
        report.slow.failed(),
        report.fast.slowest,
    ));
}

/// Nothing is lost, with one held socket for all generations or with a path that always leads to somebody.
fn restarts(kind: Kind, socket: Socket, words: &str) {
    let report = restart_under_load(kind, socket);
    show(kind, words, &report);
    assert_eq!(report.fast.failed(), 0, "{report}");
}

fn restarts_on_a_socket_of_its_own(kind: Kind) {
    restarts(kind, Socket::OwnUnix, "Unix socket of its own");
}

fn restarts_on_held_sockets(kind: Kind) {
    restarts(kind, Socket::HeldTcp, "held TCP socket");
    restarts(kind, Socket::HeldUnix, "held Unix socket");
}

#[test]
fn runit_restarts_on_a_socket_of_its_own() {
    restarts_on_a_socket_of_its_own(Kind::Runit);
}

#[test]
fn runit_restarts_on_held_sockets() {
    restarts_on_held_sockets(Kind::Runit);
}

#[test]
fn daemontools_restarts_on_a_socket_of_its_own() {
    restarts_on_a_socket_of_its_own(Kind::Daemontools);
}

#[test]
fn daemontools_restarts_on_held_sockets() {
    restarts_on_held_sockets(Kind::Daemontools);
}

#[test]
fn s6_restarts_on_a_socket_of_its_own() {
    restarts_on_a_socket_of_its_own(Kind::S6);
}

#[test]
fn s6_restarts_on_held_sockets() {
    restarts_on_held_sockets(Kind::S6);
}

#[test]
fn systemd_restarts_on_a_socket_of_its_own() {
    restarts_on_a_socket_of_its_own(Kind::Systemd);
}

#[test]
fn systemd_restarts_on_held_sockets() {
    restarts_on_held_sockets(Kind::Systemd);
}

#[test]
fn supervisord_restarts_on_a_socket_of_its_own() {
    restarts_on_a_socket_of_its_own(Kind::Supervisord);
}

#[test]
fn supervisord_restarts_on_held_sockets() {
    restarts_on_held_sockets(Kind::Supervisord);
}

/// A link to a version, changed in one step as a deployment does.
fn deploy(version: &Path, current: &Path) {
    let beside = current.with_extension("new");
    fs::remove_file(&beside).ok();
    symlink(version, &beside).unwrap();
    fs::rename(&beside, current).unwrap();
}

/// Promise 2: a new version that crashes at once, sixty times in a minute, and then one that never gets ready, cost not
/// one request.
#[test]
fn new_versions_that_crash_for_a_minute_and_never_get_ready() {
    let place = Place::new();
    let current = place.scratch.join("current");
    let version = |name: &str, code: &str| {
        let path = place.scratch.join(name);
        executable::write(&path, format!("#!/bin/sh\n{code}\n").as_bytes(), 0o755);
        path
    };
    let crashing = version("crashing", "exit 1");
    let hanging = version("hanging", "exec sleep 1000");
    let good = support::example("http_unix");
    deploy(&good, &current);
    let path = place.scratch.join("app.sock");
    let held = format!("http={}", path.display());
    let options = ["--listen", &held, "--ready-timeout", "3s"];
    let service = place.service(&options, &[current.to_str().unwrap()]);
    let mut supervisor = Runit::start(&place.scratch, &place.log, &service);
    place.log.wait_for(" is ready after");
    let load = Load::start_at_rate(Target::Unix(path), CLIENTS, Some(SLOW), REQUESTS_PER_SECOND);
    let first = load.wait_answer(PATIENCE, |_| true).unwrap().pid;
    let serves = format!("still serving: generation 1 (pid {first})");

    deploy(&crashing, &current);
    // sv waits for the new one to be up for a while; that is its own affair.
    let verb = supervisor.begin(support::Verb::Restart);
    // runit starts a service that has just died once a second.
    for _ in 0..60 {
        let line = place
            .log
            .wait_for("died before it was ready: exit status 1");
        assert!(line.contains(&serves), "{line}");
    }
    let report = load.report();
    assert!(
        report.elapsed >= Duration::from_secs(58),
        "runit was faster than thought: {report}"
    );
    drop(verb);
    deploy(&hanging, &current);
    for _ in 0..3 {
        let line = place.log.wait_for("was not ready within the ready timeout");
        assert!(line.contains(&serves), "{line}");
    }
    let report = load.report();
    assert_eq!(report.pids().len(), 1, "{report}");
    assert_eq!(report.failed(), 0, "{report}");

    deploy(&good, &current);
    let second = load
        .wait_answer(PATIENCE, |answer| answer.pid != first)
        .expect("the good version takes over");
    assert!(second.generation > Some(1));
    process::wait_exit(Pid::from_raw(first.try_into().unwrap()));
    let report = load.stop();
    crate::stage::tell(&format!(
        "60 crashes in a minute, then three that never get ready: {} requests, {} failed",
        report.fast.finished(),
        report.failed()
    ));
    assert_eq!(report.failed(), 0, "{report}");
    place.end(&mut supervisor);
}

/// R3, as the administrator's `finish` script sees it.
#[test]
fn what_runits_finish_script_sees() {
    for (code, seen) in [
        ("exit 3", "3 0"),
        ("kill -SEGV $$", "-1 11"),
        ("kill -KILL $$", "-1 9"),
        ("exec /no/such/command", "127 0"),
    ] {
        let place = Place::new();
        // An exec that fails inside a shell is the shell's; here it is the launcher's own.
        let command = match code.strip_prefix("exec ") {
            Some(command) => vec![command],
            None => vec!["sh", "-c", code],
        };
        let service = place
            .service(&[], &command)
            .finish("echo \"finish $1 $2\"; sv d .; exit 0");
        let mut supervisor = Runit::start(&place.scratch, &place.log, &service);
        assert_eq!(
            place.log.wait_for("finish "),
            format!("finish {seen}"),
            "{code}"
        );
        crate::stage::tell(&format!("the daemon's `{code}`: finish sees {seen}"));
        supervisor.shutdown();
    }
    let place = Place::new();
    fs::write(place.scratch.join("plain"), "no program").unwrap();
    let command = place.scratch.join("plain");
    let service = place
        .service(&[], &[command.to_str().unwrap()])
        .finish("echo \"finish $1 $2\"");
    let mut supervisor = Runit::start(&place.scratch, &place.log, &service);
    assert_eq!(place.log.wait_for("finish "), "finish 126 0");
    crate::stage::tell("the daemon cannot be executed: finish sees 126 0");
    supervisor.shutdown();
}

/// A daemon that has become `nobody` under a root launcher, with the files in a directory of root's.
#[test]
fn a_daemon_that_dropped_its_privileges() {
    const NOBODY: u32 = 65534;
    let place = Place::new();
    fs::set_permissions(place.scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let own = place.scratch.join("own");
    fs::create_dir(&own).unwrap();
    chown(&own, Some(NOBODY), Some(NOBODY)).unwrap();
    // Wherever the tests were built, nobody can run this.
    let daemon = place.scratch.join("http_unix");
    executable::copy(&support::example("http_unix"), &daemon, 0o755);
    let path = own.join("app.sock");
    let command = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        daemon.to_str().unwrap(),
        "--socket",
        path.to_str().unwrap(),
    ];
    let mut supervisor = Runit::start(&place.scratch, &place.log, &place.service(&[], &command));
    place.log.wait_for(" is ready after");
    let load = Load::start_at_rate(Target::Unix(path), CLIENTS, Some(SLOW), REQUESTS_PER_SECOND);
    load.wait_answer(PATIENCE, |_| true).unwrap();
    for _ in 0..3 {
        let known = load.report().pids();
        supervisor.restart().expect_success();
        let answer = load
            .wait_answer(PATIENCE, |answer| !known.contains(&answer.pid))
            .unwrap();
        place
            .log
            .wait_seen(&format!("(pid {}) is ready after", answer.pid));
        let user = status_field(Pid::from_raw(answer.pid.try_into().unwrap()), "Uid").unwrap();
        assert_eq!(user.split_whitespace().nth(1), Some("65534"));
        assert_eq!(fs::metadata(&place.pid_file).unwrap().uid(), 0);
    }
    let report = load.stop();
    assert_eq!(report.failed(), 0, "{report}");
    place.end(&mut supervisor);
}

/// `contrib/bench/audit.rs`, in small: a benchmark that does not run measures nothing.
#[test]
fn the_loss_audit() {
    let place = Place::new();
    let words = ["--requests", "5000", "--restarts", "2", "--rate", "3000"];
    // Everything is built; under cargo it would build it again.
    let audit = Spawn::new(&place.scratch, support::example("audit"))
        .env_remove("CARGO")
        .args(words)
        .args(["--only", "unlink-bind,held-tcp"]);
    let printed = audit.finish().expect_success().stdout;
    let counted = |row: &str| {
        let cells = |line: &str| {
            let mut words = line.split_whitespace();
            let is_row = words.next() == Some(row);
            let requests = words.next()?.parse::<u64>().ok().filter(|_| is_row)?;
            Some((requests, words.next()?.parse::<u64>().ok()?))
        };
        let found = printed.lines().find_map(cells);
        found.unwrap_or_else(|| panic!("{printed}"))
    };
    assert!(counted("unlink-bind").0 >= 5000);
    let (requests, failed) = counted("held-tcp");
    assert!(requests >= 5000 && failed == 0, "{printed}");
}
