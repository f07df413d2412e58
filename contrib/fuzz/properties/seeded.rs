//! The properties under `cargo test`: over every committed seed, and over mutations of them, the same ones each time.

use std::fs;
use std::path::PathBuf;

use super::{ALL, Property};

/// For each property. What finds more than that is `contrib/fuzz/run`.
const MUTATIONS: usize = 20_000;
/// The same of whole command lines, which take their time.
const FEWER: usize = 2_000;
const LONGEST: usize = 4096;

/// Words that mean something to one of them.
const WORDS: [&str; 40] = [
    "\n",
    "\r",
    "\0",
    " ",
    "=",
    ":",
    ",",
    "0",
    "1",
    "-1",
    "4294967296",
    "9223372036854775807",
    "READY=1",
    "X_SEAMLESS=",
    "STATUS=",
    "MAINPID=1",
    "FDSTORE=1",
    "generation ",
    "generation=",
    "daemon=",
    "state=",
    "keeper=",
    "socket ",
    "inode=",
    "tcp:",
    "unix:",
    "@",
    "[::1]",
    "seamless-record 1.0\n",
    "seamless-control 1.0 ",
    "failure=",
    "RTMIN+1",
    "none",
    "'",
    "\"",
    "\\",
    "$",
    "seamless-run",
    "\u{e9}",
    ")",
];

/// xorshift64*, so that a failure can be repeated.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 16) as usize % end.max(1)
    }
}

fn seeds(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("contrib/fuzz/corpus")
        .join(name);
    let entries =
        fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{name} has no seeds");
    paths
        .into_iter()
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

fn mutate(data: &mut Vec<u8>, other: &[u8], chance: &mut Chance) {
    let at = chance.below(data.len() + 1);
    let length = chance.below(16).min(data.len() - at);
    match chance.below(8) {
        0 => drop(data.drain(at..at + length)),
        1 if at < data.len() => data[at] ^= 1 << chance.below(8),
        2 if at < data.len() => data[at] = chance.next() as u8,
        3 => data.truncate(at),
        4 => drop(data.splice(at..at, data[at..at + length].to_vec())),
        5 => {
            let from = chance.below(other.len() + 1);
            let much = chance.below(64).min(other.len() - from);
            drop(data.splice(at..at + length, other[from..from + much].iter().copied()));
        }
        6 => {
            let word = WORDS[chance.below(WORDS.len())];
            drop(data.splice(at..at + length, word.bytes()));
        }
        _ => {
            let word = WORDS[chance.below(WORDS.len())];
            drop(data.splice(at..at, word.bytes()));
        }
    }
    data.truncate(LONGEST);
}

/// Says for which bytes it does not hold, so that they can become a seed.
fn hold(name: &str, property: Property, data: &[u8], whence: &str) {
    let held = std::panic::catch_unwind(|| property(data));
    if held.is_err() {
        let shown = data.escape_ascii();
        panic!("{name} does not hold for {whence}: b\"{shown}\"");
    }
}

fn over_seeds_and_mutations(name: &str) {
    let (_, property) = ALL.iter().find(|(known, _)| *known == name).unwrap();
    let seeds = seeds(name);
    for (path, seed) in &seeds {
        hold(name, *property, seed, &path.display().to_string());
    }
    let mut chance = Chance(0x5ea_5ea_5ea);
    let count = if name == "arguments" {
        FEWER
    } else {
        MUTATIONS
    };
    for number in 0..count {
        let mut data = seeds[chance.below(seeds.len())].1.clone();
        for _ in 0..=chance.below(6) {
            let other = &seeds[chance.below(seeds.len())].1;
            mutate(&mut data, other, &mut chance);
        }
        hold(name, *property, &data, &format!("mutation {number}"));
    }
}

macro_rules! tests {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            over_seeds_and_mutations(stringify!($name));
        })*

        #[test]
        fn every_property_is_held_here() {
            let mut here = [$(stringify!($name)),*];
            here.sort_unstable();
            let mut all = ALL.map(|(name, _)| name);
            all.sort_unstable();
            assert_eq!(here, all);
        }
    };
}

tests! {
    arguments control environment ini link listen managers netlink notify pid_file proc record script sockets
    supervise typed unit words
}
