//! The launcher for tests, and with it who gets what: many takers in one process, and no signal.
#![cfg(feature = "testing")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is how a test fails, in its helpers too"
)]

#[cfg(target_os = "linux")]
mod support;

use seamless_client::testing::Launcher;
use seamless_client::{ErrorKind, Request, Seamless};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

fn is_prepare(request: Option<Request>) -> bool {
    matches!(request, Some(Request::Prepare(_)))
}

#[test]
fn handles_may_go_anywhere() {
    fn may_go_anywhere<T: Send + Sync + 'static>(_: &T) {}
    let (launcher, seamless) = Launcher::pair();
    may_go_anywhere(&launcher);
    may_go_anywhere(&seamless);
    may_go_anywhere(&seamless.requests().unwrap());
    may_go_anywhere(&seamless.drain_requested());
    may_go_anywhere(&seamless.started());
}

#[test]
fn any_number_at_once() {
    let threads: Vec<_> = (0..50)
        .map(|_| {
            thread::spawn(|| {
                let (launcher, seamless) = Launcher::pair();
                let daemon = thread::spawn(move || {
                    seamless.started().unwrap();
                    seamless.wait();
                });
                assert!(launcher.wait_started(LIMIT));
                assert!(launcher.prepare(LIMIT));
                launcher.drain();
                daemon.join().unwrap();
            })
        })
        .collect();
    for one in threads {
        one.join().unwrap();
    }
}

#[test]
fn it_is_a_launch() {
    let (launcher, seamless) = Launcher::pair();
    assert!(seamless.is_launched());
    assert_eq!(seamless.generation().map(u32::from), Some(1));
    assert!(!launcher.wait_started(Duration::ZERO));
    assert_eq!(launcher.last_status(), None);
    seamless.status("one").unwrap();
    seamless.status("two").unwrap();
    assert_eq!(launcher.last_status().as_deref(), Some("two"));
}

#[test]
fn a_refusal_is_for_once() {
    let (launcher, seamless) = Launcher::pair();
    launcher.refuse("disk full");
    let error = seamless.started().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().ends_with("disk full"), "{error}");
    assert!(!launcher.wait_started(Duration::ZERO));
    seamless.started().unwrap();
    assert!(launcher.wait_started(Duration::ZERO));
}

#[test]
fn a_dropped_launcher_is_gone() {
    let (launcher, seamless) = Launcher::pair();
    let requests = seamless.requests().unwrap();
    assert!(!launcher.prepare(Duration::ZERO));
    drop(launcher);
    assert_eq!(seamless.started().unwrap_err().kind(), ErrorKind::Gone);
    assert_eq!(seamless.status("x").unwrap_err().kind(), ErrorKind::Gone);
    let Some(Request::Prepare(prepare)) = requests.try_next() else {
        panic!("there is a question")
    };
    assert_eq!(prepare.done().unwrap_err().kind(), ErrorKind::Gone);
}

#[test]
fn a_question_goes_to_one_and_the_drain_to_all() {
    let (launcher, seamless) = Launcher::pair();
    let both = [seamless.requests().unwrap(), seamless.requests().unwrap()];
    assert!(!launcher.prepare(Duration::ZERO));
    assert!(is_prepare(both[1].try_next()));
    assert!(both[0].try_next().is_none() && both[1].try_next().is_none());
    launcher.drain();
    launcher.drain();
    for requests in &both {
        assert!(matches!(requests.try_next(), Some(Request::Drain)));
        assert!(matches!(requests.try_next(), Some(Request::Drain)));
        assert!(requests.try_next().is_none());
    }
    for handle in [seamless.clone(), seamless.clone()] {
        assert!(matches!(handle.next_request(), Request::Drain));
        handle.wait();
    }
}

#[test]
fn a_callback_gets_every_question() {
    let (launcher, seamless) = Launcher::pair();
    let requests = seamless.requests().unwrap();
    let (sender, calls) = channel();
    seamless.on_prepare(move || {
        sender
            .send(thread::current().name().map(str::to_owned))
            .unwrap()
    });
    for _ in 0..3 {
        assert!(launcher.prepare(LIMIT));
        assert_eq!(calls.recv().unwrap().as_deref(), Some("seamless"));
        assert!(requests.try_next().is_none());
    }
}

#[test]
fn a_later_callback_replaces_an_earlier_and_serves_what_waits() {
    let (launcher, seamless) = Launcher::pair();
    assert!(!launcher.prepare(Duration::ZERO));
    let (first, firsts) = channel();
    seamless.on_prepare(move || first.send(()).unwrap());
    firsts.recv_timeout(LIMIT).unwrap();
    let (second, seconds) = channel();
    seamless.on_prepare(move || second.send(()).unwrap());
    assert!(launcher.prepare(LIMIT));
    seconds.recv_timeout(LIMIT).unwrap();
    assert!(
        firsts.recv().is_err(),
        "the first one was dropped, uncalled"
    );
}

#[test]
fn whoever_reads_questions_gets_them_and_not_wait() {
    let (launcher, seamless) = Launcher::pair();
    let requests = seamless.requests().unwrap();
    let waiting = seamless.clone();
    let waiter = thread::spawn(move || waiting.wait());
    let _future = seamless.drain_requested();
    assert!(
        !launcher.prepare(Duration::from_millis(20)),
        "it is the reader's to answer"
    );
    assert!(is_prepare(requests.try_next()));
    // With the last reader gone it is answered for those who wait.
    assert!(!launcher.prepare(Duration::ZERO));
    let (asked, answered) = channel();
    drop(requests);
    thread::scope(|scope| {
        scope.spawn(|| asked.send(launcher.prepare(LIMIT)).unwrap());
        assert!(answered.recv_timeout(LIMIT).unwrap());
    });
    launcher.drain();
    waiter.join().unwrap();
}

#[test]
fn a_handle_that_reads_is_a_reader_until_it_waits() {
    let (launcher, seamless) = Launcher::pair();
    let reader = seamless.clone();
    assert!(!launcher.prepare(Duration::ZERO));
    assert!(is_prepare(Some(reader.next_request())));
    let _future = seamless.drain_requested();
    assert!(
        !launcher.prepare(Duration::from_millis(20)),
        "the reader may come back"
    );
    assert!(is_prepare(Some(reader.next_request())));
    let waiter = thread::spawn(move || reader.wait());
    assert!(launcher.prepare(LIMIT));
    launcher.drain();
    waiter.join().unwrap();
}

#[test]
fn the_thread_ends_with_the_last_handle() {
    struct Alive(std::sync::mpsc::Sender<()>);
    let (sender, end) = channel();
    let (_launcher, seamless) = Launcher::pair();
    let alive = Alive(sender);
    seamless.on_prepare(move || alive.0.send(()).unwrap());
    let other = seamless.clone();
    drop(seamless);
    assert_eq!(end.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty));
    drop(other);
    assert!(
        end.recv_timeout(LIMIT)
            .is_err_and(|error| error == std::sync::mpsc::RecvTimeoutError::Disconnected)
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_future_needs_no_runtime() {
    let (launcher, seamless) = Launcher::pair();
    // One that is dropped takes nothing with it.
    drop(seamless.drain_requested());
    let future = seamless.drain_requested();
    let daemon = thread::spawn(move || support::block_on(future));
    assert!(launcher.prepare(LIMIT));
    launcher.drain();
    daemon.join().unwrap();
    support::block_on(seamless.drain_requested());
}

#[cfg(target_os = "linux")]
#[test]
fn a_descriptor_is_readable_while_something_is_there() {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let (launcher, seamless) = Launcher::pair();
    launcher.drain();
    assert!(!launcher.prepare(Duration::ZERO));
    let requests = seamless.requests().unwrap();
    let readable = || {
        poll(
            &mut [PollFd::new(requests.as_fd(), PollFlags::POLLIN)],
            PollTimeout::ZERO,
        ) == Ok(1)
    };
    assert!(readable());
    assert!(is_prepare(requests.try_next()));
    assert!(readable(), "the drain is still there");
    assert!(matches!(requests.try_next(), Some(Request::Drain)));
    assert!(!readable());
    launcher.drain();
    assert!(readable());
}

#[test]
fn sockets_are_handed_over_to_this_handle_alone() {
    let tcp = || TcpListener::bind("127.0.0.1:0").unwrap();
    let (launcher, seamless) = Launcher::pair();
    let first = tcp();
    let address = first.local_addr().unwrap();
    launcher.listen("http", first);
    launcher.listen("http", tcp());
    launcher.listen("bell", UnixDatagram::unbound().unwrap());
    let mut listeners = seamless.clone().listeners().unwrap();
    let taken = listeners.tcp("http").unwrap().unwrap();
    assert_eq!(taken.local_addr().unwrap(), address);
    assert_eq!(listeners.names().collect::<Vec<_>>(), ["http", "bell"]);
    assert_eq!(
        listeners.unix("bell").unwrap_err().kind(),
        ErrorKind::WrongKind
    );
    // Once for the daemon, and not once for the process.
    assert_eq!(seamless.listeners().unwrap_err().kind(), ErrorKind::Claimed);
    let (launcher, seamless) = Launcher::pair();
    launcher.listen("http", tcp());
    // As real ones, they outlive their launcher.
    drop(launcher);
    assert!(seamless.listeners().unwrap().tcp("http").unwrap().is_some());
}

#[test]
fn without_a_socket_there_is_none() {
    let (_launcher, seamless) = Launcher::pair();
    let mut listeners = seamless.listeners().unwrap();
    assert!(listeners.tcp("http").unwrap().is_none());
    assert_eq!(listeners.names().count(), 0);
}

#[test]
fn signals_may_be_injected() {
    let (_launcher, seamless) = Launcher::pair();
    let daemon: Seamless = seamless.clone();
    let waiter = thread::spawn(move || daemon.wait());
    assert!(!seamless.inject(1));
    assert!(seamless.inject(15));
    waiter.join().unwrap();
}
