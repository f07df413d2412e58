//! Every verb of the four supervisors that means a restart or a stop (field notes: TERM comes in all of them).

use super::support::Kind;

/// How a verb is brought to the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// By its own tool: `sv`, `svc`, `s6-svc`, `systemctl`, with these words.
    Words(&'static [&'static str]),
    /// Two of them.
    Both(&'static [&'static str], &'static [&'static str]),
    /// `s6-svscanctl`.
    Svscanctl(&'static str),
    /// HUP to runsvdir, TERM to the others.
    SignalTo(&'static str),
    /// `systemctl halt` in its namespaces.
    Halt,
    /// The new version does not get ready before systemd loses its patience.
    StartTimeout,
    /// The unit's time is over.
    RunTime,
    /// While the unit waits for its next start.
    StopInAutoRestart,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verb {
    /// As it is shown.
    pub(crate) name: &'static str,
    pub(crate) way: Way,
    pub(crate) is_stop: bool,
    /// The supervisor leaves, too.
    pub(crate) ends_supervisor: bool,
}

const fn restart(name: &'static str, way: Way) -> Verb {
    Verb {
        name,
        way,
        is_stop: false,
        ends_supervisor: false,
    }
}

const fn stop(name: &'static str, way: Way) -> Verb {
    Verb {
        name,
        way,
        is_stop: true,
        ends_supervisor: false,
    }
}

const fn end(name: &'static str, way: Way) -> Verb {
    Verb {
        name,
        way,
        is_stop: true,
        ends_supervisor: true,
    }
}

const RUNIT: &[Verb] = &[
    restart("sv term", Way::Words(&["term"])),
    restart("sv restart", Way::Words(&["restart"])),
    restart("sv force-restart", Way::Words(&["force-restart"])),
    restart("sv try-restart", Way::Words(&["try-restart"])),
    stop("sv down", Way::Words(&["down"])),
    end("sv exit", Way::Words(&["exit"])),
    end("TERM to runsv", Way::SignalTo("runsv")),
    end("HUP to runsvdir", Way::SignalTo("runsvdir")),
];

const DAEMONTOOLS: &[Verb] = &[
    restart("svc -t", Way::Words(&["-t"])),
    restart("svc -du", Way::Words(&["-du"])),
    stop("svc -d", Way::Words(&["-d"])),
    end("svc -dx", Way::Words(&["-dx"])),
    stop("svc -o, svc -t", Way::Both(&["-o"], &["-t"])),
];

const S6: &[Verb] = &[
    restart("s6-svc -r", Way::Words(&["-r"])),
    restart("s6-svc -t", Way::Words(&["-t"])),
    restart("s6-svc -du", Way::Words(&["-du"])),
    stop("s6-svc -d", Way::Words(&["-d"])),
    stop("s6-svc -D", Way::Words(&["-D"])),
    end("s6-svscanctl -t", Way::Svscanctl("-t")),
    end("s6-svscanctl -q", Way::Svscanctl("-q")),
    end("TERM to s6-supervise", Way::SignalTo("s6-supervise")),
];

const SYSTEMD: &[Verb] = &[
    restart("systemctl restart", Way::Words(&["restart", "--no-block"])),
    restart(
        "systemctl try-restart",
        Way::Words(&["try-restart", "--no-block"]),
    ),
    restart("systemctl kill", Way::Words(&["kill", "--kill-who=main"])),
    restart("start timeout", Way::StartTimeout),
    restart("RuntimeMaxSec", Way::RunTime),
    stop("systemctl stop", Way::Words(&["stop", "--no-block"])),
    stop("stop in auto-restart", Way::StopInAutoRestart),
    end("halt", Way::Halt),
];

pub(crate) fn of(kind: Kind) -> &'static [Verb] {
    match kind {
        Kind::Runit => RUNIT,
        Kind::Daemontools => DAEMONTOOLS,
        Kind::S6 => S6,
        Kind::Systemd => SYSTEMD,
        Kind::Supervisord => &[],
    }
}

/// The plainest ones, for the way to a moment. They do not wait for the outcome.
pub(crate) fn restart_words(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Runit => &["term"],
        Kind::Daemontools => &["-t"],
        Kind::S6 => &["-r"],
        Kind::Systemd => &["restart", "--no-block"],
        Kind::Supervisord => &[],
    }
}

pub(crate) fn stop_words(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Runit => &["down"],
        Kind::Daemontools | Kind::S6 => &["-d"],
        Kind::Systemd => &["stop", "--no-block"],
        Kind::Supervisord => &[],
    }
}

pub(crate) fn up_words(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Runit => &["up"],
        Kind::Daemontools => &["-u"],
        // After -D, too.
        Kind::S6 => &["-U"],
        Kind::Systemd => &["start", "--no-block"],
        Kind::Supervisord => &[],
    }
}
