//! What daemons say, and what is passed on: the socket, who is believed, the messages, the supervisor's
//! own socket, and `seamless-run notify`.

mod message;
mod notice;
mod socket;
mod upstream;
pub(crate) mod verb;

pub(crate) use message::{Message, Statement};
pub(crate) use notice::{Notice, let_go, make_room};
pub(crate) use socket::{Delivered, LONGEST, NotifySocket, Received, Strangers};
pub(crate) use upstream::{Upstream, report_failed_start, send_bytes};
