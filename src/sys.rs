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

/// Whether that number is an open descriptor.
pub(crate) fn is_open(descriptor: RawFd) -> bool {
    // SAFETY: F_GETFD reads one flag of a descriptor; a closed one is the answer EBADF.
    unsafe { libc::fcntl(descriptor, libc::F_GETFD) != -1 }
}

/// Takes over a descriptor that was inherited for us, and hides it from what is exec'ed. Once for each.
pub(crate) fn take(descriptor: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_SETFD changes one flag of a descriptor; a closed one is the answer EBADF.
    check(unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: it is open, it was inherited, so no object of this process owns it, and the caller takes
    // it over once.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// `dup2(2)`: gives each of them the number that a program expects, from `first` on, and lets it
/// outlive an exec. Only for a process that is about to exec, and with descriptors above the last of
/// those numbers.
pub(crate) fn put_in_place(descriptors: &[OwnedFd], first: RawFd) -> io::Result<()> {
    for (descriptor, place) in descriptors.iter().zip(first..) {
        // SAFETY: what was open at that number is closed, and may be an object of ours; but none is
        // used any more before the exec.
        if unsafe { libc::dup2(descriptor.as_raw_fd(), place) } == -1 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// `fork(2)`.
pub(crate) fn fork() -> nix::Result<ForkResult> {
    // SAFETY: there is no other thread that could hold a lock (of the allocator, say) across it.
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
    let (number, process) = (libc::SYS_pidfd_send_signal, process.as_raw_fd());
    // SAFETY: without a siginfo the call reads no memory of ours.
    let sent = unsafe { libc::syscall(number, process, signal, std::ptr::null::<u8>(), 0) };
    check(sent as libc::c_int)
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

/// Whether the kernel has that call, and whoever limits our calls lets us make it. Closes nothing.
pub(crate) fn probe_close_range() -> io::Result<()> {
    close_range(RawFd::MAX, RawFd::MAX)
}

fn close_range(first: RawFd, last: RawFd) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: what is closed was inherited and belongs to no object of this process: every
    // descriptor that one owns is among those that the caller keeps.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } as libc::c_int)
}

/// A datagram with what the kernel says of it.
#[derive(Debug)]
pub(crate) struct Datagram {
    pub(crate) length: usize,
    /// Nothing of the text was cut off.
    pub(crate) whole: bool,
    pub(crate) sender: Option<Sender>,
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// Who sent it, as the kernel knows it (SO_PASSCRED).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender {
    /// 0 for a process that this PID namespace cannot see.
    pub(crate) pid: i32,
    pub(crate) user: u32,
}

/// `recvmsg(2)`, without waiting. Every descriptor that came along is owned by the result.
///
/// nix loses those of a message that brought too many, and rustix takes a PID of 0 for impossible:
/// either is somebody else's to bring about.
pub(crate) fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<Datagram> {
    /// Room for the credentials and for as many descriptors as one message can bring (253).
    #[repr(C)]
    union Control {
        _aligned: libc::cmsghdr,
        bytes: [u8; 2048],
    }
    let mut control = Control { bytes: [0; 2048] };
    let mut text = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: all zeroes is a valid msghdr: no name, no data, no control.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut text;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control).cast();
    header.msg_controllen = size_of::<Control>() as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header describes two buffers that live until the end of this function.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
    let Ok(length) = usize::try_from(length) else {
        return Err(io::Error::last_os_error());
    };

    let whole = header.msg_flags & libc::MSG_TRUNC == 0;
    let mut datagram = Datagram {
        length,
        whole,
        sender: None,
        descriptors: Vec::new(),
    };
    // SAFETY: the kernel filled in the control buffer up to the length that it put into the header,
    // which is what the CMSG functions stay within; the buffer is aligned as a cmsghdr is, and the
    // data of one is read unaligned, within its length. A descriptor in it is new, and ours alone.
    unsafe {
        let mut item = libc::CMSG_FIRSTHDR(&raw const header);
        while let Some(found) = item.as_ref() {
            let data = libc::CMSG_DATA(item);
            let whole: usize = found.cmsg_len as _;
            let size = whole.saturating_sub(libc::CMSG_LEN(0) as usize);
            match (found.cmsg_level, found.cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if size >= size_of::<libc::ucred>() => {
                    let sender: libc::ucred = data.cast::<libc::ucred>().read_unaligned();
                    datagram.sender = Some(Sender {
                        pid: sender.pid,
                        user: sender.uid,
                    });
                }
                (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                    let count = size / size_of::<RawFd>();
                    for index in 0..count {
                        let descriptor = data.cast::<RawFd>().add(index).read_unaligned();
                        datagram.descriptors.push(OwnedFd::from_raw_fd(descriptor));
                    }
                }
                _ => {}
            }
            item = libc::CMSG_NXTHDR(&raw const header, item);
        }
    }
    Ok(datagram)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
