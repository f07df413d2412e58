//! Connections that do not end by themselves, through a proxy: a WebSocket's is an upgraded one, and to the proxy what
//! follows are bytes. They live on in the generation that has them, up to its drain timeout, or until `stop --old`.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Instant;

use serde_json::Value;

use super::backend::Backend;
use super::haproxy::{HAPROXY, SERVER};
use super::nginx::NGINX;
use super::scene::{Recipe, Scene, WEB};
use crate::load::Target;
use crate::support::PATIENCE;
use crate::support::machine::{Machine, with_machine};
use crate::support::process::{self, Handle, Pid};

/// nginx as a proxy, on the sockets of the recipe.
const PROXY: &str = "
    server {
        listen 80 default_server;
        listen [::]:80 default_server;
        location / {
            proxy_pass http://127.0.0.1:8000;
            proxy_read_timeout 1h;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $http_connection;
            proxy_set_header X-Served-By \"pid $pid generation 1\";
        }
    }
";

/// The recipe, but for a timeout that the test waits for.
fn scene<'a>(
    machine: &'a Machine<'a>,
    recipe: &'a Recipe,
    timeout: &str,
    shorter: &str,
) -> Scene<'a> {
    let mut scene = Scene::new(machine, recipe);
    if recipe.name == "nginx" {
        machine.write(recipe.configuration, PROXY, 0o644);
    }
    let run = format!("/etc/sv/{}/run", recipe.name);
    let text = fs::read_to_string(&run).unwrap();
    let edited = text.replace(timeout, shorter);
    assert_ne!(text, edited, "the recipe has no {timeout}");
    machine.write(&run, &edited, 0o755);
    scene.start();
    scene
}

fn connect() -> TcpStream {
    let Target::Tcp(address) = WEB else {
        unreachable!("it is a port")
    };
    let connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    connection
}

/// A connection that has been upgraded, and whose other end sends back what it gets.
struct Tunnel(TcpStream);

impl Tunnel {
    fn open() -> Tunnel {
        let mut connection = connect();
        let request =
            "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
        connection.write_all(request.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            connection.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{head:?}");
        let mut tunnel = Tunnel(connection);
        tunnel.lives();
        tunnel
    }

    fn lives(&mut self) {
        self.0.write_all(b"hello").unwrap();
        let mut answer = [0; 5];
        self.0.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"hello");
    }

    fn wait_end(mut self) {
        match self.0.read(&mut [0]) {
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("it did not end: {other:?}"),
        }
    }
}

/// What is answered when the server has something to say.
fn poll() -> String {
    let mut connection = connect();
    let request = "GET /poll HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}

fn live_on_until_they_are_ended(recipe: &Recipe) {
    with_machine(|machine| {
        let server = Backend::start(SERVER);
        let scene = scene(machine, recipe, "--stop-timeout 30s", "--stop-timeout 1s");
        let load = scene.load();
        let mut first = Tunnel::open();
        let long_poll = thread::spawn(poll);
        server.wait_polls(1);

        restart(&scene, 2);
        scene.wait_answers(&load, 2);
        let mut second = Tunnel::open();
        restart(&scene, 3);
        scene.wait_answers(&load, 3);
        let mut third = Tunnel::open();

        // Each in its own generation.
        assert_eq!(generations(&scene), [3, 2, 1]);
        first.lives();
        second.lives();
        server.answer_polls();
        let answer = long_poll.join().unwrap();
        assert!(answer.ends_with(" generation 1\n"), "{answer}");

        // What else those two have in hand they finish.
        let report = load.stop();
        assert_eq!(report.failed(), 0, "{report}\n{}", scene.log().listing());
        scene.verb(&["stop", "--old"]).finish().expect_success();
        first.wait_end();
        second.wait_end();
        third.lives();
        assert_eq!(generations(&scene), [3]);
        assert_only_the_newest(&scene);
        scene.wait_only(3);
        drop(third);
        scene.stops();
    });
}

fn restart(scene: &Scene<'_>, version: u32) {
    scene.deploy(version - 1, version);
    scene.sv("restart");
    scene.wait_ready(version);
}

fn status(scene: &Scene<'_>) -> Value {
    let status = scene.verb(&["status", "--json"]).finish();
    serde_json::from_str(&status.stdout).unwrap()
}

/// Their numbers, newest first.
fn generations(scene: &Scene<'_>) -> Vec<u64> {
    let status = status(scene);
    let all = status["generations"].as_array().unwrap().iter();
    all.map(|one| one["generation"].as_u64().unwrap()).collect()
}

/// No worker of an older one is left behind.
fn assert_only_the_newest(scene: &Scene<'_>) {
    let status = status(scene);
    let newest = &status["generations"][0];
    let known = ["pid", "keeper", "launcher"].map(|key| {
        let pid = newest[key].as_i64().unwrap();
        Pid::from_raw(pid.try_into().unwrap())
    });
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut others = scene.processes();
        others.retain(|one| !known.contains(&one.pid) && one.parent != known[0]);
        let Some(first) = others.first() else {
            return;
        };
        // A keeper goes a moment after its daemon.
        let ended = Handle::open(first.pid).is_none_or(|one| one.wait_until(deadline));
        assert!(ended, "{}", process::list(&others));
    }
}

#[test]
fn through_nginx_they_live_on_until_they_are_ended() {
    live_on_until_they_are_ended(&NGINX);
}

#[test]
fn through_haproxy_they_live_on_until_they_are_ended() {
    live_on_until_they_are_ended(&HAPROXY);
}

/// Master and workers are KILLed at the deadline: they are one process group.
#[test]
fn they_end_at_the_drain_timeout() {
    with_machine(|machine| {
        let _server = Backend::start(SERVER);
        let scene = scene(machine, &NGINX, "--drain-timeout 10m", "--drain-timeout 1s");
        let first = Tunnel::open();
        restart(&scene, 2);
        scene.wait_only(2);
        let mut second = Tunnel::open();
        first.wait_end();
        scene.wait_gone(1);
        second.lives();
        assert_only_the_newest(&scene);
        scene.log().wait_seen(" did not end in time; it is killed");
    });
}
