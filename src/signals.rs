//! Signals by number and by name, and what one to the launcher means (R10).

use std::fmt;

use nix::sys::signal::{SigSet, Signal as Standard};

use crate::sys;

/// A signal by its number, real-time ones included.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Signal(i32);

impl Signal {
    #[cfg(test)]
    pub(crate) const HUP: Signal = Signal(Standard::SIGHUP as i32);
    pub(crate) const INT: Signal = Signal(Standard::SIGINT as i32);
    pub(crate) const QUIT: Signal = Signal(Standard::SIGQUIT as i32);
    pub(crate) const KILL: Signal = Signal(Standard::SIGKILL as i32);
    pub(crate) const USR2: Signal = Signal(Standard::SIGUSR2 as i32);
    pub(crate) const TERM: Signal = Signal(Standard::SIGTERM as i32);
    pub(crate) const CHLD: Signal = Signal(Standard::SIGCHLD as i32);
    pub(crate) const STOP: Signal = Signal(Standard::SIGSTOP as i32);
    pub(crate) const TSTP: Signal = Signal(Standard::SIGTSTP as i32);
    pub(crate) const FPE: Signal = Signal(Standard::SIGFPE as i32);
    pub(crate) const IO: Signal = Signal(Standard::SIGIO as i32);
    pub(crate) const URG: Signal = Signal(Standard::SIGURG as i32);

    pub(crate) fn from_number(number: i32) -> Option<Signal> {
        let known =
            Standard::try_from(number).is_ok() || sys::real_time_signals().contains(&number);
        known.then_some(Signal(number))
    }

    pub(crate) fn number(self) -> i32 {
        self.0
    }

    /// This signal's bit in the masks of `/proc/PID/status`.
    pub(crate) fn bit(self) -> u64 {
        1 << (self.0 - 1)
    }

    /// `TERM`, `SIGTERM`, `term`, `15`, `RTMIN+2`, `RTMAX-1`.
    pub(crate) fn parse(text: &str) -> Option<Signal> {
        if let Ok(number) = text.parse() {
            return Signal::from_number(number);
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let real_time = sys::real_time_signals();
        if let Some(offset) = name.strip_prefix("RTMIN") {
            let number = real_time.start().checked_add(parse_offset(offset, '+')?)?;
            return real_time.contains(&number).then_some(Signal(number));
        }
        if let Some(offset) = name.strip_prefix("RTMAX") {
            let number = real_time.end() - parse_offset(offset, '-')?;
            return real_time.contains(&number).then_some(Signal(number));
        }
        let standard: Standard = format!("SIG{name}").parse().ok()?;
        Some(Signal(standard as i32))
    }

    /// Whether a process can catch it, and we may: not KILL and STOP, which nobody catches, and
    /// not our own faults (R10).
    pub(crate) fn can_be_caught(self) -> bool {
        !matches!(
            Standard::try_from(self.0),
            Ok(Standard::SIGKILL
                | Standard::SIGSTOP
                | Standard::SIGSEGV
                | Standard::SIGBUS
                | Standard::SIGFPE
                | Standard::SIGILL)
        )
    }
}

fn parse_offset(text: &str, sign: char) -> Option<i32> {
    if text.is_empty() {
        return Some(0);
    }
    let digits = text.strip_prefix(sign)?;
    let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if all_digits {
        digits.parse().ok()
    } else {
        None
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Standard::try_from(self.0) {
            Ok(standard) => formatter.write_str(standard.as_str().trim_start_matches("SIG")),
            Err(_) => match self.0 - sys::real_time_signals().start() {
                0 => formatter.write_str("RTMIN"),
                offset => write!(formatter, "RTMIN+{offset}"),
            },
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Every signal that launcher and keeper take from a signalfd instead of letting it act on them.
pub(crate) fn all_that_can_be_caught() -> impl Iterator<Item = Signal> {
    (1..=*sys::real_time_signals().end())
        .filter_map(Signal::from_number)
        .filter(|signal| signal.can_be_caught())
}

pub(crate) fn set_of(signals: impl IntoIterator<Item = Signal>) -> SigSet {
    sys::signal_set(signals.into_iter().map(Signal::number))
}

/// What a signal to the launcher means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// What the supervisor wants: a restart or a stop (§7).
    Auto,
    /// Let go of the daemon, for a successor to take over.
    Restart,
    /// End the daemon.
    Stop,
    /// Send the daemon this signal.
    Forward(Signal),
    Ignore,
}

/// What each signal to the launcher means: the defaults of R10, and `--on`.
#[derive(Clone, Debug)]
pub(crate) struct Meanings(Vec<(Signal, Meaning)>);

impl Default for Meanings {
    fn default() -> Meanings {
        Meanings(vec![
            (Signal::TERM, Meaning::Auto),
            (Signal::INT, Meaning::Stop),
        ])
    }
}

impl Meanings {
    /// The last word on a signal holds.
    pub(crate) fn set(&mut self, signal: Signal, meaning: Meaning) {
        self.0.push((signal, meaning));
    }

    /// Those that have a meaning of their own, each once.
    pub(crate) fn named(&self) -> Vec<Signal> {
        let mut all: Vec<Signal> = self.0.iter().map(|(signal, _)| *signal).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    pub(crate) fn of(&self, signal: Signal) -> Meaning {
        let last = self.0.iter().rev().find(|(named, _)| *named == signal);
        last.map_or(Meaning::Forward(signal), |(_, meaning)| *meaning)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_every_usual_spelling() {
        for text in ["TERM", "SIGTERM", "term", "sigterm", "15"] {
            assert_eq!(Signal::parse(text), Some(Signal::TERM), "{text}");
        }
        let least = *sys::real_time_signals().start();
        assert_eq!(Signal::parse("RTMIN"), Signal::from_number(least));
        assert_eq!(Signal::parse("SIGRTMIN+2"), Signal::from_number(least + 2));
        assert_eq!(Signal::parse("RTMAX-1"), Signal::from_number(63));
    }

    #[test]
    fn what_is_no_signal_is_refused() {
        for text in [
            "", "SIG", "0", "-1", "65", "32", "TERMM", "RTMIN-1", "RTMIN++1", "RTMAX+1",
            "RTMIN+99", "RTMIN+-1",
        ] {
            assert_eq!(Signal::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_name_that_is_printed_can_be_read_back() {
        for signal in all_that_can_be_caught() {
            assert_eq!(Signal::parse(&signal.to_string()), Some(signal));
        }
    }

    #[test]
    fn faults_and_what_nobody_can_catch_are_left_alone() {
        let caught: Vec<String> = all_that_can_be_caught()
            .map(|signal| signal.to_string())
            .collect();
        for name in ["KILL", "STOP", "SEGV", "BUS", "FPE", "ILL"] {
            assert!(!caught.contains(&name.to_owned()), "{name}");
        }
        assert!(caught.contains(&"RTMIN+1".to_owned()));
    }

    #[test]
    fn the_last_word_on_a_signal_holds() {
        let mut meanings = Meanings::default();
        assert_eq!(meanings.of(Signal::HUP), Meaning::Forward(Signal::HUP));
        assert_eq!(meanings.of(Signal::TERM), Meaning::Auto);
        meanings.set(Signal::TERM, Meaning::Stop);
        meanings.set(Signal::TERM, Meaning::Ignore);
        assert_eq!(meanings.of(Signal::TERM), Meaning::Ignore);
    }
}
