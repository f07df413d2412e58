//! A process that the test starts itself.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use nix::libc;
use nix::sys::signal::Signal;

use super::process::{self, Handle, Identity, Pid};
use super::{Log, PATIENCE, Scratch};

/// A process to be started. Unless told otherwise it reads /dev/null, and what it writes is kept for [`Finished`].
#[derive(Debug)]
pub(crate) struct Spawn {
    command: Command,
    stdout: Option<Stdio>,
    stderr: Option<Stdio>,
    descriptors: Vec<(RawFd, OwnedFd)>,
}

impl Spawn {
    /// A program with the mark of `scratch`.
    pub(crate) fn new(scratch: &Scratch, program: impl AsRef<OsStr>) -> Spawn {
        Spawn::from(super::marked(program, scratch.path()))
    }

    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Spawn {
        self.command.arg(argument);
        self
    }

    pub(crate) fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Spawn {
        self.command.args(arguments);
        self
    }

    pub(crate) fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Spawn {
        self.command.env(name, value);
        self
    }

    pub(crate) fn env_remove(mut self, name: impl AsRef<OsStr>) -> Spawn {
        self.command.env_remove(name);
        self
    }

    pub(crate) fn directory(mut self, directory: impl AsRef<Path>) -> Spawn {
        self.command.current_dir(directory);
        self
    }

    pub(crate) fn stdin(mut self, stdin: impl Into<Stdio>) -> Spawn {
        self.command.stdin(stdin);
        self
    }

    pub(crate) fn stdout(mut self, stdout: impl Into<Stdio>) -> Spawn {
        self.stdout = Some(stdout.into());
        self
    }

    pub(crate) fn stderr(mut self, stderr: impl Into<Stdio>) -> Spawn {
        self.stderr = Some(stderr.into());
        self
    }

    /// Both stdout and stderr go to the log.
    pub(crate) fn output_to(self, log: &Log) -> Spawn {
        self.stdout(log.writer()).stderr(log.writer())
    }

    /// The process inherits `descriptor` as `number`, from 3.
    pub(crate) fn descriptor(mut self, number: RawFd, descriptor: impl Into<OwnedFd>) -> Spawn {
        assert!((3..LOWEST_COPY).contains(&number), "descriptor {number}");
        self.descriptors.push((number, descriptor.into()));
        self
    }

    pub(crate) fn start(self) -> Spawned {
        let Spawn {
            mut command,
            stdout,
            stderr,
            descriptors,
        } = self;
        let written = [tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap()];
        let keep = |file: &File| Stdio::from(file.try_clone().unwrap());
        command.stdout(stdout.unwrap_or_else(|| keep(&written[0])));
        command.stderr(stderr.unwrap_or_else(|| keep(&written[1])));
        // A signal to its process group must not reach the test, nor one to the test's reach it.
        command.process_group(0);
        if !descriptors.is_empty() {
            inherit(&mut command, &descriptors);
        }
        let line = format!("{command:?}");
        match command.spawn() {
            Ok(child) => Spawned {
                line,
                child,
                written,
            },
            Err(error) => panic!("{line}: {error}"),
        }
    }

    /// Runs it to its end.
    pub(crate) fn finish(self) -> Finished {
        self.start().finish()
    }
}

impl From<Command> for Spawn {
    fn from(mut command: Command) -> Spawn {
        command.stdin(Stdio::null());
        Spawn {
            command,
            stdout: None,
            stderr: None,
            descriptors: Vec::new(),
        }
    }
}

/// Where the copies of descriptors to be inherited begin: above every number that is asked for.
const LOWEST_COPY: RawFd = 200;

#[expect(
    unsafe_code,
    reason = "std has no other way to hand a descriptor to a child under a chosen number"
)]
fn inherit(command: &mut Command, descriptors: &[(RawFd, OwnedFd)]) {
    // High copies first, or the first of two could be put over the second.
    let copies: Vec<(RawFd, OwnedFd)> = descriptors
        .iter()
        .map(|(number, descriptor)| {
            let copy = rustix::io::fcntl_dupfd_cloexec(descriptor, LOWEST_COPY);
            (*number, copy.unwrap())
        })
        .collect();
    // SAFETY: between fork and exec the closure does nothing but dup2, which is async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            for (number, copy) in &copies {
                if libc::dup2(copy.as_raw_fd(), *number) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
}

/// A child of the test. It is KILLed and reaped when dropped.
#[derive(Debug)]
pub(crate) struct Spawned {
    line: String,
    child: Child,
    written: [File; 2],
}

impl Spawned {
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap())
    }

    pub(crate) fn identity(&self) -> Identity {
        process::identity(self.pid()).expect("it has not been reaped")
    }

    pub(crate) fn alive(&self) -> bool {
        process::alive(self.pid())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // Nobody but we can reap it, so the number is still its own, if only as a zombie.
        if let Some(handle) = Handle::open(self.pid()) {
            handle.signal(signal);
        }
    }

    /// Waits for its end; panics if it does not come within a minute.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        if let Some(handle) = Handle::open(self.pid()) {
            let ended = handle.wait_until(Instant::now() + PATIENCE);
            assert!(ended, "it did not end: {}", self.describe());
        }
        self.child.wait().unwrap()
    }

    /// Waits for its end, and takes what it has written.
    pub(crate) fn finish(mut self) -> Finished {
        let status = self.wait();
        Finished {
            status,
            stdout: read_again(&self.written[0]),
            stderr: read_again(&self.written[1]),
            line: self.line.clone(),
        }
    }

    /// KILLs and reaps it; if it has ended already, that changes nothing.
    pub(crate) fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// Its command line and what it has written, for panics.
    pub(crate) fn describe(&self) -> String {
        let [stdout, stderr] = self.written.each_ref().map(read_again);
        format!("{}\n{stdout}{stderr}", self.line)
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        self.kill();
    }
}

/// All of a file that a child writes, without moving the file offset, which the child shares.
fn read_again(file: &File) -> String {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let mut again = File::open(path).unwrap();
    let mut bytes = Vec::new();
    again.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What became of a process.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    line: String,
}

impl Finished {
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    pub(crate) fn signal(&self) -> Option<Signal> {
        let number = self.status.signal()?;
        Some(Signal::try_from(number).unwrap())
    }

    /// Panics unless the exit status is 0.
    #[track_caller]
    pub(crate) fn expect_success(self) -> Finished {
        assert!(
            self.status.success(),
            "{}: {}\n{}{}",
            self.line,
            self.status,
            self.stdout,
            self.stderr
        );
        self
    }
}
