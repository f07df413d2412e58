//! What the launcher says by variables. Reads the environment and never changes it.

use super::error::{Error, ErrorKind};
use super::signals;
use super::wire::Address;
use std::env;
use std::ffi::{OsStr, OsString};
use std::num::NonZeroU32;
use std::process::Command;
use std::str::FromStr;

/// The variables that speak of this process and of no other: what a child must not find.
const OURS: [&str; 10] = [
    "SEAMLESS",
    "SEAMLESS_PID_FILE",
    "SEAMLESS_GENERATION",
    "SEAMLESS_PREPARE_SIGNAL",
    "SEAMLESS_DRAIN_SIGNAL",
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
];

/// What a launched daemon is told.
#[derive(Debug)]
pub(crate) struct Launch {
    /// The PID of the keeper.
    pub(crate) keeper: i32,
    /// Where the keeper listens. A wrapper may have dropped it; then only signals are left.
    pub(crate) address: Option<Address>,
    pub(crate) generation: Option<NonZeroU32>,
    /// `Some(None)`: there is no prepare signal.
    pub(crate) prepare: Option<Option<i32>>,
    pub(crate) drain: Option<i32>,
}

impl Launch {
    pub(crate) fn from_env() -> Result<Option<Self>, Error> {
        let launch = Self::read(|name| env::var_os(name), nix::unistd::getppid().as_raw());
        launch.map_err(|error| error.consequence("this process cannot know its launcher"))
    }

    /// Launched is a process whose parent is the one that `SEAMLESS` names, or, behind a wrapper (a shell that did not
    /// `exec`, a privilege dropper, a PID namespace), one that finds the keeper's socket beside it: the keeper believes
    /// its daemon's descendants. `NOTIFY_SOCKET` alone is a service manager's, `SEAMLESS` alone a stranger's.
    pub(crate) fn read(
        variable: impl Fn(&str) -> Option<OsString>,
        parent: i32,
    ) -> Result<Option<Self>, Error> {
        // An empty variable is how some supervisors spell an absent one.
        let find = |name: &'static str| variable(name).filter(|value| !value.is_empty());
        let Some(keeper) = find("SEAMLESS") else {
            return Ok(None);
        };
        let keeper = number::<i32>("SEAMLESS", &keeper, "the PID of the launcher")?;
        if keeper <= 0 {
            return Err(senseless(
                "SEAMLESS",
                OsStr::new(&keeper.to_string()),
                "the PID of the launcher",
            ));
        }
        let socket = find("NOTIFY_SOCKET");
        if socket.is_none() && keeper != parent {
            return Ok(None);
        }
        let address = match &socket {
            Some(socket) => Some(Address::parse(socket).ok_or_else(|| {
                senseless(
                    "NOTIFY_SOCKET",
                    socket,
                    "the address of a Unix socket: a path, or @ and an abstract name",
                )
            })?),
            None => None,
        };
        let generation = match find("SEAMLESS_GENERATION") {
            Some(value) => Some(number::<NonZeroU32>(
                "SEAMLESS_GENERATION",
                &value,
                "a number from 1",
            )?),
            None => None,
        };
        let prepare = match find("SEAMLESS_PREPARE_SIGNAL") {
            Some(value) if value == "none" => Some(None),
            Some(value) => Some(Some(signal("SEAMLESS_PREPARE_SIGNAL", &value)?)),
            None => None,
        };
        let drain = match find("SEAMLESS_DRAIN_SIGNAL") {
            Some(value) => Some(signal("SEAMLESS_DRAIN_SIGNAL", &value)?),
            None => None,
        };
        Ok(Some(Launch {
            keeper,
            address,
            generation,
            prepare,
            drain,
        }))
    }
}

/// Takes our variables from a child's environment; `NOTIFY_SOCKET` is ours only if a launcher set it. The sockets are
/// this process's whoever opened them.
pub(crate) fn scrub(command: &mut Command, launched: bool) {
    for name in OURS {
        if launched || name != "NOTIFY_SOCKET" {
            command.env_remove(name);
        }
    }
}

pub(crate) fn number<T: FromStr>(name: &str, value: &OsStr, meaning: &str) -> Result<T, Error> {
    // `from_str` would take a leading plus sign, which nobody writes who means us.
    let digits = value
        .to_str()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| senseless(name, value, meaning))
}

fn signal(name: &str, value: &OsStr) -> Result<i32, Error> {
    value.to_str().and_then(signals::by_name).ok_or_else(|| {
        senseless(
            name,
            value,
            "the name of a signal that can be caught, as USR2 or RTMIN+2",
        )
    })
}

pub(crate) fn senseless(name: &str, value: &OsStr, meaning: &str) -> Error {
    let message = format!("cannot take {name} from the environment: {value:?} is not {meaning}");
    Error::new(ErrorKind::Environment, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::libc;

    fn read(variables: &[(&str, &str)], parent: i32) -> Result<Option<Launch>, Error> {
        let find = |name: &str| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| OsString::from(value))
        };
        Launch::read(find, parent)
    }

    #[test]
    fn nothing_there_is_no_launcher() {
        assert!(read(&[], 7).unwrap().is_none());
        assert!(read(&[("SEAMLESS", "")], 7).unwrap().is_none());
        assert!(
            read(&[("NOTIFY_SOCKET", "/run/systemd/notify")], 7)
                .unwrap()
                .is_none()
        );
        assert!(
            read(
                &[("SEAMLESS_GENERATION", "x"), ("SEAMLESS_DRAIN_SIGNAL", "x")],
                7
            )
            .unwrap()
            .is_none()
        );
    }

    #[test]
    fn the_parent_or_a_socket_make_a_launch() {
        assert!(read(&[("SEAMLESS", "7")], 7).unwrap().is_some());
        assert!(read(&[("SEAMLESS", "8")], 7).unwrap().is_none());
        let wrapped = read(&[("SEAMLESS", "8"), ("NOTIFY_SOCKET", "/run/s")], 7)
            .unwrap()
            .unwrap();
        assert_eq!(wrapped.keeper, 8);
        assert!(wrapped.address.is_some() && wrapped.generation.is_none());
    }

    #[test]
    fn signals_and_generation_are_read() {
        let launch = read(
            &[
                ("SEAMLESS", "7"),
                ("SEAMLESS_GENERATION", "3"),
                ("SEAMLESS_PREPARE_SIGNAL", "none"),
                ("SEAMLESS_DRAIN_SIGNAL", "SIGQUIT"),
            ],
            7,
        );
        let launch = launch.unwrap().unwrap();
        assert_eq!(launch.generation, NonZeroU32::new(3));
        assert_eq!(
            (launch.prepare, launch.drain),
            (Some(None), Some(libc::SIGQUIT))
        );
    }

    #[test]
    fn garbage_is_named_with_its_variable() {
        for (name, value) in [
            ("SEAMLESS", "yes"),
            ("SEAMLESS", "0"),
            ("SEAMLESS", "+7"),
            ("SEAMLESS", "99999999999999"),
            ("SEAMLESS_GENERATION", "0"),
            ("SEAMLESS_PREPARE_SIGNAL", "USR9"),
            ("SEAMLESS_DRAIN_SIGNAL", "none"),
            ("SEAMLESS_DRAIN_SIGNAL", "KILL"),
            ("NOTIFY_SOCKET", "vsock:2:1234"),
        ] {
            let mut variables = vec![(name, value)];
            if name != "SEAMLESS" {
                variables.push(("SEAMLESS", "7"));
            }
            let error = read(&variables, 7).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Environment);
            assert!(
                error.to_string().contains(&format!("{name} from")),
                "{error}"
            );
            assert!(error.to_string().contains(&format!("{value:?}")), "{error}");
        }
    }
}
