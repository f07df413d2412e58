//! R6: no signal of ours harms a daemon that does not mean it for us, whatever it does with it and however it became
//! ready. Real programs: one in C that does with a signal what can be done, a Go program, a JVM, Node, Python.

mod drain;
mod prepare;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Instant;

use nix::sys::signal::Signal;

use crate::languages::go;
use crate::scene::python;
use crate::stage::{Stage, pid_in};
use crate::support::process::{self, Handle, Pid};
use crate::support::{PATIENCE, Spawn, Spawned, tool};

/// What a program would do with the signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listens {
    /// It takes it, holds it back or ignores it, by its own wish.
    Yes,
    /// Its runtime catches whatever there is.
    Runtime,
    /// It would die of it, or be in its way.
    No,
}

/// A program, which says `up PID`.
struct Program {
    /// How it is started, in sh.
    command: String,
    listens: Listens,
    /// Whether it says `got USR2`.
    says: bool,
    /// Whether it sleeps when it has said `up`.
    sleeps: bool,
}

impl Program {
    /// `program.c`.
    fn c(stage: &Stage, signal: &str, what: &str, listens: Listens) -> Program {
        let program = stage.scratch.join("program");
        if !program.exists() {
            Spawn::from(Command::new(tool("cc", "gcc")))
                .args(["-Wall", "-Wextra", "-Werror", "-pthread", "-o"])
                .args([&program, &beside("program.c")])
                .finish()
                .expect_success();
        }
        Program {
            command: format!("{} {signal} {what}", program.display()),
            listens,
            says: listens == Listens::Yes && !["ignores", "blocks"].contains(&what),
            sleeps: !["busy-signalfd", "main-gone"].contains(&what),
        }
    }

    fn go(stage: &Stage, words: &str) -> Program {
        Program::runtime(format!("{} {words}", go(stage, &beside("catches.go"))))
    }

    fn java(words: &str) -> Program {
        let java = tool("java", "default-jdk-headless");
        // The smallest one there is: it starts again and again.
        let few = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1";
        let source = beside("Catches.java");
        let (java, source) = (java.display(), source.display());
        Program::runtime(format!("{java} {few} {words} {source}"))
    }

    fn runtime(command: String) -> Program {
        Program {
            command,
            listens: Listens::Runtime,
            says: false,
            sleeps: false,
        }
    }

    fn node() -> Program {
        let code = "console.log('up', process.pid); setInterval(() => {}, 1e9)";
        Program {
            command: format!("{} -e \"{code}\"", tool("node", "nodejs").display()),
            listens: Listens::No,
            says: false,
            sleeps: false,
        }
    }

    fn python() -> Program {
        // In one piece, and the log is the keepers' too.
        let code = "import os, time; os.write(1, b'up %d\\n' % os.getpid()); time.sleep(1e6)";
        Program {
            command: format!("{} -c \"{code}\"", python().display()),
            listens: Listens::No,
            says: false,
            sleeps: false,
        }
    }
}

fn beside(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/harm")
        .join(name)
}

/// How a daemon becomes ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It does not.
    Silent,
    Notify,
    Listen,
    Descriptor,
    PidFile,
    Exec,
    After,
}

impl Way {
    const ALL: [Way; 7] = [
        Way::Silent,
        Way::Notify,
        Way::Listen,
        Way::Descriptor,
        Way::PidFile,
        Way::Exec,
        Way::After,
    ];

    /// What stands before the program's command, and the `--ready` for it.
    fn of(self, stage: &Stage) -> (String, Option<String>) {
        let python = python();
        let python = python.display();
        let own = stage.scratch.path().display();
        match self {
            Way::Silent => (String::new(), None),
            // `seamless-run notify` would speak our protocol.
            Way::Notify => (
                format!(
                    r#"{python} -c '
import os, socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.sendto(b"READY=1", "\0" + os.environ["NOTIFY_SOCKET"][1:])
'"#
                ),
                Some("notify".to_owned()),
            ),
            Way::Listen => (
                format!(
                    r#"{python} -c '
import signal, socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind("\0{own}/listens")
s.listen()
signal.pause()
' &"#
                ),
                Some(format!("listen:@{own}/listens")),
            ),
            Way::Descriptor => ("echo >&9; exec 9>&-".to_owned(), Some("fd:9".to_owned())),
            Way::PidFile => (
                format!("echo $$ >{own}/own.pid"),
                Some(format!("pid-file:{own}/own.pid")),
            ),
            Way::Exec => (String::new(), Some("exec:true".to_owned())),
            Way::After => (String::new(), Some("after:10ms".to_owned())),
        }
    }
}

/// A program under the launcher, up, and ready if it becomes that.
fn start(stage: &Stage, program: &Program, way: Way, options: &[&str]) -> (Spawned, Pid) {
    let (before, ready) = way.of(stage);
    // A JVM that crashes leaves a report where it is.
    let mut launcher = stage.seamless_run(options).directory(stage.scratch.path());
    if let Some(ready) = &ready {
        launcher = launcher.args(["--ready", ready]);
    }
    let code = format!("{before}\nexec {}", program.command);
    let launcher = launcher.arg("--").args(stage.sh(&code)).start();
    let up = stage.log.wait(|line| line.starts_with("up "));
    let daemon = pid_in(&up);
    if program.sleeps {
        while !all_sleep(daemon) {
            thread::yield_now();
        }
    }
    if ready.is_some() {
        stage
            .log
            .wait_seen(&format!("(pid {daemon}) is ready after"));
    }
    (launcher, daemon)
}

/// Every thread of it: one may be on its way to where it waits still.
fn all_sleep(daemon: Pid) -> bool {
    let threads = fs::read_dir(format!("/proc/{daemon}/task")).unwrap();
    let mut states = threads.map(|thread| {
        let status = fs::read_to_string(thread.unwrap().path().join("status"));
        status.unwrap_or_default()
    });
    states.all(|status| status.contains("\nState:\tS"))
}

/// As a whole: a process whose main thread has ended looks like a zombie.
fn lives(daemon: Pid) -> bool {
    Handle::open(daemon).is_some_and(|handle| !handle.wait_until(Instant::now()))
}

/// Ends what is there, by every generation's drain signal.
fn stop(stage: &Stage, daemon: Pid) {
    let handle = Handle::open(daemon).unwrap();
    Spawn::new(&stage.scratch, crate::support::program())
        .arg("stop")
        .arg(&stage.pid_file)
        .finish()
        .expect_success();
    assert!(handle.wait_until(Instant::now()));
}
