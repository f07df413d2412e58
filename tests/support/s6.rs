//! s6: s6-svscan, its s6-supervise, and s6-svc.

use std::path::PathBuf;

use super::{
    Kind, Log, PATIENCE, Pid, Scratch, Service, Spawn, Spawned, Supervisor, Verb, has_reader,
    kill_marked, marked, marked_pids, tool, wait_serving,
};

const PACKAGE: &str = "s6";

#[derive(Debug)]
pub(crate) struct S6 {
    mark: PathBuf,
    scan: PathBuf,
    service: PathBuf,
    /// s6-svscan, or the s6-supervise that runs by itself.
    first: Spawned,
}

impl S6 {
    pub(crate) fn start(scratch: &Scratch, log: &Log, service: &Service) -> S6 {
        let svscan = Spawn::new(scratch, tool("s6-svscan", PACKAGE));
        S6::start_first(scratch, log, service, svscan.arg(scratch.join("s6")))
    }

    /// s6-supervise by itself: s6-svscan would start another one at once.
    pub(crate) fn start_without_svscan(scratch: &Scratch, log: &Log, service: &Service) -> S6 {
        let supervise = Spawn::new(scratch, tool("s6-supervise", PACKAGE));
        S6::start_first(scratch, log, service, supervise.arg(scratch.join("s6/app")))
    }

    fn start_first(scratch: &Scratch, log: &Log, service: &Service, first: Spawn) -> S6 {
        let scan = scratch.join("s6");
        let directory = scan.join("app");
        service.write_directory(&directory, scratch, log);
        let first = first.start();
        // What s6-svok does.
        wait_serving(&first, || has_reader(&directory.join("supervise/control")));
        S6 {
            mark: scratch.path().to_owned(),
            scan,
            service: directory,
            first,
        }
    }

    /// Writes the service directory anew; the next start finds it.
    pub(crate) fn install(&self, scratch: &Scratch, log: &Log, service: &Service) {
        service.write_directory(&self.service, scratch, log);
    }

    /// `s6-svscanctl FLAGS`, such as `-t`.
    pub(crate) fn svscanctl(&self, flags: &str) -> Spawn {
        Spawn::from(marked(tool("s6-svscanctl", PACKAGE), &self.mark))
            .arg(flags)
            .arg(&self.scan)
    }

    /// Any s6-svc flags for the service, such as `-o`.
    pub(crate) fn svc(&self, flags: &str) -> Spawn {
        Spawn::from(marked(tool("s6-svc", PACKAGE), &self.mark))
            .arg(flags)
            .arg(&self.service)
    }

    /// `s6-svwait`, with flags such as `-U`: until the service is ready.
    pub(crate) fn svwait(&self, flags: &str) -> Spawn {
        Spawn::from(marked(tool("s6-svwait", PACKAGE), &self.mark))
            .args([flags, "-t", &PATIENCE.as_millis().to_string()])
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
            Verb::Exit => return self.svscanctl("-t"),
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

    fn say(&self, words: &[&str]) -> Spawn {
        self.svc(&words.concat())
    }

    fn shown_pid(&self) -> Option<Pid> {
        // -1 while it is down.
        let pid: i32 = self.status("pid").parse().unwrap();
        (pid > 0).then(|| Pid::from_raw(pid))
    }

    fn own_processes(&self) -> Vec<Pid> {
        let mut own = marked_pids(&self.mark, "s6-supervise");
        own.push(self.first.pid());
        own
    }

    fn wait_exit(&mut self) {
        self.first.wait();
    }

    fn shutdown(&mut self) {
        // In this order: s6-svscan would start another s6-supervise.
        self.first.kill();
        kill_marked(&self.mark, "s6-supervise");
    }
}

impl Drop for S6 {
    fn drop(&mut self) {
        self.shutdown();
    }
}
