//! A service under runsv, and its end: whatever was started for it is gone afterwards.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            ffi::OsStrExt,
            fs::{MetadataExt, OpenOptionsExt},
            process::CommandExt,
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{LIMIT, Outcome};

/// A daemon that does not end is killed by its keeper after `--stop-timeout`, 30 s: more than that.
const STOP_LIMIT: Duration = Duration::from_secs(40);

#[derive(Debug)]
pub(crate) struct Service {
    /// The service directory.
    directory: PathBuf,
    /// The stderr of everything that is started here, and so the mark to know it by.
    log: File,
    log_path: PathBuf,
    /// With seamless-run only.
    pid_file: Option<PathBuf>,
    runsv: Child,
    ended: bool,
}

impl Service {
    /// A file for the log, not a pipe: whoever writes to it never waits for us.
    pub(crate) fn start(
        directory: &Path,
        command: &[OsString],
        pid_file: Option<PathBuf>,
    ) -> Outcome<Self> {
        let service = directory.join("service");
        fs::create_dir_all(&service)?;
        let log_path = directory.join("log");
        let log = File::options().create(true).append(true).open(&log_path)?;
        let mut script = b"#!/bin/sh\nexec".to_vec();
        for word in command {
            script.push(b' ');
            script.extend(quoted(word));
        }
        script.push(b'\n');
        write_script(&service.join("run"), &script)?;
        let runsv = ours("runsv", &log)?.arg(&service).spawn()?;
        Ok(Self {
            directory: service,
            log,
            log_path,
            pid_file,
            runsv,
            ended: false,
        })
    }

    /// `sv restart`, which returns when the service runs again, or when it has waited for too long.
    pub(crate) fn restart(&self) -> Outcome<Verb> {
        let mut sv = ours("sv", &self.log)?;
        let seconds = LIMIT.as_secs().to_string();
        let sv = sv.args(["-w", &seconds, "restart"]).arg(&self.directory);
        Ok(Verb(sv.spawn()?))
    }

    /// Whether this generation has said that it is ready. (Without seamless-run there is nobody to say it to.)
    pub(crate) fn is_ready(&self, pid: u32) -> bool {
        let Some(pid_file) = &self.pid_file else {
            return true;
        };
        let text = fs::read_to_string(pid_file).unwrap_or_default();
        text.trim().parse() == Ok(pid)
    }

    /// runsv shows that it is down, for a second, after it has had something to say.
    pub(crate) fn has_failed_to_start(&self) -> bool {
        let down = fs::read_to_string(self.directory.join("supervise/stat"))
            .is_ok_and(|stat| stat.trim() == "down");
        down && self.log.metadata().is_ok_and(|log| log.len() > 0)
    }

    /// The first thing that was said.
    pub(crate) fn log_begin(&self) -> String {
        let log = self.log_text();
        log.lines().next().unwrap_or("it is silent").to_owned()
    }

    pub(crate) fn log_end(&self) -> String {
        let log = self.log_text();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(60);
        lines[from..].join("\n")
    }

    fn log_text(&self) -> String {
        let log = fs::read(&self.log_path).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Ends the supervisor, then every generation, and waits until all have gone.
    pub(crate) fn end(&mut self, seamless_run: &Path) -> Result<(), String> {
        self.ended = true;
        // Each step is taken, whatever became of the one before.
        let runsv = self.end_runsv().map_err(|error| format!("runsv: {error}"));
        let stop = match &self.pid_file {
            // What the launcher let go of would wait for a successor.
            Some(pid_file) => self.stop_generations(seamless_run, pid_file),
            None => Ok(()),
        };
        let stop = stop.map_err(|error| format!("seamless-run stop: {error}"));
        let gone = self.wait_until_gone();
        runsv.and(stop).and(gone)
    }

    /// TERM is `sv exit`: runsv sends TERM to the service, waits for it, and leaves.
    fn end_runsv(&mut self) -> Outcome<()> {
        let runsv = pidfd_open(Pid::from_child(&self.runsv), PidfdFlags::empty())?;
        pidfd_send_signal(&runsv, Signal::TERM).ok();
        if !wait_for_end(&runsv, LIMIT) {
            self.runsv.kill()?;
        }
        self.runsv.wait()?;
        Ok(())
    }

    fn stop_generations(&self, seamless_run: &Path, pid_file: &Path) -> Outcome<()> {
        let mut stop = ours(seamless_run, &self.log)?
            .arg("stop")
            .arg(pid_file)
            .spawn()?;
        let running = pidfd_open(Pid::from_child(&stop), PidfdFlags::empty())?;
        if !wait_for_end(&running, STOP_LIMIT) {
            stop.kill()?;
        }
        // Its status says whether there was anyone to stop. Who is still there is seen next.
        stop.wait()?;
        Ok(())
    }

    fn wait_until_gone(&self) -> Result<(), String> {
        let began = Instant::now();
        let mut killed = 0;
        loop {
            let left = self
                .marked()
                .map_err(|error| format!("who is left: {error}"))?;
            if left.is_empty() {
                break;
            }
            for process in left {
                if wait_for_end(&process, LIMIT.saturating_sub(began.elapsed())) {
                    continue;
                }
                if pidfd_send_signal(&process, Signal::KILL).is_ok() {
                    killed += 1;
                }
                if !wait_for_end(&process, LIMIT) {
                    return Err("a process outlives KILL".to_owned());
                }
            }
        }
        match killed {
            0 => Ok(()),
            _ => Err(format!("{killed} processes did not end and were killed")),
        }
    }

    /// Whoever has the log as its stderr has been started here.
    fn marked(&self) -> io::Result<Vec<OwnedFd>> {
        let log = self.log.metadata()?;
        let mut marked = Vec::new();
        for process in fs::read_dir("/proc")? {
            let process = process?;
            let id = process
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            let Some(pid) = id.and_then(Pid::from_raw) else {
                continue;
            };
            // First the pidfd, then the look: so it is this process that was looked at.
            let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else {
                continue;
            };
            let stderr = fs::metadata(process.path().join("fd/2"));
            if stderr.is_ok_and(|stderr| (stderr.dev(), stderr.ino()) == (log.dev(), log.ino())) {
                marked.push(pidfd);
            }
        }
        Ok(marked)
    }
}

impl Drop for Service {
    /// Only when an error came between start and end.
    fn drop(&mut self) {
        if !self.ended {
            self.end_runsv().ok();
            self.wait_until_gone().ok();
        }
    }
}

/// A verb of runit's, on its way.
#[derive(Debug)]
pub(crate) struct Verb(Child);

impl Verb {
    pub(crate) fn try_wait(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().ok().flatten()
    }
}

impl Drop for Verb {
    fn drop(&mut self) {
        // Mostly it has left.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn ours(program: impl AsRef<OsStr>, log: &File) -> io::Result<Command> {
    let mut command = Command::new(program);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.try_clone()?)
        // Ctrl-C is for the audit, which then ends the service in good order.
        .process_group(0);
    Ok(command)
}

fn write_script(path: &Path, script: &[u8]) -> io::Result<()> {
    let mut file = File::options()
        .create_new(true)
        .write(true)
        .mode(0o755)
        .open(path)?;
    io::Write::write_all(&mut file, script)
}

/// For sh.
fn quoted(word: &OsStr) -> Vec<u8> {
    let mut quoted = b"'".to_vec();
    for byte in word.as_bytes() {
        match byte {
            b'\'' => quoted.extend_from_slice(b"'\\''"),
            byte => quoted.push(*byte),
        }
    }
    quoted.push(b'\'');
    quoted
}

/// A pidfd can be read when its process has ended.
fn wait_for_end(process: &OwnedFd, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(
            &mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)],
            timeout,
        ) {
            Ok(0) | Err(Errno::EINTR) if left.is_zero() => return false,
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return true,
            Err(_) => return false,
        }
    }
}
