//! What is known of a service: by its keeper's word, or by the record (R20).

use std::fs;
use std::time::Duration;

use super::Target;
use super::contact::{NoAnswer, PATIENCE};
use crate::control::wire::State;
use crate::control::{Connection, Message, Standing};
use crate::departure::verb::{CANNOT_TELL, NO, NOTHING_RUNNING, YES};
use crate::files::{self, Disbelief, Entry};
use crate::process::Identity;

/// What is known, and from whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    pub(super) source: Source,
    /// Empty where nobody knows.
    pub(super) state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Keeper,
    /// In words: why no keeper was asked.
    Record(String),
    /// Nothing is running.
    Nothing,
    /// In words: why it cannot be told.
    Unknown(String),
}

impl View {
    pub(super) fn by_keeper(state: State) -> View {
        let source = if state.generations.is_empty() {
            Source::Nothing
        } else {
            Source::Keeper
        };
        View { source, state }
    }

    fn unknown(why: String) -> View {
        View {
            source: Source::Unknown(why),
            state: State::default(),
        }
    }

    /// The exit status (§9).
    pub(super) fn verdict(&self) -> i32 {
        match self.source {
            Source::Keeper | Source::Record(_) if self.state.generations.iter().any(serves) => YES,
            Source::Keeper | Source::Record(_) => NO,
            Source::Nothing => NOTHING_RUNNING,
            Source::Unknown(_) => CANNOT_TELL,
        }
    }

    /// Without what changes by itself as time goes by.
    pub(super) fn timeless(&self) -> View {
        let mut view = self.clone();
        for standing in &mut view.state.generations {
            standing.age = Duration::ZERO;
            if let Some(deadline) = &mut standing.deadline {
                deadline.left = Duration::ZERO;
            }
        }
        if let Some(failure) = &mut view.state.failure {
            failure.ago = Duration::ZERO;
        }
        view
    }
}

/// It said that it is ready, and has not been told to finish.
pub(super) fn serves(standing: &Standing) -> bool {
    // Where only the sockets are left (holding), whoever connects waits, and nobody answers.
    let phases = ["serving", "preparing", "standby"];
    standing.ready && phases.contains(&standing.phase.as_str())
}

impl Target {
    /// Looks at the service. The connection is one on which more may come.
    pub(super) fn look(&self, watch: bool) -> (View, Option<Connection>) {
        let answer = match self.reach(&Message::Status { watch }) {
            Ok(answer) => answer,
            Err(NoAnswer::Nobody) => return (self.look_at_record(None), None),
            Err(NoAnswer::Silent(connection)) => {
                let why = format!("its keeper does not answer within {} s", PATIENCE.as_secs());
                return (self.look_at_record(Some(why)), Some(connection));
            }
            Err(NoAnswer::Unusable(why)) => return (self.look_at_record(Some(why)), None),
        };
        if let Message::State(state) = answer.message {
            return (View::by_keeper(state), Some(answer.connection));
        }
        let why = if let Message::Refused { why } = answer.message {
            format!("its keeper refuses: {why}")
        } else {
            "its keeper answers something else than what was asked".to_owned()
        };
        (self.look_at_record(Some(why)), None)
    }

    /// `somebody`: what is wrong with the one who is there.
    fn look_at_record(&self, somebody: Option<String>) -> View {
        let record = match self.files.read_record() {
            Ok(record) => record,
            Err(Disbelief::Missing | Disbelief::EarlierBoot) => files::Record::default(),
            Err(Disbelief::Unreadable(words) | Disbelief::Suspicious(words)) => {
                let somebody = somebody
                    .map(|why| format!("{why}, and "))
                    .unwrap_or_default();
                let record = self.files.record.display();
                return View::unknown(format!("{somebody}the record {record} {words}"));
            }
        };
        let living = record.generations.iter().rev();
        let generations: Vec<Standing> = living.filter_map(standing).collect();
        let source = match (generations.is_empty(), somebody) {
            (true, None) => Source::Nothing,
            (true, Some(why)) => return View::unknown(why),
            (false, why) => {
                let nobody = || "nobody listens at its control socket".to_owned();
                Source::Record(why.unwrap_or_else(nobody))
            }
        };
        let state = State {
            generations,
            failure: None,
        };
        View { source, state }
    }
}

/// What the record, and `/proc`, know of a generation that lives.
fn standing(entry: &Entry) -> Option<Standing> {
    let living = |identity: Option<Identity>| identity.filter(|identity| identity.is_alive());
    let launcher = living(entry.launcher);
    let phase = match (entry.state, launcher) {
        (files::State::Starting, _) => "starting",
        (files::State::Ready, Some(_)) => "serving",
        (files::State::Ready, None) => "standby",
        (files::State::Draining, _) => "draining",
        (files::State::Holding, _) => "holding",
    };
    let daemon = Some(entry.daemon).filter(|_| entry.daemon_lives());
    if !entry.is_alive() {
        return None;
    }
    let command = daemon.and_then(|daemon| fs::read(format!("/proc/{}/cmdline", daemon.pid)).ok());
    let command = command.unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    Some(Standing {
        number: entry.number,
        phase: phase.to_owned(),
        ready: entry.state == files::State::Ready,
        supervised: launcher.is_some(),
        daemon,
        keeper: living(entry.keeper),
        launcher,
        command: command.trim_end().to_owned(),
        sockets: entry.sockets.clone(),
        ..Standing::default()
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Scene, read, reply};
    use super::*;
    use rustix::net::{SendFlags, send};

    fn view_of(phase: &str, ready: bool) -> View {
        let standing = Standing {
            phase: phase.to_owned(),
            ready,
            ..Standing::default()
        };
        View::by_keeper(State {
            generations: vec![standing],
            failure: None,
        })
    }

    #[test]
    fn only_what_said_that_it_is_ready_and_has_not_been_told_to_finish_serves() {
        assert_eq!(view_of("standby", true).verdict(), YES);
        assert_eq!(view_of("standby", false).verdict(), NO);
        assert_eq!(view_of("draining", true).verdict(), NO);
        assert_eq!(view_of("holding", true).verdict(), NO);
        assert_eq!(view_of("of a later version", true).verdict(), NO);
        let nothing = View::by_keeper(State::default());
        assert_eq!(nothing.verdict(), NOTHING_RUNNING);
    }

    #[test]
    fn where_nobody_is_nothing_runs() {
        let scene = Scene::new();
        assert_eq!(scene.target.look(false).0.verdict(), NOTHING_RUNNING);
        drop(scene.listener());
        assert_eq!(scene.target.look(false).0.verdict(), NOTHING_RUNNING);
        let nowhere = Target::new(std::path::Path::new("/nowhere/app.pid"));
        assert_eq!(nowhere.look(false).0.verdict(), NOTHING_RUNNING);
    }

    #[test]
    fn the_record_speaks_where_nobody_answers() {
        let scene = Scene::new();
        let daemon = scene.daemon(7, "ready");
        drop(scene.listener());
        let view = scene.target.look(false).0;
        assert_eq!(view.verdict(), YES);
        let standing = &view.state.generations[0];
        assert_eq!((standing.number, standing.phase.as_str()), (7, "standby"));
        assert_eq!(
            standing.daemon.map(|one| one.pid as u32),
            Some(daemon.pid())
        );
        assert_eq!(standing.command, "sleep 1000");

        // Nobody reads what waits in the queue.
        let _silent = scene.listener();
        let (view, connection) = scene.target.look(false);
        assert!(matches!(view.source, Source::Record(why) if why.contains("within 2 s")));
        assert!(connection.is_some());
    }

    #[test]
    fn another_major_version_is_named_and_nothing_is_made_up() {
        let scene = Scene::new();
        let keeper = scene.keeper(|listener| {
            let connection = listener.next();
            read(&connection);
            let text = b"seamless-control 2.0 refused\n";
            send(&connection, text, SendFlags::NOSIGNAL).unwrap();
        });
        let view = scene.target.look(false).0;
        assert_eq!(view.verdict(), CANNOT_TELL);
        assert!(matches!(view.source, Source::Unknown(why) if why.contains("version 2.0")));
        keeper.join().unwrap();
    }

    #[test]
    fn a_record_of_somebody_else_is_not_believed() {
        let scene = Scene::new();
        let _daemon = scene.daemon(7, "ready");
        std::os::unix::fs::chown(&scene.target.files.record, Some(65534), None).unwrap();
        assert_eq!(scene.target.look(false).0.verdict(), CANNOT_TELL);
    }

    #[test]
    fn a_keeper_is_found_by_its_number_where_the_path_is_gone() {
        let scene = Scene::new();
        let listener = scene.listener();
        let own = Identity::of_this_process().unwrap();
        let words = format!("ready keeper={own} control={}", listener.number());
        let _daemon = scene.daemon(7, &words);
        fs::remove_file(&scene.target.files.socket).unwrap();
        let keeper = reply(
            listener,
            vec![Message::State(view_of("standby", true).state)],
        );
        let view = scene.target.look(false).0;
        assert_eq!(view.source, Source::Keeper);
        keeper.join().unwrap();
    }
}
