//! The kernel, and what this machine's administrator lets processes do.

use crate::check::finding::{About, Finding};
use crate::check::reading::{Reading, Supervisor};

const KERNEL: About<'_> = About("kernel");
const PROC: About<'_> = About("/proc");

pub(super) fn findings(reading: &Reading) -> Vec<Finding> {
    let kernel = &reading.kernel;
    let does_not_start = "seamless-run does not start (125)";
    let missing = kernel.missing.iter().map(|(call, why)| {
        KERNEL
            .error("kernel", format!("{call}: {why}"), does_not_start)
            .fix("use Linux 5.9 or later, and a container that lets this call through")
    });
    let mut findings: Vec<Finding> = missing.collect();
    findings.extend(kernel.foreign_proc.as_ref().map(|words| {
        PROC.error("proc", words, does_not_start)
            .fix("mount it anew: mount -t proc proc /proc")
    }));
    let is_ordinary = reading.user.is_some_and(|user| user != 0);
    findings.extend(hidden(reading, is_ordinary));
    findings.extend(fetch(reading, is_ordinary));
    findings.extend(migration(reading));
    findings
}

/// A supervisor is recognised by its name, but for systemd, which introduces itself.
fn hidden(reading: &Reading, is_ordinary: bool) -> Option<Finding> {
    let option = reading.kernel.hides.as_ref()?;
    let introduces_itself = matches!(reading.supervisor, Supervisor::Systemd(_));
    let finding = PROC.warning(
        "proc",
        format!("it is mounted with {option}"),
        "a launcher that is not root does not see its supervisor, and cannot tell a stop from a restart",
    );
    (is_ordinary && !introduces_itself)
        .then(|| finding.fix("let the launcher be root, and the daemon drop its privileges"))
}

/// R20: of a keeper that was KILLed, the sockets are fetched from its daemon.
fn fetch(reading: &Reading, is_ordinary: bool) -> Option<Finding> {
    const CODE: &str = "pidfd-getfd";
    if reading.options.service()?.listen.wanted.is_empty() {
        return None;
    }
    let consequence =
        "should a keeper be killed, the next restart has to end its daemon before it can listen";
    if let Some(why) = &reading.kernel.cannot_fetch {
        let finding = KERNEL.warning(CODE, format!("pidfd_getfd: {why}"), consequence);
        let words = "use Linux 5.6 or later, and a container that lets this call through";
        return Some(finding.fix(words));
    }
    let scope = reading.kernel.ptrace_scope;
    let found = format!("kernel.yama.ptrace_scope={scope}, and the launcher is not root");
    let finding = KERNEL.note(CODE, found, consequence);
    (is_ordinary && scope > 0).then(|| finding.set("kernel.yama.ptrace_scope=0"))
}

/// Whoever waits in the queue of a socket that is closed is reset, unless the kernel moves him.
fn migration(reading: &Reading) -> Option<Finding> {
    const CODE: &str = "tcp-migrate";
    let service = reading.options.service()?;
    let is_passed = match &reading.supervisor {
        Supervisor::Systemd(unit) => {
            let mut units = unit.words("TriggeredBy");
            units.any(|name| name.ends_with(".socket"))
        }
        _ => false,
    };
    let migrates = reading.kernel.migrates;
    if !service.listen.wanted.is_empty() || is_passed || migrates == Some(true) {
        return None;
    }
    let line = "net.ipv4.tcp_migrate_req=1";
    let found = match migrates {
        Some(_) => "net.ipv4.tcp_migrate_req=0",
        None => "there is no net.ipv4.tcp_migrate_req",
    };
    let lost = "connections that wait in the old one's queue are reset at a restart";
    let finding = match &reading.running {
        Some(running) if !running.listens => return None,
        Some(_) => {
            let consequence = format!("the daemon opens its TCP sockets by itself: {lost}");
            KERNEL.warning(CODE, found, consequence)
        }
        None => {
            let consequence = format!("if the daemon opens TCP sockets by itself, {lost}");
            KERNEL.note(CODE, found, consequence)
        }
    };
    Some(match migrates {
        Some(_) => finding
            .set(line)
            .fix(format!("let --listen open them; or sysctl {line}")),
        None => finding.fix("let --listen open them"),
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{codes, reading, unit};
    use super::*;
    use crate::check::reading::kernel::Kernel;

    fn found(kernel: Kernel, options: &str, user: u32) -> String {
        let mut reading = reading(Supervisor::Unknown, options);
        reading.kernel = kernel;
        reading.user = Some(user);
        codes(&findings(&reading)).join("")
    }

    fn good() -> Kernel {
        Kernel {
            migrates: Some(true),
            ..Kernel::default()
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let words = || Some("no".to_owned());
        let missing = vec![("pidfd_open", "no".to_owned())];
        let held = "--listen 80";
        let hides = || Kernel {
            hides: words(),
            ..good()
        };
        let cannot_fetch = || Kernel {
            cannot_fetch: words(),
            ..good()
        };
        let scope = || Kernel {
            ptrace_scope: 1,
            ..good()
        };
        let resets = || Kernel {
            migrates: Some(false),
            ..good()
        };
        for (kernel, options, user, expected) in [
            (good(), "", 0, ""),
            (Kernel { missing, ..good() }, "", 0, "error kernel"),
            (
                Kernel {
                    foreign_proc: words(),
                    ..good()
                },
                "",
                0,
                "error proc",
            ),
            (hides(), "", 0, ""),
            (hides(), "", 7, "warning proc"),
            (cannot_fetch(), "", 0, ""),
            (cannot_fetch(), held, 0, "warning pidfd-getfd"),
            (scope(), held, 0, ""),
            (
                scope(),
                held,
                7,
                "note pidfd-getfd: kernel.yama.ptrace_scope=0",
            ),
            (
                resets(),
                "",
                0,
                "note tcp-migrate: net.ipv4.tcp_migrate_req=1",
            ),
            (resets(), held, 0, ""),
            (Kernel::default(), "", 0, "note tcp-migrate"),
        ] {
            let words = format!("{kernel:?}");
            assert_eq!(found(kernel, options, user), expected, "{words}");
        }
    }

    #[test]
    fn sockets_that_systemd_passes_are_held() {
        let mut reading = reading(Supervisor::Systemd(unit("TriggeredBy=app.socket\n")), "");
        reading.kernel.migrates = Some(false);
        assert_eq!(codes(&findings(&reading)), [""; 0]);
    }
}
