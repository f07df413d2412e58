//! The command, the daemon that it has become, and its sockets.

use super::{said, subject};
use crate::check::finding::{About, Finding};
use crate::check::reading::program::{Program, State};
use crate::check::reading::running::Running;
use crate::check::reading::sockets::Obstacle;
use crate::check::reading::{Reading, Supervisor};
use crate::cli::Service;
use crate::generation::{PrepareWhen, Reception, Voice};
use crate::ready::When;

pub(super) fn findings(reading: &Reading) -> Vec<Finding> {
    let about = About(subject(reading));
    let program = reading.program.as_ref();
    let mut findings: Vec<Finding> = program
        .and_then(|program| command(program, about))
        .into_iter()
        .collect();
    if let (Some(program), Some(service)) = (program, reading.options.service()) {
        findings.extend(own_meaning(program, service, about));
        findings.extend(
            service
                .ready
                .iter()
                .filter_map(|when| condition(when, service, about)),
        );
    }
    if let (Some(running), Some(service)) = (&reading.running, reading.options.service()) {
        findings.extend(daemon(running, service));
    }
    for (label, obstacle) in &reading.obstacles {
        findings.extend(socket(label, obstacle, reading));
    }
    findings
}

fn command(program: &Program, about: About<'_>) -> Option<Finding> {
    const CODE: &str = "command";
    let path = program.path.as_ref();
    let name = path.map_or_else(|| program.name.clone(), |path| path.display().to_string());
    let cannot = |status| format!("the daemon cannot be started ({status})");
    Some(match &program.state {
        State::Runnable => return None,
        State::Missing => about
            .error(CODE, format!("there is no {name}"), cannot(127))
            .fix("install it, or give its path"),
        State::NotExecutable(words) => about
            .error(
                CODE,
                format!("{name} is not executable: {words}"),
                cannot(126),
            )
            .write(format!("chmod +x {name}")),
        State::NoInterpreter(interpreter) => about
            .error(
                CODE,
                format!("{name} names the interpreter {interpreter}, which is not there"),
                cannot(126),
            )
            .fix(format!(
                "install {interpreter}, or change the first line of {name}"
            )),
        State::NoMagic => about
            .error(
                CODE,
                format!("{name} is no program, and does not name its interpreter"),
                cannot(126),
            )
            .fix(format!("let {name} begin with #! and its interpreter")),
        State::Wrapper => about
            .warning(
                "wrapper",
                format!("{name} is a shell script without exec and without traps"),
                "USR2 and TERM reach the shell, and not the daemon that it starts",
            )
            .fix(format!("let {name} start the daemon with exec")),
    })
}

/// Servers that handle USR2 by themselves and mean something else by it, and say nothing when they are ready.
const OWN_MEANINGS: [(&str, &str); 5] = [
    ("nginx", "starts a second nginx inside the old one"),
    ("unicorn", "starts a second unicorn inside the old one"),
    ("haproxy", "has its workers replaced by itself"),
    ("php-fpm", "has it start itself anew"),
    ("puma", "has it start itself anew"),
];

fn own_meaning(program: &Program, service: &Service, about: About<'_>) -> Option<Finding> {
    let name = std::path::Path::new(&program.name).file_name()?.to_str()?;
    // `php-fpm8.2`
    let is_it = |(server, _): &&(&str, &str)| name.starts_with(server);
    let (_, effect) = OWN_MEANINGS.iter().find(is_it)?;
    if service.has_readiness || service.policy.prepare != PrepareWhen::Auto {
        return None;
    }
    let found = format!("{name} is silent, and takes USR2 for its own");
    let consequence = format!("the USR2 of a restart {effect}");
    let finding = about.warning("readiness", found, consequence);
    Some(finding.fix("say when it is ready, with --ready (see docs/unmodified-daemons.md)"))
}

/// A condition that cannot hold, or that somebody else may fulfil.
fn condition(when: &When, service: &Service, about: About<'_>) -> Option<Finding> {
    const CODE: &str = "readiness";
    match when {
        When::Command(_) if when.asks_anybody() => {
            let found = format!("--ready {when} does not tell this generation from the old one");
            let consequence =
                "where the old one answers it, a new one that does not serve takes over";
            let fix = "let it ask for what only this one can say, by $SEAMLESS_GENERATION or $SEAMLESS_PID; or use --ready listen:ADDR";
            Some(about.warning(CODE, found, consequence).fix(fix))
        }
        When::Listening(address) if !service.listen.wanted.is_empty() => {
            let mut held = service.listen.wanted.iter();
            if held.any(|held| held.address.overlaps(address)) {
                return None;
            }
            let found = format!("--ready {when} is at none of the addresses of --listen");
            let consequence = "unless the daemon opens that one by itself, it is never ready";
            Some(
                about
                    .warning(CODE, found, consequence)
                    .fix("let both name the same address"),
            )
        }
        When::Notify
        | When::Descriptor(_)
        | When::Listening(_)
        | When::PidFile(_)
        | When::Command(_)
        | When::After(_) => None,
    }
}

/// What a restart will do with the one that runs (R6).
fn daemon(running: &Running, service: &Service) -> Option<Finding> {
    let name = format!("generation {} (pid {})", running.generation, running.daemon);
    let about = About(&name);
    let signal = service.prepare_signal;
    let is_silent = running.voice == Voice::Silent;
    let is_told = match service.policy.prepare {
        PrepareWhen::Never => return None,
        PrepareWhen::Auto if !is_silent => return None,
        PrepareWhen::Auto => running.reception == Reception::Handled,
        PrepareWhen::Named => running.reception != Reception::Unhandled,
    };
    if !is_told {
        let found = match running.reception {
            Reception::Runtime => format!("{signal} is caught by its runtime, not by itself"),
            Reception::Handled | Reception::Unhandled => format!("it does not handle {signal}"),
        };
        let meanwhile = match service.listen.wanted.is_empty() {
            true => "nobody answers meanwhile",
            false => "connections wait meanwhile",
        };
        let kill = match service.policy.stop_timeout {
            Some(time) => format!(" (KILL after {})", said(Some(time))),
            None => String::new(),
        };
        let consequence =
            format!("a restart ends it{kill} before the next one starts, and {meanwhile}");
        let finding = about.warning("prepare-signal", found, consequence);
        return Some(finding.fix(format!(
            "let it handle {signal}, or say READY=1, or see for yourself that it is ready: --ready listen:PORT; where it may simply serve on beside the next one: --prepare-signal none"
        )));
    }
    let finding = about.warning(
        "readiness",
        "it has never said that it is ready",
        "at a restart, ten seconds of the next one's life are taken for that",
    );
    (!running.ready).then(|| {
        finding
            .fix("let it say READY=1 or X_SEAMLESS=started, as `seamless-run notify started` does")
    })
}

fn socket(label: &str, obstacle: &Obstacle, reading: &Reading) -> Option<Finding> {
    const CODE: &str = "socket";
    let option = format!("--listen {label}");
    let about = About(&option);
    let refused = "seamless-run does not start (125)";
    Some(match obstacle {
        Obstacle::Taken(words) => about
            .error(CODE, words, refused)
            .fix("end that process, or choose another address"),
        Obstacle::NoSocket(path) => about
            .error(CODE, format!("{path} is no socket"), refused)
            .fix(format!("remove {path}, or choose another")),
        Obstacle::MissingDirectory(path) => about
            .error(CODE, format!("there is no directory {path}"), refused)
            .write(format!("mkdir -p {path}")),
        Obstacle::Privileged(first) => {
            let user = reading.user.filter(|user| *user != 0)?;
            let is_allowed = match &reading.supervisor {
                Supervisor::Systemd(unit) => unit
                    .get("AmbientCapabilities")
                    .contains("cap_net_bind_service"),
                _ => false,
            };
            if is_allowed {
                return None;
            }
            let found =
                format!("ports below {first} are root's, and seamless-run runs as user {user}");
            let finding = about.error(CODE, found, refused);
            match &reading.supervisor {
                Supervisor::Systemd(_) => finding.set("AmbientCapabilities=CAP_NET_BIND_SERVICE"),
                _ => finding.fix("let the launcher be root, and the daemon drop its privileges"),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{codes, reading, service, unit};
    use super::*;

    fn running(voice: Voice, reception: Reception) -> Running {
        Running {
            generation: 1,
            daemon: 42,
            launcher: None,
            ready: voice != Voice::Silent,
            voice,
            reception,
            listens: false,
        }
    }

    #[test]
    fn what_a_restart_does_with_the_daemon_is_said() {
        let gap = "warning prepare-signal";
        for (voice, reception, options, expected) in [
            (Voice::Ours, Reception::Handled, "", ""),
            (Voice::Ours, Reception::Unhandled, "", ""),
            (Voice::Plain, Reception::Unhandled, "", ""),
            (Voice::Silent, Reception::Handled, "", "warning readiness"),
            (Voice::Silent, Reception::Unhandled, "", gap),
            (Voice::Silent, Reception::Runtime, "", gap),
            (
                Voice::Silent,
                Reception::Unhandled,
                "--prepare-signal none",
                "",
            ),
            (
                Voice::Ours,
                Reception::Unhandled,
                "--prepare-signal USR1",
                gap,
            ),
            (
                Voice::Plain,
                Reception::Runtime,
                "--prepare-signal USR1",
                "",
            ),
        ] {
            let found = daemon(&running(voice, reception), &service(options));
            let found: Vec<Finding> = found.into_iter().collect();
            let found = codes(&found).join("");
            assert_eq!(found, expected, "{voice:?} {reception:?} {options}");
        }
    }

    #[test]
    fn a_server_with_an_usr2_of_its_own_is_named() {
        let found = |name: &str, options| {
            let program = Program {
                name: name.to_owned(),
                path: None,
                state: State::Runnable,
            };
            let found = own_meaning(&program, &service(options), About("run"));
            codes(&found.into_iter().collect::<Vec<_>>()).join("")
        };
        for name in ["nginx", "/usr/sbin/nginx", "php-fpm8.2"] {
            assert_eq!(found(name, ""), "warning readiness");
            assert_eq!(found(name, "--ready pid-file:/run/x.pid"), "");
            assert_eq!(found(name, "--prepare-signal none"), "");
        }
        assert_eq!(found("daemon", ""), "");
    }

    #[test]
    fn a_condition_that_cannot_hold_or_is_fooled_is_named() {
        for (options, expected) in [
            ("--ready notify", ""),
            ("--ready listen:80", ""),
            ("--listen 127.0.0.1:80 --ready listen:80", ""),
            ("--listen /run/a.sock --ready listen:/run/a.sock", ""),
            ("--listen 80 --ready listen:81", "warning readiness"),
            ("--listen 80 --ready listen:udp:*:80", "warning readiness"),
            ("--ready exec:true", "warning readiness"),
            ("--ready exec:check-$SEAMLESS_PID", ""),
        ] {
            let service = service(options);
            let found = service.ready.iter();
            let found = found.filter_map(|when| condition(when, &service, About("run")));
            assert_eq!(
                codes(&found.collect::<Vec<_>>()).join(""),
                expected,
                "{options}"
            );
        }
    }

    #[test]
    fn a_command_that_cannot_run_is_named() {
        let words = "its mode is 644".to_owned();
        for (state, expected) in [
            (State::Runnable, ""),
            (State::Missing, "error command"),
            (
                State::NotExecutable(words),
                "error command: chmod +x /srv/d",
            ),
            (State::NoInterpreter("/x".to_owned()), "error command"),
            (State::NoMagic, "error command"),
            (State::Wrapper, "warning wrapper"),
        ] {
            let program = Program {
                name: "d".to_owned(),
                path: Some("/srv/d".into()),
                state,
            };
            let found: Vec<Finding> = command(&program, About("run")).into_iter().collect();
            assert_eq!(codes(&found).join(""), expected);
        }
    }

    #[test]
    fn what_is_in_the_way_of_a_socket_is_named() {
        let found = |obstacle, user, supervisor| {
            let mut reading = reading(supervisor, "");
            reading.user = user;
            reading.obstacles = vec![("http=tcp:*:80".to_owned(), obstacle)];
            codes(&findings(&reading)).join("")
        };
        let plainly = |obstacle| found(obstacle, Some(0), Supervisor::Unknown);
        assert_eq!(
            plainly(Obstacle::Taken("x has it".to_owned())),
            "error socket"
        );
        assert_eq!(plainly(Obstacle::NoSocket("/a".to_owned())), "error socket");
        let directory = Obstacle::MissingDirectory("/a".to_owned());
        assert_eq!(plainly(directory), "error socket: mkdir -p /a");
        let privileged = Obstacle::Privileged(1024);
        assert_eq!(plainly(privileged.clone()), "");
        let user = Some(7);
        let other = found(privileged.clone(), user, Supervisor::Unknown);
        assert_eq!(other, "error socket");
        let line = "AmbientCapabilities=CAP_NET_BIND_SERVICE";
        let systemd = Supervisor::Systemd(unit(""));
        let other = found(privileged.clone(), user, systemd);
        assert_eq!(other, format!("error socket: {line}"));
        let systemd = Supervisor::Systemd(unit(
            &line.to_ascii_lowercase().replace("ambientc", "AmbientC"),
        ));
        assert_eq!(found(privileged, user, systemd), "");
    }
}
