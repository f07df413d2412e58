//! A pseudo-terminal, and what is to be seen on it, as far as the demo goes: it writes whole rows at their places.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

use crate::support::{PATIENCE, process};

pub(super) struct Terminal {
    keyboard: File,
    /// As the programs on it have it.
    device: OwnedFd,
    shown: Arc<Shown>,
    /// Dropped with it: whoever follows what is written stops, and nobody keeps the terminal open.
    _closing: UnixStream,
}

#[derive(Default)]
struct Shown {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) rows: Vec<String>,
    /// What was written while there was no picture.
    pub(super) printed: String,
    /// All that was written, as it came.
    pub(super) bytes: String,
    pub(super) has_picture: bool,
    pub(super) hides_cursor: bool,
}

impl State {
    pub(super) fn row(&self, text: &str) -> Option<usize> {
        self.rows.iter().position(|row| row.contains(text))
    }
}

impl Terminal {
    pub(super) fn new(rows: u16, columns: u16) -> Terminal {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let device = open(&name, flags, Mode::empty()).unwrap();
        let (closed, closing) = UnixStream::pair().unwrap();
        let terminal = Terminal {
            keyboard: File::from(master),
            device,
            shown: Arc::default(),
            _closing: closing,
        };
        terminal.resize(rows, columns);
        let written = terminal.keyboard.try_clone().unwrap();
        let shown = Arc::clone(&terminal.shown);
        thread::spawn(move || follow(&written, closed.as_fd(), &shown));
        terminal
    }

    pub(super) fn device(&self) -> OwnedFd {
        self.device.try_clone().unwrap()
    }

    /// All of them, to be compared.
    pub(super) fn settings(&self) -> String {
        format!("{:?}", tcgetattr(&self.device).unwrap())
    }

    pub(super) fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.keyboard, size).unwrap();
    }

    pub(super) fn press(&self, keys: &str) {
        (&self.keyboard).write_all(keys.as_bytes()).unwrap();
    }

    pub(super) fn state(&self) -> State {
        self.shown.state.lock().unwrap().clone()
    }

    /// Waits until that is to be seen.
    #[track_caller]
    pub(super) fn wait(&self, what: &str, wanted: impl Fn(&State) -> bool) -> State {
        let state = self.shown.state.lock().unwrap();
        let (state, waited) = self
            .shown
            .news
            .wait_timeout_while(state, PATIENCE, |state| !wanted(state))
            .unwrap();
        let seen = state.clone();
        drop(state);
        let (picture, printed) = (seen.rows.join("\n"), &seen.printed);
        assert!(!waited.timed_out(), "{what}:\n{picture}\n{printed}");
        seen
    }

    #[track_caller]
    pub(super) fn wait_for(&self, text: &str) -> State {
        self.wait(text, |state| {
            state.row(text).is_some() || state.printed.contains(text)
        })
    }
}

fn follow(mut written: &File, closed: impl AsFd, shown: &Shown) {
    let mut screen = Screen::default();
    let mut undecoded = Vec::new();
    let mut buffer = [0; 4096];
    // For as long as it takes: the end of the test ends it.
    let forever = Duration::from_secs(3600);
    while process::wait_any_readable(&[closed.as_fd(), written.as_fd()], Instant::now() + forever)
        == Some(1)
    {
        let Ok(read @ 1..) = written.read(&mut buffer) else {
            return;
        };
        undecoded.extend_from_slice(&buffer[..read]);
        // Ctrl-C throws away what nobody has read yet, half a character too. Only at the end it may still become one.
        let begun = undecoded.utf8_chunks().last();
        let begun = begun.map_or(0, |chunk| chunk.invalid().len());
        let text: Vec<u8> = undecoded.drain(..undecoded.len() - begun).collect();
        let text = String::from_utf8_lossy(&text);
        let mut state = shown.state.lock().unwrap();
        state.bytes.push_str(&text);
        screen.write(&text, &mut state);
        shown.news.notify_all();
    }
}

#[derive(Default)]
struct Screen {
    /// Perhaps the beginning of a sequence.
    unread: String,
    /// Where it is written.
    row: usize,
}

impl Screen {
    fn write(&mut self, text: &str, state: &mut State) {
        self.unread.push_str(text);
        let all = std::mem::take(&mut self.unread);
        let mut rest = all.as_str();
        while let Some((before, from)) = rest.split_once('\x1b') {
            self.put(before, state);
            let Some(end) = from.find(|char: char| char.is_ascii_alphabetic()) else {
                self.unread = format!("\x1b{from}");
                return;
            };
            self.obey(&from[..=end], state);
            rest = &from[end + 1..];
        }
        self.put(rest, state);
    }

    fn put(&self, text: &str, state: &mut State) {
        if !state.has_picture {
            state.printed.push_str(text);
        } else if let Some(row) = state.rows.get_mut(self.row) {
            row.push_str(text);
        }
    }

    fn obey(&mut self, sequence: &str, state: &mut State) {
        match sequence {
            "[?1049h" => state.has_picture = true,
            "[?1049l" => state.has_picture = false,
            "[?25l" => state.hides_cursor = true,
            "[?25h" => state.hides_cursor = false,
            "[2J" => state.rows.clear(),
            _ => {}
        }
        let place = sequence
            .strip_prefix('[')
            .and_then(|place| place.strip_suffix(";1H"));
        if let Some(place) = place {
            self.row = place.parse::<usize>().unwrap() - 1;
            if state.rows.len() <= self.row {
                state.rows.resize(self.row + 1, String::new());
            }
            state.rows[self.row].clear();
        }
    }
}
