//! The real supervisors: ten restarts each by their own restart verb, under load; and what runit sees of an end.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::load::{Load, Report, SlowSpec, Target};
use crate::support::process::{self, Handle, Pid, status_field};
use crate::support::{self, Kind, Log, Runit, Scratch, Service, Supervisor, network};

const RESTARTS: usize = 10;
/// Always in flight: the drain of one generation and the start of the next go on around them.
const SLOW: SlowSpec = SlowSpec {
    clients: 4,
    delay: Duration::from_secs(2),
};
/// Enough to meet the moments that matter, and little enough to leave the supervisor a share of two cores.
const REQUESTS_PER_SECOND: u32 = 3000;
const CLIENTS: usize = 8;
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
enum Socket {
    Unix,
    /// SO_REUSEPORT, with this `tcp_migrate_req`.
    Tcp(&'static str),
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

    /// Takes the service down and ends its last generation by its recorded identity: until a final stop can be told
    /// from a restart, the supervisor's stop verb leaves it in standby.
    fn end(&self, supervisor: &mut dyn Supervisor) {
        supervisor.want_down();
        let launcher_left = self.log.wait_seen("serves on, detached");
        assert!(!launcher_left.is_empty());
        for daemon in self.recorded() {
            if let Some(handle) = Handle::open(daemon) {
                handle.signal(Signal::SIGTERM);
            }
        }
        self.scratch
            .wait_no_processes_but(&supervisor.own_processes());
        supervisor.shutdown();
        let left = fs::read_dir(self.pid_file.parent().unwrap()).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["app.pid.lock"]);
    }

    /// The daemons of the record, by the numbers that they have out here.
    fn recorded(&self) -> Vec<Pid> {
        let mut record = self.pid_file.clone().into_os_string();
        record.push(".record");
        let record = fs::read_to_string(record).unwrap();
        let identities: Vec<&str> = record
            .split_whitespace()
            .filter_map(|word| word.strip_prefix("daemon="))
            .collect();
        let matches = |pid: Pid| {
            let inside = status_field(pid, "NSpid")?
                .split_whitespace()
                .last()?
                .to_owned();
            let start = process::identity(pid)?.start;
            Some(identities.contains(&format!("{inside}:{start}").as_str()))
        };
        let all = self.scratch.processes().into_iter().map(|one| one.pid);
        all.filter(|pid| matches(*pid) == Some(true)).collect()
    }
}

/// Restarts again and again; every time another process answers.
fn restart_under_load(kind: Kind, socket: Socket) -> Report {
    let network = network::isolate();
    let place = Place::new();
    let path = place.scratch.join("app.sock");
    let address = SocketAddr::from(([127, 0, 0, 1], 8080));
    let (example, target, words) = match socket {
        Socket::Unix => {
            let words = ["--socket".to_owned(), path.to_str().unwrap().to_owned()];
            (support::example("http_unix"), Target::Unix(path), words)
        }
        Socket::Tcp(migrate) => {
            network.set("ipv4.tcp_migrate_req", migrate);
            let words = ["--listen".to_owned(), address.to_string()];
            (support::example("http_tcp"), Target::Tcp(address), words)
        }
    };
    let command = [example.to_str().unwrap(), &words[0], &words[1]];
    let mut supervisor = kind.start(&place.scratch, &place.log, &place.service(&[], &command));
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

/// A Unix socket whose path always leads to somebody: nothing is lost.
fn restarts_on_a_unix_socket(kind: Kind) {
    let report = restart_under_load(kind, Socket::Unix);
    show(kind, "Unix socket", &report);
    assert_eq!(report.fast.failed(), 0, "{report}");
}

/// What SO_REUSEPORT loses is the kernel's, and is reported; no slow request is cut off (see above).
fn restarts_on_reuseport(kind: Kind) {
    for migrate in ["0", "1"] {
        let report = restart_under_load(kind, Socket::Tcp(migrate));
        show(
            kind,
            &format!("SO_REUSEPORT, tcp_migrate_req {migrate}"),
            &report,
        );
    }
}

#[test]
fn runit_restarts_on_a_unix_socket() {
    restarts_on_a_unix_socket(Kind::Runit);
}

#[test]
fn runit_restarts_on_reuseport() {
    restarts_on_reuseport(Kind::Runit);
}

#[test]
fn daemontools_restarts_on_a_unix_socket() {
    restarts_on_a_unix_socket(Kind::Daemontools);
}

#[test]
fn daemontools_restarts_on_reuseport() {
    restarts_on_reuseport(Kind::Daemontools);
}

#[test]
fn s6_restarts_on_a_unix_socket() {
    restarts_on_a_unix_socket(Kind::S6);
}

#[test]
fn s6_restarts_on_reuseport() {
    restarts_on_reuseport(Kind::S6);
}

#[test]
fn systemd_restarts_on_a_unix_socket() {
    restarts_on_a_unix_socket(Kind::Systemd);
}

#[test]
fn systemd_restarts_on_reuseport() {
    restarts_on_reuseport(Kind::Systemd);
}

#[test]
fn supervisord_restarts_on_a_unix_socket() {
    restarts_on_a_unix_socket(Kind::Supervisord);
}

#[test]
fn supervisord_restarts_on_reuseport() {
    restarts_on_reuseport(Kind::Supervisord);
}

/// A link to a version, changed in one step as a deployment does.
fn deploy(version: &Path, current: &Path) {
    let beside = current.with_extension("new");
    fs::remove_file(&beside).ok();
    symlink(version, &beside).unwrap();
    fs::rename(&beside, current).unwrap();
}

/// Promise 2: a new version that crashes at once, thirty times in thirty seconds, costs not one request.
#[test]
fn a_new_version_that_crashes_again_and_again() {
    let place = Place::new();
    let current = place.scratch.join("current");
    let broken = place.scratch.join("broken");
    fs::write(&broken, "#!/bin/sh\nexit 1\n").unwrap();
    fs::set_permissions(&broken, fs::Permissions::from_mode(0o755)).unwrap();
    let good = support::example("http_unix");
    deploy(&good, &current);
    let path = place.scratch.join("app.sock");
    let command = [
        current.to_str().unwrap(),
        "--socket",
        path.to_str().unwrap(),
    ];
    let mut supervisor = Runit::start(&place.scratch, &place.log, &place.service(&[], &command));
    place.log.wait_for(" is ready after");
    let load = Load::start_at_rate(Target::Unix(path), CLIENTS, Some(SLOW), REQUESTS_PER_SECOND);
    let first = load.wait_answer(PATIENCE, |_| true).unwrap().pid;

    deploy(&broken, &current);
    // sv waits for the new one to be up for a while; that is its own affair.
    let verb = supervisor.begin(support::Verb::Restart);
    // runit starts a service that has just died once a second.
    for _ in 0..30 {
        let line = place
            .log
            .wait_for("died before it was ready: exit status 1");
        assert!(
            line.contains(&format!("still serving: generation 1 (pid {first})")),
            "{line}"
        );
    }
    let report = load.report();
    assert!(
        report.elapsed >= Duration::from_secs(28),
        "runit was faster than thought: {report}"
    );
    assert_eq!(report.pids().len(), 1, "{report}");
    assert_eq!(
        (report.fast.failed(), report.slow.failed()),
        (0, 0),
        "{report}"
    );
    drop(verb);

    deploy(&good, &current);
    let second = load
        .wait_answer(PATIENCE, |answer| answer.pid != first)
        .expect("the good version takes over");
    assert!(second.generation > Some(1));
    process::wait_exit(Pid::from_raw(first.try_into().unwrap()));
    let report = load.stop();
    crate::stage::tell(&format!(
        "a broken version for 30 s: {} requests, {} failed",
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
    fs::copy(support::example("http_unix"), &daemon).unwrap();
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
