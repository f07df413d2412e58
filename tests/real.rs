//! Everything for real: real processes, real signals, real supervisors.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed call is a failed test"
)]

#[path = "../contrib/load.rs"]
mod load;
mod stage;
mod support;

mod daemons;
mod faults;
mod files;
mod handover;
mod launch;
mod notify;
mod prepare;
mod recovery;
mod seed;
mod signals;
mod supervisors;
mod transcripts;
mod transparency;
mod verbs;
