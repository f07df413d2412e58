//! `seamless-run check`: what will go wrong with a service under its supervisor, and which line to change.
//!
//! [`reading`] looks, [`judge`] says what it means, and nothing is changed, started or signalled.

mod arguments;
mod display;
mod finding;
mod judge;
pub(crate) mod reading;
pub(crate) mod script;
pub(crate) mod tools;

#[cfg(test)]
pub(crate) use arguments::FORM;
pub(crate) use arguments::{Request, parse};

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::PathBuf;

use crate::cli::Service;
use crate::departure::{CANNOT_EXECUTE, FAILED, NOT_FOUND, verb};
use crate::paint::{Line, Paint, shown};
use crate::report::{cause, complain};
use finding::Level;
use reading::program::{Program, State};
use reading::{Options, Reading};

/// What was found, and how sure that is.
#[derive(Debug)]
struct Report {
    reading: Reading,
    findings: Vec<finding::Finding>,
}

impl Report {
    fn count(&self, level: Level) -> usize {
        self.findings
            .iter()
            .filter(|one| one.level == level)
            .count()
    }

    /// Why not everything can be told.
    fn unclear(&self) -> Option<&str> {
        match &self.reading.options {
            Options::Unclear(words) => Some(words),
            Options::Service(_) | Options::WithoutPidFile | Options::Refused(_) => None,
        }
    }

    fn verdict(&self) -> i32 {
        match (self.count(Level::Error), self.unclear()) {
            (0, None) => verb::YES,
            (0, Some(_)) => verb::CANNOT_TELL,
            (_, _) => verb::NO,
        }
    }
}

/// Looks, prints, and gives the exit status.
pub(crate) fn run(request: Request) -> i32 {
    let json = request.json;
    let reading = match reading::read(request) {
        Ok(reading) => reading,
        Err(words) => {
            if json {
                let _ = print(&[Line::plain(display::failure(&words))]);
            }
            complain(&format!("cannot tell: {words}"));
            return verb::CANNOT_TELL;
        }
    };
    let findings = judge::all(&reading);
    let report = Report { reading, findings };
    let lines = match json {
        true => vec![Line::plain(display::json(&report))],
        false => display::text(&report),
    };
    if let Err(error) = print(&lines) {
        complain(&format!("cannot print what was found: {}", cause(&error)));
        return FAILED;
    }
    if let Some(words) = report.unclear() {
        complain(&format!(
            "cannot tell everything: {words}; give the run options: seamless-run check ... --pid-file FILE -- COMMAND"
        ));
    }
    report.verdict()
}

/// Who supervises what runs at the service's PID file, in words; nothing where that is not seen.
pub(crate) fn supervisor_at(service: &Service) -> Option<String> {
    match reading::supervisor_at(service)? {
        reading::Supervisor::Unknown => None,
        known => Some(display::said(&known)),
    }
}

/// Where the shell's way of looking finds a program, or the exit status of a start (R3) and a line. Nothing where a
/// name is no UTF-8.
pub(crate) fn find_program(name: &OsStr) -> Result<Option<PathBuf>, (i32, String)> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    let here = std::env::current_dir().unwrap_or_default();
    let found = Program::read(&[name.to_owned()], &path, Some(&here));
    let Some(Program { name, path, state }) = found else {
        return Ok(None);
    };
    let cannot = |why: &str| Err((CANNOT_EXECUTE, format!("cannot execute {name}: {why}")));
    match state {
        State::Runnable | State::Wrapper => Ok(path),
        State::Missing => {
            let line = format!("cannot find the command {name}: No such file or directory");
            Err((NOT_FOUND, line))
        }
        State::NotExecutable(why) => cannot(&why),
        State::NoInterpreter(interpreter) => cannot(&format!(
            "the interpreter that it names is not there ({interpreter})"
        )),
        State::NoMagic => cannot("it is no program, and does not name its interpreter (#!)"),
    }
}

fn print(lines: &[Line]) -> io::Result<()> {
    let mut output = io::stdout().lock();
    let text = shown(lines, Paint::of(&output));
    let written = output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush());
    match written {
        // Whoever closes it has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}
