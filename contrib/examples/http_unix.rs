//! HTTP over a Unix socket. Its path always leads to a generation that serves.
//!
//!     seamless-run --pid-file /run/app/app.pid --listen http=/run/app/app.sock -- http_unix
//!     http_unix --socket /run/app/app.sock --pid-file /run/app/app.pid      # bare: the next one replaces it
//!
//! A socket named `http` that was opened for it, it takes, and leaves its path alone. Only without one it binds
//! `--socket` by itself, beside the predecessor's, and puts that in its place.

mod web;

use std::{
    env,
    ffi::OsString,
    fs, io,
    os::unix::{
        fs::{FileTypeExt, MetadataExt},
        net,
    },
    path::{Path, PathBuf},
    process::{self, ExitCode},
};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use seamless_client::Seamless;
use tokio::net::{UnixListener, UnixStream};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            web::report("http_unix", &*error);
            ExitCode::FAILURE
        }
    }
}

/// Where no socket named `http` was opened for it, it needs a path.
const USAGE: &str = "usage: http_unix --socket PATH [--pid-file FILE]";

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut path = None;
    let mut seamless = Seamless::builder();
    let mut words = env::args_os().skip(1);
    while let Some(option) = words.next() {
        match (option.to_str(), words.next()) {
            (Some("--socket"), Some(value)) => path = Some(PathBuf::from(value)),
            (Some("--pid-file"), Some(value)) => seamless = seamless.pid_file(value),
            _ => return Err(USAGE.into()),
        }
    }
    // First of all: from here on the signals are caught that would kill a daemon that is still starting.
    let seamless = seamless.build()?;
    if let Some(held) = seamless.listeners()?.unix("http")? {
        // For whoever holds it: every version of this daemon does the same.
        held.set_nonblocking(true)?;
        web::serve(UnixListener::from_std(held)?, &seamless, ()).await?;
    } else {
        let path = path.ok_or(USAGE)?;
        let (listener, place) =
            listen(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        web::serve(listener, &seamless, place).await?;
    }
    Ok(())
}

/// Binds beside the path and puts that in its place, in one step: a connection reaches the predecessor or us, never
/// nobody.
fn listen(path: &Path) -> io::Result<(UnixListener, Place)> {
    let mut beside = OsString::from(path);
    beside.push(format!(".{}", process::id()));
    let beside = PathBuf::from(beside);
    // What is there was left by a dead process that had our PID.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&beside)?;
    let metadata = fs::symlink_metadata(&beside)?;
    // From here on connections come to us: everything that can fail comes before this.
    if let Err(error) = take_over(&beside, path) {
        fs::remove_file(&beside).ok();
        return Err(error);
    }
    let place = Place {
        path: path.to_owned(),
        beside,
        device: metadata.dev(),
        inode: metadata.ino(),
    };
    Ok((listener, place))
}

/// What was at the path is beside it afterwards: should we end before we have taken over, it goes back.
fn take_over(beside: &Path, path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => Ok(renameat_with(
            CWD,
            beside,
            CWD,
            path,
            RenameFlags::EXCHANGE,
        )?),
        Ok(_) => Err(io::Error::other("there is something else than a socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::rename(beside, path),
        Err(error) => Err(error),
    }
}

impl web::Listener for UnixListener {
    type Stream = UnixStream;
    type Std = net::UnixListener;

    async fn accept(&self) -> io::Result<UnixStream> {
        Ok(self.accept().await?.0)
    }

    fn into_std(self) -> io::Result<net::UnixListener> {
        self.into_std()
    }

    fn accept_queued(listener: &net::UnixListener) -> io::Result<UnixStream> {
        let (stream, _) = listener.accept()?;
        stream.set_nonblocking(true)?;
        UnixStream::from_std(stream)
    }
}

/// The socket as the file system knows it.
struct Place {
    path: PathBuf,
    /// The predecessor's, until we have taken over.
    beside: PathBuf,
    device: u64,
    inode: u64,
}

impl Place {
    /// Whether the path still leads to us, and not to a successor.
    ///
    /// To be asked while the socket is open: once it is closed, its inode's number may be given to a successor's.
    fn is_ours(&self) -> bool {
        let found = fs::symlink_metadata(&self.path);
        found.is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode))
    }
}

impl web::Place for Place {
    fn taken(&mut self) {
        fs::remove_file(&self.beside).ok();
    }

    fn leave(&mut self) {
        let left = if !self.is_ours() {
            Ok(())
        } else if net::UnixStream::connect(&self.beside).is_ok() {
            // We never took over, and the predecessor still answers.
            fs::rename(&self.beside, &self.path)
        } else {
            fs::remove_file(&self.path)
        };
        if let Err(error) = left {
            web::report(&self.path.display().to_string(), &error);
        }
        // It is there only if we never took over.
        fs::remove_file(&self.beside).ok();
    }
}
