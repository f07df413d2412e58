//! `contrib/campaign`, in short: every fault three times, each time at another point. A long one is for people.

use std::time::{Duration, Instant};

use crate::support::process::Handle;
use crate::support::{self, Scratch, Spawn};

/// A minute or so, on a machine that has nothing else to do.
const LIMIT: Duration = Duration::from_secs(600);

/// Every kind, so that none is forgotten.
const KINDS: usize = 27;

#[test]
fn a_short_campaign_breaks_nothing() {
    let scratch = Scratch::new();
    let handovers = (3 * KINDS).to_string();
    // Everything is built; under cargo it would build it again.
    let campaign = Spawn::new(&scratch, support::example("campaign"))
        .env_remove("CARGO")
        .args(["--seed", "1", "--services", "4"])
        .args(["--handovers", &handovers])
        .start();
    let handle = Handle::open(campaign.pid()).expect("it is our child");
    assert!(handle.wait_until(Instant::now() + LIMIT), "it does not end");
    let finished = campaign.finish();
    let printed = format!("{}{}", finished.stdout, finished.stderr);
    assert_eq!(finished.code(), Some(0), "{printed}");
    let rows = finished.stdout.lines();
    let kinds = rows
        .take_while(|line| !line.starts_with("all "))
        .filter(|line| line.split_whitespace().nth(1) == Some("3"));
    assert_eq!(kinds.count(), KINDS, "{printed}");
    // A number that nobody took over would prove nothing.
    let all = finished
        .stdout
        .lines()
        .find(|line| line.starts_with("all "));
    let numbers: Vec<u64> = all
        .into_iter()
        .flat_map(|line| line.split_whitespace().skip(1))
        .map(|word| word.parse().expect("a number"))
        .collect();
    let [.., reused, named, _] = numbers.as_slice() else {
        panic!("{printed}")
    };
    assert!(*reused > 100 && *named > 10, "{printed}");
}

/// What cannot be repeated cannot be mended.
#[test]
fn one_handover_can_be_repeated_alone() {
    let scratch = Scratch::new();
    let campaign = Spawn::new(&scratch, support::example("campaign"))
        .env_remove("CARGO")
        .args(["--seed", "1", "--only", "3"]);
    let printed = campaign.finish().expect_success().stdout;
    assert!(printed.contains("\n1 handovers in "), "{printed}");
    assert!(printed.contains("; 0 wrong; --seed 1"), "{printed}");
}
