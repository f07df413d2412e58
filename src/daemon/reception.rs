//! What a daemon would do with a signal, as `/proc` tells it (R6).

use crate::generation::Reception;
use crate::process::{self, Status, View};
use crate::signals::Signal;

/// Looks at the process; where it cannot be looked at, nobody handles anything.
pub(crate) fn of(pid: i32, view: &View, signal: Signal) -> Reception {
    let (Ok(status), Ok(stat)) = (view.status(), view.stat()) else {
        return Reception::Unhandled;
    };
    match judge(&status, stat.sleeps(), signal) {
        Reception::Unhandled if process::waits_for(pid, signal.bit()) => Reception::Handled,
        reception => reception,
    }
}

fn judge(status: &Status, sleeps: bool, signal: Signal) -> Reception {
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
    // Held back for a signalfd, or for another thread's sigwait. The C library too holds back everything for a moment,
    // around a vfork or the start of a thread; a process in such a moment does not sleep as one
    // that waits for its next request does.
    if has(status.ignored) || (has(status.blocked) && sleeps) {
        return Reception::Handled;
    }
    Reception::Unhandled
}

#[cfg(test)]
mod tests {
    use super::*;

    const BIT: u64 = 1 << 11;
    const FPE: u64 = 1 << 7;

    fn judged(caught: u64, ignored: u64, blocked: u64, sleeps: bool) -> Reception {
        let status = Status {
            user: 0,
            caught,
            ignored,
            blocked,
        };
        judge(&status, sleeps, Signal::USR2)
    }

    #[test]
    fn by_its_own_wish() {
        assert_eq!(judged(BIT, 0, 0, false), Reception::Handled);
        assert_eq!(judged(0, BIT, 0, false), Reception::Handled);
        assert_eq!(judged(0, 0, BIT, true), Reception::Handled);
    }

    #[test]
    fn a_runtime_that_catches_everything_is_not_a_wish() {
        assert_eq!(judged(BIT | FPE, 0, 0, true), Reception::Runtime);
    }

    #[test]
    fn nobody_looks() {
        assert_eq!(judged(!BIT, !BIT, !BIT, true), Reception::Unhandled);
        assert_eq!(
            judged(0, 0, u64::MAX, false),
            Reception::Unhandled,
            "held back for a moment"
        );
    }
}
