//! What is passed on to the supervisor: lines of sd_notify(3), and the descriptors that belong to them
//! (R23).

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use rustix::net::sockopt;

/// More than this do not wait for one who does not read, of those that can be missed.
const MOST_PASSING: usize = 64;
/// The same, of all.
const MOST: usize = 1024;

/// Keys that a supervisor shall hear of. Not among them: `MAINPID`, since the launcher is its main
/// process, and `STOPPING`, which would have it wait for the end of a service that goes on (R23).
const PASSED_ON: [&str; 14] = [
    "READY",
    "STATUS",
    "RELOADING",
    "MONOTONIC_USEC",
    "WATCHDOG",
    "WATCHDOG_USEC",
    "EXTEND_TIMEOUT_USEC",
    "FDSTORE",
    "FDSTOREREMOVE",
    "FDNAME",
    "FDPOLL",
    "BARRIER",
    "ERRNO",
    "BUSERROR",
];

/// Of these a later one says all that an earlier one did.
const PASSING: [&str; 5] = [
    "STATUS",
    "WATCHDOG",
    "EXTEND_TIMEOUT_USEC",
    "ERRNO",
    "BUSERROR",
];

/// One datagram for the supervisor.
#[derive(Debug)]
pub(crate) struct Notice {
    pub(crate) text: String,
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl Notice {
    pub(crate) fn new(text: String) -> Notice {
        Notice {
            text,
            descriptors: Vec::new(),
        }
    }

    /// One line for people.
    pub(crate) fn status(words: &str) -> Notice {
        let line = words.replace(char::is_control, " ");
        Notice::new(format!("STATUS={line}"))
    }

    /// The lines of a daemon's message that its supervisor shall hear of, if there are any. `ready`: it
    /// was ready before; the first time is not the daemon's to tell, and a later one ends a reload.
    /// `brings`: there are descriptors, which the caller adds.
    pub(crate) fn of(text: &str, ready: bool, brings: bool) -> Option<Notice> {
        let passed_on = |line: &&str| {
            let key = key_of(line);
            let senseless = !brings && matches!(key, "FDSTORE" | "BARRIER");
            PASSED_ON.contains(&key) && !senseless && (ready || key != "READY")
        };
        let in_its_words = |line| match line {
            "X_SEAMLESS=started" => "READY=1",
            other => other,
        };
        let lines = lines_of(text).map(in_its_words);
        let lines: Vec<&str> = lines.filter(passed_on).collect();
        (!lines.is_empty()).then(|| Notice::new(lines.join("\n")))
    }

    fn says_ready(&self) -> bool {
        lines_of(&self.text).any(|line| line == "READY=1")
    }

    /// Nothing is lost where another one follows.
    fn is_passing(&self) -> bool {
        let mut keys = lines_of(&self.text).map(key_of);
        self.descriptors.is_empty() && keys.all(|key| PASSING.contains(&key))
    }
}

/// systemd takes a carriage return for the end of a line, too: what is judged here is what it reads.
pub(super) fn lines_of(text: &str) -> impl Iterator<Item = &str> {
    text.split(['\n', '\r']).filter(|line| !line.is_empty())
}

fn key_of(line: &str) -> &str {
    line.split('=').next().unwrap_or_default()
}

/// Makes room for another one where too many wait (R24): the oldest that can be missed goes, and where
/// there is no end of the others, the oldest but readiness. Says whether something was lost.
pub(crate) fn make_room<Item>(
    queue: &mut VecDeque<Item>,
    notice: impl Fn(&Item) -> Option<&Notice>,
) -> bool {
    let passing = |item: &Item| notice(item).is_some_and(Notice::is_passing);
    if queue.iter().filter(|item| passing(item)).count() >= MOST_PASSING {
        let oldest = queue.iter().position(passing);
        drop(oldest.and_then(|index| queue.remove(index)));
    }
    if queue.len() < MOST {
        return false;
    }
    let can_go = |item: &Item| notice(item).is_some_and(|notice| !notice.says_ready());
    let oldest = queue.iter().position(can_go);
    drop(oldest.and_then(|index| queue.remove(index)));
    true
}

/// Closes descriptors that are not passed on. A socket that was told to linger would keep whoever closes
/// it last, which is us, for as long as its owner likes.
pub(crate) fn let_go(descriptors: Vec<OwnedFd>) {
    for descriptor in descriptors {
        let _ = sockopt::set_socket_linger(&descriptor, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(text: &str, ready: bool) -> Option<String> {
        Notice::of(text, ready, false).map(|notice| notice.text)
    }

    #[test]
    fn what_concerns_us_alone_is_not_passed_on() {
        assert_eq!(passed("X_SEAMLESS=started", false), None);
        assert_eq!(
            passed("MAINPID=7\nSTOPPING=1\nNOTIFYACCESS=all", true),
            None
        );
        assert_eq!(passed("READY=1\nSTATUS=up", false).unwrap(), "STATUS=up");
        for started in ["READY=1", "X_SEAMLESS=started"] {
            assert_eq!(passed(started, true).unwrap(), "READY=1");
        }
        let reload = "RELOADING=1\nMONOTONIC_USEC=7";
        assert_eq!(passed(reload, true).unwrap(), reload);
    }

    #[test]
    fn what_needs_a_descriptor_goes_with_it_or_not_at_all() {
        assert_eq!(passed("FDSTORE=1\nBARRIER=1", true), None);
        let notice = Notice::of("FDSTORE=1\nFDNAME=x", true, true).unwrap();
        assert_eq!(notice.text, "FDSTORE=1\nFDNAME=x");
        assert!(!notice.is_passing());
    }

    #[test]
    fn what_can_be_missed_is_missed_first() {
        let mut queue = VecDeque::from([Notice::new("READY=1".to_owned())]);
        for number in 0..1000 {
            assert!(!make_room(&mut queue, |notice| Some(notice)));
            queue.push_back(Notice::new(format!("STATUS={number}")));
        }
        assert_eq!(queue.len(), 1 + MOST_PASSING);
        assert_eq!(queue.front().unwrap().text, "READY=1");
        assert_eq!(queue.back().unwrap().text, "STATUS=999");
        let mut lost = 0;
        for number in 0..2000 {
            lost += usize::from(make_room(&mut queue, |notice| Some(notice)));
            queue.push_back(Notice::new(format!("FDSTOREREMOVE=1\nFDNAME={number}")));
        }
        assert_eq!(queue.len(), MOST);
        assert!(lost > 900);
        assert_eq!(queue.front().unwrap().text, "READY=1");
    }
}
