//! The daemon of the campaign: one thread, one `poll`, and a word at once for each request that it has in hand.
//!
//! Who accepts a connection says so in the head of the answer before anything else, so that of a request that was cut
//! short it is known in whose hands it was. It accepts nothing before its *started* was answered.

use std::{
    env,
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    os::{fd::AsFd, unix::net::UnixStream},
    process::{self, ExitCode},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use seamless_client::{Request, Seamless};

use super::Outcome;

/// How it behaves, one of these words; nothing: well.
pub(crate) const VERSION: &str = "CAMPAIGN_VERSION";
/// For how many milliseconds it starts.
pub(crate) const START: &str = "CAMPAIGN_START";

/// Whoever connects and asks nothing is let go of.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn run() -> Outcome<ExitCode> {
    let version = env::var(VERSION).unwrap_or_default();
    if version == "crash" {
        return Ok(ExitCode::from(3));
    }
    let seamless = Seamless::from_env()?;
    let requests = seamless.requests()?;
    let listener = seamless.listeners()?.tcp("http")?.ok_or("no socket")?;
    listener.set_nonblocking(true)?;
    let start = env::var(START).ok().and_then(|text| text.parse().ok());
    thread::sleep(Duration::from_millis(start.unwrap_or(0)));
    if version == "hang" {
        // TERM is caught, and nobody looks.
        loop {
            thread::park();
        }
    }
    let (said, started) = mpsc::channel();
    let (bell, ring) = UnixStream::pair()?;
    if version != "silent" {
        // It waits for the keeper, which may stand still.
        let seamless = seamless.clone();
        thread::spawn(move || {
            // What went wrong is in the log of its keeper, or that one is gone.
            said.send(seamless.started().is_ok()).ok();
            drop(ring);
        });
    }
    let generation = seamless.generation().map_or(0, u32::from);
    let mut server = Server {
        identity: format!("pid {} generation {generation}", process::id()),
        connections: Vec::new(),
    };
    let (mut accepts, mut drains) = (false, false);
    loop {
        let mut waits = vec![PollFd::new(requests.as_fd(), PollFlags::POLLIN)];
        if accepts {
            waits.push(PollFd::new(listener.as_fd(), PollFlags::POLLIN));
        } else if !drains {
            waits.push(PollFd::new(bell.as_fd(), PollFlags::POLLIN));
        }
        let timeout = server.wait_for(&mut waits);
        match poll(&mut waits, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if started.try_recv().is_ok() {
            accepts = !drains;
        }
        while let Some(request) = requests.try_next() {
            if matches!(request, Request::Drain) {
                drains = true;
            }
        }
        // Whoever is in the queue when it drains is its own, if nobody else has the socket.
        if accepts {
            server.accept(&listener);
        }
        accepts &= !drains;
        server.serve();
        if drains && server.connections.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

struct Server {
    identity: String,
    connections: Vec<Connection>,
}

struct Connection {
    stream: TcpStream,
    asked: Vec<u8>,
    since: Instant,
    /// When it is answered, once the request has come.
    due: Option<Instant>,
}

impl Server {
    fn accept(&mut self, listener: &TcpListener) {
        loop {
            match listener.accept() {
                Ok((mut stream, _)) => {
                    let head = format!("HTTP/1.1 200 OK\r\nX-Process: {}\r\n", self.identity);
                    // What goes wrong on a connection is its client's affair.
                    stream.write_all(head.as_bytes()).ok();
                    stream.set_nonblocking(true).ok();
                    self.connections.push(Connection {
                        stream,
                        asked: Vec::new(),
                        since: Instant::now(),
                        due: None,
                    });
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Nobody else waits, or there are no descriptors left: the next round tries again.
                Err(_) => return,
            }
        }
    }

    /// Adds those that have not asked yet.
    fn wait_for<'a>(&'a self, waits: &mut Vec<PollFd<'a>>) -> PollTimeout {
        let now = Instant::now();
        let mut timeout = None;
        for connection in &self.connections {
            let until = connection.due.unwrap_or(connection.since + PATIENCE);
            let left = until.saturating_duration_since(now) + Duration::from_millis(1);
            timeout = Some(timeout.map_or(left, |other: Duration| other.min(left)));
            if connection.due.is_none() {
                waits.push(PollFd::new(connection.stream.as_fd(), PollFlags::POLLIN));
            }
        }
        timeout.map_or(PollTimeout::NONE, |left| {
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        })
    }

    fn serve(&mut self) {
        let body = format!("{}\n", self.identity);
        let rest = format!("Content-Length: {}\r\n\r\n{body}", body.len());
        self.connections
            .retain_mut(|connection| connection.goes_on(&rest));
    }
}

impl Connection {
    fn goes_on(&mut self, rest: &str) -> bool {
        let mut buffer = [0; 512];
        while self.due.is_none() {
            match self.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(read) => {
                    self.asked.extend_from_slice(&buffer[..read]);
                    if self.asked.ends_with(b"\r\n\r\n") {
                        self.due = Some(Instant::now() + delay(&self.asked));
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return self.since.elapsed() < PATIENCE;
                }
                Err(_) => return false,
            }
        }
        if self.due.is_some_and(|due| due <= Instant::now()) {
            self.stream.write_all(rest.as_bytes()).ok();
            return false;
        }
        true
    }
}

/// `GET /?delay=500ms` is answered half a second later.
fn delay(asked: &[u8]) -> Duration {
    let text = String::from_utf8_lossy(asked);
    let words = text.split_once("?delay=").map(|(_, rest)| rest);
    let number = words.and_then(|rest| rest.split_once("ms")?.0.parse().ok());
    Duration::from_millis(number.unwrap_or(0))
}
