//! One trial: the way to its moment, its verb, and the judgement.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{
    plan::{Moment, Plan, Trial},
    random::Random,
    service::{LIMIT, Service, Version},
    verbs::Way,
};

/// Lines that a restart must not have.
const STOP: [&str; 2] = ["app: stop: ", "wants the service down"];

/// What was told right, or what went wrong.
pub(crate) type Judged = Result<Told, String>;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    /// By nothing but the orphan timeout.
    pub(crate) by_timeout: bool,
    /// Failed requests before the stop, or in the whole restart.
    pub(crate) lost: u64,
}

pub(crate) fn run(
    trial: &Trial,
    service: &mut Service,
    plan: &Plan,
    number: usize,
    random: &mut Random,
) -> Judged {
    match trial.moment {
        Moment::FirstStart => make_down(service)?,
        _ => make_serving(service)?,
    }
    let from = service.log.length();
    let before = service.requests.known();
    match trial.verb.way {
        Way::StartTimeout => return start_timeout(service, from),
        Way::RunTime => return run_time(service, from),
        Way::StopInAutoRestart => wait_for_its_next_start(service, from)?,
        Way::Words(_) | Way::Both(..) | Way::Svscanctl(_) | Way::SignalTo(_) | Way::Halt => {
            reach(trial.moment, service, random, from)?;
        }
    }
    if trial.moment != Moment::SoonAfter {
        // The verb is heard at once.
        service.supervisor().settle();
    }
    if trial.verb.is_stop {
        stop(trial, service, plan, number, from)
    } else {
        restart(trial, service, &before, from)
    }
}

fn make_serving(service: &mut Service) -> Result<(), String> {
    service.deploy(Version::Good);
    if !service.requests.are_sent() {
        service.wait_up()?;
        service.requests.begin();
        service.requests.wait_answer(&[])?;
    }
    Ok(())
}

/// Down, and then started with a version that does not get ready.
fn make_down(service: &mut Service) -> Result<(), String> {
    service.deploy(Version::Silent);
    service.say_stop();
    let gone = service.wait_gone(false);
    gone.map_err(|left| format!("on the way to it, a stop: {left}"))?;
    service.requests.end();
    let from = service.log.length();
    service.say_up();
    service.wait_line(from, &["silent "])?;
    Ok(())
}

/// Up to the moment at which the verb is to come.
fn reach(
    moment: Moment,
    service: &mut Service,
    random: &mut Random,
    from: usize,
) -> Result<(), String> {
    match moment {
        Moment::FirstStart => thread::sleep(random.pause(20)),
        Moment::Serving => {
            service.requests.wait_busy();
            thread::sleep(random.pause(50));
        }
        Moment::BeforeReady => {
            service.deploy(Version::Silent);
            service.say_restart();
            service.wait_line(from, &["silent "])?;
            thread::sleep(random.pause(20));
        }
        Moment::SoonAfter => {
            service.requests.wait_busy();
            service.say_restart();
            thread::sleep(random.pause(30));
        }
        Moment::Gap => {
            service.close_gate();
            service.say_restart();
            service.wait_line(from, &["at the gate"])?;
            thread::sleep(random.pause(20));
        }
        Moment::Draining => {
            service.requests.wait_busy();
            service.say_restart();
            service.wait_line(from, &["told to drain", "its successor is ready"])?;
            thread::sleep(random.pause(50));
        }
        Moment::Failing => {
            service.deploy(Version::Crashing);
            service.say_restart();
            service.wait_line(from, &["died before it was ready"])?;
            thread::sleep(random.pause(1500));
        }
    }
    Ok(())
}

fn stop(trial: &Trial, service: &mut Service, plan: &Plan, number: usize, from: usize) -> Judged {
    let lost = service.requests.newly_failed();
    service.bring(trial.verb.way)?;
    service.wait_gone(trial.verb.ends_supervisor)?;
    let by_timeout = service.said(from, "orphan timeout");
    service.requests.end();
    if trial.verb.way == Way::StopInAutoRestart {
        service.vary_unit("");
    } else if trial.moment == Moment::Gap {
        service.open_gate();
    }
    if trial.verb.ends_supervisor {
        service.deploy(Version::Good);
        service.start_supervisor(plan.next_end(number + 1));
    }
    Ok(Told { by_timeout, lost })
}

fn restart(trial: &Trial, service: &mut Service, before: &[u32], from: usize) -> Judged {
    if trial.moment == Moment::Draining {
        // The second restart is the trial: who came by the first one shall be known.
        service.requests.wait_answer(before)?;
    }
    let known = service.requests.known();
    if trial.moment != Moment::Failing {
        service.deploy(Version::Good);
    }
    let after = service.log.length();
    service.bring(trial.verb.way)?;
    match trial.moment {
        Moment::FirstStart => {
            service.wait_line(after, &[" is ready after"])?;
            service.requests.begin();
        }
        Moment::Failing => {
            let old = service.requests.serving().ok_or("nobody had answered")?;
            let after = service.log.length();
            service.wait_line(after, &["died before it was ready"])?;
            service.requests.wait_answer_of(old)?;
            service.deploy(Version::Good);
        }
        Moment::Gap => service.open_gate(),
        Moment::BeforeReady | Moment::Serving | Moment::SoonAfter | Moment::Draining => {}
    }
    judge_restart(service, &known, from)
}

/// Somebody new answers and is alone, nothing was lost, and nothing was taken for a stop.
fn judge_restart(service: &mut Service, known: &[u32], from: usize) -> Judged {
    service.requests.wait_answer(known)?;
    service.wait_quiet()?;
    for word in STOP {
        if service.said(from, word) {
            return Err(format!("the log says `{word}`"));
        }
    }
    Ok(Told {
        by_timeout: false,
        lost: service.requests.newly_failed(),
    })
}

/// systemd loses its patience with the new version, and TERMs it: no stop, and the old one serves.
fn start_timeout(service: &mut Service, from: usize) -> Judged {
    let known = service.requests.known();
    let old = service.requests.serving().ok_or("nobody had answered")?;
    service.vary_unit("TimeoutStartSec=700ms");
    service.deploy(Version::Silent);
    service.say_restart();
    service.wait_line(
        from,
        &["restart: generation ", "is not ready, and is ended"],
    )?;
    service.requests.wait_answer_of(old)?;
    service.deploy(Version::Good);
    service.vary_unit("");
    // Whoever came before that has no limit any more, and is no good.
    service.say_restart();
    judge_restart(service, &known, from)
}

/// The unit's time is over, and systemd TERMs it without a job.
fn run_time(service: &mut Service, from: usize) -> Judged {
    let mut known = service.requests.known();
    service.vary_unit("RuntimeMaxSec=1s");
    service.say_restart();
    known.push(service.requests.wait_answer(&known)?);
    service.requests.wait_answer(&known)?;
    // From here on no limit counts, not even one that runs already.
    service.vary_unit("");
    judge_restart(service, &known, from)
}

/// A new version has crashed, and systemd waits for a long time.
fn wait_for_its_next_start(service: &mut Service, from: usize) -> Result<(), String> {
    service.vary_unit("RestartSec=1h");
    service.deploy(Version::Crashing);
    service.say_restart();
    service.wait_line(from, &["died before it was ready"])?;
    let deadline = Instant::now() + LIMIT;
    while service.show("SubState") != "auto-restart" {
        if Instant::now() > deadline {
            return Err("the unit does not wait for its next start".to_owned());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
