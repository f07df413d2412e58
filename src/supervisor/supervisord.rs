//! supervisord: a restart is a stop and then a start, and no signal tells which it is. Its XML-RPC does,
//! a little later: a program that stays STOPPED was stopped.

use std::env;
use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use super::inquiry::Inquiry;
use crate::generation::Wish;

/// One of supervisord's programs, and where to ask for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// `group:name`
    pub(crate) name: String,
    /// `unix:///path` or `http://host:port`
    url: String,
}

impl Program {
    /// The program whose main process this is, and no child of that.
    pub(super) fn of_this_process(parent: i32) -> Option<Program> {
        env::var_os("SUPERVISOR_ENABLED")?;
        let name = env::var("SUPERVISOR_PROCESS_NAME").ok()?;
        // One that we may not look into is another user's: supervisord, which is root.
        let of_parent = fs::read(format!("/proc/{parent}/environ")).unwrap_or_default();
        let same = format!("SUPERVISOR_PROCESS_NAME={name}");
        if of_parent
            .split(|byte| *byte == 0)
            .any(|one| one == same.as_bytes())
        {
            return None;
        }
        let group = env::var("SUPERVISOR_GROUP_NAME").ok()?;
        Some(Program {
            name: format!("{group}:{name}"),
            // Without a server of its own it can only be asked by signals.
            url: env::var("SUPERVISOR_SERVER_URL").unwrap_or_default(),
        })
    }

    pub(super) fn ask_state(&self, now: Instant) -> io::Result<Inquiry> {
        Inquiry::function(|| self.state(), now)
    }

    pub(crate) fn read_state(answer: &str) -> Wish {
        match answer {
            "STOPPED" => Wish::Down,
            // FATAL: it does not come up, so it was a bad version, and the old one serves on (R16).
            "RUNNING" | "STARTING" | "BACKOFF" | "FATAL" => Wish::Up,
            // EXITED may be for a moment, or for good.
            _ => Wish::Unknown,
        }
    }

    /// The `statename` of `supervisor.getProcessInfo`.
    fn state(&self) -> io::Result<String> {
        let escaped = self.name.replace('&', "&amp;").replace('<', "&lt;");
        let body = format!(
            "<?xml version=\"1.0\"?><methodCall><methodName>supervisor.getProcessInfo</methodName><params><param><value><string>{escaped}</string></value></param></params></methodCall>"
        );
        let answer = match self.url.split_once("://") {
            Some(("unix", path)) => post(UnixStream::connect(path)?, "localhost", &body)?,
            Some(("http", rest)) => {
                let host = rest.trim_end_matches('/');
                post(TcpStream::connect(host)?, host, &body)?
            }
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        state_in(&answer).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

fn post(mut stream: impl Read + Write, host: &str, body: &str) -> io::Result<String> {
    write!(
        stream,
        "POST /RPC2 HTTP/1.0\r\nHost: {host}\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.take(1 << 16).read_to_string(&mut answer)?;
    Ok(answer)
}

pub(crate) fn state_in(answer: &str) -> Option<String> {
    let (_, rest) = answer.split_once("<name>statename</name>")?;
    let (_, rest) = rest.split_once("<string>")?;
    let (state, _) = rest.split_once("</string>")?;
    Some(state.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_one_member_of_the_answer() {
        let answer = "HTTP/1.0 200 OK\r\n\r\n<struct><member>\n<name>spawnerr</name>\n<value><string></string></value>\n</member>\n<member>\n<name>statename</name>\n<value><string>STOPPED</string></value>\n</member></struct>";
        assert_eq!(state_in(answer).as_deref(), Some("STOPPED"));
        assert_eq!(state_in("HTTP/1.0 401 Unauthorized\r\n\r\n"), None);
    }

    #[test]
    fn what_comes_back_by_itself_is_no_stop() {
        assert_eq!(Program::read_state("STOPPED"), Wish::Down);
        assert_eq!(Program::read_state("BACKOFF"), Wish::Up);
        assert_eq!(Program::read_state("EXITED"), Wish::Unknown);
    }
}
