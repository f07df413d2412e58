//! `seamless-run stop`.
//!
//! The newest keeper that answers does it all (R15). What is left without one, because keepers
//! were killed or stopped, is ended from the record (R18, R20). One looks again until nobody is
//! left: a launcher may fork another keeper meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::{Duration, Instant};

use super::contact::{Answer, Heard, NoAnswer, PATIENCE, Way, hear, ways};
use super::{Target, bare, say};
use crate::control::wire::State;
use crate::control::{Message, Standing};
use crate::departure::verb;
use crate::files::{self, Disbelief, Entry, Record};
use crate::process::Identity;
use crate::report::{Report, Volume};

/// How long a keeper may be silent before it is asked whether it still lives.
const SILENCE: Duration = Duration::from_secs(5);
/// So often the same generations may be found alive.
const ROUNDS: u32 = 5;

/// Ends the generations (or only those that drain), and gives the exit status (§9).
pub(super) fn run(target: &Target, old: bool, output: &mut dyn Write) -> i32 {
    let mut stop = Stop {
        target,
        old,
        report: Report::new(target.name.clone(), Volume::Normal),
        output,
        expected: BTreeMap::new(),
        ended: BTreeSet::new(),
        stubborn: false,
    };
    stop.run()
}

struct Stop<'a> {
    target: &'a Target,
    old: bool,
    report: Report,
    output: &'a mut dyn Write,
    /// Those that were there at first, with the daemon's identity where it is known. Nobody newer
    /// is ours to end: a supervisor may start another meanwhile.
    expected: BTreeMap<u32, Option<Identity>>,
    /// Those of which it was said.
    ended: BTreeSet<u32>,
    /// One could not be ended, and it was said why.
    stubborn: bool,
}

/// Who is there.
#[derive(Default)]
struct Look {
    /// The newest keeper that answers, and what it knows.
    answer: Option<(Way, State)>,
    /// Keepers that live and do not answer.
    silent: Vec<Identity>,
    record: Record,
    /// In words: what keeps us from knowing more.
    trouble: Option<String>,
}

impl Look {
    /// The generations that live, by the keeper and by the record.
    fn living(&self) -> BTreeMap<u32, Option<Identity>> {
        let mut living = BTreeMap::new();
        for entry in &self.record.generations {
            living.insert(entry.number, Some(entry.daemon));
        }
        if let Some((_, state)) = &self.answer {
            living.extend(state.generations.iter().map(|one| (one.number, one.daemon)));
        }
        living
    }

    /// The launchers that live: each has a supervisor behind it.
    fn launchers(&self) -> impl Iterator<Item = Identity> {
        let recorded = self.record.generations.iter().map(|entry| entry.launcher);
        let told = self.answer.iter().flat_map(|(_, state)| &state.generations);
        let all = recorded.chain(told.map(|standing| standing.launcher));
        all.flatten().filter(|launcher| launcher.is_alive())
    }
}

impl Stop<'_> {
    fn run(&mut self) -> i32 {
        if !self.old {
            bare::end_commands(self.target);
        }
        let first = self.look();
        self.expected = first.living();
        if self.expected.is_empty() {
            return self.nobody(&first);
        }
        let supervisor = first.launchers().find_map(bare::supervisor);
        let mut look = first;
        let mut rounds = 0;
        loop {
            let living = self.living_of_ours(&look);
            if living.is_empty() || self.stubborn {
                break;
            }
            if rounds == ROUNDS {
                self.give_up(&living);
                break;
            }
            self.end(&look);
            look = self.look();
            // Whoever ends one at a time gets there.
            let progress = self.living_of_ours(&look) != living;
            rounds = if progress { 0 } else { rounds + 1 };
        }
        self.account_for_the_rest(&look);
        if look.answer.is_none() && !self.stubborn {
            let daemons: Vec<i32> = self.expected.values().flatten().map(|it| it.pid).collect();
            if let Err(error) = bare::clean_up(self.target, &daemons) {
                self.report.warn(&format!("{error:#}"));
            }
        }
        if !self.old {
            self.warn_of_supervisor(supervisor, &look);
        }
        if self.stubborn { verb::NO } else { verb::YES }
    }

    fn look(&self) -> Look {
        let mut look = Look::default();
        match self.target.files.read_record() {
            Ok(record) => look.record = record,
            Err(Disbelief::Missing | Disbelief::EarlierBoot) => {}
            Err(Disbelief::Unreadable(words) | Disbelief::Suspicious(words)) => {
                let record = self.target.files.record.display();
                look.trouble = Some(format!("the record {record} {words}"));
            }
        }
        // A keeper without a daemon still holds the sockets.
        let lives = |identity: Option<Identity>| identity.is_some_and(Identity::is_alive);
        look.record.generations.retain(|entry| {
            let wanted = !self.old || entry.state == files::State::Draining;
            wanted && (entry.daemon_lives() || lives(entry.keeper))
        });
        let all: Vec<Way> = [Way::Path].into_iter().chain(ways(&look.record)).collect();
        for way in all {
            match self.target.ask(way, &Message::Status { watch: false }) {
                Ok(answer) => {
                    if let Some(state) = self.state(answer, &mut look) {
                        look.answer = Some((way, state));
                        break;
                    }
                }
                Err(NoAnswer::Nobody) => {}
                Err(NoAnswer::Silent(_)) => {
                    let seconds = PATIENCE.as_secs();
                    let words = format!("its keeper does not answer within {seconds} s");
                    look.trouble.get_or_insert(words);
                    if let Way::Keeper(keeper, _) = way {
                        look.silent.push(keeper);
                    }
                }
                Err(NoAnswer::Unusable(words)) => {
                    look.trouble.get_or_insert(words);
                }
            }
        }
        look
    }

    fn state(&self, answer: Answer, look: &mut Look) -> Option<State> {
        match answer.message {
            Message::State(mut state) => {
                state.generations.retain(|one| !self.old || is_old(one));
                Some(state)
            }
            other => {
                look.trouble.get_or_insert(match other {
                    Message::Refused { why } => format!("its keeper refuses: {why}"),
                    _ => "its keeper answers something else than what was asked".to_owned(),
                });
                None
            }
        }
    }

    fn living_of_ours(&self, look: &Look) -> BTreeSet<u32> {
        let newest = self.expected.keys().next_back().copied();
        let mut living: BTreeSet<u32> = look.living().into_keys().collect();
        // A keeper that said so may not have cleaned up yet.
        living.retain(|number| Some(*number) <= newest && !self.ended.contains(number));
        living
    }

    /// There was nothing to end at all.
    fn nobody(&mut self, look: &Look) -> i32 {
        match (&look.answer, &look.trouble) {
            (Some(_), _) if self.old => {
                self.say("no old generation drains".to_owned());
                verb::YES
            }
            (None, Some(trouble)) => {
                self.report
                    .warn(&format!("cannot tell what is running: {trouble}"));
                verb::CANNOT_TELL
            }
            (Some(_), _) | (None, None) => {
                self.report.warn("nothing is running");
                verb::NOTHING_RUNNING
            }
        }
    }

    /// One step towards the end of those that live.
    fn end(&mut self, look: &Look) {
        let living = self.living_of_ours(look);
        if let Some((way, state)) = &look.answer {
            let knows = |one: &Standing| living.contains(&one.number);
            if state.generations.iter().any(knows) {
                let newest = self.expected.keys().next_back();
                let restarted = state
                    .generations
                    .iter()
                    .any(|one| Some(&one.number) > newest);
                return self.end_through(*way, self.old || restarted);
            }
        }
        for keeper in &look.silent {
            bare::kill_keeper(*keeper, &self.report);
        }
        if self.target.somebody_comes(&look.record) && self.answers() {
            return;
        }
        let ours = |entry: &&Entry| living.contains(&entry.number);
        let entries = look.record.generations.iter().filter(ours);
        let lost = "its exit status is not known: no keeper answered";
        let stubborn = bare::end(entries, |number, pid| {
            self.has_ended(number, Some(pid), lost)
        });
        for (number, pid, why) in stubborn {
            self.is_stubborn(number, pid, &why);
        }
    }

    /// Whether anybody answers at the path.
    fn answers(&self) -> bool {
        let answer = self
            .target
            .ask(Way::Path, &Message::Status { watch: false });
        answer.is_ok()
    }

    /// By a keeper, which says of each generation how it ended, and then leaves.
    fn end_through(&mut self, way: Way, old: bool) {
        let Ok(connection) = self.target.connect(way) else {
            return;
        };
        // Should it have gone, reading says so.
        let _ = connection.send(&Message::Stop { old });
        loop {
            match hear(&connection, Some(Instant::now() + SILENCE)) {
                Heard::Message(message) => {
                    if let Message::Gone {
                        generation,
                        daemon,
                        how,
                    } = message
                    {
                        self.has_ended(generation, Some(daemon), &how);
                    } else if let Message::Refused { why } = message {
                        self.report.warn(&format!("the stop was refused: {why}"));
                        self.stubborn = true;
                        return;
                    }
                }
                // Words of a later version (R25).
                Heard::Unreadable(_) => {}
                Heard::End => return,
                Heard::Late => {
                    let question = Message::Status { watch: false };
                    if let Err(NoAnswer::Silent(_)) = self.target.ask(way, &question) {
                        return;
                    }
                }
            }
        }
    }

    fn is_stubborn(&mut self, number: u32, pid: i32, why: &str) {
        self.report.warn(&format!(
            "cannot end generation {number} (pid {pid}): {why}"
        ));
        self.stubborn = true;
    }

    fn give_up(&mut self, living: &BTreeSet<u32>) {
        for number in living {
            let daemon = self.expected.get(number).copied().flatten();
            let pid = daemon.map_or(0, |daemon| daemon.pid);
            self.is_stubborn(*number, pid, "it lives on, though it was told to end");
        }
    }

    fn has_ended(&mut self, number: u32, pid: Option<i32>, how: &str) {
        if self.ended.insert(number) {
            let pid = pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
            self.say(format!("generation {number}{pid} ended: {how}"));
        }
    }

    /// Those of which nobody said how they ended.
    fn account_for_the_rest(&mut self, look: &Look) {
        let living = self.living_of_ours(look);
        for (number, daemon) in self.expected.clone() {
            if !living.contains(&number) {
                let pid = daemon.map(|daemon| daemon.pid);
                self.has_ended(number, pid, "its exit status is not known");
            }
        }
    }

    /// A supervisor whose child ends starts another, as it would after a crash.
    fn warn_of_supervisor(&self, supervisor: Option<String>, look: &Look) {
        let Some(supervisor) = supervisor else {
            return;
        };
        let newest = self.expected.keys().next_back();
        let again = look.living().into_keys().next_back();
        self.report.warn(&match again {
            Some(again) if Some(&again) > newest => format!(
                "its supervisor ({supervisor}) was not told, and has started it again: generation {again}"
            ),
            _ => format!("its supervisor ({supervisor}) was not told, and may start it again"),
        });
    }

    fn say(&mut self, words: String) {
        // Whoever does not read on wants it stopped all the same.
        let _ = say(self.output, &[format!("{}: {words}", self.target.name)]);
    }
}

/// It was told to finish, and a successor serves in its place.
fn is_old(standing: &Standing) -> bool {
    matches!(standing.phase.as_str(), "draining" | "killing") && !standing.supervised
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Scene, idler, read, state};
    use super::*;
    use crate::control::{Connection, Listener};
    use crate::signals::Signal;
    use std::fs;

    fn stopped(scene: &Scene, old: bool) -> (i32, String) {
        let mut printed = Vec::new();
        let status = run(&scene.target, old, &mut printed);
        (status, String::from_utf8(printed).unwrap())
    }

    fn gone(generation: u32) -> Message {
        Message::Gone {
            generation,
            daemon: 4000 + generation as i32,
            how: "exit status 0 after 0.3 s".to_owned(),
        }
    }

    /// Says to the next caller who lives, and gives the stop that comes then.
    fn asked_to_stop(listener: &mut Listener, living: &[(u32, &str)]) -> (Connection, Message) {
        let question = listener.next();
        read(&question);
        question.send(&state(living)).unwrap();
        let connection = listener.next();
        let message = read(&connection);
        (connection, message)
    }

    #[test]
    fn each_end_is_said_as_the_keeper_tells_it() {
        let scene = Scene::new();
        let keeper = scene.keeper(|listener| {
            let (connection, message) = asked_to_stop(listener, &[(8, "serving"), (7, "draining")]);
            assert_eq!(message, Message::Stop { old: false });
            connection.send(&gone(7)).unwrap();
            connection.send(&gone(8)).unwrap();
        });
        let lines = "app: generation 7 (pid 4007) ended: exit status 0 after 0.3 s\n\
            app: generation 8 (pid 4008) ended: exit status 0 after 0.3 s\n";
        assert_eq!(stopped(&scene, false), (verb::YES, lines.to_owned()));
        keeper.join().unwrap();
        assert!(
            !scene.target.files.socket.exists(),
            "what was left is removed"
        );
        assert_eq!(stopped(&scene, false).0, verb::NOTHING_RUNNING);
    }

    #[test]
    fn the_old_ones_alone() {
        let scene = Scene::new();
        let keeper = scene.keeper(|listener| {
            let (connection, message) = asked_to_stop(listener, &[(8, "serving"), (7, "draining")]);
            assert_eq!(message, Message::Stop { old: true });
            connection.send(&gone(7)).unwrap();
            drop(connection);
            for _ in 0..2 {
                let question = listener.next();
                read(&question);
                question.send(&state(&[(8, "serving")])).unwrap();
            }
        });
        let (status, lines) = stopped(&scene, true);
        assert_eq!((status, lines.lines().count()), (verb::YES, 1));
        let (status, lines) = stopped(&scene, true);
        assert_eq!(
            (status, lines.as_str()),
            (verb::YES, "app: no old generation drains\n")
        );
        keeper.join().unwrap();
    }

    #[test]
    fn a_generation_that_came_meanwhile_is_not_ours_to_end() {
        let scene = Scene::new();
        let keeper = scene.keeper(|listener| {
            let (connection, _) = asked_to_stop(listener, &[(8, "serving")]);
            connection.send(&gone(8)).unwrap();
            drop(connection);
            let question = listener.next();
            read(&question);
            question.send(&state(&[(9, "starting")])).unwrap();
        });
        assert_eq!(stopped(&scene, false).0, verb::YES);
        keeper.join().unwrap();
    }

    #[test]
    fn one_whose_keeper_was_lost_is_ended_from_the_record() {
        let scene = Scene::new();
        let mut daemon = scene.daemon(7, "ready");
        fs::write(&scene.target.files.pid_file, daemon.pid().to_string()).unwrap();
        drop(scene.listener());
        let (status, lines) = stopped(&scene, false);
        assert_eq!(status, verb::YES);
        let words = format!(
            "generation 7 (pid {}) ended: its exit status is not",
            daemon.pid()
        );
        assert!(lines.contains(&words), "{lines}");
        assert_eq!(daemon.signal(), Some(15));
        let files = &scene.target.files;
        for path in [&files.record, &files.pid_file, &scene.target.files.socket] {
            assert!(!path.exists(), "{path:?}");
        }
    }

    #[test]
    fn a_keeper_that_does_not_answer_is_killed_and_then_its_daemon_ended() {
        let scene = Scene::new();
        let listener = scene.listener();
        let place = listener.descriptors().nth(1).unwrap();
        let mut keeper = idler(place.try_clone_to_owned().unwrap().into());
        let identity = Identity::of(keeper.pid() as i32).unwrap();
        let mut daemon = scene.daemon(7, &format!("ready keeper={identity} control=0"));
        fs::remove_file(&scene.target.files.socket).unwrap();
        let (status, lines) = stopped(&scene, false);
        assert_eq!((status, lines.lines().count()), (verb::YES, 1));
        assert_eq!((keeper.signal(), daemon.signal()), (Some(9), Some(15)));
        drop(listener);
    }

    #[test]
    fn one_that_drains_gets_no_second_signal() {
        let scene = Scene::new();
        let mut daemon = scene.daemon(7, "draining");
        let process = scene.target.files.read_record().unwrap().generations[0]
            .daemon
            .open()
            .unwrap()
            .unwrap();
        let ending = std::thread::spawn(move || {
            // It finishes by itself; TERM would have come first.
            std::thread::sleep(Duration::from_millis(50));
            process.send(Signal::parse("USR1").unwrap()).unwrap();
        });
        assert_eq!(stopped(&scene, true).0, verb::YES);
        ending.join().unwrap();
        assert_eq!(daemon.signal(), Some(10));
    }
}
