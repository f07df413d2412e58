//! What a parent does from its own exec to its daemon's: system calls, programs, instructions.

use std::{fs, path::Path};

use super::{
    Outcome,
    programs::{Programs, Who, packaged},
    support::{Scratch, Spawn},
};

#[derive(Clone, Debug)]
pub(crate) struct Cost {
    pub(crate) who: Who,
    pub(crate) calls: Option<usize>,
    /// Its own exec and the daemon's are two.
    pub(crate) execs: Option<usize>,
    pub(crate) instructions: Option<u64>,
}

pub(crate) fn measure(
    programs: &Programs,
    scratch: &Scratch,
    files: &Path,
    with_instructions: bool,
) -> Outcome<Vec<Cost>> {
    let strace = packaged("strace", "strace")?;
    let mut costs = Vec::new();
    for parent in &programs.parents {
        let daemon = [programs.small(), "end"];
        let trace = scratch.join("trace");
        let name = format!("cost-{}", parent.who as usize);
        let traced = Spawn::new(scratch, &strace)
            .args(["-f", "-qq", "-s", "4096", "-o"])
            .arg(&trace)
            .args(parent.command(files, &name, &daemon));
        traced.finish().expect_success();
        let (calls, execs) = count(&fs::read_to_string(&trace)?, programs.small());
        // Go's runtime does not get on at that speed: its threads wake each other for ever.
        let instructions = if with_instructions && parent.who != Who::Go {
            let name = format!("steps-{}", parent.who as usize);
            let counted = Spawn::new(scratch, &programs.count)
                .arg(&programs.small)
                .args(parent.command(files, &name, &daemon));
            counted.finish().stdout.trim().parse().ok()
        } else {
            None
        };
        costs.push(Cost {
            who: parent.who,
            calls,
            execs,
            instructions,
        });
    }
    Ok(costs)
}

/// Of all processes, between the first exec and the daemon's; and how many execs there were with both.
fn count(trace: &str, daemon: &str) -> (Option<usize>, Option<usize>) {
    let wanted = format!("execve(\"{daemon}\"");
    let (mut calls, mut execs) = (0, 0);
    for line in trace.lines() {
        let Some((_, call)) = line.split_once(' ') else {
            continue;
        };
        let call = call.trim_start();
        // Signals, ends, and the second half of a call that another one came into.
        if call.starts_with(['-', '+', '<']) {
            continue;
        }
        if call.starts_with("execve(") {
            execs += 1;
        }
        if execs > 1 && call.starts_with(&wanted) {
            return (Some(calls), Some(execs));
        }
        calls += usize::from(!call.starts_with("execve("));
    }
    (None, None)
}
