//! The service as it runs, by its record and `/proc`.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::daemon;
use crate::files::{Record, State};
use crate::generation::{Reception, Voice};
use crate::process::{self, Stat, Status, View};
use crate::signals::Signal;
use crate::supervisor;

/// The newest generation that serves, or will.
#[derive(Clone, Debug)]
pub(in crate::check) struct Running {
    pub(in crate::check) generation: u32,
    pub(in crate::check) daemon: i32,
    /// `None`: it is detached.
    pub(in crate::check) launcher: Option<Launcher>,
    pub(in crate::check) ready: bool,
    pub(in crate::check) voice: Voice,
    /// What it would do with the prepare signal.
    pub(in crate::check) reception: Reception,
    /// It has TCP sockets that it has opened itself.
    pub(in crate::check) listens: bool,
}

/// Between the supervisor and the daemon.
#[derive(Clone, Debug)]
pub(in crate::check) struct Launcher {
    pub(in crate::check) pid: i32,
    /// Its effective user.
    pub(in crate::check) user: u32,
    pub(in crate::check) parent: i32,
}

/// Who supervises a launcher, as far as `/proc` tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::check) enum Recognised {
    Supervise(supervisor::Format, PathBuf),
    Systemd(supervisor::Unit),
    /// `group:name`, and supervisord's own PID.
    Supervisord(String, i32),
    /// A container's init, or nobody at all: in words.
    Nobody(String),
    /// One that starts it again, and whose wish cannot be read.
    Named(String),
    Unknown,
}

impl Running {
    pub(in crate::check) fn find(record: &Record, signal: Signal) -> Option<Running> {
        let wanted = |state| matches!(state, State::Ready | State::Starting);
        let mut newest_first = record.generations.iter().rev();
        let entry = newest_first.find(|entry| wanted(entry.state))?;
        let daemon = entry.daemon.pid;
        let launcher = entry.launcher.filter(|launcher| launcher.is_alive());
        let view = View::open(daemon).ok()?;
        Some(Running {
            generation: entry.number,
            daemon,
            launcher: launcher.and_then(|launcher| Launcher::read(launcher.pid)),
            ready: entry.state == State::Ready && !entry.assumed,
            voice: entry.voice,
            reception: daemon::reception_of(daemon, &view, signal),
            listens: listens_by_itself(daemon, record),
        })
    }
}

impl Launcher {
    fn read(pid: i32) -> Option<Launcher> {
        Some(Launcher {
            pid,
            user: Status::of(pid).ok()?.user,
            parent: Stat::of(pid).ok()?.parent,
        })
    }

    /// As the launcher itself does at its start (§7), from outside.
    pub(in crate::check) fn recognise(&self) -> Recognised {
        if self.pid == 1 {
            return Recognised::Nobody("PID 1 is nobody's".to_owned());
        }
        let parent = self.parent;
        let name = process::name_of(parent).unwrap_or_default();
        if let Some(format) = supervisor::Format::of(&name) {
            let directory = fs::read_link(format!("/proc/{parent}/cwd")).unwrap_or_default();
            return Recognised::Supervise(format, directory);
        }
        if supervisor::is_container_init(&name) {
            return Recognised::Nobody(format!("{name} (pid {parent}) is only an init"));
        }
        let environment = environment_of(self.pid);
        let variable = |name: &str| {
            let found = environment.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.as_str())
        };
        let is_main = variable("SYSTEMD_EXEC_PID") == Some(&self.pid.to_string());
        let is_child = name == "systemd" && variable("INVOCATION_ID").is_some();
        if is_main || is_child {
            let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", self.pid));
            if let Some(unit) = supervisor::Unit::in_cgroup(&cgroup.unwrap_or_default()) {
                return Recognised::Systemd(unit);
            }
        }
        if let (Some(group), Some(program)) = (
            variable("SUPERVISOR_GROUP_NAME"),
            variable("SUPERVISOR_PROCESS_NAME"),
        ) {
            return Recognised::Supervisord(format!("{group}:{program}"), parent);
        }
        match name.as_str() {
            "supervise-daemo" | "supervise-daemon" => Recognised::Named("OpenRC".to_owned()),
            "monit" | "circusd" | "god" | "bluepill" | "dinit" | "finit" => Recognised::Named(name),
            _ => Recognised::Unknown,
        }
    }
}

/// The variables with which a process was started, if they may be read.
pub(in crate::check) fn environment_of(pid: i32) -> Vec<(String, String)> {
    let text = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The numbers of the sockets and pipes that a process has open, of that kind.
pub(in crate::check) fn open_numbers(pid: i32, kind: &str) -> HashSet<u64> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return HashSet::new();
    };
    let links = entries
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok());
    links.filter_map(|link| number_in(&link, kind)).collect()
}

/// `socket:[42]`
pub(in crate::check) fn number_in(link: &Path, kind: &str) -> Option<u64> {
    let rest = link.to_str()?.strip_prefix(kind)?.strip_prefix(":[")?;
    rest.strip_suffix(']')?.parse().ok()
}

/// Whether it listens on TCP sockets that no keeper holds.
fn listens_by_itself(daemon: i32, record: &Record) -> bool {
    let entries = record.generations.iter();
    let held: HashSet<u64> = entries
        .flat_map(|entry| entry.sockets.iter().map(|label| label.inode))
        .collect();
    let own = open_numbers(daemon, "socket");
    super::sockets::listening(&format!("/proc/{daemon}/net"))
        .iter()
        .any(|one| one.is_tcp && own.contains(&one.inode) && !held.contains(&one.inode))
}
