//! `contrib/bench/weight`, in a few seconds: a benchmark that does not run says nothing. Its numbers are no test's.

use std::fs;

use crate::support::{self, Scratch, Spawn};

#[test]
fn the_benchmark_runs_and_draws() {
    for (tool, package) in [("musl-gcc", "musl-tools"), ("catatonit", "catatonit")] {
        support::tool(tool, package);
    }
    let scratch = Scratch::new();
    let picture = scratch.join("weight.svg");
    // Everything is built; under cargo it would build it again, and the static one besides. That one is not tested here:
    // what it measures of one of ours it measures of the other.
    let weight = Spawn::new(&scratch, support::example("weight"))
        .env_remove("CARGO")
        .arg("--quick")
        .arg("--static")
        .arg(support::program())
        .arg("--svg")
        .arg(&picture);
    let printed = weight.finish().expect_success().stdout;
    // Each piece, and whoever is measured in it.
    let pieces = [
        "Start: ",
        "Memory while idle",
        "From its own exec to the daemon's",
        "A restart: ",
        "5 services at once",
        "The targets",
    ];
    let mut rest = printed.as_str();
    for piece in pieces {
        let at = rest.find(piece);
        let at = at.unwrap_or_else(|| panic!("no {piece:?} in its place in\n{printed}"));
        rest = &rest[at..];
    }
    let others = [
        "tini",
        "tini-static",
        "dumb-init",
        "catatonit",
        "smallest in C, musl",
    ];
    for name in others {
        let lines = printed.lines().filter(|line| {
            let cells = line.strip_prefix(name);
            cells.is_some_and(|cells| cells.starts_with("  "))
        });
        assert_eq!(lines.count(), 3, "{name} in\n{printed}");
    }
    let kept = printed.lines().any(|line| {
        line.starts_with("5 services restarted: requests lost") && line.ends_with(" reached")
    });
    assert!(kept, "{printed}");
    let drawn = fs::read_to_string(picture).expect("it has drawn");
    let mut bars = drawn.lines().filter(|line| line.contains("<rect "));
    assert!(
        bars.any(|bar| bar.contains(">seamless-run</text>")),
        "{drawn}"
    );
    assert!(drawn.contains("prefers-color-scheme:dark"), "{drawn}");
}
