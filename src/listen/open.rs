//! Opening a socket of `--listen`, and saying in words why it could not be (§9).

use std::fs::Metadata;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use socket2::{Socket, TcpKeepalive};

use super::address::{Kind, Place};
use super::keepalive::Keepalive;
use super::options::Options;
use super::wanted::Wanted;
use super::{internet, unix};

/// As large as the system allows: it takes the lesser of this and `net.core.somaxconn`.
const USUAL_BACKLOG: i32 = i32::MAX;

#[derive(Debug)]
pub(crate) struct Opened {
    /// Closed on exec, and blocking.
    pub(crate) socket: OwnedFd,
    /// What was made at the path, or beside it.
    pub(crate) file: Option<FileIdentity>,
    /// It was bound there, since a generation answers at the path itself, and is to be renamed at
    /// the commit.
    pub(crate) beside: Option<PathBuf>,
}

/// Which file it is, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileIdentity {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

impl FileIdentity {
    pub(crate) fn of(metadata: &Metadata) -> FileIdentity {
        FileIdentity {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotOpened {
    /// Somebody has that address already.
    pub(crate) in_use: bool,
    /// One line: `cannot listen on NAME=ADDRESS: …`.
    pub(crate) words: String,
}

impl std::fmt::Display for NotOpened {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.words)
    }
}

impl std::error::Error for NotOpened {}

/// Why not, without saying what.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) in_use: bool,
    pub(super) cause: String,
}

impl From<String> for Failure {
    fn from(cause: String) -> Failure {
        let in_use = false;
        Failure { in_use, cause }
    }
}

/// Opens it. A Unix path at which one of our own generations answers is left to it (R11): whether
/// a process is of ours `is_ours` says.
pub(crate) fn open(
    wanted: &Wanted,
    is_ours: &dyn Fn(&Path, i32) -> bool,
) -> Result<Opened, NotOpened> {
    let Wanted {
        address, options, ..
    } = wanted;
    let opened = match &address.place {
        Place::Internet { family, host, port } => {
            internet::open(address.kind, *family, host, port, options).map(Opened::without_file)
        }
        Place::Path(path) => unix::open_path(address.kind, path, options, is_ours),
        Place::Abstract(name) => {
            unix::open_abstract(address.kind, name, options).map(Opened::without_file)
        }
    };
    opened.map_err(|Failure { in_use, cause }| NotOpened {
        in_use,
        words: format!("cannot listen on {}: {cause}", wanted.label()),
    })
}

impl Opened {
    fn without_file(socket: Socket) -> Opened {
        Opened {
            socket: socket.into(),
            file: None,
            beside: None,
        }
    }
}

/// Of a datagram socket there is nothing to listen on.
pub(super) fn listen(kind: Kind, socket: &Socket, options: &Options) -> io::Result<()> {
    if kind.has_connections() {
        socket.listen(options.backlog.unwrap_or(USUAL_BACKLOG))
    } else {
        Ok(())
    }
}

/// Every connection inherits it.
pub(super) fn set_keepalive(socket: &Socket, keepalive: Keepalive) -> io::Result<()> {
    let (idle, interval, count) = match keepalive {
        Keepalive::Off => return socket.set_keepalive(false),
        Keepalive::On {
            idle,
            interval,
            count,
        } => (idle, interval, count),
    };
    socket.set_keepalive(true)?;
    let mut times = TcpKeepalive::new();
    if let Some(idle) = idle {
        times = times.with_time(idle);
    }
    if let Some(interval) = interval {
        times = times.with_interval(interval);
    }
    if let Some(count) = count {
        times = times.with_retries(count);
    }
    socket.set_tcp_keepalive(&times)
}
