//! Binding Unix sockets: nobody is let in before it is known who may come.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket};

use super::address::Kind;
use super::occupant::{Occupant, clear, in_words, look, no_access, remove, who_listens};
use super::open::{Failure, FileIdentity, Opened, listen};
use super::options::Options;
use super::ownership::{Ownership, usual_mode};
use super::resolve::socket_type;
use super::spelling::LONGEST_PATH;
use crate::report::cause;

pub(super) fn open_abstract(kind: Kind, name: &str, options: &Options) -> Result<Socket, Failure> {
    let open = || -> io::Result<Socket> {
        let socket = Socket::new(Domain::UNIX, socket_type(kind), None)?;
        socket.bind(&SockAddr::unix(format!("\0{name}"))?)?;
        listen(kind, &socket, options)?;
        Ok(socket)
    };
    open().map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::ADDRINUSE) => taken(),
        _ => cause(&error).into(),
    })
}

pub(super) fn open_path(
    kind: Kind,
    path: &Path,
    options: &Options,
    is_ours: &dyn Fn(&Path, i32) -> bool,
) -> Result<Opened, Failure> {
    let ownership = Ownership::of(options)?;
    let opened = |bound: (Socket, FileIdentity), beside| Opened {
        socket: bound.0.into(),
        file: Some(bound.1),
        beside,
    };
    // What lies there is known, or who listens.
    let is_known =
        |path: &Path| is_ours(path, 0) || who_listens(path).is_some_and(|pid| is_ours(path, pid));
    match clear(path, ownership)? {
        Occupant::Nobody => {
            let bound = bind(kind, path, options, ownership)?;
            return Ok(opened(bound, None));
        }
        Occupant::Somebody if is_known(path) => {}
        Occupant::Somebody => return Err(taken()),
    }
    let beside = beside(path);
    let length = beside.as_os_str().len();
    if length > LONGEST_PATH {
        return Err(Failure {
            in_use: true,
            cause: format!(
                "a generation answers there, and the path beside it, {}, is {length} bytes long, more than {LONGEST_PATH}; use a shorter path",
                beside.display()
            ),
        });
    }
    match clear(&beside, ownership)? {
        Occupant::Nobody => {}
        // Of an attempt that came to nothing; nobody looks for it there.
        Occupant::Somebody if is_known(&beside) => {
            let found = fs::symlink_metadata(&beside).map_err(|error| cause(&error))?;
            remove(&beside, FileIdentity::of(&found)).map_err(|error| cause(&error))?;
        }
        Occupant::Somebody => {
            let other = beside.display();
            let words = format!("another process listens at {other}; `ss -lxp` names it");
            return Err(words.into());
        }
    }
    let bound = bind(kind, &beside, options, ownership)?;
    Ok(opened(bound, Some(beside)))
}

/// Where a socket is bound while a generation answers at the path itself.
pub(super) fn beside(path: &Path) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    beside.into()
}

fn taken() -> Failure {
    Failure {
        in_use: true,
        cause: "another process listens there; `ss -lxp` names it".to_owned(),
    }
}

fn bind(
    kind: Kind,
    path: &Path,
    options: &Options,
    ownership: Ownership,
) -> Result<(Socket, FileIdentity), Failure> {
    let mode = ownership.mode.map_or_else(usual_mode, Ok)?;
    let ownership = Ownership {
        mode: Some(mode),
        ..ownership
    };
    let socket = Socket::new(Domain::UNIX, socket_type(kind), None);
    let socket = socket.map_err(|error| cause(&error))?;
    // The file gets the mode of the socket, less the umask; nobody is let in for a moment.
    fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(in_words)?;
    let address = SockAddr::unix(path).map_err(|error| cause(&error))?;
    if let Err(error) = socket.bind(&address) {
        return Err(match Errno::from_io_error(&error) {
            Some(Errno::ADDRINUSE) => taken(),
            Some(errno) => no_access(path, errno).into(),
            None => cause(&error).into(),
        });
    }
    let place = own_place(path)?;
    let shared = ownership
        .apply(&place, options)
        .and_then(|()| listen(kind, &socket, options).map_err(|error| cause(&error)))
        .and_then(|()| place.metadata().map_err(|error| cause(&error)));
    match shared {
        Ok(metadata) => Ok((socket, FileIdentity::of(&metadata))),
        Err(words) => {
            // What failed is worth more words than what is left behind.
            let _ = remove_if_same(path, &place);
            Err(words.into())
        }
    }
}

/// A hold on the file that was just made; whoever may write in the directory may have put something
/// else there.
fn own_place(path: &Path) -> Result<File, String> {
    let replaced = || format!("{} was replaced while it was opened", path.display());
    let is_own = |found: &fs::Metadata| {
        found.file_type().is_socket()
            && found.uid() == nix::unistd::geteuid().as_raw()
            && found.mode() & 0o177 == 0
    };
    let place = look(path).and_then(|place| place.ok_or_else(replaced));
    let own = place.and_then(|place| {
        let found = place.metadata().map_err(|error| cause(&error))?;
        is_own(&found).then_some(place).ok_or_else(replaced)
    });
    if own.is_err() && fs::symlink_metadata(path).is_ok_and(|found| is_own(&found)) {
        let _ = fs::remove_file(path);
    }
    own
}

fn remove_if_same(path: &Path, place: &File) -> io::Result<()> {
    let (own, there) = (place.metadata()?, fs::symlink_metadata(path)?);
    if FileIdentity::of(&own) == FileIdentity::of(&there) {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// Whether a socket with this name is the one at `path`, by whichever of its names it was bound.
pub(super) fn is_name_of(name: &SockAddr, path: &Path) -> bool {
    let bound = name.as_pathname().map(|name| name.as_os_str().as_bytes());
    let is = |path: &Path| bound == Some(path.as_os_str().as_bytes());
    is(path) || is(&beside(path))
}

#[cfg(test)]
mod tests {
    use super::super::open::{NotOpened, open};
    use super::super::wanted::Wanted;
    use super::*;
    use nix::unistd::{getegid, geteuid};
    use std::ffi::OsStr;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    fn open_with(text: &str, ours: bool) -> Result<Opened, NotOpened> {
        let wanted = Wanted::parse(OsStr::new(text)).unwrap();
        let own = std::process::id() as i32;
        open(&wanted, &|_, pid| ours && pid == own)
    }

    fn name_of(opened: &Opened) -> PathBuf {
        let name = socket2::SockRef::from(&opened.socket).local_addr().unwrap();
        name.as_pathname().unwrap().to_owned()
    }

    fn mode_of(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_path_gets_owner_group_and_mode_and_answers() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.sock");
        let group = if geteuid().is_root() {
            4711
        } else {
            getegid().as_raw()
        };
        for (kind, mode) in [
            ("unix", 0o660),
            ("unix-dgram", 0o622),
            ("unix-seqpacket", 0o1777),
        ] {
            let text = format!("{kind}:{},mode={mode:o},group={group}", path.display());
            let opened = open_with(&text, false).unwrap();
            let found = fs::symlink_metadata(&path).unwrap();
            assert_eq!(
                (found.mode() & 0o7777, found.gid()),
                (mode, group),
                "{text}"
            );
            assert_eq!(opened.file, Some(FileIdentity::of(&found)));
            assert_eq!(
                (opened.beside.as_deref(), name_of(&opened)),
                (None, path.clone())
            );
            assert_eq!(UnixStream::connect(&path).is_ok(), kind == "unix");
            assert_eq!(
                UnixDatagram::unbound().unwrap().connect(&path).is_ok(),
                kind == "unix-dgram"
            );
        }
        open_with(path.to_str().unwrap(), false).unwrap();
        assert_eq!(mode_of(&path), usual_mode().unwrap());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_path_at_which_a_generation_answers_is_left_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.sock");
        let beside = directory.path().join("app.sock.new");
        let text = path.to_str().unwrap();
        drop(UnixListener::bind(&beside).unwrap());
        let old = open_with(text, false).unwrap();

        // A living attempt of ours is there the second time; another type does not matter.
        let attempt = open_with(text, true).unwrap();
        let new = open_with(&format!("unix-seqpacket:{text}"), true).unwrap();

        assert_eq!(new.beside.as_deref(), Some(beside.as_path()));
        assert_eq!(
            new.file,
            fs::symlink_metadata(&beside)
                .ok()
                .as_ref()
                .map(FileIdentity::of)
        );
        assert_ne!(new.file, attempt.file);
        assert_eq!(
            old.file,
            fs::symlink_metadata(&path)
                .ok()
                .as_ref()
                .map(FileIdentity::of)
        );
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_path_at_which_a_stranger_answers_is_in_use() {
        let directory = tempfile::tempdir().unwrap();
        let text = directory.path().join("app.sock");
        let text = text.to_str().unwrap();
        let is_refused = |ours| {
            let refused = open_with(text, ours).unwrap_err();
            assert!(
                refused.in_use && refused.words.contains("ss -lxp"),
                "{refused:?}"
            );
            assert!(
                refused.words.starts_with("cannot listen on unix:/"),
                "{refused:?}"
            );
        };
        let stranger = open_with(&format!("{text},backlog=1"), false).unwrap();
        is_refused(false);
        // One whose queue is full does not say who it is.
        let connect = || {
            let socket = Socket::new(Domain::UNIX, socket2::Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let connected = socket.connect(&SockAddr::unix(text).unwrap());
            connected.map(|()| socket)
        };
        let waiting: Vec<_> = std::iter::repeat_with(connect)
            .map_while(Result::ok)
            .collect();
        assert!(!waiting.is_empty());
        is_refused(true);
        assert_eq!(
            stranger.file,
            fs::symlink_metadata(text)
                .ok()
                .as_ref()
                .map(FileIdentity::of)
        );
        drop((stranger, waiting));

        let opened = open_with(text, false).unwrap();
        assert_eq!(name_of(&opened), Path::new(text), "a dead one is replaced");
        drop(opened);
        // Who receives datagrams cannot be told.
        let _datagrams = open_with(&format!("unix-dgram:{text}"), false).unwrap();
        is_refused(true);
    }

    #[test]
    fn a_path_that_leaves_no_room_beside_it_is_in_use() {
        let directory = tempfile::tempdir().unwrap();
        let prefix = directory.path().join("");
        let path = format!(
            "{}{}",
            prefix.display(),
            "p".repeat(LONGEST_PATH - prefix.as_os_str().len())
        );
        let _old = open_with(&path, false).unwrap();
        let refused = open_with(&path, true).unwrap_err();
        assert!(
            refused.in_use && refused.words.contains("is 111 bytes long"),
            "{refused:?}"
        );
    }

    #[test]
    fn an_abstract_name_is_taken_or_not() {
        let text = format!("app=@seamless-run.{}", std::process::id());
        let opened = open_with(&text, false).unwrap();
        let refused = open_with(&text, true).unwrap_err();
        assert!(refused.in_use, "{refused:?}");
        assert!(
            refused
                .words
                .starts_with("cannot listen on app=unix:@seamless-run.")
        );
        drop(opened);
        open_with(&text, false).unwrap();
    }
}
