//! R20: the keeper is KILLed while its daemon starts. The launcher's next one waits for the same things, and nothing that
//! was said meanwhile is lost.

use nix::sys::signal::Signal;

use crate::scene::{freeze, kill};
use crate::stage::Stage;
use crate::support::network;
use crate::support::process;

use super::Mark;

/// Each kind, and what makes it true.
const KINDS: [(&str, &str); 7] = [
    ("notify", "tell('READY=1')"),
    ("notify", "tell('X_SEAMLESS=started')"),
    ("fd:3", "os.write(3, b'\\n')"),
    ("listen:80", "listen(1, 'tcp', ('127.0.0.1', 80))"),
    ("pid-file:own.pid", "write('own.pid', str(os.getpid()))"),
    ("exec:test -e made", "write('made', '')"),
    ("after:1s", "pass"),
];
/// What a daemon may have inherited: it would die of a pipe that nobody reads.
const FRAGILE: &str = "signal.signal(signal.SIGPIPE, signal.SIG_DFL)";

#[test]
fn it_comes_when_the_next_keeper_is_there() {
    let _network = network::isolate();
    for (ready, line) in KINDS {
        let stage = Stage::new();
        let option = format!("--ready={ready}");
        let one = stage.begin(&[&option], &[("FIRST", FRAGILE)]);
        kill(one.keeper);
        stage.log.wait_for("goes on in its place");
        stage.has(&one.daemon, line);
        stage.wait_ready(&one.daemon);
        assert_eq!(stage.pid_in_file(), Some(one.daemon.pid));
        one.launcher.signal(Signal::SIGINT);
        one.launcher.finish();
        process::wait_exit(one.daemon.pid);
        stage.scratch.wait_no_processes_but(&[]);
    }
}

/// While nobody is there to see it: it is found by the next keeper, and the daemon does not die of it.
#[test]
fn it_comes_while_no_keeper_is_there() {
    let _network = network::isolate();
    for (ready, line) in KINDS {
        let stage = Stage::new();
        let option = format!("--ready={ready}");
        let one = stage.begin(&[&option], &[("FIRST", FRAGILE)]);
        freeze(one.launcher.pid());
        kill(one.keeper);
        if ready == "notify" {
            // Whoever speaks hears that nobody listens, and may say it again.
            let refused = format!("assert 'refused' in str(error_of(lambda: {line}))");
            stage.has(&one.daemon, &refused);
        } else {
            stage.has(&one.daemon, line);
        }
        assert!(process::alive(one.daemon.pid), "{}", stage.log.listing());
        one.launcher.signal(Signal::SIGCONT);
        stage.log.wait_for("goes on in its place");
        if ready == "notify" {
            stage.ready_since(&one.daemon, line);
        }
        stage.wait_ready(&one.daemon);
        one.launcher.signal(Signal::SIGINT);
        one.launcher.finish();
        stage.scratch.wait_no_processes_but(&[]);
    }
}

/// Heard by the keeper that is lost, before all else held.
#[test]
fn it_was_heard_already() {
    for (ready, line) in KINDS {
        if ready.starts_with("listen") {
            continue;
        }
        let stage = Stage::new();
        let mark = Mark::new(&stage);
        let option = format!("--ready={ready}");
        // An exec: probe is not asked before all else holds, and needs nobody's memory.
        let one = stage.begin(&[&option, &mark.option], &[("FIRST", FRAGILE)]);
        stage.has(&one.daemon, line);
        if !ready.starts_with("exec") {
            stage.wait_waits(ready, false);
        }
        kill(one.keeper);
        stage.log.wait_for("goes on in its place");
        stage.ready_since(&one.daemon, "write('mark.pid', str(os.getpid()))");
        one.launcher.signal(Signal::SIGINT);
        one.launcher.finish();
        stage.scratch.wait_no_processes_but(&[]);
    }
}

/// The next keeper knows for what it waits, and how long.
#[test]
fn it_never_comes() {
    for ready in [
        "fd:3",
        "listen:unix:@nobody",
        "exec:false",
        "pid-file:/no/such.pid",
    ] {
        let stage = Stage::new();
        let option = format!("--ready={ready}");
        let one = stage.begin(&[&option, "--ready-timeout=3s"], &[("FIRST", FRAGILE)]);
        kill(one.keeper);
        stage.log.wait_for("goes on in its place");
        stage.wait_waits(ready, true);
        let line = stage
            .log
            .wait_for("was not ready within the ready timeout (3 s");
        assert!(line.contains(ready), "{line}");
        one.launcher.finish();
        process::wait_exit(one.daemon.pid);
        stage.scratch.wait_no_processes_but(&[]);
    }
}

/// With a predecessor there is no need to go on without a parent: that one serves, and the next attempt is a new one.
#[test]
fn the_predecessor_serves_on() {
    let _network = network::isolate();
    let stage = Stage::new();
    let options = ["--ready=listen:80", "--ready=fd:3"];
    let says = "os.write(3, b'\\n'); listen(1, 'tcp', ('127.0.0.1', 80))";
    let one = stage.begin(&options, &[]);
    stage.ready_since(&one.daemon, says);
    let old = stage.detach(one);
    let two = stage.begin(&options, &[("FIRST", FRAGILE)]);
    stage.has(&two.daemon, "os.write(3, b'\\n')");
    kill(two.keeper);
    process::wait_exit(two.daemon.pid);
    assert_eq!(two.launcher.finish().code(), Some(125));
    stage.assert_serves(&old);
    let three = stage.begin(&options, &[]);
    stage.ready_since(&three.daemon, says);
    process::wait_exit(old.pid);
    stage.stop(three.launcher, &[]);
}

/// Both are KILLed: what was said is not known for certain, and the daemon does not die of having said it.
#[test]
fn launcher_and_keeper_are_killed() {
    let stage = Stage::new();
    let mut one = stage.begin(&["--ready=fd:3", "--ready=notify"], &[("FIRST", FRAGILE)]);
    freeze(one.keeper);
    one.launcher.kill();
    kill(one.keeper);
    // The next start finds a daemon that never said that it was ready, and ends it.
    let two = stage.serving(&["--drain-timeout=10m"], &[]);
    process::wait_exit(one.daemon.pid);
    assert_eq!(stage.got(&one.daemon, "TERM"), 1, "{}", stage.log.listing());
    stage.stop(two.launcher, &[]);
}
