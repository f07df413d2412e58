//! What is at a Unix path already: looked at before anything is removed.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::fs::{AtFlags, Mode, OFlags, renameat, statat, unlinkat};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket};

use super::address::Kind;
use super::open::FileIdentity;
use super::ownership::Ownership;
use super::resolve::socket_type;
use crate::report::cause;

/// Who is at a path that can be used.
pub(super) enum Occupant {
    Nobody,
    Somebody,
}

/// Makes room at a path: what nobody answers at is removed, if it is a socket and trusted.
pub(super) fn clear(path: &Path, ownership: Ownership) -> Result<Occupant, String> {
    let Some(place) = look(path)? else {
        return Ok(Occupant::Nobody);
    };
    let metadata = place.metadata().map_err(|error| cause(&error))?;
    is_usable(&metadata, path, ownership)?;
    if is_alive(&place, path)? {
        return Ok(Occupant::Somebody);
    }
    remove(path, FileIdentity::of(&metadata)).map_err(|error| {
        format!(
            "cannot remove the dead socket {}: {}",
            path.display(),
            cause(&error)
        )
    })?;
    Ok(Occupant::Nobody)
}

/// A hold on what is at a path, without following a link and without opening it.
pub(super) fn look(path: &Path) -> Result<Option<File>, String> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(place) => Ok(Some(place.into())),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(no_access(path, errno)),
    }
}

pub(super) fn no_access(path: &Path, errno: Errno) -> String {
    let directory = path.parent().unwrap_or(path).display();
    match errno {
        Errno::NOENT => format!("there is no directory {directory}; create it first"),
        Errno::NOTDIR => format!("{directory} is not a directory; use another path"),
        Errno::ACCESS | Errno::PERM => format!(
            "no permission in the directory {directory}; let this user write there, or use another"
        ),
        Errno::MFILE => in_words(errno),
        errno => format!("cannot use the directory {directory}: {}", in_words(errno)),
    }
}

pub(super) fn is_usable(
    found: &fs::Metadata,
    path: &Path,
    ownership: Ownership,
) -> Result<(), String> {
    let kind = found.file_type();
    let kind = match () {
        () if kind.is_socket() => None,
        () if kind.is_dir() => Some("a directory"),
        () if kind.is_symlink() => Some("a symbolic link"),
        () if kind.is_fifo() => Some("a FIFO"),
        () if kind.is_file() => Some("a regular file"),
        () => Some("a device"),
    };
    let path = path.display();
    if let Some(kind) = kind {
        return Err(format!("{path} is {kind}; remove it, or name another path"));
    }
    if !ownership.trusts(found.uid()) {
        return Err(format!(
            "{path} belongs to the user {}; remove it, or name another path",
            found.uid()
        ));
    }
    Ok(())
}

/// Whether a socket is bound to it. Nobody sees that it was asked: a connection of another type is
/// refused before it begins, and one of a datagram socket is nothing but an address.
fn is_alive(place: &File, path: &Path) -> Result<bool, String> {
    let words = |error: io::Error| {
        format!(
            "cannot tell whether somebody listens at {}: {}; remove it, or name another path",
            path.display(),
            cause(&error)
        )
    };
    let connected = connect(Kind::UnixDatagram, place).map_err(words)?;
    match connected.1 {
        Ok(()) => Ok(true),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::CONNREFUSED) => Ok(false),
            // Of another type; or a datagram socket that has a peer.
            Some(Errno::PROTOTYPE | Errno::PERM) => Ok(true),
            _ => Err(words(error)),
        },
    }
}

/// The PID of who listens there, if it can be told. He sees a connection that ends at once.
pub(super) fn who_listens(path: &Path) -> Option<i32> {
    let place = look(path).ok()??;
    [Kind::UnixStream, Kind::UnixSeqpacket]
        .into_iter()
        .find_map(|kind| {
            let (socket, connected) = connect(kind, &place).ok()?;
            connected.ok()?;
            let peer = getsockopt(&socket, PeerCredentials).ok()?;
            Some(peer.pid()).filter(|pid| *pid > 0)
        })
}

/// By what was looked at, not by its name; which also may be any length.
fn connect(kind: Kind, place: &File) -> io::Result<(Socket, io::Result<()>)> {
    let address = SockAddr::unix(in_proc(place))?;
    let socket = Socket::new(Domain::UNIX, socket_type(kind), None)?;
    socket.set_nonblocking(true)?;
    let connected = socket.connect(&address);
    Ok((socket, connected))
}

/// The directory of a path, held open: whoever may rename something above it changes nothing any
/// more.
fn directory_of(path: &Path) -> io::Result<(OwnedFd, &OsStr)> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok((rustix::fs::open(directory, flags, Mode::empty())?, name))
}

/// Removes that file, if it is still the one at the path. Whatever else lies there is somebody
/// else's.
pub(super) fn remove(path: &Path, file: FileIdentity) -> io::Result<()> {
    let (directory, name) = directory_of(path)?;
    if is(&directory, name, file) {
        unlinkat(&directory, name, AtFlags::empty())?;
    }
    Ok(())
}

/// Gives that file its own name, in the same directory.
pub(super) fn rename(from: &Path, to: &Path, file: FileIdentity) -> io::Result<()> {
    let (directory, name) = directory_of(from)?;
    match to.file_name() {
        Some(new) if is(&directory, name, file) => Ok(renameat(&directory, name, &directory, new)?),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

fn is(directory: &OwnedFd, name: &OsStr, file: FileIdentity) -> bool {
    let found = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
    found.is_ok_and(|found| found.st_dev == file.device && found.st_ino == file.inode)
}

fn in_proc(place: &File) -> String {
    format!("/proc/self/fd/{}", place.as_raw_fd())
}

pub(super) fn in_words(errno: Errno) -> String {
    cause(&errno.into())
}
