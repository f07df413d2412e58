//! What `seamless-run` weighs, beside others that stand between a supervisor and a daemon, in one run on one machine.
//!
//!     cargo run --release --example weight
//!     cargo run --release --example weight -- --only start,memory --rounds 1000
//!
//! It needs root, a C compiler, and the Debian packages that it names when they are not there.
#![expect(clippy::print_stderr, reason = "it is run by people")]

mod cost;
mod latency;
mod memory;
mod picture;
mod programs;
mod report;
mod samples;
mod scale;
mod start;
#[path = "../../../tests/support/mod.rs"]
mod support;
mod table;
mod targets;

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    thread,
    time::Duration,
};

use clap::{Parser, ValueEnum};
use nix::sys::signal::Signal;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use support::{Kind, Pid, Scratch, process::Handle, scratch};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Piece {
    Start,
    Memory,
    Cost,
    Latency,
    Scale,
}

/// Measures what seamless-run weighs, side by side with its peers, and says what is reached and what is not.
#[derive(Clone, Debug, Parser)]
#[command(name = "weight")]
struct Options {
    /// Only these
    #[arg(long, value_name = "PIECE,...", value_delimiter = ',')]
    only: Vec<Piece>,
    /// How often each start is measured
    #[arg(long, value_name = "N", default_value_t = 400)]
    rounds: usize,
    /// How long wake-ups are counted
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    idle: u64,
    /// How often each restart is measured, on each supervisor
    #[arg(long, value_name = "N", default_value_t = 15)]
    restarts: usize,
    /// Restarts on these supervisors only: runit, daemontools, s6, systemd, supervisord
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', value_parser = kind)]
    supervisors: Vec<Kind>,
    /// Services at once; 1000 are as many as runsvdir takes
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=1000))]
    services: u16,
    /// The PID files of all these services lie in one directory
    #[arg(long)]
    one_directory: bool,
    /// Draws the picture here
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// The static build; without this cargo makes it
    #[arg(long, value_name = "PROGRAM")]
    r#static: Option<PathBuf>,
    /// In a few seconds; the numbers are worth nothing
    #[arg(long)]
    quick: bool,
    /// This is the process that does it, and here its PID files lie
    #[arg(long, hide = true)]
    inner: Option<PathBuf>,
}

/// Everything that came out.
#[derive(Debug, Default)]
struct Measured {
    rounds: usize,
    idle: Duration,
    missing: Vec<String>,
    starts: Vec<start::Start>,
    memory: Vec<memory::Memory>,
    costs: Vec<cost::Cost>,
    latencies: Vec<latency::Latency>,
    scale: Option<scale::Scale>,
}

fn kind(name: &str) -> Result<Kind, String> {
    let found = Kind::ALL.into_iter().find(|kind| kind_name(*kind) == name);
    found.ok_or_else(|| "runit, daemontools, s6, systemd or supervisord".to_owned())
}

fn kind_name(kind: Kind) -> String {
    format!("{kind:?}").to_lowercase()
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match &options.inner {
        Some(files) => run(&options, files),
        None => in_a_child(),
    };
    done.unwrap_or_else(|error| {
        eprintln!("weight: {error}");
        ExitCode::FAILURE
    })
}

/// Whatever becomes of the process that does it, nothing that it has started stays.
fn in_a_child() -> Outcome<ExitCode> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let files = on_a_tmpfs()?;
    let mut child = Command::new(env::current_exe()?)
        .arg("--inner")
        .arg(files.path())
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

fn run(options: &Options, files: &Path) -> Outcome<ExitCode> {
    let (plain, built) = programs::ours(options.r#static.as_deref())?;
    let scratch = Scratch::new();
    let programs = programs::Programs::make(scratch.path(), &plain, built)?;
    let wanted = |piece| options.only.is_empty() || options.only.contains(&piece);
    let mut measured = Measured {
        rounds: if options.quick { 5 } else { options.rounds },
        idle: Duration::from_secs(if options.quick { 1 } else { options.idle }),
        missing: programs.missing.clone(),
        ..Measured::default()
    };
    if wanted(Piece::Start) {
        eprintln!("start: {} rounds", measured.rounds);
        come_first(true);
        measured.starts = start::measure(&programs, files, scratch.path(), measured.rounds)?;
        come_first(false);
    }
    if wanted(Piece::Memory) {
        eprintln!("memory");
        measured.memory = memory::measure(&programs, &scratch, files, measured.idle)?;
    }
    if wanted(Piece::Cost) {
        eprintln!("cost");
        measured.costs = cost::measure(&programs, &scratch, files, !options.quick)?;
    }
    if wanted(Piece::Latency) {
        let kinds = match options.supervisors.as_slice() {
            [] if options.quick => &[Kind::Runit],
            [] => &Kind::ALL[..],
            some => some,
        };
        let restarts = if options.quick { 1 } else { options.restarts };
        eprintln!("latency: {restarts} restarts on each of {kinds:?}");
        let missing = &mut measured.missing;
        measured.latencies = latency::measure(&programs, files, kinds, restarts, missing);
    }
    if wanted(Piece::Scale) {
        let services = if options.quick { 5 } else { options.services };
        eprintln!("scale: {services} services");
        let scale = scale::measure(
            &programs,
            &scratch,
            files,
            services.into(),
            options.one_directory,
        );
        match scale {
            Ok(scale) => measured.scale = Some(scale),
            Err(error) => measured
                .missing
                .push(format!("{services} services: {error}")),
        }
    }
    report::print(&measured)?;
    if let Some(svg) = &options.svg {
        fs::write(svg, picture::draw(&measured))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What else runs on this machine shall not be measured: whatever is started from here on is run before it. (Who may
/// not do this measures all the same.)
fn come_first(first: bool) {
    let policy = if first {
        ["--fifo", "1"]
    } else {
        ["--other", "0"]
    };
    let [policy, priority] = policy;
    let this = std::process::id().to_string();
    let chrt = Command::new("chrt")
        .args([policy, "--pid", priority, &this])
        .output();
    if !chrt.is_ok_and(|done| done.status.success()) {
        eprintln!("start: other processes can come between (chrt: apt-get install util-linux)");
    }
}

/// Where the PID files lie: a supervisor's services have them in /run.
fn on_a_tmpfs() -> Outcome<tempfile::TempDir> {
    const TMPFS: u64 = 0x0102_1994;
    let places = ["/run", "/dev/shm"].map(Path::new);
    let place = places
        .into_iter()
        .find(|place| {
            rustix::fs::statfs(*place).is_ok_and(|found| u64::try_from(found.f_type) == Ok(TMPFS))
        })
        .ok_or("neither /run nor /dev/shm is a tmpfs")?;
    let directory = tempfile::Builder::new()
        .prefix("seamless-weight-")
        .tempdir_in(place)?;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
    Ok(directory)
}
