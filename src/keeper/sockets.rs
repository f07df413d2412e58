//! The sockets of a generation: from its predecessors, or new ones; for its daemon, and for its
//! successor (R11, R13, R20).

use anyhow::{Context, Result};

use super::Keeper;
use crate::cli::Service;
use crate::daemon::Daemon;
use crate::files::Entry;
use crate::listen::{Handed, Sockets};
use crate::predecessors::Predecessors;
use crate::report::{Report, cause};

/// One for each that is asked for: with its queue, if anybody has it. A failure leaves nothing behind,
/// and the predecessors that serve as they were, unless one had to make way (R20).
pub(super) fn gather(
    service: &Service,
    predecessors: &mut Predecessors,
    report: &Report,
) -> Result<Sockets> {
    let mut sockets = Sockets::handed_over(predecessors.take_sockets());
    let gathered = gather_into(&mut sockets, service, predecessors, report);
    gathered.inspect_err(|_| sockets.abandon())?;
    Ok(sockets)
}

fn gather_into(
    sockets: &mut Sockets,
    service: &Service,
    predecessors: &mut Predecessors,
    report: &Report,
) -> Result<()> {
    let all = &service.listen.wanted;
    for wanted in all {
        if sockets.reuse(wanted, all) {
            continue;
        }
        let known = |inode| sockets.knows(inode);
        if let Some(fetched) = predecessors.fetch(wanted, known, report) {
            sockets.add_fetched(fetched);
            if sockets.reuse(wanted, all) {
                continue;
            }
        }
        let opened = sockets.open(wanted, &|path, pid| predecessors.answer_at(path, pid));
        let Err(mut failure) = opened else { continue };
        if failure.in_use {
            sockets.let_go_of_rivals(wanted);
            let sent_away = predecessors.send_rivals_away(wanted, report);
            if predecessors.make_way(wanted, report) || sent_away {
                sockets.open(wanted, &|path, pid| predecessors.answer_at(path, pid))?;
                continue;
            }
            if let Some(words) = predecessors.in_the_way(wanted) {
                failure.words = format!(
                    "cannot listen on {}: {words}, and it cannot be bound beside it; stop the service for such a change",
                    wanted.label()
                );
            } else if let Some(names) = predecessors.names() {
                failure.words = format!(
                    "{}; if {names} has opened it by itself, stop the service once for the change to --listen",
                    failure.words
                );
            }
        }
        return Err(failure.into());
    }
    sockets.leave_the_rest();
    if service.listen.convention.never_blocks() {
        let set = sockets.never_block();
        set.context("cannot set O_NONBLOCK on the sockets")?;
    }
    Ok(())
}

/// Those of a daemon whose keeper was lost: a predecessor may hold them as well; else they are fetched
/// from the daemon.
pub(super) fn adopt(
    entry: &Entry,
    daemon: &Daemon,
    predecessors: &mut Predecessors,
    report: &Report,
) -> Sockets {
    let mut handed: Vec<Handed> = predecessors.take_sockets().collect();
    let (mut found, mut lost) = (Vec::new(), Vec::new());
    for label in &entry.sockets {
        let is_it = |other: &Handed| other.label.inode == label.inode;
        if let Some(index) = handed.iter().position(is_it) {
            let label = label.clone();
            let socket = handed.swap_remove(index).socket;
            found.push(Handed { label, socket });
            continue;
        }
        match daemon.fetch(label) {
            Ok(Some(fetched)) => found.push(fetched),
            // The daemon has closed it, as one does that drains.
            Ok(None) => {}
            Err(error) => {
                report.warn(&format!(
                    "cannot fetch the socket {} from the daemon: {}; if the daemon dies, connections are refused until the next start",
                    label.name,
                    cause(&error)
                ));
                lost.push(label.clone());
            }
        }
    }
    let mut sockets = Sockets::adopted(found);
    sockets.add_lost(lost);
    sockets
}

impl Keeper {
    /// Whether the daemon's end would leave sockets that nobody else has, and somebody may wait in.
    pub(super) fn leaves_sockets(&self) -> bool {
        let worth_it = match self.exec_failure {
            // Nobody has ever served at new ones.
            Some(_) => self.sockets.any_handed_over(),
            None => !self.sockets.is_empty(),
        };
        worth_it && !self.predecessors.any_serves()
    }

    pub(super) fn commit_sockets(&mut self) {
        for failure in self.sockets.commit() {
            self.report.warn(&failure);
        }
    }

    /// Nobody else is left at the paths.
    pub(super) fn take_places(&mut self) {
        for failure in self.sockets.take_places() {
            self.report.warn(&failure);
        }
    }

    /// Our daemon runs: a predecessor of which only sockets were left that we have is done with, and gone
    /// from the record. Those that we were not asked for it keeps until the commit, and for its hold
    /// timeout at most: they could be in the way of a daemon that opens its sockets by itself.
    pub(super) fn relieve_holders(&mut self, committed: bool) {
        let sockets = &self.sockets;
        let relieved = self
            .predecessors
            .relieve_holders(|inode| committed || sockets.has(inode), self.clock.now());
        if !relieved.is_empty() {
            self.forget_generations(&relieved);
        }
        let left = self
            .predecessors
            .left_with_holders(|inode| self.sockets.has(inode));
        for words in left {
            let file = self.files.pid_file.display();
            self.report.note(&format!(
                "{words}, which nobody asks for now, until {} is ready or its hold timeout is over (seamless-run stop {file} closes it at once)",
                self.name()
            ));
        }
    }
}
