//! Five restarts, a line for each: for a pipe, a file, the CI.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        mpsc::{self, Receiver},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use super::{
    FAST_CLIENTS, LIMIT, Outcome, SLOW,
    load::{Load, Report, Target, milliseconds},
    pid_file::PidFile,
    service::{News, Service},
};

const RESTARTS: usize = 5;
/// From one restart to the next.
const INTERVAL: Duration = Duration::from_secs(2);
/// Leaves something of two cores to the restarts, so that their times say something.
const RATE: u32 = 5_000;

pub(crate) fn greeting(out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "{RESTARTS} restarts of an HTTP server, while {FAST_CLIENTS} clients open a connection for each\n\
         request, and {} more always wait for an answer that takes {} s.\n",
        SLOW.clients,
        SLOW.delay.as_secs(),
    )
}

pub(crate) fn restarts(service: &Arc<Service>, out: &mut impl Write) -> Outcome<Report> {
    let pid_file = PidFile::watch(&service.directory)?;
    let (sender, news) = mpsc::channel();
    Service::supervise(service, sender)?;
    let Some(mut serving) = pid_file.wait(LIMIT, |_| true) else {
        let left = news.try_iter().filter_map(status_in).last();
        let launcher = left.map(|(_, status)| format!("; its launcher left: {status}"));
        let launcher = launcher.unwrap_or_default();
        return Err(format!("the first generation was not ready in time{launcher}").into());
    };

    let target = Target::Unix(service.socket());
    let load = Load::start_at_rate(target, FAST_CLIENTS, Some(SLOW), RATE);
    writeln!(
        out,
        "                                launcher  successor             slow in"
    )?;
    writeln!(
        out,
        "restart   pid                       left    answers   requests   flight   failed"
    )?;
    for restart in 1..=RESTARTS {
        if !load.wait_slow_in_flight(LIMIT, SLOW.clients) {
            return Err(format!("no slow requests in flight\n{}", load.report()).into());
        }
        thread::sleep(INTERVAL);
        let before = load.report();
        let began = Instant::now();
        service.signal(Signal::TERM)?;
        let (left, status) = next_departure(&news)
            .ok_or_else(|| format!("restart {restart}: the launcher did not leave"))?;
        if !status.success() {
            return Err(format!("restart {restart}: launcher: {status}").into());
        }
        let answer = load
            .wait_answer(LIMIT, |answer| !before.answers.contains_key(&answer.pid))
            .ok_or_else(|| format!("restart {restart}: no answer from a new generation"))?;
        pid_file
            .wait(LIMIT, |pid| pid == answer.pid)
            .ok_or_else(|| {
                format!(
                    "restart {restart}: pid {} was not ready in time",
                    answer.pid
                )
            })?;
        let now = load.report();
        writeln!(
            out,
            "{restart:>7}   {:<17} {:>9.1} ms {:>7.1} ms {:>10} {:>8} {:>8}",
            format!("{serving} → {}", answer.pid),
            milliseconds(left - began),
            milliseconds(answer.first - began),
            now.fast.finished(),
            before.slow_in_flight,
            now.failed(),
        )?;
        serving = answer.pid;
    }
    thread::sleep(INTERVAL);
    Ok(load.stop())
}

fn next_departure(news: &Receiver<News>) -> Option<(Instant, std::process::ExitStatus)> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if let Some(departure) = status_in(news.recv_timeout(left).ok()?) {
            return Some(departure);
        }
    }
}

fn status_in(news: News) -> Option<(Instant, std::process::ExitStatus)> {
    match news {
        News::Left { at, status } => Some((at, status)),
        News::Line(_) => None,
    }
}

/// Whether nothing was lost.
pub(crate) fn conclusion(report: &Report, out: &mut impl Write) -> io::Result<bool> {
    let (fast, slow) = (&report.fast, &report.slow);
    writeln!(
        out,
        "\n{RESTARTS} restarts, {} requests, {} failed; the slowest of the quick ones took {:.1} ms.",
        fast.finished(),
        fast.failed(),
        milliseconds(fast.slowest),
    )?;
    writeln!(
        out,
        "{} slow requests finished, {} were cut off.",
        slow.ok,
        slow.failed()
    )?;
    let passed = report.failed() == 0;
    if !passed {
        writeln!(out, "\nFAILED:\n{report}")?;
    }
    Ok(passed)
}
