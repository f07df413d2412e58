//! lighttpd.

use std::fs;
use std::time::Duration;

use super::scene::{Recipe, Scene, WEB};
use crate::load::SlowSpec;
use crate::support::machine::{Machine, with_machine};

const LIGHTTPD: Recipe = Recipe {
    name: "lighttpd",
    files: &[
        ("lighttpd.conf", "/etc/lighttpd/lighttpd.conf"),
        ("index.shtml", "/var/www/html/index.shtml"),
    ],
    configuration: "/etc/lighttpd/lighttpd.conf",
    writes_to: &["/var/www"],
    target: WEB,
    // It takes so long to read one.
    slow: SlowSpec {
        clients: 2,
        delay: Duration::from_secs(3),
    },
    per_second: 400,
};

fn scene<'a>(machine: &'a Machine<'a>) -> Scene<'a> {
    let mut scene = Scene::new(machine, &LIGHTTPD);
    machine.write("/var/www/html/download", &"x".repeat(100_000), 0o644);
    scene.start();
    scene
}

/// It has compiled them after some tenths of a second.
const RULES: u32 = 20_000;

/// Its syntax is right.
fn without_name(text: &str) -> String {
    text.replace("\"SERVED_BY\" =>", "")
}

#[test]
fn restarts_lose_nothing() {
    with_machine(|machine| {
        let scene = scene(machine);
        scene.loses_nothing();
        scene.stops();
    });
}

/// `lighttpd -tt` says what is wrong, before anything is started.
#[test]
fn a_broken_configuration_is_not_started() {
    with_machine(|machine| {
        let scene = scene(machine);
        let complaint = "setenv.set-environment should have been a list";
        scene.survives(without_name, complaint);
        scene.stops();
    });
}

/// The trap: its PID file comes before it finds out.
#[test]
fn one_that_dies_of_its_modules_is_not_ready() {
    with_machine(|machine| {
        let scene = scene(machine);
        let run = "/etc/sv/lighttpd/run";
        let text = fs::read_to_string(run).unwrap();
        let unchecked = text.replace("lighttpd -tt -f", "lighttpd -t -f");
        assert_ne!(text, unchecked);
        machine.write(run, &unchecked, 0o755);
        // It takes a while to find out.
        let rules: String = (0..RULES)
            .map(|n| format!("\"^/{n}$\" => \"/\","))
            .collect();
        let broken = |text: &str| {
            let slow = format!("\nurl.rewrite-once = ({rules})\n");
            let text = text.replace("\"mod_setenv\"", "\"mod_rewrite\", \"mod_setenv\"");
            without_name(&text) + &slow
        };
        scene.survives(broken, "died before it was ready: exit status 255");
        scene.stops();
    });
}
