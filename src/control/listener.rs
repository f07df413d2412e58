//! Where a keeper is found: a socket in the file system, beside the PID file.
//!
//! `sun_path` holds 108 bytes. So no path is put into it, but a descriptor's place in `/proc`,
//! however long the path is that the descriptor came from (unix(7), proc_pid_fd(5)). In the same
//! way a keeper is found whose path a successor has taken over: in its own descriptors, which
//! nobody but root and its own user may follow.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, chmod, fchmod, fstat, openat, renameat, unlinkat,
};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind,
    connect as connect_to, getpeername, listen, socket_with,
};

use rustix::net::sockopt::set_socket_passcred;

use super::Connection;
use crate::process::Identity;

const BACKLOG: i32 = 128;
const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

#[derive(Debug)]
pub(crate) struct Listener {
    socket: OwnedFd,
    /// The socket's place in the file system, whatever its name is by now.
    place: File,
    /// To be given up for a moment when there is no other descriptor left.
    spare: Option<File>,
}

/// Who was at the door.
#[derive(Debug)]
pub(crate) enum Accepted {
    Caller(Connection),
    /// Somebody, for whom there was no descriptor.
    TurnedAway(io::Error),
    Nobody,
}

/// Why nobody was reached.
#[derive(Debug)]
pub(crate) enum Unreachable {
    /// There is no such socket.
    Missing,
    /// Nobody listens there any more.
    Dead,
    /// In words: it is somebody else's, or cannot be looked at.
    Suspicious(String),
}

impl Listener {
    /// Listens at `path`, in the place of whatever was there, for the PID file that `whose` tells.
    pub(crate) fn open(path: &Path, whose: &str) -> io::Result<Listener> {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let directory = File::open(directory)?;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None)?;
        // Who sends before he is accepted, and right after, is known too: a connection inherits it.
        set_socket_passcred(&socket, true)?;
        // The file gets the mode of the socket, less the umask; nobody else is let in for a moment.
        let mode = Mode::RUSR | Mode::WUSR;
        fchmod(&socket, mode)?;
        // As short as needed, and always the same: what a KILLed keeper left there goes now.
        let short = name_of(whose);
        match unlinkat(&directory, &short, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        bind(
            &socket,
            &SocketAddrUnix::new(format!("{}/{short}", in_proc(&directory)))?,
        )?;
        let place = (|| {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let place = openat(&directory, &short, flags, Mode::empty())?.into();
            // By what was opened, and not by the name: a link may have been put there.
            if FileType::from_raw_mode(fstat(&place)?.st_mode) != FileType::Socket {
                return Err(Errno::EXIST);
            }
            chmod(in_proc(&place), mode)?;
            listen(&socket, BACKLOG)?;
            renameat(&directory, &short, &directory, name)?;
            Ok(place)
        })();
        if place.is_err() {
            let _ = unlinkat(&directory, &short, AtFlags::empty());
        }
        Ok(Listener {
            socket,
            place: place.map_err(|errno: Errno| io::Error::from(errno))?,
            spare: File::open("/dev/null").ok(),
        })
    }

    /// The number by which [`connect_to_keeper`] finds it.
    pub(crate) fn number(&self) -> i32 {
        self.place.as_raw_fd()
    }

    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let own = [self.socket.as_fd(), self.place.as_fd()];
        own.into_iter().chain(self.spare.as_ref().map(AsFd::as_fd))
    }

    /// Whether that path names this very socket.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        let same = |own: fs::Metadata, there: fs::Metadata| {
            own.dev() == there.dev() && own.ino() == there.ino()
        };
        match (self.place.metadata(), fs::symlink_metadata(path)) {
            (Ok(own), Ok(there)) => same(own, there),
            _ => false,
        }
    }

    /// The next caller, without waiting. An error where one may wait, and cannot even be turned away.
    pub(crate) fn accept(&mut self) -> io::Result<Accepted> {
        let error = match self.try_accept() {
            Ok(Some(socket)) => return Connection::new(socket).map(Accepted::Caller),
            Ok(None) => return Ok(Accepted::Nobody),
            Err(errno) => errno.into(),
        };
        // The kernel wants a descriptor before it looks whether there is anybody; and one who waits
        // for ever would wake us for ever.
        self.spare = None;
        let turned_away = self.try_accept();
        let accepted = match &turned_away {
            Ok(Some(_)) => Ok(Accepted::TurnedAway(error)),
            Ok(None) => Ok(Accepted::Nobody),
            Err(_) => Err(error),
        };
        drop(turned_away);
        self.spare = File::open("/dev/null").ok();
        accepted
    }

    fn try_accept(&self) -> Result<Option<OwnedFd>, Errno> {
        loop {
            match accept_with(&self.socket, FLAGS) {
                Ok(socket) => return Ok(Some(socket)),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(errno) => return Err(errno),
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Under which a socket is made before it is put in its place. Its address keeps that name, whatever becomes
/// of the file: who may write two directories can move what is genuine.
fn name_of(whose: &str) -> String {
    // FNV-1a: it has to be the same for every version of this program, and of its compiler (R25).
    let hash = whose
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("{MADE}{hash:016x}")
}

/// Whether the keeper at the other end listens for another PID file. An older one did not say: another sign
/// stood before its number.
fn is_anothers(connection: &Connection, whose: &str) -> bool {
    let address = getpeername(connection).ok().flatten();
    let address = address.and_then(|address| SocketAddrUnix::try_from(address).ok());
    let path = address.as_ref().and_then(SocketAddrUnix::path_bytes);
    let name = path.and_then(|path| path.rsplit(|byte| *byte == b'/').next());
    name.is_some_and(|name| name.starts_with(MADE.as_bytes()) && name != name_of(whose).as_bytes())
}

const MADE: &str = ".seamless-run-";

fn in_proc(descriptor: &File) -> String {
    format!("/proc/self/fd/{}", descriptor.as_raw_fd())
}

/// The keeper that listens at this path, if it does so for the PID file that `whose` tells.
pub(crate) fn connect(path: &Path, whose: &str) -> Result<Connection, Unreachable> {
    let suspicious = |words: String| Unreachable::Suspicious(words);
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place: File = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(place) => place.into(),
        Err(Errno::NOENT | Errno::NOTDIR) => return Err(Unreachable::Missing),
        Err(errno) => return Err(suspicious(in_words(errno))),
    };
    let metadata = place
        .metadata()
        .map_err(|error| suspicious(crate::report::cause(&error)))?;
    if !metadata.file_type().is_socket() {
        return Err(suspicious("it is not a socket".to_owned()));
    }
    let owner = metadata.uid();
    if owner != 0 && owner != nix::unistd::geteuid().as_raw() {
        return Err(suspicious(format!("it belongs to user {owner}")));
    }
    let connection = connect_by(&in_proc(&place))?;
    if is_anothers(&connection, whose) {
        return Err(suspicious("it is that of another PID file".to_owned()));
    }
    Ok(connection)
}

/// The keeper with this identity, by the number of its [`Listener`].
pub(crate) fn connect_to_keeper(keeper: Identity, number: i32) -> Result<Connection, Unreachable> {
    let connection = connect_by(&format!("/proc/{}/fd/{number}", keeper.pid))?;
    // Looked at afterwards: whoever lives now under this PID lived when it was followed.
    if keeper.is_alive() {
        Ok(connection)
    } else {
        Err(Unreachable::Dead)
    }
}

fn connect_by(path: &str) -> Result<Connection, Unreachable> {
    let suspicious = |errno: Errno| Unreachable::Suspicious(in_words(errno));
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None);
    let socket = socket.map_err(suspicious)?;
    let connection = Connection::new(socket)
        .map_err(|error| Unreachable::Suspicious(crate::report::cause(&error)))?;
    let address = SocketAddrUnix::new(path).map_err(suspicious)?;
    match connect_to(&connection, &address) {
        Ok(()) => Ok(connection),
        Err(Errno::CONNREFUSED | Errno::PROTOTYPE) => Err(Unreachable::Dead),
        Err(Errno::NOENT) => Err(Unreachable::Dead),
        Err(errno) => Err(suspicious(errno)),
    }
}

fn in_words(errno: Errno) -> String {
    crate::report::cause(&errno.into())
}

#[cfg(test)]
mod tests {
    use super::super::{Message, Received};
    use super::*;

    fn said(connection: &Connection) -> Message {
        assert!(connection.wait(None));
        match connection.receive() {
            Received::Message(message, _) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_keeper_is_found_by_a_long_path_and_without_one() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("d".repeat(200));
        fs::create_dir(&deep).unwrap();
        let path = deep.join("p".repeat(250));
        let mut listener = Listener::open(&path, "1:2 app.pid").unwrap();
        assert!(listener.is_at(&path));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(&deep).unwrap().count(), 1);

        for other in ["1:2 app2.pid", "1:3 app.pid"] {
            match connect(&path, other) {
                Err(Unreachable::Suspicious(words)) => assert!(words.contains("another PID file")),
                other => panic!("{other:?}"),
            }
            assert!(matches!(listener.accept().unwrap(), Accepted::Caller(_)));
        }
        let one = connect(&path, "1:2 app.pid").unwrap();
        fs::remove_file(&path).unwrap();
        assert!(!listener.is_at(&path));
        assert!(matches!(
            connect(&path, "1:2 app.pid"),
            Err(Unreachable::Missing)
        ));
        let own = Identity::of_this_process().unwrap();
        let other = connect_to_keeper(own, listener.number()).unwrap();
        for connection in [one, other] {
            connection.send(&Message::Yield).unwrap();
            match listener.accept().unwrap() {
                Accepted::Caller(accepted) => assert_eq!(said(&accepted), Message::Yield),
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(listener.accept().unwrap(), Accepted::Nobody));
    }

    #[test]
    fn nobody_is_reached_where_nobody_listens() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.pid.sock");
        drop(Listener::open(&path, "1:2 app.pid").unwrap());
        assert!(matches!(
            connect(&path, "1:2 app.pid"),
            Err(Unreachable::Dead)
        ));
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert!(matches!(
            connect(&path, "1:2 app.pid"),
            Err(Unreachable::Suspicious(_))
        ));
        let own = Identity::of_this_process().unwrap();
        assert!(connect_to_keeper(own, 0).is_err());
    }
}
