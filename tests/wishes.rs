//! A stop is told from a restart (§7, R15, R16): every verb of the real supervisors that means one or the other, at the
//! moments that matter.
//!
//! No orphan timeout ends anything here: whatever ends was told to by somebody who knew.

mod by_hand;
mod campaign;
mod containers;
mod moments;
mod restarts;
mod shutdown;
mod supervisord;
mod systemd;

use std::cell::RefCell;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::scene::names_in;
use crate::stage::Stage;
use crate::support::process::{self, Handle, Pid};
use crate::support::{
    self, Daemontools, Finished, Kind, PATIENCE, Runit, S6, Service, Spawned, Supervisor,
    Supervisord, Systemd,
};

/// Says by its generation what it gets. What it does then is in files, so that the next generation can be another
/// version, and one that has started already can be told to take its time.
const DAEMON: &str = r#"
    say() { echo "daemon $SEAMLESS_GENERATION $1"; }
    mkfifo "$PIPES/$$"
    cat "$PIPES/$$" &
    exec 9>"$PIPES/$$"
    rm "$PIPES/$$"
    trap 'say "got USR2"; . "$SCRIPTS/prepare"' USR2
    trap 'say "got TERM"; . "$SCRIPTS/drain"; say "ends"; exit "${STATUS:-0}"' TERM
    say "is up"
    . "$SCRIPTS/start"
    while :; do wait; done
"#;

/// A good version.
const STARTED: &str = r#""$SEAMLESS_RUN" notify started && say "is started""#;
/// A bad one.
const CRASHES: &str = "exit 3";
/// One that never gets ready.
const SILENT: &str = r#"say "is silent""#;
const PREPARED: &str = r#""$SEAMLESS_RUN" notify prepared"#;
const AT_ONCE: &str = "";
/// Until [`Told::release`]. The status is the daemon's own, and no other's.
const LINGERS: &str = r#"read _ <"$SCRIPTS/linger.$SEAMLESS_GENERATION"; STATUS=7"#;
const PREPARES_LATE: &str = r#"read _ <"$SCRIPTS/linger.prepare"; "$SEAMLESS_RUN" notify prepared"#;

/// In the run script, before the launcher: between an exit and the next start.
const GATE: &str =
    r#"if [ -e "$SCRIPTS/gate" ]; then echo "at the gate"; read _ <"$SCRIPTS/linger.gate"; fi"#;

const GENERATIONS: u32 = 9;

/// A service, and the supervisor whose wish is to be told.
struct Told {
    stage: Stage,
    scripts: PathBuf,
    kind: Kind,
    supervisor: Box<dyn Supervisor>,
    /// Kept open: what nobody has read yet would be lost with the last one who has the FIFO.
    released: RefCell<Vec<fs::File>>,
}

/// What is to be different from the usual.
#[derive(Default)]
struct Recipe<'a> {
    options: &'a [&'a str],
    /// The option, where it is not to be none.
    orphan_timeout: Option<&'a str>,
    gate: bool,
    /// Lines for `[Unit]`, for `[Service]`, and for supervisord's `[program:app]`.
    unit: &'a [&'a str],
    unit_service: &'a [&'a str],
    program: &'a [&'a str],
    /// runsvdir above runsv, s6-supervise without s6-svscan.
    otherwise: bool,
}

impl Told {
    /// The first generation serves.
    fn serving(kind: Kind) -> Told {
        Told::serving_with(kind, &Recipe::default())
    }

    fn serving_with(kind: Kind, recipe: &Recipe<'_>) -> Told {
        let told = Told::start(kind, STARTED, recipe);
        told.wait("daemon 1 is started");
        told
    }

    fn start(kind: Kind, start: &str, recipe: &Recipe<'_>) -> Told {
        let stage = Stage::new();
        let scripts = stage.scratch.join("scripts");
        fs::create_dir(&scripts).unwrap();
        for name in (1..=GENERATIONS).map(|number| number.to_string()) {
            make_fifo(&scripts.join(format!("linger.{name}")));
        }
        for name in ["prepare", "gate"] {
            make_fifo(&scripts.join(format!("linger.{name}")));
        }
        for (name, code) in [("start", start), ("prepare", PREPARED), ("drain", AT_ONCE)] {
            fs::write(scripts.join(name), code).unwrap();
        }
        let service = service(&stage, &scripts, kind, recipe);
        let supervisor = supervise(&stage, kind, &service, recipe.otherwise);
        Told {
            stage,
            scripts,
            kind,
            supervisor,
            released: RefCell::default(),
        }
    }

    /// From now on a daemon does this.
    fn script(&self, name: &str, code: &str) {
        let beside = self.scripts.join("new");
        fs::write(&beside, code).unwrap();
        fs::rename(&beside, self.scripts.join(name)).unwrap();
    }

    /// Whoever lingers there goes on, now or when it comes there.
    fn release(&self, name: impl std::fmt::Display) {
        let path = self.scripts.join(format!("linger.{name}"));
        // For reading too, or it would wait for the reader.
        let mut fifo = fs::File::options()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        fifo.write_all(b"go on\n").unwrap();
        self.released.borrow_mut().push(fifo);
    }

    fn wait(&self, part: &str) -> String {
        self.stage.log.wait_seen(part)
    }

    fn count(&self, part: &str) -> usize {
        self.stage.log.count(part)
    }

    fn listing(&self) -> String {
        format!("{:?}:{}", self.kind, self.stage.log.listing())
    }

    /// A verb of the supervisor's; some wait for what the test does next.
    fn begin(&self, words: &[&str]) -> Spawned {
        self.supervisor.settle();
        self.supervisor.say(words).start()
    }

    /// A verb that only leaves the wish.
    fn verb(&self, words: &[&str]) -> Finished {
        self.begin(words).finish().expect_success()
    }

    fn restart(&self) {
        self.verb(restart_words(self.kind));
    }

    fn stop(&self) {
        self.verb(stop_words(self.kind));
    }

    /// The launcher, which is all that the supervisor knows.
    fn launcher(&self) -> Handle {
        let pid = self.supervisor.wait_main_pid();
        Handle::open(pid).unwrap_or_else(|| panic!("the launcher has ended: {}", self.listing()))
    }

    /// R15: the launcher leaves last, so the supervisor does not see the service down before the daemons have ended.
    fn assert_up(&self, launcher: &Handle) {
        self.let_pass();
        assert!(process::alive(launcher.pid), "{}", self.listing());
        let shown = self.supervisor.main_pid();
        assert_eq!(shown, Some(launcher.pid), "{}", self.listing());
    }

    /// runit, daemontools and s6 read their commands when they come round to it.
    fn wait_wanted_down(&self) {
        let path = match self.kind {
            Kind::Runit => "runit/app",
            Kind::Daemontools => "daemontools/app",
            Kind::S6 => "s6/app",
            // The job is there when systemctl returns.
            Kind::Systemd | Kind::Supervisord => return,
        };
        let path = self.stage.scratch.join(path).join("supervise/status");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = fs::read(&path).unwrap();
            let is_down = match self.kind {
                Kind::S6 => status.last().is_some_and(|flags| flags & 0x04 == 0),
                _ => status.get(17) == Some(&b'd'),
            };
            if is_down {
                return;
            }
            assert!(Instant::now() < deadline, "{}", self.listing());
            thread::yield_now();
        }
    }

    /// What a keeper was about to do, it has done: this one came later. (A question to the keeper, in a process of its
    /// own.)
    fn let_pass(&self) {
        let program = support::program();
        let status = self.supervisor.beside(&self.stage.scratch, &program);
        status
            .args(["status", "-q"])
            .arg(&self.stage.pid_file)
            .finish();
    }

    /// No daemon, no keeper, no launcher, and no file but the lock.
    fn assert_all_ended(&self) {
        self.assert_only(&self.supervisor.own_processes());
    }

    fn assert_only(&self, own: &[Pid]) {
        self.stage.scratch.wait_only(own);
        let run = self.stage.pid_file.parent().unwrap();
        assert_eq!(names_in(run), ["app.pid.lock"], "{}", self.listing());
        assert_eq!(self.count("got KILL"), 0);
        assert_eq!(self.count("is killed"), 0, "{}", self.listing());
        assert_eq!(self.count("orphan timeout"), 0, "{}", self.listing());
    }

    /// Nothing of what was seen so far was taken for a stop.
    fn assert_no_stop(&self) {
        for word in ["app: stop:", "wants the service down"] {
            assert_eq!(self.count(word), 0, "{}", self.listing());
        }
    }

    /// After a lingering daemon 1, the last to end. Only runit and s6 run something when the launcher has left.
    fn assert_launcher_left_last(&self) {
        if !matches!(self.kind, Kind::Runit | Kind::S6) {
            return;
        }
        self.wait("finish 7 0");
        let lines = self.stage.log.lines();
        let place = |part: &str| lines.iter().position(|line| line.contains(part));
        let [end, finish] = ["daemon 1 ends", "finish 7 0"].map(place);
        assert!(end.is_some() && end < finish, "{}", self.listing());
    }

    /// The status that the supervisor saw when the service went down, where it keeps it.
    fn assert_status_seen(&self, status: i32) {
        match self.kind {
            Kind::Runit | Kind::S6 => {
                self.wait(&format!("finish {status} 0"));
            }
            Kind::Systemd => {
                let show = ["show", "--property=ExecMainStatus", "--value"];
                let seen = self.supervisor.say(&show).finish().expect_success().stdout;
                assert_eq!(seen.trim(), status.to_string(), "{}", self.listing());
            }
            // They say nothing of it.
            Kind::Daemontools | Kind::Supervisord => {}
        }
    }
}

fn make_fifo(path: &Path) {
    mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
}

fn service(stage: &Stage, scripts: &Path, kind: Kind, recipe: &Recipe<'_>) -> Service {
    let program = support::program();
    let words = [
        program.to_str().unwrap(),
        "--pid-file",
        stage.pid_file.to_str().unwrap(),
        recipe.orphan_timeout.unwrap_or("--orphan-timeout=none"),
        // They wait for the test, not for time.
        "--prepare-timeout=none",
        "--stop-timeout=none",
    ];
    let daemon = stage.sh(DAEMON);
    let words = words.iter().chain(recipe.options).chain(&["--"]);
    let words = words.map(|word| (*word).to_owned()).chain(daemon);
    let mut service = Service::new(words)
        .env("PIPES", stage.scratch.join("pipes"))
        .env("SCRIPTS", scripts)
        .env("SEAMLESS_RUN", &program);
    if recipe.gate {
        service = service.setup(GATE);
    }
    if matches!(kind, Kind::Runit | Kind::S6) {
        service = service.finish(r#"echo "finish $1 $2""#);
    }
    let usual = [
        "Type=notify",
        "NotifyAccess=main",
        "TimeoutStartSec=infinity",
        "TimeoutStopSec=infinity",
    ];
    for line in usual.iter().chain(recipe.unit_service) {
        service = service.unit_service(*line);
    }
    for line in recipe.unit {
        service = service.unit(*line);
    }
    for line in recipe.program {
        service = service.program(*line);
    }
    service
}

/// Does not wait for readiness.
fn supervise(stage: &Stage, kind: Kind, service: &Service, otherwise: bool) -> Box<dyn Supervisor> {
    let (scratch, log) = (&stage.scratch, &stage.log);
    match (kind, otherwise) {
        (Kind::Runit, false) => Box::new(Runit::start(scratch, log, service)),
        (Kind::Runit, true) => Box::new(Runit::start_with_runsvdir(scratch, log, service)),
        (Kind::Daemontools, _) => Box::new(Daemontools::start(scratch, log, service)),
        (Kind::S6, false) => Box::new(S6::start(scratch, log, service)),
        (Kind::S6, true) => Box::new(S6::start_without_svscan(scratch, log, service)),
        (Kind::Supervisord, _) => Box::new(Supervisord::start(scratch, log, service)),
        (Kind::Systemd, _) => {
            let systemd = Systemd::boot(scratch);
            systemd.install(scratch, log, service);
            systemd
                .say(&["start", "--no-block"])
                .finish()
                .expect_success();
            Box::new(systemd)
        }
    }
}

/// One that does not wait for the outcome.
fn restart_words(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Runit => &["term"],
        Kind::Daemontools => &["-t"],
        Kind::S6 => &["-r"],
        Kind::Systemd => &["restart", "--no-block"],
        Kind::Supervisord => &["signal", "TERM"],
    }
}

/// One that does not wait for the outcome.
fn stop_words(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Runit => &["down"],
        Kind::Daemontools | Kind::S6 => &["-d"],
        Kind::Systemd => &["stop", "--no-block"],
        Kind::Supervisord => &["stop"],
    }
}

/// Each case on each supervisor whose wish can be read at the signal, as a test of its own.
macro_rules! on_each {
    ($($case:ident),* $(,)?) => {
        mod runit { $(#[test] fn $case() { super::$case(crate::support::Kind::Runit); })* }
        mod daemontools { $(#[test] fn $case() { super::$case(crate::support::Kind::Daemontools); })* }
        mod s6 { $(#[test] fn $case() { super::$case(crate::support::Kind::S6); })* }
        mod systemd { $(#[test] fn $case() { super::$case(crate::support::Kind::Systemd); })* }
    };
}
use on_each;
