//! What people and scripts ask of a running service: `status`, `restart` and `stop` (§9).
//!
//! A keeper answers, over the control socket; where none does, the record does what it can (R20).

mod arguments;
mod bare;
mod contact;
mod display;
mod doorbell;
mod restart;
mod status;
mod stop;
#[cfg(test)]
mod testing;
mod view;

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

pub(crate) use arguments::parse;

use crate::files::Files;

/// What was asked for.
#[derive(Debug)]
pub(crate) enum Verb {
    Status {
        targets: Vec<Target>,
        format: Format,
        watch: bool,
    },
    Restart {
        target: Target,
        wait: bool,
        timeout: Option<Duration>,
    },
    Stop {
        target: Target,
        old: bool,
    },
}

/// How a status is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Json,
    Nothing,
}

/// The service that is meant, by its files.
#[derive(Debug)]
pub(crate) struct Target {
    /// In the lines that are printed.
    name: String,
    files: Files,
}

impl Target {
    /// The path is absolute; its directory need not exist.
    fn new(pid_file: &Path) -> Target {
        Target {
            name: crate::cli::name_of(pid_file),
            files: Files::beside(pid_file),
        }
    }
}

/// Does what was asked for, and gives the exit status.
pub(crate) fn run(verb: &Verb) -> i32 {
    let output = &mut io::stdout().lock();
    match verb {
        Verb::Status {
            targets,
            format,
            watch: false,
        } => status::show(targets, *format, output),
        Verb::Status {
            targets,
            format,
            watch: true,
        } => status::watch(targets, *format, output),
        Verb::Restart {
            target,
            wait,
            timeout,
        } => restart::run(target, *wait, *timeout, output),
        Verb::Stop { target, old } => stop::run(target, *old, output),
    }
}

/// Prints whole lines at once. What a daemon put into its texts must not reach a terminal as more
/// than text.
fn say(output: &mut dyn Write, lines: &[String]) -> io::Result<()> {
    let mut text = String::new();
    for line in lines {
        text.push_str(&line.replace(char::is_control, " "));
        text.push('\n');
    }
    output.write_all(text.as_bytes())?;
    output.flush()
}
