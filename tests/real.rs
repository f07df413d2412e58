//! Everything for real: real processes, real signals, real supervisors.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed call is a failed test"
)]

#[path = "../contrib/load.rs"]
mod load;
mod puppet;
mod scene;
mod stage;
mod support;

mod another_service;
mod attack;
mod campaign;
mod check;
mod comforts;
mod command_faults;
mod commands;
mod daemons;
mod demo;
mod drain;
mod faults;
mod files;
mod handover;
mod harm;
mod holding;
mod languages;
mod launch;
mod listen;
mod manual;
mod notify;
mod one_wake;
mod picture;
mod prepare;
mod readiness;
mod ready;
mod recipes;
mod recovery;
mod rivals;
mod seed;
mod servers;
mod signals;
mod sockets;
mod supervisors;
mod systemd;
mod transcripts;
mod transparency;
mod unmodified;
mod verbs;
mod weight;
mod wish_faults;
mod wishes;
