//! The step from one phase to the next.

use std::time::{Duration, Instant};

use super::{
    Action, AttemptEnd, Event, News, Patience, Phase, Policy, PrepareWhen, Reception, Voice, Waits,
    Why, Wish,
};
use crate::departure::{Ending, FAILED};

/// What is next, and what to do about it.
///
/// An event that changes nothing in a phase gives the phase back and no action.
#[must_use = "the phase and the actions are the whole outcome"]
pub(crate) fn step(
    policy: &Policy,
    phase: Phase,
    event: Event,
    now: Instant,
) -> (Phase, Vec<Action>) {
    match phase {
        Phase::Starting {
            voice,
            predecessor,
            waits,
        } => match event {
            Event::Restart {
                reception,
                explicit,
            } => {
                if predecessor || !silent_daemon_prepares(policy, voice, reception) {
                    // R9: with a predecessor the new daemon is in nobody's way; without one it has
                    // not said that it is ready, nor would it understand a *prepare*.
                    let actions = vec![
                        Action::Report(News::RestartedByStop { predecessor }),
                        Action::EndAttempt(AttemptEnd::Withdrawn { explicit }),
                        Action::Drain,
                    ];
                    (stopping(policy, Why::Restart, now), actions)
                } else {
                    (
                        preparing(policy, false, explicit, now),
                        vec![Action::Prepare],
                    )
                }
            }
            Event::Stop { within } => stopped(within, now),
            Event::Spoke(said) => (
                Phase::Starting {
                    voice: voice.max(said),
                    predecessor,
                    waits,
                },
                vec![],
            ),
            Event::Ready(said) => (
                Phase::Serving {
                    voice: voice.max(said),
                },
                vec![Action::Commit],
            ),
            // Nobody's life is taken for what somebody else has said (R13).
            Event::Released { life } => (
                Phase::Starting {
                    voice,
                    predecessor,
                    waits: waits.with_assumption(life, now),
                },
                vec![],
            ),
            Event::PredecessorReady => (
                Phase::Starting {
                    voice,
                    predecessor,
                    waits: waits.without_assumption(),
                },
                vec![],
            ),
            Event::PredecessorsGone => (
                Phase::Starting {
                    voice,
                    predecessor: false,
                    waits,
                },
                vec![],
            ),
            Event::LauncherLost(_) | Event::Orphaned(_) if predecessor => {
                // §3: the predecessor serves; two detached generations would each wait for a
                // successor's word.
                let actions = vec![
                    left_alone(event),
                    Action::EndAttempt(AttemptEnd::Withdrawn { explicit: false }),
                    Action::Drain,
                ];
                let until = after(policy.stop_timeout, now);
                let hold = false;
                let_go(event, Phase::Draining { until, hold }, actions)
            }
            // It may serve without saying so.
            Event::LauncherLost(_) | Event::Orphaned(_) => {
                let next = waiting(policy, false, now);
                let_go(event, next, vec![left_alone(event)])
            }
            Event::DaemonEnded {
                ending,
                leaves_sockets,
            } => {
                let failed = Action::EndAttempt(AttemptEnd::Died(ending));
                ended(policy, ending, leaves_sockets, vec![failed], now)
            }
            Event::Deadline => waited(policy, voice, predecessor, waits, now),
            Event::Wish(_)
            | Event::Prepared
            | Event::LastOneGone
            | Event::SuccessorAttached
            | Event::SuccessorLost { .. }
            | Event::Superseded { .. }
            | Event::DirectoryGone => (phase, vec![]),
        },

        Phase::Serving { voice } => match event {
            Event::Restart {
                reception,
                explicit,
            } => {
                if prepares(policy, voice, reception) {
                    (
                        preparing(policy, true, explicit, now),
                        vec![Action::Prepare],
                    )
                } else {
                    parting(true, explicit, News::DetachedUnasked)
                }
            }
            Event::Stop { within } => stopped(within, now),
            Event::Spoke(said) | Event::Ready(said) => (
                Phase::Serving {
                    voice: voice.max(said),
                },
                vec![],
            ),
            Event::LauncherLost(reception) | Event::Orphaned(reception) => {
                // A successor will come all the same; nobody waits for the answer.
                let mut actions = vec![left_alone(event)];
                if prepares(policy, voice, reception) {
                    actions.push(Action::Prepare);
                }
                let_go(event, waiting(policy, true, now), actions)
            }
            Event::DaemonEnded {
                ending,
                leaves_sockets,
            } => ended(policy, ending, leaves_sockets, vec![], now),
            Event::Wish(_)
            | Event::Prepared
            | Event::PredecessorsGone
            | Event::LastOneGone
            | Event::PredecessorReady
            | Event::Released { .. }
            | Event::SuccessorAttached
            | Event::SuccessorLost { .. }
            | Event::Superseded { .. }
            | Event::DirectoryGone
            | Event::Deadline => (phase, vec![]),
        },

        Phase::Preparing {
            ready,
            until,
            explicit,
        } => match event {
            Event::Prepared => parting(ready, explicit, News::Prepared),
            Event::Ready(_) if !ready => (
                Phase::Preparing {
                    ready: true,
                    until,
                    explicit,
                },
                vec![Action::Commit],
            ),
            Event::Restart { explicit: true, .. } => (
                Phase::Preparing {
                    ready,
                    until,
                    explicit: true,
                },
                vec![],
            ),
            Event::Stop { within } => stopped(within, now),
            Event::LauncherLost(_) | Event::Orphaned(_) => {
                let patience = patience(policy, explicit, now);
                let next = Phase::Standby { ready, patience };
                let_go(event, next, vec![left_alone(event)])
            }
            Event::DaemonEnded {
                ending,
                leaves_sockets,
            } => ended(policy, ending, leaves_sockets, vec![], now),
            // R8: a daemon that is ready serves, and its successor will end it.
            Event::Deadline if ready => {
                let news = News::NeverPrepared { ready };
                parting(ready, explicit, news)
            }
            Event::Deadline => {
                let news = Action::Report(News::NeverPrepared { ready });
                (
                    stopping(policy, Why::Restart, now),
                    vec![news, Action::Drain],
                )
            }
            Event::Restart { .. }
            | Event::Wish(_)
            | Event::Ready(_)
            | Event::Spoke(_)
            | Event::PredecessorsGone
            | Event::LastOneGone
            | Event::PredecessorReady
            | Event::Released { .. }
            | Event::SuccessorAttached
            | Event::SuccessorLost { .. }
            | Event::Superseded { .. }
            | Event::DirectoryGone => (phase, vec![]),
        },

        Phase::Parting {
            ready,
            explicit,
            news,
        } => match event {
            // A stop seen late (§7).
            Event::Wish(Wish::Down) => stopped(policy.stop_timeout, now),
            Event::Wish(Wish::Up | Wish::Gone | Wish::Unknown) => {
                detached(policy, ready, explicit, news, now)
            }
            Event::Ready(_) if !ready => (
                Phase::Parting {
                    ready: true,
                    explicit,
                    news,
                },
                vec![Action::Commit],
            ),
            Event::Restart { explicit: true, .. } => (
                Phase::Parting {
                    ready,
                    explicit: true,
                    news,
                },
                vec![],
            ),
            Event::Stop { within } => stopped(within, now),
            Event::LauncherLost(_) | Event::Orphaned(_) => {
                let patience = patience(policy, explicit, now);
                let next = Phase::Standby { ready, patience };
                let_go(event, next, vec![left_alone(event)])
            }
            Event::DaemonEnded {
                ending,
                leaves_sockets,
            } => ended(policy, ending, leaves_sockets, vec![], now),
            Event::Restart { .. }
            | Event::Ready(_)
            | Event::Spoke(_)
            | Event::Prepared
            | Event::PredecessorsGone
            | Event::LastOneGone
            | Event::PredecessorReady
            | Event::Released { .. }
            | Event::SuccessorAttached
            | Event::SuccessorLost { .. }
            | Event::Superseded { .. }
            | Event::DirectoryGone
            | Event::Deadline => (phase, vec![]),
        },

        Phase::Standby { ready, patience } => {
            let patient = |patience| (Phase::Standby { ready, patience }, vec![]);
            match event {
                // R21: the commit needs the lock; a successor that holds it has come already.
                Event::Ready(_) if !ready => (
                    Phase::Standby {
                        ready: true,
                        patience,
                    },
                    vec![Action::Commit],
                ),
                Event::Restart { explicit: true, .. } if patience != Patience::Attached => {
                    patient(Patience::ForGood)
                }
                Event::SuccessorAttached => patient(Patience::Attached),
                Event::SuccessorLost { another: true } => patient(Patience::ForGood),
                Event::SuccessorLost { another: false } => patient(orphaned_after(policy, now)),
                Event::DirectoryGone
                    if matches!(patience, Patience::ForGood | Patience::Wanted) =>
                {
                    patient(orphaned_after(policy, now))
                }
                // A successor that has come is told by its own launcher.
                Event::Wish(Wish::Down) if patience != Patience::Attached => {
                    let within = policy.stop_timeout;
                    let actions = vec![
                        Action::Report(News::NotWanted { drains: true }),
                        Action::Drain,
                        Action::Close,
                        Action::StopPredecessors(within),
                    ];
                    (draining(within, now), actions)
                }
                Event::Wish(Wish::Up) if matches!(patience, Patience::Until(_)) => {
                    patient(Patience::Wanted)
                }
                Event::Wish(Wish::Unknown) if patience == Patience::Wanted => {
                    patient(orphaned_after(policy, now))
                }
                // Whatever the last attempt was, there may be no other one.
                Event::Wish(Wish::Gone)
                    if matches!(patience, Patience::ForGood | Patience::Wanted) =>
                {
                    patient(orphaned_after(policy, now))
                }
                Event::Superseded { told } => {
                    let mut actions = vec![Action::Report(News::Superseded { told })];
                    if !told {
                        actions.push(Action::Drain);
                    }
                    actions.push(Action::PassOn);
                    (draining(policy.drain_timeout, now), actions)
                }
                Event::Stop { within } => {
                    let actions = vec![
                        Action::Report(News::Stopping { within }),
                        Action::Drain,
                        Action::Close,
                        Action::StopPredecessors(within),
                    ];
                    (draining(within, now), actions)
                }
                Event::Deadline => {
                    let actions = vec![Action::Report(News::NoSuccessor), Action::Drain];
                    (draining(policy.drain_timeout, now), actions)
                }
                // A successor that has come has them, too; but it may fail in this very moment.
                Event::DaemonEnded {
                    leaves_sockets: true,
                    ..
                } => held_detached(policy, now),
                Event::DaemonEnded { .. } => gone_detached(),
                Event::Restart { .. }
                | Event::Wish(_)
                | Event::Spoke(_)
                | Event::Ready(_)
                | Event::Prepared
                | Event::PredecessorsGone
                | Event::LastOneGone
                | Event::PredecessorReady
                | Event::Released { .. }
                | Event::DirectoryGone
                | Event::LauncherLost(_)
                | Event::Orphaned(_) => (phase, vec![]),
            }
        }

        Phase::Holding { until } => match event {
            Event::Superseded { .. } => (Phase::Gone, vec![Action::PassOn]),
            Event::Stop { within } => {
                let actions = vec![
                    Action::Close,
                    Action::StopPredecessors(within),
                    Action::CleanUp,
                ];
                (Phase::Gone, actions)
            }
            Event::Wish(Wish::Down) => {
                let actions = vec![
                    Action::Report(News::NotWanted { drains: false }),
                    Action::Close,
                    Action::StopPredecessors(policy.stop_timeout),
                    Action::CleanUp,
                ];
                (Phase::Gone, actions)
            }
            Event::Deadline => nobody_came(),
            // No successor can find us, and no deadline would come.
            Event::DirectoryGone if until.is_none() => nobody_came(),
            Event::Restart { .. }
            | Event::Wish(_)
            | Event::Spoke(_)
            | Event::Ready(_)
            | Event::Prepared
            | Event::PredecessorsGone
            | Event::LastOneGone
            | Event::PredecessorReady
            | Event::Released { .. }
            | Event::SuccessorAttached
            | Event::SuccessorLost { .. }
            | Event::DirectoryGone
            | Event::LauncherLost(_)
            | Event::Orphaned(_)
            | Event::DaemonEnded { .. } => (phase, vec![]),
        },

        Phase::Draining { until, hold } => match event {
            // R15: no second signal, only the nearer deadline.
            Event::Stop { within } => {
                let sooner = sooner(until, after(within, now));
                let mut actions = vec![Action::Close, Action::StopPredecessors(within)];
                if sooner != until {
                    actions.insert(0, Action::Report(News::StoppingSooner { within }));
                }
                let next = Phase::Draining {
                    until: sooner,
                    hold: false,
                };
                (next, actions)
            }
            // It drains for want of a successor, and now there is one.
            Event::Superseded { .. } => {
                let hold = false;
                (Phase::Draining { until, hold }, vec![Action::PassOn])
            }
            Event::DaemonEnded {
                leaves_sockets: true,
                ..
            } if hold => held_detached(policy, now),
            Event::DaemonEnded { .. } => gone_detached(),
            Event::Deadline => killing(None),
            Event::Restart { .. }
            | Event::Wish(_)
            | Event::Spoke(_)
            | Event::Ready(_)
            | Event::Prepared
            | Event::PredecessorsGone
            | Event::LastOneGone
            | Event::PredecessorReady
            | Event::Released { .. }
            | Event::SuccessorAttached
            | Event::SuccessorLost { .. }
            | Event::DirectoryGone
            | Event::LauncherLost(_)
            | Event::Orphaned(_) => (phase, vec![]),
        },

        Phase::Stopping { until, why } => match event {
            Event::Stop { within } if why != Why::Stop => {
                let until = sooner(until, after(within, now));
                let actions = vec![
                    Action::Report(News::Stopping { within }),
                    Action::Close,
                    Action::StopPredecessors(within),
                ];
                let why = Why::Stop;
                (Phase::Stopping { until, why }, actions)
            }
            Event::Stop { within } => {
                let until = sooner(until, after(within, now));
                (Phase::Stopping { until, why }, vec![])
            }
            Event::LauncherLost(_) | Event::Orphaned(_) => {
                let hold = why != Why::Stop;
                let next = Phase::Draining { until, hold };
                let_go(event, next, vec![left_alone(event)])
            }
            Event::DaemonEnded {
                ending,
                leaves_sockets,
            } => ended_as_told(policy, why, ending, leaves_sockets, now),
            Event::Deadline => killing(Some(why)),
            Event::Restart { .. }
            | Event::Wish(_)
            | Event::Spoke(_)
            | Event::Ready(_)
            | Event::Prepared
            | Event::PredecessorsGone
            | Event::LastOneGone
            | Event::PredecessorReady
            | Event::Released { .. }
            | Event::SuccessorAttached
            | Event::SuccessorLost { .. }
            | Event::Superseded { .. }
            | Event::DirectoryGone => (phase, vec![]),
        },

        Phase::Killing { launcher } => match event {
            Event::Stop { within } if launcher.is_some_and(|why| why != Why::Stop) => {
                let launcher = Some(Why::Stop);
                (
                    Phase::Killing { launcher },
                    vec![Action::Close, Action::StopPredecessors(within)],
                )
            }
            Event::LauncherLost(_) | Event::Orphaned(_) if launcher.is_some() => {
                let next = Phase::Killing { launcher: None };
                let_go(event, next, vec![left_alone(event)])
            }
            Event::Superseded { .. } if launcher.is_none() => (phase, vec![Action::PassOn]),
            Event::DaemonEnded {
                ending,
                leaves_sockets,
            } => match launcher {
                Some(why) => ended_as_told(policy, why, ending, leaves_sockets, now),
                None => gone_detached(),
            },
            Event::Restart { .. }
            | Event::Wish(_)
            | Event::Stop { .. }
            | Event::Spoke(_)
            | Event::Ready(_)
            | Event::Prepared
            | Event::PredecessorsGone
            | Event::LastOneGone
            | Event::PredecessorReady
            | Event::Released { .. }
            | Event::SuccessorAttached
            | Event::SuccessorLost { .. }
            | Event::Superseded { .. }
            | Event::DirectoryGone
            | Event::LauncherLost(_)
            | Event::Orphaned(_)
            | Event::Deadline => (phase, vec![]),
        },

        Phase::Lingering { ending } => match event {
            Event::LastOneGone => gone_under_launcher(ending, vec![]),
            Event::Stop { within } => (phase, vec![Action::StopPredecessors(within)]),
            // The older ones' keepers finish the stop.
            Event::LauncherLost(_) | Event::Orphaned(_) => {
                let actions = vec![left_alone(event), Action::CleanUp];
                let_go(event, Phase::Gone, actions)
            }
            Event::Restart { .. }
            | Event::Wish(_)
            | Event::Spoke(_)
            | Event::Ready(_)
            | Event::Prepared
            | Event::PredecessorReady
            | Event::Released { .. }
            | Event::PredecessorsGone
            | Event::SuccessorAttached
            | Event::SuccessorLost { .. }
            | Event::Superseded { .. }
            | Event::DirectoryGone
            | Event::DaemonEnded { .. }
            | Event::Deadline => (phase, vec![]),
        },

        Phase::Gone => (Phase::Gone, vec![]),
    }
}

/// R6, for a daemon that is ready.
fn prepares(policy: &Policy, voice: Voice, reception: Reception) -> bool {
    match (policy.prepare, voice, reception) {
        (PrepareWhen::Never, _, _) | (_, _, Reception::Unhandled) => false,
        (PrepareWhen::Named, _, _) => true,
        (PrepareWhen::Auto, Voice::Ours, Reception::Handled | Reception::Runtime) => true,
        (PrepareWhen::Auto, Voice::Plain, _) => false,
        (PrepareWhen::Auto, Voice::Silent, reception) => reception == Reception::Handled,
    }
}

/// R9, for a daemon that is not: one that talks to us would have said that it is ready.
fn silent_daemon_prepares(policy: &Policy, voice: Voice, reception: Reception) -> bool {
    voice == Voice::Silent && prepares(policy, voice, reception)
}

/// A moment that a daemon which is not ready was waited for has come (R13).
fn waited(
    policy: &Policy,
    voice: Voice,
    predecessor: bool,
    waits: Waits,
    now: Instant,
) -> (Phase, Vec<Action>) {
    let over = |moment: Option<Instant>| moment.is_some_and(|moment| moment <= now);
    if over(waits.assume_ready) {
        let actions = vec![Action::Report(News::TakenForReady), Action::Commit];
        return (Phase::Serving { voice }, actions);
    }
    if over(waits.give_up) {
        let actions = vec![
            Action::Report(News::NotReadyInTime { predecessor }),
            Action::EndAttempt(AttemptEnd::NotReady),
            Action::Drain,
        ];
        return (stopping(policy, Why::NotReady, now), actions);
    }
    let mut actions = vec![];
    let mut waits = waits;
    if over(waits.reminder()) {
        waits.reminded += 1;
        actions.push(Action::Report(News::NotReadyYet { predecessor }));
    }
    let phase = Phase::Starting {
        voice,
        predecessor,
        waits,
    };
    (phase, actions)
}

fn preparing(policy: &Policy, ready: bool, explicit: bool, now: Instant) -> Phase {
    Phase::Preparing {
        ready,
        until: after(policy.prepare_timeout, now),
        explicit,
    }
}

fn stopping(policy: &Policy, why: Why, now: Instant) -> Phase {
    Phase::Stopping {
        until: after(policy.stop_timeout, now),
        why,
    }
}

fn stopped(within: Option<Duration>, now: Instant) -> (Phase, Vec<Action>) {
    let next = Phase::Stopping {
        until: after(within, now),
        why: Why::Stop,
    };
    let actions = vec![
        Action::Report(News::Stopping { within }),
        Action::Drain,
        Action::Close,
        Action::StopPredecessors(within),
    ];
    (next, actions)
}

fn draining(timeout: Option<Duration>, now: Instant) -> Phase {
    Phase::Draining {
        until: after(timeout, now),
        hold: false,
    }
}

fn killing(launcher: Option<Why>) -> (Phase, Vec<Action>) {
    let actions = vec![Action::Report(News::NotInTime), Action::Kill];
    (Phase::Killing { launcher }, actions)
}

/// The launcher leaves, unless the supervisor says that it was a stop.
fn parting(ready: bool, explicit: bool, news: News) -> (Phase, Vec<Action>) {
    let next = Phase::Parting {
        ready,
        explicit,
        news,
    };
    (next, vec![Action::AskWish])
}

/// The launcher leaves, and the daemon serves on.
fn detached(
    policy: &Policy,
    ready: bool,
    explicit: bool,
    news: News,
    now: Instant,
) -> (Phase, Vec<Action>) {
    let patience = patience(policy, explicit, now);
    let actions = vec![Action::Report(news), Action::Detach, Action::LeaveDetached];
    (Phase::Standby { ready, patience }, actions)
}

fn waiting(policy: &Policy, ready: bool, now: Instant) -> Phase {
    Phase::Standby {
        ready,
        patience: orphaned_after(policy, now),
    }
}

/// R16: an explicit restart cannot have meant a stop.
fn patience(policy: &Policy, explicit: bool, now: Instant) -> Patience {
    if explicit {
        Patience::ForGood
    } else {
        orphaned_after(policy, now)
    }
}

fn orphaned_after(policy: &Policy, now: Instant) -> Patience {
    Patience::Until(after(policy.orphan_timeout, now))
}

/// The launcher was lost, or is no longer anybody's: nobody is left to answer to.
fn let_go(event: Event, next: Phase, mut actions: Vec<Action>) -> (Phase, Vec<Action>) {
    actions.push(Action::Detach);
    if matches!(event, Event::Orphaned(_)) {
        actions.push(Action::LeaveDetached);
    }
    (next, actions)
}

fn left_alone(event: Event) -> Action {
    Action::Report(if matches!(event, Event::Orphaned(_)) {
        News::Orphaned
    } else {
        News::LauncherLost
    })
}

/// The end that a daemon was told to come to, while its launcher waits.
fn ended_as_told(
    policy: &Policy,
    why: Why,
    ending: Ending,
    leaves_sockets: bool,
    now: Instant,
) -> (Phase, Vec<Action>) {
    // R20: it was asked to end, and it has, whatever it said of it.
    let known = match ending {
        Ending::Unknown => Ending::Exited(0),
        Ending::Exited(_) | Ending::Killed(_) => ending,
    };
    match why {
        // What it wrote stays until the end: another keeper may have to go on with it (R20).
        Why::Stop => (Phase::Lingering { ending: known }, vec![Action::Unname]),
        Why::Restart => ended(policy, known, leaves_sockets, vec![], now),
        // A supervisor that restarts what fails, and only that, shall try again.
        Why::NotReady if known == Ending::Exited(0) => {
            let failed = Ending::Exited(FAILED);
            ended(policy, failed, leaves_sockets, vec![], now)
        }
        Why::NotReady => ended(policy, known, leaves_sockets, vec![], now),
    }
}

/// The daemon has ended, and its launcher leaves. Where the supervisor will start another one, nobody
/// who connects meanwhile shall be refused.
fn ended(
    policy: &Policy,
    ending: Ending,
    leaves_sockets: bool,
    mut actions: Vec<Action>,
    now: Instant,
) -> (Phase, Vec<Action>) {
    if !leaves_sockets {
        return gone_under_launcher(ending, actions);
    }
    actions.extend([
        Action::Report(News::Holding),
        Action::Hold,
        Action::Detach,
        Action::LeaveWith(ending),
    ]);
    (holding(policy, now), actions)
}

fn held_detached(policy: &Policy, now: Instant) -> (Phase, Vec<Action>) {
    let actions = vec![Action::Report(News::Holding), Action::Hold];
    (holding(policy, now), actions)
}

fn holding(policy: &Policy, now: Instant) -> Phase {
    Phase::Holding {
        until: after(policy.hold_timeout, now),
    }
}

fn nobody_came() -> (Phase, Vec<Action>) {
    let actions = vec![
        Action::Report(News::NobodyCame),
        Action::Close,
        Action::CleanUp,
    ];
    (Phase::Gone, actions)
}

/// The files go first and the lock with them: when the launcher leaves, the next one may start.
fn gone_under_launcher(ending: Ending, mut actions: Vec<Action>) -> (Phase, Vec<Action>) {
    actions.extend([Action::CleanUp, Action::Detach, Action::LeaveWith(ending)]);
    (Phase::Gone, actions)
}

fn gone_detached() -> (Phase, Vec<Action>) {
    (Phase::Gone, vec![Action::CleanUp])
}

fn after(timeout: Option<Duration>, now: Instant) -> Option<Instant> {
    now.checked_add(timeout?)
}

/// `None` is never.
fn sooner(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    [one, other].into_iter().flatten().min()
}
