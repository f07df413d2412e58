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

pub(crate) use arguments::{Request, parse};

use std::io::{self, Write};

use crate::departure::{FAILED, verb};
use crate::report::{cause, complain};
use finding::Level;
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
                let _ = print(&[display::failure(&words)]);
            }
            complain(&format!("cannot tell: {words}"));
            return verb::CANNOT_TELL;
        }
    };
    let findings = judge::all(&reading);
    let report = Report { reading, findings };
    let lines = match json {
        true => vec![display::json(&report)],
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

/// What a file name holds must not reach a terminal as more than text.
fn print(lines: &[String]) -> io::Result<()> {
    let mut text = String::new();
    for line in lines {
        text.push_str(&line.replace(char::is_control, " "));
        text.push('\n');
    }
    let mut output = io::stdout().lock();
    let written = output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush());
    match written {
        // Whoever closes it has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}
