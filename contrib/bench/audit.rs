//! The loss audit: an HTTP server under runit and load, restarted over and over, and what that costs its clients.
//!
//!     cargo run --release --example audit
//!     cargo run --release --example audit -- --only held-tcp,held-unix --requests 5000000 --restarts 100
#![expect(clippy::print_stderr, reason = "it is run by people")]

#[path = "../load.rs"]
mod load;
mod network;
mod programs;
mod scenario;
mod service;
mod table;
mod unlink_bind;

use std::{
    env,
    io::{self, Write},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use load::{Load, Report, SlowSpec};
use network::Network;
use programs::Programs;
use scenario::Scenario;
use service::Service;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    flag,
};
use table::{Cut, Row};

const FAST_CLIENTS: usize = 32;
const SLOW: SlowSpec = SlowSpec {
    clients: 4,
    delay: Duration::from_secs(2),
};
/// For anything that takes milliseconds when all is well, and two seconds of drain where it is not.
const LIMIT: Duration = Duration::from_secs(30);
/// How long a signal to us, or the time limit, may go unseen.
const SLICE: Duration = Duration::from_millis(50);
/// runsv starts a service that has run for less than a second only a second later: that would be measured, and nothing
/// else.
const LEAST_AGE: Duration = Duration::from_millis(1100);

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Restarts an HTTP server under runit (`sv restart`) and load, in each of the ways in which two generations can come to
/// listen at one address, and prints what it cost: a row for each way.
#[derive(Debug, Parser)]
#[command(name = "audit")]
struct Options {
    /// Requests to be answered in each row [default: 1000000 where the keeper holds the socket, else 300000]
    #[arg(long, value_name = "N")]
    requests: Option<u64>,
    /// Restarts in each row, spread over the requests [default: 20 where the keeper holds the socket, else 10]
    #[arg(long, value_name = "N")]
    restarts: Option<u32>,
    /// Only these rows
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    only: Vec<Scenario>,
    /// Requests per second, at most
    #[arg(long, value_name = "N", default_value_t = load::MAX_RATE)]
    rate: u32,
    /// A row that takes longer ends there, with what it has
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    time_limit: u64,
}

fn main() -> ExitCode {
    // One of the daemons that are audited is this program itself.
    let mut words = env::args_os().skip(1);
    if words.next().is_some_and(|word| word == unlink_bind::WORD) {
        return unlink_bind::daemon(words.next());
    }
    match run(&Options::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("audit: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Outcome<ExitCode> {
    programs::find("runsv", "runit")?;
    programs::find("sv", "runit")?;
    // It may ask a registry: before this process leaves the network.
    let programs = Programs::build()?;
    let signal = Arc::new(AtomicUsize::new(0));
    for number in [SIGINT, SIGTERM, SIGHUP] {
        flag::register_usize(number, Arc::clone(&signal), number.unsigned_abs() as usize)?;
    }
    let network = Network::prepare()?;
    let scratch = tempfile::Builder::new()
        .prefix("seamless-audit-")
        .tempdir()?;

    let scenarios = match options.only.as_slice() {
        [] => Scenario::ALL,
        only => only,
    };
    eprintln!(
        "A new connection for each request, {FAST_CLIENTS} at a time, at most {} a second, and {} requests that take {} s\n\
         always in flight; `sv restart` again and again. TERM is counted from the start of sv.\n",
        options.rate,
        SLOW.clients,
        SLOW.delay.as_secs(),
    );
    let mut rows: Vec<Row> = Vec::new();
    for (number, scenario) in (0..).zip(scenarios) {
        let audit = Audit {
            scenario: *scenario,
            programs: &programs,
            network: &network,
            place: scenario::Place {
                // A directory and a port of its own: nothing is left over from the row before.
                directory: scratch.path().join(format!("{number}")),
                port: network.port(number),
            },
            requests: options.requests.unwrap_or(scenario.default_requests()),
            restarts: options.restarts.unwrap_or(scenario.default_restarts()),
            rate: options.rate,
            signal: &signal,
            deadline: Instant::now() + Duration::from_secs(options.time_limit),
        };
        eprintln!("{scenario}: {}", scenario.what());
        let row = audit.run();
        eprintln!("{}\n", row.progress());
        let interrupted = matches!(row.cut, Some(Cut::Interrupted));
        rows.push(row);
        if interrupted {
            break;
        }
    }

    // `println!` would panic when nobody reads any more.
    write!(io::stdout(), "{}", table::Table(&rows))?;
    scratch.close()?;
    match signal.load(Ordering::Relaxed) {
        0 if rows.iter().all(Row::passed) => Ok(ExitCode::SUCCESS),
        0 => Ok(ExitCode::FAILURE),
        number => Ok(ExitCode::from(u8::try_from(128 + number)?)),
    }
}

/// One row, to be measured.
struct Audit<'a> {
    scenario: Scenario,
    programs: &'a Programs,
    network: &'a Network,
    place: scenario::Place,
    requests: u64,
    restarts: u32,
    rate: u32,
    /// The number of the one that ended the audit; 0 as long as there was none.
    signal: &'a AtomicUsize,
    deadline: Instant,
}

impl Audit<'_> {
    fn run(&self) -> Row {
        let mut row = Row {
            scenario: self.scenario,
            requests: self.requests,
            restarts: self.restarts,
            report: None,
            first_answers: Vec::new(),
            cut: None,
            left_behind: None,
            notes: Vec::new(),
        };
        row.cut = self.measure(&mut row).err();
        row
    }

    fn measure(&self, row: &mut Row) -> Result<(), Cut> {
        if let Some(migrate) = self.scenario.tcp_migrate_req() {
            self.network
                .set_tcp_migrate_req(migrate)
                .map_err(Cut::NotHere)?;
        }
        let command = self.scenario.command(self.programs, &self.place);
        let pid_file = self.scenario.is_launched().then(|| self.place.pid_file());
        let mut service = Service::start(&self.place.directory, &command, pid_file)
            .map_err(|error| Cut::Failed(format!("{}: {error}", self.place.directory.display())))?;
        let measured = self
            .wait_until_it_answers(&service)
            .and_then(|()| self.load(&service, row));
        if let Err(error) = service.end(&self.programs.seamless_run) {
            row.left_behind = Some(error);
        }
        let lost = self.scenario.is_held() && row.lost() > 0;
        if lost || matches!(measured, Err(Cut::Failed(_))) {
            eprintln!("{}: its log:\n{}", self.scenario, service.log_end());
        }
        measured
    }

    /// The first generation. What its clients see before it listens is no loss.
    fn wait_until_it_answers(&self, service: &Service) -> Result<(), Cut> {
        let probe = Load::start_at_rate(self.scenario.target(&self.place), 1, None, 50);
        self.wait(&probe, LIMIT, "the service does not answer", |report| {
            if report.fast.ok > 0 {
                return Some(Ok(()));
            }
            let failed = service.has_failed_to_start();
            failed.then(|| {
                let says = service.log_begin();
                Err(Cut::Failed(format!("the service does not start: {says}")))
            })
        })?
    }

    fn load(&self, service: &Service, row: &mut Row) -> Result<(), Cut> {
        let target = self.scenario.target(&self.place);
        let load = Load::start_at_rate(target, FAST_CLIENTS, Some(SLOW), self.rate);
        let ending = self.restarts(service, &load, row);
        let report = match ending {
            // Those in flight are waited for: they are in the balance too.
            Ok(()) | Err(Cut::TimeLimit) => load.stop(),
            // No time for that, or they would wait for an answer that never comes.
            Err(Cut::Interrupted | Cut::Failed(_) | Cut::NotHere(_)) => load.report(),
        };
        row.note_generations(&report);
        row.report = Some(report);
        ending
    }

    fn restarts(&self, service: &Service, load: &Load, row: &mut Row) -> Result<(), Cut> {
        let mut serving_since = Instant::now();
        for restart in 1..=self.restarts {
            let due = self.requests * u64::from(restart) / (u64::from(self.restarts) + 1);
            let is_due = |report: &Report| {
                (report.fast.ok >= due
                    && report.slow_in_flight >= SLOW.clients
                    && serving_since.elapsed() >= LEAST_AGE)
                    .then(|| report.pids())
            };
            let known = self.wait_as_long_as_it_takes(load, is_due)?;
            let began = Instant::now();
            let mut verb = service
                .restart()
                .map_err(|error| Cut::Failed(format!("sv: {error}")))?;
            let what = format!("restart {restart}: no answer from a new generation");
            let first = self.wait(load, LIMIT, &what, |report| {
                let mut answers = report.answers.values();
                let new = answers.find(|answer| !known.contains(&answer.pid))?;
                Some((new.pid, new.first))
            })?;
            row.first_answers.push(first.1 - began);
            serving_since = first.1;
            // It has answered, but a restart that came before it said that it is ready would mean something else.
            let what = format!("restart {restart}: pid {} was not ready", first.0);
            self.wait(load, LIMIT, &what, |_| {
                service.is_ready(first.0).then_some(())
            })?;
            let what = format!("restart {restart}: sv did not return");
            let status = self.wait(load, LIMIT, &what, |_| verb.try_wait())?;
            if !status.success() {
                row.notes
                    .push(format!("restart {restart}: sv restart: {status}"));
            }
        }
        self.wait_as_long_as_it_takes(load, |report| {
            (report.fast.ok >= self.requests).then_some(())
        })
    }

    fn wait_as_long_as_it_takes<T>(
        &self,
        load: &Load,
        question: impl FnMut(&Report) -> Option<T>,
    ) -> Result<T, Cut> {
        self.wait(load, Duration::MAX, "", question)
    }

    fn wait<T>(
        &self,
        load: &Load,
        limit: Duration,
        what: &str,
        mut question: impl FnMut(&Report) -> Option<T>,
    ) -> Result<T, Cut> {
        let began = Instant::now();
        loop {
            if let Some(found) = load.wait(SLICE, &mut question) {
                return Ok(found);
            }
            if self.signal.load(Ordering::Relaxed) != 0 {
                return Err(Cut::Interrupted);
            }
            if Instant::now() >= self.deadline {
                return Err(Cut::TimeLimit);
            }
            if began.elapsed() >= limit {
                let seconds = limit.as_secs();
                return Err(Cut::Failed(format!("{what} within {seconds} s")));
            }
        }
    }
}
