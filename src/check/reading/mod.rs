//! What is read, and nothing of what it means: [`super::judge`] says that.

pub(crate) mod directory;
pub(crate) mod exec_start;
pub(crate) mod kernel;
pub(super) mod program;
pub(super) mod running;
pub(super) mod service_directory;
pub(crate) mod sockets;
pub(crate) mod supervisord;
pub(crate) mod unit;

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::arguments::{Place, Request};
use super::script::{self, Launch, Unclear, Word};
use super::tools;
use crate::cli::{self, RunArguments, Service};
use crate::files::{Files, Record};
use directory::Directory;
use kernel::Kernel;
use program::Program;
use running::{Recognised, Running};
use service_directory::{Run, ServiceDirectory};
use sockets::Obstacle;
use unit::Unit;

/// Everything that was read.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) supervisor: Supervisor,
    pub(super) options: Options,
    /// The words of the daemon's own command.
    pub(super) command: Vec<OsString>,
    pub(super) running: Option<Running>,
    pub(super) directory: Option<Directory>,
    pub(super) program: Option<Program>,
    pub(super) kernel: Kernel,
    pub(super) obstacles: Vec<(String, Obstacle)>,
    /// Who the launcher is, or will be, if that can be told.
    pub(super) user: Option<u32>,
}

/// Who supervises the service.
#[derive(Debug)]
pub(super) enum Supervisor {
    Systemd(Unit),
    Supervise(ServiceDirectory),
    Supervisord(supervisord::Program),
    /// A container's init, or nobody: in words.
    Nobody(String),
    /// Known by name, and by nothing else.
    Named(String),
    Unknown,
}

/// How seamless-run is run.
#[derive(Debug)]
pub(super) enum Options {
    Service(Box<Service>),
    WithoutPidFile,
    /// It is refused for what was typed: in words.
    Refused(String),
    /// In words: they have to be typed.
    Unclear(String),
}

impl Options {
    pub(super) fn service(&self) -> Option<&Service> {
        match self {
            Options::Service(service) => Some(service),
            Options::WithoutPidFile | Options::Refused(_) | Options::Unclear(_) => None,
        }
    }
}

/// The error is why nothing can be told.
pub(super) fn read(request: Request) -> Result<Reading, String> {
    let mut supervisor = named(&request.place)?;
    let base = match &supervisor {
        Supervisor::Systemd(unit) => unit.directory(),
        Supervisor::Supervise(directory) => directory.path.clone(),
        _ => std::env::current_dir().unwrap_or_default(),
    };
    let arguments = match request.run {
        Some(typed) => Ok(typed),
        None => arguments_of(&supervisor),
    };
    let command = arguments
        .as_ref()
        .map(|arguments| arguments.command.clone());
    let command = command.unwrap_or_default();
    let options = match arguments {
        Ok(arguments) => match cli::service_of(arguments, &base) {
            Ok(Some(service)) => Options::Service(Box::new(service)),
            Ok(None) => Options::WithoutPidFile,
            Err(error) => Options::Refused(error.to_string()),
        },
        Err(options) => options,
    };
    let service = options.service();
    let found = service.map(|service| Directory::read(&Files::beside(&service.pid_file)));
    let (files, record) = found.unzip();
    let record = record.unwrap_or_default();
    let running = service.and_then(|service| Running::find(&record, service.prepare_signal));
    if let (Supervisor::Unknown, Some(running)) = (&supervisor, &running) {
        supervisor = recognised(running)?;
    }
    let wanted = service.map(|service| &service.listen.wanted[..]);
    let directory = match &supervisor {
        // Where its script goes before, it may not say.
        Supervisor::Supervise(found) if found.script().contains("cd ") => None,
        Supervisor::Supervise(found) => Some(found.path.clone()),
        _ => Some(base),
    };
    let path = path_of(&supervisor, running.as_ref());
    let user = user_of(&supervisor, running.as_ref());
    Ok(Reading {
        program: Program::read(&command, &path, directory.as_deref()),
        obstacles: sockets::obstacles(wanted.unwrap_or_default(), &held(&record)),
        directory: files,
        kernel: Kernel::read(),
        user,
        supervisor,
        options,
        command,
        running,
    })
}

fn named(place: &Place) -> Result<Supervisor, String> {
    Ok(match place {
        Place::Unit { name, of_user } => Supervisor::Systemd(Unit::read(name, *of_user)?),
        Place::Directory(path) => Supervisor::Supervise(service_directory(path, None)?),
        Place::Running => Supervisor::Unknown,
    })
}

fn service_directory(
    path: &Path,
    format: Option<crate::supervisor::Format>,
) -> Result<ServiceDirectory, String> {
    ServiceDirectory::read(path, format).map_err(|error| {
        let words = crate::report::cause(&error);
        format!(
            "cannot look into the service directory {}: {words}",
            path.display()
        )
    })
}

/// The same, for whoever only wants to know that.
pub(super) fn supervisor_at(service: &Service) -> Option<Supervisor> {
    let (_, record) = Directory::read(&Files::beside(&service.pid_file));
    let running = Running::find(&record, service.prepare_signal)?;
    recognised(&running).ok()
}

/// Whoever supervises what runs.
fn recognised(running: &Running) -> Result<Supervisor, String> {
    let Some(launcher) = &running.launcher else {
        return Ok(Supervisor::Unknown);
    };
    Ok(match launcher.recognise() {
        Recognised::Supervise(format, path) => {
            Supervisor::Supervise(service_directory(&path, Some(format))?)
        }
        Recognised::Systemd(unit) => Supervisor::Systemd(Unit::read(&unit.name, unit.of_user)?),
        Recognised::Supervisord(name, supervisor) => {
            let daemon = running.daemon;
            let program = supervisord::Program::read(&name, supervisor, launcher.pid, daemon);
            Supervisor::Supervisord(program)
        }
        Recognised::Nobody(words) => Supervisor::Nobody(words),
        Recognised::Named(name) => Supervisor::Named(name),
        Recognised::Unknown => Supervisor::Unknown,
    })
}

/// The run options in a unit or a run script; else why they cannot be had.
fn arguments_of(supervisor: &Supervisor) -> Result<RunArguments, Options> {
    let (place, launch) = match supervisor {
        Supervisor::Systemd(unit) => (format!("ExecStart= of {}", unit.name), unit.launch()),
        Supervisor::Supervise(found) => {
            let place = found.path.join("run").display().to_string();
            match &found.run {
                Run::Script { launch, .. } => (place, launch.clone()),
                Run::Unusable(words) => return Err(Options::Unclear(words.clone())),
            }
        }
        _ => return Err(Options::Unclear("there are no run options".to_owned())),
    };
    let launch = launch.map_err(|unclear| {
        Options::Unclear(match unclear {
            Unclear::Missing => format!("no seamless-run was found in {place}"),
            Unclear::Expansion(word) => format!("{place}: what {word} is cannot be told"),
        })
    })?;
    let words = launch.words.iter().skip(1);
    let words: Vec<OsString> = words.map(|word| OsString::from(&word.text)).collect();
    RunArguments::read(&words, crate::departure::FAILED).map_err(|refusal| {
        let refused = match refusal {
            cli::Refusal::Complaint(words, _) => words,
            cli::Refusal::Answer(_) => "it only prints its help or its version".to_owned(),
        };
        Options::Refused(refused)
    })
}

/// The launch of a process that runs.
fn launch_of(pid: i32) -> Option<Launch> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = line.strip_suffix(b"\0")?.split(|byte| *byte == 0);
    let words: Vec<Word> = words
        .map(|word| Word::literal(&String::from_utf8_lossy(word)))
        .collect();
    let is_it = script::is_program(&words.first()?.text);
    is_it.then_some(Launch {
        aside: false,
        exec: true,
        before: Vec::new(),
        words,
    })
}

/// The numbers of the sockets that generations have, of which none is in the way of the next one.
fn held(record: &Record) -> HashSet<u64> {
    let labels = record.generations.iter().flat_map(|entry| &entry.sockets);
    labels.map(|label| label.inode).collect()
}

/// Where the launcher looks for its command.
fn path_of(supervisor: &Supervisor, running: Option<&Running>) -> OsString {
    let launcher = running.and_then(|running| running.launcher.as_ref());
    if let Some(launcher) = launcher {
        let environment = running::environment_of(launcher.pid);
        let mut variables = environment.into_iter();
        if let Some((_, path)) = variables.find(|(name, _)| name == "PATH") {
            return path.into();
        }
    }
    match supervisor {
        Supervisor::Systemd(unit) => {
            let path = unit.environment.get("PATH");
            path.map_or(program::USUAL_PATH, String::as_str).into()
        }
        _ => std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()),
    }
}

/// The launcher's user: as it runs, or as it would be made.
fn user_of(supervisor: &Supervisor, running: Option<&Running>) -> Option<u32> {
    let launcher = running.and_then(|running| running.launcher.as_ref());
    match (launcher, supervisor) {
        (_, Supervisor::Systemd(unit)) if unit.is("DynamicUser", "yes") => {
            launcher.map(|one| one.user)
        }
        (_, Supervisor::Systemd(unit)) if !unit.get("User").is_empty() => {
            number_of(unit.get("User"))
        }
        (Some(launcher), _) => Some(launcher.user),
        (None, Supervisor::Systemd(unit)) if !unit.of_user => match unit.launch() {
            Ok(launch) => user_before(&launch).unwrap_or(Some(0)),
            Err(_) => Some(0),
        },
        (None, Supervisor::Supervise(found)) => {
            let named = found.launch().and_then(user_before);
            named.unwrap_or(found.owner)
        }
        _ => None,
    }
}

/// Whom the tools before it make of the launcher; nobody else, or somebody who has no number here.
fn user_before(launch: &Launch) -> Option<Option<u32>> {
    let before = launch.before.iter();
    let words: Vec<&str> = before.map(|word| word.text.as_str()).collect();
    tools::user_anywhere(&words).map(number_of)
}

/// `app`, `app:group`, `7`, `:7:7`
pub(super) fn number_of(user: &str) -> Option<u32> {
    let name = user.split(':').find(|part| !part.is_empty())?;
    let by_name = || nix::unistd::User::from_name(name).ok()?;
    name.parse().ok().or_else(|| Some(by_name()?.uid.as_raw()))
}

/// The directories that a path may lie in, as far as they are named: itself, and all above it.
pub(super) fn lies_in(path: &Path, directories: &[PathBuf]) -> bool {
    directories
        .iter()
        .any(|directory| path.starts_with(directory))
}
