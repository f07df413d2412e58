//! The spellings of an address that people know: systemd's, nginx's, socat's, Go's and URLs (§9).

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};

use super::address::{Address, Family, Host, Kind, Place};
use super::host_port;

/// What `sun_path` holds, less the byte that ends it, or that begins an abstract name.
pub(super) const LONGEST_PATH: usize = 107;

/// An address with what its spelling says beside.
#[derive(Debug)]
pub(super) struct Spelled {
    pub(super) address: Address,
    /// It has a port only: the host is an option, `bind=HOST`.
    pub(super) host_follows: bool,
}

/// How what stands after a prefix is read.
#[derive(Clone, Copy, Debug)]
enum Reading {
    Internet(Kind, Family),
    /// A port only, as socat has it.
    Port(Kind, Family),
    Unix(Kind),
    /// With no meaning for an `@`, as socat has it.
    Path(Kind),
    Abstract(Kind),
}

impl Spelled {
    pub(super) fn parse(text: &str) -> Result<Spelled> {
        if text.is_empty() {
            bail!(
                "there is no address; use a port, HOST:PORT, or a path such as unix:/run/app.sock"
            );
        }
        if text.chars().any(char::is_control) {
            bail!("there is a control character in the address; remove it");
        }
        let (reading, rest) = match text.split_once(':') {
            _ if ["/", "./", "../", "@"]
                .iter()
                .any(|start| text.starts_with(start)) =>
            {
                (Reading::Unix(Kind::UnixStream), text)
            }
            Some((prefix, rest)) => match reading(&prefix.to_ascii_lowercase(), rest)? {
                Some(reading) => (reading, rest),
                None if rest.starts_with("//") => bail!(
                    "unknown prefix {prefix}://; use tcp, tcp4, tcp6, udp, udp4, udp6, unix, unix-dgram or unix-seqpacket"
                ),
                None => (Reading::Internet(Kind::Tcp, Family::Any), text),
            },
            None => (Reading::Internet(Kind::Tcp, Family::Any), text),
        };
        let (kind, place) = match reading {
            Reading::Internet(kind, family) => {
                // As in a URL.
                let rest = match rest.strip_prefix("//") {
                    Some(rest) => rest.strip_suffix('/').unwrap_or(rest),
                    None => rest,
                };
                (kind, host_port::place(rest, family)?)
            }
            Reading::Port(kind, family) => {
                if rest.contains(':') {
                    bail!(
                        "only a port stands after {}; add bind=HOST, or use tcp:HOST:PORT or udp:HOST:PORT",
                        text.split(':').next().unwrap_or_default()
                    );
                }
                let (host, port) = (Host::Any, host_port::port(rest)?);
                (kind, Place::Internet { family, host, port })
            }
            Reading::Unix(kind) => match rest.strip_prefix('@') {
                Some(name) => (kind, abstract_name(name)?),
                None => (kind, path(rest)?),
            },
            Reading::Path(kind) => (kind, path(rest)?),
            Reading::Abstract(kind) => (kind, abstract_name(rest)?),
        };
        Ok(Spelled {
            address: Address { kind, place },
            host_follows: matches!(reading, Reading::Port(..)),
        })
    }
}

/// What a prefix, in lower case, means; `None` where it is none.
fn reading(prefix: &str, rest: &str) -> Result<Option<Reading>> {
    let rest = rest.trim_start_matches('/');
    Ok(Some(match prefix {
        "tcp" => Reading::Internet(Kind::Tcp, Family::Any),
        "tcp4" => Reading::Internet(Kind::Tcp, Family::V4),
        "tcp6" => Reading::Internet(Kind::Tcp, Family::V6),
        "udp" => Reading::Internet(Kind::Udp, Family::Any),
        "udp4" => Reading::Internet(Kind::Udp, Family::V4),
        "udp6" => Reading::Internet(Kind::Udp, Family::V6),
        "unix" | "unix-stream" => Reading::Unix(Kind::UnixStream),
        "unix-dgram" | "unixgram" => Reading::Unix(Kind::UnixDatagram),
        "unix-seqpacket" | "unixpacket" => Reading::Unix(Kind::UnixSeqpacket),
        "tcp-listen" | "tcp-l" => Reading::Port(Kind::Tcp, Family::Any),
        "tcp4-listen" | "tcp4-l" => Reading::Port(Kind::Tcp, Family::V4),
        "tcp6-listen" | "tcp6-l" => Reading::Port(Kind::Tcp, Family::V6),
        "udp-listen" | "udp-l" | "udp-recv" | "udp-recvfrom" => {
            Reading::Port(Kind::Udp, Family::Any)
        }
        "udp4-listen" | "udp4-l" | "udp4-recv" | "udp4-recvfrom" => {
            Reading::Port(Kind::Udp, Family::V4)
        }
        "udp6-listen" | "udp6-l" | "udp6-recv" | "udp6-recvfrom" => {
            Reading::Port(Kind::Udp, Family::V6)
        }
        "unix-listen" | "unix-l" => Reading::Path(Kind::UnixStream),
        "unix-recv" | "unix-recvfrom" => Reading::Path(Kind::UnixDatagram),
        "abstract-listen" | "abstract-l" => Reading::Abstract(Kind::UnixStream),
        "abstract-recv" | "abstract-recvfrom" => Reading::Abstract(Kind::UnixDatagram),
        "vsock" | "vsock-listen" => bail!(
            "a vsock socket cannot be opened here; let the supervisor open it (LISTEN_FDS), then it is passed on"
        ),
        "fd" | "systemd" => {
            bail!("an inherited socket is not opened; leave --listen out, it is passed on as it is")
        }
        "ssl" | "tls" | "https" | "openssl-listen" => {
            bail!("TLS is the daemon's own affair; use tcp:{rest}")
        }
        "http" | "ws" | "wss" | "fastcgi" | "fcgi" | "uwsgi" | "scgi" => {
            bail!("what is spoken is the daemon's own affair; use tcp:{rest}")
        }
        "quic" | "http3" | "dtls" => {
            bail!("what is spoken is the daemon's own affair; use udp:{rest}")
        }
        _ => return Ok(None),
    }))
}

fn path(text: &str) -> Result<Place> {
    let text = match text.strip_prefix("//") {
        Some(rest) if !rest.starts_with('/') => {
            bail!("a path in a URL has three slashes; use unix:///{rest} or unix:{rest}")
        }
        Some(_) => &format!("/{}", text.trim_start_matches('/')),
        None => text,
    };
    if text.is_empty() {
        bail!("there is no path; use one such as unix:/run/app.sock");
    }
    let typed = Path::new(text);
    let path = std::path::absolute(typed)
        .with_context(|| format!("cannot find the working directory for {text:?}"))?;
    if text.ends_with('/') || text.ends_with("/.") || path.file_name().is_none() {
        bail!("{text:?} is a directory; name a socket in it");
    }
    let length = path.as_os_str().len();
    if length > LONGEST_PATH {
        bail!(
            "the path {} is {length} bytes long; at most {LONGEST_PATH}",
            path.display()
        );
    }
    // The working directory may be anything.
    let readable = path.to_str();
    let readable =
        readable.ok_or_else(|| anyhow!("the path {path:?} is not UTF-8; use another"))?;
    if readable.chars().any(char::is_control) {
        bail!("there is a control character in the path {path:?}; use another");
    }
    Ok(Place::Path(path))
}

fn abstract_name(name: &str) -> Result<Place> {
    if name.is_empty() {
        bail!("there is no name after the @; use one such as @app");
    }
    if name.len() > LONGEST_PATH {
        bail!(
            "the abstract name is {} bytes long; at most {LONGEST_PATH}",
            name.len()
        );
    }
    Ok(Place::Abstract(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_understood_in_every_spelling() {
        for (text, written) in [
            ("8080", "tcp:*:8080"),
            ("0080", "tcp:*:80"),
            (":8080", "tcp:*:8080"),
            ("*:8080", "tcp:*:8080"),
            ("127.0.0.1:8080", "tcp:127.0.0.1:8080"),
            ("[::1]:8080", "tcp:[::1]:8080"),
            ("[fe80::1%eth0]:80", "tcp:[fe80::1%eth0]:80"),
            ("localhost:http", "tcp:localhost:http"),
            ("tcp:80", "tcp:*:80"),
            ("TCP4::80", "tcp4:*:80"),
            ("tcp6:[::1]:80", "tcp6:[::1]:80"),
            ("udp:53", "udp:*:53"),
            ("Udp4:127.0.0.1:53", "udp4:127.0.0.1:53"),
            ("udp6:[::]:53", "udp6:[::]:53"),
            ("tcp://127.0.0.1:80", "tcp:127.0.0.1:80"),
            ("tcp://localhost:80/", "tcp:localhost:80"),
            ("udp://:53", "udp:*:53"),
            ("/run/app.sock", "unix:/run/app.sock"),
            ("unix:/run/app.sock", "unix:/run/app.sock"),
            ("unix:///run/app.sock", "unix:/run/app.sock"),
            ("unix:////run//./app.sock", "unix:/run/app.sock"),
            ("@app", "unix:@app"),
            ("unix:@app", "unix:@app"),
            ("unix-dgram:/run/log", "unix-dgram:/run/log"),
            ("unixgram:@log", "unix-dgram:@log"),
            ("unix-seqpacket:/run/app", "unix-seqpacket:/run/app"),
            ("UnixPacket:/run/app", "unix-seqpacket:/run/app"),
            ("TCP-LISTEN:8080", "tcp:*:8080"),
            ("TCP4-LISTEN:http", "tcp4:*:http"),
            ("TCP6-L:80", "tcp6:*:80"),
            ("UDP-LISTEN:53", "udp:*:53"),
            ("UDP-RECV:53", "udp:*:53"),
            ("UDP4-LISTEN:53", "udp4:*:53"),
            ("UDP6-RECVFROM:53", "udp6:*:53"),
            ("ABSTRACT-RECV:log", "unix-dgram:@log"),
            ("UNIX-LISTEN:/run/app", "unix:/run/app"),
            ("UNIX-LISTEN:/run/@app", "unix:/run/@app"),
            ("UNIX-RECV:/run/log", "unix-dgram:/run/log"),
            ("ABSTRACT-LISTEN:app", "unix:@app"),
        ] {
            let address = Address::parse(text);
            let address = address.unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(address.to_string(), written, "{text}");
        }
        let here = std::env::current_dir().unwrap();
        for text in ["./app.sock", "unix:app.sock", "UNIX-LISTEN:app.sock"] {
            let path = Place::Path(here.join("app.sock"));
            assert_eq!(Address::parse(text).unwrap().place, path, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_explained_in_one_line() {
        let long = format!("/{}", "p".repeat(107));
        let long_name = format!("@{}", "n".repeat(108));
        for (text, words) in [
            ("", "there is no address"),
            (
                "127.0.0.1:99999",
                "the port 99999 is out of range; use 0 to 65535",
            ),
            ("65536", "the port 65536 is out of range"),
            ("99999999999999999999", "out of range"),
            ("-1", "has no port"),
            ("localhost:-1", "malformed port \"-1\""),
            ("localhost:", "there is no port"),
            (
                "localhost",
                "the host \"localhost\" has no port; use localhost:PORT",
            ),
            ("127.0.0.256:80", "malformed IPv4 address"),
            ("127.1:80", "malformed IPv4 address"),
            ("::1:80", "use [::1]:80"),
            ("fe80::1%eth0:80", "use [fe80::1%eth0]:80"),
            ("fe80::a:b", "use [fe80::a:b]:PORT"),
            ("[::1]", "use [::1]:PORT"),
            ("[::1:80", "not closed"),
            ("[localhost]:80", "only IPv6 addresses stand in brackets"),
            ("[::1]80", "there is no port"),
            ("[fe80::1%]:80", "malformed interface"),
            ("a:b:c", "malformed address"),
            ("a b:80", "malformed host \"a b\""),
            (" 80", "has no port"),
            ("-a:80", "malformed host"),
            ("a..b:80", "malformed host"),
            (&format!("{}:80", "a".repeat(254)), "is 254 bytes long"),
            ("localhost:ht tp", "malformed port"),
            ("[fe80::1%a/b]:80", "malformed interface"),
            ("/run/app/.", "is a directory"),
            ("http://localhost:80", "use tcp:localhost:80"),
            ("quic:443", "use udp:443"),
            ("tcp4:[::1]:80", "use tcp6"),
            ("tcp6:127.0.0.1:80", "use tcp4"),
            ("app.sock", "use ./app.sock or unix:app.sock"),
            ("run/app", "use ./run/app or unix:run/app"),
            ("tcp:/run/app", "use unix:/run/app"),
            ("unix:", "there is no path"),
            ("unix:/run/", "is a directory"),
            ("/", "is a directory"),
            ("/run/..", "is a directory"),
            ("unix://run/app", "unix:///run/app"),
            ("@", "there is no name after the @"),
            (&long, "is 108 bytes long; at most 107"),
            (&long_name, "is 108 bytes long; at most 107"),
            ("/run/a\nb", "control character"),
            ("80\0", "control character"),
            ("vsock:2:80", "let the supervisor open it"),
            ("fd:3", "passed on as it is"),
            ("ssl:443", "use tcp:443"),
            ("https://localhost:443", "use tcp:localhost:443"),
            ("sctp://localhost:80", "unknown prefix sctp://"),
            ("TCP-LISTEN:127.0.0.1:80", "add bind=HOST"),
            ("cafe=\u{e9}", "cannot be the name"),
        ] {
            let error = Address::parse(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text:?}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
