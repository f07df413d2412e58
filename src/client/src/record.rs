//! The record as text: docs/protocol.md, "The record". Pure: it opens no file and asks no kernel.
//!
//! What another version wrote and we do not understand is kept, word for word, when we write the record again.

use std::fmt;
use std::str::FromStr;

use nix::libc;

use super::signals;

const FORMAT: &str = "seamless-record";
const MAJOR: &str = "1";

/// A process that cannot be mistaken for a later one with its PID, within one boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) pid: i32,
    /// Field 22 of `/proc/PID/stat`.
    pub(crate) start: u64,
}

impl FromStr for Identity {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (pid, start) = text.split_once(':').ok_or(())?;
        let pid = pid.parse().ok().filter(|pid| *pid > 0).ok_or(())?;
        Ok(Identity {
            pid,
            start: start.parse().map_err(drop)?,
        })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.pid, self.start)
    }
}

/// One line of the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Generation {
    pub(crate) number: u32,
    words: Vec<String>,
    /// The lines behind it: they are about it, as far as we know.
    others: Vec<String>,
}

impl Generation {
    pub(crate) fn new(number: u32, daemon: Identity, drain: i32) -> Self {
        let mut words = vec!["state=ready".to_owned(), format!("daemon={daemon}")];
        if drain != libc::SIGTERM {
            words.push(format!("drain={drain}"));
        }
        Generation {
            number,
            words,
            others: Vec::new(),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.strip_prefix("generation ")?.split(' ');
        let number = words.next()?.parse().ok()?;
        Some(Generation {
            number,
            words: words.map(str::to_owned).collect(),
            others: Vec::new(),
        })
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.words
            .iter()
            .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    /// `None`: malformed, and so not to be believed.
    pub(crate) fn daemon(&self) -> Option<Identity> {
        self.value("daemon")?.parse().ok()
    }

    pub(crate) fn keeper(&self) -> Option<Identity> {
        self.value("keeper")?.parse().ok()
    }

    /// By which signal it is told to drain, if that is not TERM.
    pub(crate) fn drain(&self) -> Option<i32> {
        let value = self.value("drain")?;
        // For its whole process group, which is a keeper's to reach.
        let signal = value.strip_suffix(",group").unwrap_or(value);
        let number = signal
            .parse()
            .ok()
            .filter(|number| signals::can_be_caught(*number));
        number.or_else(|| signals::by_name(signal))
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.value("state") == Some("draining")
    }

    pub(crate) fn set_draining(&mut self) {
        self.words.retain(|word| !word.starts_with("state="));
        self.words.insert(0, "state=draining".to_owned());
    }
}

/// Why a text is no record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// Written by a later version: not ours to read, nor to replace.
    Version(String),
    /// Of another boot, or no record at all: nobody in it lives.
    Stale,
}

/// The living generations, and what we do not understand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    /// The highest number that was given so far, to whoever may have gone by now.
    last: u32,
    pub(crate) generations: Vec<Generation>,
    /// The lines before the first of them.
    others: Vec<String>,
}

impl Record {
    /// Adds a generation under the next number.
    pub(crate) fn add(&mut self, daemon: Identity, drain: i32) {
        let numbers = self.generations.iter().map(|generation| generation.number);
        self.last = numbers.fold(self.last, u32::max).saturating_add(1);
        self.generations
            .push(Generation::new(self.last, daemon, drain));
    }

    /// Whose it is, if its writer said so: [`crate::succession`].
    pub(crate) fn whose(&self) -> Option<&str> {
        let behind = self
            .generations
            .iter()
            .flat_map(|generation| &generation.others);
        let mut lines = self.others.iter().chain(behind);
        lines.find_map(|line| line.strip_prefix("home "))
    }

    pub(crate) fn belong_to(&mut self, whose: &str) {
        if self.whose().is_none() {
            self.others.insert(0, format!("home {whose}"));
        }
    }

    pub(crate) fn parse(text: &str, boot: &str) -> Result<Self, Unreadable> {
        let mut lines = text.lines();
        let version = lines
            .next()
            .and_then(|line| line.strip_prefix(FORMAT)?.strip_prefix(' '));
        let version = version.ok_or(Unreadable::Stale)?;
        if version.split('.').next() != Some(MAJOR) {
            return Err(Unreadable::Version(version.to_owned()));
        }
        let mut record = Record::default();
        let mut same_boot = false;
        for line in lines {
            if let Some(id) = line.strip_prefix("boot ") {
                same_boot |= id == boot;
            } else if let Some(last) = line.strip_prefix("last ") {
                record.last = last.parse().unwrap_or(0);
            } else if let Some(generation) = Generation::parse(line) {
                record.generations.push(generation);
            } else if !line.is_empty() {
                let newest = record.generations.last_mut();
                let others = newest.map_or(&mut record.others, |newest| &mut newest.others);
                others.push(line.to_owned());
            }
        }
        if same_boot {
            Ok(record)
        } else {
            Err(Unreadable::Stale)
        }
    }

    pub(crate) fn render(&self, boot: &str) -> String {
        let mut text = format!("{FORMAT} {MAJOR}.0\nboot {boot}\nlast {}\n", self.last);
        let mut add = |line: &str| {
            text += line;
            text.push('\n');
        };
        self.others.iter().for_each(|line| add(line));
        for generation in &self.generations {
            let words = generation.words.join(" ");
            add(&format!("generation {} {words}", generation.number));
            generation.others.iter().for_each(|line| add(line));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "seamless-record 1.3\nboot b\nlast 9\nearly y\ngeneration 7 state=ready daemon=42:88 keeper=40:81 new=1\nlater x\n";

    #[test]
    fn what_is_not_understood_survives() {
        let mut record = Record::parse(TEXT, "b").unwrap();
        record.generations[0].set_draining();
        record.add(Identity { pid: 5, start: 6 }, libc::SIGTERM);
        assert_eq!(
            record.render("b"),
            "seamless-record 1.0\nboot b\nlast 10\n\
             early y\n\
             generation 7 state=draining daemon=42:88 keeper=40:81 new=1\n\
             later x\n\
             generation 10 state=ready daemon=5:6\n"
        );
    }

    #[test]
    fn it_says_whose_it_is() {
        let mut record = Record::parse(TEXT, "b").unwrap();
        assert_eq!(record.whose(), None);
        record.belong_to("1:2 app.pid");
        record.belong_to("1:2 other.pid");
        let text = record.render("b");
        assert!(text.starts_with("seamless-record 1.0\nboot b\nlast 9\nhome 1:2 app.pid\n"));
        let again = Record::parse(&text, "b").unwrap();
        assert_eq!(again.whose(), Some("1:2 app.pid"));
    }

    #[test]
    fn identities_are_read() {
        let record = Record::parse(TEXT, "b").unwrap();
        let generation = &record.generations[0];
        assert_eq!(generation.daemon(), Some(Identity { pid: 42, start: 88 }));
        assert_eq!(generation.keeper(), Some(Identity { pid: 40, start: 81 }));
        assert!(!generation.is_draining());
        for wrong in ["", "5", "5:", ":5", "0:5", "-1:5", "5:x", "5:6:7"] {
            assert!(wrong.parse::<Identity>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn other_boots_and_other_versions_are_not_believed() {
        assert_eq!(Record::parse(TEXT, "c"), Err(Unreadable::Stale));
        assert_eq!(Record::parse("", "b"), Err(Unreadable::Stale));
        assert_eq!(
            Record::parse("seamless-record 1.0\ngeneration 1 daemon=1:1\n", "b"),
            Err(Unreadable::Stale)
        );
        let later = Record::parse("seamless-record 2.0\nboot b\n", "b");
        assert_eq!(later, Err(Unreadable::Version("2.0".to_owned())));
    }

    #[test]
    fn a_drain_signal_apart_from_term_is_recorded() {
        let daemon = Identity { pid: 5, start: 6 };
        assert_eq!(Generation::new(1, daemon, libc::SIGTERM).drain(), None);
        let quit = Generation::new(1, daemon, libc::SIGQUIT);
        assert_eq!(quit.drain(), Some(libc::SIGQUIT));
        let drain = |value: &str| {
            Generation::parse(&format!("generation 1 daemon=5:6 drain={value}"))?.drain()
        };
        assert_eq!(drain("QUIT,group"), Some(libc::SIGQUIT));
        for senseless in ["KILL", "9", "0", "-3", "99", ""] {
            assert_eq!(drain(senseless), None, "{senseless}");
        }
    }
}
