//! Datagrams to the keeper and its answers, as docs/protocol.md describes them. One message, one socket: nothing is kept
//! open between two, so a daemon may close every descriptor it does not know.

use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use std::ffi::OsStr;
use std::fmt;
use std::io::{self, IoSlice, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::{Duration, Instant};

/// More than any answer has: it is one line of words.
const LONGEST_ANSWER: usize = 4096;

/// The keeper's socket.
#[derive(Clone, Copy)]
pub(crate) struct Address(UnixAddr);

impl Address {
    /// A path, or `@` and an abstract name. `None` if it is neither, or too long.
    pub(crate) fn parse(text: &OsStr) -> Option<Self> {
        let bytes = text.as_bytes();
        match bytes.first()? {
            b'/' => UnixAddr::new(bytes).ok().map(Address),
            #[cfg(target_os = "linux")]
            b'@' if bytes.len() > 1 => UnixAddr::new_abstract(&bytes[1..]).ok().map(Address),
            _ => None,
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Address({})", self.0)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// What came of a question.
#[derive(Debug)]
pub(crate) enum Answer {
    Ok,
    /// `error=` and these words.
    Error(String),
    /// Something that this version does not understand.
    Unknown(String),
    /// Nothing, in the time given.
    Silence,
    /// End of file: the message was not believed, or the keeper went away.
    Nobody,
}

/// Sends `text`, with a descriptor if there is one. Waits at most `limit` for a receiver whose queue is full.
pub(crate) fn send(
    address: &Address,
    text: &str,
    pass: Option<BorrowedFd<'_>>,
    limit: Duration,
) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    // Zero would mean "for ever".
    socket.set_write_timeout(Some(limit.max(Duration::from_millis(1))))?;
    let descriptors = pass.map(|descriptor| [descriptor.as_raw_fd()]);
    let rights = descriptors
        .as_ref()
        .map(|descriptors| [ControlMessage::ScmRights(descriptors)]);
    let control = rights.as_ref().map_or(&[][..], |rights| &rights[..]);
    loop {
        let text = [IoSlice::new(text.as_bytes())];
        match sendmsg(
            socket.as_raw_fd(),
            &text,
            control,
            MsgFlags::empty(),
            Some(&address.0),
        ) {
            Ok(_) => return Ok(()),
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sends `text` with one end of a socket pair, and waits on the other for the answer.
pub(crate) fn ask(address: &Address, text: &str, limit: Duration) -> io::Result<Answer> {
    // A limit beyond what the clock can count is none.
    let deadline = Instant::now().checked_add(limit);
    let (mut ours, theirs) = UnixStream::pair()?;
    send(address, text, Some(theirs.as_fd()), limit)?;
    // Our copy must go, or there would never be an end of file.
    drop(theirs);
    let mut answer = [0; LONGEST_ANSWER];
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Ok(Answer::Silence);
        }
        ours.set_read_timeout(left)?;
        match ours.read(&mut answer) {
            Ok(0) => return Ok(Answer::Nobody),
            Ok(length) => return Ok(understand(&answer[..length])),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Ok(Answer::Nobody);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted || is_timeout(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

pub(crate) fn understand(answer: &[u8]) -> Answer {
    let answer = String::from_utf8_lossy(answer);
    let answer = answer.trim_end();
    match answer.strip_prefix("error=") {
        Some(words) => Answer::Error(one_line(words, LONGEST_ANSWER)),
        None if answer == "ok" => Answer::Ok,
        None => Answer::Unknown(one_line(answer, LONGEST_ANSWER)),
    }
}

/// A socket whose timeout is over says EAGAIN.
pub(crate) fn is_timeout(error: &io::Error) -> bool {
    [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&error.kind())
}

/// `text` as one line without control characters, of at most `longest` bytes: a newline in it would start a line of its
/// own in the message, and so say something else than was meant.
pub(crate) fn one_line(text: &str, longest: usize) -> String {
    let mut line = String::new();
    for character in text.chars().map(|character| {
        if character.is_control() {
            ' '
        } else {
            character
        }
    }) {
        if line.len() + character.len_utf8() > longest {
            break;
        }
        line.push(character);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_line() {
        assert_eq!(one_line("a\nREADY=1\0b\r\t", 100), "a READY=1 b  ");
        assert_eq!(one_line("äöü", 5), "äö");
    }

    #[test]
    fn answers_are_understood() {
        assert!(matches!(understand(b"ok"), Answer::Ok));
        assert!(matches!(understand(b"ok\n"), Answer::Ok));
        assert!(
            matches!(understand(b"error=disk full"), Answer::Error(words) if words == "disk full")
        );
        assert!(matches!(understand(b"okay"), Answer::Unknown(words) if words == "okay"));
    }

    #[test]
    fn addresses_are_paths_or_abstract() {
        assert!(Address::parse(OsStr::new("/run/app.sock")).is_some());
        assert_eq!(
            Address::parse(OsStr::new("@x")).is_some(),
            cfg!(target_os = "linux")
        );
        for wrong in ["", "@", "relative", "vsock:2:3", &"/x".repeat(60)] {
            assert!(Address::parse(OsStr::new(wrong)).is_none(), "{wrong}");
        }
    }
}
