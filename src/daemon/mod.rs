//! The daemon: how it is started, what it would do with a signal, how it ended.

mod drain;
mod environment;
mod reception;
mod spawn;

pub(crate) use drain::Drain;
pub(crate) use environment::{Environment, end_commands_of, for_command};
pub(crate) use reception::of as reception_of;
pub(crate) use spawn::{Command, Daemon, Given, exec_here};
