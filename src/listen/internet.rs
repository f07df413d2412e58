//! Opening TCP and UDP sockets.

use std::io;
use std::net::SocketAddr;

use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket};

use super::address::{Family, Host, Kind, Port};
use super::open::{Failure, listen, set_keepalive};
use super::options::Options;
use super::resolve;
use crate::report::cause;

pub(super) fn open(
    kind: Kind,
    family: Family,
    host: &Host,
    port: &Port,
    options: &Options,
) -> Result<Socket, Failure> {
    let addresses = resolve::addresses(kind, family, host, port)?;
    let v6only = resolve::v6only(family, host, options);
    // Only of all addresses there is a second choice, and none if IPv6 is insisted on.
    let (first, second) = match (&addresses[..], host) {
        ([first, second, ..], Host::Any) if v6only != Some(true) => (*first, Some(*second)),
        ([first, ..], _) => (*first, None),
        ([], _) => return Err("there is no address".to_owned().into()),
    };
    let open = |at| open_at(kind, at, v6only, options).map_err(|error| (at, error));
    let opened = open(first).or_else(|(at, failed)| match second {
        Some(second) if has_no_ipv6(&failed.error) => open(second),
        _ => Err((at, failed)),
    });
    opened.map_err(|(at, failed)| failed.explain(kind, at, options))
}

fn has_no_ipv6(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

/// What could not be done, and why.
#[derive(Debug)]
struct Failed {
    step: Step,
    error: io::Error,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Open,
    Device,
    /// Binding, and listening, too, finds out that the address is taken.
    Bind,
}

fn open_at(
    kind: Kind,
    at: SocketAddr,
    v6only: Option<bool>,
    options: &Options,
) -> Result<Socket, Failed> {
    let during = |step| move |error| Failed { step, error };
    let socket = Socket::new(Domain::for_address(at), resolve::socket_type(kind), None);
    let socket = socket.map_err(during(Step::Open))?;
    let prepare = || -> io::Result<()> {
        if kind == Kind::Tcp {
            // For UDP it would let a second process take the address.
            socket.set_reuse_address(true)?;
        }
        if let Some(reuse) = options.reuseport {
            socket.set_reuse_port(reuse)?;
        }
        if let Some(freebind) = options.freebind {
            match at {
                SocketAddr::V4(_) => socket.set_freebind_v4(freebind)?,
                SocketAddr::V6(_) => socket.set_freebind_v6(freebind)?,
            }
        }
        if let (SocketAddr::V6(_), Some(only)) = (at, v6only) {
            socket.set_only_v6(only)?;
        }
        options
            .keepalive
            .map_or(Ok(()), |keepalive| set_keepalive(&socket, keepalive))
    };
    prepare().map_err(during(Step::Open))?;
    if let Some(device) = &options.device {
        let bound = socket.bind_device(Some(device.as_bytes()));
        bound.map_err(during(Step::Device))?;
    }
    let bound = socket.bind(&SockAddr::from(at));
    bound
        .and_then(|()| listen(kind, &socket, options))
        .map_err(during(Step::Bind))?;
    Ok(socket)
}

impl Failed {
    fn explain(self, kind: Kind, at: SocketAddr, options: &Options) -> Failure {
        let Failed { step, error } = self;
        let words = cause(&error);
        let device = options.device.as_deref().unwrap_or_default();
        let flag = if kind == Kind::Tcp { 't' } else { 'u' };
        let errno = Errno::from_io_error(&error);
        let in_use = errno == Some(Errno::ADDRINUSE);
        let cause = match (step, errno) {
            (Step::Open, Some(Errno::AFNOSUPPORT)) if at.is_ipv6() => {
                format!("{words}; this machine has no IPv6, use {kind}4")
            }
            (Step::Open, _) => words,
            (Step::Device, Some(Errno::NODEV)) => resolve::no_device(device),
            (Step::Device, Some(Errno::PERM)) => format!(
                "not permitted to bind to the device {device}; start as root or with CAP_NET_RAW"
            ),
            (Step::Device, _) => format!("cannot bind to the device {device}: {words}"),
            (Step::Bind, Some(Errno::ADDRINUSE)) => {
                format!("another process listens there; `ss -l{flag}np` names it")
            }
            (Step::Bind, Some(Errno::ACCESS)) if at.port() > 0 && at.port() < 1024 => format!(
                "not permitted to use the port {}; start as root, with CAP_NET_BIND_SERVICE, or lower net.ipv4.ip_unprivileged_port_start",
                at.port()
            ),
            (Step::Bind, Some(Errno::ADDRNOTAVAIL)) => format!(
                "there is no such address on this machine ({}); freebind opens it all the same",
                at.ip()
            ),
            (Step::Bind, Some(Errno::INVAL)) if needs_scope(at) => format!(
                "a link-local address needs its interface; use [{}%INTERFACE]",
                at.ip()
            ),
            (Step::Bind, Some(Errno::NODEV)) => {
                "there is no such network interface; `ip link` names those there are".to_owned()
            }
            (Step::Bind, _) => words,
        };
        Failure { in_use, cause }
    }
}

fn needs_scope(at: SocketAddr) -> bool {
    match at {
        SocketAddr::V4(_) => false,
        SocketAddr::V6(at) => at.ip().is_unicast_link_local() && at.scope_id() == 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::open::{NotOpened, open};
    use super::super::wanted::Wanted;
    use super::*;
    use rustix::fs::{OFlags, fcntl_getfl};
    use rustix::io::{FdFlags, fcntl_getfd};
    use std::ffi::OsStr;
    use std::time::Duration;

    fn opened(text: &str) -> Result<Socket, NotOpened> {
        let wanted = Wanted::parse(OsStr::new(text)).unwrap();
        open(&wanted, &|_, _| false).map(|opened| Socket::from(opened.socket))
    }

    fn port_of(socket: &Socket) -> u16 {
        socket.local_addr().unwrap().as_socket().unwrap().port()
    }

    #[test]
    fn a_socket_is_opened_with_its_options() {
        let socket = opened("127.0.0.1:0,reuseport,keepalive=60:10:5,device=lo,backlog=5").unwrap();
        assert_eq!(fcntl_getfd(&socket).unwrap(), FdFlags::CLOEXEC);
        assert!(!fcntl_getfl(&socket).unwrap().contains(OFlags::NONBLOCK));
        assert!(socket.is_listener().unwrap() && socket.reuse_address().unwrap());
        assert!(socket.reuse_port().unwrap() && socket.keepalive().unwrap());
        assert_eq!(
            socket.tcp_keepalive_time().unwrap(),
            Duration::from_secs(60)
        );
        assert_eq!(
            socket.tcp_keepalive_interval().unwrap(),
            Duration::from_secs(10)
        );
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 5);
        assert_eq!(socket.device().unwrap().as_deref(), Some(&b"lo"[..]));

        let socket = opened("udp:localhost:0").unwrap();
        let at = socket.local_addr().unwrap().as_socket().unwrap();
        assert!(at.ip().is_loopback() && at.is_ipv4() && at.port() > 0);
        assert!(!socket.reuse_address().unwrap() && !socket.reuse_port().unwrap());
        assert!(!socket.is_listener().unwrap());

        let v4 = opened("tcp4:*:0").unwrap();
        assert_eq!(v4.domain().unwrap(), Domain::IPV4);
        let first_free = opened("192.0.2.1:0,freebind").unwrap();
        assert!(port_of(&first_free) > 0);
    }

    #[test]
    fn all_addresses_are_those_of_both_families() {
        let all = opened("0").unwrap();
        let v4 = std::net::TcpStream::connect(("127.0.0.1", port_of(&all)));
        v4.unwrap();
        if Socket::new(Domain::IPV6, socket2::Type::STREAM, None).is_ok() {
            assert_eq!(all.domain().unwrap(), Domain::IPV6);
            let only = opened("tcp6:0").unwrap();
            assert!(only.only_v6().unwrap() && !all.only_v6().unwrap());
            let both = opened("tcp6:0,v6only=off").unwrap();
            assert!(!both.only_v6().unwrap());
            assert!(opened("0,v6only").unwrap().only_v6().unwrap());
        }
    }

    #[test]
    fn what_cannot_be_opened_is_explained() {
        let (tcp, udp) = (
            opened("127.0.0.1:0").unwrap(),
            opened("udp:127.0.0.1:0").unwrap(),
        );
        let (tcp, udp) = ((port_of(&tcp), tcp), (port_of(&udp), udp));
        for (text, in_use, words) in [
            (
                format!("http=127.0.0.1:{}", tcp.0),
                true,
                "`ss -ltnp` names it",
            ),
            (
                format!("udp:127.0.0.1:{}", udp.0),
                true,
                "`ss -lunp` names it",
            ),
            (
                "192.0.2.1:0".to_owned(),
                false,
                "(192.0.2.1); freebind opens it all the same",
            ),
            (
                "127.0.0.1:0,device=nowhere".to_owned(),
                false,
                "there is no network interface nowhere",
            ),
            (
                "127.0.0.1:no-such".to_owned(),
                false,
                "there is no tcp service \"no-such\"",
            ),
        ] {
            let refused = opened(&text).unwrap_err();
            assert_eq!(refused.in_use, in_use, "{refused:?}");
            assert!(refused.words.contains(words), "{refused:?}");
            let name = if in_use && text.starts_with("http") {
                "http=tcp:"
            } else {
                ""
            };
            let start = format!("cannot listen on {name}");
            assert!(refused.words.starts_with(&start), "{refused:?}");
        }
        let explained = |step, errno: Errno, at: &str, options: &Options| {
            let error = errno.into();
            let at = at.parse().unwrap();
            Failed { step, error }.explain(Kind::Tcp, at, options).cause
        };
        let none = Options::default();
        for (step, errno, at, words) in [
            (
                Step::Bind,
                Errno::ACCESS,
                "0.0.0.0:80",
                "the port 80; start as root, with CAP_NET_BIND_SERVICE, or lower net.ipv4.ip_unprivileged_port_start",
            ),
            (
                Step::Bind,
                Errno::ACCESS,
                "0.0.0.0:8080",
                "Permission denied",
            ),
            (
                Step::Bind,
                Errno::INVAL,
                "[fe80::1]:80",
                "use [fe80::1%INTERFACE]",
            ),
            (Step::Open, Errno::AFNOSUPPORT, "[::1]:80", "use tcp4"),
            (Step::Device, Errno::PERM, "[::1]:80", "CAP_NET_RAW"),
        ] {
            let cause = explained(step, errno, at, &none);
            assert!(cause.contains(words), "{cause}");
        }
    }
}
