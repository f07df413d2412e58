//! What a daemon gets of `--listen` (§5, §9, `docs/sockets.md`), with real sockets.

mod options;
mod refusals;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::Signal;
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::stage::{BY_CHLD, DAEMON, STARTED, Stage};
use crate::support::network::{self, Network};
use crate::support::process::{self, Handle, Pid, children};
use crate::support::{self, PATIENCE, Spawn, Spawned};
use crate::verbs::status;

/// A stage with a network of its own: a port that is free there stays free, and so does every abstract name.
pub(super) struct Scene {
    pub(super) stage: Stage,
    pub(super) network: Network,
}

impl Scene {
    pub(super) fn new() -> Scene {
        let scene = Scene {
            network: network::isolate(),
            stage: Stage::new(),
        };
        let listener = include_str!("listener.py");
        fs::write(scene.stage.scratch.join("listener.py"), listener).unwrap();
        scene
    }

    /// A path in the scratch directory.
    pub(super) fn path(&self, name: &str) -> String {
        self.stage.scratch.join(name).to_str().unwrap().to_owned()
    }

    /// With a port for `$P`, and the scratch directory for `$D`.
    pub(super) fn fill(&self, text: &str, port: u16) -> String {
        let text = text.replace("$P", &port.to_string());
        text.replace("$D", self.stage.scratch.path().to_str().unwrap())
    }

    /// `tests/listener.py`.
    pub(super) fn listener(&self) -> [String; 2] {
        ["python3".to_owned(), self.path("listener.py")]
    }

    /// The launcher, without whatever descriptors the tests were started with: one may lie in the way.
    pub(super) fn alone(&self) -> Spawn {
        let python = self.stage.spawn("python3").args(["-c", ALONE]);
        let launcher = python.arg(support::program()).arg("--pid-file");
        launcher.arg(&self.stage.pid_file)
    }

    /// The launcher with the listener; both are started when this returns.
    pub(super) fn start(&self, options: &[&str]) -> (Spawned, Pid) {
        let launcher = self.stage.seamless_run(options).arg("--");
        self.started(launcher.args(self.listener()))
    }

    pub(super) fn started(&self, launcher: Spawn) -> (Spawned, Pid) {
        let launcher = launcher.start();
        let daemon = self.stage.up();
        self.stage.log.wait_for(&format!("{daemon} is started"));
        (launcher, daemon)
    }

    /// What the listener says of its sockets: `NUMBER NAME FAMILY TYPE ADDRESS INODE`.
    fn given(&self, daemon: Pid) -> Vec<String> {
        let start = format!("{daemon} has ");
        let lines = self.stage.log.lines();
        let lines = lines.iter().filter_map(|line| line.strip_prefix(&start));
        lines.map(str::to_owned).collect()
    }

    pub(super) fn inodes(&self, daemon: Pid) -> Vec<String> {
        let given = self.given(daemon);
        let inode = |line: &String| line.split(' ').next_back().unwrap().to_owned();
        given.iter().map(inode).collect()
    }
}

/// Ports that are free, each another one.
pub(super) fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    let all = [(); COUNT].map(|()| TcpListener::bind("[::]:0").unwrap());
    all.map(|one| one.local_addr().unwrap().port())
}

/// Connects to an address, a path, or an abstract name after an `@`; gives what the listener says.
pub(super) fn ask(kind: Type, at: &str) -> String {
    let address = if let Some(name) = at.strip_prefix('@') {
        SockAddr::unix(format!("\0{name}")).unwrap()
    } else if at.starts_with('/') {
        SockAddr::unix(at).unwrap()
    } else {
        SockAddr::from(at.parse::<SocketAddr>().unwrap())
    };
    let mut socket = Socket::new(address.domain(), kind, None).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let own = tempfile::tempdir().unwrap();
    if (address.domain(), kind) == (Domain::UNIX, Type::DGRAM) {
        // There is no answer to one without a name.
        let name = SockAddr::unix(own.path().join("client")).unwrap();
        socket.bind(&name).unwrap();
    }
    let connected = socket.connect(&address);
    connected.unwrap_or_else(|error| panic!("{at}: {error}"));
    if kind == Type::DGRAM {
        socket.send(b"hello").unwrap();
    }
    let mut answer = [0; 4096];
    let length = socket.read(&mut answer);
    let length = length.unwrap_or_else(|error| panic!("{at}: {error}"));
    String::from_utf8_lossy(&answer[..length]).trim().to_owned()
}

pub(super) fn environment(pid: Pid) -> BTreeMap<String, String> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// What is said of sockets there: each `NAME=VALUE`, in order.
fn said_of_sockets(pid: Pid) -> Vec<String> {
    let ours = ["LISTEN_", "NGINX", "SERVER_STARTER_"];
    let is_ours = |name: &str| ours.iter().any(|start| name.starts_with(start));
    let all = environment(pid).into_iter();
    all.filter(|(name, _)| is_ours(name))
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

/// A process's descriptors, and where they lead.
fn descriptors(pid: Pid) -> BTreeMap<i32, String> {
    let numbers = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let place = |entry: fs::DirEntry| {
        let number = entry.file_name().to_str().unwrap().parse().unwrap();
        let place = fs::read_link(entry.path()).ok()?;
        Some((number, place.to_str().unwrap().to_owned()))
    };
    numbers.filter_map(|entry| place(entry.unwrap())).collect()
}

/// What the process has under that number.
pub(super) fn socket_of(pid: Pid, number: i32) -> Socket {
    let handle = Handle::open(pid).expect("it lives");
    let socket = pidfd_getfd(handle.as_fd(), number, PidfdGetfdFlags::empty());
    Socket::from(socket.unwrap())
}

const ALONE: &str = "import os, sys
os.closerange(3, 1024)
os.execvp(sys.argv[1], sys.argv[1:])";

/// Keeps whatever it was given, and says nothing but that it is up.
pub(super) const SILENT: &str = r#"echo "up $$"; exec cat "$NOTHING""#;

#[test]
fn every_kind_of_socket_comes_in_order_and_is_reached() {
    // What is typed, what the daemon is given, and where it is reached.
    let rows = [
        "v4=127.0.0.1:$P > v4 inet stream 127.0.0.1/$P > 127.0.0.1:$P",
        "v6=[::1]:$P > v6 inet6 stream ::1/$P > [::1]:$P",
        "$P > listen inet6 stream ::/$P > 127.0.0.1:$P > [::1]:$P",
        "tcp4:$P > listen inet stream 0.0.0.0/$P > 127.0.0.1:$P",
        "localhost:$P > listen inet stream 127.0.0.1/$P > 127.0.0.1:$P",
        "[::1]:http > listen inet6 stream ::1/80 > [::1]:80",
        "u=udp:127.0.0.1:$P > u inet dgram 127.0.0.1/$P > 127.0.0.1:$P",
        "udp6:[::1]:$P > listen inet6 dgram ::1/$P > [::1]:$P",
        "udp::$P > listen inet6 dgram ::/$P > 127.0.0.1:$P > [::1]:$P",
        "web=$D/web.sock > web unix stream $D/web.sock > $D/web.sock",
        "unix-dgram:$D/syslog > listen unix dgram $D/syslog > $D/syslog",
        "unix-seqpacket:$D/a=b > listen unix seqpacket $D/a=b > $D/a=b",
        "@name > listen unix stream @name > @name",
        "x=unix-dgram:@x=y > x unix dgram @x=y > @x=y",
        "y=unix-seqpacket:@z > y unix seqpacket @z > @z",
    ];
    let wrappers: [&[&str]; 3] = [
        &[],
        &["sh", "-c", r#"exec "$@""#, "sh"],
        &["setpriv", "--no-new-privs"],
    ];
    for wrapper in wrappers {
        let scene = Scene::new();
        let ports: [u16; 15] = free_ports();
        let filled: Vec<String> = rows
            .iter()
            .zip(ports)
            .map(|(row, port)| scene.fill(row, port))
            .collect();
        let rows: Vec<Vec<&str>> = filled
            .iter()
            .map(|row| row.split(" > ").collect())
            .collect();
        let mut launcher = scene.alone();
        for row in &rows {
            launcher = launcher.args(["--listen", row[0]]);
        }
        launcher = launcher.args(["--listen", "any=127.0.0.1:0", "--"]);
        let launcher = launcher.args(wrapper).args(scene.listener());
        let (launcher, daemon) = scene.started(launcher);
        let keeper = children(launcher.pid())[0];
        assert_eq!(children(keeper), [daemon], "the wrapper has become it");

        let mut given = scene.given(daemon);
        let any = given.pop().unwrap();
        let any = any.strip_prefix("18 any inet stream 127.0.0.1/");
        let (any, _inode) = any.expect("the last one").split_once(' ').unwrap();
        let any = format!("127.0.0.1:{any}");
        assert_eq!(ask(Type::STREAM, &any), format!("{daemon} 1"));
        let (_, shown) = status(&scene.stage);
        assert!(shown.to_string().contains(&any), "{shown}");

        let found = given.iter().map(|line| line.rsplit_once(' ').unwrap().0);
        let expected = (3..)
            .zip(&rows)
            .map(|(number, row)| format!("{number} {}", row[1]));
        assert_eq!(found.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        for row in &rows {
            let kind = match row[1].split(' ').nth(2) {
                Some("stream") => Type::STREAM,
                Some("dgram") => Type::DGRAM,
                _ => Type::SEQPACKET,
            };
            for door in &row[2..] {
                let answer = ask(kind, door);
                let ours = answer.starts_with(&format!("{daemon} 1"));
                assert!(ours, "{door}: {answer}");
            }
        }
        let names = rows.iter().map(|row| row[1].split(' ').next().unwrap());
        let names = names.collect::<Vec<_>>().join(":");
        let expected = [
            format!("LISTEN_FDNAMES={names}:any"),
            "LISTEN_FDS=16".to_owned(),
            format!("LISTEN_PID={daemon}"),
        ];
        assert_eq!(said_of_sockets(daemon), expected);
        scene.stage.stop(launcher, &[]);
    }
}

#[test]
fn programs_for_nginx_and_server_starter_are_told_in_their_own_way() {
    for convention in ["systemd", "nginx", "server-starter"] {
        let scene = Scene::new();
        let [one, other] = free_ports();
        let path = scene.path("web.sock");
        let mut before = None;
        for generation in 1..=2 {
            let passed = TcpListener::bind("127.0.0.1:0").unwrap();
            let launcher = activated(&scene, &[passed.into()], "sent")
                .args(["--listen-env", convention, "--listen"])
                .arg(format!("a=127.0.0.1:{one}"))
                .args([
                    "--listen",
                    &path,
                    "--listen",
                    &other.to_string(),
                    "--listen",
                    "@x",
                ])
                .arg("--")
                .args(scene.listener())
                // Of another process, such as an nginx that is being replaced.
                .env("NGINX", "9;10;")
                .env("SERVER_STARTER_PORT", "80=9")
                .env("SERVER_STARTER_GENERATION", "77");
            let (launcher, daemon) = scene.started(launcher);
            let mut expected = vec![
                "LISTEN_FDNAMES=sent:a:listen:listen:listen".to_owned(),
                "LISTEN_FDS=5".to_owned(),
                format!("LISTEN_PID={daemon}"),
            ];
            match convention {
                "nginx" => expected.push("NGINX=3;4;5;6;7;".to_owned()),
                "server-starter" => expected.extend([
                    format!("SERVER_STARTER_GENERATION={generation}"),
                    format!("SERVER_STARTER_PORT=127.0.0.1:{one}=4;{path}=5;{other}=6;@x=7"),
                ]),
                _ => {}
            }
            assert_eq!(said_of_sockets(daemon), expected);
            if let Some(before) = before.replace(daemon) {
                process::wait_exit(before);
            }
            launcher.signal(Signal::SIGTERM);
            assert_eq!(
                launcher.finish().code(),
                Some(0),
                "{}",
                scene.stage.log.listing()
            );
        }
    }
}

#[test]
fn without_listen_what_was_said_of_sockets_is_left_as_it_is() {
    let scene = Scene::new();
    let file = scene.stage.pid_file.to_str().unwrap();
    for options in [
        &[][..],
        &["-q", "-p", file],
        &["-q", "-p", file, "--listen-env", "nginx"],
    ] {
        let ended = Spawn::new(&scene.stage.scratch, support::program())
            .args(options)
            .args(["--", "env"])
            .env("LISTEN_PID", "1")
            .env("LISTEN_PIDFDID", "4711")
            .env("LISTEN_FDS", "two")
            .env("NGINX", "9;10;")
            .env("SERVER_STARTER_PORT", "80=9")
            .finish()
            .expect_success();
        for entry in [
            "LISTEN_PID=1",
            "LISTEN_PIDFDID=4711",
            "LISTEN_FDS=two",
            "NGINX=9;10;",
            "SERVER_STARTER_PORT=80=9",
        ] {
            assert!(
                ended.stdout.lines().any(|line| line == entry),
                "{options:?}: {}",
                ended.stdout
            );
        }
        assert!(!ended.stdout.contains("LISTEN_FDNAMES"), "{}", ended.stdout);
    }
}

/// As systemd starts `seamless-run -p FILE`, with sockets that stay its own.
fn activated(scene: &Scene, sockets: &[OwnedFd], names: &str) -> Spawn {
    let mut shell = scene
        .stage
        .spawn("sh")
        .args(["-c", r#"export LISTEN_PID=$$; exec "$@""#, "sh"])
        .arg(support::program())
        .arg("--pid-file")
        .arg(&scene.stage.pid_file)
        .env("LISTEN_FDS", sockets.len().to_string())
        .env("LISTEN_PIDFDID", "4711");
    if !names.is_empty() {
        shell = shell.env("LISTEN_FDNAMES", names);
    }
    for (number, socket) in (3..).zip(sockets) {
        shell = shell.descriptor(number, socket.try_clone().unwrap());
    }
    shell
}

#[test]
fn what_a_supervisor_passes_comes_first_and_unchanged_in_every_generation() {
    for (names, own) in [("web:log", false), ("web:log", true), ("", true)] {
        let scene = Scene::new();
        let (stream, datagram) = (Type::STREAM, Type::DGRAM);
        let web = TcpListener::bind("127.0.0.1:0").unwrap();
        let log = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut doors = vec![
            (stream, web.local_addr().unwrap().to_string()),
            (datagram, log.local_addr().unwrap().to_string()),
        ];
        let sockets: [OwnedFd; 2] = [web.into(), log.into()];
        let path = scene.path("own.sock");
        let mut expected = vec!["web", "log"];
        if names.is_empty() {
            expected = vec!["unknown", "unknown"];
        }
        if own {
            doors.push((stream, path.clone()));
            expected.push("own");
        }
        let (mut before, mut first) = (None, None);
        for generation in 1..=4 {
            let mut launcher = activated(&scene, &sockets, names);
            if own {
                launcher = launcher.args(["--listen", &format!("own={path}")]);
            }
            let launcher = launcher.arg("--").args(scene.listener());
            let (launcher, daemon) = scene.started(launcher);
            if let Some(before) = before.replace(daemon) {
                process::wait_exit(before);
            }
            let given = scene.given(daemon);
            let found: Vec<_> = given
                .iter()
                .map(|line| line.split(' ').nth(1).unwrap())
                .collect();
            assert_eq!(found, expected);
            for (number, (socket, line)) in (3..).zip(sockets.iter().zip(&given)) {
                let inode = rustix::fs::fstat(socket).unwrap().st_ino;
                let same =
                    line.starts_with(&format!("{number} ")) && line.ends_with(&format!(" {inode}"));
                assert!(same, "{line}");
            }
            assert_eq!(
                *first.get_or_insert_with(|| given.clone()),
                given,
                "generation {generation}"
            );
            for (kind, door) in &doors {
                let answer = ask(*kind, door);
                assert!(
                    answer.starts_with(&format!("{daemon} {generation}")),
                    "{answer}"
                );
            }
            let said = said_of_sockets(daemon);
            assert!(said.contains(&format!("LISTEN_PID={daemon}")), "{said:?}");
            assert!(
                said.contains(&format!("LISTEN_FDS={}", expected.len())),
                "{said:?}"
            );
            assert!(
                !said.iter().any(|one| one.starts_with("LISTEN_PIDFDID")),
                "{said:?}"
            );
            launcher.signal(Signal::SIGTERM);
            assert_eq!(
                launcher.finish().code(),
                Some(0),
                "{}",
                scene.stage.log.listing()
            );
        }
    }
}

#[test]
fn the_daemon_has_its_sockets_and_the_keeper_one_copy_and_nothing_else() {
    let all = [false, true].map(|listens| {
        let scene = Scene::new();
        let path = scene.path("web.sock");
        let mut options = vec![];
        if listens {
            options = vec![
                "--listen",
                "127.0.0.1:0",
                "--listen",
                &path,
                "--listen",
                "udp:0",
            ];
        }
        let launcher = scene
            .alone()
            .args(&options)
            .args(["--", "sh", "-c", DAEMON]);
        let launcher = launcher.env("READY", STARTED).env("PREPARE", BY_CHLD);
        let (launcher, daemon) = scene.started(launcher);
        // By then both have let go of what they had inherited, and of whoever said *started*.
        launcher.signal(Signal::SIGHUP);
        scene.stage.log.wait_for(&format!("{daemon} got HUP"));

        let held: Vec<String> = (3..=5)
            .filter_map(|number| descriptors(daemon).remove(&number))
            .collect();
        assert_eq!(held.len(), if listens { 3 } else { 0 });
        let mut numbers: Vec<i32> = descriptors(daemon).into_keys().collect();
        // DAEMON's own pipe.
        numbers.retain(|number| *number != 9);
        assert_eq!(
            numbers,
            if listens {
                vec![0, 1, 2, 3, 4, 5]
            } else {
                vec![0, 1, 2]
            }
        );

        let keeper = children(launcher.pid())[0];
        [launcher.pid(), keeper].map(|process| {
            let mut open: Vec<String> = descriptors(process).into_values().collect();
            for socket in &held {
                let count = open.iter().filter(|place| *place == socket).count();
                assert_eq!(count, usize::from(process == keeper), "{open:#?}");
            }
            open.retain(|place| !held.contains(place));
            let kind = |place: &String| place.split(['[', '/']).next_back().unwrap().to_owned();
            let is_numbered = |place: &String| place.starts_with("socket:[");
            let mut kinds: Vec<String> = open
                .iter()
                .map(|place| {
                    if is_numbered(place) {
                        "socket".to_owned()
                    } else {
                        kind(place)
                    }
                })
                .collect();
            kinds.sort();
            kinds
        })
    });
    assert_eq!(all[0], all[1], "without --listen, and with it");
}

#[test]
fn an_inherited_descriptor_behind_the_sockets_is_the_daemons() {
    let scene = Scene::new();
    let zero = File::open("/dev/zero").unwrap();
    let launcher = scene
        .stage
        .seamless_run(&[
            "--listen", "@one", "--listen", "@two", "--", "sh", "-c", SILENT,
        ])
        .descriptor(5, zero)
        .start();
    let daemon = scene.stage.up();
    assert_eq!(descriptors(daemon)[&5], "/dev/zero");
    assert!(descriptors(daemon)[&4].starts_with("socket:"));
    launcher.signal(Signal::SIGINT);
    let ended = launcher.finish();
    assert_eq!(ended.signal(), Some(Signal::SIGTERM));
}

#[test]
fn without_a_pid_file_the_command_has_its_sockets_and_nobody_stands_in_the_way() {
    let scene = Scene::new();
    let path = scene.path("web.sock");
    let listen = format!("web={path}");
    // The second finds the path that the first, of whom nobody took care, has left.
    for _ in 0..2 {
        let passed = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut daemon = scene
            .stage
            .spawn("sh")
            .args(["-c", r#"export LISTEN_PID=$$; exec "$@""#, "sh"])
            .args(["python3", "-c", &ALONE.replace("(3, ", "(4, ")])
            .arg(support::program())
            .args(["--listen-env", "nginx", "--listen", &listen, "--"])
            .args(["sh", "-c", DAEMON])
            .env("LISTEN_FDS", "1")
            .env("LISTEN_PIDFDID", "4711")
            .descriptor(3, passed)
            .start();
        assert_eq!(scene.stage.up(), daemon.pid(), "the same process");
        let pid = daemon.pid();
        let expected = [
            "LISTEN_FDNAMES=unknown:web",
            "LISTEN_FDS=2",
            &format!("LISTEN_PID={pid}"),
            "NGINX=3;4;",
        ];
        assert_eq!(said_of_sockets(pid), expected);
        let variables = environment(pid);
        let ours = variables.keys().find(|name| {
            name.starts_with("SEAMLESS") && !name.ends_with("_TEST") && !name.ends_with("_RUN")
        });
        assert_eq!(ours, None);
        let mut open = descriptors(pid);
        // DAEMON's own pipe.
        open.remove(&9);
        assert_eq!(open.into_keys().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        let own = socket_of(pid, 4).local_addr().unwrap();
        assert_eq!(own.as_pathname().unwrap().to_str(), Some(&*path));
        daemon.signal(Signal::SIGTERM);
        assert!(daemon.wait().success());
        assert!(fs::exists(&path).unwrap());
    }
}
