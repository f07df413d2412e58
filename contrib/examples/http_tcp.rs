//! HTTP over TCP. Each generation has a listening socket of its own, on the same port by SO_REUSEPORT.
//!
//!     seamless-run --pid-file /run/app/app.pid -- http_tcp --listen 127.0.0.1:8080
//!     http_tcp --listen 127.0.0.1:8080 --pid-file /run/app/app.pid      # bare: the next one replaces it

mod web;

use std::{
    env, io,
    net::{self, SocketAddr},
    os::fd::AsFd,
    process::ExitCode,
    time::Duration,
};

use nix::{libc, sys::socket};
use seamless_client::Seamless;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            web::report("http_tcp", &*error);
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut address: SocketAddr = ([127, 0, 0, 1], 8080).into();
    let mut seamless = Seamless::builder();
    let mut words = env::args_os().skip(1);
    while let Some(option) = words.next() {
        match (option.to_str(), words.next()) {
            (Some("--listen"), Some(value)) => {
                let value = value.to_string_lossy();
                address = value.parse().map_err(|error| format!("{value}: {error}"))?;
            }
            (Some("--pid-file"), Some(value)) => seamless = seamless.pid_file(value),
            _ => return Err("usage: http_tcp [--listen ADDRESS:PORT] [--pid-file FILE]".into()),
        }
    }
    // First of all: from here on the signals are caught that would kill a daemon that is still starting.
    let seamless = seamless.build()?;
    let listener = listen(address).map_err(|error| format!("{address}: {error}"))?;
    web::serve(listener, &seamless, Shared).await?;
    Ok(())
}

/// The address, which every generation listens on.
struct Shared;

impl web::Place<TcpListener> for Shared {
    fn taken(&mut self) {}

    fn leave(&mut self, listener: &TcpListener) {
        if let Err(error) = send_elsewhere(listener) {
            web::report("new connections may come here until the end", &error);
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    // From now on connections come to us: everything that can fail comes before this.
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}

impl web::Listener for TcpListener {
    type Stream = TcpStream;
    type Std = net::TcpListener;

    /// Who has our SYN-ACK already comes here, as soon as the ACK does: a round trip.
    const LINGER: Duration = Duration::from_millis(250);

    async fn accept(&self) -> io::Result<TcpStream> {
        Ok(self.accept().await?.0)
    }

    fn into_std(self) -> io::Result<net::TcpListener> {
        self.into_std()
    }

    fn accept_queued(listener: &net::TcpListener) -> io::Result<TcpStream> {
        let (stream, _) = listener.accept()?;
        stream.set_nonblocking(true)?;
        TcpStream::from_std(stream)
    }
}

/// Sends new connections to the successor.
///
/// Of the sockets with one SO_REUSEPORT the kernel takes one by a hash, ours too: a connection that arrives between our
/// last `accept` and our `close` would be reset. (`sysctl net.ipv4.tcp_migrate_req=1` cures that as well, for root.)
/// So the group gets a program that says which one: "number 1". They are numbered from 0 by age; 0 is this one. When
/// there is no number 1, as after our end or without a successor, the hash decides as before; so it does, in effect,
/// when two restarts come within `LINGER`.
fn send_elsewhere(listener: &impl AsFd) -> io::Result<()> {
    let mut instructions = [libc::sock_filter {
        code: 0x06, // BPF_RET | BPF_K: return k
        jt: 0,
        jf: 0,
        k: 1,
    }];
    let program = libc::sock_fprog {
        len: 1,
        filter: instructions.as_mut_ptr(),
    };
    socket::setsockopt(listener, socket::sockopt::AttachReusePortCbpf, &program)?;
    Ok(())
}
