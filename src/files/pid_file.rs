//! The PID file, as it is found.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use crate::report::cause;

use super::{open_suspiciously, read_at_most};

/// No PID file is longer.
const LONGEST: u64 = 32;

/// What is at a PID file's place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    /// A number, whoever wrote it: not to be believed by itself (R18).
    Pid(i32),
    /// A regular file without a byte: what a full disk leaves of a PID file.
    Empty,
    /// A symbolic link; what it points to is none of our business.
    Link,
    /// Something that is no PID file, in words; it is not ours to remove.
    Other(String),
}

pub(super) fn find(path: &Path) -> Found {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Found::Nothing,
        Err(error) => return Found::Other(format!("cannot be looked at ({})", cause(&error))),
    };
    if metadata.is_symlink() {
        return Found::Link;
    }
    if !metadata.is_file() {
        return Found::Other("is not a regular file".to_owned());
    }
    let read = || {
        let file = open_suspiciously(OpenOptions::new().read(true), path)?;
        read_at_most(&file, LONGEST)
    };
    match read() {
        Ok(Some(content)) => understand(&content),
        Ok(None) => Found::Other("holds something else than a PID".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Found::Nothing,
        Err(error) => Found::Other(format!("cannot be read ({})", cause(&error))),
    }
}

pub(crate) fn understand(content: &[u8]) -> Found {
    if content.is_empty() {
        return Found::Empty;
    }
    let number = std::str::from_utf8(content).ok().map(str::trim);
    match number.and_then(|text| text.parse().ok()) {
        Some(pid) if pid > 0 => Found::Pid(pid),
        _ => Found::Other("holds something else than a PID".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_told_apart() {
        let other = |words: &str| Found::Other(words.to_owned());
        assert_eq!(understand(b"42\n"), Found::Pid(42));
        assert_eq!(
            understand(b"42"),
            Found::Pid(42),
            "as the Go library writes it"
        );
        assert_eq!(understand(b""), Found::Empty);
        for text in [&b"-1\n"[..], b"0", b"42 43", b"x", b"99999999999", b"\xff"] {
            assert_eq!(understand(text), other("holds something else than a PID"));
        }
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        assert_eq!(find(&at("nothing")), Found::Nothing);
        assert_eq!(find(directory.path()), other("is not a regular file"));
        std::os::unix::fs::symlink("/etc/passwd", at("link")).unwrap();
        assert_eq!(find(&at("link")), Found::Link);
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(find(&at("fifo")), other("is not a regular file"));
        fs::write(at("long"), "1".repeat(33)).unwrap();
        assert_eq!(find(&at("long")), other("holds something else than a PID"));
    }
}
