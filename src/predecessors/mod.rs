//! The older generations that still live, as their successor's keeper holds them (R11).
//!
//! Each is held by a pidfd, and by a connection to its keeper where that lives and answers. A keeper
//! that is told something and does not say within [`ANSWER`] that it has done so is done without:
//! what it should do to its daemon is done from here.
#![deny(clippy::wildcard_enum_match_arm)]

mod attach;
mod one;
mod sockets;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::control::wire::Failure;
use crate::control::{Attempt, Connection, Message, Received, Standing};
use crate::files::State;
use crate::listen::{Handed, Label};
use crate::process::{Identity, Process};
use crate::report::Report;
use crate::signals::Signal;
use one::{Errand, Predecessor};

/// The phase of a generation of which only the sockets are left.
const HOLDING: &str = "holding";

/// A keeper that is not stopped and not swapped out answers at once (R11).
pub(crate) const ANSWER: Duration = Duration::from_secs(2);

/// One that has nothing left to do needs a moment of processor time to end, which may be long in coming
/// where a thousand services are restarted at once.
const FAREWELL: Duration = Duration::from_secs(10);

/// All of them, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Predecessors {
    all: Vec<Predecessor>,
    limits: Limits,
    /// The one whose keeper has the path of the control socket.
    shown: Option<u32>,
    /// Why the last attempt failed, as the predecessors know it.
    pub(crate) failure: Option<(Failure, Instant)>,
    /// Generations of which only the sockets are left.
    holders: Vec<Holder>,
    /// Keepers that have not answered, and the sockets that they should have.
    silent: Vec<(Process, Vec<Label>)>,
    /// What they all hand over, and which generation did; the newest ones' first.
    handed: Vec<(u32, Handed)>,
}

/// A keeper that holds the sockets of a daemon that has died, until it is told that we have them.
#[derive(Debug)]
struct Holder {
    number: u32,
    keeper: Option<Identity>,
    sockets: Vec<Label>,
    connection: Connection,
    /// It has been told that it may go, and may take until then.
    leave_by: Option<Instant>,
}

/// From the drain signal to KILL, for those whose keeper does not see to it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    /// Of one that was replaced.
    pub(crate) drain: Option<Duration>,
    /// Of one that is stopped.
    pub(crate) stop: Option<Duration>,
}

/// What older generations, or their keepers, did.
#[derive(Debug)]
pub(crate) enum News {
    /// A caller who was passed on to us, and what he asked.
    Passed(Message, OwnedFd),
    /// Something about one of them is different.
    Changed,
    /// The keeper has done what it was told: its daemon knows that it shall finish.
    Drains,
    /// The keeper has gone, and its daemon has not.
    KeeperLost { number: u32, pid: i32 },
    /// The daemon has ended; its keeper will say how.
    Died,
    /// The daemon has ended, and its keeper keeps the sockets.
    Holds,
    /// The keeper has gone after its daemon.
    Ended {
        number: u32,
        pid: i32,
        how: Option<String>,
    },
}

impl Predecessors {
    /// Those that wait for a successor; one that drains already is no safety net.
    fn serving(&self) -> impl Iterator<Item = &Predecessor> {
        self.all
            .iter()
            .filter(|one| one.state != State::Draining && one.leave_by.is_none())
    }

    pub(crate) fn any_serves(&self) -> bool {
        self.serving().next().is_some()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty() && self.holders.is_empty()
    }

    pub(crate) fn any_drains(&self) -> bool {
        self.all.iter().any(|one| one.state == State::Draining)
    }

    /// A daemon, or a keeper without one, is left for which nobody but us has an eye on the time.
    pub(crate) fn need_us(&self) -> bool {
        let one_does = |one: &Predecessor| {
            one.kill_at.is_some() || one.errand.is_some() || one.leave_by.is_some()
        };
        let mut holders = self.holders.iter();
        self.all.iter().any(one_does) || holders.any(|holder| holder.leave_by.is_some())
    }

    /// One that serves has said that it is ready.
    pub(crate) fn one_is_ready(&self) -> bool {
        let ready = |one: &Predecessor| one.state == State::Ready && !one.assumed;
        self.serving().any(ready)
    }

    /// R13: they were detached, and none had ever said that it was ready.
    pub(crate) fn never_said_ready(&self) -> bool {
        let never = |one: &Predecessor| one.state == State::Starting || one.assumed;
        self.any_serves() && self.serving().all(never)
    }

    /// Another keeper has the path of the control socket.
    pub(crate) fn one_is_shown(&self) -> bool {
        let shown = |one: &Predecessor| Some(one.number) == self.shown;
        self.all
            .iter()
            .any(|one| shown(one) && one.connection.is_some())
    }

    pub(crate) fn to_watch(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let predecessors = self.all.iter().flat_map(|one| {
            // A pidfd that has become readable stays so.
            let living = one.leave_by.is_none().then(|| one.process.as_fd());
            living
                .into_iter()
                .chain(one.connection.as_ref().map(AsFd::as_fd))
        });
        predecessors.chain(self.holders.iter().map(|holder| holder.connection.as_fd()))
    }

    /// The next moment at which [`Predecessors::expire`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let moments = |one: &Predecessor| {
            let answer_by = one.errand.map(|(_, answer_by)| answer_by);
            [answer_by, one.kill_at, one.leave_by]
        };
        let predecessors = self.all.iter().flat_map(moments).flatten();
        let holders = self.holders.iter().filter_map(|holder| holder.leave_by);
        predecessors.chain(holders).min()
    }

    /// Reads everything that waits.
    pub(crate) fn read(&mut self, now: Instant) -> Vec<News> {
        let mut news = Vec::new();
        let limits = self.limits;
        self.holders.retain(Holder::is_there);
        for one in &mut self.all {
            one.read(now, limits, &mut news);
            if one.leave_by.is_none() && one.process.has_ended() {
                one.leave_by = Some(now + FAREWELL);
                one.kill_at = None;
                one.errand = None;
                news.push(News::Died);
            }
        }
        let (holding, others) = std::mem::take(&mut self.all)
            .into_iter()
            .partition(|one| one.holds && one.connection.is_some());
        self.all = others;
        self.holders
            .extend(holding.into_iter().filter_map(Holder::of));
        self.all.retain_mut(|one| {
            let gone = one.leave_by.is_some() && one.connection.is_none();
            if gone {
                news.push(News::Ended {
                    number: one.number,
                    pid: one.process.pid,
                    how: one.how.take(),
                });
            }
            !gone
        });
        news
    }

    /// Tells each that has not been told, and gives the PIDs of those that could not be. `told`: the
    /// one that the new daemon told itself (R12).
    pub(crate) fn drain(&mut self, told: Option<i32>, now: Instant, report: &Report) -> Vec<i32> {
        let mut deaf = Vec::new();
        let limits = self.limits;
        for one in &mut self.all {
            if one.leave_by.is_some() {
                continue;
            }
            if one.state == State::Draining {
                one.tell_of_succession();
                continue;
            }
            let errand = Errand {
                patience: limits.drain,
                told: told == Some(one.process.pid),
            };
            let message = Message::Commit { told: errand.told };
            if !one.tell(&message, errand, now, report) {
                deaf.push(one.process.pid);
            }
        }
        deaf
    }

    /// R15: each shall end within this time; `only_draining`: one that serves is not touched.
    pub(crate) fn end(
        &mut self,
        within: Option<Duration>,
        only_draining: bool,
        now: Instant,
        report: &Report,
    ) {
        for holder in self.holders.iter_mut().filter(|_| !only_draining) {
            let _ = holder.connection.send(&Message::End { within });
            holder.leave_by.get_or_insert(now + FAREWELL);
        }
        for one in &mut self.all {
            let draining = one.state == State::Draining;
            if one.leave_by.is_some() || (only_draining && !draining) {
                continue;
            }
            // What its keeper was told before it may never come to do.
            let told = one.errand.map_or(draining, |(errand, _)| errand.told);
            let errand = Errand {
                patience: within,
                told,
            };
            one.tell(&Message::End { within }, errand, now, report);
        }
    }

    /// Tells those that wait for us how our attempt ended.
    pub(crate) fn tell_attempt(&self, attempt: &Attempt) {
        let message = Message::Attempt(attempt.clone());
        for connection in self.serving().filter_map(|one| one.connection.as_ref()) {
            // A keeper that cannot be told takes our end for a withdrawal.
            let _ = connection.send(&message);
        }
    }

    /// Does what keepers should have done by now. Says whether one was told to finish that had not been.
    pub(crate) fn expire(&mut self, now: Instant, report: &Report) -> bool {
        let mut told = false;
        let over = |moment: Option<Instant>| moment.is_some_and(|moment| moment <= now);
        self.holders.retain(|holder| {
            let late = over(holder.leave_by);
            if late {
                kill_keeper(
                    &format!("generation {}", holder.number),
                    holder.keeper,
                    report,
                );
            }
            !late
        });
        for one in &mut self.all {
            if let Some((errand, _)) = one.errand.take_if(|(_, answer_by)| *answer_by <= now) {
                report.warn(&format!(
                    "the keeper of {} does not answer; this one does its work",
                    one.name()
                ));
                // Should it wake up: the daemon has been told.
                if let Some(connection) = &one.connection {
                    let _ = connection.send(&Message::Commit { told: true });
                }
                told |= one.do_it_ourselves(errand, now, report);
            }
            if over(one.kill_at) {
                report.warn(&format!(
                    "{} did not end in time, and its keeper does not see to it; it is killed",
                    one.name()
                ));
                one.kill_at = None;
                one.kill(report);
            }
            if over(one.leave_by) {
                kill_keeper(&one.name(), one.keeper, report);
                one.connection = None;
            }
        }
        told
    }

    /// `generation 7 (pid 4242)`, or nothing where nobody serves.
    pub(crate) fn names(&self) -> Option<String> {
        let names: Vec<String> = self.serving().map(Predecessor::name).collect();
        (!names.is_empty()).then(|| names.join(" and "))
    }

    /// For `status`, newest first.
    pub(crate) fn standings(&self, now: Instant) -> impl Iterator<Item = Standing> {
        let all = self.all.iter().rev();
        all.filter(|one| one.leave_by.is_none())
            .map(move |one| one.standing(now))
    }

    /// Whether it was told to finish, and not only its keeper to tell it; and when it will be KILLed.
    pub(crate) fn was_told(&self, daemon: Identity, now: Instant) -> Option<Option<Instant>> {
        let one = self.all.iter().find(|one| one.identity == daemon)?;
        let told = one.state == State::Draining && one.errand.is_none();
        told.then(|| one.kill_at.or(one.kill_deadline(now)))
    }
}

/// Its daemon has gone, so nothing is left for it to do; it is stopped, or worse.
fn kill_keeper(whose: &str, keeper: Option<Identity>, report: &Report) {
    report.warn(&format!("the keeper of {whose} has not left; it is killed"));
    if let Some(Ok(Some(keeper))) = keeper.map(Identity::open) {
        let _ = keeper.send(Signal::KILL);
    }
}

impl Holder {
    fn new(
        number: u32,
        keeper: Option<Identity>,
        sockets: &[Label],
        connection: Connection,
    ) -> Holder {
        Holder {
            number,
            keeper,
            sockets: sockets.to_vec(),
            connection,
            leave_by: None,
        }
    }

    /// A predecessor whose daemon has died since we attached.
    fn of(one: Predecessor) -> Option<Holder> {
        let connection = one.connection?;
        Some(Holder::new(
            one.number,
            one.keeper,
            &one.sockets,
            connection,
        ))
    }

    /// What it says of itself is no news: it waits to be relieved.
    fn is_there(&self) -> bool {
        loop {
            match self.connection.receive() {
                Received::Message(..) | Received::Unreadable(_) => {}
                Received::NothingYet => return true,
                Received::End => return false,
            }
        }
    }
}
