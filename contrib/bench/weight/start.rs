//! What a parent adds to the start of a command, and to a command as a whole.

use std::{
    ffi::OsString,
    io::Read,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use nix::time::{ClockId, clock_gettime};

use super::{
    Outcome,
    programs::{Programs, Who, packaged},
    samples::{Samples, microseconds},
    support::scratch,
};

#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) who: Who,
    /// `X -- true` over `true`, in pairs.
    pub(crate) total: Samples,
    /// To the daemon's first own instruction, over the same without a parent.
    pub(crate) to_daemon: Samples,
}

/// In rounds: each has all of them, beginning with another one each time.
pub(crate) fn measure(
    programs: &Programs,
    files: &Path,
    mark: &Path,
    rounds: usize,
) -> Outcome<Vec<Start>> {
    let nothing = packaged("true", "coreutils")?;
    let nothing = [nothing.to_str().unwrap_or_default()];
    let stamp = [programs.small(), "stamp"];
    let bare = |words: &[&str]| -> Vec<OsString> { words.iter().map(OsString::from).collect() };
    let mut starts: Vec<Start> = programs
        .parents
        .iter()
        .map(|parent| Start {
            who: parent.who,
            total: Samples::default(),
            to_daemon: Samples::default(),
        })
        .collect();
    let count = starts.len();
    // The first ones find nothing in any cache, and are not counted.
    let warm = rounds.div_ceil(20);
    for round in 0..warm + rounds {
        for turn in 0..count {
            let at = (turn + round) % count;
            let (Some(parent), Some(start)) = (programs.parents.get(at), starts.get_mut(at)) else {
                continue;
            };
            let alone = total(&bare(&nothing), mark)?;
            let whole = total(&parent.command(files, "start", &nothing), mark)?;
            let alone_to_daemon = to_daemon(&bare(&stamp), mark)?;
            let whole_to_daemon = to_daemon(&parent.command(files, "start", &stamp), mark)?;
            if round >= warm {
                start.total.add(whole - alone);
                start.to_daemon.add(whole_to_daemon - alone_to_daemon);
            }
        }
    }
    Ok(starts)
}

fn command(words: &[OsString], mark: &Path) -> Outcome<Command> {
    let (program, rest) = words.split_first().ok_or("a command without a word")?;
    let mut command = Command::new(program);
    command
        .args(rest)
        .env(scratch::VARIABLE, mark)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ok(command)
}

/// From before its start until it has been waited for.
fn total(words: &[OsString], mark: &Path) -> Outcome<f64> {
    let mut command = command(words, mark)?;
    let began = Instant::now();
    let status = command.spawn()?.wait()?;
    let took = began.elapsed();
    if !status.success() {
        return Err(format!("{words:?}: {status}").into());
    }
    Ok(microseconds(took))
}

/// From before its start to the time that the daemon writes.
fn to_daemon(words: &[OsString], mark: &Path) -> Outcome<f64> {
    let mut command = command(words, mark)?;
    command.stdout(Stdio::piped());
    let began = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    let mut child = command.spawn()?;
    let mut text = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut text)?;
    }
    let status = child.wait()?;
    let then: i64 = text
        .trim()
        .parse()
        .map_err(|_| format!("{words:?}: {status}, and no time from its daemon"))?;
    let began = began.tv_sec() * 1_000_000_000 + began.tv_nsec();
    Ok((then - began) as f64 / 1e3)
}
