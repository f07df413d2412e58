//! The whole command line (§9).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use crate::cli::{self, Invocation, Refusal};
use crate::generation::PrepareWhen;
use crate::listen;

pub(super) fn arguments(data: &[u8]) {
    // Nobody can type a NUL.
    let words = data.split(|byte| *byte == 0).take(40);
    let words = words.map(|word| OsString::from_vec(word.to_vec()));
    let all: Vec<OsString> = [OsString::from("seamless-run")]
        .into_iter()
        .chain(words)
        .collect();
    match cli::parse(&all) {
        Ok(Invocation::Launch(service)) => {
            assert!(service.pid_file.is_absolute());
            for signal in [
                service.prepare_signal,
                service.detach_signal,
                service.drain.signal,
            ] {
                assert!(signal.can_be_caught());
            }
            let policy = &service.policy;
            let told_apart = service.prepare_signal != service.drain.signal;
            assert!(policy.prepare == PrepareWhen::Never || told_apart);
            assert!(service.listen.wanted.len() <= listen::MOST);
            assert!(!service.ready.is_empty());
            assert!(service.notification.is_none_or(|number| number > 2));
            assert!(service.lines().iter().all(|number| *number > 2));
        }
        Ok(Invocation::Notify(message)) => assert!(!message.is_empty()),
        Ok(
            Invocation::Exec(..)
            | Invocation::Rehearse(_)
            | Invocation::Verb(_)
            | Invocation::Check(_),
        ) => {}
        Err(Refusal::Answer(text)) => assert!(!text.is_empty()),
        Err(Refusal::Complaint(line, status)) => {
            assert!([2, 125, 126, 127].contains(&status), "{status}: {line}");
            assert!(!line.is_empty());
        }
    }
    // What cannot be understood as a whole may name a service all the same.
    if let Some(path) = cli::Glimpse::of(&all).pid_file {
        assert!(path.is_absolute());
    }
}
