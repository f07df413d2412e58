//! One wake: everything that waits is read, and then acted on in a fixed order (§3).

use super::Keeper;
use super::wish::meaning_by;
use crate::changes::Changes;
use crate::control::{Attempt, Heard as HeardFromCaller, Id, Message as Request};
use crate::departure::Ending;
use crate::generation::{Event, Phase, Voice, Wish};
use crate::link::{Heard, Link, Word};
use crate::notify::{Delivered, Received, Strangers};
use crate::predecessors::News as PredecessorNews;
use crate::ready::Named;
use crate::signals::{Meaning, Signal};

/// Messages read in one wake, and callers accepted; the others wait in their sockets, and do not
/// keep a signal waiting.
pub(super) const AT_ONCE: usize = 32;
/// The same, where most of them are nobody's: those cost next to nothing, once it is known who sent the first.
const OF_STRANGERS: usize = 1024;

/// All that one wake found, before anything is done about it (§3).
#[derive(Default)]
pub(super) struct Wake {
    signals: Vec<(Signal, Option<i32>)>,
    ending: Option<Ending>,
    messages: Vec<Delivered>,
    answered_by_signal: bool,
    /// By a TERM to the keeper itself, which its launcher never sends.
    told_to_end: bool,
    named: Option<Named>,
    /// How the command before the start ended.
    before_start: Option<Ending>,
    /// All that it takes to be ready holds.
    holds: bool,
    requests: Vec<(Id, Request)>,
    /// Successors that have gone; how their attempts ended, where they said so.
    lost_successors: Vec<(u32, Option<Attempt>)>,
    predecessors: Vec<PredecessorNews>,
    /// The last one that served.
    predecessors_gone: bool,
    directory_gone: bool,
    launcher_lost: bool,
    wish: Option<Wish>,
    /// Whether there would be a successor, and if not, why.
    followed: Option<Result<(), String>>,
}

impl Keeper {
    /// Reads everything that waits, the senders of messages first: while the daemon is not reaped,
    /// its PID is its own.
    pub(super) fn read(&mut self, link: &mut Link) -> Wake {
        let mut wake = Wake::default();
        let mut strangers = Strangers::default();
        // They stand in the same queue as the daemon's own: what is not believed must not hold that up.
        for _ in 0..OF_STRANGERS {
            match self.notify.receive(self.daemon.pid(), &mut strangers) {
                Received::Message(delivered) => wake.messages.push(delivered),
                Received::Refused { believed } if believed => self.report_nonsense(),
                Received::Refused { .. } => {}
                Received::NothingYet => break,
            }
            if wake.messages.len() == AT_ONCE || strangers.count() == AT_ONCE {
                break;
            }
        }
        for (sender, messages) in strangers.all() {
            self.report_refused(sender, messages);
        }
        let mut changes = Changes::default();
        // One that tells of changes may come anew each time: whoever traces us may write there. What is left
        // wakes us again; and TERM and CHLD have the lower numbers, which come first.
        for _ in 0..AT_ONCE {
            let Ok(Some(info)) = self.signals.read_signal() else {
                break;
            };
            changes.hear(info.ssi_signo as i32);
            // The kernel's own CHLD says nothing; one from anyone else is ignored (R7).
            let by_daemon = info.ssi_code <= 0 && info.ssi_pid as i32 == self.daemon.pid();
            let answers = info.ssi_signo as i32 == self.service.detach_signal.number();
            wake.answered_by_signal |= by_daemon && answers;
            // Whoever ends everything, as at the machine's shutdown, means this one, too.
            let ends = info.ssi_signo as i32 == Signal::TERM.number();
            wake.told_to_end |= ends && !by_daemon;
        }
        loop {
            match link.hear() {
                Heard::Word(Word::Signal(signal, value)) => wake.signals.push((signal, value)),
                Heard::Word(Word::Reaped(pid, ending)) => {
                    wake.ending = wake.ending.or(self.daemon.reaped(pid, ending));
                }
                // Only the launcher's end hears these.
                Heard::Word(
                    Word::Handled(_)
                    | Word::Settled(_)
                    | Word::Ready
                    | Word::Leave(_)
                    | Word::LeaveLast(_),
                )
                | Heard::Notice(_) => {}
                Heard::NothingYet => break,
                Heard::End => {
                    wake.launcher_lost = true;
                    self.daemon.launcher_lost();
                    break;
                }
            }
        }
        let failure = self.daemon.exec_failure();
        self.exec_failure = self.exec_failure.take().or(failure);
        let daemon = self.daemon.pid();
        wake.named = self
            .pid_file_watch
            .as_mut()
            .and_then(|watch| watch.look(changes, daemon));
        wake.before_start = self.read_commands();
        self.begin_after_start();
        wake.holds = self.readiness_holds();
        let served = self.predecessors.any_serves();
        wake.predecessors = self.predecessors.read(self.clock.now());
        wake.predecessors_gone = served && !self.predecessors.any_serves();
        self.accept_callers();
        for heard in self.callers.read() {
            match heard {
                HeardFromCaller::Said(id, request) => wake.requests.push((id, request)),
                HeardFromCaller::SuccessorLost {
                    generation,
                    attempt,
                } => wake.lost_successors.push((generation, attempt)),
            }
        }
        wake.directory_gone = self.directory_has_gone(changes);
        wake.wish = self.read_wish(changes);
        wake.followed = self.wishes.read_followed(self.clock.now());
        wake.ending = wake.ending.or_else(|| self.daemon.reap());
        if wake.ending.is_some() {
            // It may have been written since the look above.
            let failure = self.daemon.exec_failure();
            self.exec_failure = self.exec_failure.take().or(failure);
        }
        wake
    }

    /// In the fixed order of §3: requests to stop, the child's status, messages, other signals, the
    /// clock. Only to answer a newcomer's *attach* comes before all of it.
    pub(super) fn act(&mut self, wake: Wake, link: &mut Link) {
        let before = std::mem::discriminant(&self.phase);
        let mut messages = wake.messages;
        let mut meant = Vec::new();
        if let Some(wish) = wake.wish {
            let of_unclear = |signal| (signal, None, meaning_by(wish));
            meant.extend(self.unclear.drain(..).map(of_unclear));
        }
        for (signal, value) in wake.signals {
            let meaning = self.meaning_of(signal);
            meant.extend(meaning.map(|meaning| (signal, value, meaning)));
        }
        // What was read before a signal says nothing of it: that one is asked about anew.
        let wish = wake.wish.filter(|_| self.unclear.is_empty());
        let (stops, others): (Vec<_>, Vec<_>) = meant
            .into_iter()
            .partition(|(_, _, meaning)| *meaning == Meaning::Stop);
        let (mut attaching, requests): (Vec<_>, Vec<_>) = wake
            .requests
            .into_iter()
            .partition(|(_, request)| matches!(request, Request::Attach { .. }));
        let ending = self.unsettled_end.take().or(wake.ending);
        // A newcomer waits for the answer to this first, and whoever asks for anything else is passed on to it.
        // Not before the daemon's end: what was the daemon's is to be held for it.
        if ending.is_none() {
            for (id, request) in std::mem::take(&mut attaching) {
                self.requested(id, request, link);
            }
        }
        self.newcomer_waits = !attaching.is_empty();
        let (stop_requests, requests): (Vec<_>, Vec<_>) =
            requests.into_iter().partition(|(_, request)| {
                matches!(request, Request::Stop { .. } | Request::End { .. })
            });
        // A successor that had to tell our daemon itself says so after it has told us to: whatever
        // else it wanted, no second signal must go out.
        let told = |request: &Request| matches!(request, Request::Commit { told: true });
        if let Some((id, request)) = requests.iter().find(|(_, request)| told(request)) {
            self.requested(*id, request.clone(), link);
        }
        if wake.told_to_end {
            self.stop(link);
        }
        for (signal, _, _) in stops {
            self.stop(link);
            link.say(Word::Handled(signal));
        }
        for (id, request) in stop_requests {
            self.requested(id, request, link);
        }
        if !self.unclear.is_empty() && !wake.launcher_lost && !self.stops_for_good() {
            // Whether that was a stop decides what becomes of the others.
            self.unsettled_end = ending;
        } else if let Some(ending) = ending {
            // What it said last means nothing to a generation that has ended; to the supervisor it does (R23),
            // and the launcher may be about to leave.
            for delivered in &mut messages {
                let text = std::mem::take(&mut delivered.message.text);
                let descriptors = std::mem::take(&mut delivered.descriptors);
                self.pass_on(&text, self.has_committed(), descriptors, link);
            }
            let unasked = self.report_end(ending);
            self.end_commands();
            self.tell_of_our_end(ending);
            let leaves_sockets = self.leaves_sockets();
            let ended = Event::DaemonEnded {
                ending,
                leaves_sockets,
            };
            self.apply(ended, link);
            if unasked && ending == Ending::Exited(0) {
                // After the launcher was told to leave: it looks at every process there is.
                self.report_background();
            }
        }
        self.newcomer_waits = false;
        for (id, request) in attaching {
            self.requested(id, request, link);
        }
        if let Some(ending) = wake.before_start {
            self.decide_start(ending, link);
        }
        self.hear_of_predecessors(wake.predecessors, link);
        if wake.predecessors_gone {
            self.take_places();
            self.apply(Event::PredecessorsGone, link);
        }
        if let Some(Named { predecessor_told }) = wake.named {
            self.told_by_daemon = self.named.filter(|_| predecessor_told);
            self.said_ready(Voice::Ours, link);
        }
        if wake.holds {
            self.become_ready(Voice::Plain, link);
        }
        if wake.answered_by_signal {
            self.apply(Event::Prepared, link);
        }
        for delivered in messages {
            let outcome = self.hear_out(delivered.message, delivered.descriptors, link);
            delivered.answer.give(outcome);
        }
        // Who asks something else shall be told what has become of a successor, if that is over.
        let (commits, others_requests): (Vec<_>, Vec<_>) = requests
            .into_iter()
            .partition(|(_, request)| matches!(request, Request::Commit { .. }));
        for (id, request) in commits {
            self.requested(id, request, link);
        }
        for (generation, attempt) in wake.lost_successors {
            self.successor_lost(generation, attempt, link);
        }
        for (id, request) in others_requests {
            self.requested(id, request, link);
        }
        if let Some(followed) = wake.followed {
            for id in std::mem::take(&mut self.to_restart) {
                self.restart_if(followed.clone(), id, link);
            }
        }
        if wake.directory_gone {
            self.apply(Event::DirectoryGone, link);
        }
        for (signal, value, meaning) in others {
            self.signalled(signal, value, meaning, link);
            link.say(Word::Handled(signal));
        }
        if let Some(wish) = wish {
            // The answer to an earlier question, where there is a new one.
            if before == std::mem::discriminant(&self.phase) {
                self.apply(Event::Wish(wish), link);
            }
        }
        if wake.wish.is_some() {
            self.report_trouble();
        }
        if wake.launcher_lost && std::mem::take(&mut self.supervised) {
            let reception = self.daemon.reception(self.service.prepare_signal);
            self.apply(Event::LauncherLost(reception), link);
        }
        let now = self.clock.woke();
        if self
            .phase
            .deadline()
            .is_some_and(|deadline| deadline <= now)
        {
            self.apply(Event::Deadline, link);
        }
        if self.predecessors.expire(now, &self.report) {
            self.mark_draining(&[]);
        }
        if self.predecessors.is_empty() {
            self.apply(Event::LastOneGone, link);
        }
        self.tell_watchers();
        if !matches!(self.phase, Phase::Starting { .. }) {
            // Not before: it may take its time.
            self.pid_file_watch = None;
        }
    }
}
