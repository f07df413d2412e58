//! The Debian package: installed, its unit started, restarted under load, upgraded meanwhile, removed, purged.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::systemd::{beside, type_in, words};
use super::{PATIENCE, Words, names_in, port};
use crate::load::{Load, Target};
use crate::support::machine::{Machine, shipped, with_machine};
use crate::support::{Spawn, Systemd, program, tool};

/// Where a package's files go, but for `/etc`, which is a test's own on every such machine; and where dpkg has its books.
const PLACES: [&str; 5] = [
    "/usr/bin",
    "/usr/sbin",
    "/usr/lib",
    "/usr/share",
    "/var/lib/dpkg",
];
const UNIT: &str = "seamless-run@web.service";

#[test]
fn from_install_to_purge() {
    with_machine(|machine| {
        let changes = machine.overlay(&PLACES);
        // One that forbids services to be stopped, as image builders have it, would forbid it here.
        let policy = Path::new("/usr/sbin/policy-rc.d");
        if policy.exists() {
            fs::remove_file(policy).unwrap();
        }
        let [old, new] = packages(machine);
        let before = files(&changes);
        let systemd = boot(machine);

        dpkg(&systemd, &["--install", old.to_str().unwrap()]);
        for shown in [
            "usr/bin/seamless-run",
            "usr/lib/systemd/system/seamless-run@.service",
            "usr/share/man/man1/seamless-run.1.gz",
            "usr/share/bash-completion/completions/seamless-run",
            "usr/share/zsh/vendor-completions/_seamless-run",
            "usr/share/fish/vendor_completions.d/seamless-run.fish",
        ] {
            assert!(changes.join(shown).is_file(), "{shown}");
        }
        let differs = systemd.inside("dpkg").args(["--verify", "seamless-run"]);
        assert_eq!(differs.finish().expect_success().stdout, "");
        // Nothing is started by itself, and nothing can be started that nobody has described.
        let units = systemd.systemctl(&["list-units", "--plain", "--no-legend", "seamless-run@*"]);
        assert_eq!(units.finish().stdout, "");
        let start = systemd.systemctl(&["start", UNIT]).finish();
        assert_eq!(start.code(), Some(1), "{start:?}");
        // And systemd does not try again.
        assert_eq!(systemd.property_of(UNIT, "ActiveState"), "inactive");

        machine.write("/etc/seamless-run/web.conf", &configuration(8080), 0o644);
        // By itself: this PID 1 reads its units elsewhere.
        let enable = systemd.systemctl(&["enable", UNIT]);
        enable.env("SYSTEMD_OFFLINE", "1").finish().expect_success();
        let enabled = "/etc/systemd/system/multi-user.target.wants/seamless-run@web.service";
        assert!(Path::new(enabled).is_symlink());
        type_in(&systemd, &["start", UNIT]);
        let verbs: [Words<'_>; 3] = [&["restart", UNIT], &["reload", UNIT], &["stop", UNIT]];
        let pid_file = "/run/seamless-run/web/web.pid";
        let web = words(machine, &systemd, verbs, port(8080), pid_file);
        let check = systemd.inside("/usr/bin/seamless-run");
        let check = check.args(["check", "--unit", UNIT]).finish();
        assert_eq!(check.code(), Some(0), "{check:?}");
        let load = web.load_at_once();
        let serving = web.restarts(&load);
        web.reloads(serving);
        let known = load.report().pids();

        // Somebody's own unit, with the package's program.
        let own = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=notify\nKillMode=process\nRestart=always\n\
                   RuntimeDirectory=own\nRuntimeDirectoryPreserve=yes\n\
                   ExecStart=/usr/bin/seamless-run -p %t/own/own.pid -l http=127.0.0.1:8081 -- /usr/local/bin/daemon\n";
        systemd.write_unit("own.service", &format!("{own}{}", beside(machine)));
        type_in(&systemd, &["start", "own"]);
        let launcher_of = |unit: &str| systemd.property_of(unit, "MainPID");
        let own_launcher = launcher_of("own");

        // An upgrade touches nothing that runs; a restart takes what is new.
        let launcher = launcher_of(UNIT);
        dpkg(&systemd, &["--install", new.to_str().unwrap()]);
        assert_eq!(launcher_of(UNIT), launcher, "{}", machine.log.listing());
        let program_of = |launcher: &str| {
            let link = format!("/proc/{}/root/proc/{launcher}/exe", systemd.init());
            fs::read_link(link).unwrap()
        };
        let installed = Path::new("/usr/bin/seamless-run");
        assert_ne!(program_of(&launcher), installed, "it was not replaced");
        assert_eq!(load.report().pids(), known, "{}", machine.log.listing());
        let serving = web.restarted(&load, || type_in(&systemd, web.restart));
        assert_eq!(program_of(&launcher_of(UNIT)), installed);
        web.reloads(serving);

        let report = load.stop();
        let listing = || format!("{report}\n{}", machine.log.listing());
        assert_eq!(report.failed(), 0, "{}", listing());
        assert_eq!(report.pids().len(), known.len() + 1, "{}", listing());
        assert!(report.slow.finished() > 0, "{report}");

        // What is the package's own ends with it, and nothing else.
        dpkg(&systemd, &["--remove", "seamless-run"]);
        assert_eq!(systemd.property_of(UNIT, "ActiveState"), "inactive");
        let processes = machine.scratch.processes();
        let daemons = processes.iter().filter(|one| one.comm == "http_tcp");
        assert_eq!(daemons.count(), 1, "{}", machine.log.listing());
        assert_eq!(launcher_of("own"), own_launcher);
        // Nobody can start the next one, so the old one serves on, and can still be stopped.
        let restart = systemd.systemctl(&["restart", "own"]).finish();
        assert_eq!(restart.code(), Some(1), "{restart:?}");
        let load = Load::start_at_rate(Target::Tcp(port(8081)), 1, None, 100);
        assert!(load.wait_answer(PATIENCE, |_| true).is_some());
        assert_eq!(load.stop().failed(), 0, "{}", machine.log.listing());
        type_in(&systemd, &["stop", "own"]);
        assert_eq!(names_in(&web.path("")), ["web.pid.lock"]);

        fs::remove_file("/etc/seamless-run/web.conf").unwrap();
        dpkg(&systemd, &["--purge", "seamless-run"]);
        let after = files(&changes);
        let differ: Vec<_> = after.symmetric_difference(&before).collect();
        assert!(differ.is_empty(), "{differ:?}");
        let run = format!("/proc/{}/root/run/seamless-run", systemd.init());
        assert!(!Path::new(&run).exists());
        machine.scratch.wait_no_processes_but(&[systemd.init()]);
    });
}

/// The values of the file, as systemd takes them apart: words that are held together, and the daemon's own variables.
fn configuration(port: u16) -> String {
    format!(
        "COMMAND=setpriv --reuid=app --regid=app --init-groups /usr/local/bin/daemon\n\
         OPTIONS=--listen http=127.0.0.1:{port} --pre-start 'test \"$GREETING\" = \"two words\"'\n\
         READY_TIMEOUT=2m\n\
         GREETING=two words\n"
    )
}

/// The package with this build's program, in two versions.
fn packages(machine: &Machine<'_>) -> [PathBuf; 2] {
    let stripped = machine.scratch.join("seamless-run");
    let strip = Spawn::from(Command::new(tool("strip", "binutils")));
    let strip = strip.arg(program()).arg("-o").arg(&stripped);
    strip.finish().expect_success();
    tool("dpkg-shlibdeps", "dpkg-dev");
    ["1.0.0-rc.1", "1.0.0"].map(|version| {
        let deb = Spawn::from(Command::new("sh")).arg(shipped("packaging/deb"));
        let deb = deb
            .arg("--binary")
            .arg(&stripped)
            .args(["--version", version]);
        let deb = deb.arg("--output").arg(machine.scratch.path());
        let made = deb.env("DPKG_DEB_COMPRESSOR_TYPE", "gzip").finish();
        PathBuf::from(made.expect_success().stdout.trim())
    })
}

/// systemd reads units from one directory in a test, and the package's own is one of them as soon as it is installed.
fn boot(machine: &Machine<'_>) -> Systemd {
    let systemd = Systemd::boot(machine.scratch);
    let unit = "seamless-run@.service";
    let installed = Path::new("/usr/lib/systemd/system").join(unit);
    symlink(installed, machine.scratch.join("systemd/units").join(unit)).unwrap();
    systemd.write_unit(&format!("{unit}.d/test.conf"), &beside(machine));
    systemd
}

/// Other packages' triggers (the index of all man pages) are not run: that is their affair, and takes long.
fn dpkg(systemd: &Systemd, words: &[&str]) {
    let dpkg = systemd.inside(tool("dpkg", "dpkg")).arg("--no-triggers");
    dpkg.args(words).finish().expect_success();
}

/// All files of `/etc`, and all changes elsewhere, but for what dpkg knows of other packages.
fn files(changes: &Path) -> BTreeSet<PathBuf> {
    let books = changes.join("var/lib/dpkg");
    let ours = |path: &PathBuf| !path.starts_with(&books) || path.ends_with("seamless-run.list");
    let elsewhere = files_below(changes).into_iter().filter(ours);
    files_below(Path::new("/etc"))
        .into_iter()
        .chain(elsewhere)
        .collect()
}

/// Everything but directories.
fn files_below(directory: &Path) -> BTreeSet<PathBuf> {
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            files.extend(files_below(&entry.path()));
        } else {
            files.insert(entry.path());
        }
    }
    files
}
