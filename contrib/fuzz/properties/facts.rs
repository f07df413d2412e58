//! What is read in `/proc` against what else the kernel says of the same living processes.

use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::unistd::{Pid, getpgid, getsid};

use super::client::succession::parse_start_time;
use crate::process::{Stat, Status};

fn living() -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The value of a key in `/proc/PID/status`, read in the plainest way.
fn of_status(pid: i32, key: &str) -> Option<String> {
    let text = fs::read(format!("/proc/{pid}/status")).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key).map(str::to_owned))?;
    Some(line.split_ascii_whitespace().next()?.to_owned())
}

#[test]
fn every_living_process_is_read_as_the_kernel_has_it() {
    let mut compared = 0;
    for pid in living() {
        let (Ok(stat), Ok(bytes)) = (Stat::of(pid), fs::read(format!("/proc/{pid}/stat"))) else {
            continue;
        };
        let parent = of_status(pid, "PPid:").and_then(|parent| parent.parse().ok());
        let process = Pid::from_raw(pid);
        let (group, session) = (getpgid(Some(process)), getsid(Some(process)));
        let owner = fs::metadata(format!("/proc/{pid}")).map(|found| found.uid());
        let user = Status::of(pid).map(|status| status.user);
        // All of it is of one process and one moment only if it is the same, and lives, before and after.
        if !Stat::of(pid).is_ok_and(|again| again == stat) || matches!(stat.state, b'Z' | b'X') {
            continue;
        }
        compared += 1;
        assert_eq!(parent, Some(stat.parent), "{pid}");
        assert_eq!(group.map(Pid::as_raw), Ok(stat.group), "{pid}");
        assert_eq!(session.map(Pid::as_raw), Ok(stat.session), "{pid}");
        assert_eq!(
            parse_start_time(&String::from_utf8_lossy(&bytes)),
            Some(stat.start),
            "{pid}"
        );
        // The folder of a process that cannot be dumped is root's, whoever runs it.
        let (owner, user) = (owner.unwrap(), user.unwrap());
        assert!(owner == user || owner == 0, "{pid}: {owner} {user}");
    }
    assert!(compared > 0, "this process lives");
}

#[test]
fn a_name_of_the_worst_kind_is_a_name() {
    let name = ") Z 0 0 \n0";
    let thread = std::thread::spawn(move || {
        fs::write("/proc/thread-self/comm", name).unwrap();
        let stat = fs::read("/proc/thread-self/stat").unwrap();
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        (stat, status)
    });
    let (stat, status) = thread.join().unwrap();
    assert!(stat.windows(name.len()).any(|part| part == name.as_bytes()));
    let stat = Stat::parse(&stat).unwrap();
    assert_eq!(stat.session, getsid(None).unwrap().as_raw());
    assert_eq!(
        (stat.state, stat.parent),
        (b'R', nix::unistd::getppid().as_raw())
    );
    assert_eq!(Status::parse(&status).user, nix::unistd::geteuid().as_raw());
}
