//! A daemon that takes over a Unix socket in the way that comes to mind first, and loses requests by it: between the
//! unlink and the bind there is nothing at the path, and between the bind and the listen nobody. `http_unix` shows how it
//! is done.

use std::{
    ffi::{OsStr, OsString},
    fs, io, process,
    process::ExitCode,
    str,
    sync::Arc,
    time::Duration,
};

use seamless_client::Seamless;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
    task,
    time::sleep,
};

use super::Outcome;

/// As the first argument of the audit.
pub(crate) const WORD: &str = "serve-unlink-bind";

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn daemon(path: Option<OsString>) -> ExitCode {
    match serve(path.as_deref()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{WORD}: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(path: Option<&OsStr>) -> Outcome<()> {
    let path = path.ok_or("the path of the socket is missing")?;
    let seamless = Seamless::from_env()?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    let starting = seamless.clone();
    task::spawn_blocking(move || starting.started()).await??;

    let generation = seamless.generation().ok_or("not launched")?;
    let identity = Arc::from(format!("pid {} generation {generation}\n", process::id()));
    // Each connection holds a receiver: the last one gone closes the channel.
    let (connections, _) = watch::channel(());
    let welcome = |stream| {
        let (identity, connection) = (Arc::clone(&identity), connections.subscribe());
        tokio::spawn(async move {
            // What goes wrong on a connection is its client's affair.
            answer(stream, &identity).await.ok();
            drop(connection);
        });
    };
    tokio::select! {
        () = seamless.drain_requested() => {}
        error = accept_all(&listener, welcome) => return Err(error.into()),
    }
    // Who is in the queue is answered: only the taking over is careless.
    let listener = listener.into_std()?;
    while let Ok((stream, _)) = listener.accept() {
        stream.set_nonblocking(true)?;
        welcome(UnixStream::from_std(stream)?);
    }
    drop(listener);
    connections.closed().await;
    Ok(())
}

async fn accept_all(listener: &UnixListener, welcome: impl Fn(UnixStream)) -> io::Error {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => welcome(stream),
            Err(error) => return error,
        }
    }
}

/// Just enough of HTTP for the load.
async fn answer(stream: UnixStream, identity: &str) -> io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 512];
    while !request.ends_with(b"\r\n\r\n") {
        stream.readable().await?;
        match stream.try_read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => request.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    if let Some(delay) = delay(&request) {
        sleep(delay).await;
    }
    let length = identity.len();
    let answer = format!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{identity}"
    );
    stream.writable().await?;
    // The socket's buffer is empty: it takes all of it.
    stream.try_write(answer.as_bytes())?;
    Ok(())
}

/// `GET /?delay=500ms HTTP/1.1`
fn delay(request: &[u8]) -> Option<Duration> {
    let request = str::from_utf8(request).ok()?;
    let (_, delay) = request.split_once("?delay=")?;
    let (milliseconds, _) = delay.split_once("ms ")?;
    milliseconds.parse().ok().map(Duration::from_millis)
}
