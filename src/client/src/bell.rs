//! A descriptor that becomes readable when there may be something to look at.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use signal_hook::SigId;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

/// Rung by the signal handlers and by [`ring`](Self::ring). It carries no news: whoever hears it looks at the flags.
#[derive(Debug)]
pub(crate) struct Bell {
    read: UnixStream,
    write: UnixStream,
    ids: Vec<SigId>,
}

impl Bell {
    /// Rings at each of `signals`, which must be caught already: handlers run in the order of their registration, and
    /// the flag has to be up before the bell rings, or whoever hears it would find nothing.
    pub(crate) fn new(signals: &[i32]) -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        read.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        let mut bell = Bell {
            read,
            write,
            ids: Vec::new(),
        };
        for &signal in signals {
            let id = signal_hook::low_level::pipe::register(signal, bell.write.try_clone()?)?;
            bell.ids.push(id);
        }
        Ok(bell)
    }

    pub(crate) fn ring(&self) {
        // A full pipe is a bell that rings already, and nothing else can fail here.
        drop((&self.write).write(b"!"));
    }

    /// Silences it. To be done *before* looking: what comes after the look rings it again.
    pub(crate) fn silence(&self) {
        let mut rung = [0; 64];
        while matches!((&self.read).read(&mut rung), Ok(count) if count > 0) {}
    }

    pub(crate) fn wait(&self) {
        let mut descriptors = [PollFd::new(self.read.as_fd(), PollFlags::POLLIN)];
        // EINTR is a reason to look as good as any. What else fails may fail again, and must not become a busy loop.
        if poll(&mut descriptors, PollTimeout::NONE).is_err_and(|error| error != Errno::EINTR) {
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        for id in self.ids.drain(..) {
            signal_hook::low_level::unregister(id);
        }
    }
}
