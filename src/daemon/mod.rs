//! The daemon: how it is started, what it would do with a signal, how it ended.

mod environment;
mod reception;
mod spawn;

pub(crate) use environment::Environment;
pub(crate) use reception::of as reception_of;
pub(crate) use spawn::{Command, Daemon, exec_here};
