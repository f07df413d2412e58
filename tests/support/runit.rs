//! runit: runsv and sv.

use std::path::PathBuf;

use super::{
    Kind, Log, Pid, Scratch, Service, Spawn, Spawned, Supervisor, Verb, has_reader, kill_marked,
    main_pid_in_status, marked, marked_pids, tool, wait_serving,
};

const PACKAGE: &str = "runit";

#[derive(Debug)]
pub(crate) struct Runit {
    mark: PathBuf,
    service: PathBuf,
    /// runsv, or the runsvdir above it.
    first: Spawned,
}

impl Runit {
    pub(crate) fn start(scratch: &Scratch, log: &Log, service: &Service) -> Runit {
        let runsv = Spawn::new(scratch, tool("runsv", PACKAGE));
        Runit::start_first(scratch, log, service, runsv.arg(scratch.join("runit/app")))
    }

    /// As a machine does it: one runsvdir, which starts a runsv for each service.
    pub(crate) fn start_with_runsvdir(scratch: &Scratch, log: &Log, service: &Service) -> Runit {
        let runsvdir = Spawn::new(scratch, tool("runsvdir", PACKAGE));
        Runit::start_first(scratch, log, service, runsvdir.arg(scratch.join("runit")))
    }

    fn start_first(scratch: &Scratch, log: &Log, service: &Service, first: Spawn) -> Runit {
        let directory = scratch.join("runit/app");
        service.write_directory(&directory, scratch, log);
        let first = first.start();
        // The FIFO that sv looks at; it stays when runsv is killed, but then it has no reader.
        wait_serving(&first, || has_reader(&directory.join("supervise/ok")));
        Runit {
            mark: scratch.path().to_owned(),
            service: directory,
            first,
        }
    }

    /// Any sv command for the service, such as `["-w", "1", "force-restart"]`.
    pub(crate) fn sv(&self, words: &[&str]) -> Spawn {
        Spawn::from(marked(tool("sv", PACKAGE), &self.mark))
            .args(words)
            .arg(&self.service)
    }

    /// The service directory, with `supervise/status` in it.
    pub(crate) fn directory(&self) -> PathBuf {
        self.service.clone()
    }
}

impl Supervisor for Runit {
    fn kind(&self) -> Kind {
        Kind::Runit
    }

    fn command(&self, verb: Verb) -> Spawn {
        self.sv(&[match verb {
            // It gives up after 7 s by itself, and a busy machine may need more.
            Verb::Restart => return self.sv(&["-w", "60", "restart"]),
            Verb::Down => "down",
            Verb::Up => "up",
            Verb::Exit => "exit",
            Verb::Signal(signal) => match signal.as_str() {
                "SIGTERM" => "term",
                "SIGKILL" => "kill",
                "SIGHUP" => "hup",
                "SIGINT" => "interrupt",
                "SIGQUIT" => "quit",
                "SIGALRM" => "alarm",
                "SIGUSR1" => "1",
                "SIGUSR2" => "2",
                "SIGSTOP" => "pause",
                "SIGCONT" => "cont",
                other => panic!("sv cannot send {other}"),
            },
        }])
    }

    fn say(&self, words: &[&str]) -> Spawn {
        self.sv(words)
    }

    fn shown_pid(&self) -> Option<Pid> {
        main_pid_in_status(&self.service)
    }

    fn own_processes(&self) -> Vec<Pid> {
        let mut own = marked_pids(&self.mark, "runsv");
        own.push(self.first.pid());
        own
    }

    fn wait_exit(&mut self) {
        self.first.wait();
    }

    fn shutdown(&mut self) {
        // In this order: runsvdir would start another runsv.
        self.first.kill();
        kill_marked(&self.mark, "runsv");
    }
}

impl Drop for Runit {
    fn drop(&mut self) {
        self.shutdown();
    }
}
