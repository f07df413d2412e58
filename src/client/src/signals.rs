//! Signals: their names, what they mean here, and the handlers, which do no more than set a flag and ring a bell.

use super::error::{Error, ErrorKind};
use super::sys::{self, Disposition};
#[cfg(any(test, target_os = "linux"))]
use nix::libc;
use nix::sys::signal::Signal;
use signal_hook::SigId;
use std::io;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    Prepare,
    Drain,
}

/// Which signals mean what.
#[derive(Clone, Debug)]
pub(crate) struct Signals {
    pub(crate) prepare: Option<i32>,
    pub(crate) drain: Vec<i32>,
}

impl Signals {
    /// Refuses what cannot be caught, and one signal with two meanings.
    pub(crate) fn new(prepare: Option<i32>, drain: Vec<i32>) -> Result<Self, Error> {
        for &signal in prepare.iter().chain(&drain) {
            if !can_be_caught(signal) {
                let message =
                    format!("cannot wait for signal {signal}: no program can catch it safely");
                return Err(Error::new(ErrorKind::Signal, message));
            }
        }
        if prepare.is_some_and(|signal| drain.contains(&signal)) {
            let message = "cannot tell prepare from drain: both are the same signal";
            return Err(Error::new(ErrorKind::Signal, message));
        }
        Ok(Signals { prepare, drain })
    }

    pub(crate) fn meaning(&self, signal: i32) -> Option<Meaning> {
        if self.prepare == Some(signal) {
            Some(Meaning::Prepare)
        } else {
            self.drain.contains(&signal).then_some(Meaning::Drain)
        }
    }
}

/// The number of a signal that can be caught: `USR2`, `SIGUSR2`, `RTMIN`, `RTMIN+2`, `RTMAX-1`.
pub(crate) fn by_name(name: &str) -> Option<i32> {
    let name = name.strip_prefix("SIG").unwrap_or(name);
    let number = match real_time(name) {
        Some(number) => number,
        None => Signal::from_str(&format!("SIG{name}")).ok()? as i32,
    };
    can_be_caught(number).then_some(number)
}

#[cfg(target_os = "linux")]
fn real_time(name: &str) -> Option<i32> {
    let (lowest, highest) = (libc::SIGRTMIN(), libc::SIGRTMAX());
    let distance = |text: &str, sign: char| match text {
        "" => Some(0),
        _ => text.strip_prefix(sign)?.parse::<u8>().ok().map(i32::from),
    };
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(above), _) => lowest + distance(above, '+')?,
        (None, Some(below)) => highest - distance(below, '-')?,
        (None, None) => return None,
    };
    (lowest..=highest).contains(&number).then_some(number)
}

#[cfg(not(target_os = "linux"))]
fn real_time(_: &str) -> Option<i32> {
    None
}

pub(crate) fn can_be_caught(signal: i32) -> bool {
    #[cfg(target_os = "linux")]
    let highest = libc::SIGRTMAX();
    #[cfg(not(target_os = "linux"))]
    let highest = 31;
    (1..=highest).contains(&signal) && !signal_hook::consts::FORBIDDEN.contains(&signal)
}

/// What has come and nobody has looked at yet. A signal that comes twice meanwhile is one, as in the kernel.
#[derive(Debug, Default)]
pub(crate) struct Arrived {
    pub(crate) prepare: Arc<AtomicBool>,
    pub(crate) drain: Arc<AtomicBool>,
}

/// How many sets of handlers live, and whether there is none any more. Handlers are the process's, so this is too.
static LIVING: Mutex<usize> = Mutex::new(0);
static NOBODY_LISTENS: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// The handlers, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Caught {
    ids: Vec<SigId>,
    /// Those that are really caught: an ignored one stays ignored.
    pub(crate) signals: Vec<i32>,
}

impl Caught {
    pub(crate) fn catch(signals: &Signals, arrived: &Arrived) -> Result<Self, Error> {
        {
            let mut living = LIVING.lock().unwrap_or_else(PoisonError::into_inner);
            *living += 1;
            NOBODY_LISTENS.store(false, Ordering::SeqCst);
        }
        let mut caught = Caught {
            ids: Vec::new(),
            signals: Vec::new(),
        };
        for &signal in signals.prepare.iter().chain(&signals.drain) {
            caught.add(signal, signals, arrived).map_err(|error| {
                Error::caused(
                    ErrorKind::Signal,
                    format!("cannot catch signal {signal}"),
                    &error,
                )
            })?;
        }
        Ok(caught)
    }

    fn add(&mut self, signal: i32, signals: &Signals, arrived: &Arrived) -> io::Result<()> {
        let before = sys::disposition(signal)?;
        // `nohup`, or a shell that started us with `&`: whoever ignored it for us had a reason. A handler would undo it.
        if before == Disposition::Ignored || self.signals.contains(&signal) {
            return Ok(());
        }
        let is_drain = signals.meaning(signal) == Some(Meaning::Drain);
        let flag = if is_drain {
            &arrived.drain
        } else {
            &arrived.prepare
        };
        self.ids
            .push(signal_hook::flag::register(signal, Arc::clone(flag))?);
        // The handler of the process stays when our actions have gone. Without this a daemon that drops its handle
        // could be ended by KILL only. Once per signal and process: later it is no longer the default that we find.
        if is_drain && before == Disposition::Default {
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&NOBODY_LISTENS))?;
        }
        self.signals.push(signal);
        Ok(())
    }
}

impl Drop for Caught {
    fn drop(&mut self) {
        {
            let mut living = LIVING.lock().unwrap_or_else(PoisonError::into_inner);
            *living = living.saturating_sub(1);
            // Before the actions go, so that no drain signal falls between the two and is lost.
            NOBODY_LISTENS.store(*living == 0, Ordering::SeqCst);
        }
        for id in self.ids.drain(..) {
            signal_hook::low_level::unregister(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_with_and_without_their_prefix() {
        assert_eq!(by_name("USR2"), Some(libc::SIGUSR2));
        assert_eq!(by_name("SIGQUIT"), Some(libc::SIGQUIT));
        for wrong in [
            "", "SIG", "usr2", "USR3", "none", "12", "KILL", "STOP", "SEGV", "USR2 ",
        ] {
            assert_eq!(by_name(wrong), None, "{wrong}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn real_time_signals_count_from_either_end() {
        assert_eq!(by_name("RTMIN"), Some(libc::SIGRTMIN()));
        assert_eq!(by_name("SIGRTMIN+2"), Some(libc::SIGRTMIN() + 2));
        assert_eq!(by_name("RTMAX-1"), Some(libc::SIGRTMAX() - 1));
        for wrong in [
            "RTMIN-1",
            "RTMAX+1",
            "RTMIN+200",
            "RTMIN+99",
            "RTMIN+x",
            "RT",
        ] {
            assert_eq!(by_name(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn one_signal_cannot_mean_two_things() {
        let error = Signals::new(Some(libc::SIGTERM), vec![libc::SIGTERM]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Signal);
        assert_eq!(
            Signals::new(None, vec![libc::SIGKILL]).unwrap_err().kind(),
            ErrorKind::Signal
        );
        assert_eq!(
            Signals::new(Some(4711), vec![]).unwrap_err().kind(),
            ErrorKind::Signal
        );
    }
}
