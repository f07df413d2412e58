//! The system calls that no safe interface covers, and nothing else: no decision is taken here.
#![expect(
    unsafe_code,
    reason = "neither std nor nix has a safe form of these calls"
)]

use nix::errno::Errno;
use nix::libc;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;

#[cfg(target_os = "linux")]
use std::os::fd::{AsRawFd, BorrowedFd};

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

/// Why a descriptor cannot have come from whoever started this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotInherited {
    Closed,
    /// It would not have outlived `execve`: it was opened since, and is somebody's, or was taken before.
    CloseOnExec,
}

/// Takes over the descriptors that this process was started with under these numbers, and makes them close-on-exec: all
/// of them or none, and on the first that was not inherited nothing is changed. Not to be called twice at once.
pub(crate) fn take_inherited(numbers: Range<RawFd>) -> Result<Vec<OwnedFd>, (RawFd, NotInherited)> {
    for number in numbers.clone() {
        // SAFETY: the call takes integers only, and reads flags.
        let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
        if flags < 0 {
            return Err((number, NotInherited::Closed));
        }
        if flags & libc::FD_CLOEXEC != 0 {
            return Err((number, NotInherited::CloseOnExec));
        }
    }
    let taken = numbers.map(|number| {
        // SAFETY: integers only. It was open a moment ago, so this cannot fail.
        unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
        // SAFETY: it is open, and it came through `execve`, since everything that this process opens by the standard
        // library is close-on-exec. So it was left for the one who reads `LISTEN_FDS`, and that is us: it is now
        // close-on-exec itself, and no second call gets past the loop above.
        unsafe { OwnedFd::from_raw_fd(number) }
    });
    Ok(taken.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    use std::net::UdpSocket;
    use std::os::fd::{AsRawFd, IntoRawFd};

    #[test]
    fn what_is_inherited_is_taken_once() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let number = socket.as_raw_fd();
        let take = || take_inherited(number..number + 1);
        assert_eq!(take().unwrap_err(), (number, NotInherited::CloseOnExec));
        fcntl(&socket, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        assert_eq!(socket.into_raw_fd(), number);
        let taken = take().unwrap();
        assert_eq!(taken.len(), 1);
        assert_eq!(take().unwrap_err(), (number, NotInherited::CloseOnExec));
        let far = i32::MAX - 1;
        let closed = take_inherited(far..far + 1).unwrap_err();
        assert_eq!(closed, (far, NotInherited::Closed));
    }
}
