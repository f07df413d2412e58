//! `--ready listen:ADDR`: the daemon has a socket of its own there. A connection would be answered by anybody.

use std::net::{TcpListener, UdpSocket};

use crate::puppet::{NOT_SOON, SOON};
use crate::stage::Stage;
use crate::support::{network, process};

use super::Mark;

/// What is waited for, what the daemon opens that is something else, and what it opens that is right.
struct Case {
    address: &'static str,
    others: &'static [&'static str],
    right: &'static str,
}

const CASES: &[Case] = &[
    Case {
        address: "127.0.0.1:80",
        others: &[
            "listen(1, 'tcp', ('127.0.0.1', 81))",
            "listen(2, 'tcp', ('127.0.0.2', 80))",
            "listen(3, 'udp', ('127.0.0.1', 80))",
            // Bound, but nobody can connect.
            "bind(4, 'tcp', ('127.0.0.1', 80))",
        ],
        right: "listen(5, 'tcp', ('127.0.0.1', 80))",
    },
    // Reached at 127.0.0.1 as well.
    Case {
        address: "127.0.0.1:80",
        others: &[],
        right: "listen(5, 'tcp', ('0.0.0.0', 80))",
    },
    Case {
        address: "127.0.0.1:80",
        others: &["listen(1, 'tcp6', ('::1', 80))"],
        right: "listen(5, 'tcp6', ('::', 80), only6=False)",
    },
    Case {
        address: "80",
        others: &[
            "listen(1, 'tcp', ('127.0.0.1', 8080))",
            "listen(2, 'udp', ('0.0.0.0', 80))",
        ],
        right: "listen(5, 'tcp', ('127.0.0.1', 80))",
    },
    Case {
        address: ":80",
        others: &[],
        right: "listen(5, 'tcp6', ('::1', 80))",
    },
    Case {
        address: "[::1]:80",
        others: &[
            "listen(1, 'tcp', ('127.0.0.1', 80))",
            "listen(2, 'tcp', ('0.0.0.0', 80))",
        ],
        right: "listen(5, 'tcp6', ('::1', 80))",
    },
    Case {
        address: "[::1]:80",
        others: &[],
        right: "listen(5, 'tcp6', ('::', 80))",
    },
    Case {
        address: "tcp4:80",
        others: &["listen(1, 'tcp6', ('::1', 80))"],
        right: "listen(5, 'tcp', ('0.0.0.0', 80))",
    },
    Case {
        address: "tcp6:80",
        others: &["listen(1, 'tcp', ('0.0.0.0', 80))"],
        right: "listen(5, 'tcp6', ('::', 80))",
    },
    Case {
        address: "localhost:80",
        others: &["listen(1, 'tcp', ('127.0.0.2', 80))"],
        right: "listen(5, 'tcp', ('127.0.0.1', 80))",
    },
    Case {
        address: "127.0.0.1:http",
        others: &["listen(1, 'tcp', ('127.0.0.1', 8080))"],
        right: "listen(5, 'tcp', ('127.0.0.1', 80))",
    },
    Case {
        address: "udp:53",
        others: &[
            "listen(1, 'tcp', ('127.0.0.1', 53))",
            "listen(2, 'udp', ('127.0.0.1', 54))",
        ],
        right: "listen(5, 'udp', ('127.0.0.1', 53))",
    },
    Case {
        address: "udp:[::1]:53",
        others: &["listen(1, 'udp', ('127.0.0.1', 53))"],
        right: "listen(5, 'udp6', ('::1', 53))",
    },
    Case {
        address: "DIR/app.sock",
        others: &[
            "listen(1, 'unix', 'DIR/app.sock2')",
            "write('DIR/app.sock', 'a file')",
            "os.unlink('DIR/app.sock')",
            "bind(2, 'unix', 'DIR/app.sock'); os.unlink('DIR/app.sock')",
            "listen(3, 'unix-dgram', 'DIR/app.sock'); close(3); os.unlink('DIR/app.sock')",
        ],
        right: "listen(5, 'unix', 'DIR/app.sock')",
    },
    // As nginx and others do it, so that nobody finds a path without a listener.
    Case {
        address: "DIR/app.sock",
        others: &["listen(1, 'unix', 'DIR/app.sock.new')"],
        right: "os.rename('DIR/app.sock.new', 'DIR/app.sock')",
    },
    Case {
        address: "unix:app.sock",
        others: &["listen(1, 'unix', 'DIR/other.sock')"],
        right: "listen(5, 'unix', 'DIR/app.sock')",
    },
    // The path as the daemon has bound it counts from where it stands.
    Case {
        address: "DIR/app.sock",
        others: &[],
        right: "os.chdir('DIR'); listen(5, 'unix', 'app.sock'); os.chdir('/')",
    },
    Case {
        address: "./app.sock",
        others: &[],
        right: "os.chdir('DIR'); listen(5, 'unix', './app.sock')",
    },
    // The directory is another one's name.
    Case {
        address: "DIR/link/app.sock",
        others: &["os.mkdir('DIR/real'); os.symlink('real', 'DIR/link')"],
        right: "listen(5, 'unix', 'DIR/real/app.sock')",
    },
    Case {
        address: "unix-dgram:DIR/app.sock",
        others: &["listen(1, 'unix', 'DIR/app.sock'); os.unlink('DIR/app.sock')"],
        right: "listen(5, 'unix-dgram', 'DIR/app.sock')",
    },
    Case {
        address: "unix-seqpacket:DIR/app.sock",
        others: &["listen(1, 'unix', 'DIR/app.sock'); os.unlink('DIR/app.sock')"],
        right: "listen(5, 'unix-seqpacket', 'DIR/app.sock')",
    },
    Case {
        address: "@app",
        others: &[
            r"listen(1, 'unix', '\0apples')",
            r"listen(2, 'unix', 'app')",
        ],
        right: r"listen(5, 'unix', '\0app')",
    },
];

/// Late: what is something else is no reason to commit, however long it is there.
#[test]
fn a_socket_of_the_daemons_own() {
    let _network = network::isolate();
    for case in CASES {
        let stage = Stage::new();
        let directory = stage.scratch.path().to_str().unwrap();
        let address = case.address.replace("DIR", directory);
        let right = case.right.replace("DIR", directory);
        let mark = Mark::new(&stage);
        let option = format!("--ready=listen:{address}");
        let one = stage.begin(&[&mark.option, &option], &[]);
        for other in case.others {
            stage.has(&one.daemon, &other.replace("DIR", directory));
        }
        mark.assert_waits(&stage, &one, "listen:");
        stage.ready_since(&one.daemon, &right);
        assert_eq!(stage.pid_in_file(), Some(one.daemon.pid));
        stage.stop(one.launcher, &[]);
    }
}

/// The predecessor listens at the same address, and would answer whoever asks there: R11.
#[test]
fn the_predecessors_socket_does_not_count() {
    let _network = network::isolate();
    for (address, first, next) in [
        (
            "127.0.0.1:80",
            "listen(1, 'tcp', ('127.0.0.1', 80))",
            "listen(1, 'tcp', ('127.0.0.1', 80))",
        ),
        (
            "80",
            "listen(1, 'tcp', ('0.0.0.0', 80))",
            "listen(1, 'tcp', ('0.0.0.0', 80))",
        ),
        (
            "udp:53",
            "listen(1, 'udp', ('127.0.0.1', 53))",
            "listen(1, 'udp', ('127.0.0.1', 53))",
        ),
        (
            "DIR/app.sock",
            "listen(1, 'unix', 'DIR/app.sock')",
            "listen(1, 'unix', 'DIR/new'); os.rename('DIR/new', 'DIR/app.sock')",
        ),
    ] {
        let stage = Stage::new();
        let directory = stage.scratch.path().to_str().unwrap();
        let option = format!("--ready=listen:{}", address.replace("DIR", directory));
        let one = stage.begin(&[&option], &[]);
        stage.ready_since(&one.daemon, &first.replace("DIR", directory));
        let old = stage.detach(one);

        let mark = Mark::new(&stage);
        let two = stage.begin(&[&mark.option, &option], &[]);
        mark.assert_waits(&stage, &two, "listen:");
        stage.assert_serves(&old);
        let ready = stage.ready_since(&two.daemon, &next.replace("DIR", directory));
        assert!(!ready.contains("the probe"), "{ready}");
        process::wait_exit(old.pid);
        assert_eq!(stage.got(&old, "TERM"), 1);
        assert_eq!(stage.got(&old, "USR2"), 0);
        stage.stop(two.launcher, &[]);
    }
}

/// What belongs to the daemon: its descendants, wherever they are, and its session, whoever their parent is.
#[test]
fn whose_socket_it_may_be() {
    let _network = network::isolate();
    let right = "listen(1, 'tcp', ('127.0.0.1', 80))";
    for (call, grandchild, counts) in [
        ("child()", None, true),
        ("child(group=True)", None, true),
        ("child(session=True)", None, true),
        ("child()", Some("child()"), true),
        ("child(session=True)", Some("child()"), true),
        ("child(orphan=True)", None, true),
        ("child(orphan=True)", Some("child(group=True)"), true),
        // Nothing says any more whose it was.
        ("child(orphan=True, session=True)", None, false),
    ] {
        let stage = Stage::new();
        let mark = Mark::new(&stage);
        let one = stage.begin(&[&mark.option, "--ready=listen:80"], &[]);
        let child = stage.child(&one.daemon, call);
        let speaker = match grandchild {
            Some(call) => stage.child(&child, call),
            None => child,
        };
        stage.has(&speaker, right);
        if counts {
            stage.has(
                &one.daemon,
                &format!("write('mark.pid', '{}')", one.daemon.pid),
            );
            stage.wait_ready(&one.daemon);
        } else {
            mark.assert_waits(&stage, &one, "listen:tcp:*:80");
            stage.ready_since(&one.daemon, right);
        }
        drop(one.launcher);
    }
}

/// Sockets of strangers, in the same network.
#[test]
fn a_strangers_socket_does_not_count() {
    let _network = network::isolate();
    let _tcp = TcpListener::bind("127.0.0.1:80").unwrap();
    let _udp = UdpSocket::bind("127.0.0.1:53").unwrap();
    for address in ["80", "127.0.0.1:80", "udp:53"] {
        let stage = Stage::new();
        let old = stage.standby(&[], &[]);
        let option = format!("--ready=listen:{address}");
        let two = stage.begin(&[&option, SOON], &[]);
        stage.assert_failed(two, &old, "somebody else listens there");
        stage.log.wait_seen(NOT_SOON);
    }
}

/// A listener that comes and goes is asked for at the moment of the commit, and not before.
#[test]
fn one_that_comes_and_goes() {
    let _network = network::isolate();
    let stage = Stage::new();
    let mark = Mark::new(&stage);
    let one = stage.begin(&["--ready=listen:80", &mark.option], &[]);
    let (opens, closes) = ("listen(1, 'tcp', ('127.0.0.1', 80))", "close(1)");
    for _ in 0..3 {
        stage.has(&one.daemon, opens);
        stage.wait_waits("listen:tcp:*:80", false);
        stage.has(&one.daemon, closes);
        stage.wait_waits("listen:tcp:*:80", true);
    }
    mark.assert_waits(&stage, &one, "listen:tcp:*:80");
    stage.ready_since(&one.daemon, opens);
    // Once it has committed, nothing is looked at any more.
    stage.has(&one.daemon, closes);
    assert_eq!(stage.told()["generations"][0]["phase"], "serving");
    stage.stop(one.launcher, &[]);
}

/// A child's socket goes with the child, and another one's counts as well.
#[test]
fn the_one_who_listens_dies() {
    let _network = network::isolate();
    let stage = Stage::new();
    let mark = Mark::new(&stage);
    let one = stage.begin(&["--ready=listen:80", &mark.option], &[]);
    let opens = "listen(1, 'tcp', ('127.0.0.1', 80))";
    let first = stage.child(&one.daemon, "child()");
    stage.has(&first, opens);
    stage.wait_waits("listen:tcp:*:80", false);
    stage.asks(&first, "leave()");
    stage.wait_waits("listen:tcp:*:80", true);
    mark.assert_waits(&stage, &one, "listen:tcp:*:80");
    let second = stage.child(&one.daemon, "child()");
    stage.ready_since_other(&one.daemon, &second, opens);
    stage.asks(&second, "leave()");
    stage.stop(one.launcher, &[]);
}

/// Never: the attempt fails, log and `status` say what was missing, and the old one serves.
#[test]
fn one_that_never_listens() {
    let _network = network::isolate();
    let stage = Stage::new();
    let old = stage.standby(&[], &[]);
    let two = stage.begin(&["--ready=listen:127.0.0.1:80", SOON], &[]);
    let pid = two.daemon.pid;
    stage.assert_failed(two, &old, "listen:tcp:127.0.0.1:80");
    let line = stage.log.wait_seen(NOT_SOON);
    assert!(
        line.contains(&format!("generation 2 (pid {pid})")),
        "{line}"
    );
    assert!(
        stage.why().contains("nobody listens there"),
        "{}",
        stage.why()
    );

    // It dies while it is waited for.
    let three = stage.begin(&["--ready=listen:127.0.0.1:80"], &[]);
    stage.asks(&three.daemon, "leave(3)");
    stage.assert_failed(three, &old, "it died before it was ready: exit status 3");
    // The next one succeeds.
    let four = stage.begin(&["--ready=listen:127.0.0.1:80"], &[]);
    stage.ready_since(&four.daemon, "listen(1, 'tcp', ('127.0.0.1', 80))");
    process::wait_exit(old.pid);
    stage.stop(four.launcher, &[]);
}

/// Without a predecessor, and without a timeout, it waits as long as it takes: after 5 s the log says for what.
#[test]
fn the_log_says_what_it_waits_for() {
    let _network = network::isolate();
    let stage = Stage::new();
    let one = stage.begin(&["--ready=listen:80"], &[]);
    let line = stage.log.wait_for("waits for listen:tcp:*:80");
    assert!(line.contains("nobody listens there"), "{line}");
    assert!(
        line.contains(&format!("generation 1 (pid {})", one.daemon.pid)),
        "{line}"
    );
    // The word of the daemon is not what is missing.
    assert!(!line.contains("notify started"), "{line}");
    stage.ready_since(&one.daemon, "listen(1, 'tcp', ('127.0.0.1', 80))");
    stage.stop(one.launcher, &[]);
}

/// A held socket elsewhere says nothing of this one.
#[test]
fn a_second_socket_beside_a_held_one() {
    let _network = network::isolate();
    let stage = Stage::new();
    let mark = Mark::new(&stage);
    let options = [
        "--listen=127.0.0.1:80",
        &mark.option,
        "--ready=listen:127.0.0.1:81",
    ];
    let one = stage.begin(&options, &[]);
    mark.assert_waits(&stage, &one, "listen:tcp:127.0.0.1:81");
    stage.ready_since(&one.daemon, "listen(1, 'tcp', ('127.0.0.1', 81))");
    stage.stop(one.launcher, &[]);
}

/// A daemon without privileges, whose descriptors only root can see.
#[test]
fn a_daemon_of_another_user() {
    let _network = network::isolate();
    for line in [
        "os.setuid(65534)",
        "os.setgid(65534); os.setuid(65534); os.chdir('/')",
    ] {
        let stage = Stage::new();
        let one = stage.begin(&["--ready=listen:8080"], &[]);
        stage.has(&one.daemon, line);
        stage.ready_since(&one.daemon, "listen(1, 'tcp', ('127.0.0.1', 8080))");
        stage.stop(one.launcher, &[]);
    }
}
