//! `seamless-run restart`.

use std::io::Write;
use std::time::{Duration, Instant};

use super::contact::{Answer, Heard, NoAnswer, PACE, PATIENCE, Way, hear};
use super::display::span;
use super::doorbell::Doorbell;
use super::view::{Source, serves};
use super::{Target, say};
use crate::control::{Connection, Message};
use crate::departure::{FAILED, verb};
use crate::report::{Report, Volume};

/// Asks for a restart, waits for the verdict where that is wanted, and gives the exit status (§9).
pub(super) fn run(
    target: &Target,
    wait: bool,
    timeout: Option<Duration>,
    output: &mut dyn Write,
) -> i32 {
    let begin = Instant::now();
    let mut restart = Restart {
        target,
        report: Report::new(target.name.clone(), Volume::Normal),
        timeout,
        until: timeout.and_then(|timeout| begin.checked_add(timeout)),
        output,
    };
    let answer = match restart.ask() {
        Ok(answer) => answer,
        Err(status) => return status,
    };
    let generation = match answer.message {
        Message::Restarting { generation } => generation,
        other => {
            let refused = restart.verdict(other);
            return refused.unwrap_or_else(|| restart.cannot_tell("its keeper answers otherwise"));
        }
    };
    if !wait {
        restart.say(format!("generation {generation} was asked to restart"));
        return verb::YES;
    }
    restart.follow(generation, answer.connection)
}

struct Restart<'a> {
    target: &'a Target,
    report: Report,
    timeout: Option<Duration>,
    until: Option<Instant>,
    output: &'a mut dyn Write,
}

impl Restart<'_> {
    /// The first answer, or the exit status.
    fn ask(&mut self) -> Result<Answer, i32> {
        let mut answer = self.target.reach(&Message::Restart);
        if let Err(NoAnswer::Nobody) = answer {
            let record = self.target.files.read_record().unwrap_or_default();
            if self.target.somebody_comes(&record) {
                answer = self.target.reach(&Message::Restart);
            }
        }
        answer.map_err(|none| match none {
            NoAnswer::Nobody => self.nobody(),
            NoAnswer::Silent(_) => self.cannot_tell(&format!(
                "its keeper does not answer within {} s",
                PATIENCE.as_secs()
            )),
            NoAnswer::Unusable(words) => self.cannot_tell(&words),
        })
    }

    /// Either nothing is running, or a daemon whose keeper was lost.
    fn nobody(&self) -> i32 {
        let view = self.target.look(false).0;
        match view.source {
            Source::Nothing => {
                self.report.warn("nothing is running");
                verb::NOTHING_RUNNING
            }
            Source::Keeper => self.cannot_tell("it is just starting; ask again"),
            Source::Record(why) => self.cannot_tell(&format!(
                "{why}, though its daemon lives; use its supervisor's restart"
            )),
            Source::Unknown(why) => self.cannot_tell(&why),
        }
    }

    fn cannot_tell(&self, why: &str) -> i32 {
        self.report.warn(&format!("cannot be restarted: {why}"));
        verb::CANNOT_TELL
    }

    /// Waits for the verdict; where a connection ends without one, asks whoever comes next for the
    /// one on the first generation after `baseline`.
    fn follow(&mut self, baseline: u32, asked: Connection) -> i32 {
        let mut connection = Some(asked);
        loop {
            let mut bell = match Doorbell::open(&self.target.files.pid_file) {
                Ok(bell) => bell,
                Err(error) => {
                    self.report.warn(&format!("{error:#}"));
                    return FAILED;
                }
            };
            let known = connection.take().map_or_else(|| self.connect(baseline), Ok);
            match known {
                Ok(known) => match self.listen(&known) {
                    Some(status) => return status,
                    // Whoever is at the path may be the very one who is leaving.
                    None => {
                        let soon = Instant::now() + PACE;
                        bell.wait(Some(self.until.map_or(soon, |until| until.min(soon))));
                    }
                },
                Err(NoAnswer::Unusable(words)) => return self.cannot_tell(&words),
                Err(NoAnswer::Nobody | NoAnswer::Silent(_)) => {
                    bell.wait(self.until);
                }
            }
            if self.until.is_some_and(|until| Instant::now() >= until) {
                return self.too_late(baseline);
            }
        }
    }

    fn connect(&self, baseline: u32) -> Result<Connection, NoAnswer> {
        let connection = self.target.connect(Way::Path)?;
        // Should he have gone, reading says so.
        let _ = connection.send(&Message::Await { newer: baseline });
        Ok(connection)
    }

    /// The exit status, or `None` if there will be no verdict on this connection in time.
    fn listen(&mut self, connection: &Connection) -> Option<i32> {
        loop {
            match hear(connection, self.until) {
                Heard::Message(message) => {
                    let verdict = self.verdict(message);
                    if verdict.is_some() {
                        return verdict;
                    }
                }
                Heard::Unreadable(words) => {
                    return Some(self.cannot_tell(&format!("the answer of its keeper {words}")));
                }
                Heard::End | Heard::Late => return None,
            }
        }
    }

    /// The exit status, if this is a verdict; a later version may say other things before (R25).
    fn verdict(&mut self, message: Message) -> Option<i32> {
        if let Message::Committed { generation, daemon } = message {
            self.say(format!("generation {generation} (pid {daemon}) serves"));
            return Some(verb::YES);
        }
        if let Message::Failed { generation, why } = message {
            self.report
                .warn(&format!("generation {generation} failed: {why}"));
            return Some(verb::NO);
        }
        if let Message::Refused { why } = message {
            self.report.warn(&format!("the restart was refused: {why}"));
            return Some(verb::NO);
        }
        None
    }

    fn too_late(&mut self, baseline: u32) -> i32 {
        let state = self.target.look(false).0.state;
        let newer = state.generations.iter().find(|one| one.number > baseline);
        let time = span(self.timeout.unwrap_or_default());
        match newer {
            // At the very last moment.
            Some(newer) if serves(newer) => {
                let daemon = newer.daemon.map_or(0, |daemon| daemon.pid);
                self.say(format!("generation {} (pid {daemon}) serves", newer.number));
                return verb::YES;
            }
            Some(newer) => self.report.warn(&format!(
                "generation {} is not ready after {time}",
                newer.number
            )),
            None => self
                .report
                .warn(&format!("no new generation was started within {time}")),
        }
        verb::TIMED_OUT
    }

    fn say(&mut self, words: String) {
        // The exit status says it too, to whoever does not read.
        let _ = say(self.output, &[format!("{}: {words}", self.target.name)]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Scene, read, reply, state};
    use super::*;

    const RESTARTING: Message = Message::Restarting { generation: 7 };
    const COMMITTED: Message = Message::Committed {
        generation: 8,
        daemon: 4300,
    };

    fn failed() -> Message {
        Message::Failed {
            generation: 8,
            why: "exit status 1".to_owned(),
        }
    }

    fn restarted(scene: &Scene, wait: bool, milliseconds: Option<u64>) -> (i32, String) {
        let mut printed = Vec::new();
        let timeout = milliseconds.map(Duration::from_millis);
        let status = run(&scene.target, wait, timeout, &mut printed);
        (status, String::from_utf8(printed).unwrap())
    }

    #[test]
    fn the_verdict_is_the_exit_status() {
        let refused = Message::Refused {
            why: "it is stopping".to_owned(),
        };
        for (answers, wait, status, line) in [
            (
                vec![RESTARTING, COMMITTED],
                true,
                0,
                "app: generation 8 (pid 4300) serves\n",
            ),
            (
                vec![RESTARTING],
                false,
                0,
                "app: generation 7 was asked to restart\n",
            ),
            (vec![RESTARTING, failed()], true, 1, ""),
            (vec![refused], true, 1, ""),
        ] {
            let scene = Scene::new();
            let keeper = reply(scene.listener(), answers);
            assert_eq!(restarted(&scene, wait, None), (status, line.to_owned()));
            keeper.join().unwrap();
        }
        assert_eq!(
            restarted(&Scene::new(), true, None).0,
            verb::NOTHING_RUNNING
        );
    }

    #[test]
    fn where_the_keeper_leaves_the_next_one_is_asked() {
        let scene = Scene::new();
        let path = scene.target.files.socket.clone();
        let whose = scene.whose();
        let keeper = scene.keeper(move |listener| {
            let connection = listener.next();
            assert_eq!(read(&connection), Message::Restart);
            connection.send(&RESTARTING).unwrap();
            drop(connection);
            // One that is about to leave says nothing; then nobody is there for a while.
            let awaiting = listener.next();
            assert_eq!(read(&awaiting), Message::Await { newer: 7 });
            drop(awaiting);
            std::fs::remove_file(&path).unwrap();
            *listener = crate::control::Listener::open(&path, &whose).unwrap();
            loop {
                let connection = listener.next();
                if let Heard::Message(message) = hear(&connection, None) {
                    assert_eq!(message, Message::Await { newer: 7 });
                    connection.send(&COMMITTED).unwrap();
                    return;
                }
            }
        });
        assert_eq!(restarted(&scene, true, None).0, 0);
        keeper.join().unwrap();
    }

    #[test]
    fn a_timeout_says_how_far_it_came() {
        for (then, status) in [
            (state(&[(7, "standby")]), verb::TIMED_OUT),
            (state(&[(8, "starting"), (7, "standby")]), verb::TIMED_OUT),
            (state(&[(8, "serving"), (7, "draining")]), verb::YES),
        ] {
            let scene = Scene::new();
            let keeper = scene.keeper(move |listener| {
                let asked = listener.next();
                read(&asked);
                asked.send(&RESTARTING).unwrap();
                let question = listener.next();
                assert_eq!(read(&question), Message::Status { watch: false });
                question.send(&then).unwrap();
            });
            assert_eq!(restarted(&scene, true, Some(50)).0, status);
            keeper.join().unwrap();
        }
    }
}
