//! The sockets that this process was started with, by systemd's convention: `LISTEN_FDS` descriptors from 3, with names
//! in `LISTEN_FDNAMES`, for the process that `LISTEN_PID` names.

use super::environment::{number, senseless};
use super::error::{Error, ErrorKind};
use super::listeners::Listeners;
use super::sys;
use std::env;
use std::ffi::OsString;
use std::os::fd::{OwnedFd, RawFd};
use std::process;
use std::sync::{Mutex, PoisonError};

const FIRST: RawFd = 3;

/// What systemd calls a descriptor without a name.
const NAMELESS: &str = "unknown";

/// Whether this process has had its sockets. Descriptors are the process's, so this is too.
static CLAIMED: Mutex<bool> = Mutex::new(false);

/// Takes what is there, once. After an error nothing was taken, and nothing is claimed.
pub(crate) fn take() -> Result<Listeners, Error> {
    let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
    if *claimed {
        return Err(already_claimed());
    }
    let announced = Announced::read(|name| env::var_os(name), process::id())
        .map_err(|error| error.consequence("this process cannot know its sockets"))?;
    let sockets = announced.take()?;
    *claimed = true;
    Ok(Listeners::new(sockets))
}

pub(crate) fn already_claimed() -> Error {
    let message = "cannot take the sockets that were opened for this daemon a second time: each process gets them once";
    Error::new(ErrorKind::Claimed, message)
}

/// What the variables say, before anybody has looked at a descriptor.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Announced {
    pub(crate) count: i32,
    /// At most `count`.
    pub(crate) names: Vec<String>,
}

impl Announced {
    /// Those that are meant for another process say nothing about this one, and are not judged.
    pub(crate) fn read(
        variable: impl Fn(&str) -> Option<OsString>,
        pid: u32,
    ) -> Result<Self, Error> {
        let find = |name: &'static str| variable(name).filter(|value| !value.is_empty());
        let Some(meant) = find("LISTEN_PID") else {
            return Ok(Announced::default());
        };
        if number::<u32>("LISTEN_PID", &meant, "the PID of a process")? != pid {
            return Ok(Announced::default());
        }
        let Some(count) = find("LISTEN_FDS") else {
            return Ok(Announced::default());
        };
        let meaning = "a number of descriptors from 3";
        let announced = number::<i32>("LISTEN_FDS", &count, meaning)?;
        if FIRST.checked_add(announced).is_none() {
            return Err(senseless("LISTEN_FDS", &count, meaning));
        }
        let Some(names) = find("LISTEN_FDNAMES") else {
            return Ok(Announced {
                count: announced,
                names: Vec::new(),
            });
        };
        let split = |text: &str| text.split(':').map(str::to_owned).collect::<Vec<_>>();
        let fits = |split: &Vec<String>| i32::try_from(split.len()).is_ok_and(|it| it <= announced);
        match names.to_str().map(split).filter(fits) {
            Some(split) => Ok(Announced {
                count: announced,
                names: split,
            }),
            None => {
                let meaning = format!("the names of {announced} descriptors, joined by colons");
                Err(senseless("LISTEN_FDNAMES", &names, &meaning))
            }
        }
    }

    /// All or none.
    fn take(self) -> Result<Vec<(String, OwnedFd)>, Error> {
        let numbers = FIRST..FIRST + self.count;
        let descriptors = sys::take_inherited(numbers).map_err(|(number, why)| {
            let why = match why {
                sys::NotInherited::Closed => "is closed",
                sys::NotInherited::CloseOnExec => {
                    "is close-on-exec, so this process opened it itself or has taken it before"
                }
            };
            let message = format!(
                "cannot take the sockets that LISTEN_FDS={} announces: descriptor {number} {why}",
                self.count
            );
            Error::new(ErrorKind::Environment, message).consequence("none was taken")
        })?;
        let mut names = self.names.into_iter();
        let named = |descriptor| {
            let name = names.next().filter(|name| !name.is_empty());
            (name.unwrap_or_else(|| NAMELESS.to_owned()), descriptor)
        };
        Ok(descriptors.into_iter().map(named).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PID: u32 = 7;

    fn read(variables: &[(&str, &str)]) -> Result<Announced, Error> {
        let find = |name: &str| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| OsString::from(value))
        };
        Announced::read(find, PID)
    }

    #[test]
    fn what_is_not_meant_for_this_process_is_not_there() {
        for variables in [
            &[][..],
            &[("LISTEN_FDS", "1")],
            &[("LISTEN_PID", ""), ("LISTEN_FDS", "1")],
            &[("LISTEN_PID", "8"), ("LISTEN_FDS", "1")],
            &[("LISTEN_PID", "8"), ("LISTEN_FDS", "x")],
            &[("LISTEN_PID", "7")],
            &[("LISTEN_PID", "7"), ("LISTEN_FDS", "")],
            &[("LISTEN_PID", "7"), ("LISTEN_FDS", "0")],
            &[("LISTEN_PID", "7"), ("LISTEN_FDNAMES", "a:b")],
        ] {
            assert_eq!(read(variables).unwrap(), Announced::default());
        }
    }

    #[test]
    fn names_go_with_their_number() {
        for (names, expected) in [
            ("", &[][..]),
            ("a", &["a"]),
            ("a::c", &["a", "", "c"]),
            ("a:b:a", &["a", "b", "a"]),
        ] {
            let variables = [
                ("LISTEN_PID", "7"),
                ("LISTEN_FDS", "3"),
                ("LISTEN_FDNAMES", names),
            ];
            let announced = read(&variables).unwrap();
            assert_eq!(
                (announced.count, &announced.names[..]),
                (
                    3,
                    &expected
                        .iter()
                        .map(|name| (*name).to_owned())
                        .collect::<Vec<_>>()[..]
                )
            );
        }
    }

    #[test]
    fn garbage_is_named_with_its_variable() {
        for (name, value) in [
            ("LISTEN_PID", "me"),
            ("LISTEN_PID", "-7"),
            ("LISTEN_FDS", "some"),
            ("LISTEN_FDS", "-1"),
            ("LISTEN_FDS", "2147483645"),
            ("LISTEN_FDS", "99999999999"),
            ("LISTEN_FDNAMES", "a:b:c"),
        ] {
            let usual = [("LISTEN_PID", "7"), ("LISTEN_FDS", "2")];
            let mut variables = vec![(name, value)];
            variables.extend(usual.into_iter().filter(|(other, _)| *other != name));
            let error = read(&variables).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Environment);
            let expected = format!("cannot take {name} from the environment: {value:?} is not ");
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn a_large_number_costs_nothing() {
        // Nobody has that many, and the first that is missing ends it.
        let announced = Announced {
            count: i32::MAX - FIRST,
            names: Vec::new(),
        };
        let error = announced.take().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Environment);
    }
}
