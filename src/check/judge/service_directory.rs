//! A service directory of runit, daemontools or s6.

use super::signals::{self, For};
use super::{longer, said};
use crate::check::finding::{About, Finding};
use crate::check::reading::service_directory::{Run, ServiceDirectory};
use crate::check::reading::{Reading, number_of};
use crate::check::script::{self, Launch};
use crate::check::tools;
use crate::cli::Service;
use crate::listen;
use crate::signals::{Meaning, Signal};
use crate::supervisor::Format;

const RUN: About<'_> = About("run");

pub(super) fn findings(found: &ServiceDirectory, reading: &Reading) -> Vec<Finding> {
    let service = reading.options.service();
    let mut findings = Vec::new();
    findings.extend(executable(found));
    findings.extend(finish(found));
    findings.extend(control(found));
    findings.extend(voice(found));
    if let Some(launch) = found.launch() {
        findings.extend(stays(launch));
        findings.extend(dropped(found, launch, reading.command.len()));
    }
    if let Some(service) = service {
        findings.extend(cannot_look(found, reading, service));
        findings.extend(down_signal(found, service));
        findings.extend(notification(found, service));
        findings.extend(patience(found, service));
    }
    findings
}

fn executable(found: &ServiceDirectory) -> Option<Finding> {
    let consequence = "the supervisor cannot start it";
    match &found.run {
        Run::Script { executable, .. } => (!executable).then(|| {
            RUN.error("run-script", "it is not executable", consequence)
                .write("chmod +x run")
        }),
        Run::Unusable(words) => Some(
            RUN.error("run-script", words, consequence)
                .fix("write a run script"),
        ),
    }
}

/// A shell that stays is what the supervisor signals.
fn stays(launch: &Launch) -> Option<Finding> {
    if launch.aside {
        let finding = RUN.error(
            "exec",
            "seamless-run is started in a pipeline, or in the background",
            "the supervisor signals the shell, and the launcher hears nothing: a stop leaves the service",
        );
        return Some(finding.fix("let it be the last command, by exec; what is logged goes to a log service, or by exec >>FILE 2>&1 before it"));
    }
    let words = [&launch.before[..], &launch.words].concat();
    let finding = RUN.error(
        "exec",
        "seamless-run is started without exec",
        "the supervisor signals the shell, and the launcher hears nothing",
    );
    (!launch.exec).then(|| finding.write(format!("exec {}", script::raw(&words))))
}

/// `command`: of how many words the daemon's own command is.
fn dropped(found: &ServiceDirectory, launch: &Launch, command: usize) -> Option<Finding> {
    let before = launch.before.iter();
    let words: Vec<&str> = before.map(|word| word.text.as_str()).collect();
    let user = tools::user_anywhere(&words)?;
    // A user's own supervisor keeps its directory for that user.
    if found.owner.is_some() && found.owner == number_of(user) {
        return None;
    }
    let tools = script::raw(&launch.before);
    let consequence = format!(
        "the launcher is not root any more, and cannot read what {} wants: a stop is taken for a restart, and ends the service after the orphan timeout",
        name(found)
    );
    let finding = RUN.error(
        "rights",
        format!("{tools} stands before seamless-run"),
        consequence,
    );
    if command == 0 {
        return Some(finding.fix(format!(
            "put it behind: seamless-run ... -- {tools} COMMAND"
        )));
    }
    let end = launch.words.len().saturating_sub(command);
    let (ours, theirs) = launch.words.split_at(end);
    let ours = match ours.split_last() {
        Some((last, rest)) if last.text == "--" => rest,
        _ => ours,
    };
    let (ours, theirs) = (script::raw(ours), script::raw(theirs));
    Some(finding.write(format!("exec {ours} -- {tools} {theirs}")))
}

/// The same, seen where it runs.
fn cannot_look(found: &ServiceDirectory, reading: &Reading, service: &Service) -> Option<Finding> {
    let user = reading.running.as_ref()?.launcher.as_ref()?.user;
    let launch = found.launch();
    let is_said = launch.is_some_and(|launch| dropped(found, launch, 0).is_some());
    let asks = service.meanings.of(Signal::TERM) == Meaning::Auto;
    if user == 0 || user == found.owner? || is_said || !asks {
        return None;
    }
    let consequence = format!(
        "it cannot read what {} wants: a stop is taken for a restart, and ends the service after the orphan timeout",
        name(found)
    );
    let finding = RUN.error(
        "rights",
        format!("the launcher runs as user {user}"),
        consequence,
    );
    Some(finding.fix(
        "let the launcher be root, and the daemon drop its privileges: seamless-run ... -- chpst -u USER COMMAND",
    ))
}

fn finish(found: &ServiceDirectory) -> Option<Finding> {
    (found.has_finish && !found.finish_asks).then(|| {
        About("finish").note(
            "finish",
            "there is a finish script",
            "it runs at every restart too, while the old generation serves: `seamless-run status -q FILE` says whether one does",
        )
    })
}

fn control(found: &ServiceDirectory) -> Option<Finding> {
    if found.format != Some(Format::Runit) || found.control.is_empty() {
        return None;
    }
    let names = found.control.join(", ");
    let finding = About(&names).warning(
        "control",
        "runsv runs it before it signals",
        "where it exits with 0 the launcher gets no signal, and hears of no restart and no stop",
    );
    Some(finding.fix("remove it, or let it exit with another status"))
}

/// What the launcher says.
fn voice(found: &ServiceDirectory) -> Option<Finding> {
    let text = found.script();
    let ways = ["2>&1", ">&2", "&>", "fdmove -c 2 1"];
    let is_merged = ways.iter().any(|way| text.contains(way));
    let finding = RUN.note(
        "log",
        "stderr does not go to the log service",
        "what seamless-run says is not in the service's log",
    );
    (found.has_log && !text.is_empty() && !is_merged).then(|| finding.write("exec 2>&1"))
}

fn down_signal(found: &ServiceDirectory, service: &Service) -> Option<Finding> {
    let file = found.down_signal.as_deref();
    let file = file.filter(|_| found.format == Some(Format::S6));
    let signal = Signal::parse(file.unwrap_or("TERM"))?;
    let (about, setting) = match file {
        Some(_) => (About("down-signal"), signal.to_string()),
        None => (RUN, "--on TERM".to_owned()),
    };
    let judged = signals::judge(about, service, (&setting, signal), For::Both, "TERM")?;
    Some(match file {
        Some(_) if signal != Signal::TERM => judged.write("rm down-signal"),
        _ => judged,
    })
}

fn notification(found: &ServiceDirectory, service: &Service) -> Option<Finding> {
    const CODE: &str = "notification-fd";
    let about = About(CODE);
    let does_not_start = "seamless-run does not start (125)";
    if !matches!(found.format, None | Some(Format::S6)) {
        let number = service.notification?;
        let consequence = format!("{} opens no such descriptor: {does_not_start}", name(found));
        let finding = RUN.error(CODE, format!("--notification-fd {number}"), consequence);
        return Some(finding.fix("leave out --notification-fd"));
    }
    let file = found.notification_fd.as_deref().map(str::parse::<i32>);
    let count = i32::try_from(service.listen.wanted.len()).unwrap_or(i32::MAX);
    let sockets = listen::FIRST..listen::FIRST.saturating_add(count);
    match (service.notification, file) {
        (Some(typed), Some(Ok(number))) if typed == number => None,
        (None, None) if found.format.is_none() => None,
        (None, None) => Some(
            about
                .note(
                    CODE,
                    "there is no such file",
                    "a restart takes a second, and s6-svwait -U does not wait for readiness",
                )
                .fix("echo 3 >notification-fd, and give --notification-fd 3"),
        ),
        (Some(number), None) => Some(
            about
                .error(
                    CODE,
                    format!("there is no such file, and --notification-fd {number} is given"),
                    format!("s6 opens no such descriptor: {does_not_start}"),
                )
                .write(format!("echo {number} >notification-fd")),
        ),
        (_, Some(Err(_))) => Some(
            about
                .error(CODE, "it holds no number", "s6 does not wait for readiness")
                .fix("write a number from 3 on"),
        ),
        (Some(typed), Some(Ok(number))) => Some(
            about
                .error(
                    CODE,
                    format!("it holds {number}, and --notification-fd is {typed}"),
                    format!("s6 does not wait at {typed}: {does_not_start}"),
                )
                .write(format!("echo {typed} >notification-fd")),
        ),
        (None, Some(Ok(number))) => {
            let found = format!("it holds {number}, and no --notification-fd is given");
            let line = format!("--notification-fd {number}");
            let words = format!("give {line}");
            let finding = match sockets.contains(&number) {
                true => about.error(
                    CODE,
                    found,
                    format!("the daemon looks for a socket at {number}: {does_not_start}"),
                ),
                false => about.warning(
                    CODE,
                    found,
                    "s6 waits for a newline that the daemon has to write itself, or no start ever counts as ready",
                ),
            };
            Some(finding.set(line).fix(words))
        }
    }
}

fn patience(found: &ServiceDirectory, service: &Service) -> Option<Finding> {
    let stop = service.policy.stop_timeout;
    match found.format {
        Some(Format::S6) => {
            let milliseconds: u64 = found.timeout_kill.as_ref()?.parse().ok()?;
            let enough = stop.is_some_and(|stop| u128::from(milliseconds) > stop.as_millis());
            if milliseconds == 0 || enough {
                return None;
            }
            let finding = About("timeout-kill").warning(
                "timeout-stop",
                format!(
                    "{milliseconds} ms are not longer than --stop-timeout {}",
                    said(stop)
                ),
                "a stop that takes longer kills the launcher, and the daemon ends unseen",
            );
            let longer = stop.map_or(0, |stop| longer(stop).saturating_mul(1000));
            Some(finding.write(format!("echo {longer} >timeout-kill")))
        }
        Some(Format::Runit) => {
            // What sv waits for by itself.
            let is_long = stop.is_none_or(|stop| stop.as_secs() >= 7);
            let wait = stop.map_or(600, longer);
            is_long.then(|| {
                RUN.note(
                    "timeout-stop",
                    format!("sv waits for 7 s, and --stop-timeout is {}", said(stop)),
                    format!("sv may say `timeout` of a stop that is under way; sv -w {wait} waits longer"),
                )
            })
        }
        Some(Format::Daemontools) | None => None,
    }
}

fn name(found: &ServiceDirectory) -> &'static str {
    found.format.map_or("the supervisor", Format::name)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::testing::{codes, reading};
    use super::*;
    use crate::check::reading::Supervisor;

    const GOOD: &str = "exec seamless-run -p /run/app/app.pid -- ./daemon";

    fn directory(format: Format, text: &str) -> ServiceDirectory {
        ServiceDirectory {
            path: PathBuf::from("/etc/sv/app"),
            format: Some(format),
            run: Run::Script {
                text: text.to_owned(),
                executable: true,
                launch: script::find_launch(text),
            },
            owner: Some(0),
            has_finish: false,
            finish_asks: false,
            control: Vec::new(),
            has_log: false,
            notification_fd: None,
            down_signal: None,
            timeout_kill: None,
        }
    }

    fn found(directory: &ServiceDirectory, options: &str) -> Vec<String> {
        let options = format!("--stop-timeout 5s {options}");
        codes(&findings(
            directory,
            &reading(Supervisor::Unknown, &options),
        ))
    }

    #[test]
    fn a_good_one_gives_nothing() {
        for format in [Format::Runit, Format::Daemontools] {
            assert_eq!(found(&directory(format, GOOD), "--listen 80"), [""; 0]);
        }
        let mut s6 = directory(Format::S6, GOOD);
        s6.notification_fd = Some("3".to_owned());
        s6.timeout_kill = Some("40000".to_owned());
        assert_eq!(found(&s6, "--notification-fd 3"), [""; 0]);
        let mut of_a_user = directory(Format::Runit, "exec chpst -u 7 seamless-run -p f d");
        of_a_user.owner = Some(7);
        assert_eq!(found(&of_a_user, ""), [""; 0]);
    }

    #[test]
    fn the_line_to_write_is_a_whole_one() {
        for (wrong, right) in [
            (
                "exec chpst -u 'a b' seamless-run -p \"/run/app/app.pid\" ./daemon",
                "exec seamless-run -p \"/run/app/app.pid\" -- chpst -u 'a b' ./daemon",
            ),
            (
                "exec setuidgid app seamless-run -p f -- ./daemon",
                "exec seamless-run -p f -- setuidgid app ./daemon",
            ),
            (
                "env A=b seamless-run -p f -- ./daemon",
                "exec env A=b seamless-run -p f -- ./daemon",
            ),
        ] {
            let all = found(&directory(Format::Runit, wrong), "");
            let [one] = &all[..] else { panic!("{all:?}") };
            assert_eq!(one.split_once(": ").unwrap().1, right);
        }
    }

    #[test]
    fn what_s6_is_told_has_to_fit_what_it_waits_for() {
        let give = |level: &str, number: &str| {
            format!("{level} notification-fd: --notification-fd {number}")
        };
        let echo = "error notification-fd: echo 3 >notification-fd".to_owned();
        for (file, options, expected) in [
            (None, "", "note notification-fd".to_owned()),
            (None, "--notification-fd 3", echo.clone()),
            (Some("3"), "", give("warning", "3")),
            (Some("3"), "--listen 80", give("error", "3")),
            (Some("4"), "--listen 80", give("warning", "4")),
            (Some("4"), "--notification-fd 3", echo),
            (Some("x"), "", "error notification-fd".to_owned()),
        ] {
            let mut s6 = directory(Format::S6, GOOD);
            s6.notification_fd = file.map(str::to_owned);
            assert_eq!(found(&s6, options), [expected], "{file:?} {options}");
        }
        let runit = directory(Format::Runit, GOOD);
        let expected = ["error notification-fd"];
        assert_eq!(found(&runit, "--notification-fd 3"), expected);
    }

    #[test]
    fn each_file_that_is_in_the_way_is_named() {
        type Change = fn(&mut ServiceDirectory);
        let changes: [(Format, Change, &str); 6] = [
            (
                Format::S6,
                |one| one.down_signal = Some("INT".to_owned()),
                "error signal: rm down-signal",
            ),
            (
                Format::S6,
                |one| one.timeout_kill = Some("5000".to_owned()),
                "warning timeout-stop: echo 15000 >timeout-kill",
            ),
            (
                Format::Runit,
                |one| one.control = vec!["control/t".to_owned()],
                "warning control",
            ),
            (Format::Runit, |one| one.has_finish = true, "note finish"),
            (
                Format::Runit,
                |one| one.has_log = true,
                "note log: exec 2>&1",
            ),
            (
                Format::Runit,
                |one| one.run = Run::Unusable("there is no run script".to_owned()),
                "error run-script",
            ),
        ];
        for (format, change, expected) in changes {
            let mut directory = directory(format, GOOD);
            let mut options = "";
            if format == Format::S6 {
                directory.notification_fd = Some("3".to_owned());
                options = "--notification-fd 3";
            }
            change(&mut directory);
            assert_eq!(found(&directory, options), [expected]);
        }
    }
}
