//! Units of systemd, each with one line that is wrong.

use super::*;
use crate::support::Systemd;

/// All is well with it. The PID file lies where systemd keeps it, in a /run of its own.
fn unit(site: &Site, name: &str) -> String {
    let scratch = site.scratch.path().display();
    let held = site.socket.display();
    format!(
        "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=notify\nNotifyAccess=main\n\
         ExecStart={program} --name {name} --pid-file %t/app/app.pid --listen http={held} -- {daemon}\n\
         KillMode=process\nRestart=always\nRestartSec=0\nTimeoutStartSec=infinity\n\
         RuntimeDirectory=app\nRuntimeDirectoryPreserve=yes\nOOMPolicy=continue\n\
         Environment=SEAMLESS_TEST={scratch}\n\
         StandardOutput=append:{log}\nStandardError=inherit\n",
        program = support::program().display(),
        daemon = Site::daemon(),
        log = site.log.path().display(),
    )
}

const PID_FILE: &str = "/run/app/app.pid";

struct Case {
    /// What is wrong, at the end of the good unit.
    wrong: &'static str,
    fault: &'static str,
    /// What goes wrong.
    shown: Shown,
}

enum Shown {
    /// It is not shown here.
    Not,
    /// It does not start.
    DoesNotStart,
    /// `seamless-run restart` does not restart.
    RestartRefused,
    /// A TERM by hand is no restart, but the end.
    TermEnds,
    /// The sixth start is refused.
    SixthRefused,
}

const CASES: &[Case] = &[
    Case {
        // What it is where the line is missing.
        wrong: "[Service]\nKillMode=control-group",
        fault: "error kill-mode",
        shown: Shown::Not,
    },
    Case {
        wrong: "[Service]\nRuntimeDirectoryPreserve=no",
        fault: "error runtime-directory",
        shown: Shown::Not,
    },
    Case {
        wrong: "[Service]\nRuntimeDirectoryPreserve=restart",
        fault: "warning runtime-directory",
        shown: Shown::Not,
    },
    Case {
        wrong: "[Service]\nRestart=on-failure",
        fault: "error restart",
        shown: Shown::TermEnds,
    },
    Case {
        // What it is where the line is missing.
        wrong: "[Service]\nRestart=no",
        fault: "error restart",
        shown: Shown::RestartRefused,
    },
    Case {
        wrong: "[Service]\nNotifyAccess=all",
        fault: "warning notify-access",
        shown: Shown::Not,
    },
    Case {
        // Ten seconds are the default, in which a busy machine may not come so far.
        wrong: "[Unit]\nStartLimitIntervalSec=1h",
        fault: "warning start-limit",
        shown: Shown::SixthRefused,
    },
    Case {
        wrong: "[Service]\nType=exec\nNotifyAccess=none\nTimeoutStopSec=5s",
        fault: "warning timeout-stop",
        shown: Shown::Not,
    },
    Case {
        wrong: "[Service]\nTimeoutStartSec=20s",
        fault: "warning timeout-start",
        shown: Shown::Not,
    },
    Case {
        wrong: "[Service]\nProcSubset=pid",
        fault: "error proc-subset",
        shown: Shown::DoesNotStart,
    },
    Case {
        wrong: "[Service]\nRestrictAddressFamilies=AF_NETLINK",
        fault: "error address-families",
        shown: Shown::DoesNotStart,
    },
    Case {
        wrong: "[Service]\nPIDFile=/run/app/app.pid",
        fault: "error pid-file-property",
        shown: Shown::Not,
    },
    Case {
        wrong: "[Service]\nRuntimeDirectory=",
        fault: "error directory",
        shown: Shown::DoesNotStart,
    },
    Case {
        wrong: "[Service]\nKillSignal=SIGUSR1",
        fault: "error signal",
        shown: Shown::Not,
    },
];

/// A unit as it should be: nothing is said, and it does what it should.
#[test]
fn a_good_unit() {
    let site = Site::new();
    let mut systemd = Systemd::boot(&site.scratch);
    systemd.write_unit("app.service", &unit(&site, "app"));
    for words in [&["--unit", "app"][..], &["--unit", "app.service"]] {
        site.check(&systemd, words).assert_silent();
    }
    systemd.want_up().expect_success();
    site.check(&systemd, &["--unit", "app"]).assert_silent();
    // The unit is found by what runs.
    let checked = site.check(&systemd, &["--pid-file", PID_FILE]);
    checked.assert_silent();
    assert_eq!(checked.told["service"], "app.service");
    site.assert_seamless(&systemd, || systemd.restart());
    site.end(&mut systemd);
}

/// Each wrong line is named, alone, and the line that is said instead is right.
#[test]
fn units_with_one_wrong_line() {
    let site = Site::new();
    let mut systemd = Systemd::boot(&site.scratch);
    for (number, case) in CASES.iter().enumerate() {
        let Case {
            wrong,
            fault,
            shown,
        } = case;
        let broken = format!("{}{wrong}\n", unit(&site, "broken"));
        systemd.write_unit("app.service", &broken);
        let checked = site.check(&systemd, &["--unit", "app"]);
        checked.assert_named(fault);
        show(shown, &site, &systemd, wrong);

        let code = fault.split_once(' ').unwrap().1;
        let line = checked.line(code);
        let fix = text(&checked.finding(code)["fix"]);
        let section = match fix.contains("in [Unit]") {
            true => "Unit",
            false => "Service",
        };
        assert!(fix.contains(&line), "{fix}");
        // Its lines in the log are told from those of the broken one.
        let name = format!("fixed{number}");
        let fixed = format!("{}{wrong}\n[{section}]\n{line}\n", unit(&site, &name));
        systemd.write_unit("app.service", &fixed);
        site.check(&systemd, &["--unit", "app"]).assert_silent();
        systemd.want_up().expect_success();
        site.log.wait(|line| {
            line.starts_with(&format!("{name}: ")) && line.contains(" is ready after")
        });
        site.assert_seamless(&systemd, || systemd.restart());
        let verdict = systemd.inside(support::program());
        verdict
            .args(["restart", PID_FILE])
            .finish()
            .expect_success();
        for _ in 0..6 {
            // More than the start limit of systemd.
            systemd.restart().expect_success();
        }
        systemd.want_down().expect_success();
        site.scratch.wait_no_processes_but(&systemd.own_processes());
        // It is preserved, and the next case begins as after a boot.
        let remove = systemd.inside("rm").args(["-r", "/run/app"]);
        remove.finish().expect_success();
    }
    systemd.shutdown();
}

fn show(shown: &Shown, site: &Site, systemd: &Systemd, wrong: &str) {
    match shown {
        Shown::Not => return,
        Shown::DoesNotStart => {
            let started = systemd.want_up();
            assert_ne!(started.code(), Some(0), "{wrong}");
        }
        Shown::RestartRefused => {
            systemd.want_up().expect_success();
            let verb = systemd.inside(support::program());
            let refused = verb.args(["restart", PID_FILE]).finish();
            assert_eq!(refused.code(), Some(1), "{wrong}");
        }
        Shown::TermEnds => {
            systemd.want_up().expect_success();
            systemd.term().expect_success();
            site.log.wait_for("the supervisor wants the service down");
            site.scratch.wait_no_processes_but(&systemd.own_processes());
        }
        Shown::SixthRefused => {
            systemd.want_up().expect_success();
            let refused = (0..6).any(|_| systemd.restart().code() != Some(0));
            assert!(refused, "{wrong}");
        }
    }
    systemd.want_down();
    let ended = systemd.inside(support::program());
    // What serves on, where its unit has failed.
    ended.args(["stop", PID_FILE]).finish();
    systemd.systemctl(&["reset-failed", "app"]).finish();
}

/// A launcher that has no right to ask systemd, where there is no D-Bus.
#[test]
fn a_unit_of_an_ordinary_user_without_dbus() {
    let site = Site::new();
    let mut systemd = Systemd::boot(&site.scratch);
    let user = "[Service]\nUser=nobody\n";
    systemd.write_unit("app.service", &format!("{}{user}", unit(&site, "app")));
    let checked = site.check(&systemd, &["--unit", "app"]);
    checked.assert_named("error rights");
    let found = text(&checked.finding("rights")["found"]);
    assert!(found.starts_with("User=nobody"), "{found}");
    systemd.shutdown();
}

/// The unit's script is read too, and what is typed counts more than both.
#[test]
fn a_unit_that_starts_a_script() {
    let site = Site::new();
    let mut systemd = Systemd::boot(&site.scratch);
    let script = site.scratch.join("start");
    let words = site.command(&["--stop-timeout", "50s"]).join(" ");
    fs::write(&script, format!("#!/bin/sh\nexec {words}\n")).unwrap();
    fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
    let exec = format!(
        "[Service]\nExecStart=\nExecStart={}\nType=exec\nNotifyAccess=none\nTimeoutStopSec=40s\n",
        script.display()
    );
    systemd.write_unit("app.service", &format!("{}{exec}", unit(&site, "app")));
    let checked = site.check(&systemd, &["--unit", "app"]);
    assert_eq!(checked.told["file"], site.pid_file().to_str().unwrap());
    let faults = checked.faults();
    assert!(
        faults.contains(&"warning timeout-stop".to_owned()),
        "{faults:?}"
    );
    let typed = ["--unit", "app", "-p", PID_FILE, "--", "/nowhere/daemon"];
    let checked = site.check(&systemd, &typed);
    checked.assert_named("error command");
    systemd.shutdown();
}
