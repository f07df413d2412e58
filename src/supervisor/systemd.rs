//! systemd: the unit's job says whether it is a stop; where nobody is left whom it could signal, the
//! unit's state does.
//!
//! `systemctl` asks: root at PID 1's own socket, an ordinary user by D-Bus, where there is one.

use std::fs;
use std::io;
use std::time::Instant;

use super::inquiry::Inquiry;
use crate::generation::Wish;

/// A service of the machine's manager, or of a user's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) name: String,
    pub(crate) of_user: bool,
}

impl Unit {
    /// The unit whose main process this is. `parent`: the name of the process that started it.
    pub(super) fn of_this_process(parent: &str) -> Option<Unit> {
        let variable = |name| std::env::var(name).ok();
        let is_main = variable("SYSTEMD_EXEC_PID") == Some(std::process::id().to_string());
        // Before systemd 248 there was no such variable.
        let is_child = parent == "systemd" && variable("INVOCATION_ID").is_some();
        if !is_main && !is_child {
            return None;
        }
        Unit::in_cgroup(&fs::read_to_string("/proc/self/cgroup").ok()?)
    }

    /// The innermost service in the lines of `/proc/PID/cgroup`; cgroups(7).
    pub(crate) fn in_cgroup(text: &str) -> Option<Unit> {
        let is_systemds = |line: &&str| line.starts_with("0::") || line.contains(":name=systemd:");
        let found = text.lines().filter(is_systemds).find_map(|line| {
            let path = line.splitn(3, ':').nth(2)?;
            let mut parts = path.split('/');
            let name = parts.rfind(|part| part.ends_with(".service"))?;
            // What stands before it is the user's manager.
            let of_user = parts.any(|part| part.starts_with("user@"));
            Some(Unit {
                name: name.to_owned(),
                of_user,
            })
        });
        // A user's manager is no service of its own.
        found.filter(|unit| !unit.name.starts_with("user@"))
    }

    /// Which job the unit has: the answer to a signal (§7).
    pub(super) fn ask_job(&self, now: Instant) -> io::Result<Inquiry> {
        // As a pattern the name is itself: systemctl knows no escapes in one.
        self.systemctl(
            &["list-jobs", "--no-legend", "--plain", "--", &self.name],
            now,
        )
    }

    pub(crate) fn read_job(&self, answer: &str) -> Wish {
        let of_us = |line: &&str| line.split_ascii_whitespace().nth(1) == Some(&self.name);
        let kind = |line: &str| line.split_ascii_whitespace().nth(2).map(str::to_owned);
        match answer.lines().find(of_us).and_then(kind).as_deref() {
            Some("stop") => Wish::Down,
            // A start timeout comes with the job of the start, RuntimeMaxSec= without any.
            Some(_) | None => Wish::Up,
        }
    }

    /// In what state the unit is: for whoever gets no signals any more.
    pub(super) fn ask_state(&self, now: Instant) -> io::Result<Inquiry> {
        let words = [
            "show",
            "--property=ActiveState,Job,Result,ExecMainPID,ExecStartPre,Restart,RestartPreventExitStatus,StartLimitIntervalUSec",
        ];
        self.systemctl(&[&words[..], &["--", &self.name]].concat(), now)
    }

    pub(crate) fn read_state(answer: &str) -> Wish {
        let property = |name| answer.lines().find_map(|line| line.strip_prefix(name));
        let has_job = property("Job=").is_some_and(|job| !matches!(job, "" | "0"));
        // A stop has ended ExecStartPre= by TERM, and no main process has run since. One that has died of a
        // signal would leave its PID there: that was a bad version, like every other failure (R16).
        let mut of_start_pre = answer
            .lines()
            .filter(|line| line.starts_with("ExecStartPre="));
        let by_stop = property("Result=") == Some("signal")
            && property("ExecMainPID=") == Some("0")
            && of_start_pre.any(|one| one.contains("code=killed ; status=15"));
        // Whatever fails is started again there.
        let never_fails = property("Restart=") == Some("always")
            && property("RestartPreventExitStatus=")
                .unwrap_or_default()
                .is_empty()
            && property("StartLimitIntervalUSec=") == Some("0");
        match property("ActiveState=") {
            // Between the two halves of a restart it is inactive as well.
            Some("inactive") if !has_job => Wish::Down,
            Some("failed") if !has_job && (by_stop || never_fails) => Wish::Down,
            Some(_) => Wish::Up,
            None => Wish::Unknown,
        }
    }

    /// Whether a launcher that leaves by itself, with status 0, is followed by another one.
    pub(super) fn ask_restart(&self, now: Instant) -> io::Result<Inquiry> {
        self.systemctl(&["show", "--property=Restart", "--", &self.name], now)
    }

    pub(crate) fn read_restart(answer: &str) -> Result<(), String> {
        match answer.trim().strip_prefix("Restart=") {
            Some("always" | "on-success") | None => Ok(()),
            Some(other) => Err(format!(
                "systemd would start no successor with Restart={other}; use systemctl restart, or set Restart=always"
            )),
        }
    }

    fn systemctl(&self, words: &[&str], now: Instant) -> io::Result<Inquiry> {
        let mut command = vec!["systemctl"];
        command.extend(self.of_user.then_some("--user"));
        command.extend(words);
        Inquiry::command(&command, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_the_innermost_service_of_the_cgroup() {
        let named = |text: &str| Unit::in_cgroup(text).map(|unit| (unit.name, unit.of_user));
        let app = |of_user| Some(("app.service".to_owned(), of_user));
        assert_eq!(named("0::/system.slice/app.service\n"), app(false));
        assert_eq!(named("0::/system.slice/app.service/worker\n"), app(false));
        let user = "0::/user.slice/user-7.slice/user@7.service/app.slice/app.service\n";
        assert_eq!(named(user), app(true));
        let hybrid = "4:memory:/x.service\n1:name=systemd:/system.slice/app.service\n0::/\n";
        assert_eq!(named(hybrid), app(false));
        for text in [
            "",
            "0::/user.slice/user-7.slice/session-1.scope\n",
            "0::/user.slice/user-7.slice/user@7.service/init.scope\n",
        ] {
            assert_eq!(named(text), None, "{text}");
        }
    }

    #[test]
    fn only_the_job_of_a_stop_is_a_stop() {
        let unit = Unit {
            name: "app.service".to_owned(),
            of_user: false,
        };
        let other = "7 other.service stop running\n";
        for (answer, wish) in [
            ("", Wish::Up),
            (other, Wish::Up),
            ("8 app.service restart running\n", Wish::Up),
            ("8 app.service start running\n", Wish::Up),
            (
                "7 other.service start waiting\n8 app.service stop running\n",
                Wish::Down,
            ),
        ] {
            assert_eq!(unit.read_job(answer), wish, "{answer}");
        }
    }

    #[test]
    fn who_restarts_failures_only_does_not_restart_a_success() {
        assert_eq!(Unit::read_restart("Restart=always\n"), Ok(()));
        assert_eq!(Unit::read_restart(""), Ok(()), "in doubt it does");
        let refused = Unit::read_restart("Restart=on-failure\n").unwrap_err();
        assert!(refused.contains("Restart=on-failure"), "{refused}");
    }

    #[test]
    fn inactive_without_a_job_is_a_stop() {
        for (answer, wish) in [
            ("ActiveState=inactive\n", Wish::Down),
            ("Job=0\nActiveState=inactive\n", Wish::Down),
            ("Job=17\nActiveState=inactive\n", Wish::Up),
            ("ActiveState=activating\n", Wish::Up),
            ("ActiveState=failed\n", Wish::Up),
            (
                "Result=start-limit-hit\nExecMainPID=7\nActiveState=failed\n",
                Wish::Up,
            ),
            (
                "Result=signal\nExecMainPID=7\nActiveState=failed\n",
                Wish::Up,
            ),
            (
                "Result=signal\nExecMainPID=0\nExecStartPre={ path=/bin/true ; code=exited ; status=0 }\nExecStartPre={ path=/bin/sh ; code=killed ; status=15/TERM }\nActiveState=failed\n",
                Wish::Down,
            ),
            (
                "Result=signal\nExecMainPID=0\nExecStartPre={ path=/bin/sh ; code=killed ; status=11/SEGV }\nActiveState=failed\n",
                Wish::Up,
            ),
            (
                "Restart=always\nRestartPreventExitStatus=\nResult=exit-code\nActiveState=failed\nStartLimitIntervalUSec=0\n",
                Wish::Down,
            ),
            (
                "Restart=always\nRestartPreventExitStatus=\nResult=exit-code\nActiveState=failed\nStartLimitIntervalUSec=10s\n",
                Wish::Up,
            ),
            ("", Wish::Unknown),
        ] {
            assert_eq!(Unit::read_state(answer), wish, "{answer}");
        }
    }
}
