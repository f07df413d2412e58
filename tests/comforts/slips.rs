//! What was typed wrongly is answered with what was meant; and the help says what can be typed.

use std::path::Path;

use super::run;
use crate::stage::Stage;
use crate::support::{Scratch, executable};

#[test]
fn a_slip_is_answered_with_what_was_meant() {
    let stage = Stage::new();
    let file = stage.pid_file.to_str().unwrap();
    for (words, status, meant) in [
        (&["statsu", file][..], 127, "is the verb status meant?"),
        (&["restrat", file], 127, "is the verb restart meant?"),
        (&["help"], 127, "is --help meant?"),
        (
            &["-p", file, "--redy", "notify", "true"],
            125,
            "is --ready meant?",
        ),
        (
            &["-p", file, "--ready", "lsiten:80", "true"],
            125,
            "is listen meant?",
        ),
        (
            &["-p", file, "--on", "TREM=restart", "true"],
            125,
            "is TERM meant?",
        ),
        (
            &["-p", file, "--on", "TERM=restrat", "true"],
            125,
            "is restart meant?",
        ),
        (
            &["-p", file, "--on", "TERM=QIUT", "true"],
            125,
            "is QUIT meant?",
        ),
        (
            &["-p", file, "--drain-signal", "SIGQIUT", "true"],
            125,
            "is QUIT meant?",
        ),
        (&["--listen-env", "ngnix", "true"], 125, "is nginx meant?"),
        (&["notify", "strated"], 2, "is started meant?"),
        (&["check", "--unti", "x"], 2, "is --unit meant?"),
        (&["status", "--jsno", file], 2, "is --json meant?"),
    ] {
        let ended = run(&stage.scratch, words);
        assert_eq!(ended.code(), Some(status), "{words:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(meant), "{words:?}: {}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    }
}

/// A verb is the first word only, and nobody guesses where a command was found or is no slip.
#[test]
fn nobody_guesses_where_there_is_nothing_to_guess() {
    let stage = Stage::new();
    let file = stage.pid_file.to_str().unwrap();
    for words in [
        &["-q", "statsu"][..],
        &["--", "statsu"],
        &["-p", file, "statsu"],
        &["nosuchcommand"],
        &["-p", file, "--ready", "colour:80", "true"],
    ] {
        let ended = run(&stage.scratch, words);
        assert!(
            !ended.stderr.contains(" meant?"),
            "{words:?}: {}",
            ended.stderr
        );
    }
    // A program of that name is a program.
    let directory = stage.scratch.join("bin");
    std::fs::create_dir(&directory).unwrap();
    executable::copy(Path::new("/bin/true"), &directory.join("statsu"), 0o755);
    let found = crate::support::Spawn::new(&stage.scratch, crate::support::program());
    found
        .arg("statsu")
        .env("PATH", &directory)
        .finish()
        .expect_success();
}

#[test]
fn the_short_help_is_a_page_and_the_long_one_says_more() {
    let scratch = Scratch::new();
    for verb in [
        &[][..],
        &["status"],
        &["restart"],
        &["stop"],
        &["notify"],
        &["check"],
    ] {
        let help = |word| run(&scratch, &[verb, &[word]].concat()).expect_success();
        let (short, long) = (help("-h"), help("--help"));
        for text in [&short.stdout, &long.stdout] {
            assert!(text.contains("Usage: seamless-run"), "{text}");
            assert!(
                text.lines().all(|line| line.chars().count() <= 80),
                "{text}"
            );
            assert!(!text.contains('\x1b'), "{text}");
        }
        assert!(long.stdout.len() > short.stdout.len(), "{verb:?}");
        assert!(long.stdout.contains("\nExamples:\n"), "{}", long.stdout);
        assert!(!short.stdout.contains("Examples:"), "{}", short.stdout);
    }
    let long = run(&scratch, &["--help"]).stdout;
    for heading in [
        "The service:",
        "Sockets:",
        "Readiness:",
        "Signals:",
        "Time limits:",
    ] {
        assert!(long.contains(&format!("\n{heading}\n")), "{long}");
    }
    assert!(long.contains("Default: 10m"), "{long}");
    assert!(long.contains("Example: --ready listen:80"), "{long}");
}
