//! The older generations that still live, as their successor's keeper holds them (R11).

use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::files::{Record, State};
use crate::process::Process;
use crate::report::{Report, cause};
use crate::signals::Signal;

/// One of them.
#[derive(Debug)]
struct Predecessor {
    number: u32,
    state: State,
    process: Process,
}

/// All of them, oldest first, each by a pidfd.
#[derive(Debug, Default)]
pub(crate) struct Predecessors(Vec<Predecessor>);

impl Predecessors {
    pub(crate) fn from_record(record: &Record) -> Predecessors {
        let open = |entry: &crate::files::Entry| {
            let process = entry.daemon.open().ok().flatten()?;
            Some(Predecessor {
                number: entry.number,
                state: entry.state,
                process,
            })
        };
        Predecessors(record.generations.iter().filter_map(open).collect())
    }

    /// Those that wait for a successor; one that drains already is no safety net.
    fn serving(&self) -> impl Iterator<Item = &Predecessor> {
        self.0.iter().filter(|one| one.state != State::Draining)
    }

    pub(crate) fn any_serves(&self) -> bool {
        self.serving().next().is_some()
    }

    /// R13: they were detached, and none had ever said that it was ready.
    pub(crate) fn never_said_ready(&self) -> bool {
        self.any_serves() && self.serving().all(|one| one.state == State::Starting)
    }

    /// Readable when that one has ended.
    pub(crate) fn to_watch(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(|one| one.process.as_fd())
    }

    /// Lets go of those that have ended; says whether there were any.
    pub(crate) fn forget_dead(&mut self) -> bool {
        let before = self.0.len();
        self.0.retain(|one| {
            let mut ended = [PollFd::new(one.process.as_fd(), PollFlags::POLLIN)];
            !poll(&mut ended, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
        });
        self.0.len() < before
    }

    /// Tells each that has not been told, and gives those that could not be. `told`: the one that
    /// the new daemon told itself (R12).
    pub(crate) fn drain(&mut self, signal: Signal, told: Option<i32>, report: &Report) -> Vec<i32> {
        let mut deaf = Vec::new();
        for one in self.0.iter_mut().filter(|one| one.state != State::Draining) {
            one.state = State::Draining;
            if told == Some(one.process.pid) {
                continue;
            }
            if let Err(error) = one.process.send(signal) {
                report.warn(&format!(
                    "cannot send {signal} to generation {} (pid {}): {}; it goes on serving",
                    one.number,
                    one.process.pid,
                    cause(&error)
                ));
                deaf.push(one.process.pid);
            }
        }
        deaf
    }

    /// `generation 7 (pid 4242)`, or nothing where nobody serves.
    pub(crate) fn names(&self) -> Option<String> {
        let names = self
            .serving()
            .map(|one| format!("generation {} (pid {})", one.number, one.process.pid));
        let names: Vec<String> = names.collect();
        (!names.is_empty()).then(|| names.join(" and "))
    }
}
