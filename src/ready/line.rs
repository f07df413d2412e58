//! A line on a descriptor, s6's way to say *ready* (R12).

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

use nix::fcntl::OFlag;
use nix::libc::O_NONBLOCK;
use nix::unistd::pipe2;

/// One read; a daemon that writes more waits for the next.
const AT_ONCE: usize = 4096;

/// The end that is read.
#[derive(Debug)]
pub(super) struct Line {
    reader: File,
    /// Nobody is left to write one.
    pub(super) closed: bool,
}

impl Line {
    /// And the daemon's end. That one can be read, too: so a daemon that writes while its keeper is lost
    /// does not die of SIGPIPE, and what it wrote is kept (R20).
    pub(super) fn open() -> io::Result<(Line, OwnedFd)> {
        let (_reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
        let daemons = File::options().read(true).write(true).open(&path)?;
        Ok((Line::at(&path)?, daemons.into()))
    }

    /// Of a daemon whose keeper was lost.
    pub(super) fn reopen(daemon: i32, number: i32) -> io::Result<Line> {
        let line = Line::at(&format!("/proc/{daemon}/fd/{number}"))?;
        if line.reader.metadata()?.file_type().is_fifo() {
            Ok(line)
        } else {
            Err(io::ErrorKind::InvalidInput.into())
        }
    }

    fn at(path: &str) -> io::Result<Line> {
        let mut options = File::options();
        Ok(Line {
            reader: options.read(true).custom_flags(O_NONBLOCK).open(path)?,
            closed: false,
        })
    }

    /// Whether there is one by now.
    pub(super) fn read(&mut self) -> bool {
        let mut bytes = [0; AT_ONCE];
        match self.reader.read(&mut bytes) {
            Ok(0) => {
                self.closed = true;
                false
            }
            Ok(length) => bytes[..length].contains(&b'\n'),
            Err(_) => false,
        }
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_line_is_seen_however_late() {
        let (mut line, daemons) = Line::open().unwrap();
        let mut daemons = File::from(daemons);
        assert!(!line.read());
        daemons.write_all(b"al").unwrap();
        assert!(!line.read());
        daemons.write_all(b"most\n").unwrap();
        assert!(line.read());
    }

    #[test]
    fn what_is_written_while_nobody_reads_is_kept() {
        let (line, daemons) = Line::open().unwrap();
        drop(line);
        let mut file = File::from(daemons);
        file.write_all(b"\n").unwrap();
        let own = std::process::id() as i32;
        let mut line = Line::reopen(own, file.as_raw_fd()).unwrap();
        assert!(line.read());
    }

    #[test]
    fn an_end_is_no_line() {
        let (mut line, daemons) = Line::open().unwrap();
        drop(daemons);
        assert!(!line.read());
        assert!(line.closed);
    }
}
