//! The file descriptor store: what one generation leaves with systemd, the next one finds (R23).

use std::collections::BTreeSet;

use super::{Machine, READY};
use crate::scene::Place;
use crate::support::process::Pid;

/// What the daemon says that it was given, without the numbers: names, and what is in the files.
fn given(machine: &Machine, daemon: Pid) -> BTreeSet<String> {
    let start = format!("daemon {daemon} has ");
    let lines = machine.stage.log.lines();
    let own = lines.iter().filter_map(|line| line.strip_prefix(&start));
    own.map(|line| {
        let (name, rest) = line.split_once(" at ").unwrap();
        let (_number, what) = rest.split_once([':', ',']).unwrap();
        format!("{name}:{what}")
    })
    .collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// systemd's are first, ours after them.
fn survive_restarts(with_held_socket: bool) {
    let machine = Machine::boot();
    let path = machine.stage.scratch.join("http.sock");
    let option = format!("--listen=http={}", path.display());
    let (options, held) = match with_held_socket {
        true => (&[option.as_str()][..], &["http: a socket"][..]),
        false => (&[][..], &[][..]),
    };
    let service = machine
        .service(options)
        .env("FIRST", READY)
        .unit_service("FileDescriptorStoreMax=10");
    let first = machine.start(&service);
    assert_eq!(given(&machine, first), set(held));
    machine.order(1, "store one hello");
    machine.order(1, "store two world");
    machine.barrier(1, first);
    assert_eq!(machine.property("NFileDescriptorStore"), "2");

    let second = machine.restart(2);
    let both = [held, &["one: hello", "two: world"]].concat();
    assert_eq!(given(&machine, second), set(&both));
    let at = 3 + 2;
    for name in held.iter().filter_map(|one| one.split(':').next()) {
        let line = format!("daemon {second} has {name} at {at}, a socket");
        assert!(machine.says(&line), "{}", machine.listing());
    }

    machine.order(2, "say FDSTOREREMOVE=1\nFDNAME=one");
    machine.order(2, "store three more");
    machine.barrier(2, second);
    assert_eq!(machine.property("NFileDescriptorStore"), "2");
    let third = machine.restart(3);
    let both = [held, &["two: world", "three: more"]].concat();
    assert_eq!(given(&machine, third), set(&both));

    // After a crash, too: that is what the store is for.
    machine.order(3, "exit 3");
    let fourth = machine.up(4);
    assert_eq!(given(&machine, fourth), set(&both));
    machine
        .systemd
        .wait_property("ActiveState", |state| state == "active");
    machine.stop();
    // A stop empties it.
    assert_eq!(machine.property("NFileDescriptorStore"), "0");
}

#[test]
fn stored_descriptors_come_back_to_the_next_generation() {
    survive_restarts(false);
}

#[test]
fn stored_descriptors_come_back_before_held_sockets() {
    survive_restarts(true);
}

/// The store takes nothing from those who wait in the queue of a held socket.
#[test]
fn whoever_waits_in_a_held_socket_is_served_beside_stored_files() {
    let machine = Machine::boot();
    let path = machine.stage.scratch.join("http.sock");
    let held = format!("--listen=http={}", path.display());
    let service = machine
        .service(&[&held])
        .env("FIRST", READY)
        .unit_service("FileDescriptorStoreMax=10");
    let first = machine.start(&service);
    machine.order(1, "store one hello");
    machine.barrier(1, first);
    machine.order(1, "deaf");
    machine.wait_said(first, "is deaf");
    let waiting = Place::Unix(path).wait_in();
    let second = machine.restart(2);
    assert_eq!(waiting.answered(), (second, 2));
    assert_eq!(
        given(&machine, second),
        set(&["one: hello", "http: a socket"])
    );
    machine.stop();
}

/// What has hung up systemd lets go of by itself, unless it is told not to look.
#[test]
fn whether_systemd_looks_at_what_it_stores_is_the_daemons_to_say() {
    let machine = Machine::boot();
    let service = machine
        .service(&[])
        .env("FIRST", READY)
        .unit_service("FileDescriptorStoreMax=10");
    let first = machine.start(&service);
    machine.order(1, "hang looked-at");
    machine.order(1, "hang left-alone FDPOLL=0");
    machine.barrier(1, first);
    machine
        .systemd
        .wait_property("NFileDescriptorStore", |count| count == "1");
    let second = machine.restart(2);
    assert_eq!(given(&machine, second), set(&["left-alone: "]));
    machine.stop();
}
