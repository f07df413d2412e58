//! Held sockets (`--listen`): the same ones, with their queues, from generation to generation (R11, R13, R20).
//!
//! What becomes of them when nobody is left to serve them is in [`crate::holding`].

use std::collections::BTreeMap;
use std::fs::{self};
use std::io::{self};
use std::net::UdpSocket;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread::{self};
use std::time::Instant;

use nix::sys::signal::Signal;

use crate::scene::*;
use crate::support::process::{self, Pid};
use crate::support::{PATIENCE, Spawn, network, tool};

const STARTS_ON_USR1: &[(&str, &str)] = &[("STARTED", "usr1")];
const CRASHES: &[(&str, &str)] = &[("CRASH", "3")];

fn wait_in_all(places: &[Place]) -> Vec<Client> {
    places.iter().map(Place::wait_in).collect()
}

fn crash(scene: &Scene, options: &[&str]) {
    let crashed = scene.spawn(options, CRASHES);
    assert_eq!(crashed.finish().code(), Some(3), "{}", scene.listing());
}

fn inode_at(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

// R20: what has lost its keeper.

#[derive(Clone, Copy, Debug)]
enum Lost {
    Keeper,
    KeeperAndLauncher,
    KeeperInStandby,
}

impl Lost {
    const ALL: [Lost; 3] = [Lost::Keeper, Lost::KeeperAndLauncher, Lost::KeeperInStandby];

    /// It loses them, and serves without a launcher.
    fn befalls(self, scene: &Scene, mut one: Generation) -> Pid {
        let (daemon, keeper) = (one.daemon, one.keeper);
        match self {
            Lost::Keeper => {
                kill(keeper);
                scene.stage.log.wait_for("goes on in its place");
                scene.detach(one);
            }
            Lost::KeeperAndLauncher => kill_both(&mut one),
            Lost::KeeperInStandby => {
                scene.detach(one);
                kill(keeper);
            }
        }
        daemon
    }
}

/// The sockets of a daemon that has lost its keeper, with their queues, are its successor's; ten times, with clients
/// all the time.
fn is_fetched(scene: &Scene, lost: Lost) {
    let options = listen(scene);
    let one = scene.serving(&words(&options), DEAF);
    let (places, given) = (scene.places(&one), scene.given(one.daemon));
    let waiting = wait_in_all(&places);
    let deaf = lost.befalls(scene, one);
    let mut one = scene.serving(&words(&options), SERVES);
    assert_answered(waiting, one.daemon);
    process::wait_exit(deaf);
    let clients = Clients::start(&places);
    for _ in 0..10 {
        let old = lost.befalls(scene, one);
        one = scene.serving(&words(&options), SERVES);
        process::wait_exit(old);
        assert_eq!(scene.given(one.daemon), given, "{}", scene.listing());
    }
    let tally = clients.stop();
    assert!(tally.failures.is_empty(), "{tally:?}{}", scene.listing());
    assert!(tally.answered > 0);
    let who = if scene.user.is_some() {
        "an ordinary user"
    } else {
        "root"
    };
    row(
        &format!("10 times without {lost:?}, as {who}"),
        &format!("{} clients answered, 0 failed", tally.answered),
    );
    scene.stop(one, &places);
}

#[test]
fn sockets_are_fetched_from_a_daemon_that_has_lost_its_keeper() {
    for lost in Lost::ALL {
        is_fetched(&Scene::new(), lost);
    }
}

#[test]
fn an_ordinary_users_sockets_are_fetched_from_a_daemon_that_has_lost_its_keeper() {
    for lost in Lost::ALL {
        is_fetched(&Scene::of_an_ordinary_user(), lost);
    }
}

/// R20's exception: without the right to look into that daemon there is no other way.
#[test]
fn a_daemon_whose_port_cannot_be_fetched_is_ended_before_the_next_one_starts() {
    let _network = network::isolate();
    for lost in Lost::ALL {
        for stubborn in [false, true] {
            let scene = Scene::of_an_ordinary_user();
            let tcp = format!("--listen=http=127.0.0.1:{}", free_port());
            // The next one ends by TERM within it, too.
            let options = [tcp.as_str(), "--stop-timeout=2s"];
            let fifo = scene.stage.scratch.join("nothing");
            let fifo = fifo.to_str().unwrap();
            let mut environment = vec![("DUMPABLE", "0")];
            environment.extend(stubborn.then_some(("LINGER", fifo)));
            let one = scene.serving(&options, &environment);
            let places = scene.places(&one);
            let old = lost.befalls(&scene, one);
            let two = scene.serving(&options, SERVES);
            assert!(!process::alive(old), "{}", scene.listing());
            let log = &scene.stage.log;
            let warned =
                log.wait_seen("is ended before the new one starts: no keeper has its socket");
            assert!(
                warned.contains(&format!("generation 1 (pid {old})")),
                "{warned}"
            );
            let told = format!("{old} got TERM");
            log.wait_seen(&told);
            assert_eq!(log.count(&told), 1, "{}", scene.listing());
            assert_answered(wait_in_all(&places), two.daemon);
            scene.stop(two, &places);
        }
    }
}

/// A path can have another socket beside it: nobody is ended, and nobody is refused.
#[test]
fn a_unix_socket_that_cannot_be_fetched_is_bound_beside_its_path() {
    for lost in Lost::ALL {
        let scene = Scene::of_an_ordinary_user();
        let options = [scene.unix("local")];
        let one = scene.serving(&words(&options), &[("DUMPABLE", "0")]);
        let places = scene.places(&one);
        let path = scene.path("local");
        let before = inode_at(&path);
        let clients = Clients::start(&places);
        let old = lost.befalls(&scene, one);
        let two = scene.start(&words(&options), STARTS_ON_USR1);
        let log = &scene.stage.log;
        assert_eq!(log.count("is ended before"), 0, "{}", scene.listing());
        assert_eq!(inode_at(&path), before);
        assert_answered(wait_in_all(&places), old);
        scene.say_started(two.daemon);
        process::wait_exit(old);
        assert_ne!(inode_at(&path), before);
        assert_answered(wait_in_all(&places), two.daemon);
        let tally = clients.stop();
        let refused = tally
            .failures
            .keys()
            .filter(|what| what.starts_with("connect"));
        assert_eq!(refused.count(), 0, "{tally:?}{}", scene.listing());
        scene.stop(two, &places);
    }
}

// From one generation to the next.

#[test]
fn the_next_generation_gets_the_same_sockets_and_who_waits_in_them() {
    let scene = Scene::new();
    let options = listen(&scene);
    let one = scene.serving(&words(&options), DEAF);
    let (places, given) = (scene.places(&one), scene.given(one.daemon));
    let waiting = wait_in_all(&places);
    let two = scene.restart(one, &words(&options), DEAF);
    let three = scene.restart(two, &words(&options), SERVES);
    assert_eq!(scene.given(three.daemon), given);
    assert_answered(waiting, three.daemon);
    scene.stop(three, &places);
}

#[test]
fn datagrams_that_wait_are_the_next_generations() {
    let scene = Scene::new();
    let path = scene.path("log");
    let log = format!("--listen=log=unix-dgram:{}", path.display());
    let options = ["--listen=dns=udp:127.0.0.1:0", log.as_str()];
    let one = scene.serving(&options, DEAF);
    let given = scene.given(one.daemon);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let Place::Tcp(address) = Place::of(&given[0].address) else {
        panic!("{given:?}");
    };
    let sender = std::os::unix::net::UnixDatagram::unbound().unwrap();
    let ask = |word: &str| {
        client.send_to(word.as_bytes(), address).unwrap();
        sender.send_to(word.as_bytes(), &path).unwrap();
    };
    ask("first");
    scene.detach(one);
    ask("second");
    let two = scene.start(&options, LATER);
    ask("third");
    // And across a crash.
    kill(two.daemon);
    let crashed = two.launcher.finish();
    assert_eq!(crashed.signal(), Some(Signal::SIGKILL));
    ask("fourth");
    let three = scene.serving(&options, SERVES);
    assert_eq!(scene.given(three.daemon), given);
    for word in ["first", "second", "third", "fourth"] {
        let mut text = [0; 100];
        let length = client.recv(&mut text).unwrap();
        let answer = String::from_utf8_lossy(&text[..length]);
        assert!(answer.ends_with(word), "{answer}");
        assert!(
            answer.starts_with(&format!("{} ", three.daemon)),
            "{answer}"
        );
        let received = format!("{} received {word}", three.daemon);
        scene.stage.log.wait_seen(&received);
    }
    scene.stop(three, &[]);
}

/// What is newly asked for, and what is no longer: both live until the commit, which a failed version never comes to.
#[test]
fn what_is_asked_for_changes_at_the_commit() {
    let scene = Scene::new();
    let (left, moved_from) = (scene.unix("left"), scene.unix("moved"));
    let old = [
        "--listen=kept=127.0.0.1:0",
        &left,
        &moved_from,
        "--listen=gone=127.0.0.2:0",
    ];
    let moved_to = format!("--listen=moved={}", scene.path("elsewhere").display());
    let new_path = scene.unix("new");
    // Another name for the same address.
    let new = ["--listen=renamed=127.0.0.1:0", &moved_to, &new_path];
    let one = scene.serving(&old, SERVES);
    let places = scene.places(&one);
    let before = scene.given(one.daemon);
    let (daemon, keeper) = (one.daemon, one.keeper);
    let clients = Clients::start(&places[..1]);
    scene.detach(one);

    // One that comes to nothing.
    let failed = scene.start(&new, LATER);
    assert!(scene.path("new").exists());
    kill(failed.daemon);
    failed.launcher.finish();
    process::wait_exit(failed.keeper);
    assert_eq!(
        names_in(&scene.directory),
        ["left", "moved"],
        "{}",
        scene.listing()
    );
    assert_answered(wait_in_all(&places), daemon);

    let two = scene.start(&new, LATER);
    let given = scene.given(two.daemon);
    assert_eq!(given[0].inode, before[0].inode, "the same socket");
    assert_eq!(given[0].name, "renamed");
    let added = scene.places(&two);
    let waiting = wait_in_all(&added[1..]);
    assert_answered(wait_in_all(&places), daemon);
    scene.say_started(two.daemon);
    process::wait_exit(daemon);
    assert_eq!(
        names_in(&scene.directory),
        ["elsewhere", "new"],
        "{}",
        scene.listing()
    );
    // It has them open until it ends.
    process::wait_exit(keeper);
    for place in &places[1..] {
        assert!(place.connect().is_err(), "{place:?}");
    }
    let three = scene.restart(two, &new, SERVES);
    assert_eq!(scene.given(three.daemon), given);
    assert_answered(waiting, three.daemon);
    let tally = clients.stop();
    assert!(tally.failures.is_empty() && tally.answered > 0, "{tally:?}");
    scene.stop(three, &added);
}

fn backlog_of(port: u16) -> String {
    let listing = Spawn::from(std::process::Command::new(tool("ss", "iproute2")))
        .args(["-Hltn", &format!("sport = :{port}")])
        .finish()
        .expect_success();
    listing.stdout.split_whitespace().nth(2).unwrap().to_owned()
}

#[test]
fn options_change_at_the_commit() {
    let scene = Scene::new();
    let path = scene.path("local");
    let options = |backlog: &str, mode: &str| {
        let local = format!("--listen=local={},mode={mode}", path.display());
        [
            format!("--listen=http=127.0.0.1:0,backlog={backlog}"),
            local,
        ]
    };
    let (old, new) = (options("5", "600"), options("50", "660"));
    let one = scene.serving(&words(&old), SERVES);
    let places = scene.places(&one);
    let Place::Tcp(address) = places[0] else {
        panic!("{places:?}");
    };
    let found = || {
        let mode = fs::symlink_metadata(&path).unwrap().mode() & 0o777;
        (backlog_of(address.port()), format!("{mode:o}"))
    };
    let before = ("5".to_owned(), "600".to_owned());
    assert_eq!(found(), before);
    let old_daemon = one.daemon;
    scene.detach(one);
    crash(&scene, &words(&new));
    assert_eq!(found(), before, "after a failed one");
    let two = scene.start(&words(&new), LATER);
    assert_eq!(found(), before, "while the new one starts");
    scene.say_started(two.daemon);
    assert_eq!(found(), ("50".to_owned(), "660".to_owned()));
    process::wait_exit(old_daemon);
    // One that cannot be changed on a living socket.
    let fixed = [format!("{},reuseport", new[0]), new[1].clone()];
    let three = scene.restart(two, &words(&fixed), SERVES);
    let warning = scene.stage.log.wait_seen("without the change of reuseport");
    assert!(warning.contains("http=tcp:127.0.0.1:0"), "{warning}");
    scene.stop(three, &places);
}

/// Promise 2: between unlink and bind nobody would be there.
#[test]
fn a_unix_path_is_never_gone_for_a_moment() {
    let scene = Scene::new();
    let options = [scene.unix("local")];
    let mut one = scene.serving(&words(&options), SERVES);
    let places = scene.places(&one);
    let three = [places[0].clone(), places[0].clone(), places[0].clone()];
    let clients = Clients::start(&three);
    for _ in 0..20 {
        one = scene.restart(one, &words(&options), SERVES);
    }
    let tally = clients.stop();
    assert!(tally.failures.is_empty(), "{tally:?}");
    row(
        "20 restarts at a Unix path",
        &format!("{} clients answered, 0 failed", tally.answered),
    );
    scene.stop(one, &places);
}

#[test]
fn a_predecessor_that_bound_its_path_itself_is_succeeded_at_that_path() {
    let scene = Scene::new();
    let path = scene.path("local");
    let one = scene.serving(&[], &[("BIND", path.to_str().unwrap())]);
    let places = [Place::Unix(path.clone())];
    let (old, before) = (one.daemon, inode_at(&path));
    let clients = Clients::start(&places);
    scene.detach(one);
    let options = [scene.unix("local")];
    crash(&scene, &words(&options));
    assert_eq!(names_in(&scene.directory), ["local"], "{}", scene.listing());

    let two = scene.start(&words(&options), STARTS_ON_USR1);
    assert_eq!(names_in(&scene.directory), ["local", "local.new"]);
    assert_eq!(inode_at(&path), before);
    assert_answered(wait_in_all(&places), old);
    scene.say_started(two.daemon);
    assert_eq!(names_in(&scene.directory), ["local"]);
    assert_ne!(inode_at(&path), before);
    process::wait_exit(old);
    assert_answered(wait_in_all(&places), two.daemon);
    let given = scene.given(two.daemon);
    let three = scene.restart(two, &words(&options), SERVES);
    assert_eq!(scene.given(three.daemon), given, "from now on the same");
    let tally = clients.stop();
    let refused = tally
        .failures
        .keys()
        .filter(|what| what.starts_with("connect"));
    assert_eq!(refused.count(), 0, "{tally:?}{}", scene.listing());
    scene.stop(three, &places);
}

#[test]
fn a_path_that_somebody_has_removed_is_bound_anew_by_the_next_generation() {
    let scene = Scene::new();
    let options = listen(&scene);
    let one = scene.serving(&words(&options), SERVES);
    let (places, given) = (scene.places(&one), scene.given(one.daemon));
    fs::remove_file(scene.path("local")).unwrap();
    let two = scene.restart(one, &words(&options), SERVES);
    let now = scene.given(two.daemon);
    assert_eq!(now[0], given[0]);
    assert_ne!(now[1].inode, given[1].inode);
    assert_answered(wait_in_all(&places), two.daemon);
    // It has gone again, and the daemon with it.
    fs::remove_file(scene.path("local")).unwrap();
    kill(two.daemon);
    two.launcher.finish();
    let three = scene.serving(&words(&options), SERVES);
    assert_answered(wait_in_all(&places), three.daemon);
    scene.stop(three, &places);
}

/// R12: the daemon says that it is ready by its own PID in the file.
#[test]
fn the_seeds_way_of_readiness_hands_over_the_same_sockets() {
    let scene = Scene::new();
    let environment = [("STARTED", "file")];
    let options = listen(&scene);
    let more = [&words(&options)[..], &["--listen=more=127.0.0.2:0"]].concat();
    let ready = |one: &Generation| {
        let line = format!("(pid {}) is ready after", one.daemon);
        scene.stage.log.wait_seen(&line);
    };
    let mut one = scene.start(&more, &environment);
    ready(&one);
    let (places, given) = (scene.places(&one), scene.given(one.daemon));
    let clients = Clients::start(&places[..2]);
    for _ in 0..3 {
        let old = one.daemon;
        scene.detach(one);
        one = scene.start(&words(&options), &environment);
        ready(&one);
        process::wait_exit(old);
        assert_eq!(scene.given(one.daemon), given[..2], "{}", scene.listing());
    }
    let tally = clients.stop();
    assert!(tally.failures.is_empty() && tally.answered > 0, "{tally:?}");
    assert!(places[2].connect().is_err(), "nobody asks for it any more");
    scene.stop(one, &places);
}

// The end.

/// Nobody is let into a queue that nobody will read.
#[test]
fn a_final_stop_closes_the_sockets_while_the_daemon_drains() {
    for verb in [false, true] {
        let scene = Scene::new();
        let options = listen(&scene);
        let fifo = scene.stage.scratch.join("linger");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let one = scene.serving(&words(&options), &[("LINGER", fifo.to_str().unwrap())]);
        let places = scene.places(&one);
        let stopping = verb.then(|| scene.verb_spawn(&["stop"]).start());
        if !verb {
            one.launcher.signal(Signal::SIGINT);
        }
        // It opens that when it has closed its own.
        let release = fs::OpenOptions::new().write(true).open(&fifo).unwrap();
        // And whoever answers has done what he was told.
        assert_eq!(scene.status()["generations"][0]["phase"], "stopping");
        for place in &places {
            let refused = place.connect().err().map(|error| error.kind());
            assert_eq!(refused, Some(io::ErrorKind::ConnectionRefused), "{place:?}");
        }
        drop(release);
        if let Some(stopping) = stopping {
            stopping.finish().expect_success();
        }
        assert_eq!(one.launcher.finish().code(), Some(0));
        scene.assert_nothing_left(&places);
    }
}

/// R16: nobody came, so it was a stop.
#[test]
fn an_orphaned_standby_takes_its_sockets_along() {
    let scene = Scene::new();
    let options = listen(&scene);
    let more = [&words(&options)[..], &["--orphan-timeout=200ms"]].concat();
    let one = scene.serving(&more, SERVES);
    let places = scene.places(&one);
    scene.detach(one);
    scene.stage.log.wait_seen("within the orphan timeout");
    scene.assert_nothing_left(&places);
}

#[test]
fn a_path_that_is_somebody_elses_by_now_is_not_removed() {
    for restarted in [false, true] {
        let scene = Scene::new();
        let options = listen(&scene);
        let mut one = scene.serving(&words(&options), SERVES);
        if restarted {
            one = scene.restart(one, &words(&options), SERVES);
        }
        let (path, other) = (scene.path("local"), scene.path("other"));
        let theirs = UnixListener::bind(&other).unwrap();
        fs::rename(&other, &path).unwrap();
        one.launcher.signal(Signal::SIGINT);
        assert_eq!(one.launcher.finish().code(), Some(0));
        assert!(UnixStream::connect(&path).is_ok(), "{}", scene.listing());
        drop(theirs);
        fs::remove_file(&path).unwrap();
        scene.assert_nothing_left(&[]);
    }
}

// What is left behind.

/// Its descriptors by kind, and how many of each.
fn descriptors(pid: Pid) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
        let Ok(target) = fs::read_link(entry.path()) else {
            continue;
        };
        let target = target.display().to_string();
        let kind = target.split(":[").next().unwrap();
        let kind = match kind.strip_prefix("/proc/") {
            Some(place) => place.trim_start_matches(|digit: char| digit.is_ascii_digit()),
            None => kind,
        };
        let kind = kind.to_owned();
        *kinds.entry(kind).or_default() += 1;
    }
    kinds
}

/// When whoever has something in hand is through with it, and sleeps.
fn descriptors_of(one: &Generation) -> [BTreeMap<String, usize>; 3] {
    [one.launcher.pid(), one.keeper, one.daemon].map(|pid| {
        while !process::status_field(pid, "State").is_some_and(|state| state.starts_with('S')) {
            thread::yield_now();
        }
        descriptors(pid)
    })
}

/// They may hear of something yet.
fn assert_descriptors(scene: &Scene, one: &Generation, wanted: &[BTreeMap<String, usize>; 3]) {
    let deadline = Instant::now() + PATIENCE;
    while descriptors_of(one) != *wanted {
        let found = descriptors_of(one);
        assert!(
            Instant::now() < deadline,
            "{found:#?}\ninstead of {wanted:#?}{}",
            scene.listing()
        );
        thread::yield_now();
    }
}

#[test]
fn fifty_restarts_and_twenty_crashes_leave_no_descriptor_behind() {
    let scene = Scene::new();
    let options = listen(&scene);
    let restart = |one: Generation| {
        let keeper = one.keeper;
        let next = scene.restart(one, &words(&options), SERVES);
        process::wait_exit(keeper);
        next
    };
    let mut one = restart(scene.serving(&words(&options), SERVES));
    let places = scene.places(&one);
    scene.status();
    let first = descriptors_of(&one);
    for _ in 0..50 {
        one = restart(one);
    }
    assert_descriptors(&scene, &one, &first);
    for _ in 0..20 {
        kill(one.daemon);
        one.launcher.finish();
        let next = scene.serving(&words(&options), SERVES);
        process::wait_exit(one.keeper);
        one = next;
    }
    assert_descriptors(&scene, &one, &first);
    let sums = first.each_ref().map(|kinds| kinds.values().sum::<usize>());
    row(
        "50 restarts, 20 crashes: descriptors as after the first",
        &format!("launcher, keeper, daemon: {sums:?}"),
    );
    scene.stop(one, &places);
}

#[test]
fn the_record_names_the_sockets_and_garbage_in_it_is_skipped() {
    let scene = Scene::new();
    let options = listen(&scene);
    let mut one = scene.serving(&words(&options), SERVES);
    let (places, given) = (scene.places(&one), scene.given(one.daemon));
    let record = scene.stage.record();
    let lines: Vec<&str> = record
        .lines()
        .filter(|line| line.starts_with("socket "))
        .collect();
    let bound = given[0].address.replace('/', ":");
    let file = fs::symlink_metadata(scene.path("local")).unwrap();
    assert_eq!(
        lines,
        [
            format!(
                "socket http inode={} bound={bound} tcp:127.0.0.1:0",
                given[0].inode
            ),
            format!(
                "socket local inode={} file={}:{} unix:{}",
                given[1].inode,
                file.dev(),
                file.ino(),
                given[1].address
            ),
        ]
    );
    kill_both(&mut one);
    let garbage = "socket\nsocket \nsocket http\nsocket http inode=x tcp:127.0.0.1:0\n\
        socket http inode=99999999999999999999999 tcp:127.0.0.1:0\nsocket http inode=1 tcp:127.0.0.1:0\n\
        socket http inode=1 tcp:nonsense:here\nsocket \u{1f980} inode=2 colour=blue unix:";
    let mut lines: Vec<&str> = record.lines().collect();
    let own = lines
        .iter()
        .position(|line| line.starts_with("generation "))
        .unwrap();
    lines.insert(own + 1, garbage);
    lines.insert(own, garbage);
    lines.extend([garbage, "generation 9 daemon=nonsense", garbage]);
    fs::write(scene.stage.beside(".record"), lines.join("\n") + "\n").unwrap();
    let two = scene.serving(&words(&options), SERVES);
    process::wait_exit(one.daemon);
    assert_eq!(scene.given(two.daemon), given, "{}", scene.listing());
    scene.stop(two, &places);
}
