//! `seamless-run check` in front of real supervisors: what is wrong is named, the line that it says is written, and then
//! nothing is said of it any more, and a restart is seamless.

mod directories;
mod recipes;
mod supervisord;
mod systemd;

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::load::{Load, SlowSpec, Target};
use crate::support::{
    self, Finished, Kind, Log, PATIENCE, Scratch, Service, Spawn, Supervisor, network,
};

/// In flight through a restart: whoever cuts it off has not drained.
const SLOW: SlowSpec = SlowSpec {
    clients: 2,
    delay: Duration::from_millis(300),
};

/// A service that is to be checked: an HTTP daemon on a held Unix socket.
struct Site {
    scratch: Scratch,
    log: Log,
    run: PathBuf,
    socket: PathBuf,
}

/// What a check has said.
struct Checked {
    code: i32,
    told: Value,
}

impl Site {
    fn new() -> Site {
        let scratch = Scratch::new();
        let log = Log::new(&scratch, "log");
        let run = scratch.join("run");
        fs::create_dir(&run).unwrap();
        // Whatever the umask is.
        fs::set_permissions(&run, Permissions::from_mode(0o755)).unwrap();
        let socket = scratch.join("app.sock");
        Site {
            scratch,
            log,
            run,
            socket,
        }
    }

    fn pid_file(&self) -> PathBuf {
        self.run.join("app.pid")
    }

    /// `seamless-run` with its usual options, up to the command.
    fn launcher(&self, options: &[&str]) -> Vec<String> {
        let program = support::program();
        let pid_file = self.pid_file();
        let held = format!("http={}", self.socket.display());
        let mut words = vec![program.to_str().unwrap(), "--pid-file"];
        words.extend([pid_file.to_str().unwrap(), "--listen", &held]);
        words.extend(options);
        words.push("--");
        words.into_iter().map(str::to_owned).collect()
    }

    fn daemon() -> String {
        support::example("http_unix").to_str().unwrap().to_owned()
    }

    /// The whole of it.
    fn command(&self, options: &[&str]) -> Vec<String> {
        let mut words = self.launcher(options);
        words.push(Site::daemon());
        words
    }

    /// `check --json` and more words, in the place of the service's processes.
    fn check(&self, supervisor: &dyn Supervisor, words: &[&str]) -> Checked {
        let check = supervisor.beside(&self.scratch, &support::program());
        Checked::of(check.args(["check", "--json"]).args(words).finish())
    }

    /// By the PID file alone: whoever supervises what runs there.
    fn check_running(&self, supervisor: &dyn Supervisor, options: &[&str]) -> Checked {
        let pid_file = self.pid_file();
        let words = [&["--pid-file", pid_file.to_str().unwrap()], options].concat();
        self.check(supervisor, &words)
    }

    /// Not one request is lost, and the old one's are answered to their end.
    fn assert_seamless(&self, supervisor: &dyn Supervisor, restart: impl Fn() -> Finished) {
        let target = Target::Unix(self.socket.clone());
        let load = Load::start_at_rate(target, 2, Some(SLOW), 300);
        assert!(load.wait_slow_in_flight(PATIENCE, SLOW.clients));
        load.wait_answer(PATIENCE, |_| true).expect("it answers");
        let known = load.report().pids();
        restart().expect_success();
        let name = supervisor.name();
        load.wait_answer(PATIENCE, |answer| !known.contains(&answer.pid))
            .unwrap_or_else(|| panic!("{name}: nobody new answers{}", self.log.listing()));
        let report = load.stop();
        assert_eq!(report.failed(), 0, "{name}: {report}{}", self.log.listing());
    }

    /// The supervisor's stop is one: everything ends.
    fn end(&self, supervisor: &mut dyn Supervisor) {
        supervisor.want_down();
        self.scratch
            .wait_no_processes_but(&supervisor.own_processes());
        supervisor.shutdown();
    }
}

impl Checked {
    fn of(finished: Finished) -> Checked {
        let code = finished.code().expect("it exits");
        let told = serde_json::from_str(&finished.stdout).unwrap_or_else(|error| {
            panic!("{error}: {code} {}{}", finished.stdout, finished.stderr)
        });
        Checked { code, told }
    }

    /// The errors and warnings, as `error kill-mode`.
    fn faults(&self) -> Vec<String> {
        let all = self.told["findings"].as_array().unwrap().iter();
        all.filter(|one| one["level"] != "note")
            .map(|one| format!("{} {}", text(&one["level"]), text(&one["code"])))
            .collect()
    }

    fn finding(&self, code: &str) -> &Value {
        let mut all = self.told["findings"].as_array().unwrap().iter();
        all.find(|one| one["code"] == code)
            .unwrap_or_else(|| panic!("no {code} in {}", self.told))
    }

    /// The line that it says is to be written.
    fn line(&self, code: &str) -> String {
        text(&self.finding(code)["line"]).to_owned()
    }

    /// Exactly this is wrong, and the exit status says so.
    fn assert_named(&self, fault: &str) {
        assert_eq!(self.faults(), [fault], "{}", self.told);
        assert_eq!(
            self.code,
            i32::from(fault.starts_with("error")),
            "{}",
            self.told
        );
        assert_eq!(self.told["error"], Value::Null, "{}", self.told);
    }

    fn assert_silent(&self) {
        assert_eq!(self.faults(), [""; 0], "{}", self.told);
        assert_eq!(self.code, 0, "{}", self.told);
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// Each supervisor is found by what runs at the PID file, and named.
#[test]
fn every_supervisor_is_recognised_by_what_runs() {
    for kind in Kind::ALL {
        let site = Site::new();
        let service = Service::new(site.command(&[])).program("stopwaitsecs=40");
        let mut supervisor = kind.start(&site.scratch, &site.log, &service);
        site.log.wait_for(" is ready after");
        let checked = site.check_running(&*supervisor, &[]);
        let name = supervisor.name();
        assert_eq!(checked.told["supervisor"], name, "{}", checked.told);
        let called = match kind {
            Kind::Systemd => "app.service".to_owned(),
            Kind::Supervisord => "app".to_owned(),
            Kind::Runit | Kind::Daemontools | Kind::S6 => text(&checked.told["service"]).to_owned(),
        };
        assert_eq!(checked.told["service"], called);
        assert!(called.ends_with("app") || kind == Kind::Systemd, "{called}");
        let faults: &[&str] = match kind {
            // As the tests' units are; the scratch directory may be anywhere.
            Kind::Systemd => &["warning oom-policy"],
            _ => &[],
        };
        let mut found = checked.faults();
        found.retain(|fault| fault != "warning directory-boot");
        assert_eq!(found, faults, "{name}: {}", checked.told);
        site.end(&mut *supervisor);
    }
}

/// Without a supervisor that is known: it says so, and that is no error.
#[test]
fn nobody_is_recognised_where_nobody_is() {
    let site = Site::new();
    let mut words = site.command(&[]);
    let program = words.remove(0);
    let launcher = Spawn::new(&site.scratch, &program)
        .args(&words)
        .output_to(&site.log)
        .start();
    site.log.wait_for(" is ready after");
    let check = Spawn::new(&site.scratch, &program).args(["check", "--pid-file"]);
    let told = check.arg(site.pid_file()).finish();
    assert_eq!(told.code(), Some(0), "{}{}", told.stdout, told.stderr);
    let first = told.stdout.lines().next().unwrap();
    assert_eq!(first, "app: supervisor: none recognised");
    let last = told.stdout.lines().last().unwrap();
    assert!(last.starts_with("app: 0 errors, "), "{}", told.stdout);
    launcher.signal(nix::sys::signal::Signal::SIGINT);
    launcher.finish();
    site.scratch.wait_no_processes_but(&[]);
}

/// A port that somebody else has is named with him; that of a generation is its successor's.
#[test]
fn a_port_that_is_taken() {
    let _network = network::isolate();
    let site = Site::new();
    let option = "--listen=web=127.0.0.1:8080";
    let check = || {
        let check = Spawn::new(&site.scratch, support::program()).args(["check", "--json"]);
        let check = check.arg("--pid-file").arg(site.pid_file());
        let mut checked = Checked::of(check.args([option, "--", "sleep", "9"]).finish());
        let findings = checked.told["findings"].as_array_mut().unwrap();
        findings.retain(|one| one["code"] == "socket");
        checked
    };
    let launcher = Spawn::new(&site.scratch, support::program())
        .args(&site.command(&[option])[1..])
        .output_to(&site.log)
        .start();
    site.log.wait_for(" is ready after");
    check().assert_silent();
    launcher.signal(nix::sys::signal::Signal::SIGINT);
    launcher.finish();
    site.scratch.wait_no_processes_but(&[]);

    let _stranger = TcpListener::bind("127.0.0.1:8080").unwrap();
    let checked = check();
    checked.assert_named("error socket");
    let found = text(&checked.finding("socket")["found"]);
    let own = format!("(pid {}) has it", std::process::id());
    assert!(found.ends_with(&own), "{found}");
}

/// What cannot be told is 4, and wrong use 2.
#[test]
fn what_cannot_be_told_is_not_taken_for_good() {
    let site = Site::new();
    let check = |words: &[&str]| {
        let check = Spawn::new(&site.scratch, support::program()).arg("check");
        let told = check.args(words).directory(&site.run).finish();
        (told.code().unwrap(), told.stderr)
    };
    let (code, words) = check(&[]);
    assert_eq!(code, 2);
    assert!(words.contains("no run script"), "{words}");
    assert_eq!(check(&["--unit", "a", "--service", "b"]).0, 2);
    // Nothing of systemd runs here, or it knows no such unit.
    let (code, words) = check(&["--unit", "seamless-test-none"]);
    assert_eq!(code, 4);
    assert!(words.contains("seamless-test-none.service"), "{words}");
    assert_eq!(check(&["--service", "none"]).0, 4);
    let run = site.run.join("run");
    fs::write(&run, "#!/bin/sh\nexec seamless-run -p \"$FILE\" -- sh\n").unwrap();
    fs::set_permissions(&run, Permissions::from_mode(0o755)).unwrap();
    let (code, words) = check(&[]);
    assert_eq!(code, 4);
    assert!(words.contains("$FILE"), "{words}");
    assert!(words.contains("give the run options"), "{words}");
    // They are given.
    let pid_file = site.pid_file();
    let (code, words) = check(&["--service", ".", "-p", pid_file.to_str().unwrap(), "sh"]);
    assert_eq!((code, words.as_str()), (0, ""));
}
