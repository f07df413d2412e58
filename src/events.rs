//! The keeper's one place of waiting: one `poll(2)`, one deadline (§3).

use std::os::fd::BorrowedFd;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Between two looks where there is no other way.
const PAUSE: u8 = 100;

/// Waits until one of the sources has something to read, the link has room again where that is
/// wanted, or the deadline has passed. What there is to read, the keeper finds by reading: a wake
/// is only a hint.
pub(crate) fn wait(
    sources: &[BorrowedFd<'_>],
    link_has_room: Option<BorrowedFd<'_>>,
    deadline: Option<Instant>,
) {
    let readable = sources
        .iter()
        .map(|source| PollFd::new(*source, PollFlags::POLLIN));
    let writable = link_has_room.map(|link| PollFd::new(link, PollFlags::POLLOUT));
    let mut all: Vec<PollFd<'_>> = readable.chain(writable).collect();
    poll_or_pause(&mut all, until(deadline, Instant::now()));
}

/// `poll(2)`. An interrupted wait is a wake like any other; but one that cannot be had, since a limit
/// was lowered below what is open, must not become a busy loop.
pub(crate) fn poll_or_pause(sources: &mut [PollFd<'_>], timeout: PollTimeout) {
    if !matches!(poll(sources, timeout), Ok(_) | Err(Errno::EINTR)) {
        let _ = poll(&mut [], PAUSE);
    }
}

/// Rounded up: a wait that ends a moment too early would turn into a busy loop.
fn until(deadline: Option<Instant>, now: Instant) -> PollTimeout {
    let Some(deadline) = deadline else {
        return PollTimeout::NONE;
    };
    let left = deadline.saturating_duration_since(now);
    let milliseconds = left.as_micros().div_ceil(1000);
    PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_wait_never_ends_before_its_deadline() {
        let now = Instant::now();
        let wait = |left: Duration| until(Some(now + left), now).as_millis();
        assert_eq!(wait(Duration::from_micros(1)), Some(1));
        assert_eq!(wait(Duration::from_micros(1001)), Some(2));
        assert_eq!(wait(Duration::ZERO), Some(0));
        assert_eq!(
            until(Some(now), now + Duration::from_secs(1)).as_millis(),
            Some(0)
        );
        assert_eq!(until(None, now), PollTimeout::NONE);
    }
}
