//! From names to numbers. What is a number already never asks the resolver.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use dns_lookup::{AddrFamily, AddrInfo, AddrInfoHints, SockType, getaddrinfo};
use nix::net::if_::if_nametoindex;
use socket2::Type;

use super::address::{Family, Host, Kind, Port};
use super::options::Options;
use crate::report::cause;

/// Every address that is meant, the first one first: of a name's an IPv4 one, as with Go's
/// `net.Listen`. All addresses are `[::]` for both families, and where there is no IPv6 `0.0.0.0`.
pub(crate) fn addresses(
    kind: Kind,
    family: Family,
    host: &Host,
    port: &Port,
) -> Result<Vec<SocketAddr>, String> {
    let port = self::port(kind, port)?;
    let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    match host {
        Host::Any => Ok(match family {
            Family::Any => vec![v6, v4],
            Family::V4 => vec![v4],
            Family::V6 => vec![v6],
        }),
        Host::Address { address, scope } => match (address, scope) {
            (IpAddr::V6(address), Some(scope)) => {
                let scope = self::scope(scope)?;
                Ok(vec![SocketAddrV6::new(*address, port, 0, scope).into()])
            }
            (IpAddr::V4(_) | IpAddr::V6(_), _) => Ok(vec![SocketAddr::new(*address, port)]),
        },
        Host::Name(name) => named(kind, family, name, port),
    }
}

/// Whether a socket for IPv6 takes no IPv4; `None` where that is left to the system.
pub(super) fn v6only(family: Family, host: &Host, options: &Options) -> Option<bool> {
    let usual = match (host, family) {
        (Host::Any, Family::Any) => Some(false),
        // Beside it there can be one for IPv4.
        (Host::Any, Family::V6) => Some(true),
        (Host::Any, Family::V4) | (Host::Address { .. } | Host::Name(_), _) => None,
    };
    options.v6only.or(usual)
}

pub(super) fn socket_type(kind: Kind) -> Type {
    match kind {
        Kind::Tcp | Kind::UnixStream => Type::STREAM,
        Kind::Udp | Kind::UnixDatagram => Type::DGRAM,
        Kind::UnixSeqpacket => Type::SEQPACKET,
    }
}

fn port(kind: Kind, port: &Port) -> Result<u16, String> {
    let service = match port {
        Port::Number(number) => return Ok(*number),
        Port::Service(service) => service,
    };
    let found = look_up(kind, Family::Any, None, Some(service));
    let found = found.ok().and_then(|found| found.first().copied());
    match found {
        Some(address) => Ok(address.port()),
        None => Err(format!(
            "there is no {kind} service {service:?} in /etc/services; use a number"
        )),
    }
}

fn scope(text: &str) -> Result<u32, String> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    if_nametoindex(text).map_err(|_| no_device(text))
}

pub(super) fn no_device(name: &str) -> String {
    format!("there is no network interface {name}; `ip link` names those there are")
}

fn named(kind: Kind, family: Family, name: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let found = look_up(kind, family, Some(name), None);
    let mut found =
        found.map_err(|cause| format!("cannot resolve the host name {name:?}: {cause}"))?;
    for address in &mut found {
        address.set_port(port);
    }
    found.sort_by_key(SocketAddr::is_ipv6);
    match (found.is_empty(), family) {
        (false, _) => Ok(found),
        (true, Family::Any) => Err(format!("the host name {name:?} has no address")),
        (true, Family::V4) => Err(format!("the host name {name:?} has no IPv4 address")),
        (true, Family::V6) => Err(format!("the host name {name:?} has no IPv6 address")),
    }
}

fn look_up(
    kind: Kind,
    family: Family,
    host: Option<&str>,
    service: Option<&str>,
) -> Result<Vec<SocketAddr>, String> {
    let hints = AddrInfoHints {
        flags: nix::libc::AI_PASSIVE,
        address: match family {
            Family::Any => 0,
            Family::V4 => AddrFamily::Inet.into(),
            Family::V6 => AddrFamily::Inet6.into(),
        },
        socktype: if kind.has_connections() {
            SockType::Stream.into()
        } else {
            SockType::DGram.into()
        },
        protocol: 0,
    };
    let words = |error| {
        let text = cause(&error);
        let own = text.strip_prefix("failed to lookup address information: ");
        own.unwrap_or(&text).to_owned()
    };
    let found = getaddrinfo(host, service, Some(hints)).map_err(|error| words(error.into()))?;
    let found: Result<Vec<AddrInfo>, _> = found.collect();
    let addresses = found.map_err(words)?.into_iter();
    Ok(addresses.map(|found| found.sockaddr).collect())
}

#[cfg(test)]
mod tests {
    use super::super::address::{Address, Place};
    use super::*;

    fn resolved(text: &str) -> Result<String, String> {
        let address = Address::parse(text).unwrap();
        match &address.place {
            Place::Internet { family, host, port } => {
                let found = addresses(address.kind, *family, host, port)?;
                let found: Vec<_> = found.iter().map(SocketAddr::to_string).collect();
                Ok(found.join(" "))
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn numbers_are_what_they_are_and_names_are_looked_up() {
        for (text, addresses) in [
            ("80", "[::]:80 0.0.0.0:80"),
            ("tcp4:80", "0.0.0.0:80"),
            ("udp6:80", "[::]:80"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("[fe80::1%7]:80", "[fe80::1%7]:80"),
            ("127.0.0.1:http", "127.0.0.1:80"),
            ("udp4:localhost:domain", "127.0.0.1:53"),
        ] {
            assert_eq!(resolved(text).unwrap(), addresses, "{text}");
        }
        let first = resolved("localhost:80").unwrap();
        assert!(first.starts_with("127.0.0.1:80"), "{first}");
        let scope = if_nametoindex("lo").unwrap();
        let with_scope = resolved("[fe80::1%lo]:80").unwrap();
        assert_eq!(with_scope, format!("[fe80::1%{scope}]:80"));
    }

    #[test]
    fn what_cannot_be_found_is_named() {
        for (text, words) in [
            (
                "127.0.0.1:no-such-service",
                "there is no tcp service \"no-such-service\"",
            ),
            (
                "[fe80::1%nowhere]:80",
                "there is no network interface nowhere",
            ),
            (
                "no-such-host.invalid:80",
                "cannot resolve the host name \"no-such-host.invalid\": ",
            ),
        ] {
            let error = resolved(text).unwrap_err();
            assert!(error.contains(words), "{error}");
            assert!(
                !error.contains("os error") && !error.contains("failed to"),
                "{error}"
            );
        }
    }
}
