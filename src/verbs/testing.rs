//! A service without its server: a directory, and a keeper that says what a test wants.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};

use super::Target;
use super::contact::{Heard, hear};
use crate::control::wire::State;
use crate::control::{Accepted, Connection, Listener, Message, Standing};
use crate::events;
use crate::files::Record;
use crate::process::Identity;

pub(super) struct Scene {
    pub(super) target: Target,
    _directory: tempfile::TempDir,
}

impl Scene {
    pub(super) fn new() -> Scene {
        let directory = tempfile::tempdir().unwrap();
        Scene {
            target: Target::new(&directory.path().join("app.pid")),
            _directory: directory,
        }
    }

    pub(super) fn whose(&self) -> String {
        self.target.files.whose().unwrap()
    }

    pub(super) fn listener(&self) -> Listener {
        Listener::open(&self.target.files.socket, &self.whose()).unwrap()
    }

    /// A keeper that is there when this returns.
    pub(super) fn keeper(
        &self,
        life: impl FnOnce(&mut Listener) + Send + 'static,
    ) -> JoinHandle<()> {
        let mut listener = self.listener();
        thread::spawn(move || life(&mut listener))
    }

    /// A bare daemon, in the record as the only one. `words` begin with its state.
    pub(super) fn daemon(&self, number: u32, words: &str) -> Daemon {
        let daemon = idler(Stdio::null());
        let identity = Identity::of(daemon.pid() as i32).unwrap();
        // Until it is exec'ed, it is a copy of us.
        let command = format!("/proc/{}/cmdline", daemon.pid());
        while !fs::read(&command).unwrap().starts_with(b"sleep") {
            thread::yield_now();
        }
        let record = format!(
            "{}last {number}\ngeneration {number} state={words} daemon={identity}\n",
            Record::of_this_boot().unwrap()
        );
        fs::write(&self.target.files.record, record).unwrap();
        daemon
    }
}

/// A bare daemon, which does not outlive its test.
pub(super) struct Daemon(Child);

impl Daemon {
    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// The signal that it died of.
    pub(super) fn signal(&mut self) -> Option<i32> {
        self.0.wait().unwrap().signal()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process that does nothing, and has this for its descriptor 0.
pub(super) fn idler(stdin: Stdio) -> Daemon {
    let mut command = Command::new("sleep");
    Daemon(command.arg("1000").stdin(stdin).spawn().unwrap())
}

impl Listener {
    pub(super) fn next(&mut self) -> Connection {
        loop {
            events::wait(&[self.as_fd()], None, None);
            if let Accepted::Caller(connection) = self.accept().unwrap() {
                return connection;
            }
        }
    }
}

/// The next question.
pub(super) fn read(connection: &Connection) -> Message {
    match hear(connection, None) {
        Heard::Message(message) => message,
        other => panic!("{other:?}"),
    }
}

/// A keeper that answers one question with that, and leaves.
pub(super) fn reply(mut listener: Listener, answers: Vec<Message>) -> JoinHandle<()> {
    thread::spawn(move || {
        let connection = listener.next();
        read(&connection);
        for answer in answers {
            connection.send(&answer).unwrap();
        }
    })
}

pub(super) fn state(generations: &[(u32, &str)]) -> Message {
    let standing = |(number, phase): &(u32, &str)| Standing {
        number: *number,
        phase: (*phase).to_owned(),
        ready: *phase != "starting",
        daemon: Identity::parse(&format!("{}:1", 4000 + number)),
        ..Standing::default()
    };
    Message::State(State {
        generations: generations.iter().map(standing).collect(),
        failure: None,
    })
}
