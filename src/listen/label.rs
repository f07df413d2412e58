//! A held socket in words, as the record has it and as keepers tell each other (§6, R25).
//!
//!     web inode=881230 bound=127.0.0.1:8080 tcp:localhost:http
//!     admin inode=881231 file=24:1029 unix:/run/app/admin.sock
//!
//! The address is the last word, and the only one that may hold spaces.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::FileType;
use socket2::SockRef;

use super::Wanted;
use super::address::Address;
use super::open::FileIdentity;

/// What is known of a socket without having it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) name: String,
    /// As it was asked for.
    pub(crate) address: Address,
    /// The socket's own number, which no other one has while it is open.
    pub(crate) inode: u64,
    /// Where its path led when it was bound.
    pub(crate) file: Option<FileIdentity>,
    /// What it is bound to, where that is an address and a port.
    pub(crate) bound: Option<String>,
}

impl Label {
    pub(super) fn of(
        wanted: &Wanted,
        socket: BorrowedFd<'_>,
        file: Option<FileIdentity>,
    ) -> io::Result<Label> {
        let bound = SockRef::from(&socket).local_addr()?.as_socket();
        Ok(Label {
            name: wanted.name.clone(),
            address: wanted.address.clone(),
            inode: inode(socket)?,
            file,
            bound: bound.map(|address| address.to_string()),
        })
    }

    /// Words of a later version, `KEY=VALUE` before the address, are skipped.
    pub(crate) fn parse(text: &str) -> Option<Label> {
        let (name, mut rest) = text.split_once(' ')?;
        let (mut inode, mut file, mut bound) = (None, None, None);
        while let Some((word, more)) = rest.split_once(' ') {
            match word.split_once('=') {
                Some((key, _)) if key.contains(':') => break,
                Some(("inode", number)) => inode = number.parse().ok(),
                Some(("file", identity)) => file = FileIdentity::parse(identity),
                Some(("bound", address)) => bound = Some(address.to_owned()),
                Some(_) => {}
                None => break,
            }
            rest = more;
        }
        Some(Label {
            name: name.to_owned(),
            address: Address::parse(rest).ok()?,
            inode: inode?,
            file,
            bound,
        })
    }

    /// Whether it is its file that lies there.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        self.file.is_some_and(|file| file.is_at(path))
    }

    /// As people know it: with the port that it got, where it asked for any.
    pub(crate) fn shown(&self) -> String {
        match &self.bound {
            Some(bound) => format!("{}:{bound}", self.address.kind),
            None => self.address.to_string(),
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} inode={}", self.name, self.inode)?;
        if let Some(file) = self.file {
            write!(formatter, " file={file}")?;
        }
        if let Some(bound) = &self.bound {
            write!(formatter, " bound={bound}")?;
        }
        write!(formatter, " {}", self.address)
    }
}

/// The number of a socket, whatever descriptors there are for it.
pub(super) fn inode(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let found = rustix::fs::fstat(socket)?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Socket => Ok(found.st_ino),
        // Numbers of other kinds may be the same.
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

impl FileIdentity {
    fn parse(text: &str) -> Option<FileIdentity> {
        let (device, inode) = text.split_once(':')?;
        Some(FileIdentity {
            device: device.parse().ok()?,
            inode: inode.parse().ok()?,
        })
    }

    /// Whether that path leads to it.
    pub(super) fn is_at(self, path: &Path) -> bool {
        let found = fs::symlink_metadata(path);
        found.is_ok_and(|found| FileIdentity::of(&found) == self)
    }
}

impl fmt::Display for FileIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.device, self.inode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read_back() {
        for text in [
            "web inode=881230 bound=127.0.0.1:8080 tcp:localhost:http",
            "admin inode=881231 file=24:1029 unix:/run/an app/a=b.sock",
            "listen inode=7 unix-seqpacket:@abstract",
        ] {
            let label = Label::parse(text).expect(text);
            assert_eq!(label.to_string(), text);
        }
    }

    #[test]
    fn words_of_a_later_version_are_skipped_and_what_is_no_label_is_none() {
        let later = "web inode=7 colour=blue tcp:*:80";
        let label = Label::parse(later).unwrap();
        assert_eq!(label.to_string(), "web inode=7 tcp:*:80");
        for text in [
            "",
            "web",
            "web tcp:*:80",
            "web inode=7",
            "web inode=x tcp:*:80",
        ] {
            assert_eq!(Label::parse(text), None, "{text}");
        }
    }
}
