//! Sockets that are there already: whether one is what is wanted, and what can be changed of it.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::address::{Address, Family, Host, Kind, Place, Port};
use super::open::{FileIdentity, listen, set_keepalive};
use super::options::{Name, Options};
use super::ownership::Ownership;
use super::wanted::Wanted;
use super::{occupant, resolve, unix};
use crate::report::cause;

/// Whether a socket is of this kind, and bound to this address or to one of those that it may mean.
pub(crate) fn bound_to(address: &Address, socket: BorrowedFd<'_>) -> bool {
    let socket = SockRef::from(&socket);
    let Ok(name) = socket.local_addr() else {
        return false;
    };
    // A connection has the address of its listener.
    let usable = socket.r#type().ok() == Some(resolve::socket_type(address.kind))
        && socket.peer_addr().is_err();
    if !usable {
        return false;
    }
    match &address.place {
        Place::Path(path) => unix::is_name_of(&name, path),
        Place::Abstract(wanted) => name.as_abstract_namespace() == Some(wanted.as_bytes()),
        Place::Internet { family, host, port } => name
            .as_socket()
            .is_some_and(|at| is_at(address.kind, *family, host, port, at, &socket)),
    }
}

fn is_at(
    kind: Kind,
    family: Family,
    host: &Host,
    port: &Port,
    at: SocketAddr,
    socket: &Socket,
) -> bool {
    let protocol_fits = match socket.protocol() {
        Ok(Some(protocol)) => match kind {
            Kind::Tcp => protocol == Protocol::TCP || protocol == Protocol::MPTCP,
            Kind::Udp => protocol == Protocol::UDP,
            Kind::UnixStream | Kind::UnixDatagram | Kind::UnixSeqpacket => false,
        },
        Ok(None) | Err(_) => false,
    };
    // Port 0 is a new one each time. A number that differs spares the resolver.
    let port_fits = match port {
        Port::Number(number) => *number != 0 && *number == at.port(),
        Port::Service(_) => true,
    };
    if !protocol_fits || !port_fits {
        return false;
    }
    let Ok(addresses) = resolve::addresses(kind, family, host, port) else {
        return false;
    };
    match (host, family) {
        // One that takes no IPv4 is not all, nor is one for IPv4 where there is IPv6.
        (Host::Any, Family::Any) if at.is_ipv6() => {
            addresses.contains(&at) && socket.only_v6().is_ok_and(|only| !only)
        }
        (Host::Any, Family::Any) => addresses.contains(&at) && !machine_has_ipv6(),
        (Host::Any, Family::V4 | Family::V6) => addresses.contains(&at),
        (Host::Address { .. } | Host::Name(_), _) => {
            addresses.iter().any(|address| is_same(*address, at))
        }
    }
}

/// Whether what may be meant by a name or a literal is where the socket is.
fn is_same(meant: SocketAddr, at: SocketAddr) -> bool {
    match (meant, at) {
        (SocketAddr::V6(meant), SocketAddr::V6(at)) => {
            meant.ip() == at.ip()
                && meant.port() == at.port()
                && [0, at.scope_id()].contains(&meant.scope_id())
        }
        (SocketAddr::V4(_), _) | (_, SocketAddr::V4(_)) => meant == at,
    }
}

fn machine_has_ipv6() -> bool {
    Socket::new(Domain::IPV6, Type::STREAM, None).is_ok()
}

/// Whether it is bound to another network interface than the one that is wanted: there may be one
/// socket for each.
pub(crate) fn is_on_another_device(wanted: &Wanted, socket: BorrowedFd<'_>) -> bool {
    let bound = SockRef::from(&socket).device().ok().flatten();
    match (&wanted.options.device, bound) {
        (Some(device), Some(bound)) => device.as_bytes() != bound,
        (None, _) | (_, None) => false,
    }
}

/// Whether anybody can still connect. Who called shutdown(2) did so for every generation: TCP listens
/// again if it is told to; a Unix socket never does.
pub(crate) fn revive(wanted: &Wanted, socket: BorrowedFd<'_>) -> bool {
    let kind = wanted.address.kind;
    let shut = || {
        let ended = PollFlags::from_bits_retain(nix::libc::POLLRDHUP);
        let mut ends = [PollFd::new(socket, ended)];
        poll(&mut ends, PollTimeout::ZERO).is_ok_and(|count| count > 0)
    };
    match kind {
        Kind::Udp | Kind::UnixDatagram => true,
        Kind::UnixStream | Kind::UnixSeqpacket => !shut(),
        Kind::Tcp => listen_again(kind, socket, &wanted.options),
    }
}

/// Says whether it listens. No queue is lost where it did.
pub(crate) fn listen_again(kind: Kind, socket: BorrowedFd<'_>, options: &Options) -> bool {
    let socket = SockRef::from(&socket);
    let listens = socket.is_listener().is_ok_and(|listens| listens);
    listens || listen(kind, &socket, options).is_ok()
}

/// Applies to a socket that is reused what can be changed on a living one. The error names, in one
/// line, what could not be, and what takes effect only when the socket is opened anew.
///
/// `file`: what was bound; anything else that lies at the path by now is not touched.
pub(crate) fn adjust(
    wanted: &Wanted,
    socket: BorrowedFd<'_>,
    file: Option<FileIdentity>,
) -> Result<(), String> {
    let Wanted {
        address, options, ..
    } = wanted;
    let socket = SockRef::from(&socket);
    let mut troubles = Vec::new();
    if let Err(error) = listen(address.kind, &socket, options) {
        troubles.push(format!("cannot set its backlog: {}", cause(&error)));
    }
    let keepalive = options
        .keepalive
        .map(|keepalive| set_keepalive(&socket, keepalive));
    if let Some(Err(error)) = keepalive {
        troubles.push(format!("cannot set keepalive: {}", cause(&error)));
    }
    match &address.place {
        Place::Path(path) => troubles.extend(adjust_path(path, options, file).err()),
        Place::Abstract(_) => {}
        Place::Internet { family, host, .. } => {
            let v6only = resolve::v6only(*family, host, options);
            let differing = differing(v6only, options, &socket);
            if !differing.is_empty() {
                let names: Vec<_> = differing.iter().map(Name::to_string).collect();
                troubles.push(format!(
                    "it is kept as it was opened, without the change of {}; stop the service and start it again for that",
                    names.join(", ")
                ));
            }
        }
    }
    if troubles.is_empty() {
        Ok(())
    } else {
        Err(format!("{}: {}", wanted.label(), troubles.join("; ")))
    }
}

fn differing(v6only: Option<bool>, options: &Options, socket: &Socket) -> Vec<Name> {
    let mut differing = Vec::new();
    // For IPv4 there is no such thing, and of a single address the kernel sets it by itself.
    let local = socket.local_addr().ok().and_then(|local| local.as_socket());
    let all = local.is_some_and(|local| local.ip().is_unspecified());
    if all && v6only.is_some_and(|only| socket.only_v6().is_ok_and(|now| now != only)) {
        differing.push(Name::V6only);
    }
    let reuse = options.reuseport.unwrap_or(false);
    if socket.reuse_port().is_ok_and(|now| now != reuse) {
        differing.push(Name::Reuseport);
    }
    let device = options.device.as_deref().map(str::as_bytes);
    if socket.device().is_ok_and(|now| now.as_deref() != device) {
        differing.push(Name::Device);
    }
    differing
}

fn adjust_path(path: &Path, options: &Options, file: Option<FileIdentity>) -> Result<(), String> {
    let ownership = Ownership::of(options)?;
    let Some(place) = occupant::look(path)? else {
        return Err(
            "its path is gone, and nobody finds it; stop the service and start it again".to_owned(),
        );
    };
    let found = place.metadata().map_err(|error| cause(&error))?;
    if file.is_some_and(|file| file != FileIdentity::of(&found)) {
        return Err("its path leads elsewhere, and nobody finds it".to_owned());
    }
    occupant::is_usable(&found, path, ownership)?;
    ownership.apply(&place, options)
}

#[cfg(test)]
mod tests {
    use super::super::open::open;
    use super::*;
    use std::ffi::OsStr;
    use std::fs;
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::fs::MetadataExt;
    use std::time::Duration;

    fn wanted(text: &str) -> Wanted {
        Wanted::parse(OsStr::new(text)).unwrap()
    }

    fn adjust(wanted: &Wanted, socket: BorrowedFd<'_>) -> Result<(), String> {
        super::adjust(wanted, socket, None)
    }

    fn opened(text: &str) -> OwnedFd {
        open(&wanted(text), &|_, _| true).unwrap().socket
    }

    fn is_bound_to(socket: &OwnedFd, text: &str) -> bool {
        let at = SockRef::from(socket).local_addr().unwrap().as_socket();
        let port = at.map(|at| at.port().to_string()).unwrap_or_default();
        bound_to(
            &wanted(&text.replace("PORT", &port)).address,
            socket.as_fd(),
        )
    }

    #[test]
    fn a_socket_is_known_by_where_it_is_bound() {
        let tcp = opened("127.0.0.1:0");
        for (text, is) in [
            ("127.0.0.1:PORT", true),
            ("tcp4:127.0.0.1:PORT", true),
            ("localhost:PORT", true),
            ("127.0.0.1:0", false),
            ("127.0.0.1:1", false),
            ("127.0.0.2:PORT", false),
            ("127.0.0.1:http", false),
            ("*:PORT", false),
            ("tcp4:*:PORT", false),
            ("udp:127.0.0.1:PORT", false),
            ("[::1]:PORT", false),
            ("/run/app.sock", false),
        ] {
            assert_eq!(is_bound_to(&tcp, text), is, "{text}");
        }
        let connection = std::net::TcpStream::connect(
            SockRef::from(&tcp)
                .local_addr()
                .unwrap()
                .as_socket()
                .unwrap(),
        );
        let _connection = connection.unwrap();
        let (accepted, _) = SockRef::from(&tcp).accept().unwrap();
        assert!(!is_bound_to(&accepted.into(), "127.0.0.1:PORT"));

        let v4 = opened("tcp4:*:0");
        assert!(is_bound_to(&v4, "tcp4:*:PORT") && is_bound_to(&v4, "0.0.0.0:PORT"));
        assert_eq!(is_bound_to(&v4, "*:PORT"), !machine_has_ipv6());
        if machine_has_ipv6() {
            let (both, only) = (opened("udp:0"), opened("udp6:0"));
            assert!(is_bound_to(&both, "udp:PORT") && is_bound_to(&only, "udp6:PORT"));
            assert!(is_bound_to(&both, "udp6:PORT") && !is_bound_to(&only, "udp:PORT"));
            let own = opened("[::1]:0");
            assert!(is_bound_to(&own, "[::1]:PORT") && is_bound_to(&own, "tcp6:[::1]:PORT"));
            for other in [
                "[::2]:PORT",
                "[::1]:1",
                "[::1%lo]:PORT",
                "127.0.0.1:PORT",
                "PORT",
            ] {
                assert!(!is_bound_to(&own, other), "{other}");
            }
        }
    }

    #[test]
    fn a_unix_socket_is_known_by_its_name_and_by_the_one_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.sock");
        let path = path.to_str().unwrap();
        let (old, new) = (opened(path), opened(path));
        for socket in [&old, &new] {
            assert!(is_bound_to(socket, path));
            assert!(!is_bound_to(socket, &format!("unix-dgram:{path}")));
            assert!(!is_bound_to(socket, &format!("{path}.other")));
            assert!(!is_bound_to(socket, "@app"));
        }
        let name = format!("@seamless-run.reused.{}", std::process::id());
        let abstract_one = opened(&name);
        assert!(is_bound_to(&abstract_one, &name) && !is_bound_to(&abstract_one, "@app"));
    }

    #[test]
    fn what_can_be_changed_on_a_living_socket_is() {
        let socket = opened("127.0.0.1:0");
        let changed = wanted("127.0.0.1:0,keepalive=60,backlog=7");
        adjust(&changed, socket.as_fd()).unwrap();
        let own = SockRef::from(&socket);
        assert!(own.keepalive().unwrap() && own.is_listener().unwrap());
        assert_eq!(own.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
        adjust(&wanted("127.0.0.1:0,keepalive=off"), socket.as_fd()).unwrap();
        assert!(!own.keepalive().unwrap());
        adjust(
            &wanted("udp:127.0.0.1:0"),
            opened("udp:127.0.0.1:0").as_fd(),
        )
        .unwrap();

        let changed = wanted("http=127.0.0.1:0,keepalive,reuseport,device=lo");
        let words = adjust(&changed, socket.as_fd()).unwrap_err();
        assert!(
            words.starts_with("http=tcp:127.0.0.1:0: it is kept"),
            "{words}"
        );
        assert!(words.contains("of reuseport, device; stop"), "{words}");
        assert!(
            own.keepalive().unwrap(),
            "what can be changed is all the same"
        );
        if machine_has_ipv6() {
            let words = adjust(&wanted("tcp6:0"), opened("0").as_fd()).unwrap_err();
            assert!(words.contains("of v6only;"), "{words}");
        }
    }

    #[test]
    fn backlog_and_mode_of_a_unix_socket_are_changed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.sock");
        let path = path.to_str().unwrap();
        let socket = opened(&format!("{path},backlog=1,mode=600"));
        adjust(
            &wanted(&format!("{path},backlog=9,mode=666")),
            socket.as_fd(),
        )
        .unwrap();
        assert_eq!(fs::symlink_metadata(path).unwrap().mode() & 0o7777, 0o666);
        // With the first backlog a third would not be taken.
        let connect = || {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
                .connect(&socket2::SockAddr::unix(path).unwrap())
                .map(|()| socket)
        };
        let waiting: Vec<_> = std::iter::repeat_with(connect)
            .map_while(Result::ok)
            .collect();
        assert_eq!(waiting.len(), 10);

        fs::remove_file(path).unwrap();
        let words = adjust(&wanted(path), socket.as_fd()).unwrap_err();
        assert!(words.contains("its path is gone"), "{words}");
        fs::write(path, "").unwrap();
        let words = adjust(&wanted(&format!("{path},mode=600")), socket.as_fd()).unwrap_err();
        assert!(words.contains("is a regular file"), "{words}");
        let bound = FileIdentity {
            device: 0,
            inode: 0,
        };
        let words = super::adjust(&wanted(path), socket.as_fd(), Some(bound)).unwrap_err();
        assert!(words.contains("leads elsewhere"), "{words}");
    }

    #[test]
    fn a_socket_that_was_shut_down_listens_again_or_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.sock");
        for (text, revived) in [("127.0.0.1:0", true), (path.to_str().unwrap(), false)] {
            let socket = opened(text);
            assert!(revive(&wanted(text), socket.as_fd()), "{text}");
            let held = SockRef::from(&socket);
            // What waits is no end.
            let waiting = Socket::new(held.domain().unwrap(), Type::STREAM, None).unwrap();
            waiting.connect(&held.local_addr().unwrap()).unwrap();
            assert!(revive(&wanted(text), socket.as_fd()), "{text}");
            held.shutdown(std::net::Shutdown::Both).unwrap();
            assert_eq!(revive(&wanted(text), socket.as_fd()), revived, "{text}");
            assert!(held.is_listener().unwrap(), "{text}");
        }
    }
}
