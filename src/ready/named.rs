//! The daemon's own PID file (R12): readiness for a daemon that writes one when it is up.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc::{O_NOCTTY, O_NONBLOCK};

use crate::process;
use crate::report::cause;

/// The PID is in the first line; PostgreSQL, for one, writes more behind it.
const LONGEST: u64 = 64;

/// Whether it names the daemon, or a process of its own. Whoever owns the file: it is enough that what it
/// names is ours (R18).
pub(crate) fn names(path: &Path, daemon: i32) -> Result<(), String> {
    let mut options = File::options();
    // It may be anything.
    options.read(true).custom_flags(O_NONBLOCK | O_NOCTTY);
    let file = options.open(path).map_err(|error| cause(&error))?;
    let metadata = file.metadata().map_err(|error| cause(&error))?;
    if !metadata.is_file() {
        return Err("it is no regular file".to_owned());
    }
    let mut text = Vec::new();
    let read = file.take(LONGEST).read_to_end(&mut text);
    read.map_err(|error| cause(&error))?;
    let text = String::from_utf8_lossy(&text);
    let first = text.lines().next().unwrap_or_default();
    let pid = first.trim().parse().ok();
    match pid.filter(|pid| *pid > 0) {
        Some(pid) if process::is_of(pid, daemon) => Ok(()),
        // Which it is stays unsaid: the path may lead to a file whose text is nobody's business (R18).
        Some(_) => Err("it names no process of this generation".to_owned()),
        None if text.is_empty() => Err("it is empty".to_owned()),
        None => Err("it holds no PID".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_a_process_of_the_daemons_own_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("own.pid");
        let own = std::process::id() as i32;
        let said = |text: &str| {
            fs::write(&path, text).unwrap();
            names(&path, own)
        };
        assert_eq!(said(&format!("{own}\n")), Ok(()));
        assert_eq!(said(&format!(" {own}")), Ok(()));
        assert_eq!(said(&format!("{own}\n/var/lib/data\n")), Ok(()));
        for (text, words) in [
            ("1\n", "it names no process of this generation"),
            ("", "it is empty"),
            ("x", "it holds no PID"),
            ("-1", "it holds no PID"),
            ("99999999999", "it holds no PID"),
        ] {
            assert_eq!(said(text), Err(words.to_owned()), "{text}");
        }
        assert_eq!(
            names(directory.path(), own),
            Err("it is no regular file".to_owned())
        );
        fs::remove_file(&path).unwrap();
        assert_eq!(
            names(&path, own),
            Err("No such file or directory".to_owned())
        );
    }
}
