//! The step from one phase to the next.

use std::time::{Duration, Instant};

use super::{Action, Event, News, Phase, Policy, PrepareWhen, Reception, Voice};

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
            assume_ready,
        } => match event {
            Event::Restart(reception)
                if predecessor || !silent_daemon_prepares(policy, voice, reception) =>
            {
                // R9: with a predecessor the new daemon is in nobody's way; without one it has not
                // said that it is ready, nor would it understand a *prepare*.
                let news = Action::Report(News::RestartedByStop { predecessor });
                (stopping(policy, now), vec![news, Action::Drain])
            }
            Event::Restart(_) => (preparing(policy, false, now), vec![Action::Prepare]),
            Event::Stop => stopped(policy, now),
            Event::Spoke(said) => (
                Phase::Starting {
                    voice: voice.max(said),
                    predecessor,
                    assume_ready,
                },
                vec![],
            ),
            Event::Ready(said) => (
                Phase::Serving {
                    voice: voice.max(said),
                },
                vec![Action::Commit],
            ),
            Event::PredecessorsGone => (
                Phase::Starting {
                    voice,
                    predecessor: false,
                    assume_ready,
                },
                vec![],
            ),
            Event::LauncherLost if predecessor => {
                // §3: the predecessor serves; two detached generations would each wait for a
                // successor's word.
                let actions = vec![
                    Action::Report(News::LauncherLost),
                    Action::Drain,
                    Action::Detach,
                ];
                (
                    Phase::Draining {
                        until: after(policy.stop_timeout, now),
                    },
                    actions,
                )
            }
            // It may serve without saying so.
            Event::LauncherLost => launcher_lost(false),
            Event::DaemonEnded(ending) => gone_under_launcher(ending),
            Event::Deadline => {
                let actions = vec![Action::Report(News::TakenForReady), Action::Commit];
                (Phase::Serving { voice }, actions)
            }
            Event::Prepared => (phase, vec![]),
        },

        Phase::Serving { voice } => match event {
            Event::Restart(reception) if prepares(policy, voice, reception) => {
                (preparing(policy, true, now), vec![Action::Prepare])
            }
            Event::Restart(_) => {
                let actions = vec![
                    Action::Report(News::DetachedUnasked),
                    Action::Detach,
                    Action::LeaveDetached,
                ];
                (Phase::Standby { ready: true }, actions)
            }
            Event::Stop => stopped(policy, now),
            Event::Spoke(said) | Event::Ready(said) => (
                Phase::Serving {
                    voice: voice.max(said),
                },
                vec![],
            ),
            Event::LauncherLost => launcher_lost(true),
            Event::DaemonEnded(ending) => gone_under_launcher(ending),
            Event::Prepared | Event::PredecessorsGone | Event::Deadline => (phase, vec![]),
        },

        Phase::Preparing { ready, until } => match event {
            Event::Prepared => {
                let actions = vec![
                    Action::Report(News::Prepared),
                    Action::Detach,
                    Action::LeaveDetached,
                ];
                (Phase::Standby { ready }, actions)
            }
            Event::Ready(_) if !ready => (
                Phase::Preparing { ready: true, until },
                vec![Action::Commit],
            ),
            Event::Stop => stopped(policy, now),
            Event::LauncherLost => launcher_lost(ready),
            Event::DaemonEnded(ending) => gone_under_launcher(ending),
            Event::Deadline => {
                let news = Action::Report(News::NeverPrepared { ready });
                if ready {
                    // R8: it serves, and its successor will end it.
                    let actions = vec![news, Action::Detach, Action::LeaveDetached];
                    (Phase::Standby { ready }, actions)
                } else {
                    (stopping(policy, now), vec![news, Action::Drain])
                }
            }
            Event::Restart(_) | Event::Ready(_) | Event::Spoke(_) | Event::PredecessorsGone => {
                (phase, vec![])
            }
        },

        Phase::Standby { ready } => match event {
            // R21: the commit needs the lock; a successor that holds it has come already.
            Event::Ready(_) if !ready => (Phase::Standby { ready: true }, vec![Action::Commit]),
            Event::DaemonEnded(_) => gone_detached(),
            Event::Restart(_)
            | Event::Stop
            | Event::Spoke(_)
            | Event::Ready(_)
            | Event::Prepared
            | Event::PredecessorsGone
            | Event::LauncherLost
            | Event::Deadline => (phase, vec![]),
        },

        Phase::Draining { .. } => match event {
            Event::DaemonEnded(_) => gone_detached(),
            Event::Deadline => killing(false),
            Event::Restart(_)
            | Event::Stop
            | Event::Spoke(_)
            | Event::Ready(_)
            | Event::Prepared
            | Event::PredecessorsGone
            | Event::LauncherLost => (phase, vec![]),
        },

        Phase::Stopping { until } => match event {
            Event::LauncherLost => {
                let actions = vec![Action::Report(News::LauncherLost), Action::Detach];
                (Phase::Draining { until }, actions)
            }
            Event::DaemonEnded(ending) => gone_under_launcher(ending),
            Event::Deadline => killing(true),
            Event::Restart(_)
            | Event::Stop
            | Event::Spoke(_)
            | Event::Ready(_)
            | Event::Prepared
            | Event::PredecessorsGone => (phase, vec![]),
        },

        Phase::Killing { supervised } => match event {
            Event::LauncherLost if supervised => {
                let actions = vec![Action::Report(News::LauncherLost), Action::Detach];
                (Phase::Killing { supervised: false }, actions)
            }
            Event::DaemonEnded(ending) if supervised => gone_under_launcher(ending),
            Event::DaemonEnded(_) => gone_detached(),
            Event::Restart(_)
            | Event::Stop
            | Event::Spoke(_)
            | Event::Ready(_)
            | Event::Prepared
            | Event::PredecessorsGone
            | Event::LauncherLost
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

fn preparing(policy: &Policy, ready: bool, now: Instant) -> Phase {
    Phase::Preparing {
        ready,
        until: after(policy.prepare_timeout, now),
    }
}

fn stopping(policy: &Policy, now: Instant) -> Phase {
    Phase::Stopping {
        until: after(policy.stop_timeout, now),
    }
}

fn stopped(policy: &Policy, now: Instant) -> (Phase, Vec<Action>) {
    let news = Action::Report(News::Stopping);
    (
        stopping(policy, now),
        vec![news, Action::Drain, Action::DrainPredecessors],
    )
}

fn killing(supervised: bool) -> (Phase, Vec<Action>) {
    let actions = vec![Action::Report(News::NotInTime), Action::Kill];
    (Phase::Killing { supervised }, actions)
}

fn launcher_lost(ready: bool) -> (Phase, Vec<Action>) {
    (
        Phase::Standby { ready },
        vec![Action::Report(News::LauncherLost), Action::Detach],
    )
}

/// The files go first and the lock with them: when the launcher leaves, the next one may start.
fn gone_under_launcher(ending: crate::departure::Ending) -> (Phase, Vec<Action>) {
    (
        Phase::Gone,
        vec![Action::CleanUp, Action::LeaveWith(ending)],
    )
}

fn gone_detached() -> (Phase, Vec<Action>) {
    (Phase::Gone, vec![Action::CleanUp])
}

fn after(timeout: Option<Duration>, now: Instant) -> Option<Instant> {
    now.checked_add(timeout?)
}
