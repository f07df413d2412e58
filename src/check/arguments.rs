//! What can be typed after `check`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{CommandFactory, FromArgMatches, Parser};

use crate::cli::{self, Refusal, RunArguments};
use crate::departure::verb::USAGE;

/// What is to be checked, and how that is shown.
#[derive(Debug)]
pub(crate) struct Request {
    pub(super) place: Place,
    /// The run options, where they were typed: they count more than those of a unit or a script.
    pub(super) run: Option<RunArguments>,
    pub(super) json: bool,
}

/// Where the service is to be found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A unit of systemd, of the machine's manager or of this user's.
    Unit { name: String, of_user: bool },
    /// A service directory of runit, daemontools or s6.
    Directory(PathBuf),
    /// Whoever supervises what runs at the PID file.
    Running,
}

#[derive(Parser, Debug)]
#[command(name = "seamless-run check")]
struct CheckArguments {
    /// A unit of systemd: options and command are taken from its ExecStart=
    #[arg(long, conflicts_with = "service")]
    unit: Option<String>,
    /// The unit is one of this user's own manager
    #[arg(long, requires = "unit")]
    user: bool,
    /// A service directory of runit, daemontools or s6: options and command are taken from its run script
    #[arg(long, value_name = "DIRECTORY")]
    service: Option<PathBuf>,
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    run: RunArguments,
}

const USE: &str = "seamless-run check [--unit UNIT [--user] | --service DIRECTORY] [--json] [OPTIONS] [--] [COMMAND [ARG]...]";
const ABOUT: &str = "Says what will go wrong with a service under its supervisor, and which line to change\n\n\
    Without a unit, a service directory and options the current directory is checked, if it has a run script; \
    with options alone whoever supervises what runs at the PID file.";
const AFTER: &str = "Nothing is changed, started or signalled.\n\n\
    Exit status: 0 nothing that will go wrong was found, 1 errors were found, 2 wrong use, 4 cannot tell, 125 it cannot be printed.";

/// Understands the words after the program's name, of which the first is `check`.
pub(crate) fn parse(arguments: &[OsString]) -> Result<Request, Refusal> {
    let refusal = |error: clap::Error| cli::refusal(&error, USAGE);
    let mut matches = command().try_get_matches_from(arguments).map_err(refusal)?;
    let typed = CheckArguments::from_arg_matches_mut(&mut matches).map_err(refusal)?;
    let run = typed.run;
    let has_options = run.pid_file.is_some() || !run.command.is_empty();
    let place = match (typed.unit, typed.service) {
        (Some(unit), _) => Place::Unit {
            name: with_suffix(unit),
            of_user: typed.user,
        },
        (None, Some(directory)) => Place::Directory(directory),
        (None, None) if has_options => Place::Running,
        (None, None) => {
            let here = PathBuf::from(".");
            if !here.join("run").is_file() {
                let line = format!("there is no service here (no run script); use: {USE}");
                return Err(Refusal::Complaint(line, USAGE));
            }
            Place::Directory(here)
        }
    };
    Ok(Request {
        place,
        run: has_options.then_some(run),
        json: typed.json,
    })
}

/// As systemctl does it.
fn with_suffix(unit: String) -> String {
    match unit.ends_with(".service") {
        true => unit,
        false => format!("{unit}.service"),
    }
}

fn command() -> clap::Command {
    // What is taken along with the run options speaks of running.
    CheckArguments::command()
        .name("seamless-run check")
        .override_usage(USE)
        .about(ABOUT)
        .long_about(None)
        .after_help(AFTER)
        .disable_version_flag(true)
        .mut_arg("command", |argument| argument.required(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Request, Refusal> {
        let words = std::iter::once(&"check").chain(words);
        parse(&words.map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_service_is_named_in_three_ways() {
        let unit = |of_user| Place::Unit {
            name: "app.service".to_owned(),
            of_user,
        };
        assert_eq!(parsed(&["--unit", "app"]).unwrap().place, unit(false));
        let request = parsed(&["--json", "--unit", "app.service", "--user"]).unwrap();
        assert_eq!(request.place, unit(true));
        assert!(request.json && request.run.is_none());
        let request = parsed(&["--service", "/etc/sv/app"]).unwrap();
        assert_eq!(request.place, Place::Directory("/etc/sv/app".into()));
        let words = ["-p", "/run/app/app.pid", "--json", "--listen", "80"];
        let request = parsed(&[&words[..], &["--", "x", "--json"]].concat()).unwrap();
        assert_eq!(request.place, Place::Running);
        assert!(request.json);
        assert_eq!(request.run.unwrap().command, ["x", "--json"]);
        // No command is needed where something runs.
        assert!(parsed(&["-p", "/run/app/app.pid"]).unwrap().run.is_some());
    }

    #[test]
    fn wrong_use_is_status_2_in_one_line() {
        for words in [
            &[][..],
            &["--unit"],
            &["--unit", "a", "--service", "b"],
            &["--user"],
            &["--bogus"],
        ] {
            match parsed(words) {
                Err(Refusal::Complaint(line, 2)) => assert!(!line.contains('\n'), "{line}"),
                other => panic!("{words:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn the_help_is_about_the_check() {
        command().debug_assert();
        match parsed(&["--help"]) {
            Err(Refusal::Answer(text)) => {
                assert!(text.starts_with("Says what will go wrong"), "{text}");
                assert!(text.contains("4 cannot tell"), "{text}");
                assert!(text.contains("--stop-timeout"), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
}
