//! What can be typed after `status`, `restart` and `stop`.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::{Format, Target, Verb};
use crate::cli::{Form, Opt, Refusal, Typed, complaint, time};
use crate::departure::verb::USAGE;

/// What can be typed after `status`.
pub(crate) static STATUS: Form = Form {
    name: "seamless-run status",
    usage: &["seamless-run status FILE... [--json] [--watch] [-q]"],
    about: "Shows every generation of a service: the daemon, its phase, and what comes next",
    more: "FILE is the PID file that the service was started with. The keeper is asked; where none answers, the record beside the file says who lives.",
    options: &[&[
        Opt {
            long: "json",
            brief: "one JSON object for each service, in a line",
            more: "docs/verbs.md lists its keys.",
            example: "--json | jq .generations",
            ..Opt::NEW
        },
        Opt {
            long: "watch",
            brief: "go on, and show it again whenever something changes",
            example: "--watch --json",
            ..Opt::NEW
        },
        Opt {
            long: "quiet",
            short: Some('q'),
            brief: "print nothing: the exit status tells",
            example: "-q",
            excludes: &["json", "watch"],
            ..Opt::NEW
        },
    ]],
    has_command: false,
    after: "Exit status: 0 one that is ready serves, 1 something lives but nothing that is\n\
        ready serves, 2 wrong use, 3 nothing is running, 4 cannot tell; of several the\n\
        highest.",
    after_long: "Examples:\n\
        \x20 seamless-run status /run/app/app.pid\n\
        \x20 seamless-run status -q /run/app/app.pid && echo it serves\n\
        \x20 seamless-run status --watch --json /run/*/*.pid",
};

/// What can be typed after `restart`.
pub(crate) static RESTART: Form = Form {
    name: "seamless-run restart",
    usage: &["seamless-run restart FILE [--no-wait] [--timeout TIME]"],
    about: "Restarts a service as its supervisor would, and waits for the verdict",
    more: "FILE is the PID file that the service was started with. The launcher leaves, and the supervisor, whichever it is, starts the next generation. The verdict is that it serves, or why it does not.",
    options: &[&[
        Opt {
            long: "no-wait",
            brief: "only ask for it",
            example: "--no-wait",
            ..Opt::NEW
        },
        Opt {
            long: "timeout",
            value: "TIME",
            brief: "how long to wait for the verdict",
            more: "The restart itself goes on.",
            default: "none",
            example: "--timeout 2m",
            ..Opt::NEW
        },
    ]],
    has_command: false,
    after: "Exit status: 0 the new generation serves, 1 it failed (the old one serves) or\n\
        the restart was refused, 2 wrong use, 3 nothing is running, 4 cannot tell,\n\
        124 no verdict in time.",
    after_long: "Examples:\n\
        \x20 seamless-run restart /run/app/app.pid && echo deployed",
};

/// What can be typed after `stop`.
pub(crate) static STOP: Form = Form {
    name: "seamless-run stop",
    usage: &["seamless-run stop FILE [--old]"],
    about: "Ends every generation of a service, and says how each ended",
    more: "FILE is the PID file that the service was started with. Its supervisor is not told, and may start it again: its own stop verb is the one for every day.",
    options: &[&[Opt {
        long: "old",
        brief: "only those that drain",
        more: "The one that serves is left alone.",
        example: "--old",
        ..Opt::NEW
    }]],
    has_command: false,
    after: "Exit status: 0 all have ended, 1 one could not be ended, 2 wrong use, 3 nothing\n\
        is running, 4 cannot tell.",
    after_long: "Examples:\n\
        \x20 seamless-run stop /run/app/app.pid\n\
        \x20 seamless-run stop --old /run/app/app.pid",
};

/// Understands what follows the program's name; `None` where the first word is none of these verbs.
pub(crate) fn parse(arguments: &[OsString]) -> Result<Option<Verb>, Refusal> {
    let Some((verb, rest)) = arguments.split_first() else {
        return Ok(None);
    };
    let verb = match verb.to_str() {
        Some("status") => status(Typed::read(&STATUS, rest, USAGE)?),
        Some("restart") => restart(Typed::read(&RESTART, rest, USAGE)?),
        Some("stop") => stop(Typed::read(&STOP, rest, USAGE)?),
        _ => return Ok(None),
    };
    verb.map(Some).map_err(complaint(USAGE))
}

fn status(typed: Typed) -> Result<Verb> {
    let format = match (typed.has("quiet"), typed.has("json")) {
        (true, _) => Format::Nothing,
        (false, true) => Format::Json,
        (false, false) => Format::Text,
    };
    if typed.operands.is_empty() {
        bail!("FILE is missing; use: {}", STATUS.usage[0]);
    }
    let targets = typed.operands.iter().map(|file| target(Path::new(file)));
    Ok(Verb::Status {
        targets: targets.collect::<Result<_>>()?,
        format,
        watch: typed.has("watch"),
    })
}

fn restart(mut typed: Typed) -> Result<Verb> {
    Ok(Verb::Restart {
        target: only_target(&typed, &RESTART)?,
        wait: !typed.has("no-wait"),
        timeout: time("--timeout", &typed.or_default("timeout"))?,
    })
}

fn stop(typed: Typed) -> Result<Verb> {
    Ok(Verb::Stop {
        target: only_target(&typed, &STOP)?,
        old: typed.has("old"),
    })
}

fn only_target(typed: &Typed, form: &Form) -> Result<Target> {
    match &typed.operands[..] {
        [file] => target(Path::new(file)),
        [] => bail!("FILE is missing; use: {}", form.usage[0]),
        [_, other, ..] => bail!(
            "{} is one word too many; use: {}",
            other.to_string_lossy(),
            form.usage[0]
        ),
    }
}

/// A directory that is missing is no wrong use: then nothing is running.
fn target(file: &Path) -> Result<Target> {
    let absolute =
        std::path::absolute(file).with_context(|| format!("cannot find the PID file {file:?}"))?;
    if absolute.file_name().is_none() || absolute.is_dir() {
        bail!(
            "the PID file {} is a directory; name the file in it",
            file.display()
        );
    }
    Ok(Target::new(&absolute))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Option<Verb>, Refusal> {
        parse(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn each_verb_is_understood() {
        match parsed(&["status", "a.pid", "/nowhere/b.pid", "--json"]) {
            Ok(Some(Verb::Status {
                targets, format, ..
            })) => {
                assert_eq!(format, Format::Json);
                assert_eq!(targets[1].name, "b");
                assert_eq!(targets[1].files.socket, Path::new("/nowhere/b.pid.sock"));
                assert!(targets[0].files.socket.is_absolute());
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(
            parsed(&["restart", "a.pid", "--timeout", "30s"]),
            Ok(Some(Verb::Restart { wait: true, timeout: Some(time), .. })) if time.as_secs() == 30
        ));
        assert!(matches!(
            parsed(&["stop", "--old", "a.pid"]),
            Ok(Some(Verb::Stop { old: true, .. }))
        ));
        assert!(matches!(parsed(&["notify", "started"]), Ok(None)));
        assert!(matches!(parsed(&[]), Ok(None)));
    }

    #[test]
    fn wrong_use_is_status_2_in_one_line() {
        for words in [
            &["status"][..],
            &["status", "a", "-q", "--watch"],
            &["restart", "a", "--timeout", "soon"],
            &["stop", "a", "b"],
            &["stop", "/tmp"],
            &["stop", ""],
        ] {
            match parsed(words) {
                Err(Refusal::Complaint(line, 2)) => assert!(!line.contains('\n'), "{line}"),
                other => panic!("{words:?}: {other:?}"),
            }
        }
    }
}
