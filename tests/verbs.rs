//! The verbs on real services: `status`, `restart` and `stop` (§9, `docs/verbs.md`).

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::stage::{BY_CHLD, DAEMON, STARTED, Stage, assert_unharmed, innocent, pid_in};
use crate::support::process::{self, Handle, Pid};
use crate::support::{
    self, Finished, Log, PATIENCE, Runit, Service, Spawn, Spawned, Supervisor, Verb, tool,
};

const NOBODY: u32 = 65534;

/// `seamless-run VERB FILE …`, whose output is kept.
pub(crate) fn verb(stage: &Stage, verb: &str, options: &[&str]) -> Spawn {
    Spawn::new(&stage.scratch, support::program())
        .arg(verb)
        .arg(&stage.pid_file)
        .args(options)
}

/// The words behind `seamless-run`, whose output is kept.
fn typed(stage: &Stage, words: &[&str]) -> Finished {
    Spawn::new(&stage.scratch, support::program())
        .args(words)
        .directory(stage.scratch.path())
        .finish()
}

/// The exit status of `status --json`, and its one object.
pub(crate) fn status(stage: &Stage) -> (Option<i32>, Value) {
    let finished = verb(stage, "status", &["--json"]).finish();
    (finished.code(), object(&finished.stdout))
}

fn object(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
}

fn keys(object: &Value) -> Vec<&str> {
    let object = object.as_object().expect("an object");
    object.keys().map(String::as_str).collect()
}

/// The phases, newest first.
pub(crate) fn phases(view: &Value) -> Vec<(u64, &str)> {
    let generations = view["generations"].as_array().unwrap();
    let of = |one: &'_ Value| one["generation"].as_u64().unwrap();
    generations
        .iter()
        .map(|one| (of(one), one["phase"].as_str().unwrap()))
        .collect()
}

/// As the daemon would say it, but when the test wants it: root is believed (R22).
pub(crate) fn say(stage: &Stage, daemon: Pid, words: &[&str]) {
    let named = format!("daemon={daemon}:");
    let generations = stage.generations();
    let line = generations.iter().find(|line| line.contains(&named));
    let mut words_of_line = line.expect("the record names it").split(' ');
    let address = words_of_line.find_map(|word| word.strip_prefix("notify="));
    Spawn::new(&stage.scratch, support::program())
        .arg("notify")
        .args(words)
        .env("SEAMLESS", "1")
        .env("NOTIFY_SOCKET", address.unwrap())
        .finish()
        .expect_success();
}

/// What makes [`DAEMON`] take its time: it ends when a line comes through the FIFO, with that status.
struct Slow {
    fifo: std::path::PathBuf,
    ready: String,
}

impl Slow {
    fn new(stage: &Stage, name: &str) -> Slow {
        let fifo = stage.scratch.join(name);
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let ready = format!(
            "trap 'echo \"$$ got TERM\"; read -r code <{}; exit $code' TERM; {STARTED}",
            fifo.display()
        );
        Slow { fifo, ready }
    }

    fn finish_with(&self, code: &str) {
        fs::write(&self.fifo, format!("{code}\n")).unwrap();
    }
}

/// The next launcher, as a supervisor would start it.
fn launch(stage: &Stage, options: &[&str], command: &[&str]) -> Spawned {
    let launcher = stage.seamless_run(options).arg("--").args(command);
    launcher.env("PREPARE", BY_CHLD).start()
}

/// Detaches a generation, as a supervisor's restart would.
pub(crate) fn detach(launcher: Spawned) {
    launcher.signal(Signal::SIGTERM);
    assert_eq!(launcher.finish().code(), Some(0));
}

/// Waits until a `restart` has heard that it was understood: from then on it listens for whoever comes.
fn wait_asked(restart: &Spawned) {
    let listens = || {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", restart.pid())).ok()?;
        let mut targets = descriptors.filter_map(|one| fs::read_link(one.ok()?.path()).ok());
        targets.find(|target| target.ends_with("anon_inode:inotify"))
    };
    while listens().is_none() {
        assert!(restart.alive(), "{}", restart.describe());
        std::thread::yield_now();
    }
}

fn files_left(stage: &Stage) -> Vec<String> {
    let left = fs::read_dir(stage.pid_file.parent().unwrap()).unwrap();
    let mut left: Vec<String> = left
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    left
}

const KEYS: [&str; 6] = ["error", "failure", "file", "generations", "name", "source"];
const GENERATION_KEYS: [&str; 13] = [
    "command",
    "deadline",
    "generation",
    "keeper",
    "launcher",
    "phase",
    "pid",
    "ready",
    "serves",
    "since",
    "sockets",
    "status",
    "supervised",
];

/// §9: every phase of two generations, for people and for programs. Every documented key is always there.
#[test]
fn status_shows_every_phase_with_every_key() {
    let stage = Stage::new();
    let (code, view) = status(&stage);
    assert_eq!(code, Some(3));
    assert_eq!(keys(&view), KEYS);
    assert_eq!(view["source"], Value::Null);
    assert_eq!(phases(&view), []);

    let options = ["--ready-timeout", "1h", "--orphan-timeout", "1h"];
    let slow = Slow::new(&stage, "hold");
    // Everything of the slow one but its *started*.
    let starting = slow.ready.replace(STARTED, "");
    let (launcher, first) = stage.daemon(
        &options,
        &format!("{starting} echo \"$$ is started\""),
        BY_CHLD,
    );
    say(&stage, first, &["status", "warming up"]);
    let (code, view) = status(&stage);
    assert_eq!(code, Some(1), "nothing that is ready serves");
    assert_eq!(keys(&view), KEYS);
    assert_eq!(view["file"], stage.pid_file.to_str().unwrap());
    assert_eq!(view["name"], "app");
    assert_eq!(view["source"], "keeper");
    assert_eq!(view["error"], Value::Null);
    assert_eq!(view["failure"], Value::Null);
    let one = &view["generations"][0];
    assert_eq!(keys(one), GENERATION_KEYS);
    let keeper = process::children(launcher.pid())[0];
    assert_eq!(one["generation"], 1);
    assert_eq!(one["phase"], "starting");
    assert_eq!(one["ready"], false);
    assert_eq!(one["serves"], false);
    assert_eq!(one["supervised"], true);
    assert_eq!(one["pid"], first.as_raw());
    assert_eq!(one["keeper"], keeper.as_raw());
    assert_eq!(one["launcher"], launcher.pid().as_raw());
    assert!(one["since"].as_f64().unwrap() > 1.0e9);
    assert!(one["command"].as_str().unwrap().starts_with("sh "));
    assert_eq!(one["status"], "warming up");
    assert_eq!(one["sockets"], Value::Array(vec![]));
    let text = verb(&stage, "status", &[]).finish();
    assert_eq!(text.code(), Some(1));
    for part in [
        &format!("app: generation 1  pid {first}  starting  for "),
        &format!("keeper {keeper}, launcher {}", launcher.pid()),
        "status: warming up",
    ] {
        assert!(text.stdout.contains(part), "{part}: {}", text.stdout);
    }

    say(&stage, first, &["started"]);
    let (code, view) = status(&stage);
    assert_eq!(code, Some(0));
    let one = &view["generations"][0];
    assert_eq!(
        (&one["phase"], &one["ready"]),
        (&"serving".into(), &true.into())
    );
    assert_eq!(one["serves"], true);
    assert_eq!(one["deadline"], Value::Null);

    detach(launcher);
    let (code, view) = status(&stage);
    assert_eq!(code, Some(0), "it serves on");
    let one = &view["generations"][0];
    assert_eq!(keys(one), GENERATION_KEYS);
    assert_eq!(one["phase"], "standby");
    assert_eq!(
        (&one["supervised"], &one["launcher"]),
        (&false.into(), &Value::Null)
    );
    assert_eq!(
        one["deadline"]["what"], "drain",
        "the orphan timeout is ahead"
    );
    assert!(one["deadline"]["at"].as_f64() > one["since"].as_f64());

    let (launcher, second) = stage.daemon(&options, "", BY_CHLD);
    let (code, view) = status(&stage);
    assert_eq!(code, Some(0), "its predecessor serves");
    assert_eq!(phases(&view), [(2, "starting"), (1, "standby")]);
    assert_eq!(
        view["generations"][1]["deadline"],
        Value::Null,
        "its successor has come"
    );
    assert_eq!(view["generations"][1]["status"], "warming up");

    say(&stage, second, &["started"]);
    stage.log.wait_for(&format!("{first} got TERM"));
    // The second one's keeper hears of the drain by the first one's.
    let mut watch = Watch::begin(&stage);
    let view = watch.wait(|view| phases(view) == [(2, "serving"), (1, "draining")]);
    watch.end();
    assert_eq!(view["generations"][1]["deadline"]["what"], "kill");
    assert_eq!(view["generations"][1]["serves"], false);
    let text = verb(&stage, "status", &[]).finish();
    assert_eq!(text.code(), Some(0));
    let lines: Vec<&str> = text.stdout.lines().collect();
    assert!(
        lines[0].starts_with(&format!("app: generation 2  pid {second}")),
        "{lines:?}"
    );
    assert!(text.stdout.contains("draining"), "{lines:?}");
    assert!(text.stdout.contains("kill in "), "{lines:?}");

    // The keeper's own last word, after the daemon's end.
    slow.finish_with("0");
    stage.log.wait_for(&format!("(pid {first}) is gone"));
    stage.stop(launcher, &[]);
    assert_eq!(status(&stage).0, Some(3));
}

/// R13: what is ahead of one that starts is the end of its ready timeout, also while the log only speaks of it.
#[test]
fn the_ready_timeout_is_ahead_from_the_start() {
    let stage = Stage::new();
    let (launcher, _) = stage.daemon(&["--ready-timeout", "1h"], "", BY_CHLD);
    let view = status(&stage).1;
    let one = &view["generations"][0];
    assert_eq!(one["deadline"]["what"], "stop", "{view}");
    let hour = one["deadline"]["at"].as_f64().unwrap() - one["since"].as_f64().unwrap();
    assert_eq!(hour.round(), 3600.0);
    stage.stop(launcher, &[]);
}

/// `status --watch --json` with a log of its own.
pub(crate) struct Watch {
    log: Log,
    process: Spawned,
}

impl Watch {
    pub(crate) fn begin(stage: &Stage) -> Watch {
        let name = format!(
            "watch{}",
            fs::read_dir(stage.scratch.path()).unwrap().count()
        );
        let log = Log::new(&stage.scratch, &name);
        let process = verb(stage, "status", &["--watch", "--json"])
            .output_to(&log)
            .start();
        Watch { log, process }
    }

    pub(crate) fn wait(&mut self, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        object(&self.log.wait(|line| wanted(&object(line))))
    }

    pub(crate) fn end(self) {
        self.process.signal(Signal::SIGTERM);
        assert_eq!(self.process.finish().signal(), Some(Signal::SIGTERM));
    }
}

/// `--watch` prints every change, follows the service from keeper to keeper, and waits where nobody is.
#[test]
fn a_watch_follows_the_service_from_keeper_to_keeper() {
    let stage = Stage::new();
    let mut watch = Watch::begin(&stage);
    watch.wait(|view| view["source"].is_null());
    for number in [1, 2] {
        let (launcher, daemon) = stage.daemon(&[], "", BY_CHLD);
        watch.wait(|view| phases(view).first() == Some(&(number, "starting")));
        say(&stage, daemon, &["status", &format!("this is {number}")]);
        watch.wait(|view| view["generations"][0]["status"] == format!("this is {number}"));
        say(&stage, daemon, &["started"]);
        watch.wait(|view| phases(view).first() == Some(&(number, "serving")));
        if number == 1 {
            detach(launcher);
            watch.wait(|view| phases(view) == [(1, "standby")]);
        } else {
            watch.wait(|view| phases(view) == [(2, "serving")]);
            // It hears of a keeper that is KILLed, too, and of the one that comes in its place (R20).
            let keeper = process::children(launcher.pid())[0];
            Handle::open(keeper).unwrap().signal(Signal::SIGKILL);
            watch.wait(|view| {
                let one = &view["generations"][0];
                one["phase"] == "serving"
                    && one["keeper"] != keeper.as_raw()
                    && one["keeper"].is_i64()
            });
            stage.stop(launcher, &[watch.process.pid()]);
        }
    }
    watch.wait(|view| view["source"].is_null());
    assert!(watch.process.alive());
    watch.end();
}

/// Nobody reads on: the watch ends, though nothing changes.
#[test]
fn a_watch_ends_when_its_stdout_is_closed() {
    let stage = Stage::new();
    let (launcher, _) = stage.daemon(&[], STARTED, BY_CHLD);
    let code = r#"("$SEAMLESS_RUN" status --watch "$1"; echo "watch: $?" >&2) | head -n 1; echo "head: $?""#;
    let pipeline = stage
        .spawn("sh")
        .args(["-c", code, "sh"])
        .arg(&stage.pid_file)
        .start();
    stage.log.wait_for_all(&["watch: 0", "head: 0"]);
    pipeline.finish().expect_success();
    stage.stop(launcher, &[]);
}

/// A reader that has gone has read enough; a full disk is our failure; both only where something is printed.
#[test]
fn a_status_that_cannot_be_printed() {
    let stage = Stage::new();
    let (launcher, _) = stage.daemon(&[], STARTED, BY_CHLD);
    let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
    for options in [&[][..], &["--json"], &["--watch"]] {
        let finished = verb(&stage, "status", options).stdout(full()).finish();
        assert_eq!(finished.code(), Some(125), "{options:?}");
        assert!(
            finished
                .stderr
                .contains("cannot print the status: No space left"),
            "{}",
            finished.stderr
        );
        assert_eq!(finished.stderr.lines().count(), 1);
    }
    let quiet = verb(&stage, "status", &["-q"]).stdout(full()).finish();
    assert_eq!((quiet.code(), quiet.stderr.as_str()), (Some(0), ""));

    for (options, end) in [("", "0"), ("--json", "0"), ("--watch", "0"), ("-q", "0")] {
        // The other end of the pipe is closed before anything is written.
        let code = format!(
            r#"mkfifo "$2"; exec 3<>"$2" 4>"$2" 3>&-; "$SEAMLESS_RUN" status {options} "$1" >&4; echo "{options}: $?"; rm "$2""#
        );
        let pipe = stage.scratch.join("pipe");
        let shell = stage
            .spawn("sh")
            .args(["-c", &code, "sh"])
            .arg(&stage.pid_file)
            .arg(pipe);
        shell.finish().expect_success();
        stage.log.wait(|line| line == format!("{options}: {end}"));
    }
    // No stdout at all.
    let code = r#""$SEAMLESS_RUN" status "$1" >&-; echo "without stdout: $?""#;
    let shell = stage
        .spawn("sh")
        .args(["-c", code, "sh"])
        .arg(&stage.pid_file);
    shell.finish().expect_success();
    stage.log.wait_for("without stdout: 0");
    stage.stop(launcher, &[]);
}

/// Of several, the highest counts; each has its line. A wrong use is 2, in one line.
#[test]
fn several_services_at_once_and_wrong_uses() {
    let stage = Stage::new();
    let file = |name: &str| stage.scratch.join("run").join(name);
    let start = |name: &str, ready: &str| {
        let launcher = stage
            .spawn(support::program())
            .arg("-p")
            .arg(file(name))
            .arg("--")
            .args(stage.sh(DAEMON))
            .env("READY", ready)
            .start();
        let daemon = stage.up();
        if !ready.is_empty() {
            stage.log.wait_for(&format!("{daemon} is started"));
        }
        launcher
    };
    let serving = start("one.pid", STARTED);
    let starting = start("two.pid", "");
    let [one, two, none] = ["run/one.pid", "run/two.pid", "nowhere/at/all.pid"];
    for (files, code, lines) in [
        (&[one, one][..], 0, 2),
        (&[one, two], 1, 2),
        (&[two, none, one], 3, 3),
    ] {
        let words = [&["status", "--json"], files].concat();
        let finished = typed(&stage, &words);
        assert_eq!(
            finished.code(),
            Some(code),
            "{files:?}: {}",
            finished.stdout
        );
        let views: Vec<Value> = finished.stdout.lines().map(object).collect();
        assert_eq!(views.len(), lines, "one line each, in their order");
        for (view, name) in views.iter().zip(files) {
            assert_eq!(view["file"], stage.scratch.join(name).to_str().unwrap());
        }
        let quiet = typed(&stage, &[&["status", "-q"], files].concat());
        assert_eq!(quiet.code(), Some(code));
        assert_eq!(quiet.stdout + &quiet.stderr, "");
    }
    for words in [
        &["status"][..],
        &["status", "-q", "--json", one],
        &["status", "run"],
        &["restart"],
        &["restart", one, two],
        &["restart", one, "--timeout", "soon"],
        &["stop", one, "--new"],
    ] {
        let finished = typed(&stage, words);
        assert_eq!(finished.code(), Some(2), "{words:?}");
        assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
        assert_eq!(finished.stdout, "");
    }
    serving.signal(Signal::SIGINT);
    assert_eq!(serving.finish().code(), Some(0));
    stage.stop(starting, &[]);
}

/// The words behind `seamless-run`, as nobody; the program must be one that nobody can run.
fn as_nobody(stage: &Stage, program: &Path, words: &[&str]) -> Spawn {
    Spawn::new(&stage.scratch, tool("setpriv", "util-linux"))
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(program)
        .args(words)
        .directory("/")
}

/// R18: what another user has written is not believed, and what he cannot reach is not made up: 4.
#[test]
fn another_users_service() {
    let stage = Stage::new();
    let program = stage.program_for_all();
    let pid_file = stage.pid_file.to_str().unwrap();
    let directory = stage.pid_file.parent().unwrap();
    let (launcher, daemon) = stage.daemon(&[], STARTED, BY_CHLD);

    // Nobody cannot connect, but root's record may be believed.
    let finished = as_nobody(&stage, &program, &["status", "--json", pid_file]).finish();
    let view = object(&finished.stdout);
    assert_eq!(finished.code(), Some(0), "{view}");
    assert_eq!(view["source"], "record");
    assert!(
        view["error"]
            .as_str()
            .unwrap()
            .contains("Permission denied"),
        "{view}"
    );
    assert_eq!(view["generations"][0]["pid"], daemon.as_raw());
    assert_eq!(view["generations"][0]["since"], Value::Null);
    let restart = as_nobody(&stage, &program, &["restart", pid_file]).finish();
    assert_eq!(restart.code(), Some(4), "{}", restart.stderr);
    assert!(
        restart.stderr.contains("Permission denied"),
        "{}",
        restart.stderr
    );
    let stop = as_nobody(&stage, &program, &["stop", pid_file]).finish();
    assert_eq!(stop.code(), Some(1), "{}", stop.stderr);
    assert!(
        stop.stderr
            .contains(&format!("cannot end generation 1 (pid {daemon})")),
        "{}",
        stop.stderr
    );

    fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).unwrap();
    for verb in ["status", "restart", "stop"] {
        let finished = as_nobody(&stage, &program, &[verb, pid_file]).finish();
        assert_eq!(
            finished.code(),
            Some(4),
            "{verb}: {}{}",
            finished.stdout,
            finished.stderr
        );
    }
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(status(&stage).0, Some(0), "nothing has happened to it");
    assert_eq!(stage.log.count("got TERM") + stage.log.count("got USR2"), 0);
    stage.stop(launcher, &[]);

    // The reverse: to root, nobody's files may be anything.
    fs::remove_file(stage.beside(".lock")).unwrap();
    chown(directory, Some(NOBODY), Some(NOBODY)).unwrap();
    let launcher = as_nobody(&stage, &program, &["-p", pid_file, "--"])
        .args(stage.sh(DAEMON))
        .env("SEAMLESS_RUN", &program)
        .env("PIPES", stage.scratch.join("pipes"))
        .env("READY", STARTED)
        .output_to(&stage.log)
        .start();
    let daemon = stage.up();
    stage.log.wait_for(&format!("{daemon} is started"));
    let own = as_nobody(&stage, &program, &["status", "-q", pid_file]).finish();
    assert_eq!(own.code(), Some(0));
    let (code, view) = status(&stage);
    assert_eq!(code, Some(4), "{view}");
    assert_eq!((&view["source"], phases(&view)), (&Value::Null, vec![]));
    assert!(
        view["error"]
            .as_str()
            .unwrap()
            .contains("belongs to user 65534"),
        "{view}"
    );
    for words in [&["restart"][..], &["stop"]] {
        let finished = verb(&stage, words[0], &[]).finish();
        assert_eq!(finished.code(), Some(4), "{words:?}: {}", finished.stderr);
    }
    assert_eq!(stage.log.count(&format!("{daemon} got ")), 0);
    let stop = as_nobody(&stage, &program, &["stop", pid_file]).finish();
    assert_eq!(stop.code(), Some(0), "{}", stop.stderr);
    drop(launcher);
}

/// What a daemon says of itself is text, on a terminal and in JSON, and never a line of its own.
#[test]
fn a_hostile_status_text_is_only_text() {
    let stage = Stage::new();
    let (launcher, daemon) = stage.daemon(&[], STARTED, BY_CHLD);
    let hostile = "STATUS=fine\u{1b}[2J\u{7}\t\u{9b}31m\rgeneration=9\u{85}\u{2028}\"}\\ ünïx";
    let second_line = "STATUS=first\ngeneration=9\nphase=serving\nSTATUS=last";
    for (words, shown) in [
        // To systemd a carriage return ends a line, and so it does here.
        (hostile, "fine [2J   31m"),
        (second_line, "last"),
    ] {
        // Past our own verb, which would refuse most of it.
        let code = r#"
import array, os, socket, sys
# Root from elsewhere has to bring a descriptor.
brings = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))]
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.sendmsg([os.environb[b"WORDS"]], brings, 0, "\0" + sys.argv[1][1:])"#;
        let record = stage.record();
        let address = record
            .split_whitespace()
            .find_map(|word| word.strip_prefix("notify="));
        let said = Spawn::new(&stage.scratch, "python3")
            .args(["-c", code])
            .arg(address.unwrap());
        said.env("WORDS", words).finish().expect_success();
        // The next word is read after that one.
        say(&stage, daemon, &["X_SEAMLESS=ask"]);
        let (code, view) = status(&stage);
        assert_eq!(code, Some(0));
        assert_eq!(phases(&view), [(1, "serving")]);
        assert_eq!(view["generations"][0]["status"], shown);
        let text = verb(&stage, "status", &[]).finish().stdout;
        assert!(text.contains(&format!("status: {shown}\n")), "{text:?}");
        assert_eq!(text.lines().count(), 2, "{text:?}");
        assert!(
            !text.replace('\n', "").contains(char::is_control),
            "{text:?}"
        );
    }
    stage.stop(launcher, &[]);
}

/// Long texts of many generations are still one message of a keeper to the next, and to us.
#[test]
fn many_generations_with_the_longest_texts() {
    let stage = Stage::new();
    let slow = Slow::new(&stage, "hold");
    let options = ["--orphan-timeout", "1h"];
    let long = "x".repeat(8000);
    let count = 10;
    let mut last: Option<Spawned> = None;
    for _ in 0..count {
        if let Some(launcher) = last.take() {
            detach(launcher);
        }
        let (launcher, daemon) = stage.daemon(&options, &slow.ready, BY_CHLD);
        say(&stage, daemon, &["status", &long]);
        last = Some(launcher);
    }
    for _ in 1..count {
        stage.log.wait_seen("got TERM");
    }
    let (code, view) = status(&stage);
    assert_eq!(code, Some(0), "{view}");
    assert_eq!(view["source"], "keeper", "{}", view["error"]);
    assert_eq!(view["generations"].as_array().unwrap().len(), count);
    let silent = "the record is believed instead";
    assert_eq!(stage.log.count(silent), 0, "{}", stage.log.listing());
    drop(last);
}

/// R13: why the last attempt failed is remembered by the one that serves, until one succeeds.
#[test]
fn the_last_failure_is_shown_until_a_commit() {
    let stage = Stage::new();
    let options = ["--orphan-timeout", "1h"];
    let (launcher, first) = stage.daemon(&options, STARTED, BY_CHLD);
    detach(launcher);
    for code in [3, 4] {
        let failing = launch(&stage, &[], &["sh", "-c", &format!("exit {code}")]);
        assert_eq!(failing.finish().code(), Some(code));
        let mut watch = Watch::begin(&stage);
        let generation = i64::from(code) - 1;
        let view = watch.wait(|view| view["failure"]["generation"] == generation);
        watch.end();
        assert_eq!(phases(&view), [(1, "standby")]);
        assert_eq!(
            view["generations"][0]["deadline"],
            Value::Null,
            "R16: a bad version"
        );
        let why = view["failure"]["why"].as_str().unwrap();
        let wanted = format!("it died before it was ready: exit status {code} after ");
        assert!(why.starts_with(&wanted), "{why}");
        assert!(view["failure"]["at"].as_f64().unwrap() > 1.0e9);
        let text = verb(&stage, "status", &[]).finish().stdout;
        let wanted = format!(" ago: {wanted}");
        assert!(text.contains(&wanted), "{text}");
        assert!(
            text.contains(&format!("app: generation {generation} failed ")),
            "{text}"
        );
    }
    // The one that starts knows it too, and forgets it when it is ready.
    let (launcher, second) = stage.daemon(&options, "", BY_CHLD);
    assert_eq!(status(&stage).1["failure"]["generation"], 3);
    say(&stage, second, &["started"]);
    assert_eq!(status(&stage).1["failure"], Value::Null);
    stage.log.wait_for(&format!("(pid {first}) is gone"));
    detach(launcher);
    assert_eq!(status(&stage).1["failure"], Value::Null);
    let stop = verb(&stage, "stop", &[]).finish().expect_success();
    assert!(
        stop.stdout
            .contains(&format!("(pid {second}) ended: exit status 0")),
        "{}",
        stop.stdout
    );
}

/// §9, R13: the verdict on the next generation is the exit status of `restart`, with the reason.
#[test]
fn the_verdict_of_a_restart_for_every_reason() {
    let stage = Stage::new();
    let options = ["--orphan-timeout", "1h"];
    let (launcher, first) = stage.daemon(&options, STARTED, BY_CHLD);
    let mut launcher = Some(launcher);
    let silent = stage.sh(DAEMON);
    let silent: Vec<&str> = silent.iter().map(String::as_str).collect();
    let died = "it died before it was ready: ";
    let mut generation = 1;
    for (options, command, why) in [
        (
            &[][..],
            &["sh", "-c", "exit 3"][..],
            format!("{died}exit status 3 after "),
        ),
        (
            &[],
            &["sh", "-c", "kill -KILL $$"],
            format!("{died}killed by KILL after "),
        ),
        (
            &[],
            &["sh", "-c", "exit 0"],
            format!("{died}exit status 0 after "),
        ),
        (&[], &["/nowhere/daemon"], "/nowhere/daemon: ".to_owned()),
        (&[], &["/"], "cannot".to_owned()),
        (
            // It is to be up by then.
            &["--ready-timeout", "2s"],
            &silent,
            "it was not ready in 2 s".to_owned(),
        ),
    ] {
        let restart = verb(&stage, "restart", &[]).start();
        wait_asked(&restart);
        if let Some(launcher) = launcher.take() {
            assert_eq!(launcher.finish().code(), Some(0));
        }
        generation += 1;
        let failing = launch(&stage, options, command);
        if command == &silent[..] {
            stage.up();
        }
        let finished = restart.finish();
        assert_eq!(finished.code(), Some(1), "{command:?}: {}", finished.stderr);
        let prefix = format!("app: generation {generation} failed: ");
        assert!(finished.stderr.starts_with(&prefix), "{}", finished.stderr);
        assert!(finished.stderr.contains(&why), "{why}: {}", finished.stderr);
        assert_eq!(finished.stdout, "");
        failing.finish();
        assert!(process::alive(first));
        assert_eq!(stage.pid_in_file(), Some(first), "the old one serves");
    }
    assert_eq!(
        stage.log.count(&format!("{first} got USR2")),
        1,
        "it was told once"
    );

    // Nobody starts a new one.
    let finished = verb(&stage, "restart", &["--timeout", "300ms"]).finish();
    assert_eq!(finished.code(), Some(124), "{}", finished.stderr);
    assert!(
        finished
            .stderr
            .contains("no new generation was started within 0.3 s"),
        "{}",
        finished.stderr
    );
    // One is started, and never ready.
    let restart = verb(&stage, "restart", &["--timeout", "3s"]).start();
    wait_asked(&restart);
    let late = launch(&stage, &[], &silent);
    let daemon = stage.up();
    let finished = restart.finish();
    assert_eq!(finished.code(), Some(124), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("is not ready after 3 s"),
        "{}",
        finished.stderr
    );
    assert!(
        process::alive(daemon),
        "the verb gave up, and not the service"
    );
    detach(late);
    stage.log.wait_for(&format!("{daemon} got TERM"));

    // And a good one.
    let restart = verb(&stage, "restart", &["--timeout", "1h"]).start();
    wait_asked(&restart);
    let (launcher, last) = stage.daemon(&[], STARTED, BY_CHLD);
    let finished = restart.finish().expect_success();
    let said = finished.stdout;
    assert!(said.ends_with(&format!(" (pid {last}) serves\n")), "{said}");
    assert_eq!(finished.stderr, "");
    stage
        .log
        .wait_seen(&format!("(pid {first}) is gone: exit status 0"));
    stage.stop(launcher, &[]);
}

/// What a process keeps for itself, in kB.
fn anonymous_memory(pid: Pid) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = rollup.lines().find(|line| line.starts_with("Anonymous:"));
    let number = line.unwrap().split_ascii_whitespace().nth(1);
    number.unwrap().parse().unwrap()
}

/// A keeper stays for years: a question leaves nothing with it that is worth a word, nor does a newcomer.
#[test]
fn a_keeper_that_was_asked_is_as_light_as_before() {
    const SMALL: u64 = 100;
    let stage = Stage::new();
    let (launcher, _) = stage.daemon(&[], STARTED, BY_CHLD);
    let keeper = process::children(launcher.pid())[0];
    let before = anonymous_memory(keeper);
    for _ in 0..5 {
        assert_eq!(status(&stage).0, Some(0));
    }
    let after = anonymous_memory(keeper);
    assert!(after < before + SMALL, "{before} kB, and then {after} kB");
    detach(launcher);
    let (launcher, _) = stage.daemon(&[], STARTED, BY_CHLD);
    let newer = anonymous_memory(process::children(launcher.pid())[0]);
    assert!(newer < before + SMALL, "{before} kB, and then {newer} kB");
    stage.stop(launcher, &[]);
}

/// Who is not there, or on the way out, is not restarted.
#[test]
fn a_restart_of_what_does_not_run_or_is_being_stopped() {
    let stage = Stage::new();
    for options in [&[][..], &["--no-wait"], &["--timeout", "1s"]] {
        let finished = verb(&stage, "restart", options).finish();
        assert_eq!(finished.code(), Some(3), "{}", finished.stderr);
        assert!(finished.stderr.contains("nothing is running"));
    }
    let slow = Slow::new(&stage, "hold");
    let (launcher, daemon) = stage.daemon(&[], &slow.ready, BY_CHLD);
    launcher.signal(Signal::SIGINT);
    stage.log.wait_for(&format!("{daemon} got TERM"));
    let finished = verb(&stage, "restart", &[]).finish();
    assert_eq!(finished.code(), Some(1), "{}", finished.stderr);
    let refused = format!("the restart was refused: generation 1 (pid {daemon}) is being stopped");
    assert!(finished.stderr.contains(&refused), "{}", finished.stderr);
    let (code, view) = status(&stage);
    assert_eq!((code, phases(&view)), (Some(1), vec![(1, "stopping")]));
    slow.finish_with("5");
    assert_eq!(launcher.finish().code(), Some(5));
    assert_eq!(verb(&stage, "restart", &[]).finish().code(), Some(3));

    // One whose keeper and launcher were KILLed cannot be asked, and lives.
    let (mut launcher, daemon) = stage.daemon(&[], STARTED, BY_CHLD);
    let keeper = Handle::open(process::children(launcher.pid())[0]).unwrap();
    launcher.kill();
    keeper.signal(Signal::SIGKILL);
    process::wait_exit(keeper.pid);
    let finished = verb(&stage, "restart", &[]).finish();
    assert_eq!(finished.code(), Some(4), "{}", finished.stderr);
    assert!(process::alive(daemon));
    let (code, view) = status(&stage);
    assert_eq!(
        (code, &view["source"]),
        (Some(0), &"record".into()),
        "{view}"
    );
    // Its keeper may have told it to prepare, when it found the launcher gone.
    assert_eq!(stage.log.count(&format!("{daemon} got TERM")), 0);
}

/// One that drains knows nothing of the one that serves, and does not speak for the service.
#[test]
fn beside_one_that_drains_the_lost_one_that_serves_is_seen() {
    let stage = Stage::new();
    let slow = Slow::new(&stage, "hold");
    let (launcher, first) = stage.daemon(&[], &slow.ready, BY_CHLD);
    detach(launcher);
    let (mut launcher, second) = stage.daemon(&[], STARTED, BY_CHLD);
    // What the record says, not only what the keeper knows.
    while !stage.generations()[0].contains(" state=draining ") {
        std::thread::yield_now();
    }
    let keeper = process::children(launcher.pid())[0];
    crate::scene::freeze(keeper);
    launcher.kill();
    crate::scene::kill(keeper);
    let (code, view) = status(&stage);
    assert_eq!(
        (code, phases(&view)),
        (Some(0), vec![(2, "standby"), (1, "draining")])
    );
    assert_eq!(view["source"], "record");
    let refused = verb(&stage, "restart", &[]).finish();
    assert_eq!(refused.code(), Some(4), "{}", refused.stderr);
    slow.finish_with("0");
    process::wait_exit(first);
    verb(&stage, "stop", &[]).finish().expect_success();
    process::wait_exit(second);
    stage.scratch.wait_no_processes_but(&[]);
}

/// `--no-wait` only asks, and whoever asks while it is under way gets the same verdict from the same restart.
#[test]
fn two_restarts_at_once_are_one() {
    let stage = Stage::new();
    let (launcher, first) = stage.daemon(&[], STARTED, ":");
    let asked = verb(&stage, "restart", &["--no-wait"])
        .finish()
        .expect_success();
    assert_eq!(asked.stdout, "app: generation 1 was asked to restart\n");
    stage.log.wait_for(&format!("{first} got USR2"));
    let both = [(); 2].map(|()| verb(&stage, "restart", &[]).start());
    both.iter().for_each(wait_asked);
    say(&stage, first, &["prepared"]);
    assert_eq!(launcher.finish().code(), Some(0));
    let (launcher, second) = stage.daemon(&[], STARTED, BY_CHLD);
    for restart in both {
        let finished = restart.finish().expect_success();
        assert_eq!(
            finished.stdout,
            format!("app: generation 2 (pid {second}) serves\n")
        );
    }
    stage.log.wait_seen(&format!("(pid {first}) is gone"));
    assert_eq!(stage.log.count("got USR2"), 1);
    stage.stop(launcher, &[]);
}

/// The verdict is on another generation than the one that was asked, even where that one gets ready meanwhile.
#[test]
fn a_restart_is_not_answered_by_the_generation_that_was_asked() {
    let stage = Stage::new();
    let (launcher, first) = stage.daemon(&[], "", ":");
    let restart = verb(&stage, "restart", &[]).start();
    stage.log.wait_for(&format!("{first} got USR2"));
    say(&stage, first, &["started"]);
    stage
        .log
        .wait_seen(&format!("generation 1 (pid {first}) is ready"));
    say(&stage, first, &["prepared"]);
    assert_eq!(launcher.finish().code(), Some(0));
    let (launcher, second) = stage.daemon(&[], STARTED, BY_CHLD);
    let finished = restart.finish().expect_success();
    assert_eq!(
        finished.stdout,
        format!("app: generation 2 (pid {second}) serves\n")
    );
    stage.stop(launcher, &[]);
}

/// R9: a restart while a new one starts ends that one, and the next one decides, for everyone who waits. R16: an
/// explicit restart never arms the orphan timeout.
#[test]
fn a_restart_while_a_new_one_starts_is_decided_by_the_next_one() {
    let stage = Stage::new();
    let (launcher, first) = stage.daemon(&["--orphan-timeout", "1h"], STARTED, BY_CHLD);
    let before = verb(&stage, "restart", &[]).start();
    assert_eq!(launcher.finish().code(), Some(0));
    let (launcher, second) = stage.daemon(&[], "", BY_CHLD);
    let during = verb(&stage, "restart", &[]).start();
    stage.log.wait_for(&format!("{second} got TERM"));
    assert_eq!(launcher.finish().code(), Some(0));
    assert!(process::alive(first));
    let (code, view) = status(&stage);
    assert_eq!((code, phases(&view)), (Some(0), vec![(1, "standby")]));
    let deadline = view["generations"][0]["deadline"].clone();
    for restart in [&before, &during] {
        assert!(
            restart.alive(),
            "there is no verdict yet: {}",
            restart.describe()
        );
    }

    let (launcher, third) = stage.daemon(&[], STARTED, BY_CHLD);
    for restart in [before, during] {
        let finished = restart.finish().expect_success();
        assert_eq!(
            finished.stdout,
            format!("app: generation 3 (pid {third}) serves\n")
        );
    }
    stage.log.wait_seen(&format!("(pid {first}) is gone"));
    stage.stop(launcher, &[]);
    assert_eq!(
        deadline,
        Value::Null,
        "somebody wants a restart for certain"
    );
}

/// Runs what the test puts into two files, so that one service can have good and bad versions.
fn service_by_files(stage: &Stage) -> Service {
    let code = r#"exec "$SEAMLESS_RUN" --pid-file "$PID_FILE" -- sh "$VERSION""#;
    let script = stage.scratch.join("run.sh");
    fs::write(&script, code).unwrap();
    Service::new(["sh".into(), script])
        .env("SEAMLESS_RUN", support::program())
        .env("PID_FILE", &stage.pid_file)
        .env("VERSION", stage.scratch.join("version"))
        .env("PIPES", stage.scratch.join("pipes"))
        .env("READY", STARTED)
        .env("PREPARE", BY_CHLD)
}

fn deploy(stage: &Stage, version: &str) -> Finished {
    let new = stage.scratch.join("version.new");
    fs::write(&new, version).unwrap();
    fs::rename(new, stage.scratch.join("version")).unwrap();
    let script = r#""$SEAMLESS_RUN" restart "$1" && echo deployed"#;
    Spawn::new(&stage.scratch, "sh")
        .args(["-c", script, "sh"])
        .arg(&stage.pid_file)
        .env("SEAMLESS_RUN", support::program())
        .finish()
}

/// A deploy script under runit: a good version, a bad one, a good one again; then a stop, of which runit knows
/// nothing, and runit's own verb.
#[test]
fn a_deploy_script_under_runit() {
    let stage = Stage::new();
    fs::write(stage.scratch.join("version"), DAEMON).unwrap();
    let mut runit = Runit::start(&stage.scratch, &stage.log, &service_by_files(&stage));
    let first = stage.up();
    stage.log.wait_for(&format!("{first} is started"));

    let good = deploy(&stage, DAEMON).expect_success();
    let second = stage.pid_in_file().unwrap();
    assert_ne!(first, second);
    assert_eq!(
        good.stdout,
        format!("app: generation 2 (pid {second}) serves\ndeployed\n")
    );

    let bad = deploy(&stage, "exit 7");
    assert_eq!(bad.code(), Some(1), "{}", bad.stderr);
    assert_eq!(bad.stdout, "", "nothing is deployed");
    assert!(
        bad.stderr
            .contains("generation 3 failed: it died before it was ready: exit status 7"),
        "{}",
        bad.stderr
    );
    assert_eq!(stage.pid_in_file(), Some(second));
    assert_eq!(verb(&stage, "status", &["-q"]).finish().code(), Some(0));

    // runit starts the bad one again and again; a restart may meet one that was begun before the new version was
    // there, and says so.
    let mut good = deploy(&stage, DAEMON);
    while good.code() == Some(1) {
        good = deploy(&stage, DAEMON);
    }
    let third = stage.pid_in_file().unwrap();
    assert_ne!(third, second);
    assert!(
        good.stdout
            .ends_with(&format!("(pid {third}) serves\ndeployed\n")),
        "{}",
        good.stdout
    );
    assert_eq!(stage.log.count(&format!("{second} got USR2")), 1);
    assert_eq!(runit.wait_main_pid(), launcher_of(&stage));

    // It ends what there is, and says who may start it again.
    stage.log.wait_seen(&format!("(pid {second}) is gone"));
    let deployed = stage.log.lines();
    let stopped = verb(&stage, "stop", &[]).finish().expect_success();
    assert!(
        stopped
            .stdout
            .contains(&format!("(pid {third}) ended: exit status 0 after ")),
        "{}",
        stopped.stdout
    );
    let warning = format!(
        "its supervisor (runsv, pid {}) was not told, and ",
        runit.own_processes()[0]
    );
    assert!(stopped.stderr.contains(&warning), "{}", stopped.stderr);
    assert!(
        stopped.stderr.contains("start it again") || stopped.stderr.contains("started it again")
    );
    assert!(!process::alive(third));
    let deadline = Instant::now() + PATIENCE;
    // Of the deployment there may have been more than one.
    let new = |line: &str| line.starts_with("up ") && !deployed.iter().any(|one| one == line);
    let fourth = stage.log.seen_by(deadline, deployed.len(), new);
    let fourth = pid_in(&fourth.unwrap_or_else(|| panic!("{}", stage.log.listing())));
    stage.log.wait_for(&format!("{fourth} is started"));
    assert_eq!(stage.pid_in_file(), Some(fourth));

    // runit's own stop ends it all by itself, and it is not started again.
    let launcher = launcher_of(&stage);
    runit.run(Verb::Down);
    process::wait_exit(launcher);
    let stopped = verb(&stage, "stop", &[]).finish();
    assert_eq!(stopped.code(), Some(3), "nothing is left to stop");
    stage.scratch.wait_no_processes_but(&runit.own_processes());
    assert_eq!(files_left(&stage), ["app.pid.lock"]);
    runit.shutdown();
}

/// The launcher that the newest keeper names.
fn launcher_of(stage: &Stage) -> Pid {
    let launcher = status(stage).1["generations"][0]["launcher"].as_i64();
    Pid::from_raw(launcher.unwrap().try_into().unwrap())
}

/// R15: every generation ends, those that drain slowly too, and each end is told; the launcher leaves as its daemon.
#[test]
fn a_stop_ends_all_generations_and_says_how() {
    let stage = Stage::new();
    let finished = verb(&stage, "stop", &[]).finish();
    assert_eq!(finished.code(), Some(3));
    assert!(finished.stderr.contains("nothing is running"));

    let [one, two] = ["one", "two"].map(|name| Slow::new(&stage, name));
    let (launcher, first) = stage.daemon(&[], &one.ready, BY_CHLD);
    detach(launcher);
    let (launcher, second) = stage.daemon(&[], &two.ready, BY_CHLD);
    stage.log.wait_seen(&format!("{first} got TERM"));
    let stop = verb(&stage, "stop", &[]).start();
    stage.log.wait_seen(&format!("{second} got TERM"));
    two.finish_with("6");
    process::wait_exit(second);
    assert!(stop.alive() && launcher.alive(), "the first one drains");
    one.finish_with("5");
    let finished = stop.finish().expect_success();
    let lines: Vec<&str> = finished.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].starts_with(&format!(
            "app: generation 2 (pid {second}) ended: exit status 6 after "
        )),
        "{lines:?}"
    );
    assert!(
        lines[1].starts_with(&format!(
            "app: generation 1 (pid {first}) ended: exit status 5 after "
        )),
        "{lines:?}"
    );
    assert!(
        finished
            .stderr
            .contains("was not told, and may start it again"),
        "{}",
        finished.stderr
    );
    assert_eq!(launcher.finish().code(), Some(6));
    assert_eq!(stage.log.count("got TERM"), 2, "nobody was told twice");
    assert_eq!(files_left(&stage), ["app.pid.lock"]);

    // A standby, and one that has only begun.
    let (launcher, standby) = stage.daemon(&[], STARTED, BY_CHLD);
    detach(launcher);
    let (launcher, starting) = stage.daemon(&[], "", BY_CHLD);
    let finished = verb(&stage, "stop", &[]).finish().expect_success();
    for daemon in [standby, starting] {
        let ended = format!("(pid {daemon}) ended: exit status 0 after ");
        assert!(finished.stdout.contains(&ended), "{}", finished.stdout);
    }
    launcher.finish();
    stage.scratch.wait_no_processes_but(&[]);
    assert_eq!(files_left(&stage), ["app.pid.lock"]);
}

/// `--old`: the one that serves is not touched, nor its supervisor; nothing that drains is a yes too.
#[test]
fn a_stop_of_the_old_ones_leaves_the_serving_one_alone() {
    let stage = Stage::new();
    let stubborn = format!("trap 'echo \"$$ got TERM\"' TERM; {STARTED}");
    assert_eq!(verb(&stage, "stop", &["--old"]).finish().code(), Some(3));
    let options = ["--stop-timeout", "300ms"];
    let (launcher, first) = stage.daemon(&options, &stubborn, BY_CHLD);
    let finished = verb(&stage, "stop", &["--old"]).finish().expect_success();
    assert_eq!(finished.stdout, "app: no old generation drains\n");
    detach(launcher);
    // A standby serves.
    verb(&stage, "stop", &["--old"]).finish().expect_success();
    assert!(process::alive(first));
    assert_eq!(stage.log.count("got TERM"), 0);

    let (launcher, second) = stage.daemon(&options, STARTED, BY_CHLD);
    stage.log.wait_seen(&format!("{first} got TERM"));
    let finished = verb(&stage, "stop", &["--old"]).finish().expect_success();
    assert!(
        finished.stdout.starts_with(&format!(
            "app: generation 1 (pid {first}) ended: killed by KILL after "
        )),
        "{}",
        finished.stdout
    );
    assert_eq!(finished.stdout.lines().count(), 1);
    assert_eq!(finished.stderr, "");
    assert_eq!(stage.log.count(&format!("{first} got TERM")), 1);
    launcher.signal(Signal::SIGHUP);
    stage.log.wait_for(&format!("{second} got HUP"));
    assert_eq!(stage.log.count(&format!("{second} got ")), 1);
    let (code, view) = status(&stage);
    assert_eq!((code, phases(&view)), (Some(0), vec![(2, "serving")]));
    stage.stop(launcher, &[]);
}

/// `--old`, with one that drains, one in standby and one that starts: the one in standby serves.
#[test]
fn a_stop_of_the_old_ones_leaves_a_standby_alone() {
    let stage = Stage::new();
    let stubborn = format!("trap 'echo \"$$ got TERM\"' TERM; {STARTED}");
    let options = ["--stop-timeout", "300ms"];
    let (launcher, first) = stage.daemon(&options, &stubborn, BY_CHLD);
    detach(launcher);
    let (launcher, second) = stage.daemon(&options, STARTED, BY_CHLD);
    stage.log.wait_seen(&format!("{first} got TERM"));
    detach(launcher);
    let (launcher, _) = stage.daemon(&options, "", BY_CHLD);

    let finished = verb(&stage, "stop", &["--old"]).finish().expect_success();
    assert!(
        finished.stdout.starts_with(&format!(
            "app: generation 1 (pid {first}) ended: killed by KILL after "
        )),
        "{}",
        finished.stdout
    );
    assert_eq!(finished.stdout.lines().count(), 1);
    let (code, view) = status(&stage);
    let expected = vec![(3, "starting"), (2, "standby")];
    assert_eq!((code, phases(&view)), (Some(0), expected));
    assert_eq!(stage.log.count(&format!("{second} got TERM")), 0);
    stage.stop(launcher, &[]);
}

/// R15: whoever ignores TERM is KILLed after the stop timeout, one that serves and one in standby.
#[test]
fn a_stop_of_one_that_ignores_term() {
    for standby in [false, true] {
        let stage = Stage::new();
        let stubborn = format!("trap '' TERM; {STARTED}");
        let options = ["--stop-timeout", "300ms"];
        let (launcher, daemon) = stage.daemon(&options, &stubborn, BY_CHLD);
        let launcher = if standby {
            detach(launcher);
            None
        } else {
            Some(launcher)
        };
        let finished = verb(&stage, "stop", &[]).finish().expect_success();
        let ended = format!("app: generation 1 (pid {daemon}) ended: killed by KILL after ");
        assert!(finished.stdout.starts_with(&ended), "{}", finished.stdout);
        if let Some(launcher) = launcher {
            assert_eq!(launcher.finish().signal(), Some(Signal::SIGKILL));
        } else {
            assert_eq!(finished.stderr, "", "it has no supervisor");
        }
        stage.scratch.wait_no_processes_but(&[]);
        assert_eq!(files_left(&stage), ["app.pid.lock"]);
    }
}

/// R20, R18: by the record alone, where launcher and keeper were KILLed; and nobody else is signalled.
#[test]
fn a_stop_by_the_record_alone() {
    let stage = Stage::new();
    let stranger = innocent(&stage);
    let slow = Slow::new(&stage, "hold");
    let (launcher, first) = stage.daemon(&["--orphan-timeout", "1h"], &slow.ready, BY_CHLD);
    let mut keepers = process::children(launcher.pid());
    detach(launcher);
    let (mut launcher, second) = stage.daemon(&[], STARTED, BY_CHLD);
    stage.log.wait_seen(&format!("{first} got TERM"));
    // Its keeper's last word on the matter is in the record.
    while !stage.record().contains("generation 1 state=draining") {
        std::thread::yield_now();
    }
    keepers.extend(process::children(launcher.pid()));
    launcher.kill();
    for keeper in keepers {
        let keeper = Handle::open(keeper).unwrap();
        keeper.signal(Signal::SIGKILL);
        process::wait_exit(keeper.pid);
    }
    let stop = verb(&stage, "stop", &[]).start();
    stage.log.wait_seen(&format!("{second} got TERM"));
    assert!(stop.alive());
    slow.finish_with("0");
    let finished = stop.finish().expect_success();
    for (generation, daemon) in [(1, first), (2, second)] {
        let ended = format!(
            "app: generation {generation} (pid {daemon}) ended: its exit status is not known"
        );
        assert!(finished.stdout.contains(&ended), "{}", finished.stdout);
    }
    assert_eq!(
        stage.log.count(&format!("{first} got TERM")),
        1,
        "it drained already"
    );
    assert!(
        !finished.stderr.contains("start it again"),
        "{}",
        finished.stderr
    );
    assert_eq!(files_left(&stage), ["app.pid.lock"]);
    assert_unharmed(&stage, &stranger);
    assert_eq!(verb(&stage, "stop", &[]).finish().code(), Some(3));
}
