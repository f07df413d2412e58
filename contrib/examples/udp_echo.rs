//! UDP: each datagram comes back, with a line about who answers before it.
//!
//!     seamless-run --pid-file /run/app/app.pid --listen echo=udp:127.0.0.1:7007 -- udp_echo
//!     udp_echo --listen 127.0.0.1:7007      # bare
//!
//! A socket named `echo` that was opened for it, it takes. What comes between two generations waits in that, since it is
//! the same one for both. Only without one it binds `--listen` by itself: then the next one finds the address in use
//! until this one has gone.

use std::{
    env,
    io::{self, ErrorKind, Write},
    net::{SocketAddr, UdpSocket},
    os::fd::AsFd,
    process::{self, ExitCode},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use seamless_client::{Request, Seamless};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report("udp_echo", &*error);
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut address: SocketAddr = ([127, 0, 0, 1], 7007).into();
    let mut words = env::args_os().skip(1);
    while let Some(option) = words.next() {
        match (option.to_str(), words.next()) {
            (Some("--listen"), Some(value)) => {
                let value = value.to_string_lossy();
                address = value.parse().map_err(|error| format!("{value}: {error}"))?;
            }
            _ => return Err("usage: udp_echo [--listen ADDRESS:PORT]".into()),
        }
    }
    // First of all: from here on the signals are caught that would kill a daemon that is still starting.
    let seamless = Seamless::from_env()?;
    let socket = match seamless.listeners()?.udp("echo")? {
        Some(held) => held,
        None => UdpSocket::bind(address).map_err(|error| format!("{address}: {error}"))?,
    };
    // The predecessor reads from it too until it drains: what `poll` has seen may be gone.
    socket.set_nonblocking(true)?;
    let requests = seamless.requests()?;
    if let Err(error) = seamless.started() {
        report("started", &error);
    }

    let generation = match seamless.generation() {
        Some(number) => number.to_string(),
        None => "-".to_owned(),
    };
    let mut answer = format!("pid {} generation {generation}\n", process::id()).into_bytes();
    let identity = answer.len();
    // More than any datagram has.
    answer.resize(identity + 65_536, 0);
    loop {
        let mut descriptors = [requests.as_fd(), socket.as_fd()]
            .map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN));
        match poll(&mut descriptors, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        // Before the socket: what is in that now is the successor's to read. There is nothing to let go of at a
        // *prepare*; dropping it is the answer.
        if let Some(Request::Drain) = requests.try_next() {
            return Ok(());
        }
        let sent = socket
            .recv_from(&mut answer[identity..])
            .and_then(|(length, client)| socket.send_to(&answer[..identity + length], client));
        match sent {
            Err(error) if error.kind() != ErrorKind::WouldBlock => report("echo", &error),
            _ => {}
        }
    }
}

/// One line for the log. Not `eprintln!`, which panics when the log has lost its reader.
fn report(what: &str, error: &dyn std::error::Error) {
    writeln!(io::stderr(), "{}: {what}: {error}", process::id()).ok();
}
