//! Log lines: to stderr, one write each, never waiting for whoever reads them (R4).

use std::env;
use std::ffi::OsStr;
use std::io::{self, IoSlice, Write};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::{FileType, Stat, fstat};
use rustix::io::{Errno, ReadWriteFlags, pwritev2};
use rustix::net::{SendFlags, send};

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Volume {
    /// Warnings only.
    Quiet,
    /// What happens to a generation.
    Normal,
    /// Also what the daemon says.
    Verbose,
}

/// The voice of one service.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    name: String,
    volume: Volume,
}

impl Report {
    pub(crate) fn new(name: String, volume: Volume) -> Report {
        Report { name, volume }
    }

    /// Something that will not work as the administrator expects.
    pub(crate) fn warn(&self, text: &str) {
        write_line(WARNING, &format!("{}: {text}", self.name));
    }

    pub(crate) fn note(&self, text: &str) {
        if self.volume >= Volume::Normal {
            write_line(INFORMATION, &format!("{}: {text}", self.name));
        }
    }

    pub(crate) fn detail(&self, text: &str) {
        if self.volume >= Volume::Verbose {
            write_line(DEBUG, &format!("{}: {text}", self.name));
        }
    }
}

/// An error of the program itself, where no service is running yet.
pub(crate) fn complain(text: &str) {
    write_line(ERROR, &format!("seamless-run: {text}"));
}

/// The priorities of sd-daemon(3), as journald reads them at the beginning of a line.
const ERROR: &str = "<3>";
const WARNING: &str = "<4>";
const INFORMATION: &str = "<6>";
const DEBUG: &str = "<7>";

/// Whether standard error is the journal's: systemd says which stream it has connected, and whoever redirects
/// standard error later has another one.
fn is_journal(named: &OsStr, stderr: &Stat) -> bool {
    named
        .to_str()
        .and_then(|named| named.split_once(':'))
        .is_some_and(|(device, inode)| {
            device.parse() == Ok(stderr.st_dev) && inode.parse() == Ok(stderr.st_ino)
        })
}

/// A line that cannot be written at once is dropped: a log reader that has stopped, or a full pipe,
/// must not stop a service. stderr is shared with the daemon, so it cannot be made non-blocking.
fn write_line(priority: &str, text: &str) {
    // What a daemon or a file name put into the text shall not pass for a line of its own; and a
    // line that is longer than a page might not be taken by a pipe in one piece.
    let printable = |char: char| if char.is_control() { ' ' } else { char };
    let stderr = io::stderr();
    let mut line = String::new();
    // The daemon inherits the variable, and what it writes is its own affair.
    let named = env::var_os("JOURNAL_STREAM");
    if named.is_some_and(|named| fstat(&stderr).is_ok_and(|stat| is_journal(&named, &stat))) {
        line.push_str(priority);
    }
    line.extend(text.chars().map(printable).take(1000));
    line.push('\n');
    let text = line.as_bytes();
    // A socket (journald, say) and a pipe can be asked not to wait for this one write.
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    if send(stderr.as_fd(), text, flags) != Err(Errno::NOTSOCK) {
        return;
    }
    let is_pipe =
        fstat(&stderr).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
    if is_pipe {
        let now = [IoSlice::new(text)];
        match pwritev2(&stderr, &now, u64::MAX, ReadWriteFlags::NOWAIT) {
            Ok(_) | Err(Errno::AGAIN | Errno::PIPE) => return,
            // It cannot be asked for that: not by this kernel, or not from a sandbox.
            Err(_) => {}
        }
    }
    let mut writable = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    let room = poll(&mut writable, PollTimeout::ZERO);
    if room.is_ok_and(|ready| ready > 0) {
        // A dead pipe is an error that nobody is left to hear of.
        let _ = stderr.lock().write_all(text);
    }
}

/// The kernel's words for an error, without the number and the file name that std and tempfile add.
pub(crate) fn cause(error: &io::Error) -> String {
    if error.raw_os_error() == Some(nix::libc::EMFILE) {
        // musl has other words for it.
        return "Too many open files; raise the limit (ulimit -n)".to_owned();
    }
    let text = error.to_string();
    let words = text.split(" (os error ").next().unwrap_or(&text);
    words.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_the_stream_that_systemd_named_and_no_other() {
        let file = tempfile::tempfile().unwrap();
        let stat = fstat(&file).unwrap();
        let is = |text: String| is_journal(OsStr::new(&text), &stat);
        let (device, inode) = (stat.st_dev, stat.st_ino);
        assert!(is(format!("{device}:{inode}")));
        assert!(!is(format!("{device}:{}", inode + 1)));
        assert!(!is(format!("{}:{inode}", device + 1)));
        for text in ["", ":", "8", "x:y"] {
            assert!(!is(text.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_cause_is_the_kernels_words() {
        let error = io::Error::from_raw_os_error(nix::libc::ENOSPC);
        assert_eq!(cause(&error), "No space left on device");
        let missing = tempfile::tempfile_in("/nowhere").unwrap_err();
        assert_eq!(cause(&missing), "No such file or directory");
        assert_eq!(cause(&io::Error::other("odd")), "odd");
    }
}
