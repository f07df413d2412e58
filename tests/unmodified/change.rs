//! A recipe that somebody has changed, for the worse.

use std::fs;
use std::time::Instant;

use super::scene::{Scene, get};
use crate::support::PATIENCE;

/// In a file that has been installed; its mode stays.
pub(crate) fn replace(path: &str, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "no `{from}` in {path}: {text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

/// The next generation is not started, or dies before it is ready: it complains in the log, and the old one serves.
pub(crate) fn the_next_one_fails(scene: &Scene<'_>, complaint: &str) {
    scene.sv("term");
    // Twice: runit has tried again, so the first attempt is over.
    scene.wait_count(complaint, 2);
    answers(scene, 1);
}

/// What answers is of this version of the configuration.
pub(crate) fn answers(scene: &Scene<'_>, version: u32) {
    let answer = get(&scene.recipe.target);
    let expected = format!(" generation {version}\n");
    assert!(answer.ends_with(&expected), "{answer}");
}

/// The old one accepts until it has heard of it, and may still answer.
pub(crate) fn wait_answers(scene: &Scene<'_>, version: u32) {
    let expected = format!(" generation {version}\n");
    let deadline = Instant::now() + PATIENCE;
    while !get(&scene.recipe.target).ends_with(&expected) {
        let listing = scene.log().listing();
        assert!(
            Instant::now() < deadline,
            "version {version} is silent: {listing}"
        );
    }
}
