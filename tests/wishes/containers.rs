//! PID 1 of a container, and the init that is one: nobody comes back there (R17).

use std::path::Path;

use nix::sys::signal::Signal;

use super::{CRASHES, DAEMON, LINGERS, STARTED};
use crate::stage::Stage;
use crate::support::process::{self, Handle, Pid};
use crate::support::{self, Spawn, Spawned, tool};

const SCRIPTS: [(&str, &str); 3] = [
    ("start", STARTED),
    ("prepare", "exit 9"),
    ("drain", AND_SEVEN),
];
const AND_SEVEN: &str = "STATUS=7";

/// The launcher in a PID namespace of its own, under these words, and its PID 1 as seen from here.
fn contained(stage: &Stage, init: &[&str], start: &str) -> (Spawned, Handle) {
    let unshare = contain(stage, init, start);
    stage.log.wait_for("daemon 1 is started");
    let init = process::children(unshare.pid());
    let first = Handle::open(init[0]).expect("the namespace's PID 1");
    (unshare, first)
}

fn contain(stage: &Stage, init: &[&str], start: &str) -> Spawned {
    let scripts = stage.scratch.join("scripts");
    std::fs::create_dir(&scripts).unwrap();
    for (name, code) in SCRIPTS {
        std::fs::write(scripts.join(name), code).unwrap();
    }
    std::fs::write(scripts.join("start"), start).unwrap();
    stage
        .spawn(tool("unshare", "util-linux"))
        .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
        .args(init)
        .arg(support::program())
        .arg("--pid-file")
        .arg(&stage.pid_file)
        .args(["--orphan-timeout=none", "--stop-timeout=none", "--"])
        .args(stage.sh(DAEMON))
        .env("SCRIPTS", &scripts)
        .start()
}

/// A command in the namespace of this process.
fn inside(stage: &Stage, first: &Handle, program: &Path) -> Spawn {
    Spawn::new(&stage.scratch, tool("nsenter", "util-linux"))
        .args(["--pid", "--mount", "--target"])
        .arg(first.pid.to_string())
        .arg("--")
        .arg(program)
}

fn term_is_a_stop(init: &[&str]) {
    let stage = Stage::new();
    let (unshare, first) = contained(&stage, init, STARTED);
    first.signal(Signal::SIGTERM);
    stage.log.wait_seen("app: stop: generation 1 (pid ");
    stage.log.wait_seen("daemon 1 ends");
    let ended = unshare.finish();
    assert_eq!(ended.code(), Some(7), "{}", stage.log.listing());
    assert_eq!(stage.log.count("got USR2"), 0, "{}", stage.log.listing());
    stage.scratch.wait_only(&[]);
    let run = stage.pid_file.parent().unwrap();
    assert_eq!(crate::scene::names_in(run), ["app.pid.lock"]);
}

/// As if it were told by the one who knows: `restart` there would be an end.
fn a_restart_is_refused(init: &[&str]) {
    let stage = Stage::new();
    let (unshare, first) = contained(&stage, init, STARTED);
    let verb = inside(&stage, &first, &support::program());
    let verb = verb.arg("restart").arg(&stage.pid_file).finish();
    let words = format!("{}{}", verb.stdout, verb.stderr);
    assert!(!matches!(verb.code(), Some(0) | None), "{words}");
    assert!(words.contains("nobody would start a successor"), "{words}");
    assert_eq!(stage.log.count("got "), 0, "{}", stage.log.listing());
    first.signal(Signal::SIGTERM);
    assert_eq!(unshare.finish().code(), Some(7));
    stage.scratch.wait_only(&[]);
}

/// What the daemon does of itself is what the container says.
fn an_end_is_mirrored(init: &[&str]) {
    let stage = Stage::new();
    let unshare = contain(&stage, init, CRASHES);
    assert_eq!(unshare.finish().code(), Some(3), "{}", stage.log.listing());
    stage.scratch.wait_only(&[]);
}

fn tini() -> String {
    tool("tini", "tini").to_str().unwrap().to_owned()
}

fn dumb_init() -> String {
    tool("dumb-init", "dumb-init").to_str().unwrap().to_owned()
}

#[test]
fn as_pid_1_term_is_a_stop() {
    term_is_a_stop(&[]);
}

#[test]
fn under_tini_term_is_a_stop() {
    term_is_a_stop(&[&tini(), "--"]);
}

#[test]
fn under_dumb_init_term_is_a_stop() {
    term_is_a_stop(&[&dumb_init(), "--"]);
}

#[test]
fn as_pid_1_a_restart_is_refused() {
    a_restart_is_refused(&[]);
}

#[test]
fn under_tini_a_restart_is_refused() {
    a_restart_is_refused(&[&tini(), "--"]);
}

#[test]
fn under_dumb_init_a_restart_is_refused() {
    a_restart_is_refused(&[&dumb_init(), "--"]);
}

#[test]
fn ends_are_mirrored() {
    an_end_is_mirrored(&[]);
    an_end_is_mirrored(&[&tini(), "--"]);
    an_end_is_mirrored(&[&dumb_init(), "--"]);
}

/// Processes that lost their parents are PID 1's: it reaps them, whatever their number, and the daemon's end is not
/// mistaken for one of theirs.
#[test]
fn as_pid_1_orphans_are_reaped() {
    const ORPHANS: &str = r#"
        "$SEAMLESS_RUN" notify started && say "is started"
        for _ in 1 2 3 4 5; do
            # The shell between ends at once, with a status of its own.
            sh -c 'sh -c "echo waits; read _ <\"$SCRIPTS/orphans\"; exit 5" & exit 6'
        done
        say "has no part in them"
    "#;
    let stage = Stage::new();
    let fifo = stage.scratch.join("orphans");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let ready = ORPHANS.replace("$SCRIPTS/orphans", fifo.to_str().unwrap());
    let (unshare, first) = contained(&stage, &[], &ready);
    stage.log.wait_for_all(&[
        "daemon 1 has no part in them",
        "waits",
        "waits",
        "waits",
        "waits",
        "waits",
    ]);
    let orphans: Vec<Pid> = process::children(first.pid);
    let shells = |pid: &&Pid| {
        process::Process::read(**pid).is_some_and(|process| process.command_line.contains("exit 5"))
    };
    let orphans: Vec<Handle> = orphans
        .iter()
        .filter(shells)
        .filter_map(|&pid| Handle::open(pid))
        .collect();
    assert_eq!(orphans.len(), 5, "{}", stage.log.listing());
    let mut release = std::fs::File::options().write(true).open(&fifo).unwrap();
    std::io::Write::write_all(&mut release, b"\n\n\n\n\n").unwrap();
    for orphan in &orphans {
        // Reaped, not only dead: there is no event for whoever is not the parent.
        let deadline = std::time::Instant::now() + support::PATIENCE;
        while process::identity(orphan.pid).is_some() {
            assert!(std::time::Instant::now() < deadline, "a zombie stays");
            std::thread::yield_now();
        }
    }
    assert!(process::alive(first.pid));
    first.signal(Signal::SIGTERM);
    assert_eq!(unshare.finish().code(), Some(7), "{}", stage.log.listing());
    stage.scratch.wait_only(&[]);
}

/// It waits for the daemon there too.
#[test]
fn as_pid_1_the_launcher_leaves_last() {
    let stage = Stage::new();
    let (unshare, first) = contained(&stage, &[], STARTED);
    let fifo = stage.scratch.join("scripts/linger.1");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::fs::write(stage.scratch.join("scripts/drain"), LINGERS).unwrap();
    first.signal(Signal::SIGTERM);
    stage.log.wait_for("daemon 1 got TERM");
    assert!(process::alive(first.pid));
    std::fs::write(&fifo, "go on\n").unwrap();
    assert_eq!(unshare.finish().code(), Some(7), "{}", stage.log.listing());
    assert_eq!(
        stage.log.count("daemon 1 ends"),
        1,
        "{}",
        stage.log.listing()
    );
}
