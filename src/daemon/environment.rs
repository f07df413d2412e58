//! What the daemon finds in its environment (§5).

use std::env;
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use crate::signals::Signal;
use crate::sys;

/// Whatever is there already under these names was not meant for the daemon.
const OURS: [&str; 6] = [
    "SEAMLESS",
    "SEAMLESS_PID_FILE",
    "SEAMLESS_GENERATION",
    "SEAMLESS_PREPARE_SIGNAL",
    "SEAMLESS_DRAIN_SIGNAL",
    "NOTIFY_SOCKET",
];

/// What may be said of sockets: one who has some of us shall not hear of others.
const OF_SOCKETS: [&str; 6] = [
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    LISTEN_PIDFDID,
    "NGINX",
    "SERVER_STARTER_PORT",
    "SERVER_STARTER_GENERATION",
];
const LISTEN_PID: &str = "LISTEN_PID";
/// What newer versions of systemd say of its main process beside the PID; the daemon has another.
const LISTEN_PIDFDID: &str = "LISTEN_PIDFDID";

/// The variables that differ from the launcher's own.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    removed: Vec<&'static str>,
    changed: Vec<(&'static str, OsString)>,
    /// Variables that name the supervisor's main process, which shall name the daemon.
    naming_the_daemon: Vec<&'static str>,
}

impl Environment {
    pub(crate) fn new(
        launcher: i32,
        keeper: i32,
        pid_file: &Path,
        generation: u32,
        notify_socket: &str,
    ) -> Environment {
        let changed = vec![
            ("SEAMLESS", keeper.to_string().into()),
            ("SEAMLESS_PID_FILE", pid_file.into()),
            ("SEAMLESS_GENERATION", generation.to_string().into()),
            ("NOTIFY_SOCKET", notify_socket.into()),
        ];
        // A supervisor that set them for its main process meant the daemon; one that names another
        // process did not mean us.
        let names_launcher =
            |name: &&str| env::var(name).is_ok_and(|value| value == launcher.to_string());
        let naming_the_daemon: Vec<_> = [LISTEN_PID, "WATCHDOG_PID"]
            .into_iter()
            .filter(names_launcher)
            .collect();
        let mut removed = OURS.to_vec();
        if naming_the_daemon.contains(&LISTEN_PID) {
            removed.push(LISTEN_PIDFDID);
        }
        Environment {
            removed,
            changed,
            naming_the_daemon,
        }
    }

    /// Tells the daemon of its sockets.
    pub(crate) fn sockets(&mut self, variables: Vec<(&'static str, OsString)>) {
        self.removed.extend(OF_SOCKETS);
        self.changed.extend(variables);
        if !self.naming_the_daemon.contains(&LISTEN_PID) {
            self.naming_the_daemon.push(LISTEN_PID);
        }
    }

    pub(crate) fn prepare_signal(&mut self, signal: Option<Signal>) {
        let name = signal.map_or_else(|| "none".to_owned(), |signal| signal.to_string());
        self.changed.push(("SEAMLESS_PREPARE_SIGNAL", name.into()));
    }

    /// As execve(2) wants it, in a process that knows its PID.
    pub(super) fn for_daemon(&self, daemon: i32) -> Vec<CString> {
        let mut all = sys::environment();
        all.retain(|entry| {
            let name = entry
                .to_bytes()
                .split(|byte| *byte == b'=')
                .next()
                .unwrap_or_default();
            let is = |known: &&str| known.as_bytes() == name;
            !self.removed.iter().any(&is) && !self.naming_the_daemon.iter().any(is)
        });
        let naming = self.naming_the_daemon.iter();
        let naming = naming.map(|name| (*name, OsString::from(daemon.to_string())));
        let changed = self
            .changed
            .iter()
            .map(|(name, value)| (*name, value.clone()));
        all.extend(changed.chain(naming).filter_map(|(name, value)| {
            let mut entry = OsString::from(name);
            entry.push("=");
            entry.push(value);
            CString::new(entry.into_vec()).ok()
        }));
        all
    }
}
