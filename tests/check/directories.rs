//! Service directories of runit, daemontools and s6, and the directory of the PID file.

use std::path::Path;

use nix::unistd::User;

use super::*;
use crate::support::process::{self, status_field};
use crate::support::{Daemontools, Runit, S6, executable, tool};

/// The service directory of a supervisor that runs, or will.
fn check(site: &Site, supervisor: &dyn Supervisor, directory: &Path) -> Checked {
    let checked = site.check(supervisor, &["--service", directory.to_str().unwrap()]);
    without_boot(checked)
}

/// The scratch directory may be in memory, which is true, and not what is tried here.
fn without_boot(mut checked: Checked) -> Checked {
    let findings = checked.told["findings"].as_array_mut().unwrap();
    findings.retain(|one| one["code"] != "directory-boot");
    checked
}

/// Writes the last line of the run script anew.
fn rewrite(directory: &Path, line: &str) {
    let run = directory.join("run");
    let text = fs::read_to_string(&run).unwrap();
    let (before, _) = text.trim_end().rsplit_once('\n').unwrap();
    let beside = directory.join("run.new");
    executable::write(&beside, format!("{before}\n{line}\n").as_bytes(), 0o755);
    fs::rename(beside, run).unwrap();
}

/// Runs a line that check has said, in the service directory.
fn run_line(site: &Site, directory: &Path, line: &str) {
    let shell = Spawn::new(&site.scratch, "sh").args(["-c", line]);
    shell.directory(directory).finish().expect_success();
}

/// An ordinary user's launcher, and a PID directory of his own.
#[test]
fn privileges_that_are_dropped_before_the_launcher() {
    let nobody = User::from_name("nobody").unwrap().expect("Debian has it");
    let site = Site::new();
    for place in [site.run.as_path(), site.scratch.path()] {
        std::os::unix::fs::chown(place, Some(nobody.uid.as_raw()), None).unwrap();
    }
    // Wherever the tests were built, he can run these.
    let (program, daemon) = (
        site.scratch.join("seamless-run"),
        site.scratch.join("daemon"),
    );
    executable::copy(&support::program(), &program, 0o755);
    executable::copy(Path::new(&Site::daemon()), &daemon, 0o755);
    let mut launcher = site.launcher(&[]);
    launcher[0] = program.to_str().unwrap().to_owned();
    let chpst = tool("chpst", "runit");
    let mut words: Vec<String> = [chpst.to_str().unwrap(), "-u", "nobody"]
        .map(str::to_owned)
        .into();
    words.extend(launcher);
    words.push(daemon.to_str().unwrap().to_owned());
    let mut runit = Runit::start(&site.scratch, &site.log, &Service::new(words));
    let directory = runit.directory();
    site.log.wait_for(" is ready after");
    let checked = check(&site, &runit, &directory);
    checked.assert_named("error rights");
    assert_eq!(checked.told["supervisor"], "runit");

    // It is true: the launcher says so itself.
    let launcher = runit.wait_main_pid();
    site.log.wait_seen("cannot ask runit whether");
    runit.want_down();
    process::wait_exit(launcher);
    // It serves on; and only its own user can end it.
    let stop = Spawn::new(&site.scratch, &chpst).args(["-u", "nobody"]);
    let stop = stop.arg(&program).arg("stop").arg(site.pid_file());
    stop.finish().expect_success();
    site.scratch.wait_no_processes_but(&runit.own_processes());

    rewrite(&directory, &checked.line("rights"));
    // The files are the launcher's, who is root now.
    for place in [site.run.as_path(), site.scratch.path()] {
        std::os::unix::fs::chown(place, Some(0), None).unwrap();
    }
    // His lock stays, and nobody else may use it.
    let checked = check(&site, &runit, &directory);
    checked.assert_named("error lock");
    fs::remove_file(text(&checked.finding("lock")["subject"])).unwrap();
    check(&site, &runit, &directory).assert_silent();
    runit.want_up();
    let ready = site.log.wait_for(" is ready after");
    let daemon = ready
        .split_once("(pid ")
        .unwrap()
        .1
        .split_once(')')
        .unwrap()
        .0;
    let user = status_field(process::Pid::from_raw(daemon.parse().unwrap()), "Uid").unwrap();
    assert_eq!(
        user.split_whitespace().nth(1),
        Some(nobody.uid.to_string().as_str())
    );
    check(&site, &runit, &directory).assert_silent();
    site.end(&mut runit);
    site.log.wait_seen("is told to drain (TERM); KILL after");
}

/// What a person forgets in a run script.
#[test]
fn run_scripts_with_one_wrong_line() {
    let site = Site::new();
    let words = site.command(&[]);
    let mut runit = Runit::start(&site.scratch, &site.log, &Service::new(words.clone()));
    let directory = runit.directory();
    site.log.wait_for(" is ready after");
    check(&site, &runit, &directory).assert_silent();
    site.assert_seamless(&runit, || runit.restart());
    site.log.wait_for(" is ready after");
    runit.want_down();
    site.scratch.wait_no_processes_but(&runit.own_processes());
    let good = words.join(" ");

    // A shell that stays.
    rewrite(&directory, &good);
    let checked = check(&site, &runit, &directory);
    checked.assert_named("error exec");
    assert_eq!(checked.line("exec"), format!("exec {good}"));
    rewrite(&directory, &checked.line("exec"));
    check(&site, &runit, &directory).assert_silent();

    // The same, and no exec would help.
    for aside in [format!("exec {good} | cat"), format!("{good} & wait")] {
        rewrite(&directory, &aside);
        check(&site, &runit, &directory).assert_named("error exec");
    }
    rewrite(&directory, &checked.line("exec"));

    // A directory that is not there.
    fs::remove_dir_all(&site.run).unwrap();
    let checked = check(&site, &runit, &directory);
    checked.assert_named("error directory");
    rewrite(
        &directory,
        &format!("{}\nexec {good}", checked.line("directory")),
    );
    check(&site, &runit, &directory).assert_silent();
    runit.want_up();
    site.log.wait_for(" is ready after");
    check(&site, &runit, &directory).assert_silent();

    // A directory that everybody can write.
    fs::set_permissions(&site.run, Permissions::from_mode(0o777)).unwrap();
    let checked = check(&site, &runit, &directory);
    checked.assert_named("error directory-mode");
    run_line(&site, &directory, &checked.line("directory-mode"));
    check(&site, &runit, &directory).assert_silent();

    // In the directory itself nothing has to be typed.
    let here = Spawn::new(&site.scratch, support::program()).args(["check", "--json"]);
    without_boot(Checked::of(here.directory(&directory).finish())).assert_silent();
    site.assert_seamless(&runit, || runit.restart());
    site.end(&mut runit);
}

/// 126, and what to do about it.
#[test]
fn a_command_that_is_not_executable() {
    let site = Site::new();
    let daemon = site.scratch.join("daemon");
    fs::copy(Site::daemon(), &daemon).unwrap();
    fs::set_permissions(&daemon, Permissions::from_mode(0o644)).unwrap();
    let mut words = site.launcher(&[]);
    words.push(daemon.to_str().unwrap().to_owned());
    let mut runit = Runit::start(&site.scratch, &site.log, &Service::new(words));
    let directory = runit.directory();
    site.log.wait_for("cannot execute");
    let checked = check(&site, &runit, &directory);
    checked.assert_named("error command");
    run_line(&site, &directory, &checked.line("command"));
    site.log.wait_for(" is ready after");
    check(&site, &runit, &directory).assert_silent();
    site.assert_seamless(&runit, || runit.restart());
    site.end(&mut runit);
}

/// A daemon that nobody can tell anything.
#[test]
fn a_daemon_that_does_not_handle_usr2() {
    let site = Site::new();
    let mut words = site.launcher(&[]);
    words.extend(["sleep".to_owned(), "1000".to_owned()]);
    let mut runit = Runit::start(&site.scratch, &site.log, &Service::new(words.clone()));
    site.log.wait_for(" starts: sleep");
    let checked = without_boot(site.check_running(&runit, &["--listen", "http=/none"]));
    checked.assert_named("warning prepare-signal");
    let finding = checked.finding("prepare-signal");
    let consequence = text(&finding["consequence"]);
    assert!(
        consequence.contains("connections wait meanwhile"),
        "{consequence}"
    );
    // What it says will happen.
    runit.restart();
    site.log.wait_for("(pid");
    site.log.wait_for(" starts: sleep");
    runit.want_down();
    site.scratch.wait_no_processes_but(&runit.own_processes());

    // One of the fixes.
    assert!(text(&finding["fix"]).contains("--prepare-signal none"));
    let directory = runit.directory();
    let line = words.join(" ");
    let fixed = line.replacen(" -- ", " --prepare-signal none -- ", 1);
    rewrite(&directory, &format!("exec {fixed}"));
    runit.want_up();
    site.log.wait_for(" starts: sleep");
    check(&site, &runit, &directory).assert_silent();
    runit.want_down();
    // It never said that it is ready: this ends it.
    site.scratch.wait_no_processes_but(&runit.own_processes());
    runit.shutdown();
}

/// The file and the option have to be there both.
#[test]
fn s6_with_one_half_of_its_readiness() {
    // Only the file.
    let site = Site::new();
    let service = Service::new(site.command(&[])).file("notification-fd", "4\n");
    let mut s6 = S6::start(&site.scratch, &site.log, &service);
    let directory = s6.directory();
    site.log.wait_for(" is ready after");
    let checked = check(&site, &s6, &directory);
    checked.assert_named("warning notification-fd");
    assert_eq!(s6.status("ready"), "false");
    let option = checked.line("notification-fd");
    let option: Vec<&str> = option.split(' ').collect();
    rewrite(
        &directory,
        &format!("exec {}", site.command(&option).join(" ")),
    );
    check(&site, &s6, &directory).assert_silent();
    site.assert_seamless(&s6, || s6.restart());
    site.log.wait_for("is ready after");
    let waits = Spawn::new(&site.scratch, tool("s6-svwait", "s6"));
    waits.arg("-U").arg(&directory).finish().expect_success();
    assert_eq!(s6.status("ready"), "true");
    site.end(&mut s6);

    // Only the option.
    let site = Site::new();
    let service = Service::new(site.command(&["--notification-fd", "4"]));
    let mut s6 = S6::start(&site.scratch, &site.log, &service);
    let directory = s6.directory();
    site.log
        .wait_for("--notification-fd 4: this descriptor is not open");
    let checked = check(&site, &s6, &directory);
    checked.assert_named("error notification-fd");
    run_line(&site, &directory, &checked.line("notification-fd"));
    check(&site, &s6, &directory).assert_silent();
    // s6-supervise reads it when it starts.
    s6.shutdown();
    let fixed = service.file("notification-fd", "4\n");
    let mut s6 = S6::start(&site.scratch, &site.log, &fixed);
    site.log.wait_for(" is ready after");
    check(&site, &s6, &directory).assert_silent();
    site.assert_seamless(&s6, || s6.restart());
    site.end(&mut s6);
}

/// daemontools has no such descriptor, and no start.
#[test]
fn a_notification_fd_under_daemontools() {
    let site = Site::new();
    let service = Service::new(site.command(&["--notification-fd", "9"]));
    let mut daemontools = Daemontools::start(&site.scratch, &site.log, &service);
    site.log.wait_for("this descriptor is not open");
    let directory = site.scratch.join("daemontools/app");
    check(&site, &daemontools, &directory).assert_named("error notification-fd");
    rewrite(&directory, &format!("exec {}", site.command(&[]).join(" ")));
    check(&site, &daemontools, &directory).assert_silent();
    site.log.wait_for(" is ready after");
    site.end(&mut daemontools);
}
