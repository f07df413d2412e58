//! What is typed.

use std::{
    io::{self, IsTerminal, Read},
    sync::mpsc::Sender,
    thread,
};

use super::{live::Event, story::Action};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Do(Action),
    Pause,
    Quit,
}

fn key(byte: u8) -> Option<Key> {
    match byte {
        b'r' => Some(Key::Do(Action::Restart)),
        b'b' => Some(Key::Do(Action::Crash)),
        b'h' => Some(Key::Do(Action::Hang)),
        b'k' => Some(Key::Do(Action::KillDaemon)),
        b'K' => Some(Key::Do(Action::KillKeeper)),
        b'l' => Some(Key::Do(Action::KillLauncher)),
        b's' => Some(Key::Do(Action::Stop)),
        b' ' => Some(Key::Pause),
        b'q' => Some(Key::Quit),
        _ => None,
    }
}

/// An arrow or a function key is an escape and letters that are not meant as such. What comes in one piece belongs
/// together: the escape key alone takes nothing of what is typed after it.
fn keys(typed: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut typed = typed.iter().copied();
    while let Some(byte) = typed.next() {
        if byte != 0x1b {
            keys.extend(key(byte));
            continue;
        }
        match typed.next() {
            // Up to its last byte.
            Some(b'[') => drop(typed.find(|byte| (0x40..=0x7e).contains(byte))),
            Some(b'O') => drop(typed.next()),
            // With Alt, or nothing.
            Some(_) | None => {}
        }
    }
    keys
}

/// Whether there is a keyboard.
pub(crate) fn listen(events: Sender<Event>) -> bool {
    if !io::stdin().is_terminal() {
        return false;
    }
    thread::spawn(move || {
        let mut typed = [0; 64];
        // No more keys, when the terminal has gone.
        while let Ok(read @ 1..) = io::stdin().read(&mut typed) {
            for key in keys(&typed[..read]) {
                if events.send(Event::Key(key)).is_err() {
                    return;
                }
            }
        }
    });
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_behind_an_escape_are_no_keys() {
        let typed = b"\x1b[A\x1b[15;2l\x1bOl\x1bs k";
        assert_eq!(keys(typed), [Key::Pause, Key::Do(Action::KillDaemon)]);
        assert_eq!(keys(b"\x1b"), []);
        assert_eq!(keys(b"q"), [Key::Quit]);
    }
}
