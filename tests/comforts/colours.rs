//! Colours are for whoever looks at a terminal and wants them; what a program reads has none.

use super::{at_terminal, run};
use crate::stage::{BY_CHLD, STARTED, Stage};

const GREEN: &str = "\x1b[32mserving\x1b[0m";

#[test]
fn a_terminal_gets_colours_unless_it_is_told_otherwise() {
    let stage = Stage::new();
    let (launcher, _) = stage.daemon(&[], STARTED, BY_CHLD);
    let file = stage.pid_file.to_str().unwrap();
    let shown =
        |environment: &[(&str, &str)]| at_terminal(&stage.scratch, &["status", file], environment);
    assert!(shown(&[]).contains(GREEN), "{:?}", shown(&[]));
    // An empty one says nothing (no-color.org).
    assert!(shown(&[("NO_COLOR", "")]).contains(GREEN));
    for environment in [("NO_COLOR", "1"), ("TERM", "dumb"), ("TERM", "")] {
        let text = shown(&[environment]);
        assert!(
            text.contains("serving") && !text.contains('\x1b'),
            "{environment:?}: {text:?}"
        );
    }
    let json = at_terminal(&stage.scratch, &["status", "--json", file], &[]);
    assert!(
        json.contains("serving") && !json.contains('\x1b'),
        "{json:?}"
    );
    // No terminal.
    let text = run(&stage.scratch, &["status", file])
        .expect_success()
        .stdout;
    assert!(
        text.contains("serving") && !text.contains('\x1b'),
        "{text:?}"
    );
    stage.stop(launcher, &[]);
    let gone = at_terminal(&stage.scratch, &["status", file], &[]);
    assert!(
        gone.contains("\x1b[31mnothing is running\x1b[0m"),
        "{gone:?}"
    );
}

#[test]
fn check_help_and_the_rehearsal_are_coloured_at_a_terminal_alone() {
    let stage = Stage::new();
    let file = stage.pid_file.to_str().unwrap();
    for words in [
        &["check", "-p", file, "--", "/no/such/daemon"][..],
        &["stop", "--help"],
        &["-h"],
        &["--dry-run", "-p", file, "true"],
    ] {
        let coloured = at_terminal(&stage.scratch, words, &[]);
        assert!(coloured.contains("\x1b["), "{words:?}: {coloured:?}");
        let plain = run(&stage.scratch, words).stdout;
        assert!(!plain.contains('\x1b'), "{words:?}: {plain:?}");
        // The same words; the terminal has its own ends of lines.
        let mut rest = coloured.replace("\r\n", "\n");
        for code in ["0", "1", "31", "32", "33", "36"] {
            rest = rest.replace(&format!("\x1b[{code}m"), "");
        }
        assert_eq!(rest, plain, "{words:?}");
    }
}
