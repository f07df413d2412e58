//! `--pre-start` and `--post-start`: what they find, and what becomes of the service when they fail, hang or are ended.

mod post_start;
mod pre_start;
mod pre_start_faults;

use std::collections::BTreeMap;
use std::fs;

use nix::sys::stat::Mode;

use crate::stage::{Stage, pid_in};
use crate::support::process::{self, Pid};

/// `--OPTION` with this code. It says `OPTION PID …` in the log by itself; `hold` never ends.
pub(crate) fn command(stage: &Stage, option: &str, code: &str) -> String {
    let hold = stage.scratch.join("hold");
    if !hold.exists() {
        nix::unistd::mkfifo(&hold, Mode::S_IRWXU).unwrap();
    }
    let code = format!(
        "hold() {{ read -r _ <{}; }}
echo \"{option} $$ $SEAMLESS_PID $SEAMLESS_GENERATION\" >>\"$LOG\"
{code}",
        hold.display()
    );
    format!("--{option}={}", stage.sh(&code).join(" "))
}

/// The PID in the nth line `WHAT PID …`.
pub(crate) fn said(stage: &Stage, what: &str, nth: usize) -> Pid {
    pid_in(&stage.nth(&format!("{what} "), nth))
}

/// A line of a command's child, in its process group, which says so and hangs.
pub(crate) const CHILD: &str = "sh -c 'echo child $$ >>$LOG; read -r _ <hold' &";

/// Writes down what a command finds.
pub(crate) const LOOK: &str = r#"env >found.env; cat /proc/self/status >found.status; cat /proc/$$/stat >found.stat; (ls -l /proc/$$/fd) >found.fds; pwd >found.cwd; tr '\0' ' ' </proc/$SEAMLESS_PID/cmdline >found.daemon; : >found"#;

/// For [`assert_found`]: something of its own, and what is another process's affair.
pub(crate) const ENVIRONMENT: &[(&str, &str)] = &[
    ("FLAVOUR", "sweet"),
    ("LISTEN_FDS", "1"),
    ("LISTEN_FDNAMES", "theirs"),
    ("LISTEN_PID", "1"),
    ("WATCHDOG_USEC", "60000000"),
];

/// What is promised of every command: its environment, its descriptors, its session.
#[track_caller]
pub(crate) fn assert_found(stage: &Stage, daemon: Pid, keeper: Pid) {
    let found = |name: &str| fs::read_to_string(stage.scratch.join(name)).unwrap();
    let text = found("found.env");
    let environment: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .collect();
    assert_eq!(environment["SEAMLESS_PID"], daemon.to_string());
    assert_eq!(environment["SEAMLESS_GENERATION"], "1");
    assert_eq!(environment["FLAVOUR"], "sweet");
    let pid_file = stage.pid_file.to_str().unwrap();
    assert_eq!(environment["SEAMLESS_PID_FILE"], pid_file);
    for name in environment.keys() {
        let others = ["LISTEN_", "NOTIFY_SOCKET", "WATCHDOG_"];
        let is_others = others.iter().any(|start| name.starts_with(start));
        assert!(!is_others && *name != "SEAMLESS", "{text}");
    }
    let directory = stage.scratch.path().to_str().unwrap();
    assert_eq!(found("found.cwd").trim(), directory);

    let descriptors = found("found.fds");
    let links = descriptors
        .lines()
        .filter_map(|line| line.split_once(" -> "));
    let numbers: Vec<&str> = links
        .map(|(before, _)| before.rsplit(' ').next().unwrap())
        .collect();
    assert_eq!(numbers, ["0", "1", "2"], "{descriptors}");
    assert!(descriptors.contains(" 0 -> /dev/null\n"), "{descriptors}");

    let stat = found("found.stat");
    let (own, rest) = stat.split_once(' ').unwrap();
    let fields: Vec<&str> = rest
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    assert_eq!(fields[1], keeper.to_string(), "its parent: {stat}");
    assert_eq!([fields[2], fields[3]], [own, own], "its session: {stat}");
    let status = found("found.status");
    let signals = |name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        standard_signals(line.unwrap())
    };
    assert_eq!(signals("SigBlk:"), 0, "{status}");
    assert_eq!(signals("SigIgn:"), ignored_by_the_test(), "{status}");
}

/// What whoever started the test wants to be ignored, as R1 has it; PIPE is Rust's own affair.
fn ignored_by_the_test() -> u32 {
    let pipe = 1 << (nix::libc::SIGPIPE - 1);
    standard_signals(&process::status_field(Pid::this(), "SigIgn").unwrap()) & !pipe
}

/// A line of `/proc/PID/status` without what the C library keeps for itself.
fn standard_signals(mask: &str) -> u32 {
    let all = u64::from_str_radix(mask.trim(), 16).unwrap();
    u32::try_from(all & 0x7fff_ffff).unwrap()
}
