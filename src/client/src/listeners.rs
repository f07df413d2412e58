//! The sockets that a daemon was given, by name and by kind.

use super::error::{Error, ErrorKind};
use nix::errno::Errno;
use nix::sys::socket::sockopt::{AcceptConn, SockType as TypeOfSocket};
use nix::sys::socket::{
    AddressFamily, SockType, SockaddrLike, SockaddrStorage, getsockname, getsockopt,
};
use std::fmt;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};

/// The sockets that were opened for this daemon, by name; see [`Seamless::listeners`](crate::Seamless::listeners).
///
/// Each one is given out once. Of several with the same name each call gives the next one, in the order in which they
/// were opened. Dropping this closes those that nobody has taken; the launcher keeps its own copies.
///
/// All of them are close-on-exec. Otherwise they are as they came, and **they are shared**: the launcher holds them, and
/// the predecessor serves on the very same ones until it drains. What belongs to the socket and not to the descriptor
/// is changed for everybody who holds it:
///
/// - `O_NONBLOCK` is left as it is, and `set_nonblocking` changes it under the predecessor too. So every version of a
///   daemon should set it the same way, and be able to meet `WouldBlock`. Whoever polls first needs it: the other
///   generation may have taken the connection meanwhile, and a blocking `accept` would then wait for the next one.
/// - `shutdown(2)` on a listening socket ends it for every generation, those to come as well. To stop accepting, stop
///   accepting; to go, close it.
/// - The path of a Unix socket belongs to whoever bound it: a daemon that unlinks it, at its end or before it binds,
///   cuts its successor off.
/// - A datagram goes to whoever reads it first. Until the predecessor drains it reads too, so what belongs together may
///   go to both.
#[derive(Debug)]
pub struct Listeners {
    /// In the order of their descriptors.
    left: Vec<(String, OwnedFd)>,
}

impl Listeners {
    pub(crate) fn new(sockets: Vec<(String, OwnedFd)>) -> Self {
        Listeners { left: sockets }
    }

    /// The next listening TCP socket of this name. `None`: nobody opened one of that name, or all were taken; a daemon
    /// binds one by itself then.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WrongKind`] if all that is left under this name is of another kind. It stays there for the right
    /// call. [`ErrorKind::Io`] if the system does not tell of what kind it is.
    pub fn tcp(&mut self, name: &str) -> Result<Option<TcpListener>, Error> {
        self.take(name, Kind::Tcp)
    }

    /// The next UDP socket of this name; otherwise as [`tcp`](Self::tcp).
    ///
    /// # Errors
    ///
    /// As [`tcp`](Self::tcp).
    pub fn udp(&mut self, name: &str) -> Result<Option<UdpSocket>, Error> {
        self.take(name, Kind::Udp)
    }

    /// The next listening Unix stream socket of this name; otherwise as [`tcp`](Self::tcp).
    ///
    /// # Errors
    ///
    /// As [`tcp`](Self::tcp).
    pub fn unix(&mut self, name: &str) -> Result<Option<UnixListener>, Error> {
        self.take(name, Kind::Unix)
    }

    /// The next Unix datagram socket of this name; otherwise as [`tcp`](Self::tcp).
    ///
    /// # Errors
    ///
    /// As [`tcp`](Self::tcp).
    pub fn unix_datagram(&mut self, name: &str) -> Result<Option<UnixDatagram>, Error> {
        self.take(name, Kind::UnixDatagram)
    }

    /// The next descriptor of this name, whatever it is: a seqpacket socket, a FIFO, a descriptor that a service manager
    /// stored.
    #[must_use = "dropping it closes it"]
    pub fn fd(&mut self, name: &str) -> Option<OwnedFd> {
        let place = self.left.iter().position(|(other, _)| other == name)?;
        Some(self.left.remove(place).1)
    }

    /// The names that nobody has taken yet, in the order of their descriptors, each as often as it is there: for a
    /// warning about what this daemon does not serve.
    pub fn names(&self) -> impl Iterator<Item = &str> + use<'_> {
        self.left.iter().map(|(name, _)| name.as_str())
    }

    fn take<S: From<OwnedFd>>(&mut self, name: &str, wanted: Kind) -> Result<Option<S>, Error> {
        let mut unwanted = None;
        for (place, (other, descriptor)) in self.left.iter().enumerate() {
            if other != name {
                continue;
            }
            let kind = Kind::of(descriptor).map_err(|error| {
                let what = format!("cannot tell of what kind the socket {name:?} is");
                Error::caused(ErrorKind::Io, what, &error).consequence("it was not taken")
            })?;
            if kind == wanted {
                return Ok(Some(self.left.remove(place).1.into()));
            }
            unwanted.get_or_insert(kind);
        }
        match unwanted {
            None => Ok(None),
            Some(kind) => {
                let message = format!("cannot take {name:?} as {wanted}: it is {kind}");
                Err(Error::new(ErrorKind::WrongKind, message).consequence("it was not taken"))
            }
        }
    }
}

/// What a descriptor is, as far as the forms of the standard library differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tcp,
    Udp,
    Unix,
    UnixDatagram,
    /// A stream that was never put to listen, or a connection.
    Silent,
    Other,
    NoSocket,
}

impl Kind {
    fn of(descriptor: &OwnedFd) -> io::Result<Self> {
        let stream = match getsockopt(descriptor, TypeOfSocket) {
            Ok(SockType::Stream) => true,
            Ok(SockType::Datagram) => false,
            // EINVAL: of a type that nix does not know.
            Ok(_) | Err(Errno::EINVAL) => return Ok(Kind::Other),
            Err(Errno::ENOTSOCK) => return Ok(Kind::NoSocket),
            Err(error) => return Err(error.into()),
        };
        let address: SockaddrStorage = getsockname(descriptor.as_raw_fd())?;
        let kind = match (address.family(), stream) {
            (Some(AddressFamily::Inet | AddressFamily::Inet6), true) => Kind::Tcp,
            (Some(AddressFamily::Inet | AddressFamily::Inet6), false) => Kind::Udp,
            (Some(AddressFamily::Unix), true) => Kind::Unix,
            (Some(AddressFamily::Unix), false) => Kind::UnixDatagram,
            _ => return Ok(Kind::Other),
        };
        if !stream {
            return Ok(kind);
        }
        match getsockopt(descriptor, AcceptConn) {
            // Not every Unix tells; there the daemon's `accept` will.
            Ok(true) | Err(Errno::ENOPROTOOPT) => Ok(kind),
            Ok(false) => Ok(Kind::Silent),
            Err(error) => Err(error.into()),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Kind::Tcp => "a listening TCP socket",
            Kind::Udp => "a UDP socket",
            Kind::Unix => "a listening Unix socket",
            Kind::UnixDatagram => "a Unix datagram socket",
            Kind::Silent => "a stream socket that does not listen",
            Kind::Other => "a socket of another kind",
            Kind::NoSocket => "no socket",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{SockFlag, socket};
    use std::fs::File;
    use std::net::{Ipv6Addr, TcpStream};
    use std::os::unix::net::UnixStream;

    fn named(sockets: Vec<(&str, OwnedFd)>) -> Listeners {
        let own = |(name, socket): (&str, _)| (name.to_owned(), socket);
        Listeners::new(sockets.into_iter().map(own).collect())
    }

    fn tcp() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }

    #[test]
    fn kinds_are_told_apart() {
        let of = |descriptor: OwnedFd| Kind::of(&descriptor).unwrap();
        let listener = tcp();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(of(stream.into()), Kind::Silent);
        assert_eq!(of(listener.into()), Kind::Tcp);
        // A machine may have no IPv6; what it does not have it cannot be given.
        if let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) {
            assert_eq!(of(listener.into()), Kind::Tcp);
        }
        assert_eq!(
            of(UdpSocket::bind("127.0.0.1:0").unwrap().into()),
            Kind::Udp
        );
        assert_eq!(of(UnixStream::pair().unwrap().0.into()), Kind::Silent);
        // Unbound, so that its address is nothing but a family.
        assert_eq!(
            of(UnixDatagram::unbound().unwrap().into()),
            Kind::UnixDatagram
        );
        assert_eq!(of(File::open("/dev/null").unwrap().into()), Kind::NoSocket);
        let unbound = |family, kind| socket(family, kind, SockFlag::empty(), None).unwrap();
        assert_eq!(
            of(unbound(AddressFamily::Unix, SockType::SeqPacket)),
            Kind::Other
        );
        assert_eq!(
            of(unbound(AddressFamily::Inet, SockType::Stream)),
            Kind::Silent
        );
        #[cfg(target_os = "linux")]
        assert_eq!(
            of(unbound(AddressFamily::Netlink, SockType::Datagram)),
            Kind::Other
        );
    }

    #[test]
    fn one_name_is_given_out_in_order() {
        let [first, second] = [tcp(), tcp()];
        let expected = [&first, &second].map(|listener| listener.local_addr().unwrap());
        let mut listeners = named(vec![
            ("http", first.into()),
            ("else", tcp().into()),
            ("http", second.into()),
        ]);
        assert_eq!(
            listeners.names().collect::<Vec<_>>(),
            ["http", "else", "http"]
        );
        for address in expected {
            let listener = listeners.tcp("http").unwrap().unwrap();
            assert_eq!(listener.local_addr().unwrap(), address);
        }
        assert!(listeners.tcp("http").unwrap().is_none());
        assert_eq!(listeners.names().collect::<Vec<_>>(), ["else"]);
    }

    #[test]
    fn what_is_of_another_kind_stays() {
        let mut listeners = named(vec![("x", UnixDatagram::unbound().unwrap().into())]);
        let errors = [
            listeners.tcp("x").unwrap_err(),
            listeners.udp("x").unwrap_err(),
            listeners.unix("x").unwrap_err(),
        ];
        for error in &errors {
            assert_eq!(error.kind(), ErrorKind::WrongKind);
        }
        assert_eq!(
            errors[0].to_string(),
            "cannot take \"x\" as a listening TCP socket: it is a Unix datagram socket; it was not taken"
        );
        assert!(listeners.unix_datagram("x").unwrap().is_some());
        assert!(listeners.unix_datagram("x").unwrap().is_none());
    }

    #[test]
    fn one_name_may_have_several_kinds() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut listeners = named(vec![("dns", udp.into()), ("dns", tcp().into())]);
        assert!(listeners.tcp("dns").unwrap().is_some());
        assert_eq!(
            listeners.tcp("dns").unwrap_err().kind(),
            ErrorKind::WrongKind
        );
        assert!(listeners.udp("dns").unwrap().is_some());
        assert!(listeners.fd("dns").is_none());
    }
}
