//! A load generator: clients that open a new connection for each request, and count what becomes of it.
//!
//! For the demo and the tests, which take it in by `#[path]`. Plain threads, so that nothing but the kernel
//! stands between a client and the service.
//!
//!     let load = Load::start(Target::Unix(path), 8, Some(SlowSpec { clients: 4, delay: Duration::from_secs(2) }));
//!     let first = load.wait_answer(Duration::from_secs(5), |_| true);
//!     let known = load.report().pids();
//!     // … restart …
//!     let next = load.wait_answer(Duration::from_secs(5), |answer| !known.contains(&answer.pid));
//!     let report = load.stop();
//!     assert_eq!(report.failed(), 0, "{report}");
#![allow(dead_code, reason = "each user takes its part of it")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::{self, Read, Write},
    net::SocketAddr,
    path::PathBuf,
    str,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use socket2::{Domain, SockAddr, Socket, Type};

/// For a connect, for a write, and for an answer beyond the delay that was asked for. A restart that takes a
/// request this long has lost it.
const PATIENCE: Duration = Duration::from_secs(30);

/// All fast clients together, per second, unless said otherwise.
///
/// Loopback has 28,000 ports for clients, and the side that closes first keeps its port in TIME_WAIT for a minute.
/// So the clients read to the end of file: the server closes first, and the client's port is free at once. The
/// rate is limited all the same, so that clients that are refused do not spin.
pub(crate) const MAX_RATE: u32 = 20_000;

/// Where the service listens.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Clients that always have a request in flight which the service takes long to answer (`GET /?delay=…`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlowSpec {
    pub(crate) clients: usize,
    pub(crate) delay: Duration,
}

/// How a request can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failure {
    /// ECONNREFUSED: nobody listens.
    Refused,
    /// ENOENT: the socket's path is gone.
    NotFound,
    /// ECONNRESET or EPIPE: the listener was closed with us in its queue, or the process died.
    Reset,
    /// End of file before the end of the answer, or instead of it.
    Truncated,
    TimedOut,
    /// An answer other than 200.
    BadStatus,
    Other,
}

/// What became of the requests of one kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) ok: u64,
    pub(crate) failures: BTreeMap<Failure, u64>,
    /// The slowest of those that were answered, from before the connect to the end of file.
    pub(crate) slowest: Duration,
}

impl Tally {
    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    pub(crate) fn finished(&self) -> u64 {
        self.ok + self.failed()
    }

    pub(crate) fn count(&self, failure: Failure) -> u64 {
        self.failures.get(&failure).copied().unwrap_or(0)
    }
}

/// A process that answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) pid: u32,
    /// As the service says; `None` when it runs without a launcher.
    pub(crate) generation: Option<u32>,
    /// When the first answer was complete.
    pub(crate) first: Instant,
    pub(crate) last: Instant,
    pub(crate) answers: u64,
}

/// The first failure of a kind.
#[derive(Clone, Debug)]
pub(crate) struct FirstFailure {
    /// Since the load began.
    pub(crate) after: Duration,
    pub(crate) text: String,
}

/// Everything counted so far.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) began: Instant,
    pub(crate) elapsed: Duration,
    pub(crate) fast: Tally,
    pub(crate) slow: Tally,
    /// Slow requests that were sent and have no answer yet.
    pub(crate) slow_in_flight: usize,
    /// By PID.
    pub(crate) answers: BTreeMap<u32, Answer>,
    pub(crate) first_failures: BTreeMap<Failure, FirstFailure>,
}

impl Report {
    pub(crate) fn failed(&self) -> u64 {
        self.fast.failed() + self.slow.failed()
    }

    /// Everyone who has answered.
    pub(crate) fn pids(&self) -> BTreeSet<u32> {
        self.answers.keys().copied().collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed.as_secs_f64();
        writeln!(
            f,
            "{} requests in {seconds:.1} s, {} failed; slowest {:.1} ms",
            self.fast.finished(),
            self.fast.failed(),
            milliseconds(self.fast.slowest)
        )?;
        if self.slow.finished() > 0 || self.slow_in_flight > 0 {
            writeln!(
                f,
                "{} slow requests, {} failed; {} in flight; slowest {:.1} ms",
                self.slow.finished(),
                self.slow.failed(),
                self.slow_in_flight,
                milliseconds(self.slow.slowest)
            )?;
        }
        for (failure, first) in &self.first_failures {
            let (fast, slow) = (self.fast.count(*failure), self.slow.count(*failure));
            let after = first.after.as_secs_f64();
            writeln!(
                f,
                "{failure:?}: {fast} fast, {slow} slow; the first after {after:.3} s: {}",
                first.text
            )?;
        }
        for answer in self.answers.values() {
            let Answer { pid, answers, .. } = answer;
            writeln!(
                f,
                "pid {pid}: {answers} answers, from {:.3} s to {:.3} s",
                (answer.first - self.began).as_secs_f64(),
                (answer.last - self.began).as_secs_f64()
            )?;
        }
        Ok(())
    }
}

pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// One request, for whoever wants to know of each.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    pub(crate) is_slow: bool,
    pub(crate) failure: Option<(Failure, String)>,
    /// Who had it in hand, as far as that was said: in the whole answer, or in the head of one that was cut short
    /// (`X-Process: pid 4242 generation 7`).
    pub(crate) by: Option<(u32, Option<u32>)>,
}

/// Called by the clients' threads, after each request.
pub(crate) type Listener = Box<dyn Fn(&Asked) + Send + Sync>;

/// A running load. Dropping it ends it too, without waiting.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

struct Shared {
    target: Target,
    listener: Option<Listener>,
    stop: AtomicBool,
    report: Mutex<Report>,
    /// Something rare has happened: another process answered, a slow request began or ended, one failed.
    news: Condvar,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

impl Load {
    /// # Panics
    /// When the system has no thread left.
    pub(crate) fn start(target: Target, fast_clients: usize, slow: Option<SlowSpec>) -> Self {
        Self::start_at_rate(target, fast_clients, slow, MAX_RATE)
    }

    /// As `start`, with at most `rate` fast requests a second.
    pub(crate) fn start_at_rate(
        target: Target,
        fast_clients: usize,
        slow: Option<SlowSpec>,
        rate: u32,
    ) -> Self {
        Self::start_heard(target, fast_clients, slow, rate, None)
    }

    /// As `start_at_rate`, and somebody hears of each request. With PIDs that are used again only that one can tell
    /// who answered: the report counts them by PID.
    pub(crate) fn start_heard(
        target: Target,
        fast_clients: usize,
        slow: Option<SlowSpec>,
        rate: u32,
        listener: Option<Listener>,
    ) -> Self {
        let began = Instant::now();
        let shared = Arc::new(Shared {
            target,
            listener,
            stop: AtomicBool::new(false),
            report: Mutex::new(Report {
                began,
                elapsed: Duration::ZERO,
                fast: Tally::default(),
                slow: Tally::default(),
                slow_in_flight: 0,
                answers: BTreeMap::new(),
                first_failures: BTreeMap::new(),
            }),
            news: Condvar::new(),
        });
        let pace = Duration::from_secs_f64(fast_clients as f64 / f64::from(rate.max(1)));
        let mut clients = Vec::new();
        for _ in 0..fast_clients {
            let shared = Arc::clone(&shared);
            clients.push(thread::spawn(move || shared.fast(pace)));
        }
        if let Some(slow) = slow {
            for client in 0..slow.clients {
                // The first ones are of different lengths, so that from then on they begin and end in turn.
                let first = slow
                    .delay
                    .mul_f64((client + 1) as f64 / slow.clients as f64);
                let shared = Arc::clone(&shared);
                clients.push(thread::spawn(move || shared.slow(first, slow.delay)));
            }
        }
        Self { shared, clients }
    }

    /// What has been counted so far.
    pub(crate) fn report(&self) -> Report {
        self.shared.report().clone()
    }

    /// Waits until the report says what the caller wants to hear; `None` when that takes longer than `limit`.
    ///
    /// The question is put when another process has answered, a slow request has begun or ended, or a request has
    /// failed.
    pub(crate) fn wait<T>(
        &self,
        limit: Duration,
        mut question: impl FnMut(&Report) -> Option<T>,
    ) -> Option<T> {
        let deadline = Instant::now() + limit;
        let mut report = self.shared.report();
        loop {
            if let Some(found) = question(&report) {
                return Some(found);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            (report, _) = self
                .shared
                .news
                .wait_timeout(report, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until a process has answered that `matches`. It may have been before the call.
    pub(crate) fn wait_answer(
        &self,
        limit: Duration,
        mut matches: impl FnMut(&Answer) -> bool,
    ) -> Option<Answer> {
        self.wait(limit, |report| {
            report
                .answers
                .values()
                .find(|answer| matches(answer))
                .copied()
        })
    }

    /// Waits until so many slow requests are in flight.
    pub(crate) fn wait_slow_in_flight(&self, limit: Duration, requests: usize) -> bool {
        self.wait(limit, |report| {
            (report.slow_in_flight >= requests).then_some(())
        })
        .is_some()
    }

    /// No more requests; waits for those in flight.
    pub(crate) fn stop(mut self) -> Report {
        self.shared.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            // A client that panicked has said so on stderr.
            client.join().ok();
        }
        self.report()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn report(&self) -> MutexGuard<'_, Report> {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        report.elapsed = report.began.elapsed();
        report
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn fast(&self, pace: Duration) {
        let mut due = Instant::now();
        while !self.stopped() {
            let began = Instant::now();
            let mut answer = Vec::with_capacity(512);
            let outcome = self.request(None, || {}, &mut answer);
            self.tell(began, false, &outcome, &answer);
            self.count(began, outcome, |report| &mut report.fast);
            // Whoever is late starts the next one at once, but does not make up for lost time.
            due = (due + pace).max(began);
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }

    fn slow(&self, first: Duration, delay: Duration) {
        let mut delay_now = first;
        while !self.stopped() {
            let began = Instant::now();
            let mut sent = false;
            let mut answer = Vec::with_capacity(512);
            let is_sent = || {
                sent = true;
                self.report().slow_in_flight += 1;
                self.news.notify_all();
            };
            let outcome = self.request(Some(delay_now), is_sent, &mut answer);
            self.tell(began, true, &outcome, &answer);
            let failed = outcome.is_err();
            self.count(began, outcome, |report| {
                report.slow_in_flight -= usize::from(sent);
                &mut report.slow
            });
            self.news.notify_all();
            if failed {
                thread::sleep(Duration::from_millis(10));
            }
            delay_now = delay;
        }
    }

    fn tell(
        &self,
        began: Instant,
        is_slow: bool,
        outcome: &Result<Option<Identity>, (Failure, String)>,
        answer: &[u8],
    ) {
        let Some(listener) = &self.listener else {
            return;
        };
        let named = match outcome {
            Ok(Some(identity)) => Some((identity.pid, identity.generation)),
            Ok(None) => None,
            Err(_) => named_in_head(answer),
        };
        listener(&Asked {
            began,
            ended: Instant::now(),
            is_slow,
            failure: outcome.as_ref().err().cloned(),
            by: named,
        });
    }

    fn count(
        &self,
        began: Instant,
        outcome: Result<Option<Identity>, (Failure, String)>,
        kind: impl FnOnce(&mut Report) -> &mut Tally,
    ) {
        let now = Instant::now();
        let mut guard = self.report();
        let report = &mut *guard;
        let tally = kind(report);
        let mut news = false;
        match outcome {
            Ok(identity) => {
                tally.ok += 1;
                tally.slowest = tally.slowest.max(now - began);
                if let Some(Identity { pid, generation }) = identity {
                    let answer = report.answers.entry(pid).or_insert_with(|| {
                        news = true;
                        Answer {
                            pid,
                            generation,
                            first: now,
                            last: now,
                            answers: 0,
                        }
                    });
                    answer.answers += 1;
                    answer.last = now;
                }
            }
            Err((failure, text)) => {
                news = true;
                *tally.failures.entry(failure).or_default() += 1;
                let after = now - report.began;
                report
                    .first_failures
                    .entry(failure)
                    .or_insert(FirstFailure { after, text });
            }
        }
        drop(guard);
        if news {
            self.news.notify_all();
        }
    }

    fn request(
        &self,
        delay: Option<Duration>,
        sent: impl FnOnce(),
        answer: &mut Vec<u8>,
    ) -> Result<Option<Identity>, (Failure, String)> {
        let at = |what: &'static str| {
            move |error: io::Error| (kind_of(&error), format!("{what}: {error}"))
        };
        let limit = PATIENCE + delay.unwrap_or_default();
        let mut socket = connect(&self.target).map_err(at("connect"))?;
        let query = match delay {
            Some(delay) => format!("?delay={}ms", delay.as_millis()),
            None => String::new(),
        };
        let request =
            format!("GET /{query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).map_err(at("write"))?;
        sent();
        socket.set_read_timeout(Some(limit)).map_err(at("read"))?;

        let deadline = Instant::now() + limit;
        let mut buffer = [0; 512];
        loop {
            match socket.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => answer.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The answer has come whole; how the connection ends is no loss.
                Err(_) if is_complete(answer) => break,
                Err(error) => {
                    let (failure, text) = at("read")(error);
                    return Err((failure, format!("{text} after {} bytes", answer.len())));
                }
            }
            if Instant::now() >= deadline {
                return Err((Failure::TimedOut, "the answer takes for ever".to_owned()));
            }
        }
        read_answer(answer)
    }
}

/// What a service says at once of a request that it has taken, so that it is known in whose hands it was lost.
fn named_in_head(answer: &[u8]) -> Option<(u32, Option<u32>)> {
    let text = str::from_utf8(answer).ok()?;
    let (_, rest) = text.split_once("X-Process: pid ")?;
    let (named, _) = rest.split_once("\r\n")?;
    let (pid, generation) = named.split_once(" generation ")?;
    Some((pid.parse().ok()?, generation.parse().ok()))
}

/// Who answered: `pid 4242 generation 7` at the start of the body. Other services say nothing of the kind.
struct Identity {
    pid: u32,
    generation: Option<u32>,
}

fn kind_of(error: &io::Error) -> Failure {
    // Not every kind that may come up is worth a counter.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "io::ErrorKind is open-ended"
    )]
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Failure::Refused,
        io::ErrorKind::NotFound => Failure::NotFound,
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Failure::Reset,
        // The kernel's words for a timeout are EAGAIN, and EINPROGRESS for a connect.
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Failure::TimedOut,
        _ => Failure::Other,
    }
}

/// Blocks at most `PATIENCE`. (std's `UnixStream::connect` would block for ever at a full queue.)
fn connect(target: &Target) -> io::Result<Socket> {
    let (domain, address) = match target {
        Target::Tcp(address) => (Domain::for_address(*address), SockAddr::from(*address)),
        Target::Unix(path) => (Domain::UNIX, SockAddr::unix(path)?),
    };
    let socket = Socket::new(domain, Type::STREAM, None)?;
    match target {
        Target::Tcp(_) => socket.connect_timeout(&address, PATIENCE)?,
        Target::Unix(_) => {
            socket.set_write_timeout(Some(PATIENCE))?;
            socket.connect(&address)?;
        }
    }
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Head and body of an answer, as far as they have come.
fn split(answer: &[u8]) -> Option<(&str, &[u8])> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = str::from_utf8(&answer[..end]).ok()?;
    Some((head, &answer[end + 4..]))
}

fn content_length(head: &str) -> Option<usize> {
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let value = name
            .eq_ignore_ascii_case("content-length")
            .then_some(value)?;
        value.trim().parse().ok()
    })
}

fn is_chunked(head: &str) -> bool {
    head.lines().any(|line| {
        let line = line.to_ascii_lowercase();
        line.starts_with("transfer-encoding:") && line.ends_with("chunked")
    })
}

/// A body without the marks of its chunks; `None` before its end has come.
fn joined(mut chunks: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = chunks.windows(2).position(|window| window == b"\r\n")?;
        let length = str::from_utf8(&chunks[..end]).ok()?.split(';').next()?;
        let length = usize::from_str_radix(length.trim(), 16).ok()?;
        let chunk = chunks.get(end + 2..)?;
        body.extend_from_slice(chunk.get(..length)?);
        if length == 0 {
            return chunk.ends_with(b"\r\n").then_some(body);
        }
        chunks = chunk.get(length + 2..)?;
    }
}

fn is_complete(answer: &[u8]) -> bool {
    split(answer).is_some_and(|(head, body)| {
        content_length(head) == Some(body.len()) || is_chunked(head) && joined(body).is_some()
    })
}

fn read_answer(answer: &[u8]) -> Result<Option<Identity>, (Failure, String)> {
    let truncated = || {
        let text = format!("end of file after {} bytes", answer.len());
        (Failure::Truncated, text)
    };
    let (head, body) = split(answer).ok_or_else(truncated)?;
    if content_length(head).is_some_and(|length| body.len() < length) {
        return Err(truncated());
    }
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        return Err((Failure::BadStatus, status.to_owned()));
    }
    let body = match is_chunked(head) {
        true => joined(body).ok_or_else(truncated)?,
        false => body.to_vec(),
    };
    let mut words = str::from_utf8(&body)
        .unwrap_or_default()
        .split_ascii_whitespace();
    let mut value_of = |name| {
        if words.next()? != name {
            return None;
        }
        words.next()?.parse().ok()
    };
    let pid = value_of("pid");
    let generation = value_of("generation");
    Ok(pid.map(|pid| Identity { pid, generation }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_names_its_process() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\npid 4242 generation 7\n";
        let identity = read_answer(answer).unwrap().unwrap();
        assert_eq!((identity.pid, identity.generation), (4242, Some(7)));
        let bare = b"HTTP/1.1 200 OK\r\n\r\npid 4242 generation -\n";
        let identity = read_answer(bare).unwrap().unwrap();
        assert_eq!((identity.pid, identity.generation), (4242, None));
        assert!(
            read_answer(b"HTTP/1.1 200 OK\r\n\r\nhello\n")
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn an_answer_cut_short_is_a_failure() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\npid 4242 generation 7\n";
        for length in 0..whole.len() {
            let (failure, _) = read_answer(&whole[..length]).err().unwrap();
            assert_eq!(failure, Failure::Truncated, "{length}");
        }
        let (failure, _) = read_answer(b"HTTP/1.1 503 No\r\n\r\n").err().unwrap();
        assert_eq!(failure, Failure::BadStatus);
    }

    #[test]
    fn chunks_are_joined_and_their_end_is_missed() {
        let whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\npid 4242 \r\nd\r\ngeneration 7\n\r\n0\r\n\r\n";
        let identity = read_answer(whole).unwrap().unwrap();
        assert_eq!((identity.pid, identity.generation), (4242, Some(7)));
        assert!(is_complete(whole));
        for length in 0..whole.len() {
            assert!(!is_complete(&whole[..length]), "{length}");
            let (failure, _) = read_answer(&whole[..length]).err().unwrap();
            assert_eq!(failure, Failure::Truncated, "{length}");
        }
    }

    #[test]
    fn nobody_there_is_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let load = Load::start(Target::Unix(path.clone()), 1, None);
        let limit = Duration::from_secs(10);
        let missing = load.wait(limit, |report| report.fast.failures.keys().next().copied());
        assert_eq!(missing, Some(Failure::NotFound));
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let refused = load.wait(limit, |report| {
            (report.fast.count(Failure::Refused) > 0).then_some(())
        });
        let report = load.stop();
        assert!(refused.is_some(), "{report}");
        assert_eq!(report.fast.ok, 0, "{report}");
    }
}
