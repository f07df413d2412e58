//! Processes as `/proc` shows them, and identities that outlive the reuse of a PID (R5, R18).

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::time::{ClockId, clock_gettime};
use rustix::buffer::spare_capacity;
use rustix::io::{Errno, pread};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::signals::Signal;
use crate::sys;

/// As many may there be on a busy machine.
const MANY: i32 = 4096;
/// As many are looked at: a chain that changes under our eyes must not lead in circles, and one that somebody has
/// made as long as he can must not keep us busy.
const ANCESTORS: usize = 512;

/// A process for all of this boot: its PID and when it started, in clock ticks since boot (field
/// 22 of `/proc/PID/stat`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) pid: i32,
    start: u64,
}

impl Identity {
    pub(crate) fn of(pid: i32) -> io::Result<Identity> {
        Ok(Identity {
            pid,
            start: Stat::of(pid)?.start,
        })
    }

    /// This process's own, and with it the proof that `/proc` shows our PIDs.
    pub(crate) fn of_this_process() -> Result<Identity> {
        let own = std::process::id() as i32;
        let shown = Stat::at("/proc/self").map_err(|error| {
            anyhow!(
                "cannot read /proc/self/stat: {}",
                crate::report::cause(&error)
            )
        })?;
        if shown.pid != own {
            bail!("/proc belongs to another PID namespace; mount it anew in this one");
        }
        Ok(Identity {
            pid: own,
            start: shown.start,
        })
    }

    /// `PID:START`, as the record has it.
    pub(crate) fn parse(text: &str) -> Option<Identity> {
        let (pid, start) = text.split_once(':')?;
        let pid: i32 = pid.parse().ok()?;
        (pid > 0).then_some(Identity {
            pid,
            start: start.parse().ok()?,
        })
    }

    /// A hold on that very process, or `None` if it is gone.
    ///
    /// The start time is compared after the pidfd is open: what lives then is what the pidfd
    /// names, so the PID cannot pass to another process in between (R18).
    pub(crate) fn open(self) -> io::Result<Option<Process>> {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return Ok(None);
        };
        let descriptor = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => descriptor,
            // The number of a thread is no process's: ENOENT, or EINVAL before Linux 6.15.
            Err(Errno::SRCH | Errno::NOENT | Errno::INVAL) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let is_it = match Stat::of(self.pid) {
            Ok(stat) => stat.start == self.start,
            Err(error) if is_gone(&error) => false,
            Err(error) => return Err(error),
        };
        let process = Process {
            pid: self.pid,
            descriptor,
        };
        // One whose first thread has ended shows as a zombie, and may live; the pidfd knows.
        Ok(Some(process).filter(|process| is_it && !process.has_ended()))
    }

    /// How long it has lived.
    pub(crate) fn age(self) -> Duration {
        // The unit of /proc, whatever the kernel's own is (USER_HZ).
        let start = Duration::from_millis(self.start.saturating_mul(10));
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(start, Duration::from);
        now.saturating_sub(start)
    }

    pub(crate) fn is_alive(self) -> bool {
        // What cannot be told is not taken for dead: it would be forgotten.
        !matches!(self.open(), Ok(None))
    }
}

/// The process went away between two looks: its folder is not there, or reads as ESRCH.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ESRCH)
}

impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.pid, self.start)
    }
}

/// A hold on a process that is not our child: a pidfd, readable once the process has ended.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    descriptor: OwnedFd,
}

impl Process {
    /// One whose pidfd somebody passed.
    pub(crate) fn new(pid: i32, descriptor: OwnedFd) -> Process {
        Process { pid, descriptor }
    }

    pub(crate) fn has_ended(&self) -> bool {
        let mut ended = [PollFd::new(self.descriptor.as_fd(), PollFlags::POLLIN)];
        poll(&mut ended, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    pub(crate) fn send(&self, signal: Signal) -> io::Result<()> {
        match sys::send_by_pidfd(self.descriptor.as_fd(), signal.number()) {
            // It has gone, which is what most signals want.
            Err(error) if is_gone(&error) => Ok(()),
            sent => sent,
        }
    }

    /// To the whole process group that it leads (`killpg`, which a PID that is not our child's forbids).
    pub(crate) fn send_to_group(&self, signal: Signal) -> io::Result<()> {
        let members = members_of(self.pid);
        // While the leader lives, no other group has its number.
        if !self.has_ended() {
            for member in members.iter().filter(|member| member.pid != self.pid) {
                let _ = member.send(signal);
            }
        }
        self.send(signal)
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// What we read of `/proc/PID/stat`; proc(5).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pid: i32,
    name: String,
    pub(crate) state: u8,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    pub(crate) session: i32,
    pub(crate) start: u64,
}

impl Stat {
    pub(crate) fn of(pid: i32) -> io::Result<Stat> {
        Stat::at(&format!("/proc/{pid}"))
    }

    fn at(place: &str) -> io::Result<Stat> {
        let text = read(&format!("{place}/stat"))?;
        Stat::parse(&text).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// The second field is the program's name in parentheses, which may hold anything, spaces and
    /// parentheses too; the last `)` ends it.
    pub(crate) fn parse(text: &[u8]) -> Option<Stat> {
        let begin = text.iter().position(|byte| *byte == b'(')?;
        let end = text.iter().rposition(|byte| *byte == b')')?;
        let pid = std::str::from_utf8(&text[..begin]).ok()?.trim();
        let name = text.get(begin + 1..end)?;
        let rest = std::str::from_utf8(&text[end + 1..]).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        Some(Stat {
            pid: pid.parse().ok()?,
            name: String::from_utf8_lossy(name).into_owned(),
            state: *fields.first()?.as_bytes().first()?,
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            start: fields.get(19)?.parse().ok()?,
        })
    }

    /// Ended, though perhaps not reaped yet.
    fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }
}

/// What we read of `/proc/PID/status`; proc(5).
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// The effective user.
    pub(crate) user: u32,
    /// The real, the effective and the saved one.
    pub(crate) users: [u32; 3],
    /// The same, of its group.
    pub(crate) groups: [u32; 3],
    pub(crate) blocked: u64,
    pub(crate) ignored: u64,
    pub(crate) caught: u64,
    /// Waiting for something that a signal would interrupt.
    pub(crate) sleeps: bool,
}

impl Status {
    pub(crate) fn of(pid: i32) -> io::Result<Status> {
        // The name in it is any bytes that the process likes.
        let text = read(&format!("/proc/{pid}/status"))?;
        Ok(Status::parse(&String::from_utf8_lossy(&text)))
    }

    pub(crate) fn of_thread(pid: i32, thread: i32) -> io::Result<Status> {
        let text = read(&format!("/proc/{pid}/task/{thread}/status"))?;
        Ok(Status::parse(&String::from_utf8_lossy(&text)))
    }

    /// Whether it could have said something as this user.
    pub(crate) fn has_user(&self, user: u32) -> bool {
        self.users.contains(&user)
    }

    pub(crate) fn parse(text: &str) -> Status {
        let mut status = Status {
            user: u32::MAX,
            users: [u32::MAX; 3],
            groups: [u32::MAX; 3],
            ..Status::default()
        };
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else {
                continue;
            };
            let mut words = value.split_ascii_whitespace();
            let mask = || u64::from_str_radix(value.trim(), 16).unwrap_or(0);
            match key {
                "Uid" => {
                    status.users = three(words);
                    status.user = status.users[1];
                }
                "Gid" => status.groups = three(words),
                "State" => status.sleeps = words.next() == Some("S"),
                "SigBlk" => status.blocked = mask(),
                "SigIgn" => status.ignored = mask(),
                "SigCgt" => status.caught = mask(),
                _ => {}
            }
        }
        status
    }
}

/// What cannot be read is nobody's.
fn three<'a>(mut words: impl Iterator<Item = &'a str>) -> [u32; 3] {
    let mut next = || words.next()?.parse().ok();
    std::array::from_fn(|_| next().unwrap_or(u32::MAX))
}

/// A process's `status` in `/proc`, held open: it can be read where no descriptor is left to open anything
/// with, it follows an exec, and it never shows another process under the same PID.
#[derive(Debug)]
pub(crate) struct View {
    status: File,
}

impl View {
    pub(crate) fn open(pid: i32) -> io::Result<View> {
        Ok(View {
            status: File::open(format!("/proc/{pid}/status"))?,
        })
    }

    pub(crate) fn status(&self) -> io::Result<Status> {
        let text = read_anew(&self.status)?;
        Ok(Status::parse(&String::from_utf8_lossy(&text)))
    }
}

impl AsFd for View {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.status.as_fd()
    }
}

/// What a file of `/proc` says.
fn read(path: &str) -> io::Result<Vec<u8>> {
    read_anew(&File::open(path)?)
}

/// It is made when it is read from its beginning, and has no size before: std, which asks for one, would
/// read in small bites.
fn read_anew(file: &File) -> io::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(1 << 10);
    loop {
        if text.len() == text.capacity() {
            text.reserve(text.len());
        }
        let begin = text.len() as u64;
        if pread(file, spare_capacity(&mut text), begin)? == 0 {
            return Ok(text);
        }
    }
}

/// Where it can be looked at: one whose first thread has ended shows nothing of itself there, and all of it at
/// the others'.
pub(crate) fn place_of(pid: i32) -> String {
    let place = format!("/proc/{pid}");
    if !Stat::of(pid).is_ok_and(|stat| stat.is_dead()) {
        return place;
    }
    let place_of = |thread: i32| format!("{place}/task/{thread}");
    let lives = |thread: &i32| Stat::at(&place_of(*thread)).is_ok_and(|stat| !stat.is_dead());
    let thread = threads_of(pid).into_iter().find(lives);
    thread.map_or_else(|| place.clone(), place_of)
}

/// The numbers of its threads.
pub(crate) fn threads_of(pid: i32) -> Vec<i32> {
    numbers_in(&format!("/proc/{pid}/task")).collect()
}

/// Whether it has a signalfd(2) for that signal (its bit).
pub(crate) fn has_signalfd(pid: i32, bit: u64) -> bool {
    let reads = |descriptor: i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/fdinfo/{descriptor}")).ok()?;
        let mask = text
            .lines()
            .find_map(|line| line.strip_prefix("sigmask:"))?;
        let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
        Some(mask & bit != 0)
    };
    let mut all = numbers_in(&format!("/proc/{pid}/fdinfo"));
    all.any(|descriptor| reads(descriptor) == Some(true))
}

/// Whether a thread is in a sigwait(3) for that signal (its bit). While it waits, the kernel does
/// not show the signal as blocked; but it shows the call, and the set that is waited for is in the
/// process's memory.
pub(crate) fn waits_for(pid: i32, thread: i32, bit: u64) -> bool {
    let look = || -> Option<bool> {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{thread}/syscall")).ok()?;
        let mut words = text.split_ascii_whitespace();
        let number: nix::libc::c_long = words.next()?.parse().ok()?;
        if number != nix::libc::SYS_rt_sigtimedwait {
            return Some(false);
        }
        let address = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
        let mut set = [0; 8];
        File::open(format!("/proc/{pid}/mem"))
            .ok()?
            .read_exact_at(&mut set, address)
            .ok()?;
        Some(u64::from_ne_bytes(set) & bit != 0)
    };
    look().unwrap_or(false)
}

/// Whether `pid` is `ancestor` or descends from it. A process whose parents have died descends
/// from whoever inherited it.
pub(crate) fn descends_from(pid: i32, ancestor: i32) -> bool {
    let mut current = pid;
    for _ in 0..ANCESTORS {
        if current == ancestor {
            return true;
        }
        match Stat::of(current) {
            Ok(stat) if stat.parent > 0 => current = stat.parent,
            _ => return false,
        }
    }
    false
}

/// Whether it is of the daemon's own: the daemon, a descendant, or one in its session.
pub(crate) fn is_of(pid: i32, daemon: i32) -> bool {
    Stat::of(pid).is_ok_and(|stat| stat.session == daemon) || descends_from(pid, daemon)
}

/// All of them.
pub(crate) fn family_of(daemon: i32) -> Vec<i32> {
    let of = |pid: i32| Stat::of(pid).ok().map(|stat| (pid, stat));
    let known: HashMap<i32, Stat> = all().filter_map(of).collect();
    let is_of = |mut pid: i32| {
        for _ in 0..ANCESTORS {
            match known.get(&pid) {
                Some(stat) if pid == daemon || stat.session == daemon => return true,
                Some(stat) => pid = stat.parent,
                None => return false,
            }
        }
        false
    };
    known.keys().copied().filter(|pid| is_of(*pid)).collect()
}

/// The numbers (`st_ino`) of all sockets that this process has.
pub(crate) fn own_sockets() -> Vec<u64> {
    let open = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten();
    let links = open.filter_map(|entry| fs::read_link(entry.path()).ok());
    let number = |link: std::path::PathBuf| {
        let text = link.to_str()?.strip_prefix("socket:[")?;
        text.strip_suffix(']')?.parse().ok()
    };
    links.filter_map(number).collect()
}

/// The name that the kernel has for a process, of 15 bytes at most.
pub(crate) fn name_of(pid: i32) -> io::Result<String> {
    Ok(Stat::of(pid)?.name)
}

/// Whoever started this process, and the name that the kernel has for it, if it can be seen.
pub(crate) fn parent_of_this_process() -> Option<(Identity, String)> {
    let pid = nix::unistd::getppid().as_raw();
    let stat = (pid > 0).then(|| Stat::of(pid).ok()).flatten()?;
    let start = stat.start;
    Some((Identity { pid, start }, stat.name))
}

/// Whether a process no longer has the parent that it had at its start (R19). Where that was none
/// that can be seen, or one that does not die before the machine does, it never is.
pub(crate) fn is_orphan(child: Identity, first_parent: Option<Identity>) -> bool {
    let Some(parent) = first_parent else {
        return !child.is_alive();
    };
    match Stat::of(child.pid) {
        Ok(stat) => stat.parent != parent.pid || stat.start != child.start || !parent.is_alive(),
        Err(_) => true,
    }
}

/// Every process there is, in no order.
fn all() -> impl Iterator<Item = i32> {
    numbers_in("/proc")
}

/// Names in a directory that are numbers.
fn numbers_in(directory: &str) -> impl Iterator<Item = i32> + use<> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Holds on the processes of a process group.
fn members_of(group: i32) -> Vec<Process> {
    let is_member = |pid: i32| Stat::of(pid).is_ok_and(|stat| stat.group == group);
    let open = |pid: i32| Identity::of(pid).ok()?.open().ok()?;
    let members = all().filter(|pid| is_member(*pid)).filter_map(open);
    // The PID may have passed to another process in between.
    members.filter(|member| is_member(member.pid)).collect()
}

/// Processes with such an environment, its entries being `NAME=value`.
fn with_environment(is_meant: impl Fn(&[&[u8]]) -> bool) -> Vec<i32> {
    all()
        .filter(|pid| has_environment(*pid, &is_meant))
        .collect()
}

/// The same, of those that were started after `first`, whose PID is still its own.
pub(crate) fn younger_with_environment(
    first: i32,
    is_meant: impl Fn(&[&[u8]]) -> bool,
) -> Vec<i32> {
    match last_pid() {
        // Hardly any, on a machine with any number of them; unless the numbers have begun anew.
        Some(last) if (first..first.saturating_add(MANY)).contains(&last) => (first..=last)
            .filter(|pid| has_environment(*pid, &is_meant))
            .collect(),
        _ => with_environment(is_meant),
    }
}

/// The last number that was given to a process or thread; proc_loadavg(5).
fn last_pid() -> Option<i32> {
    let text = String::from_utf8(read("/proc/loadavg").ok()?).ok()?;
    text.split_ascii_whitespace().last()?.parse().ok()
}

/// KILLs them.
pub(crate) fn kill_with_environment(is_meant: impl Fn(&[&[u8]]) -> bool) {
    for pid in with_environment(&is_meant) {
        let process = Identity::of(pid).and_then(Identity::open);
        // The PID may have passed to another process in between.
        if let Ok(Some(process)) = process {
            if has_environment(pid, &is_meant) {
                let _ = process.send(Signal::KILL);
            }
        }
    }
}

fn has_environment(pid: i32, is_meant: impl Fn(&[&[u8]]) -> bool) -> bool {
    let text = read(&format!("/proc/{pid}/environ")).unwrap_or_default();
    let entries: Vec<&[u8]> = text.split(|byte| *byte == 0).collect();
    is_meant(&entries)
}

/// This boot's id: PIDs and start times mean nothing beyond it. Nor does this process: it is read once.
pub(crate) fn boot_id() -> io::Result<String> {
    static READ: OnceLock<String> = OnceLock::new();
    if let Some(id) = READ.get() {
        return Ok(id.clone());
    }
    let text = read("/proc/sys/kernel/random/boot_id")?;
    let id = String::from_utf8_lossy(&text).trim().to_owned();
    Ok(READ.get_or_init(|| id).clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_mislead() {
        let text = b"42 (a) 1 (b) S 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 88123 1 2";
        let expected = Stat {
            pid: 42,
            name: "a) 1 (b".to_owned(),
            state: b'S',
            parent: 7,
            group: 42,
            session: 42,
            start: 88123,
        };
        assert_eq!(Stat::parse(text), Some(expected));
        assert_eq!(Stat::parse(b"42 (cut off) S 7"), None);
        assert_eq!(Stat::parse(b""), None);
    }

    #[test]
    fn masks_and_the_effective_user_are_read() {
        let text = "Name:\tx\nState:\tS (sleeping)\nUid:\t0\t65534\t0\t0\nSigBlk:\t0000000000000800\nSigIgn:\t1\nSigCgt:\tzz\n";
        let expected = Status {
            user: 65534,
            users: [0, 65534, 0],
            groups: [u32::MAX; 3],
            blocked: 0x800,
            ignored: 1,
            caught: 0,
            sleeps: true,
        };
        assert_eq!(Status::parse(text), expected);
    }

    #[test]
    fn the_number_of_a_thread_is_no_process() {
        let (say, hear) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            say.send(nix::unistd::gettid().as_raw()).unwrap();
            let _ = ended.recv();
        });
        let pid = hear.recv().unwrap();
        // What can be read in /proc is of the thread.
        let start = Stat::of(pid).unwrap().start;
        assert!(!Identity { pid, start }.is_alive());
        drop(end);
        thread.join().unwrap();
    }

    #[test]
    fn this_process_is_alive_and_another_start_time_is_somebody_else() {
        let own = Identity::of_this_process().unwrap();
        assert!(own.is_alive());
        let stranger = Identity {
            start: own.start + 1,
            ..own
        };
        assert!(stranger.open().unwrap().is_none());
        assert_eq!(Identity::parse(&own.to_string()), Some(own));
        for text in ["", "1", "1:", ":1", "-1:2", "0:2", "1:x"] {
            assert_eq!(Identity::parse(text), None, "{text}");
        }
    }
}
