//! The files beside the PID file (§6): who writes them when, and what is believed of them.
//!
//! Only the holder of the [`Lock`] changes any of them (R21), so the functions that do ask for it.

mod above;
mod claim;
mod directory;
mod lock;
pub(crate) mod pid_file;
mod record;

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use nix::libc;
use tempfile::TempPath;

use crate::control::{self, Connection, Listener, Unreachable};
use crate::report::cause;

pub(crate) use above::{Hand, hands_on};
pub(crate) use claim::{CLEANING, Claim, Taken};
pub(crate) use directory::DirectoryWatch;
pub(crate) use lock::Lock;
pub(crate) use pid_file::Found;
pub(crate) use record::{Begun, Disbelief, Entry, Record, State};

/// Where a service's files are.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) pid_file: PathBuf,
    pub(crate) lock: PathBuf,
    pub(crate) record: PathBuf,
    /// Where the serving generation's keeper listens.
    pub(crate) socket: PathBuf,
    /// A newcomer's own, until it takes the place of the one above.
    pub(crate) new_socket: PathBuf,
}

/// The directory of the files, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Home {
    device: u64,
    inode: u64,
}

impl Files {
    pub(crate) fn beside(pid_file: &Path) -> Files {
        let with = |ending: &str| {
            let mut path = pid_file.as_os_str().to_owned();
            path.push(ending);
            PathBuf::from(path)
        };
        Files {
            pid_file: pid_file.to_owned(),
            lock: with(".lock"),
            record: with(".record"),
            socket: with(".sock"),
            new_socket: new(&with(".sock")),
        }
    }

    pub(crate) fn directory(&self) -> &Path {
        self.pid_file.parent().unwrap_or(&self.pid_file)
    }

    /// Which directory is there now: not by its name, under which there may be another one later.
    pub(crate) fn home(&self) -> Option<Home> {
        let found = fs::metadata(self.directory()).ok()?;
        found.is_dir().then(|| Home {
            device: found.dev(),
            inode: found.ino(),
        })
    }

    /// Whose these files are, wherever somebody who may write here puts one of them: the directory, and the
    /// PID file in it.
    pub(crate) fn whose(&self) -> Option<String> {
        let Home { device, inode } = self.home()?;
        let name = self.pid_file.file_name()?.as_encoded_bytes();
        Some(format!("{device}:{inode} {}", name.escape_ascii()))
    }

    /// The keeper that shows itself here.
    pub(crate) fn connect(&self) -> Result<Connection, Unreachable> {
        control::connect(&self.socket, &self.whose().unwrap_or_default())
    }

    /// What the PID file holds.
    pub(crate) fn found(&self) -> Found {
        pid_file::find(&self.pid_file)
    }

    /// The record, if there is one that may be believed (R18).
    pub(crate) fn read_record(&self) -> Result<Record, Disbelief> {
        self.read_record_of(nix::unistd::geteuid().as_raw())
    }

    /// The same, of a service of that user's: what it says is shown, and nobody is signalled for it.
    pub(crate) fn read_record_of(&self, user: u32) -> Result<Record, Disbelief> {
        record::read(&self.record, user, self.whose().as_deref())
    }

    pub(crate) fn write_pid(&self, _: &Lock, pid: i32) -> Result<()> {
        replace(&self.pid_file, &format!("{pid}\n"))
    }

    /// An empty record is no file at all, nor is what a KILLed keeper had begun to write.
    pub(crate) fn write_record(&self, _: &Lock, record: &Record) -> Result<()> {
        if record.generations.is_empty() {
            remove(&new(&self.pid_file))?;
            remove(&new(&self.record))?;
            remove(&self.new_socket)?;
            return remove(&self.record);
        }
        let record = Record {
            whose: self.whose(),
            ..record.clone()
        };
        replace(&self.record, &record.to_string())
    }

    pub(crate) fn remove_pid_file(&self, _: &Lock) -> Result<()> {
        remove(&self.pid_file)
    }

    /// Listens where nobody looks yet.
    pub(crate) fn listen(&self, _: &Lock) -> Result<Listener> {
        let whose = self.whose().unwrap_or_default();
        Listener::open(&self.new_socket, &whose).map_err(|error| {
            let path = self.socket.display();
            anyhow!("cannot listen at {path}: {}", cause(&error))
        })
    }

    /// From now on whoever looks for the service finds this listener.
    pub(crate) fn show(&self, _: &Lock, listener: &Listener) -> Result<()> {
        if listener.is_at(&self.socket) {
            return Ok(());
        }
        // A newcomer may have put its own there; one that is missing shall be spoken of.
        if self.new_socket.exists() && !listener.is_at(&self.new_socket) {
            bail!("{} is another keeper's by now", self.new_socket.display());
        }
        fs::rename(&self.new_socket, &self.socket).map_err(|error| {
            anyhow!(
                "cannot rename {} to {}: {}",
                self.new_socket.display(),
                self.socket.display(),
                cause(&error)
            )
        })
    }

    /// Whoever's it was.
    pub(crate) fn remove_socket(&self, _: &Lock) -> Result<()> {
        remove(&self.socket)
    }

    /// Removes that listener's socket from wherever it is.
    pub(crate) fn hide(&self, _: &Lock, listener: &Listener) -> Result<()> {
        if listener.is_at(&self.socket) {
            remove(&self.socket)?;
        }
        // Only a holder of the lock has one there; it may have been KILLed.
        remove(&self.new_socket)
    }
}

/// Writes beside the place and renames, so that nobody reads half of it and a symbolic link that
/// somebody planted there is replaced, not followed.
fn replace(path: &Path, text: &str) -> Result<()> {
    let write = || -> io::Result<()> {
        // Of a fixed name: what a KILLed writer left there is replaced, and does not pile up.
        let beside = new(path);
        remove_file(&beside)?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(&beside)?;
        let beside = TempPath::try_from_path(beside)?;
        file.write_all(text.as_bytes())?;
        // Not by the mode at creation: the umask is the daemon's, and may be anything.
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
        beside.persist(path)?;
        Ok(())
    };
    write().map_err(|error| anyhow!("cannot write {}: {}", path.display(), cause(&error)))
}

fn remove(path: &Path) -> Result<()> {
    remove_file(path)
        .map_err(|error| anyhow!("cannot remove {}: {}", path.display(), cause(&error)))
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Where something is made that will be renamed to `path`. Only the lock's holder has anything there.
fn new(path: &Path) -> PathBuf {
    let mut new = path.as_os_str().to_owned();
    new.push(NEW);
    new.into()
}

const NEW: &str = ".new";

/// Opens a file that somebody else may have planted: no link is followed, no FIFO waited for.
fn open_suspiciously(options: &mut OpenOptions, path: &Path) -> io::Result<fs::File> {
    options
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
}

/// A small regular file's content, or `None` if it is longer than `limit`.
fn read_at_most(file: &fs::File, limit: u64) -> io::Result<Option<Vec<u8>>> {
    // std reads in small bites into less.
    let mut content = Vec::with_capacity(1 << 10);
    file.take(limit + 1).read_to_end(&mut content)?;
    Ok((content.len() as u64 <= limit).then_some(content))
}

/// Whether what is in a file can only be by root or by that user.
fn is_alone_of(user: u32, metadata: &fs::Metadata) -> bool {
    let owner = metadata.uid();
    (owner == 0 || owner == user) && metadata.mode() & 0o022 == 0
}

/// The absolute form of a path that was typed, with a directory that exists.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf> {
    if path.as_os_str().is_empty() {
        bail!("the PID file has an empty name; name a file");
    }
    let absolute = std::path::absolute(path)
        .with_context(|| format!("cannot find the working directory for {}", path.display()))?;
    let named = path.as_os_str().as_encoded_bytes().last() != Some(&b'/');
    let (Some(directory), Some(_), true) = (absolute.parent(), absolute.file_name(), named) else {
        bail!(
            "the PID file {} is a directory; name a file in it",
            path.display()
        );
    };
    match fs::metadata(directory) {
        Ok(metadata) if metadata.is_dir() => Ok(absolute),
        Ok(_) => bail!(
            "cannot use the PID file {}: {} is not a directory",
            path.display(),
            directory.display()
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(
            "cannot use the PID file {}: there is no directory {}; create it first",
            path.display(),
            directory.display()
        ),
        Err(error) => bail!(
            "cannot look into {}: {}",
            directory.display(),
            cause(&error)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_a_link_at_its_place_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let victim = directory.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        let path = directory.path().join("app.pid");
        symlink(&victim, &path).unwrap();

        replace(&path, "42\n").unwrap();

        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert_eq!(fs::read_to_string(&path).unwrap(), "42\n");
        assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o7777, 0o644);
        assert_eq!(
            fs::read_dir(directory.path()).unwrap().count(),
            2,
            "nothing is left behind"
        );
    }

    #[test]
    fn an_error_names_the_file_and_the_cause_and_nothing_else() {
        let error = replace(Path::new("/proc/app.pid"), "1").unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot write /proc/app.pid: No such file or directory"
        );
    }

    #[test]
    fn a_path_without_a_directory_is_explained() {
        let words = |path: &str| absolute(Path::new(path)).unwrap_err().to_string();
        assert!(
            words("/nowhere/app.pid").contains("there is no directory /nowhere; create it first")
        );
        assert!(words("/etc/passwd/app.pid").contains("/etc/passwd"));
        assert!(words("/tmp/").contains("is a directory"));
        assert!(words("/").contains("is a directory"));
        assert_eq!(
            absolute(Path::new("/tmp/app.pid")).unwrap(),
            Path::new("/tmp/app.pid")
        );
    }
}
