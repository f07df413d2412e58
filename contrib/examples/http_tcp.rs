//! HTTP over TCP.
//!
//!     seamless-run --pid-file /run/app/app.pid --listen http=127.0.0.1:8080 -- http_tcp
//!     http_tcp --listen 127.0.0.1:8080 --pid-file /run/app/app.pid      # bare: the next one replaces it
//!
//! A socket named `http` that was opened for it, it takes: all generations accept from one queue, and nobody in it is
//! ever lost. This is the way.
//!
//! Only without one it binds `--listen` by itself, with SO_REUSEPORT beside the predecessor's. That loses somebody now and
//! then: each socket has a queue of its own, the kernel chooses one by a hash, and whoever is in the predecessor's
//! between its last `accept` and its `close` is reset. `sysctl net.ipv4.tcp_migrate_req=1` would send them to the
//! successor, but it is 0 by default, and root's to change.

mod web;

use std::{
    env, io,
    net::{self, SocketAddr},
    process::ExitCode,
};

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
    let listener = match seamless.listeners()?.tcp("http")? {
        Some(held) => held,
        None => listen(address).map_err(|error| format!("{address}: {error}"))?,
    };
    // For whoever holds it: every version of this daemon does the same.
    listener.set_nonblocking(true)?;
    web::serve(TcpListener::from_std(listener)?, &seamless, ()).await?;
    Ok(())
}

fn listen(address: SocketAddr) -> io::Result<net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    Ok(socket.into())
}

impl web::Listener for TcpListener {
    type Stream = TcpStream;
    type Std = net::TcpListener;

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
