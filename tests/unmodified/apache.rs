//! Apache httpd, which binds by itself, with SO_REUSEPORT.

use std::time::Duration;

use super::scene::{Recipe, Scene, WEB};
use crate::load::SlowSpec;
use crate::support::machine::with_machine;

const APACHE: Recipe = Recipe {
    name: "apache",
    files: &[
        ("apache2.conf", "/etc/apache2/apache2.conf"),
        ("index.shtml", "/var/www/html/index.shtml"),
    ],
    configuration: "/etc/apache2/apache2.conf",
    writes_to: &["/var/www"],
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
        let mut scene = Scene::new(machine, &APACHE);
        scene.start();
        scene.loses_nothing();
        scene.stops();
    });
}

/// `apache2 -t` says what is wrong, before anything is started.
#[test]
fn a_broken_configuration_is_not_started() {
    with_machine(|machine| {
        let mut scene = Scene::new(machine, &APACHE);
        scene.start();
        let broken = |text: &str| text.replace("Require all granted", "Requier all granted");
        scene.survives(broken, "Invalid command 'Requier'");
        scene.stops();
    });
}

/// `apache2 -t` does not see that its log is a directory: it has bound its sockets when it finds out, and dies with
/// whoever waits in their queues. They are served by the other sockets of the address.
#[test]
fn one_that_dies_after_it_has_bound_loses_nothing() {
    with_machine(|machine| {
        let mut scene = Scene::new(machine, &APACHE);
        scene.start();
        let broken = |text: &str| text.replace("/proc/self/fd/2", "/run");
        scene.survives(broken, "died before it was ready: exit status 1");
        scene.stops();
    });
}
