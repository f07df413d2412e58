//! A recipe of `contrib/daemons` where it belongs, under runit: restarts under load, a configuration that is broken, and
//! what is left at the end.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::load::{Load, Report, SlowSpec, Target};
use crate::stage::tell;
use crate::support::machine::Machine;
use crate::support::process::{self, Handle, Pid, Process};
use crate::support::{Finished, Log, PATIENCE, Spawn, Spawned};

const RESTARTS: u32 = 20;
const CLIENTS: usize = 8;
/// So many answers of the new configuration, one after the other, and the old one answers no more.
const IN_A_ROW: u32 = 20;
/// So many attempts fail before the configuration is mended: runit starts one each second.
const ATTEMPTS: usize = 2;

/// A server, and where its recipe belongs.
pub(crate) struct Recipe {
    /// The directory in `contrib/daemons` and in `/etc/sv`, and the PID file in `/run/seamless`.
    pub(crate) name: &'static str,
    /// A file beside `run`, and where it belongs.
    pub(crate) files: &'static [(&'static str, &'static str)],
    /// The one of those places whose version each restart changes: it says `generation 1` somewhere.
    pub(crate) configuration: &'static str,
    /// Directories that the server, its package or the recipe writes to: empty ones, the test's own.
    pub(crate) writes_to: &'static [&'static str],
    pub(crate) target: Target,
    pub(crate) slow: SlowSpec,
    /// Short requests, all clients together.
    pub(crate) per_second: u32,
}

/// The recipe under runsvdir.
pub(crate) struct Scene<'a> {
    pub(crate) machine: &'a Machine<'a>,
    pub(crate) recipe: &'a Recipe,
    runsvdir: Option<Spawned>,
    /// What the test has started beside it.
    beside: Vec<Spawned>,
}

impl<'a> Scene<'a> {
    /// Installs the recipe; nothing runs yet.
    pub(crate) fn new(machine: &'a Machine<'a>, recipe: &'a Recipe) -> Scene<'a> {
        for directory in recipe.writes_to {
            // What the machine has already is the test's own.
            if !Path::new(directory).starts_with("/var/log") {
                machine.hide(directory);
            }
            fs::create_dir_all(directory).unwrap();
        }
        let scene = Scene {
            machine,
            recipe,
            runsvdir: None,
            beside: Vec::new(),
        };
        let beside = |file: &str| format!("daemons/{}/{file}", recipe.name);
        machine.install(&beside("run"), Path::new(&scene.service()).join("run"));
        for (file, at) in recipe.files {
            // Debian has something there: a symbolic link, sometimes.
            fs::remove_file(at).ok();
            machine.install(&beside(file), at);
        }
        scene
    }

    /// Returns when the first generation is ready.
    pub(crate) fn start(&mut self) {
        symlink(self.service(), format!("/etc/service/{}", self.recipe.name)).unwrap();
        let runsvdir = self.machine.command(&["runsvdir", "/etc/service"], "runit");
        self.runsvdir = Some(runsvdir.output_to(self.log()).start());
        self.wait_ready(1);
    }

    /// A program that stays, whatever becomes of the service.
    pub(crate) fn start_beside(&mut self, program: Spawn) {
        self.beside.push(program.output_to(self.log()).start());
    }

    pub(crate) fn log(&self) -> &Log {
        &self.machine.log
    }

    fn service(&self) -> String {
        format!("/etc/sv/{}", self.recipe.name)
    }

    pub(crate) fn pid_file(&self) -> String {
        format!("/run/seamless/{}.pid", self.recipe.name)
    }

    pub(crate) fn sv(&self, verb: &str) {
        let link = format!("/etc/service/{}", self.recipe.name);
        let sv = ["sv", "-w", "60", verb, &link];
        self.machine.command(&sv, "runit").finish().expect_success();
    }

    /// `seamless-run VERB`, for this service.
    pub(crate) fn verb(&self, words: &[&str]) -> Spawn {
        let verb = self.machine.seamless_run().args(words);
        verb.arg(self.pid_file())
    }

    pub(crate) fn status(&self) -> Finished {
        self.verb(&["status"]).finish()
    }

    pub(crate) fn wait_ready(&self, generation: u32) {
        let begin = format!("generation {generation} (pid ");
        let deadline = Instant::now() + PATIENCE;
        let is_ready = |line: &str| line.contains(&begin) && line.contains(" is ready after ");
        let ready = self.log().seen_by(deadline, 0, is_ready);
        assert!(ready.is_some(), "{}", self.log().listing());
    }

    /// Until this one has drained.
    pub(crate) fn wait_gone(&self, generation: u32) {
        let begin = format!("generation {generation} (pid ");
        let deadline = Instant::now() + PATIENCE;
        let is_gone = |line: &str| line.contains(&begin) && line.contains(" is gone: ");
        let gone = self.log().seen_by(deadline, 0, is_gone);
        assert!(gone.is_some(), "{}", self.log().listing());
    }

    /// Waits until there is such a file.
    pub(crate) fn wait_path(&self, path: &Path) {
        let deadline = Instant::now() + PATIENCE;
        while !path.exists() {
            let late = Instant::now() > deadline;
            assert!(!late, "no {}: {}", path.display(), self.log().listing());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until so many lines of the log contain this.
    pub(crate) fn wait_count(&self, part: &str, count: usize) {
        let mut seen = 0;
        let found = self.log().seen_by(Instant::now() + PATIENCE, 0, |line| {
            seen += usize::from(line.contains(part));
            seen == count
        });
        assert!(found.is_some(), "`{part}`: {}", self.log().listing());
    }

    // ---- the configuration

    pub(crate) fn edit(&self, edit: impl FnOnce(&str) -> String) {
        let text = fs::read_to_string(self.recipe.configuration).unwrap();
        let edited = edit(&text);
        assert_ne!(text, edited, "nothing was changed");
        // Beside, then renamed: the supervisor may be starting one.
        let beside = format!("{}.new", self.recipe.configuration);
        fs::write(&beside, edited).unwrap();
        fs::rename(beside, self.recipe.configuration).unwrap();
    }

    /// Changes the version in the configuration.
    pub(crate) fn deploy(&self, from: u32, to: u32) {
        let version = |number| format!("generation {number}");
        self.edit(|text| text.replace(&version(from), &version(to)));
    }

    // ---- load

    pub(crate) fn load(&self) -> Load {
        let (target, slow) = (self.recipe.target.clone(), Some(self.recipe.slow));
        let load = Load::start_at_rate(target, CLIENTS, slow, self.recipe.per_second);
        self.wait_slow(&load);
        self.wait_answers(&load, 1);
        load
    }

    /// Something is in hand.
    fn wait_slow(&self, load: &Load) {
        let all = self.recipe.slow.clients;
        let in_flight = load.wait_slow_in_flight(PATIENCE, all);
        assert!(in_flight, "{}\n{}", load.report(), self.log().listing());
    }

    /// Until this version of the configuration answers, and no other one.
    pub(crate) fn wait_answers(&self, load: &Load, version: u32) {
        let is_new = |answer: &crate::load::Answer| answer.generation == Some(version);
        let first = load.wait_answer(PATIENCE, is_new);
        let listing = || format!("{}\n{}", load.report(), self.log().listing());
        assert!(
            first.is_some(),
            "version {version} is silent: {}",
            listing()
        );
        self.wait_only(version);
    }

    /// Until it answers alone.
    pub(crate) fn wait_only(&self, version: u32) {
        let new = format!(" generation {version}\n");
        let deadline = Instant::now() + PATIENCE;
        let mut in_a_row = 0;
        while in_a_row < IN_A_ROW {
            let answer = try_get(&self.recipe.target);
            // Whether it may fail is the load's to say.
            let is_new = answer.as_ref().is_ok_and(|answer| answer.contains(&new));
            in_a_row = if is_new { in_a_row + 1 } else { 0 };
            let late = Instant::now() > deadline;
            assert!(!late, "{answer:?}: {}", self.log().listing());
        }
    }

    /// Restarts under load, each with another configuration; what was counted.
    pub(crate) fn restarts(&self) -> Report {
        let load = self.load();
        for version in 2..=RESTARTS + 1 {
            self.wait_slow(&load);
            self.deploy(version - 1, version);
            self.sv("restart");
            // A restart of one that is not ready yet would end it (R9).
            self.wait_ready(version);
            self.wait_answers(&load, version);
        }
        let report = load.stop();
        self.show("restarts", RESTARTS, &report);
        report
    }

    /// The same, where nothing may be lost.
    pub(crate) fn loses_nothing(&self) {
        let report = self.restarts();
        let listing = || format!("{report}\n{}", self.log().listing());
        assert_eq!(report.failed(), 0, "{}", listing());
        assert!(report.slow.finished() > 0, "{}", listing());
    }

    fn show(&self, what: &str, count: u32, report: &Report) {
        tell(&format!(
            "{}: {count} {what}, {} requests, failed: {:?}, the slowest took {:.0?}; {} slow ones, failed: {:?}",
            self.recipe.name,
            report.fast.finished(),
            report.fast.failures,
            report.fast.slowest,
            report.slow.finished(),
            report.slow.failures,
        ));
    }

    /// With a configuration that the server complains of, in these words, the old one serves on; log and `status` say
    /// why; and the mended one takes over by itself. The scene is at version 1.
    pub(crate) fn survives(&self, broken: impl FnOnce(&str) -> String, complaint: &str) {
        let load = self.load();
        let whole = fs::read_to_string(self.recipe.configuration).unwrap();
        self.edit(broken);
        self.sv("term");
        self.wait_count(complaint, ATTEMPTS);
        self.wait_failure_in_status(complaint);
        self.wait_answers(&load, 1);
        self.edit(|_| whole.replace("generation 1", "generation 2"));
        // Nobody restarts it: runit tries again by itself.
        self.wait_answers(&load, 2);
        let report = load.stop();
        self.show("broken configuration", 1, &report);
        assert_eq!(report.failed(), 0, "{report}\n{}", self.log().listing());
        let known: Vec<_> = report.answers.values().map(|one| one.generation).collect();
        let expected = |version: &Option<u32>| matches!(version, Some(1 | 2));
        assert!(known.iter().all(expected), "{report}");
    }

    /// The last attempt may have begun this moment.
    fn wait_failure_in_status(&self, complaint: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            if status.stdout.contains(complaint) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "status does not say why: {}{}\n{}",
                status.stdout,
                status.stderr,
                self.log().listing()
            );
            thread::sleep(Duration::from_millis(100));
        }
    }

    // ---- the end

    /// Everything that runs on this machine, whatever it did to its environment (nginx and php-fpm write their titles
    /// over it, and the test's mark is lost), but the supervisor.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let stays = self.runsvdir.iter().chain(&self.beside);
        let stays: Vec<Pid> = stays.map(Spawned::pid).collect();
        let here = fs::read_link("/proc/thread-self/ns/mnt").unwrap();
        let is_here =
            |pid: &Pid| fs::read_link(format!("/proc/{pid}/ns/mnt")).is_ok_and(|its| its == here);
        let processes = process::all().filter(is_here).filter_map(Process::read);
        let ours = |one: &Process| stays.contains(&one.pid) || stays.contains(&one.parent);
        processes.filter(|one| !ours(one)).collect()
    }

    /// `sv down`: nothing runs any more, and nothing lies about but the lock.
    pub(crate) fn stops(&self) {
        self.sv("down");
        let deadline = Instant::now() + PATIENCE;
        while let Some(first) = self.processes().first() {
            let ended = Handle::open(first.pid).is_none_or(|one| one.wait_until(deadline));
            let left = process::list(&self.processes());
            assert!(ended, "still there:{left}\n{}", self.log().listing());
        }
        let left = files_below(Path::new("/run"));
        let lock = format!("{}.lock", self.pid_file());
        assert_eq!(left, [PathBuf::from(lock)], "{}", self.log().listing());
    }
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            tell(&self.log().listing());
        }
        // The supervisors first: they would start others.
        for runsv in self
            .runsvdir
            .iter()
            .map(Spawned::pid)
            .flat_map(process::children)
        {
            Handle::open(runsv).inspect(|one| one.signal(Signal::SIGSTOP));
        }
        let deadline = Instant::now() + PATIENCE;
        for mut spawned in self
            .runsvdir
            .take()
            .into_iter()
            .chain(self.beside.drain(..))
        {
            spawned.kill();
        }
        loop {
            let left = self.processes().into_iter();
            let left: Vec<Handle> = left.filter_map(|one| Handle::open(one.pid)).collect();
            left.iter().for_each(|one| one.signal(Signal::SIGKILL));
            if left.is_empty() || !left.iter().all(|one| one.wait_until(deadline)) {
                break;
            }
        }
    }
}

/// The body of one answer.
pub(crate) fn get(target: &Target) -> String {
    try_get(target).expect("an answer")
}

fn try_get(target: &Target) -> io::Result<String> {
    fn ask(mut connection: impl Read + Write) -> io::Result<String> {
        let request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        connection.write_all(request.as_bytes())?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.to_owned()),
            _ => Err(io::Error::other(answer)),
        }
    }
    match target {
        // Somebody may hold the socket, and nobody accept.
        Target::Tcp(address) => {
            let connection = TcpStream::connect(address)?;
            connection.set_read_timeout(Some(PATIENCE))?;
            ask(connection)
        }
        Target::Unix(path) => {
            let connection = UnixStream::connect(path)?;
            connection.set_read_timeout(Some(PATIENCE))?;
            ask(connection)
        }
    }
}

/// Everything but directories, by name.
fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Port 80 of the machine.
pub(crate) const WEB: Target = Target::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 80));
