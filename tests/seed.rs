//! A daemon that speaks the Go library's protocol and nothing else, as it is (R12).

use std::net::SocketAddr;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::languages::{Deployed, go};
use crate::load::Target;
use crate::servers::{RESTARTS, SLOW, Server, Site, free_port, show};
use crate::stage::{Stage, WAITS};
use crate::support::network::{self, Network};
use crate::support::process;

/// What `rs/seamless` does in a daemon, step by step, in sh. (Ten seconds after its answer it drains by itself; that is
/// in `seed/daemon.go`.)
const SEED: &str = r#"
    # Init: under a launcher already?
    [ "$SEAMLESS" = "$PPID" ] || { echo "it would launch itself"; exit 1; }
    # Nobody catches TERM before USR2 has come, nor a second one.
    trap prepare USR2
    prepare() { trap '' USR2; echo "$$ prepares"; trap drain TERM; kill -CHLD $PPID; }
    drain() { trap - TERM; echo "$$ got TERM"; read -r _ <"$HOLD"; echo "$$ drained"; exit 0; }
    # Started: read, remove, TERM, write.
    if old=$(cat "$SEAMLESS_PID_FILE" 2>/dev/null); then
        rm "$SEAMLESS_PID_FILE"
        kill -TERM "$old"
    fi
    printf %d $$ >"$SEAMLESS_PID_FILE"
    echo "up $$"
    while :; do wait; done
"#;

#[test]
fn it_is_restarted_again_and_again() {
    let stage = Stage::new();
    let seed = format!("{WAITS}\n{SEED}");
    let mut previous: Option<(process::Pid, std::path::PathBuf)> = None;
    for generation in 1..=6 {
        // Draining takes until the test says so: two generations overlap for as long as it likes.
        let hold = stage.scratch.join(format!("hold{generation}"));
        nix::unistd::mkfifo(&hold, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let launcher = stage
            .seamless_run(&[])
            .args(stage.sh(&seed))
            .env("HOLD", &hold)
            .start();
        let pid = stage.up();
        stage
            .log
            .wait_seen(&format!("generation {generation} (pid {pid}) is ready"));
        let text = std::fs::read_to_string(&stage.pid_file).unwrap();
        assert_eq!(text.trim(), pid.to_string());
        if let Some((old, hold)) = previous.take() {
            assert!(process::alive(old), "its drain was cut short");
            std::fs::write(&hold, "now\n").unwrap();
            stage.log.wait_for(&format!("{old} drained"));
            process::wait_exit(old);
        }
        launcher.signal(Signal::SIGTERM);
        stage.log.wait_for(&format!("{pid} prepares"));
        assert_eq!(launcher.finish().code(), Some(0));
        assert!(process::alive(pid));
        previous = Some((pid, hold));
    }
    assert_eq!(stage.log.count("got TERM"), 5);
}

/// Other ways to write a PID file: kept open, as pidfile(3) does, and linked into place.
#[test]
fn however_the_pid_file_is_written() {
    for write in [
        // The keeper has seen it empty by the time that the status is answered.
        r#"exec 8>"$SEAMLESS_PID_FILE"; "$SEAMLESS_RUN" notify status x; echo $$ >&8"#,
        r#"echo $$ >"$SEAMLESS_PID_FILE.own"; ln "$SEAMLESS_PID_FILE.own" "$SEAMLESS_PID_FILE""#,
        r#"echo $$ >"$SEAMLESS_PID_FILE.own"; mv "$SEAMLESS_PID_FILE.own" "$SEAMLESS_PID_FILE""#,
        r#"printf %s $$ >"$SEAMLESS_PID_FILE""#,
    ] {
        let stage = Stage::new();
        let code = format!("exec 9<>\"$NOTHING\"; {write}; echo \"up $$\"; read -r _ <&9");
        let launcher = stage.seamless_run(&[]).args(stage.sh(&code)).start();
        let pid = stage.up();
        stage.log.wait_seen(&format!("(pid {pid}) is ready after"));
        drop(launcher);
    }
}

/// `seed/daemon.go` as a command, in sh.
fn library(stage: &Stage, port: u16) -> String {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seed/daemon.go");
    let (program, pid_file) = (go(stage, &source), stage.pid_file.display());
    format!("exec {program} {pid_file} 127.0.0.1:{port}")
}

/// It has no word of ours: on the same PID file it is restarted as ever.
fn a_go_program_with_the_library(network: Network, held: bool) {
    let stage = Stage::new();
    let port = free_port();
    let app = Deployed::new(&stage, &library(&stage, port));
    let listen = format!("--listen=127.0.0.1:{port}");
    let options: &[&str] = if held { &[&listen] } else { &[] };
    let server = Server::start(network, stage, options, &[app.path.to_str().unwrap()]);
    server.wait_ready(1);
    let target = Target::Tcp(SocketAddr::from(([127, 0, 0, 1], port)));
    let sites = [Site::new("http", target, Some(SLOW))];
    let log = &server.stage.log;
    for generation in 2..=RESTARTS + 1 {
        server.restart(&sites, generation);
        server.wait_ready(generation);
        let old = format!("generation {} (pid ", generation - 1);
        // With nothing in hand it drains before its successor's keeper has seen the PID file.
        let gone = |line: &str| {
            let ends = ["is gone: exit status 0", "died in standby: exit status 0"];
            line.contains(&old) && ends.iter().any(|end| line.contains(end))
        };
        if !log.lines().iter().any(|line| gone(line)) {
            log.wait(gone);
        }
    }
    let [Site { load, .. }] = sites;
    let report = load.stop();
    show(
        &format!("a Go program with the library, held: {held}"),
        &report,
    );
    assert_eq!(report.failed(), 0, "{report}\n{}", log.listing());
    let restarts = usize::try_from(RESTARTS).unwrap();
    for said in [
        " prepares",
        " got TERM",
        " drained",
        " is prepared; it serves on",
    ] {
        assert_eq!(log.count(said), restarts, "{said}: {}", log.listing());
    }
    server.end(&[]);
}

/// It binds by itself, with SO_REUSEPORT.
#[test]
fn a_go_program_with_the_library_loses_nothing() {
    let network = network::isolate();
    // Without it the kernel resets whoever waits in the queue that is closed.
    network.set("ipv4.tcp_migrate_req", "1");
    a_go_program_with_the_library(network, false);
}

#[test]
fn a_go_program_with_the_library_on_a_held_socket_loses_nothing() {
    a_go_program_with_the_library(network::isolate(), true);
}

/// Two things that it does by itself, whoever the launcher is: it catches TERM only when it has been told to prepare, and
/// it waits for ten seconds then.
#[test]
fn what_the_library_does_by_itself() {
    let _network = network::isolate();
    let stage = Stage::new();
    let code = library(&stage, free_port());
    let first = stage.seamless_run(&["--"]).args(stage.sh(&code)).start();
    stage.log.wait_for("generation 1 ");
    stage.log.wait_for(" is ready after");
    first.signal(Signal::SIGINT);
    stage.log.wait_for("is stopped: killed by TERM after");
    assert_eq!(first.finish().signal(), Some(Signal::SIGTERM));

    let second = stage.seamless_run(&["--"]).args(stage.sh(&code)).start();
    stage.log.wait_for(" is ready after");
    second.signal(Signal::SIGTERM);
    assert_eq!(second.finish().code(), Some(0));
    // The next version never gets ready: it has no successor for too long.
    let never = format!("NEVER_STARTED=1; export NEVER_STARTED; {code}");
    let third = stage.seamless_run(&["--"]).args(stage.sh(&never)).start();
    stage.log.wait_for(" waited for ten seconds");
    stage.log.wait_for(") died in standby: exit status 0 after");
    assert!(third.alive());
}
