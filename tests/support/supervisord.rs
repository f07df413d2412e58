//! supervisord and supervisorctl.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use super::service::write;
use super::{
    Kind, Log, Pid, Scratch, Service, Spawn, Spawned, Supervisor, Verb, marked, tool, wait_serving,
};

const PACKAGE: &str = "supervisor";

#[derive(Debug)]
pub(crate) struct Supervisord {
    mark: PathBuf,
    configuration: PathBuf,
    supervisord: Spawned,
}

impl Supervisord {
    pub(crate) fn start(scratch: &Scratch, log: &Log, service: &Service) -> Supervisord {
        service.refuse_finish("supervisord");
        let directory = scratch.join("supervisord");
        std::fs::create_dir_all(&directory).unwrap();
        let run = directory.join("run");
        write(&run, &service.run_script(scratch, log), 0o755);
        let socket = directory.join("socket");
        let configuration = directory.join("supervisord.conf");
        let text = format!(
            "[supervisord]
nodaemon=true
{user}
logfile={directory}/supervisord.log
pidfile={directory}/supervisord.pid
childlogdir={directory}
[unix_http_server]
file={socket}
[supervisorctl]
serverurl=unix://{socket}
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[program:app]
command={run}
autorestart=true
startsecs=0
redirect_stderr=true
stdout_logfile={directory}/app.out
{program}
",
            user = if nix::unistd::geteuid().is_root() {
                "user=root"
            } else {
                ""
            },
            directory = directory.display(),
            socket = socket.display(),
            run = run.display(),
            program = service.program_lines(),
        );
        write(&configuration, text.as_bytes(), 0o644);

        let program = tool("supervisord", PACKAGE);
        let supervisord = Spawn::new(scratch, program)
            .arg("-c")
            .arg(&configuration)
            .start();
        wait_serving(&supervisord, || UnixStream::connect(&socket).is_ok());
        Supervisord {
            mark: scratch.path().to_owned(),
            configuration,
            supervisord,
        }
    }

    /// Any supervisorctl command, such as `["signal", "TERM", "app"]`.
    pub(crate) fn ctl(&self, words: &[&str]) -> Spawn {
        Spawn::from(marked(tool("supervisorctl", PACKAGE), &self.mark))
            .arg("-c")
            .arg(&self.configuration)
            .args(words)
    }
}

impl Supervisor for Supervisord {
    fn kind(&self) -> Kind {
        Kind::Supervisord
    }

    fn command(&self, verb: Verb) -> Spawn {
        match verb {
            Verb::Restart => self.ctl(&["restart", "app"]),
            Verb::Down => self.ctl(&["stop", "app"]),
            Verb::Up => self.ctl(&["start", "app"]),
            Verb::Exit => self.ctl(&["shutdown"]),
            Verb::Signal(signal) => {
                let name = signal.as_str().trim_start_matches("SIG");
                self.ctl(&["signal", name, "app"])
            }
        }
    }

    fn say(&self, words: &[&str]) -> Spawn {
        self.ctl(words).arg("app")
    }

    fn shown_pid(&self) -> Option<Pid> {
        // The exit status is 1 while it is down, with the PID 0.
        let finished = self.ctl(&["pid", "app"]).finish();
        let pid: i32 = finished.stdout.trim().parse().ok()?;
        (pid > 0).then(|| Pid::from_raw(pid))
    }

    fn own_processes(&self) -> Vec<Pid> {
        vec![self.supervisord.pid()]
    }

    fn wait_exit(&mut self) {
        self.supervisord.wait();
    }

    fn shutdown(&mut self) {
        self.supervisord.kill();
    }
}

impl Drop for Supervisord {
    fn drop(&mut self) {
        self.shutdown();
    }
}
