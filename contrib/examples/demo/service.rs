//! The service, a respawn loop for its supervisor, and everything that has to end in the end.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    os::{
        fd::OwnedFd,
        unix::{fs::MetadataExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::Sender,
    },
    thread,
    time::{Duration, Instant},
};

use nix::{fcntl::OFlag, unistd::pipe2};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{
    LIMIT, Outcome,
    pid_file::{self, PidFile},
    programs::Programs,
    status::{Seen, Watch},
};

/// What has lived less than this is started again only this much later, as runit does it.
const LEAST_AGE: Duration = Duration::from_secs(1);

/// To get ready takes milliseconds; but it may be the supervisor's next attempt that does, and the machine is busy.
const MENDING: Duration = Duration::from_secs(5);

/// What the supervisor starts next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Good,
    /// It exits before it is ready.
    Crashes,
    /// It never gets ready.
    Hangs,
}

#[derive(Debug)]
pub(crate) struct Service {
    programs: Programs,
    pub(crate) directory: PathBuf,
    state: Mutex<State>,
    /// The log's pipe is at its end (nobody is left who holds the other end), or it is to end.
    changed: Condvar,
    /// Start no more.
    ending: AtomicBool,
    ended: Mutex<Option<End>>,
}

#[derive(Debug)]
struct State {
    /// The launcher that runs now. By pidfd, which cannot come to mean another process.
    launcher: Option<OwnedFd>,
    /// Of whoever is started next.
    version: Version,
    /// Of whoever was started last.
    started: Version,
    gone: bool,
    /// Device and inode of the log's pipe.
    log: Option<(u64, u64)>,
}

/// How it all ended.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) outcome: Result<(), String>,
    pub(crate) log: String,
}

/// What is heard of the service.
#[derive(Debug)]
pub(crate) enum News {
    /// A launcher has left.
    Left { at: Instant, status: ExitStatus },
    /// A line of the log.
    Line(String),
}

impl Service {
    pub(crate) fn new(programs: Programs, directory: PathBuf) -> Self {
        Self {
            programs,
            directory,
            state: Mutex::new(State {
                launcher: None,
                version: Version::Good,
                started: Version::Good,
                // There is nobody yet.
                gone: true,
                log: None,
            }),
            changed: Condvar::new(),
            ending: AtomicBool::new(false),
            ended: Mutex::new(None),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    pub(crate) fn pid_file(&self) -> PathBuf {
        self.directory.join("app.pid")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join("app.sock")
    }

    /// From the next start on.
    pub(crate) fn deploy(&self, version: Version) {
        self.state().version = version;
    }

    pub(crate) fn due(&self) -> Version {
        self.state().version
    }

    /// Whether somebody is ready, and alive.
    pub(crate) fn serves(&self) -> bool {
        pid_file::named(&self.pid_file()).is_some_and(|pid| self.is_ours(pid))
    }

    /// Before a stop: whoever waits in the queue is to be answered, which takes a version that serves. Where one serves,
    /// it has nothing to do; and it does not try for ever.
    pub(crate) fn mend(&self) -> Outcome<()> {
        self.deploy(Version::Good);
        // First the watch, then the look.
        let pid_file = PidFile::watch(&self.directory)?;
        if self.serves() {
            return Ok(());
        }
        let started = self.state().started;
        if started != Version::Good {
            // It may hang for a while. Where there is none, the next one is on its way.
            self.signal(Signal::TERM).ok();
        }
        let served = pid_file.wait(MENDING, |pid| self.is_ours(pid));
        served.map(drop).ok_or_else(|| "nobody serves".into())
    }

    /// To the launcher, which is what a supervisor signals.
    pub(crate) fn signal(&self, signal: Signal) -> Outcome<()> {
        match &self.state().launcher {
            Some(launcher) => Ok(pidfd_send_signal(launcher, signal)?),
            None => Err("the launcher is not there".into()),
        }
    }

    /// Does what a supervisor does: starts the service whenever it is not there.
    ///
    /// Everything it starts has one pipe for its stderr. It carries the log; and launchers, keepers and daemons hold it to
    /// their end, so that end of file means that all of them have gone, the detached ones too.
    pub(crate) fn supervise(service: &Arc<Self>, news: Sender<News>) -> Outcome<()> {
        let (log, stderr) = pipe2(OFlag::O_CLOEXEC)?;
        let file = File::create(service.directory.join("log"))?;
        let log = File::from(log);
        let pipe = log.metadata()?;
        {
            let mut state = service.state();
            state.gone = false;
            state.log = Some((pipe.dev(), pipe.ino()));
        }
        let (reader, lines) = (Arc::clone(service), news.clone());
        thread::spawn(move || {
            keep(log, &file, &lines);
            reader.state().gone = true;
            reader.changed.notify_all();
        });
        let service = Arc::clone(service);
        thread::spawn(move || {
            loop {
                match service.start(&stderr, &news) {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(error) => {
                        news.send(News::Line(format!("demo: {error}"))).ok();
                        return;
                    }
                }
            }
        });
        Ok(())
    }

    /// Starts a launcher and waits for its end. `false`: no more.
    fn start(&self, stderr: &OwnedFd, news: &Sender<News>) -> Outcome<bool> {
        let mut state = self.state();
        if self.is_ending() {
            return Ok(false);
        }
        let began = Instant::now();
        let mut socket = OsString::from("http=");
        socket.push(self.socket());
        let mut launcher = Command::new(&self.programs.seamless_run)
            .arg("--pid-file")
            .arg(self.pid_file())
            .arg("--listen")
            .arg(socket)
            .args(["--ready-timeout", "2s", "--"])
            .args(self.command(state.version))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr.try_clone()?)
            // Ctrl-C is for the demo, which then ends the service in good order.
            .process_group(0)
            .spawn()?;
        state.launcher = Some(pidfd_open(Pid::from_child(&launcher), PidfdFlags::empty())?);
        state.started = state.version;
        drop(state);
        let status = launcher.wait()?;
        let at = Instant::now();
        let mut state = self.state();
        state.launcher = None;
        // Nobody listens any more when the demo is ending.
        news.send(News::Left { at, status }).ok();
        let pause = LEAST_AGE.saturating_sub(at - began);
        drop(
            self.changed
                .wait_timeout_while(state, pause, |_| !self.is_ending()),
        );
        Ok(true)
    }

    fn command(&self, version: Version) -> Vec<OsString> {
        let script = match version {
            Version::Good => return vec![self.programs.http_unix.clone().into()],
            Version::Crashes => {
                "sleep 0.3; echo 'new version: cannot read its configuration' >&2; exit 3"
            }
            Version::Hangs => {
                "echo 'new version: waits for a database that is not there' >&2; exec sleep 1000000"
            }
        };
        ["sh", "-c", script].map(OsString::from).into()
    }

    /// Whatever changes, for as long as it is kept.
    pub(crate) fn watch(
        &self,
        hear: impl FnMut(Vec<Seen>) -> bool + Send + 'static,
    ) -> Outcome<Watch> {
        Ok(Watch::start(
            &self.programs.seamless_run,
            &self.pid_file(),
            hear,
        )?)
    }

    /// KILLs one of the service's own processes, and waits for its end: when that was seen.
    pub(crate) fn kill(&self, pid: u32) -> Outcome<Instant> {
        let pid = Pid::from_raw(pid.try_into()?).ok_or("it has no PID")?;
        // First the pidfd, then the look: so it is this process that was looked at.
        let process = pidfd_open(pid, PidfdFlags::empty())?;
        if !self.is_ours(pid.as_raw_pid().unsigned_abs()) {
            return Err(format!("process {} is a stranger", pid.as_raw_pid()).into());
        }
        pidfd_send_signal(&process, Signal::KILL)?;
        super::wait_readable(&process, LIMIT);
        Ok(Instant::now())
    }

    /// Whether it is a process of the service, and lives.
    fn is_ours(&self, pid: u32) -> bool {
        let log = self.state().log;
        let process = PathBuf::from(format!("/proc/{pid}"));
        log.is_some_and(|log| has_stderr(&process, log))
    }

    /// Ends the service, waits until every process has gone, and removes the directory. Whoever comes second waits for
    /// the first.
    pub(crate) fn end(&self) -> End {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(end) = &*ended {
            return end.clone();
        }
        self.start_no_more();
        let mut outcome = Ok(());
        // INT is the signal for a stop. It ends every generation.
        let told = self.signal(Signal::INT).is_ok();
        let gone = if told {
            self.wait_until_gone()
        } else {
            self.state().gone
        };
        if !gone {
            // No launcher at this moment, or it is stuck: the verb finds the generations by the PID file.
            let stop = self.stop_verb().spawn();
            let gone = self.wait_until_gone();
            if let Ok(mut stop) = stop {
                // It has done its work, or never will.
                stop.kill().ok();
                stop.wait().ok();
            }
            if !gone {
                let killed = self.kill_all();
                outcome = Err(format!("{killed} processes did not end and were killed"));
                if !self.wait_until_gone() {
                    outcome = Err("some processes are still there".to_owned());
                }
            }
        }
        let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            outcome = Err(format!("{}: {error}", self.directory.display()));
        }
        ended.insert(End { outcome, log }).clone()
    }

    /// As `end`, from a thread that panics and may hold any of our locks.
    pub(crate) fn abandon(&self) {
        self.ending.store(true, Ordering::SeqCst);
        self.stop_verb().status().ok();
        fs::remove_dir_all(&self.directory).ok();
    }

    fn start_no_more(&self) {
        // Under the lock: whoever is about to start one has done so, or will see it.
        let state = self.state();
        self.ending.store(true, Ordering::SeqCst);
        drop(state);
        self.changed.notify_all();
    }

    fn stop_verb(&self) -> Command {
        let mut stop = Command::new(&self.programs.seamless_run);
        stop.arg("stop").arg(self.pid_file());
        stop.stdin(Stdio::null()).stdout(Stdio::null());
        stop.stderr(Stdio::null()).process_group(0);
        stop
    }

    fn wait_until_gone(&self) -> bool {
        let (state, _) = self
            .changed
            .wait_timeout_while(self.state(), LIMIT, |state| !state.gone)
            .unwrap_or_else(PoisonError::into_inner);
        state.gone
    }

    /// The last resort: whoever holds the log's pipe as its stderr has been started by us.
    fn kill_all(&self) -> usize {
        let Some(log) = self.state().log else {
            return 0;
        };
        let mut killed = 0;
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
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
            if has_stderr(&process.path(), log) && pidfd_send_signal(&pidfd, Signal::KILL).is_ok() {
                killed += 1;
            }
        }
        killed
    }
}

/// Whether this is the stderr of the process in this directory of /proc.
fn has_stderr(process: &Path, log: (u64, u64)) -> bool {
    fs::metadata(process.join("fd/2")).is_ok_and(|stderr| (stderr.dev(), stderr.ino()) == log)
}

/// To the file, line by line, and to whoever watches.
fn keep(log: File, mut file: &File, news: &Sender<News>) {
    for line in BufReader::new(log).split(b'\n') {
        let Ok(line) = line else { return };
        let line = String::from_utf8_lossy(&line).into_owned();
        // On a full disk the log is lost, and the rest is not.
        writeln!(file, "{line}").ok();
        news.send(News::Line(line)).ok();
    }
}
