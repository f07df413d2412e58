//! What makes the command line a pleasure: help, slips that are seen through, `--dry-run`, colours, completions, and
//! the priorities of log lines.

mod colours;
mod completions;
mod journal;
mod rehearsal;
mod slips;

use crate::support::{Finished, Scratch, Spawn, program, tool};

/// The program with these words, run to its end.
fn run(scratch: &Scratch, words: &[&str]) -> Finished {
    Spawn::new(scratch, program()).args(words).finish()
}

/// The same at a terminal: what that gets.
fn at_terminal(scratch: &Scratch, words: &[&str], environment: &[(&str, &str)]) -> String {
    let quoted = words.iter().map(|word| format!(" '{word}'"));
    let line = format!("{}{}", program().display(), quoted.collect::<String>());
    let mut script = Spawn::new(scratch, tool("script", "bsdutils"))
        .args(["-q", "-e", "-c", &line, "/dev/null"])
        .env("TERM", "xterm")
        .env_remove("NO_COLOR");
    for (name, value) in environment {
        script = script.env(name, value);
    }
    script.finish().stdout
}
