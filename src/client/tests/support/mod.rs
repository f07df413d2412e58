//! A daemon for the tests: the test binary starts itself again as one, and tells it by its standard input what to do. It
//! says by its standard output what came of it, and nothing waits on a clock.
#![allow(dead_code, reason = "each test file uses its own part of this")]

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, send};
use nix::unistd::{Pid, close};
use seamless_client::{Error, Request, Requests, Seamless};
use std::future::Future;
use std::io::{BufRead, BufReader, IoSliceMut, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;
use std::{env, fs, process};

/// A test that waits longer has failed. Nothing that succeeds ever waits for it.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// The daemon under test, killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    commands: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Daemon {
    /// Starts one without a launcher and waits until it has its handle.
    pub(crate) fn bare(variables: &[(&str, &str)]) -> Self {
        let mut command = itself("daemon");
        command.envs(variables.iter().copied());
        Self::up(command)
    }

    pub(crate) fn up(command: Command) -> Self {
        let daemon = Self::start(command);
        daemon.expect("up");
        daemon
    }

    pub(crate) fn start(mut command: Command) -> Self {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let commands = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            // The test harness has its own lines in between.
            for line in output.lines().map_while(Result::ok) {
                if let Some(said) = line.strip_prefix("@ ") {
                    if sender.send(said.to_owned()).is_err() {
                        return;
                    }
                }
            }
        });
        Daemon {
            child,
            commands,
            lines,
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// `PID:START`, as in the record.
    pub(crate) fn identity(&self) -> String {
        identity(self.child.id())
    }

    pub(crate) fn tell(&mut self, command: &str) -> &mut Self {
        writeln!(self.commands.as_mut().unwrap(), "{command}").unwrap();
        self
    }

    pub(crate) fn hear(&self) -> String {
        self.lines
            .recv_timeout(LIMIT)
            .expect("the daemon should have said something")
    }

    pub(crate) fn expect(&self, line: &str) {
        assert_eq!(self.hear(), line);
    }

    pub(crate) fn ask(&mut self, command: &str) -> String {
        self.tell(command).hear()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Which signal ends it. Its input stays open meanwhile: at its end it would leave by itself.
    pub(crate) fn ended_by(&mut self) -> Option<Signal> {
        let status = self.child.wait().unwrap();
        status
            .signal()
            .map(|number| Signal::try_from(number).unwrap())
    }

    /// Lets it leave by itself.
    pub(crate) fn leave(&mut self) -> ExitStatus {
        self.commands = None;
        self.child.wait().unwrap()
    }

    /// A line of `/proc/PID/status`, as the bits that it is.
    pub(crate) fn has_in_status(&self, field: &str, signal: Signal) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let bits = status
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(":\t"))
            .unwrap();
        u64::from_str_radix(bits, 16).unwrap() >> (signal as u32 - 1) & 1 == 1
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) fn identity(pid: u32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let start = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .nth(19)
        .unwrap()
        .to_owned();
    format!("{pid}:{start}")
}

/// This test binary, started as `role`, without any of our variables.
pub(crate) fn itself(role: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["daemon", "--exact", "--nocapture", "--test-threads=1"])
        .env("ROLE", role);
    for name in [
        "",
        "_PID_FILE",
        "_GENERATION",
        "_PREPARE_SIGNAL",
        "_DRAIN_SIGNAL",
    ] {
        command.env_remove(format!("SEAMLESS{name}"));
    }
    for name in [
        "NOTIFY_SOCKET",
        "LISTEN_FDS",
        "LISTEN_FDNAMES",
        "LISTEN_PID",
    ] {
        command.env_remove(name);
    }
    command
}

/// The test plays the keeper: a real abstract socket, real answers.
pub(crate) struct Keeper {
    socket: UnixDatagram,
    address: String,
}

/// A message, and where its answer goes.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) text: String,
    answer: Option<RawFd>,
}

impl Keeper {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "seamless-client-test-{}-{}",
            process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let socket =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        Keeper {
            socket,
            address: format!("@{name}"),
        }
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = itself("daemon");
        command.env("SEAMLESS", process::id().to_string());
        command
            .env("NOTIFY_SOCKET", &self.address)
            .env("SEAMLESS_GENERATION", "3");
        command
    }

    /// Starts the daemon under this keeper, and waits until it has its handle.
    pub(crate) fn launch(&self) -> Daemon {
        Daemon::up(self.command())
    }

    pub(crate) fn receive(&self) -> Message {
        let mut text = [0; 4096];
        let mut control = nix::cmsg_space!([RawFd; 4]);
        let mut buffer = [IoSliceMut::new(&mut text)];
        let socket = self.socket.as_raw_fd();
        let received = recvmsg::<()>(
            socket,
            &mut buffer,
            Some(&mut control),
            MsgFlags::MSG_CMSG_CLOEXEC,
        )
        .expect("a message");
        let length = received.bytes;
        let answer = received.cmsgs().unwrap().find_map(|message| {
            if let ControlMessageOwned::ScmRights(descriptors) = message {
                descriptors.first().copied()
            } else {
                None
            }
        });
        Message {
            text: String::from_utf8(text[..length].to_vec()).unwrap(),
            answer,
        }
    }

    pub(crate) fn expect(&self, text: &str) -> Message {
        let message = self.receive();
        assert_eq!(message.text, text);
        message
    }
}

impl Message {
    pub(crate) fn wants_an_answer(&self) -> bool {
        self.answer.is_some()
    }

    pub(crate) fn answer(mut self, words: &str) {
        let descriptor = self.answer.take().expect("a descriptor for the answer");
        send(descriptor, words.as_bytes(), MsgFlags::MSG_NOSIGNAL).unwrap();
        close(descriptor).unwrap();
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        if let Some(descriptor) = self.answer.take() {
            close(descriptor).unwrap();
        }
    }
}

/// A directory of its own, removed when dropped.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "seamless-client-{}-{}",
            process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Directory(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

pub(crate) fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// A whole executor.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// Waits on the descriptor until there is a request behind it.
pub(crate) fn next_of(requests: &Requests) -> Request {
    loop {
        let mut descriptors = [PollFd::new(requests.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut descriptors, PollTimeout::try_from(LIMIT).unwrap());
        assert_ne!(ready, Ok(0), "the descriptor never became readable");
        if let Some(request) = requests.try_next() {
            return request;
        }
    }
}

pub(crate) fn say(line: &str) {
    // A whole write, so that two threads do not mix; first a newline, since the harness leaves one out.
    let mut output = std::io::stdout().lock();
    output
        .write_all(format!("\n@ {line}\n").as_bytes())
        .unwrap();
    output.flush().unwrap();
}

pub(crate) fn outcome(result: Result<(), Error>) -> String {
    result.map_or_else(
        |error| format!("{:?}: {error}", error.kind()),
        |()| "ok".to_owned(),
    )
}

fn word(request: &Request) -> &'static str {
    match request {
        Request::Prepare(_) => "prepare",
        Request::Drain => "drain",
        _ => "unknown",
    }
}

fn handle() -> Result<Seamless, Error> {
    let number = |name: &str| {
        env::var(name)
            .ok()
            .map(|value| value.parse::<i32>().unwrap())
    };
    let mut builder = Seamless::builder();
    if let Ok(path) = env::var("PID_FILE") {
        builder = builder.pid_file(path);
    }
    if let Some(limit) = number("TIMEOUT") {
        builder = builder.timeout(Duration::from_millis(u64::try_from(limit).unwrap()));
    }
    if let Some(signal) = number("DRAIN") {
        builder = builder.drain_signal(signal);
    }
    if let Some(signal) = number("PREPARE") {
        builder = builder.prepare_signal(signal);
    }
    if env::var_os("WITHOUT_SIGNALS").is_some() {
        builder = builder.without_signals();
    }
    builder.build()
}

/// What the daemon does, command by command, until its standard input ends.
pub(crate) fn serve() {
    let seamless = match handle() {
        Ok(seamless) => seamless,
        Err(error) => {
            say(&outcome(Err(error)));
            process::exit(1);
        }
    };
    say("up");
    let mut seamless = Some(seamless);
    let mut token = None;
    let mut requests = None;
    for command in std::io::stdin().lines() {
        let command = command.unwrap();
        let (verb, rest) = command.split_once(' ').unwrap_or((&command, ""));
        if verb == "forget" {
            (seamless, requests) = (None, None);
            say("forgotten");
            continue;
        }
        let seamless = seamless.as_ref().unwrap();
        match verb {
            "who" => say(&format!(
                "{} {:?}",
                seamless.is_launched(),
                seamless.generation().map(u32::from)
            )),
            "started" => say(&outcome(seamless.started())),
            "started-by-many" => {
                let threads: Vec<_> = (0..8)
                    .map(|_| seamless.clone())
                    .map(|one| thread::spawn(move || one.started()))
                    .collect();
                let all_well = threads.into_iter().all(|one| one.join().unwrap().is_ok());
                say(&format!("{all_well}"));
            }
            "status" => say(&outcome(seamless.status(&rest.replace("\\n", "\n")))),
            "next" | "fd" => {
                let request = if verb == "next" {
                    seamless.next_request()
                } else {
                    next_of(requests.get_or_insert_with(|| seamless.requests().unwrap()))
                };
                say(word(&request));
                if let Request::Prepare(prepare) = request {
                    token = Some(prepare);
                }
            }
            "drop" => {
                drop(token.take());
                say("dropped");
            }
            "done" => say(&outcome(token.take().unwrap().done())),
            "wait" => {
                seamless.wait();
                say("drained");
            }
            "future" => {
                block_on(seamless.drain_requested());
                say("drained");
            }
            "inject" => say(&format!("{}", seamless.inject(rest.parse().unwrap()))),
            "callback" => {
                seamless.on_prepare(|| say("called"));
                say("registered");
            }
            "panicking-callback" => {
                seamless.on_prepare(|| panic!("the test wants it"));
                say("registered");
            }
            "threads" => {
                let tasks = fs::read_dir("/proc/self/task")
                    .unwrap()
                    .map(|task| task.unwrap().path().join("comm"));
                let ours = tasks
                    .filter(|comm| fs::read_to_string(comm).is_ok_and(|name| name == "seamless\n"));
                say(&format!("{}", ours.count()));
            }
            "environment-of-child" => {
                let mut env = Command::new("env");
                let output = seamless.scrub(&mut env).output().unwrap();
                let names = String::from_utf8(output.stdout).unwrap();
                let ours =
                    |line: &&str| line.starts_with("SEAMLESS") || line.starts_with("NOTIFY_SOCKET");
                say(&names.lines().filter(ours).collect::<Vec<_>>().join(" "));
            }
            other => panic!("{other:?} is no command of this daemon"),
        }
    }
    process::exit(0);
}
