//! What the supervisor wants: at a signal, before the launcher leaves, and when nobody is signalled any
//! more (§7, R16).

use super::Keeper;
use crate::changes::Changes;
use crate::generation::{Patience, Phase, Why, Wish};
use crate::signals::{Meaning, Signal};

pub(super) fn meaning_by(wish: Wish) -> Meaning {
    match wish {
        Wish::Down => Meaning::Stop,
        Wish::Up | Wish::Gone | Wish::Unknown => Meaning::Restart,
    }
}

impl Keeper {
    /// What this signal means; `None`: the supervisor will say, and until then the next one of its kind
    /// is not taken.
    pub(super) fn meaning_of(&mut self, signal: Signal) -> Option<Meaning> {
        let meaning = self.service.meanings.of(signal);
        if meaning != Meaning::Auto {
            return Some(meaning);
        }
        if let Some(wish) = self.wishes.signalled(self.clock.now()) {
            return Some(meaning_by(wish));
        }
        self.unclear.push(signal);
        // One that serves is told to prepare meanwhile, where there would be a wait.
        let serves = matches!(self.phase, Phase::Serving { .. });
        (serves && self.wishes.restart_meanwhile()).then_some(Meaning::Restart)
    }

    /// Whatever the supervisor says, it will not change what this generation comes to.
    pub(super) fn stops_for_good(&self) -> bool {
        self.ends_for_good() || !self.supervised
    }

    /// A final stop is under way (R15).
    pub(super) fn ends_for_good(&self) -> bool {
        matches!(
            self.phase,
            Phase::Stopping { why: Why::Stop, .. }
                | Phase::Killing {
                    launcher: Some(Why::Stop)
                }
                | Phase::Lingering { .. }
        )
    }

    pub(super) fn read_wish(&mut self, changes: Changes) -> Option<Wish> {
        let wish = self.wishes.read(changes, self.clock.now())?;
        // Where nobody could find us, it does not help that somebody is wanted.
        let lost =
            wish == Wish::Up && matches!(self.phase, Phase::Standby { .. }) && !self.can_be_found();
        Some(if lost { Wish::Unknown } else { wish })
    }

    /// A daemon without a launcher hears no signals: its keeper looks for itself, unless a successor has
    /// come, who has a launcher.
    pub(super) fn watch_wish(&mut self) {
        let alone = match self.phase {
            Phase::Standby { patience, .. } => patience != Patience::Attached,
            Phase::Holding { .. } => true,
            Phase::Starting { .. }
            | Phase::Serving { .. }
            | Phase::Preparing { .. }
            | Phase::Parting { .. }
            | Phase::Draining { .. }
            | Phase::Stopping { .. }
            | Phase::Killing { .. }
            | Phase::Lingering { .. }
            | Phase::Gone => false,
        };
        let now = self.clock.now();
        self.wishes.watch(alone && !self.supervised, now);
    }

    /// Once: what cannot be told, and what follows.
    pub(super) fn report_trouble(&mut self) {
        if let Some(words) = self.wishes.trouble() {
            self.report.warn(&words);
        }
    }
}
