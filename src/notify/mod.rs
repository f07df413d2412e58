//! What daemons say: the socket, who is believed, the messages, and `seamless-run notify`.

mod message;
mod socket;
pub(crate) mod verb;

pub(crate) use message::{Message, Statement};
pub(crate) use socket::{Answer, NotifySocket, Received};
