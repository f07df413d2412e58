//! How long a restart takes, on each supervisor: from TERM to the launcher's exit, and to the first answer of the new
//! generation.
//!
//! Beside ours runs a bare launcher in C, which does the least that a restart without a gap can do (`launcher.c`), with
//! the same daemon. Both are restarted in turns.

use std::{
    io::Read,
    net::{Ipv4Addr, TcpStream},
    path::Path,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use super::{
    Outcome, kind_name,
    programs::{Programs, Who},
    samples::{Samples, microseconds},
    support::{
        Kind, Log, Scratch, Service, Supervisor, network,
        process::{self, Handle},
    },
};

const LIMIT: Duration = Duration::from_secs(30);
/// Whoever came to the bare launcher's daemon in the moment in which it closes its socket may wait for ever.
const UNANSWERED: Duration = Duration::from_millis(100);
/// runsv starts a service that has run for less than a second only a second later, and supervise is deaf for so long.
const LEAST_AGE: Duration = Duration::from_millis(1300);
/// Below the ports that the kernel gives to clients.
const FIRST_PORT: u16 = 18080;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Bare,
    /// Ours, with a daemon that says no more than READY=1: nobody has to prepare.
    Ready,
    /// Ours, with a daemon that is told to prepare, and says when it is.
    Prepared,
}

impl Way {
    pub(crate) const ALL: [Way; 3] = [Way::Bare, Way::Ready, Way::Prepared];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Way::Bare => "bare launcher in C",
            Way::Ready => "ours, READY=1",
            Way::Prepared => "ours, prepared",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Latency {
    pub(crate) kind: Kind,
    pub(crate) way: Way,
    pub(crate) to_exit: Samples,
    pub(crate) to_answer: Samples,
}

/// A service and its supervisor.
struct Running {
    way: Way,
    port: u16,
    /// Before the scratch directory.
    supervisor: Box<dyn Supervisor>,
    started: Instant,
    log: Log,
    scratch: Scratch,
}

/// What cannot be measured on one supervisor goes to `missing`.
pub(crate) fn measure(
    programs: &Programs,
    files: &Path,
    kinds: &[Kind],
    rounds: usize,
    missing: &mut Vec<String>,
) -> Vec<Latency> {
    let mut measured = Vec::new();
    for kind in kinds {
        // In a thread of its own: it leaves the network.
        let of_one = thread::scope(|scope| {
            let thread = scope
                .spawn(|| on(*kind, programs, files, rounds).map_err(|error| error.to_string()));
            let joined = thread.join();
            joined.unwrap_or_else(|_| Err("it panicked".to_owned()))
        });
        match of_one {
            Ok(of_one) => measured.extend(of_one),
            Err(error) => missing.push(format!("restarts on {}: {error}", kind_name(*kind))),
        }
    }
    measured
}

fn on(kind: Kind, programs: &Programs, files: &Path, rounds: usize) -> Outcome<Vec<Latency>> {
    let _network = network::isolate();
    let mut running = Vec::new();
    for (number, way) in Way::ALL.into_iter().enumerate() {
        let port = FIRST_PORT + u16::try_from(number)?;
        running.push(Running::start(kind, way, port, programs, files)?);
    }
    let mut measured: Vec<Latency> = Way::ALL
        .map(|way| Latency {
            kind,
            way,
            to_exit: Samples::default(),
            to_answer: Samples::default(),
        })
        .into();
    // The first one finds nothing in any cache, and is not counted.
    for round in 0..=rounds {
        for (service, latency) in running.iter_mut().zip(&mut measured) {
            let (to_exit, to_answer) = service.restart()?;
            if round > 0 {
                latency.to_exit.add(to_exit);
                latency.to_answer.add(to_answer);
            }
        }
    }
    for service in &mut running {
        service.supervisor.shutdown();
    }
    Ok(measured)
}

impl Running {
    fn start(
        kind: Kind,
        way: Way,
        port: u16,
        programs: &Programs,
        files: &Path,
    ) -> Outcome<Running> {
        let scratch = Scratch::new();
        let log = Log::new(&scratch, "log");
        let small = programs.small().to_owned();
        let mut argv = Vec::new();
        if way == Way::Bare {
            argv.push(programs.launcher.to_string_lossy().into_owned());
            argv.extend([small, "bind".to_owned(), port.to_string()]);
        } else {
            let ours = programs.parent(Who::Static);
            let ours = ours.or_else(|| programs.parent(Who::Plain));
            let ours = ours.ok_or("seamless-run is not there")?;
            argv.push(ours.program.to_string_lossy().into_owned());
            let pid_file = match kind {
                // It has a /run and a /dev/shm of its own.
                Kind::Systemd => scratch.join("app.pid"),
                _ => files.join(format!("{kind:?}-{way:?}.pid")),
            };
            argv.push("--pid-file".to_owned());
            argv.push(pid_file.to_string_lossy().into_owned());
            argv.push(format!("--listen=127.0.0.1:{port}"));
            argv.extend(["--".to_owned(), small, "serve".to_owned()]);
            argv.push(
                match way {
                    Way::Prepared => "X_SEAMLESS=started",
                    Way::Ready | Way::Bare => "READY=1",
                }
                .to_owned(),
            );
        }
        let supervisor = kind.start(&scratch, &log, &Service::new(argv));
        let running = Running {
            way,
            port,
            supervisor,
            started: Instant::now(),
            log,
            scratch,
        };
        running.first_answer_of_another("")?;
        Ok(running)
    }

    /// In microseconds.
    fn restart(&mut self) -> Outcome<(f64, f64)> {
        thread::sleep(LEAST_AGE.saturating_sub(self.started.elapsed()));
        let launcher = self.supervisor.wait_main_pid();
        let launcher = Handle::open(launcher).ok_or("the launcher has left")?;
        let before = ask(self.port).ok_or("nobody answers")?;
        let asking = self.ask_for_another(before);
        let began = Instant::now();
        launcher.signal(Signal::SIGTERM);
        let left = launcher.wait_until(began + LIMIT);
        let to_exit = began.elapsed();
        let answered = asking.join().map_err(|_| "it panicked")?;
        let answered = answered.filter(|_| left).ok_or_else(|| {
            let (name, living) = (self.way.name(), process::list(&self.scratch.processes()));
            let said = self.log.listing();
            format!("{name}: no new generation answers (left: {left}){living}{said}")
        })?;
        self.started = Instant::now();
        Ok((microseconds(to_exit), microseconds(answered - began)))
    }

    fn ask_for_another(&self, before: String) -> JoinHandle<Option<Instant>> {
        let port = self.port;
        thread::spawn(move || another(port, &before))
    }

    fn first_answer_of_another(&self, before: &str) -> Outcome<Instant> {
        let answered = another(self.port, before);
        answered.ok_or_else(|| {
            let said = self.log.listing();
            format!("{}: nobody answers{said}", self.way.name()).into()
        })
    }
}

/// When somebody answered who is not this one.
fn another(port: u16, before: &str) -> Option<Instant> {
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        if ask(port).is_some_and(|answer| answer != before) {
            return Some(Instant::now());
        }
        // Without a pause those who are to answer would have half the machine.
        thread::sleep(Duration::from_micros(50));
    }
    None
}

fn ask(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(UNANSWERED)).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    (!answer.is_empty()).then_some(answer)
}
