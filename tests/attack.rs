//! Another user of the machine, against a service of root's and against one of an ordinary user's (R18, R21, R22).
//! docs/security.md has the table.

mod control;
mod files;
mod forged;
mod own_user;
mod race;

use std::fs::{self, Metadata, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::scene::python;
use crate::stage::{self, BY_CHLD, DAEMON, STARTED, Stage};
use crate::support::process::Pid;
use crate::support::{self, Finished, Spawn, Spawned, tool};

/// The attacker, and an ordinary user with a service of his own.
const STRANGER: u32 = 65534;
const SOMEBODY: u32 = 65533;
const SECRET: &str = "nobody-may-read-this";

/// Whose directory the service's files are in, and who may write there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Roots,
    Sticky,
    Everybodys,
    Groups,
    Theirs,
}

impl Place {
    const ALL: [Place; 5] = [
        Place::Roots,
        Place::Sticky,
        Place::Everybodys,
        Place::Groups,
        Place::Theirs,
    ];

    fn make(self, directory: &Path) {
        let (owner, group, mode) = match self {
            Place::Roots => (0, 0, 0o755),
            Place::Sticky => (0, 0, 0o1777),
            Place::Everybodys => (0, 0, 0o777),
            Place::Groups => (0, STRANGER, 0o775),
            Place::Theirs => (STRANGER, STRANGER, 0o755),
        };
        chown(directory, Some(owner), Some(group)).unwrap();
        fs::set_permissions(directory, Permissions::from_mode(mode)).unwrap();
    }
}

/// A service, its attacker, and what must not be touched.
struct Attack {
    stage: Stage,
    /// Programs that every user can run.
    program: PathBuf,
    script: PathBuf,
    secrets: Vec<(PathBuf, String)>,
    _socket: UnixListener,
}

impl Attack {
    fn new(place: Place) -> Attack {
        let stage = Stage::new();
        place.make(stage.pid_file.parent().unwrap());
        let program = stage.program_for_all();
        let script = stage.scratch.join("attacker.py");
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        fs::copy(here.join("tests/attack/attacker.py"), &script).unwrap();
        fs::set_permissions(&script, Permissions::from_mode(0o644)).unwrap();

        let vault = stage.scratch.join("vault");
        fs::create_dir(&vault).unwrap();
        for (name, mode) in [("secret", 0o600), ("passwd", 0o644)] {
            fs::write(vault.join(name), format!("{SECRET}\n")).unwrap();
            fs::set_permissions(vault.join(name), Permissions::from_mode(mode)).unwrap();
        }
        let fifo = vault.join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        let socket = UnixListener::bind(vault.join("socket")).unwrap();
        let names = ["secret", "passwd", "fifo", "socket"].map(|name| vault.join(name));
        let secrets = names.map(|path| (path.clone(), state(&path))).into();
        Attack {
            stage,
            program,
            script,
            secrets,
            _socket: socket,
        }
    }

    fn vault(&self, name: &str) -> PathBuf {
        self.stage.scratch.join("vault").join(name)
    }

    /// A program with that user's rights, and no more.
    fn by(&self, user: u32, program: impl AsRef<Path>) -> Spawn {
        let user = user.to_string();
        self.stage
            .spawn(tool("setpriv", "util-linux"))
            .args(["--reuid", &user, "--regid", &user, "--clear-groups", "--"])
            .arg(program.as_ref())
            .env("SEAMLESS_RUN", &self.program)
    }

    /// The attacker does this; what he says is in [`Finished`], or in the log.
    fn stranger(&self, words: &[&str]) -> Spawn {
        let python = self.by(STRANGER, python()).args(["-I", "-S"]);
        python.arg(&self.script).args(words)
    }

    /// The same, to its end; his words.
    fn attack(&self, words: &[&str]) -> String {
        let attacker = Spawn::new(&self.stage.scratch, tool("setpriv", "util-linux"));
        let user = STRANGER.to_string();
        let done = attacker
            .args(["--reuid", &user, "--regid", &user, "--clear-groups", "--"])
            .arg(python())
            .args(["-I", "-S"])
            .arg(&self.script)
            .args(words)
            .env("NOTHING", self.stage.scratch.join("nothing"))
            .finish();
        assert_eq!(done.code(), Some(0), "{}", done.stderr);
        done.stdout.trim_end().to_owned()
    }

    fn verb(&self, words: &[&str]) -> Finished {
        Spawn::new(&self.stage.scratch, support::program())
            .args(words)
            .arg(&self.stage.pid_file)
            .finish()
    }

    /// A daemon that says where its keeper hears it; launcher, daemon and address.
    fn daemon(&self, options: &[&str], ready: &str) -> (Spawned, Pid, String) {
        let code = format!("echo \"socket $NOTIFY_SOCKET\"\n{DAEMON}");
        let launcher = self.stage.seamless_run(options);
        let launcher = launcher
            .arg("--")
            .args(self.stage.sh(&code))
            .env("READY", ready)
            .env("PREPARE", BY_CHLD)
            .start();
        let line = self.stage.log.wait(|line| line.starts_with("socket "));
        let daemon = self.stage.up();
        if ready == STARTED {
            self.stage.log.wait_for(&format!("{daemon} is started"));
        }
        (launcher, daemon, line["socket ".len()..].to_owned())
    }

    /// Nothing outside of the service's directory has been written, or shown.
    #[track_caller]
    fn assert_untouched(&self) {
        for (path, before) in &self.secrets {
            assert_eq!(&state(path), before, "{}", self.stage.log.listing());
        }
        assert_eq!(
            self.stage.log.count(SECRET),
            0,
            "{}",
            self.stage.log.listing()
        );
    }
}

/// Whatever a write, a truncation or a chmod would change.
fn state(path: &Path) -> String {
    let of = |found: &Metadata| {
        let times = (found.mtime_nsec(), found.ctime(), found.ctime_nsec());
        let whose = (found.mode(), found.uid(), found.gid(), found.nlink());
        format!("{whose:?} {} {times:?}", found.size())
    };
    of(&fs::symlink_metadata(path).unwrap())
}

/// A record that could be genuine, but for its owner; the innocent is everybody in it.
fn record_of(innocent: &Spawned, state: &str) -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let who = innocent.identity();
    format!(
        "seamless-record 1.0\nboot {}\nlast 4\ngeneration 4 state={state} daemon={who} keeper={who} launcher={who} control=0\n",
        boot.trim()
    )
}

fn row(what: &str, outcome: &str) {
    stage::tell(&format!("attack | {what:<64} | {outcome}"));
}
