//! What the daemon finds in its environment (§5).

use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::process;
use crate::signals::Signal;
use crate::sys;

/// Whatever is there already under these names was not meant for the daemon.
const OURS: [&str; 7] = [
    "SEAMLESS",
    "SEAMLESS_PID",
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

/// Ends what is left of commands whose keeper was lost: KILL reached its child, and nobody else. PID, generation
/// and PID file are those of one generation, ever.
pub(crate) fn end_commands_of(daemon: i32, generation: u32, pid_file: &Path) {
    let [pid, _, number] = of_command(daemon, generation, pid_file).map(|(name, value)| {
        let value = value.into_vec();
        [name.as_bytes(), b"=", &value].concat()
    });
    process::kill_with_environment(|entries| {
        let mut files = entries
            .iter()
            .filter_map(|entry| entry.strip_prefix(b"SEAMLESS_PID_FILE="));
        let has = |entry: &[u8]| entries.contains(&entry);
        let is_ours = |file: &[u8]| is_same(Path::new(OsStr::from_bytes(file)), pid_file);
        has(&pid) && has(&number) && files.any(is_ours)
    });
}

/// Whether both name the same file, which may not be there, and be spelled otherwise.
fn is_same(one: &Path, other: &Path) -> bool {
    let directory = |path: &Path| {
        let found = fs::metadata(path.parent()?).ok()?;
        Some((found.dev(), found.ino()))
    };
    let same_directory = directory(one).is_some() && directory(one) == directory(other);
    one.file_name() == other.file_name() && (one == other || same_directory)
}

fn of_command(daemon: i32, generation: u32, pid_file: &Path) -> [(&'static str, OsString); 3] {
    [
        ("SEAMLESS_PID", daemon.to_string().into()),
        ("SEAMLESS_PID_FILE", pid_file.into()),
        ("SEAMLESS_GENERATION", generation.to_string().into()),
    ]
}

/// What a command beside the daemon finds: a probe, or one before or after the start. Messages, sockets and
/// the watchdog are the daemon's own.
pub(crate) fn for_command(daemon: i32, generation: u32, pid_file: &Path) -> Vec<CString> {
    let mut environment = Environment {
        removed: OURS.to_vec(),
        ..Environment::default()
    };
    environment.removed.extend(OF_SOCKETS);
    environment
        .removed
        .extend([LISTEN_PID, "WATCHDOG_PID", "WATCHDOG_USEC"]);
    environment.changed = of_command(daemon, generation, pid_file).into();
    environment.for_daemon(daemon)
}

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

    pub(crate) fn drain_signal(&mut self, signal: Signal) {
        let name = signal.to_string();
        self.changed.push(("SEAMLESS_DRAIN_SIGNAL", name.into()));
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
