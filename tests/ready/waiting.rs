//! `--ready listen:ADDR` at a socket that the daemon was given: every generation has it from the start, and only who is up
//! waits for connections there.

use crate::puppet::{Generation, SOON};
use crate::scene::kill;
use crate::stage::Stage;
use crate::support::{network, process};

use super::Mark;

/// Has it, and does not wait there.
const HAS: &str = "import threading; held = socket.socket(fileno=3); held.setblocking(True); poll = select.epoll()";
/// Ways to wait. They do not end.
const WAYS: [&str; 6] = [
    "poll.register(held, select.EPOLLIN)",
    "threading.Thread(target=held.accept, daemon=True).start()",
    "threading.Thread(target=lambda: select.select([held], [], []), daemon=True).start()",
    "other = select.poll(); other.register(held, select.POLLIN); threading.Thread(target=other.poll, daemon=True).start()",
    "held.settimeout(1000); threading.Thread(target=held.accept, daemon=True).start()",
    "held.setblocking(False); poll.register(held, select.EPOLLIN | select.EPOLLET)",
];
const WAITS: &str = WAYS[0];
const MISSING: &str = "no process of it waits for connections there";

#[test]
fn a_daemon_that_waits_there() {
    let _network = network::isolate();
    for way in WAYS {
        let stage = Stage::new();
        let mark = Mark::new(&stage);
        let options = [
            "--listen=127.0.0.1:80",
            &mark.option,
            "--ready=listen:127.0.0.1:80",
        ];
        let one = stage.begin(&options, &[]);
        stage.has(&one.daemon, HAS);
        mark.assert_waits(&stage, &one, MISSING);
        stage.ready_since(&one.daemon, way);
        stage.stop(one.launcher, &[]);
    }
}

/// However the two are spelled, and whatever the socket is.
#[test]
fn every_kind_of_held_socket() {
    let _network = network::isolate();
    for (held, waited) in [
        ("http=80", "80"),
        ("127.0.0.1:80", "80"),
        ("80", "127.0.0.1:80"),
        ("127.0.0.1:80", "localhost:80"),
        ("[::1]:80", "[::1]:80"),
        ("udp:127.0.0.1:53", "udp:53"),
        ("./app.sock", "app.sock"),
        ("unix-dgram:./app.sock", "unix-dgram:app.sock"),
        ("@app", "@app"),
    ] {
        let stage = Stage::new();
        let waited = waited.replace("app.sock", stage.scratch.join("app.sock").to_str().unwrap());
        let (listen, ready) = (
            format!("--listen={held}"),
            format!("--ready=listen:{waited}"),
        );
        let mark = Mark::new(&stage);
        let one = stage.begin(&[&listen, &mark.option, &ready], &[]);
        stage.has(&one.daemon, HAS);
        mark.assert_waits(&stage, &one, MISSING);
        stage.ready_since(&one.daemon, WAITS);
        stage.stop(one.launcher, &[]);
    }
}

/// The predecessor waits at the very same socket: R11.
#[test]
fn the_predecessor_waits_there() {
    let _network = network::isolate();
    let options = ["--listen=127.0.0.1:80", "--ready=listen:80"];
    for (lost, way) in [(false, WAITS), (true, WAITS), (false, WAYS[1])] {
        let stage = Stage::new();
        let one = stage.begin(&options, &[("FIRST", HAS)]);
        stage.ready_since(&one.daemon, way);
        let keeper = one.keeper;
        let old = stage.detach(one);
        if lost {
            kill(keeper);
        }
        let mark = Mark::new(&stage);
        let options = [options[0], options[1], &mark.option];
        let two = stage.begin(&options, &[("FIRST", HAS)]);
        mark.assert_waits(&stage, &two, MISSING);
        stage.assert_serves(&old);
        stage.ready_since(&two.daemon, way);
        process::wait_exit(old.pid);
        assert_eq!(stage.got(&old, "TERM"), 1);
        stage.stop(two.launcher, &[]);
    }
}

/// A master that waits for nobody, and workers that do; one that has left does not count.
#[test]
fn its_workers_wait_there() {
    let _network = network::isolate();
    for (call, counts) in [
        ("child()", true),
        ("child(session=True)", true),
        ("child(orphan=True)", true),
        ("child(orphan=True, session=True)", false),
    ] {
        let stage = Stage::new();
        let mark = Mark::new(&stage);
        let one = stage.begin(
            &["--listen=@held", "--ready=listen:@held", &mark.option],
            &[("FIRST", HAS)],
        );
        let worker = stage.child(&one.daemon, call);
        // An epoll instance of its own: the master has a copy of the one that it was born with.
        stage.has(
            &worker,
            "poll = select.epoll(); poll.register(held, select.EPOLLIN)",
        );
        if counts {
            stage.has(&one.daemon, "write('mark.pid', str(os.getpid()))");
            stage.wait_ready(&one.daemon);
        } else {
            mark.assert_waits(&stage, &one, MISSING);
            stage.ready_since(&one.daemon, WAITS);
        }
        stage.asks(&worker, "leave()");
        process::wait_exit(worker.pid);
        stage.stop(one.launcher, &[]);
    }
}

/// It comes and goes, and another descriptor in its place is another thing.
#[test]
fn one_that_comes_and_goes() {
    let _network = network::isolate();
    let stage = Stage::new();
    let mark = Mark::new(&stage);
    let options = ["--listen=127.0.0.1:80", "--ready=listen:80", &mark.option];
    let one = stage.begin(&options, &[("FIRST", HAS)]);
    for _ in 0..2 {
        stage.has(&one.daemon, WAITS);
        stage.wait_waits(MISSING, false);
        stage.has(&one.daemon, "poll.unregister(held)");
        stage.wait_waits(MISSING, true);
    }
    stage.has(
        &one.daemon,
        "other = socket.create_server(('127.0.0.1', 81)); poll.register(other)",
    );
    mark.assert_waits(&stage, &one, MISSING);
    stage.ready_since(&one.daemon, WAITS);
    stage.stop(one.launcher, &[]);
}

/// Never: the attempt fails, and the old one serves. R20: the next keeper knows what was given.
#[test]
fn one_that_never_waits() {
    let _network = network::isolate();
    let stage = Stage::new();
    let options = ["--listen=127.0.0.1:80"];
    let old = stage.standby(&options, &[("FIRST", HAS)]);
    let two = stage.begin(&[options[0], "--ready=listen:80", SOON], &[("FIRST", HAS)]);
    stage.assert_failed(two, &old, MISSING);
    assert_eq!(stage.verb(&["stop"]).code(), Some(0));

    let mark = Mark::new(&stage);
    let one = stage.begin(
        &[options[0], "--ready=listen:80", &mark.option],
        &[("FIRST", HAS)],
    );
    kill(one.keeper);
    stage.log.wait_for("goes on in its place");
    mark.assert_waits(&stage, &one, MISSING);
    stage.ready_since(&one.daemon, WAITS);
    let Generation { launcher, .. } = one;
    launcher.signal(nix::sys::signal::Signal::SIGINT);
    launcher.finish();
    stage.scratch.wait_no_processes_but(&[]);
}
