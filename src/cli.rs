//! What can be typed, and what it means (§9).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::check;
use crate::daemon::{Command, Drain};
use crate::departure::{FAILED, verb};
use crate::files;
use crate::generation::{Policy, PrepareWhen};
use crate::listen::{self, Convention, Wanted};
use crate::notify::verb as notify;
use crate::ready::When;
use crate::report::Volume;
use crate::signals::{Meaning, Meanings, Signal};
use crate::verbs::{self, Verb};

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Invocation {
    /// No PID file: nothing is seamless, and nobody need stand in the way.
    Exec(Command, Listen),
    Launch(Box<Service>),
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

/// Makes the ordinary restart of a service supervisor a zero-downtime restart
///
/// On TERM the daemon is told to prepare (USR2), and goes on serving, detached, while the
/// supervisor starts its successor; when that one is ready, the old one is told to drain (TERM).
#[derive(Parser, Debug)]
#[command(
    name = "seamless-run",
    version,
    override_usage = "seamless-run [OPTIONS] [--] COMMAND [ARG]...\n       seamless-run notify WORD...\n       seamless-run status FILE... | restart FILE | stop FILE\n       seamless-run check [--unit UNIT | --service DIRECTORY | OPTIONS -- COMMAND]",
    after_help = "Verbs (the first word only; after -- a word of that name is a command):\n  \
        notify   says to the launcher that this daemon has started, is prepared, ... (notify --help)\n  \
        status   shows every generation (status --help)\n  \
        restart  restarts, and waits for the verdict on the new generation (restart --help)\n  \
        stop     ends every generation (stop --help)\n  \
        check    says what will go wrong with this service under its supervisor (check --help)\n\n\
        TIME is like 500ms, 5s, 2m or 1h, a bare number seconds; 0 or none is never. SIGNAL is like TERM, SIGTERM, 15 or RTMIN+1.\n\
        Exit status: the daemon's own; 0 after a restart; 125 seamless-run failed, 126 the command \
        cannot be executed, 127 it was not found."
)]
pub(crate) struct RunArguments {
    /// Name the service; lock and record lie beside it. Without it nothing is seamless
    #[arg(short, long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Open this socket, hold it through every restart and crash, and pass it to the daemon (fd 3, 4, ...): 8080, 127.0.0.1:8080, udp:53, /run/app.sock, @abstract, ...; options: backlog, mode, owner, group, reuseport, v6only, freebind, device, keepalive
    #[arg(short, long, value_name = "[NAME=]ADDR[,OPT...]")]
    listen: Vec<OsString>,
    /// How the daemon is told of them, beside LISTEN_FDS: systemd (nothing else), nginx (and no prepare signal), server-starter
    #[arg(long, value_name = "CONVENTION", default_value = "systemd")]
    listen_env: String,
    /// When a new generation is taken for ready; repeated: all of it must hold. notify: it says so (the default); fd:N: it writes a line to this descriptor (s6's way); listen:ADDR: it listens there, or waits for connections at a socket of --listen; pid-file:PATH: its own PID file names it; exec:COMMAND: this succeeds (make sure that a predecessor cannot answer it; SEAMLESS_PID and SEAMLESS_GENERATION are set); after:TIME: it lives that long
    #[arg(short, long, value_name = "WHEN", requires = "pid_file")]
    ready: Vec<String>,
    /// How long one run of an exec: probe may take; then it is killed, and counts as failed
    #[arg(long, value_name = "TIME", default_value = "5s", requires = "pid_file")]
    probe_timeout: String,
    /// Run this (by /bin/sh) before the daemon is started; if it fails, this generation ends, and its predecessor serves on
    #[arg(long, value_name = "COMMAND", requires = "pid_file")]
    pre_start: Option<String>,
    /// Run this once the daemon has been started (SEAMLESS_PID, SEAMLESS_GENERATION); a failure is only logged
    #[arg(long, value_name = "COMMAND", requires = "pid_file")]
    post_start: Option<String>,
    /// Write a newline to this descriptor when the daemon is ready, as s6 wants it (a file notification-fd in the service directory)
    #[arg(long, value_name = "N", requires = "pid_file")]
    notification_fd: Option<String>,
    /// What a signal to the launcher means: auto, restart, stop, forward, ignore, or another signal [TERM=auto, INT=stop, others forwarded]; auto is what the supervisor wants, or a restart where that cannot be told
    #[arg(long, value_name = "SIGNAL=ACTION", requires = "pid_file")]
    on: Vec<String>,
    /// How the daemon is told that a successor will come: auto, none, or a name
    #[arg(long, value_name = "SIGNAL", default_value = "auto")]
    prepare_signal: String,
    /// The signal by which the daemon may answer that it is prepared, beside a message
    #[arg(long, value_name = "SIGNAL", default_value = "CHLD")]
    detach_signal: String,
    /// How long to wait for that answer; then a daemon that is ready is detached all the same
    #[arg(long, value_name = "TIME", default_value = "5s")]
    prepare_timeout: String,
    /// How the daemon is told to finish what it has in hand and exit
    #[arg(
        long,
        value_name = "SIGNAL",
        default_value = "TERM",
        requires = "pid_file"
    )]
    drain_signal: String,
    /// Send that signal to the daemon's whole process group
    #[arg(long, requires = "pid_file")]
    drain_group: bool,
    /// How long a new generation may take to become ready; then it is stopped, and its predecessor serves on
    #[arg(long, value_name = "TIME", default_value = "none")]
    ready_timeout: String,
    /// How long a replaced generation may take to drain before KILL
    #[arg(long, value_name = "TIME", default_value = "10m")]
    drain_timeout: String,
    /// How long a detached generation waits for a successor; then it was a stop
    #[arg(long, value_name = "TIME", default_value = "60s")]
    orphan_timeout: String,
    /// How long the sockets of a daemon that has died are kept for its successor; connections wait meanwhile; 0: not at all
    #[arg(long, value_name = "TIME", default_value = "60s")]
    hold_timeout: String,
    /// How long a stop waits before KILL; shorter than the supervisor's own patience
    #[arg(long, value_name = "TIME", default_value = "30s")]
    stop_timeout: String,
    /// In log lines [from the PID file]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Log warnings only
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,
    /// Log what the daemon says, too
    #[arg(short, long)]
    verbose: bool,
    /// The daemon, in the foreground, and its arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true, required = true)]
    pub(crate) command: Vec<OsString>,
}

/// Tells the keeper how this daemon is; for shell scripts
///
/// Returns when it has taken effect.
#[derive(Parser, Debug)]
#[command(
    name = "seamless-run notify",
    override_usage = "seamless-run notify started|prepared|stopping|reloading|watchdog|status TEXT|KEY=VALUE...",
    after_help = "Words:\n  \
        started, ready  this daemon serves: write the PID file, tell the predecessors to drain\n  \
        prepared        the answer to USR2: a successor may be started\n  \
        stopping        this daemon is about to exit by itself\n  \
        reloading       it reads its configuration anew; started says when that is done\n  \
        watchdog        it is alive (WatchdogSec= of systemd)\n  \
        status TEXT     one line for people\n  \
        KEY=VALUE       any line of sd_notify(3)\n\n\
        In a script: trap 'seamless-run notify prepared' USR2\n\n\
        Exit status: 0 done, 1 refused, 2 wrong use, 3 there is no launcher, 124 no answer in 10 s."
)]
struct NotifyArguments {
    #[arg(value_name = "WORD", required = true, hide = true)]
    words: Vec<String>,
}

/// Understands the arguments, the program's name included.
pub(crate) fn parse(arguments: Vec<OsString>) -> Result<Invocation, Refusal> {
    if arguments.get(1).map(OsString::as_os_str) == Some(OsStr::new("notify")) {
        let words = parse_with::<NotifyArguments>(&arguments[1..], verb::USAGE)?.words;
        let message = notify::message(&words);
        return message
            .map(Invocation::Notify)
            .map_err(complaint(verb::USAGE));
    }
    if let Some(verb) = verbs::parse(&arguments[1.min(arguments.len())..])? {
        return Ok(Invocation::Verb(verb));
    }
    if arguments.get(1).map(OsString::as_os_str) == Some(OsStr::new("check")) {
        let request = check::parse(&arguments[1..])?;
        return Ok(Invocation::Check(Box::new(request)));
    }
    let arguments = parse_with::<RunArguments>(&arguments, FAILED)?;
    mean(arguments, files::absolute).map_err(complaint(FAILED))
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

/// The PID file in arguments that cannot be understood as a whole.
pub(crate) fn pid_file_in(arguments: &[OsString]) -> Option<PathBuf> {
    let mut words = arguments
        .iter()
        .skip(1)
        .take_while(|word| *word != "--")
        .map(|word| word.as_encoded_bytes());
    let file = loop {
        let word = words.next()?;
        if word == b"-p" || word == b"--pid-file" {
            break words.next()?;
        }
        let attached = word
            .strip_prefix(b"--pid-file=")
            .or_else(|| word.strip_prefix(b"-p"));
        if let Some(file) = attached {
            break file;
        }
    };
    files::absolute(Path::new(OsStr::from_bytes(file))).ok()
}

pub(crate) fn complaint(status: i32) -> impl Fn(anyhow::Error) -> Refusal {
    move |error| Refusal::Complaint(error.to_string(), status)
}

pub(crate) fn parse_with<Arguments: Parser>(
    arguments: &[OsString],
    status: i32,
) -> Result<Arguments, Refusal> {
    Arguments::try_parse_from(arguments).map_err(|error| refusal(&error, status))
}

pub(crate) fn refusal(error: &clap::Error, status: i32) -> Refusal {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Refusal::Answer(error.to_string()),
        _ => Refusal::Complaint(in_one_line(error), status),
    }
}

/// clap says it in paragraphs; people who read a service's log want one line.
fn in_one_line(error: &clap::Error) -> String {
    let named = |kind| match error.get(kind) {
        Some(ContextValue::String(name)) => Some(name.clone()),
        Some(ContextValue::Strings(names)) => Some(names.join(" ")),
        _ => None,
    };
    let text = error.to_string();
    let usage = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("Usage: "));
    let usage = usage.unwrap_or("see --help");
    match (error.kind(), named(ContextKind::InvalidArg)) {
        (ErrorKind::MissingRequiredArgument, Some(missing)) => {
            let bare = missing
                .strip_prefix('<')
                .map(|name| name.trim_end_matches(['>', '.']));
            let missing = bare.unwrap_or(&missing);
            format!("{missing} is missing; use: {usage}")
        }
        (ErrorKind::UnknownArgument, Some(unknown)) => match named(ContextKind::SuggestedArg) {
            Some(meant) => format!("unknown option {unknown}; is {meant} meant?"),
            None => format!(
                "unknown option {unknown}; see --help (a command of that name comes after --)"
            ),
        },
        _ => {
            let first = text.lines().next().unwrap_or_default();
            format!(
                "{}; see --help",
                first.strip_prefix("error: ").unwrap_or(first)
            )
        }
    }
}

/// From what was typed to what is meant.
fn mean(
    arguments: RunArguments,
    absolute: impl Fn(&Path) -> Result<PathBuf>,
) -> Result<Invocation> {
    let command = Command::new(&arguments.command)?;
    let convention = Convention::parse(&arguments.listen_env)?;
    let (prepare, prepare_signal) = match (arguments.prepare_signal.as_str(), convention) {
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
            "{option}: unknown signal {name:?}; use a name or a number of signal(7), such as USR2 or RTMIN+1"
        );
    };
    if !signal.can_be_caught() {
        bail!("{option}: {signal} cannot be caught, or means a fault; choose another signal");
    }
    Ok(signal)
}

fn descriptor(number: &str) -> Result<i32> {
    let parsed = number.parse().ok().filter(|number: &i32| *number > 2);
    parsed.ok_or_else(|| {
        anyhow!("--notification-fd {number:?} is no descriptor for that; use a number from 3 on, the one in the supervisor's notification-fd file")
    })
}

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
            None => bail!(
                "--on {rule:?}: unknown action {other:?}; use auto, restart, stop, forward, ignore, or another signal"
            ),
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
    use clap::CommandFactory;

    fn parsed(words: &[&str]) -> Result<Invocation, Refusal> {
        parse(
            std::iter::once("seamless-run")
                .chain(words.iter().copied())
                .map(OsString::from)
                .collect(),
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
            pid_file_in(&words.map(OsString::from).collect::<Vec<_>>())
        };
        let file = Some(PathBuf::from("/tmp/app.pid"));
        for words in [
            &["--bogus", "-p", "/tmp/app.pid", "x"][..],
            &["-p/tmp/app.pid", "--bogus"],
            &["--pid-file", "/tmp/app.pid"],
            &["--pid-file=/tmp/app.pid", "--stop-timeout", "soon"],
        ] {
            assert_eq!(found(words), file, "{words:?}");
        }
        for words in [&["--", "-p", "/tmp/app.pid"][..], &["-p"], &["x"], &[]] {
            assert_eq!(found(words), None, "{words:?}");
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

    #[test]
    fn clap_finds_no_fault_with_the_arguments() {
        RunArguments::command().debug_assert();
        NotifyArguments::command().debug_assert();
    }
}
