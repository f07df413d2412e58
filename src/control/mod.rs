//! What keepers, and the verbs, say to each other over the control socket (§6, R11, R25).
//!
//! [`wire`] has the words as text, [`Connection`] one line between two processes, [`Listener`] the
//! place where a keeper is found.

mod callers;
mod connection;
mod listener;
pub(crate) mod wire;

use crate::files::Files;
pub(crate) use callers::{Callers, Heard, Id, Role};
pub(crate) use connection::{Connection, Received};
pub(crate) use listener::{Accepted, Listener, Unreachable, connect, connect_to_keeper};
pub(crate) use wire::{Attempt, Deadline, Message, Standing};

/// Tells whoever serves that a start has failed before it came as far as having a generation: its
/// supervisor's wish was not a stop (R16). Nobody may be there, and nobody is waited for.
pub(crate) fn report_failed_start(files: &Files, why: &str) {
    let Ok(connection) = files.connect() else {
        return;
    };
    let why = why.to_owned();
    let generation = 0;
    let _ = connection.send(&Message::Attach { generation });
    let _ = connection.send(&Message::Attempt(Attempt::Failed { why }));
}
