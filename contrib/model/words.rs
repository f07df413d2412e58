//! A trace, in words.

use crate::generation::{Patience, Phase, Reception};
use crate::moves::{Move, Step};
use crate::world::{Daemon, Keeper, Launcher, World};

impl Move {
    pub(crate) fn words(self) -> String {
        let one = |number: u8| format!("generation {}", u32::from(number) + 1);
        match self {
            Move::SupervisorRestarts => "the supervisor sends TERM: restart".to_owned(),
            Move::SupervisorStops => "the supervisor wants it down, and sends TERM".to_owned(),
            Move::SupervisorWantsItUp => "the supervisor wants it up again".to_owned(),
            Move::SupervisorStarts => "the supervisor starts a launcher".to_owned(),
            Move::SupervisorDies => "the supervisor dies, and another one comes".to_owned(),
            Move::AskedToRestart(number, reception) => {
                format!(
                    "seamless-run restart reaches {}{}",
                    one(number),
                    by(reception)
                )
            }
            Move::AskedToStop(number) => format!("seamless-run stop reaches {}", one(number)),
            Move::LauncherKilled(number) => format!("KILL: the launcher of {}", one(number)),
            Move::KeeperKilled(number) => format!("KILL: the keeper of {}", one(number)),
            Move::DaemonDies(number) => format!("the daemon of {} dies", one(number)),
            Move::LauncherLeaves(number) => format!("the launcher of {} leaves", one(number)),
            Move::LauncherForks(number) => {
                format!("the launcher of {} has lost its keeper", one(number))
            }
            Move::StartFails(number) => format!("{} fails before it has a daemon", one(number)),
            Move::Refused(number) => format!("{} is refused: one is supervised", one(number)),
            Move::DaemonEnds(number) => format!("the daemon of {} ends as told", one(number)),
            Move::KeeperLeaves(number) => format!("the keeper of {} leaves", one(number)),
            Move::Keeper { number, step, fuse } => {
                let done = format!("keeper {} {}", u32::from(number) + 1, step.words());
                match fuse {
                    None => done,
                    Some(effects) => format!("{done}; KILLed after {effects} of it"),
                }
            }
        }
    }
}

impl Step {
    fn words(self) -> String {
        let other = |number: u8| u32::from(number) + 1;
        match self {
            Step::Claim => "takes the lock, and attaches".to_owned(),
            Step::Begin => "starts its daemon".to_owned(),
            Step::Adopt(reception) => {
                format!("goes on where the lost one was{}", by(reception))
            }
            Step::HearTerm(reception) => format!("hears of the TERM{}", by(reception)),
            Step::Settle(reception) => {
                format!("reads what the supervisor wants{}", by(reception))
            }
            Step::HearWish => "is told what the supervisor wants".to_owned(),
            Step::Look => "looks what the supervisor wants".to_owned(),
            Step::HearEnd => "hears that its daemon has ended".to_owned(),
            Step::HearReady(_) => "hears that its daemon is ready".to_owned(),
            Step::HearReadyOfSeed(number) => format!(
                "hears that its daemon is ready, and has told that of {} itself",
                other(number)
            ),
            Step::HearPrepared => "hears that its daemon is prepared".to_owned(),
            Step::HearLauncherLost(reception) => {
                format!("hears that its launcher is lost{}", by(reception))
            }
            Step::HearSuccessor(number) => format!("hears keeper {}", other(number)),
            Step::HearOlder(number) => format!("hears how generation {} stands", other(number)),
            Step::HearOlderLost(number) => format!("hears that keeper {} is gone", other(number)),
            Step::SeeOlderEnd(number) => {
                format!(
                    "sees that the daemon of generation {} has ended",
                    other(number)
                )
            }
            Step::LetGoOfOlder(number) => format!("forgets generation {}", other(number)),
            Step::DoErrand(number) => {
                format!(
                    "does what keeper {} was told to, and has not",
                    other(number)
                )
            }
            Step::KillOlder(number) => format!("KILLs the daemon of generation {}", other(number)),
            Step::HearDeadline => "has waited long enough".to_owned(),
            Step::SeeDirectoryGone => "sees that its directory is gone".to_owned(),
        }
    }
}

fn by(reception: Reception) -> &'static str {
    match reception {
        Reception::Handled => "",
        Reception::Runtime | Reception::Unhandled => " (its daemon does not hear USR2)",
    }
}

impl World {
    /// For the traces: where each generation stands.
    pub(crate) fn words(&self) -> String {
        let begun = usize::from(self.begun);
        let all = (0..begun).map(|number| {
            let it = &self.generations[number];
            let keeper = match &it.keeper {
                Keeper::Absent => "no keeper".to_owned(),
                Keeper::Claims => "claiming".to_owned(),
                Keeper::Attached(_) => "attached".to_owned(),
                Keeper::Adopts => "adopting".to_owned(),
                Keeper::Lives(mind) => phase_word(mind.phase),
            };
            let launcher = match it.launcher {
                Launcher::Absent => "",
                Launcher::Lives { .. } => ", launcher",
            };
            let daemon = match it.daemon {
                Daemon::Absent => "",
                Daemon::Waits => ", daemon not let run",
                Daemon::Lives { told: false } => ", daemon",
                Daemon::Lives { told: true } => ", daemon told to end",
                Daemon::Dead => ", daemon dead",
            };
            format!("{}: {keeper}{launcher}{daemon}", number + 1)
        });
        all.collect::<Vec<_>>().join("; ")
    }
}

fn phase_word(phase: Phase) -> String {
    match phase {
        Phase::Starting { predecessor, .. } => {
            format!(
                "starting{}",
                if predecessor { " behind another" } else { "" }
            )
        }
        Phase::Serving { .. } => "serving".to_owned(),
        Phase::Preparing { .. } => "preparing".to_owned(),
        Phase::Parting { .. } => "parting".to_owned(),
        Phase::Standby { patience, .. } => match patience {
            Patience::Attached => "standby, a successor has come".to_owned(),
            Patience::Until(_) => "standby, for a time".to_owned(),
            Patience::Wanted => "standby, wanted up".to_owned(),
            Patience::ForGood => "standby, for good".to_owned(),
        },
        Phase::Holding { .. } => "holding".to_owned(),
        Phase::Draining { .. } => "draining".to_owned(),
        Phase::Stopping { why, .. } => format!("stopping ({why:?})"),
        Phase::Killing { .. } => "killing".to_owned(),
        Phase::Lingering { .. } => "lingering".to_owned(),
        Phase::Gone => "gone".to_owned(),
    }
}
