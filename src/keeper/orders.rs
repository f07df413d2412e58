//! What a signal to the launcher brings about, and what the daemon is sent.

use std::io;

use super::Keeper;
use crate::generation::{Event, Phase, Reception, Why};
use crate::link::Link;
use crate::report::cause;
use crate::signals::{Meaning, Signal};

impl Keeper {
    pub(super) fn signalled(
        &mut self,
        signal: Signal,
        value: Option<i32>,
        meaning: Meaning,
        link: &mut Link,
    ) {
        match meaning {
            Meaning::Restart => self.restart(false, link),
            // The one was dealt with before everything else, the other has become something else.
            Meaning::Stop | Meaning::Auto | Meaning::Ignore => {}
            Meaning::Forward(other) if self.commands.is_before_start() => {
                self.forward_before_start(other);
            }
            Meaning::Forward(Signal::TSTP)
                if self.daemon.reception(Signal::TSTP) == Reception::Unhandled =>
            {
                // R10: in a session without a terminal the default of TSTP does nothing.
                self.send(Signal::STOP, None);
            }
            Meaning::Forward(other) => self.send(other, value.filter(|_| other == signal)),
        }
    }

    pub(super) fn restart(&mut self, explicit: bool, link: &mut Link) {
        let reception = self.daemon.reception(self.service.prepare_signal);
        let event = Event::Restart {
            reception,
            explicit,
        };
        self.apply(event, link);
    }

    pub(super) fn stop(&mut self, link: &mut Link) {
        let within = self.service.policy.stop_timeout;
        self.apply(Event::Stop { within }, link);
    }

    /// It would wait for the daemon, and may be the end of one that has not come to handle it.
    fn forward_before_start(&mut self, signal: Signal) {
        if [Signal::TERM, Signal::INT, Signal::QUIT].contains(&signal) {
            self.send(signal, None);
            self.abandon_start();
        } else {
            self.report.note(&format!(
                "{} has not been started; it does not get {signal}",
                self.name()
            ));
        }
    }

    pub(super) fn send(&self, signal: Signal, value: Option<i32>) {
        self.is_sent(signal, self.daemon.send(signal, value));
    }

    pub(super) fn drain(&self) {
        let is_late = matches!(
            self.phase,
            Phase::Stopping {
                why: Why::NotReady,
                ..
            }
        );
        if is_late && self.commands.is_before_start() {
            // It ends as one that was not let run.
            return;
        }
        let signal = self.drain_signal();
        let sent = if self.service.drain.group {
            self.daemon.send_to_group(signal)
        } else {
            self.daemon.send(signal, None)
        };
        self.is_sent(signal, sent);
    }

    pub(super) fn drain_signal(&self) -> Signal {
        let drain = self.service.drain;
        if drain.signal == Signal::TERM || !self.daemon.is_executed() {
            return Signal::TERM;
        }
        drain.signal_for(self.daemon.hears(drain.signal))
    }

    fn is_sent(&self, signal: Signal, sent: io::Result<()>) {
        if let Err(error) = sent {
            let name = self.name();
            self.report.warn(&format!(
                "cannot send {signal} to {name}: {}",
                cause(&error)
            ));
        }
    }

    /// With its process group: the workers of a dead master would go on.
    pub(super) fn kill(&self) {
        self.is_sent(Signal::KILL, self.daemon.send_to_group(Signal::KILL));
    }
}
