//! The program that is to be the daemon: whether it is there, and what it is.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::check::{script, tools};
use crate::report::cause;

/// Under systemd, where no `PATH=` is set.
pub(in crate::check) const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin";

/// As it was typed, and what it was found to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::check) struct Program {
    pub(in crate::check) name: String,
    pub(in crate::check) path: Option<PathBuf>,
    pub(in crate::check) state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::check) enum State {
    Missing,
    /// In words.
    NotExecutable(String),
    NoInterpreter(String),
    /// Neither a binary nor `#!`.
    NoMagic,
    /// A shell script that neither becomes its program nor looks at signals.
    Wrapper,
    Runnable,
}

impl Program {
    /// The first program of the command, and the one that it becomes. `None` where that cannot be told.
    pub(in crate::check) fn read(
        words: &[OsString],
        path: &OsStr,
        directory: Option<&Path>,
    ) -> Option<Program> {
        let words: Vec<&str> = words
            .iter()
            .map(|word| word.to_str())
            .collect::<Option<_>>()?;
        let rest = tools::behind(&words);
        let of = |name: &&str| one(name, path, directory);
        let first = words.first().and_then(of)?;
        if first.state != State::Runnable {
            return Some(first);
        }
        // What a tool finds for a user of less power is not looked into.
        rest.first().and_then(of).or(Some(first))
    }
}

fn one(name: &str, path: &OsStr, directory: Option<&Path>) -> Option<Program> {
    let found = |path: Option<PathBuf>, state| {
        let name = name.to_owned();
        Some(Program { name, path, state })
    };
    let candidate = if name.contains('/') {
        // What is relative to a directory that is not known cannot be found.
        match (Path::new(name).is_absolute(), directory) {
            (true, _) => PathBuf::from(name),
            (false, Some(directory)) => directory.join(name.trim_start_matches("./")),
            (false, None) => return None,
        }
    } else {
        let in_path = std::env::split_paths(path).map(|directory| directory.join(name));
        let files: Vec<PathBuf> = in_path.filter(|file| file.is_file()).collect();
        let best = files
            .iter()
            .find(|file| is_executable(file))
            .or(files.first());
        match best {
            Some(file) => file.clone(),
            None => return found(None, State::Missing),
        }
    };
    let state = look(&candidate);
    found(Some(candidate), state)
}

fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.mode() & 0o111 != 0)
}

fn look(path: &Path) -> State {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return State::Missing,
        // Who may execute it need not be able to read it.
        Err(_) if is_executable(path) => return State::Runnable,
        Err(error) => return State::NotExecutable(cause(&error)),
    };
    match file.metadata() {
        Ok(found) if !found.is_file() => return State::NotExecutable("it is no file".to_owned()),
        Ok(found) if found.permissions().mode() & 0o111 == 0 => {
            let mode = found.permissions().mode() & 0o7777;
            return State::NotExecutable(format!("its mode is {mode:o}"));
        }
        _ => {}
    }
    let mut text = Vec::new();
    if file.by_ref().take(1 << 16).read_to_end(&mut text).is_err() {
        return State::Runnable;
    }
    judge(&text)
}

fn judge(text: &[u8]) -> State {
    let Some(interpreter) = script::interpreter(text) else {
        let is_text = !text.contains(&0);
        return match is_text {
            true => State::NoMagic,
            false => State::Runnable,
        };
    };
    if !Path::new(&interpreter).exists() {
        return State::NoInterpreter(interpreter);
    }
    if !script::is_shell(&interpreter) {
        return State::Runnable;
    }
    let commands = script::commands(&String::from_utf8_lossy(text));
    let begins = |with: &str| {
        let mut commands = commands.iter();
        // An `exec` that only redirects has no second word.
        commands.any(|words| words[0].text == with && words.len() > 1)
    };
    match begins("exec") || begins("trap") {
        true => State::Runnable,
        false => State::Wrapper,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_it_is_shows_in_its_first_bytes() {
        for (text, state) in [
            (&b"\x7fELF\0\0"[..], State::Runnable),
            (b"", State::NoMagic),
            (b"echo", State::NoMagic),
            (b"#!/bin/sh\nexec 2>&1\n./d\n", State::Wrapper),
            (b"#!/bin/sh\nexec ./d\n", State::Runnable),
            (b"#!/bin/sh\ntrap x USR2\n./d\n", State::Runnable),
            (
                b"#!/nowhere/python\n",
                State::NoInterpreter("/nowhere/python".to_owned()),
            ),
        ] {
            assert_eq!(judge(text), state, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn it_is_looked_for_as_the_launcher_would() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("plain"), "#!/bin/sh\nexec x\n").unwrap();
        fs::write(at("good"), "#!/bin/sh\nexec x\n").unwrap();
        fs::set_permissions(at("good"), fs::Permissions::from_mode(0o755)).unwrap();
        let path = directory.path().as_os_str();
        let state = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            let found = Program::read(&words, path, Some(directory.path()));
            found.unwrap().state
        };
        assert_eq!(state(&["good"]), State::Runnable);
        assert_eq!(state(&["./good", "x"]), State::Runnable);
        assert_eq!(state(&["none"]), State::Missing);
        assert_eq!(state(&["./none"]), State::Missing);
        let mode = fs::metadata(at("plain")).unwrap().mode() & 0o777;
        let words = format!("its mode is {mode:o}");
        assert_eq!(state(&["plain"]), State::NotExecutable(words));
        assert_eq!(
            state(&["/tmp"]),
            State::NotExecutable("it is no file".to_owned())
        );
        let relative = Program::read(&["./good".into()], path, None);
        assert_eq!(relative, None, "relative to what?");
    }
}
