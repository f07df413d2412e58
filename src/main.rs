//! `seamless-run`: a launcher between a service supervisor and a daemon, which makes the
//! supervisor's ordinary restart a zero-downtime restart.
//!
//! The launcher is what the supervisor started ([`launcher`]); behind it the keeper starts the
//! daemon and stays with it for life ([`keeper`]). `docs/protocol.md` says what passes between
//! them, the daemon and the files.

#[cfg(not(target_os = "linux"))]
compile_error!(
    "seamless-run runs on Linux; daemons that link seamless-client build on other Unixes, too (docs/portability.md)"
);

mod check;
mod child;
mod cli;
mod clock;
mod control;
mod daemon;
mod departure;
mod events;
mod files;
mod generation;
mod inherited;
mod keeper;
mod launcher;
mod link;
mod linux;
mod listen;
mod notify;
mod paint;
mod predecessors;
#[cfg(any(test, fuzzing))]
#[path = "../contrib/fuzz/properties/mod.rs"]
pub mod properties;
mod ready;
mod rehearsal;
mod report;
mod shell;
mod signals;
mod supervisor;
mod sys;
mod verbs;

use std::io::Write;

use cli::{Glimpse, Invocation, Refusal};
use departure::{Ending, depart};
use linux::{ancillary, changes, process};

/// musl's own takes a page or more for each size of what is asked for, and returns to the kernel what is
/// wanted again a moment later (docs/weight.md).
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() {
    let arguments: Vec<_> = std::env::args_os().collect();
    let ending = match cli::parse(&arguments) {
        Ok(Invocation::Launch(service)) => launcher::run(*service),
        Ok(Invocation::Notify(message)) => Ending::Exited(notify::verb::run(&message)),
        Ok(Invocation::Verb(verb)) => Ending::Exited(verbs::run(&verb)),
        Ok(Invocation::Check(request)) => Ending::Exited(check::run(*request)),
        Ok(Invocation::Rehearse(meant)) => Ending::Exited(rehearsal::run(&meant)),
        Ok(Invocation::Exec(command, listen)) => {
            let (status, mut line) = daemon::exec_here(&command, &listen);
            if let (departure::NOT_FOUND, Some(meant)) = (status, cli::verb_meant(&arguments)) {
                line.push_str(&format!("; {meant}"));
            }
            fail((status, line))
        }
        Err(Refusal::Complaint(line, status)) => {
            // Its supervisor wanted it to run, and whoever serves shall not take its absence for a
            // stop (R16).
            let seen = Glimpse::of(&arguments);
            let is_wanted = status == departure::FAILED && !seen.is_rehearsal;
            if let (true, Some(pid_file)) = (is_wanted, seen.pid_file) {
                let files = files::Files::beside(&pid_file);
                control::report_failed_start(&files, &line);
                notify::report_failed_start(&line);
            }
            fail((status, line))
        }
        Err(Refusal::Answer(text)) => {
            // A reader that has gone away has read enough.
            let _ = std::io::stdout().write_all(text.as_bytes());
            Ending::Exited(departure::verb::YES)
        }
    };
    depart(ending)
}

fn fail((status, line): (i32, String)) -> Ending {
    report::complain(&line);
    Ending::Exited(status)
}
