//! What is in the way of a socket of `--listen`: by `/proc`, for an attempt to bind it could be in somebody's
//! way itself.

use std::collections::HashSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use crate::listen::Wanted;
use crate::listen::address::{Host, Kind, Place, Port};

use super::running::open_numbers;

/// A socket that waits for somebody, in `/proc/net`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listening {
    pub(crate) is_tcp: bool,
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    pub(crate) inode: u64,
}

/// What stands in the way of one that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::check) enum Obstacle {
    /// Somebody else has it; who that is, in words.
    Taken(String),
    /// Something at its path that is no socket.
    NoSocket(String),
    MissingDirectory(String),
    /// Ports below this one are root's.
    Privileged(u16),
}

/// Those that something may be in the way of, each with what is said of it.
pub(in crate::check) fn obstacles(
    wanted: &[Wanted],
    held: &HashSet<u64>,
) -> Vec<(String, Obstacle)> {
    let all = listening("/proc/net");
    let of = |one: &Wanted| Some((one.label(), obstacle(one, &all, held)?));
    wanted.iter().filter_map(of).collect()
}

fn obstacle(wanted: &Wanted, all: &[Listening], held: &HashSet<u64>) -> Option<Obstacle> {
    match &wanted.address.place {
        Place::Internet { host, port, .. } => {
            let Port::Number(port) = *port else {
                return None;
            };
            let shared = wanted.options.reuseport == Some(true);
            let is_tcp = wanted.address.kind == Kind::Tcp;
            let rival = all.iter().find(|one| {
                one.is_tcp == is_tcp
                    && one.port == port
                    && one.is_in_the_way_of(host)
                    && !held.contains(&one.inode)
            });
            match rival {
                Some(rival) if port != 0 && !shared => Some(Obstacle::Taken(who_has(rival.inode))),
                _ if port != 0 && port < first_free_port() => {
                    Some(Obstacle::Privileged(first_free_port()))
                }
                _ => None,
            }
        }
        Place::Path(path) => at_path(path, held),
        Place::Abstract(_) => None,
    }
}

impl Listening {
    fn is_in_the_way_of(&self, host: &Host) -> bool {
        let all = [
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        ];
        match host {
            Host::Any => true,
            Host::Address { address, .. } => {
                let same_family = self.address.is_ipv4() == address.is_ipv4();
                self.address == *address || (same_family && all.contains(&self.address))
            }
            // What a name means is the resolver's to say.
            Host::Name(_) => false,
        }
    }
}

fn first_free_port() -> u16 {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    text.ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(1024)
}

/// In the network namespace whose `/proc/PID/net` this is.
pub(in crate::check) fn listening(net: &str) -> Vec<Listening> {
    let mut all = Vec::new();
    for (name, is_tcp) in [
        ("tcp", true),
        ("tcp6", true),
        ("udp", false),
        ("udp6", false),
    ] {
        let text = fs::read_to_string(format!("{net}/{name}")).unwrap_or_default();
        all.extend(text.lines().skip(1).filter_map(|line| parse(line, is_tcp)));
    }
    all
}

/// A line of `/proc/net/tcp`; proc(5).
pub(crate) fn parse(line: &str, is_tcp: bool) -> Option<Listening> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (address, port) = words.next()?.split_once(':')?;
    let state = words.nth(1)?;
    // LISTEN; a UDP socket without a peer is CLOSE.
    if state != if is_tcp { "0A" } else { "07" } {
        return None;
    }
    // Words of 32 bits, each as this machine has it.
    let digits = address.as_bytes().chunks(8);
    let words4 = digits.map(|word| u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok());
    let bytes: Vec<u8> = words4
        .collect::<Option<Vec<u32>>>()?
        .into_iter()
        .flat_map(u32::to_ne_bytes)
        .collect();
    let address = match <[u8; 4]>::try_from(&bytes[..]) {
        Ok(four) => IpAddr::V4(four.into()),
        Err(_) => IpAddr::V6(<[u8; 16]>::try_from(&bytes[..]).ok()?.into()),
    };
    Some(Listening {
        is_tcp,
        address,
        port: u16::from_str_radix(port, 16).ok()?,
        inode: words.nth(5)?.parse().ok()?,
    })
}

fn at_path(path: &Path, held: &HashSet<u64>) -> Option<Obstacle> {
    let directory = path.parent()?;
    if !directory.is_dir() {
        return Some(Obstacle::MissingDirectory(directory.display().to_string()));
    }
    let kind = fs::symlink_metadata(path).ok()?.file_type();
    if !kind.is_socket() {
        return Some(Obstacle::NoSocket(path.display().to_string()));
    }
    let table = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    // Number, references, protocol, flags, type, state, inode, path.
    let bound = table.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(6);
        let inode: u64 = words.next()?.parse().ok()?;
        (Path::new(words.next()?) == path).then_some(inode)
    });
    let rival = bound.into_iter().find(|inode| !held.contains(inode))?;
    Some(Obstacle::Taken(who_has(rival)))
}

/// The process that has a socket open, if it can be seen.
fn who_has(inode: u64) -> String {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    match pids.find(|pid| open_numbers(*pid, "socket").contains(&inode)) {
        Some(pid) => {
            let name = crate::process::name_of(pid).unwrap_or_default();
            format!("{name} (pid {pid}) has it")
        }
        None => "another process has it".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    const LINES: [&str; 3] = [
        "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 881230 1 0 100 0",
        "   1: 0100007F:1F91 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 881231 1 0 100 0",
        "   2: 00000000000000000000000000000000:0035 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 42 2 0 0",
    ];

    #[test]
    fn whoever_listens_is_in_the_table() {
        let tcp = parse(LINES[0], true).unwrap();
        assert_eq!((tcp.port, tcp.inode), (8080, 881_230));
        assert_eq!(tcp.address, IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert_eq!(parse(LINES[1], true), None, "a connection");
        let udp = parse(LINES[2], false).unwrap();
        assert_eq!((udp.port, udp.inode), (53, 42));
        assert_eq!(udp.address, IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    }

    #[test]
    fn only_a_stranger_at_that_address_is_in_the_way() {
        let all: Vec<Listening> = vec![
            parse(LINES[0], true).unwrap(),
            parse(LINES[2], false).unwrap(),
        ];
        let taken = |text: &str, held: &[u64]| {
            let wanted = Wanted::parse(OsStr::new(text)).unwrap();
            let held = held.iter().copied().collect();
            matches!(obstacle(&wanted, &all, &held), Some(Obstacle::Taken(_)))
        };
        assert!(taken("127.0.0.1:8080", &[]));
        assert!(taken("8080", &[]));
        assert!(taken("udp:[::1]:53", &[]));
        assert!(!taken("127.0.0.1:8080", &[881_230]), "a generation's");
        for text in [
            "127.0.0.1:8081",
            "127.0.0.2:8080",
            "udp:8080",
            "8080,reuseport",
        ] {
            assert!(!taken(text, &[]), "{text}");
        }
    }
}
