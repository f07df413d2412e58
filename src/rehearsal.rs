//! `--dry-run`: what would be done, and nothing of it. What will go wrong says [`crate::check`].
//!
//! Nothing is opened for writing, bound, removed or signalled; whoever runs at the PID file is asked who it is, as
//! `status` asks.

use std::io::{self, Write};
use std::path::Path;

use anyhow::Result;

use crate::check;
use crate::cli::{Invocation, Listen, Service};
use crate::control::Standing;
use crate::daemon::Command;
use crate::departure::{FAILED, verb};
use crate::files::Files;
use crate::generation::PrepareWhen;
use crate::listen::{Convention, FIRST, Passed};
use crate::paint::{Line, Paint, Style, shown};
use crate::process;
use crate::ready::When;
use crate::report::{cause, complain};
use crate::signals::{Meaning, Signal};
use crate::supervisor::Supervisor;
use crate::verbs::{self, Seen};

/// What stands before the words of a line.
const COLUMN: usize = 13;

/// Prints it, and gives the exit status: what can be told already is what the start would end with.
pub(crate) fn run(meant: &Invocation) -> i32 {
    let told = match meant {
        Invocation::Launch(service) => of_service(service),
        Invocation::Exec(command, listen) => of_exec(command, listen),
        Invocation::Rehearse(_)
        | Invocation::Notify(_)
        | Invocation::Verb(_)
        | Invocation::Check(_) => Ok((Plan::default(), None)),
    };
    let (plan, fault) = match told {
        Ok(told) => told,
        Err(error) => {
            complain(&format!("{error:#}"));
            return FAILED;
        }
    };
    if let Err(error) = plan.print() {
        complain(&format!(
            "cannot print what would be done: {}",
            cause(&error)
        ));
        return FAILED;
    }
    match fault {
        Some((status, line)) => {
            complain(&line);
            status
        }
        None => verb::YES,
    }
}

/// A start that would fail already: with this status, and a line.
type Fault = Option<(i32, String)>;

/// Lines, each under a word of its own or under the one before.
#[derive(Debug, Default)]
struct Plan {
    title: String,
    lines: Vec<(&'static str, String)>,
}

impl Plan {
    fn say(&mut self, about: &'static str, words: impl Into<String>) {
        self.lines.push((about, words.into()));
    }

    fn print(&self) -> io::Result<()> {
        let mut output = io::stdout().lock();
        let paint = Paint::of(&output);
        let mut lines = vec![Line::default().with(Style::Bold, &self.title)];
        let mut before = "";
        for (about, words) in &self.lines {
            let first = if *about == before { "" } else { about };
            before = about;
            let line = Line::default().with(Style::Aside, format!("  {first:COLUMN$}"));
            lines.push(line.with(Style::Plain, words));
        }
        let text = shown(&lines, paint);
        match output
            .write_all(text.as_bytes())
            .and_then(|()| output.flush())
        {
            // Whoever closes it has read enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            done => done,
        }
    }
}

/// Without a PID file.
fn of_exec(command: &Command, listen: &Listen) -> Result<(Plan, Fault)> {
    let passed = Passed::find(&listen.wanted, None, &[])?;
    let mut plan = Plan {
        title: "dry run, without a PID file: nothing would be seamless".to_owned(),
        ..Plan::default()
    };
    let fault = command_line(&mut plan, command);
    plan.say(
        "process",
        "this one would become the command: no launcher, no keeper, no file",
    );
    sockets(&mut plan, listen, &passed, &[]);
    if !listen.wanted.is_empty() {
        listen_variables(&mut plan, listen.convention, &passed, listen, 0);
    }
    plan.say("seamless", "add --pid-file FILE");
    Ok((plan, fault))
}

fn of_service(service: &Service) -> Result<(Plan, Fault)> {
    // Before anything is opened, as at a start.
    let listen = &service.listen;
    let passed = Passed::find(&listen.wanted, service.notification, &service.lines())?;
    let seen = verbs::look(&service.pid_file);
    let newest = newest(&seen);
    let mut plan = Plan {
        title: format!(
            "{}: dry run: nothing is opened, bound, written or signalled",
            service.name
        ),
        ..Plan::default()
    };
    let fault = command_line(&mut plan, &service.command);
    files(&mut plan, service);
    supervisor(&mut plan, service);
    now(&mut plan, &seen, newest);
    if let Some(line) = &service.pre_start {
        plan.say(
            "pre-start",
            format!("{line}   (by /bin/sh; if it fails, the daemon is not started)"),
        );
    }
    sockets(&mut plan, listen, &passed, &seen.generations);
    environment(&mut plan, service, &passed, newest + 1);
    if let Some(line) = &service.post_start {
        plan.say(
            "post-start",
            format!("{line}   (by /bin/sh, once the daemon has been started)"),
        );
    }
    readiness(&mut plan, service);
    signals(&mut plan, service);
    limits(&mut plan, service);
    plan.say(
        "see also",
        "seamless-run check with the same options: what will go wrong",
    );
    Ok((plan, fault))
}

fn command_line(plan: &mut Plan, command: &Command) -> Fault {
    plan.say("command", &command.line);
    match check::find_program(command.name()) {
        Ok(Some(path)) => {
            plan.say("command", format!("found as {}", path.display()));
            None
        }
        Ok(None) => None,
        Err((status, why)) => {
            plan.say(
                "command",
                format!("cannot be run: a start would end with status {status}"),
            );
            Some((status, why))
        }
    }
}

fn files(plan: &mut Plan, service: &Service) {
    let files = Files::beside(&service.pid_file);
    let name = |path: &Path| {
        path.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    plan.say("PID file", files.pid_file.display().to_string());
    plan.say(
        "PID file",
        format!(
            "beside it {} (lock), {} (record), {} (control socket)",
            name(&files.lock),
            name(&files.record),
            name(&files.socket)
        ),
    );
}

fn supervisor(plan: &mut Plan, service: &Service) {
    let comes_back = service.meanings.of(Signal::TERM) == Meaning::Restart;
    let parent = process::parent_of_this_process();
    let name = parent.as_ref().map_or("", |(_, name)| name);
    let found = Supervisor::find(comes_back, name);
    let known = match &found {
        Supervisor::Supervise(supervise) => Some(format!(
            "{}: its status file says whether TERM is a restart or a stop",
            supervise.format.name()
        )),
        Supervisor::Systemd(unit) => Some(format!(
            "systemd, {}: its job says whether TERM is a restart or a stop",
            unit.name
        )),
        Supervisor::Supervisord(program) => Some(format!(
            "supervisord, {}: its XML-RPC says whether TERM was a restart or a stop",
            program.name
        )),
        Supervisor::Nobody(words) => Some(format!("none, {words}: TERM is a stop")),
        Supervisor::Unreadable(Some(one)) => Some(format!(
            "{}, which cannot be asked ({}): TERM is a restart, and without a successor a stop",
            one.name,
            cause(&one.why)
        )),
        Supervisor::Unreadable(None) => None,
    };
    if let Some(words) = known {
        plan.say("supervisor", words);
        return;
    }
    match check::supervisor_at(service) {
        Some(words) => plan.say(
            "supervisor",
            format!("not here; what runs there is {words}"),
        ),
        None => {
            let words = "none is recognised here, as in a shell: TERM would be a restart,";
            plan.say("supervisor", words);
            plan.say(
                "supervisor",
                "and without a successor, after a while, a stop",
            );
        }
    }
}

/// The highest number that is in use.
fn newest(seen: &Seen) -> u32 {
    let numbers = seen.generations.iter().map(|one| one.number);
    numbers.max().unwrap_or(0).max(seen.last)
}

fn now(plan: &mut Plan, seen: &Seen, newest: u32) {
    if let Some(why) = &seen.unknown {
        plan.say("runs now", format!("cannot tell: {why}"));
    }
    for one in &seen.generations {
        let pid = one.daemon.map_or_else(
            || "no daemon".to_owned(),
            |daemon| format!("pid {}", daemon.pid),
        );
        plan.say(
            "runs now",
            format!("generation {} ({pid}): {}", one.number, one.phase),
        );
    }
    let next = newest + 1;
    let supervised = seen.generations.iter().find(|one| one.supervised);
    let start = "this start";
    match (supervised, seen.generations.first()) {
        // R19: unless the supervisor of that one has died.
        (Some(one), _) => {
            let number = one.number;
            let words = format!("refused while the launcher of generation {number} stands;");
            plan.say(start, words);
            plan.say(
                start,
                format!("after its restart it would be generation {next}"),
            );
        }
        (None, Some(one)) => {
            let words = format!(
                "generation {next}, the successor of generation {},",
                one.number
            );
            plan.say(start, words);
            plan.say(
                start,
                "which serves until this one is ready, and drains then",
            );
        }
        (None, None) => plan.say(start, format!("generation {next}, without a predecessor")),
    }
}

fn sockets(plan: &mut Plan, listen: &Listen, passed: &Passed, others: &[Standing]) {
    for (number, name) in (FIRST..).zip(&passed.names) {
        plan.say(
            "sockets",
            format!("fd {number}: {name}, passed by the supervisor"),
        );
    }
    for (number, wanted) in (FIRST..).skip(passed.names.len()).zip(&listen.wanted) {
        let held = others.iter().find(|one| {
            let mut labels = one.sockets.iter();
            labels.any(|label| label.address == wanted.address)
        });
        let how = match held {
            Some(one) => format!("taken over from generation {}, with its queue", one.number),
            None => "opened".to_owned(),
        };
        plan.say("sockets", format!("fd {number}: {}, {how}", wanted.label()));
    }
    if passed.names.is_empty() && listen.wanted.is_empty() {
        plan.say(
            "sockets",
            "none is held; what the daemon opens itself is its own affair",
        );
    }
}

fn listen_variables(
    plan: &mut Plan,
    convention: Convention,
    passed: &Passed,
    listen: &Listen,
    generation: u32,
) {
    let own = listen.wanted.iter().map(|wanted| wanted.name.as_str());
    let names: Vec<&str> = passed.names.iter().map(String::as_str).chain(own).collect();
    plan.say("environment", format!("LISTEN_FDS={}", names.len()));
    plan.say("environment", format!("LISTEN_FDNAMES={}", names.join(":")));
    plan.say("environment", "LISTEN_PID=(its PID)");
    match convention {
        Convention::Systemd => {}
        Convention::Nginx => {
            let all: String = (FIRST..)
                .take(names.len())
                .map(|one| format!("{one};"))
                .collect();
            plan.say("environment", format!("NGINX={all}"));
        }
        Convention::ServerStarter => {
            plan.say(
                "environment",
                "SERVER_STARTER_PORT=(each address and its descriptor)",
            );
            plan.say(
                "environment",
                format!("SERVER_STARTER_GENERATION={generation}"),
            );
        }
    }
}

/// As the keeper makes it (§5); everything else is left as it is.
fn environment(plan: &mut Plan, service: &Service, passed: &Passed, generation: u32) {
    plan.say("environment", "as here, and:");
    plan.say("environment", "SEAMLESS=(its keeper's PID)");
    plan.say(
        "environment",
        format!("SEAMLESS_PID_FILE={}", service.pid_file.display()),
    );
    plan.say("environment", format!("SEAMLESS_GENERATION={generation}"));
    plan.say("environment", "NOTIFY_SOCKET=@(the keeper's own)");
    match service.policy.prepare {
        PrepareWhen::Auto => {}
        PrepareWhen::Named => plan.say(
            "environment",
            format!("SEAMLESS_PREPARE_SIGNAL={}", service.prepare_signal),
        ),
        PrepareWhen::Never => plan.say("environment", "SEAMLESS_PREPARE_SIGNAL=none"),
    }
    if service.drain.signal != Signal::TERM {
        plan.say(
            "environment",
            format!("SEAMLESS_DRAIN_SIGNAL={}", service.drain.signal),
        );
    }
    if !service.listen.wanted.is_empty() {
        let listen = &service.listen;
        listen_variables(plan, listen.convention, passed, listen, generation);
    }
}

fn readiness(plan: &mut Plan, service: &Service) {
    for when in &service.ready {
        let words = match when {
            When::Notify if !service.has_readiness => {
                "when it says so: seamless-run notify started, READY=1, or its PID in the PID file"
                    .to_owned()
            }
            When::Notify
            | When::Descriptor(_)
            | When::Listening(_)
            | When::PidFile(_)
            | When::Command(_)
            | When::After(_) => format!("when {when} holds"),
        };
        plan.say("ready", words);
    }
    let words = match service.policy.ready_timeout {
        Some(time) => format!(
            "if not within {}, it is stopped, and its predecessor serves on",
            verbs::span(time)
        ),
        None => "however long it takes (--ready-timeout)".to_owned(),
    };
    plan.say("ready", words);
    if let Some(number) = service.notification {
        plan.say(
            "ready",
            format!("a newline is then written to descriptor {number}"),
        );
    }
}

fn signals(plan: &mut Plan, service: &Service) {
    for signal in service.meanings.named() {
        let words = match service.meanings.of(signal) {
            Meaning::Auto => "a restart or a stop, as the supervisor wants".to_owned(),
            Meaning::Restart => "a restart".to_owned(),
            Meaning::Stop => "a stop".to_owned(),
            Meaning::Forward(other) => format!("sent to the daemon as {other}"),
            Meaning::Ignore => "nothing".to_owned(),
        };
        plan.say("signals", format!("{signal}: {words}"));
    }
    plan.say("signals", "every other one: sent to the daemon as it is");
    let prepare = match service.policy.prepare {
        PrepareWhen::Auto => format!("{} if it expects that", service.prepare_signal),
        PrepareWhen::Named => format!("{} unless it would die of it", service.prepare_signal),
        PrepareWhen::Never => "no signal".to_owned(),
    };
    let group = if service.drain.group {
        " to its process group"
    } else {
        ""
    };
    plan.say(
        "restart",
        format!(
            "prepare: {prepare}; it answers by a message or {}",
            service.detach_signal
        ),
    );
    plan.say(
        "restart",
        format!(
            "drain, when the successor is ready: {}{group}",
            service.drain.signal
        ),
    );
}

fn limits(plan: &mut Plan, service: &Service) {
    let policy = &service.policy;
    let time = |time| match time {
        Some(time) => verbs::span(time),
        None => "never".to_owned(),
    };
    plan.say(
        "limits",
        format!(
            "no answer to prepare: detached all the same after {}",
            time(policy.prepare_timeout)
        ),
    );
    plan.say(
        "limits",
        format!(
            "a replaced generation that drains: KILL after {}",
            time(policy.drain_timeout)
        ),
    );
    plan.say(
        "limits",
        format!("a stop: KILL after {}", time(policy.stop_timeout)),
    );
    plan.say(
        "limits",
        format!(
            "no successor: taken for a stop after {}",
            time(policy.orphan_timeout)
        ),
    );
    plan.say(
        "limits",
        format!(
            "sockets of a daemon that died: closed after {}",
            time(policy.hold_timeout)
        ),
    );
}
