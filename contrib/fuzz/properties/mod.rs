//! What has to hold of everything that is read, whatever the bytes: README.md has them as a table.
//!
//! Each property is a function of bytes that panics where it does not hold. `cargo test` holds all of them against
//! their corpora and against mutations of these ([`seeded`]), the fuzz targets against whatever finds new ways.
#![expect(
    clippy::expect_used,
    reason = "what does not hold panics, in tests and while fuzzing"
)]

mod arguments;
mod control;
mod environment;
mod link;
mod listen;
mod managers;
mod notify;
mod pid_file;
mod proc;
mod record;
mod script;
mod supervise;
mod tables;
mod typed;
mod unit;

#[cfg(test)]
mod facts;
#[cfg(test)]
mod seeded;

/// What the client crate reads, whose modules are its own affair. Its other half is not there.
#[allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    reason = "only what reads is called from here; the client crate calls the rest"
)]
#[path = "../../../src/client/src"]
pub(crate) mod client {
    pub(crate) mod environment;
    mod error;
    pub(crate) mod files;
    pub(crate) mod inherited;
    mod listeners;
    pub(crate) mod record;
    pub(crate) mod signals;
    pub(crate) mod succession;
    mod sys;
    pub(crate) mod wire;
}

/// Holds that property against these bytes; panics where it does not hold. For the targets.
#[cfg(fuzzing)]
pub fn check(name: &str, data: &[u8]) {
    let mut all = ALL.iter();
    let (_, property) = all
        .find(|(known, _)| *known == name)
        .unwrap_or_else(|| panic!("there is no property {name}"));
    property(data);
}

pub(crate) type Property = fn(&[u8]);

/// By the names of the targets and of their corpora.
pub(crate) const ALL: [(&str, Property); 18] = [
    ("arguments", arguments::arguments),
    ("control", control::control),
    ("environment", environment::environment),
    ("ini", unit::ini),
    ("link", link::link),
    ("listen", listen::listen),
    ("managers", managers::managers),
    ("notify", notify::notify),
    ("pid_file", pid_file::pid_file),
    ("proc", proc::proc),
    ("record", record::record),
    ("script", script::script),
    ("sockets", tables::sockets),
    ("supervise", supervise::supervise),
    ("typed", typed::typed),
    ("unit", unit::unit),
    ("words", notify::words),
    ("netlink", tables::netlink),
];

/// As the program reads them.
fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// Where a line more can stand: one of the ends of lines, chosen by the bytes themselves.
fn with_line(text: &str, line: &str, from: usize) -> String {
    let ends: Vec<usize> = text
        .match_indices('\n')
        .map(|(end, _)| end + 1)
        .filter(|end| *end >= from)
        .collect();
    match ends.get(sum(text) % ends.len().max(1)) {
        Some(end) => format!("{}{line}\n{}", &text[..*end], &text[*end..]),
        None => format!("{text}\n{line}"),
    }
}

/// A choice that depends on all of it.
fn sum(text: &str) -> usize {
    let mix = |sum: usize, byte: u8| sum.wrapping_mul(31).wrapping_add(usize::from(byte));
    text.bytes().fold(7, mix)
}

/// What people read in a log, or on their terminal.
fn assert_one_line(words: &str) {
    assert!(!words.chars().any(char::is_control), "{words:?}");
}
