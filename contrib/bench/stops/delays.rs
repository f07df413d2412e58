//! What the telling costs a restart: from TERM to the launcher's exit, with a daemon that is prepared at once.

use std::{
    fmt,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use super::{
    load::milliseconds,
    service::{LIMIT, Service},
    support::{Kind, network, process::Handle},
    table,
};

/// What TERM means to the launcher.
const MEANINGS: [(&str, &[&str]); 2] = [
    ("auto", &[]),
    // Nothing is asked at the signal.
    ("restart", &["--on", "TERM=restart"]),
];

#[derive(Clone, Debug)]
pub(crate) struct Delay {
    kind: Kind,
    meaning: &'static str,
    times: Vec<Duration>,
}

/// In a thread of its own: it leaves the network.
pub(crate) fn measure(kind: Kind, times: usize) -> Vec<Delay> {
    let _network = network::isolate();
    let measured = MEANINGS.map(|(meaning, options)| {
        let mut service = Service::start_with(kind, 0, options, None);
        let mut delay = Delay {
            kind,
            meaning,
            times: Vec::new(),
        };
        while delay.times.len() < times {
            let Ok(time) = once(&mut service) else { break };
            delay.times.push(time);
        }
        delay
    });
    measured.to_vec()
}

/// The supervisor sends nothing: it is asked all the same, and what it answers is *up*.
fn once(service: &mut Service) -> Result<Duration, String> {
    service.wait_up()?;
    service.wait_quiet()?;
    service.supervisor().settle();
    let launcher = service.supervisor().wait_main_pid();
    let handle = Handle::open(launcher).ok_or("the launcher has left")?;
    service.expect_start();
    let began = Instant::now();
    handle.signal(Signal::SIGTERM);
    let ended = handle.wait_until(began + LIMIT);
    let time = began.elapsed();
    ended
        .then_some(time)
        .ok_or_else(|| "the launcher stays".to_owned())
}

pub(crate) struct Table<'a>(pub(crate) &'a [Delay]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "From TERM to the launcher's exit:\n")?;
        writeln!(
            formatter,
            "{:<12} {:<16} {:>5} {:>10} {:>10} {:>10} {:>16} {:>12}",
            "", "", "times", "least", "median", "most", "over TERM=restart", "over the first"
        )?;
        let base = self.0.first().and_then(Delay::median);
        for delay in self.0 {
            let other = self
                .0
                .iter()
                .find(|one| one.kind == delay.kind && one.meaning == "restart");
            let plain = other.and_then(Delay::median);
            writeln!(
                formatter,
                "{:<12} {:<16} {:>5} {:>10} {:>10} {:>10} {:>16} {:>12}",
                table::name(delay.kind),
                format!("TERM={}", delay.meaning),
                delay.times.len(),
                shown(delay.times.iter().min().copied()),
                shown(delay.median()),
                shown(delay.times.iter().max().copied()),
                more(delay.median(), plain),
                more(delay.median(), base),
            )?;
        }
        Ok(())
    }
}

impl Delay {
    fn median(&self) -> Option<Duration> {
        let mut sorted = self.times.clone();
        sorted.sort();
        sorted.get(sorted.len() / 2).copied()
    }
}

fn shown(time: Option<Duration>) -> String {
    time.map_or("-".to_owned(), |time| {
        format!("{:.1} ms", milliseconds(time))
    })
}

/// Both the difference and the ratio, in one run on one machine.
fn more(time: Option<Duration>, base: Option<Duration>) -> String {
    let (Some(time), Some(base)) = (time, base) else {
        return "-".to_owned();
    };
    let [time, base] = [time, base].map(milliseconds);
    format!("{:+.1} ms x{:.1}", time - base, time / base)
}
