//! Services of an ordinary user: `User=` and `DynamicUser=`. Only root may ask systemd without D-Bus.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;

use super::{Machine, READY, RUNTIME_DIRECTORY};
use crate::support::process::Pid;
use crate::support::{Service, Supervisor, Verb, tool};

fn of_nobody(service: Service) -> Service {
    in_runtime_directory(service).unit_service("User=nobody")
}

fn in_runtime_directory(service: Service) -> Service {
    service
        .env("FIRST", READY)
        .unit_service(RUNTIME_DIRECTORY[0])
        .unit_service(RUNTIME_DIRECTORY[1])
}

fn restarts(machine: &Machine, first: Pid) -> Pid {
    let mut before = first;
    for generation in 2..=3 {
        let next = machine.restart(generation);
        machine.wait_said(before, "got TERM");
        machine.wait_exit(before);
        before = next;
    }
    before
}

/// Without D-Bus a stop cannot be told from a restart: it is over when nobody has come for `--orphan-timeout` (R16).
#[test]
fn without_a_bus_a_stop_of_an_ordinary_user_is_a_late_one() {
    let machine = Machine::boot_with_runtime_directory();
    let options = ["--orphan-timeout", "3s"];
    let first = machine.start(&of_nobody(machine.service(&options)));
    let last = restarts(&machine, first);
    machine.run(&["stop", "app"]).expect_success();
    machine.stage.log.wait_seen("cannot ask systemd");
    machine.wait_said(last, "got TERM");
    machine.wait_exit(last);
    // The command that could not ask has not told systemd so on the unit's behalf.
    let messages = machine.systemd.messages();
    assert_eq!(messages.count("Got notification message from PID"), 0);
}

/// With signals of their own for the two there is nothing to ask.
#[test]
fn without_a_bus_a_restart_can_have_a_signal_of_its_own() {
    let machine = Machine::boot_with_runtime_directory();
    let options = ["--on", "USR1=restart", "--on", "TERM=stop"];
    let service = of_nobody(machine.service(&options)).unit_service("RestartKillSignal=SIGUSR1");
    let first = machine.start(&service);
    let last = restarts(&machine, first);
    machine.run(&["stop", "app"]).expect_success();
    machine.wait_said(last, "got TERM");
    machine.assert_nothing_left();
}

/// With a bus the wish is read as root reads it.
#[test]
fn with_a_bus_an_ordinary_users_stop_is_a_stop() {
    let machine = Machine::boot_with_runtime_directory();
    machine.systemd.start_bus();
    let first = machine.start(&of_nobody(machine.service(&[])));
    let last = restarts(&machine, first);
    machine.run(&["stop", "app"]).expect_success();
    machine.wait_said(last, "got TERM");
    machine.assert_nothing_left();

    // In standby, too: a stop in the gap between two starts.
    machine.run(&["start", "app"]).expect_success();
    let first = machine.up(4);
    machine.install(&of_nobody(machine.service(&[])).unit_service("RestartSec=1h"));
    machine
        .systemd
        .run(Verb::Signal(Signal::SIGTERM))
        .expect_success();
    machine
        .systemd
        .wait_property("SubState", |state| state == "auto-restart");
    assert!(machine.alive(first));
    machine.run(&["stop", "app"]).expect_success();
    machine
        .stage
        .log
        .wait_seen("the supervisor wants the service down");
    machine.wait_exit(first);
}

/// A user that there is only while the unit is up: the same one at every restart. No bus-daemon knows it, so that
/// systemd cannot be asked even where there is one.
#[test]
fn a_dynamic_user() {
    let machine = Machine::boot_with_runtime_directory();
    machine.systemd.own_tmp();
    machine.systemd.start_bus();
    let scratch = machine.stage.scratch.path().display();
    let options = ["--on", "USR1=restart", "--on", "TERM=stop"];
    let service = in_runtime_directory(machine.service(&options))
        .unit_service("DynamicUser=yes")
        .unit_service("RestartKillSignal=SIGUSR1")
        .unit_service(format!("BindReadOnlyPaths={scratch}"));
    let first = machine.start(&service);
    let user = machine.property("UID");
    // Where systemd takes them from.
    assert!((61184..=65519).contains(&user.parse().unwrap()), "{user}");
    let last = restarts(&machine, first);
    assert_eq!(machine.property("UID"), user);
    machine.run(&["stop", "app"]).expect_success();
    machine.wait_said(last, "got TERM");
    machine.assert_nothing_left();
}

/// A user's own manager is asked as that user, and needs no bus for it.
#[test]
fn a_service_of_a_users_own_manager() {
    const USER: &str = "65534";
    let machine = Machine::boot();
    let scratch = &machine.stage.scratch;
    let units = scratch.join("units-of-user");
    fs::create_dir(&units).unwrap();
    for name in ["basic", "shutdown", "sockets", "timers", "paths"] {
        let unit = format!("[Unit]\nDefaultDependencies=no\nDescription={name}\n");
        fs::write(units.join(format!("{name}.target")), unit).unwrap();
    }
    fs::write(units.join("default.target"), "[Unit]\n").unwrap();
    let app = format!(
        "[Service]\nType=notify\nKillMode=process\nRestart=always\nRestartSec=0\n\
         RuntimeDirectory=app\nRuntimeDirectoryPreserve=yes\nStandardOutput=append:{}\nStandardError=inherit\n\
         Environment=SEAMLESS_TEST={} ORDERS={} FIRST={READY}\nExecStart={} --pid-file %t/app/app.pid -- {}\n",
        machine.stage.log.path().display(),
        scratch.path().display(),
        machine.orders,
        machine.program.display(),
        machine.daemon.display(),
    );
    fs::write(units.join("app.service"), app).unwrap();
    let runtime = format!("/run/user/{USER}");
    let manager = format!(
        "[Service]\nType=notify\nUser={USER}\nDelegate=yes\nRuntimeDirectory=user/{USER}\nRuntimeDirectoryMode=0700\n\
         StandardOutput=null\nStandardError=null\n\
         Environment=XDG_RUNTIME_DIR={runtime} HOME={runtime} SYSTEMD_UNIT_PATH={}\n\
         ExecStart=/lib/systemd/systemd --user --log-target=null\n",
        units.display()
    );
    // The name tells that it is a user's.
    let unit = format!("user@{USER}.service");
    machine.systemd.write_unit(&unit, &manager);
    machine.run(&["start", &unit]).expect_success();
    let systemctl = |verb: &str| {
        let setpriv = machine.systemd.inside(tool("setpriv", "util-linux"));
        let setpriv = setpriv
            .env("XDG_RUNTIME_DIR", &runtime)
            .args(["--reuid", USER, "--regid", USER, "--clear-groups"])
            .arg(tool("systemctl", "systemd"));
        setpriv.args(["--user", verb, "app"]).finish()
    };
    systemctl("start").expect_success();
    let first = machine.up(1);
    systemctl("restart").expect_success();
    let second = machine.up(2);
    machine.wait_said(first, "got TERM");
    machine.wait_exit(first);
    systemctl("stop").expect_success();
    machine.wait_said(second, "got TERM");
    assert!(!machine.alive(second), "{}", machine.listing());
    let left = machine.names_in(Path::new(&format!("{runtime}/app")));
    assert_eq!(left, ["app.pid.lock"], "{}", machine.listing());
}
