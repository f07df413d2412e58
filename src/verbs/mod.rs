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
#[cfg(test)]
pub(crate) use arguments::{RESTART, STATUS, STOP};
pub(crate) use display::span;

use crate::control::Standing;
use crate::files::Files;
use crate::paint::{Line, Paint, shown};

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

/// What lives at a PID file, for whoever only looks.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Newest first.
    pub(crate) generations: Vec<Standing>,
    /// The highest number that the record knows.
    pub(crate) last: u32,
    /// In words: why it cannot be told.
    pub(crate) unknown: Option<String>,
}

/// Asks as `status` does.
pub(crate) fn look(pid_file: &Path) -> Seen {
    let target = Target::new(pid_file);
    let view = target.look(false).0;
    let last = target.files.read_record().map_or(0, |record| record.last);
    Seen {
        generations: view.state.generations,
        last,
        unknown: match view.source {
            view::Source::Unknown(why) => Some(why),
            view::Source::Keeper | view::Source::Record(_) | view::Source::Nothing => None,
        },
    }
}

/// Does what was asked for, and gives the exit status.
pub(crate) fn run(verb: &Verb) -> i32 {
    let output = &mut io::stdout().lock();
    let paint = Paint::of(output);
    match verb {
        Verb::Status {
            targets,
            format,
            watch: false,
        } => status::show(targets, *format, paint, output),
        Verb::Status {
            targets,
            format,
            watch: true,
        } => status::watch(targets, *format, paint, output),
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
    let lines: Vec<Line> = lines.iter().map(Line::plain).collect();
    say_in(Paint::Plain, output, &lines)
}

fn say_in(paint: Paint, output: &mut dyn Write, lines: &[Line]) -> io::Result<()> {
    output.write_all(shown(lines, paint).as_bytes())?;
    output.flush()
}
