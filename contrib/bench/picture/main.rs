//! A picture of a real restart: requests of each generation over time, from a run that is measured now.
//!
//!     cargo run --release --example picture -- docs/restart.svg
//!
//! An HTTP server under runit and load. It is restarted (`sv restart`), restarted to a version that crashes, and mended.
//! It needs the Debian package runit.
#![expect(clippy::print_stderr, reason = "it is run by people")]

mod drawing;
#[path = "../../grouped.rs"]
mod grouped;
mod lanes;
#[path = "../../load.rs"]
mod load;
#[allow(dead_code, reason = "the audit uses all of it")]
#[path = "../programs.rs"]
mod programs;
mod record;
#[allow(dead_code, reason = "the audit uses all of it")]
#[path = "../service.rs"]
mod service;
#[path = "../../status.rs"]
mod status;

use std::{
    fs,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use load::{Load, SlowSpec, Target};
use programs::Programs;
use record::{Record, Recorder};
use service::Service;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    flag,
};
use status::{Seen, Watch};

const FAST_CLIENTS: usize = 16;
const SLOW: SlowSpec = SlowSpec {
    clients: 4,
    delay: Duration::from_millis(1000),
};
/// For whatever takes a second or two when all is well.
const LIMIT: Duration = Duration::from_secs(30);
/// How long a signal to us may go unseen.
const SLICE: Duration = Duration::from_millis(20);

/// It takes its time until it is up, as large ones do.
const GOOD: &str = "sleep 1; exec \"$1\"";
const CRASHES: &str = "sleep 0.5; exit 1";

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Draws what a restart does to the clients of a real service, while it happens.
#[derive(Debug, Parser)]
#[command(name = "picture")]
struct Options {
    /// Where the picture goes
    #[arg(value_name = "FILE.svg")]
    file: PathBuf,
    /// Requests per second, at most
    #[arg(long, value_name = "N", default_value_t = 1600)]
    rate: u32,
    /// No more of the ordinary course of things than it takes
    #[arg(long)]
    short: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("picture: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Outcome<ExitCode> {
    programs::find("runsv", "runit")?;
    programs::find("sv", "runit")?;
    let programs = Programs::build()?;
    let signal = Arc::new(AtomicUsize::new(0));
    for number in [SIGINT, SIGTERM, SIGHUP] {
        flag::register_usize(number, Arc::clone(&signal), number.unsigned_abs() as usize)?;
    }
    let scratch = tempfile::Builder::new()
        .prefix("seamless-picture-")
        .tempdir()?;
    let directory = scratch.path();
    let pid_file = directory.join("app.pid");
    let socket = directory.join("app.sock");
    let script = directory.join("app");
    let mut listen = std::ffi::OsString::from("http=");
    listen.push(&socket);
    let command = [
        programs.seamless_run.clone().into(),
        "--pid-file".into(),
        pid_file.clone().into(),
        "--listen".into(),
        listen,
        "--".into(),
        "sh".into(),
        script.clone().into(),
        programs.http_unix.clone().into(),
    ];
    fs::write(&script, GOOD)?;
    let mut service = Service::start(directory, &command, Some(pid_file.clone()))?;
    let scene = Scene {
        service: &service,
        recorder: Recorder::new(),
        script,
        signal: &signal,
        short: options.short,
    };
    let measured = scene.play(&programs, &pid_file, Target::Unix(socket), options.rate);
    let record = scene.recorder.finish();
    let log = service.log_end();
    let ended = service.end(&programs.seamless_run);
    scratch.close()?;
    if let Err(error) = measured {
        return Err(format!("{error}\n{log}").into());
    }
    ended?;
    let failed = record.failures.len();
    fs::write(&options.file, drawing::draw(&record))
        .map_err(|error| format!("{}: {error}", options.file.display()))?;
    eprintln!(
        "{}: {} requests in {:.1} s, {failed} failed",
        options.file.display(),
        record.answers.len() + failed,
        record.length.as_secs_f64(),
    );
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

struct Scene<'a> {
    service: &'a Service,
    recorder: Recorder,
    script: PathBuf,
    /// The number of the one that ends it; 0 as long as there was none.
    signal: &'a AtomicUsize,
    short: bool,
}

impl Scene<'_> {
    fn play(
        &self,
        programs: &Programs,
        pid_file: &std::path::Path,
        target: Target,
        rate: u32,
    ) -> Outcome<()> {
        let watching = self.recorder.clone();
        let seen = move |generations: Vec<Seen>| {
            watching.seen(&generations);
            true
        };
        let _watch = Watch::start(&programs.seamless_run, pid_file, seen)?;
        self.until("the first generation is ready", |record| {
            record.serving() == Some(1)
        })?;

        // What was before is not in the picture.
        self.recorder.begin();
        let listening = self.recorder.clone();
        let listener = Box::new(move |asked: &load::Asked| listening.asked(asked));
        let load = Load::start_heard(target, FAST_CLIENTS, Some(SLOW), rate, Some(listener));
        self.hold(2000)?;

        let first = self.restart("sv restart")?;
        self.until("the next one is ready", |record| record.serving() > Some(1))?;
        self.recorder.mark("it is ready");
        self.until("the first one has gone", |record| record.is_gone(1))?;
        self.hold(900)?;

        // As a deployment does it: in one step.
        self.deploy(CRASHES)?;
        let second = self.restart("sv restart: it crashes")?;
        self.until("two attempts have failed", |record| record.failed() >= 2)?;
        self.deploy(GOOD)?;
        self.recorder.mark("it is mended");
        let before = self.recorder.look(Record::serving);
        self.until("the mended one is ready", |record| {
            record.serving() > before
        })?;
        self.recorder.mark("it is ready");
        let old = before.ok_or("somebody served")?;
        self.until("the old one has gone", |record| record.is_gone(old))?;
        self.hold(1000)?;
        self.recorder.end();
        drop((first, second));
        load.stop();
        Ok(())
    }

    fn restart(&self, mark: &'static str) -> Outcome<service::Verb> {
        self.recorder.mark(mark);
        self.service.restart()
    }

    fn deploy(&self, script: &str) -> Outcome<()> {
        let beside = self.script.with_extension("new");
        fs::write(&beside, script)?;
        fs::rename(beside, &self.script)?;
        Ok(())
    }

    /// Only for the eye.
    fn hold(&self, milliseconds: u64) -> Outcome<()> {
        let milliseconds = if self.short {
            milliseconds / 10
        } else {
            milliseconds
        };
        let until = Instant::now() + Duration::from_millis(milliseconds);
        while Instant::now() < until {
            std::thread::sleep(SLICE.min(until - Instant::now()));
            self.interrupted()?;
        }
        Ok(())
    }

    fn until(&self, what: &str, question: impl Fn(&Record) -> bool) -> Outcome<()> {
        let deadline = Instant::now() + LIMIT;
        while !self.recorder.wait(SLICE, &question) {
            self.interrupted()?;
            if Instant::now() >= deadline {
                return Err(format!("it took too long until {what}").into());
            }
        }
        Ok(())
    }

    fn interrupted(&self) -> Outcome<()> {
        match self.signal.load(Ordering::Relaxed) {
            0 => Ok(()),
            _ => Err("interrupted".into()),
        }
    }
}
