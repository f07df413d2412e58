//! What the processes of a test write, as a stream of events.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use rustix::io::ioctl_fionread;

use super::{PATIENCE, Scratch};

/// A FIFO that services append to; a thread reads it all the time, so nobody blocks on its 64 KiB.
///
/// Successive waits go forward: each begins after the line that the last one found. Clones share that cursor.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    path: PathBuf,
    lines: Arc<Lines>,
    /// The reading thread leaves when the last clone has closed this.
    _open: Arc<UnixStream>,
}

#[derive(Debug)]
struct Lines {
    /// Read by whoever holds the lock, and nobody else.
    fifo: File,
    state: Mutex<State>,
    arrived: Condvar,
    begun: Instant,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<(Duration, String)>,
    cursor: usize,
    /// Behind the last whole line.
    rest: Vec<u8>,
}

impl Log {
    pub(crate) fn new(scratch: &Scratch, name: &str) -> Log {
        let path = scratch.join(name);
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        // For daemons of every user; a mode given to mkfifo is cut by the umask.
        fs::set_permissions(&path, Permissions::from_mode(0o622)).unwrap();
        // For writing too: there is always a reader and a writer, so that no open blocks and no read sees an end.
        let fifo = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        let (open, closed) = UnixStream::pair().unwrap();
        let lines = Arc::new(Lines {
            fifo,
            state: Mutex::default(),
            arrived: Condvar::new(),
            begun: Instant::now(),
        });
        let reader = Arc::clone(&lines);
        thread::spawn(move || reader.read(&closed));
        Log {
            path,
            lines,
            _open: Arc::new(open),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A writing end, for a child's stdout or stderr.
    pub(crate) fn writer(&self) -> Stdio {
        let fifo = OpenOptions::new().append(true).open(&self.path);
        Stdio::from(fifo.unwrap())
    }

    /// The first line after the cursor that `wanted` takes; panics with all lines if there is none in a minute.
    pub(crate) fn wait(&self, wanted: impl FnMut(&str) -> bool) -> String {
        self.wait_described("the line waited for", wanted)
    }

    /// The first line after the cursor that contains `part`.
    pub(crate) fn wait_for(&self, part: &str) -> String {
        self.wait_described(&format!("`{part}`"), |line| line.contains(part))
    }

    /// The first of all lines that contains `part`, before the cursor or after it; the cursor stays.
    pub(crate) fn wait_seen(&self, part: &str) -> String {
        let cursor = std::mem::take(&mut self.lines.lock().cursor);
        let line = self.wait_for(part);
        self.lines.lock().cursor = cursor;
        line
    }

    /// Waits until each part was seen after the cursor, in any order: for lines of processes that race.
    /// The lines come in the order of `parts`, a line for each; the cursor is then after the last of them.
    pub(crate) fn wait_for_all(&self, parts: &[&str]) -> Vec<String> {
        let mut found: Vec<Option<String>> = vec![None; parts.len()];
        self.wait_described(&format!("all of {parts:?}"), |line| {
            let open = (0..parts.len())
                .find(|&index| found[index].is_none() && line.contains(parts[index]));
            if let Some(index) = open {
                found[index] = Some(line.to_owned());
            }
            found.iter().all(Option::is_some)
        });
        found.into_iter().flatten().collect()
    }

    /// Every line so far, before the cursor or after it.
    pub(crate) fn lines(&self) -> Vec<String> {
        let state = self.lines.lock();
        state.lines.iter().map(|(_, line)| line.clone()).collect()
    }

    /// How many lines contain `part` so far.
    pub(crate) fn count(&self, part: &str) -> usize {
        let state = self.lines.lock();
        state
            .lines
            .iter()
            .filter(|(_, line)| line.contains(part))
            .count()
    }

    /// How many lines there are so far.
    pub(crate) fn length(&self) -> usize {
        self.lines.lock().lines.len()
    }

    /// The first line from this one on, counted from 0, that `wanted` takes; None if it has not come by then. The
    /// cursor stays.
    pub(crate) fn seen_by(
        &self,
        deadline: Instant,
        from: usize,
        mut wanted: impl FnMut(&str) -> bool,
    ) -> Option<String> {
        let mut state = self.lines.lock();
        let mut next = from;
        loop {
            while let Some((_, line)) = state.lines.get(next) {
                if wanted(line) {
                    return Some(line.clone());
                }
                next += 1;
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            (state, _) = (self.lines.arrived)
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Every line, each after the time that had passed since the log was made.
    pub(crate) fn listing(&self) -> String {
        self.lines.lock().listing()
    }

    fn wait_described(&self, what: &str, mut wanted: impl FnMut(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.lines.lock();
        let mut next = state.cursor;
        loop {
            while next < state.lines.len() {
                next += 1;
                let line = &state.lines[next - 1].1;
                if wanted(line) {
                    let line = line.clone();
                    state.cursor = next;
                    return line;
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "{what} did not come after line {}:{}",
                state.cursor,
                state.listing()
            );
            let woken = self.lines.arrived.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Lines {
    /// With all that was written until now: whoever has seen a process end finds the lines that it wrote, though the
    /// reading thread has not had its turn. A test that panicked in a wait has not spoiled them.
    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.take(&mut state);
        state
    }

    fn read(&self, closed: &UnixStream) {
        loop {
            let mut wait = [
                PollFd::new(self.fifo.as_fd(), PollFlags::POLLIN),
                PollFd::new(closed.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut wait, PollTimeout::NONE) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(error) => panic!("poll: {error}"),
            }
            if wait[1].any() == Some(true) {
                return;
            }
            drop(self.lock());
        }
    }

    /// Takes the whole lines that there are, and no more than what waits now: somebody may write without end.
    fn take(&self, state: &mut State) {
        let mut waits = ioctl_fionread(&self.fifo).unwrap();
        let mut buffer = vec![0; 1 << 16];
        while waits > 0 {
            let read = (&self.fifo).read(&mut buffer).unwrap();
            state.rest.extend_from_slice(&buffer[..read]);
            waits = waits.saturating_sub(read as u64);
        }
        let Some(end) = state.rest.iter().rposition(|&byte| byte == b'\n') else {
            return;
        };
        let at = self.begun.elapsed();
        let whole: Vec<u8> = state.rest.drain(..=end).collect();
        for line in whole[..end].split(|&byte| byte == b'\n') {
            let text = String::from_utf8_lossy(line).into_owned();
            state.lines.push((at, text));
        }
        self.arrived.notify_all();
    }
}

impl State {
    fn listing(&self) -> String {
        let lines = self.lines.iter();
        let lines = lines.map(|(at, line)| format!("\n    {:9.4} {line}", at.as_secs_f64()));
        lines.collect::<Vec<_>>().concat()
    }
}
