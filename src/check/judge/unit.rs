//! A unit of systemd: what it does with whatever the launcher leaves behind, and when it starts another.

use super::signals::{self, For};
use super::{longer, said};
use crate::check::finding::{About, Finding};
use crate::check::reading::unit::{Span, Unit};
use crate::cli::Service;
use crate::signals::Signal;

pub(super) fn findings(unit: &Unit, service: Option<&Service>) -> Vec<Finding> {
    let about = About(&unit.name);
    let mut findings = Vec::new();
    findings.extend(kill_mode(unit, about));
    findings.extend(exit_type(unit, about));
    findings.extend(kind(unit, about));
    findings.extend(notify_access(unit, about));
    findings.extend(restart(unit, about));
    findings.extend(start_limit(unit, about));
    findings.extend(reload(unit, about));
    if let Some(service) = service {
        findings.extend(sent(unit, about, service));
        findings.extend(stop_patience(unit, about, service));
        findings.extend(start_patience(unit, about, service));
        findings.extend(hold(unit, about, service));
    }
    findings
}

fn kill_mode(unit: &Unit, about: About<'_>) -> Option<Finding> {
    let mode = unit.get("KillMode");
    let consequence = match mode {
        "process" | "" => return None,
        "none" => {
            "nobody is told of a restart: the next launcher finds this one, and leaves with 125"
        }
        "mixed" => "a restart would kill the old generation at once",
        _ => "a restart would kill the old generation",
    };
    let finding = about.error("kill-mode", format!("KillMode={mode}"), consequence);
    Some(finding.set("KillMode=process"))
}

fn exit_type(unit: &Unit, about: About<'_>) -> Option<Finding> {
    let consequence = "no next generation is started while the old one lives";
    let finding = about.error("exit-type", "ExitType=cgroup", consequence);
    unit.is("ExitType", "cgroup")
        .then(|| finding.set("ExitType=main"))
}

fn kind(unit: &Unit, about: About<'_>) -> Option<Finding> {
    let kind = unit.get("Type");
    let found = format!("Type={kind}");
    let finding = match kind {
        "notify" | "notify-reload" | "" => return None,
        "forking" => about.error(
            "type",
            found,
            "systemd waits for seamless-run to go to the background, which it does not do",
        ),
        "oneshot" => about.error(
            "type",
            found,
            "systemd takes the end of seamless-run for the end of the start",
        ),
        _ => about.note(
            "type",
            found,
            "systemctl restart does not wait for the new generation, and does not say when it fails",
        ),
    };
    Some(finding.set("Type=notify"))
}

fn notify_access(unit: &Unit, about: About<'_>) -> Option<Finding> {
    let access = unit.get("NotifyAccess");
    let consequence = "what an old generation says is taken for the new one's: its STOPPING=1 would have the new one killed";
    // systemd takes none for main where it has to.
    let finding = about.warning(
        "notify-access",
        format!("NotifyAccess={access}"),
        consequence,
    );
    matches!(access, "all" | "exec").then(|| finding.set("NotifyAccess=main"))
}

fn restart(unit: &Unit, about: About<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let policy = unit.get("Restart");
    let found = format!("Restart={policy}");
    let finding = match policy {
        "always" | "" => None,
        "on-success" => Some(about.warning(
            "restart",
            found,
            "nobody starts it again after a crash, and its sockets are closed after the hold timeout",
        )),
        _ => Some(about.error(
            "restart",
            found,
            "a launcher that leaves for a restart exits with 0 and is not started again: `seamless-run restart` is refused, and a TERM by hand ends the service",
        )),
    };
    findings.extend(finding.map(|finding| finding.set("Restart=always")));
    let prevented = unit.get("RestartPreventExitStatus");
    if prevented
        .split_ascii_whitespace()
        .any(|status| status == "0")
    {
        let finding = about.error(
            "restart-prevent",
            format!("RestartPreventExitStatus={prevented}"),
            "a launcher that leaves for a restart exits with 0 and is not started again",
        );
        findings.push(finding.fix("take 0 out of RestartPreventExitStatus="));
    }
    if unit.is("RemainAfterExit", "yes") {
        let finding = about.error(
            "remain-after-exit",
            "RemainAfterExit=yes",
            "a launcher that leaves for a restart is not started again",
        );
        findings.push(finding.set("RemainAfterExit=no"));
    }
    findings
}

fn start_limit(unit: &Unit, about: About<'_>) -> Option<Finding> {
    let interval = unit.get("StartLimitIntervalUSec");
    let burst = unit.get("StartLimitBurst");
    if matches!(interval, "" | "0") || burst == "0" {
        return None;
    }
    let line = "StartLimitIntervalSec=0";
    let finding = about.warning(
        "start-limit",
        format!("StartLimitBurst={burst} in StartLimitIntervalSec={interval}"),
        "more starts than that, those by hand too, fail the unit: the old generation serves on, and nobody starts the next one",
    );
    Some(finding.set(line).fix(format!("set {line} in [Unit]")))
}

fn reload(unit: &Unit, about: About<'_>) -> Option<Finding> {
    let finding = about.warning(
        "daemon-reload",
        "the unit's file has changed",
        "systemd, and so this check, still goes by the former one",
    );
    unit.is("NeedDaemonReload", "yes")
        .then(|| finding.fix("run systemctl daemon-reload"))
}

fn sent(unit: &Unit, about: About<'_>, service: &Service) -> Vec<Finding> {
    let signal = |name| unit.get(name).parse().ok().and_then(Signal::from_number);
    let (stop, restart) = (signal("KillSignal"), signal("RestartKillSignal"));
    let judge = |name: &str, signal: Option<Signal>, purpose| {
        let signal = signal?;
        let setting = format!("{name}={signal}");
        let instead = format!("{name}=TERM");
        signals::judge(about, service, (&setting, signal), purpose, &instead)
    };
    // Older versions know no signal for restarts alone.
    if restart.is_none() || stop == restart {
        return judge("KillSignal", stop, For::Both).into_iter().collect();
    }
    let stop = judge("KillSignal", stop, For::Stop);
    let restart = judge("RestartKillSignal", restart, For::Restart);
    stop.into_iter().chain(restart).collect()
}

/// Who hears EXTEND_TIMEOUT_USEC= waits as long as we do (R23).
fn hears(unit: &Unit) -> bool {
    !matches!(unit.get("NotifyAccess"), "none" | "")
}

fn stop_patience(unit: &Unit, about: About<'_>, service: &Service) -> Option<Finding> {
    let stop = service.policy.stop_timeout;
    let patience = unit.span("TimeoutStopUSec")?;
    if hears(unit) || patience > Span::of(stop) || patience == Span::Infinite {
        return None;
    }
    let found = format!(
        "TimeoutStopSec={} is not longer than --stop-timeout {}",
        unit.get("TimeoutStopUSec"),
        said(stop)
    );
    let finding = about.warning(
        "timeout-stop",
        found,
        "a stop that takes longer fails: the launcher is killed, and the daemon ends unseen",
    );
    Some(finding.set(match stop {
        Some(stop) => format!("TimeoutStopSec={}", longer(stop)),
        None => "TimeoutStopSec=infinity".to_owned(),
    }))
}

fn start_patience(unit: &Unit, about: About<'_>, service: &Service) -> Option<Finding> {
    let waits = unit.get("Type").starts_with("notify");
    let patience = unit.span("TimeoutStartUSec").unwrap_or(Span::Infinite);
    if !waits || patience == Span::Infinite || service.policy.ready_timeout.is_some() {
        return None;
    }
    let found = format!(
        "TimeoutStartSec={} without --ready-timeout",
        unit.get("TimeoutStartUSec")
    );
    let finding = about.warning(
        "timeout-start",
        found,
        "a new generation that is slow gets TERM then, as for a restart, and nothing says why",
    );
    let line = "TimeoutStartSec=infinity";
    let words = format!("set {line}, and give --ready-timeout");
    Some(finding.set(line).fix(words))
}

fn hold(unit: &Unit, about: About<'_>, service: &Service) -> Option<Finding> {
    let hold = service.policy.hold_timeout;
    let pause = unit.span("RestartUSec")?;
    if service.listen.wanted.is_empty() || pause < Span::of(hold) {
        return None;
    }
    let found = format!(
        "RestartSec={} is not shorter than --hold-timeout {}",
        unit.get("RestartUSec"),
        said(hold)
    );
    let finding = about.warning(
        "restart-sec",
        found,
        "after a crash the sockets are closed before the next generation starts",
    );
    Some(finding.set("RestartSec=0"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{codes, service, unit};
    use super::*;

    fn found(lines: &str, options: &str) -> Vec<String> {
        codes(&findings(&unit(lines), Some(&service(options))))
    }

    #[test]
    fn a_good_unit_gives_nothing() {
        assert_eq!(found("", "--listen 80"), [""; 0]);
        // A stop is always one.
        assert_eq!(found("KillSignal=2", ""), [""; 0]);
        // Older versions do not know all of them.
        let bare = Unit::default();
        assert_eq!(codes(&findings(&bare, Some(&service("")))), [""; 0]);
    }

    #[test]
    fn each_wrong_line_is_named_with_the_right_one() {
        for (lines, options, expected) in [
            (
                "KillMode=control-group",
                "",
                "error kill-mode: KillMode=process",
            ),
            ("KillMode=mixed", "", "error kill-mode: KillMode=process"),
            ("KillMode=none", "", "error kill-mode: KillMode=process"),
            ("ExitType=cgroup", "", "error exit-type: ExitType=main"),
            ("Type=forking", "", "error type: Type=notify"),
            ("Type=oneshot", "", "error type: Type=notify"),
            ("Type=simple", "", "note type: Type=notify"),
            (
                "NotifyAccess=all",
                "",
                "warning notify-access: NotifyAccess=main",
            ),
            ("Restart=no", "", "error restart: Restart=always"),
            ("Restart=on-failure", "", "error restart: Restart=always"),
            ("Restart=on-success", "", "warning restart: Restart=always"),
            ("RestartPreventExitStatus=0 3", "", "error restart-prevent"),
            (
                "RemainAfterExit=yes",
                "",
                "error remain-after-exit: RemainAfterExit=no",
            ),
            (
                "StartLimitIntervalUSec=10s",
                "",
                "warning start-limit: StartLimitIntervalSec=0",
            ),
            ("NeedDaemonReload=yes", "", "warning daemon-reload"),
            (
                "KillSignal=2\nRestartKillSignal=2",
                "",
                "error signal: KillSignal=TERM",
            ),
            (
                "RestartKillSignal=12",
                "",
                "error signal: RestartKillSignal=TERM",
            ),
            (
                "TimeoutStartUSec=1min 30s",
                "",
                "warning timeout-start: TimeoutStartSec=infinity",
            ),
            (
                "RestartUSec=2min",
                "--listen 80",
                "warning restart-sec: RestartSec=0",
            ),
        ] {
            assert_eq!(found(lines, options), [expected], "{lines}");
        }
    }

    #[test]
    fn who_does_not_hear_us_needs_more_patience_than_we_have() {
        let found = |time: &str, options| {
            let lines = format!("NotifyAccess=none\nTimeoutStopUSec={time}");
            found(&lines, options).join("")
        };
        let wrong = "warning timeout-stop: TimeoutStopSec=";
        assert_eq!(found("10s", ""), format!("{wrong}40"));
        assert_eq!(found("30s", ""), format!("{wrong}40"));
        assert_eq!(
            found("1h", "--stop-timeout none"),
            format!("{wrong}infinity")
        );
        assert_eq!(found("31s", ""), "");
        assert_eq!(found("infinity", "--stop-timeout none"), "");
    }

    #[test]
    fn who_hears_us_has_it() {
        assert_eq!(found("TimeoutStopUSec=1s", ""), [""; 0]);
        assert_eq!(found("TimeoutStartUSec=9s", "--ready-timeout 1m"), [""; 0]);
        assert_eq!(found("RestartUSec=2min", ""), [""; 0], "no socket is held");
    }
}
