//! Sockets that were opened for a daemon: a real process with real ones, from descriptor 3.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is how a test fails, in its helpers too"
)]

mod support;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr, accept, bind, connect, listen,
    recv, send, socket,
};
use nix::unistd::close;
use seamless_client::{Error, Listeners, Request, Seamless};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::{env, fs, process};
use support::{Daemon, Directory, say};

const FIRST: i32 = 3;

/// Not a test by itself: what the others start.
#[test]
fn daemon() {
    match env::var("ROLE").as_deref() {
        Ok("launcher") => launch(),
        Ok("daemon") => serve(),
        _ => {}
    }
}

/// Opens `SOCKETS`, words like `unix:/run/x`, and becomes the daemon. `LISTEN_PID` is added, unless it is there: only
/// now it is known.
fn launch() {
    let words = env::var("SOCKETS").unwrap();
    for (number, word) in (FIRST..).zip(words.split_whitespace()) {
        let (kind, place) = word.split_once(':').unwrap_or((word, ""));
        let descriptor: OwnedFd = match kind {
            "tcp" => TcpListener::bind("127.0.0.1:0").unwrap().into(),
            "udp" => UdpSocket::bind("127.0.0.1:0").unwrap().into(),
            "unix" => UnixListener::bind(place).unwrap().into(),
            "unix-datagram" => UnixDatagram::bind(place).unwrap().into(),
            "seqpacket" => {
                let socket = seqpacket();
                bind(socket.as_raw_fd(), &UnixAddr::new(place).unwrap()).unwrap();
                listen(&socket, Backlog::new(8).unwrap()).unwrap();
                socket
            }
            "file" => File::open("/dev/null").unwrap().into(),
            other => panic!("{other:?} is no kind"),
        };
        assert_eq!(descriptor.as_raw_fd(), number, "the lowest one is free");
        fcntl(&descriptor, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        // It is the daemon's.
        let _ = descriptor.into_raw_fd();
    }
    let mut daemon = Command::new(env::current_exe().unwrap());
    daemon.args(env::args_os().skip(1)).env("ROLE", "daemon");
    if env::var_os("LISTEN_PID").is_none() {
        daemon.env("LISTEN_PID", process::id().to_string());
    }
    panic!("exec: {}", daemon.exec());
}

fn seqpacket() -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap()
}

/// A daemon with these sockets. What the test itself inherited is not to stand in their places.
fn with_sockets(sockets: &str, names: &str) -> Command {
    let itself = support::itself("launcher");
    let mut command = Command::new("sh");
    let closed: String = (FIRST..10).map(|number| format!(" {number}<&-")).collect();
    command
        .args(["-c", &format!("exec \"$0\" \"$@\"{closed}")])
        .arg(itself.get_program())
        .args(itself.get_args());
    for (name, value) in itself.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let count = sockets.split_whitespace().count();
    command
        .env("SOCKETS", sockets)
        .env("LISTEN_FDS", count.to_string());
    if !names.is_empty() {
        command.env("LISTEN_FDNAMES", names);
    }
    command
}

/// A daemon that has taken them.
fn up(sockets: &str, names: &str) -> Daemon {
    let mut daemon = Daemon::up(with_sockets(sockets, names));
    assert_eq!(daemon.ask("listeners"), "ok");
    daemon
}

enum Taken {
    Tcp(TcpListener),
    Udp(UdpSocket),
    Unix(UnixListener),
    UnixDatagram(UnixDatagram),
    Descriptor(OwnedFd),
}

fn take(listeners: &mut Listeners, kind: &str, name: &str) -> Result<Option<Taken>, Error> {
    Ok(match kind {
        "tcp" => listeners.tcp(name)?.map(Taken::Tcp),
        "udp" => listeners.udp(name)?.map(Taken::Udp),
        "unix" => listeners.unix(name)?.map(Taken::Unix),
        "unix-datagram" => listeners.unix_datagram(name)?.map(Taken::UnixDatagram),
        "fd" => listeners.fd(name).map(Taken::Descriptor),
        other => panic!("{other:?} is no kind"),
    })
}

impl Taken {
    fn number(&self) -> i32 {
        match self {
            Taken::Tcp(socket) => socket.as_raw_fd(),
            Taken::Udp(socket) => socket.as_raw_fd(),
            Taken::Unix(socket) => socket.as_raw_fd(),
            Taken::UnixDatagram(socket) => socket.as_raw_fd(),
            Taken::Descriptor(socket) => socket.as_raw_fd(),
        }
    }

    /// The port, for who has to be told.
    fn port(&self) -> u16 {
        match self {
            Taken::Tcp(socket) => socket.local_addr().unwrap().port(),
            Taken::Udp(socket) => socket.local_addr().unwrap().port(),
            _ => 0,
        }
    }

    /// Says `hello` to one client; a Unix datagram has nobody to be said to, and is said here.
    fn greet(&self) {
        match self {
            Taken::Tcp(socket) => socket.accept().unwrap().0.write_all(b"hello").unwrap(),
            Taken::Unix(socket) => socket.accept().unwrap().0.write_all(b"hello").unwrap(),
            Taken::Udp(socket) => {
                let (_, client) = socket.recv_from(&mut [0; 8]).unwrap();
                socket.send_to(b"hello", client).unwrap();
            }
            Taken::UnixDatagram(socket) => {
                let mut text = [0; 8];
                let length = socket.recv(&mut text).unwrap();
                say(std::str::from_utf8(&text[..length]).unwrap());
            }
            Taken::Descriptor(socket) => {
                let connection = accept(socket.as_raw_fd()).unwrap();
                send(connection, b"hello", MsgFlags::empty()).unwrap();
                close(connection).unwrap();
            }
        }
    }
}

/// Which descriptors from 3 this process has.
fn open() -> String {
    let is_open = |number: &i32| fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_ok();
    let numbers = (FIRST..10).filter(is_open);
    numbers
        .map(|number| number.to_string())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Which ones a child gets.
fn open_in_child() -> String {
    let code = "for n in 3 4 5 6 7 8 9; do if [ -e /proc/$$/fd/$n ]; then echo $n; fi; done";
    let output = Command::new("sh").args(["-c", code]).output().unwrap();
    let numbers = String::from_utf8(output.stdout).unwrap();
    numbers.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What the daemon does, command by command, until its standard input ends.
fn serve() {
    let seamless = Seamless::from_env().unwrap();
    say("up");
    let mut listeners = None;
    let mut taken = Vec::new();
    let mut requests = None;
    for command in std::io::stdin().lines() {
        let command = command.unwrap();
        let words: Vec<_> = command.split(' ').collect();
        match words[..] {
            ["listeners"] => say(&support::outcome(
                seamless.listeners().map(|found| listeners = Some(found)),
            )),
            // By another handle.
            ["again"] => {
                let other = Seamless::from_env().unwrap();
                say(&support::outcome(other.listeners().map(drop)));
            }
            ["names"] => {
                let names: Vec<_> = listeners.as_ref().unwrap().names().collect();
                say(&format!("{names:?}"));
            }
            ["take", kind, name] => match take(listeners.as_mut().unwrap(), kind, name) {
                Ok(Some(socket)) => {
                    say(&format!("{} {}", socket.number(), socket.port()));
                    taken.push(socket);
                }
                Ok(None) => say("none"),
                Err(error) => say(&support::outcome(Err(error))),
            },
            ["greet"] => taken.last().unwrap().greet(),
            ["forget"] => {
                listeners = None;
                say("forgotten");
            }
            ["open"] => say(&open()),
            ["open-in-child"] => say(&open_in_child()),
            ["bell"] => {
                requests = Some(seamless.requests().unwrap());
                say("hung");
            }
            ["ring"] => {
                seamless.inject(nix::libc::SIGTERM);
                let request = support::next_of(requests.as_ref().unwrap());
                say(&format!("{}", matches!(request, Request::Drain)));
            }
            ["variables-of-child"] => {
                let output = seamless.scrub(&mut Command::new("env")).output().unwrap();
                let text = String::from_utf8(output.stdout).unwrap();
                say(&format!("{}", text.matches("LISTEN_").count()));
            }
            _ => panic!("{command:?} is no command of this daemon"),
        }
    }
    process::exit(0);
}

/// Takes a socket, and says under which port.
fn port(daemon: &mut Daemon, take: &str) -> u16 {
    let said = daemon.ask(take);
    said.split_once(' ').unwrap().1.parse().unwrap()
}

fn text(mut stream: impl Read) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn every_kind_is_served() {
    let directory = Directory::new();
    let [stream, datagram, packets] =
        ["stream", "datagram", "packets"].map(|name| support::text(&directory.path(name)));
    let mut daemon = up(
        &format!("tcp udp unix:{stream} unix-datagram:{datagram} seqpacket:{packets}"),
        "http:dns:control:bell:packets",
    );

    let port_of_http = port(&mut daemon, "take tcp http");
    daemon.tell("greet");
    let client = TcpStream::connect(("127.0.0.1", port_of_http)).unwrap();
    assert_eq!(text(client), "hello");

    let port_of_dns = port(&mut daemon, "take udp dns");
    daemon.tell("greet");
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(support::LIMIT)).unwrap();
    client.send_to(b"?", ("127.0.0.1", port_of_dns)).unwrap();
    let mut answer = [0; 8];
    assert_eq!(client.recv(&mut answer).unwrap(), 5);

    assert_eq!(daemon.ask("take unix control"), "5 0");
    daemon.tell("greet");
    assert_eq!(text(UnixStream::connect(stream).unwrap()), "hello");

    assert_eq!(daemon.ask("take unix-datagram bell"), "6 0");
    let client = UnixDatagram::unbound().unwrap();
    client.send_to(b"ring", datagram).unwrap();
    assert_eq!(daemon.ask("greet"), "ring");

    assert_eq!(daemon.ask("take fd packets"), "7 0");
    daemon.tell("greet");
    let client = seqpacket();
    connect(
        client.as_raw_fd(),
        &UnixAddr::new(packets.as_str()).unwrap(),
    )
    .unwrap();
    let received = recv(client.as_raw_fd(), &mut answer, MsgFlags::empty());
    assert_eq!(received, Ok(5));
    assert_eq!(daemon.ask("names"), "[]");
}

#[test]
fn a_connection_that_waits_since_before_the_daemon_is_served() {
    let directory = Directory::new();
    let path = support::text(&directory.path("socket"));
    let mut daemon = Daemon::up(with_sockets(&format!("unix:{path}"), "http"));
    let client = UnixStream::connect(path).unwrap();
    assert_eq!(daemon.ask("listeners"), "ok");
    assert_eq!(daemon.ask("take unix http"), "3 0");
    daemon.tell("greet");
    assert_eq!(text(client), "hello");
}

#[test]
fn the_wrong_kind_is_named_and_stays() {
    let mut daemon = up("udp file", "dns:log");
    assert_eq!(
        daemon.ask("take tcp dns"),
        "WrongKind: cannot take \"dns\" as a listening TCP socket: it is a UDP socket; it was not taken"
    );
    let said = daemon.ask("take unix log");
    assert!(
        said.starts_with("WrongKind: ") && said.contains("it is no socket"),
        "{said}"
    );
    assert_eq!(daemon.ask("names"), "[\"dns\", \"log\"]");
    assert!(daemon.ask("take udp dns").starts_with("3 "));
    assert_eq!(daemon.ask("take fd log"), "4 0");
    assert_eq!(daemon.ask("take tcp dns"), "none");
}

#[test]
fn a_name_is_given_out_in_order_and_a_missing_one_is_unknown() {
    let mut daemon = up("tcp udp tcp udp tcp", "http:dns:http:");
    assert_eq!(
        daemon.ask("names"),
        "[\"http\", \"dns\", \"http\", \"unknown\", \"unknown\"]"
    );
    assert_eq!(daemon.ask("take tcp https"), "none");
    for number in ["3 ", "5 "] {
        assert!(daemon.ask("take tcp http").starts_with(number));
    }
    assert_eq!(daemon.ask("take tcp http"), "none");
    // Two kinds have one name here.
    assert!(daemon.ask("take tcp unknown").starts_with("7 "));
    assert_eq!(daemon.ask("names"), "[\"dns\", \"unknown\"]");
    assert!(daemon.ask("take udp unknown").starts_with("6 "));
}

#[test]
fn without_names_all_are_unknown() {
    let mut daemon = up("tcp tcp", "");
    assert_eq!(daemon.ask("names"), "[\"unknown\", \"unknown\"]");
}

#[test]
fn each_process_gets_them_once() {
    let mut daemon = up("tcp", "http");
    for question in ["listeners", "again"] {
        let said = daemon.ask(question);
        assert!(said.starts_with("Claimed: "), "{said}");
    }
    assert!(daemon.ask("take tcp http").starts_with("3 "));
    // Where there are none it is no different.
    let mut bare = Daemon::up(support::itself("daemon"));
    assert_eq!(bare.ask("listeners"), "ok");
    assert!(bare.ask("again").starts_with("Claimed: "));
}

#[test]
fn what_is_not_for_this_process_is_not_there() {
    for (name, value) in [("LISTEN_PID", "1"), ("LISTEN_PID", ""), ("LISTEN_FDS", "")] {
        let mut command = with_sockets("tcp", "http");
        command.env(name, value);
        let mut daemon = Daemon::up(command);
        assert_eq!(daemon.ask("listeners"), "ok");
        assert_eq!(daemon.ask("take tcp http"), "none");
        assert_eq!(daemon.ask("open-in-child"), "3", "{name}={value}");
    }
}

#[test]
fn those_that_nobody_takes_are_closed() {
    let mut daemon = up("tcp udp tcp", "http:dns:http");
    assert_eq!(daemon.ask("open"), "3 4 5");
    assert!(daemon.ask("take udp dns").starts_with("4 "));
    assert_eq!(daemon.ask("forget"), "forgotten");
    assert_eq!(daemon.ask("open"), "4");
}

#[test]
fn a_child_inherits_none() {
    let mut daemon = Daemon::up(with_sockets("tcp udp file", "a:b:c"));
    assert_eq!(
        daemon.ask("open-in-child"),
        "3 4 5",
        "the test sees what it is to see"
    );
    assert_eq!(daemon.ask("listeners"), "ok");
    assert_eq!(daemon.ask("open-in-child"), "");
    assert!(daemon.ask("take tcp a").starts_with("3 "));
    assert_eq!(daemon.ask("open-in-child"), "");
    let mut command = with_sockets("tcp", "a");
    command.env("LISTEN_PIDFDID", "4711");
    assert_eq!(Daemon::up(command).ask("variables-of-child"), "0");
}

#[test]
fn a_closed_descriptor_is_named_and_nothing_is_changed() {
    let mut command = with_sockets("tcp udp", "http:dns:more");
    command.env("LISTEN_FDS", "3");
    let mut daemon = Daemon::up(command);
    // Nothing is claimed by it either.
    for question in ["listeners", "again"] {
        assert_eq!(
            daemon.ask(question),
            "Environment: cannot take the sockets that LISTEN_FDS=3 announces: descriptor 5 is closed; none was taken"
        );
    }
    assert_eq!(daemon.ask("open-in-child"), "3 4");
}

#[test]
fn what_the_process_opened_itself_is_not_taken() {
    let mut command = with_sockets("tcp udp", "http:dns:more");
    command.env("LISTEN_FDS", "3");
    let mut daemon = Daemon::up(command);
    // It gets the number of the descriptor that is missing.
    assert_eq!(daemon.ask("bell"), "hung");
    let said = daemon.ask("listeners");
    assert!(
        said.starts_with("Environment: ") && said.contains("descriptor 5 is close-on-exec"),
        "{said}"
    );
    assert_eq!(daemon.ask("open-in-child"), "3 4");
    assert_eq!(daemon.ask("ring"), "true");
}

#[test]
fn garbage_in_a_variable_is_named() {
    for (name, value) in [
        ("LISTEN_PID", "me"),
        ("LISTEN_FDS", "-1"),
        ("LISTEN_FDS", "2147483645"),
        ("LISTEN_FDNAMES", "http:dns"),
    ] {
        let mut command = with_sockets("tcp", "http");
        command.env(name, value);
        let mut daemon = Daemon::up(command);
        let said = daemon.ask("listeners");
        let expected = format!("Environment: cannot take {name} from the environment: {value:?} ");
        assert!(said.starts_with(&expected), "{said}");
        assert!(
            said.ends_with("; this process cannot know its sockets"),
            "{said}"
        );
        assert_eq!(daemon.ask("open-in-child"), "3");
    }
}
