//! What lies in the way of held sockets: rivals for an address, silent keepers, foreign hands.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::thread;

use nix::sys::signal::Signal;

use crate::faults;
use crate::scene::{
    DEAF, Generation, LATER, Place, SERVES, Scene, assert_answered, free_port, freeze, kill,
    listen, names_in, signal, words,
};
use crate::stage::STARTED;
use crate::support::process::{self, Pid};
use crate::support::{self, Spawn, network};

const HELD: &str = "are kept until its successor has them";

/// KILLs the daemon; what is left is a keeper that holds.
fn hold(scene: &Scene, one: Generation) {
    kill(one.daemon);
    let ended = one.launcher.finish();
    assert_eq!(ended.signal(), Some(Signal::SIGKILL), "{}", scene.listing());
    scene.stage.log.wait_seen(HELD);
}

fn descriptors(pid: Pid) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// It has something to wait for, and for how long.
fn wait_until_it_polls(pid: Pid) {
    let polls = || fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap();
    while !polls().contains("poll") {
        thread::yield_now();
    }
}

// Both at once.

/// Each keeper may believe that the other one has the sockets.
#[test]
fn a_standby_and_its_starting_successor_are_killed_at_once() {
    for late in [None, Some(0), Some(1)] {
        for order in [[0, 1], [1, 0]] {
            let scene = Scene::new();
            let options = listen(&scene);
            let one = scene.serving(&words(&options), DEAF);
            let (places, given) = (scene.places(&one), scene.given(one.daemon));
            let (old, old_keeper) = (one.daemon, one.keeper);
            scene.detach(one);
            let two = scene.start(&words(&options), LATER);
            let mut waiting: Vec<_> = places.iter().map(Place::wait_in).collect();
            let late = late.map(|index: usize| [old_keeper, two.keeper][index]);
            late.inspect(|keeper| freeze(*keeper));
            for index in order {
                signal([old, two.daemon][index], Signal::SIGKILL);
            }
            process::wait_exit(old);
            process::wait_exit(two.daemon);
            late.inspect(|keeper| signal(*keeper, Signal::SIGCONT));
            two.launcher.finish();
            for place in &places {
                let connected = place.connect();
                waiting.push(connected.unwrap_or_else(|error| {
                    panic!("{late:?}, {order:?}: {error}{}", scene.listing())
                }));
            }
            let three = scene.serving(&words(&options), SERVES);
            assert_eq!(scene.given(three.daemon), given, "{late:?}, {order:?}");
            assert_answered(waiting, three.daemon);
            scene.stop(three, &places);
        }
    }
}

/// It had them handed over already, and was never to have a daemon.
#[test]
fn a_standby_is_killed_while_its_successor_comes_to_nothing() {
    let scene = Scene::new();
    let options = listen(&scene);
    let nothing = scene.stage.scratch.join("nothing");
    let one = scene.serving(&words(&options), &[("LINGER", nothing.to_str().unwrap())]);
    let (drains, stands_still) = (one.daemon, one.keeper);
    scene.detach(one);
    let two = scene.serving(&words(&options), DEAF);
    // Until then it may take one of those who are to wait.
    scene.stage.log.wait_seen(&format!("{drains} got TERM"));
    let (places, given) = (scene.places(&two), scene.given(two.daemon));
    let (old, keeper) = (two.daemon, two.keeper);
    scene.detach(two);
    let mut waiting: Vec<_> = places.iter().map(Place::wait_in).collect();
    // The newcomer has attached to the one, and waits for the other.
    freeze(stands_still);
    let before = descriptors(keeper);
    let rival = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("--listen=more={}", rival.local_addr().unwrap());
    let more = [&words(&options)[..], &[&taken]].concat();
    let failing = scene.spawn(&more, SERVES);
    while descriptors(keeper) == before {
        thread::yield_now();
    }
    kill(old);
    waiting.extend(places.iter().map(Place::wait_in));
    assert_eq!(failing.finish().code(), Some(125), "{}", scene.listing());
    waiting.extend(places.iter().map(Place::wait_in));
    signal(stands_still, Signal::SIGCONT);
    let three = scene.serving(&words(&options), SERVES);
    assert_eq!(scene.given(three.daemon), given, "{}", scene.listing());
    assert_answered(waiting, three.daemon);
    kill(drains);
    scene.stop(three, &places);
}

// A stop reaches everybody.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sleep {
    Never,
    UntilTheNextIsUp,
    UntilTheNextIsReady,
}

#[test]
fn a_final_stop_reaches_a_keeper_that_holds_what_nobody_asks_for() {
    use Sleep::{Never, UntilTheNextIsReady, UntilTheNextIsUp};
    for sleep in [Never, UntilTheNextIsUp, UntilTheNextIsReady] {
        let scene = Scene::new();
        let [http, local] = listen(&scene);
        let other = match sleep {
            Never => &local,
            UntilTheNextIsUp | UntilTheNextIsReady => "--listen=other=127.0.0.2:0",
        };
        let one = scene.serving(&[&http, other, "--hold-timeout=none"], DEAF);
        let (places, keeper) = (scene.places(&one), one.keeper);
        hold(&scene, one);
        scene.status();
        if sleep != Never {
            freeze(keeper);
        }
        let two = scene.start(&[&http, "--hold-timeout=none"], LATER);
        if sleep == UntilTheNextIsReady {
            scene.say_started(two.daemon);
        }
        if sleep != Never {
            signal(keeper, Signal::SIGCONT);
        }
        scene.stop(two, &places);
    }
}

// Silent keepers.

/// What it has, its successor has.
#[test]
fn a_keeper_in_standby_stands_still_and_its_daemon_is_killed() {
    let scene = Scene::new();
    let options = listen(&scene);
    let one = scene.serving(&words(&options), DEAF);
    let (places, given) = (scene.places(&one), scene.given(one.daemon));
    let (old, keeper) = (one.daemon, one.keeper);
    scene.detach(one);
    freeze(keeper);
    kill(old);
    let waiting = places.iter().map(Place::wait_in).collect();
    let two = scene.serving(&words(&options), SERVES);
    assert_eq!(scene.given(two.daemon), given, "{}", scene.listing());
    assert_answered(waiting, two.daemon);
    signal(keeper, Signal::SIGCONT);
    process::wait_exit(keeper);
    scene.stop(two, &places);
}

/// Nobody may look into the daemon, but its keeper has the socket: nobody needs to be ended for it.
#[test]
fn a_keeper_stands_still_whose_daemon_cannot_be_looked_into() {
    let _network = network::isolate();
    let scene = Scene::of_an_ordinary_user();
    let tcp = format!("--listen=http=127.0.0.1:{}", free_port());
    let one = scene.serving(&[&tcp], &[("DUMPABLE", "0")]);
    let (places, given) = (scene.places(&one), scene.given(one.daemon));
    let (old, keeper) = (one.daemon, one.keeper);
    scene.detach(one);
    // It waits for the answer, which comes after the launcher has left.
    scene.stage.log.wait_seen(&format!("{old} prepared ok"));
    freeze(keeper);
    let two = scene.start(&[&tcp], LATER);
    assert_eq!(scene.given(two.daemon), given, "{}", scene.listing());
    let told = format!("{old} got TERM");
    assert_eq!(scene.stage.log.count(&told), 0, "{}", scene.listing());
    let answer = places[0].wait_in().read();
    assert!(
        answer.is_ok_and(|(who, _)| who == old),
        "{}",
        scene.listing()
    );
    scene.say_started(two.daemon);
    process::wait_exit(old);
    scene.stage.log.wait_seen(&told);
    assert_eq!(scene.stage.log.count(&told), 1, "{}", scene.listing());
    signal(keeper, Signal::SIGCONT);
    process::wait_exit(keeper);
    scene.stop(two, &places);
}

/// The newcomer has the lock: its keeper cannot record that it holds them.
#[test]
fn a_daemon_is_killed_while_its_successor_attaches() {
    let scene = Scene::new();
    let [http, local] = listen(&scene);
    let one = scene.serving(&[&http, &local], DEAF);
    let (places, given) = (scene.places(&one), scene.given(one.daemon));
    let (old, keeper) = (one.daemon, one.keeper);
    scene.detach(one);
    freeze(keeper);
    let launcher = scene.spawn(&[&http], LATER);
    let mut children = process::children(launcher.pid());
    while children.is_empty() {
        children = process::children(launcher.pid());
    }
    wait_until_it_polls(children[0]);
    kill(old);
    signal(keeper, Signal::SIGCONT);
    let two = scene.up(launcher);
    let waiting = places.iter().map(Place::wait_in).collect();
    let recorded = scene.stage.generations();
    assert_eq!(recorded.len(), 2, "{recorded:?}{}", scene.listing());
    kill(two.daemon);
    two.launcher.finish();
    let three = scene.serving(&[&http, &local], SERVES);
    assert_eq!(scene.given(three.daemon), given, "{}", scene.listing());
    assert_answered(waiting, three.daemon);
    scene.stop(three, &places);
}

// Rivals for an address.

/// Nobody is served by who only holds it.
#[test]
fn an_address_that_is_held_in_another_way_is_had_at_once() {
    let _network = network::isolate();
    let scene = Scene::new();
    let port = free_port();
    let (all, one) = (format!("*:{port}"), format!("127.0.0.1:{port}"));
    let path = scene.path("local").display().to_string();
    let of_kind = |kind| format!("unix-{kind}:{path}");
    for (old, new) in [
        (&all, &one),
        (&one, &all),
        (&of_kind("seqpacket"), &path),
        (&of_kind("dgram"), &path),
    ] {
        let [old, new] = [old, new].map(|address| format!("--listen=it={address}"));
        let one = scene.serving(&[&old, "--hold-timeout=none"], DEAF);
        let (given, keeper) = (scene.given(one.daemon), one.keeper);
        hold(&scene, one);
        let two = scene.serving(&[&new], SERVES);
        process::wait_exit(keeper);
        assert_ne!(scene.given(two.daemon)[0].inode, given[0].inode);
        // Which may have been bound beside its path.
        let address = scene.given(two.daemon)[0].address.replace(".new", "");
        let places = [Place::of(&address)];
        assert_answered(vec![places[0].wait_in()], two.daemon);
        scene.stop(two, &places);
    }
}

#[test]
fn an_address_that_a_living_predecessor_has_in_another_way_is_refused_in_its_name() {
    let _network = network::isolate();
    let port = free_port();
    let (all, one) = (format!("*:{port}"), format!("127.0.0.1:{port}"));
    for (old, new) in [(&all, &one), (&one, &all)] {
        let scene = Scene::new();
        let [old, new] = [old, new].map(|address| format!("--listen=http={address}"));
        let one = scene.serving(&[&old], SERVES);
        let (places, serving) = (scene.places(&one), one.daemon);
        scene.detach(one);
        let refused = scene.spawn(&[&new], SERVES).finish();
        assert_eq!(refused.code(), Some(125), "{}", scene.listing());
        let said = scene
            .stage
            .log
            .wait_seen("stop the service for such a change");
        let whose = format!("generation 1 (pid {serving}) has ");
        assert!(said.contains(&whose), "{said}");
        assert_answered(vec![places[0].wait_in()], serving);
        let two = scene.serving(&[&old], SERVES);
        process::wait_exit(serving);
        scene.stop(two, &places);
    }
}

/// What was bound beside a path takes its place when the last one who was there has gone.
#[test]
fn who_bound_a_path_itself_is_killed_and_its_starting_successor_after_it() {
    let scene = Scene::new();
    let path = scene.path("local");
    let one = scene.serving(&[], &[("BIND", path.to_str().unwrap())]);
    let old = one.daemon;
    scene.detach(one);
    let options = [scene.unix("local")];
    let two = scene.start(&words(&options), LATER);
    assert_eq!(names_in(&scene.directory), ["local", "local.new"]);
    let (places, given) = (scene.places(&two), scene.given(two.daemon));
    kill(old);
    hold(&scene, two);
    scene.status();
    assert_eq!(names_in(&scene.directory), ["local"], "{}", scene.listing());
    let waiting = vec![Place::Unix(path).wait_in()];
    let three = scene.serving(&words(&options), SERVES);
    assert_eq!(scene.given(three.daemon)[0].inode, given[0].inode);
    assert_answered(waiting, three.daemon);
    scene.stop(three, &places[..0]);
}

// Foreign hands.

/// shutdown(2) is for every generation: TCP listens again, and at the path there is another socket.
#[test]
fn a_daemon_shuts_its_sockets_down_and_the_next_generation_is_reached() {
    let unready = [("STARTED", "0"), ("PREPARES", "none")];
    let _network = network::isolate();
    for more in [&unready[..], &[]] {
        let environment = [more, DEAF, &[("SHUT", "1")]].concat();
        let scene = Scene::new();
        let tcp = format!("--listen=http=127.0.0.1:{}", free_port());
        let options = [tcp, scene.unix("local")];
        let one = scene.start(&words(&options), &environment);
        let (places, given) = (scene.places(&one), scene.given(one.daemon));
        let last = if more.is_empty() {
            scene.wait_started(one.daemon);
            let two = scene.restart(one, &words(&options), DEAF);
            scene.restart(two, &words(&options), SERVES)
        } else {
            scene.detach(one);
            scene.stage.log.wait_seen(HELD);
            scene.serving(&words(&options), SERVES)
        };
        let now = scene.given(last.daemon);
        assert_eq!(now[0], given[0], "{}", scene.listing());
        assert_ne!(now[1].inode, given[1].inode, "{}", scene.listing());
        assert_answered(places.iter().map(Place::wait_in).collect(), last.daemon);
        scene.stop(last, &places);
    }
}

/// Whoever owns the directory chooses what is found at a path by the time that root's keeper looks.
#[test]
fn a_socket_of_roots_that_was_put_at_a_path_is_not_given_away() {
    for linked in [false, true] {
        let scene = Scene::new();
        let (directory, secret) = (scene.path("directory"), scene.path("secret"));
        fs::create_dir(&directory).unwrap();
        fs::create_dir(&secret).unwrap();
        let path = directory.join("local");
        let option = format!("--listen=local={},owner=65534,mode=666", path.display());
        let one = scene.serving(&[&option], SERVES);
        scene.detach(one);
        let two = scene.start(&[&option], LATER);
        let theirs = UnixListener::bind(secret.join("local")).unwrap();
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(secret.join("local"), mode).unwrap();
        if linked {
            fs::rename(&directory, scene.path("away")).unwrap();
            symlink(&secret, &directory).unwrap();
        } else {
            fs::rename(secret.join("local"), &path).unwrap();
        }
        let is_untouched = || {
            let found = fs::symlink_metadata(&path).unwrap();
            assert_eq!((found.mode() & 0o777, found.uid()), (0o600, 0));
        };
        scene.say_started(two.daemon);
        is_untouched();
        two.launcher.signal(Signal::SIGINT);
        assert_eq!(two.launcher.finish().code(), Some(0), "{}", scene.listing());
        scene.stage.scratch.wait_no_processes_but(&[]);
        is_untouched();
        drop(theirs);
    }
}

#[test]
fn a_pid_file_is_removed_on_a_full_disk_where_only_sockets_are_left() {
    faults::Scene::play(|scene| {
        let stage = &scene.stage;
        let (launcher, daemon) = stage.daemon(&["--listen=http=127.0.0.1:0"], STARTED, "");
        let keeper = process::children(launcher.pid())[0];
        assert_eq!(stage.pid_in_file(), Some(daemon));
        scene.disk.strike(support::disk::Fault::Full);
        kill(daemon);
        launcher.finish();
        stage.log.wait_seen(HELD);
        // It answers when it is done.
        let status = || Spawn::new(&stage.scratch, support::program()).arg("status");
        let told = status().arg(&stage.pid_file).finish();
        assert!(told.stdout.contains("holding"), "{}", told.stdout);
        assert_eq!(stage.pid_in_file(), None, "{}", stage.log.listing());
        kill(keeper);
        scene.disk.heal(support::disk::Fault::Full);
    });
}

#[test]
fn a_command_that_cannot_be_executed_without_a_pid_file_leaves_no_path_behind() {
    let scene = Scene::new();
    let missing = Spawn::new(&scene.stage.scratch, support::program())
        .args([&scene.unix("local"), "--", "/nowhere/daemon"])
        .finish();
    assert_eq!(missing.code(), Some(127), "{}", missing.stderr);
    assert_eq!(names_in(&scene.directory), [""; 0]);
}
