//! The system calls that no safe interface covers, and nothing else: no decision is taken here.
#![expect(
    unsafe_code,
    reason = "neither std nor nix has a safe form of these calls"
)]

use nix::errno::Errno;
use nix::libc;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

#[cfg(target_os = "linux")]
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// What the process does when a signal comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disposition {
    Default,
    Ignored,
    Caught,
}

/// `sigaction(signal, NULL, &old)`: looks without changing anything.
pub(crate) fn disposition(signal: i32) -> io::Result<Disposition> {
    let mut old = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: with a null new action the call only writes `old`, which is large enough and lives until it returns.
    let result = unsafe { libc::sigaction(signal, ptr::null(), old.as_mut_ptr()) };
    Errno::result(result).map_err(io::Error::from)?;
    // SAFETY: the call succeeded, so it has filled `old`; all zeroes would be a valid value as well.
    let handler = unsafe { old.assume_init() }.sa_sigaction;
    Ok(match handler {
        libc::SIG_DFL => Disposition::Default,
        libc::SIG_IGN => Disposition::Ignored,
        _ => Disposition::Caught,
    })
}

/// `syscall(SYS_pidfd_open, pid, 0)`: a descriptor for a process, which stays that process's when the PID is reused.
/// Close-on-exec, as the kernel makes it.
#[cfg(target_os = "linux")]
pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two integers and touches no memory of ours.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_open,
            libc::c_long::from(pid),
            0 as libc::c_long,
        )
    };
    let descriptor = Errno::result(result).map_err(io::Error::from)?;
    let descriptor = i32::try_from(descriptor).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// `syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0)`: signals that very process, or fails with `ESRCH`.
#[cfg(target_os = "linux")]
pub(crate) fn pidfd_send_signal(process: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as it is borrowed; the null pointer means "no siginfo of our own".
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            libc::c_long::from(process.as_raw_fd()),
            libc::c_long::from(signal),
            ptr::null::<libc::siginfo_t>(),
            0 as libc::c_long,
        )
    };
    Errno::result(result).map(drop).map_err(io::Error::from)
}
