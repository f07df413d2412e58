//! What can be said of a socket after its address, `,KEY` or `,KEY=VALUE`, by the names that
//! people know from nginx, socat and systemd (§9).

use std::fmt;

use anyhow::{Result, anyhow, bail};

use super::address::{Address, Family, Host, Kind, Place};
use super::host_port;
use super::keepalive::Keepalive;

/// What was asked for; what was not is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) backlog: Option<i32>,
    /// Of the path; up to 0o7777.
    pub(crate) mode: Option<u32>,
    /// A user's name or number.
    pub(crate) owner: Option<String>,
    /// A group's name or number.
    pub(crate) group: Option<String>,
    pub(crate) reuseport: Option<bool>,
    pub(crate) v6only: Option<bool>,
    pub(crate) freebind: Option<bool>,
    /// A network interface.
    pub(crate) device: Option<String>,
    pub(crate) keepalive: Option<Keepalive>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Backlog,
    Mode,
    Owner,
    Group,
    Reuseport,
    V6only,
    Freebind,
    Device,
    Keepalive,
    Reuseaddr,
}

const KNOWN: &str = "backlog=N, mode=MODE, owner=USER, group=GROUP, reuseport, v6only, freebind, \
    device=INTERFACE, keepalive and reuseaddr";

impl Name {
    pub(super) fn of(key: &str) -> Option<Name> {
        Some(match key.to_ascii_lowercase().as_str() {
            "backlog" => Name::Backlog,
            "mode" | "perm" => Name::Mode,
            "owner" | "user" | "uid" => Name::Owner,
            "group" | "gid" => Name::Group,
            "reuseport" | "so-reuseport" => Name::Reuseport,
            "v6only" | "ipv6only" | "ipv6-v6only" => Name::V6only,
            "freebind" | "ip-freebind" => Name::Freebind,
            "device" | "bindtodevice" | "so-bindtodevice" | "interface" => Name::Device,
            "keepalive" | "so_keepalive" | "so-keepalive" => Name::Keepalive,
            "reuseaddr" | "so-reuseaddr" => Name::Reuseaddr,
            _ => return None,
        })
    }

    fn fits(self, address: &Address) -> Result<()> {
        let internet = matches!(address.place, Place::Internet { .. });
        let (fits, needed) = match self {
            Name::Backlog => (
                address.kind.has_connections(),
                "sockets that have connections",
            ),
            Name::Mode | Name::Owner | Name::Group => {
                (matches!(address.place, Place::Path(_)), "Unix paths")
            }
            Name::Reuseport | Name::Freebind | Name::Device => (internet, "TCP and UDP"),
            Name::V6only => (may_be_v6(address), "IPv6; use tcp6 or udp6"),
            Name::Keepalive | Name::Reuseaddr => (address.kind == Kind::Tcp, "TCP"),
        };
        if !fits {
            bail!("{self} does not fit {address}; it is for {needed}");
        }
        Ok(())
    }
}

/// Of a name the IPv4 address is taken unless IPv6 is asked for.
fn may_be_v6(address: &Address) -> bool {
    match &address.place {
        Place::Internet { family, host, .. } => match (family, host) {
            (Family::V4, _) => false,
            (Family::V6, _) | (Family::Any, Host::Any) => true,
            (Family::Any, Host::Address { address, .. }) => address.is_ipv6(),
            (Family::Any, Host::Name(_)) => false,
        },
        Place::Path(_) | Place::Abstract(_) => false,
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Name::Backlog => "backlog",
            Name::Mode => "mode",
            Name::Owner => "owner",
            Name::Group => "group",
            Name::Reuseport => "reuseport",
            Name::V6only => "v6only",
            Name::Freebind => "freebind",
            Name::Device => "device",
            Name::Keepalive => "keepalive",
            Name::Reuseaddr => "reuseaddr",
        })
    }
}

impl Options {
    /// Understands them, for an address of this kind. The error is the cause alone.
    pub(super) fn parse(words: &[&str], address: &Address) -> Result<Options> {
        let mut options = Options::default();
        let mut seen = Vec::new();
        for word in words {
            let (key, value) = match word.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (*word, None),
            };
            let Some(name) = Name::of(key) else {
                bail!(explain(key));
            };
            if seen.contains(&name) {
                bail!("the option {name} is there twice; remove one");
            }
            seen.push(name);
            name.fits(address)?;
            options.set(name, value)?;
        }
        Ok(options)
    }

    fn set(&mut self, name: Name, value: Option<&str>) -> Result<()> {
        let needed = |example: &str| match value {
            Some(value) if !value.is_empty() => Ok(value.to_owned()),
            _ => Err(anyhow!("the option {name} has no value; use {example}")),
        };
        match name {
            Name::Backlog => {
                let value = needed("backlog=N")?;
                let number = value.parse().ok().filter(|number| *number > 0);
                self.backlog = Some(number.ok_or_else(|| {
                    anyhow!(
                        "malformed backlog {value:?}; use a number from 1 to {}",
                        i32::MAX
                    )
                })?);
            }
            Name::Mode => {
                let value = needed("mode=660")?;
                let octal = value.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
                let mode = u32::from_str_radix(&value, 8).ok();
                self.mode = Some(mode.filter(|mode| octal && *mode <= 0o7777).ok_or_else(
                    || {
                        anyhow!(
                            "malformed mode {value:?}; use octal digits up to 7777, such as 660"
                        )
                    },
                )?);
            }
            Name::Owner => self.owner = Some(needed("owner=USER")?),
            Name::Group => self.group = Some(needed("group=GROUP")?),
            Name::Reuseport => self.reuseport = Some(switch(name, value)?),
            Name::V6only => self.v6only = Some(switch(name, value)?),
            Name::Freebind => self.freebind = Some(switch(name, value)?),
            Name::Device => {
                let value = needed("device=INTERFACE")?;
                if !host_port::is_interface(&value) {
                    bail!("malformed device {value:?}; use the name of a network interface");
                }
                self.device = Some(value);
            }
            Name::Keepalive => self.keepalive = Some(Keepalive::parse(value)?),
            Name::Reuseaddr => {
                if !switch(name, value)? {
                    bail!("reuseaddr is always on for TCP; leave it out");
                }
            }
        }
        Ok(())
    }
}

fn switch(name: Name, value: Option<&str>) -> Result<bool> {
    match value {
        None | Some("on" | "1" | "yes" | "true") => Ok(true),
        Some("off" | "0" | "no" | "false") => Ok(false),
        Some(value) => bail!("malformed {name} {value:?}; use {name}, {name}=on or {name}=off"),
    }
}

/// Why it is no option here, for those that people know from elsewhere.
fn explain(key: &str) -> String {
    let why = match key.to_ascii_lowercase().as_str() {
        "" => return "there is an empty option; remove the comma".to_owned(),
        "ssl" | "tls" => "TLS is the daemon's own affair; leave it out",
        "http2" | "http3" | "proxy_protocol" => {
            "what is spoken is the daemon's own affair; leave it out"
        }
        "quic" | "udp" => "that is another kind of socket; use udp:ADDR",
        "tcp" => "that is another kind of socket; use tcp:ADDR",
        "default" | "default_server" => {
            "which server answers is the daemon's own affair; leave it out"
        }
        "deferred" | "fastopen" | "accept_filter" | "rcvbuf" | "sndbuf" | "nodelay" => {
            "the daemon can set it on the socket that it gets; leave it out"
        }
        "bind" => {
            "every address is bound by itself; leave it out (bind=HOST is for TCP-LISTEN and UDP-LISTEN)"
        }
        "fork" | "max-children" => "the daemon accepts connections by itself; leave it out",
        "unlink-early" => "a dead socket is always removed, a living one never; leave it out",
        "unlink" | "unlink-close" => "the path stays while the service lives; leave it out",
        "pf" | "ipv4" | "ipv6" => {
            "the family is said with the address; use tcp4, tcp6, udp4 or udp6"
        }
        "keepidle" | "keepintvl" | "keepcnt" | "tcp-keepidle" | "tcp-keepintvl" | "tcp-keepcnt" => {
            "use keepalive=IDLE:INTERVAL:COUNT"
        }
        _ => return format!("unknown option {key:?}; there are {KNOWN}"),
    };
    format!("the option {key:?} is not known here: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options> {
        let words: Vec<_> = text.split(',').collect();
        Options::parse(&words[1..], &Address::parse(words[0])?)
    }

    #[test]
    fn options_are_known_by_the_names_that_people_use() {
        type Holds = fn(&Options) -> bool;
        let all: [(&[&str], Holds); 8] = [
            (&["80,backlog=5", "80,BACKLOG=5"], |found| {
                found.backlog == Some(5)
            }),
            (&["/a,mode=660", "/a,perm=0660"], |found| {
                found.mode == Some(0o660)
            }),
            (&["/a,owner=app", "/a,user=app", "/a,uid=app"], |found| {
                found.owner.as_deref() == Some("app")
            }),
            (&["/a,group=7", "/a,gid=7"], |found| {
                found.group.as_deref() == Some("7")
            }),
            (
                &["80,reuseport", "udp:80,reuseport=on", "80,so-reuseport=1"],
                |found| found.reuseport == Some(true),
            ),
            (
                &[
                    "80,v6only=0",
                    "[::]:80,ipv6only=off",
                    "tcp6:a:80,ipv6-v6only=no",
                ],
                |found| found.v6only == Some(false),
            ),
            (&["80,freebind", "1.2.3.4:80,ip-freebind=yes"], |found| {
                found.freebind == Some(true)
            }),
            (
                &[
                    "80,device=lo",
                    "80,bindtodevice=lo",
                    "80,so-bindtodevice=lo",
                    "udp:80,interface=lo",
                ],
                |found| found.device.as_deref() == Some("lo"),
            ),
        ];
        for (texts, holds) in all {
            for text in texts {
                assert!(holds(&parse(text).unwrap()), "{text}");
            }
        }
        assert_eq!(parse("80,reuseaddr").unwrap(), Options::default());
        assert_eq!(parse("80").unwrap(), Options::default());
        let both = parse("80,backlog=5,freebind").unwrap();
        assert_eq!((both.backlog, both.freebind), (Some(5), Some(true)));
    }

    #[test]
    fn what_is_no_option_or_does_not_fit_is_explained_in_one_line() {
        for (text, words) in [
            (
                "80,backlog",
                "the option backlog has no value; use backlog=N",
            ),
            ("80,backlog=", "has no value"),
            ("80,backlog=0", "malformed backlog \"0\""),
            ("80,backlog=-1", "malformed backlog"),
            ("80,backlog=9999999999", "from 1 to 2147483647"),
            ("80,backlog=5,backlog=5", "backlog is there twice"),
            ("/a,mode=660,perm=600", "mode is there twice"),
            ("/a,mode=680", "malformed mode \"680\"; use octal digits"),
            ("/a,mode=+60", "malformed mode"),
            ("/a,mode=17777", "up to 7777"),
            ("/a,mode=77777777777777", "up to 7777"),
            ("80,reuseport=maybe", "malformed reuseport \"maybe\""),
            ("80,device=averylongdevicename", "malformed device"),
            ("80,reuseaddr=off", "always on"),
            (
                "80,mode=660",
                "mode does not fit tcp:*:80; it is for Unix paths",
            ),
            ("@a,owner=root", "owner does not fit"),
            ("/a,v6only", "v6only does not fit"),
            ("127.0.0.1:80,v6only", "it is for IPv6"),
            ("localhost:80,v6only", "use tcp6"),
            ("/a,reuseport", "it is for TCP and UDP"),
            ("udp:53,backlog=5", "backlog does not fit udp:*:53"),
            ("unix-dgram:/a,backlog=5", "backlog does not fit"),
            ("udp:53,keepalive", "it is for TCP"),
            ("80,ssl", "TLS is the daemon's own affair"),
            ("80,http2", "daemon's own affair"),
            ("443,quic", "use udp:ADDR"),
            ("80,default_server", "daemon's own affair"),
            ("80,proxy_protocol", "daemon's own affair"),
            ("80,deferred", "the daemon can set it"),
            ("80,fastopen=256", "the daemon can set it"),
            ("80,bind", "leave it out"),
            ("53,udp", "use udp:ADDR"),
            ("53,pf=ip6", "use tcp4, tcp6, udp4 or udp6"),
            ("80,keepidle=5", "use keepalive=IDLE:INTERVAL:COUNT"),
            ("80,group=root", "group does not fit"),
            ("/a,freebind", "freebind does not fit"),
            ("tcp4:80,v6only", "it is for IPv6"),
            ("80,fork", "accepts connections by itself"),
            ("/a,unlink-early", "a dead socket is always removed"),
            ("/a,unlink-close", "the path stays"),
            (
                "80,colour=red",
                "unknown option \"colour\"; there are backlog=N, mode=MODE",
            ),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
