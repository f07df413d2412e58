//! What can be typed, and what it means (§9).

mod arguments;
pub(crate) mod guess;
mod help;
pub(crate) mod options;
mod quick;
mod typed;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::check;
use crate::daemon::{Command, Drain};
use crate::departure::FAILED;
use crate::files;
use crate::generation::{Policy, PrepareWhen};
use crate::listen::{self, Convention, Wanted};
use crate::notify::verb as notify;
use crate::ready::When;
use crate::report::Volume;
use crate::signals::{self, Meaning, Meanings, Signal};
use crate::verbs::{self, Verb};
use anyhow::{Result, anyhow, bail};

pub(crate) use arguments::RunArguments;
pub(crate) use options::{Form, Opt};
pub(crate) use typed::Typed;

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Invocation {
    /// No PID file: nothing is seamless, and nobody need stand in the way.
    Exec(Command, Listen),
    Launch(Box<Service>),
    /// One of the two above is not to be done, and told.
    Rehearse(Box<Invocation>),
    /// The lines of the message.
    Notify(String),
    Verb(Verb),
    Check(Box<check::Request>),
}

/// A service and how it is to be run.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    /// In log lines.
    pub(crate) name: String,
    /// What has to hold before a generation is ready.
    pub(crate) ready: Vec<When>,
    /// That was typed: the service has a readiness to wait for (R13).
    pub(crate) has_readiness: bool,
    /// For one run of a probe.
    pub(crate) probe_timeout: Option<Duration>,
    pub(crate) pre_start: Option<String>,
    pub(crate) post_start: Option<String>,
    /// Absolute.
    pub(crate) pid_file: PathBuf,
    pub(crate) command: Command,
    pub(crate) listen: Listen,
    pub(crate) policy: Policy,
    pub(crate) prepare_signal: Signal,
    pub(crate) detach_signal: Signal,
    pub(crate) drain: Drain,
    pub(crate) meanings: Meanings,
    /// A descriptor that the supervisor waits at for readiness.
    pub(crate) notification: Option<i32>,
    pub(crate) volume: Volume,
}

impl Service {
    /// The descriptors of `--ready fd:N`.
    pub(crate) fn lines(&self) -> Vec<i32> {
        let number = |when: &When| match when {
            When::Descriptor(number) => Some(*number),
            When::Notify
            | When::Listening(_)
            | When::PidFile(_)
            | When::Command(_)
            | When::After(_) => None,
        };
        self.ready.iter().filter_map(number).collect()
    }
}

/// What the daemon's sockets are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listen {
    pub(crate) wanted: Vec<Wanted>,
    pub(crate) convention: Convention,
}

/// Why there is nothing to do, or nothing that can be done.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Help or the version, to be printed.
    Answer(String),
    /// One line, and the exit status.
    Complaint(String, i32),
}

/// The words that are verbs, where they come first.
pub(crate) const VERBS: [&str; 5] = ["status", "restart", "stop", "notify", "check"];

/// Everything that has a help.
#[cfg(test)]
pub(crate) static FORMS: [&Form; 6] = [
    &options::RUN,
    &notify::FORM,
    &verbs::STATUS,
    &verbs::RESTART,
    &verbs::STOP,
    &check::FORM,
];

/// Understands the arguments, the program's name included.
pub(crate) fn parse(arguments: &[OsString]) -> Result<Invocation, Refusal> {
    let words = arguments.get(1..).unwrap_or_default();
    match words.first().and_then(|word| word.to_str()) {
        Some("notify") => {
            let message = notify::parse(&words[1..])?;
            return Ok(Invocation::Notify(message));
        }
        Some("check") => {
            let request = check::parse(&words[1..])?;
            return Ok(Invocation::Check(Box::new(request)));
        }
        _ => {}
    }
    if let Some(verb) = verbs::parse(words)? {
        return Ok(Invocation::Verb(verb));
    }
    let arguments = RunArguments::read(words, FAILED)?;
    let rehearsal = arguments.dry_run;
    let meant = mean(arguments, files::absolute).map_err(complaint(FAILED))?;
    match rehearsal {
        true => Ok(Invocation::Rehearse(Box::new(meant))),
        false => Ok(meant),
    }
}

/// What is to be added where the first word is no command: it may be meant for a verb.
pub(crate) fn verb_meant(arguments: &[OsString]) -> Option<String> {
    let word = arguments.get(1)?.to_str()?;
    let meant = match word {
        "help" => "--help",
        "version" => "--version",
        _ => return guess::meant(word, VERBS).map(|verb| format!("is the verb {verb} meant?")),
    };
    Some(format!("is {meant} meant?"))
}

/// The service that these options of a command line elsewhere are about; what is not there yet is no
/// fault of theirs. `None` without a PID file.
pub(crate) fn service_of(arguments: RunArguments, directory: &Path) -> Result<Option<Service>> {
    let locate = |path: &Path| Ok(std::path::absolute(directory.join(path))?);
    match mean(arguments, locate)? {
        Invocation::Launch(service) => Ok(Some(*service)),
        _ => Ok(None),
    }
}

/// What can be told of arguments that cannot be understood as a whole.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Glimpse {
    /// Absolute.
    pub(crate) pid_file: Option<PathBuf>,
    /// Nothing was to be started.
    pub(crate) is_rehearsal: bool,
}

impl Glimpse {
    pub(crate) fn of(arguments: &[OsString]) -> Glimpse {
        let (file, is_rehearsal) = quick::glimpse(arguments.get(1..).unwrap_or_default());
        Glimpse {
            pid_file: file.and_then(|file| files::absolute(Path::new(&file)).ok()),
            is_rehearsal,
        }
    }
}

pub(crate) fn complaint(status: i32) -> impl Fn(anyhow::Error) -> Refusal {
    move |error| Refusal::Complaint(error.to_string(), status)
}

/// From what was typed to what is meant.
fn mean(
    arguments: RunArguments,
    absolute: impl Fn(&Path) -> Result<PathBuf>,
) -> Result<Invocation> {
    let command = Command::new(&arguments.command)?;
    let convention = Convention::parse(&arguments.listen_env)?;
    let (prepare, prepare_signal) = match (&*arguments.prepare_signal, convention) {
        // USR2 would have it start a second one by itself.
        ("auto", Convention::Nginx) | ("none", _) => (PrepareWhen::Never, Signal::USR2),
        ("auto", _) => (PrepareWhen::Auto, Signal::USR2),
        (name, _) => (PrepareWhen::Named, signal("--prepare-signal", name)?),
    };
    let mut meanings = Meanings::default();
    for rule in &arguments.on {
        let (signal, meaning) = parse_on(rule)?;
        meanings.set(signal, meaning);
    }
    let policy = Policy {
        prepare,
        prepare_timeout: time("--prepare-timeout", &arguments.prepare_timeout)?,
        ready_timeout: time("--ready-timeout", &arguments.ready_timeout)?,
        drain_timeout: time("--drain-timeout", &arguments.drain_timeout)?,
        stop_timeout: time("--stop-timeout", &arguments.stop_timeout)?,
        orphan_timeout: time("--orphan-timeout", &arguments.orphan_timeout)?,
        hold_timeout: hold_time(&arguments.hold_timeout)?,
    };
    let listen = Listen {
        wanted: wanted(&arguments.listen)?,
        convention,
    };
    let detach_signal = signal("--detach-signal", &arguments.detach_signal)?;
    let drain = Drain {
        signal: signal("--drain-signal", &arguments.drain_signal)?,
        group: arguments.drain_group,
    };
    if prepare != PrepareWhen::Never && prepare_signal == drain.signal {
        bail!(
            "--drain-signal {}: that is the prepare signal; choose another one for either, or --prepare-signal none",
            drain.signal
        );
    }
    let notification = arguments.notification_fd.as_deref().map(descriptor);
    let notification = notification.transpose()?;
    let probe_timeout = time("--probe-timeout", &arguments.probe_timeout)?;
    let has_readiness = !arguments.ready.is_empty();
    let mut ready = conditions(&arguments.ready, listen.wanted.len())?;
    if !has_readiness {
        ready.push(When::Notify);
    }
    let Some(pid_file) = arguments.pid_file else {
        return Ok(Invocation::Exec(command, listen));
    };
    let pid_file = absolute(&pid_file)?;
    let is_ours = |when: &When| match when {
        When::PidFile(path) => files::absolute(path).is_ok_and(|path| path == pid_file),
        When::Notify
        | When::Descriptor(_)
        | When::Listening(_)
        | When::Command(_)
        | When::After(_) => false,
    };
    if ready.iter().any(is_ours) {
        bail!(
            "--ready pid-file:{0}: that is the file of --pid-file, which seamless-run writes when the daemon is ready; name the daemon's own, or use --ready notify, which hears of a daemon that writes {0} itself",
            pid_file.display()
        );
    }
    for (option, line) in [
        ("--pre-start", &arguments.pre_start),
        ("--post-start", &arguments.post_start),
    ] {
        if line.as_deref().is_some_and(|line| line.trim().is_empty()) {
            bail!("{option}: there is no command");
        }
    }
    let volume = match (arguments.quiet, arguments.verbose) {
        (true, _) => Volume::Quiet,
        (false, false) => Volume::Normal,
        (false, true) => Volume::Verbose,
    };
    Ok(Invocation::Launch(Box::new(Service {
        name: arguments.name.unwrap_or_else(|| name_of(&pid_file)),
        ready,
        has_readiness,
        probe_timeout,
        pre_start: arguments.pre_start,
        post_start: arguments.post_start,
        pid_file,
        command,
        listen,
        policy,
        prepare_signal,
        detach_signal,
        drain,
        meanings,
        notification,
        volume,
    })))
}

/// `sockets`: how many of ours the daemon finds, from the first number on; the supervisor's come before them.
fn conditions(typed: &[String], sockets: usize) -> Result<Vec<When>> {
    let mut all: Vec<When> = Vec::new();
    for text in typed {
        let when = When::parse(text, |text| time("--ready after", text))?;
        if all.contains(&when) {
            bail!("--ready {text:?} is there twice; remove one");
        }
        if let When::Descriptor(number) = when {
            if (listen::FIRST..)
                .take(sockets)
                .any(|socket| socket == number)
            {
                bail!(
                    "--ready {text:?}: the daemon finds a socket of --listen there; use a higher number"
                );
            }
        }
        all.push(when);
    }
    Ok(all)
}

/// Each name once, and each address once, unless the kernel is to share it out.
fn wanted(listen: &[OsString]) -> Result<Vec<Wanted>> {
    let mut all: Vec<Wanted> = Vec::new();
    for text in listen {
        let wanted = Wanted::parse(text)?;
        let twice = |other: &&Wanted| wanted.named && other.name == wanted.name;
        if let Some(other) = all.iter().find(twice) {
            bail!(
                "--listen {text:?}: the name {} is used twice; it names {} already",
                wanted.name,
                other.address
            );
        }
        if let Some(other) = all.iter().find(|other| wanted.excludes(other)) {
            bail!(
                "--listen {text:?}: the address {} is asked for twice; leave one out, or give both reuseport",
                other.address
            );
        }
        all.push(wanted);
    }
    if all.len() > listen::MOST {
        bail!(
            "--listen is given {} times; at most {} sockets can be handed over",
            all.len(),
            listen::MOST
        );
    }
    Ok(all)
}

pub(crate) fn name_of(pid_file: &Path) -> String {
    let stem = pid_file.file_stem().unwrap_or(pid_file.as_os_str());
    stem.to_string_lossy().into_owned()
}

fn signal(option: &str, name: &str) -> Result<Signal> {
    let Some(signal) = Signal::parse(name) else {
        bail!(
            "{option}: unknown signal {name:?}; use a name or a number of signal(7), such as USR2 or RTMIN+1{}",
            signal_meant(name).map_or_else(String::new, |signal| format!("; is {signal} meant?"))
        );
    };
    if !signal.can_be_caught() {
        bail!("{option}: {signal} cannot be caught, or means a fault; choose another signal");
    }
    Ok(signal)
}

/// The name that this one is nearest to, if it is near enough to be a slip.
fn signal_meant(text: &str) -> Option<String> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let known: Vec<String> = signals::all_that_can_be_caught()
        .map(|one| one.to_string())
        .collect();
    guess::meant(name, known.iter().map(String::as_str)).map(str::to_owned)
}

fn descriptor(number: &str) -> Result<i32> {
    let parsed = number.parse().ok().filter(|number: &i32| *number > 2);
    parsed.ok_or_else(|| {
        anyhow!("--notification-fd {number:?} is no descriptor for that; use a number from 3 on, the one in the supervisor's notification-fd file")
    })
}

const ACTIONS: [&str; 5] = ["auto", "restart", "stop", "forward", "ignore"];

pub(crate) fn parse_on(rule: &str) -> Result<(Signal, Meaning)> {
    let Some((name, action)) = rule.split_once('=') else {
        bail!("--on {rule:?} has no action; use SIGNAL=ACTION, such as TERM=stop");
    };
    let subject = signal("--on", name)?;
    if subject == Signal::CHLD {
        bail!("--on: CHLD is the launcher's own, about its child; choose another signal");
    }
    let meaning = match action {
        "auto" => Meaning::Auto,
        "restart" => Meaning::Restart,
        "stop" => Meaning::Stop,
        "forward" => Meaning::Forward(subject),
        "ignore" => Meaning::Ignore,
        other => match Signal::parse(other) {
            Some(other) => Meaning::Forward(other),
            None => {
                let guess = guess::meant(other, ACTIONS).map(str::to_owned);
                let guess = guess.or_else(|| signal_meant(other));
                bail!(
                    "--on {rule:?}: unknown action {other:?}; use auto, restart, stop, forward, ignore, or another signal{}",
                    guess.map_or_else(String::new, |one| format!("; is {one} meant?"))
                )
            }
        },
    };
    Ok((subject, meaning))
}

pub(crate) fn time(option: &str, text: &str) -> Result<Option<Duration>> {
    parse_time(text).ok_or_else(|| {
        anyhow!("{option}: malformed time {text:?}; use a number with ms, s, m or h, such as 500ms or 2m, or none")
    })
}

/// Whoever types 0 here wants no holding, and not for ever.
fn hold_time(text: &str) -> Result<Option<Duration>> {
    let time = time("--hold-timeout", text)?;
    Ok(time.or((text != "none").then_some(Duration::ZERO)))
}

/// `None` where it is no time; `Some(None)` for never.
#[expect(clippy::option_option, reason = "never is a time that one can type")]
pub(crate) fn parse_time(text: &str) -> Option<Option<Duration>> {
    if text == "none" {
        return Some(None);
    }
    let end = text
        .bytes()
        .position(|byte| !byte.is_ascii_digit() && byte != b'.');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    let time = Duration::try_from_secs_f64(number * seconds).ok()?;
    // What is typed as more than nothing is not the *never* that 0 is.
    let time = time.max(Duration::from_nanos(u64::from(number > 0.0)));
    Some((!time.is_zero()).then_some(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Invocation, Refusal> {
        parse(
            &std::iter::once("seamless-run")
                .chain(words.iter().copied())
                .map(OsString::from)
                .collect::<Vec<_>>(),
        )
    }

    fn refused(words: &[&str]) -> (String, i32) {
        match parsed(words) {
            Err(Refusal::Complaint(line, status)) => (line, status),
            other => panic!("{words:?}: {other:?}"),
        }
    }

    fn service(words: &[&str]) -> Service {
        match parsed(words) {
            Ok(Invocation::Launch(service)) => *service,
            other => panic!("{words:?}: {other:?}"),
        }
    }

    #[test]
    fn the_first_word_that_is_no_option_begins_the_command() {
        let service = service(&[
            "-p",
            "/tmp/app.pid",
            "daemon",
            "--pid-file",
            "x",
            "-p",
            "--",
            "-q",
        ]);
        assert_eq!(service.command.line, "daemon --pid-file x -p -- -q");
        assert_eq!(service.name, "app");
    }

    #[test]
    fn an_unknown_option_before_the_command_is_no_command() {
        let (line, status) = refused(&["-p", "/tmp/app.pid", "--bogus", "daemon"]);
        assert!(line.contains("--bogus"), "{line}");
        assert_eq!(status, 125);
        assert!(!line.contains('\n'));
    }

    #[test]
    fn verbs_are_the_first_word_only() {
        assert!(matches!(
            parsed(&["notify", "started"]),
            Ok(Invocation::Notify(_))
        ));
        for words in [
            &["--", "notify", "started"][..],
            &["-q", "notify", "started"],
        ] {
            match parsed(words) {
                Ok(Invocation::Exec(command, _)) => assert_eq!(command.line, "notify started"),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(refused(&["notify", "strated"]).1, 2);
        assert_eq!(refused(&["notify"]).1, 2);
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line_with_the_value() {
        let named = "-p/tmp/app.pid";
        for (words, value) in [
            (&[][..], "COMMAND"),
            (&[named], "COMMAND"),
            (&[named, "--prepare-signal", "USR9", "x"], "USR9"),
            (&[named, "--prepare-signal", "KILL", "x"], "KILL"),
            (&[named, "--detach-signal", "SEGV", "x"], "SEGV"),
            (&[named, "--on", "HUP", "x"], "HUP"),
            (&[named, "--on", "HUP=fly", "x"], "fly"),
            (&[named, "--on", "CHLD=stop", "x"], "CHLD"),
            (&["--on", "HUP=stop", "x"], "--pid-file"),
            (&[named, "--notification-fd", "two", "x"], "two"),
            (&[named, "--notification-fd", "2", "x"], "\"2\""),
            (&["--notification-fd", "3", "x"], "--pid-file"),
            (&["--ready", "notify", "x"], "--pid-file"),
            (&["--pre-start", "true", "x"], "--pid-file"),
            (&["--drain-signal", "QUIT", "x"], "--pid-file"),
            (&["--drain-group", "x"], "--pid-file"),
            (&["--probe-timeout", "1s", "x"], "--pid-file"),
            (&[named, "--pre-start", " ", "x"], "--pre-start"),
            (&[named, "--ready", "soon", "x"], "soon"),
            (&[named, "--ready", "after:later", "x"], "later"),
            (&[named, "-rfd:5", "-rfd:5", "x"], "twice"),
            (&[named, "-rfd:3", "-l80", "x"], "--listen"),
            (&["-rfd:3", "x"], "--pid-file <FILE> is missing"),
            (&[named, "-rpid-file:/tmp/app.pid", "x"], "--pid-file"),
            (&[named, "--drain-signal", "KILL", "x"], "KILL"),
            (&[named, "--drain-signal", "USR2", "x"], "prepare signal"),
            (&[named, "--probe-timeout", "soon", "x"], "soon"),
            (&[named, "--stop-timeout", "5 parsecs", "x"], "5 parsecs"),
            (&[named, "--prepare-timeout", "-1", "x"], "-1"),
            (&[named, "--ready-timeout", "soon", "x"], "soon"),
            (&[named, "--drain-timeout", "5 m", "x"], "5 m"),
            (&[named, "--orphan-timeout", "1e3", "x"], "1e3"),
            (&[named, "--hold-timeout", "never", "x"], "never"),
            (&["-p/nowhere/app.pid", "x"], "/nowhere"),
            (&[named, "-q", "-v", "x"], "--verbose"),
        ] {
            let (line, status) = refused(words);
            assert!(line.contains(value), "{words:?}: {line}");
            assert!(!line.contains('\n'), "{line}");
            assert_eq!(status, 125);
        }
    }

    #[test]
    fn the_pid_file_is_found_in_what_is_not_understood() {
        let found = |words: &[&str]| {
            let words = std::iter::once(&"seamless-run").chain(words);
            Glimpse::of(&words.map(OsString::from).collect::<Vec<_>>()).pid_file
        };
        let file = Some(PathBuf::from("/tmp/app.pid"));
        for words in [
            &["--bogus", "-p", "/tmp/app.pid", "x"][..],
            &["-p/tmp/app.pid", "--bogus"],
            &["--pid-file", "/tmp/app.pid"],
            &["--pid-file=/tmp/app.pid", "--stop-timeout", "soon"],
            &["-qp", "/tmp/app.pid", "--bogus"],
            &["-p=/tmp/app.pid", "--bogus"],
            &["--bogus", "perhaps-its-value", "-p", "/tmp/app.pid", "x"],
        ] {
            assert_eq!(found(words), file, "{words:?}");
        }
        // Nothing, or the command's own.
        for words in [
            &["--", "-p", "/tmp/app.pid"][..],
            &["-q", "x", "-p", "/tmp/app.pid"],
            &["-p"],
            &["x"],
            &[],
        ] {
            assert_eq!(found(words), None, "{words:?}");
        }
    }

    #[test]
    fn a_rehearsal_is_known_where_nothing_else_is() {
        let is = |words: &[&str]| {
            let words = std::iter::once(&"seamless-run").chain(words);
            Glimpse::of(&words.map(OsString::from).collect::<Vec<_>>()).is_rehearsal
        };
        assert!(is(&["--dry-run"]));
        assert!(is(&[
            "-p",
            "f",
            "--bogus",
            "--stop-timeout",
            "x",
            "--dry-run",
            "y"
        ]));
        assert!(is(&["-pf", "--name=x", "-q", "--dry-run"]));
        assert!(is(&["-ql", "80", "-p", "f", "--bogus", "--dry-run", "x"]));
        for slip in ["--dry", "--dy-run", "--dry-run=1"] {
            assert!(is(&["-p", "f", slip, "x"]), "{slip}");
        }
        // A command's own, or a value.
        for words in [
            &[][..],
            &["-p", "--dry-run", "x"],
            &["-p", "f", "x", "--dry-run"],
            &["-p", "f", "--", "--dry-run"],
        ] {
            assert!(!is(words), "{words:?}");
        }
    }

    #[test]
    fn signals_can_be_given_another_meaning() {
        let service = service(&[
            "-p/tmp/app.pid",
            "--on",
            "HUP=restart",
            "--on",
            "TERM=QUIT",
            "x",
        ]);
        assert_eq!(service.meanings.of(Signal::HUP), Meaning::Restart);
        let quit = Signal::parse("QUIT").unwrap();
        assert_eq!(service.meanings.of(Signal::TERM), Meaning::Forward(quit));
        assert_eq!(service.meanings.of(Signal::INT), Meaning::Stop);
    }

    #[test]
    fn times_are_human() {
        let seconds = |text: &str| parse_time(text).unwrap().map(|time| time.as_secs_f64());
        assert_eq!(seconds("500ms"), Some(0.5));
        assert_eq!(seconds("2m"), Some(120.0));
        assert_eq!(seconds("1.5h"), Some(5400.0));
        assert_eq!(seconds("7"), Some(7.0));
        for never in ["0", "0s", "none"] {
            assert_eq!(seconds(never), None);
        }
        for text in [
            "",
            "s",
            "5x",
            "5 s",
            "-5s",
            "1.2.3s",
            "1e9s",
            "inf",
            "9999999999999999999999h",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }
}
