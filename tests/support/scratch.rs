//! A directory for one test, and the end of everything that the test started.

use std::fs::{self, File, Permissions};
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::stat::{Mode, umask};
use rustix::io::{FdFlags, fcntl_setfd};
use tempfile::TempDir;

use super::process::{self, Handle, Pid, Process};

/// In the environment of every process that a test starts, with the scratch directory as its value.
pub(crate) const VARIABLE: &str = "SEAMLESS_TEST";

const PREFIX: &str = "seamless-test-";

/// A lock on this file says that the test lives: the kernel lets go of it however the test ends.
const OWNER: &str = "owner";

const BOUND: Duration = Duration::from_secs(30);

/// A temporary directory whose path is the mark of the processes that belong to it.
///
/// When it is dropped, on a panic too, every process with exactly that mark is KILLed and the directory is removed.
/// What a killed test run has left behind is ended by the next one.
#[derive(Debug)]
pub(crate) struct Scratch {
    directory: TempDir,
    _owner: Flock<File>,
}

impl Scratch {
    pub(crate) fn new() -> Scratch {
        static FIRST: Once = Once::new();
        FIRST.call_once(|| {
            forget_surroundings();
            sweep(&std::env::temp_dir());
        });

        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir().unwrap();
        // Daemons that drop their privileges must be able to walk in.
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        // Locked first, then named: whoever sees the name sees the lock.
        let unnamed = directory.path().join("owner.new");
        let lock = Flock::lock(
            File::create(&unnamed).unwrap(),
            FlockArg::LockExclusiveNonblock,
        );
        let owner = lock.map_err(|(_, error)| error).unwrap();
        fs::rename(unnamed, directory.path().join(OWNER)).unwrap();
        Scratch {
            directory,
            _owner: owner,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path().join(name)
    }

    /// The living processes that carry this directory's mark.
    pub(crate) fn processes(&self) -> Vec<Process> {
        processes_of(self.path())
    }

    /// Waits until none but these and their children lives; panics with a listing after 30 s.
    pub(crate) fn wait_no_processes_but(&self, allowed: &[Pid]) {
        let is_allowed = |process: &Process| {
            let related = [process.pid, process.parent];
            related.iter().any(|pid| allowed.contains(pid))
        };
        self.wait_only_expected(is_allowed);
    }

    /// Waits until none but these lives, their children neither: a launcher is its supervisor's child, and a keeper
    /// that was let go of is PID 1's.
    pub(crate) fn wait_only(&self, allowed: &[Pid]) {
        self.wait_only_expected(|process| allowed.contains(&process.pid));
    }

    fn wait_only_expected(&self, is_allowed: impl Fn(&Process) -> bool) {
        if let Err(others) = self.only_by(Instant::now() + BOUND, is_allowed) {
            let listing = process::list(&others);
            panic!("these processes should have ended:{listing}");
        }
    }

    /// Waits until none but the allowed live; who else does at the deadline.
    pub(crate) fn only_by(
        &self,
        deadline: Instant,
        is_allowed: impl Fn(&Process) -> bool,
    ) -> Result<(), Vec<Process>> {
        loop {
            let mut others = self.processes();
            others.retain(|process| !is_allowed(process));
            let Some(first) = others.first() else {
                return Ok(());
            };
            let Some(handle) = Handle::open(first.pid) else {
                continue;
            };
            // Opened after the listing: it may be a stranger by now.
            if has_mark(first.pid, self.path()) && !handle.wait_until(deadline) {
                return Err(others);
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(survivors) = kill(self.path()) {
            let listing = process::list(&survivors);
            eprintln!("KILLed, and still there after {BOUND:?}:{listing}");
            assert!(
                std::thread::panicking(),
                "processes cannot be killed:{listing}"
            );
        }
    }
}

/// What the tests were started with is no part of them: a descriptor would lie where a held socket is to be; what a
/// strict umask makes, a daemon without privileges could not read; a signal that is ignored (nohup; the background of a
/// script) no shell can trap.
fn forget_surroundings() {
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    let ignored = process::status_field(Pid::this(), "SigIgn").unwrap();
    let ignored = u64::from_str_radix(&ignored, 16).unwrap();
    for signal in Signal::iterator() {
        // PIPE is Rust's own affair.
        if ignored & (1 << (signal as u32 - 1)) != 0 && signal != Signal::SIGPIPE {
            ignore_alone(signal);
        }
    }
    for entry in fs::read_dir("/proc/self/fd").unwrap() {
        let name = entry.unwrap().file_name();
        let number: RawFd = name.to_str().unwrap().parse().unwrap();
        if number > 2 {
            keep_from_children(number);
        }
    }
}

/// Ignored still, but not by whatever is executed.
#[expect(unsafe_code, reason = "a handler is code that runs at any moment")]
fn ignore_alone(signal: Signal) {
    extern "C" fn nothing(_: nix::libc::c_int) {}
    let (handler, none) = (SigHandler::Handler(nothing), SigSet::empty());
    let action = SigAction::new(handler, SaFlags::SA_RESTART, none);
    // SAFETY: it does nothing.
    unsafe { sigaction(signal, &action) }.unwrap();
}

#[expect(unsafe_code, reason = "nobody owns a descriptor that was inherited")]
fn keep_from_children(number: RawFd) {
    // SAFETY: one that is closed meanwhile is an error, and every other one of ours has the flag already.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl_setfd(descriptor, FdFlags::CLOEXEC).ok();
}

/// The living processes whose environment holds exactly this mark.
pub(crate) fn processes_of(mark: &Path) -> Vec<Process> {
    process::all()
        .filter(|&pid| has_mark(pid, mark))
        .filter_map(Process::read)
        .collect()
}

fn has_mark(pid: Pid, mark: &Path) -> bool {
    // Not readable: it has ended, or it is somebody else's.
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else {
        return false;
    };
    environment
        .split(|&byte| byte == 0)
        .filter_map(|entry| entry.strip_prefix(VARIABLE.as_bytes())?.strip_prefix(b"="))
        .any(|value| value == mark.as_os_str().as_bytes())
}

/// KILLs every process with this mark, and whatever those start meanwhile.
fn kill(mark: &Path) -> Result<(), Vec<Process>> {
    let deadline = Instant::now() + BOUND;
    // A process in the middle of an exec has no environment for a moment, and a walk through /proc misses a child
    // with a number that is already behind it: only the second empty walk counts.
    let mut empty_walks = 0;
    while empty_walks < 2 {
        let victims: Vec<Handle> = process::all()
            .filter(|&pid| has_mark(pid, mark) && process::alive(pid))
            .filter_map(Handle::open)
            // The number may have changed hands before the pidfd was opened; afterwards it cannot.
            .filter(|victim| has_mark(victim.pid, mark))
            .collect();
        if victims.is_empty() {
            empty_walks += 1;
            continue;
        }
        empty_walks = 0;
        for victim in &victims {
            victim.signal(Signal::SIGKILL);
        }
        if !victims.iter().all(|victim| victim.wait_until(deadline)) {
            return Err(processes_of(mark));
        }
    }
    Ok(())
}

/// Ends what killed test runs have left in `temporary`: their processes and their directories.
pub(crate) fn sweep(temporary: &Path) {
    for entry in fs::read_dir(temporary).unwrap().filter_map(Result::ok) {
        if !entry.file_name().as_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        let directory = entry.path();
        // No such file: a test that is just about to begin, or one that is just being cleaned up.
        let Ok(owner) = File::open(directory.join(OWNER)) else {
            continue;
        };
        let Ok(_lock) = Flock::lock(owner, FlockArg::LockExclusiveNonblock) else {
            continue;
        };
        if let Err(survivors) = kill(&directory) {
            let listing = process::list(&survivors);
            eprintln!("left by an earlier test run, and cannot be killed:{listing}");
            continue;
        }
        // Two test binaries may sweep at once: whoever comes second finds nothing.
        if let Err(error) = fs::remove_dir_all(&directory) {
            eprintln!("{}: {error}", directory.display());
        }
    }
}
