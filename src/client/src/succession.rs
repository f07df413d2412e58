//! Bare succession: the steps that the keeper takes at commit, taken by the daemon itself. The order is the point of it.

use super::error::{Error, ErrorKind};
use super::files;
use super::record::{Identity, Record, Unreadable};
use super::sys;
use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// A keeper holds the lock for as long as its generation is supervised, another bare daemon for a moment.
const PATIENCE: Duration = Duration::from_secs(2);
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

/// A record of a few generations has a few hundred bytes.
const LONGEST_RECORD: u64 = 1 << 20;

/// Somebody else's daemon that lives, and is to be told.
struct Predecessor {
    number: u32,
    daemon: Identity,
    process: io::Result<OwnedFd>,
    /// Its own drain signal, where the record has one.
    drain: Option<i32>,
}

/// Writes PID file and record, and tells every living predecessor to drain.
pub(crate) fn succeed(pid_file: &Path, drain_signal: i32) -> Result<(), Error> {
    let record_file = files::beside(pid_file, ".record");
    // R21: only the holder of the lock writes in the directory.
    let _lock = lock(pid_file, &record_file)?;
    let content = format!("{}\n", std::process::id());
    let (boot, daemon) = match boot_id().and_then(|boot| Ok((boot, myself()?))) {
        Ok(known) => known,
        Err(error) => {
            files::replace(pid_file, &content)?;
            let what = "cannot tell who this process is by /proc";
            let error = Error::caused(ErrorKind::Io, what, &error);
            return Err(
                error.consequence("the PID file is written, but no predecessor was told to drain")
            );
        }
    };
    let whose = whose(pid_file);
    let mut record = believed(&record_file, &boot, whose.as_deref())?;
    if let Some(whose) = &whose {
        record.belong_to(whose);
    }
    let predecessors = living(&mut record, daemon);
    record.add(daemon, drain_signal);

    // We are in the record before anybody is told: whatever becomes of us from here on, the next one finds us. And a
    // predecessor is marked only once it was told: marked too early it might never be, and would serve for ever.
    let mut result = files::replace(&record_file, &record.render(&boot));
    result = result.and(files::replace(pid_file, &content));
    // A file that cannot be written does not keep the predecessors (R11): this daemon serves, they need not.
    let mut told = false;
    for predecessor in predecessors {
        match tell(&predecessor, predecessor.drain.unwrap_or(drain_signal)) {
            Ok(()) => {
                told = true;
                for generation in &mut record.generations {
                    if generation.daemon() == Some(predecessor.daemon) {
                        generation.set_draining();
                    }
                }
            }
            Err(error) => result = result.and(Err(error)),
        }
    }
    if told {
        result = result.and(files::replace(&record_file, &record.render(&boot)));
    }
    result
}

/// Whose the files beside this PID file are, wherever somebody who may write there puts one of them: the directory, and
/// the PID file in it. As `seamless-run` tells it.
fn whose(pid_file: &Path) -> Option<String> {
    let directory = pid_file.parent()?;
    let directory = if directory.as_os_str().is_empty() {
        Path::new(".")
    } else {
        directory
    };
    let found = fs::metadata(directory).ok()?;
    let name = pid_file.file_name()?.as_bytes().escape_ascii();
    Some(format!("{}:{} {name}", found.dev(), found.ino()))
}

fn tell(predecessor: &Predecessor, signal: i32) -> Result<(), Error> {
    let told = match &predecessor.process {
        Ok(process) => sys::pidfd_send_signal(process.as_fd(), signal),
        Err(error) => Err(io::Error::from_raw_os_error(
            error.raw_os_error().unwrap_or(libc::EIO),
        )),
    };
    match told {
        // It has ended meanwhile, which is as good.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        Err(error) => {
            let Predecessor { number, daemon, .. } = predecessor;
            let what = format!(
                "cannot tell generation {number} (PID {}) to drain",
                daemon.pid
            );
            Err(Error::caused(ErrorKind::Io, what, &error)
                .consequence("it serves on beside this one"))
        }
        Ok(()) => Ok(()),
    }
}

/// Takes `app.pid.lock`, or says who has it.
fn lock(pid_file: &Path, record_file: &Path) -> Result<Flock<File>, Error> {
    let path = files::beside(pid_file, ".lock");
    let cannot = |error: &io::Error| {
        Error::caused(
            ErrorKind::Io,
            format!("cannot lock {}", path.display()),
            error,
        )
        .consequence("nothing was changed and nobody was told to drain")
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let file = open_lock(&path).map_err(|error| cannot(&error))?;
        let metadata = file.metadata().map_err(|error| cannot(&error))?;
        if !metadata.is_file() || !is_ours(&metadata) {
            let message = format!(
                "cannot lock {}: it is not a regular file of root or this user",
                path.display()
            );
            let error = Error::new(ErrorKind::PidFile, message);
            return Err(error.consequence("nothing was changed and nobody was told to drain"));
        }
        let error = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            // A lock on a file that is no longer at its place keeps nobody out.
            Ok(lock) if is_at(&metadata, &path) => return Ok(lock),
            Ok(_) => continue,
            Err((_, error)) => io::Error::from(error),
        };
        if error.kind() != io::ErrorKind::WouldBlock && error.kind() != io::ErrorKind::Interrupted {
            return Err(cannot(&error));
        }
        if Instant::now() >= deadline {
            return Err(supervised(pid_file, record_file));
        }
        // flock(2) knows no time limit, and its signal-driven form is not for a library.
        thread::sleep(BETWEEN_TRIES);
    }
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK)
        .open(path)
}

fn is_at(held: &fs::Metadata, path: &Path) -> bool {
    fs::symlink_metadata(path)
        .is_ok_and(|there| there.dev() == held.dev() && there.ino() == held.ino())
}

fn supervised(pid_file: &Path, record_file: &Path) -> Error {
    let record = boot_id()
        .ok()
        .and_then(|boot| believed(record_file, &boot, whose(pid_file).as_deref()).ok())
        .unwrap_or_default();
    let newest = record
        .generations
        .iter()
        .filter(|generation| !generation.is_draining());
    let newest = newest
        .max_by_key(|generation| generation.number)
        .map(|generation| {
            let pid = |identity: Option<Identity>| {
                identity.map_or_else(|| "?".to_owned(), |it| it.pid.to_string())
            };
            let (daemon, keeper) = (pid(generation.daemon()), pid(generation.keeper()));
            format!(
                "generation {} (daemon {daemon}, keeper {keeper})",
                generation.number
            )
        });
    let holder = newest.unwrap_or_else(|| "somebody".to_owned());
    let pid_file = pid_file.display();
    let message = format!(
        "cannot take over {pid_file}: it is supervised, {holder} has held its lock for {PATIENCE:?}"
    );
    Error::new(ErrorKind::Refused, message)
        .consequence("nothing was changed and nobody was told to drain")
}

/// R18: regular, of root or ours, writable by nobody else, of this boot and of this PID file. What is not believed is as good
/// as absent.
fn believed(path: &Path, boot: &str, whose: Option<&str>) -> Result<Record, Error> {
    let Ok(file) = files::open(path) else {
        return Ok(Record::default());
    };
    let Ok(metadata) = file.metadata() else {
        return Ok(Record::default());
    };
    if !metadata.is_file() || !is_ours(&metadata) || metadata.mode() & 0o022 != 0 {
        return Ok(Record::default());
    }
    let mut text = String::new();
    if file.take(LONGEST_RECORD).read_to_string(&mut text).is_err() {
        return Ok(Record::default());
    }
    match Record::parse(&text, boot) {
        Ok(record) if record.whose().is_some_and(|said| Some(said) != whose) => {
            Ok(Record::default())
        }
        Ok(record) => Ok(record),
        Err(Unreadable::Stale) => Ok(Record::default()),
        Err(Unreadable::Version(version)) => {
            let path = path.display();
            let message = format!(
                "cannot take over by {path}: it has version {version} and this program reads 1"
            );
            Err(Error::new(ErrorKind::PidFile, message)
                .consequence("nothing was changed and nobody was told to drain"))
        }
    }
}

fn is_ours(metadata: &fs::Metadata) -> bool {
    metadata.uid() == 0 || metadata.uid() == nix::unistd::geteuid().as_raw()
}

/// Leaves the living in the record, without ourselves, and returns those that do not drain yet.
fn living(record: &mut Record, ourselves: Identity) -> Vec<Predecessor> {
    let mut predecessors = Vec::new();
    record.generations.retain(|generation| {
        let daemon = generation.daemon().filter(|daemon| *daemon != ourselves);
        if let Some((daemon, process)) = daemon.and_then(|daemon| Some((daemon, find(daemon)?))) {
            if !generation.is_draining() {
                predecessors.push(Predecessor {
                    number: generation.number,
                    daemon,
                    process,
                    drain: generation.drain(),
                });
            }
            return true;
        }
        // A keeper without its daemon may hold the sockets for the next one.
        generation
            .keeper()
            .is_some_and(|keeper| find(keeper).is_some())
    });
    predecessors
}

/// The process itself, or why there is no descriptor for it; `None` if it has ended.
fn find(identity: Identity) -> Option<io::Result<OwnedFd>> {
    // The descriptor first: if its process had ended and another had got its PID, the start time would tell.
    let process = sys::pidfd_open(identity.pid);
    (start_time(&identity.pid.to_string()).ok()? == identity.start).then_some(process)
}

fn myself() -> io::Result<Identity> {
    let pid = i32::try_from(std::process::id()).map_err(io::Error::other)?;
    Ok(Identity {
        pid,
        start: start_time("self")?,
    })
}

/// Field 22 of `/proc/PID/stat`; an error if there is no such process, or only its zombie.
fn start_time(process: &str) -> io::Result<u64> {
    let stat = fs::read(format!("/proc/{process}/stat"))?;
    parse_start_time(&String::from_utf8_lossy(&stat))
        .ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))
}

pub(crate) fn parse_start_time(stat: &str) -> Option<u64> {
    // The name of the program stands in parentheses and may hold any, so the last one counts.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    if ["Z", "X", "x"].contains(&state) {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_field_22() {
        let stat = "7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 1234 20";
        assert_eq!(parse_start_time(stat), Some(1234));
        assert_eq!(parse_start_time(&stat.replace(" S ", " Z ")), None);
        assert_eq!(parse_start_time("7 (x"), None);
        assert_eq!(start_time("self").unwrap(), myself().unwrap().start);
    }
}
