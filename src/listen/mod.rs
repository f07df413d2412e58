//! The sockets that outlive every generation (R11): opened once, and handed from keeper to keeper.
//!
//! A keeper has those that were asked for at its start ([`Sockets`]); what only its predecessors were
//! asked for, they keep until its commit (R13). Nobody here reads, writes or accepts: nothing sits in
//! the data path.

pub(crate) mod address;
mod convention;
mod fetch;
mod host_port;
mod internet;
mod keepalive;
mod label;
mod occupant;
pub(crate) mod open;
mod options;
mod ownership;
mod passed;
pub(crate) mod resolve;
mod reused;
mod spelling;
mod unix;
mod wanted;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

pub(crate) use convention::Convention;
pub(crate) use fetch::fetch;
pub(crate) use label::Label;
use open::FileIdentity;
pub(crate) use open::NotOpened;
pub(crate) use passed::{FIRST, Passed};
pub(crate) use wanted::Wanted;

use address::Place;
use options::Options;
use socket2::SockRef;

use crate::report::cause;

/// As many as one message can tell of and pass along ([`crate::control`]; SCM_MAX_FD is 253).
pub(crate) const MOST: usize = 128;

/// All that a keeper holds.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    /// In the order of the command line.
    asked: Vec<Held>,
    /// Handed over, while it is found out what is asked for.
    surplus: Vec<Held>,
    /// Those of a lost keeper that could not be fetched (R20): the daemon has them.
    lost: Vec<Label>,
    /// Where closed ones were bound.
    left: Vec<Left>,
}

#[derive(Debug)]
struct Held {
    label: Label,
    socket: OwnedFd,
    /// This generation has opened it, and has not committed: if it fails, nobody wants it.
    new: bool,
    /// It was bound there, beside its path, and is renamed at the commit.
    beside: Option<PathBuf>,
    /// What was asked for, of one that was handed over: it may differ in its options.
    differently: Option<Wanted>,
}

/// A path that leads to nobody once everybody has closed the socket.
#[derive(Debug)]
struct Left {
    path: PathBuf,
    file: FileIdentity,
    new: bool,
}

/// A socket without a place, as one keeper gives it to another.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) label: Label,
    pub(crate) socket: OwnedFd,
}

impl Handed {
    /// The one of these labels that it is; or it is given back.
    pub(crate) fn of(socket: OwnedFd, labels: &[Label]) -> Result<Handed, OwnedFd> {
        let inode = label::inode(socket.as_fd()).ok();
        match labels.iter().find(|label| Some(label.inode) == inode) {
            Some(label) => Ok(Handed {
                label: label.clone(),
                socket,
            }),
            None => Err(socket),
        }
    }
}

impl Sockets {
    /// What predecessors hand over, the newest ones first. One that comes in two ways is one.
    pub(crate) fn handed_over(all: impl IntoIterator<Item = Handed>) -> Sockets {
        let mut sockets = Sockets::default();
        for handed in all {
            let mut known = sockets.surplus.iter();
            if !known.any(|held| held.label.inode == handed.label.inode) {
                sockets.surplus.push(handed.into());
            }
        }
        sockets
    }

    /// One that is there already, with its queue; says whether there was one. Of several at the same
    /// address the one of that name is taken, and none that another of `all` names.
    pub(crate) fn reuse(&mut self, wanted: &Wanted, all: &[Wanted]) -> bool {
        let fits =
            |wanted: &Wanted, held: &Held| is_there(wanted, &held.label, held.socket.as_fd());
        let named = |held: &Held| held.label.name == wanted.name && fits(wanted, held);
        let is_anothers = |held: &Held| {
            let mut others = all.iter().filter(|other| other.name != wanted.name);
            others.any(|other| other.name == held.label.name && fits(other, held))
        };
        let free = |held: &Held| fits(wanted, held) && !is_anothers(held);
        let mut surplus = self.surplus.iter();
        let found = surplus.clone().position(named);
        let Some(index) = found.or_else(|| surplus.position(free)) else {
            return false;
        };
        if !reused::revive(wanted, self.surplus[index].socket.as_fd()) {
            return false;
        }
        let mut held = self.surplus.remove(index);
        held.label.name.clone_from(&wanted.name);
        held.label.address = wanted.address.clone();
        held.differently = Some(wanted.clone());
        self.asked.push(held);
        true
    }

    /// One that was fetched from a daemon (R20).
    pub(crate) fn add_fetched(&mut self, fetched: Handed) {
        self.surplus.push(fetched.into());
    }

    /// One that nobody has. `is_ours`: whether who answers at a Unix path, a process with that PID, is a
    /// predecessor, and goes on answering there until the commit.
    pub(crate) fn open(
        &mut self,
        wanted: &Wanted,
        is_ours: &dyn Fn(&Path, i32) -> bool,
    ) -> Result<(), NotOpened> {
        let opened = open::open(wanted, is_ours)?;
        let label = Label::of(wanted, opened.socket.as_fd(), opened.file);
        let label = label.map_err(|error| NotOpened {
            in_use: false,
            words: format!("cannot look at the socket {}: {error}", wanted.name),
        })?;
        self.asked.push(Held {
            label,
            socket: opened.socket,
            new: true,
            beside: opened.beside,
            differently: None,
        });
        Ok(())
    }

    /// The rest stays with those who handed it over. Its paths are removed at the commit.
    pub(crate) fn leave_the_rest(&mut self) {
        self.left
            .extend(self.surplus.drain(..).filter_map(Held::left));
    }

    /// Lets go of those that are in the way of one that is wanted.
    pub(crate) fn let_go_of_rivals(&mut self, wanted: &Wanted) {
        let (rivals, others) = std::mem::take(&mut self.surplus)
            .into_iter()
            .partition(|held| may_mean(wanted, &held.label));
        self.surplus = others;
        let rivals: Vec<Held> = rivals;
        self.left.extend(rivals.into_iter().filter_map(Held::left));
    }

    /// Whether this one was taken over.
    pub(crate) fn has(&self, inode: u64) -> bool {
        self.asked.iter().any(|held| held.label.inode == inode)
    }

    /// Whether this one was handed over, or fetched.
    pub(crate) fn knows(&self, inode: u64) -> bool {
        let mut surplus = self.surplus.iter();
        self.has(inode) || surplus.any(|held| held.label.inode == inode)
    }

    /// What is accepted by several processes that poll first must not block the slower one.
    pub(crate) fn never_block(&self) -> io::Result<()> {
        let mut all = self.asked.iter();
        all.try_for_each(|held| SockRef::from(&held.socket).set_nonblocking(true))
    }

    /// Takes back what was opened for a generation that will not be.
    pub(crate) fn abandon(&mut self) {
        self.close();
        self.remove_paths(true);
    }

    /// Everything that a daemon is known to have, and its keeper does not (R20).
    pub(crate) fn add_lost(&mut self, labels: impl IntoIterator<Item = Label>) {
        self.lost.extend(labels);
    }

    /// Another keeper in the place of a lost one: what it fetched is what was asked for.
    pub(crate) fn adopted(all: impl IntoIterator<Item = Handed>) -> Sockets {
        let mut sockets = Sockets::handed_over(all);
        std::mem::swap(&mut sockets.asked, &mut sockets.surplus);
        for held in &mut sockets.asked {
            // The lost one may not have come to rename it.
            let beside = path_of(&held.label).map(unix::beside);
            held.beside = beside.filter(|beside| held.label.is_at(beside));
        }
        sockets
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    /// Not all of them were opened by a generation that has not committed.
    pub(crate) fn any_handed_over(&self) -> bool {
        self.asked.iter().any(|held| !held.new)
    }

    /// As they shall be recorded and shown.
    pub(crate) fn labels(&self) -> Vec<Label> {
        let held = self.asked.iter().map(|held| &held.label);
        held.chain(&self.lost).cloned().collect()
    }

    /// For the daemon, in order.
    pub(crate) fn for_daemon(&self) -> Vec<BorrowedFd<'_>> {
        self.asked.iter().map(|held| held.socket.as_fd()).collect()
    }

    /// For a successor.
    pub(crate) fn to_hand_over(&self) -> impl Iterator<Item = (&Label, BorrowedFd<'_>)> {
        self.asked.iter().map(Held::parts)
    }

    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.to_hand_over().map(|(_, descriptor)| descriptor)
    }

    /// Nobody else answers at the paths any more, or shall: what was bound beside one takes its place.
    /// Gives what could not be done, in words.
    pub(crate) fn take_places(&mut self) -> Vec<String> {
        let mut failures = Vec::new();
        for held in &mut self.asked {
            let (Some(beside), Some(path)) = (held.beside.take(), path_of(&held.label)) else {
                continue;
            };
            let renamed = held
                .label
                .file
                .map(|file| occupant::rename(&beside, path, file));
            if let Some(Err(error)) = renamed {
                failures.push(format!(
                    "cannot rename {} to {}: {}; the daemon is not reached there",
                    beside.display(),
                    path.display(),
                    cause(&error)
                ));
            }
        }
        failures
    }

    /// The daemon may have called shutdown(2), and nobody is there to be disturbed any more.
    pub(crate) fn listen_again(&self) {
        for held in &self.asked {
            let kind = held.label.address.kind;
            reused::listen_again(kind, held.socket.as_fd(), &Options::default());
        }
    }

    /// This generation serves: its sockets are what shall be. Gives what could not be done, in words.
    pub(crate) fn commit(&mut self) -> Vec<String> {
        let mut failures = self.take_places();
        for held in &mut self.asked {
            held.new = false;
            if let Some(wanted) = held.differently.take() {
                let adjusted = reused::adjust(&wanted, held.socket.as_fd(), held.label.file);
                failures.extend(adjusted.err());
            }
        }
        self.remove_paths(false);
        failures
    }

    /// Another generation has them.
    pub(crate) fn pass_on(&mut self) {
        *self = Sockets::default();
    }

    /// Nobody shall have them from us.
    pub(crate) fn close(&mut self) {
        let all = self.asked.drain(..).chain(self.surplus.drain(..));
        self.left.extend(all.filter_map(Held::left));
    }

    /// Removes the paths of closed ones, where they still lead to them. `only_new`: a predecessor goes
    /// on serving at the others.
    pub(crate) fn remove_paths(&mut self, only_new: bool) {
        for left in self.left.drain(..) {
            if left.new || !only_new {
                // What cannot be removed is found dead by the next one.
                let _ = occupant::remove(&left.path, left.file);
            }
        }
    }
}

impl From<Handed> for Held {
    fn from(handed: Handed) -> Held {
        Held {
            label: handed.label,
            socket: handed.socket,
            new: false,
            beside: None,
            differently: None,
        }
    }
}

impl Held {
    fn parts(&self) -> (&Label, BorrowedFd<'_>) {
        (&self.label, self.socket.as_fd())
    }

    fn left(self) -> Option<Left> {
        let path = self.beside.as_deref().or(path_of(&self.label))?;
        Some(Left {
            path: path.to_owned(),
            file: self.label.file?,
            new: self.new,
        })
    }
}

/// Whether this socket is what is wanted, and whoever connects there reaches it.
pub(crate) fn is_there(wanted: &Wanted, label: &Label, socket: BorrowedFd<'_>) -> bool {
    let same =
        may_be(wanted, label) || reused::bound_to(&wanted.address, socket) && leads_there(label);
    same && !reused::is_on_another_device(wanted, socket)
}

/// The same, of one that is only known by its label.
pub(crate) fn may_be(wanted: &Wanted, label: &Label) -> bool {
    label.address == wanted.address && leads_there(label)
}

/// Whether the addresses may be the same in other words, or one of them comprise the other.
pub(crate) fn may_mean(wanted: &Wanted, label: &Label) -> bool {
    let bound = label
        .bound
        .as_deref()
        .and_then(|bound| bound.rsplit_once(':'));
    match (&wanted.address.place, bound) {
        (Place::Internet { port, .. }, Some((_, bound))) => {
            wanted.address.kind == label.address.kind && port.may_be(bound)
        }
        (Place::Internet { .. } | Place::Path(_) | Place::Abstract(_), _) => false,
    }
}

fn leads_there(label: &Label) -> bool {
    match (label.file, path_of(label)) {
        (Some(file), Some(path)) => file.is_at(path),
        _ => true,
    }
}

fn path_of(label: &Label) -> Option<&Path> {
    match &label.address.place {
        Place::Path(path) => Some(path),
        Place::Abstract(_) | Place::Internet { .. } => None,
    }
}
