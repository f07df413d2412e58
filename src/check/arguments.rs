//! What can be typed after `check`.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::cli::options::RUN_OPTIONS;
use crate::cli::{Form, Opt, Refusal, RunArguments, Typed};
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

/// What can be typed after `check`.
pub(crate) static FORM: Form = Form {
    name: "seamless-run check",
    usage: &[
        "seamless-run check [--json]",
        "seamless-run check --unit UNIT [--user]",
        "seamless-run check --service DIRECTORY",
        "seamless-run check [RUN OPTIONS] [--] [COMMAND [ARG]...]",
    ],
    about: "Says what will go wrong with a service under its supervisor, and what to change",
    more: "Without a unit, a service directory and options the current directory is checked, if it has a run script; with options alone whoever supervises what runs at the PID file. What would be done, one by one, says seamless-run --dry-run.",
    options: &[
        &[
            Opt {
                long: "unit",
                value: "UNIT",
                heading: PLACE,
                brief: "a unit of systemd",
                more: "Options and command are taken from its ExecStart=, and from the script that this starts.",
                example: "--unit app.service",
                excludes: &["service"],
                ..Opt::NEW
            },
            Opt {
                long: "user",
                heading: PLACE,
                brief: "the unit is one of this user's own manager",
                example: "--user --unit app",
                needs: "unit",
                ..Opt::NEW
            },
            Opt {
                long: "service",
                value: "DIRECTORY",
                heading: PLACE,
                brief: "a service directory of runit, daemontools or s6",
                more: "Options and command are taken from its run script.",
                example: "--service /etc/sv/app",
                bytes: true,
                ..Opt::NEW
            },
            Opt {
                long: "json",
                heading: PLACE,
                brief: "one JSON object",
                more: "docs/verbs.md lists its keys, and the codes of the findings.",
                example: "--json --unit app",
                ..Opt::NEW
            },
        ],
        RUN_OPTIONS,
    ],
    has_command: true,
    after: "Nothing is changed, started or signalled.\n\
        \n\
        Exit status: 0 nothing that will go wrong was found, 1 errors were found,\n\
        2 wrong use, 4 cannot tell, 125 it cannot be printed.",
    after_long: "Examples:\n\
        \x20 seamless-run check --unit app.service\n\
        \x20 seamless-run check --service /etc/sv/app\n\
        \x20 seamless-run check -p /run/app/app.pid --listen http=:8080 -- /usr/bin/daemon",
};

const PLACE: &str = "What is checked";

/// Understands what follows the verb.
pub(crate) fn parse(arguments: &[OsString]) -> Result<Request, Refusal> {
    let mut typed = Typed::read(&FORM, arguments, USAGE)?;
    let unit = typed.text("unit");
    let of_user = typed.has("user");
    let service = typed.one("service").map(PathBuf::from);
    let json = typed.has("json");
    let run = RunArguments::from(typed);
    let has_options = run.pid_file.is_some() || !run.command.is_empty();
    let place = match (unit, service) {
        (Some(unit), _) => Place::Unit {
            name: with_suffix(unit),
            of_user,
        },
        (None, Some(directory)) => Place::Directory(directory),
        (None, None) if has_options => Place::Running,
        (None, None) => {
            let here = PathBuf::from(".");
            if !here.join("run").is_file() {
                let line = format!(
                    "there is no service here (no run script); use: {}, {} or {}",
                    FORM.usage[1], FORM.usage[2], FORM.usage[3]
                );
                return Err(Refusal::Complaint(line, USAGE));
            }
            Place::Directory(here)
        }
    };
    Ok(Request {
        place,
        run: has_options.then_some(run),
        json,
    })
}

/// As systemctl does it.
fn with_suffix(unit: String) -> String {
    match unit.ends_with(".service") {
        true => unit,
        false => format!("{unit}.service"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Request, Refusal> {
        parse(&words.iter().map(OsString::from).collect::<Vec<_>>())
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
