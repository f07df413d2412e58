//! An HTTP server that proxies are in front of: a thread of the test.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Serves until it is dropped; connections that it has end with their other side.
pub(super) struct Backend {
    address: SocketAddr,
    polls: Arc<Polls>,
}

/// Whoever asked for `/poll`.
#[derive(Default)]
struct Polls {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: usize,
    answered: bool,
    closed: bool,
}

impl Polls {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, until: impl Fn(&State) -> bool) {
        let mut state = self.lock();
        while !until(&state) {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

impl Backend {
    /// In the network of the calling thread.
    pub(super) fn start(port: u16) -> Backend {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = TcpListener::bind(address).unwrap();
        let polls = Arc::new(Polls::default());
        let shared = Arc::clone(&polls);
        thread::spawn(move || {
            for connection in listener.incoming() {
                if shared.lock().closed {
                    return;
                }
                let (connection, polls) = (connection.unwrap(), Arc::clone(&shared));
                // A client that leaves is none of our concern: the load counts what is lost.
                thread::spawn(move || serve(connection, &polls).ok());
            }
        });
        Backend { address, polls }
    }

    /// Waits until so many ask for `/poll`.
    pub(super) fn wait_polls(&self, count: usize) {
        self.polls.wait(|state| state.waiting == count);
    }

    /// They get their answer.
    pub(super) fn answer_polls(&self) {
        self.polls.change(|state| state.answered = true);
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.polls.change(|state| {
            state.closed = true;
            state.answered = true;
        });
        // It wakes up, and sees it.
        TcpStream::connect(self.address).ok();
    }
}

fn serve(mut connection: TcpStream, polls: &Polls) -> std::io::Result<()> {
    let mut reader = BufReader::new(connection.try_clone()?);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        match line.trim_end() {
            "" => break,
            field => head.push(field.to_owned()),
        }
    }
    let request = &head[0];
    let value = |name: &str| {
        let named = |field: &String| {
            let (its, value) = field.split_once(':')?;
            its.eq_ignore_ascii_case(name)
                .then(|| value.trim().to_owned())
        };
        head.iter().find_map(named)
    };
    if value("Upgrade").is_some() {
        let answer =
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n";
        connection.write_all(answer.as_bytes())?;
        std::io::copy(&mut reader, &mut connection)?;
        return Ok(());
    }
    if request.contains("/poll") {
        polls.change(|state| state.waiting += 1);
        polls.wait(|state| state.answered);
    }
    if let Some((_, delay)) = request.split_once("delay=") {
        let delay = delay.split_once("ms").map_or("0", |(number, _)| number);
        thread::sleep(Duration::from_millis(delay.parse().unwrap_or(0)));
    }
    let body = format!("{}\n", value("X-Served-By").unwrap_or_default());
    let length = body.len();
    write!(
        connection,
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}
