//! When nobody is left to serve them: the keeper holds the sockets, and whoever connects waits (phase *Holding*).

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::load::{Answer, Failure, Load, SlowSpec, Target};
use crate::scene::{
    Clients, DEAF, Generation, LATER, Place, SERVES, Scene, assert_answered, free_port, freeze,
    kill, kill_both, listen, signal, words,
};
use crate::stage::{assert_unharmed, innocent, tell};
use crate::support::process::{self, Handle, Pid};
use crate::support::{self, PATIENCE, network};

const HELD: &str = "are kept until its successor has them";

/// How a daemon comes to its end.
#[derive(Clone, Copy, Debug)]
enum End {
    KilledServing,
    KilledPreparing,
    KilledInStandby,
    KilledStarting,
    /// By itself, with this status.
    Exits(i32),
    /// R9: it never says that it is ready, and knows nothing of USR2.
    RestartedUnready,
    /// The same, and its launcher is KILLed before it has ended.
    RestartedWithoutLauncher,
}

impl End {
    fn environment(self) -> Vec<(&'static str, &'static str)> {
        let own: &[_] = match self {
            End::KilledServing | End::KilledInStandby => &[],
            End::KilledPreparing => &[("PREPARES", "0")],
            End::KilledStarting => &[("STARTED", "0")],
            End::Exits(0) => &[("LEAVE", "0")],
            End::Exits(3) => &[("LEAVE", "3")],
            End::Exits(other) => panic!("{other}"),
            End::RestartedUnready | End::RestartedWithoutLauncher => {
                &[("STARTED", "0"), ("PREPARES", "none")]
            }
        };
        [DEAF, own].concat()
    }

    /// Brings it about, and waits until the launcher has left; with what status it leaves.
    fn come_to(self, scene: &Scene, one: Generation) {
        let (mut launcher, daemon) = (one.launcher, one.daemon);
        let log = &scene.stage.log;
        match self {
            End::KilledServing => {
                scene.wait_started(daemon);
                kill(daemon);
            }
            End::KilledPreparing => {
                scene.wait_started(daemon);
                launcher.signal(Signal::SIGTERM);
                log.wait_for(&format!("{daemon} got USR2"));
                kill(daemon);
            }
            End::KilledInStandby => {
                scene.wait_started(daemon);
                launcher.signal(Signal::SIGTERM);
                assert_eq!(launcher.finish().code(), Some(0), "{}", scene.listing());
                kill(daemon);
                log.wait_seen(HELD);
                // It says so first, and answers when it is done.
                scene.status();
                return;
            }
            End::KilledStarting => kill(daemon),
            End::Exits(status) => {
                scene.wait_started(daemon);
                signal(daemon, Signal::SIGALRM);
                assert_eq!(
                    launcher.finish().code(),
                    Some(status),
                    "{}",
                    scene.listing()
                );
                return;
            }
            End::RestartedUnready => {
                launcher.signal(Signal::SIGTERM);
                assert_eq!(launcher.finish().code(), Some(0), "{}", scene.listing());
                return;
            }
            End::RestartedWithoutLauncher => {
                freeze(daemon);
                launcher.signal(Signal::SIGTERM);
                log.wait_seen("it is ended before the next one starts");
                launcher.kill();
                log.wait_seen("the launcher of generation 1");
                signal(daemon, Signal::SIGCONT);
                return;
            }
        }
        let ended = launcher.finish();
        assert_eq!(ended.signal(), Some(Signal::SIGKILL), "{}", scene.listing());
    }
}

/// It comes to that end while clients are in its queues, more of them come, and all of them are answered by the next
/// generation.
fn ends_and_is_succeeded(end: End) {
    let scene = Scene::new();
    let options = listen(&scene);
    let one = scene.start(&words(&options), &end.environment());
    let (places, given) = (scene.places(&one), scene.given(one.daemon));
    assert_eq!(places.len(), 2, "{}", scene.listing());
    let mut waiting: Vec<_> = places.iter().map(Place::wait_in).collect();
    end.come_to(&scene, one);
    scene.stage.log.wait_seen(HELD);
    waiting.extend(places.iter().map(Place::wait_in));
    assert_eq!(scene.stage.pid_in_file(), None);
    let two = scene.serving(&words(&options), SERVES);
    assert_eq!(scene.given(two.daemon), given);
    assert_answered(waiting, two.daemon);
    assert_eq!(
        scene.stage.generations().len(),
        1,
        "{}",
        scene.stage.record()
    );
    scene.stop(two, &places);
}

#[test]
fn connections_outlive_a_daemon_that_is_killed_while_it_serves() {
    ends_and_is_succeeded(End::KilledServing);
}

#[test]
fn connections_outlive_a_daemon_that_is_killed_while_it_prepares() {
    ends_and_is_succeeded(End::KilledPreparing);
}

#[test]
fn connections_outlive_a_daemon_that_is_killed_in_standby() {
    ends_and_is_succeeded(End::KilledInStandby);
}

#[test]
fn connections_outlive_a_daemon_that_is_killed_before_it_is_ready() {
    ends_and_is_succeeded(End::KilledStarting);
}

#[test]
fn connections_outlive_a_daemon_that_exits_by_itself() {
    ends_and_is_succeeded(End::Exits(0));
    ends_and_is_succeeded(End::Exits(3));
}

#[test]
fn connections_outlive_a_daemon_without_readiness_that_a_restart_has_to_end_first() {
    ends_and_is_succeeded(End::RestartedUnready);
}

#[test]
fn connections_outlive_a_daemon_that_a_restart_ends_and_its_launcher() {
    ends_and_is_succeeded(End::RestartedWithoutLauncher);
}

/// The successor has the sockets: nobody needs to hold them.
#[test]
fn a_standby_is_killed_when_its_successor_has_attached() {
    let scene = Scene::new();
    let options = listen(&scene);
    let one = scene.serving(&words(&options), DEAF);
    let (places, given) = (scene.places(&one), scene.given(one.daemon));
    let (old, keeper) = (one.daemon, one.keeper);
    scene.detach(one);
    let mut waiting: Vec<_> = places.iter().map(Place::wait_in).collect();
    let two = scene.start(&words(&options), LATER);
    kill(old);
    process::wait_exit(keeper);
    waiting.extend(places.iter().map(Place::wait_in));
    // And now this one dies, too.
    kill(two.daemon);
    assert_eq!(two.launcher.finish().signal(), Some(Signal::SIGKILL));
    waiting.extend(places.iter().map(Place::wait_in));
    let three = scene.serving(&words(&options), SERVES);
    assert_eq!(scene.given(three.daemon), given);
    assert_answered(waiting, three.daemon);
    scene.stop(three, &places);
}

/// R13: the predecessor has them, and serves.
#[test]
fn a_newcomer_is_killed_before_it_is_ready_beside_a_predecessor() {
    let scene = Scene::new();
    let options = listen(&scene);
    let one = scene.serving(&words(&options), SERVES);
    let (places, given, old) = (scene.places(&one), scene.given(one.daemon), one.daemon);
    scene.detach(one);
    let two = scene.start(&words(&options), LATER);
    kill(two.daemon);
    assert_eq!(two.launcher.finish().signal(), Some(Signal::SIGKILL));
    process::wait_exit(two.keeper);
    assert_eq!(scene.stage.log.count(HELD), 0, "{}", scene.listing());
    assert_answered(places.iter().map(Place::wait_in).collect(), old);
    let three = scene.serving(&words(&options), SERVES);
    assert_eq!(scene.given(three.daemon), given);
    process::wait_exit(old);
    scene.stop(three, &places);
}

/// A keeper that holds, and its clients.
struct Holding {
    scene: Scene,
    options: Vec<String>,
    places: Vec<Place>,
    keeper: Pid,
}

/// The first generation served and was KILLed.
fn holding(more: &[&str]) -> Holding {
    let scene = Scene::new();
    let mut options = listen(&scene).to_vec();
    options.extend(more.iter().map(|word| (*word).to_owned()));
    let one = scene.serving(&words(&options), DEAF);
    let places = scene.places(&one);
    kill(one.daemon);
    let ended = one.launcher.finish();
    assert_eq!(ended.signal(), Some(Signal::SIGKILL), "{}", scene.listing());
    Holding {
        scene,
        options,
        places,
        keeper: one.keeper,
    }
}

#[test]
fn status_shows_what_is_held_and_until_when() {
    let Holding {
        scene,
        places,
        keeper,
        ..
    } = holding(&[]);
    let [Place::Tcp(tcp), Place::Unix(unix)] = &places[..] else {
        panic!("{places:?}");
    };
    let told = scene.verb(&["status"]);
    assert_eq!(told.code(), Some(1), "{}{}", told.stdout, told.stderr);
    for part in [
        "app: generation 1  no daemon  holding ".to_owned(),
        "close in ".to_owned(),
        format!("keeper {keeper}"),
        format!("http=tcp:{tcp}"),
        format!("local=unix:{}", unix.display()),
    ] {
        assert!(told.stdout.contains(&part), "{part}: {}", told.stdout);
    }
    let state = scene.status();
    let one = &state["generations"][0];
    assert_eq!(one["phase"], "holding", "{state}");
    assert_eq!((&one["pid"], &one["launcher"]), (&().into(), &().into()));
    assert_eq!(one["keeper"], keeper.as_raw());
    assert_eq!(one["serves"], false, "{state}");
    assert_eq!(one["deadline"]["what"], "close", "{state}");
    let since = one["since"].as_f64().unwrap();
    let left = one["deadline"]["at"].as_f64().unwrap() - since;
    assert!((left - 60.0).abs() < 0.1, "{left}: {state}");
    assert_eq!(one["sockets"][0]["name"], "http", "{state}");
    assert_eq!(one["sockets"][0]["address"], format!("tcp:{tcp}"));
    assert_eq!(one["sockets"][1]["name"], "local", "{state}");
    scene.verb(&["stop"]).expect_success();
}

/// It asks whoever comes.
#[test]
fn the_restart_verb_waits_for_the_next_generation_while_sockets_are_held() {
    for (environment, verdict) in [(SERVES, 0), (&[("CRASH", "3")], 1)] {
        let held = holding(&[]);
        let scene = &held.scene;
        let verb = scene.verb_spawn(&["restart"]).start();
        // It watches the directory once it has its first answer.
        let was_answered = |pid: Pid| {
            let all = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
            let mut all = all.flat_map(|one| fs::read_link(one.path()));
            all.any(|what| what.to_string_lossy().contains("inotify"))
        };
        while !was_answered(verb.pid()) {
            assert!(verb.alive(), "{}", verb.describe());
            thread::yield_now();
        }
        let two = scene.spawn(&words(&held.options), environment);
        let ended =
            Handle::open(verb.pid()).is_none_or(|it| it.wait_until(Instant::now() + PATIENCE));
        assert!(ended, "{verdict}: no verdict{}", scene.listing());
        let asked = verb.finish();
        let said = format!("{}{}", asked.stdout, asked.stderr);
        assert_eq!(asked.code(), Some(verdict), "{said}{}", scene.listing());
        assert!(said.contains("generation 2"), "{said}");
        scene.verb(&["stop"]).expect_success();
        two.finish();
        scene.assert_nothing_left(&held.places);
    }
}

#[test]
fn the_stop_verb_ends_a_keeper_that_holds() {
    let held = holding(&[]);
    let waiting: Vec<_> = held.places.iter().map(Place::wait_in).collect();
    let stopped = held.scene.verb(&["stop"]).expect_success();
    assert!(
        stopped.stdout.contains("generation 1"),
        "{}",
        stopped.stdout
    );
    held.scene.assert_nothing_left(&held.places);
    for client in waiting {
        assert!(client.read().is_err());
    }
}

#[test]
fn nobody_comes_within_the_hold_timeout() {
    let held = holding(&["--hold-timeout=300ms"]);
    let log = &held.scene.stage.log;
    log.wait_for("no successor of generation 1");
    held.scene.assert_nothing_left(&held.places);
    let told = "has come within the hold timeout (0.3 s); its sockets are closed";
    assert_eq!(log.count(told), 1, "{}", log.listing());
    assert_eq!(log.count("hold timeout"), 1, "{}", log.listing());
}

#[test]
fn a_keeper_that_holds_for_good_ends_with_its_directory() {
    let held = holding(&["--hold-timeout=none"]);
    let state = held.scene.status();
    let one = &state["generations"][0];
    assert_eq!(
        (&one["phase"], &one["deadline"]),
        (&"holding".into(), &().into())
    );
    assert!(process::alive(held.keeper));
    let client = held.places[0].wait_in();
    fs::remove_dir_all(held.scene.stage.pid_file.parent().unwrap()).unwrap();
    process::wait_exit(held.keeper);
    assert!(client.read().is_err());
    for place in &held.places {
        assert!(place.connect().is_err(), "{}", held.scene.listing());
    }
}

/// A new version that cannot run, and a supervisor that tries and tries.
#[test]
fn nobody_is_refused_while_every_new_version_crashes() {
    let Holding {
        scene,
        options,
        places,
        ..
    } = holding(&[]);
    let clients = Clients::start(&places);
    let mut waiting: Vec<_> = places.iter().map(Place::wait_in).collect();
    for _ in 0..10 {
        let crashed = scene.spawn(&words(&options), &[("CRASH", "3")]);
        assert_eq!(crashed.finish().code(), Some(3), "{}", scene.listing());
        waiting.extend(places.iter().map(Place::wait_in));
    }
    // And one that cannot even be executed.
    let missing = scene
        .launcher(&words(&options))
        .args(["--", "/nowhere/daemon"]);
    assert_eq!(missing.finish().code(), Some(127), "{}", scene.listing());
    let last = scene.serving(&words(&options), SERVES);
    assert_answered(waiting, last.daemon);
    let tally = clients.stop();
    assert!(tally.failures.is_empty() && tally.answered > 0, "{tally:?}");
    scene.stop(last, &places);
}

/// It had no generation, and so no sockets: those that are held stay held.
#[test]
fn a_newcomer_that_fails_before_it_starts_leaves_the_sockets_held() {
    let Holding {
        scene,
        options,
        places,
        keeper,
    } = holding(&[]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap();
    let in_use = format!("--listen=more=127.0.0.1:{}", taken.port());
    let new_path = scene.unix("new");
    let waiting: Vec<_> = places.iter().map(Place::wait_in).collect();
    for more in [["--bogus", "--bogus"], [&new_path, &in_use]] {
        let all = [words(&options), more.to_vec()].concat();
        let failed = scene.spawn(&all, SERVES);
        assert_eq!(failed.finish().code(), Some(125), "{}", scene.listing());
        let state = scene.status();
        assert_eq!(state["generations"][0]["phase"], "holding", "{state}");
        assert_eq!(state["generations"][0]["keeper"], keeper.as_raw());
        assert!(!scene.path("new").exists());
    }
    let next = scene.serving(&words(&options), SERVES);
    assert_answered(waiting, next.daemon);
    scene.stop(next, &places);
}

/// R18: of a generation that only holds sockets the daemon has ended, whoever has its number by now: one that is taken
/// at once, and in the same tick, looks the same to the record.
#[test]
fn the_number_of_a_daemon_that_has_ended_is_somebody_elses() {
    let Holding {
        scene,
        options,
        places,
        ..
    } = holding(&[]);
    let innocent = innocent(&scene.stage);
    let record = scene.stage.beside(".record");
    let text = fs::read_to_string(&record).unwrap();
    let (before, rest) = text.split_once(" daemon=").unwrap();
    let (_, after) = rest.split_once(' ').unwrap();
    let pid = innocent.pid();
    let start = process::identity(pid).unwrap().start;
    fs::write(&record, format!("{before} daemon={pid}:{start} {after}")).unwrap();
    let next = scene.serving(&words(&options), SERVES);
    assert_unharmed(&scene.stage, &innocent);
    innocent.signal(Signal::SIGTERM);
    innocent.finish();
    scene.stop(next, &places);
}

/// One whose version asks for none of them: they are closed at its commit, and not before.
#[test]
fn a_newcomer_that_asks_for_nothing_and_dies_leaves_the_sockets_held() {
    let other = format!("--listen=other=127.0.0.1:{}", 0);
    for options in [vec![], vec![other.as_str()]] {
        let held = holding(&[]);
        let scene = &held.scene;
        let waiting: Vec<_> = held.places.iter().map(Place::wait_in).collect();
        let crashed = scene.spawn(&options, &[("CRASH", "3")]);
        assert_eq!(crashed.finish().code(), Some(3), "{}", scene.listing());
        let next = scene.serving(&words(&held.options), SERVES);
        assert_answered(waiting, next.daemon);
        scene.stop(next, &held.places);
    }
}

/// After a new launcher's start, its end.
const MOMENTS: [u64; 10] = [0, 1, 2, 3, 4, 6, 8, 11, 20, 40];

/// Promise 3: whatever moment it is, whoever waits goes on waiting: between two good ones one is KILLed.
#[test]
fn newcomers_are_killed_at_once_while_sockets_are_held() {
    for victims in ["launcher", "keeper", "both"] {
        let scene = Scene::new();
        let options = listen(&scene);
        let mut one = scene.serving(&words(&options), SERVES);
        let (places, given) = (scene.places(&one), scene.given(one.daemon));
        for moment in MOMENTS {
            kill(one.daemon);
            one.launcher.wait();
            let mut waiting: Vec<_> = places.iter().map(Place::wait_in).collect();
            let mut launcher = scene.spawn(&words(&options), LATER);
            thread::sleep(Duration::from_millis(moment));
            if victims != "launcher" {
                let mut children = process::children(launcher.pid());
                while children.is_empty() {
                    children = process::children(launcher.pid());
                }
                if victims == "both" {
                    launcher.signal(Signal::SIGSTOP);
                }
                kill(children[0]);
            }
            launcher.kill();
            for place in &places {
                let connected = place.connect();
                waiting.push(connected.unwrap_or_else(|error| {
                    panic!("{victims}, {moment} ms: {error}{}", scene.listing())
                }));
            }
            one = scene.serving(&words(&options), SERVES);
            assert_answered(waiting, one.daemon);
            assert_eq!(scene.given(one.daemon), given, "{}", scene.listing());
        }
        scene.stop(one, &places);
    }
}

/// The sockets of one that is about to be ended are fetched from it before that.
#[test]
fn a_newcomer_that_lost_launcher_and_keeper_before_it_was_ready_is_succeeded() {
    let Holding {
        scene,
        options,
        places,
        ..
    } = holding(&[]);
    let waiting: Vec<_> = places.iter().map(Place::wait_in).collect();
    // TERM ends it at once.
    let sleep = ["--", "sh", "-c", "echo up $$; exec sleep 1000"];
    let launcher = scene.launcher(&words(&options)).args(sleep).start();
    let mut two = scene.up(launcher);
    kill_both(&mut two);
    let three = scene.serving(&words(&options), SERVES);
    assert_answered(waiting, three.daemon);
    scene.stop(three, &places);
}

/// It has them all the same; and when it wakes up it finds that it is done with.
#[test]
fn a_keeper_that_holds_is_stopped_for_good() {
    let Holding {
        scene,
        options,
        places,
        keeper,
    } = holding(&["--hold-timeout=none"]);
    let waiting: Vec<_> = places.iter().map(Place::wait_in).collect();
    freeze(keeper);
    let two = scene.serving(&words(&options), SERVES);
    assert_answered(waiting, two.daemon);
    signal(keeper, Signal::SIGCONT);
    process::wait_exit(keeper);
    scene.stop(two, &places);
}

/// Nobody has the sockets any more.
#[test]
fn a_keeper_that_holds_is_killed() {
    let _network = network::isolate();
    let scene = Scene::new();
    let tcp = format!("--listen=http=127.0.0.1:{}", free_port());
    let options = [tcp, scene.unix("local")];
    let one = scene.serving(&words(&options), DEAF);
    let (places, given) = (scene.places(&one), scene.given(one.daemon));
    kill(one.daemon);
    one.launcher.finish();
    let waiting: Vec<_> = places.iter().map(Place::wait_in).collect();
    kill(one.keeper);
    for client in waiting {
        assert!(client.read().is_err(), "its queue has gone");
    }
    let two = scene.serving(&words(&options), SERVES);
    let anew = scene.given(two.daemon);
    for (before, now) in given.iter().zip(&anew) {
        assert_eq!(before.address, now.address);
        assert_ne!(before.inode, now.inode);
    }
    assert_answered(places.iter().map(Place::wait_in).collect(), two.daemon);
    scene.stop(two, &places);
}

/// The standby dies at some moment of its successor's start: before it attached, or after.
#[test]
fn a_standby_dies_while_its_successor_starts() {
    for moment in MOMENTS {
        let scene = Scene::new();
        let options = listen(&scene);
        let one = scene.serving(&words(&options), DEAF);
        let (places, given, old) = (scene.places(&one), scene.given(one.daemon), one.daemon);
        scene.detach(one);
        let mut waiting: Vec<_> = places.iter().map(Place::wait_in).collect();
        let launcher = scene.spawn(&words(&options), SERVES);
        thread::sleep(Duration::from_millis(moment));
        // At the latest it may have been told to end.
        if let Some(standby) = Handle::open(old) {
            standby.signal(Signal::SIGKILL);
        }
        process::wait_exit(old);
        waiting.extend(places.iter().map(Place::wait_in));
        let two = scene.up(launcher);
        assert_eq!(scene.given(two.daemon), given, "{}", scene.listing());
        scene.wait_started(two.daemon);
        assert_answered(waiting, two.daemon);
        scene.stop(two, &places);
    }
}

// Under load.

const CLIENTS: usize = 4;
const REQUESTS_PER_SECOND: u32 = 500;
const SLOW: SlowSpec = SlowSpec {
    clients: 2,
    delay: Duration::from_millis(200),
};

/// An example with a held socket named `http`, when it is ready.
fn serving_example(scene: &Scene, example: &str, listen: &str) -> Generation {
    let launcher = scene
        .launcher(&[listen, "--"])
        .arg(support::example(example))
        .start();
    let line = scene.stage.log.wait_for(" is ready after ");
    let (_, rest) = line.split_once("(pid ").unwrap();
    let daemon = Pid::from_raw(rest.split(')').next().unwrap().parse().unwrap());
    let keeper = process::children(launcher.pid())[0];
    Generation {
        launcher,
        keeper,
        daemon,
    }
}

fn answers(load: &Load, daemon: Pid) {
    let pid = u32::try_from(daemon.as_raw()).unwrap();
    let busy = |answer: &Answer| answer.pid == pid && answer.answers >= ANSWERS_OF_EACH;
    let answer = load.wait_answer(PATIENCE, busy);
    assert!(answer.is_some(), "{daemon}: {}", load.report());
}

/// Before the next KILL.
const ANSWERS_OF_EACH: u64 = 200;

/// Ten times something is KILLed under load; gives what became of the requests.
fn killed_under_load(example: &str, what: &str) {
    let scene = Scene::new();
    let (listen, unix) = match example {
        "http_tcp" => ("--listen=http=127.0.0.1:0".to_owned(), false),
        _ => (scene.unix("http"), true),
    };
    let mut one = serving_example(&scene, example, &listen);
    let target = if unix {
        Target::Unix(scene.path("http"))
    } else {
        let state = scene.status();
        let address = state["generations"][0]["sockets"][0]["address"].as_str();
        Target::Tcp(address.unwrap().trim_start_matches("tcp:").parse().unwrap())
    };
    let load = Load::start_at_rate(target, CLIENTS, Some(SLOW), REQUESTS_PER_SECOND);
    for _ in 0..10 {
        answers(&load, one.daemon);
        assert!(load.wait_slow_in_flight(PATIENCE, SLOW.clients));
        if what == "daemon" {
            kill(one.daemon);
            one.launcher.wait();
        } else {
            one.launcher.kill();
        }
        one = serving_example(&scene, example, &listen);
    }
    answers(&load, one.daemon);
    let report = load.stop();
    let lost = [Failure::Reset, Failure::Truncated]
        .map(|failure| report.fast.count(failure) + report.slow.count(failure))
        .into_iter()
        .sum::<u64>();
    assert_eq!(report.failed(), lost, "only what was in hand: {report}");
    let most = if what == "daemon" {
        10 * (CLIENTS + SLOW.clients) as u64
    } else {
        0
    };
    assert!(lost <= most, "{report}");
    assert_eq!(report.pids().len(), 11, "{report}");
    tell(&format!(
        "sockets | {example}, 10 times kill -9 of the {what:<8} | {} requests, 0 refused, {lost} lost (at most {most}); slowest {:.0} ms",
        report.fast.finished() + report.slow.finished(),
        report.fast.slowest.as_secs_f64() * 1000.0
    ));
    one.launcher.signal(Signal::SIGINT);
    assert_eq!(one.launcher.finish().code(), Some(0));
    scene.assert_nothing_left(&[]);
}

#[test]
fn ten_kills_of_the_daemon_lose_only_the_requests_in_hand() {
    killed_under_load("http_tcp", "daemon");
    killed_under_load("http_unix", "daemon");
}

#[test]
fn ten_kills_of_the_launcher_lose_nothing() {
    killed_under_load("http_tcp", "launcher");
    killed_under_load("http_unix", "launcher");
}
