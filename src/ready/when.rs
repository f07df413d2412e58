//! `--ready WHEN` (R12).

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};

use crate::cli::guess;
use crate::listen::address::{Address, Place, Port};

/// What has to hold before a generation is taken for ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// It says so: by a message, or the seed's way, by the PID file.
    Notify,
    /// It has written a line to this descriptor (s6's way).
    Descriptor(i32),
    /// It listens there, or waits for connections at a socket that it was given.
    Listening(Address),
    /// Its own PID file names it.
    PidFile(PathBuf),
    /// This command succeeds.
    Command(String),
    /// It has lived that long.
    After(Duration),
}

impl When {
    /// `time` understands a time.
    pub(crate) fn parse(
        text: &str,
        time: impl FnOnce(&str) -> Result<Option<Duration>>,
    ) -> Result<When> {
        let (kind, rest) = match text.split_once(':') {
            Some((kind, rest)) => (kind, Some(rest)),
            None => (text, None),
        };
        let refuse = |why: String| anyhow!("--ready {text:?}: {why}");
        let Some(rest) = rest.filter(|rest| !rest.trim().is_empty()) else {
            return match (kind, rest) {
                ("notify", None) => Ok(When::Notify),
                ("fd" | "listen" | "pid-file" | "exec" | "after", _) => Err(refuse(format!(
                    "nothing follows {kind}; use {}",
                    example(kind)
                ))),
                _ => Err(refuse(unknown(kind))),
            };
        };
        match kind {
            "fd" => {
                let number = rest
                    .parse()
                    .ok()
                    .filter(|number: &i32| (3..MOST).contains(number));
                number.map(When::Descriptor).ok_or_else(|| {
                    refuse(format!(
                        "{rest} is no descriptor for that; use a number from 3 on"
                    ))
                })
            }
            "listen" if is_any_port(rest) => Err(refuse(
                "port 0 is another one each time; use the one that it listens at".to_owned(),
            )),
            "listen" => Address::parse(rest)
                .map(When::Listening)
                .map_err(|error| refuse(error.to_string())),
            "pid-file" => std::path::absolute(rest)
                .map(When::PidFile)
                .map_err(|error| refuse(crate::report::cause(&error))),
            "exec" => Ok(When::Command(rest.to_owned())),
            "after" => match time(rest)? {
                Some(time) => Ok(When::After(time)),
                None => bail!(refuse(
                    "that is never, or no time at all; use a time such as 2s".to_owned()
                )),
            },
            "notify" => Err(refuse(
                "nothing follows notify; use notify alone".to_owned(),
            )),
            _ => Err(refuse(unknown(kind))),
        }
    }

    pub(crate) fn is_listening(&self) -> bool {
        matches!(self, When::Listening(_))
    }

    /// A command that does not tell this generation from others: the PID file is the same for all of them.
    pub(crate) fn asks_anybody(&self) -> bool {
        match self {
            When::Command(line) => {
                let line = line.replace("SEAMLESS_PID_FILE", "");
                !line.contains("SEAMLESS_PID") && !line.contains("SEAMLESS_GENERATION")
            }
            When::Notify
            | When::Descriptor(_)
            | When::Listening(_)
            | When::PidFile(_)
            | When::After(_) => false,
        }
    }

    /// It happens once, and holds from then on. The others are looked at.
    pub(super) fn is_event(&self) -> bool {
        match self {
            When::Notify | When::Descriptor(_) | When::After(_) => true,
            When::Listening(_) | When::PidFile(_) | When::Command(_) => false,
        }
    }
}

fn is_any_port(text: &str) -> bool {
    let place = Address::parse(text).map(|address| address.place);
    matches!(
        place,
        Ok(Place::Internet {
            port: Port::Number(0),
            ..
        })
    )
}

/// Beyond what any process has open.
const MOST: i32 = 1 << 20;
const UNKNOWN: &str =
    "unknown condition; use notify, fd:N, listen:ADDR, pid-file:PATH, exec:COMMAND or after:TIME";

fn unknown(kind: &str) -> String {
    let kinds = ["notify", "fd", "listen", "pid-file", "exec", "after"];
    format!("{UNKNOWN}{}", guess::question(kind, kinds))
}

fn example(kind: &str) -> &'static str {
    match kind {
        "fd" => "fd:5",
        "listen" => "listen:127.0.0.1:8080",
        "pid-file" => "pid-file:/run/nginx.pid",
        "exec" => "exec:COMMAND",
        _ => "after:2s",
    }
}

impl fmt::Display for When {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            When::Notify => formatter.write_str("notify"),
            When::Descriptor(number) => write!(formatter, "fd:{number}"),
            When::Listening(address) => write!(formatter, "listen:{address}"),
            When::PidFile(path) => write!(formatter, "pid-file:{}", path.display()),
            When::Command(line) => write!(formatter, "exec:{line}"),
            When::After(time) => write!(formatter, "after:{}s", time.as_secs_f64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<When> {
        When::parse(text, |time| match time {
            "2s" => Ok(Some(Duration::from_secs(2))),
            "0" => Ok(None),
            other => bail!("malformed time {other:?}"),
        })
    }

    #[test]
    fn each_kind_is_written_as_it_is_read() {
        for text in [
            "notify",
            "fd:5",
            "listen:tcp:127.0.0.1:8080",
            "listen:unix:/run/app.sock",
            "pid-file:/run/nginx.pid",
            "exec:curl -sf http://localhost:80/",
            "after:2s",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_command_that_a_predecessor_can_answer_is_known() {
        for (text, expected) in [
            ("exec:curl -sf localhost", true),
            ("exec:seamless-run status $SEAMLESS_PID_FILE", true),
            ("exec:kill -0 $SEAMLESS_PID", false),
            ("exec:grep -x $SEAMLESS_PID $SEAMLESS_PID_FILE", false),
            ("exec:curl /run/${SEAMLESS_GENERATION}.sock", false),
            ("notify", false),
        ] {
            assert_eq!(parse(text).unwrap().asks_anybody(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_the_value() {
        for (text, words) in [
            ("", "unknown condition"),
            ("soon", "unknown condition"),
            ("http:80", "unknown condition"),
            ("notify:", "unknown condition"),
            ("notify:now", "use notify alone"),
            ("fd:", "use fd:5"),
            ("fd", "use fd:5"),
            ("fd:2", "from 3 on"),
            ("fd:-1", "from 3 on"),
            ("fd:99999999", "from 3 on"),
            ("listen", "use listen:"),
            ("listen:99999", "out of range"),
            ("listen:udp:*:0", "port 0"),
            ("pid-file:", "use pid-file:"),
            ("exec:", "use exec:"),
            ("exec: ", "use exec:"),
            ("after:0", "no time at all"),
            ("after:soon", "malformed time"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
