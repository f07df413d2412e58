//! A shell command beside the daemon: a probe, or one before or after the start (§9).

use std::collections::VecDeque;
use std::ffi::CString;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::unistd::{execve, fchdir, setsid};
use rustix::process::WaitStatus;

use crate::child::Child;
use crate::departure::{Ending, FAILED};
use crate::report::complain;
use crate::sys;

/// The shell.
const SHELL: &std::ffi::CStr = c"/bin/sh";
/// One read; whoever writes more is read on at the next wake, so that nothing else waits for it.
const AT_ONCE: usize = 1 << 16;
/// Lines that are passed on of one run.
const LINES: usize = 200;
/// Bytes of a line; what is longer is cut off.
const LONGEST_LINE: usize = 500;
/// Lines that are kept for whoever asks why it failed: the first one, where some say it (Java, Go), and the last
/// ones, where others do (Python).
const LAST: usize = 3;

/// What a command is run with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings<'a> {
    pub(crate) environment: &'a [CString],
    /// `None`: where this process is.
    pub(crate) directory: Option<BorrowedFd<'a>>,
}

/// One run. Its process is ended with it.
#[derive(Debug)]
pub(crate) struct Run {
    child: Child,
    begun: Instant,
    limit: Option<Duration>,
    /// It was killed for that.
    pub(crate) is_late: bool,
    output: Output,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Pending,
    Ended(Ending),
    /// It has not ended within its limit, and was killed.
    Late,
}

impl Run {
    /// In a session of its own; what it writes is read.
    pub(crate) fn begin(
        line: &str,
        surroundings: Surroundings<'_>,
        limit: Option<Duration>,
        now: Instant,
    ) -> io::Result<Run> {
        let words = [SHELL.to_owned(), c"-c".to_owned(), CString::new(line)?];
        let child = Child::fork(|output| become_shell(&words, surroundings, output))?;
        Ok(Run {
            child,
            begun: now,
            limit,
            is_late: false,
            output: Output::default(),
        })
    }

    /// To be called at every wake. What it leaves in its process group is ended with it.
    pub(crate) fn progress(&mut self, now: Instant) -> Progress {
        // Before the output is read: what it wrote until then is there.
        let ended = self.child.end_of_all();
        self.output.read(&self.child.output, ended.is_some());
        match ended.map(ending_of) {
            Some(_) if self.is_late => Progress::Late,
            Some(ending) => Progress::Ended(ending),
            None => {
                if self.deadline().is_some_and(|deadline| deadline <= now) {
                    self.is_late = true;
                    self.child.kill();
                }
                Progress::Pending
            }
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let limit = self.limit.filter(|_| !self.is_late);
        self.begun.checked_add(limit?)
    }

    /// What to wait for, beside CHLD.
    pub(crate) fn to_watch(&self) -> Option<BorrowedFd<'_>> {
        (!self.output.over).then(|| self.child.as_fd())
    }

    pub(crate) fn lasted(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.begun)
    }

    /// Lines that it has written since the last look.
    pub(crate) fn lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.output.lines)
    }

    /// The first and the last lines that it wrote, in one.
    pub(crate) fn said(&self) -> String {
        self.output.said()
    }
}

/// The child's part.
fn become_shell(words: &[CString], surroundings: Surroundings<'_>, output: OwnedFd) -> ! {
    let _ = setsid();
    if let Some(directory) = surroundings.directory {
        let _ = fchdir(directory);
    }
    let copied = nix::unistd::dup2_stderr(&output).map_err(io::Error::from);
    let _ = copied.and_then(|()| sys::put_in_place(&[output], 1));
    let Err(errno) = execve(SHELL, words, surroundings.environment);
    complain(&format!("cannot execute /bin/sh: {}", errno.desc()));
    std::process::exit(FAILED)
}

fn ending_of(status: WaitStatus) -> Ending {
    Ending::from_wait(status).unwrap_or(Ending::Unknown)
}

/// What a run has written, as far as it is of interest.
#[derive(Debug, Default)]
struct Output {
    /// Nothing more will come.
    over: bool,
    /// The beginning of a line.
    rest: Vec<u8>,
    lines: Vec<String>,
    count: usize,
    first: String,
    /// Without the first.
    last: VecDeque<String>,
}

impl Output {
    /// `all`: the writer has ended, and whoever else may hold the other end is not waited for.
    fn read(&mut self, mut source: impl Read, all: bool) {
        let mut bytes = [0; AT_ONCE];
        // A pipe holds no more than that; whoever else goes on writing shall not keep us.
        for _ in 0..if all { 2 } else { 1 } {
            match source.read(&mut bytes) {
                Ok(0) => self.over = true,
                Ok(length) => self.add(&bytes[..length]),
                Err(_) => {}
            }
        }
        if all && !self.rest.is_empty() {
            self.end_line();
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' | b'\r' => self.end_line(),
                _ if self.rest.len() < LONGEST_LINE => self.rest.push(*byte),
                _ => {}
            }
        }
    }

    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&self.rest).trim().to_owned();
        self.rest.clear();
        if line.is_empty() {
            return;
        }
        self.count += 1;
        if self.count <= LINES {
            self.lines.push(line.clone());
        } else if self.count == LINES + 1 {
            self.lines
                .push("(what it writes beyond that is left out)".to_owned());
        }
        if self.count == 1 {
            self.first = line;
            return;
        }
        if self.last.len() == LAST {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    fn said(&self) -> String {
        let mut lines = vec![self.first.as_str()];
        if self.count > LAST + 1 {
            lines.push("...");
        }
        lines.extend(self.last.iter().map(String::as_str));
        lines.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Output {
        let mut output = Output::default();
        output.read(text, true);
        output
    }

    #[test]
    fn lines_are_passed_on_and_the_first_and_the_last_ones_kept() {
        let output = read(b"one\r\ntwo\n\n  three \nfour");
        assert_eq!(output.lines, ["one", "two", "three", "four"]);
        assert_eq!(output.said(), "one; two; three; four");
        let output = read(b"1\n2\n3\n4\n5\n6\n");
        assert_eq!(output.said(), "1; ...; 4; 5; 6");
        assert_eq!(read(b"").said(), "");
    }

    #[test]
    fn a_flood_is_neither_kept_nor_passed_on() {
        let output = read(&b"y\n".repeat(AT_ONCE));
        assert_eq!(output.lines.len(), LINES + 1);
        let output = read(&b"y".repeat(AT_ONCE));
        assert_eq!(output.lines, ["y".repeat(LONGEST_LINE)]);
    }
}
