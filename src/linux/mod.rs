//! What only Linux has, in words of our own: handles on processes and what `/proc` says of them, the kernel's
//! word on who has sent a message, changes in a directory told by signals.
//!
//! With `sys.rs`, which has the calls themselves, this is the seam at which a port would begin. Who else
//! speaks to Linux, for one purpose each, `docs/portability.md` lists, and `.ci/portability` compares.

pub(crate) mod ancillary;
pub(crate) mod changes;
pub(crate) mod process;
