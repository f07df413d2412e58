//! The line to whoever is at the other end: a keeper, nobody, or a test.

use crate::bare::Bare;
use crate::error::Error;
use crate::inherited;
use crate::keeper::Keeper;
use crate::listeners::Listeners;
#[cfg(feature = "testing")]
use crate::testing::Rehearsal;
use std::time::Duration;

#[derive(Debug)]
pub(crate) enum Line {
    Bare(Bare),
    Keeper(Keeper),
    #[cfg(feature = "testing")]
    Rehearsal(std::sync::Arc<Rehearsal>),
}

impl Line {
    pub(crate) fn started(&self, limit: Duration) -> Result<(), Error> {
        match self {
            Line::Bare(bare) => bare.started(),
            Line::Keeper(keeper) => keeper.started(limit),
            #[cfg(feature = "testing")]
            Line::Rehearsal(rehearsal) => rehearsal.started(),
        }
    }

    pub(crate) fn status(&self, text: &str) -> Result<(), Error> {
        match self {
            Line::Bare(_) => Ok(()),
            Line::Keeper(keeper) => keeper.status(text),
            #[cfg(feature = "testing")]
            Line::Rehearsal(rehearsal) => rehearsal.status(text),
        }
    }

    pub(crate) fn prepared(&self, limit: Option<Duration>) -> Result<(), Error> {
        match self {
            Line::Bare(_) => Ok(()),
            Line::Keeper(keeper) => keeper.prepared(limit),
            #[cfg(feature = "testing")]
            Line::Rehearsal(rehearsal) => rehearsal.prepared(),
        }
    }

    /// Whoever opened them: without a launcher it may have been a service manager.
    pub(crate) fn listeners(&self) -> Result<Listeners, Error> {
        match self {
            Line::Bare(_) | Line::Keeper(_) => inherited::take(),
            #[cfg(feature = "testing")]
            Line::Rehearsal(rehearsal) => rehearsal.listeners(),
        }
    }
}
