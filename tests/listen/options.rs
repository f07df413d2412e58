//! The options of `--listen`, as they are seen from outside.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use nix::sys::signal::Signal;
use socket2::{Domain, Socket};

use super::{SILENT, Scene, free_ports, socket_of};
use crate::support::{self, Spawn, process, tool};

/// What can be seen of a socket's options, in words.
fn options_of(socket: &Socket, listening: &str) -> String {
    let inode = rustix::fs::fstat(socket).unwrap().st_ino.to_string();
    let named = [inode.clone(), format!("ino:{inode}")];
    // Netid State Recv-Q Send-Q: of one that listens the last is its backlog.
    let backlog = listening.lines().find_map(|line| {
        let words: Vec<String> = line.split_ascii_whitespace().map(str::to_owned).collect();
        let is_it = words[1] == "LISTEN" && words.iter().any(|word| named.contains(word));
        is_it.then(|| words[3].clone())
    });
    let mut words = Vec::new();
    words.extend(backlog.map(|backlog| format!("backlog={backlog}")));
    let domain = socket.domain().unwrap();
    if domain == Domain::IPV4 || domain == Domain::IPV6 {
        let device = socket.device().unwrap();
        let device = device.map(|name| String::from_utf8(name).unwrap());
        let freebind = if domain == Domain::IPV4 {
            socket.freebind_v4().unwrap()
        } else {
            socket.freebind_v6().unwrap()
        };
        let is = |set: bool, word: &str| set.then(|| word.to_owned());
        words.extend(is(socket.reuse_address().unwrap(), "reuseaddr"));
        words.extend(is(socket.reuse_port().unwrap(), "reuseport"));
        words.extend(is(
            domain == Domain::IPV6 && socket.only_v6().unwrap(),
            "v6only",
        ));
        words.extend(is(freebind, "freebind"));
        words.extend(device.map(|device| format!("device={device}")));
        if socket.keepalive().unwrap() {
            let (idle, interval) = (
                socket.tcp_keepalive_time().unwrap().as_secs(),
                socket.tcp_keepalive_interval().unwrap().as_secs(),
            );
            let count = socket.tcp_keepalive_retries().unwrap();
            words.push(format!("keepalive={idle}:{interval}:{count}"));
        }
    }
    words.extend(
        socket
            .nonblocking()
            .unwrap()
            .then(|| "nonblocking".to_owned()),
    );
    words.join(" ")
}

#[test]
fn options_are_seen_from_outside_and_nothing_is_set_that_was_not_asked_for() {
    let rows = [
        "127.0.0.1:$P,backlog=7 > backlog=7 reuseaddr",
        "127.0.0.1:$P > backlog=$M reuseaddr",
        "127.0.0.1:$P,reuseport > backlog=$M reuseaddr reuseport",
        "$P > backlog=$M reuseaddr",
        "$P,v6only > backlog=$M reuseaddr v6only",
        "tcp6:$P > backlog=$M reuseaddr v6only",
        "[::]:$P,v6only=off > backlog=$M reuseaddr",
        "192.0.2.1:0,freebind > backlog=$M reuseaddr freebind",
        // The kernel's own: an address of IPv6 is none of IPv4.
        "[2001:db8::1]:0,freebind > backlog=$M reuseaddr v6only freebind",
        "[::1]:$P,v6only=off > backlog=$M reuseaddr v6only",
        "127.0.0.1:$P,device=lo > backlog=$M reuseaddr device=lo",
        "127.0.0.1:$P,keepalive=60:10:3 > backlog=$M reuseaddr keepalive=60:10:3",
        "udp:127.0.0.1:$P > ",
        "udp:127.0.0.1:$P,reuseport,device=lo > reuseport device=lo",
        "$D/few,backlog=5 > backlog=5",
        "$D/many > backlog=$M",
        "unix-dgram:$D/datagrams > ",
    ];
    let rows = rows.map(|row| row.split_once(" > ").unwrap());
    let scene = Scene::new();
    let most = scene.network.get("core.somaxconn");
    let ports: [u16; 17] = free_ports();
    let mut before = None;
    // The second one asks for the same, and gets it.
    for _ in 0..2 {
        let mut launcher = scene.alone();
        for ((typed, _), port) in rows.iter().zip(ports) {
            launcher = launcher.args(["--listen", &scene.fill(typed, port)]);
        }
        // Whatever is accepted here is not the daemon's.
        let launcher = launcher.arg("--").args(scene.listener()).env("SERVE", "0");
        let (launcher, daemon) = scene.started(launcher);
        let ss = Spawn::new(&scene.stage.scratch, tool("ss", "iproute2")).arg("-Hltxne");
        let listening = ss.finish().expect_success().stdout;
        for (number, (typed, expected)) in (3..).zip(rows) {
            let seen = options_of(&socket_of(daemon, number), &listening);
            assert_eq!(seen, expected.replace("$M", &most), "{typed}");
            let fields = fs::read_to_string(format!("/proc/{daemon}/fdinfo/{number}")).unwrap();
            let mut fields = fields.lines();
            let flags = fields.find(|line| line.starts_with("flags:")).unwrap();
            let usual = flags.ends_with("\t02");
            assert!(usual, "closed on exec, or not blocking: {flags}");
        }
        let keeps_alive = rows.iter().position(|row| row.0.contains("keepalive"));
        let (index, number) = (keeps_alive.unwrap(), 3 + keeps_alive.unwrap() as i32);
        let caller = TcpStream::connect(("127.0.0.1", ports[index])).unwrap();
        let (accepted, from) = socket_of(daemon, number).accept().unwrap();
        assert_eq!(from.as_socket(), caller.local_addr().ok());
        let inherited = options_of(&accepted, "");
        assert!(inherited.ends_with("keepalive=60:10:3"), "{inherited}");

        let Some((old, inodes)) = before.replace((daemon, scene.inodes(daemon))) else {
            launcher.signal(Signal::SIGTERM);
            assert_eq!(launcher.finish().code(), Some(0));
            continue;
        };
        process::wait_exit(old);
        assert_eq!(scene.inodes(daemon), inodes, "the same sockets");
        scene.stage.stop(launcher, &[]);
        scene.stage.log.wait_for("is stopped");
        assert_eq!(
            scene.stage.log.count("kept as it was"),
            0,
            "{}",
            scene.stage.log.listing()
        );
    }
    for name in ["few", "many", "datagrams"] {
        let gone = !fs::exists(scene.path(name)).unwrap();
        assert!(gone, "{name} is removed by a stop");
    }
}

#[test]
fn a_path_has_the_mode_and_the_owners_that_it_was_given() {
    let scene = Scene::new();
    let rows = [
        ("", 0o750, 0, 0),
        (",mode=600", 0o600, 0, 0),
        (",mode=0666", 0o666, 0, 0),
        (",mode=2770,group=daemon", 0o2770, 0, 1),
        (",owner=nobody", 0o750, 65534, 0),
        (",mode=660,owner=65534,group=1", 0o660, 65534, 1),
    ];
    let script = format!("umask 027; {SILENT}");
    // The launcher's own umask, which the daemon shall find as it was.
    let umask = [r#"umask 027; exec "$@""#.to_owned(), "sh".to_owned()];
    let mut launcher = scene.stage.spawn("sh").arg("-c").args(umask);
    launcher = launcher
        .arg(support::program())
        .arg("-p")
        .arg(&scene.stage.pid_file);
    for (index, (options, ..)) in rows.iter().enumerate() {
        launcher = launcher
            .arg("--listen")
            .arg(scene.path(&format!("{index}.sock{options}")));
    }
    let _launcher = launcher.args(["sh", "-c", &script]).start();
    let daemon = scene.stage.up();
    for (index, (options, mode, owner, group)) in rows.iter().enumerate() {
        let found = fs::symlink_metadata(scene.path(&format!("{index}.sock"))).unwrap();
        assert!(found.file_type().is_socket());
        let seen = (found.mode() & 0o7777, found.uid(), found.gid());
        assert_eq!(seen, (*mode, *owner, *group), "{options:?}: {:o}", seen.0);
    }
    assert_eq!(process::status_field(daemon, "Umask").unwrap(), "0027");
}
