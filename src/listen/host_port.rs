//! `HOST:PORT`, as people write it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Result, anyhow, bail};

use super::address::{Family, Host, Place, Port};

const LONGEST_HOST_NAME: usize = 253;
const LONGEST_INTERFACE_NAME: usize = 15;

pub(super) fn place(text: &str, family: Family) -> Result<Place> {
    let (host_text, port_text) = split(text)?;
    Ok(Place::Internet {
        family,
        host: host(host_text, family)?,
        port: port(port_text)?,
    })
}

/// Into host and port; the host of a port alone is empty.
fn split(text: &str) -> Result<(&str, &str)> {
    if is_digits(text) {
        return Ok(("", text));
    }
    if text.starts_with('[') {
        let Some((_, after)) = text.split_once(']') else {
            bail!("the bracket of {text:?} is not closed; use [ADDRESS]:PORT");
        };
        let (inside, _) = text.split_at(text.len() - after.len());
        return match after.strip_prefix(':') {
            Some(port) => Ok((inside, port)),
            None => bail!("there is no port in {text:?}; use {inside}:PORT"),
        };
    }
    if let Some((name, _)) = text.split_once('=') {
        bail!(
            "{name:?} cannot be the name of a socket; use letters, digits, dots, underscores and hyphens"
        );
    }
    if text.starts_with('/') {
        bail!("{text} is a path; use unix:{text}");
    }
    if text.contains('/') || text.ends_with(".sock") || text.ends_with(".socket") {
        bail!("a path begins with a slash or a dot; use ./{text} or unix:{text}");
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        bail!("the host {text:?} has no port; use {text}:PORT (a path: unix:{text})");
    };
    if !host.contains(':') {
        return Ok((host, port));
    }
    let is_address = |text: &str| text.split('%').next().unwrap_or(text).parse::<Ipv6Addr>();
    if is_address(host).is_ok() && is_digits(port) {
        bail!("an IPv6 address stands in brackets; use [{host}]:{port}");
    }
    if is_address(text).is_ok() {
        bail!("an IPv6 address stands in brackets; use [{text}]:PORT");
    }
    bail!("malformed address {text:?}; use PORT, HOST:PORT or [ADDRESS]:PORT")
}

pub(super) fn host(text: &str, family: Family) -> Result<Host> {
    if text.is_empty() || text == "*" {
        return Ok(Host::Any);
    }
    if let Some(inside) = text.strip_prefix('[') {
        let inside = inside.strip_suffix(']').unwrap_or(inside);
        return in_brackets(inside, family);
    }
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        if family == Family::V6 {
            bail!("{address} is an IPv4 address; use tcp4 or udp4, or an IPv6 address");
        }
        return Ok(Host::Address {
            address: IpAddr::V4(address),
            scope: None,
        });
    }
    if text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        bail!("malformed IPv4 address {text:?}; use four numbers up to 255");
    }
    let usual = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let begins_well = text.as_bytes()[0].is_ascii_alphanumeric() || text.starts_with('_');
    if !begins_well || !text.bytes().all(usual) || text.contains("..") {
        bail!("malformed host {text:?}; use a name, an IPv4 address, [IPv6] or *");
    }
    if text.len() > LONGEST_HOST_NAME {
        bail!(
            "the host name is {} bytes long; at most {LONGEST_HOST_NAME}",
            text.len()
        );
    }
    Ok(Host::Name(text.to_owned()))
}

fn in_brackets(text: &str, family: Family) -> Result<Host> {
    let (address, scope) = match text.split_once('%') {
        Some((address, scope)) => (address, Some(scope)),
        None => (text, None),
    };
    let Ok(address) = address.parse::<Ipv6Addr>() else {
        bail!("malformed IPv6 address {address:?}; only IPv6 addresses stand in brackets");
    };
    if family == Family::V4 {
        bail!("{address} is an IPv6 address; use tcp6 or udp6, or an IPv4 address");
    }
    if scope.is_some_and(|scope| !is_interface(scope)) {
        bail!("malformed interface in [{text}]; use [ADDRESS%INTERFACE], such as [fe80::1%eth0]");
    }
    Ok(Host::Address {
        address: IpAddr::V6(address),
        scope: scope.map(str::to_owned),
    })
}

/// Whether a network interface may have this name.
pub(super) fn is_interface(text: &str) -> bool {
    let unusual = |char: char| char == '/' || char == ':' || char == ']' || char.is_whitespace();
    (1..=LONGEST_INTERFACE_NAME).contains(&text.len()) && !text.contains(unusual)
}

pub(super) fn port(text: &str) -> Result<Port> {
    if text.is_empty() {
        bail!("there is no port; use a number or the name of a service");
    }
    if is_digits(text) {
        let number = text.parse();
        return number
            .map(Port::Number)
            .map_err(|_| anyhow!("the port {text} is out of range; use 0 to 65535"));
    }
    let usual =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'+');
    // Every service has a letter; `-1` and `80.5` have none.
    let has_letter = text.bytes().any(|byte| byte.is_ascii_alphabetic());
    if !has_letter || !text.bytes().all(usual) {
        bail!("malformed port {text:?}; use 0 to 65535 or the name of a service");
    }
    Ok(Port::Service(text.to_owned()))
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
