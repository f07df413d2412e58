//! nginx, with Debian's own nginx.conf.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::scene::{Recipe, Scene, WEB, get};
use crate::load::SlowSpec;
use crate::support::machine::with_machine;

pub(super) const NGINX: Recipe = Recipe {
    name: "nginx",
    files: &[("site", "/etc/nginx/sites-enabled/default")],
    configuration: "/etc/nginx/sites-enabled/default",
    writes_to: &["/var/lib/nginx", "/var/log/nginx"],
    target: WEB,
    // It takes so long to read one.
    slow: SlowSpec {
        clients: 2,
        delay: Duration::from_secs(3),
    },
    per_second: 400,
};

#[test]
fn restarts_lose_nothing() {
    with_machine(|machine| {
        let mut scene = Scene::new(machine, &NGINX);
        scene.start();
        scene.loses_nothing();
        scene.stops();
    });
}

/// `nginx -t` says what is wrong, before anything is started.
#[test]
fn a_broken_configuration_is_not_started() {
    with_machine(|machine| {
        let mut scene = Scene::new(machine, &NGINX);
        scene.start();
        let broken = |text: &str| text.replace("return 200", "retrun 200");
        scene.survives(broken, "unknown directive \"retrun\"");
        scene.stops();
    });
}

/// Two traps. An old master that ends removes the PID file of the new one; and an address that is not held is bound by
/// the first generation that has it, so that no other one can start while it lives.
#[test]
fn its_pid_file_is_not_reliable_and_every_address_must_be_held() {
    with_machine(|machine| {
        let mut scene = Scene::new(machine, &NGINX);
        scene.start();
        assert!(Path::new("/run/nginx.pid").exists());
        scene.edit(|text| text.replace("listen 80 ", "listen 8080;\n    listen 80 "));
        scene.sv("restart");
        scene.wait_ready(2);
        scene.wait_gone(1);
        assert!(!Path::new("/run/nginx.pid").exists());
        // As logrotate would: the launcher passes USR1 on.
        let log = Path::new("/var/log/nginx/access.log");
        fs::rename(log, "/var/log/nginx/access.log.1").unwrap();
        scene.sv("1");
        scene.wait_path(log);

        scene.deploy(1, 3);
        // `nginx -t` does not see it.
        scene.sv("term");
        scene.wait_count("still could not bind()", 1);
        assert!(get(&WEB).ends_with(" generation 1\n"));
        scene.edit(|text| text.replace("listen 8080;", ""));
        scene.log().wait_for(" is ready after ");
        scene.wait_gone(2);
        assert!(get(&WEB).ends_with(" generation 3\n"));
    });
}
