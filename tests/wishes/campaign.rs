//! `contrib/bench/stops`, in small: a campaign that does not run proves nothing.

use crate::support::{self, Scratch, Spawn};

#[test]
fn the_campaign_in_small() {
    let scratch = Scratch::new();
    // Everything is built; under cargo it would build it again.
    let stops = Spawn::new(&scratch, support::example("stops"))
        .env_remove("CARGO")
        .args(["--only", "runit,systemd", "--seed", "1"])
        .args(["--restarts", "4", "--stops", "4", "--delays", "1"]);
    let printed = stops.finish().expect_success().stdout;
    for supervisor in ["runit", "systemd"] {
        let told = format!("{supervisor:<12} restarts 4/4, stops 4/4");
        assert!(printed.contains(&told), "{printed}");
        let delays = format!("{supervisor:<12} TERM=auto            1 ");
        assert!(printed.contains(&delays), "{printed}");
    }
}
