//! A program of supervisord's, with its own defaults where they are wrong.

use super::*;
use crate::support::Supervisord;
use crate::support::service::Output;

fn service(site: &Site, lines: &[&str]) -> Service {
    let service = Service::new(site.command(&[])).output(Output::Supervisor);
    lines
        .iter()
        .fold(service, |service, line| service.program(*line))
}

/// The launcher's own verbs say when it serves: its output is supervisord's.
fn wait_serving(site: &Site) {
    let status = || {
        let verb = Spawn::new(&site.scratch, support::program()).args(["status", "-q"]);
        verb.arg(site.pid_file()).finish().code()
    };
    let watch = Spawn::new(&site.scratch, support::program())
        .args(["status", "--watch"])
        .arg(site.pid_file())
        .output_to(&site.log)
        .start();
    site.log.wait_for(" serving ");
    drop(watch);
    assert_eq!(status(), Some(0));
}

/// Everything that supervisord does by default, and the lines that check says instead.
#[test]
fn a_program_with_the_defaults_of_supervisord() {
    let site = Site::new();
    let defaults = ["autorestart=unexpected", "startsecs=1"];
    let broken = service(&site, &defaults);
    let mut supervisord = Supervisord::start(&site.scratch, &site.log, &broken);
    wait_serving(&site);
    let checked = site.check_running(&supervisord, &[]);
    assert_eq!(checked.told["supervisor"], "supervisord");
    let mut faults = checked.faults();
    faults.retain(|fault| fault != "warning directory-boot");
    let expected = [
        "error output",
        "error restart",
        "warning start-limit",
        "warning timeout-stop",
    ];
    assert_eq!(faults, expected, "{}", checked.told);
    assert_eq!(checked.code, 1);
    let lines: Vec<String> = ["output", "restart", "start-limit", "timeout-stop"]
        .map(|code| checked.line(code))
        .into();
    site.end(&mut supervisord);

    let all: Vec<&str> = defaults
        .into_iter()
        .chain(lines.iter().map(String::as_str))
        .collect();
    let fixed = service(&site, &all);
    let mut supervisord = Supervisord::start(&site.scratch, &site.log, &fixed);
    wait_serving(&site);
    let checked = site.check_running(&supervisord, &[]);
    let mut faults = checked.faults();
    faults.retain(|fault| fault != "warning directory-boot");
    assert_eq!(faults, [""; 0], "{}", checked.told);
    site.assert_seamless(&supervisord, || supervisord.restart());
    let verdict = Spawn::new(&site.scratch, support::program()).arg("restart");
    verdict.arg(site.pid_file()).finish().expect_success();
    site.end(&mut supervisord);
}
