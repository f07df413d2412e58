//! Several `--ready`: all must hold, at one moment; and only what is in the list counts.

use crate::puppet::SOON;
use crate::stage::Stage;
use crate::support::{network, process};

use super::Mark;

const OPENS: &str = "listen(1, 'tcp', ('127.0.0.1', 80))";

/// Each part alone is nothing, whichever comes first.
#[test]
fn both_in_either_order() {
    let _network = network::isolate();
    for (ready, parts) in [
        (
            ["--ready=notify", "--ready=listen:80"],
            ["notify('X_SEAMLESS=started')", OPENS],
        ),
        (
            ["--ready=listen:80", "--ready=notify"],
            ["tell('READY=1')", OPENS],
        ),
        (
            ["--ready=fd:3", "--ready=listen:80"],
            ["os.write(3, b'\\n')", OPENS],
        ),
        (
            ["--ready=fd:3", "--ready=notify"],
            ["os.write(3, b'\\n')", "notify('X_SEAMLESS=started')"],
        ),
        (
            ["--ready=pid-file:own.pid", "--ready=notify"],
            ["write('own.pid', str(os.getpid()))", "tell('READY=1')"],
        ),
        (
            ["--ready=exec:test -e made", "--ready=fd:4"],
            ["write('made', '')", "os.write(4, b'\\n')"],
        ),
    ] {
        for order in [[0, 1], [1, 0]] {
            let stage = Stage::new();
            let mark = Mark::new(&stage);
            let one = stage.begin(&[&mark.option, ready[0], ready[1]], &[]);
            stage.has(&one.daemon, parts[order[0]]);
            mark.assert_waits(&stage, &one, "");
            stage.ready_since(&one.daemon, parts[order[1]]);
            stage.stop(one.launcher, &[]);
        }
    }
}

/// A word that is not waited for is answered, and makes nothing ready.
#[test]
fn a_word_that_is_not_in_the_list() {
    let _network = network::isolate();
    for word in [
        "X_SEAMLESS=started",
        "X_SEAMLESS=started\nREADY=1",
        "READY=1\nX_SEAMLESS=ask",
    ] {
        let stage = Stage::new();
        let old = stage.standby(&[], &[]);
        let mark = Mark::new(&stage);
        let two = stage.begin(&[&mark.option, "--ready=listen:80"], &[]);
        let answer = format!("notify({word:?})");
        assert_eq!(stage.answer(&two.daemon, &answer), "ok", "{word}");
        stage.has(&two.daemon, "tell('READY=1')");
        mark.assert_waits(&stage, &two, "listen:tcp:*:80");
        stage.assert_serves(&old);
        stage.ready_since(&two.daemon, OPENS);
        process::wait_exit(old.pid);
        stage.stop(two.launcher, &[]);
    }
}

/// Nor is our own PID file, written by the daemon in the seed's way.
#[test]
fn the_seeds_way_is_a_word_too() {
    let stage = Stage::new();
    let mark = Mark::new(&stage);
    let writes = "write(os.environ['SEAMLESS_PID_FILE'], str(os.getpid()))";
    let one = stage.begin(&[&mark.option, "--ready=fd:3"], &[]);
    stage.has(&one.daemon, writes);
    mark.assert_waits(&stage, &one, "fd:3");
    stage.ready_since(&one.daemon, "os.write(3, b'\\n')");
    stage.stop(one.launcher, &[]);

    let stage = Stage::new();
    let one = stage.begin(&["--ready=fd:3", "--ready=notify"], &[]);
    stage.has(&one.daemon, "os.write(3, b'\\n')");
    stage.wait_waits("fd:3", false);
    stage.ready_since(&one.daemon, writes);
    stage.stop(one.launcher, &[]);
}

/// Each holds again and again, and never both.
#[test]
fn parts_that_never_hold_at_one_moment() {
    let _network = network::isolate();
    let stage = Stage::new();
    let old = stage.standby(&[], &[]);
    let (first, second) = ("listen:tcp:127.0.0.1:80", "listen:tcp:127.0.0.1:81");
    let options = [format!("--ready={first}"), format!("--ready={second}")];
    let two = stage.begin(&[&options[0], &options[1]], &[]);
    let alternate = |place: u32, port: u32| {
        format!(
            "close({place}) if {place} in opened else None; listen({port}, 'tcp', ('127.0.0.1', {port}))"
        )
    };
    for _ in 0..3 {
        stage.has(&two.daemon, &alternate(81, 80));
        stage.wait_waits(first, false);
        stage.wait_waits(second, true);
        stage.has(&two.daemon, &alternate(80, 81));
        stage.wait_waits(second, false);
        stage.wait_waits(first, true);
    }
    assert!(!stage.is_ready(&two.daemon), "{}", stage.log.listing());
    stage.assert_serves(&old);
    stage.ready_since(&two.daemon, "listen(80, 'tcp', ('127.0.0.1', 80))");
    process::wait_exit(old.pid);
    stage.stop(two.launcher, &[]);
}

/// Without a word there is no readiness, and the log says which part it is.
#[test]
fn one_part_that_never_comes() {
    let _network = network::isolate();
    for (part, other) in [
        ("notify", OPENS),
        ("fd:3", OPENS),
        ("pid-file:/no/such.pid", OPENS),
        ("exec:false", OPENS),
        ("after:600s", OPENS),
    ] {
        let stage = Stage::new();
        let old = stage.standby(&[], &[]);
        let option = format!("--ready={part}");
        let two = stage.begin(&[&option, "--ready=listen:80", SOON], &[]);
        stage.has(&two.daemon, other);
        stage.assert_failed(two, &old, part);
        let why = stage.why();
        assert!(!why.contains("listen:"), "that one held: {why}");
    }
}
