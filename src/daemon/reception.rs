//! What a daemon would do with a signal, as `/proc` tells it (R6).

use std::time::Duration;

use crate::generation::Reception;
use crate::process::{self, Status, View};
use crate::signals::Signal;

/// How often is looked, where a signal is held back and nobody seems to wait for it: between two waits a thread
/// runs for a moment, and what is read in several places is not of one moment either.
const LOOKS: usize = 4;
const MOMENT: Duration = Duration::from_millis(1);

/// Looks at the process; where it cannot be looked at, nobody handles anything.
pub(crate) fn of(pid: i32, view: &View, signal: Signal) -> Reception {
    for look in 1..=LOOKS {
        let (reception, held_back) = look_once(pid, view, signal);
        if reception != Reception::Unhandled {
            return reception;
        }
        if held_back && look < LOOKS {
            std::thread::sleep(MOMENT);
        } else if look > 1 {
            break;
        }
    }
    Reception::Unhandled
}

/// And whether some thread holds it back.
fn look_once(pid: i32, view: &View, signal: Signal) -> (Reception, bool) {
    let Ok(status) = view.status() else {
        return (Reception::Unhandled, false);
    };
    if (status.caught | status.ignored) & signal.bit() != 0 {
        return (judge(&status, &[], false, signal), false);
    }
    let threads: Vec<Thread> = process::threads_of(pid)
        .into_iter()
        .filter_map(|thread| Thread::look(pid, thread, signal))
        .collect();
    // Held back by the C library, too: everything, for a moment, around a vfork or the start of a thread. A
    // process in such a moment does not sleep as one that waits for its next request does, and has nobody who
    // would read the signal. A thread that is just being started may be about to let it in.
    let awake = Thread::HoldsBack { asleep: false };
    let all_sleep = status.sleeps && !threads.contains(&awake);
    let is_meant = all_sleep || process::has_signalfd(pid, signal.bit());
    let held_back = threads.iter().any(Thread::holds_back);
    (judge(&status, &threads, is_meant, signal), held_back)
}

/// Whether it would act on the signal by its own wish. A shell may have started it with QUIT ignored.
pub(crate) fn hears(pid: i32, view: &View, signal: Signal) -> bool {
    let ignores = |status: Status| status.ignored & signal.bit() != 0;
    !view.status().is_ok_and(ignores) && of(pid, view, signal) != Reception::Unhandled
}

/// What a thread would do with a signal that is neither caught nor ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Thread {
    /// Die of it, and all with it.
    Open,
    HoldsBack {
        asleep: bool,
    },
    /// It is in a sigwait(3) for it.
    Waits,
}

impl Thread {
    /// `None`: it has gone.
    fn look(pid: i32, thread: i32, signal: Signal) -> Option<Thread> {
        let status = Status::of_thread(pid, thread).ok()?;
        // It may have begun to since.
        let waits = process::waits_for(pid, thread, signal.bit());
        let holds_back = status.blocked & signal.bit() != 0;
        Some(match (waits, holds_back) {
            (true, _) => Thread::Waits,
            (false, true) => Thread::HoldsBack {
                asleep: status.sleeps,
            },
            (false, false) => Thread::Open,
        })
    }

    fn holds_back(&self) -> bool {
        matches!(self, Thread::HoldsBack { .. })
    }
}

/// `is_meant`: what is held back is held back for good, to be read by somebody.
fn judge(status: &Status, threads: &[Thread], is_meant: bool, signal: Signal) -> Reception {
    let has = |mask: u64| mask & signal.bit() != 0;
    if has(status.caught) {
        // Nobody but a runtime catches FPE: Go, the JVM and .NET turn it into an exception.
        let runtime = status.caught & Signal::FPE.bit() != 0;
        return if runtime {
            Reception::Runtime
        } else {
            Reception::Handled
        };
    }
    let any = |what: Thread| threads.contains(&what);
    // Where the threads cannot be seen, the first one stands for all.
    let held_back =
        threads.iter().any(Thread::holds_back) || (threads.is_empty() && has(status.blocked));
    let waits = any(Thread::Waits) || (held_back && is_meant);
    if has(status.ignored) || (waits && !any(Thread::Open)) {
        return Reception::Handled;
    }
    Reception::Unhandled
}

#[cfg(test)]
mod tests {
    use super::*;

    const BIT: u64 = 1 << 11;
    const FPE: u64 = 1 << 7;
    const HELD_BACK: Thread = Thread::HoldsBack { asleep: true };

    fn judged(caught: u64, ignored: u64, threads: &[Thread], is_meant: bool) -> Reception {
        let status = Status {
            caught,
            ignored,
            sleeps: true,
            ..Status::default()
        };
        judge(&status, threads, is_meant, Signal::USR2)
    }

    #[test]
    fn by_its_own_wish() {
        let open = [Thread::Open];
        assert_eq!(judged(BIT, 0, &open, false), Reception::Handled);
        assert_eq!(judged(0, BIT, &open, false), Reception::Handled);
        for threads in [
            &[HELD_BACK][..],
            &[HELD_BACK, HELD_BACK],
            &[HELD_BACK, Thread::Waits],
        ] {
            assert_eq!(judged(0, 0, threads, true), Reception::Handled);
        }
        assert_eq!(judged(0, 0, &[Thread::Waits], false), Reception::Handled);
    }

    #[test]
    fn a_runtime_that_catches_everything_is_not_a_wish() {
        assert_eq!(judged(BIT | FPE, 0, &[], true), Reception::Runtime);
    }

    #[test]
    fn nobody_looks() {
        let unhandled = Reception::Unhandled;
        assert_eq!(judged(!BIT, !BIT, &[Thread::Open], true), unhandled);
        let for_a_moment = judged(0, 0, &[HELD_BACK], false);
        assert_eq!(for_a_moment, unhandled);
        assert_eq!(judged(0, 0, &[], true), unhandled);
    }

    #[test]
    fn one_thread_that_holds_nothing_back_is_enough_to_die_of_it() {
        for other in [HELD_BACK, Thread::Waits] {
            let threads = [Thread::Open, other];
            assert_eq!(judged(0, 0, &threads, true), Reception::Unhandled);
        }
    }
}
