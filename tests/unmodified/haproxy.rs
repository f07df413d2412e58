//! HAProxy, in front of a server that stays.

use std::time::Duration;

use super::backend::Backend;
use super::scene::{Recipe, Scene, WEB};
use crate::load::SlowSpec;
use crate::support::machine::with_machine;

pub(super) const HAPROXY: Recipe = Recipe {
    name: "haproxy",
    files: &[("haproxy.cfg", "/etc/haproxy/haproxy.cfg")],
    configuration: "/etc/haproxy/haproxy.cfg",
    writes_to: &[],
    target: WEB,
    slow: SlowSpec {
        clients: 2,
        delay: Duration::from_secs(2),
    },
    per_second: 400,
};
/// The server of haproxy.cfg.
pub(super) const SERVER: u16 = 8000;

#[test]
fn restarts_lose_nothing() {
    with_machine(|machine| {
        let _server = Backend::start(SERVER);
        let mut scene = Scene::new(machine, &HAPROXY);
        scene.start();
        scene.loses_nothing();
        scene.stops();
    });
}

/// `haproxy -c` says what is wrong, before anything is started.
#[test]
fn a_broken_configuration_is_not_started() {
    with_machine(|machine| {
        let _server = Backend::start(SERVER);
        let mut scene = Scene::new(machine, &HAPROXY);
        scene.start();
        let broken = |text: &str| text.replace("default_backend app", "default_backend nobody");
        scene.survives(broken, "unable to find required default_backend: 'nobody'");
        scene.stops();
    });
}
