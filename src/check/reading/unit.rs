//! A unit, as `systemctl show` tells of it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::exec_start;

/// What is asked for. Older versions leave out what they do not know.
const PROPERTIES: &str = "LoadState,ActiveState,MainPID,ExecStart,ExecStartPre,ExecStop,Type,NotifyAccess,\
    KillMode,KillSignal,RestartKillSignal,TimeoutStopUSec,TimeoutStartUSec,Restart,RestartUSec,\
    RestartPreventExitStatus,RuntimeDirectory,RuntimeDirectoryPreserve,StateDirectory,CacheDirectory,\
    LogsDirectory,StartLimitBurst,StartLimitIntervalUSec,User,DynamicUser,WatchdogUSec,OOMPolicy,\
    ExitType,PrivateNetwork,PrivateTmp,WorkingDirectory,RootDirectory,RootImage,PIDFile,\
    RemainAfterExit,ProtectSystem,ReadWritePaths,ProcSubset,RestrictAddressFamilies,\
    NeedDaemonReload,TriggeredBy,Environment,EnvironmentFiles,AmbientCapabilities";

/// A service of systemd.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unit {
    pub(crate) name: String,
    pub(crate) of_user: bool,
    pub(crate) properties: HashMap<String, String>,
    /// What its processes are given.
    pub(crate) environment: HashMap<String, String>,
    /// An ordinary user can ask this manager.
    pub(crate) has_bus: bool,
}

/// A time of systemd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Span {
    Of(Duration),
    Infinite,
}

impl Unit {
    /// Asks the manager. The error is why it cannot be told.
    pub(crate) fn read(name: &str, of_user: bool) -> Result<Unit, String> {
        let mut command = Command::new("systemctl");
        command.args(of_user.then_some("--user"));
        command.args(["show", "--property", PROPERTIES, "--", name]);
        command.env("LC_ALL", "C").stdin(Stdio::null());
        let asked = command
            .output()
            .map_err(|error| format!("cannot run systemctl: {}", crate::report::cause(&error)))?;
        if !asked.status.success() {
            let words = String::from_utf8_lossy(&asked.stderr);
            let line = words.lines().next().unwrap_or("it says nothing");
            return Err(format!("systemctl cannot be asked about {name}: {line}"));
        }
        let text = String::from_utf8_lossy(&asked.stdout);
        let unit = Unit {
            name: name.to_owned(),
            of_user,
            properties: read(&text),
            environment: exec_start::environment(&text),
            has_bus: of_user || Path::new("/run/dbus/system_bus_socket").exists(),
        };
        match unit.get("LoadState") {
            "loaded" => Ok(unit),
            "not-found" => Err(format!("systemd knows no unit {name}")),
            state => Err(format!("systemd has not loaded {name}: {state}")),
        }
    }

    /// The value of a property; empty where there is none.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.properties.get(name).map_or("", String::as_str)
    }

    pub(crate) fn is(&self, name: &str, value: &str) -> bool {
        self.get(name) == value
    }

    pub(crate) fn words(&self, name: &str) -> impl Iterator<Item = &str> {
        self.get(name).split_ascii_whitespace()
    }

    pub(crate) fn span(&self, name: &str) -> Option<Span> {
        Span::parse(self.get(name))
    }

    /// Its main process, in the numbers of this PID namespace.
    pub(crate) fn main_pid(&self) -> Option<i32> {
        self.get("MainPID").parse().ok().filter(|pid| *pid > 0)
    }

    pub(crate) fn directory(&self) -> PathBuf {
        match self.get("WorkingDirectory").trim_start_matches(['-', '!']) {
            "" | "~" => PathBuf::from("/"),
            path => PathBuf::from(path),
        }
    }

    /// The directories that systemd makes for it, with what is set to keep them.
    pub(crate) fn own_directories(&self) -> Vec<(&'static str, PathBuf)> {
        let base = |property| match (self.of_user, property) {
            (false, "RuntimeDirectory") => Some(PathBuf::from("/run")),
            (false, "StateDirectory") => Some(PathBuf::from("/var/lib")),
            (false, "CacheDirectory") => Some(PathBuf::from("/var/cache")),
            (false, "LogsDirectory") => Some(PathBuf::from("/var/log")),
            (true, "RuntimeDirectory") => std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from),
            _ => None,
        };
        let all = [
            "RuntimeDirectory",
            "StateDirectory",
            "CacheDirectory",
            "LogsDirectory",
        ];
        let of = |property| {
            let base = base(property);
            let names = self.words(property);
            names.filter_map(move |name| {
                // `dir:link` since 251.
                let name = name.split(':').next()?;
                Some((property, base.as_ref()?.join(name)))
            })
        };
        all.into_iter().flat_map(of).collect()
    }
}

/// `NAME=VALUE` in lines.
pub(crate) fn read(text: &str) -> HashMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

impl Span {
    /// `1min 30s`, `infinity`, `100ms`; systemd.time(7). Nothing where there is no time.
    pub(crate) fn parse(text: &str) -> Option<Span> {
        if text == "infinity" {
            return Some(Span::Infinite);
        }
        let mut total = Duration::ZERO;
        for part in text.split_ascii_whitespace() {
            let end = part.find(|char: char| char.is_ascii_alphabetic());
            let (number, unit) = part.split_at(end.unwrap_or(part.len()));
            let seconds = match unit {
                "us" => 1e-6,
                "ms" => 1e-3,
                "" | "s" => 1.0,
                "min" => 60.0,
                "h" => 3600.0,
                "d" => 86400.0,
                "w" => 604_800.0,
                "month" => 2_629_800.0,
                "y" => 31_557_600.0,
                _ => return None,
            };
            let number: f64 = number.parse().ok()?;
            total += Duration::try_from_secs_f64(number * seconds).ok()?;
        }
        (!text.is_empty()).then_some(Span::Of(total))
    }

    /// Ours, where nothing is never.
    pub(crate) fn of(time: Option<Duration>) -> Span {
        time.map_or(Span::Infinite, Span::Of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(lines: &str) -> Unit {
        Unit {
            name: "app.service".to_owned(),
            properties: read(lines),
            ..Unit::default()
        }
    }

    #[test]
    fn times_are_read_as_systemd_writes_them() {
        let seconds = |text| match Span::parse(text) {
            Some(Span::Of(time)) => time.as_secs_f64(),
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(seconds("1min 30s"), 90.0);
        assert_eq!(seconds("100ms"), 0.1);
        assert_eq!(seconds("1h 2ms"), 3600.002);
        assert_eq!(seconds("0"), 0.0);
        assert_eq!(Span::parse("infinity"), Some(Span::Infinite));
        assert_eq!(Span::parse(""), None);
        assert_eq!(Span::parse("[not set]"), None);
        assert!(Span::Of(Duration::MAX) < Span::Infinite);
    }

    #[test]
    fn directories_of_its_own_are_where_systemd_makes_them() {
        let found = unit("RuntimeDirectory=app b/c\nStateDirectory=app:link\n").own_directories();
        let paths: Vec<_> = found
            .iter()
            .map(|(_, path)| path.to_str().unwrap())
            .collect();
        assert_eq!(paths, ["/run/app", "/run/b/c", "/var/lib/app"]);
    }
}
