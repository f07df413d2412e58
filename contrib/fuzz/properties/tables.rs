//! `/proc/net`, `/proc/PID/task/TID/syscall` and what sock_diag(7) answers. The kernel writes them, but for the
//! paths of Unix sockets, which are anybody's.

use std::fs;

use super::text;
use crate::check::reading::sockets::parse;
use crate::listen::address::Kind;
use crate::ready::bound::{self, Bound};
use crate::ready::listening::{internet, socket_address, unix};
use crate::ready::waiting::Call;

thread_local! {
    static SCRATCH: tempfile::TempDir = tempfile::tempdir_in("/dev/shm").expect("a place for scratch files");
}

pub(super) fn sockets(data: &[u8]) {
    let lossy = String::from_utf8_lossy(data);
    for line in lossy.lines() {
        by_two(line);
    }
    if let Some(text) = text(data) {
        call(text);
    }
    bound_to(&lossy);
}

/// `check` and the probe `listen:` read the same table.
fn by_two(line: &str) {
    for (is_tcp, state) in [(true, "0A"), (false, "07")] {
        let Some(found) = parse(line, is_tcp) else {
            continue;
        };
        let shown = line.split_ascii_whitespace().nth(1).unwrap_or_default();
        let digits = shown.split(':').next().unwrap_or_default().len();
        if matches!(digits, 8 | 32) {
            let at = socket_address(shown).expect("the other reader knows it");
            assert_eq!((at.ip(), at.port()), (found.address, found.port));
            assert_eq!(internet(line, state, |_| true), Some(found.inode));
        }
        assert_eq!(internet(line, state, |_| false), None);
    }
}

fn call(text: &str) {
    let task = SCRATCH.with(|scratch| scratch.path().to_owned());
    fs::write(task.join("syscall"), text).expect("a scratch file");
    if let Some(call) = Call::of(&task) {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        assert_eq!(words[0].parse(), Ok(call.number));
        let argument = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16);
        assert_eq!(argument(words[1]), Ok(call.first));
        assert_eq!(argument(words[2]), Ok(call.second));
    }
}

/// A socket is found by its own name, whatever that is, and by no other.
fn bound_to(name: &str) {
    let table = || name.lines().map(str::to_owned);
    for number in unix(table(), Kind::UnixStream, "/run/app.sock".to_owned()) {
        assert!(name.contains(&number.to_string()));
    }
    let name = name.replace('\n', "?");
    if name.is_empty() {
        return;
    }
    let line = format!("ffff888003a3c000: 00000002 00000000 00010000 0001 01 881230 {name}");
    let found = |name: &str| {
        let table = [line.clone()].into_iter();
        unix(table, Kind::UnixStream, name.to_owned()).next()
    };
    assert_eq!(found(&name), Some(881_230));
    assert_eq!(found(&format!("{name}x")), None);
    assert_eq!(
        found(&name[name.chars().next().map_or(0, char::len_utf8)..]),
        None
    );
}

/// Every message lies in the answer, and each step leads on.
pub(super) fn netlink(data: &[u8]) {
    let mut rest = data;
    let mut count = 0;
    while let Some((_, message, behind)) = bound::next(rest) {
        assert!(behind.len() < rest.len());
        assert!(16 + message.len() <= rest.len());
        count += 1;
        if let Some(bound) = Bound::parse(message) {
            assert_eq!((bound.kind, bound.state), (message[1], message[2]));
            assert_eq!(bound.number.to_ne_bytes(), message[4..8]);
            let has = |number: u32| {
                let mut words = message.windows(4);
                words.any(|word| word == number.to_ne_bytes())
            };
            assert!(
                bound
                    .file
                    .is_none_or(|(inode, device)| has(inode) && has(device))
            );
        }
        rest = behind;
    }
    assert!(count <= data.len() / 16 + 1);
}
