//! The campaign: real handovers under load on a real supervisor, and whatever can break in them.
//!
//!     cargo run --release --example campaign -- --handovers 2000 --seed 7
//!     cargo run --release --example campaign -- --kinds kill-old-keeper,full-disk --handovers 40
//!
//! It needs root, and the Debian packages runit, util-linux and iproute2. README.md beside this file says what it does.
#![expect(clippy::print_stderr, reason = "it is run by people")]

mod daemon;
mod fault;
mod handover;
mod innocents;
#[path = "../load.rs"]
mod load;
mod nursery;
mod plan;
#[allow(dead_code, reason = "the audit uses all of it")]
#[path = "../bench/programs.rs"]
mod programs;
#[path = "../random.rs"]
mod random;
mod requests;
mod service;
#[path = "../../tests/support/mod.rs"]
mod support;
mod table;
mod tracer;
mod watch;
mod world;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use clap::{Parser, ValueEnum};
use innocents::Innocents;
use plan::{Kind, Trial};
use service::Service;
use table::{Grid, Legend, Table};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Breaks handovers in every way and at every point, and counts what was lost, left behind, or wronged.
#[derive(Clone, Debug, Parser)]
#[command(name = "campaign")]
struct Options {
    /// For the same plan again [default: another one each time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[arg(long, value_name = "N", default_value_t = 2000)]
    handovers: usize,
    /// Only these faults
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', value_parser = Kind::named)]
    kinds: Vec<Kind>,
    /// Only this one of the handovers
    #[arg(long, value_name = "N")]
    only: Option<usize>,
    /// So many services at once
    #[arg(long, value_name = "N", default_value_t = 3)]
    services: usize,
    /// runit, daemontools or s6
    #[arg(long, value_name = "NAME", default_value = "runit", value_parser = supervisor)]
    supervisor: support::Kind,
    /// Requests per second, at most, on each service
    #[arg(long, value_name = "N", default_value_t = 150)]
    rate: u32,
    /// The highest PID
    #[arg(long, value_name = "N", default_value_t = 700)]
    pid_max: u32,
    /// Innocents may take a PID in the very tick of the clock (10 ms) in which the dead process was started
    #[arg(long)]
    same_tick: bool,
    /// Print each fault at each point, too
    #[arg(long)]
    table: bool,
    /// Let the clock jump as well: by an hour, and back. It is the whole machine's
    #[arg(long)]
    clock: bool,
    /// Name the faults, and end
    #[arg(long)]
    list: bool,
    /// What this process is
    #[arg(long, hide = true, value_enum)]
    role: Option<Role>,
    /// The control group for the services' own
    #[arg(long, hide = true, value_name = "DIRECTORY")]
    groups: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    /// PID 1 of its own world.
    Init,
    Campaign,
    Nursery,
    Daemon,
}

fn supervisor(name: &str) -> Result<support::Kind, String> {
    match name {
        "runit" => Ok(support::Kind::Runit),
        "daemontools" => Ok(support::Kind::Daemontools),
        "s6" => Ok(support::Kind::S6),
        _ => Err("runit, daemontools or s6".to_owned()),
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match options.role {
        None if options.list => list(),
        None => world::outside(),
        Some(Role::Init) => world::init(options.pid_max),
        Some(Role::Campaign) => run(&options),
        Some(Role::Nursery) => nursery::run(),
        Some(Role::Daemon) => daemon::run(),
    };
    done.unwrap_or_else(|error| {
        eprintln!("campaign: {error}");
        ExitCode::FAILURE
    })
}

fn list() -> Outcome<ExitCode> {
    for kind in Kind::ALL {
        writeln!(io::stdout(), "{}", kind.name())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What all services share.
struct Shared {
    options: Options,
    seed: u64,
    innocents: Innocents,
    table: Mutex<Table>,
    began: Instant,
    all: usize,
}

fn run(options: &Options) -> Outcome<ExitCode> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let seed = options.seed.unwrap_or(now.as_secs());
    let mut kinds = match options.kinds.as_slice() {
        [] => Kind::ALL.to_vec(),
        some => some.to_vec(),
    };
    if options.clock {
        if !fault::can_set_clock() {
            return Err("the clock cannot be set here".into());
        }
        kinds.push(Kind::Clock);
    }
    let handovers = options.only.map_or(options.handovers, |only| only + 1);
    let mut trials = plan::plan(seed, handovers, &kinds);
    if let Some(only) = options.only {
        trials.drain(..only);
    }
    let services = options.services.clamp(1, trials.len().max(1));
    let shared = Arc::new(Shared {
        options: options.clone(),
        seed,
        innocents: Innocents::start(options.same_tick)?,
        table: Mutex::default(),
        began: Instant::now(),
        all: trials.len(),
    });
    eprintln!(
        "{} handovers of {services} services; --seed {seed}\n",
        trials.len()
    );
    let campaigns: Vec<_> = (0..services)
        .map(|index| {
            let own: Vec<Trial> = trials
                .iter()
                .copied()
                .skip(index)
                .step_by(services)
                .collect();
            let shared = Arc::clone(&shared);
            thread::spawn(move || campaign(index, &own, &shared).map_err(|error| error.to_string()))
        })
        .collect();
    let mut broken = Vec::new();
    for campaign in campaigns {
        match campaign.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => broken.push(error),
            Err(_) => broken.push("a panic".to_owned()),
        }
    }
    let table = shared.table.lock().unwrap_or_else(PoisonError::into_inner);
    // `println!` would panic when nobody reads any more.
    let mut out = io::stdout();
    writeln!(out, "{table}")?;
    if options.table {
        writeln!(out, "{}", Grid(&table))?;
    }
    writeln!(out, "{Legend}")?;
    writeln!(
        out,
        "{} handovers in {:.0} s, the longest {:.1} s; {} innocents were born, {} signals hit them; {} wrong; --seed {seed}",
        table.handovers(),
        shared.began.elapsed().as_secs_f64(),
        table.slowest.as_secs_f64(),
        shared.innocents.forks(),
        shared.innocents.all_hits(),
        table.wrong(),
    )?;
    for error in &broken {
        eprintln!("campaign: {error}");
    }
    let passed = broken.is_empty() && table.wrong() == 0 && shared.innocents.all_hits() == 0;
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The handovers of one service, one after the other.
fn campaign(index: usize, trials: &[Trial], shared: &Shared) -> Outcome<()> {
    let mut running = None;
    for trial in trials {
        let (mut service, old) = match running.take() {
            Some(running) => running,
            None => start(index, shared)?,
        };
        let began = Instant::now();
        let judged = handover::run(&mut service, &old, trial, &shared.innocents);
        let mut table = shared.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.count(trial, &judged, began.elapsed());
        let (done, wrong) = (table.handovers(), table.wrong());
        drop(table);
        if let Some(words) = &judged.wrong {
            eprintln!(
                "WRONG: service {index}, {trial}: {words}\n    to repeat it: {}\n",
                repeat(trial, shared)
            );
        }
        if done % 25 == 0 {
            eprintln!(
                "{done} of {}, {wrong} wrong, {:.0} s",
                shared.all,
                shared.began.elapsed().as_secs_f64()
            );
        }
        // After something wrong a new service: what comes next shall not be blamed for it.
        running = judged
            .serving
            .filter(|_| judged.wrong.is_none())
            .map(|serving| (service, serving));
    }
    Ok(())
}

fn start(index: usize, shared: &Shared) -> Outcome<(Service, service::Serving)> {
    let options = &shared.options;
    let mut service = Service::start(
        index,
        options.supervisor,
        options.rate,
        &shared.innocents,
        options.groups.as_deref(),
    )?;
    let serving = handover::warm_up(&mut service).map_err(|error| {
        format!(
            "service {index}, at its start: {error}{}",
            service.log.listing()
        )
    })?;
    Ok((service, serving))
}

fn repeat(trial: &Trial, shared: &Shared) -> String {
    let names: Vec<String> = shared
        .options
        .kinds
        .iter()
        .map(|kind| kind.name())
        .collect();
    let kinds = match names.as_slice() {
        [] => String::new(),
        names => format!(" --kinds {}", names.join(",")),
    };
    let clock = if shared.options.clock { " --clock" } else { "" };
    let tick = if shared.options.same_tick {
        " --same-tick"
    } else {
        ""
    };
    format!(
        "cargo run --release --example campaign -- --seed {}{kinds}{clock}{tick} --only {}",
        shared.seed, trial.number
    )
}
