//! Processes, seen from outside.

use std::fmt;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
pub(crate) use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};

use super::PATIENCE;

/// A process and no other: PIDs are used again, within minutes where `pid_max` is 32768.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    pub(crate) pid: Pid,
    /// Field 22 of `/proc/PID/stat`: clock ticks after boot.
    pub(crate) start: u64,
}

impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.pid, self.start)
    }
}

/// What `/proc/PID/stat` says.
#[derive(Clone, Debug)]
struct Stat {
    comm: String,
    state: char,
    parent: Pid,
    start: u64,
}

fn stat(pid: Pid) -> Option<Stat> {
    let bytes = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    // The name may hold anything, parentheses too: the last one closes it.
    let (before, after) = text.rsplit_once(')')?;
    let fields: Vec<&str> = after.split_ascii_whitespace().collect();
    Some(Stat {
        comm: before.split_once('(')?.1.to_owned(),
        state: fields.first()?.chars().next()?,
        parent: Pid::from_raw(fields.get(1)?.parse().ok()?),
        start: fields.get(19)?.parse().ok()?,
    })
}

fn ended(state: char) -> bool {
    matches!(state, 'Z' | 'X' | 'x')
}

pub(crate) fn identity(pid: Pid) -> Option<Identity> {
    stat(pid).map(|stat| Identity {
        pid,
        start: stat.start,
    })
}

/// A zombie is dead: an init that reaps orphans late makes `kill -0` call one alive for up to 2 s.
pub(crate) fn alive(pid: Pid) -> bool {
    stat(pid).is_some_and(|stat| !ended(stat.state))
}

/// Waits until a process has ended, reaped or not.
pub(crate) fn wait_exit(pid: Pid) {
    if let Some(handle) = Handle::open(pid) {
        assert!(
            handle.wait_until(Instant::now() + PATIENCE),
            "process {pid} did not end: {}",
            Process::read(pid).map_or_else(String::new, |process| process.to_string())
        );
    }
}

/// A line of `/proc/PID/status`, such as `SigCgt` or `NSpid`.
pub(crate) fn status_field(pid: Pid, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(':')?;
        Some(value.trim().to_owned())
    })
}

/// Every process of this machine, or of our PID namespace.
pub(crate) fn all() -> impl Iterator<Item = Pid> {
    fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let name = entry.ok()?.file_name();
        Some(Pid::from_raw(name.to_str()?.parse().ok()?))
    })
}

/// The living children. From `stat`, since `/proc/PID/task/TID/children` is not in every kernel.
pub(crate) fn children(pid: Pid) -> Vec<Pid> {
    all()
        .filter(|&child| stat(child).is_some_and(|stat| stat.parent == pid && !ended(stat.state)))
        .collect()
}

/// A living process, for listings.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) pid: Pid,
    pub(crate) parent: Pid,
    pub(crate) comm: String,
    pub(crate) command_line: String,
}

impl Process {
    /// None if there is no such process, or only its zombie.
    pub(crate) fn read(pid: Pid) -> Option<Process> {
        let command_line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words: Vec<_> = command_line
            .split(|&byte| byte == 0)
            .map(String::from_utf8_lossy)
            .collect();
        let stat = stat(pid).filter(|stat| !ended(stat.state))?;
        Some(Process {
            pid,
            parent: stat.parent,
            comm: stat.comm,
            command_line: words.join(" ").trim_end().to_owned(),
        })
    }
}

impl fmt::Display for Process {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Process {
            pid,
            parent,
            comm,
            command_line,
        } = self;
        write!(
            formatter,
            "{pid} (child of {parent}, {comm}): {command_line}"
        )
    }
}

pub(crate) fn list(processes: &[Process]) -> String {
    let lines = processes.iter().map(|process| format!("\n    {process}"));
    lines.collect::<Vec<_>>().concat()
}

/// A pidfd: this process, and never another one that got its number.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) pid: Pid,
    descriptor: OwnedFd,
}

impl Handle {
    /// None if there is no such process (a zombie still is one).
    pub(crate) fn open(pid: Pid) -> Option<Handle> {
        let number = rustix::process::Pid::from_raw(pid.as_raw())?;
        match pidfd_open(number, PidfdFlags::empty()) {
            Ok(descriptor) => Some(Handle { pid, descriptor }),
            // The others: the number is a thread's by now (EINVAL before Linux 6.16), and no process has it.
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::NOENT | rustix::io::Errno::INVAL) => {
                None
            }
            Err(error) => panic!("pidfd_open({pid}): {error}"),
        }
    }

    /// Sends a signal; a process that has ended is no error.
    pub(crate) fn signal(&self, signal: Signal) {
        let name = rustix::process::Signal::from_named_raw(signal as i32).unwrap();
        match pidfd_send_signal(&self.descriptor, name) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => panic!("{signal} to {}: {error}", self.pid),
        }
    }

    /// Whether the process has ended by then.
    pub(crate) fn wait_until(&self, deadline: Instant) -> bool {
        wait_any_readable(&[self.as_fd()], deadline).is_some()
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Waits until one of the descriptors is readable (a pidfd: until the process has ended) or has hung up, and says
/// which; None at the deadline.
pub(crate) fn wait_any_readable(
    descriptors: &[BorrowedFd<'_>],
    deadline: Instant,
) -> Option<usize> {
    let mut waits: Vec<PollFd<'_>> = descriptors
        .iter()
        .map(|descriptor| PollFd::new(*descriptor, PollFlags::POLLIN))
        .collect();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut waits, timeout) {
            Ok(0) if left.is_zero() => return None,
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return waits.iter().position(|wait| wait.any() == Some(true)),
            Err(error) => panic!("poll: {error}"),
        }
    }
}
