//! The one fork and the one exec (R1), and the daemon as the keeper's child.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::sys::signal::SigSet;
use nix::unistd::{ForkResult, execve, setsid};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};
use rustix::process::{Pid, WaitOptions, waitpid};

use super::{Environment, reception};
use crate::cli::Listen;
use crate::departure::{CANNOT_EXECUTE, Ending, FAILED, NOT_FOUND};
use crate::generation::Reception;
use crate::listen::{Handed, Label, Passed, Sockets, fetch};
use crate::process::{Identity, Process, Stat, View};
use crate::signals::Signal;
use crate::sys;

/// A program and its arguments, as execve(2) wants them.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    words: Vec<CString>,
    /// For people.
    pub(crate) line: String,
}

impl Command {
    pub(crate) fn new(words: &[OsString]) -> Result<Command> {
        let as_c = |word: &OsString| {
            CString::new(word.clone().into_vec())
                .map_err(|_| anyhow!("a word of the command holds a NUL"))
        };
        let line = words
            .iter()
            .map(|word| word.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ");
        let line = shortened(&line);
        Ok(Command {
            words: words.iter().map(as_c).collect::<Result<_>>()?,
            line,
        })
    }

    pub(crate) fn name(&self) -> &OsStr {
        self.words
            .first()
            .map_or(OsStr::new(""), |word| OsStr::from_bytes(word.as_bytes()))
    }

    /// Becomes the command; returns only if that fails. `PATH` is searched as a shell would, but a
    /// file without a magic number is not given to one.
    fn exec(&self, environment: &[CString]) -> Errno {
        let Some(name) = self.words.first().filter(|name| !name.is_empty()) else {
            return Errno::ENOENT;
        };
        let exec = |path: &CString| match execve(path, &self.words, environment) {
            Ok(never) => match never {},
            Err(errno) => errno,
        };
        if name.as_bytes().contains(&b'/') {
            return exec(name);
        }
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
        let mut worst = Errno::ENOENT;
        for directory in std::env::split_paths(&path) {
            let Ok(candidate) =
                CString::new(directory.join(self.name()).into_os_string().into_vec())
            else {
                continue;
            };
            match exec(&candidate) {
                Errno::ENOENT | Errno::ENOTDIR => {}
                Errno::EACCES => worst = Errno::EACCES,
                errno => return errno,
            }
        }
        worst
    }

    /// One line on why it cannot be run, and the exit status (R3).
    fn explain(&self, errno: Errno) -> (i32, String) {
        let name = self.name().to_string_lossy();
        // A script whose interpreter is missing gives ENOENT as well.
        let is_there =
            self.name().as_bytes().contains(&b'/') && std::path::Path::new(self.name()).exists();
        match errno {
            Errno::ENOENT | Errno::ENOTDIR if !is_there => (
                NOT_FOUND,
                format!("cannot find the command {name}: {}", errno.desc()),
            ),
            Errno::ENOENT => (
                CANNOT_EXECUTE,
                format!("cannot execute {name}: the interpreter that it names is not there"),
            ),
            Errno::ENOEXEC => (
                CANNOT_EXECUTE,
                format!(
                    "cannot execute {name}: it is no program, and does not name its interpreter (#!)"
                ),
            ),
            _ => (
                CANNOT_EXECUTE,
                format!("cannot execute {name}: {}", errno.desc()),
            ),
        }
    }
}

/// A whole script may be an argument, and a log line shall not be one.
fn shortened(line: &str) -> String {
    match line.char_indices().nth(100) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line.to_owned(),
    }
}

/// Becomes the command in this very process: the way without a PID file. With `--listen` it has its
/// sockets all the same, opened anew; without, it is as if we had never been there. Returns the exit
/// status and one line if that fails.
pub(crate) fn exec_here(command: &Command, listen: &Listen) -> (i32, String) {
    if listen.wanted.is_empty() {
        sys::restore_what_was_found();
        return command.explain(command.exec(&sys::environment()));
    }
    let (environment, mut sockets, first) = match open_here(listen) {
        Ok(opened) => opened,
        Err(error) => return (FAILED, format!("{error:#}")),
    };
    sys::restore_what_was_found();
    let given = Given {
        sockets: &sockets.for_daemon(),
        first,
        lines: &[],
    };
    if let Err(error) = given.put_in_place() {
        sockets.abandon();
        return (FAILED, cannot_pass(&error));
    }
    let environment = environment.for_daemon(std::process::id() as i32);
    let errno = command.exec(&environment);
    sockets.abandon();
    command.explain(errno)
}

fn open_here(listen: &Listen) -> Result<(Environment, Sockets, i32)> {
    let passed = Passed::find(&listen.wanted, None, &[])?;
    let mut sockets = Sockets::default();
    for wanted in &listen.wanted {
        if let Err(failure) = sockets.open(wanted, &|_, _| false) {
            sockets.abandon();
            return Err(failure.into());
        }
    }
    if listen.convention.never_blocks() {
        let set = sockets.never_block();
        set.context("cannot set O_NONBLOCK on the sockets")?;
    }
    let mut environment = Environment::default();
    let labels = sockets.labels();
    environment.sockets(listen.convention.variables(&passed, &labels, 1));
    Ok((environment, sockets, passed.end()))
}

/// What the daemon finds open beside what it inherits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given<'a> {
    pub(crate) sockets: &'a [BorrowedFd<'a>],
    /// The number of the first; the others follow.
    pub(crate) first: i32,
    /// For `--ready fd:N`: apart from the sockets, each with its number.
    pub(crate) lines: &'a [(OwnedFd, i32)],
}

impl Given<'_> {
    /// Gives each the number where the daemon looks for it.
    fn put_in_place(&self) -> io::Result<()> {
        // By way of numbers that nobody wants: two of them may lie crosswise.
        let copy = |descriptor: BorrowedFd<'_>| fcntl_dupfd_cloexec(descriptor, self.end());
        let sockets = self.sockets.iter().map(|socket| copy(*socket));
        let sockets: Vec<OwnedFd> = sockets.collect::<Result<_, _>>()?;
        let line = |(line, number): &(OwnedFd, i32)| Ok(([copy(line.as_fd())?], *number));
        let lines: Vec<_> = self.lines.iter().map(line).collect::<io::Result<_>>()?;
        sys::put_in_place(&sockets, self.first)?;
        lines
            .iter()
            .try_for_each(|(line, number)| sys::put_in_place(line, *number))
    }

    /// A number beyond all of them.
    fn end(&self) -> i32 {
        let count = i32::try_from(self.sockets.len()).unwrap_or(i32::MAX);
        let lines = self
            .lines
            .iter()
            .map(|(_, number)| number.saturating_add(1));
        lines.fold(self.first.saturating_add(count), i32::max)
    }
}

fn cannot_pass(error: &io::Error) -> String {
    // A number beyond the limit is invalid to the kernel.
    let limited = [Errno::EINVAL, Errno::EMFILE].map(|errno| Some(errno as i32));
    let cause = if limited.contains(&error.raw_os_error()) {
        "there may be too few open files; raise the limit (ulimit -n)".to_owned()
    } else {
        crate::report::cause(error)
    };
    format!("cannot pass descriptors to the command: {cause}")
}

/// What the keeper says at the gate; and the first byte of the other word, behind which the status comes.
const GO: [u8; 2] = *b"go";
const NO: u8 = b'n';

/// The daemon, from the fork to its end. As a child it is not reaped before its end has been seen here, so
/// its PID names no stranger while this says that it lives (R18).
#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) identity: Identity,
    hold: Hold,
    /// `None`: it had gone before it could be looked at.
    view: Option<View>,
    /// Says whether the exec worked; `None` once that is known.
    gate: Option<OwnedFd>,
    ending: Option<Ending>,
}

/// By what it is held.
#[derive(Debug)]
enum Hold {
    /// It is a child, and not reaped.
    Child,
    /// It was the child of a keeper that was lost (R20). `None`: it has gone.
    Adopted(Option<Process>),
    /// The same; but the launcher has inherited it, and will say how it ended.
    Inherited(Option<Process>),
}

impl Daemon {
    /// Forks, and leaves the child waiting until [`Daemon::release`]: its identity is recorded
    /// before it is exec'ed (R5).
    pub(crate) fn fork(
        command: &Command,
        environment: &Environment,
        given: Given<'_>,
        mask: &SigSet,
    ) -> Result<Daemon> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .context("cannot make a socket pair")?;
        match sys::fork().context("cannot fork")? {
            ForkResult::Child => {
                drop(ours);
                become_daemon(command, environment, given, mask, theirs)
            }
            ForkResult::Parent { child } => {
                drop(theirs);
                let identity = Identity::of(child.as_raw())
                    .context("cannot read the daemon's start time in /proc")?;
                Ok(Daemon {
                    identity,
                    hold: Hold::Child,
                    view: Some(
                        View::open(identity.pid).context("cannot look at the daemon in /proc")?,
                    ),
                    gate: Some(ours),
                    ending: None,
                })
            }
        }
    }

    /// One whose keeper was lost, with this launcher (R20).
    pub(crate) fn adopt(identity: Identity, launcher: i32) -> io::Result<Daemon> {
        let process = identity.open()?;
        let parent = Stat::of(identity.pid).map(|stat| stat.parent);
        // Once it is reaped nobody can tell whose child it was; PID 1 inherits everybody.
        let inherited = launcher == 1 || parent.is_ok_and(|parent| parent == launcher);
        Ok(Daemon {
            identity,
            hold: if inherited {
                Hold::Inherited(process)
            } else {
                Hold::Adopted(process)
            },
            view: View::open(identity.pid).ok(),
            gate: None,
            ending: None,
        })
    }

    /// The launcher has reaped a process.
    pub(crate) fn reaped(&mut self, pid: i32, ending: Ending) -> Option<Ending> {
        let is_it = matches!(self.hold, Hold::Inherited(_)) && pid == self.pid();
        (is_it && self.ending.replace(ending).is_none()).then_some(ending)
    }

    /// Nobody will say any more how it ended.
    pub(crate) fn launcher_lost(&mut self) {
        if let Hold::Inherited(process) = &mut self.hold {
            self.hold = Hold::Adopted(process.take());
        }
    }

    /// Every descriptor by which it is held.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let process = match &self.hold {
            Hold::Child => None,
            Hold::Adopted(process) | Hold::Inherited(process) => process.as_ref(),
        };
        let held = [self.gate(), process.map(AsFd::as_fd)];
        let view = self.view.iter().map(AsFd::as_fd);
        held.into_iter().flatten().chain(view)
    }

    /// Readable when it has ended, where no signal says so.
    pub(crate) fn end(&self) -> Option<BorrowedFd<'_>> {
        match (&self.hold, self.ending) {
            (Hold::Adopted(Some(process)), None) => Some(process.as_fd()),
            _ => None,
        }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.identity.pid
    }

    /// A socket that it was given, of one whose keeper was lost (R20).
    pub(crate) fn fetch(&self, label: &Label) -> io::Result<Option<Handed>> {
        match &self.hold {
            Hold::Adopted(Some(process)) | Hold::Inherited(Some(process)) => fetch(process, label),
            Hold::Child | Hold::Adopted(None) | Hold::Inherited(None) => Ok(None),
        }
    }

    pub(crate) fn release(&self) -> Result<()> {
        if let Some(gate) = &self.gate {
            send(gate, &GO, SendFlags::NOSIGNAL).context("cannot start the daemon")?;
        }
        Ok(())
    }

    /// It shall not run: what waits at the gate ends with this status, or of the signal that it was sent.
    pub(crate) fn refuse(&self, status: u8) {
        if let Some(gate) = &self.gate {
            // Should it have gone already, that is its end, too.
            let _ = send(gate, &[NO, status], SendFlags::NOSIGNAL);
        }
    }

    /// It has been released, and what has become of its exec is known.
    pub(crate) fn is_executed(&self) -> bool {
        self.gate.is_none()
    }

    /// What to poll for [`Daemon::exec_failure`], while that is not known.
    pub(crate) fn gate(&self) -> Option<BorrowedFd<'_>> {
        self.gate.as_ref().map(AsFd::as_fd)
    }

    /// To be called when the gate is readable: one line if the command could not be run.
    pub(crate) fn exec_failure(&mut self) -> Option<String> {
        let gate = self.gate.take()?;
        let mut words = [0; 1024];
        match recv(&gate, &mut words, RecvFlags::DONTWAIT) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {
                self.gate = Some(gate);
                None
            }
            // The exec closed the other end; or what should have been the daemon died before that.
            Ok((0, _)) | Err(_) => None,
            Ok((length, _)) => Some(String::from_utf8_lossy(&words[..length]).into_owned()),
        }
    }

    /// What it would do with `signal` now. Until the exec nobody handles anything: the mask that
    /// would be seen there is ours.
    pub(crate) fn reception(&self, signal: Signal) -> Reception {
        match &self.view {
            Some(view) if self.gate.is_none() && self.ending.is_none() => {
                reception::of(self.pid(), view, signal)
            }
            _ => Reception::Unhandled,
        }
    }

    /// Whether it would act on `signal` by its own wish.
    pub(crate) fn hears(&self, signal: Signal) -> bool {
        let view = self.view.as_ref().filter(|_| self.ending.is_none());
        view.is_some_and(|view| reception::hears(self.pid(), view, signal))
    }

    pub(crate) fn send(&self, signal: Signal, value: Option<i32>) -> io::Result<()> {
        if self.ending.is_some() {
            return Ok(());
        }
        match (&self.hold, value) {
            (Hold::Child, None) => sys::kill_child(self.pid(), signal.number()),
            (Hold::Child, Some(value)) => sys::queue_to_child(self.pid(), signal.number(), value),
            (Hold::Adopted(process) | Hold::Inherited(process), _) => process
                .as_ref()
                .map_or(Ok(()), |process| process.send(signal)),
        }
    }

    /// To its whole process group; it leads one, with its session.
    pub(crate) fn send_to_group(&self, signal: Signal) -> io::Result<()> {
        if self.ending.is_some() {
            return Ok(());
        }
        match &self.hold {
            Hold::Child => sys::kill_group_of_child(self.pid(), signal.number()),
            Hold::Adopted(process) | Hold::Inherited(process) => process
                .as_ref()
                .map_or(Ok(()), |process| process.send_to_group(signal)),
        }
    }

    /// How it ended, the first time that this is known. A CHLD is only a hint to call it (R7).
    pub(crate) fn reap(&mut self) -> Option<Ending> {
        if self.ending.is_some() {
            return None;
        }
        match &self.hold {
            Hold::Child => {}
            Hold::Inherited(_) => return None,
            Hold::Adopted(process) => {
                let ended = process.as_ref().is_none_or(Process::has_ended);
                self.ending = ended.then_some(Ending::Unknown);
                return self.ending;
            }
        }
        let waited = waitpid(Pid::from_raw(self.pid()), WaitOptions::NOHANG);
        self.ending = match waited {
            Ok(None) => None,
            Ok(Some((_, status))) => Ending::from_wait(status),
            Err(rustix::io::Errno::INTR) => None,
            // Somebody else reaped it, which nobody should: it is gone all the same.
            Err(_) => Some(Ending::Exited(FAILED)),
        };
        self.ending
    }
}

/// The child's part. Everything that it holds of ours is closed by the exec.
fn become_daemon(
    command: &Command,
    environment: &Environment,
    given: Given<'_>,
    mask: &SigSet,
    gate: OwnedFd,
) -> ! {
    let own_pid = std::process::id() as i32;
    let environment = environment.for_daemon(own_pid);
    // A new child leads no process group, so this cannot fail.
    let _ = setsid();
    let mut word = [0; 2];
    let _ = rustix::io::retry_on_intr(|| recv(&gate, &mut word[..], RecvFlags::empty()));
    if word != GO {
        // It may have been told to end, which waits for this. Or the keeper died before it had recorded us
        // (R5): nobody would know of this daemon.
        let _ = mask.thread_set_mask();
        std::process::exit(match word {
            [NO, status] => status.into(),
            _ => FAILED,
        });
    }
    sys::restore_what_was_found();
    // The gate may lie where a socket belongs.
    let out_of_the_way = fcntl_dupfd_cloexec(&gate, given.end());
    let gate = out_of_the_way.unwrap_or(gate);
    let (status, words) = match given.put_in_place() {
        Ok(()) => {
            // From here on a signal acts as on any program that has just been started.
            let _ = mask.thread_set_mask();
            command.explain(command.exec(&environment))
        }
        Err(error) => (FAILED, cannot_pass(&error)),
    };
    let _ = send(&gate, words.as_bytes(), SendFlags::NOSIGNAL);
    std::process::exit(status)
}
