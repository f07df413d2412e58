//! What the daemon says to its keeper, and what it is answered (R12, R22).

use std::os::fd::OwnedFd;

use super::Keeper;
use crate::generation::{Event, Phase, Voice};
use crate::link::Link;
use crate::notify::{Message, Statement};

impl Keeper {
    /// What one message says, and the answer to it.
    pub(super) fn hear_out(
        &mut self,
        message: Message,
        descriptors: Vec<OwnedFd>,
        link: &mut Link,
    ) -> Result<(), String> {
        let mut outcome = Ok(());
        let was_ready = self.has_committed();
        self.apply(Event::Spoke(message.voice), link);
        for statement in message.statements {
            let said = match statement {
                Statement::Ready => {
                    self.said_ready(message.voice, link);
                    self.answer_to_ready()
                }
                Statement::Prepared => {
                    self.apply(Event::Prepared, link);
                    self.answer_to_prepared()
                }
                Statement::Stopping => {
                    self.report
                        .detail(&format!("{} is about to exit", self.name()));
                    Ok(())
                }
                Statement::Status(text) => {
                    self.report.detail(&format!("{} says: {text}", self.name()));
                    self.changed |= self.status != text;
                    self.status = text;
                    Ok(())
                }
                Statement::Unknown(word) => Err(format!(
                    "this version of seamless-run does not know X_SEAMLESS={word}"
                )),
            };
            outcome = outcome.and(said);
        }
        self.pass_on(&message.text, was_ready, descriptors, link);
        outcome
    }

    /// All that it takes holds.
    pub(super) fn become_ready(&mut self, voice: Voice, link: &mut Link) {
        self.said_ready = true;
        self.apply(Event::Ready(voice), link);
    }

    fn answer_to_ready(&self) -> Result<(), String> {
        match (self.phase, &self.commit_failure) {
            (
                Phase::Serving { .. }
                | Phase::Preparing { .. }
                | Phase::Parting { .. }
                | Phase::Standby { .. },
                failure,
            ) => failure.clone().map_or(Ok(()), Err),
            // Something else has to hold, too.
            (Phase::Starting { .. }, _) => Ok(()),
            (
                Phase::Holding { .. }
                | Phase::Draining { .. }
                | Phase::Stopping { .. }
                | Phase::Killing { .. }
                | Phase::Lingering { .. }
                | Phase::Gone,
                _,
            ) => Err("this generation is being stopped".to_owned()),
        }
    }

    fn answer_to_prepared(&self) -> Result<(), String> {
        match self.phase {
            Phase::Parting { .. } | Phase::Standby { .. } => Ok(()),
            Phase::Starting { .. } | Phase::Serving { .. } | Phase::Preparing { .. } => {
                Err("nobody has asked this daemon to prepare".to_owned())
            }
            Phase::Holding { .. }
            | Phase::Draining { .. }
            | Phase::Stopping { .. }
            | Phase::Killing { .. }
            | Phase::Lingering { .. }
            | Phase::Gone => Err("this generation is being stopped".to_owned()),
        }
    }
}
