//! `/proc/PID/stat` and `/proc/PID/status`: the kernel writes them, but for the name, which is any bytes that the
//! process likes.

use super::client::succession::parse_start_time;
use crate::process::{Stat, Status};

const BEHIND: &[u8] = b") S 7 42 43 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 88123 1 2\n";
const STATUS: &str = "State:\tS (sleeping)\nUid:\t0\t65534\t0\t0\nSigBlk:\t0000000000000800\nSigIgn:\t0000000000000001\nSigCgt:\t0000000180004002\n";

pub(super) fn proc(data: &[u8]) {
    as_it_is(data);
    named(data);
}

fn as_it_is(data: &[u8]) {
    let lossy = String::from_utf8_lossy(data);
    let clients = parse_start_time(&lossy);
    if let Some(stat) = Stat::parse(data) {
        // Two readers of the same field.
        let dead = matches!(stat.state, b'Z' | b'X' | b'x');
        let end = data
            .iter()
            .rposition(|byte| *byte == b')')
            .expect("it was read");
        let word = data[end + 1..]
            .split(u8::is_ascii_whitespace)
            .find(|word| !word.is_empty());
        if word.is_some_and(|word| word.len() == 1) {
            assert_eq!(clients, (!dead).then_some(stat.start));
        }
    }
    let status = Status::parse(&lossy);
    let later = Status::parse(&format!("Weather:\tfine\n{lossy}"));
    assert_eq!(later, status);
}

/// Whatever its name is, it changes nothing.
fn named(name: &[u8]) {
    let stat = [b"42 (", name, BEHIND].concat();
    let stat = Stat::parse(&stat).expect("the fields are there");
    assert_eq!((stat.state, stat.parent), (b'S', 7));
    assert_eq!((stat.group, stat.session, stat.start), (42, 43, 88123));
    // The kernel writes a newline in a name as two characters there.
    let name = String::from_utf8_lossy(name).replace('\n', "\\n");
    let status = Status::parse(&format!("Name:\t{name}\n{STATUS}"));
    assert_eq!(status, Status::parse(STATUS));
    assert_eq!((status.user, status.blocked), (65534, 0x800));
}
