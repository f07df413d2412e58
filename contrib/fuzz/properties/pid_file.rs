//! PID files: our own, and a daemon's. Whoever can write in the directory can write one (R18).

use std::fs;
use std::path::PathBuf;

use super::client::files::check_replaceable;
use super::text;
use crate::files::Files;
use crate::files::pid_file::{Found, understand};
use crate::process;
use crate::ready::named;

thread_local! {
    static SCRATCH: tempfile::TempDir = tempfile::tempdir_in("/dev/shm").expect("a place for scratch files");
}

pub(super) fn pid_file(data: &[u8]) {
    let found = understand(data);
    match &found {
        Found::Pid(pid) => {
            assert!(*pid > 0);
            assert_eq!(understand(format!("{pid}\n").as_bytes()), found);
            let text = text(data).expect("it was read");
            assert_eq!(text.trim().parse(), Ok(*pid));
        }
        Found::Empty => assert!(data.is_empty()),
        Found::Other(words) => super::assert_one_line(words),
        Found::Nothing | Found::Link => panic!("it is a file"),
    }
    let path = SCRATCH.with(|scratch| scratch.path().join("app.pid"));
    fs::write(&path, data).expect("a scratch file");
    at_its_place(path, data, &found);
}

fn at_its_place(path: PathBuf, data: &[u8], found: &Found) {
    let files = Files::beside(&path);
    if data.len() > 32 {
        // No PID file is longer, whatever is in it.
        assert!(matches!(files.found(), Found::Other(_)));
        assert!(check_replaceable(&path).is_err());
    } else {
        assert_eq!(&files.found(), found);
        // What the client takes for a PID file, digits alone, the program does, if it can be a PID at all.
        let digits = data.trim_ascii();
        let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        if matches!(found, Found::Pid(_)) && is_number || data.is_empty() {
            assert!(check_replaceable(&path).is_ok());
        }
        if !is_number && !digits.is_empty() {
            assert!(check_replaceable(&path).is_err());
        }
    }
    let own = i32::try_from(std::process::id()).expect("a PID");
    match named::names(&path, own) {
        Ok(()) => {
            let line = String::from_utf8_lossy(&data[..data.len().min(64)]).into_owned();
            let line = line.lines().next().unwrap_or_default().trim().to_owned();
            let pid: i32 = line.parse().expect("it names one");
            assert!(pid > 0 && process::is_of(pid, own));
        }
        Err(words) => super::assert_one_line(&words),
    }
}
