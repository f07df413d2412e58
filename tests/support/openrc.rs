//! OpenRC's supervise-daemon, as `rc-service` starts it. PID 1 need not be OpenRC's.

use std::fs;
use std::path::Path;

use super::machine::Machine;
use super::{Spawn, tool};

const PACKAGE: &str = "openrc";

/// What `rc` finds after a boot, in a machine's own `/run`.
pub(crate) fn boot(machine: &Machine<'_>) {
    let directories = [
        "started",
        "starting",
        "stopping",
        "inactive",
        "wasinactive",
        "failed",
        "daemons",
        "options",
        "exclusive",
        "scheduled",
        "hotplugged",
        "tmp",
    ];
    for name in directories {
        fs::create_dir_all(Path::new("/run/openrc").join(name)).unwrap();
    }
    machine.write("/run/openrc/softlevel", "default\n", 0o644);
    // OpenRC hands a service only the variables that are named here.
    machine.write("/etc/rc.conf", "rc_env_allow=\"SEAMLESS_TEST\"\n", 0o644);
    // Else it puts the service into a cgroup of the machine's that the tests run on.
    machine.hide("/sys/fs/cgroup");
}

/// `rc-service WORDS…`
pub(crate) fn rc_service(machine: &Machine<'_>, words: &[&str]) -> Spawn {
    Spawn::new(machine.scratch, tool("rc-service", PACKAGE)).args(words)
}
