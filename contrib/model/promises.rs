//! What must hold in every world that can be reached.

use crate::generation::{Patience, Phase};
use crate::world::{Daemon, Generation, Keeper, Launcher, MOST, Promise, World};
use crate::{Rules, Supervisor};

impl World {
    /// What can be seen in one world.
    pub(crate) fn look_at_promises(&mut self) {
        let begun = usize::from(self.begun);
        let supervised: Vec<usize> = (0..begun).filter(|it| self.serves(*it)).collect();
        if supervised.len() > 1 {
            self.breaks(Promise::OneIsSupervised);
        }
        for newer in supervised {
            let told = |older: &usize| {
                let daemon = self.generations[*older].daemon;
                !matches!(daemon, Daemon::Lives { .. }) || self.is_on_its_way_out(*older)
            };
            if !(0..newer).all(|older| told(&older)) {
                self.breaks(Promise::OlderOnesAreTold);
            }
        }
    }

    /// R15, R16: a stop by the supervisor's own verb leads to the end, whatever was under way. So says every world in
    /// which nothing is left to happen by itself. Where a keeper without a launcher was KILLed, nobody is left to hear
    /// the supervisor; there `seamless-run stop` does it, by the record (R20).
    pub(crate) fn has_ended_where_it_should(&self, rules: &Rules) -> bool {
        // R16: what shall serve on for good, under a supervisor whose wish cannot be read.
        let readable = rules.supervisor != Supervisor::Unreadable;
        let ends = |number: usize| {
            let it = &self.generations[number];
            // Nor is anybody left whose supervisor has died (R19).
            let lost = match it.launcher {
                Launcher::Absent => it.keeper == Keeper::Absent,
                Launcher::Lives { orphan, .. } => orphan,
            };
            let for_good = matches!(
                self.mind(number).map(|mind| mind.phase),
                Some(
                    Phase::Standby {
                        patience: Patience::ForGood,
                        ..
                    } | Phase::Holding { until: None }
                )
            );
            !self.is_alive(number) || lost || (for_good && !readable)
        };
        self.wanted || (0..MOST).all(ends) || !self.is_at_rest(rules)
    }

    /// R11: every older generation ends after the commit of a newer one. R24: a launcher that was sent a TERM leaves.
    pub(crate) fn goes_on_where_it_should(&self, rules: &Rules) -> bool {
        let living = (0..MOST).filter(|number| self.is_alive(*number));
        let newest = living.clone().next_back();
        let settled = newest.is_none_or(|newest| !self.serves(newest) || living.count() == 1);
        let is_kept = |it: &Generation| {
            let asked = Launcher::Lives {
                term: false,
                leaves: false,
                orphan: false,
                asked: true,
                settled: true,
            };
            it.launcher == asked
        };
        let left = !self.generations.iter().any(is_kept);
        // R19: a newcomer gets the lock some day, or is refused.
        let waits = |it: &Generation| it.keeper == Keeper::Claims;
        let has_turn = !self.generations.iter().any(waits);
        !self.wanted || (settled && left && has_turn) || !self.is_at_rest(rules)
    }

    /// No more faults, no more wishes: nothing is under way, and no time is waited for.
    fn is_at_rest(&self, rules: &Rules) -> bool {
        let mut moves = Vec::new();
        self.moves(rules, &mut moves);
        let mut progress = moves.into_iter().filter(|chosen| chosen.is_progress());
        self.broken.is_none() && progress.all(|chosen| self.after(rules, chosen) == *self)
    }
}
