//! What can be typed after `status`, `restart` and `stop`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Parser;

use super::{Format, Target, Verb};
use crate::cli::{Refusal, complaint, parse_with, time};
use crate::departure::verb::USAGE;

/// Shows every generation of a service: the daemon, its phase, and what comes next
#[derive(Parser, Debug)]
#[command(
    name = "seamless-run status",
    override_usage = "seamless-run status FILE... [--json] [--watch] [-q]",
    after_help = "Exit status: 0 one that is ready serves, 1 something lives but nothing that is ready serves, \
        2 wrong use, 3 nothing is running, 4 cannot tell; of several the highest."
)]
struct StatusArguments {
    /// The PID files of the services
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// One JSON object for each service, in a line
    #[arg(long)]
    json: bool,
    /// Go on, and show it again whenever something changes
    #[arg(long)]
    watch: bool,
    /// Print nothing: the exit status tells
    #[arg(short, long, conflicts_with_all = ["json", "watch"])]
    quiet: bool,
}

/// Restarts a service as its supervisor would, and waits for the verdict on the new generation
#[derive(Parser, Debug)]
#[command(
    name = "seamless-run restart",
    override_usage = "seamless-run restart FILE [--no-wait] [--timeout TIME]",
    after_help = "Exit status: 0 the new generation serves, 1 it failed (the old one serves) or the restart was refused, \
        2 wrong use, 3 nothing is running, 4 cannot tell, 124 no verdict in time."
)]
struct RestartArguments {
    /// The PID file of the service
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Only ask for it
    #[arg(long)]
    no_wait: bool,
    /// How long to wait for the verdict
    #[arg(long, value_name = "TIME", default_value = "none")]
    timeout: String,
}

/// Ends every generation of a service, and says how each ended
///
/// Its supervisor is not told, and may start it again.
#[derive(Parser, Debug)]
#[command(
    name = "seamless-run stop",
    override_usage = "seamless-run stop FILE [--old]",
    after_help = "Exit status: 0 all have ended, 1 one could not be ended, 2 wrong use, 3 nothing is running, 4 cannot tell."
)]
struct StopArguments {
    /// The PID file of the service
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Only those that drain
    #[arg(long)]
    old: bool,
}

/// Understands what follows the program's name; `None` where the first word is none of these verbs.
pub(crate) fn parse(arguments: &[OsString]) -> Result<Option<Verb>, Refusal> {
    let verb = match arguments.first().and_then(|word| word.to_str()) {
        Some("status") => status(parse_with(arguments, USAGE)?),
        Some("restart") => restart(parse_with(arguments, USAGE)?),
        Some("stop") => stop(parse_with(arguments, USAGE)?),
        _ => return Ok(None),
    };
    verb.map(Some).map_err(complaint(USAGE))
}

fn status(arguments: StatusArguments) -> Result<Verb> {
    let format = match (arguments.quiet, arguments.json) {
        (true, _) => Format::Nothing,
        (false, true) => Format::Json,
        (false, false) => Format::Text,
    };
    let targets = arguments.files.iter().map(|file| target(file));
    Ok(Verb::Status {
        targets: targets.collect::<Result<_>>()?,
        format,
        watch: arguments.watch,
    })
}

fn restart(arguments: RestartArguments) -> Result<Verb> {
    Ok(Verb::Restart {
        target: target(&arguments.file)?,
        wait: !arguments.no_wait,
        timeout: time("--timeout", &arguments.timeout)?,
    })
}

fn stop(arguments: StopArguments) -> Result<Verb> {
    Ok(Verb::Stop {
        target: target(&arguments.file)?,
        old: arguments.old,
    })
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
    use clap::CommandFactory;

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

    #[test]
    fn clap_finds_no_fault_with_the_arguments() {
        StatusArguments::command().debug_assert();
        RestartArguments::command().debug_assert();
        StopArguments::command().debug_assert();
    }
}
