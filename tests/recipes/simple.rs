//! runit, daemontools, s6, supervisord and monit.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::{Shipped, Words, port};
use crate::support::machine::{Machine, with_machine};
use crate::support::{Log, Spawn, Spawned};

/// The recipes that start one service, `app`, in the usual places.
fn shipped<'a>(machine: &'a Machine<'a>, supervisor: &Spawned, package: &'a str) -> Shipped<'a> {
    Shipped {
        machine,
        shell: Box::new(move |words| machine.command(words, package)),
        restart: &[],
        program: Some(Box::new(|| machine.seamless_run())),
        reload: None,
        stop: &[],
        address: port(80),
        root: "/".into(),
        directory: "/run/app",
        pid_file: "/run/app/app.pid",
        cleans: false,
        stays: vec![supervisor.pid()],
        settled: None,
    }
}

/// A supervisor in the foreground, whose output, and so the service's, goes to the log.
fn supervisor(machine: &Machine<'_>, words: Words<'_>, package: &str) -> Spawned {
    let supervisor: Spawn = machine.command(words, package);
    supervisor.output_to(&machine.log).start()
}

#[test]
fn runit() {
    with_machine(|machine| {
        machine.install("runit/run", "/etc/sv/app/run");
        machine.install("runit/finish", "/etc/sv/app/finish");
        symlink("/etc/sv/app", "/etc/service/app").unwrap();
        let runsvdir = supervisor(machine, &["runsvdir", "/etc/service"], "runit");
        // It looks for services at once, and then every five seconds.
        Shipped {
            restart: &["sv", "-w", "60", "restart", "/etc/service/app"],
            reload: Some(&["sv", "hup", "/etc/service/app"]),
            stop: &["sv", "-w", "60", "stop", "/etc/service/app"],
            cleans: true,
            ..shipped(machine, &runsvdir, "runit")
        }
        .keeps_its_promises();
    });
}

#[test]
fn daemontools() {
    with_machine(|machine| {
        machine.install("daemontools/run", "/etc/service/app/run");
        let svscan = supervisor(machine, &["svscan", "/etc/service"], "daemontools");
        Shipped {
            restart: &["svc", "-t", "/etc/service/app"],
            reload: Some(&["svc", "-h", "/etc/service/app"]),
            stop: &["svc", "-d", "/etc/service/app"],
            ..shipped(machine, &svscan, "daemontools")
        }
        .keeps_its_promises();
    });
}

#[test]
fn s6() {
    with_machine(|machine| {
        for name in ["run", "finish", "notification-fd"] {
            let at = Path::new("/run/service/app").join(name);
            machine.install(&format!("s6/{name}"), at);
        }
        let svscan = supervisor(machine, &["s6-svscan", "/run/service"], "s6");
        Shipped {
            // Until it is up and ready again: so s6 has heard of it.
            restart: &["s6-svc", "-wR", "-T", "60000", "-r", "/run/service/app"],
            reload: Some(&["s6-svc", "-h", "/run/service/app"]),
            // Until `finish` has ended, too.
            stop: &["s6-svc", "-wD", "-T", "60000", "-d", "/run/service/app"],
            cleans: true,
            ..shipped(machine, &svscan, "s6")
        }
        .keeps_its_promises();
    });
}

/// What is said where the wish of a supervisor was read, and no signal told it.
const WANTS_DOWN: &str = "the supervisor wants the service down";

/// Debian's own configuration, which includes ours.
fn supervisord(machine: &Machine<'_>, recipe: &str) -> Spawned {
    machine.install(recipe, "/etc/supervisor/conf.d/app.conf");
    fs::create_dir("/var/log/supervisor").unwrap();
    let words = [
        "supervisord",
        "-n",
        "-c",
        "/etc/supervisor/supervisord.conf",
    ];
    machine.command(&words, "supervisor").start()
}

#[test]
fn supervisord_that_is_asked() {
    with_machine(|machine| {
        let supervisord = supervisord(machine, "supervisord/app.conf");
        Shipped {
            restart: &["supervisorctl", "restart", "app"],
            reload: Some(&["supervisorctl", "signal", "HUP", "app"]),
            stop: &["supervisorctl", "stop", "app"],
            ..shipped(machine, &supervisord, "supervisor")
        }
        .keeps_its_promises();
        machine.log.wait_seen(WANTS_DOWN);
    });
}

#[test]
fn supervisord_that_sends_int_to_stop() {
    with_machine(|machine| {
        let supervisord = supervisord(machine, "supervisord/app-int.conf");
        Shipped {
            restart: &["supervisorctl", "signal", "TERM", "app"],
            reload: Some(&["supervisorctl", "signal", "HUP", "app"]),
            stop: &["supervisorctl", "stop", "app"],
            ..shipped(machine, &supervisord, "supervisor")
        }
        .keeps_its_promises();
        assert_eq!(machine.log.count(WANTS_DOWN), 0, "it was asked");
    });
}

#[test]
fn monit() {
    with_machine(|machine| {
        machine.install("monit/app", "/etc/monit/conf.d/app");
        machine.install("monit/app.sh", "/usr/local/sbin/app");
        // Debian's looks every 120 s, and has no socket, without which there is no `monit restart`.
        let configuration = "set daemon 1\nset log /var/log/monit.log\nset idfile /run/monit.id\n\
            set statefile /run/monit.state\nset httpd unixsocket /run/monit.sock allow app:app\n\
            include /etc/monit/conf.d/*\n";
        machine.write("/etc/monit/monitrc", configuration, 0o600);
        let messages = Log::new(machine.scratch, "monit");
        symlink(messages.path(), "/var/log/monit.log").unwrap();
        let monit = machine.command(&["monit", "-I"], "monit").start();
        let shipped = Shipped {
            restart: &["monit", "restart", "app"],
            // Nobody would start the next one.
            program: None,
            stop: &["monit", "stop", "app"],
            // While it does one thing it refuses another, and it says when it is done.
            settled: Some((&messages, "'app' restart action done")),
            ..shipped(machine, &monit, "monit")
        };
        // A daemon that it does not find is started by its restart program, too.
        messages.wait_for("'app' process is running with pid");
        shipped.keeps_its_promises();
        messages.wait_for("'app' stop action done");
        // Each had left before the next one came, and none had to be made to.
        assert_eq!(machine.log.count("is gone, and another one"), 0);
    });
}
