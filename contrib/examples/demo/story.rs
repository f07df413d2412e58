//! What happens by itself, and what is said of it.

use std::time::Duration;

use super::service::Version;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Restart,
    Crash,
    Hang,
    /// The supervisor's next attempt will do.
    Mend,
    KillDaemon,
    KillKeeper,
    KillLauncher,
    Stop,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Caption {
    pub(crate) title: &'static str,
    pub(crate) text: &'static str,
}

pub(crate) const BEGINNING: Caption = Caption {
    title: "An HTTP server under load",
    text: "8 clients open a connection for each request, 4 more wait 2 s for each answer. A small \
           loop is its supervisor; seamless-run stands between the two.",
};

/// After a stop, for whoever has asked for it.
pub(crate) const STOPPED: Caption = Caption {
    title: "Stopped",
    text: "Every process has gone, the socket is closed, and nothing is left behind. \
           r starts it all once more, q quits.",
};

impl Action {
    /// `due` is what the supervisor would have started next, before this.
    pub(crate) fn caption(self, due: Version) -> Caption {
        let (title, text) = match self {
            Self::Restart if due != Version::Good => return Self::Mend.caption(due),
            Self::Restart => (
                "Restart",
                "The supervisor sends TERM and starts the next one, as ever. The old one serves until the \
                 new one is ready; then it finishes what it has in hand.",
            ),
            Self::Crash if due == Version::Crashes => (
                "Still the version that crashes",
                "It is what the supervisor tries already, again and again, as the log says. \
                 r mends it: the next one is a good version.",
            ),
            Self::Crash => (
                "A new version that crashes",
                "It exits before it is ready, whenever the supervisor tries it. The old one serves on: a \
                 bad version costs not one request.",
            ),
            Self::Hang if due == Version::Hangs => (
                "Still the version that hangs",
                "It is what the supervisor tries already; --ready-timeout ends it after 2 s, again and \
                 again. r mends it: the next one is a good version.",
            ),
            Self::Hang => (
                "A new version that hangs",
                "It runs, and never says that it is ready. --ready-timeout ends it after 2 s, again and \
                 again; the old one serves on.",
            ),
            Self::Mend => (
                "It is mended",
                "The supervisor's next attempt gets ready, and only now the old one is told to drain.",
            ),
            Self::KillDaemon if due != Version::Good => (
                "kill -9, the daemon",
                "Its keeper holds the socket, and whoever connects waits in the queue. But the version to be \
                 started is still the broken one: r mends it.",
            ),
            Self::KillDaemon => (
                "kill -9, the daemon",
                "What it has in hand dies with it: nobody can save that. But its keeper holds the socket, \
                 and whoever connects waits in the queue for the next one.",
            ),
            Self::KillKeeper => (
                "kill -9, the keeper",
                "The launcher forks another one, which takes over the daemon that runs, and its socket. \
                 The daemon does not notice.",
            ),
            Self::KillLauncher => (
                "kill -9, the launcher",
                "The supervisor sees that it has gone, and starts the next one. The daemon serves until \
                 that one is ready: a restart like any other.",
            ),
            Self::Stop => (
                "Stop",
                "The clients have left. INT means a stop: every generation finishes what it has in hand, \
                 the socket is closed, and nothing stays behind.",
            ),
        };
        Caption { title, text }
    }
}

/// One after the other, each as long as it takes to be seen.
pub(crate) const SCRIPT: [(Option<Action>, Duration); 10] = [
    (None, Duration::from_millis(4000)),
    (Some(Action::Restart), Duration::from_millis(5000)),
    (Some(Action::Crash), Duration::from_millis(4500)),
    (Some(Action::Mend), Duration::from_millis(3500)),
    (Some(Action::Hang), Duration::from_millis(5000)),
    (Some(Action::Mend), Duration::from_millis(4000)),
    (Some(Action::KillDaemon), Duration::from_millis(4500)),
    (Some(Action::KillKeeper), Duration::from_millis(4000)),
    (Some(Action::KillLauncher), Duration::from_millis(4500)),
    (Some(Action::Stop), Duration::ZERO),
];

pub(crate) fn length() -> Duration {
    SCRIPT.iter().map(|(_, length)| *length).sum()
}
