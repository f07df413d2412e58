//! `--ready after:TIME`: it has lived so long.

use crate::puppet::SOON;
use crate::stage::Stage;
use crate::support::process;

use super::Mark;

/// The age in `is ready after 0.31 s`.
fn age(line: &str) -> f64 {
    let (_, rest) = line.split_once("is ready after ").unwrap();
    rest.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn so_long_a_life() {
    let stage = Stage::new();
    let one = stage.begin(&["--ready=after:300ms"], &[]);
    let ready = stage.wait_ready(&one.daemon);
    assert!(age(&ready) >= 0.3, "{ready}");
    let old = stage.detach(one);
    let two = stage.begin(&["--ready=after:0.2s"], &[]);
    let ready = stage.wait_ready(&two.daemon);
    assert!(age(&ready) >= 0.2, "{ready}");
    process::wait_exit(old.pid);
    assert_eq!(stage.pid_in_file(), Some(two.daemon.pid));
    stage.stop(two.launcher, &[]);
}

/// One that does not live so long was never ready.
#[test]
fn a_daemon_that_dies_before() {
    let stage = Stage::new();
    let old = stage.standby(&[], &[]);
    let two = stage.begin(&["--ready=after:10m"], &[]);
    stage.asks(&two.daemon, "leave(3)");
    stage.assert_failed(two, &old, "it died before it was ready: exit status 3");
    let three = stage.begin(&["--ready=after:10m", SOON], &[]);
    stage.assert_failed(three, &old, "after:600s");
}

/// What was true once stays so, while something else is waited for.
#[test]
fn the_time_is_not_all() {
    let stage = Stage::new();
    let mark = Mark::new(&stage);
    let one = stage.begin(&["--ready=after:100ms", "--ready=fd:3", &mark.option], &[]);
    stage.wait_waits("after:", false);
    mark.assert_waits(&stage, &one, "fd:3");
    stage.ready_since(&one.daemon, "os.write(3, b'\\n')");
    stage.stop(one.launcher, &[]);
}
