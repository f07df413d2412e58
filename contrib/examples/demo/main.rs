//! An HTTP server under load, with nothing but a small respawn loop for a supervisor, and what becomes of its clients
//! while it is restarted, broken and killed.
//!
//!     cargo run --release --example demo
//!
//! On a terminal it is a live picture, which runs by itself and hears keys; anywhere else, and in the background, five
//! restarts, a line for each.
#![expect(clippy::print_stderr, reason = "it is run by people")]

mod chart;
mod generations;
#[path = "../../grouped.rs"]
mod grouped;
mod keys;
mod live;
#[path = "../../load.rs"]
mod load;
mod pid_file;
mod plain;
mod programs;
mod row;
mod screen;
mod service;
#[path = "../../status.rs"]
mod status;
mod story;
mod summary;
mod tally;
mod terminal;

use std::{
    env,
    io::{self, Write},
    os::fd::{AsFd, OwnedFd},
    panic,
    process::{self, ExitCode},
    sync::{
        Arc,
        mpsc::{self, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use load::SlowSpec;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use programs::Programs;
use service::{End, Service};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGWINCH},
    iterator::Signals,
};

const FAST_CLIENTS: usize = 8;
const SLOW: SlowSpec = SlowSpec {
    clients: 4,
    delay: Duration::from_secs(2),
};
/// For anything that takes milliseconds when all is well.
const LIMIT: Duration = Duration::from_secs(10);

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const USAGE: &str = "\
usage: demo [--plain] [--pace FACTOR]

An HTTP server under load, while it is restarted, broken and killed. On a terminal it is a live picture, which runs by
itself and hears keys; NO_COLOR is honoured. Anywhere else, in the background, and with --plain, it is five restarts,
a line for each.
--pace 2 is twice as fast. Exit status 0: not one request was lost.";

struct Options {
    plain: bool,
    pace: f64,
}

fn options() -> Result<Options, &'static str> {
    let mut options = Options {
        plain: false,
        pace: 1.0,
    };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--plain" => options.plain = true,
            "--pace" => {
                let factor = words.next().and_then(|factor| factor.parse().ok());
                let sound = factor.filter(|factor| (0.1..=100.0).contains(factor));
                options.pace = sound.ok_or(USAGE)?;
            }
            _ => return Err(USAGE),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(usage) => {
            eprintln!("{usage}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Outcome<ExitCode> {
    let live = !options.plain && terminal::is_wanted();
    // `println!` would panic when nobody reads any more, and leave everything behind.
    let mut out = io::stdout();
    let programs = Programs::build()?;
    if !live {
        plain::greeting(&mut out)?;
    }
    let signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGWINCH])?;
    let directory = tempfile::Builder::new()
        .prefix("seamless-demo-")
        .tempdir()?;
    let service = Arc::new(Service::new(programs, directory.keep()));
    leave_nothing_on_panic(&service);
    let (events, heard) = mpsc::channel();
    let watched = Arc::clone(&service);
    let listener = live.then(|| events.clone());
    thread::spawn(move || obey(signals, &watched, listener));
    if live {
        return live::run(&service, events, &heard, options.pace);
    }

    let outcome = plain::restarts(&service, &mut out);
    if service.is_ending() {
        // Interrupted: the other thread ends everything, this process last.
        loop {
            thread::park();
        }
    }
    let end = service.end();
    let passed = match outcome {
        Ok(report) => plain::conclusion(&report, &mut out)?,
        Err(error) => {
            writeln!(out, "\nFAILED: {error}")?;
            false
        }
    };
    Ok(last_words(&end, passed, &mut out)?)
}

/// Ctrl-C too leaves nothing behind. With a live picture it is told, and leaves by itself.
fn obey(mut signals: Signals, service: &Service, live: Option<Sender<live::Event>>) {
    let mut ended_by = None;
    for signal in signals.forever() {
        let resized = signal == SIGWINCH;
        match &live {
            Some(live) if resized => drop(live.send(live::Event::Resized)),
            Some(live) => {
                live.send(live::Event::Signal(signal)).ok();
                ended_by = Some(signal);
                break;
            }
            None if resized => {}
            None => {
                eprintln!(
                    "\nInterrupted: the service is stopped, and finishes the requests in flight."
                );
                ended_by = Some(signal);
                break;
            }
        }
    }
    if live.is_some() {
        // Only a terminal that takes nothing more holds it up for so long.
        thread::sleep(LIMIT);
    }
    if let Err(error) = service.end().outcome {
        eprintln!("demo: {error}");
    }
    terminal::restore();
    process::exit(128 + ended_by.unwrap_or(SIGTERM));
}

/// Of a panic nothing stays behind: not the service, and not a terminal in disorder.
fn leave_nothing_on_panic(service: &Arc<Service>) {
    let said_by = panic::take_hook();
    let service = Arc::clone(service);
    panic::set_hook(Box::new(move |panic| {
        terminal::restore();
        said_by(panic);
        service.abandon();
        process::exit(101);
    }));
}

/// What is left to be said, and the exit status.
fn last_words(end: &End, passed: bool, out: &mut impl Write) -> io::Result<ExitCode> {
    match &end.outcome {
        Ok(()) => writeln!(out, "Every process has ended; nothing is left behind.")?,
        Err(error) => writeln!(out, "\nFAILED: {error}")?,
    }
    if passed && end.outcome.is_ok() {
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "\nThe log of seamless-run:\n{}", end.log)?;
    Ok(ExitCode::FAILURE)
}

/// Waits until there is something to read, or for a pidfd: until its process has ended.
fn wait_readable(descriptor: &OwnedFd, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut wanted = [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)];
        match poll(&mut wanted, timeout) {
            Err(Errno::EINTR) => {}
            Ok(ready) => return ready > 0,
            Err(_) => return false,
        }
    }
}
