//! runit, daemontools and s6: `supervise/status` in the service directory says what is wanted.
//!
//! The directory is root's alone, and the file is renamed into place: it is opened anew for each look,
//! through a descriptor of the directory, and whoever looks must have stayed root.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open, openat};
use rustix::io::Errno;

use crate::changes::{self, Change, Changes};
use crate::generation::Wish;
use crate::process::Identity;

/// Which of the three it is: each has a layout of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Runit,
    Daemontools,
    S6,
}

impl Format {
    /// By the name of the process that supervises.
    pub(crate) fn of(process: &str) -> Option<Format> {
        match process {
            "runsv" => Some(Format::Runit),
            "supervise" => Some(Format::Daemontools),
            "s6-supervise" => Some(Format::S6),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Format::Runit => "runit",
            Format::Daemontools => "daemontools",
            Format::S6 => "s6",
        }
    }

    /// How long after a signal no reading counts. runit writes the file before it sends the signal, the
    /// others after that; and a service that is taken down and up again, which is a restart, shows
    /// *down* for a few milliseconds. With the end of a wait, which is rounded up, 50 ms in all.
    pub(super) fn settles_in(self) -> Duration {
        match self {
            Format::Runit => Duration::ZERO,
            Format::Daemontools | Format::S6 => Duration::from_millis(49),
        }
    }

    /// The process that runs, as the file has it; 0 for none.
    pub(crate) fn main_process(self, status: &[u8]) -> Option<i32> {
        match self {
            Format::Runit | Format::Daemontools => {
                Some(i32::from_le_bytes(status.get(12..16)?.try_into().ok()?))
            }
            Format::S6 => {
                let pid = u64::from_be_bytes(status.get(24..32)?.try_into().ok()?);
                i32::try_from(pid).ok()
            }
        }
    }

    /// What the bytes of the file say.
    pub(crate) fn read(self, status: &[u8]) -> Wish {
        match self {
            // 12 bytes of time, 4 of PID, paused, and then the wish; runit has two more.
            Format::Runit | Format::Daemontools => match status.get(17) {
                Some(b'u') => Wish::Up,
                // Nothing: it was started by `svc -o`, once, and nobody starts it again.
                Some(b'd' | 0) => Wish::Down,
                Some(_) | None => Wish::Unknown,
            },
            // Two times, one or two PIDs, a wait status, and flags; 35 bytes before s6 2.11.
            Format::S6 => match status.split_last() {
                Some((flags, rest)) if rest.len() >= 34 => {
                    if flags & 0x04 != 0 {
                        Wish::Up
                    } else {
                        Wish::Down
                    }
                }
                Some(_) | None => Wish::Unknown,
            },
        }
    }
}

/// The `supervise` directory of this service, and whoever writes there.
#[derive(Debug)]
pub(crate) struct Supervise {
    pub(crate) format: Format,
    directory: OwnedFd,
    writer: Identity,
}

impl Supervise {
    /// That of the supervisor `parent`, which runs in the service directory, as its run script does
    /// unless it goes elsewhere. runsv runs two: the other one's directory is `log` in the first one's.
    pub(super) fn open(format: Format, parent: i32) -> io::Result<Supervise> {
        let writer = Identity::of(parent)?;
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let at = |path: PathBuf| open(path, flags, Mode::empty());
        let parents = PathBuf::from(format!("/proc/{parent}/cwd"));
        let directory = if are_the_same(&parents.join("log"), Path::new(".")) {
            at("supervise".into())
        } else {
            at(parents.join("supervise")).or_else(|_| at("supervise".into()))
        }?;
        let supervise = Supervise {
            format,
            directory,
            writer,
        };
        supervise.status()?;
        Ok(supervise)
    }

    fn status(&self) -> io::Result<Vec<u8>> {
        // Nobody waits for what should not be there.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
        let file = File::from(openat(&self.directory, "status", flags, Mode::empty())?);
        if !file.metadata()?.is_file() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut status = Vec::new();
        file.take(256).read_to_end(&mut status)?;
        Ok(status)
    }

    /// Whether somebody supervises here, the first one or another: svok(8) looks at the same. `None`: it
    /// cannot be told.
    fn is_served(&self) -> Option<bool> {
        let fifo = match self.format {
            Format::Runit | Format::Daemontools => "ok",
            Format::S6 => "control",
        };
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match openat(&self.directory, fifo, flags, Mode::empty()) {
            Ok(_) => Some(true),
            Err(Errno::NXIO | Errno::NOENT) => Some(false),
            Err(_) => None,
        }
    }

    /// What it wants now. *Down* was the last word of one that has died, and holds: supervise writes it
    /// and leaves at once where nothing runs. *Up* holds no longer.
    pub(crate) fn wish(&self) -> Wish {
        // Before the file is read: it may write, and die then.
        let served = self.is_served();
        let status = self.status();
        match (status.map(|status| self.format.read(&status)), served) {
            (Ok(Wish::Down), _) => Wish::Down,
            (_, Some(false)) => Wish::Gone,
            (Ok(Wish::Up), Some(true)) => Wish::Up,
            (Ok(Wish::Up | Wish::Gone | Wish::Unknown) | Err(_), _) => Wish::Unknown,
        }
    }

    /// The same, for one whose `launcher` has left: *up* of a file that still names that one is an old
    /// word. It is written anew when the end has been seen, unless the disk is full.
    pub(super) fn wish_without(&self, launcher: i32) -> Wish {
        let wish = self.wish();
        let is_old = self
            .status()
            .is_ok_and(|status| self.format.main_process(&status) == Some(launcher));
        if wish == Wish::Up && is_old {
            Wish::Unknown
        } else {
            wish
        }
    }

    /// Wakes whoever waits when the file is another one, or its writer has died.
    pub(super) fn watch(&self) -> io::Result<Watch> {
        let path = format!("/proc/self/fd/{}", self.directory.as_raw_fd());
        let directory = changes::Watch::open(Path::new(&path), Change::Any)?;
        let writer = self.writer.open()?;
        Ok(Watch { directory, writer })
    }
}

impl AsFd for Supervise {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

fn are_the_same(one: &Path, other: &Path) -> bool {
    let which = |path: &Path| {
        let found = fs::metadata(path).ok()?;
        Some((found.dev(), found.ino()))
    };
    which(one).is_some_and(|one| Some(one) == which(other))
}

/// An eye on the directory.
#[derive(Debug)]
pub(super) struct Watch {
    directory: changes::Watch,
    /// `None`: it has gone, and that has been said.
    writer: Option<crate::process::Process>,
}

impl Watch {
    /// Whether there is something to look at.
    pub(super) fn has_news(&mut self, changes: Changes) -> bool {
        let died = self.writer.take_if(|writer| writer.has_ended()).is_some();
        changes.any || died
    }

    pub(super) fn to_watch(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.writer.iter().map(AsFd::as_fd)
    }

    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.to_watch().chain([self.directory.as_fd()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As runsv and supervise write it, but for what they add behind.
    fn status(wish: u8) -> Vec<u8> {
        let mut status = vec![7; 20];
        status[17] = wish;
        status
    }

    #[test]
    fn the_wish_is_one_byte_of_runit_and_daemontools() {
        for format in [Format::Runit, Format::Daemontools] {
            assert_eq!(format.read(&status(b'u')), Wish::Up);
            assert_eq!(format.read(&status(b'd')), Wish::Down);
            assert_eq!(format.read(&status(0)), Wish::Down, "svc -o");
            assert_eq!(format.read(&status(b'x')), Wish::Unknown);
            assert_eq!(format.read(&status(b'u')[..17]), Wish::Unknown);
        }
    }

    #[test]
    fn the_main_process_is_named() {
        let mut status = vec![0; 43];
        status[12..16].copy_from_slice(&4242_i32.to_le_bytes());
        assert_eq!(Format::Runit.main_process(&status), Some(4242));
        status[24..32].copy_from_slice(&4343_u64.to_be_bytes());
        assert_eq!(Format::S6.main_process(&status), Some(4343));
        assert_eq!(Format::Daemontools.main_process(&[]), None);
    }

    #[test]
    fn the_wish_is_one_bit_of_s6() {
        for length in [35, 43] {
            let mut status = vec![0xff; length];
            assert_eq!(Format::S6.read(&status), Wish::Up);
            status[length - 1] = 0xfb;
            assert_eq!(Format::S6.read(&status), Wish::Down);
        }
        assert_eq!(Format::S6.read(&[0; 20]), Wish::Unknown);
        assert_eq!(Format::S6.read(&[]), Wish::Unknown);
    }
}
