//! Where a socket listens, and the one way in which that is written, for logs and keepers (§9).

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Result;

use super::spelling::Spelled;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) kind: Kind,
    pub(crate) place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Tcp,
    Udp,
    UnixStream,
    UnixDatagram,
    UnixSeqpacket,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Internet {
        family: Family,
        host: Host,
        port: Port,
    },
    /// Absolute.
    Path(PathBuf),
    Abstract(String),
}

/// As it was asked for; an address in digits has one anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Any,
    V4,
    V6,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// All addresses.
    Any,
    Address {
        address: IpAddr,
        /// The interface of a link-local one, by name or number.
        scope: Option<String>,
    },
    Name(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    Number(u16),
    /// A name of services(5).
    Service(String),
}

impl Address {
    /// Understands an address without name and options. The error is the cause alone.
    pub(crate) fn parse(text: &str) -> Result<Address> {
        Ok(Spelled::parse(text)?.address)
    }
}

impl Address {
    /// Whether what comes to the one may come to the other, as far as the words tell.
    pub(crate) fn overlaps(&self, other: &Address) -> bool {
        let places = match (&self.place, &other.place) {
            (
                Place::Internet { host, port, .. },
                Place::Internet {
                    host: other_host,
                    port: other_port,
                    ..
                },
            ) => {
                let named = |host: &Host| matches!(host, Host::Any | Host::Name(_));
                port == other_port && (named(host) || named(other_host) || host == other_host)
            }
            (place, other) => place == other,
        };
        self.kind == other.kind && places
    }
}

impl Port {
    /// Whether a socket with this port in digits may be meant. What a name means, the resolver knows.
    pub(super) fn may_be(&self, digits: &str) -> bool {
        match self {
            Port::Number(number) => number.to_string() == digits,
            Port::Service(_) => true,
        }
    }
}

impl Kind {
    /// Whether one listens on it; a datagram socket is only bound.
    pub(crate) fn has_connections(self) -> bool {
        match self {
            Kind::Tcp | Kind::UnixStream | Kind::UnixSeqpacket => true,
            Kind::Udp | Kind::UnixDatagram => false,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind;
        match &self.place {
            Place::Internet { family, host, port } => {
                write!(formatter, "{kind}{family}:{host}:{port}")
            }
            Place::Path(path) => write!(formatter, "{kind}:{}", path.display()),
            Place::Abstract(name) => write!(formatter, "{kind}:@{name}"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Kind::Tcp => "tcp",
            Kind::Udp => "udp",
            Kind::UnixStream => "unix",
            Kind::UnixDatagram => "unix-dgram",
            Kind::UnixSeqpacket => "unix-seqpacket",
        })
    }
}

impl fmt::Display for Family {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Family::Any => "",
            Family::V4 => "4",
            Family::V6 => "6",
        })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Any => formatter.write_str("*"),
            Host::Address { address, scope } => match (address, scope) {
                (IpAddr::V4(address), _) => write!(formatter, "{address}"),
                (IpAddr::V6(address), None) => write!(formatter, "[{address}]"),
                (IpAddr::V6(address), Some(scope)) => write!(formatter, "[{address}%{scope}]"),
            },
            Host::Name(name) => formatter.write_str(name),
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Port::Number(number) => write!(formatter, "{number}"),
            Port::Service(name) => formatter.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_as_the_same() {
        for text in [
            "tcp:127.0.0.1:8080",
            "tcp4:127.0.0.1:0",
            "tcp:*:80",
            "tcp4:*:http",
            "tcp6:[::1]:http",
            "tcp:[fe80::1%eth0]:80",
            "tcp:[::ffff:1.2.3.4]:80",
            "tcp:localhost:http",
            "udp:*:53",
            "udp4:localhost:53",
            "udp6:[::]:65535",
            "unix:/run/app.sock",
            "unix:/run/a,b=c d:80",
            "unix-dgram:/run/@app",
            "unix-seqpacket:@name",
            "unix:@@name:80",
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.to_string(), text);
            assert_eq!(Address::parse(&address.to_string()).unwrap(), address);
        }
    }
}
