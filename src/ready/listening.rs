//! Whether the daemon listens at an address, or waits there for connections (R12). Nobody is connected to: a
//! connection could be answered by a predecessor, and who answers it would see it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{bound, waiting};
use crate::listen::address::{Address, Host, Kind, Place};
use crate::listen::resolve;
use crate::process;
use crate::report::cause;

/// `/proc/net/tcp`, proc(5): a socket that listens; and for UDP one that is bound, and not connected.
const LISTENS: &str = "0A";
const IS_BOUND: &str = "07";

/// An address to look for, its names resolved once: a resolver may take its time.
#[derive(Debug)]
pub(super) struct Listening {
    address: Address,
    internet: Vec<SocketAddr>,
}

impl Listening {
    pub(super) fn new(address: &Address) -> Result<Listening, String> {
        let internet = match &address.place {
            Place::Internet { family, host, port } => {
                resolve::addresses(address.kind, *family, host, port)?
            }
            Place::Path(_) | Place::Abstract(_) => Vec::new(),
        };
        Ok(Listening {
            address: address.clone(),
            internet,
        })
    }

    /// Whether a process of the daemon's own has a socket there, or waits for connections at one of those that
    /// it was given: these it has had from the start.
    pub(super) fn is_held_by(&self, daemon: i32, given: &[u64]) -> Result<(), String> {
        let (given, own): (Vec<u64>, Vec<u64>) = self
            .sockets(daemon)
            .into_iter()
            .partition(|one| given.contains(one));
        if given.is_empty() && own.is_empty() {
            return Err("nobody listens there".to_owned());
        }
        let mut hidden = None;
        for pid in process::family_of(daemon) {
            match serves(pid, &own, &given) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => hidden = Some((pid, error)),
            }
        }
        Err(match hidden {
            Some((pid, error)) => format!("cannot look at pid {pid}: {}", cause(&error)),
            None if given.is_empty() => {
                "somebody else listens there, and no process of it".to_owned()
            }
            None => "no process of it waits for connections there".to_owned(),
        })
    }

    /// The numbers (`st_ino`) of all sockets there, in the daemon's network namespace.
    fn sockets(&self, daemon: i32) -> Vec<u64> {
        let place = process::place_of(daemon);
        let table = |name: &str| lines_of(&format!("{place}/net/{name}"));
        match (&self.address.place, self.address.kind) {
            (Place::Internet { host, .. }, kind) => {
                let (names, state) = match kind {
                    Kind::Udp => (["udp", "udp6"], IS_BOUND),
                    _ => (["tcp", "tcp6"], LISTENS),
                };
                let any = *host == Host::Any;
                let is_there = |at: &SocketAddr| {
                    let mut all = self.internet.iter();
                    all.any(|wanted| covers(*at, *wanted, any))
                };
                // Connections come behind what listens, and may be many.
                let matters = |line: &String| kind == Kind::Udp || state_of(line) == Some(LISTENS);
                let lines = names
                    .into_iter()
                    .flat_map(|name| table(name).take_while(matters));
                lines
                    .filter_map(|line| internet(&line, state, is_there))
                    .collect()
            }
            (Place::Path(path), kind) => {
                let mut found = bound::at(path, kind);
                found.extend(unix(
                    table("unix"),
                    kind,
                    path.to_string_lossy().into_owned(),
                ));
                found
            }
            (Place::Abstract(name), kind) => {
                unix(table("unix"), kind, format!("@{name}")).collect()
            }
        }
    }
}

/// Whether what comes to `wanted` would reach a socket that is bound to `at`. `any`: each address of its family
/// will do.
fn covers(at: SocketAddr, wanted: SocketAddr, any: bool) -> bool {
    let (bound, address) = (at.ip().to_canonical(), wanted.ip().to_canonical());
    let all = match bound {
        IpAddr::V4(bound) => bound.is_unspecified() && address.is_ipv4(),
        // Unless it is for IPv6 alone, which is not to be seen.
        IpAddr::V6(bound) => bound.is_unspecified(),
    };
    let any = any && bound.is_ipv4() == address.is_ipv4();
    at.port() == wanted.port() && (any || all || bound == address)
}

/// Of a table in `/proc/net`, without its head.
fn lines_of(path: &str) -> impl Iterator<Item = String> + use<> {
    let lines = File::open(path).map(|file| BufReader::new(file).split(b'\n'));
    let lines = lines.into_iter().flatten().map_while(Result::ok).skip(1);
    lines.map(|line| String::from_utf8_lossy(&line).into_owned())
}

fn state_of(line: &str) -> Option<&str> {
    line.split_ascii_whitespace().nth(3)
}

/// The number of the socket in a line of `/proc/net/tcp` and its like, if it is meant.
pub(crate) fn internet(
    line: &str,
    state: &str,
    is_there: impl Fn(&SocketAddr) -> bool,
) -> Option<u64> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let meant = state_of(line) == Some(state) && is_there(&socket_address(words.get(1)?)?);
    meant.then(|| words.get(9)?.parse().ok())?
}

/// `0100007F:1F90`: words of 32 bits in the machine's own order.
pub(crate) fn socket_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |index: usize| {
        let digits = address.get(index * 8..index * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let address = if address.len() == 8 {
        IpAddr::V4(Ipv4Addr::from(word(0)?))
    } else {
        let words = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
        IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(words).ok()?))
    };
    Some(SocketAddr::new(address, port))
}

/// Those in `/proc/net/unix` that are bound to that name, as they gave it.
pub(crate) fn unix(
    table: impl Iterator<Item = String>,
    kind: Kind,
    name: String,
) -> impl Iterator<Item = u64> {
    table.filter_map(move |line| {
        let mut words = line.split_ascii_whitespace();
        let (flags, of, inode) = (words.nth(3)?, words.next()?, words.nth(1)?);
        let listens = u32::from_str_radix(flags, 16).ok()? & ACCEPTS != 0;
        let of = u32::from_str_radix(of, 16).ok()?;
        // It may hold spaces, and comes last.
        let (_, path) = line.split_once(&format!(" {inode} "))?;
        let meant = of == type_of(kind) && listens == kind.has_connections() && path == name;
        meant.then(|| inode.parse().ok())?
    })
}

/// `__SO_ACCEPTCON` of the kernel.
const ACCEPTS: u32 = 1 << 16;

/// As the kernel numbers them, `SOCK_STREAM` and so on.
pub(super) fn type_of(kind: Kind) -> u32 {
    match kind {
        Kind::Tcp | Kind::UnixStream => 1,
        Kind::Udp | Kind::UnixDatagram => 2,
        Kind::UnixSeqpacket => 5,
    }
}

fn serves(pid: i32, own: &[u64], given: &[u64]) -> io::Result<bool> {
    Ok(waiting::has_one_of(pid, own)? || waiting::waits_at(pid, given)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::UnixListener;

    fn held(text: &str, given: &[u64]) -> Result<(), String> {
        let address = Address::parse(text).unwrap();
        Listening::new(&address)?.is_held_by(std::process::id() as i32, given)
    }

    #[test]
    fn what_this_process_listens_at_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        for address in ["127.0.0.1", "*", "localhost"] {
            assert_eq!(held(&format!("{address}:{port}"), &[]), Ok(()), "{address}");
        }
        let nobody = Err("nobody listens there".to_owned());
        assert_eq!(held(&format!("127.0.0.2:{port}"), &[]), nobody);
        assert_eq!(held(&format!("udp:127.0.0.1:{port}"), &[]), nobody);
        let six = TcpListener::bind("[::1]:0").unwrap();
        let port = six.local_addr().unwrap().port();
        assert_eq!(held(&format!("[::1]:{port}"), &[]), Ok(()));
        let datagrams = UdpSocket::bind("0.0.0.0:0").unwrap();
        let port = datagrams.local_addr().unwrap().port();
        assert_eq!(held(&format!("udp:127.0.0.1:{port}"), &[]), Ok(()));
        assert_eq!(held(&format!("udp:[::1]:{port}"), &[]), nobody);
    }

    #[test]
    fn a_unix_socket_is_found_by_its_file_whatever_it_was_called() {
        let directory = tempfile::tempdir().unwrap();
        let (bound, path) = (directory.path().join("a b"), directory.path().join("c d"));
        let _listener = UnixListener::bind(&bound).unwrap();
        assert_eq!(held(&format!("unix:{}", bound.display()), &[]), Ok(()));
        fs::rename(&bound, &path).unwrap();
        assert_eq!(held(&format!("unix:{}", path.display()), &[]), Ok(()));
        assert!(held(&format!("unix-dgram:{}", path.display()), &[]).is_err());
    }

    #[test]
    fn what_it_was_given_counts_only_where_it_waits() {
        use std::os::unix::fs::MetadataExt;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let file = File::from(std::os::fd::OwnedFd::from(listener));
        let number = file.metadata().unwrap().ino();
        let words = held(&format!("127.0.0.1:{port}"), &[number]).unwrap_err();
        assert!(words.contains("waits for connections"), "{words}");
    }

    #[test]
    fn lines_of_the_kernels_tables() {
        let parse = |text| socket_address(text).map(|address| address.to_string());
        if cfg!(target_endian = "little") {
            assert_eq!(parse("0100007F:1F90").as_deref(), Some("127.0.0.1:8080"));
            let six = "00000000000000000000000001000000:0050";
            assert_eq!(parse(six).as_deref(), Some("[::1]:80"));
        }
        for text in ["", "local_address", "0100007F", "01:1F90", "x:y"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn all_addresses_are_covered_by_one_that_is_bound_to_all() {
        let covers =
            |at: &str, wanted: &str, any| covers(at.parse().unwrap(), wanted.parse().unwrap(), any);
        assert!(covers("0.0.0.0:80", "127.0.0.1:80", false));
        assert!(covers("[::]:80", "127.0.0.1:80", false));
        assert!(covers("[::ffff:127.0.0.1]:80", "127.0.0.1:80", false));
        assert!(!covers("0.0.0.0:80", "[::1]:80", false));
        assert!(!covers("127.0.0.1:80", "127.0.0.2:80", false));
        assert!(!covers("127.0.0.1:80", "127.0.0.1:81", false));
        assert!(covers("127.0.0.1:80", "0.0.0.0:80", true));
        assert!(covers("[::1]:80", "[::]:80", true));
        assert!(!covers("127.0.0.1:80", "[::]:80", true));
        assert!(!covers("[::1]:80", "0.0.0.0:80", true));
    }
}
