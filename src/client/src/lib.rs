//! What a daemon says to `seamless-run`, and hears from it. `seamless-run` stands between a service supervisor and a
//! daemon, and makes the supervisor's ordinary *restart* one that loses no request. This crate is for daemons written in
//! Rust; it speaks the protocol that `docs/protocol.md` of `seamless-run` describes.
//!
//! # A daemon
//!
//! ```no_run
//! use seamless_client::Seamless;
//! use std::io::Write;
//! use std::net::TcpListener;
//! use std::thread;
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // First of all: from here on no request is lost.
//!     let seamless = Seamless::builder().pid_file("/run/app/app.pid").build()?;
//!
//!     // Opened for this daemon and kept through every restart; one of our own only if there is none.
//!     let listener = match seamless.listeners()?.tcp("http")? {
//!         Some(listener) => listener,
//!         None => TcpListener::bind("127.0.0.1:8080")?,
//!     };
//!     let accepting = listener.try_clone()?;
//!     thread::spawn(move || {
//!         for connection in accepting.incoming().flatten() {
//!             thread::spawn(move || (&connection).write_all(b"hello\n"));
//!         }
//!     });
//!
//!     // It serves: now, and not before, the predecessor may drain.
//!     if let Err(error) = seamless.started() {
//!         eprintln!("app: {error}");
//!     }
//!     seamless.wait();
//!     // Accept nothing new, finish what is in hand, and leave.
//!     Ok(())
//! }
//! ```
//!
//! # An asynchronous one
//!
//! [`Seamless::drain_requested`] is a future for any executor. No runtime is named or needed: a thread of ours, started
//! with the first such future, wakes it.
//!
//! ```no_run
//! # async fn accept() -> std::io::Result<()> { Ok(()) }
//! # async fn select<A, B>(_: A, _: B) {}
//! # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
//! let seamless = seamless_client::Seamless::from_env()?;
//! seamless.on_prepare(|| { /* let go of the admin port */ });
//! seamless.started()?; // waits for the launcher: in a busy executor, give it to a thread for blocking calls
//! select(seamless.drain_requested(), accept()).await; // your executor's own, as tokio::select!
//! # Ok(())
//! # }
//! ```
//!
//! An event loop takes [`Seamless::requests`] instead, which is a descriptor and needs no thread.
//!
//! # Sockets
//!
//! A daemon that binds its own socket has to give it up some day, and whoever waits in its queue then is lost. So let
//! the launcher open it, `seamless-run --listen http=127.0.0.1:8080 …`, and take it with [`Seamless::listeners`], by name
//! and kind: predecessor and successor accept from one queue, which is there before the first generation and after the
//! last. The variables are systemd's, so the same daemon takes the sockets of a systemd socket unit, with or without a
//! launcher, and binds by itself where there are none.
//!
//! The socket is shared, which asks for a little care: [`Listeners`] says what not to do to it.
//!
//! # Promises
//!
//! - **A request that comes after [`Seamless::from_env`] is not lost**, whoever looks for it, however late.
//! - **Every taker sees every drain**: each clone of the handle, each [`Requests`], each future, each call of
//!   [`Seamless::wait`]. The first one stays: who comes later finds it.
//! - **Every *prepare* goes to exactly one taker**: to the callback of [`Seamless::on_prepare`] if there is one; else to
//!   whichever of [`Seamless::next_request`] and [`Requests::try_next`] looks first; else, if somebody waits for the drain
//!   only, it is answered at once. One that nobody takes waits.
//! - **An answer cannot be forgotten**: it is given when [`Prepare`] is dropped, and when a callback panics.
//! - **No error ends a daemon**, and nothing here panics. What fails is in an [`Error`], whose words are a whole sentence
//!   for the log.
//! - **No stranger is signalled.** A process is told to drain only if user, boot and start time are those in the record,
//!   and through a pidfd.
//! - **No descriptor has two owners.** The sockets are taken all together or not at all, once in a process, and only
//!   if it was started with them.
//! - **Nothing is changed behind the daemon's back**: no environment variable, no signal mask, no ignored signal; no
//!   global state but the signal handlers, and that the sockets were taken.
//!
//! # Without a launcher
//!
//! The same program runs bare: in a terminal, in a test, under a supervisor alone. TERM and INT are a
//! [`Request::Drain`], [`Seamless::status`] goes nowhere, and if a [`Builder::pid_file`] was named,
//! [`Seamless::started`] does what a launcher would have done: it takes the lock beside the PID file for a moment, writes
//! PID file and record, and tells every living generation in the record to drain. So two bare daemons succeed each other,
//! and either kind succeeds the other. If the PID file is supervised by a launcher, `started` is refused. Elsewhere than
//! on Linux the PID file is written, and nobody is signalled. The files stay when the daemon ends; a stale one is
//! recognised as such.
//!
//! # Limitations
//!
//! - **Somebody has to look.** A daemon that calls none of `wait`, `next_request`, `drain_requested`, `on_prepare` and
//!   `requests` catches TERM and does nothing with it.
//! - **A blocked signal does not come.** The signal mask is the daemon's own affair.
//! - **Call it once.** Two handles that are not clones both answer. After a `fork` without `exec` use it in one of the two
//!   processes only, and make it there.
//! - **The launcher's socket is an abstract one**, which belongs to a network namespace. From another one
//!   [`Seamless::started`] and [`Seamless::status`] fail with [`ErrorKind::Gone`]; *prepared* is then said with CHLD, if
//!   the launcher is the daemon's parent.
//! - **The sockets are for the PID in `LISTEN_PID`**: behind a wrapper that does not `exec`, and after a `fork`, there are
//!   none.
//! - **A service manager's own `NOTIFY_SOCKET` is not spoken to**: bare, nobody is told of readiness.
//! - Where panics abort, one in a callback does too.
#![cfg_attr(
    feature = "testing",
    doc = "\n# Tests\n\nWith the feature `testing`, [`testing::Launcher`] plays the launcher inside a test."
)]
#![deny(missing_docs)]

mod bare;
mod bell;
mod builder;
mod environment;
mod error;
mod files;
mod inbox;
mod inherited;
mod keeper;
mod line;
mod listeners;
#[cfg(target_os = "linux")]
mod record;
mod requests;
mod seamless;
mod signals;
#[cfg(target_os = "linux")]
mod succession;
mod sys;
#[cfg(feature = "testing")]
pub mod testing;
mod wire;

pub use builder::Builder;
pub use error::{Error, ErrorKind};
pub use listeners::Listeners;
pub use requests::{DrainRequested, Prepare, Request, Requests};
pub use seamless::Seamless;
