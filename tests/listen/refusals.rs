//! What cannot be had is refused in one line, and changes nothing: neither what was there, nor who serves (R13).

use std::fs::{self, File, Permissions};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use socket2::Type;

use super::{Scene, ask, free_ports};
use crate::stage::Stage;
use crate::support::process::{self, Pid};
use crate::support::{self, Finished, Spawn};
use crate::verbs::status;

const NOBODY: u32 = 65534;

/// All that lies in a directory, with what a change of it would change.
fn listing(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut all: Vec<String> = entries
        .map(|entry| {
            let path = entry.unwrap().path();
            let found = fs::symlink_metadata(&path).unwrap();
            let (inode, mode, owner) = (found.ino(), found.mode(), found.uid());
            format!(
                "{} {inode} {mode:o} {owner} {}",
                path.display(),
                found.len()
            )
        })
        .collect();
    all.sort();
    all
}

/// The names of Unix sockets of this network.
fn bound_names() -> Vec<String> {
    // Not /proc/net: that is the main thread's.
    let table = fs::read_to_string("/proc/thread-self/net/unix").unwrap();
    let names = table.lines().filter_map(|line| line.split(' ').next_back());
    names.map(str::to_owned).collect()
}

/// One line on stderr, which holds all this; exit status 125; and the command has not run.
#[track_caller]
fn assert_refused(ended: &Finished, parts: &[&str]) {
    assert_eq!(ended.code(), Some(125), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(
        ended.stderr.starts_with("seamless-run: "),
        "{}",
        ended.stderr
    );
    assert!(!ended.stderr.contains("os error"), "{}", ended.stderr);
    for part in parts {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
    assert_eq!(ended.stdout, "");
}

/// `seamless-run [-p FILE] …`, with a command that would be seen; not in the log, but in what it ended with.
fn attempt(stage: &Stage, pid_file: Option<&Path>) -> Spawn {
    let attempt = Spawn::new(&stage.scratch, support::program());
    let attempt = attempt.directory(stage.scratch.path());
    match pid_file {
        Some(file) => attempt.arg("-p").arg(file),
        None => attempt,
    }
}

/// Generation 1, detached, with what shall stay as it is; its door.
fn standby(scene: &Scene) -> (Pid, String) {
    let door = scene.path("door.sock");
    let (launcher, daemon) = scene.start(&["--orphan-timeout", "none", "--listen", &door]);
    launcher.signal(Signal::SIGTERM);
    assert_eq!(launcher.finish().code(), Some(0));
    (daemon, door)
}

#[test]
fn what_cannot_be_had_changes_nothing() {
    let scene = Scene::new();
    let stage = &scene.stage;
    let directory = stage.scratch.join("sockets");
    fs::create_dir(&directory).unwrap();
    let at = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let file = at("file");
    fs::write(&file, "something").unwrap();
    fs::create_dir(at("directory")).unwrap();
    symlink(&file, at("link")).unwrap();
    mkfifo(at("fifo").as_str(), Mode::S_IRWXU).unwrap();
    // A dead one.
    drop(UnixListener::bind(at("theirs")).unwrap());
    chown(at("theirs"), Some(1), None).unwrap();
    // Strangers, who live.
    let abstract_name = SocketAddr::from_abstract_name("taken").unwrap();
    let strangers = (
        TcpListener::bind("127.0.0.1:0").unwrap(),
        UdpSocket::bind("127.0.0.1:0").unwrap(),
        UnixListener::bind(at("taken")).unwrap(),
        UnixListener::bind_addr(&abstract_name).unwrap(),
    );
    let tcp = strangers.0.local_addr().unwrap().to_string();
    let udp = strangers.1.local_addr().unwrap().to_string();
    let [port] = free_ports();
    let long = at(&"l".repeat(108 - at("").len()));

    // What is typed, and what the one line has to hold beside it: what is wrong, and what to do.
    let rows = [
        "127.0.0.1 > has no port > use 127.0.0.1:PORT",
        "127.0.0.1:65536 > the port 65536 is out of range; use 0 to 65535",
        "127.0.0.256:80 > use four numbers up to 255",
        "app.sock > use ./app.sock or unix:app.sock",
        "$TCP > another process listens there; `ss -ltnp` names it",
        "udp:$UDP > another process listens there; `ss -lunp` names it",
        "$D/taken > another process listens there; `ss -lxp` names it",
        "@taken > another process listens there; `ss -lxp` names it",
        "127.0.0.1:no-such-service > in /etc/services; use a number",
        "192.0.2.1:$P > there is no such address on this machine > freebind opens it",
        "[fe80::1]:80 > use [fe80::1%INTERFACE]",
        "[::1%nowhere]:80 > no network interface nowhere; `ip link` names",
        "127.0.0.1:$P,device=nowhere > no network interface nowhere; `ip link` names",
        "$D/file > is a regular file; remove it, or name another path",
        "$D/directory > is a directory; remove it, or name another path",
        "$D/link > is a symbolic link; remove it, or name another path",
        "$D/fifo > is a FIFO; remove it, or name another path",
        "/dev/null > is a device; remove it, or name another path",
        "$D/theirs > belongs to the user 1; remove it, or name another path",
        "$LONG > is 108 bytes long; at most 107",
        "$D/none/socket > there is no directory $D/none; create it first",
        "$D/file/socket > $D/file is not a directory; use another path",
        "$D/new,owner=no-such-user > there is no user no-such-user; use a name or a number",
        "$D/new,group=no-such-group > there is no group no-such-group; use a name or a number",
        "$D/new,mode=999 > malformed mode \"999\"; use octal digits",
        "$D/new,colour=red > unknown option \"colour\"; there are backlog=N, mode=",
        "127.0.0.1:$P,mode=660 > mode does not fit > it is for Unix paths",
        "first=@other > the name first is used twice",
        "another=@first > @first is asked for twice; leave one out",
        "MANY > --listen is given 131 times; at most 128 sockets",
        "CONVENTION > unknown convention \"inetd\"; use systemd, nginx or server-starter",
    ];
    let (daemon, door) = standby(&scene);
    let unused = stage.scratch.join("unused");
    fs::create_dir(&unused).unwrap();
    let unused_file = unused.join("other.pid");
    let before = listing(&directory);
    for row in rows {
        let row = row.replace("$TCP", &tcp).replace("$UDP", &udp);
        let row = row
            .replace("$LONG", &long)
            .replace("$D", at("").trim_end_matches('/'));
        let row = row.replace("$P", &port.to_string());
        let mut parts: Vec<&str> = row.split(" > ").collect();
        let options: Vec<String> = match parts[0] {
            "MANY" => (0..128)
                .flat_map(|number| ["-l".to_owned(), format!("@{number}")])
                .collect(),
            "CONVENTION" => vec!["--listen-env=inetd".to_owned()],
            typed => vec!["--listen".to_owned(), typed.to_owned()],
        };
        // The value that is wrong: the last option, or else the address.
        parts[0] = if options.len() == 2 {
            options[1].split(',').next().unwrap()
        } else {
            "--listen"
        };
        // In the middle of others: what was opened before it is closed, and its path removed.
        let refused = |pid_file| {
            let ended = attempt(stage, pid_file)
                .args(["--listen", "first=@first", "--listen", &at("second.sock")])
                .args(&options)
                .args(["--listen", &at("third.sock"), "--", "echo", "it runs"])
                .finish();
            assert_refused(&ended, &parts);
            stage
                .scratch
                .wait_no_processes_but(&[daemon, keeper_of(daemon)]);
            assert_eq!(listing(&directory), before, "{row}");
            assert!(!bound_names().contains(&"@first".to_owned()), "{row}");
            ended.stderr
        };
        refused(None);
        refused(Some(&unused_file));
        let left = fs::read_dir(&unused).unwrap();
        let mut left = left.map(|entry| entry.unwrap().file_name());
        assert!(left.all(|name| name == "other.pid.lock"), "{row}");

        let line = refused(Some(&stage.pid_file));
        assert_eq!(ask(Type::STREAM, &door), format!("{daemon} 1"));
        let (code, view) = status(stage);
        assert_eq!(code, Some(0), "{view}");
        let why = view["failure"]["why"].as_str().expect("why it failed");
        assert_eq!(line, format!("seamless-run: {why}\n"), "{row}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "something");
    drop(strangers);
    // A good one is as welcome as ever.
    let (launcher, successor) = scene.start(&["--listen", &door]);
    process::wait_exit(daemon);
    let answer = ask(Type::STREAM, &door);
    assert!(answer.starts_with(&successor.to_string()), "{answer}");
    stage.stop(launcher, &[]);
    assert!(!fs::exists(&door).unwrap());
}

fn keeper_of(daemon: Pid) -> Pid {
    let parent = process::Process::read(daemon).expect("it lives").parent;
    assert_eq!(
        process::status_field(parent, "Name").unwrap(),
        "seamless-keeper"
    );
    parent
}

#[test]
fn an_ordinary_user_is_told_what_only_root_may_do() {
    let scene = Scene::new();
    scene.network.set("ipv4.ip_unprivileged_port_start", "1024");
    let stage = &scene.stage;
    let program = stage.program_for_all();
    let directory = |name: &str, owner: u32, mode: u32| {
        let path = stage.scratch.join(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        chown(&path, Some(owner), None).unwrap();
        path
    };
    let own = directory("own", NOBODY, 0o755);
    let roots = directory("roots", 0, 0o755);
    let shared = directory("shared", 0, 0o1777);
    let hidden = directory("hidden", 0, 0o700);
    let all = [
        own.join("theirs"),
        shared.join("roots"),
        shared.join("open"),
    ];
    for (path, owner) in all.iter().zip([1, 0, 0]) {
        drop(UnixListener::bind(path).unwrap());
        chown(path, Some(owner), None).unwrap();
    }
    // One that everybody may connect to.
    fs::set_permissions(shared.join("open"), Permissions::from_mode(0o666)).unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let lock = text(&own.join("app.pid.lock"));
    let look = || {
        let all = [&own, &roots, &shared, &hidden].map(|one| listing(one));
        let mut all = all.concat();
        all.retain(|line| !line.starts_with(&lock));
        all
    };
    let before = look();
    for row in [
        "127.0.0.1:80 > not permitted to use the port 80; start as root > net.ipv4.ip_unprivileged_port_start",
        "udp:[::1]:domain > not permitted to use the port 53; start as root",
        "$D/roots/new > no permission in the directory $D/roots; let this user write there",
        "$D/hidden/new > no permission in the directory $D/hidden; let this user write there",
        "$D/own/new,owner=root > cannot set its owner to root > start as root, or leave owner=root out",
        "$D/own/new,group=0 > cannot set its group to 0 > start as root, or leave group=0 out",
        "$D/own/theirs > belongs to the user 1; remove it, or name another path",
        "$D/shared/roots > $D/shared/roots: Permission denied",
        "$D/shared/open > cannot remove the dead socket $D/shared/open",
    ] {
        let row = scene.fill(row, 0);
        let mut parts: Vec<&str> = row.split(" > ").collect();
        let typed = parts[0];
        parts[0] = typed.split(',').next().unwrap();
        let second = text(&own.join("second.sock"));
        let ended = Spawn::new(&stage.scratch, "setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&program)
            .arg("-p")
            .arg(own.join("app.pid"))
            .args(["--listen", "first=@first", "--listen", &second])
            .args(["--listen", typed, "--listen", "last=@last"])
            .args(["--", "echo", "it runs"])
            .finish();
        assert_refused(&ended, &parts);
        stage.scratch.wait_no_processes_but(&[]);
        assert_eq!(look(), before, "{row}");
    }
}

#[test]
fn what_somebody_else_has_planted_at_a_path_is_not_touched() {
    let scene = Scene::new();
    let stage = &scene.stage;
    let theirs = stage.scratch.join("theirs");
    fs::create_dir(&theirs).unwrap();
    chown(&theirs, Some(NOBODY), None).unwrap();
    let ours = stage.scratch.join("ours");
    fs::create_dir(&ours).unwrap();
    let victim = ours.join("victim");
    fs::write(&victim, "something").unwrap();
    let dead = ours.join("dead.sock");
    drop(UnixListener::bind(&dead).unwrap());
    let living = ours.join("living.sock");
    let _living = UnixListener::bind(&living).unwrap();
    let nowhere = ours.join("nowhere");
    for (name, target) in [
        ("a", &victim),
        ("b", &dead),
        ("c", &living),
        ("d", &nowhere),
    ] {
        symlink(target, theirs.join(name)).unwrap();
    }
    drop(UnixListener::bind(theirs.join("e")).unwrap());
    chown(theirs.join("e"), Some(NOBODY), None).unwrap();
    let before = [&theirs, &ours].map(|one| listing(one));
    for (name, words) in [
        ("a", "is a symbolic link"),
        ("b", "is a symbolic link"),
        ("c", "is a symbolic link"),
        ("d", "is a symbolic link"),
        ("e", "belongs to the user 65534"),
    ] {
        let path = theirs.join(name).to_str().unwrap().to_owned();
        // Root's own rights do not come into it, whatever is asked for.
        for options in ["", ",mode=666", ",group=1"] {
            for pid_file in [None, Some(&*stage.pid_file)] {
                let ended = attempt(stage, pid_file)
                    .args([
                        "--listen",
                        &format!("{path}{options}"),
                        "--",
                        "echo",
                        "it runs",
                    ])
                    .finish();
                assert_refused(&ended, &[&path, words, "remove it, or name another path"]);
                let now = [&theirs, &ours].map(|one| listing(one));
                assert_eq!(now, before, "{name}{options}");
            }
        }
    }
}

/// A generation that has bound the path itself is left to it until the commit; what lies beside it is looked at as
/// well.
#[test]
fn a_failed_start_beside_a_path_that_is_served_leaves_nothing_there() {
    let scene = Scene::new();
    let stage = &scene.stage;
    let path = scene.path("own.sock");
    let beside = scene.path("own.sock.new");
    let launcher = stage
        .seamless_run(&["--orphan-timeout", "none", "--"])
        .args(scene.listener());
    let (launcher, daemon) = scene.started(launcher.env("BIND", &path));
    launcher.signal(Signal::SIGTERM);
    assert_eq!(launcher.finish().code(), Some(0));
    let victim = stage.scratch.join("victim");
    let plant = |what: &str| match what {
        "link" => symlink(&victim, &beside).unwrap(),
        "file" => fs::write(&beside, "something").unwrap(),
        "theirs" => {
            drop(UnixListener::bind(&beside).unwrap());
            chown(&beside, Some(NOBODY), None).unwrap();
        }
        _ => {}
    };
    for (what, after, parts) in [
        ("", "127.0.0.1", vec!["use 127.0.0.1:PORT"]),
        ("", "/dev/null", vec!["/dev/null is a device"]),
        (
            "link",
            "@after",
            vec![&*beside, "is a symbolic link; remove it"],
        ),
        (
            "file",
            "@after",
            vec![&*beside, "is a regular file; remove it"],
        ),
        (
            "theirs",
            "@after",
            vec![&*beside, "belongs to the user 65534; remove it"],
        ),
    ] {
        plant(what);
        let names = |()| {
            fs::read_dir(stage.scratch.path())
                .unwrap()
                .map(|entry| entry.unwrap().path())
        };
        let mut before: Vec<_> = names(()).collect();
        before.sort();
        let ended = attempt(stage, Some(&stage.pid_file))
            .args([
                "--listen", &path, "--listen", after, "--", "echo", "it runs",
            ])
            .finish();
        assert_refused(&ended, &parts);
        let mut after: Vec<_> = names(()).collect();
        after.sort();
        assert_eq!(before, after);
        assert_eq!(ask(Type::STREAM, &path), format!("{daemon} 1"));
        if !what.is_empty() {
            fs::remove_file(&beside).unwrap();
        }
    }
    let (launcher, successor) = scene.start(&["--listen", &path]);
    process::wait_exit(daemon);
    let answer = ask(Type::STREAM, &path);
    assert!(answer.starts_with(&successor.to_string()), "{answer}");
    assert!(!fs::exists(&beside).unwrap());
    stage.stop(launcher, &[]);
}

#[test]
fn a_descriptor_in_the_way_is_named() {
    let scene = Scene::new();
    let stage = &scene.stage;
    let (daemon, door) = standby(&scene);
    let path = scene.path("new.sock");
    for pid_file in [None, Some(&*stage.pid_file)] {
        for (number, words) in [(3, "socket listen"), (4, "socket other")] {
            let ended = attempt(stage, pid_file)
                .args([
                    "--listen",
                    &path,
                    "--listen",
                    "other=@other",
                    "--",
                    "echo",
                    "it runs",
                ])
                .descriptor(number, File::open("/dev/zero").unwrap())
                .finish();
            let close = format!("{number}>&-");
            assert_refused(
                &ended,
                &[&format!("descriptor {number} (/dev/zero)"), words, &close],
            );
            assert!(!fs::exists(&path).unwrap());
            if pid_file.is_some() {
                assert_eq!(ask(Type::STREAM, &door), format!("{daemon} 1"));
                let why = status(stage).1["failure"]["why"].to_string();
                assert!(
                    why.contains(&format!("descriptor {number} (/dev/zero)")),
                    "{why}"
                );
            }
        }
    }
}

#[test]
fn what_a_supervisor_says_of_its_sockets_is_looked_at() {
    let scene = Scene::new();
    let stage = &scene.stage;
    let socket = || OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
    // Meant for another process.
    let ended = attempt(stage, Some(&stage.pid_file))
        .args(["--listen", "@own", "--", "echo", "it runs"])
        .env("LISTEN_PID", "1")
        .env("LISTEN_FDS", "1")
        .descriptor(3, socket())
        .finish();
    assert_refused(&ended, &["descriptor 3 (socket:[", "listen", "3>&-"]);
    for (count, names, parts) in [
        (None, "sent", vec!["the name sent", "--listen"]),
        (Some("2"), "sent:also", vec!["LISTEN_FDS"]),
        (Some("99999"), "", vec!["LISTEN_FDS"]),
        (Some("18446744073709551615"), "", vec!["LISTEN_FDS"]),
    ] {
        let script = r#"export LISTEN_PID=$$; exec "$@""#;
        for pid_file in [None, Some(&*stage.pid_file)] {
            let mut launcher = Spawn::new(&stage.scratch, "sh").args(["-c", script, "sh"]);
            launcher = launcher.arg(support::program());
            if let Some(file) = pid_file {
                launcher = launcher.arg("-p").arg(file);
            }
            let ended = launcher
                .args(["--listen", "sent=@own", "--", "echo", "it runs"])
                .env("LISTEN_FDS", count.unwrap_or("1"))
                .env("LISTEN_FDNAMES", names)
                .descriptor(3, socket())
                .finish();
            assert_refused(&ended, &parts);
        }
    }
}

/// However few descriptors there may be: what fails says so, and takes back what it has opened.
#[test]
fn too_few_descriptors_are_said_to_be_too_few() {
    let scene = Scene::new();
    let stage = &scene.stage;
    let path = scene.path("web.sock");
    for with_pid_file in [false, true] {
        let (mut of_sockets, mut limit) = (0, 10);
        loop {
            let mut launcher = Spawn::new(&stage.scratch, "sh")
                .args(["-c", r#"ulimit -n "$LIMIT"; exec "$@""#, "sh"])
                .arg(support::program());
            if with_pid_file {
                launcher = launcher.args(["-q", "--hold-timeout", "1ms", "-p"]);
                launcher = launcher.arg(&stage.pid_file);
            }
            for name in [&*path, "@b", "127.0.0.1:0", "@d", "@e", "@f"] {
                launcher = launcher.args(["--listen", name]);
            }
            let launcher = launcher.args(["--", "echo", "it runs"]);
            let ended = launcher.env("LIMIT", limit.to_string()).finish();
            stage.scratch.wait_no_processes_but(&[]);
            if ended.code() == Some(0) {
                assert_eq!(ended.stdout, "it runs\n");
                break;
            }
            assert_eq!((ended.code(), &*ended.stdout), (Some(125), ""), "{ended:?}");
            let mut lines = ended.stderr.lines();
            let why = lines.next().expect("why");
            // That is all, but that those are held whose daemon came to nothing.
            assert!(lines.all(|line| line.contains("hold timeout")), "{ended:?}");
            assert!(why.contains("open files"), "{limit}: {why}");
            if why.contains("cannot listen on") || why.contains("cannot pass") {
                of_sockets += 1;
                assert!(
                    why.contains("raise the limit (ulimit -n)"),
                    "{limit}: {why}"
                );
            }
            assert!(!fs::exists(&path).unwrap(), "{limit}: {why}");
            limit += 1;
            assert!(limit < 64, "{why}");
        }
        assert!(of_sockets > 3, "{of_sockets}");
        if !with_pid_file {
            fs::remove_file(&path).expect("nobody else does");
        }
    }
}
