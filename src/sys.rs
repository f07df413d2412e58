//! The only unsafe code of the program: what neither nix nor rustix offers safely.
//!
//! Note on unsafety: three facts are relied upon throughout. The program never has a second
//! thread. Nothing here keeps a pointer beyond its call. A wrong number (of a signal, a process, a
//! descriptor) is an error from the kernel, never undefined behaviour.
#![expect(
    unsafe_code,
    reason = "the one room for it; every block says why it is sound"
)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use nix::libc;
use nix::sys::signal::SigSet;
use nix::unistd::ForkResult;

/// Bits of [`BEFORE_MAIN`]: descriptors 0, 1 and 2 were closed, and these signals were ignored.
const CLOSED: [u8; 3] = [1, 2, 4];
const PIPE_IGNORED: u8 = 8;
const CHLD_IGNORED: u8 = 16;

static BEFORE_MAIN: AtomicU8 = AtomicU8::new(0);

/// Looks at what std, or we, change and a daemon that we start shall find as the supervisor left
/// it (R1): before `main` std opens closed descriptors 0 to 2 on /dev/null and ignores SIGPIPE.
extern "C" fn look_before_main() {
    let mut seen = 0;
    for (descriptor, bit) in (0..).zip(CLOSED) {
        // SAFETY: F_GETFD reads one flag of a descriptor; a closed one is the answer EBADF.
        if unsafe { libc::fcntl(descriptor, libc::F_GETFD) } == -1 {
            seen |= bit;
        }
    }
    if is_ignored(libc::SIGPIPE) {
        seen |= PIPE_IGNORED;
    }
    if is_ignored(libc::SIGCHLD) {
        seen |= CHLD_IGNORED;
    }
    BEFORE_MAIN.store(seen, Relaxed);
}

fn is_ignored(signal: libc::c_int) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: with no new action, sigaction only fills in the old one, which it has done where it
    // returns 0.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

// SAFETY: the section holds pointers to functions that the C runtime calls once, before main, with
// arguments that `look_before_main` does not read (the C calling convention allows that).
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK_BEFORE_MAIN: extern "C" fn() = look_before_main;

/// Makes CHLD what `waitpid` needs: ignored, it would lose the status of a child; and the kernel
/// sends none for a child that is stopped or continued, in which a daemon's own CHLD could drown.
pub(crate) fn watch_children() {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: all zeroes is a valid sigaction (SIG_DFL, no flags, an empty mask), of which one flag
    // is set; the default action runs no code of ours.
    unsafe {
        action.assume_init_mut().sa_flags = libc::SA_NOCLDSTOP;
        libc::sigaction(libc::SIGCHLD, action.as_ptr(), std::ptr::null_mut());
    }
}

/// Puts back what std and [`watch_children`] changed, in a process that is about to exec (R1).
pub(crate) fn restore_what_was_found() {
    let seen = BEFORE_MAIN.load(Relaxed);
    for (signal, bit) in [(libc::SIGPIPE, PIPE_IGNORED), (libc::SIGCHLD, CHLD_IGNORED)] {
        let found = if seen & bit == 0 {
            libc::SIG_DFL
        } else {
            libc::SIG_IGN
        };
        // SAFETY: neither disposition runs code of ours.
        unsafe { libc::signal(signal, found) };
    }
    for (descriptor, bit) in (0..).zip(CLOSED) {
        if seen & bit != 0 {
            // SAFETY: std opened this descriptor on /dev/null, and nothing in this process owns it.
            unsafe { libc::close(descriptor) };
        }
    }
}

/// `fork(2)`.
pub(crate) fn fork() -> nix::Result<ForkResult> {
    // SAFETY: there is no other thread that could hold a lock (of the allocator, say) across it.
    unsafe { nix::unistd::fork() }
}

/// `kill(2)` with any signal number, real-time ones too. Only for a child that has not been reaped
/// (R18): its PID cannot have passed to a stranger.
pub(crate) fn kill_child(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: kill reads no memory of ours.
    check(unsafe { libc::kill(pid, signal) })
}

/// `sigqueue(3)`: like [`kill_child`], with the value that came with the signal.
pub(crate) fn queue_to_child(pid: i32, signal: i32, value: i32) -> io::Result<()> {
    let value = libc::sigval {
        sival_ptr: value as usize as *mut libc::c_void,
    };
    // SAFETY: the value is passed on as a number; nobody here follows it as a pointer.
    check(unsafe { libc::sigqueue(pid, signal, value) })
}

/// Ends this process by `signal`, as if it had not been caught (R3). Returns if that did not
/// happen, which is so for a signal whose default is harmless.
pub(crate) fn die_of(signal: i32) {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set that the next two calls read; SIG_DFL runs no code of
    // ours; raise reads no memory.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), signal);
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
        libc::sigprocmask(libc::SIG_UNBLOCK, set.as_ptr(), std::ptr::null_mut());
    }
}

/// A signal set from numbers; nix has names for the standard ones only.
pub(crate) fn signal_set(numbers: impl IntoIterator<Item = i32>) -> SigSet {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set; sigaddset refuses a number that is no signal; so
    // what from_sigset_t_unchecked gets is a valid set.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for number in numbers {
            libc::sigaddset(set.as_mut_ptr(), number);
        }
        SigSet::from_sigset_t_unchecked(set.assume_init())
    }
}

/// The real-time signals that a program may use, as the C library has it: `SIGRTMIN..=SIGRTMAX`.
pub(crate) fn real_time_signals() -> std::ops::RangeInclusive<i32> {
    libc::SIGRTMIN()..=libc::SIGRTMAX()
}

/// `close_range(2)`: closes every descriptor from 3 on but those to keep (R2).
pub(crate) fn close_all_but(keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut keep: Vec<RawFd> = keep.iter().map(AsRawFd::as_raw_fd).collect();
    keep.sort_unstable();
    let mut first = 3;
    for descriptor in keep.into_iter().filter(|descriptor| *descriptor >= 3) {
        close_range(first, descriptor - 1)?;
        first = descriptor + 1;
    }
    close_range(first, RawFd::MAX)
}

fn close_range(first: RawFd, last: RawFd) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: what is closed was inherited and belongs to no object of this process: every
    // descriptor that one owns is among those that the caller keeps.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } as libc::c_int)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
