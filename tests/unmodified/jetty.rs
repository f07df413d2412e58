//! A JVM, whose only way to an inherited socket is descriptor 0.

use std::fs;
use std::time::Duration;

use super::change::{replace, the_next_one_fails};
use super::scene::{Recipe, Scene, WEB};
use crate::load::SlowSpec;
use crate::support::machine::{Machine, shipped, with_machine};

const RUN: &str = "/etc/sv/jetty/run";
const CONFIGURATION: &str = "/etc/web.properties";
const CLASSES: &str = "/usr/local/share/app";
const JETTY: Recipe = Recipe {
    name: "jetty",
    files: &[("web.properties", CONFIGURATION)],
    configuration: CONFIGURATION,
    writes_to: &[],
    target: WEB,
    slow: SlowSpec {
        clients: 2,
        delay: Duration::from_secs(2),
    },
    per_second: 300,
};

fn with_jetty(test: impl FnOnce(Scene<'_>) + Send) {
    with_machine(|machine| {
        let scene = Scene::new(machine, &JETTY);
        compile(machine);
        test(scene);
    });
}

/// As the run script says: with its class path.
fn compile(machine: &Machine<'_>) {
    let run = fs::read_to_string(RUN).unwrap();
    let variables = run.lines().filter_map(|line| {
        let (name, _) = line.split_once('=')?;
        matches!(name, "jars" | "CLASSPATH").then_some(line)
    });
    let source = shipped("daemons/jetty/Web.java");
    let java = format!(
        "{}\nexport CLASSPATH\nexec javac -Xlint:all -Werror -d {CLASSES} {}",
        variables.collect::<Vec<_>>().join("\n"),
        source.display()
    );
    for (file, package) in [
        ("/usr/share/java/jetty9-server.jar", "libjetty9-java"),
        ("/usr/bin/javac", "default-jdk-headless"),
    ] {
        let is_there = fs::exists(file).unwrap();
        assert!(
            is_there,
            "the tests need {file}: install the Debian package {package}"
        );
    }
    fs::create_dir_all(CLASSES).unwrap();
    let javac = machine.command(&["sh", "-c", &java], "dash");
    javac.finish().expect_success();
}

#[test]
fn restarts_lose_nothing() {
    with_jetty(|mut scene| {
        scene.start();
        scene.loses_nothing();
        scene.stops();
    });
}

#[test]
fn a_broken_configuration_is_not_started() {
    with_jetty(|mut scene| {
        scene.start();
        let broken = |text: &str| text.replace("threads = 50", "threads = fifty");
        scene.survives(broken, "For input string: \"fifty\"");
        scene.stops();
    });
}

/// The trap: where descriptor 0 is no listening socket, Jetty by itself opens a port of its own.
#[test]
fn without_its_socket_it_is_not_ready() {
    with_jetty(|mut scene| {
        scene.start();
        replace(RUN, " <&3'", "'");
        the_next_one_fails(&scene, "descriptor 0 is no listening socket");
        scene.stops();
    });
}
