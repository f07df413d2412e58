//! Innocent processes, all around, that take the PIDs of the dead as fast as possible (R18). A process of its own makes
//! them, with one thread, so that a fork is all that one costs.
//!
//! It reads PIDs of processes that have died and their start times, a line each, and says, a line each: `took PID`, when an innocent has that
//! number; `hit PID SIGNAL SENDER NAME`, when an innocent got a signal; `ended PID SIGNAL`, when one died of it; `stopped PID
//! SIGNAL`; and `forks N` now and then.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    os::fd::AsFd,
    path::Path,
    process::ExitCode,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
        time::TimeValLike,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    time::{ClockId, clock_gettime},
    unistd::{ForkResult, Pid, fork, gettid, setsid},
};

use super::{Outcome, random::Random};

/// Those that live to the end: the number that will follow is `LONG + SHORT`, and those that have taken a PID.
const LONG: usize = 220;
/// Those that come and go.
const SHORT: usize = 50;
/// How long one lives that has taken the PID of a dead process of ours.
const TAKER: Duration = Duration::from_secs(4);
/// After so many tries somebody else has it.
const TRIES: u32 = 400;
/// In milliseconds: `/proc/PID/stat` counts hundredths of a second.
const TICK: u64 = 10;
const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Long,
    Short(Duration),
    /// A leader of its own session: a signal to the process group of the dead one would reach it, too.
    Taker,
    /// The number is to be that of a thread of it: those are of the same kind, and no process has it then.
    Host(i32),
}

struct Nursery {
    signals: SignalFd,
    random: Random,
    living: BTreeMap<i32, Life>,
    short: usize,
    /// Their PIDs are looked for in every fork; with the tick of the clock in which they were started.
    dead: BTreeMap<i32, u64>,
    /// To be taken at once.
    wanted: Vec<(i32, u32)>,
    forks: u64,
}

pub(crate) fn run() -> Outcome<ExitCode> {
    let all = SigSet::all();
    all.thread_set_mask()?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let children = SignalFd::with_flags(&SigSet::from(Signal::SIGCHLD), flags)?;
    // Not ours to fail for: it may lead a session already.
    setsid().ok();
    let mut nursery = Nursery {
        signals: SignalFd::with_flags(&all, flags)?,
        random: Random::new(1, 1),
        living: BTreeMap::new(),
        short: 0,
        dead: BTreeMap::new(),
        wanted: Vec::new(),
        forks: 0,
    };
    for _ in 0..LONG {
        nursery.fork(Life::Long)?;
    }
    let mut rest = Vec::new();
    loop {
        let timeout = if nursery.wanted.is_empty() { 20u16 } else { 1 };
        let stdin = io::stdin();
        let mut waits = [
            PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
            PollFd::new(children.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut waits, PollTimeout::from(timeout)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let asked = waits[0].any() == Some(true);
        while let Ok(Some(_)) = children.read_signal() {}
        if asked {
            let mut buffer = [0; 4096];
            // Unbuffered: what std would keep back, `poll` would not see.
            let read = nix::unistd::read(stdin.as_fd(), &mut buffer)?;
            if read == 0 {
                return Ok(ExitCode::SUCCESS);
            }
            rest.extend_from_slice(&buffer[..read]);
            nursery.hear(&mut rest);
        }
        nursery.reap()?;
        nursery.take()?;
        while nursery.short < SHORT {
            let life = Duration::from_millis(20) + nursery.random.pause(380);
            if !nursery.fork(Life::Short(life))? {
                break;
            }
        }
    }
}

impl Nursery {
    fn hear(&mut self, rest: &mut Vec<u8>) {
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let text = String::from_utf8_lossy(&line);
            let words = text.trim().split_once(' ');
            let words =
                words.and_then(|(pid, start)| Some((pid.parse().ok()?, start.parse().ok()?)));
            if let Some((pid, start)) = words {
                self.dead.insert(pid, start);
                self.wanted.push((pid, 0));
            }
        }
    }

    /// PID and start time are who one is (R18), and a start time is as fine as a tick: in the tick of the dead one's own
    /// start nobody could tell them apart.
    fn is_too_soon(&self) -> bool {
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME);
        let now = now.map_or(0, |now| now.num_milliseconds().unsigned_abs() / TICK);
        self.dead.values().any(|&start| start >= now)
    }

    fn reap(&mut self) -> io::Result<()> {
        loop {
            let found = waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED));
            let (pid, line) = match found {
                Ok(WaitStatus::Exited(pid, 0)) => (pid, None),
                Ok(WaitStatus::Exited(pid, code)) => {
                    (pid, Some(format!("ended {pid} exit {code}")))
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    (pid, Some(format!("ended {pid} {signal}")))
                }
                Ok(WaitStatus::Stopped(pid, signal)) => {
                    say(&format!("stopped {pid} {signal}"))?;
                    nix::sys::signal::kill(pid, Signal::SIGCONT).ok();
                    continue;
                }
                Ok(_) | Err(Errno::ECHILD) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            if let Some(Life::Short(_)) = self.living.remove(&pid.as_raw()) {
                self.short -= 1;
            }
            if let Some(line) = line {
                say(&line)?;
            }
        }
    }

    /// The number after the last one given is the next: so it is set to the one before.
    fn take(&mut self) -> io::Result<()> {
        for (pid, tries) in std::mem::take(&mut self.wanted) {
            if !self.dead.contains_key(&pid) || tries >= TRIES {
                continue;
            }
            let is_free = !Path::new("/proc").join(pid.to_string()).exists();
            // One in three is a thread of an innocent, which sees to it by itself.
            if is_free && pid % 3 == 0 && tries < TRIES / 2 {
                self.fork(Life::Host(pid))?;
            } else if is_free
                && !self.is_too_soon()
                && fs::write(LAST_PID, (pid - 1).to_string()).is_ok()
            {
                self.fork(Life::Taker)?;
            }
            if self.dead.contains_key(&pid) {
                self.wanted.push((pid, tries + 1));
            }
        }
        Ok(())
    }

    #[expect(unsafe_code, reason = "an exec would cost more than all the rest")]
    fn fork(&mut self, life: Life) -> io::Result<bool> {
        if self.is_too_soon() {
            return Ok(false);
        }
        // SAFETY: this process has one thread.
        let child = match unsafe { fork() } {
            Ok(ForkResult::Child) => innocent(&self.signals, life),
            Ok(ForkResult::Parent { child }) => child.as_raw(),
            // No number is free just now.
            Err(Errno::EAGAIN) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        self.living.insert(child, life);
        self.short += usize::from(matches!(life, Life::Short(_)));
        self.forks += 1;
        if self.forks % 500 == 0 {
            say(&format!("forks {}", self.forks))?;
        }
        if self.dead.remove(&child).is_some() {
            say(&format!("took {child}"))?;
        }
        Ok(true)
    }
}

/// Does nothing, and says what was done to it.
fn innocent(signals: &SignalFd, life: Life) -> ! {
    prctl::set_name(c"innocent").ok();
    let until = match life {
        Life::Long => None,
        Life::Short(life) => Some(Instant::now() + life),
        Life::Taker => {
            setsid().ok();
            Some(Instant::now() + TAKER)
        }
        Life::Host(pid) => host(pid)
            .then(|| Instant::now() + TAKER)
            .or(Some(Instant::now())),
    };
    loop {
        let timeout = match until.map(|until| until.saturating_duration_since(Instant::now())) {
            None => PollTimeout::NONE,
            Some(left) if left.is_zero() => break,
            Some(left) => {
                PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
            }
        };
        let mut wait = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        poll(&mut wait, timeout).ok();
        while let Ok(Some(found)) = signals.read_signal() {
            let pid = Pid::this();
            say(&format!("hit {pid} {} {}", found.ssi_signo, found.ssi_pid)).ok();
        }
    }
    // Nothing of the parent's is to be run here.
    #[expect(unsafe_code, reason = "std's exit would run what is registered")]
    // SAFETY: it ends the process, and touches nothing.
    unsafe {
        libc::_exit(0)
    }
}

/// Whether it has a thread with that number now.
fn host(pid: i32) -> bool {
    // This process has taken it itself, with the fork.
    if Pid::this().as_raw() == pid {
        return true;
    }
    if fs::write(LAST_PID, (pid - 1).to_string()).is_err() {
        return false;
    }
    let (say_number, number) = mpsc::channel();
    let started = thread::Builder::new().spawn(move || {
        say_number.send(gettid().as_raw()).ok();
        // Until the process ends.
        loop {
            thread::park();
        }
    });
    let is_it = started.is_ok() && number.recv() == Ok(pid);
    if is_it {
        say(&format!("took {pid}")).ok();
    }
    is_it
}

/// In one write, which no other one is mixed with.
fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes())?;
    out.flush()
}
