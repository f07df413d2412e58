//! What keepers and verbs say to each other, as recorded text (R25).
//!
//! A file of `tests/transcripts/` is one conversation over the control socket. `>` begins a line of the one who
//! connected (a newcomer's keeper, or a verb), `<` a line of the keeper that listens; an empty line ends a message,
//! `>EOF` and `<EOF` close the connection, `---` is a pause, in which the test makes something happen. A `{name}` is
//! a value. Each file of version 1.0 is played twice: the test plays the one side for the real program on the other.
//! These words are a promise: programs of different versions meet where a service is upgraded.

use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, Permissions};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::sys::signal::Signal;
use rustix::fs::{FlockOperation, flock};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind,
    connect, listen, recvmsg, sendmsg, socket_with,
};

use crate::stage::{BY_CHLD, DAEMON, STARTED, Stage};
use crate::support::process::{self, Handle, Pid};
use crate::support::{PATIENCE, Spawn, Spawned};
use crate::verbs::{Watch, detach, phases, say, status, verb};

/// Who says a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Caller,
    Keeper,
}

/// What one side does.
#[derive(Clone, Debug)]
enum Turn {
    Says(Side, String),
    Closes(Side),
    Pause,
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts")
}

fn turns(text: &str) -> VecDeque<Turn> {
    let mut turns = VecDeque::new();
    let mut open: Option<(Side, String)> = None;
    for line in text.lines().chain([""]) {
        let side = match line.chars().next() {
            Some('>') => Some(Side::Caller),
            Some('<') => Some(Side::Keeper),
            _ => None,
        };
        match (side, line.get(1..).unwrap_or_default(), &mut open) {
            (None, ..) => {
                turns.extend(open.take().map(|(side, words)| Turn::Says(side, words)));
                if line == "---" {
                    turns.push_back(Turn::Pause);
                }
            }
            (Some(side), "EOF", None) => turns.push_back(Turn::Closes(side)),
            (Some(side), words, None) => {
                open = Some((side, format!("{}\n", words.strip_prefix(' ').unwrap())));
            }
            (Some(side), words, Some((speaker, message))) => {
                assert_eq!(side, *speaker, "one message, one speaker: {line}");
                message.push_str(words.strip_prefix(' ').unwrap());
                message.push('\n');
            }
        }
    }
    turns
}

/// One conversation, of which the test plays one side.
struct Conversation {
    name: &'static str,
    turns: VecDeque<Turn>,
    values: Vec<(&'static str, String)>,
    us: Side,
    peer: Peer,
}

impl Conversation {
    fn new(
        name: &'static str,
        us: Side,
        peer: Peer,
        values: &[(&'static str, String)],
    ) -> Conversation {
        let text = fs::read_to_string(directory().join(format!("{name}.txt"))).unwrap();
        Conversation {
            name,
            turns: turns(&text),
            values: values.to_vec(),
            us,
            peer,
        }
    }

    /// Whatever it is.
    fn forget(&mut self, value: &str) {
        self.values.retain(|(name, _)| *name != value);
    }

    fn filled(&self, words: &str) -> String {
        let mut words = words.to_owned();
        for (name, value) in &self.values {
            words = words.replace(&format!("{{{name}}}"), value);
        }
        words
    }

    /// Until the next pause, or the end.
    fn play(&mut self) -> &mut Conversation {
        self.play_with(&[])
    }

    /// What we say first carries these descriptors.
    fn play_with(&mut self, passed: &[BorrowedFd<'_>]) -> &mut Conversation {
        let mut passed = passed;
        while let Some(turn) = self.turns.pop_front() {
            match turn {
                Turn::Pause => return self,
                Turn::Says(side, words) if side == self.us => {
                    let words = self.filled(&words);
                    assert!(!words.contains('{'), "{}: no value: {words}", self.name);
                    self.peer.say(words.as_bytes(), passed);
                    passed = &[];
                }
                Turn::Says(_, words) => self.expect(Some(&self.filled(&words))),
                Turn::Closes(side) if side == self.us => self.peer.close(),
                Turn::Closes(_) => self.expect(None),
            }
        }
        self
    }

    /// A keeper may send its state as often as it likes.
    fn expect(&mut self, pattern: Option<&str>) {
        let mut skipped = Vec::new();
        loop {
            let heard = self.peer.hear();
            match (&heard, pattern) {
                (None, None) => return,
                (Some(heard), Some(pattern)) if matches(heard, pattern) => return,
                (Some(state), _) if state.starts_with("seamless-control 1.0 state\n") => {
                    skipped.push(state.clone());
                }
                _ => panic!(
                    "{}: wanted {pattern:#?}, heard {heard:#?} after {skipped:#?}",
                    self.name
                ),
            }
        }
    }
}

/// Byte for byte, but that a `{name}` stands for any words within its line.
fn matches(text: &str, pattern: &str) -> bool {
    let same = |(line, pattern): (&str, &str)| match pattern.split_once('{') {
        Some((before, rest)) => {
            let after = rest.split_once('}').expect("a name").1;
            line.len() >= before.len() + after.len()
                && line.starts_with(before)
                && line.ends_with(after)
        }
        None => line == pattern,
    };
    let lines = text.split('\n').zip(pattern.split('\n'));
    text.split('\n').count() == pattern.split('\n').count() && lines.into_iter().all(same)
}

/// One end of a connection to the real program.
struct Peer {
    socket: Option<OwnedFd>,
    /// What the other side has passed so far.
    passed: Vec<OwnedFd>,
}

fn unix_socket() -> OwnedFd {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap()
}

impl Peer {
    fn connect(path: &Path) -> Peer {
        let socket = unix_socket();
        connect(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
        Peer::of(socket)
    }

    fn of(socket: OwnedFd) -> Peer {
        Peer {
            socket: Some(socket),
            passed: Vec::new(),
        }
    }

    fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_ref().expect("it is open").as_fd()
    }

    fn say(&self, bytes: &[u8], passed: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(passed.is_empty() || control.push(SendAncillaryMessage::ScmRights(passed)));
        let flags = SendFlags::NOSIGNAL;
        sendmsg(self.socket(), &[IoSlice::new(bytes)], &mut control, flags).unwrap();
    }

    /// The next message; `None` at the end of file.
    fn hear(&mut self) -> Option<String> {
        let until = Instant::now() + PATIENCE;
        let heard = process::wait_any_readable(&[self.socket()], until);
        assert!(heard.is_some(), "nothing was said in a minute");
        let mut bytes = vec![0; 1 << 17];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let length = {
            let mut parts = [std::io::IoSliceMut::new(&mut bytes)];
            let flags = RecvFlags::CMSG_CLOEXEC;
            loop {
                match recvmsg(self.socket(), &mut parts, &mut control, flags) {
                    Ok(received) => break received.bytes,
                    // It has left what we said unread; what it said itself comes after that.
                    Err(rustix::io::Errno::CONNRESET) => {}
                    Err(error) => panic!("recvmsg: {error}"),
                }
            }
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.passed.extend(descriptors);
            }
        }
        bytes.truncate(length);
        (length > 0).then(|| String::from_utf8(bytes).unwrap())
    }

    fn close(&mut self) {
        self.socket = None;
    }
}

/// A daemon without a keeper, whose keeper the test is. It listens at the path.
struct FakeKeeper {
    daemon: Spawned,
    /// Whoever wants to KILL the keeper finds this one.
    stand_in: Spawned,
    listener: OwnedFd,
}

impl FakeKeeper {
    fn new(stage: &Stage) -> FakeKeeper {
        FakeKeeper::of(stage, "")
    }

    /// `up`: what its daemon does when it is up.
    fn of(stage: &Stage, up: &str) -> FakeKeeper {
        let daemon = stage.spawn("sh").args(["-c", DAEMON]).env("READY", up);
        let daemon = daemon.start();
        assert_eq!(stage.up(), daemon.pid());
        let stand_in = Spawn::new(&stage.scratch, "sleep").arg("1000").start();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let record = format!(
            "seamless-record 1.0\nboot {boot}last 7\ngeneration 7 state=ready daemon={}\n",
            daemon.identity()
        );
        fs::write(stage.beside(".record"), record).unwrap();
        fs::write(&stage.pid_file, format!("{}\n", daemon.pid())).unwrap();
        let listener = unix_socket();
        let path = stage.beside(".sock");
        bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        listen(&listener, 16).unwrap();
        FakeKeeper {
            daemon,
            stand_in,
            listener,
        }
    }

    fn values(&self) -> Vec<(&'static str, String)> {
        let mut values = values(7, self.daemon.pid(), self.stand_in.pid());
        values.extend(
            [
                ("control", "5"),
                ("launcher", "1:1"),
                ("older", "6"),
                ("age", "1500"),
                ("left", "600000"),
                ("ago", "70"),
                ("failed", "7"),
                ("command", "./daemon --flags=1"),
                ("status", "fine"),
                ("why", "the weather"),
                ("how", "exit status 0 after 0.02 s"),
            ]
            .map(|(name, value)| (name, value.to_owned())),
        );
        values
    }

    fn accept(&self) -> Peer {
        let until = Instant::now() + PATIENCE;
        let came = process::wait_any_readable(&[self.listener.as_fd()], until);
        assert!(came.is_some(), "nobody came in a minute");
        Peer::of(accept_with(&self.listener, SocketFlags::CLOEXEC).unwrap())
    }

    /// With the next one who connects, as his keeper.
    fn converse(&self, name: &'static str) -> Conversation {
        Conversation::new(name, Side::Keeper, self.accept(), &self.values())
    }

    /// A new generation finds this one, which passes it a pidfd.
    fn newcomer(
        &self,
        stage: &Stage,
        name: &'static str,
        options: &[&str],
        command: &[String],
        ready: &str,
    ) -> (Spawned, Conversation) {
        let newcomer = stage.seamless_run(options).arg("--").args(command);
        let newcomer = newcomer.env("READY", ready).start();
        let mut conversation = self.converse(name);
        let handle = Handle::open(self.daemon.pid()).unwrap();
        conversation.play_with(&[handle.as_fd()]);
        (newcomer, conversation)
    }

    /// A newcomer that comes after others have failed.
    fn newcomer_after(
        &self,
        stage: &Stage,
        name: &'static str,
        number: u32,
        command: &[String],
    ) -> (Spawned, Conversation) {
        let newcomer = stage.seamless_run(&[]).arg("--").args(command).start();
        let mut talk = self.converse(name);
        talk.forget("successor");
        talk.values.push(("successor", number.to_string()));
        talk.play();
        (newcomer, talk)
    }

    fn end_daemon(&mut self) {
        self.daemon.signal(Signal::SIGTERM);
        self.daemon.wait();
    }
}

/// Makes [`DAEMON`] take its time to end.
struct Hold {
    fifo: PathBuf,
    trap: String,
}

impl Hold {
    fn new(stage: &Stage) -> Hold {
        let fifo = stage.scratch.join("hold");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let trap = format!(
            "trap 'echo \"$$ got TERM\"; read -r _ <{}; exit 0' TERM",
            fifo.display()
        );
        Hold { fifo, trap }
    }

    fn let_go(&self) {
        fs::write(&self.fifo, "now\n").unwrap();
    }
}

/// What can be known of a generation beforehand.
fn values(number: u32, daemon: Pid, keeper: Pid) -> Vec<(&'static str, String)> {
    let identity = |pid| process::identity(pid).unwrap().to_string();
    vec![
        ("number", number.to_string()),
        ("successor", (number + 1).to_string()),
        ("daemon", identity(daemon)),
        ("pid", daemon.to_string()),
        ("keeper", identity(keeper)),
    ]
}

/// A daemon under the real program, and what is known of it.
struct Real {
    launcher: Option<Spawned>,
    daemon: Pid,
    values: Vec<(&'static str, String)>,
}

impl Real {
    fn serving(stage: &Stage, number: u32, ready: &str) -> Real {
        let (launcher, daemon) = stage.daemon(&["--orphan-timeout", "1h"], ready, BY_CHLD);
        let keeper = process::children(launcher.pid())[0];
        let mut values = values(number, daemon, keeper);
        values.push(("launcher", launcher.identity().to_string()));
        Real {
            launcher: Some(launcher),
            daemon,
            values,
        }
    }

    fn standby(stage: &Stage) -> Real {
        let mut real = Real::serving(stage, 1, STARTED);
        real.detach();
        real
    }

    fn detach(&mut self) {
        detach(self.launcher.take().unwrap());
    }

    /// With its keeper, at the path.
    fn converse(&self, stage: &Stage, name: &'static str) -> Conversation {
        self.converse_with(stage, name, &[])
    }

    fn converse_with(
        &self,
        stage: &Stage,
        name: &'static str,
        more: &[(&'static str, &str)],
    ) -> Conversation {
        let more = more
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()));
        // The first of two values counts.
        let values: Vec<_> = more.chain(self.values.clone()).collect();
        let peer = Peer::connect(&stage.beside(".sock"));
        Conversation::new(name, Side::Caller, peer, &values)
    }
}

/// No message of 1.0 is missing, and no file is left unplayed.
#[test]
fn every_message_of_1_0_is_recorded() {
    let mut words = BTreeSet::new();
    for entry in fs::read_dir(directory()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let played = include_str!("transcripts.rs").contains(&format!("{name:?}"));
        assert!(played, "nobody plays {name}");
        for turn in turns(&fs::read_to_string(&path).unwrap()) {
            if let (Turn::Says(_, text), true) = (turn, name.starts_with("1.0-")) {
                let head = text.lines().next().unwrap().to_owned();
                words.insert(
                    head.strip_prefix("seamless-control 1.0 ")
                        .unwrap()
                        .to_owned(),
                );
            }
        }
    }
    let recorded: Vec<&str> = words.iter().map(String::as_str).collect();
    let all = "attach await commit committed end failed failed-attempt gone refused restart restarting \
               state status stop supervised withdrawn-attempt yield yielded";
    assert_eq!(recorded.join(" "), all);
}

/// R11, R12, R15: what a newcomer of today says to an older keeper.
#[test]
fn a_newcomer_and_a_recorded_keeper() {
    let by_itself = r#"read -r old <"$SEAMLESS_PID_FILE"; rm "$SEAMLESS_PID_FILE"; kill "$old"; echo "$$" >"$SEAMLESS_PID_FILE""#;
    for (name, ready) in [("1.0-handover", STARTED), ("1.0-told", by_itself)] {
        let stage = Stage::new();
        let hold = Hold::new(&stage);
        let mut old = FakeKeeper::of(&stage, &hold.trap);
        let (newcomer, mut talk) = old.newcomer(&stage, name, &[], &stage.sh(DAEMON), ready);
        talk.play();
        if ready == STARTED {
            old.daemon.signal(Signal::SIGTERM);
        }
        stage
            .log
            .wait_seen(&format!("{} got TERM", old.daemon.pid()));
        hold.let_go();
        old.daemon.wait();
        talk.play();
        drop(talk);
        let daemon = stage.up();
        let mut watch = Watch::begin(&stage);
        watch.wait(|view| phases(view) == [(8, "serving")]);
        watch.end();
        assert_eq!(stage.pid_in_file(), Some(daemon));
        let told = format!("{} got TERM", old.daemon.pid());
        assert_eq!(stage.log.count(&told), 1, "{}", stage.log.listing());
        stage.stop(newcomer, &[old.stand_in.pid()]);
    }

    let stage = Stage::new();
    let mut old = FakeKeeper::new(&stage);
    let bad = ["sh", "-c", "exit 3"].map(str::to_owned);
    let (newcomer, mut talk) = old.newcomer(&stage, "1.0-failed", &[], &bad, "");
    talk.forget("why");
    talk.play();
    assert_eq!(newcomer.finish().code(), Some(3));
    let (newcomer, mut talk) = old.newcomer_after(&stage, "1.0-withdrawn", 9, &stage.sh(DAEMON));
    stage.up();
    newcomer.signal(Signal::SIGTERM);
    talk.play();
    assert_eq!(newcomer.finish().code(), Some(0));
    let name = "1.0-withdrawn-for-a-restart";
    let (newcomer, mut talk) = old.newcomer_after(&stage, name, 10, &stage.sh(DAEMON));
    stage.up();
    // As the older keeper would have passed it on.
    let mut restart = Peer::connect(&stage.beside(".sock.new"));
    restart.say(b"seamless-control 1.0 restart\n", &[]);
    talk.play();
    assert_eq!(newcomer.finish().code(), Some(0));
    let asked = "seamless-control 1.0 restarting\ngeneration=10\n";
    assert_eq!(restart.hear().as_deref(), Some(asked));
    assert_eq!(restart.hear(), None, "the next one will know");
    assert_eq!(stage.pid_in_file(), Some(old.daemon.pid()));
    assert_eq!(stage.log.count(&format!("{} got ", old.daemon.pid())), 0);
    old.end_daemon();

    for (name, timeout) in [("1.0-end", "2500ms"), ("1.0-end-whenever", "none")] {
        let stage = Stage::new();
        let mut old = FakeKeeper::new(&stage);
        let options = ["--stop-timeout", timeout];
        let (newcomer, mut talk) = old.newcomer(&stage, name, &options, &stage.sh(DAEMON), "");
        stage.up();
        newcomer.signal(Signal::SIGINT);
        talk.values.push(("within", "2500".to_owned()));
        talk.play();
        old.end_daemon();
        assert!(newcomer.alive(), "it waits for the older one");
        talk.play();
        drop(talk);
        assert_eq!(newcomer.finish().code(), Some(0));
    }
}

/// What a keeper of today answers to a newcomer.
#[test]
fn a_keeper_and_recorded_newcomers() {
    for name in [
        "1.0-handover",
        "1.0-told",
        "1.0-end",
        "1.0-end-whenever",
        "1.9-commit",
    ] {
        let stage = Stage::new();
        let real = Real::standby(&stage);
        let mut talk = real.converse_with(&stage, name, &[("within", "2500"), ("successor", "2")]);
        talk.play();
        assert_eq!(talk.peer.passed.len(), 1, "{name}: its pidfd");
        assert_eq!(stage.log.count("got TERM"), 0);
        talk.play();
        if name == "1.0-told" {
            assert_eq!(stage.log.count("got TERM"), 0, "it knows already");
            Handle::open(real.daemon).unwrap().signal(Signal::SIGTERM);
        }
        talk.play();
        stage.scratch.wait_no_processes_but(&[]);
        let told = format!("{} got TERM", real.daemon);
        stage.log.wait_seen(&told);
        assert_eq!(stage.log.count(&told), 1, "{name}");
    }

    // R16: a bad version leaves it be; a withdrawal arms the orphan timeout again.
    for (name, deadline) in [
        ("1.9-newcomer", None),
        ("1.0-failed", None),
        ("1.0-failed-start", None),
        ("1.0-withdrawn", Some("drain")),
        ("1.0-withdrawn-for-a-restart", None),
    ] {
        let stage = Stage::new();
        let real = Real::standby(&stage);
        let more = [("why", "it is of glass"), ("successor", "5")];
        real.converse_with(&stage, name, &more).play().play();
        // It is answered before the end of the conversation is looked at; the next one is not.
        status(&stage);
        let mut watch = Watch::begin(&stage);
        let failed = !name.contains("withdrawn");
        let view = watch.wait(|view| {
            let what = view["generations"][0]["deadline"]["what"].as_str();
            view["failure"].is_object() == failed && what == deadline
        });
        watch.end();
        assert_eq!(phases(&view), [(1, "standby")], "{name}");
        if failed {
            assert_eq!(view["failure"]["why"], "it is of glass");
        }
        verb(&stage, "stop", &[]).finish().expect_success();
    }
}

/// What a keeper of today answers to verbs, and to a newcomer that finds the lock held.
#[test]
fn a_keeper_and_recorded_verbs() {
    let stage = Stage::new();
    let mut real = Real::serving(&stage, 1, STARTED);
    say(&stage, real.daemon, &["status", "fine"]);
    real.converse(&stage, "1.0-status").play();
    real.converse(&stage, "1.0-yield-supervised").play();
    real.converse_with(&stage, "1.0-await", &[("number", "0"), ("successor", "1")])
        .play();
    let mut watch = real.converse(&stage, "1.0-watch");
    watch.play();
    real.detach();
    watch.play();
    real.converse(&stage, "1.0-yield").play();

    let mut restart = real.converse(&stage, "1.0-restart-failed");
    restart.play();
    let (newcomer, bad) = stage.daemon(&[], "", BY_CHLD);
    // Asked behind the one who waits, and passed on behind him.
    assert_eq!(phases(&status(&stage).1)[0], (2, "starting"));
    let keeper = process::children(newcomer.pid())[0];
    Handle::open(bad).unwrap().signal(Signal::SIGKILL);
    restart.play();
    // While that one leaves, whoever is passed on to it has to ask again.
    process::wait_exit(keeper);
    assert_eq!(newcomer.finish().signal(), Some(Signal::SIGKILL));
    // The one that failed counts.
    let mut restart = real.converse_with(
        &stage,
        "1.0-restart",
        &[("number", "2"), ("successor", "3")],
    );
    restart.play();
    let hold = Hold::new(&stage);
    let slow = format!("{}; {STARTED}", hold.trap);
    let mut second = Real::serving(&stage, 3, &slow);
    restart.forget("pid");
    restart.values.push(("pid", second.daemon.to_string()));
    restart.play();
    stage
        .log
        .wait_seen(&format!("generation 1 (pid {}) is gone", real.daemon));
    second.detach();

    // One that drains, one in standby, and a failure.
    let (launcher, third) = stage.daemon(&["--orphan-timeout", "1h"], STARTED, BY_CHLD);
    stage.log.wait_seen(&format!("{} got TERM", second.daemon));
    let keeper = process::children(launcher.pid())[0];
    detach(launcher);
    let mut third = Real {
        launcher: None,
        daemon: third,
        values: values(4, third, keeper),
    };
    let bad = stage.seamless_run(&["--", "sh", "-c", "exit 3"]).finish();
    assert_eq!(bad.code(), Some(3));
    let mut watch = Watch::begin(&stage);
    watch.wait(|view| view["failure"]["generation"] == 5);
    watch.end();
    let mut withdrawn = Peer::connect(&stage.beside(".sock"));
    withdrawn.say(b"seamless-control 1.0 attach\ngeneration=6\n", &[]);
    withdrawn.hear();
    withdrawn.say(b"seamless-control 1.0 withdrawn-attempt\n", &[]);
    withdrawn.close();
    let mut watch = Watch::begin(&stage);
    watch.wait(|view| view["generations"][0]["deadline"]["what"] == "drain");
    watch.end();
    let of = |name: &str| {
        let value = second.values.iter().find(|(known, _)| *known == name);
        value.unwrap().1.clone()
    };
    let (older_daemon, older_keeper) = (of("daemon"), of("keeper"));
    let older = [
        ("older", "3"),
        ("older-daemon", older_daemon.as_str()),
        ("older-keeper", older_keeper.as_str()),
        ("failed", "5"),
    ];
    third
        .converse_with(&stage, "1.0-status-of-two", &older)
        .play();

    let pid = second.daemon.to_string();
    let more = [("older", "3"), ("pid", pid.as_str())];
    let mut stop = third.converse_with(&stage, "1.0-stop-old", &more);
    stop.play();
    stage.log.wait_seen("drains already");
    hold.let_go();
    stop.play();
    assert!(process::alive(third.daemon));
    third.converse(&stage, "1.0-stop").play();
    stage.scratch.wait_no_processes_but(&[]);

    // One that takes its time to stop.
    let slow = Real::serving(&stage, 1, &slow);
    third.launcher = slow.launcher;
    let launcher = third.launcher.take().unwrap();
    launcher.signal(Signal::SIGINT);
    stage.log.wait_seen(&format!("{} got TERM", slow.daemon));
    let peer = Peer::connect(&stage.beside(".sock"));
    Conversation::new("1.0-restart-refused", Side::Caller, peer, &slow.values).play();
    hold.let_go();
    assert_eq!(launcher.finish().code(), Some(0));
}

/// What verbs of today ask a keeper, and that they understand its answers; and R19's question.
#[test]
fn verbs_and_a_recorded_keeper() {
    let stage = Stage::new();
    let mut old = FakeKeeper::new(&stage);
    let asked = verb(&stage, "status", &[]).start();
    old.converse("1.0-status").play();
    let shown = asked.finish().expect_success().stdout;
    let wanted = format!(
        "app: generation 7  pid {}  serving  for 1.5 s  ./daemon --flags=1\n",
        old.daemon.pid()
    );
    assert!(shown.starts_with(&wanted), "{shown}");

    let asked = verb(&stage, "status", &["--watch"]).start();
    let mut talk = old.converse("1.0-watch");
    talk.play().play();
    asked.signal(Signal::SIGTERM);
    talk.expect(None);
    asked.finish();

    let asked = verb(&stage, "restart", &[]).start();
    old.converse("1.0-restart").play().play();
    let shown = asked.finish().expect_success().stdout;
    assert_eq!(
        shown,
        format!("app: generation 8 (pid {}) serves\n", old.daemon.pid())
    );
    for (name, words) in [
        (
            "1.0-restart-failed",
            "app: generation 8 failed: the weather\n",
        ),
        (
            "1.0-restart-refused",
            "app: the restart was refused: the weather\n",
        ),
    ] {
        let asked = verb(&stage, "restart", &[]).start();
        old.converse(name).play().play();
        let finished = asked.finish();
        assert_eq!(
            (finished.code(), finished.stderr.as_str()),
            (Some(1), words)
        );
    }
    // The keeper that was asked has gone.
    let asked = verb(&stage, "restart", &[]).start();
    let mut talk = old.converse("1.0-restart");
    talk.play();
    drop(talk);
    old.converse("1.0-await").play();
    asked.finish().expect_success();

    let lock = fs::File::create(stage.beside(".lock")).unwrap();
    flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    let holder = old.stand_in.identity();
    let record = stage
        .record()
        .replace('\n', "\0")
        .replace("state=ready", "state=ready keeper=K launcher=K");
    let record = record
        .replace("=K", &format!("={holder}"))
        .replace('\0', "\n");
    fs::write(stage.beside(".record"), record).unwrap();
    let newcomer = stage.seamless_run(&["--"]).args(stage.sh(DAEMON)).start();
    old.converse("1.0-yield-supervised").play();
    assert_eq!(newcomer.finish().code(), Some(125));
    stage.log.wait_for("the weather");
    // That was no stop, and the one that serves shall know it (R16).
    let peer = old.accept();
    Conversation::new("1.0-failed-start", Side::Keeper, peer, &[]).play();
    let newcomer = stage.seamless_run(&["--"]).args(stage.sh(DAEMON));
    let newcomer = newcomer.env("READY", STARTED).start();
    let peer = old.accept();
    flock(&lock, FlockOperation::Unlock).unwrap();
    Conversation::new("1.0-yield", Side::Keeper, peer, &old.values()).play();
    let mut talk = old.converse("1.0-handover");
    talk.play().play();
    old.end_daemon();
    talk.play();
    drop(talk);
    let daemon = stage.up();
    stage.log.wait_for(&format!("{daemon} is started"));
    stage.stop(newcomer, &[old.stand_in.pid()]);

    for (name, option, shown) in [
        ("1.0-stop", None, "app: generation 7 "),
        ("1.0-stop-old", Some("--old"), "app: generation 6 "),
    ] {
        let stage = Stage::new();
        let mut old = FakeKeeper::new(&stage);
        let mut values = old.values();
        let mut question = "1.0-status";
        if option.is_some() {
            question = "1.0-status-of-two";
            let oldest = stage.spawn("sleep").arg("0").start();
            let identity = oldest.identity().to_string();
            values.extend([
                ("older-daemon", identity.clone()),
                ("older-keeper", identity),
                ("older-control", "5".to_owned()),
            ]);
        }
        let asked = verb(&stage, "stop", option.as_slice()).start();
        Conversation::new(question, Side::Keeper, old.accept(), &values).play();
        let peer = old.accept();
        old.end_daemon();
        // Nobody follows it.
        drop(std::mem::replace(&mut old.listener, unix_socket()));
        Conversation::new(name, Side::Keeper, peer, &values)
            .play()
            .play();
        let finished = asked.finish().expect_success();
        assert!(finished.stdout.starts_with(shown), "{}", finished.stdout);
        assert!(
            finished
                .stdout
                .contains("ended: exit status 0 after 0.02 s"),
            "{}",
            finished.stdout
        );
    }
}

/// R25: an older keeper with more words than ours.
#[test]
fn an_older_keeper_of_a_minor_version_with_more_words() {
    let stage = Stage::new();
    let mut old = FakeKeeper::new(&stage);
    let (newcomer, mut talk) = old.newcomer(&stage, "1.7-keeper", &[], &stage.sh(DAEMON), "");
    let daemon = stage.up();
    let mut question = Peer::connect(&stage.beside(".sock.new"));
    question.say(b"seamless-control 1.0 status\n", &[]);
    let state = question.hear().unwrap();
    for line in [
        "generation=8",
        "phase=starting",
        "generation=7",
        "phase=pondering",
        "deadline=dream",
        "why=the weather",
    ] {
        assert!(state.lines().any(|known| known == line), "{line}: {state}");
    }
    assert!(!state.contains("mood"), "{state}");

    say(&stage, daemon, &["started"]);
    talk.play();
    old.end_daemon();
    talk.play();
    drop(talk);
    let mut watch = Watch::begin(&stage);
    let view = watch.wait(|view| phases(view) == [(8, "serving")]);
    watch.end();
    assert!(view["failure"].is_null());
    assert_eq!(stage.log.count("believed instead"), 0);
    stage.stop(newcomer, &[old.stand_in.pid()]);
}

/// R25: another major version, in both directions: it is said, nothing is made up, and the service goes on.
#[test]
fn keepers_of_another_major_version() {
    let stage = Stage::new();
    let old = FakeKeeper::new(&stage);
    // The record may still be believed.
    let no = "is of version 2.0, and this program speaks 1.0";
    for (words, code) in [("status", 0), ("restart", 4)] {
        let asked = verb(&stage, words, &[]).start();
        let mut peer = old.accept();
        assert_eq!(peer.hear(), Some(format!("seamless-control 1.0 {words}\n")));
        peer.say(b"seamless-control 2.0 sorry\n", &[]);
        let finished = asked.finish();
        assert_eq!(finished.code(), Some(code), "{words}: {}", finished.stderr);
        let said = finished.stdout + &finished.stderr;
        assert!(said.contains(no), "{words}: {said}");
    }
    let newcomer = stage.seamless_run(&["--"]).args(stage.sh(DAEMON));
    let newcomer = newcomer.env("READY", STARTED).start();
    old.converse("2.0-keeper").play();
    stage
        .log
        .wait_for(&format!("{no}; the record is believed instead"));
    stage.log.wait_seen("generation 8 ");
    stage
        .log
        .wait_seen(&format!("{} got TERM", old.daemon.pid()));
    assert_eq!(status(&stage).0, Some(0));
    stage.stop(newcomer, &[old.stand_in.pid()]);

    let stage = Stage::new();
    let real = Real::standby(&stage);
    real.converse(&stage, "2.0-newcomer").play();
    assert_eq!(phases(&status(&stage).1), [(1, "standby")]);
    assert_eq!(stage.log.count("got TERM"), 0);
    verb(&stage, "stop", &[]).finish().expect_success();
}

/// What is no message, or is not for this moment, changes nothing.
#[test]
fn garbage_disturbs_nobody() {
    let stage = Stage::new();
    let real = Real::serving(&stage, 1, STARTED);
    real.converse(&stage, "0-garbage").play();
    let mut peer = Peer::connect(&stage.beside(".sock"));
    for (bytes, why) in [
        (vec![b'x'; 205_000], "is too long"),
        (vec![0xff; 10], "is not UTF-8"),
        (vec![0; 10], "is not of seamless-run"),
    ] {
        peer.say(&bytes, &[]);
        let heard = peer.hear();
        assert_eq!(
            heard,
            Some(format!(
                "seamless-control 1.0 refused\nwhy=this message {why}\n"
            ))
        );
    }
    // The connection is as good as before.
    peer.say(b"seamless-control 1.0 status\n", &[]);
    assert!(peer.hear().unwrap().contains("\nphase=serving\n"));
    assert_eq!(peer.hear(), None);
    assert_eq!(stage.log.count("got "), 0);
    assert_eq!(phases(&status(&stage).1), [(1, "serving")]);
    stage.stop(real.launcher.unwrap(), &[]);
}

/// R18: the file's mode keeps others out; should it be opened, the kernel still says who they are.
#[test]
fn another_user_gets_nothing() {
    let stage = Stage::new();
    let real = Real::serving(&stage, 1, STARTED);
    let path = stage.beside(".sock");
    let code = r#"
import os, socket, sys
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(sys.argv[1])
s.send(sys.argv[2].encode())
print(s.recv(65536))"#;
    let as_nobody = |words: &str| {
        let python = Spawn::new(&stage.scratch, "python3").args(["-c", code]);
        python.arg(&path).arg(words).finish()
    };
    let refused = as_nobody("seamless-control 1.0 stop\n");
    assert!(
        refused.stderr.contains("PermissionError"),
        "{}",
        refused.stderr
    );
    fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    for words in ["status", "stop", "restart", "yield", "attach\ngeneration=9"] {
        let said = as_nobody(&format!("seamless-control 1.0 {words}\n"));
        let nothing = said.stdout == "b''\n" || said.stderr.contains("ConnectionResetError");
        assert!(nothing, "{words}: {}{}", said.stdout, said.stderr);
    }
    assert_eq!(stage.log.count("got "), 0);
    assert_eq!(phases(&status(&stage).1), [(1, "serving")]);
    stage.stop(real.launcher.unwrap(), &[]);
}

/// Whoever comes after as many as may watch is told so, and drives nobody out; a mere question is answered.
#[test]
fn a_hundred_watchers() {
    let stage = Stage::new();
    let real = Real::serving(&stage, 1, STARTED);
    let mut all: Vec<Peer> = (0..100)
        .map(|_| {
            let peer = Peer::connect(&stage.beside(".sock"));
            peer.say(b"seamless-control 1.0 status\nwatch=1\n", &[]);
            peer
        })
        .collect();
    let answers: Vec<String> = all.iter_mut().map(|peer| peer.hear().unwrap()).collect();
    let watches = |answer: &&String| answer.starts_with("seamless-control 1.0 state\n");
    assert_eq!(answers.iter().filter(watches).count(), 64, "{answers:?}");
    let full = "seamless-control 1.0 refused\nwhy=as many watch it as there may be\n";
    assert_eq!(answers.iter().filter(|one| *one == full).count(), 36);
    assert_eq!(status(&stage).0, Some(0));
    stage.stop(real.launcher.unwrap(), &[]);
}

/// Those who connect and say nothing keep nobody out: neither a verb nor the next generation.
#[test]
fn two_hundred_idle_connections_keep_nobody_out() {
    let stage = Stage::new();
    let mut real = Real::serving(&stage, 1, STARTED);
    let mut idle: Vec<Peer> = (0..200)
        .map(|_| Peer::connect(&stage.beside(".sock")))
        .collect();
    let (code, view) = status(&stage);
    assert_eq!(code, Some(0), "{view}");
    let answered = view["source"].clone();
    real.detach();
    let (launcher, second) = stage.daemon(&[], STARTED, BY_CHLD);
    stage.log.wait_seen(&format!("{} got TERM", real.daemon));
    assert_eq!(stage.pid_in_file(), Some(second));
    // Nobody was told anything.
    for peer in &mut idle {
        assert_eq!(peer.hear(), None);
    }
    stage.stop(launcher, &[]);
    assert_eq!(answered, "keeper", "{view}");
}
