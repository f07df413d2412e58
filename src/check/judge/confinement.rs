//! What a unit of systemd takes away from the service: directories, networks, rights.

use std::path::{Path, PathBuf};

use crate::check::finding::{About, Finding};
use crate::check::reading::lies_in;
use crate::check::reading::unit::Unit;
use crate::check::tools;
use crate::cli::Service;
use crate::listen::address::Place;
use crate::signals::{Meaning, Signal};

pub(super) fn findings(unit: &Unit, service: Option<&Service>, user: Option<u32>) -> Vec<Finding> {
    let about = About(&unit.name);
    let mut findings = Vec::new();
    findings.extend(out_of_memory(unit, about));
    findings.extend(exec_stop(unit, about));
    findings.extend(proc_subset(unit, about));
    if let Some(service) = service {
        findings.extend(pid_file(unit, about, service));
        findings.extend(preserve(unit, about, service));
        findings.extend(private_tmp(unit, about, service));
        findings.extend(read_only(unit, about, service));
        findings.extend(families(unit, about, service));
        findings.extend(network(unit, about, service));
        findings.extend(rights(unit, about, service, user));
    }
    findings
}

fn out_of_memory(unit: &Unit, about: About<'_>) -> Option<Finding> {
    let finding = about.warning(
        "oom-policy",
        "OOMPolicy=stop",
        "an old generation that the kernel kills for memory takes the new one with it",
    );
    unit.is("OOMPolicy", "stop")
        .then(|| finding.set("OOMPolicy=continue"))
}

fn exec_stop(unit: &Unit, about: About<'_>) -> Option<Finding> {
    let finding = about.warning(
        "exec-stop",
        "ExecStop= is set",
        "it runs at every restart too, before the launcher is told",
    );
    (!unit.get("ExecStop").is_empty())
        .then(|| finding.fix("remove ExecStop=: seamless-run stops the daemon by itself"))
}

fn proc_subset(unit: &Unit, about: About<'_>) -> Option<Finding> {
    let finding = about.error(
        "proc-subset",
        "ProcSubset=pid",
        "the boot id cannot be read: seamless-run does not start (125)",
    );
    unit.is("ProcSubset", "pid")
        .then(|| finding.set("ProcSubset=all"))
}

fn pid_file(unit: &Unit, about: About<'_>, service: &Service) -> Option<Finding> {
    let file = unit.get("PIDFile");
    if file.is_empty() || Path::new(file) != service.pid_file {
        return None;
    }
    let finding = about.error(
        "pid-file-property",
        format!("PIDFile={file}"),
        "systemd takes the daemon for its main process: a restart waits for it, and kills it",
    );
    Some(finding.set("PIDFile="))
}

fn preserve(unit: &Unit, about: About<'_>, service: &Service) -> Option<Finding> {
    let runtime: Vec<PathBuf> = unit
        .own_directories()
        .into_iter()
        .filter(|(property, _)| *property == "RuntimeDirectory")
        .map(|(_, path)| path)
        .collect();
    if !lies_in(&service.pid_file, &runtime) {
        return None;
    }
    let value = unit.get("RuntimeDirectoryPreserve");
    let found = format!("RuntimeDirectoryPreserve={value}");
    let finding = match value {
        "yes" | "" => return None,
        "restart" => about.warning(
            "runtime-directory",
            found,
            "the PID file's directory goes when the unit fails, and the old generation, which serves on, is not found any more",
        ),
        _ => about.error(
            "runtime-directory",
            found,
            "each restart removes the PID file's directory, and the old generation is not found",
        ),
    };
    Some(finding.set("RuntimeDirectoryPreserve=yes"))
}

/// The paths that generations share.
fn shared(service: &Service) -> Vec<PathBuf> {
    let sockets = service.listen.wanted.iter();
    let paths = sockets.filter_map(|wanted| match &wanted.address.place {
        Place::Path(path) => Some(path.clone()),
        Place::Internet { .. } | Place::Abstract(_) => None,
    });
    std::iter::once(service.pid_file.clone())
        .chain(paths)
        .collect()
}

fn private_tmp(unit: &Unit, about: About<'_>, service: &Service) -> Option<Finding> {
    let private = ["/tmp", "/var/tmp"].map(PathBuf::from);
    let paths = shared(service);
    let lost = paths.iter().find(|path| lies_in(path, &private))?;
    // It is yes, no, or since 257 disconnected.
    if matches!(unit.get("PrivateTmp"), "no" | "") {
        return None;
    }
    let consequence = format!(
        "each start has a directory of its own there, without the {} of the last one",
        lost.display()
    );
    let found = format!("PrivateTmp={}", unit.get("PrivateTmp"));
    let finding = about.error("private-tmp", found, consequence);
    Some(finding.fix("use a path in a directory of RuntimeDirectory="))
}

fn read_only(unit: &Unit, about: About<'_>, service: &Service) -> Option<Finding> {
    if !unit.is("ProtectSystem", "strict") {
        return None;
    }
    let own = unit.own_directories().into_iter().map(|(_, path)| path);
    let named = unit.words("ReadWritePaths");
    let named = named.map(|path| PathBuf::from(path.trim_start_matches(['-', '+'])));
    let never = ["/dev", "/proc", "/sys", "/tmp", "/var/tmp"].map(PathBuf::from);
    let writable: Vec<PathBuf> = own.chain(named).chain(never).collect();
    let paths = shared(service);
    let refused = paths.iter().find(|path| !lies_in(path, &writable))?;
    let directory = refused.parent().unwrap_or(refused);
    let consequence = format!(
        "{} cannot be written: seamless-run does not start (125)",
        directory.display()
    );
    let finding = about.error("protect-system", "ProtectSystem=strict", consequence);
    Some(match directory.strip_prefix("/run") {
        Ok(name) if !name.as_os_str().is_empty() => {
            let line = format!("RuntimeDirectory={}", name.display());
            let words = format!("set {line} and RuntimeDirectoryPreserve=yes");
            finding.set(line).fix(words)
        }
        _ => finding.set(format!("ReadWritePaths={}", directory.display())),
    })
}

fn families(unit: &Unit, about: About<'_>, service: &Service) -> Option<Finding> {
    let value = unit.get("RestrictAddressFamilies");
    if matches!(value, "" | "~") {
        return None;
    }
    let mut wanted = service.listen.wanted.iter();
    let internet = wanted.any(|one| matches!(one.address.place, Place::Internet { .. }));
    let (forbids, list) = match value.strip_prefix('~') {
        Some(list) => (true, list),
        None => (false, value),
    };
    let named = |family: &str| list.split_ascii_whitespace().any(|one| one == family);
    let allows = |family: &str| named(family) != forbids;
    // Of the two for the Internet one may be enough.
    let enough = !internet || allows("AF_INET") || allows("AF_INET6");
    if allows("AF_UNIX") && enough {
        return None;
    }
    let finding = about.error(
        "address-families",
        format!("RestrictAddressFamilies={value}"),
        "seamless-run cannot open its sockets, and does not start (125)",
    );
    let needed = match internet {
        true => "AF_UNIX AF_INET AF_INET6",
        false => "AF_UNIX",
    };
    let without = match forbids {
        true => format!("take {needed} out of RestrictAddressFamilies="),
        false => format!("add RestrictAddressFamilies={needed}"),
    };
    let line = (!forbids).then(|| format!("RestrictAddressFamilies={needed}"));
    Some(Finding {
        line,
        ..finding.fix(without)
    })
}

fn network(unit: &Unit, about: About<'_>, service: &Service) -> Option<Finding> {
    let mut wanted = service.listen.wanted.iter();
    let is_of_it = |place: &Place| matches!(place, Place::Internet { .. } | Place::Abstract(_));
    let concerned = wanted.any(|wanted| is_of_it(&wanted.address.place));
    let finding = about.warning(
        "private-network",
        "PrivateNetwork=yes",
        "each start has a network of its own, and the held sockets are in that of the first",
    );
    (unit.is("PrivateNetwork", "yes") && concerned).then(|| finding.set("PrivateNetwork=no"))
}

/// An ordinary user can ask systemd by D-Bus only.
fn rights(unit: &Unit, about: About<'_>, service: &Service, user: Option<u32>) -> Option<Finding> {
    let asks = service.meanings.of(Signal::TERM) == Meaning::Auto;
    if unit.has_bus || !asks || user == Some(0) {
        return None;
    }
    let launch = unit.launch().ok();
    let before = launch.iter().flat_map(|launch| &launch.before);
    let words: Vec<&str> = before.map(|word| word.text.as_str()).collect();
    let named = match (unit.get("User"), tools::user_anywhere(&words)) {
        _ if unit.is("DynamicUser", "yes") => "DynamicUser=yes".to_owned(),
        ("" | "root" | "0", Some(user)) => format!("{} {user} before seamless-run", words[0]),
        ("" | "root" | "0", None) => return None,
        (name, _) => format!("User={name}"),
    };
    let finding = about.error(
        "rights",
        format!("{named}, and there is no system D-Bus"),
        "the launcher cannot ask systemd: a stop is taken for a restart, and ends the service after the orphan timeout",
    );
    Some(finding.fix(
        "install dbus; or let the launcher be root, and the daemon drop its privileges: seamless-run ... -- setpriv --reuid USER --regid GROUP --init-groups COMMAND",
    ))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{codes, service, unit};
    use super::*;

    fn found(lines: &str, options: &str) -> Vec<String> {
        codes(&findings(&unit(lines), Some(&service(options)), None))
    }

    #[test]
    fn a_good_unit_gives_nothing() {
        for lines in [
            "",
            "ProtectSystem=strict\nPrivateTmp=yes",
            "RuntimeDirectory=\nRuntimeDirectoryPreserve=no",
            "RuntimeDirectory=\nProtectSystem=strict\nReadWritePaths=-/run/app",
            "PIDFile=/run/other.pid",
            "RestrictAddressFamilies=AF_UNIX AF_INET",
            "RestrictAddressFamilies=~AF_PACKET",
            "PrivateNetwork=yes",
            "User=app",
        ] {
            assert_eq!(found(lines, ""), [""; 0], "{lines}");
        }
    }

    #[test]
    fn each_wrong_line_is_named_with_the_right_one() {
        let preserve = "runtime-directory: RuntimeDirectoryPreserve=yes";
        for (lines, options, expected) in [
            (
                "OOMPolicy=stop",
                "",
                "warning oom-policy: OOMPolicy=continue",
            ),
            ("ExecStop={ path=/bin/kill }", "", "warning exec-stop"),
            ("ProcSubset=pid", "", "error proc-subset: ProcSubset=all"),
            (
                "PIDFile=/run/app/app.pid",
                "",
                "error pid-file-property: PIDFile=",
            ),
            (
                "RuntimeDirectoryPreserve=no",
                "",
                &format!("error {preserve}"),
            ),
            (
                "RuntimeDirectoryPreserve=restart",
                "",
                &format!("warning {preserve}"),
            ),
            (
                "PrivateTmp=yes",
                "--listen /tmp/a.sock",
                "error private-tmp",
            ),
            (
                "RuntimeDirectory=\nProtectSystem=strict",
                "",
                "error protect-system: RuntimeDirectory=app",
            ),
            (
                "ProtectSystem=strict",
                "--listen /srv/a/a.sock",
                "error protect-system: ReadWritePaths=/srv/a",
            ),
            (
                "RestrictAddressFamilies=AF_INET",
                "",
                "error address-families: RestrictAddressFamilies=AF_UNIX",
            ),
            (
                "RestrictAddressFamilies=~AF_UNIX",
                "",
                "error address-families",
            ),
            (
                "RestrictAddressFamilies=AF_UNIX",
                "--listen 80",
                "error address-families: RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
            ),
            (
                "PrivateNetwork=yes",
                "--listen 80",
                "warning private-network: PrivateNetwork=no",
            ),
        ] {
            assert_eq!(found(lines, options), [expected], "{lines}");
        }
    }

    #[test]
    fn who_cannot_ask_systemd_is_told_so() {
        let rights = |lines: &str, options: &str, user| {
            let mut unit = unit(lines);
            unit.has_bus = false;
            codes(&findings(&unit, Some(&service(options)), user)).join("")
        };
        assert_eq!(rights("", "", Some(0)), "");
        assert_eq!(rights("User=root", "", Some(0)), "");
        assert_eq!(rights("User=app", "", Some(7)), "error rights");
        assert_eq!(rights("User=app", "--on TERM=stop", Some(7)), "");
        assert_eq!(rights("DynamicUser=yes", "", None), "error rights");
        let line = "ExecStart={ path=/usr/bin/setpriv ; argv[]=setpriv --reuid app seamless-run -p f d ; ignore_errors=no }";
        assert_eq!(rights(line, "", None), "error rights");
    }
}
