//! uvicorn: with a few lines around it, which drain, and without them.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::change::{answers, replace, wait_answers};
use super::scene::{Recipe, Scene, WEB};
use super::websocket::WebSocket;
use crate::load::SlowSpec;
use crate::support::machine::with_machine;
use crate::support::{PATIENCE, tool};

const RUN: &str = "/etc/sv/uvicorn/run";
const SERVE: &str = "/usr/local/share/app/serve.py";
const APPLICATION: &str = "/usr/local/share/app/app.py";
const UVICORN: Recipe = Recipe {
    name: "uvicorn",
    files: &[("serve.py", SERVE), ("app.py", APPLICATION)],
    configuration: APPLICATION,
    writes_to: &[],
    target: WEB,
    slow: SlowSpec {
        clients: 2,
        delay: Duration::from_secs(2),
    },
    per_second: 400,
};

fn with_uvicorn(test: impl FnOnce(Scene<'_>) + Send) {
    tool("uvicorn", "uvicorn");
    assert!(
        fs::exists("/usr/lib/python3/dist-packages/websockets").unwrap(),
        "the tests need websockets for Python: install the Debian package python3-websockets"
    );
    with_machine(|machine| test(Scene::new(machine, &UVICORN)));
}

#[test]
fn restarts_lose_nothing() {
    with_uvicorn(|mut scene| {
        scene.start();
        scene.loses_nothing();
        scene.stops();
    });
}

#[test]
fn a_broken_application_is_not_started() {
    with_uvicorn(|mut scene| {
        scene.start();
        let broken = |text: &str| text.replace("import re\n", "import re\nimport nowhere\n");
        scene.survives(broken, "No module named 'nowhere'");
        scene.stops();
    });
}

/// A connection that the first generation has accepted, when the second one serves.
fn early(scene: &mut Scene<'_>) -> TcpStream {
    scene.start();
    let early = TcpStream::connect("127.0.0.1:80").unwrap();
    early.set_read_timeout(Some(PATIENCE)).unwrap();
    // It is accepted after that one.
    answers(scene, 1);
    scene.deploy(1, 2);
    scene.sv("restart");
    scene.wait_ready(2);
    wait_answers(scene, 2);
    early
}

#[test]
fn who_has_not_asked_yet_is_answered() {
    with_uvicorn(|mut scene| {
        // As long as this test may take.
        replace(SERVE, "asyncio.sleep(1)", "asyncio.sleep(60)");
        replace(RUN, "--stop-timeout 30s", "--stop-timeout 1s");
        let mut early = early(&mut scene);
        let request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        early.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        early.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with(" generation 1\n"), "{answer}");
        scene.stops();
    });
}

/// The trap: its own shutdown closes whoever has connected and has not asked yet.
#[test]
fn by_itself_it_closes_who_has_not_asked_yet() {
    with_uvicorn(|mut scene| {
        replace(RUN, "/usr/bin/python3 serve.py", "uvicorn --fd 3 app:app");
        let mut early = early(&mut scene);
        assert_eq!(early.read_to_end(&mut Vec::new()).unwrap_or(0), 0);
        wait_first_gone(&scene);
        scene.stops();
    });
}

// ---- WebSockets

/// A conversation with version 1, which drains.
fn talk_through_a_restart(scene: &mut Scene<'_>) -> WebSocket {
    scene.start();
    let mut socket = WebSocket::open("127.0.0.1:80");
    assert!(socket.ask("who?").ends_with(" generation 1\n"));
    scene.deploy(1, 2);
    scene.sv("restart");
    scene.wait_ready(2);
    wait_answers(scene, 2);
    for _ in 0..3 {
        let answer = socket.ask("and now?");
        assert!(answer.ends_with(" generation 1\n"), "{answer}");
    }
    socket
}

fn wait_first_gone(scene: &Scene<'_>) {
    let is_gone = |line: &str| line.contains("generation 1 (pid ") && line.contains(" is gone");
    scene.log().wait(is_gone);
    answers(scene, 2);
}

#[test]
fn a_websocket_lives_on_until_its_client_ends_it() {
    with_uvicorn(|mut scene| {
        let socket = talk_through_a_restart(&mut scene);
        let status = scene.verb(&["status", "--json"]).finish().stdout;
        assert!(status.contains("\"draining\""), "{status}");
        drop(socket);
        wait_first_gone(&scene);
        scene.stops();
    });
}

#[test]
fn a_websocket_lives_on_through_further_restarts() {
    with_uvicorn(|mut scene| {
        replace(RUN, "--stop-timeout 30s", "--stop-timeout 1s");
        let mut socket = talk_through_a_restart(&mut scene);
        for version in 3..=5 {
            scene.deploy(version - 1, version);
            scene.sv("restart");
            scene.wait_ready(version);
            assert!(socket.ask("still?").ends_with(" generation 1\n"));
        }
        scene.stops();
        assert!(socket.is_over());
    });
}

#[test]
fn stop_old_ends_a_websocket() {
    with_uvicorn(|mut scene| {
        replace(RUN, "--stop-timeout 30s", "--stop-timeout 1s");
        let mut socket = talk_through_a_restart(&mut scene);
        scene.verb(&["stop", "--old"]).finish().expect_success();
        assert!(socket.is_over());
        wait_first_gone(&scene);
        scene.stops();
    });
}

#[test]
fn the_drain_timeout_ends_a_websocket() {
    with_uvicorn(|mut scene| {
        replace(RUN, "--drain-timeout 10m", "--drain-timeout 3s");
        scene.start();
        let mut socket = WebSocket::open("127.0.0.1:80");
        scene.deploy(1, 2);
        scene.sv("restart");
        scene.wait_ready(2);
        assert!(socket.is_over());
        wait_first_gone(&scene);
        scene.stops();
    });
}
