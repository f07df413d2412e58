//! The proof that a stop is told from a restart: a service under load on each real supervisor, with every verb that
//! means one or the other, in random order and at random moments.
//!
//!     cargo run --release --example stops
//!     cargo run --release --example stops -- --only s6,systemd --restarts 20 --stops 20 --seed 7
//!
//! It needs root, and the Debian packages runit, daemontools, s6, systemd, util-linux and iproute2.
#![expect(clippy::print_stderr, reason = "it is run by people")]

mod delays;
#[path = "../../load.rs"]
mod load;
mod plan;
#[allow(dead_code, reason = "the audit uses all of it")]
#[path = "../programs.rs"]
mod programs;
#[path = "../../random.rs"]
mod random;
mod requests;
mod service;
#[path = "../../../tests/support/mod.rs"]
mod support;
mod table;
mod trial;
mod verbs;

use std::{
    env,
    io::{self, Write},
    process::{Command, ExitCode},
    thread,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use clap::Parser;
use nix::sys::signal::Signal;
use plan::Plan;
use programs::Programs;
use random::Random;
use service::Service;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use support::{Kind, Pid, network, process::Handle, scratch};
use table::Row;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// The supervisors whose wish can be read when their signal comes.
const KINDS: [Kind; 4] = [Kind::Runit, Kind::Daemontools, Kind::S6, Kind::Systemd];

/// Restarts and stops a service under load on each supervisor, by every verb and at every moment, and counts whether each
/// was told for what it was. Then it measures what the telling costs a restart.
#[derive(Clone, Debug, Parser)]
#[command(name = "stops")]
struct Options {
    /// Restarts on each supervisor
    #[arg(long, value_name = "N", default_value_t = 100)]
    restarts: usize,
    /// Stops on each supervisor
    #[arg(long, value_name = "N", default_value_t = 100)]
    stops: usize,
    /// Only these supervisors: runit, daemontools, s6, systemd
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', value_parser = kind)]
    only: Vec<Kind>,
    /// For the same order, moments and pauses again [default: another one each time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Requests per second, at most, on each supervisor
    #[arg(long, value_name = "N", default_value_t = 400)]
    rate: u32,
    /// How often the delay is measured, in each of its rows; 0: not at all
    #[arg(long, value_name = "N", default_value_t = 15)]
    delays: usize,
    /// This is the process that does it
    #[arg(long, hide = true)]
    inner: bool,
}

fn kind(name: &str) -> Result<Kind, String> {
    let found = KINDS.into_iter().find(|kind| table::name(*kind) == name);
    found.ok_or_else(|| "runit, daemontools, s6 or systemd".to_owned())
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = if options.inner {
        run(&options)
    } else {
        in_a_child()
    };
    done.unwrap_or_else(|error| {
        eprintln!("stops: {error}");
        ExitCode::FAILURE
    })
}

/// Whatever becomes of the process that does it, nothing that it has started stays.
fn in_a_child() -> Outcome<ExitCode> {
    Programs::build()?;
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let mut child = Command::new(env::current_exe()?)
        .arg("--inner")
        .args(env::args_os().skip(1))
        .spawn()?;
    let handle = Handle::open(Pid::from_raw(child.id().try_into()?)).ok_or("it is our child")?;
    thread::spawn(move || {
        if signals.forever().next().is_some() {
            handle.signal(Signal::SIGKILL);
        }
    });
    let status = child.wait()?;
    scratch::sweep(&env::temp_dir());
    match status.code() {
        Some(code) => Ok(ExitCode::from(u8::try_from(code)?)),
        None => Err(format!("it did not come to its end: {status}").into()),
    }
}

fn run(options: &Options) -> Outcome<ExitCode> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let seed = options.seed.unwrap_or(now.as_secs());
    let kinds = match options.only.as_slice() {
        [] => &KINDS[..],
        only => only,
    };
    eprintln!(
        "{} restarts and {} stops on each of {}; --seed {seed}\n",
        options.restarts,
        options.stops,
        kinds
            .iter()
            .map(|kind| table::name(*kind))
            .collect::<Vec<_>>()
            .join(", "),
    );
    let began = Instant::now();
    // Side by side: most of the time each waits for its supervisor.
    let campaigns: Vec<_> = kinds
        .iter()
        .map(|&kind| {
            let options = options.clone();
            thread::spawn(move || campaign(kind, &options, seed))
        })
        .collect();
    let mut rows: Vec<Row> = Vec::new();
    for campaign in campaigns {
        // A panic has ended the process already.
        rows.extend(campaign.join().ok());
    }
    // `println!` would panic when nobody reads any more.
    let mut out = io::stdout();
    write!(out, "{}", table::Table(&rows))?;
    writeln!(
        out,
        "{:.0} s, --seed {seed}\n",
        began.elapsed().as_secs_f64()
    )?;
    if options.delays > 0 {
        // One after the other: nobody shall be in the way.
        let delays = kinds.iter().map(|&kind| {
            let measured = thread::spawn({
                let times = options.delays;
                move || delays::measure(kind, times)
            });
            measured.join().unwrap_or_default()
        });
        write!(
            out,
            "{}",
            delays::Table(&delays.collect::<Vec<_>>().concat())
        )?;
    }
    let passed = rows.len() == kinds.len() && rows.iter().all(Row::passed);
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// All trials of one supervisor, in a network of their own.
fn campaign(kind: Kind, options: &Options, seed: u64) -> Row {
    let _network = network::isolate();
    let mut random = Random::new(seed, kind as u64);
    let plan = Plan::new(kind, options.restarts, options.stops, &mut random);
    let mut row = Row::new(kind);
    let mut service = Service::start(kind, options.rate, &plan, 0);
    for (number, trial) in plan.trials.iter().enumerate() {
        let from = service.log.length();
        let judged = trial::run(trial, &mut service, &plan, number, &mut random);
        let name = table::name(kind);
        match &judged {
            Err(wrong) => eprintln!(
                "{name}: trial {number}, {trial}: WRONG: {wrong}\n{}\n",
                service.story(from)
            ),
            Ok(told) if told.lost > 0 => eprintln!(
                "{name}: trial {number}, {trial}: {} requests failed: {}\n{}\n",
                told.lost,
                service.requests.failures(),
                service.story(from)
            ),
            Ok(_) => {}
        }
        row.count(trial, &judged);
        if judged.is_err() {
            service.finish(&mut row);
            service = Service::start(kind, options.rate, &plan, number + 1);
        }
        if (number + 1) % 20 == 0 {
            eprintln!(
                "{}: {} of {}",
                table::name(kind),
                number + 1,
                plan.trials.len()
            );
        }
    }
    service.finish(&mut row);
    row
}
