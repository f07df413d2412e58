//! `--ready pid-file:PATH`: the daemon's own PID file names it. What else may lie there is nobody's readiness.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::sys::stat::Mode;

use crate::puppet::{NOT_SOON, SOON};
use crate::stage::{Stage, assert_unharmed, innocent};
use crate::support::process::{self, Pid};

use super::Mark;

/// A daemon that waits for its own PID file, and for the mark.
struct Scene {
    stage: Stage,
    mark: Mark,
    file: std::path::PathBuf,
    option: String,
}

impl Scene {
    fn new() -> Scene {
        let stage = Stage::new();
        let mark = Mark::new(&stage);
        let file = stage.scratch.join("own.pid");
        let option = format!("--ready=pid-file:{}", file.display());
        Scene {
            stage,
            mark,
            file,
            option,
        }
    }
}

fn remove(path: &Path) {
    if fs::remove_file(path).is_err() {
        fs::remove_dir_all(path).ok();
    }
}

#[test]
fn what_does_not_name_the_daemon() {
    let scene = Scene::new();
    let Scene {
        stage,
        mark,
        file,
        option,
    } = &scene;
    let innocent = innocent(stage);
    let one = stage.begin(&[&mark.option, option], &[]);
    let (daemon, keeper) = (one.daemon.pid, one.keeper);
    let dead = stage.child(&one.daemon, "child()");
    stage.asks(&dead, "leave()");
    process::wait_exit(dead.pid);
    stage.has(&one.daemon, "os.wait()");
    let outsider = stage.child(&one.daemon, "child(orphan=True, session=True)");
    let numbers = [
        innocent.pid(),
        keeper,
        one.launcher.pid(),
        dead.pid,
        outsider.pid,
    ];
    let mut contents: Vec<String> = numbers.iter().map(|pid| format!("{pid}\n")).collect();
    contents.extend(
        [
            "",
            "\n",
            "0\n",
            "1\n",
            "-1\n",
            "self\n",
            "99999999999999999999\n",
            "\0\0\0\0",
        ]
        .map(str::to_owned),
    );
    contents.extend([
        format!("-{daemon}\n"),
        format!("{daemon}x\n"),
        format!("0x{:x}\n", daemon.as_raw()),
    ]);
    for content in contents {
        fs::write(file, &content).unwrap();
        mark.assert_waits(stage, &one, "own.pid");
        mark.withdraw(stage);
    }
    // Neither read for ever nor waited at.
    let odd: [&dyn Fn(); 4] = [
        &|| fs::create_dir(file).unwrap(),
        &|| nix::unistd::mkfifo(file, Mode::S_IRWXU).unwrap(),
        &|| symlink("/dev/zero", file).unwrap(),
        &|| symlink("own.pid", file).unwrap(),
    ];
    for make in odd {
        remove(file);
        make();
        mark.assert_waits(stage, &one, "own.pid");
        mark.withdraw(stage);
    }
    remove(file);
    mark.assert_waits(stage, &one, "own.pid");
    stage.ready_since(&one.daemon, "write('own.pid', f'{os.getpid()}\\n')");
    assert_unharmed(stage, &innocent);
    // It is the daemon's, and stays.
    stage.asks(&outsider, "leave()");
    stage.stop(one.launcher, &[innocent.pid()]);
    assert_eq!(fs::read_to_string(file).unwrap(), format!("{daemon}\n"));
}

/// However daemons write it; PostgreSQL's has more lines, and others pad the number.
#[test]
fn what_names_the_daemon() {
    for line in [
        "write('own.pid', f'{os.getpid()}\\n')",
        "write('own.pid', f'{os.getpid()}')",
        "write('own.pid', f'{os.getpid():10}\\n')",
        "write('own.pid', f'{os.getpid()}\\n/var/lib/data\\n5432\\n')",
        "write('own.new', f'{os.getpid()}\\n'); os.rename('own.new', 'own.pid')",
        "write('own.new', f'{os.getpid()}\\n'); os.link('own.new', 'own.pid')",
        "write('own.new', f'{os.getpid()}\\n'); os.symlink('own.new', 'own.pid')",
        "file = open('own.pid', 'w'); file.write(str(os.getpid())); file.flush()",
        "os.setuid(65534); os.chdir('pipes'); write('own.pid', str(os.getpid()))",
    ] {
        let stage = Stage::new();
        let mark = Mark::new(&stage);
        let path = if line.contains("pipes") {
            "pipes/own.pid"
        } else {
            "own.pid"
        };
        // It counts from where the launcher stands.
        let option = format!("--ready=pid-file:{path}");
        let one = stage.begin(&[&mark.option, &option], &[]);
        mark.assert_waits(&stage, &one, "own.pid");
        stage.ready_since(&one.daemon, line);
        stage.stop(one.launcher, &[]);
    }
}

/// A process of its tree does as well: many servers are a child of what was started.
#[test]
fn a_process_of_its_tree() {
    for call in [
        "child()",
        "child(session=True)",
        "child(group=True)",
        "child(orphan=True)",
    ] {
        let scene = Scene::new();
        let stage = &scene.stage;
        let one = stage.begin(&[&scene.option], &[]);
        let child = stage.child(&one.daemon, call);
        stage.ready_since_other(&one.daemon, &child, "write('own.pid', str(os.getpid()))");
        assert_eq!(
            stage.pid_in_file(),
            Some(one.daemon.pid),
            "ours names the daemon"
        );
        stage.asks(&child, "leave()");
        process::wait_exit(child.pid);
        stage.stop(one.launcher, &[]);
    }
}

/// The file is there from the predecessor, which still serves: R11.
#[test]
fn the_predecessors_file() {
    let scene = Scene::new();
    let Scene {
        stage,
        mark,
        option,
        ..
    } = &scene;
    let writes = "write('own.pid', f'{os.getpid()}\\n')";
    let one = stage.begin(&[option], &[]);
    stage.ready_since(&one.daemon, writes);
    let old = stage.detach(one);
    let two = stage.begin(&[option, &mark.option], &[]);
    mark.assert_waits(stage, &two, "own.pid");
    stage.assert_serves(&old);
    stage.ready_since(&two.daemon, writes);
    process::wait_exit(old.pid);
    stage.stop(two.launcher, &[]);
}

/// Never, for each thing that may be wrong with it; `status` says what.
#[test]
fn a_file_that_never_names_it() {
    let scene = Scene::new();
    let Scene {
        stage,
        file,
        option,
        ..
    } = &scene;
    let old = stage.standby(&[], &[]);
    let stranger = Pid::this();
    for content in [
        None,
        Some(format!("{stranger}\n")),
        Some("garbage\n".to_owned()),
    ] {
        remove(file);
        if let Some(content) = content {
            fs::write(file, content).unwrap();
        }
        let two = stage.begin(&[option, SOON], &[]);
        stage.assert_failed(two, &old, "own.pid");
    }
    stage.log.wait_seen(NOT_SOON);
}

/// It comes and goes, and counts at the moment of the commit only.
#[test]
fn a_file_that_comes_and_goes() {
    let scene = Scene::new();
    let Scene {
        stage,
        mark,
        option,
        ..
    } = &scene;
    let one = stage.begin(&[option, &mark.option], &[]);
    for _ in 0..2 {
        stage.has(&one.daemon, "write('own.pid', str(os.getpid()))");
        stage.wait_waits("own.pid", false);
        stage.has(&one.daemon, "os.unlink('own.pid')");
        stage.wait_waits("own.pid", true);
    }
    mark.assert_waits(stage, &one, "own.pid");
    stage.ready_since(&one.daemon, "write('own.pid', str(os.getpid()))");
    stage.stop(one.launcher, &[]);
}
