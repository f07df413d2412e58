//! Servers that know nothing of seamless-run, on sockets that it holds: in systemd's way, nginx's, Server::Starter's,
//! and by number alone. What is counted of the rest is told: some cut off what they have in hand when they get TERM.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::load::{Answer, Failure, Load, Report, SlowSpec, Target};
use crate::stage::{Stage, tell};
use crate::support::network::{self, Network};
use crate::support::process::{self, Handle, Pid};
use crate::support::{self, PATIENCE, Runit, Service, Spawn, Supervisor, Systemd, tool};

pub(crate) const RESTARTS: u32 = 5;
const CLIENTS: usize = 8;
/// Perl and Python serve so many on a busy machine.
const REQUESTS_PER_SECOND: u32 = 500;
/// So many more requests are answered by each generation.
const A_WHILE: usize = 200;
pub(crate) const SLOW: SlowSpec = SlowSpec {
    clients: 2,
    delay: Duration::from_millis(300),
};

type Reports = [(&'static str, Report); 2];

/// A server under runit, on held sockets, in a network of its own.
pub(crate) struct Server {
    // Dropped first: it starts anew what the stage ends.
    pub(crate) runit: Runit,
    pub(crate) stage: Stage,
    _network: Network,
}

impl Server {
    pub(crate) fn start(
        network: Network,
        stage: Stage,
        options: &[&str],
        command: &[&str],
    ) -> Server {
        let program = support::program();
        let words = [
            program.to_str().unwrap(),
            "--pid-file",
            stage.pid_file.to_str().unwrap(),
        ];
        let all = words.iter().chain(options).chain(&["--"]).chain(command);
        let service = Service::new(all.map(|word| (*word).to_owned()))
            .env("SEAMLESS_RUN", &program)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        let runit = Runit::start(&stage.scratch, &stage.log, &service);
        Server {
            runit,
            stage,
            _network: network,
        }
    }

    pub(crate) fn wait_ready(&self, generation: u32) {
        wait_ready(&self.stage, generation);
    }

    /// A restart; returns when the next generation answers everywhere.
    pub(crate) fn restart(&self, sites: &[Site], next: u32) {
        self.runit.restart().expect_success();
        for site in sites {
            site.wait_answers(&self.stage, next);
        }
    }

    /// Nothing is left but what stays by design.
    pub(crate) fn end(mut self, paths: &[&Path]) {
        self.runit.want_down();
        self.stage
            .scratch
            .wait_no_processes_but(&self.runit.own_processes());
        self.runit.shutdown();
        let left = fs::read_dir(self.stage.pid_file.parent().unwrap()).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["app.pid.lock"], "{}", self.stage.log.listing());
        for path in paths {
            assert!(!path.exists(), "{} is still there", path.display());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            tell(&self.stage.log.listing());
        }
    }
}

/// A file beside this one, in the test's own directory.
fn place(stage: &Stage, name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/servers")
        .join(name);
    let copy = stage.scratch.join(name);
    fs::copy(source, &copy).unwrap();
    copy
}

/// A port that nobody has in this network, which is the test's own.
pub(crate) fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

fn wait_ready(stage: &Stage, generation: u32) {
    let name = format!("generation {generation} (pid ");
    stage
        .log
        .wait(|line| line.contains(&name) && line.contains(" is ready after"));
}

/// The newest generation, as `status` shows it (and fails if it is not ready).
fn newest(stage: &Stage) -> Value {
    let status = Spawn::new(&stage.scratch, support::program())
        .args(["status", "--json"])
        .arg(&stage.pid_file)
        .finish();
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    status["generations"][0].clone()
}

/// Where its socket of this name is bound.
pub(crate) fn bound(stage: &Stage, name: &str) -> SocketAddr {
    let newest = newest(stage);
    let sockets = newest["sockets"].as_array().unwrap();
    let named = sockets.iter().find(|socket| socket["name"] == name);
    let shown = named.unwrap_or_else(|| panic!("no {name} in {newest}"))["address"].as_str();
    let (_kind, address) = shown.unwrap().split_once(':').unwrap();
    address.parse().unwrap()
}

/// One of the sockets of a server, and many short requests there.
pub(crate) struct Site {
    name: &'static str,
    target: Target,
    pub(crate) load: Load,
}

impl Site {
    pub(crate) fn new(name: &'static str, target: Target, slow: Option<SlowSpec>) -> Site {
        let load = Load::start_at_rate(target.clone(), CLIENTS, slow, REQUESTS_PER_SECOND);
        let answer = load.wait_answer(PATIENCE, |_| true);
        assert!(answer.is_some(), "nobody answers: {}", load.report());
        Site { name, target, load }
    }

    /// Until this generation has answered, and has served for a while.
    pub(crate) fn wait_answers(&self, stage: &Stage, generation: u32) {
        let is_its = |answer: &Answer| answer.generation == Some(generation);
        let answer = self.load.wait_answer(PATIENCE, is_its);
        assert!(
            answer.is_some(),
            "generation {generation} does not answer: {}\n{}",
            self.load.report(),
            stage.log.listing()
        );
        for _ in 0..A_WHILE {
            let body = get(&self.target);
            // Those that say which socket it is say it right.
            if let Some((_, name)) = body.trim_end().split_once(" socket ") {
                assert_eq!(name, self.name, "{body}");
            }
        }
    }
}

/// Whoever could connect was heard, and everybody could.
fn assert_nobody_refused(report: &Report) {
    for never in [
        Failure::Refused,
        Failure::NotFound,
        Failure::TimedOut,
        Failure::BadStatus,
        Failure::Other,
    ] {
        let (fast, slow) = (report.fast.count(never), report.slow.count(never));
        assert_eq!((fast, slow), (0, 0), "{never:?}: {report}");
    }
}

pub(crate) fn show(what: &str, report: &Report) {
    let slow = if report.slow.finished() > 0 {
        let (finished, failures) = (report.slow.finished(), &report.slow.failures);
        format!("; {finished} slow ones, failed: {failures:?}")
    } else {
        String::new()
    };
    let (finished, failures) = (report.fast.finished(), &report.fast.failures);
    tell(&format!(
        "{what}: {RESTARTS} restarts, {finished} requests, failed: {failures:?}{slow}; the slowest short one took {:.0?}",
        report.fast.slowest
    ));
}

/// The body of one answer.
pub(crate) fn get(target: &Target) -> String {
    fn ask(mut connection: impl Read + Write) -> String {
        let request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        connection.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("a whole answer");
        assert_eq!(head.split(' ').nth(1), Some("200"), "{answer}");
        body.to_owned()
    }
    match target {
        Target::Tcp(address) => ask(TcpStream::connect(address).unwrap()),
        Target::Unix(path) => ask(UnixStream::connect(path).unwrap()),
    }
}

// ---- systemd's own sockets

/// Two `.socket` units and a service that the first connection starts; `ours` is passed after them.
fn activated(ours: &[&str]) {
    let network = network::isolate();
    let stage = Stage::new();
    let daemon = stage.scratch.join("activated");
    Spawn::from(Command::new(tool("cc", "gcc")))
        .args(["-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&daemon)
        .arg(place(&stage, "activated.c"))
        .arg("-lsystemd")
        .finish()
        .expect_success();
    let web = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let admin = stage.scratch.join("admin.sock");

    let program = support::program();
    let words = [
        program.to_str().unwrap(),
        "--pid-file",
        stage.pid_file.to_str().unwrap(),
    ];
    let command = ["--", daemon.to_str().unwrap()];
    let all = words.iter().chain(ours).chain(&command);
    let service = Service::new(all.map(|word| (*word).to_owned()))
        .unit_service("Sockets=web.socket admin.socket");
    let mut systemd = Systemd::boot(&stage.scratch);
    for (unit, name, place) in [
        ("web.socket", "http", web.to_string()),
        ("admin.socket", "control", admin.display().to_string()),
    ] {
        let text = format!(
            "[Socket]\nListenStream={place}\nFileDescriptorName={name}\nService=app.service\n"
        );
        systemd.write_unit(unit, &text);
    }
    systemd.install(&stage.scratch, &stage.log, &service);
    let start = systemd.systemctl(&["start", "web.socket", "admin.socket"]);
    start.finish().expect_success();
    assert_eq!(systemd.property("ActiveState"), "inactive");

    // The first connection starts the service.
    let web = Target::Tcp(web);
    assert!(get(&web).ends_with(" generation 1 socket http\n"));
    let mut sites = vec![
        Site::new("http", web, None),
        Site::new("control", Target::Unix(admin), None),
    ];
    if !ours.is_empty() {
        let more = Target::Tcp(bound(&stage, "more"));
        sites.push(Site::new("more", more, None));
    }

    for generation in 1..=RESTARTS + 1 {
        if generation > 1 {
            systemd.restart().expect_success();
        }
        wait_ready(&stage, generation);
        for site in &sites {
            site.wait_answers(&stage, generation);
        }
        assert_names(&stage, generation, sites.len());
    }
    for Site { name, load, .. } in sites {
        let report = load.stop();
        show(&format!("systemd's socket activation, {name}"), &report);
        assert_eq!(report.failed(), 0, "{report}\n{}", stage.log.listing());
    }
    systemd.shutdown();
    drop(network);
}

/// What the daemon says that it was given: systemd's own, in the order that systemd likes, and ours behind them.
fn assert_names(stage: &Stage, generation: u32, count: usize) {
    let said = format!("generation {generation} has ");
    let lines = stage.log.lines();
    let given = lines.iter().filter_map(|line| line.strip_prefix(&said));
    let mut given: Vec<&str> = given.collect();
    given.sort_unstable();
    let expected = |control: u32, http: u32| {
        let mut expected = vec![
            format!("control unix at {control} of {count}"),
            format!("http inet at {http} of {count}"),
        ];
        expected.extend((count > 2).then(|| format!("more inet at 5 of {count}")));
        expected
    };
    assert!(
        given == expected(3, 4) || given == expected(4, 3),
        "{given:?}"
    );
}

#[test]
fn the_sockets_of_systemd_units_pass_through() {
    activated(&[]);
}

#[test]
fn a_socket_of_ours_comes_after_those_of_systemd_units() {
    activated(&["--listen", "more=127.0.0.1:0"]);
}

// ---- nginx

/// nginx with a configuration whose version it answers.
struct Nginx {
    port: u16,
    socket: PathBuf,
    configuration: PathBuf,
}

impl Nginx {
    fn new(stage: &Stage) -> Nginx {
        let nginx = Nginx {
            port: free_port(),
            socket: stage.scratch.join("nginx.sock"),
            configuration: stage.scratch.join("nginx.conf"),
        };
        nginx.deploy(1);
        nginx
    }

    fn deploy(&self, version: u32) {
        let directory = self.configuration.parent().unwrap();
        let text = include_str!("servers/nginx.conf")
            .replace("@DIRECTORY@", directory.to_str().unwrap())
            .replace("@PORT@", &self.port.to_string())
            .replace("@VERSION@", &version.to_string())
            .replace("@PADDING@", &".".repeat(1000));
        fs::write(&self.configuration, text).unwrap();
    }

    /// Five versions, one after the other, at both sockets.
    fn deploy_again_and_again(
        &self,
        stage: Stage,
        network: Network,
        options: &[&str],
        command: &[&str],
        says_started: bool,
    ) -> Reports {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        let web = format!("http={address}");
        let unix = format!("local=unix:{}", self.socket.display());
        let held = ["--listen-env", "nginx", "--listen", &web, "--listen", &unix];
        let server = Server::start(network, stage, &[&held, options].concat(), command);
        let log = &server.stage.log;
        log.wait_for("using inherited sockets from \"3;4;\"");
        let sites = [
            Site::new("TCP", Target::Tcp(address), Some(SLOW)),
            Site::new("Unix", Target::Unix(self.socket.clone()), Some(SLOW)),
        ];
        let inode = fs::metadata(&self.socket).unwrap().ino();
        for version in 1..=RESTARTS + 1 {
            if version > 1 {
                self.deploy(version);
                server.restart(&sites, version);
            }
            if says_started {
                server.wait_ready(version);
            }
            for descriptor in 3..=4 {
                assert_does_not_block(&newest(&server.stage)["pid"], descriptor);
            }
        }
        let inherited = log.count("using inherited sockets from \"3;4;\"");
        assert_eq!(u32::try_from(inherited), Ok(RESTARTS + 1));
        let reports = sites.map(|site| (site.name, site.load.stop()));
        assert_eq!(fs::metadata(&self.socket).unwrap().ino(), inode);
        server.end(&[&self.socket]);
        assert_eq!(self.masters(), Vec::<Pid>::new());
        reports
    }

    /// Its master processes. nginx writes its title over its environment, and the test's mark is lost.
    fn masters(&self) -> Vec<Pid> {
        let configuration = self.configuration.to_str().unwrap();
        let is_one = |process: &process::Process| {
            process.comm == "nginx" && process.command_line.contains(configuration)
        };
        let processes = process::all().filter_map(process::Process::read);
        processes.filter(is_one).map(|one| one.pid).collect()
    }
}

impl Drop for Nginx {
    /// Of a test that has failed.
    fn drop(&mut self) {
        for master in self.masters() {
            let workers = process::children(master).into_iter();
            let all: Vec<Handle> = [master]
                .into_iter()
                .chain(workers)
                .filter_map(Handle::open)
                .collect();
            if self.masters().contains(&master) {
                all.iter().for_each(|one| one.signal(Signal::SIGKILL));
            }
        }
    }
}

/// nginx takes that for granted of a socket that it has not opened itself: where two of its processes wake for one
/// connection, the other one would wait in accept(2) for the next.
fn assert_does_not_block(pid: &Value, descriptor: u32) {
    let path = format!("/proc/{pid}/fdinfo/{descriptor}");
    let text = fs::read_to_string(&path).unwrap();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = i32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
    assert!(
        OFlag::from_bits_truncate(flags).contains(OFlag::O_NONBLOCK),
        "{text}"
    );
}

/// It never says that it is ready, and TERM is its fast shutdown: what it has in hand then is cut off. Who waits in
/// the queue is its successor's.
#[test]
fn nginx_by_itself_refuses_nobody() {
    let network = network::isolate();
    let stage = Stage::new();
    let nginx = Nginx::new(&stage);
    let program = tool("nginx", "nginx");
    let command = [
        program.to_str().unwrap(),
        "-e",
        "stderr",
        "-c",
        nginx.configuration.to_str().unwrap(),
    ];
    // USR2 would make it replace itself.
    let options = ["--prepare-signal", "none"];
    let reports = nginx.deploy_again_and_again(stage, network, &options, &command, false);
    for (name, report) in &reports {
        show(&format!("nginx, TERM, {name}"), report);
        assert_nobody_refused(report);
        // Not more than one for each client at each restart.
        let in_hand = (CLIENTS + SLOW.clients) * usize::try_from(RESTARTS).unwrap();
        assert!(report.failed() <= in_hand.try_into().unwrap(), "{report}");
    }
}

/// Nine lines of sh say *started* for it, and make TERM its graceful shutdown.
#[test]
fn nginx_that_says_started_and_drains_loses_nothing() {
    let network = network::isolate();
    let stage = Stage::new();
    let nginx = Nginx::new(&stage);
    let script = place(&stage, "nginx.sh");
    let command = [
        "sh",
        script.to_str().unwrap(),
        nginx.configuration.to_str().unwrap(),
    ];
    tool("nginx", "nginx");
    let reports = nginx.deploy_again_and_again(stage, network, &[], &command, true);
    for (name, report) in &reports {
        show(&format!("nginx, QUIT by a script, {name}"), report);
        assert_nobody_refused(report);
        assert_eq!(report.failed(), 0, "{report}");
    }
}

// ---- Server::Starter

fn starlet(notify: &str) -> Reports {
    let network = network::isolate();
    let stage = Stage::new();
    let socket = stage.scratch.join("starlet.sock");
    let unix = format!("local=unix:{}", socket.display());
    let plackup = tool("plackup", "starlet");
    let options = [
        "--listen-env",
        "server-starter",
        "--listen",
        "http=127.0.0.1:0",
        "--listen",
        &unix,
    ];
    let app = place(&stage, "app.psgi");
    let notify = format!("NOTIFY={notify}");
    let command = [
        "env",
        &notify,
        plackup.to_str().unwrap(),
        "-E",
        "production",
        "-s",
        "Starlet",
        "--max-workers=6",
        "--max-reqs-per-child=100000",
        app.to_str().unwrap(),
    ];
    let server = Server::start(network, stage, &options, &command);
    server.stage.log.wait_for("generation 1 (pid ");
    let address = bound(&server.stage, "http");
    let sites = [
        Site::new("TCP", Target::Tcp(address), Some(SLOW)),
        Site::new("Unix", Target::Unix(socket.clone()), Some(SLOW)),
    ];
    for generation in 1..=RESTARTS + 1 {
        if generation > 1 {
            server.restart(&sites, generation);
        }
        if notify == "NOTIFY=1" {
            server.wait_ready(generation);
        }
    }
    assert_eq!(bound(&server.stage, "http"), address);
    let reports = sites.map(|site| (site.name, site.load.stop()));
    server.end(&[&socket]);
    reports
}

/// It never says that it is ready: there is a gap, in which clients wait. It drains on TERM.
#[test]
fn starlet_by_itself_loses_nothing() {
    for (name, report) in &starlet("") {
        show(&format!("Starlet, {name}"), report);
        assert_nobody_refused(report);
        assert_eq!(report.failed(), 0, "{report}");
    }
}

/// The application says *started*: there is no gap.
#[test]
fn starlet_with_an_application_that_says_started_loses_nothing() {
    for (name, report) in &starlet("1") {
        show(&format!("Starlet that says started, {name}"), report);
        assert_nobody_refused(report);
        assert_eq!(report.failed(), 0, "{report}");
    }
}

// ---- LISTEN_FDS

/// It says `READY=1` by itself, and drains on TERM.
#[test]
fn gunicorn_loses_nothing() {
    let network = network::isolate();
    let stage = Stage::new();
    let socket = stage.scratch.join("gunicorn.sock");
    let unix = format!("local=unix:{}", socket.display());
    let app = place(&stage, "app.py");
    let gunicorn = tool("gunicorn", "gunicorn");
    let command = [
        gunicorn.to_str().unwrap(),
        "--workers",
        "6",
        "--chdir",
        app.parent().unwrap().to_str().unwrap(),
        "app",
    ];
    let options = ["--listen", "http=127.0.0.1:0", "--listen", &unix];
    let server = Server::start(network, stage, &options, &command);
    server.wait_ready(1);
    let address = bound(&server.stage, "http");
    let inode = fs::metadata(&socket).unwrap().ino();
    let sites = [
        Site::new("TCP", Target::Tcp(address), Some(SLOW)),
        Site::new("Unix", Target::Unix(socket.clone()), Some(SLOW)),
    ];
    for generation in 2..=RESTARTS + 1 {
        server.restart(&sites, generation);
        server.wait_ready(generation);
    }
    // The sixth leads to the end of the fifth.
    let drained = format!("generation {RESTARTS} (pid ");
    server
        .stage
        .log
        .wait(|line| line.contains(&drained) && line.contains(" is gone: exit status 0"));
    assert_eq!(fs::metadata(&socket).unwrap().ino(), inode);
    let reports = sites.map(|site| (site.name, site.load.stop()));
    server.end(&[&socket]);
    for (name, report) in &reports {
        show(&format!("gunicorn, {name}"), report);
        assert_nobody_refused(report);
        assert_eq!(report.failed(), 0, "{report}");
    }
}

// ---- Datagrams

/// Numbered datagrams from one connected socket, all the time; each comes back behind a line about who answers.
struct Datagrams {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    socket: UdpSocket,
    stop: AtomicBool,
    count: Mutex<Count>,
    news: Condvar,
}

#[derive(Clone, Debug, Default)]
struct Count {
    sent: u64,
    answered: u64,
    refused: u64,
    /// Numbers that have come back more than once, or were never sent.
    wrong: u64,
    /// By number: whether it has come back.
    back: Vec<bool>,
    by_generation: BTreeMap<u32, u64>,
}

impl Datagrams {
    /// As many without an answer fit into every receive buffer.
    const WINDOW: u64 = 64;
    const PACE: Duration = Duration::from_micros(500);

    fn start(to: SocketAddr) -> Datagrams {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(to).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let shared = Arc::new(Shared {
            socket,
            stop: AtomicBool::new(false),
            count: Mutex::default(),
            news: Condvar::new(),
        });
        let (sender, receiver) = (Arc::clone(&shared), Arc::clone(&shared));
        Datagrams {
            shared,
            threads: vec![
                thread::spawn(move || sender.send()),
                thread::spawn(move || receiver.receive()),
            ],
        }
    }

    fn wait(&self, wanted: impl Fn(&Count) -> bool) {
        let count = self.shared.count.lock().unwrap();
        let waiting = self
            .shared
            .news
            .wait_timeout_while(count, PATIENCE, |count| !wanted(count));
        let (count, timeout) = waiting.unwrap();
        let seen = (
            count.sent,
            count.answered,
            count.refused,
            count.by_generation.clone(),
        );
        drop(count);
        assert!(
            !timeout.timed_out(),
            "sent, answered, refused, by whom: {seen:?}"
        );
    }

    /// Sends no more, and waits for every answer.
    fn stop(mut self) -> Count {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        self.shared.count.lock().unwrap().clone()
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn send(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let count = self.count.lock().unwrap();
            let full = |count: &mut Count| count.sent - count.answered >= Datagrams::WINDOW;
            let waited = self.news.wait_timeout_while(count, Datagrams::PACE, full);
            let mut count = waited.unwrap().0;
            if full(&mut count) {
                continue;
            }
            let number = count.sent;
            count.sent += 1;
            count.back.push(false);
            drop(count);
            self.refused(self.socket.send(number.to_string().as_bytes()));
            // A rate, not an event.
            thread::sleep(Datagrams::PACE);
        }
    }

    /// Until everything has come back, or nothing more does.
    fn receive(&self) {
        let mut buffer = [0; 256];
        let mut silent = Duration::ZERO;
        while silent < PATIENCE {
            {
                let count = self.count.lock().unwrap();
                if self.stop.load(Ordering::Relaxed) && count.answered == count.sent {
                    return;
                }
            }
            match self.socket.recv(&mut buffer) {
                Ok(length) => {
                    silent = Duration::ZERO;
                    self.take(std::str::from_utf8(&buffer[..length]).unwrap());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    silent += Duration::from_millis(100);
                }
                Err(error) => {
                    self.refused(Err(error));
                }
            }
        }
    }

    fn refused(&self, outcome: std::io::Result<usize>) {
        if let Err(error) = outcome {
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
            self.count.lock().unwrap().refused += 1;
        }
    }

    /// `pid P generation G`, and the number.
    fn take(&self, answer: &str) {
        let (who, number) = answer.split_once('\n').expect("two lines");
        let generation = who.rsplit(' ').next().unwrap().parse().unwrap();
        let number: usize = number.parse().unwrap();
        let mut count = self.count.lock().unwrap();
        if count.back.get(number) == Some(&false) {
            count.back[number] = true;
            count.answered += 1;
            *count.by_generation.entry(generation).or_default() += 1;
        } else {
            count.wrong += 1;
        }
        drop(count);
        self.news.notify_all();
    }
}

#[test]
fn every_datagram_is_answered_by_one_of_the_generations() {
    const RESTARTS: u32 = 10;
    let network = network::isolate();
    let stage = Stage::new();
    let echo = support::example("udp_echo");
    let options = ["--listen", "echo=udp:127.0.0.1:0"];
    let server = Server::start(network, stage, &options, &[echo.to_str().unwrap()]);
    server.wait_ready(1);
    let datagrams = Datagrams::start(bound(&server.stage, "echo"));
    for generation in 1..=RESTARTS + 1 {
        if generation > 1 {
            server.runit.restart().expect_success();
            server.wait_ready(generation);
        }
        datagrams.wait(|count| count.by_generation.contains_key(&generation));
    }
    let count = datagrams.stop();
    tell(&format!(
        "UDP: {RESTARTS} restarts, {} datagrams, {} refused, {} without an answer; answered by each generation: {:?}",
        count.sent,
        count.refused,
        count.sent - count.answered,
        count.by_generation.values().collect::<Vec<_>>(),
    ));
    assert_eq!(count.refused, 0);
    assert_eq!(count.wrong, 0);
    assert_eq!(count.answered, count.sent);
    server.end(&[]);
}

// ---- By number

#[test]
fn a_shell_daemon_has_its_sockets_by_number() {
    let network = network::isolate();
    let stage = Stage::new();
    let socket = stage.scratch.join("second.sock");
    let second = format!("second={}", socket.display());
    let (script, accept) = (place(&stage, "by_number.sh"), place(&stage, "accept.py"));
    let options = ["--listen", "first=127.0.0.1:0", "--listen", &second];
    let command = ["sh", script.to_str().unwrap(), accept.to_str().unwrap()];
    let server = Server::start(network, stage, &options, &command);
    server.wait_ready(1);
    let first = Target::Tcp(bound(&server.stage, "first"));
    let sites = [
        Site::new("first", first, None),
        Site::new("second", Target::Unix(socket.clone()), None),
    ];
    for generation in 2..=RESTARTS + 1 {
        server.restart(&sites, generation);
        server.wait_ready(generation);
    }
    let reports = sites.map(|site| (site.name, site.load.stop()));
    server.end(&[&socket]);
    for (name, report) in &reports {
        show(&format!("a shell daemon, its {name} socket"), report);
        assert_eq!(report.failed(), 0, "{report}");
    }
}
