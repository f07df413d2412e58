//! The service of the trials, and its supervisor.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    fcntl::OFlag,
    sys::{signal::Signal, stat::Mode},
    unistd::mkfifo,
};

use super::{
    load::{SlowSpec, Target},
    plan::Plan,
    requests::Requests,
    support::{
        self, Daemontools, Kind, Log, Pid, Runit, S6, Scratch, Spawned, Supervisor, Systemd,
        process::{self, Handle},
    },
    table::Row,
    verbs::{self, Way},
};

/// For what takes milliseconds when all is well, and some seconds where a supervisor is slow or a request is.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
const PORT: u16 = 18080;

/// systemd's unit as it is shipped; what is of the trials is in another file beside it.
const UNIT: &str = include_str!("../../systemd/app.service");

/// What the run script does first. Between the exit of one launcher and the start of the next there is time then.
const GATE: &str =
    r#"if [ -e "$SCRIPTS/gate" ]; then echo "at the gate"; read -r _ <"$SCRIPTS/gate.fifo"; fi"#;

/// What a new version does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Good,
    Crashing,
    /// It never gets ready.
    Silent,
}

pub(crate) struct Service {
    pub(crate) kind: Kind,
    pub(crate) log: Log,
    /// It is dropped before the directory.
    supervisor: Option<Box<dyn Supervisor>>,
    /// Verbs that wait for what they want; they are not waited for.
    verbs: Vec<Spawned>,
    target: Target,
    pub(crate) requests: Requests,
    /// The last start is told from this line of the log on.
    up_from: usize,
    options: Vec<String>,
    scripts: PathBuf,
    gate: File,
    scratch: Scratch,
}

impl Service {
    /// Nobody serves yet, or somebody is about to.
    pub(crate) fn start(kind: Kind, rate: u32, plan: &Plan, trial: usize) -> Service {
        Service::start_with(kind, rate, &[], plan.next_end(trial))
    }

    /// With these options of seamless-run as well.
    pub(crate) fn start_with(
        kind: Kind,
        rate: u32,
        options: &[&str],
        next_end: Option<Way>,
    ) -> Service {
        let scratch = Scratch::new();
        let log = Log::new(&scratch, "log");
        let scripts = scratch.join("scripts");
        must(fs::create_dir(&scripts));
        must(fs::create_dir(scratch.join("run")));
        let fifo = scripts.join("gate.fifo");
        must(mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).map_err(io::Error::from));
        // For reading too: opening does not wait for a reader, and what is written there does not wait for one either.
        let gate = File::options()
            .read(true)
            .write(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(&fifo);
        let target = target(kind, &scratch);
        let mut service = Service {
            kind,
            log,
            supervisor: None,
            verbs: Vec::new(),
            requests: Requests::new(target.clone(), slow(kind), rate),
            target,
            up_from: 0,
            options: options.iter().map(|word| (*word).to_owned()).collect(),
            scripts,
            gate: must(gate),
            scratch,
        };
        service.deploy(Version::Good);
        service.start_supervisor(next_end);
        service
    }

    /// The next daemon is of this version.
    pub(crate) fn deploy(&self, version: Version) {
        let code = match version {
            Version::Good => format!("exec {}", support::example(self.example()).display()),
            Version::Crashing => "exit 1".to_owned(),
            Version::Silent => {
                "echo \"silent $SEAMLESS_GENERATION\"\nexec sleep 1000000".to_owned()
            }
        };
        let beside = self.scripts.join("new");
        must(fs::write(&beside, format!("{code}\n")));
        must(fs::rename(&beside, self.scripts.join("version")));
    }

    /// The supervisor is started anew, with the service wanted up.
    pub(crate) fn start_supervisor(&mut self, next_end: Option<Way>) {
        self.supervisor = None;
        self.up_from = self.log.length();
        let (scratch, log) = (&self.scratch, &self.log);
        let program = support::program();
        let pid_file = match self.kind {
            Kind::Systemd => PathBuf::from("%t/app/app.pid"),
            _ => self.pid_file(),
        };
        let mut argv = vec![
            program.to_string_lossy().into_owned(),
            "--pid-file".to_owned(),
            pid_file.to_string_lossy().into_owned(),
            "--listen".to_owned(),
            format!("http={}", self.address()),
            // Long enough to be seen where somebody relies on it, and too long to be taken for a reading of the wish.
            "--orphan-timeout=8s".to_owned(),
        ];
        argv.extend_from_slice(&self.options);
        let version = self.scripts.join("version");
        argv.extend(["--", "/bin/sh"].map(str::to_owned));
        argv.push(version.to_string_lossy().into_owned());
        if self.kind == Kind::Systemd {
            let systemd = Systemd::boot(scratch);
            let unit = UNIT.replace("/usr/local/bin/seamless-run", &program.to_string_lossy());
            systemd.write_unit("app.service", &unit);
            systemd.write_unit("app.service.d/trials.conf", &self.drop_in(&argv));
            self.supervisor = Some(Box::new(systemd));
            self.say_up();
            return;
        }
        let service = support::Service::new(argv)
            .env("SCRIPTS", &self.scripts)
            .setup(GATE);
        self.supervisor = Some(match (self.kind, next_end) {
            (Kind::Runit, Some(Way::SignalTo("runsvdir"))) => {
                Box::new(Runit::start_with_runsvdir(scratch, log, &service))
            }
            (Kind::Daemontools, _) => Box::new(Daemontools::start(scratch, log, &service)),
            (Kind::S6, Some(Way::SignalTo(_))) => {
                Box::new(S6::start_without_svscan(scratch, log, &service))
            }
            (Kind::S6, _) => Box::new(S6::start(scratch, log, &service)),
            _ => Box::new(Runit::start(scratch, log, &service)),
        });
    }

    fn drop_in(&self, argv: &[String]) -> String {
        let gate = self.scripts.join("gate.sh");
        must(fs::write(&gate, format!("{GATE}\n")));
        format!(
            "[Service]\nExecStart=\nExecStart={}\nExecStartPre=\nExecStartPre=/bin/sh {}\nEnvironment=SCRIPTS={}\nEnvironment={}={}\nStandardOutput=append:{}\nStandardError=inherit\n",
            argv.join(" "),
            gate.display(),
            self.scripts.display(),
            support::scratch::VARIABLE,
            self.scratch.path().display(),
            self.log.path().display(),
        )
    }

    /// More lines for the unit, until there are others; systemd only.
    pub(crate) fn vary_unit(&self, lines: &str) {
        let path = self
            .scratch
            .join("systemd/units/app.service.d/variant.conf");
        must(fs::write(path, format!("[Service]\n{lines}\n")));
        self.systemctl(&["daemon-reload"]);
    }

    fn systemctl(&self, words: &[&str]) {
        // Beside the unit's own name, which these do not take.
        let systemctl = support::tool("systemctl", "systemd");
        let beside = self.supervisor().beside(&self.scratch, &systemctl);
        beside.args(words).finish();
    }

    pub(crate) fn show(&self, property: &str) -> String {
        let property = format!("--property={property}");
        let shown = self.supervisor().say(&["show", &property, "--value"]);
        shown.finish().stdout.trim().to_owned()
    }

    fn example(&self) -> &'static str {
        match self.target {
            Target::Tcp(_) => "http_tcp",
            Target::Unix(_) => "http_unix",
        }
    }

    fn address(&self) -> String {
        match &self.target {
            Target::Tcp(address) => address.to_string(),
            Target::Unix(path) => path.display().to_string(),
        }
    }

    /// As it is seen from here.
    fn pid_file(&self) -> PathBuf {
        match self.kind {
            Kind::Systemd => {
                let init = self.supervisor().own_processes()[0];
                PathBuf::from(format!("/proc/{init}/root")).join("run/app/app.pid")
            }
            _ => self.scratch.join("run/app.pid"),
        }
    }

    pub(crate) fn supervisor(&self) -> &dyn Supervisor {
        match &self.supervisor {
            Some(supervisor) => &**supervisor,
            None => unreachable!("it is started before anything is asked of it"),
        }
    }

    /// Says this to the supervisor, and waits at most for the tool's own end.
    pub(crate) fn say(&mut self, words: &[&str]) {
        let verb = self.supervisor().say(words).start();
        // Those of sv and systemctl that wait go on by themselves.
        if let Some(handle) = Handle::open(verb.pid()) {
            handle.wait_until(Instant::now() + Duration::from_millis(300));
        }
        self.verbs.push(verb);
    }

    /// Up, if it is not, and serving: says so.
    pub(crate) fn wait_up(&mut self) -> Result<(), String> {
        self.say_up();
        self.wait_line(self.up_from, &[" is ready after"])?;
        Ok(())
    }

    /// What is ready from now on is another one.
    pub(crate) fn expect_start(&mut self) {
        self.up_from = self.log.length();
    }

    pub(crate) fn say_up(&mut self) {
        self.supervisor().settle();
        self.say(verbs::up_words(self.kind));
    }

    /// The plain restart, on the way to a moment.
    pub(crate) fn say_restart(&mut self) {
        self.supervisor().settle();
        self.say(verbs::restart_words(self.kind));
    }

    pub(crate) fn say_stop(&mut self) {
        self.supervisor().settle();
        self.say(verbs::stop_words(self.kind));
    }

    /// The trial's own verb.
    pub(crate) fn bring(&mut self, way: Way) -> Result<(), String> {
        match way {
            Way::Words(words) => self.say(words),
            Way::Both(first, second) => {
                self.say(first);
                self.say(second);
            }
            Way::Svscanctl(flags) => {
                let program = support::tool("s6-svscanctl", "s6");
                let spawn = self.supervisor().beside(&self.scratch, &program);
                spawn.arg(flags).arg(self.scratch.join("s6")).finish();
            }
            Way::SignalTo(name) => {
                let processes = self.scratch.processes();
                let found = processes.iter().find(|process| process.comm == name);
                let handle = found.and_then(|process| Handle::open(process.pid));
                let signal = if name == "runsvdir" {
                    Signal::SIGHUP
                } else {
                    Signal::SIGTERM
                };
                handle
                    .ok_or(format!("no {name} to be signalled"))?
                    .signal(signal);
            }
            Way::Halt => {
                self.supervisor().run(support::Verb::Exit);
            }
            Way::StopInAutoRestart => self.say_stop(),
            Way::StartTimeout | Way::RunTime => {}
        }
        Ok(())
    }

    pub(crate) fn close_gate(&self) {
        // Left over from one that nobody waited at.
        let mut rest = [0; 64];
        while (&self.gate).read(&mut rest).is_ok_and(|read| read > 0) {}
        must(fs::write(self.scripts.join("gate"), ""));
    }

    pub(crate) fn open_gate(&self) {
        must(fs::remove_file(self.scripts.join("gate")));
        must((&self.gate).write_all(b"\n"));
    }

    /// A line of the log from this one on.
    pub(crate) fn wait_line(&self, from: usize, parts: &[&str]) -> Result<String, String> {
        let wanted = |line: &str| parts.iter().all(|part| line.contains(part));
        let line = self.log.seen_by(Instant::now() + LIMIT, from, wanted);
        line.ok_or_else(|| format!("no line with {parts:?} in {} s", LIMIT.as_secs()))
    }

    /// Whether one of the lines from this one on says so.
    pub(crate) fn said(&self, from: usize, part: &str) -> bool {
        let lines = self.log.lines();
        lines.iter().skip(from).any(|line| line.contains(part))
    }

    /// One generation is left, and it serves; whoever drained has ended.
    pub(crate) fn wait_quiet(&mut self) -> Result<(), String> {
        let mut record = self.pid_file().into_os_string();
        record.push(".record");
        let deadline = Instant::now() + LIMIT;
        loop {
            let text = fs::read_to_string(&record).unwrap_or_default();
            let living: Vec<&str> = text
                .lines()
                .filter(|line| line.starts_with("generation "))
                .collect();
            if living.len() == 1 && living[0].contains("state=ready") {
                break;
            }
            if Instant::now() > deadline {
                return Err(format!("after {} s these live:\n{text}", LIMIT.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // Those of its verbs that still wait are not waited for.
        self.verbs.clear();
        Ok(())
    }

    /// Nothing of the service is left: no process but the supervisor's own, no file but the lock.
    pub(crate) fn wait_gone(&mut self, supervisor_too: bool) -> Result<(), String> {
        let files = self.pid_file();
        let began = Instant::now();
        let own = if supervisor_too {
            Vec::new()
        } else {
            self.supervisor().own_processes()
        };
        // Those that wait for what they want are no part of it.
        let mut allowed: Vec<Pid> = self.verbs.iter().map(Spawned::pid).collect();
        allowed.extend(own);
        let only = self
            .scratch
            .only_by(began + LIMIT, |process| allowed.contains(&process.pid));
        only.map_err(|left| {
            format!(
                "these are left after {} s:{}",
                LIMIT.as_secs(),
                process::list(&left)
            )
        })?;
        self.verbs.clear();
        self.up_from = self.log.length();
        let left = names_beside(&files);
        if left.iter().any(|name| name != "app.pid.lock") {
            return Err(format!("these files are left: {left:?}"));
        }
        Ok(())
    }

    /// What was said from this line on.
    pub(crate) fn story(&self, from: usize) -> String {
        let listing = self.log.listing();
        let lines: Vec<&str> = listing.lines().skip(from).collect();
        let skipped = lines.len().saturating_sub(60);
        lines[skipped..].join("\n")
    }

    /// Whatever is left of it ends with its directory.
    pub(crate) fn finish(mut self, row: &mut Row) {
        self.requests.end();
        row.requests += self.requests.answered;
        row.cut_off += self.requests.cut_off;
    }
}

/// TCP here, Unix sockets there.
fn target(kind: Kind, scratch: &Scratch) -> Target {
    match kind {
        Kind::Runit | Kind::Systemd | Kind::Supervisord => {
            Target::Tcp(([127, 0, 0, 1], PORT).into())
        }
        Kind::Daemontools | Kind::S6 => Target::Unix(scratch.join("app.sock")),
    }
}

/// Longer than daemontools is deaf.
fn slow(kind: Kind) -> SlowSpec {
    let milliseconds = match kind {
        Kind::Daemontools => 2000,
        Kind::Runit | Kind::S6 | Kind::Systemd | Kind::Supervisord => 800,
    };
    SlowSpec {
        clients: 2,
        delay: Duration::from_millis(milliseconds),
    }
}

fn names_beside(pid_file: &Path) -> Vec<String> {
    let directory = pid_file
        .parent()
        .and_then(|parent| fs::read_dir(parent).ok());
    // It has gone with its namespace.
    let entries = directory.into_iter().flatten().filter_map(Result::ok);
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// What cannot fail in a directory of our own; if it does, there is nothing to be measured here.
#[expect(clippy::panic, reason = "the whole campaign ends with it")]
fn must<T>(done: io::Result<T>) -> T {
    done.unwrap_or_else(|error| panic!("the scratch directory: {error}"))
}
