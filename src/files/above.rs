//! In whose hands a directory is: who may give another one its name (R18).

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc;

/// A directory on the way to ours in which somebody else than root may rename what lies there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hand {
    pub(crate) path: PathBuf,
    pub(crate) owner: u32,
    /// Everybody may.
    pub(crate) is_open: bool,
}

impl Hand {
    /// Whether somebody else than this user may.
    pub(crate) fn is_foreign_to(&self, user: u32) -> bool {
        self.is_open || self.owner != user
    }
}

/// The directory itself and those above it, the nearest first: by the name that was typed, and by the one
/// without symbolic links.
pub(crate) fn hands_on(directory: &Path) -> Vec<Hand> {
    let real = real(directory).unwrap_or_default();
    let mut hands: Vec<Hand> = Vec::new();
    let others = real.ancestors().filter(|_| real != directory);
    for path in directory.ancestors().chain(others) {
        let known = hands.iter().any(|hand| hand.path == path);
        let found = fs::symlink_metadata(path).ok().filter(|_| !known);
        hands.extend(found.and_then(|found| hand(path, &found)));
    }
    hands
}

/// Without symbolic links: by what the kernel calls it, for realpath(3) takes 8 kB of memory for good.
fn real(directory: &Path) -> io::Result<PathBuf> {
    let mut options = File::options();
    options
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY);
    let directory = options.open(directory)?;
    fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd()))
}

fn hand(path: &Path, found: &fs::Metadata) -> Option<Hand> {
    // A link has no mode of its own, and where it leads to is looked at, too.
    let is_open = found.is_dir() && found.mode() & 0o1002 == 0o002;
    let owner = found.uid();
    (is_open || owner != 0).then(|| Hand {
        path: path.to_owned(),
        owner,
        is_open,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};

    #[test]
    fn whoever_may_rename_it_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path().canonicalize().unwrap();
        let run = top.join("p/run");
        fs::create_dir_all(&run).unwrap();
        let of = |path: &Path| -> Vec<Hand> {
            let hands = hands_on(path).into_iter();
            hands.filter(|hand| hand.path.starts_with(&top)).collect()
        };
        let hand = |path: PathBuf, owner, is_open| Hand {
            path,
            owner,
            is_open,
        };
        assert_eq!(of(&run), []);
        for (mode, expected) in [(0o777, true), (0o1777, false), (0o775, false)] {
            fs::set_permissions(top.join("p"), fs::Permissions::from_mode(mode)).unwrap();
            let open = [hand(top.join("p"), 0, true)];
            assert_eq!(of(&run), if expected { &open[..] } else { &[] });
        }
        chown(top.join("p"), Some(65534), None).unwrap();
        let foreign = hand(top.join("p"), 65534, false);
        assert_eq!(of(&run), vec![foreign.clone()]);
        assert!(foreign.is_foreign_to(0) && !foreign.is_foreign_to(65534));

        // By a link, too, and whose that is.
        symlink(&run, top.join("link")).unwrap();
        assert_eq!(of(&top.join("link")), vec![foreign.clone()]);
        lchown(top.join("link"), Some(7), None).unwrap();
        let link = hand(top.join("link"), 7, false);
        assert_eq!(of(&top.join("link")), [link, foreign]);
    }
}
