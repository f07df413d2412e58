//! A stage for held sockets: `listener.py` under the launcher, generations of it, and clients that wait.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::stage::{Stage, pid_in, tell};
use crate::support::process::{self, Handle, Pid};
use crate::support::{self, Finished, PATIENCE, Spawn, Spawned, tool};

/// nobody, who has no privileges.
pub(crate) const ORDINARY: u32 = 65534;
/// One of listener.py that accepts nobody.
pub(crate) const DEAF: &[(&str, &str)] = &[("SERVE", "0")];
pub(crate) const SERVES: &[(&str, &str)] = &[];
/// One that says that it is ready when it gets USR1, and accepts nobody.
pub(crate) const LATER: &[(&str, &str)] = &[("SERVE", "0"), ("STARTED", "usr1")];

/// A stage for `listener.py`, with a directory for its Unix sockets.
pub(crate) struct Scene {
    pub(crate) stage: Stage,
    pub(crate) directory: PathBuf,
    daemon: PathBuf,
    /// The launcher's user, if it is not root, and a program that he may run.
    pub(crate) user: Option<PathBuf>,
}

/// A generation under its launcher, and its keeper.
pub(crate) struct Generation {
    pub(crate) launcher: Spawned,
    pub(crate) keeper: Pid,
    pub(crate) daemon: Pid,
}

/// A socket as a daemon found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) name: String,
    /// As Python has it: a path, `@name`, or `127.0.0.1/80`.
    pub(crate) address: String,
    pub(crate) inode: String,
}

impl Scene {
    pub(crate) fn new() -> Scene {
        let stage = Stage::new();
        let directory = stage.scratch.join("sockets");
        fs::create_dir(&directory).unwrap();
        let daemon = stage.scratch.join("listener.py");
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        fs::copy(here.join("tests/listener.py"), &daemon).unwrap();
        fs::set_permissions(&daemon, Permissions::from_mode(0o644)).unwrap();
        Scene {
            stage,
            directory,
            daemon,
            user: None,
        }
    }

    /// The whole launcher, and so its daemon, is an ordinary user's.
    pub(crate) fn of_an_ordinary_user() -> Scene {
        let mut scene = Scene::new();
        let run = scene.stage.pid_file.parent().unwrap();
        for directory in [run, &scene.directory] {
            std::os::unix::fs::chown(directory, Some(ORDINARY), Some(ORDINARY)).unwrap();
        }
        scene.user = Some(scene.stage.program_for_all());
        scene
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// `--listen NAME=PATH` for a Unix socket of this scene.
    pub(crate) fn unix(&self, name: &str) -> String {
        format!("--listen={name}={}", self.path(name).display())
    }

    /// The launcher, with these options and more words to come.
    pub(crate) fn launcher(&self, options: &[&str]) -> Spawn {
        let Some(program) = &self.user else {
            return self.stage.seamless_run(options);
        };
        let user = ORDINARY.to_string();
        self.stage
            .spawn(tool("setpriv", "util-linux"))
            .args(["--reuid", &user, "--regid", &user, "--clear-groups"])
            .arg(program)
            .arg("--pid-file")
            .arg(&self.stage.pid_file)
            .args(options)
    }

    /// `listener.py` under the launcher, whether or not it will come up.
    pub(crate) fn spawn(&self, options: &[&str], environment: &[(&str, &str)]) -> Spawned {
        let mut run = self.launcher(options).arg("--").arg(python());
        for (name, value) in environment {
            run = run.env(name, value);
        }
        run.args(["-I", "-S"]).arg(&self.daemon).start()
    }

    /// The same, when the daemon is up.
    pub(crate) fn start(&self, options: &[&str], environment: &[(&str, &str)]) -> Generation {
        let launcher = self.spawn(options, environment);
        self.up(launcher)
    }

    /// The daemon of this launcher is up, whoever else was.
    pub(crate) fn up(&self, launcher: Spawned) -> Generation {
        let parent = |pid| process::Process::read(pid).map(|process| process.parent);
        let is_ours = |pid: Pid| parent(pid).and_then(parent) == Some(launcher.pid());
        let ours = |line: &str| line.starts_with("up ") && is_ours(pid_in(line));
        let daemon = pid_in(&self.stage.log.wait(ours));
        let keeper = parent(daemon).unwrap();
        Generation {
            launcher,
            keeper,
            daemon,
        }
    }

    /// One that serves: its predecessors have been told to drain.
    pub(crate) fn serving(&self, options: &[&str], environment: &[(&str, &str)]) -> Generation {
        let one = self.start(options, environment);
        self.wait_started(one.daemon);
        one
    }

    pub(crate) fn wait_started(&self, daemon: Pid) {
        self.stage.log.wait_seen(&format!("{daemon} is started ok"));
    }

    pub(crate) fn say_started(&self, daemon: Pid) {
        signal(daemon, Signal::SIGUSR1);
        self.wait_started(daemon);
    }

    /// Its launcher leaves, and it serves on.
    pub(crate) fn detach(&self, one: Generation) {
        one.launcher.signal(Signal::SIGTERM);
        let ended = one.launcher.finish();
        assert_eq!(ended.code(), Some(0), "{}", self.stage.log.listing());
    }

    /// The next one serves, and this one has ended.
    pub(crate) fn restart(
        &self,
        one: Generation,
        options: &[&str],
        environment: &[(&str, &str)],
    ) -> Generation {
        let daemon = one.daemon;
        self.detach(one);
        let next = self.serving(options, environment);
        process::wait_exit(daemon);
        next
    }

    /// What the daemon says that it was given, from fd 3 on.
    pub(crate) fn given(&self, daemon: Pid) -> Vec<Given> {
        let start = format!("{daemon} has ");
        let lines = self.stage.log.lines();
        let own = lines.iter().filter_map(|line| line.strip_prefix(&start));
        let given = own.map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let [_, name, _, _, address, inode] = words[..] else {
                panic!("{line}");
            };
            Given {
                name: name.to_owned(),
                address: address.to_owned(),
                inode: inode.to_owned(),
            }
        });
        given.collect()
    }

    /// Where the daemon's sockets are reached.
    pub(crate) fn places(&self, one: &Generation) -> Vec<Place> {
        let given = self.given(one.daemon);
        given.iter().map(|one| Place::of(&one.address)).collect()
    }

    pub(crate) fn verb(&self, words: &[&str]) -> Finished {
        self.verb_spawn(words).finish()
    }

    pub(crate) fn verb_spawn(&self, words: &[&str]) -> Spawn {
        Spawn::new(&self.stage.scratch, support::program())
            .args(words)
            .arg(&self.stage.pid_file)
    }

    pub(crate) fn status(&self) -> Value {
        let told = self.verb(&["status", "--json"]);
        serde_json::from_str(&told.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", told.stdout, told.stderr))
    }

    /// A final stop; nothing is left, and nobody is let in.
    pub(crate) fn stop(&self, one: Generation, places: &[Place]) {
        one.launcher.signal(Signal::SIGINT);
        let ended = one.launcher.finish();
        assert_eq!(ended.code(), Some(0), "{}", self.stage.log.listing());
        self.assert_nothing_left(places);
    }

    pub(crate) fn assert_nothing_left(&self, places: &[Place]) {
        let deadline = Instant::now() + PATIENCE;
        if let Err(left) = self.stage.scratch.only_by(deadline, |_| false) {
            let left = process::list(&left);
            panic!("these should have ended:{left}{}", self.listing());
        }
        let run = self.stage.pid_file.parent().unwrap();
        assert_eq!(names_in(run), ["app.pid.lock"], "{}", self.listing());
        assert_eq!(names_in(&self.directory), [""; 0], "{}", self.listing());
        for place in places {
            let refused = place.connect().err().map(|error| error.kind());
            let wanted = match place {
                Place::Tcp(_) => io::ErrorKind::ConnectionRefused,
                Place::Unix(_) => io::ErrorKind::NotFound,
            };
            assert_eq!(refused, Some(wanted), "{}", self.listing());
        }
    }

    pub(crate) fn listing(&self) -> String {
        self.stage.log.listing()
    }
}

pub(crate) fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Not one in a home directory, which other users cannot run.
pub(crate) fn python() -> PathBuf {
    let usual = PathBuf::from("/usr/bin/python3");
    if usual.is_file() {
        usual
    } else {
        tool("python3", "python3")
    }
}

pub(crate) fn signal(pid: Pid, signal: Signal) {
    let handle = Handle::open(pid).unwrap_or_else(|| panic!("{pid} is gone"));
    handle.signal(signal);
}

pub(crate) fn kill(pid: Pid) {
    signal(pid, Signal::SIGKILL);
    process::wait_exit(pid);
}

/// SIGSTOP, and its effect: there is no event for whoever is not the parent.
pub(crate) fn freeze(pid: Pid) {
    signal(pid, Signal::SIGSTOP);
    while !process::status_field(pid, "State").is_some_and(|state| state.starts_with('T')) {
        thread::yield_now();
    }
}

/// At once, as far as the two can tell: neither sees the other's end.
pub(crate) fn kill_both(one: &mut Generation) {
    freeze(one.keeper);
    one.launcher.kill();
    kill(one.keeper);
}

/// A port that nobody has. In a network of the test's own nobody else will take it, either.
pub(crate) fn free_port() -> u16 {
    let found = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    found.local_addr().unwrap().port()
}

/// Where clients go.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Place {
    pub(crate) fn of(address: &str) -> Place {
        if address.starts_with('/') {
            return Place::Unix(address.into());
        }
        let (host, port) = address.rsplit_once('/').unwrap();
        Place::Tcp(SocketAddr::new(
            host.parse().unwrap(),
            port.parse().unwrap(),
        ))
    }

    pub(crate) fn connect(&self) -> io::Result<Client> {
        Ok(match self {
            Place::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Client(Box::new(stream))
            }
            Place::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Client(Box::new(stream))
            }
        })
    }

    /// Connects, and is not refused.
    #[track_caller]
    pub(crate) fn wait_in(&self) -> Client {
        self.connect()
            .unwrap_or_else(|error| panic!("{self:?}: {error}"))
    }
}

/// A connection; it is in the queue until somebody accepts it.
pub(crate) struct Client(Box<dyn Read + Send>);

impl Client {
    /// Who accepted it: PID and generation.
    pub(crate) fn read(mut self) -> io::Result<(Pid, u32)> {
        let mut text = String::new();
        self.0.read_to_string(&mut text)?;
        let words: Vec<&str> = text.split_whitespace().collect();
        match words[..] {
            [pid, generation] => Ok((
                Pid::from_raw(pid.parse().unwrap()),
                generation.parse().unwrap(),
            )),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    #[track_caller]
    pub(crate) fn answered(self) -> (Pid, u32) {
        self.read()
            .unwrap_or_else(|error| panic!("a client that waited: {error}"))
    }
}

/// All of them are answered by this daemon.
#[track_caller]
pub(crate) fn assert_answered(clients: Vec<Client>, daemon: Pid) {
    for client in clients {
        assert_eq!(client.answered().0, daemon);
    }
}

/// Clients that come one after the other, all the time: one to each place.
pub(crate) struct Clients {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Tally>>,
}

#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) answered: usize,
    /// How often it came to what.
    pub(crate) failures: BTreeMap<String, usize>,
}

impl Clients {
    pub(crate) fn start(places: &[Place]) -> Clients {
        let over = Arc::new(AtomicBool::new(false));
        let threads = places
            .iter()
            .map(|place| {
                let (place, over) = (place.clone(), Arc::clone(&over));
                thread::spawn(move || come_and_go(&place, &over))
            })
            .collect();
        Clients { over, threads }
    }

    pub(crate) fn stop(mut self) -> Tally {
        self.over.store(true, Ordering::Relaxed);
        let mut sum = Tally::default();
        for thread in self.threads.drain(..) {
            let tally = thread.join().unwrap();
            sum.answered += tally.answered;
            for (failure, count) in tally.failures {
                *sum.failures.entry(failure).or_default() += count;
            }
        }
        sum
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

pub(crate) fn come_and_go(place: &Place, over: &AtomicBool) -> Tally {
    let mut tally = Tally::default();
    while !over.load(Ordering::Relaxed) {
        let outcome = match place.connect() {
            Ok(client) => client
                .read()
                .map_err(|error| format!("read: {:?}", error.kind())),
            Err(error) => Err(format!("connect: {:?}", error.kind())),
        };
        match outcome {
            Ok(_) => tally.answered += 1,
            Err(failure) => *tally.failures.entry(failure).or_default() += 1,
        }
        // The pace of a client, so that they leave the machine to those they ask.
        thread::sleep(Duration::from_millis(1));
    }
    tally
}

pub(crate) fn row(what: &str, outcome: &str) {
    tell(&format!("sockets | {what:<58} | {outcome}"));
}

/// `--listen` for a TCP and a Unix socket.
pub(crate) fn listen(scene: &Scene) -> [String; 2] {
    ["--listen=http=127.0.0.1:0".to_owned(), scene.unix("local")]
}

pub(crate) fn words(options: &[String]) -> Vec<&str> {
    options.iter().map(String::as_str).collect()
}
