//! Telling stop from restart: what the supervisor wants of this service (§7, R15 to R17).
//!
//! [`Supervisor`] is who it is, found when the launcher starts; [`Wishes`] puts the questions for a
//! keeper, and never waits for an answer.
#![deny(clippy::wildcard_enum_match_arm)]

mod inquiry;
mod supervise;
pub(crate) mod supervisord;
mod systemd;
mod wishes;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::unistd::getppid;

pub(crate) use supervise::{Format, Supervise};
pub(crate) use supervisord::Program;
pub(crate) use systemd::Unit;
pub(crate) use wishes::Wishes;

/// Init programs of containers, which start nothing again: their end is the container's (R17).
const CONTAINER_INITS: [&str; 5] = [
    "tini",
    "docker-init",
    "dumb-init",
    "catatonit",
    "podman-init",
];

/// By the name of the process.
pub(crate) fn is_container_init(name: &str) -> bool {
    CONTAINER_INITS.contains(&name)
}

/// Who started the launcher, and so will start the next one, or not.
#[derive(Debug)]
pub(crate) enum Supervisor {
    /// runit, daemontools or s6: what it wants is in a file.
    Supervise(Supervise),
    Systemd(Unit),
    Supervisord(Program),
    /// Nobody would start another one; who that is, in words (R17).
    Nobody(String),
    /// Its wish cannot be read (R16). `None`: nothing is known of it at all.
    Unreadable(Option<Unreadable>),
}

/// A supervisor that is known, and does not let us read what it wants.
#[derive(Debug)]
pub(crate) struct Unreadable {
    pub(crate) name: &'static str,
    pub(crate) why: io::Error,
}

impl Supervisor {
    /// Whoever started this process, which is its main process. To be called before anything that was
    /// inherited is let go of. `comes_back`: so it was said by hand (`--on TERM=restart`), and who would
    /// pass for nobody is somebody after all.
    ///
    /// `parent`: the name of the process that started this one.
    pub(crate) fn find(comes_back: bool, parent: &str) -> Supervisor {
        match Supervisor::of_this_process(parent) {
            Supervisor::Nobody(_) if comes_back => Supervisor::Unreadable(None),
            found @ (Supervisor::Supervise(_)
            | Supervisor::Systemd(_)
            | Supervisor::Supervisord(_)
            | Supervisor::Nobody(_)
            | Supervisor::Unreadable(_)) => found,
        }
    }

    fn of_this_process(name: &str) -> Supervisor {
        if std::process::id() == 1 {
            return Supervisor::Nobody("this is PID 1".to_owned());
        }
        let parent = getppid().as_raw();
        if let Some(format) = Format::of(name) {
            return match Supervise::open(format, parent) {
                Ok(supervise) => Supervisor::Supervise(supervise),
                Err(why) => Supervisor::Unreadable(Some(Unreadable {
                    name: format.name(),
                    why,
                })),
            };
        }
        if is_container_init(name) {
            return Supervisor::Nobody(format!("{name} (pid {parent}) is only an init"));
        }
        if let Some(unit) = Unit::of_this_process(name) {
            return Supervisor::Systemd(unit);
        }
        match Program::of_this_process(parent) {
            Some(program) => Supervisor::Supervisord(program),
            None => Supervisor::Unreadable(None),
        }
    }

    /// What is held open of it.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Supervisor::Supervise(supervise) => Some(supervise.as_fd()),
            Supervisor::Systemd(_)
            | Supervisor::Supervisord(_)
            | Supervisor::Nobody(_)
            | Supervisor::Unreadable(_) => None,
        }
    }
}
