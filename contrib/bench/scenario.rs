//! The ways in which two generations can come to listen at one address.

use std::{ffi::OsString, fmt, net::Ipv4Addr, path::PathBuf};

use clap::ValueEnum;

use super::{load::Target, programs::Programs, unlink_bind};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    Plain,
    Reuseport,
    ReuseportMigrate,
    UnlinkBind,
    Exchange,
    HeldTcp,
    HeldUnix,
}

/// Where the service of one row can be found.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    pub(crate) port: u16,
}

impl Place {
    pub(crate) fn pid_file(&self) -> PathBuf {
        self.directory.join("app.pid")
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("app.sock")
    }

    fn address(&self) -> String {
        format!("{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }
}

impl Scenario {
    pub(crate) const ALL: &[Self] = &[
        Self::Plain,
        Self::Reuseport,
        Self::ReuseportMigrate,
        Self::UnlinkBind,
        Self::Exchange,
        Self::HeldTcp,
        Self::HeldUnix,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Reuseport => "reuseport",
            Self::ReuseportMigrate => "reuseport-migrate",
            Self::UnlinkBind => "unlink-bind",
            Self::Exchange => "exchange",
            Self::HeldTcp => "held-tcp",
            Self::HeldUnix => "held-unix",
        }
    }

    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Plain => "TCP, without seamless-run",
            Self::Reuseport => "TCP, each generation binds by SO_REUSEPORT, tcp_migrate_req=0",
            Self::ReuseportMigrate => {
                "TCP, each generation binds by SO_REUSEPORT, tcp_migrate_req=1"
            }
            Self::UnlinkBind => "a Unix socket, each generation unlinks the path and binds it anew",
            Self::Exchange => {
                "a Unix socket, each generation binds beside the path and exchanges the two"
            }
            Self::HeldTcp => "TCP, the keeper holds the socket, tcp_migrate_req=0",
            Self::HeldUnix => "a Unix socket, held by the keeper",
        }
    }

    /// The promise: not one request is lost.
    pub(crate) fn is_held(self) -> bool {
        matches!(self, Self::HeldTcp | Self::HeldUnix)
    }

    pub(crate) fn is_launched(self) -> bool {
        self != Self::Plain
    }

    pub(crate) fn default_requests(self) -> u64 {
        if self.is_held() { 1_000_000 } else { 300_000 }
    }

    pub(crate) fn default_restarts(self) -> u32 {
        if self.is_held() { 20 } else { 10 }
    }

    /// What `net.ipv4.tcp_migrate_req` has to be; `None` where it changes nothing.
    pub(crate) fn tcp_migrate_req(self) -> Option<bool> {
        match self {
            Self::Reuseport | Self::HeldTcp => Some(false),
            Self::ReuseportMigrate => Some(true),
            Self::Plain | Self::UnlinkBind | Self::Exchange | Self::HeldUnix => None,
        }
    }

    fn is_tcp(self) -> bool {
        match self {
            Self::Plain | Self::Reuseport | Self::ReuseportMigrate | Self::HeldTcp => true,
            Self::UnlinkBind | Self::Exchange | Self::HeldUnix => false,
        }
    }

    pub(crate) fn target(self, place: &Place) -> Target {
        if self.is_tcp() {
            Target::Tcp((Ipv4Addr::LOCALHOST, place.port).into())
        } else {
            Target::Unix(place.socket())
        }
    }

    /// What the run script becomes.
    pub(crate) fn command(self, programs: &Programs, place: &Place) -> Vec<OsString> {
        let mut words: Vec<OsString> = Vec::new();
        if self.is_launched() {
            words.push(programs.seamless_run.clone().into());
            words.extend(["--pid-file".into(), place.pid_file().into()]);
        }
        if self.is_held() {
            let mut socket = OsString::from("http=");
            if self.is_tcp() {
                socket.push(place.address());
            } else {
                socket.push(place.socket());
            }
            words.extend(["--listen".into(), socket]);
        }
        if self.is_launched() {
            words.push("--".into());
        }
        match self {
            Self::Plain | Self::Reuseport | Self::ReuseportMigrate => {
                words.push(programs.http_tcp.clone().into());
                words.extend(["--listen".into(), place.address().into()]);
            }
            Self::UnlinkBind => {
                words.push(programs.audit.clone().into());
                words.extend([unlink_bind::WORD.into(), place.socket().into()]);
            }
            Self::Exchange => {
                words.push(programs.http_unix.clone().into());
                words.extend(["--socket".into(), place.socket().into()]);
            }
            Self::HeldTcp => words.push(programs.http_tcp.clone().into()),
            Self::HeldUnix => words.push(programs.http_unix.clone().into()),
        }
        words
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}
