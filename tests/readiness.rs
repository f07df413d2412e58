//! Readiness passed on to s6: `--notification-fd`, and the file notification-fd of the service directory (R2, R23).

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use nix::sys::signal::Signal;

use crate::scene::{DEAF, LATER, Scene, kill, python, signal};
use crate::stage::tell;
use crate::support::process::{self, Pid};
use crate::support::{self, S6, Service, Spawn, Spawned, Supervisor};

/// `listener.py` under s6, and the launcher with these options.
fn service(scene: &Scene, options: &[&str], environment: &[(&str, &str)]) -> Service {
    let (program, python) = (support::program(), python());
    let daemon = scene.stage.scratch.join("listener.py");
    let pid_file = scene.stage.pid_file.to_str().unwrap();
    let words = [program.to_str().unwrap(), "--pid-file", pid_file];
    let command = [
        "--",
        python.to_str().unwrap(),
        "-I",
        "-S",
        daemon.to_str().unwrap(),
    ];
    let all = words.iter().chain(options).chain(&command);
    let service = Service::new(all.map(|word| (*word).to_owned()));
    environment
        .iter()
        .fold(service, |service, (name, value)| service.env(name, value))
}

fn notified(service: Service) -> Service {
    service.file("notification-fd", "3\n")
}

/// The daemon of this generation.
fn up(scene: &Scene, generation: u32) -> Pid {
    let ending = format!(" {generation}");
    let line = scene
        .stage
        .log
        .wait(|line| line.starts_with("up ") && line.ends_with(&ending));
    crate::stage::pid_in(&line)
}

/// Waits until a process sleeps: for an event that it has made sure has not come already.
fn wait_until_it_waits(svwait: &Spawned) {
    while process::status_field(svwait.pid(), "State").is_some_and(|state| !state.starts_with('S'))
    {
        std::thread::yield_now();
    }
}

fn pipes_of(pid: Pid) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let paths = entries.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    let is_pipe = |path: &PathBuf| path.to_str().is_some_and(|name| name.starts_with("pipe:"));
    paths.filter(is_pipe).collect()
}

/// The pipe that s6-supervise has made, and not inherited.
fn notification_pipe(s6: &S6) -> PathBuf {
    let processes = s6.own_processes();
    let [supervise, svscan] = processes[..] else {
        panic!("{processes:?}");
    };
    let made = &pipes_of(supervise) - &pipes_of(svscan);
    let made: Vec<_> = made.into_iter().collect();
    let [pipe] = &made[..] else {
        panic!("{made:?}");
    };
    pipe.clone()
}

#[test]
fn s6_knows_when_each_generation_is_ready() {
    for options in [&[][..], &["--listen=http=127.0.0.1:0"]] {
        let scene = Scene::new();
        let options = [&["--notification-fd", "3"], options].concat();
        let service = notified(service(&scene, &options, LATER));
        let mut s6 = S6::start(&scene.stage.scratch, &scene.stage.log, &service);
        let mut before = None;
        for generation in 1..=3 {
            if generation > 1 {
                s6.restart().expect_success();
            }
            let daemon = up(&scene, generation);
            let svwait = s6.svwait("-U").start();
            wait_until_it_waits(&svwait);
            assert_eq!(s6.status("ready"), "false", "{}", scene.listing());
            assert!(svwait.alive(), "{}", scene.listing());
            let pipe = notification_pipe(&s6);
            let keeper = process::Process::read(daemon).unwrap().parent;
            let launcher = process::Process::read(keeper).unwrap().parent;
            let has_it = |pid| pipes_of(pid).contains(&pipe);
            assert!(has_it(launcher), "{}", pipe.display());
            assert!(!has_it(daemon), "{}", pipe.display());
            scene.say_started(daemon);
            svwait.finish().expect_success();
            assert_eq!(s6.status("ready"), "true");
            // It is nowhere any more, and 3 is the daemon's held socket, or a descriptor of its own.
            for pid in [daemon, keeper, launcher] {
                assert!(!has_it(pid), "{pid}: {}", scene.listing());
            }
            let third = fs::read_link(format!("/proc/{daemon}/fd/3")).unwrap_or_default();
            let is_socket = third.to_str().unwrap().starts_with("socket:");
            assert_eq!(is_socket, options.len() > 2, "{}", third.display());
            if let Some(before) = before {
                process::wait_exit(before);
            }
            before = Some(daemon);
        }
        s6.want_down().expect_success();
        s6.svwait("-D").finish().expect_success();
        scene
            .stage
            .scratch
            .wait_no_processes_but(&s6.own_processes());
        s6.shutdown();
    }
}

/// A new version that dies is never ready, and the one that serves is no more the service's process.
#[test]
fn s6_is_told_nothing_by_one_that_fails() {
    let scene = Scene::new();
    let options = ["--notification-fd", "3"];
    let good = notified(service(&scene, &options, DEAF));
    let mut s6 = S6::start(&scene.stage.scratch, &scene.stage.log, &good);
    let first = up(&scene, 1);
    s6.svwait("-U").finish().expect_success();
    let crashing = service(&scene, &options, &[("CRASH", "3")]);
    s6.install(&scene.stage.scratch, &scene.stage.log, &notified(crashing));
    s6.restart().expect_success();
    for _ in 0..2 {
        scene
            .stage
            .log
            .wait_for("died before it was ready: exit status 3");
        assert_eq!(s6.status("ready"), "false");
    }
    assert!(process::alive(first));
    s6.install(&scene.stage.scratch, &scene.stage.log, &good);
    s6.svwait("-U").finish().expect_success();
    process::wait_exit(first);
    s6.shutdown();
}

/// A keeper that was lost is replaced, and readiness still gets through.
#[test]
fn s6_hears_of_readiness_though_the_keeper_was_lost() {
    let scene = Scene::new();
    let service = notified(service(&scene, &["--notification-fd", "3"], LATER));
    let mut s6 = S6::start(&scene.stage.scratch, &scene.stage.log, &service);
    let daemon = up(&scene, 1);
    let keeper = process::Process::read(daemon).unwrap().parent;
    kill(keeper);
    scene.stage.log.wait_for("goes on in its place");
    assert_eq!(s6.status("ready"), "false");
    scene.say_started(daemon);
    s6.svwait("-U").finish().expect_success();
    s6.shutdown();
}

/// How soon the next launcher is there: s6 waits for a second after one that never was ready.
#[test]
fn a_restart_under_s6_is_immediate() {
    for (what, with) in [("with", true), ("without", false)] {
        let scene = Scene::new();
        let options: &[&str] = if with {
            &["--notification-fd", "3"]
        } else {
            &[]
        };
        let service = service(&scene, options, DEAF);
        let service = if with { notified(service) } else { service };
        let mut s6 = S6::start(&scene.stage.scratch, &scene.stage.log, &service);
        let mut daemon = up(&scene, 1);
        let mut times = Vec::new();
        for generation in 2..=4 {
            scene.wait_started(daemon);
            // s6 starts nobody a second time within a second.
            while s6.status("updownfor").parse::<u32>().unwrap() < 2 {}
            let begun = Instant::now();
            s6.restart().expect_success();
            let next = up(&scene, generation);
            times.push(begun.elapsed());
            process::wait_exit(daemon);
            daemon = next;
        }
        tell(&format!(
            "s6-svc -r, {what} --notification-fd: the next daemon is up after {times:.0?}"
        ));
        signal(daemon, Signal::SIGTERM);
        s6.shutdown();
    }
}

/// One clear line, and nothing is started.
#[test]
fn a_notification_fd_that_is_none_is_refused() {
    let scene = Scene::new();
    for number in ["99", "0", "1", "2", "-1", "three", "", "3.0", "99999999999"] {
        let option = format!("--notification-fd={number}");
        let refused = Spawn::new(&scene.stage.scratch, support::program())
            .arg("--pid-file")
            .arg(&scene.stage.pid_file)
            .args([&option, "--", "sh", "-c", "echo started"])
            .finish();
        assert_eq!(refused.code(), Some(125), "{number}: {}", refused.stderr);
        assert_eq!(refused.stdout, "", "{number}");
        let lines: Vec<&str> = refused.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "{number}: {}", refused.stderr);
        assert!(lines[0].contains("--notification-fd"), "{}", lines[0]);
        assert!(lines[0].contains(number), "{}", lines[0]);
    }
}
