//! OpenRC. Its init script tells a stop from a restart; where it does not, a stop is over all the same.

use std::fs;
use std::path::PathBuf;

use super::{Shipped, port};
use crate::support::machine::{Machine, with_machine};
use crate::support::openrc::{boot, rc_service};

const SCRIPT: &str = "/etc/init.d/app";

fn start<'a>(machine: &'a Machine<'a>) -> Shipped<'a> {
    rc_service(machine, &["app", "start"])
        .finish()
        .expect_success();
    Shipped {
        machine,
        shell: Box::new(move |words| rc_service(machine, words)),
        restart: &["app", "restart"],
        program: Some(Box::new(|| machine.seamless_run())),
        reload: Some(&["app", "reload"]),
        stop: &["app", "stop"],
        address: port(80),
        root: PathBuf::from("/"),
        directory: "/run/app",
        pid_file: "/run/app/app.pid",
        cleans: false,
        // Each restart brings another supervise-daemon, and a stop ends it.
        stays: vec![],
        settled: None,
    }
}

#[test]
fn the_init_script() {
    with_machine(|machine| {
        boot(machine);
        machine.install("openrc/app", SCRIPT);
        start(machine).keeps_its_promises();
    });
}

/// To the launcher a stop is a restart here, and the service is over when nobody has come for it in time.
#[test]
fn a_stop_that_nobody_tells_from_a_restart_is_over_after_the_orphan_timeout() {
    with_machine(|machine| {
        boot(machine);
        machine.install("openrc/app", SCRIPT);
        let script = fs::read_to_string(SCRIPT).unwrap();
        let shortened = script.replace("stop_post()", "unused()").replace(
            "--stop-timeout 30s",
            "--stop-timeout 30s --orphan-timeout 3s",
        );
        assert!(shortened.len() > script.len());
        fs::write(SCRIPT, shortened).unwrap();
        let shipped = start(machine);
        machine.log.wait_for(" is ready after");
        shipped.stops();
        machine.log.wait_seen("serves on, detached");
    });
}
