//! How a daemon is told to finish: `--drain-signal` and `--drain-group`.

use std::{fmt, io};

use super::reception;
use crate::process::{Process, View};
use crate::signals::Signal;

/// What a daemon understands as: accept nothing new, finish what is in hand, exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Drain {
    pub(crate) signal: Signal,
    /// Its whole process group gets it.
    pub(crate) group: bool,
}

/// In a record, behind the signal's name.
const GROUP: &str = ",group";

impl Drain {
    /// As the record has it: `QUIT`, `TERM,group`.
    pub(crate) fn parse(text: &str) -> Option<Drain> {
        let name = text.strip_suffix(GROUP);
        let signal = Signal::parse(name.unwrap_or(text))?;
        signal.can_be_caught().then_some(Drain {
            signal,
            group: name.is_some(),
        })
    }

    /// What it would die of, or not act on at all (WINCH), is TERM's to do. One for the whole group is for the
    /// others, too, and its leader may be a shell around them.
    pub(crate) fn signal_for(self, is_heard: bool) -> Signal {
        if is_heard || self.group {
            self.signal
        } else {
            Signal::TERM
        }
    }

    /// To a daemon that is not our child. Gives the signal that it was.
    pub(crate) fn send_to(self, process: &Process) -> io::Result<Signal> {
        let view = View::open(process.pid);
        // It has gone, or cannot be looked at.
        let is_heard = view.map_or(true, |view| {
            reception::hears(process.pid, &view, self.signal)
        });
        let signal = self.signal_for(is_heard);
        let sent = if self.group {
            process.send_to_group(signal)
        } else {
            process.send(signal)
        };
        sent.map(|()| signal)
    }
}

impl Default for Drain {
    fn default() -> Drain {
        Drain {
            signal: Signal::TERM,
            group: false,
        }
    }
}

impl fmt::Display for Drain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = if self.group { GROUP } else { "" };
        write!(formatter, "{}{group}", self.signal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_is_read_as_the_same() {
        for text in ["TERM", "QUIT", "TERM,group", "RTMIN+1,group"] {
            assert_eq!(Drain::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "group", ",group", "KILL", "QUIT,"] {
            assert_eq!(Drain::parse(text), None, "{text}");
        }
        assert_eq!(Drain::default().to_string(), "TERM");
    }
}
