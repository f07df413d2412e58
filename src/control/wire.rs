//! The messages as text. `docs/protocol.md` is their description for people.
//!
//! The first line names format, version and message; lines of `KEY=VALUE` follow. Unknown keys are
//! skipped; a message of another major version is not read (R25).

use std::fmt::{self, Write as _};
use std::time::Duration;

use crate::listen::Label;
use crate::process::Identity;

const FORMAT: &str = "seamless-control";
const MAJOR: &str = "1";
const MINOR: &str = "0";

/// One message, in either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    // What a new keeper says to an older one.
    /// The first word of a successor; the answer is [`Message::State`] with the daemon's pidfd, if it
    /// lives, and the sockets, and another one whenever something changes, until either end goes.
    Attach {
        generation: u32,
    },
    /// The successor is ready: drain; to one that only holds sockets: the successor has them. `told`:
    /// the daemon has been told already (R12), or was not told in time by its keeper and has been by
    /// the successor.
    Commit {
        told: bool,
    },
    /// The successor's attempt has come to its end.
    Attempt(Attempt),
    /// A final stop: end within this time (`None`: whenever), R15.
    End {
        within: Option<Duration>,
    },

    // What a keeper, or a verb, asks for.
    /// R19: the lock, of a holder whose supervisor has died.
    Yield,
    /// `watch`: again whenever something changes.
    Status {
        watch: bool,
    },
    /// Restart; the answer is [`Message::Restarting`], and then the verdict on the successor.
    Restart,
    /// The verdict on the first generation whose number is higher.
    Await {
        newer: u32,
    },
    /// Stop every generation, or only those that drain.
    Stop {
        old: bool,
    },

    // Answers.
    State(State),
    Restarting {
        generation: u32,
    },
    Committed {
        generation: u32,
        daemon: i32,
    },
    Failed {
        generation: u32,
        why: String,
    },
    /// A generation has ended; `how` is for people.
    Gone {
        generation: u32,
        daemon: i32,
        how: String,
    },
    Yielded,
    /// The holder of the lock is in its supervisor's hands.
    Supervised {
        why: String,
    },
    Refused {
        why: String,
    },
}

/// What became of a new generation that never got ready (R13, R16).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// By itself: a bad version.
    Failed { why: String },
    /// It was told to end; `restart`: for a restart that cannot have meant a stop.
    Withdrawn { restart: bool },
}

/// Every generation that a keeper knows of, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) generations: Vec<Standing>,
    /// The last attempt, if it failed.
    pub(crate) failure: Option<Failure>,
}

/// Why the last attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) generation: u32,
    pub(crate) why: String,
    pub(crate) ago: Duration,
}

/// Where one generation stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) number: u32,
    /// A word; a later version may have others.
    pub(crate) phase: String,
    /// It has said that it is ready.
    pub(crate) ready: bool,
    /// A launcher stands between it and a supervisor.
    pub(crate) supervised: bool,
    pub(crate) daemon: Option<Identity>,
    pub(crate) keeper: Option<Identity>,
    pub(crate) launcher: Option<Identity>,
    /// The keeper's descriptor of its control socket.
    pub(crate) control: Option<i32>,
    /// Time in this phase.
    pub(crate) age: Duration,
    pub(crate) deadline: Option<Deadline>,
    pub(crate) command: String,
    /// The daemon's own words (`STATUS=`).
    pub(crate) status: String,
    /// Those that its keeper holds for it. In the answer to *attach* their descriptors come along, in
    /// this order, as the last ones.
    pub(crate) sockets: Vec<Label>,
}

/// What will happen, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deadline {
    pub(crate) what: String,
    pub(crate) left: Duration,
}

/// Why a message cannot be read, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable(pub(crate) String);

impl Message {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Message, Unreadable> {
        let text = std::str::from_utf8(bytes).map_err(|_| unreadable("is not UTF-8"))?;
        let (head, rest) = text.split_once('\n').unwrap_or((text, ""));
        let mut words = head.split(' ');
        if words.next() != Some(FORMAT) {
            return Err(unreadable("is not of seamless-run"));
        }
        let version = words.next().unwrap_or_default();
        if version.split_once('.').map(|(major, _)| major) != Some(MAJOR) {
            return Err(Unreadable(format!(
                "is of version {version}, and this program speaks {MAJOR}.{MINOR}"
            )));
        }
        let word = words.next().unwrap_or_default();
        Fields(rest).message(word)
    }
}

fn unreadable(words: &str) -> Unreadable {
    Unreadable(words.to_owned())
}

/// The lines after the first.
struct Fields<'a>(&'a str);

impl<'a> Fields<'a> {
    fn pairs(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.0.lines().filter_map(|line| line.split_once('='))
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.pairs()
            .find(|(known, _)| *known == key)
            .map(|(_, value)| value)
    }

    fn text(&self, key: &str) -> String {
        self.get(key).unwrap_or_default().to_owned()
    }

    fn flag(&self, key: &str) -> bool {
        self.get(key) == Some("1")
    }

    fn number<N: std::str::FromStr>(&self, key: &str) -> Result<N, Unreadable> {
        let value = self.get(key).and_then(|value| value.parse().ok());
        value.ok_or_else(|| Unreadable(format!("has no {key}")))
    }

    fn message(&self, word: &str) -> Result<Message, Unreadable> {
        Ok(match word {
            "attach" => Message::Attach {
                generation: self.number("generation")?,
            },
            "commit" => Message::Commit {
                told: self.flag("told"),
            },
            "failed-attempt" => Message::Attempt(Attempt::Failed {
                why: self.text("why"),
            }),
            "withdrawn-attempt" => Message::Attempt(Attempt::Withdrawn {
                restart: self.flag("restart"),
            }),
            "end" => Message::End {
                within: self.get("within").and_then(milliseconds),
            },
            "yield" => Message::Yield,
            "status" => Message::Status {
                watch: self.flag("watch"),
            },
            "restart" => Message::Restart,
            "await" => Message::Await {
                newer: self.number("newer")?,
            },
            "stop" => Message::Stop {
                old: self.flag("old"),
            },
            "state" => Message::State(self.state()),
            "restarting" => Message::Restarting {
                generation: self.number("generation")?,
            },
            "committed" => Message::Committed {
                generation: self.number("generation")?,
                daemon: self.number("pid")?,
            },
            "failed" => Message::Failed {
                generation: self.number("generation")?,
                why: self.text("why"),
            },
            "gone" => Message::Gone {
                generation: self.number("generation")?,
                daemon: self.number("pid")?,
                how: self.text("how"),
            },
            "yielded" => Message::Yielded,
            "supervised" => Message::Supervised {
                why: self.text("why"),
            },
            "refused" => Message::Refused {
                why: self.text("why"),
            },
            _ => return Err(Unreadable(format!("is unknown: {word:?}"))),
        })
    }

    /// `generation=` begins the lines of a generation, `failure=` those of the last attempt.
    fn state(&self) -> State {
        let mut state = State::default();
        let mut in_failure = false;
        for (key, value) in self.pairs() {
            match key {
                "generation" => {
                    in_failure = false;
                    state.generations.push(Standing {
                        number: value.parse().unwrap_or_default(),
                        ..Standing::default()
                    });
                }
                "failure" => {
                    in_failure = true;
                    state.failure = Some(Failure {
                        generation: value.parse().unwrap_or_default(),
                        why: String::new(),
                        ago: Duration::ZERO,
                    });
                }
                _ if in_failure => {
                    if let Some(failure) = &mut state.failure {
                        failure.set(key, value);
                    }
                }
                _ => {
                    if let Some(standing) = state.generations.last_mut() {
                        standing.set(key, value);
                    }
                }
            }
        }
        state
    }
}

impl Failure {
    fn set(&mut self, key: &str, value: &str) {
        match key {
            "why" => self.why = value.to_owned(),
            "ago" => self.ago = milliseconds(value).unwrap_or_default(),
            _ => {}
        }
    }
}

impl Standing {
    fn set(&mut self, key: &str, value: &str) {
        match key {
            "phase" => self.phase = value.to_owned(),
            "ready" => self.ready = value == "1",
            "supervised" => self.supervised = value == "1",
            "daemon" => self.daemon = Identity::parse(value),
            "keeper" => self.keeper = Identity::parse(value),
            "launcher" => self.launcher = Identity::parse(value),
            "control" => self.control = value.parse().ok(),
            "age" => self.age = milliseconds(value).unwrap_or_default(),
            "deadline" => self.deadline.get_or_insert_default().what = value.to_owned(),
            "left" => {
                self.deadline.get_or_insert_default().left =
                    milliseconds(value).unwrap_or_default();
            }
            "command" => self.command = value.to_owned(),
            "status" => self.status = value.to_owned(),
            "socket" => self.sockets.extend(Label::parse(value)),
            _ => {}
        }
    }

    fn write(&self, text: &mut Lines) {
        text.line("generation", self.number);
        text.line("phase", &self.phase);
        text.line("ready", u8::from(self.ready));
        text.line("supervised", u8::from(self.supervised));
        text.maybe("daemon", self.daemon);
        text.maybe("keeper", self.keeper);
        text.maybe("launcher", self.launcher);
        text.maybe("control", self.control);
        text.line("age", self.age.as_millis());
        if let Some(deadline) = &self.deadline {
            text.line("deadline", &deadline.what);
            text.line("left", deadline.left.as_millis());
        }
        text.line("command", &self.command);
        text.line("status", &self.status);
        for socket in &self.sockets {
            text.line("socket", socket);
        }
    }
}

fn milliseconds(text: &str) -> Option<Duration> {
    text.parse().ok().map(Duration::from_millis)
}

/// A message as it grows. Whatever would end a line early becomes a space.
struct Lines(String);

impl Lines {
    fn line(&mut self, key: &str, value: impl fmt::Display) {
        let value = value.to_string();
        let value = value.replace(char::is_control, " ");
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{key}={value}");
    }

    fn maybe(&mut self, key: &str, value: Option<impl fmt::Display>) {
        if let Some(value) = value {
            self.line(key, value);
        }
    }

    fn flag(&mut self, key: &str, set: bool) {
        if set {
            self.line(key, 1);
        }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Lines(String::new());
        let word = match self {
            Message::Attach { generation } => {
                text.line("generation", generation);
                "attach"
            }
            Message::Commit { told } => {
                text.flag("told", *told);
                "commit"
            }
            Message::Attempt(Attempt::Failed { why }) => {
                text.line("why", why);
                "failed-attempt"
            }
            Message::Attempt(Attempt::Withdrawn { restart }) => {
                text.flag("restart", *restart);
                "withdrawn-attempt"
            }
            Message::End { within } => {
                text.maybe("within", within.map(|within| within.as_millis()));
                "end"
            }
            Message::Yield => "yield",
            Message::Status { watch } => {
                text.flag("watch", *watch);
                "status"
            }
            Message::Restart => "restart",
            Message::Await { newer } => {
                text.line("newer", newer);
                "await"
            }
            Message::Stop { old } => {
                text.flag("old", *old);
                "stop"
            }
            Message::State(state) => {
                for standing in &state.generations {
                    standing.write(&mut text);
                }
                if let Some(failure) = &state.failure {
                    text.line("failure", failure.generation);
                    text.line("why", &failure.why);
                    text.line("ago", failure.ago.as_millis());
                }
                "state"
            }
            Message::Restarting { generation } => {
                text.line("generation", generation);
                "restarting"
            }
            Message::Committed { generation, daemon } => {
                text.line("generation", generation);
                text.line("pid", daemon);
                "committed"
            }
            Message::Failed { generation, why } => {
                text.line("generation", generation);
                text.line("why", why);
                "failed"
            }
            Message::Gone {
                generation,
                daemon,
                how,
            } => {
                text.line("generation", generation);
                text.line("pid", daemon);
                text.line("how", how);
                "gone"
            }
            Message::Yielded => "yielded",
            Message::Supervised { why } => {
                text.line("why", why);
                "supervised"
            }
            Message::Refused { why } => {
                text.line("why", why);
                "refused"
            }
        };
        write!(formatter, "{FORMAT} {MAJOR}.{MINOR} {word}\n{}", text.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing() -> Standing {
        Standing {
            number: 8,
            phase: "standby".to_owned(),
            ready: true,
            supervised: false,
            daemon: Identity::parse("4300:881300"),
            keeper: Identity::parse("4298:881298"),
            launcher: None,
            control: Some(9),
            age: Duration::from_millis(1500),
            deadline: Some(Deadline {
                what: "drain".to_owned(),
                left: Duration::from_secs(60),
            }),
            command: "./daemon --flags=1".to_owned(),
            status: String::new(),
            sockets: ["web inode=881230 bound=127.0.0.1:8080 tcp:localhost:http"]
                .iter()
                .filter_map(|text| Label::parse(text))
                .collect(),
        }
    }

    fn every_message() -> Vec<Message> {
        let words = || "exit status 3 after 0.02 s".to_owned();
        let (generation, daemon) = (8, 4300);
        vec![
            Message::Attach { generation },
            Message::Commit { told: false },
            Message::Commit { told: true },
            Message::Attempt(Attempt::Failed { why: words() }),
            Message::Attempt(Attempt::Withdrawn { restart: false }),
            Message::Attempt(Attempt::Withdrawn { restart: true }),
            Message::End { within: None },
            Message::End {
                within: Some(Duration::from_millis(2500)),
            },
            Message::Yield,
            Message::Status { watch: true },
            Message::Restart,
            Message::Await { newer: 7 },
            Message::Stop { old: true },
            Message::State(State {
                generations: vec![standing(), Standing::default()],
                failure: Some(Failure {
                    generation: 9,
                    why: words(),
                    ago: Duration::from_millis(7),
                }),
            }),
            Message::Restarting { generation },
            Message::Committed { generation, daemon },
            Message::Failed {
                generation,
                why: words(),
            },
            Message::Gone {
                generation,
                daemon,
                how: words(),
            },
            Message::Yielded,
            Message::Supervised { why: words() },
            Message::Refused { why: words() },
        ]
    }

    #[test]
    fn what_is_said_can_be_read() {
        for message in every_message() {
            let text = message.to_string();
            assert_eq!(Message::parse(text.as_bytes()), Ok(message), "{text}");
        }
    }

    #[test]
    fn nothing_that_somebody_put_into_a_text_begins_a_line() {
        let message = Message::State(State {
            generations: vec![Standing {
                status: "fine\ngeneration=9\r".to_owned(),
                ..standing()
            }],
            failure: None,
        });
        match Message::parse(message.to_string().as_bytes()) {
            Ok(Message::State(state)) => {
                assert_eq!(state.generations.len(), 1);
                assert_eq!(state.generations[0].status, "fine generation=9 ");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let words = |text: &[u8]| Message::parse(text).unwrap_err().0;
        assert!(words(b"seamless-control 2.0 attach\ngeneration=8\n").contains("version 2.0"));
        assert!(words(b"seamless-control 1.0 fly\n").contains("fly"));
        assert!(words(b"seamless-control 1.0 attach\n").contains("no generation"));
        for text in [
            &b""[..],
            b"\n",
            b"GET / HTTP/1.1\r\n",
            b"seamless-control",
            b"\xff",
        ] {
            words(text);
        }
    }
}
