//! Why `KillMode=process`: with the others a restart is none of ours any more.

use super::{Machine, READY};
use crate::support::Service;

fn with(machine: &Machine, mode: &str) -> Service {
    machine
        .service(&[])
        .env("FIRST", READY)
        .unit_service(format!("KillMode={mode}"))
}

/// The default: systemd tells the daemon to drain before there is another one.
#[test]
fn control_group_ends_the_old_one_before_the_new_one_starts() {
    let machine = Machine::boot();
    let first = machine.start(&with(&machine, "control-group"));
    let second = machine.restart(2);
    let lines = machine.stage.log.lines();
    let told = format!("daemon {first} got TERM");
    let at = |part: &str| lines.iter().position(|line| line.contains(part));
    let up = at(&format!("generation 2 is up: {second}"));
    assert!(
        at(&told).is_some_and(|told| Some(told) < up),
        "{}",
        machine.listing()
    );
    assert!(!machine.alive(first));
}

/// The daemon is not even told: KILL, as soon as the launcher has left.
#[test]
fn mixed_kills_the_old_one_before_the_new_one_starts() {
    let machine = Machine::boot();
    let service = with(&machine, "mixed").env("LINGER", "1");
    let first = machine.start(&service);
    machine.restart(2);
    assert!(!machine.alive(first), "{}", machine.listing());
    let told = format!("daemon {first} got TERM");
    assert!(!machine.says(&told), "{}", machine.listing());
    let messages = machine.systemd.messages();
    messages.wait_seen(&format!(
        "Killing process {first} (obedient) with signal SIGKILL"
    ));
}

/// The one that works: nobody but the launcher gets a signal.
#[test]
fn process_leaves_the_old_one_to_its_keeper() {
    let machine = Machine::boot();
    let first = machine.start(&with(&machine, "process").env("LINGER", "1"));
    machine.restart(2);
    machine.wait_said(first, "got TERM");
    let lines = machine.stage.log.lines();
    let at = |part: &str| lines.iter().position(|line| line.contains(part));
    let told = at(&format!("daemon {first} got TERM"));
    assert!(told > at("generation 2 is up: "), "{}", machine.listing());
    assert!(machine.alive(first), "it drains");
    let messages = machine.systemd.messages();
    assert_eq!(messages.count("Killing process"), 0);
    messages.wait_seen("Found left-over process");
    // But for the generation nothing is left over: no question to systemd that is still under way.
    assert_eq!(messages.count("(systemctl)"), 0);
    machine.order(1, "exit 0");
    machine.wait_exit(first);
}
