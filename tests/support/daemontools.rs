//! daemontools: supervise and svc.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{
    Kind, Log, Pid, Scratch, Service, Spawn, Spawned, Supervisor, Verb, has_reader,
    main_pid_in_status, marked, tool, wait_serving,
};

const PACKAGE: &str = "daemontools";

/// supervise sleeps for a second after each start, and heeds nothing meanwhile.
const DEAF: Duration = Duration::from_millis(1200);

/// TAI64N counts from here, ten seconds ahead of Unix time (supervise knows of no leap seconds since).
const TAI64_OF_UNIX_EPOCH: u64 = (1 << 62) + 10;

#[derive(Debug)]
pub(crate) struct Daemontools {
    mark: PathBuf,
    service: PathBuf,
    supervise: Spawned,
}

impl Daemontools {
    pub(crate) fn start(scratch: &Scratch, log: &Log, service: &Service) -> Daemontools {
        service.refuse_finish("daemontools");
        let directory = scratch.join("daemontools/app");
        service.write_directory(&directory, scratch, log);
        let program = tool("supervise", PACKAGE);
        let supervise = Spawn::new(scratch, program).arg(&directory).start();
        // What svok does.
        wait_serving(&supervise, || has_reader(&directory.join("supervise/ok")));
        Daemontools {
            mark: scratch.path().to_owned(),
            service: directory,
            supervise,
        }
    }

    /// Any svc flags for the service, such as `-o`. Not before [`Supervisor::settle`].
    pub(crate) fn svc(&self, flags: &str) -> Spawn {
        Spawn::from(marked(tool("svc", PACKAGE), &self.mark))
            .arg(flags)
            .arg(&self.service)
    }

    /// The service directory, with `supervise/status` in it.
    pub(crate) fn directory(&self) -> PathBuf {
        self.service.clone()
    }

    /// When the main process was started or ended: the TAI64N time at the head of `supervise/status`.
    fn changed(&self) -> Option<Duration> {
        let status = std::fs::read(self.service.join("supervise/status")).ok()?;
        let seconds = u64::from_be_bytes(status.get(..8)?.try_into().unwrap());
        let nanoseconds = u32::from_be_bytes(status.get(8..12)?.try_into().unwrap());
        let seconds = seconds.checked_sub(TAI64_OF_UNIX_EPOCH)?;
        Some(Duration::new(seconds, nanoseconds))
    }
}

impl Supervisor for Daemontools {
    fn kind(&self) -> Kind {
        Kind::Daemontools
    }

    fn command(&self, verb: Verb) -> Spawn {
        self.svc(match verb {
            Verb::Restart => "-t",
            Verb::Down => "-d",
            Verb::Up => "-u",
            Verb::Exit => "-dx",
            Verb::Signal(signal) => match signal.as_str() {
                "SIGTERM" => "-t",
                "SIGKILL" => "-k",
                "SIGHUP" => "-h",
                "SIGINT" => "-i",
                "SIGALRM" => "-a",
                "SIGSTOP" => "-p",
                "SIGCONT" => "-c",
                other => panic!("svc cannot send {other}"),
            },
        })
    }

    fn say(&self, words: &[&str]) -> Spawn {
        self.svc(&words.concat())
    }

    fn shown_pid(&self) -> Option<Pid> {
        main_pid_in_status(&self.service)
    }

    fn own_processes(&self) -> Vec<Pid> {
        vec![self.supervise.pid()]
    }

    fn wait_exit(&mut self) {
        self.supervise.wait();
    }

    /// The one sleep in the tests that no event can replace: what is sent within a second of a start is deferred,
    /// and two deferred commands arrive as one burst.
    fn settle(&self) {
        let Some(changed) = self.changed() else {
            return;
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        if let Some(left) = (changed + DEAF).checked_sub(now) {
            thread::sleep(left.min(DEAF));
        }
    }

    fn shutdown(&mut self) {
        self.supervise.kill();
    }
}

impl Drop for Daemontools {
    fn drop(&mut self) {
        self.shutdown();
    }
}
