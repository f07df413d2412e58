//! What `http_tcp` and `http_unix` have in common: the answer, the accept loop, and the drain.

use std::{
    convert::Infallible,
    future::pending,
    io::{self, Write},
    pin::pin,
    process,
    sync::Arc,
    thread,
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use seamless_client::Seamless;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Notify, oneshot, watch},
    time::sleep,
};

/// How long a client may take over the head of a request. It bounds the drain too.
const PATIENCE: Duration = Duration::from_secs(5);

/// A listening socket of tokio's, of either family.
pub(crate) trait Listener: Sized {
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;
    type Std;

    async fn accept(&self) -> io::Result<Self::Stream>;
    fn into_std(self) -> io::Result<Self::Std>;
    /// Fails with `WouldBlock` when the kernel has nobody waiting.
    fn accept_queued(listener: &Self::Std) -> io::Result<Self::Stream>;
}

/// Where a listening socket is found, if that is left to the daemon.
pub(crate) trait Place {
    /// This daemon has taken over: its predecessors have been told to drain.
    fn taken(&mut self) {}
    /// New connections shall no longer come here.
    fn leave(&mut self) {}
}

/// The launcher's, or nobody's affair.
impl Place for () {}

/// Serves until the drain is requested and everybody has been answered.
pub(crate) async fn serve<L: Listener>(
    listener: L,
    seamless: &Seamless,
    mut place: impl Place,
) -> io::Result<()> {
    let generation = match seamless.generation() {
        Some(number) => number.to_string(),
        None => "-".to_owned(),
    };
    let identity = Bytes::from(format!("pid {} generation {generation}\n", process::id()));

    // `started` waits for the launcher, which writes to a disk: not a thing for the async thread.
    let starting = seamless.clone();
    let (said, started) = oneshot::channel();
    thread::Builder::new().spawn(move || said.send(starting.started()))?;

    // Each connection holds a receiver: it hears of the drain by it, and the last one gone closes the channel.
    let (connections, _) = watch::channel(());
    let welcome = |stream| {
        tokio::spawn(converse(stream, identity.clone(), connections.subscribe()));
    };
    let take_place = async {
        match started.await {
            Ok(Ok(())) => place.taken(),
            Ok(Err(error)) => report("started", &error),
            // The thread is gone without an answer: it panicked, and has said so.
            Err(_) => {}
        }
        pending::<Infallible>().await
    };
    tokio::select! {
        () = seamless.drain_requested() => {}
        never = take_place => match never {},
        never = accept_all(&listener, welcome) => match never {},
    }

    place.leave();
    // A connection in the queue was promised an answer, and if nobody else holds this socket, closing it would reset
    // that. The runtime may not have heard of it yet, so this asks the kernel. A successor that holds it too takes what
    // comes later.
    let listener = listener.into_std()?;
    loop {
        match L::accept_queued(&listener) {
            Ok(stream) => welcome(stream),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if only_that_connection(&error) => {}
            Err(error) => {
                report("accept", &error);
                break;
            }
        }
    }
    drop(listener);

    connections.send_replace(());
    connections.closed().await;
    Ok(())
}

async fn accept_all<L: Listener>(listener: &L, welcome: impl Fn(L::Stream)) -> Infallible {
    loop {
        match listener.accept().await {
            Ok(stream) => welcome(stream),
            Err(error) if only_that_connection(&error) => {}
            Err(error) => {
                report("accept", &error);
                // Out of descriptors, most likely: trying again at once would only burn the CPU.
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// The client went away before it was accepted: no reason to stop.
fn only_that_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
    )
}

/// One connection, up to its end or the end of the request in flight when the drain came.
async fn converse<S>(stream: S, identity: Bytes, mut draining: watch::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let asked = Arc::new(Notify::new());
    let service = service_fn(|request| {
        asked.notify_one();
        answer(request, identity.clone())
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let told_to_end = async {
        draining.changed().await.ok();
        // hyper's graceful shutdown drops a connection that has not asked for anything yet. A client
        // that was let in is owed one answer, though its request may still be on the way.
        asked.notified().await;
        // And if its next request has arrived, let hyper see it first.
        tokio::task::yield_now().await;
    };
    // What goes wrong on a connection is its client's affair: it hung up, or does not speak HTTP.
    tokio::select! {
        biased;
        _ended = connection.as_mut() => return,
        () = told_to_end => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await.ok();
}

/// `GET /?delay=500ms` is answered half a second later.
async fn answer(
    request: Request<Incoming>,
    identity: Bytes,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let delay = request.uri().query().and_then(|query| {
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix("delay="))
    });
    let (status, body) = match delay.map(parse_delay) {
        None => (StatusCode::OK, identity),
        Some(Some(delay)) => {
            sleep(delay).await;
            (StatusCode::OK, identity)
        }
        Some(None) => (
            StatusCode::BAD_REQUEST,
            Bytes::from_static(b"delay: 2s or 500ms\n"),
        ),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    Ok(response)
}

fn parse_delay(text: &str) -> Option<Duration> {
    if let Some(milliseconds) = text.strip_suffix("ms") {
        return milliseconds.parse().ok().map(Duration::from_millis);
    }
    text.strip_suffix('s')?
        .parse()
        .ok()
        .map(Duration::from_secs)
}

/// One line for the log. Not `eprintln!`, which panics when the log has lost its reader.
pub(crate) fn report(what: &str, error: &dyn std::error::Error) {
    writeln!(io::stderr(), "{}: {what}: {error}", process::id()).ok();
}
