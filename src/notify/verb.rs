//! `seamless-run notify`: what a shell script says to its keeper.

use std::env;
use std::ffi::OsString;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::time::{ClockId, clock_gettime};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType, recvmsg, sendmsg_addr, socket_with,
    socketpair, sockopt,
};

use super::socket::LONGEST;
use crate::cli::{self, Form, Refusal, Typed, guess};
use crate::departure::verb;
use crate::report::complain;

/// How long the keeper may take; it answers when what was said has taken effect.
const PATIENCE: Duration = Duration::from_secs(10);

const WORDS: [&str; 7] = [
    "started",
    "ready",
    "prepared",
    "stopping",
    "reloading",
    "watchdog",
    "status",
];

/// What can be typed after `notify`.
pub(crate) static FORM: Form = Form {
    name: "seamless-run notify",
    usage: &[
        "seamless-run notify started|prepared|stopping|reloading|watchdog",
        "seamless-run notify status TEXT",
        "seamless-run notify KEY=VALUE...",
    ],
    about: "Tells the keeper how this daemon is; for shell scripts",
    more: "To be called by the daemon, or by whatever it has started. It returns when what was said has taken effect; several words are one message.",
    options: &[],
    has_command: false,
    after: "Words:\n\
        \x20 started, ready  this daemon serves: its predecessors are told to drain\n\
        \x20 prepared        the answer to USR2: a successor may be started\n\
        \x20 stopping        this daemon is about to exit by itself\n\
        \x20 reloading       it reads its configuration anew; then say started\n\
        \x20 watchdog        it is alive (WatchdogSec= of systemd)\n\
        \x20 status TEXT     one line for people\n\
        \x20 KEY=VALUE       any line of sd_notify(3)\n\
        \n\
        Exit status: 0 done, 1 refused, 2 wrong use, 3 there is no launcher,\n\
        124 no answer in 10 s.",
    after_long: "Examples:\n\
        \x20 trap 'seamless-run notify prepared' USR2\n\
        \x20 ./server & seamless-run notify started\n\
        \x20 seamless-run notify status '12 connections'",
};

/// Understands what follows the verb.
pub(crate) fn parse(words: &[OsString]) -> Result<String, Refusal> {
    let typed = Typed::read(&FORM, words, verb::USAGE)?;
    let words = typed.operands.iter().map(|word| word.to_str());
    let Some(words) = words.collect::<Option<Vec<_>>>() else {
        let line = "cannot say what is not UTF-8; use another text".to_owned();
        return Err(Refusal::Complaint(line, verb::USAGE));
    };
    if words.is_empty() {
        let line = format!("WORD is missing; use: {}", FORM.usage[0]);
        return Err(Refusal::Complaint(line, verb::USAGE));
    }
    let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
    message(&words).map_err(cli::complaint(verb::USAGE))
}

/// What was typed, as the lines of a message.
pub(crate) fn message(words: &[String]) -> Result<String> {
    let mut lines = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "started" | "ready" => lines.push("X_SEAMLESS=started".to_owned()),
            "prepared" => lines.push("X_SEAMLESS=prepared".to_owned()),
            "stopping" => lines.push("STOPPING=1".to_owned()),
            "reloading" => lines.push(reloading()),
            "watchdog" => lines.push("WATCHDOG=1".to_owned()),
            "status" => match words.next() {
                Some(text) => lines.push(format!("STATUS={}", one_line(text)?)),
                None => bail!("status needs a text: seamless-run notify status TEXT"),
            },
            assignment => match assignment.split_once('=') {
                Some((key, value)) if is_key(key) => {
                    lines.push(format!("{key}={}", one_line(value)?));
                }
                _ => bail!(
                    "cannot say {assignment:?}; say started, prepared, stopping, reloading, watchdog, status TEXT or KEY=VALUE{}",
                    guess::question(assignment, WORDS)
                ),
            },
        }
    }
    if lines.is_empty() {
        bail!(
            "nothing to say; say started, prepared, stopping, reloading, watchdog, status TEXT or KEY=VALUE"
        );
    }
    if !lines.iter().any(|line| line.starts_with("X_SEAMLESS=")) {
        lines.push("X_SEAMLESS=ask".to_owned());
    }
    let message = lines.join("\n");
    if message.len() > LONGEST {
        bail!(
            "cannot say {} bytes at once; {LONGEST} is the most",
            message.len()
        );
    }
    Ok(message)
}

/// With the time that `Type=notify-reload` wants (sd_notify(3)).
fn reloading() -> String {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros())
}

fn is_key(key: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    !key.is_empty() && key.bytes().all(allowed)
}

fn one_line(text: &str) -> Result<&str> {
    if text.contains(['\n', '\r']) {
        bail!("cannot say {text:?}: it would be more than one line; use one");
    }
    Ok(text)
}

/// Says it, waits for the answer, and gives the exit status (§9).
pub(crate) fn run(message: &str) -> i32 {
    let address = match (env::var("SEAMLESS"), env::var("NOTIFY_SOCKET")) {
        (Ok(_), Ok(address)) => address,
        _ => {
            complain(
                "there is no launcher to notify: this is not a daemon under seamless-run (SEAMLESS or NOTIFY_SOCKET is not set)",
            );
            return verb::NOTHING_RUNNING;
        }
    };
    let answer = match ask(&address, message) {
        Ok(Some(answer)) => answer,
        Ok(None) => return timed_out(),
        Err(error) => {
            complain(&format!("cannot notify {address}: {error}"));
            return verb::NOTHING_RUNNING;
        }
    };
    match hear(&answer) {
        Some(text) if text == "ok" => verb::YES,
        Some(text) => {
            match text.strip_prefix("error=") {
                Some(words) => complain(&format!("the keeper says: {words}")),
                None => complain(&text),
            }
            verb::NO
        }
        None => timed_out(),
    }
}

fn timed_out() -> i32 {
    complain(&format!(
        "no answer from the keeper within {} s",
        PATIENCE.as_secs()
    ));
    verb::TIMED_OUT
}

/// Sends the message with one end of a socket pair; the answer comes to the other. `None` if the
/// keeper does not read.
fn ask(address: &str, message: &str) -> Result<Option<OwnedFd>> {
    let destination = match address.strip_prefix('@') {
        Some(name) => SocketAddrUnix::new_abstract_name(name.as_bytes()),
        None => SocketAddrUnix::new(address),
    };
    let destination = destination.map_err(|_| anyhow!("it is no address of a socket"))?;
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    // The keeper's queue may be full.
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(PATIENCE))?;
    let passed = [theirs.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&passed));
    let text = [IoSlice::new(message.as_bytes())];
    match sendmsg_addr(
        &socket,
        &destination,
        &text,
        &mut control,
        SendFlags::NOSIGNAL,
    ) {
        Ok(_) => Ok(Some(ours)),
        Err(Errno::AGAIN) => Ok(None),
        Err(Errno::CONNREFUSED | Errno::NOENT) => {
            bail!("nobody listens there; the keeper has gone, or is in another network namespace")
        }
        Err(errno) => bail!(
            "{}",
            nix::errno::Errno::from_raw(errno.raw_os_error()).desc()
        ),
    }
}

/// The answer, or why there is none; `None` if it did not come in time.
fn hear(answer: &OwnedFd) -> Option<String> {
    let mut readable = [PollFd::new(answer.as_fd(), PollFlags::POLLIN)];
    let patience = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX);
    if poll(&mut readable, patience) == Ok(0) {
        return None;
    }
    let mut bytes = [0; 4096];
    let mut none = RecvAncillaryBuffer::default();
    let received = recvmsg(
        answer,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut none,
        RecvFlags::empty(),
    );
    let length = received.map_or(0, |received| received.bytes);
    if length == 0 {
        let words = "no answer: the message was not believed (this process is neither the daemon, nor descends from it, nor is in its session), or the keeper has gone, or had no descriptor left to answer with";
        return Some(words.to_owned());
    }
    Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(words: &[&str]) -> Result<String> {
        message(
            &words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn words_become_lines() {
        assert_eq!(said(&["started"]).unwrap(), "X_SEAMLESS=started");
        assert_eq!(said(&["ready"]).unwrap(), "X_SEAMLESS=started");
        assert_eq!(
            said(&["status", "half done"]).unwrap(),
            "STATUS=half done\nX_SEAMLESS=ask"
        );
        assert_eq!(
            said(&["status", "up", "ready"]).unwrap(),
            "STATUS=up\nX_SEAMLESS=started"
        );
        assert_eq!(said(&["watchdog"]).unwrap(), "WATCHDOG=1\nX_SEAMLESS=ask");
        let reloading = said(&["reloading"]).unwrap();
        assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="));
        assert_eq!(said(&["A_1=x=y"]).unwrap(), "A_1=x=y\nX_SEAMLESS=ask");
    }

    #[test]
    fn what_cannot_be_said_is_named() {
        for words in [
            &["strated"][..],
            &["=x"],
            &["a=b"],
            &["status"],
            &["A=1\n2"],
            &[],
        ] {
            said(words).unwrap_err();
        }
        assert!(
            said(&["strated"])
                .unwrap_err()
                .to_string()
                .contains("\"strated\"")
        );
    }
}
