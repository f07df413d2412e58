//! The PID file's directory, and what lies there.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{StatVfsMountFlags, statfs, statvfs};

use crate::files::{Disbelief, Files, Found, Hand, Record, hands_on};
use crate::report::cause;

/// statfs(2)
const TMPFS: u64 = 0x0102_1994;

/// As it was found.
#[derive(Clone, Debug)]
pub(in crate::check) struct Directory {
    pub(in crate::check) path: PathBuf,
    pub(in crate::check) pid_file: PathBuf,
    pub(in crate::check) state: State,
}

#[derive(Clone, Debug)]
pub(in crate::check) enum State {
    Missing,
    /// In words.
    Unusable(String),
    There(Box<There>),
}

#[derive(Clone, Debug, Default)]
pub(in crate::check) struct There {
    pub(in crate::check) owner: u32,
    pub(in crate::check) mode: u32,
    /// The directories above it in which somebody may put another one in its place.
    pub(in crate::check) above: Vec<Hand>,
    pub(in crate::check) is_tmpfs: bool,
    /// It is where that is mounted, or systemd-tmpfiles makes it.
    pub(in crate::check) is_there_at_boot: bool,
    pub(in crate::check) read_only: bool,
    pub(in crate::check) full: bool,
    /// What the PID file says; 0 where it is empty.
    pub(in crate::check) pid: Option<i32>,
    /// The process of that PID.
    pub(in crate::check) pid_name: Option<String>,
    /// What lies there is no PID file; in words.
    pub(in crate::check) no_pid_file: Option<String>,
    /// A symbolic link, which the next start replaces.
    pub(in crate::check) is_link: bool,
    /// The PID belongs to a living generation.
    pub(in crate::check) pid_is_known: bool,
    /// The record is not believed; in words.
    pub(in crate::check) doubtful_record: Option<String>,
    /// The lock cannot be used; in words.
    pub(in crate::check) bad_lock: Option<String>,
}

impl Directory {
    /// Together with the living generations in the record.
    pub(in crate::check) fn read(files: &Files) -> (Directory, Record) {
        let path = files.directory();
        // Whose directory it is could write any record there.
        let owner = fs::metadata(path).map_or(0, |found| found.uid());
        let (mut record, doubtful) = match files.read_record_of(owner) {
            Ok(record) => (record, None),
            Err(Disbelief::Missing | Disbelief::EarlierBoot) => (Record::default(), None),
            Err(Disbelief::Unreadable(words) | Disbelief::Suspicious(words)) => {
                (Record::default(), Some(format!("it {words}")))
            }
        };
        record.retain_living();
        let directory = Directory {
            path: path.to_owned(),
            pid_file: files.pid_file.clone(),
            state: look(path, files, &record, doubtful),
        };
        (directory, record)
    }
}

fn look(path: &Path, files: &Files, record: &Record, doubtful: Option<String>) -> State {
    let metadata = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => metadata,
        Ok(_) => return State::Unusable("it is not a directory".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return State::Missing,
        Err(error) => return State::Unusable(format!("it cannot be looked at: {}", cause(&error))),
    };
    let mut there = There {
        owner: metadata.uid(),
        mode: metadata.mode() & 0o7777,
        above: above(path),
        doubtful_record: doubtful,
        bad_lock: bad_lock(&files.lock, metadata.uid()),
        ..There::default()
    };
    let above = path.parent().and_then(|above| fs::metadata(above).ok());
    let is_mount = above.is_none_or(|above| above.dev() != metadata.dev());
    there.is_there_at_boot = is_mount || tmpfiles_make(path);
    if let Ok(system) = statfs(path) {
        there.is_tmpfs = system.f_type as u64 == TMPFS;
    }
    if let Ok(space) = statvfs(path) {
        there.read_only = space.f_flag.contains(StatVfsMountFlags::RDONLY);
        // Some file systems have no fixed number of files, and show none.
        let no_files = space.f_files > 0 && space.f_favail == 0;
        there.full = space.f_bavail == 0 && space.f_blocks > 0 || no_files;
    }
    match files.found() {
        Found::Nothing => {}
        Found::Pid(pid) => {
            there.pid = Some(pid);
            there.pid_name = crate::process::name_of(pid).ok();
            let mut entries = record.generations.iter();
            there.pid_is_known = entries.any(|entry| entry.daemon.pid == pid);
        }
        Found::Empty => there.pid = Some(0),
        Found::Link => {
            there.is_link = true;
            there.no_pid_file = Some("it is a symbolic link".to_owned());
        }
        Found::Other(words) => there.no_pid_file = Some(format!("it {words}")),
    }
    State::There(Box::new(there))
}

/// tmpfiles.d(5): a line `d PATH ...` in one of its places.
fn tmpfiles_make(path: &Path) -> bool {
    let places = ["/etc/tmpfiles.d", "/run/tmpfiles.d", "/usr/lib/tmpfiles.d"];
    let files = places.iter().filter_map(|place| fs::read_dir(place).ok());
    let mut texts = files
        .flatten()
        .flatten()
        .filter_map(|file| fs::read_to_string(file.path()).ok());
    texts.any(|text| makes(&text, path))
}

pub(crate) fn makes(text: &str, path: &Path) -> bool {
    text.lines().any(|line| {
        let mut words = line.split_ascii_whitespace();
        let kind = words.next().unwrap_or_default();
        // /var/run is the old name.
        let place = words
            .next()
            .unwrap_or_default()
            .replace("/var/run/", "/run/");
        kind.starts_with(['d', 'D']) && Path::new(&place) == path
    })
}

/// The directory itself is judged apart.
fn above(path: &Path) -> Vec<Hand> {
    let real = fs::canonicalize(path).unwrap_or_default();
    let mut hands = hands_on(path);
    hands.retain(|hand| hand.path != real && (hand.path != path || path.is_symlink()));
    hands
}

fn bad_lock(path: &Path, owner: u32) -> Option<String> {
    let found = fs::symlink_metadata(path).ok()?;
    if !found.is_file() {
        return Some("it is not a regular file".to_owned());
    }
    let foreign = found.uid() != 0 && found.uid() != owner;
    foreign.then(|| format!("it belongs to user {}", found.uid()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tmpfiles_makes_what_it_names() {
        let made = |line: &str| makes(&format!("# x\n{line}\n"), Path::new("/run/app"));
        assert!(made("d /run/app 0755 root root -"));
        assert!(made("D! /var/run/app"));
        assert!(!made("r /run/app"));
        assert!(!made("d /run/application"));
    }
}
