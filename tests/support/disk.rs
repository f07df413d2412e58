//! A small file system of its own for the directory of the PID file, and what befalls it.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use nix::sched::{CloneFlags, unshare};

use super::{Spawn, tool};

/// What befalls the directory of the PID file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Not a byte is left.
    Full,
    /// Nor can an empty file be made.
    NoInodes,
    ReadOnly,
    Moved,
}

impl Fault {
    pub(crate) const ALL: [Fault; 4] =
        [Fault::Full, Fault::NoInodes, Fault::ReadOnly, Fault::Moved];

    pub(crate) fn cause(self) -> &'static str {
        match self {
            Fault::Full | Fault::NoInodes => "No space left on device",
            Fault::ReadOnly => "Read-only file system",
            Fault::Moved => "No such file or directory",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Disk {
    /// What moves.
    parent: PathBuf,
    directory: PathBuf,
}

impl Disk {
    /// In a directory that has a parent of its own. The caller has mounts of its own.
    pub(crate) fn mount(directory: &Path) -> Disk {
        let parent = directory.parent().unwrap().to_owned();
        fs::create_dir(directory).unwrap();
        let options = ["-t", "tmpfs", "-o", "size=256k,nr_inodes=64,mode=755"];
        mount(&options, Path::new("tmpfs"), directory);
        Disk {
            parent,
            directory: directory.to_owned(),
        }
    }

    pub(crate) fn strike(&self, fault: Fault) {
        match fault {
            Fault::Full => self.fill_with_bytes(),
            Fault::NoInodes => self.fill_with_links(),
            Fault::ReadOnly => {
                // Files that are open for writing forbid a remount, but a disk's error does not
                // ask. Seen from a second mount above the first, it is as it would be then.
                mount(&["--bind"], &self.directory, &self.directory);
                let read_only = ["-o", "remount,bind,ro"];
                mount(&read_only, &self.directory, &self.directory);
            }
            Fault::Moved => fs::rename(&self.parent, self.parent.with_extension("away")).unwrap(),
        }
    }

    pub(crate) fn heal(&self, fault: Fault) {
        match fault {
            Fault::Full | Fault::NoInodes => {
                for entry in fs::read_dir(&self.directory).unwrap() {
                    let entry = entry.unwrap();
                    if entry.file_name().to_str().unwrap().starts_with("filler") {
                        fs::remove_file(entry.path()).unwrap();
                    }
                }
            }
            Fault::ReadOnly => assert!(unmount(&self.directory)),
            Fault::Moved => fs::rename(self.parent.with_extension("away"), &self.parent).unwrap(),
        }
    }

    fn fill_with_bytes(&self) {
        let mut filler = File::create(self.directory.join("filler")).unwrap();
        while filler.write_all(&[0; 4096]).is_ok() {}
    }

    fn fill_with_links(&self) {
        // A long target takes a page too: bytes and inodes may both run out.
        let made = |number: &u32| {
            let path = self.directory.join(format!("filler{number}"));
            symlink("nowhere", path).is_ok()
        };
        assert!((0..10_000).take_while(made).count() < 10_000);
    }

    /// What lies there, but for the fillers.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.directory).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| !name.starts_with("filler")).collect();
        names.sort();
        names
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for parent in [&self.parent, &self.parent.with_extension("away")] {
            while unmount(&parent.join("disk")) {}
        }
    }
}

/// Runs a test in a thread of its own with mounts of its own, which end with it and with what it started.
pub(crate) fn with_own_mounts(test: impl FnOnce() + Send) {
    let tested = thread::scope(|scope| {
        let own = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            mount(&["--make-rprivate"], Path::new("none"), Path::new("/"));
            test();
        });
        own.join()
    });
    if let Err(panic) = tested {
        resume_unwind(panic);
    }
}

/// A directory in which a set-user-ID program is one, wherever the tests are: `/tmp` is nosuid on some machines. The
/// caller has mounts of its own.
#[derive(Debug)]
pub(crate) struct SetUserId(PathBuf);

impl SetUserId {
    pub(crate) fn mount(directory: PathBuf) -> SetUserId {
        fs::create_dir(&directory).unwrap();
        let options = ["-t", "tmpfs", "-o", "mode=755"];
        mount(&options, Path::new("tmpfs"), &directory);
        SetUserId(directory)
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for SetUserId {
    fn drop(&mut self) {
        unmount(&self.0);
    }
}

pub(crate) fn mount(options: &[&str], what: &Path, place: &Path) {
    let mount = std::process::Command::new(tool("mount", "mount"));
    let mount = Spawn::from(mount).args(options).arg(what).arg(place);
    mount.finish().expect_success();
}

/// Says whether something was mounted there.
fn unmount(place: &Path) -> bool {
    let umount = std::process::Command::new(tool("umount", "mount"));
    let finished = Spawn::from(umount).arg("-l").arg(place).finish();
    finished.status.success()
}
