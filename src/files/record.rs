//! The record: the identities of every living generation, as a file (§6, R5, R18).

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::report::cause;

use anyhow::Context;

use super::{is_alone_of, open_suspiciously, read_at_most};
use crate::daemon::Drain;
use crate::generation::Voice;
use crate::listen::Label;
use crate::process::{self, Identity, Process};

const FORMAT: &str = "seamless-record";
const MAJOR: &str = "1";
const MINOR: &str = "0";
const LONGEST: u64 = 1 << 20;

/// The generations of a service, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) boot: String,
    /// Whose it is ([`super::Files::whose`]); an older keeper did not say (R25).
    pub(crate) whose: Option<String>,
    /// The highest number given so far, to whoever may have gone by now: two generations of a
    /// service that lives on never have the same.
    pub(crate) last: u32,
    pub(crate) generations: Vec<Entry>,
}

/// One generation in the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) number: u32,
    pub(crate) state: State,
    pub(crate) daemon: Identity,
    /// Missing where a daemon runs bare.
    pub(crate) keeper: Option<Identity>,
    pub(crate) launcher: Option<Identity>,
    /// The launcher's parent when it started (R19).
    pub(crate) supervisor: Option<Identity>,
    /// The keeper's descriptor of its control socket, which is found by it.
    pub(crate) control: Option<i32>,
    /// Where the daemon sends its messages.
    pub(crate) notify: Option<String>,
    pub(crate) voice: Voice,
    /// It never said that it is ready; its life was taken for that (R13).
    pub(crate) assumed: bool,
    /// What its keeper had begun, for one who has to go on with it (R20).
    pub(crate) begun: Option<Begun>,
    /// When that, or the drain, is to end: milliseconds of `CLOCK_MONOTONIC`.
    pub(crate) until: Option<u64>,
    /// What it takes to be ready, as far as that has happened (R12).
    pub(crate) met: Vec<String>,
    /// How it is told to finish, by whoever has to do it without its keeper.
    pub(crate) drain: Drain,
    /// Words of a later version; they are kept as they are (R25).
    pub(crate) unknown: Vec<String>,
    /// The held sockets that the daemon was given. They stand in lines of their own.
    pub(crate) sockets: Vec<Label>,
}

/// What a generation has said and been told, as far as its successors need to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It never said that it is ready.
    Starting,
    Ready,
    /// It was told to drain.
    Draining,
    /// It has died; its keeper keeps its sockets.
    Holding,
}

/// What a keeper may have begun with its daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    /// The daemon was told to prepare.
    Preparing,
    /// The same, for an explicit restart.
    Restarting,
    /// A final stop.
    Stopping,
    /// An end of this generation alone.
    Ending,
}

/// Why a record is not believed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Disbelief {
    /// There is none.
    Missing,
    /// It is of an earlier boot: whatever it names is gone.
    EarlierBoot,
    /// It cannot be read, in words.
    Unreadable(String),
    /// It is no record, or could be somebody else's, in words.
    Suspicious(String),
}

impl Record {
    pub(crate) fn of_this_boot() -> anyhow::Result<Record> {
        Ok(Record {
            boot: process::boot_id().context("cannot read the boot id in /proc")?,
            ..Record::default()
        })
    }

    /// The number for the next generation.
    pub(crate) fn next(&self) -> u32 {
        let numbers = self.generations.iter().map(|entry| entry.number);
        numbers.fold(self.last, u32::max).saturating_add(1)
    }

    /// Leaves out those that have gone.
    pub(crate) fn retain_living(&mut self) {
        self.generations.retain(Entry::is_alive);
    }

    /// The same, for whoever wants to find everything that is left. A daemon may have died while its
    /// keeper could not take note of it, and that one has its sockets.
    pub(crate) fn retain_what_may_be_left(&mut self) {
        let keeps = |entry: &Entry| !entry.sockets.is_empty() && lives(entry.keeper);
        self.generations
            .retain(|entry| entry.is_alive() || keeps(entry));
    }

    /// Unknown lines, words and keys are skipped, as is a generation without a daemon (R25).
    pub(crate) fn parse(text: &str) -> Result<Record, String> {
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        let version = first
            .strip_prefix(FORMAT)
            .map(str::trim)
            .unwrap_or_default();
        match version.split_once('.') {
            Some((MAJOR, _)) => {}
            _ if version.is_empty() => return Err("is not a record".to_owned()),
            _ => {
                return Err(format!(
                    "has version {version}, and this program reads {MAJOR}.x"
                ));
            }
        }
        let mut record = Record::default();
        // A socket belongs to the generation before it, if that could be read.
        let mut in_generation = false;
        for line in lines {
            let mut words = line.split(' ');
            match words.next() {
                Some("boot") => record.boot = words.next().unwrap_or_default().to_owned(),
                Some("home") => {
                    record.whose = line.split_once(' ').map(|(_, whose)| whose.to_owned());
                }
                Some("last") => {
                    record.last = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
                }
                Some("generation") => {
                    let entry = Entry::parse(words);
                    in_generation = entry.is_some();
                    record.generations.extend(entry);
                }
                Some("socket") if in_generation => {
                    let label = line
                        .split_once(' ')
                        .and_then(|(_, text)| Label::parse(text));
                    if let Some(entry) = record.generations.last_mut() {
                        entry.sockets.extend(label);
                    }
                }
                _ => {}
            }
        }
        Ok(record)
    }
}

impl Entry {
    /// A generation of which nothing is known but these.
    pub(crate) fn new(number: u32, daemon: Identity, state: State) -> Entry {
        Entry {
            number,
            state,
            daemon,
            keeper: None,
            launcher: None,
            supervisor: None,
            control: None,
            notify: None,
            voice: Voice::Silent,
            assumed: false,
            begun: None,
            until: None,
            met: Vec::new(),
            drain: Drain::default(),
            unknown: Vec::new(),
            sockets: Vec::new(),
        }
    }

    /// Its daemon lives, or somebody holds its sockets.
    pub(crate) fn is_alive(&self) -> bool {
        let held = self.state == State::Holding && lives(self.keeper);
        held || self.daemon_lives()
    }

    /// Of one that only holds sockets the daemon has ended, whoever has its number now.
    pub(crate) fn daemon_lives(&self) -> bool {
        self.state != State::Holding && self.daemon.is_alive()
    }

    /// A hold on the daemon, or `None` if it is gone (R18).
    pub(crate) fn open_daemon(&self) -> io::Result<Option<Process>> {
        match self.state {
            State::Holding => Ok(None),
            State::Starting | State::Ready | State::Draining => self.daemon.open(),
        }
    }

    fn parse<'a>(mut words: impl Iterator<Item = &'a str> + Clone) -> Option<Entry> {
        let number = words.next()?.parse().ok()?;
        let daemon = words
            .clone()
            .find_map(|word| word.strip_prefix("daemon="))?;
        let mut entry = Entry::new(number, Identity::parse(daemon)?, State::Starting);
        for word in words {
            match word.split_once('=') {
                Some(("daemon", _)) | Some(("state", "starting")) => {}
                Some(("state", "ready")) => entry.state = State::Ready,
                Some(("state", "draining")) => entry.state = State::Draining,
                Some(("state", "holding")) => entry.state = State::Holding,
                Some(("keeper", identity)) => entry.keeper = Identity::parse(identity),
                Some(("launcher", identity)) => entry.launcher = Identity::parse(identity),
                Some(("supervisor", identity)) => entry.supervisor = Identity::parse(identity),
                Some(("control", number)) => entry.control = number.parse().ok(),
                Some(("notify", address)) => entry.notify = Some(address.to_owned()),
                Some(("voice", "plain")) => entry.voice = Voice::Plain,
                Some(("voice", "ours")) => entry.voice = Voice::Ours,
                Some(("ready", "assumed")) => entry.assumed = true,
                Some(("begun", "preparing")) => entry.begun = Some(Begun::Preparing),
                Some(("begun", "restarting")) => entry.begun = Some(Begun::Restarting),
                Some(("begun", "stopping")) => entry.begun = Some(Begun::Stopping),
                Some(("begun", "ending")) => entry.begun = Some(Begun::Ending),
                Some(("until", moment)) => entry.until = moment.parse().ok(),
                Some(("met", met)) => entry.met = met.split(',').map(str::to_owned).collect(),
                Some(("drain", drain)) => entry.drain = Drain::parse(drain).unwrap_or_default(),
                _ => entry.unknown.push(word.to_owned()),
            }
        }
        Some(entry)
    }
}

fn lives(identity: Option<Identity>) -> bool {
    identity.is_some_and(Identity::is_alive)
}

impl fmt::Display for Record {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{FORMAT} {MAJOR}.{MINOR}")?;
        writeln!(formatter, "boot {}", self.boot)?;
        if let Some(whose) = &self.whose {
            writeln!(formatter, "home {whose}")?;
        }
        writeln!(formatter, "last {}", self.last)?;
        for entry in &self.generations {
            writeln!(formatter, "{entry}")?;
            for socket in &entry.sockets {
                writeln!(formatter, "socket {socket}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Entry {
            number,
            state,
            daemon,
            ..
        } = self;
        write!(
            formatter,
            "generation {number} state={state} daemon={daemon}"
        )?;
        let mut word = |key: &str, value: Option<String>| match value {
            Some(value) => write!(formatter, " {key}={value}"),
            None => Ok(()),
        };
        let identity = |identity: Option<Identity>| identity.map(|identity| identity.to_string());
        word("keeper", identity(self.keeper))?;
        word("launcher", identity(self.launcher))?;
        word("supervisor", identity(self.supervisor))?;
        word("control", self.control.map(|number| number.to_string()))?;
        word("notify", self.notify.clone())?;
        let voice = match self.voice {
            Voice::Silent => None,
            Voice::Plain => Some("plain"),
            Voice::Ours => Some("ours"),
        };
        word("voice", voice.map(str::to_owned))?;
        word("ready", self.assumed.then(|| "assumed".to_owned()))?;
        let begun = self.begun.map(|begun| match begun {
            Begun::Preparing => "preparing",
            Begun::Restarting => "restarting",
            Begun::Stopping => "stopping",
            Begun::Ending => "ending",
        });
        word("begun", begun.map(str::to_owned))?;
        word("until", self.until.map(|moment| moment.to_string()))?;
        word("met", (!self.met.is_empty()).then(|| self.met.join(",")))?;
        let is_usual = self.drain == Drain::default();
        word("drain", (!is_usual).then(|| self.drain.to_string()))?;
        self.unknown
            .iter()
            .try_for_each(|word| write!(formatter, " {word}"))
    }
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            State::Starting => "starting",
            State::Ready => "ready",
            State::Draining => "draining",
            State::Holding => "holding",
        })
    }
}

/// One that root or that user may have written, and not for another PID file: who may write two directories
/// can move what is genuine.
pub(super) fn read(path: &Path, user: u32, whose: Option<&str>) -> Result<Record, Disbelief> {
    let suspicious = |words: String| Disbelief::Suspicious(words);
    let unreadable =
        |error: io::Error| Disbelief::Unreadable(format!("cannot be read ({})", cause(&error)));
    let file = match open_suspiciously(OpenOptions::new().read(true), path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Disbelief::Missing),
        Err(error) => return Err(unreadable(error)),
    };
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(suspicious("is not a regular file".to_owned()));
    }
    if !is_alone_of(user, &metadata) {
        let words = format!(
            "could have been written by somebody else (owner {}, mode {:03o})",
            metadata.uid(),
            metadata.mode() & 0o777
        );
        return Err(suspicious(words));
    }
    let content = read_at_most(&file, LONGEST).map_err(unreadable)?;
    let text = content.and_then(|content| String::from_utf8(content).ok());
    let record = text
        .ok_or_else(|| "is not a record".to_owned())
        .and_then(|text| Record::parse(&text))
        .map_err(suspicious)?;
    let boot = process::boot_id().map_err(unreadable)?;
    if record.boot != boot {
        return Err(Disbelief::EarlierBoot);
    }
    match record.whose.as_deref() {
        Some(said) if Some(said) != whose => {
            Err(suspicious("is that of another PID file".to_owned()))
        }
        Some(_) | None => Ok(record),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, chown};

    fn example() -> Record {
        let identity = |text| Identity::parse(text).unwrap();
        let older = Entry::new(6, identity("4142:870000"), State::Draining);
        let newer = Entry {
            keeper: Some(identity("4240:881200")),
            launcher: Some(identity("4239:881199")),
            supervisor: Some(identity("1:2")),
            control: Some(9),
            notify: Some("@0a1b2".to_owned()),
            voice: Voice::Ours,
            begun: Some(Begun::Preparing),
            until: Some(8_812_345),
            unknown: vec!["weather=fine".to_owned()],
            sockets: ["web inode=881230 bound=127.0.0.1:8080 tcp:localhost:http"]
                .iter()
                .filter_map(|text| Label::parse(text))
                .collect(),
            ..Entry::new(7, identity("4242:881234"), State::Ready)
        };
        Record {
            boot: "a-b".to_owned(),
            whose: Some("65024:1029 app.pid".to_owned()),
            last: 7,
            generations: vec![older, newer],
        }
    }

    #[test]
    fn what_is_written_can_be_read_back() {
        assert_eq!(Record::parse(&example().to_string()), Ok(example()));
    }

    #[test]
    fn the_words_on_disk_are_a_promise() {
        let text = "seamless-record 1.0\nboot a-b\nhome 65024:1029 app.pid\nlast 7\n\
            generation 6 state=draining daemon=4142:870000\n\
            generation 7 state=ready daemon=4242:881234 keeper=4240:881200 launcher=4239:881199 \
            supervisor=1:2 control=9 notify=@0a1b2 voice=ours begun=preparing until=8812345 weather=fine\n\
            socket web inode=881230 bound=127.0.0.1:8080 tcp:localhost:http\n";
        assert_eq!(example().to_string(), text);
    }

    #[test]
    fn a_later_minor_version_is_read_and_another_major_one_is_not() {
        let later = "seamless-record 1.9 more\nboot a-b\nweather fine\n\
            generation 6 state=draining daemon=4142:870000\ngeneration\ngeneration x\n\
            generation 8 state=ready\ngeneration 9 daemon=nonsense\n";
        let record = Record::parse(later).unwrap();
        assert_eq!(record.generations, example().generations[..1]);
        assert!(
            Record::parse("seamless-record 2.0\n")
                .unwrap_err()
                .contains("version 2.0")
        );
        for text in ["", "\n", "hello\n", "seamless-record\n"] {
            assert_eq!(Record::parse(text), Err("is not a record".to_owned()));
        }
    }

    fn read(path: &Path) -> Result<Record, Disbelief> {
        let own = nix::unistd::geteuid().as_raw();
        super::read(path, own, example().whose.as_deref())
    }

    #[test]
    fn only_what_nobody_else_can_have_written_is_believed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.pid.record");
        assert_eq!(read(&path), Err(Disbelief::Missing));

        let record = Record {
            boot: process::boot_id().unwrap(),
            ..example()
        };
        fs::write(&path, record.to_string()).unwrap();
        assert_eq!(read(&path), Ok(record.clone()));
        let of = |whose: Option<&str>| Record {
            whose: whose.map(str::to_owned),
            ..record.clone()
        };
        // An older keeper did not say.
        fs::write(&path, of(None).to_string()).unwrap();
        assert_eq!(read(&path), Ok(of(None)));
        for other in ["65024:1029 app.pid2", "65024:1030 app.pid"] {
            fs::write(&path, of(Some(other)).to_string()).unwrap();
            let words = "is that of another PID file".to_owned();
            assert_eq!(read(&path), Err(Disbelief::Suspicious(words)));
        }

        fs::write(&path, example().to_string()).unwrap();
        assert_eq!(read(&path), Err(Disbelief::EarlierBoot));

        let suspicion = |path: &Path| match read(path) {
            Err(Disbelief::Suspicious(words) | Disbelief::Unreadable(words)) => words,
            other => panic!("{other:?}"),
        };
        fs::set_permissions(&path, fs::Permissions::from_mode(0o664)).unwrap();
        assert!(suspicion(&path).contains("mode 664"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        chown(&path, Some(65534), None).unwrap();
        assert!(suspicion(&path).contains("owner 65534"));

        let link = directory.path().join("link.record");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(suspicion(&link).contains("cannot be read"));
        assert!(suspicion(directory.path()).contains("not a regular file"));
        fs::write(directory.path().join("binary.record"), b"\xff").unwrap();
        assert_eq!(
            suspicion(&directory.path().join("binary.record")),
            "is not a record"
        );
    }
}
