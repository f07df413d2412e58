//! A program of supervisord's.

use std::time::Duration;

use super::signals::{self, For};
use super::{longer, said};
use crate::check::finding::{About, Finding};
use crate::check::reading::Reading;
use crate::check::reading::supervisord::Program;
use crate::cli::Service;
use crate::signals::{Meaning, Signal};

pub(super) fn findings(found: &Program, reading: &Reading) -> Vec<Finding> {
    let name = format!("program:{}", found.name);
    let about = About(&name);
    let mut findings = Vec::new();
    findings.extend(pipe(found, about, reading));
    if found.file.is_none() {
        findings.push(about.note(
            "configuration",
            "there is no such section in supervisord's configuration",
            "its settings are not checked",
        ));
        return findings;
    }
    findings.extend(autorestart(found, about));
    findings.extend(startsecs(found, about));
    if let Some(service) = reading.options.service() {
        findings.extend(stop_signal(found, about, service));
        findings.extend(patience(found, about, service));
        findings.extend(cannot_ask(found, about, reading, service));
    }
    findings
}

fn pipe(found: &Program, about: About<'_>, reading: &Reading) -> Option<Finding> {
    if !found.has_pipe {
        return None;
    }
    let service = reading.options.service();
    let name = service.map_or("app", |service| &service.name);
    let log = match found.get("stdout_logfile") {
        Some(file) if file.starts_with('/') => file.to_owned(),
        _ => format!("/var/log/{name}.log"),
    };
    let finding = about.error(
        "output",
        "the daemon writes to supervisord's pipe",
        "the pipe is closed at each restart: an old generation that writes to it dies of SIGPIPE, or its words are lost",
    );
    let redirect = format!("exec >>{log} 2>&1");
    Some(match found.get("command") {
        Some(command) if !command.contains(['\'', '%']) => {
            finding.set(format!("command=/bin/sh -c '{redirect}; exec {command}'"))
        }
        _ => finding.fix(format!("begin the command in a shell with: {redirect}")),
    })
}

fn autorestart(found: &Program, about: About<'_>) -> Option<Finding> {
    let value = found.get("autorestart").unwrap_or("unexpected");
    let is_on = matches!(value, "true" | "True" | "yes" | "on" | "1");
    let finding = about.error(
        "restart",
        format!("autorestart={value}"),
        "a launcher that leaves for a restart exits with 0 and is not started again: after `seamless-run restart`, or signal TERM, nobody starts the next one",
    );
    (!is_on).then(|| finding.set("autorestart=true"))
}

fn startsecs(found: &Program, about: About<'_>) -> Option<Finding> {
    let seconds: u64 = found.get("startsecs").unwrap_or("1").parse().ok()?;
    let finding = about.warning(
        "start-limit",
        format!("startsecs={seconds}"),
        format!("a restart within {seconds} s of the last one counts as a start that failed, and after a few of them supervisord gives up"),
    );
    (seconds > 0).then(|| finding.set("startsecs=0"))
}

fn signal(found: &Program) -> Option<Signal> {
    Signal::parse(found.get("stopsignal").unwrap_or("TERM"))
}

fn stop_signal(found: &Program, about: About<'_>, service: &Service) -> Option<Finding> {
    let signal = signal(found)?;
    let setting = format!("stopsignal={signal}");
    // supervisorctl stop and restart send the same; INT is the recipe for a stop.
    if service.meanings.of(signal) == Meaning::Stop {
        return Some(about.note(
            "signal",
            setting,
            "supervisorctl restart is a stop and a start; the seamless restart is supervisorctl signal TERM",
        ));
    }
    let given = (setting.as_str(), signal);
    signals::judge(about, service, given, For::Both, "stopsignal=TERM")
}

fn patience(found: &Program, about: About<'_>, service: &Service) -> Option<Finding> {
    let seconds: u64 = found.get("stopwaitsecs").unwrap_or("10").parse().ok()?;
    let stop = service.policy.stop_timeout;
    if stop.is_some_and(|stop| Duration::from_secs(seconds) > stop) {
        return None;
    }
    let finding = about.warning(
        "timeout-stop",
        format!(
            "stopwaitsecs={seconds} is not longer than --stop-timeout {}",
            said(stop)
        ),
        "a stop that takes longer kills the launcher, and the daemon ends unseen",
    );
    Some(match stop {
        Some(stop) => finding.set(format!("stopwaitsecs={}", longer(stop))),
        None => finding.fix("give --stop-timeout a time, and stopwaitsecs= a longer one"),
    })
}

/// Whether the launcher can learn what supervisord wants.
fn cannot_ask(
    found: &Program,
    about: About<'_>,
    reading: &Reading,
    service: &Service,
) -> Option<Finding> {
    if service.meanings.of(signal(found)?) != Meaning::Auto {
        return None;
    }
    let is_ordinary = reading.user.is_some_and(|user| user != 0);
    let why = match &found.url {
        url if url.is_empty() => "supervisord has no [unix_http_server]",
        _ if found.has_password => "supervisord's server asks for a password",
        url if is_ordinary && url.starts_with("unix:") => {
            "the launcher is an ordinary user, who cannot reach supervisord's socket"
        }
        _ => return None,
    };
    let finding = about.warning(
        "rights",
        why,
        "it cannot be asked what it wants: a stop is taken for a restart, and ends the service after the orphan timeout",
    );
    let line = "stopsignal=INT";
    let words = format!("set {line}, and restart with supervisorctl signal TERM");
    Some(finding.set(line).fix(words))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{codes, reading, settings};
    use super::*;
    use crate::check::reading::Supervisor;

    fn program(lines: &str) -> Program {
        let good = "autorestart=true\nstartsecs=0\nstopwaitsecs=40\n";
        Program {
            name: "app".to_owned(),
            file: Some("/etc/supervisord.conf".into()),
            settings: settings(&format!("{good}{lines}")),
            url: "unix:///run/supervisor.sock".to_owned(),
            has_password: false,
            has_pipe: false,
        }
    }

    fn found(program: &Program, options: &str) -> Vec<String> {
        codes(&findings(program, &reading(Supervisor::Unknown, options)))
    }

    #[test]
    fn each_wrong_line_is_named_with_the_right_one() {
        for (lines, options, expected) in [
            ("", "", ""),
            ("stopsignal=INT", "", "note signal"),
            ("stopsignal=QUIT", "", "error signal: stopsignal=TERM"),
            (
                "autorestart=unexpected",
                "",
                "error restart: autorestart=true",
            ),
            ("autorestart=false", "", "error restart: autorestart=true"),
            ("startsecs=1", "", "warning start-limit: startsecs=0"),
            (
                "stopwaitsecs=10",
                "",
                "warning timeout-stop: stopwaitsecs=40",
            ),
            ("stopwaitsecs=10", "--stop-timeout 9s", ""),
            ("", "--stop-timeout none", "warning timeout-stop"),
        ] {
            let found = found(&program(lines), options).join("");
            assert_eq!(found, expected, "{lines} {options}");
        }
    }

    #[test]
    fn what_is_not_set_is_supervisords_own() {
        let mut bare = program("");
        bare.settings.clear();
        let expected = [
            "error restart: autorestart=true",
            "warning start-limit: startsecs=0",
            "warning timeout-stop: stopwaitsecs=40",
        ];
        assert_eq!(found(&bare, ""), expected);
        bare.file = None;
        assert_eq!(found(&bare, ""), ["note configuration"]);
    }

    #[test]
    fn output_and_the_way_to_ask_are_seen_where_it_runs() {
        let lines = "command=seamless-run -p f -- d\nstdout_logfile=/var/log/x";
        let mut one = program(lines);
        one.has_pipe = true;
        let line = "command=/bin/sh -c 'exec >>/var/log/x 2>&1; exec seamless-run -p f -- d'";
        assert_eq!(found(&one, ""), [format!("error output: {line}")]);
        let mut one = program("");
        one.url.clear();
        assert_eq!(found(&one, ""), ["warning rights: stopsignal=INT"]);
        let mut one = program("stopsignal=INT");
        one.has_password = true;
        assert_eq!(found(&one, ""), ["note signal"], "nobody is asked");
    }
}
