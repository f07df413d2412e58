//! How a daemon's readiness is seen where it does not say so to the notify socket.

mod pid_file;

pub(crate) use pid_file::{Named, PidFileWatch};
