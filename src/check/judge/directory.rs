//! The PID file's directory: whether it will be there, and whose it is.

use std::path::Path;

use super::subject;
use crate::check::finding::{About, Finding};
use crate::check::reading::directory::{Directory, State, There};
use crate::check::reading::{Reading, Supervisor, lies_in};
use crate::check::script;

const DOES_NOT_START: &str = "seamless-run does not start (125)";

pub(super) fn findings(reading: &Reading) -> Vec<Finding> {
    let Some(directory) = &reading.directory else {
        return Vec::new();
    };
    let path = directory.path.display().to_string();
    let about = About(&path);
    match &directory.state {
        State::Missing => missing(reading, &directory.path).into_iter().collect(),
        State::Unusable(words) => vec![
            about
                .error("directory", words, DOES_NOT_START)
                .fix("make it a directory of root's"),
        ],
        State::There(there) => {
            let mut findings: Vec<_> = mode(there, about).into_iter().collect();
            findings.extend(above(there, about, reading.user));
            findings.extend(owner(there, about, reading.user));
            findings.extend(space(there, about));
            findings.extend(boot(reading, directory, there));
            findings.extend(files(directory, there));
            findings
        }
    }
}

/// Whether the supervisor, or the script, makes the directory anew at each start.
fn is_made(reading: &Reading, path: &Path) -> bool {
    let script = match &reading.supervisor {
        Supervisor::Systemd(unit) => {
            let own = unit.own_directories().into_iter().map(|(_, path)| path);
            if lies_in(path, &own.collect::<Vec<_>>()) {
                return true;
            }
            // What a shell in ExecStart= does before shows there too.
            format!("{}\n{}", unit.get("ExecStartPre"), unit.get("ExecStart"))
        }
        Supervisor::Supervise(found) => found.script().to_owned(),
        Supervisor::Supervisord(found) => found.get("command").unwrap_or_default().to_owned(),
        Supervisor::Nobody(_) | Supervisor::Named(_) | Supervisor::Unknown => return false,
    };
    script::makes_directory(&script, path)
}

fn how_to_make(finding: Finding, reading: &Reading, path: &Path) -> Finding {
    match (&reading.supervisor, path.strip_prefix("/run")) {
        (Supervisor::Systemd(_), Ok(name)) if !name.as_os_str().is_empty() => {
            let line = format!("RuntimeDirectory={}", name.display());
            let words = format!("set {line} and RuntimeDirectoryPreserve=yes");
            finding.set(line).fix(words)
        }
        (Supervisor::Supervise(_), _) => {
            let line = format!("mkdir -p {}", path.display());
            let words = format!("write before the exec: {line}");
            finding.write(line).fix(words)
        }
        _ => finding.fix(format!(
            "let each start make it: mkdir -p {}",
            path.display()
        )),
    }
}

fn missing(reading: &Reading, path: &Path) -> Option<Finding> {
    if is_made(reading, path) {
        return None;
    }
    let found = format!("there is no directory {}", path.display());
    let finding = About(subject(reading)).error("directory", found, DOES_NOT_START);
    Some(how_to_make(finding, reading, path))
}

fn boot(reading: &Reading, directory: &Directory, there: &There) -> Option<Finding> {
    let path = &directory.path;
    if !there.is_tmpfs || there.is_there_at_boot || is_made(reading, path) {
        return None;
    }
    let finding = About(subject(reading)).warning(
        "directory-boot",
        format!(
            "{} is in memory (tmpfs), and nothing seen here makes it",
            path.display()
        ),
        "after a boot it is not there, and seamless-run does not start (125)",
    );
    Some(how_to_make(finding, reading, path))
}

fn mode(there: &There, about: About<'_>) -> Option<Finding> {
    const CODE: &str = "directory-mode";
    let path = about.0;
    let found = format!("its mode is {:o}", there.mode);
    let is_sticky = there.mode & 0o1000 != 0;
    let (all, group) = (there.mode & 0o002 != 0, there.mode & 0o020 != 0);
    match (all, is_sticky, group) {
        (true, false, _) => Some(
            about
                .error(
                    CODE,
                    found,
                    "anybody can take the files away or put others there, and the next start does not find the old generation",
                )
                .write(format!("chmod 755 {path}")),
        ),
        (true, true, _) => Some(
            about
                .warning(
                    CODE,
                    found,
                    "anybody can put files there first, and seamless-run does not start then (125)",
                )
                .fix("use a directory that only its own user can write"),
        ),
        (false, _, true) => Some(
            about
                .warning(CODE, found, "its group can take the files away or put others there")
                .write(format!("chmod g-w {path}")),
        ),
        (false, _, false) => None,
    }
}

fn above(there: &There, about: About<'_>, user: Option<u32>) -> Option<Finding> {
    // Where it is not known who uses it, whose it is.
    let user = user.unwrap_or(there.owner);
    let hand = there.above.iter().find(|hand| hand.is_foreign_to(user))?;
    let above = hand.path.display();
    let (found, consequence, line) = if hand.is_open {
        (
            format!("anybody can write in {above}"),
            "anybody can put another directory in its place".to_owned(),
            format!("chmod o-w {above}"),
        )
    } else {
        (
            format!(
                "{above}, through which it is found, belongs to user {}",
                hand.owner
            ),
            "that user can put another directory in its place, and have files written there"
                .to_owned(),
            format!("chown -h root {above}"),
        )
    };
    let finding = about.error("directory-above", found, consequence);
    Some(finding.write(line))
}

fn owner(there: &There, about: About<'_>, user: Option<u32>) -> Option<Finding> {
    let user = user?;
    let line = format!("chown {user} {}", about.0);
    if there.owner == user {
        return None;
    }
    let finding = if there.owner != 0 {
        about.error(
            "directory-owner",
            format!(
                "it belongs to user {}, and seamless-run runs as user {user}",
                there.owner
            ),
            "that user can take the files away or put others there, which are not believed",
        )
    } else if there.mode & 0o022 == 0 {
        about.error(
            "directory-owner",
            format!("user {user}, as whom seamless-run runs, cannot write there"),
            DOES_NOT_START,
        )
    } else {
        return None;
    };
    Some(finding.write(line))
}

fn space(there: &There, about: About<'_>) -> Option<Finding> {
    let found = match (there.read_only, there.full) {
        (true, _) => "it is on a file system that is mounted read-only",
        (false, true) => "its file system is full",
        (false, false) => return None,
    };
    let consequence = "no PID file and no record can be written";
    let finding = about.error("directory-space", found, consequence);
    Some(finding.fix("make room, or use another directory"))
}

fn files(directory: &Directory, there: &There) -> Vec<Finding> {
    let mut findings = Vec::new();
    let file = directory.pid_file.display().to_string();
    let about = About(&file);
    findings.extend(there.no_pid_file.as_ref().map(|words| {
        match there.is_link {
            true => about
                .warning(
                    "stale-pid-file",
                    words,
                    "the next start removes it, and writes its own",
                )
                .fix("remove it"),
            false => about
                .error("pid-file-place", words, DOES_NOT_START)
                .fix("remove it, or name another file"),
        }
    }));
    if let Some(pid) = there.pid.filter(|_| !there.pid_is_known) {
        findings.push(match &there.pid_name {
            Some(name) => about
                .warning(
                    "stale-pid-file",
                    format!("it names {name} (pid {pid}), which is no generation of this service"),
                    "the next start removes it, and starts beside that process",
                )
                .fix("end that process and remove the file, or name another one"),
            None => about.note(
                "stale-pid-file",
                "it names no process that lives",
                "the next start removes it",
            ),
        });
    }
    findings.extend(there.doubtful_record.as_ref().map(|words| {
        About(&format!("{file}.record"))
            .warning(
                "record",
                words,
                "it is not believed: a generation that it names is not found",
            )
            .fix("see who writes there, and remove it")
    }));
    findings.extend(there.bad_lock.as_ref().map(|words| {
        About(&format!("{file}.lock"))
            .error("lock", words, DOES_NOT_START)
            .fix("remove it")
    }));
    findings
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::testing::{codes, reading, unit};
    use super::*;
    use crate::files::Hand;

    fn with(supervisor: Supervisor, user: Option<u32>, state: State) -> String {
        let mut reading = reading(supervisor, "");
        reading.user = user;
        reading.directory = Some(Directory {
            path: PathBuf::from("/run/app"),
            pid_file: PathBuf::from("/run/app/app.pid"),
            state,
        });
        codes(&findings(&reading)).join(", ")
    }

    fn there(user: Option<u32>, there: There) -> String {
        with(Supervisor::Unknown, user, State::There(Box::new(there)))
    }

    /// Of root's, with that mode.
    fn of(mode: u32) -> There {
        There {
            mode,
            ..There::default()
        }
    }

    #[test]
    fn a_directory_of_its_own_gives_nothing() {
        assert_eq!(there(Some(0), of(0o755)), "");
        let own = There {
            owner: 7,
            ..of(0o755)
        };
        assert_eq!(there(Some(7), own.clone()), "");
        assert_eq!(there(None, own), "");
    }

    #[test]
    fn one_that_is_not_there_may_be_made() {
        let systemd = |lines: &str| Supervisor::Systemd(unit(lines));
        let without = "RuntimeDirectory=\n";
        let line = ": RuntimeDirectory=app";
        assert_eq!(with(systemd(""), Some(0), State::Missing), "");
        let found = with(systemd(without), Some(0), State::Missing);
        assert_eq!(found, format!("error directory{line}"));
        let found = with(Supervisor::Unknown, None, State::Missing);
        assert_eq!(found, "error directory");
        let in_memory = || {
            let is_tmpfs = true;
            State::There(Box::new(There {
                is_tmpfs,
                ..of(0o755)
            }))
        };
        for lines in [
            "ExecStartPre={ argv[]=/bin/mkdir -p /run/app ; }\n",
            "ExecStart={ argv[]=/bin/sh -c mkdir /run/app; exec x ; }\n",
        ] {
            let systemd = systemd(&format!("{without}{lines}"));
            assert_eq!(with(systemd, Some(0), in_memory()), "", "{lines}");
        }
        let found = with(systemd(without), Some(0), in_memory());
        assert_eq!(found, format!("warning directory-boot{line}"));
        assert_eq!(with(systemd(""), Some(0), in_memory()), "");
    }

    #[test]
    fn whoever_can_write_there_is_named() {
        let hand = |owner, is_open| Hand {
            path: "/srv".into(),
            owner,
            is_open,
        };
        let above = There {
            above: vec![hand(7, true)],
            ..of(0o755)
        };
        let foreign_above = There {
            above: vec![hand(7, false)],
            ..of(0o755)
        };
        let own_above = There {
            owner: 7,
            ..foreign_above.clone()
        };
        let foreign = There {
            owner: 7,
            ..of(0o755)
        };
        let full = There {
            full: true,
            ..of(0o755)
        };
        let read_only = There {
            read_only: true,
            ..of(0o755)
        };
        for (found, user, expected) in [
            (of(0o777), 0, "error directory-mode: chmod 755 /run/app"),
            (of(0o1777), 0, "warning directory-mode"),
            (of(0o775), 0, "warning directory-mode: chmod g-w /run/app"),
            (above, 0, "error directory-above: chmod o-w /srv"),
            (
                foreign_above,
                0,
                "error directory-above: chown -h root /srv",
            ),
            (own_above, 7, ""),
            (foreign, 0, "error directory-owner: chown 0 /run/app"),
            (of(0o755), 7, "error directory-owner: chown 7 /run/app"),
            (full, 0, "error directory-space"),
            (read_only, 0, "error directory-space"),
        ] {
            let words = format!("{found:?}");
            assert_eq!(there(Some(user), found), expected, "{words}");
        }
    }

    #[test]
    fn what_lies_there_is_judged_as_a_start_would() {
        let words = || Some("it is not a regular file".to_owned());
        let none = || There {
            no_pid_file: words(),
            ..of(0o755)
        };
        let stale = || There {
            pid: Some(42),
            ..of(0o755)
        };
        for (found, expected) in [
            (none(), "error pid-file-place"),
            (
                There {
                    is_link: true,
                    ..none()
                },
                "warning stale-pid-file",
            ),
            (stale(), "note stale-pid-file"),
            (
                There {
                    pid_name: words(),
                    ..stale()
                },
                "warning stale-pid-file",
            ),
            (
                There {
                    pid_is_known: true,
                    pid_name: words(),
                    ..stale()
                },
                "",
            ),
            (
                There {
                    doubtful_record: words(),
                    ..of(0o755)
                },
                "warning record",
            ),
            (
                There {
                    bad_lock: words(),
                    ..of(0o755)
                },
                "error lock",
            ),
        ] {
            assert_eq!(there(Some(0), found), expected);
        }
    }
}
