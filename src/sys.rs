//! The only unsafe code of the program: what neither nix nor rustix offers safely.
//!
//! Note on unsafety: three facts are relied upon throughout. The program never has a second
//! thread. Nothing here keeps a pointer beyond its call. A wrong number (of a signal, a process, a
//! descriptor) is an error from the kernel, never undefined behaviour.
#![expect(
    unsafe_code,
    reason = "the one room for it; every block says why it is sound"
)]

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use nix::libc;
use nix::sys::signal::SigSet;
use nix::unistd::ForkResult;

use crate::ancillary;
pub(crate) use crate::ancillary::Sender;

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
        if !is_open(descriptor) {
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

/// Whether this process ignores the signal, as its parent left it: nothing here changes that.
pub(crate) fn is_ignored(signal: libc::c_int) -> bool {
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
#[cfg_attr(not(miri), unsafe(link_section = ".init_array"))]
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

/// Gives the kernel back what deeper calls have left of the stack: some 40 kB after a start, which would stay
/// with the process for years. To be called where it is shallow.
///
/// Never inlined: this function's frame has to lie below all of its caller's.
#[inline(never)]
pub(crate) fn return_stack() {
    const DEPTH: usize = 1 << 18;
    // SAFETY: it returns a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let page = usize::try_from(page).unwrap_or(DEPTH);
    let mark = 0u8;
    let end = (&raw const mark).addr() / page * page - page;
    let begin = std::ptr::without_provenance_mut(end - DEPTH);
    // SAFETY: the mark lies in this function's own frame, which is less than a page long and the lowest there
    // is. A page or more below it there is nothing that anybody reads before he has written it: no frame, no
    // red zone (128 bytes on x86-64), and no signal is caught. Nothing else is mapped so near to a stack: the
    // kernel keeps a gap of 1 MiB below it (stack_guard_gap). Where nothing is mapped (ENOMEM), the call has
    // nothing to do there.
    unsafe { libc::madvise(begin, DEPTH, libc::MADV_DONTNEED) };
}

/// Whether that number is an open descriptor.
pub(crate) fn is_open(descriptor: RawFd) -> bool {
    // SAFETY: F_GETFD reads one flag of a descriptor; a closed one is the answer EBADF.
    unsafe { libc::fcntl(descriptor, libc::F_GETFD) != -1 }
}

/// Takes over a descriptor that was inherited for us, and hides it from what is exec'ed. Refuses one
/// that was opened since, or taken before.
pub(crate) fn take(descriptor: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD reads one flag of a descriptor; a closed one is the answer EBADF.
    let flags = unsafe { libc::fcntl(descriptor, libc::F_GETFD) };
    check(flags)?;
    if flags & libc::FD_CLOEXEC != 0 {
        return Err(io::Error::other("it was not inherited"));
    }
    // SAFETY: F_SETFD changes that flag.
    check(unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: it is open, and it came through execve, for all that this process opens by itself is
    // close-on-exec. So no object owns it; and it is now close-on-exec, so a second call is refused.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// `dup2(2)`: gives each of them the number that a program expects, from `first` on, and lets it
/// outlive an exec. Only for a process that is about to exec, and with descriptors above the last of
/// those numbers.
pub(crate) fn put_in_place(descriptors: &[OwnedFd], first: RawFd) -> io::Result<()> {
    for (descriptor, place) in descriptors.iter().zip(first..) {
        // SAFETY: the number stays open, so whatever object owns it still closes it once. That object
        // is another file from now on; but this process goes on to exec, or where that fails to its
        // end, without reading or writing by any object that it had.
        if unsafe { libc::dup2(descriptor.as_raw_fd(), place) } == -1 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// `fork(2)`.
pub(crate) fn fork() -> nix::Result<ForkResult> {
    // SAFETY: there is no other thread that could hold a lock (of the allocator, say) across it. So the
    // child may do whatever the parent might, not only what is safe in a signal handler. (Unit tests
    // have threads; the C library then keeps the allocator usable, and their children exec or exit.)
    unsafe { nix::unistd::fork() }
}

/// The environment as it is, `environ(7)`; std leaves out what has no name.
pub(crate) fn environment() -> Vec<CString> {
    unsafe extern "C" {
        static environ: *const *const libc::c_char;
    }
    let mut all = Vec::new();
    // SAFETY: environ is null or an array of strings that ends with a null; no other thread changes
    // it, and nobody here does.
    unsafe {
        let mut next = environ;
        while !next.is_null() && !(*next).is_null() {
            all.push(CStr::from_ptr(*next).to_owned());
            next = next.add(1);
        }
    }
    all
}

/// `kill(2)` with any signal number, real-time ones too. Only for a child that has not been reaped
/// (R18): its PID cannot have passed to a stranger.
pub(crate) fn kill_child(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: kill reads no memory of ours.
    check(unsafe { libc::kill(pid, signal) })
}

/// The same, to the process group that the child leads: it has made a session of its own. Before that,
/// to the child alone.
pub(crate) fn kill_group_of_child(pid: i32, signal: i32) -> io::Result<()> {
    match kill_child(-pid, signal) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => kill_child(pid, signal),
        sent => sent,
    }
}

/// `pidfd_send_signal(2)` with any signal number, real-time ones too.
pub(crate) fn send_by_pidfd(process: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let [process, signal, no_flags] = [process.as_raw_fd(), signal, 0].map(libc::c_long::from);
    let nothing = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: without a siginfo the call reads no memory of ours; the others are numbers, of the width
    // that syscall(2) reads.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process,
            signal,
            nothing,
            no_flags,
        )
    };
    check(sent as libc::c_int)
}

/// `sigqueue(3)`: like [`kill_child`], with the value that came with the signal.
pub(crate) fn queue_to_child(pid: i32, signal: i32, value: i32) -> io::Result<()> {
    // In C it is a union: the number lies at its beginning, whatever the byte order.
    let mut union = [0; size_of::<usize>()];
    union[..size_of::<i32>()].copy_from_slice(&value.to_ne_bytes());
    let value = libc::sigval {
        sival_ptr: std::ptr::without_provenance_mut(usize::from_ne_bytes(union)),
    };
    // SAFETY: the value is passed on as a number; nobody here follows it as a pointer.
    check(unsafe { libc::sigqueue(pid, signal, value) })
}

/// Ends this process by `signal`, as if it had not been caught (R3). Returns if that did not
/// happen, which is so for a signal whose default is harmless.
pub(crate) fn die_of(signal: i32) {
    let set = signal_set([signal]);
    // SAFETY: sigprocmask reads a set that is whole; a number that is no signal is refused by each call;
    // SIG_DFL runs no code of ours; raise reads no memory.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
        libc::sigprocmask(libc::SIG_UNBLOCK, set.as_ref(), std::ptr::null_mut());
    }
}

/// A signal set from numbers. nix has names for the standard ones only; and musl's `sigaddset` refuses 34,
/// which it wants for its threads, while it is a signal like any other to whoever sends it.
pub(crate) fn signal_set(numbers: impl IntoIterator<Item = i32>) -> SigSet {
    const BITS: u32 = libc::c_ulong::BITS;
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    for number in numbers {
        let Some(bit) = u32::try_from(number).ok().and_then(|it| it.checked_sub(1)) else {
            continue;
        };
        if bit < SIGNALS {
            let word = set.as_mut_ptr().cast::<libc::c_ulong>();
            // SAFETY: in every C library of Linux the set begins with the kernel's words, one bit for each
            // of its 64 signals, and is at least as long; zeroes are an empty one.
            unsafe { *word.add((bit / BITS) as usize) |= 1 << (bit % BITS) };
        }
    }
    // SAFETY: all of it was set to zero, and bits of signals that there are.
    unsafe { SigSet::from_sigset_t_unchecked(set.assume_init()) }
}

/// As many as the kernel has (`_NSIG`).
const SIGNALS: u32 = 64;

/// The real-time signals that a program may use, by glibc's count, which the daemons and shells of most
/// machines go by: musl's begins one later.
pub(crate) fn real_time_signals() -> std::ops::RangeInclusive<i32> {
    34..=64
}

/// `F_NOTIFY` of `fcntl(2)`: from now on this process gets the signal when something of that kind happens in
/// the directory, as long as the descriptor is open.
pub(crate) fn tell_of_changes(directory: BorrowedFd<'_>, what: u32, signal: i32) -> io::Result<()> {
    /// fcntl(2); the libc crate lacks it.
    const F_SETSIG: libc::c_int = 10;
    let directory = directory.as_raw_fd();
    // SAFETY: both take a number, and change what the kernel does about this open directory. The signal runs
    // no code of ours: none of those that we read from a signalfd is ever caught.
    unsafe {
        check(libc::fcntl(directory, F_SETSIG, signal))?;
        check(libc::fcntl(directory, libc::F_NOTIFY, what as libc::c_long))
    }
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

/// Whether the kernel has that call, and whoever limits our calls lets us make it. Closes nothing.
pub(crate) fn probe_close_range() -> io::Result<()> {
    close_range(RawFd::MAX, RawFd::MAX)
}

fn close_range(first: RawFd, last: RawFd) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    let [first, last, no_flags] = [first, last, 0].map(libc::c_long::from);
    // SAFETY: what is closed was inherited and belongs to no object of this process: every descriptor
    // that one owns is among those that the caller keeps. Or this process is a child that has its
    // parent's objects, uses none of them, and leaves by `process::exit`, which drops none.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, no_flags) } as libc::c_int)
}

/// A datagram with what the kernel says of it.
#[derive(Debug)]
pub(crate) struct Datagram {
    pub(crate) length: usize,
    /// Nothing of the text was cut off.
    pub(crate) whole: bool,
    pub(crate) sender: Option<Sender>,
    pub(crate) descriptors: Vec<OwnedFd>,
    /// There were more of them than there was room for.
    pub(crate) brings_more: bool,
}

/// `recvmsg(2)`, without waiting. Every descriptor that came along is owned by the result.
///
/// nix loses those of a message that brought too many, and rustix takes a PID of 0 for impossible:
/// either is somebody else's to bring about.
pub(crate) fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<Datagram> {
    receive_into(socket, bytes, size_of::<Control>(), 0)
}

/// The same, of one that stays where it is, with what came along: there is no room for a descriptor.
pub(crate) fn peek(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<Datagram> {
    // SAFETY: it computes a number.
    let credentials = unsafe { libc::CMSG_SPACE(size_of::<libc::ucred>() as _) };
    receive_into(socket, bytes, credentials as usize, libc::MSG_PEEK)
}

/// Takes one off and forgets it. What it brought never becomes a descriptor of ours, whose close may wait
/// for its owner (a file of his own file system); a socket that lingers would wait all the same.
pub(crate) fn discard(socket: BorrowedFd<'_>, brings: bool) {
    let taken = || receive_into(socket, &mut [], 0, 0);
    let _ = if brings { in_a_moment(taken) } else { taken() };
}

extern "C" fn wake(_: libc::c_int) {}

/// Cuts short whatever this call waits for, where a signal can do that, and leaves no trace of that signal:
/// one for a fault, since every other one may be a daemon's word (`--detach-signal`).
fn in_a_moment<T>(call: impl FnOnce() -> T) -> T {
    const SIGNAL: libc::c_int = libc::SIGFPE;
    const MOMENT: libc::timespec = libc::timespec {
        tv_sec: 0,
        tv_nsec: 100_000,
    };
    let woken: extern "C" fn(libc::c_int) = wake;
    let mut unblocked = MaybeUninit::<libc::sigset_t>::uninit();
    let mut mask = MaybeUninit::<libc::sigset_t>::uninit();
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    let mut found = MaybeUninit::<libc::sigaction>::zeroed();
    let mut event = MaybeUninit::<libc::sigevent>::zeroed();
    let mut timer: libc::timer_t = std::ptr::null_mut();
    // Again and again: the first one may come before there is anything to cut short.
    let again = libc::itimerspec {
        it_interval: MOMENT,
        it_value: MOMENT,
    };
    // SAFETY: all zeroes is a valid sigaction and sigevent; sigemptyset initialises a set; mask and action
    // are put back as they were found, which has succeeded, as these calls do for a valid signal. The
    // only code of ours that is run does nothing, so that it may come at any moment. A timer is used, and
    // deleted, where it was made.
    unsafe {
        action.assume_init_mut().sa_sigaction = woken as usize;
        libc::sigaction(SIGNAL, action.as_ptr(), found.as_mut_ptr());
        libc::sigemptyset(unblocked.as_mut_ptr());
        libc::sigaddset(unblocked.as_mut_ptr(), SIGNAL);
        libc::sigprocmask(libc::SIG_UNBLOCK, unblocked.as_ptr(), mask.as_mut_ptr());
        event.assume_init_mut().sigev_notify = libc::SIGEV_SIGNAL;
        event.assume_init_mut().sigev_signo = SIGNAL;
        let made = libc::timer_create(libc::CLOCK_MONOTONIC, event.as_mut_ptr(), &raw mut timer);
        if made == 0 {
            libc::timer_settime(timer, 0, &raw const again, std::ptr::null_mut());
        }
        let result = call();
        if made == 0 {
            libc::timer_delete(timer);
        }
        libc::sigprocmask(libc::SIG_SETMASK, mask.as_ptr(), std::ptr::null_mut());
        libc::sigaction(SIGNAL, found.as_ptr(), std::ptr::null_mut());
        result
    }
}

/// Room for the credentials and for as many descriptors as one message can bring (253); aligned as a
/// cmsghdr is.
#[repr(C, align(8))]
struct Control([u8; 2048]);

/// `room`: bytes of [`Control`] for what comes along.
fn receive_into(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
    room: usize,
    flags: libc::c_int,
) -> io::Result<Datagram> {
    let mut control = Control([0; 2048]);
    let mut text = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: all zeroes is a valid msghdr: no name, no data, no control.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut text;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = room.min(control.0.len()) as _;
    let flags = flags | libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header describes two buffers, with their lengths, that live until the end of this
    // function, and that nothing else touches before the call returns.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
    let Ok(length) = usize::try_from(length) else {
        return Err(io::Error::last_os_error());
    };

    let filled: usize = header.msg_controllen as _;
    let came = ancillary::read(control.0.get(..filled).unwrap_or_default());
    let descriptors = came.descriptors.into_iter().map(|descriptor| {
        // SAFETY: the kernel made it for this message a moment ago, and wrote nothing but such numbers
        // there; nobody else knows of it, and each is owned once.
        unsafe { OwnedFd::from_raw_fd(descriptor) }
    });
    Ok(Datagram {
        length,
        whole: header.msg_flags & libc::MSG_TRUNC == 0,
        sender: came.sender,
        descriptors: descriptors.collect(),
        brings_more: header.msg_flags & libc::MSG_CTRUNC != 0,
    })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    use std::fs::File;
    use std::os::fd::IntoRawFd;

    #[test]
    fn only_what_was_inherited_is_taken_and_once() {
        let file = File::open("/dev/null").unwrap();
        let number = file.as_raw_fd();
        assert!(take(number).is_err(), "it is the file's");
        fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        assert_eq!(file.into_raw_fd(), number);
        let taken = take(number).unwrap();
        assert_eq!(taken.as_raw_fd(), number);
        assert!(take(number).is_err(), "it was taken before");
        assert!(take(RawFd::MAX).is_err(), "it is closed");
    }
}
