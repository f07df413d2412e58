//! A machine of a test's own, as far as files and the network go, on which a recipe can be installed where it belongs.

use std::fs;
use std::os::unix::fs::symlink;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;

use super::network::{self, Network};
use super::{Log, Scratch, Spawn, example, poll, program, tool};

/// What the recipes run.
pub(crate) const DAEMON: &str = "/usr/local/bin/daemon";
/// Who the recipes' daemons run as. Where the machine has such a user already, it is that one.
const USER: &str = "app:x:64007:64007::/nonexistent:/usr/sbin/nologin";
const GROUP: &str = "app:x:64007:";

/// The network is empty, and so are `/run`, `/var/log`, `/usr/local` and `/etc/service`; the rest of `/etc` is a copy.
/// What a test changes there is seen by the test and by what it starts, and ends with it.
#[derive(Debug)]
pub(crate) struct Machine<'a> {
    pub(crate) scratch: &'a Scratch,
    /// Whatever is written to `/var/log/app.log`.
    pub(crate) log: Log,
    _network: Network,
}

/// Runs a test on a machine of its own, in a thread that ends with it: a thread can leave its mount namespace, but one
/// that has started others cannot come back to where it was. Needs root.
pub(crate) fn with_machine(test: impl FnOnce(&Machine<'_>) + Send) {
    let scratch = Scratch::new();
    thread::scope(|scope| {
        let thread = scope.spawn(|| test(&Machine::new(&scratch)));
        if let Err(panic) = thread.join() {
            resume_unwind(panic);
        }
    });
}

impl Machine<'_> {
    fn new(scratch: &Scratch) -> Machine<'_> {
        if let Err(error) = unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS) {
            panic!("a mount namespace for the test (are we root?): {error}");
        }
        mount(&["--make-rprivate", "/"]);
        let place = |name: &str, at: &str| {
            let directory = scratch.join(name);
            fs::create_dir_all(&directory).unwrap();
            mount(&["--bind", directory.to_str().unwrap(), at]);
            PathBuf::from(at)
        };

        let log = Log::new(scratch, "log");
        let logs = place("var-log", "/var/log");
        symlink(log.path(), logs.join("app.log")).unwrap();

        copy(Path::new("/etc"), &scratch.join("etc"));
        let etc = place("etc", "/etc");
        add_line(&etc.join("passwd"), USER);
        add_line(&etc.join("group"), GROUP);
        let services = etc.join("service");
        if services.exists() {
            fs::remove_dir_all(&services).unwrap();
        }
        fs::create_dir(&services).unwrap();

        let local = scratch.join("local");
        fs::create_dir_all(local.join("bin")).unwrap();
        fs::create_dir(local.join("sbin")).unwrap();
        copy(&program(), &local.join("bin/seamless-run"));
        for name in ["http_tcp", "http_unix"] {
            copy(&example(name), &local.join("bin").join(name));
        }
        place("local", "/usr/local");

        let machine = Machine {
            scratch,
            log,
            _network: network::isolate(),
        };
        machine.hide("/run");
        machine.daemon("http_tcp");
        machine
    }

    /// Makes `/usr/local/bin/daemon` this example. It leaves every HUP waiting, so that one can be seen to have come.
    pub(crate) fn daemon(&self, example: &str) {
        let script = format!("#!/bin/sh\nexec env --block-signal=HUP /usr/local/bin/{example}\n");
        self.write(DAEMON, &script, 0o755);
    }

    /// What is below `at` is not there.
    pub(crate) fn hide(&self, at: &str) {
        mount(&["-t", "tmpfs", "-o", "mode=755", "tmpfs", at]);
    }

    /// What is written below these is written elsewhere, and all that a test has made there is below the path that is
    /// returned: in a file system of memory, since one that is an overlay itself (a container's) cannot be the upper one.
    pub(crate) fn overlay(&self, places: &[&str]) -> PathBuf {
        let above = self.scratch.join("above");
        fs::create_dir(&above).unwrap();
        mount(&["-t", "tmpfs", "tmpfs", above.to_str().unwrap()]);
        for (number, at) in places.iter().enumerate() {
            let changes = above.join("changes").join(at.trim_start_matches('/'));
            let work = above.join(format!("work-{number}"));
            fs::create_dir_all(&changes).unwrap();
            fs::create_dir(&work).unwrap();
            let options = format!(
                "lowerdir={at},upperdir={},workdir={}",
                changes.display(),
                work.display()
            );
            mount(&["-t", "overlay", "-o", &options, "overlay", at]);
        }
        above.join("changes")
    }

    pub(crate) fn write(&self, at: &str, text: &str, mode: u32) {
        super::service::write(Path::new(at), text.as_bytes(), mode);
    }

    /// Puts a file of `contrib/` where it belongs, byte for byte and with its mode.
    pub(crate) fn install(&self, recipe: &str, at: impl AsRef<Path>) {
        let at = at.as_ref();
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        copy(&shipped(recipe), at);
    }

    /// The program, for its verbs.
    pub(crate) fn seamless_run(&self) -> Spawn {
        Spawn::new(self.scratch, "/usr/local/bin/seamless-run")
    }

    /// What is typed at this machine.
    pub(crate) fn command(&self, words: &[&str], debian_package: &str) -> Spawn {
        Spawn::new(self.scratch, tool(words[0], debian_package)).args(&words[1..])
    }
}

/// A file of `contrib/`.
pub(crate) fn shipped(recipe: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("contrib")
        .join(recipe)
}

/// Waits until a signal waits for a process that blocks it; `status` is its `/proc/PID/status`.
pub(crate) fn wait_pending(status: &Path, signal: Signal) {
    let bit = 1_u64 << (signal as u32 - 1);
    let pending = || {
        let text = fs::read_to_string(status);
        let text = text.unwrap_or_else(|error| panic!("{}: {error}", status.display()));
        let mut lines = text.lines();
        let mask = lines.find_map(|line| line.strip_prefix("ShdPnd:")).unwrap();
        (u64::from_str_radix(mask.trim(), 16).unwrap() & bit != 0).then_some(())
    };
    assert!(
        poll(pending).is_some(),
        "{signal} did not come: {}",
        status.display()
    );
}

/// Not `fs::copy`: a program that some thread's fork still has open for writing cannot be executed.
fn copy(from: &Path, to: &Path) {
    let cp = Spawn::from(Command::new(tool("cp", "coreutils")));
    cp.arg("-a").arg(from).arg(to).finish().expect_success();
}

fn mount(words: &[&str]) {
    let mount = Spawn::from(Command::new(tool("mount", "mount")));
    mount.args(words).finish().expect_success();
}

/// Unless its first word, up to a colon, is there.
fn add_line(file: &Path, line: &str) {
    let mut text = fs::read_to_string(file).unwrap();
    let name = line.split_inclusive(':').next().unwrap();
    if !text.lines().any(|line| line.starts_with(name)) {
        text.push_str(line);
        text.push('\n');
        fs::write(file, text).unwrap();
    }
}
