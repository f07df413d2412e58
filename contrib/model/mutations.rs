//! Faults put into `step` on purpose: each breaks a rule, and must be found.
//!
//! Not every fault shows. Where a keeper does not do what it is told at a commit, its successor does it two seconds later;
//! where a launcher is not told to leave, it leaves when it has lost its keeper; a stop that is read too late is read once
//! more in standby. Faults of that kind are found only where both defences are broken, and so are not here.

use crate::generation::{Action, Event, Patience, Phase, Wish};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mutation {
    /// A successor that has only come is taken for one that is ready (R11).
    DrainsForANewcomer,
    /// A successor that fails takes its predecessor with it (R13).
    DrainsAfterAFailure,
    /// A daemon that is ready serves, and nobody is told (R11).
    CommitsInSilence,
    /// The launcher is never let go (R24).
    NeverLetsGo,
    /// The lock is kept when the launcher leaves (R19).
    KeepsTheLock,
    /// A daemon that has ended is still named by the PID file (R18).
    LeavesTheName,
    /// A detached daemon waits for ever (R16).
    WaitsForEver,
    /// A stop is not passed on to older generations (R15).
    StopsOnlyItself,
}

impl Mutation {
    pub(crate) fn change(
        self,
        before: Phase,
        event: Event,
        (next, mut actions): (Phase, Vec<Action>),
    ) -> (Phase, Vec<Action>) {
        let in_standby = matches!(before, Phase::Standby { .. });
        let is_parting = matches!(before, Phase::Parting { .. });
        let drains = || {
            let until = None;
            let hold = false;
            (Phase::Draining { until, hold }, vec![Action::Drain])
        };
        match (self, event) {
            (Mutation::DrainsForANewcomer, Event::SuccessorAttached) if in_standby => drains(),
            (Mutation::DrainsAfterAFailure, Event::SuccessorLost { another: true })
                if in_standby =>
            {
                drains()
            }
            (Mutation::CommitsInSilence, Event::Ready(_)) => {
                actions.retain(|action| *action != Action::Commit);
                (next, actions)
            }
            (Mutation::NeverLetsGo, Event::Wish(_)) if is_parting => (before, vec![]),
            (Mutation::KeepsTheLock, Event::Wish(Wish::Up)) if is_parting => {
                actions.retain(|action| *action != Action::Detach);
                (next, actions)
            }
            (Mutation::LeavesTheName, Event::DaemonEnded { .. }) => {
                actions.retain(|action| *action != Action::Unname);
                (next, actions)
            }
            (Mutation::WaitsForEver, Event::Deadline | Event::Wish(Wish::Down)) if in_standby => {
                let patience = Patience::ForGood;
                let ready = true;
                (Phase::Standby { ready, patience }, vec![])
            }
            (Mutation::StopsOnlyItself, Event::Stop { .. }) => {
                actions.retain(|action| !matches!(action, Action::StopPredecessors(_)));
                (next, actions)
            }
            _ => (next, actions),
        }
    }
}
