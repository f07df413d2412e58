//! s6: s6-svscan, its s6-supervise, and s6-svc.

use std::path::PathBuf;
use std::time::Instant;

use nix::sys::signal::Signal;

use super::process::Handle;
use super::scratch::processes_of;
use super::{
    Kind, Log, PATIENCE, Pid, Scratch, Service, Spawn, Spawned, Supervisor, Verb, has_reader,
    marked, tool, wait_serving,
};

const PACKAGE: &str = "s6";

#[derive(Debug)]
pub(crate) struct S6 {
    mark: PathBuf,
    scan: PathBuf,
    service: PathBuf,
    svscan: Spawned,
}

impl S6 {
    pub(crate) fn start(scratch: &Scratch, log: &Log, service: &Service) -> S6 {
        let scan = scratch.join("s6");
        let directory = scan.join("app");
        service.write_directory(&directory, scratch, log);
        let program = tool("s6-svscan", PACKAGE);
        let svscan = Spawn::new(scratch, program).arg(&scan).start();
        // What s6-svok does.
        wait_serving(&svscan, || has_reader(&directory.join("supervise/control")));
        S6 {
            mark: scratch.path().to_owned(),
            scan,
            service: directory,
            svscan,
        }
    }

    /// Any s6-svc flags for the service, such as `-o`.
    pub(crate) fn svc(&self, flags: &str) -> Spawn {
        Spawn::from(marked(tool("s6-svc", PACKAGE), &self.mark))
            .arg(flags)
            .arg(&self.service)
    }

    /// One field of s6-svstat, such as `ready` or `wantedup`.
    pub(crate) fn status(&self, field: &str) -> String {
        let svstat = Spawn::from(marked(tool("s6-svstat", PACKAGE), &self.mark));
        let finished = svstat.args(["-o", field]).arg(&self.service).finish();
        finished.expect_success().stdout.trim().to_owned()
    }

    /// The service directory, with `supervise/status` in it.
    pub(crate) fn directory(&self) -> PathBuf {
        self.service.clone()
    }

    fn supervises(&self) -> Vec<Pid> {
        let ours = processes_of(&self.mark).into_iter();
        ours.filter(|process| process.comm == "s6-supervise")
            .map(|process| process.pid)
            .collect()
    }
}

impl Supervisor for S6 {
    fn kind(&self) -> Kind {
        Kind::S6
    }

    fn command(&self, verb: Verb) -> Spawn {
        self.svc(match verb {
            Verb::Restart => "-r",
            Verb::Down => "-d",
            Verb::Up => "-u",
            Verb::Exit => {
                let svscanctl = tool("s6-svscanctl", PACKAGE);
                return Spawn::from(marked(svscanctl, &self.mark))
                    .arg("-t")
                    .arg(&self.scan);
            }
            Verb::Signal(signal) => match signal.as_str() {
                "SIGTERM" => "-t",
                "SIGKILL" => "-k",
                "SIGHUP" => "-h",
                "SIGINT" => "-i",
                "SIGQUIT" => "-q",
                "SIGALRM" => "-a",
                "SIGUSR1" => "-1",
                "SIGUSR2" => "-2",
                "SIGSTOP" => "-p",
                "SIGCONT" => "-c",
                "SIGWINCH" => "-y",
                other => panic!("s6-svc cannot send {other}"),
            },
        })
    }

    fn shown_pid(&self) -> Option<Pid> {
        // -1 while it is down.
        let pid: i32 = self.status("pid").parse().unwrap();
        (pid > 0).then(|| Pid::from_raw(pid))
    }

    fn own_processes(&self) -> Vec<Pid> {
        let mut own = self.supervises();
        own.push(self.svscan.pid());
        own
    }

    fn wait_exit(&mut self) {
        self.svscan.wait();
    }

    fn shutdown(&mut self) {
        // In this order: s6-svscan would start another s6-supervise.
        self.svscan.kill();
        for handle in self.supervises().into_iter().filter_map(Handle::open) {
            handle.signal(Signal::SIGKILL);
            handle.wait_until(Instant::now() + PATIENCE);
        }
    }
}

impl Drop for S6 {
    fn drop(&mut self) {
        self.shutdown();
    }
}
