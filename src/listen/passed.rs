//! The sockets that a supervisor passed to the launcher (sd_listen_fds(3)), and what lies in the way
//! of ours (§5).

use std::env;

use anyhow::{Result, anyhow, bail};

use super::Wanted;
use crate::sys;

/// The first descriptor of the convention.
pub(crate) const FIRST: i32 = 3;
/// sd_listen_fds(3) says so of a socket without a name.
const NAMELESS: &str = "unknown";

/// They are the daemon's, unchanged, and come before ours: the supervisor holds them itself, and
/// passes them to each launcher anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) names: Vec<String>,
}

impl Passed {
    /// What this process was passed. To be called before it opens anything: whatever else was inherited
    /// stays where it is (R1), so it must not be where one of `wanted` belongs, unless it is `ours`, which
    /// the daemon does not get. `lines`: where it is to find descriptors for `--ready fd:N`.
    pub(crate) fn find(wanted: &[Wanted], ours: Option<i32>, lines: &[i32]) -> Result<Passed> {
        let passed = Passed::find_beside(wanted, ours)?;
        let end = end_of(passed.end(), wanted.len());
        for number in lines {
            if (FIRST..end).contains(number) {
                bail!(
                    "--ready fd:{number}: the daemon looks there for a socket; use a number from {end} on"
                );
            }
            if Some(*number) != ours && sys::is_open(*number) {
                bail!(
                    "--ready fd:{number}: that descriptor{} is open already; use another one",
                    what_is_at(*number)
                );
            }
        }
        Ok(passed)
    }

    fn find_beside(wanted: &[Wanted], ours: Option<i32>) -> Result<Passed> {
        let own = std::process::id().to_string();
        // Variables that name another process were not meant for this one; and where nothing is added
        // to what was passed, it is the daemon's affair.
        let meant = env::var("LISTEN_PID").is_ok_and(|pid| pid == own);
        if wanted.is_empty() || !meant {
            return Passed::default().leave_room_for(wanted, ours);
        }
        let count = env::var("LISTEN_FDS").unwrap_or_default();
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        Passed::read(&count, &names)?.leave_room_for(wanted, ours)
    }

    pub(crate) fn read(count: &str, names: &str) -> Result<Passed> {
        let senseless = |why: &str| {
            anyhow!("cannot take over the supervisor's sockets: LISTEN_FDS is {count:?}, {why}")
        };
        let number: usize = match count {
            "" => 0,
            digits => digits
                .parse()
                .map_err(|_| senseless("which is no number"))?,
        };
        let mut descriptors = (FIRST..).take(number);
        if let Some(closed) = descriptors.find(|descriptor| !sys::is_open(*descriptor)) {
            return Err(senseless(&format!("but descriptor {closed} is not open")));
        }
        let named = (!names.is_empty()).then(|| names.split(':'));
        let named = named.into_iter().flatten().map(str::to_owned);
        let nameless = std::iter::repeat_with(|| NAMELESS.to_owned());
        Ok(Passed {
            names: named.chain(nameless).take(number).collect(),
        })
    }

    /// The descriptor from which on ours come.
    pub(crate) fn end(&self) -> i32 {
        end_of(FIRST, self.names.len())
    }

    fn leave_room_for(self, wanted: &[Wanted], ours: Option<i32>) -> Result<Passed> {
        for (Wanted { name, .. }, descriptor) in wanted.iter().zip(self.end()..) {
            if let Some(taken) = self.names.iter().find(|passed| *passed == name) {
                bail!(
                    "the supervisor passes a socket of the name {taken} already; name the one of --listen otherwise"
                );
            }
            if Some(descriptor) != ours && sys::is_open(descriptor) {
                let what = what_is_at(descriptor);
                // A shell redirects no more than these.
                let how = if descriptor < 10 {
                    format!("; in a run script: {descriptor}>&-")
                } else {
                    String::new()
                };
                bail!(
                    "descriptor {descriptor}{what} is open already, where the daemon looks for the socket {name}; close it before{how}"
                );
            }
        }
        Ok(self)
    }
}

fn end_of(first: i32, count: usize) -> i32 {
    i32::try_from(count).map_or(i32::MAX, |count| first.saturating_add(count))
}

/// ` (/dev/null)`, for people.
fn what_is_at(descriptor: i32) -> String {
    let what = std::fs::read_link(format!("/proc/self/fd/{descriptor}"));
    what.map_or_else(|_| String::new(), |path| format!(" ({})", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_many_as_there_are_sockets() {
        // Whatever a test has open at 3 and 4 will do.
        let _open = [(); 8].map(|()| std::fs::File::open("/dev/null").unwrap());
        let read = |count, names| Passed::read(count, names).unwrap().names;
        assert_eq!(read("2", "web:admin"), ["web", "admin"]);
        assert_eq!(read("2", "web"), ["web", "unknown"]);
        assert_eq!(read("1", "web:admin"), ["web"]);
        assert_eq!(read("", "web"), [""; 0]);
        assert_eq!(Passed::read("2", "").unwrap().end(), 5);
    }

    #[test]
    fn what_is_not_there_is_not_counted() {
        let words = |count| Passed::read(count, "").unwrap_err().to_string();
        for count in ["99999", "2000000000", "18446744073709551615"] {
            assert!(words(count).contains(count), "{}", words(count));
            assert!(words(count).ends_with("is not open"), "{}", words(count));
        }
        assert!(words("two").contains("\"two\", which is no number"));
    }
}
