//! `--listen [NAME=]ADDR[,OPT…]` (§9).

use std::ffi::OsStr;

use anyhow::{Result, anyhow, bail};

use super::address::{Address, Place, Port};
use super::host_port;
use super::options::{self, Options};
use super::spelling::Spelled;

/// `FileDescriptorName=` of systemd, whose variable it goes into, takes as many.
const LONGEST_NAME: usize = 255;
const UNNAMED: &str = "listen";

/// A socket as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    /// By whoever asked for it.
    pub(crate) named: bool,
    pub(crate) address: Address,
    pub(crate) options: Options,
}

impl Wanted {
    pub(crate) fn parse(text: &OsStr) -> Result<Wanted> {
        let readable = text
            .to_str()
            .ok_or_else(|| anyhow!("it is not UTF-8; use another name"));
        readable
            .and_then(understand)
            .map_err(|error| anyhow!("--listen {text:?}: {error}"))
    }

    /// Whether only one of the two can be opened. Sockets at one address share what comes there if all
    /// have SO_REUSEPORT, and are apart on different interfaces.
    pub(crate) fn excludes(&self, other: &Wanted) -> bool {
        let both =
            |options: fn(&Options) -> bool| options(&self.options) && options(&other.options);
        let shared = both(|options| options.reuseport == Some(true));
        let apart = self.options.device != other.options.device;
        // Port 0 is another one each time.
        let any = matches!(
            self.address.place,
            Place::Internet {
                port: Port::Number(0),
                ..
            }
        );
        self.address == other.address && !shared && !apart && !any
    }

    /// As it is called in messages: `NAME=ADDRESS`, or the address alone.
    pub(crate) fn label(&self) -> String {
        if self.named {
            format!("{}={}", self.name, self.address)
        } else {
            self.address.to_string()
        }
    }
}

fn understand(text: &str) -> Result<Wanted> {
    if text.chars().any(char::is_control) {
        bail!("there is a control character; remove it");
    }
    let (name, rest) = split_name(text)?;
    let (address, rest) = match rest.split_once(',') {
        Some((address, rest)) => (address, rest.split(',').collect()),
        None => (rest, Vec::new()),
    };
    let Spelled {
        mut address,
        host_follows,
    } = Spelled::parse(address)?;
    let (hosts, rest): (Vec<&str>, Vec<&str>) = rest
        .into_iter()
        .partition(|word| host_follows && is_bind(word));
    match (hosts[..].first(), hosts.len()) {
        (None, _) => {}
        (Some(word), 1) => bind_to(&mut address, word)?,
        (Some(_), _) => bail!("the option bind is there twice; remove one"),
    }
    Ok(Wanted {
        name: name.unwrap_or(UNNAMED).to_owned(),
        named: name.is_some(),
        options: Options::parse(&rest, &address)?,
        address,
    })
}

/// What stands before the first `=`, if it can be a name.
fn split_name(text: &str) -> Result<(Option<&str>, &str)> {
    let Some((name, rest)) = text.split_once('=') else {
        return Ok((None, text));
    };
    let usual = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !name.bytes().all(usual) {
        return Ok((None, text));
    }
    if name.is_empty() {
        bail!("there is no name before the =; use NAME=ADDR or ADDR");
    }
    if let Some(option) = options::Name::of(name) {
        bail!("{option} is an option, and the address comes first; use ADDR,{text}");
    }
    match name {
        "ListenStream" => bail!("{name}= is systemd's; use {rest}"),
        "ListenDatagram" => bail!("{name}= is systemd's; use udp:{rest} or unix-dgram:{rest}"),
        "ListenSequentialPacket" => bail!("{name}= is systemd's; use unix-seqpacket:{rest}"),
        _ => {}
    }
    if name.len() > LONGEST_NAME {
        bail!(
            "the name is {} bytes long; at most {LONGEST_NAME}",
            name.len()
        );
    }
    Ok((Some(name), rest))
}

fn is_bind(word: &str) -> bool {
    let key = word.split_once('=').map(|(key, _)| key);
    key.is_some_and(|key| key.eq_ignore_ascii_case("bind"))
}

/// socat's way to name the host.
fn bind_to(address: &mut Address, word: &str) -> Result<()> {
    let text = word.split_once('=').map_or("", |(_, value)| value);
    match &mut address.place {
        Place::Internet { family, host, .. } => *host = host_port::host(text, *family)?,
        // Only an address with a port says that its host follows.
        Place::Path(_) | Place::Abstract(_) => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    fn wanted(text: &str) -> Wanted {
        let wanted = Wanted::parse(OsStr::new(text));
        wanted.unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn refused(text: &str) -> String {
        let error = Wanted::parse(OsStr::new(text)).unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
        error
    }

    #[test]
    fn a_name_stands_before_the_first_equals_sign() {
        let long = "n".repeat(255);
        for (text, name, address) in [
            ("http=80", "http", "tcp:*:80"),
            ("a.b_c-1=[::1]:80,backlog=5", "a.b_c-1", "tcp:[::1]:80"),
            ("app=/run/a=b", "app", "unix:/run/a=b"),
            ("udp=udp:53", "udp", "udp:*:53"),
            (&format!("{long}=80"), &long, "tcp:*:80"),
        ] {
            let wanted = wanted(text);
            assert_eq!((wanted.name.as_str(), wanted.named), (name, true), "{text}");
            assert_eq!(wanted.address.to_string(), address, "{text}");
        }
        for (text, address) in [
            ("80", "tcp:*:80"),
            ("80,backlog=5", "tcp:*:80"),
            ("/run/a=b", "unix:/run/a=b"),
            ("unix:/run/a=b,mode=600", "unix:/run/a=b"),
            ("@a=b", "unix:@a=b"),
        ] {
            let wanted = wanted(text);
            assert_eq!((wanted.name.as_str(), wanted.named), ("listen", false));
            assert_eq!(wanted.address.to_string(), address, "{text}");
        }
    }

    #[test]
    fn the_host_of_socats_form_is_an_option() {
        for (text, address) in [
            ("TCP-LISTEN:80,bind=127.0.0.1", "tcp:127.0.0.1:80"),
            ("TCP6-LISTEN:80,backlog=5,BIND=[::1]", "tcp6:[::1]:80"),
            ("UDP-RECV:53,bind=localhost", "udp:localhost:53"),
        ] {
            assert_eq!(wanted(text).address.to_string(), address, "{text}");
        }
        let words = refused("TCP-LISTEN:80,bind=[::1],bind=[::1]");
        assert!(words.contains("bind is there twice"), "{words}");
        let words = refused("TCP4-LISTEN:80,bind=[::1]");
        assert!(words.contains("use tcp6"), "{words}");
        let words = refused("80,bind=127.0.0.1");
        assert!(words.contains("bind=HOST is for TCP-LISTEN"), "{words}");
    }

    #[test]
    fn what_is_wrong_is_said_with_the_whole_value() {
        assert_eq!(
            refused("127.0.0.1:99999"),
            "--listen \"127.0.0.1:99999\": the port 99999 is out of range; use 0 to 65535"
        );
        let long = format!("{}=80", "n".repeat(256));
        for (text, words) in [
            ("", "there is no address"),
            ("=80", "there is no name before the ="),
            ("name=", "there is no address"),
            ("name=,backlog=5", "there is no address"),
            (&long, "the name is 256 bytes long; at most 255"),
            ("mode=660", "the address comes first"),
            ("ListenStream=80", "use 80"),
            ("ListenDatagram=53", "use udp:53"),
            ("a b=80", "\"a b\" cannot be the name of a socket"),
            ("80,", "empty option"),
            ("/run/app,owner=a\nb", "control character"),
        ] {
            let line = refused(text);
            assert!(line.contains(words), "{text}: {line}");
            assert!(line.starts_with("--listen \""), "{line}");
        }
        let error = Wanted::parse(OsStr::from_bytes(b"/run/\xff")).unwrap_err();
        assert!(error.to_string().contains("not UTF-8"), "{error}");
    }
}
