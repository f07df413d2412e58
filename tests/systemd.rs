//! systemd, with all that it offers a service: readiness, status, the watchdog, the descriptor store, through the relay
//! (R23); its settings; and what it calls a failure.

mod failures;
mod instances;
mod kill_mode;
mod limits;
mod private;
mod ready;
mod relay;
mod store;
mod times;
mod users;
mod watchdog;

use std::cell::Cell;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use crate::stage::{Stage, tell};
use crate::support::executable;
use crate::support::process::{self, Pid};
use crate::support::{Finished, Service, Spawn, Supervisor, Systemd, tool};

/// What the daemon says to be ready: as systemd has it.
const READY: &str = "READY=1";
/// In the unit's own directory, which systemd makes.
const RUNTIME_DIRECTORY: [&str; 2] = ["RuntimeDirectory=app", "RuntimeDirectoryPreserve=yes"];

/// A systemd with one service, app.service: `obedient.c` under the launcher. All PIDs are those of inside.
struct Machine {
    // Dropped first: it starts anew what the stage ends.
    systemd: Systemd,
    stage: Stage,
    /// The launcher and the daemon, where every user can run them.
    program: PathBuf,
    daemon: PathBuf,
    pid_file: PathBuf,
    orders: String,
    barriers: Cell<u32>,
}

impl Machine {
    fn boot() -> Machine {
        let stage = Stage::new();
        let daemon = stage.scratch.join("obedient");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/systemd/obedient.c");
        Spawn::from(Command::new(tool("cc", "gcc")))
            .args(["-Wall", "-Wextra", "-Werror", "-o"])
            .arg(&daemon)
            .arg(source)
            .arg("-lsystemd")
            .finish()
            .expect_success();
        let name = stage.scratch.path().file_name().unwrap();
        Machine {
            systemd: Systemd::boot(&stage.scratch),
            program: stage.program_for_all(),
            daemon,
            pid_file: stage.pid_file.clone(),
            orders: name.to_str().unwrap().to_owned(),
            stage,
            barriers: Cell::new(0),
        }
    }

    /// With the PID file in the service's own directory, which is nowhere but inside.
    fn boot_with_runtime_directory() -> Machine {
        let mut machine = Machine::boot();
        machine.pid_file = "/run/app/app.pid".into();
        machine
    }

    /// app.service, with more options for the launcher: the daemon that obeys.
    fn service(&self, options: &[&str]) -> Service {
        self.service_of(options, &self.daemon)
    }

    fn service_of(&self, options: &[&str], command: &Path) -> Service {
        let words = [
            self.program.to_str().unwrap(),
            "--pid-file",
            self.pid_file.to_str().unwrap(),
        ];
        let command = ["--", command.to_str().unwrap()];
        let all = words.iter().chain(options).chain(&command);
        Service::new(all.map(|word| (*word).to_owned()))
            .env("ORDERS", &self.orders)
            .unit_service("Type=notify")
            .unit_service("NotifyAccess=main")
    }

    fn install(&self, service: &Service) {
        self.systemd
            .install(&self.stage.scratch, &self.stage.log, service);
    }

    /// Installs and starts it; the daemon of the first generation.
    fn start(&self, service: &Service) -> Pid {
        self.install(service);
        self.run(&["start", "app"]).expect_success();
        self.up(1)
    }

    fn run(&self, systemctl: &[&str]) -> Finished {
        self.systemd.systemctl(systemctl).finish()
    }

    /// The daemon of this generation, when it is up.
    fn up(&self, generation: u32) -> Pid {
        let line = self
            .stage
            .log
            .wait_seen(&format!("generation {generation} is up: "));
        let (_, pid) = line.rsplit_once(' ').unwrap();
        Pid::from_raw(pid.parse().unwrap())
    }

    /// Restarts it, and waits for the verb; the daemon of this generation.
    fn restart(&self, next: u32) -> Pid {
        self.systemd.restart().expect_success();
        self.up(next)
    }

    /// Tells the daemon of a generation what to do; what comes of it is in the log.
    fn order(&self, generation: u32, text: &str) {
        let name = format!("{}-{generation}", self.orders);
        let address = SocketAddr::from_abstract_name(name).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        if let Err(error) = sender.send_to_addr(text.as_bytes(), &address) {
            panic!("generation {generation} takes no orders: {error}");
        }
    }

    /// Waits until systemd has read what the daemon has said before.
    fn barrier(&self, generation: u32, daemon: Pid) {
        let number = self.barriers.get() + 1;
        self.barriers.set(number);
        self.order(generation, &format!("barrier {number}"));
        let passed = self.wait_said(daemon, &format!("barrier {number}: "));
        assert!(passed.ends_with(": 1"), "{passed}: {}", self.listing());
    }

    /// What a daemon has said already, or says next.
    fn wait_said(&self, daemon: Pid, what: &str) -> String {
        let line = format!("daemon {daemon} {what}");
        self.stage.log.wait_seen(&line)
    }

    fn says(&self, part: &str) -> bool {
        self.stage.log.count(part) > 0
    }

    /// The daemon's launcher.
    fn launcher_of(&self, daemon: Pid) -> Pid {
        let parent = |pid| process::Process::read(pid).unwrap().parent;
        let outside = self.systemd.outside(daemon).unwrap();
        Systemd::inside_of(parent(parent(outside)))
    }

    fn alive(&self, inside: Pid) -> bool {
        self.systemd.outside(inside).is_some_and(process::alive)
    }

    fn wait_exit(&self, inside: Pid) {
        if let Some(outside) = self.systemd.outside(inside) {
            process::wait_exit(outside);
        }
    }

    fn property(&self, name: &str) -> String {
        self.systemd.property(name)
    }

    fn active_state(&self) -> String {
        self.property("ActiveState")
    }

    /// The names in a directory, as they are inside.
    fn names_in(&self, directory: &Path) -> Vec<String> {
        let list = self.systemd.inside("ls").arg("-A").arg(directory).finish();
        list.stdout.lines().map(str::to_owned).collect()
    }

    /// What `systemctl stop` leaves when it returns: nothing but the lock, for the launcher leaves last (R15).
    fn stop(&self) {
        self.run(&["stop", "app"]).expect_success();
        self.assert_nothing_left();
        assert_eq!(self.active_state(), "inactive");
    }

    fn assert_nothing_left(&self) {
        let init = self.systemd.init();
        let mut left = self.stage.scratch.processes();
        left.retain(|process| process.pid != init);
        assert!(
            left.is_empty(),
            "these should have ended:{}",
            process::list(&left)
        );
        let directory = self.pid_file.parent().unwrap();
        assert_eq!(
            self.names_in(directory),
            ["app.pid.lock"],
            "{}",
            self.listing()
        );
    }

    fn listing(&self) -> String {
        self.stage.log.listing()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() {
            tell(&self.listing());
            tell(&self.systemd.messages().listing());
        }
    }
}

/// An executable script of sh.
fn write_script(path: &Path, code: &str) {
    executable::write(path, format!("#!/bin/sh\n{code}\n").as_bytes(), 0o755);
}

/// A unit that is no service of ours, with nothing that it could be ready for, to see how systemd is at its limits.
fn write_plain_unit(machine: &Machine, name: &str, lines: &str) {
    let text = format!("[Service]\nStandardOutput=null\nStandardError=null\n{lines}\n");
    machine.systemd.write_unit(name, &text);
}
