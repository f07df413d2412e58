//! Whose a Unix socket's path is, and who may use it.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use nix::unistd::{Group, User, geteuid};

use super::options::Options;
use crate::report::cause;

/// What was asked for, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ownership {
    pub(super) user: Option<u32>,
    pub(super) group: Option<u32>,
    pub(super) mode: Option<u32>,
}

impl Ownership {
    pub(super) fn of(options: &Options) -> Result<Ownership, String> {
        Ok(Ownership {
            user: options.owner.as_deref().map(user).transpose()?,
            group: options.group.as_deref().map(group).transpose()?,
            mode: options.mode,
        })
    }

    /// Whether what belongs to this user may be ours to remove or to change.
    pub(super) fn trusts(self, user: u32) -> bool {
        user == 0 || user == geteuid().as_raw() || Some(user) == self.user
    }

    /// Gives it to what was opened, whatever its name is by now; what is right already is left alone.
    pub(super) fn apply(self, place: &File, options: &Options) -> Result<(), String> {
        let path = format!("/proc/self/fd/{}", place.as_raw_fd());
        let found = place.metadata().map_err(|error| cause(&error))?;
        let user = self.user.filter(|user| *user != found.uid());
        let group = self.group.filter(|group| *group != found.gid());
        // The group first: who has given a file away can no more change it.
        if group.is_some() {
            std::os::unix::fs::chown(&path, None, group)
                .map_err(|error| refusal("group", options.group.as_deref(), &error))?;
        }
        if let Some(mode) = self.mode.filter(|mode| *mode != found.mode() & 0o7777) {
            fs::set_permissions(&path, Permissions::from_mode(mode))
                .map_err(|error| format!("cannot set its mode to {mode:o}: {}", cause(&error)))?;
        }
        if user.is_some() {
            std::os::unix::fs::chown(&path, user, None)
                .map_err(|error| refusal("owner", options.owner.as_deref(), &error))?;
        }
        Ok(())
    }
}

fn refusal(what: &str, name: Option<&str>, error: &io::Error) -> String {
    let (name, cause) = (name.unwrap_or_default(), cause(error));
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "cannot set its {what} to {name}: {cause}; start as root, or leave {what}={name} out"
        ),
        _ => format!("cannot set its {what} to {name}: {cause}"),
    }
}

fn user(text: &str) -> Result<u32, String> {
    if let Some(number) = number(text) {
        return Ok(number);
    }
    match User::from_name(text) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) => Err(format!("there is no user {text}; use a name or a number")),
        Err(errno) => Err(format!(
            "cannot look up the user {text}: {}",
            cause(&errno.into())
        )),
    }
}

fn group(text: &str) -> Result<u32, String> {
    if let Some(number) = number(text) {
        return Ok(number);
    }
    match Group::from_name(text) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => Err(format!("there is no group {text}; use a name or a number")),
        Err(errno) => Err(format!(
            "cannot look up the group {text}: {}",
            cause(&errno.into())
        )),
    }
}

/// The highest number would mean *unchanged* to chown(2).
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number != u32::MAX)
}

/// The mode that the umask leaves a socket. It is read and not changed: it is the daemon's (R1).
pub(super) fn usual_mode() -> Result<u32, String> {
    let status = fs::read_to_string("/proc/self/status")
        .map_err(|error| format!("cannot read /proc/self/status: {}", cause(&error)))?;
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    let umask = umask.and_then(|umask| u32::from_str_radix(umask.trim(), 8).ok());
    let umask =
        umask.ok_or("there is no umask in /proc/self/status; give a mode, such as mode=660")?;
    Ok(0o777 & !umask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_have_names_and_numbers() {
        let of = |owner: &str, group: &str| {
            Ownership::of(&Options {
                owner: Some(owner.to_owned()),
                group: Some(group.to_owned()),
                ..Options::default()
            })
        };
        let found = of("root", "4711").unwrap();
        assert_eq!((found.user, found.group), (Some(0), Some(4711)));
        let words = of("nobody-of-that-name", "0").unwrap_err();
        assert!(
            words.contains("there is no user nobody-of-that-name"),
            "{words}"
        );
        for none in ["no-group-of-that-name", "-1", "4294967295"] {
            let words = of("0", none).unwrap_err();
            assert!(
                words.contains(&format!("there is no group {none}")),
                "{words}"
            );
        }
    }

    #[test]
    fn the_usual_mode_is_what_a_new_file_gets() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        File::create(&path).unwrap();
        let mode = fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(usual_mode().unwrap() & 0o666, mode);
    }
}
