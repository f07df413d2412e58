//! What this kernel, and whoever limits its calls, lets us do.

use std::fs;

use rustix::process::{PidfdFlags, getpid, pidfd_open};

use crate::process::Identity;
use crate::report::cause;
use crate::sys;

/// What was tried and what was read.
#[derive(Clone, Debug, Default)]
pub(in crate::check) struct Kernel {
    /// Calls that a launcher cannot do without, each with why it failed.
    pub(in crate::check) missing: Vec<(&'static str, String)>,
    /// pidfd_getfd(2), which fetches the sockets of a lost keeper (R20).
    pub(in crate::check) cannot_fetch: Option<String>,
    /// `/proc` does not show our own processes.
    pub(in crate::check) foreign_proc: Option<String>,
    /// The option of its mount that hides other users' processes.
    pub(in crate::check) hides: Option<String>,
    /// `net.ipv4.tcp_migrate_req`; `None` where there is no such thing.
    pub(in crate::check) migrates: Option<bool>,
    /// `kernel.yama.ptrace_scope`
    pub(in crate::check) ptrace_scope: u32,
}

impl Kernel {
    pub(in crate::check) fn read() -> Kernel {
        let mut kernel = Kernel::default();
        let own = pidfd_open(getpid(), PidfdFlags::empty());
        match own {
            Ok(own) => {
                let fetched =
                    rustix::process::pidfd_getfd(own, 2, rustix::process::PidfdGetfdFlags::empty());
                // Without a stderr there is none to be fetched.
                kernel.cannot_fetch = match fetched {
                    Ok(_) | Err(rustix::io::Errno::BADF) => None,
                    Err(errno) => Some(cause(&errno.into())),
                };
            }
            Err(errno) => kernel.missing.push(("pidfd_open", cause(&errno.into()))),
        }
        if let Err(error) = sys::probe_close_range() {
            kernel.missing.push(("close_range", cause(&error)));
        }
        let own = Identity::of_this_process();
        kernel.foreign_proc = own.err().map(|error| format!("{error:#}"));
        kernel.hides = hides(&fs::read_to_string("/proc/self/mounts").unwrap_or_default());
        kernel.migrates = number("net/ipv4/tcp_migrate_req").map(|value| value != 0);
        kernel.ptrace_scope = number("kernel/yama/ptrace_scope").unwrap_or(0);
        kernel
    }
}

fn number(name: &str) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/sys/{name}")).ok()?;
    text.trim().parse().ok()
}

/// The option `hidepid=` of the last mount on `/proc`, unless it hides nothing.
pub(crate) fn hides(mounts: &str) -> Option<String> {
    let mut on_proc = mounts.lines().rev().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let place = words.nth(1)?;
        let options = words.nth(1)?;
        (place == "/proc").then_some(options)
    });
    let mut options = on_proc.next()?.split(',');
    let found = options.find(|option| option.starts_with("hidepid="))?;
    let harmless = matches!(found, "hidepid=0" | "hidepid=off");
    (!harmless).then(|| found.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_mount_of_proc_counts() {
        let line = |options| format!("proc /proc proc rw,nosuid{options} 0 0\n");
        assert_eq!(hides(&line(",hidepid=2")), Some("hidepid=2".to_owned()));
        assert_eq!(hides(&(line(",hidepid=2") + &line(""))), None);
        assert_eq!(hides(&line(",hidepid=off")), None);
        assert_eq!(hides(""), None);
    }

    #[test]
    fn this_kernel_can_do_what_the_tests_need() {
        let kernel = Kernel::read();
        assert!(kernel.missing.is_empty(), "{kernel:?}");
        assert_eq!(kernel.foreign_proc, None);
    }
}
