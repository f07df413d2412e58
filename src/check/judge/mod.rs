//! What it means: from what was read to what is said of it, without looking at anything again.

mod confinement;
mod directory;
mod kernel;
mod program;
mod service_directory;
mod signals;
mod supervisord;
#[cfg(test)]
mod testing;
mod unit;

use std::time::Duration;

use super::finding::{About, Finding};
use super::reading::{Options, Reading, Supervisor};

/// Everything that is to be said, the worst first.
pub(super) fn all(reading: &Reading) -> Vec<Finding> {
    let service = reading.options.service();
    let mut findings = match &reading.supervisor {
        Supervisor::Systemd(unit) => {
            let mut findings = unit::findings(unit, service);
            findings.extend(confinement::findings(unit, service, reading.user));
            findings
        }
        Supervisor::Supervise(found) => service_directory::findings(found, reading),
        Supervisor::Supervisord(found) => supervisord::findings(found, reading),
        Supervisor::Nobody(_) => Vec::new(),
        Supervisor::Named(name) => vec![unreadable(name, reading)],
        Supervisor::Unknown => vec![unreadable("none recognised", reading)],
    };
    findings.extend(options(reading));
    findings.extend(directory::findings(reading));
    findings.extend(program::findings(reading));
    findings.extend(kernel::findings(reading));
    findings.sort_by_key(|finding| finding.level);
    findings
}

fn options(reading: &Reading) -> Option<Finding> {
    let about = About(subject(reading));
    match &reading.options {
        Options::Service(_) | Options::Unclear(_) => None,
        Options::WithoutPidFile => Some(
            about
                .error(
                    "pid-file",
                    "no --pid-file",
                    "nothing is seamless: a restart ends the daemon and starts it anew",
                )
                .fix("give --pid-file FILE"),
        ),
        Options::Refused(words) => Some(
            about
                .error("options", words, "seamless-run does not start (125)")
                .fix("correct the command line"),
        ),
    }
}

/// Where the command line stands.
fn subject(reading: &Reading) -> &str {
    match &reading.supervisor {
        Supervisor::Systemd(unit) => &unit.name,
        Supervisor::Supervise(_) => "run",
        Supervisor::Supervisord(found) => &found.name,
        Supervisor::Nobody(_) | Supervisor::Named(_) | Supervisor::Unknown => "command line",
    }
}

fn unreadable(name: &str, reading: &Reading) -> Finding {
    let service = reading.options.service();
    let after = match service.map(|service| service.policy.orphan_timeout) {
        Some(Some(time)) => format!("ends the service {} later", said(Some(time))),
        Some(None) => "leaves the daemon running".to_owned(),
        None => "ends the service after the orphan timeout".to_owned(),
    };
    let consequence = format!("a stop cannot be told from a restart, and {after}");
    About("supervisor")
        .note("supervisor", name, consequence)
        .fix("INT to the launcher is a stop in any case; --on TERM=stop makes TERM one")
}

/// A time, for people.
fn said(time: Option<Duration>) -> String {
    match time {
        None => "none".to_owned(),
        Some(time) if time < Duration::from_secs(1) => format!("{} ms", time.as_millis()),
        Some(time) => format!("{} s", time.as_secs_f64()),
    }
}

/// How many seconds a supervisor should wait for what may take that long.
fn longer(time: Duration) -> u64 {
    time.as_secs().saturating_add(10)
}
