//! What a stop does where no keeper does it: by the record and pidfds alone (R18, R20, R21).

use std::fs;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Target;
use super::contact::{NoAnswer, PATIENCE, Way};
use crate::clock::Clock;
use crate::daemon::end_commands_of;
use crate::events;
use crate::files::{Disbelief, Entry, Found, Lock, Record, State};
use crate::process::{Identity, Process, Stat};
use crate::report::{Report, cause};
use crate::signals::Signal;

/// From the drain signal to KILL.
const STOP: Duration = Duration::from_secs(30);
/// The kernel needs no longer, but for a process in an uninterruptible wait.
const KILLED: Duration = Duration::from_secs(2);

/// A keeper that was stopped (SIGSTOP) stands in the way.
pub(super) fn kill_keeper(keeper: Identity, report: &Report) {
    let Ok(Some(process)) = keeper.open() else {
        return;
    };
    let pid = process.pid;
    report.warn(&format!(
        "the keeper {pid} does not answer within {} s; it is killed",
        PATIENCE.as_secs()
    ));
    match process.send(Signal::KILL) {
        Ok(()) => wait_for_ends(&mut vec![(0, process)], Instant::now() + KILLED, |_, _| {}),
        Err(error) => report.warn(&format!(
            "cannot kill the keeper {pid}: {}; its daemon is ended without it",
            cause(&error)
        )),
    }
}

/// What the keepers that are lost have left of commands.
pub(super) fn end_commands(target: &Target) {
    let record = target.files.read_record().unwrap_or_default();
    for entry in &record.generations {
        if !entry.keeper.is_some_and(Identity::is_alive) {
            end_commands_of(entry.daemon.pid, entry.number, &target.files.pid_file);
        }
    }
}

/// The drain signal, and after a while KILL. Says of each when it has ended, and gives those that could not
/// be, by generation, PID and reason.
pub(super) fn end<'a>(
    entries: impl Iterator<Item = &'a Entry>,
    mut say: impl FnMut(u32, i32),
) -> Vec<(u32, i32, String)> {
    let (mut held, mut stubborn) = (Vec::new(), Vec::new());
    let clock = Clock::start();
    let mut patience = STOP;
    for entry in entries {
        let (number, pid) = (entry.number, entry.daemon.pid);
        // A second signal would cut a drain short (R15).
        let told = entry.state == State::Draining;
        if let Some(until) = entry.until.and_then(|until| clock.at_boot_time(until)) {
            let left = until.saturating_duration_since(clock.now());
            patience = patience.min(left);
        }
        let tell = |process: &Process| {
            if told {
                Ok(())
            } else {
                entry.drain.send_to(process).map(drop)
            }
        };
        match entry.open_daemon() {
            Ok(Some(process)) => match tell(&process) {
                Ok(()) => held.push((number, process)),
                Err(error) => stubborn.push((number, pid, cause(&error))),
            },
            // Only its keeper was left.
            Ok(None) => {}
            Err(error) => stubborn.push((number, pid, cause(&error))),
        }
    }
    wait_for_ends(&mut held, Instant::now() + patience, &mut say);
    for (_, process) in &held {
        // Should it fail, the wait that follows says so.
        let _ = process.send_to_group(Signal::KILL);
    }
    wait_for_ends(&mut held, Instant::now() + KILLED, &mut say);
    let deaf = |(number, process): (u32, Process)| {
        (number, process.pid, "it does not end after KILL".to_owned())
    };
    stubborn.extend(held.into_iter().map(deaf));
    stubborn
}

/// Waits on the pidfds, says of each when it has ended, and leaves those that have not.
fn wait_for_ends(held: &mut Vec<(u32, Process)>, until: Instant, mut say: impl FnMut(u32, i32)) {
    while !held.is_empty() {
        let now = Instant::now();
        held.retain(|(number, process)| {
            let ended = process.has_ended();
            if ended {
                say(*number, process.pid);
            }
            !ended
        });
        if now >= until {
            return;
        }
        let sources: Vec<_> = held.iter().map(|(_, process)| process.as_fd()).collect();
        if !sources.is_empty() {
            events::wait(&sources, None, Some(until));
        }
    }
}

/// Removes what the generations that have ended left behind, unless anybody lives (R21).
pub(super) fn clean_up(target: &Target, daemons: &[i32]) -> Result<()> {
    let files = &target.files;
    let left = [
        &files.record,
        &files.pid_file,
        &files.socket,
        &files.new_socket,
    ];
    if !left.iter().any(|path| fs::symlink_metadata(path).is_ok()) {
        return Ok(());
    }
    let Some(lock) = Lock::try_take(&files.lock)? else {
        // They are a successor's.
        return Ok(());
    };
    let mut record = match files.read_record() {
        Ok(record) => record,
        Err(Disbelief::Missing | Disbelief::EarlierBoot) => Record::default(),
        Err(Disbelief::Unreadable(_) | Disbelief::Suspicious(_)) => return Ok(()),
    };
    record.retain_living();
    let listening = target.connect(Way::Path);
    if !record.generations.is_empty() || !matches!(listening, Err(NoAnswer::Nobody)) {
        return Ok(());
    }
    files.write_record(&lock, &record)?;
    if matches!(files.found(), Found::Pid(pid) if daemons.contains(&pid)) {
        files.remove_pid_file(&lock)?;
    }
    // Nobody listens at it, and nobody but the lock's holder puts another there.
    files.remove_socket(&lock)
}

/// Who started the launcher, by name.
pub(super) fn supervisor(launcher: Identity) -> Option<String> {
    let parent = Stat::of(launcher.pid).ok()?.parent;
    let name = fs::read(format!("/proc/{parent}/comm")).unwrap_or_default();
    let name = String::from_utf8_lossy(&name);
    Some(format!("{}, pid {parent}", name.trim_end()))
}
