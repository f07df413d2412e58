//! The completions of contrib/completions, each in its own shell.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::run;
use crate::support::{Scratch, Spawn, program, tool};

fn file(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("contrib/completions").join(name)
}

/// What stands in each shell's file for an option's name.
const FILES: [(&str, &str); 3] = [
    ("seamless-run.bash", "--"),
    ("_seamless-run", "--"),
    ("seamless-run.fish", "-l "),
];

/// The long names that stand in the text behind `mark`.
fn names(text: &str, mark: &str) -> BTreeSet<String> {
    let usual = |letter: char| letter.is_ascii_lowercase() || letter == '-';
    let places = text.split(mark).skip(1);
    let names = places.map(|rest| rest.split(|letter| !usual(letter)).next().unwrap());
    let names = names.filter(|name| name.len() > 1 && !name.starts_with('-'));
    names.map(str::to_owned).collect()
}

#[test]
fn every_option_of_the_help_is_in_each_file_and_no_other() {
    let scratch = Scratch::new();
    let mut known = BTreeSet::new();
    for verb in [
        &[][..],
        &["status"],
        &["restart"],
        &["stop"],
        &["notify"],
        &["check"],
    ] {
        let help = run(&scratch, &[verb, &["-h"]].concat())
            .expect_success()
            .stdout;
        let options = help.lines().filter(|line| {
            let line = line.strip_prefix("  ").unwrap_or_default();
            line.starts_with('-') || line.starts_with("    --")
        });
        for line in options {
            known.extend(names(line, "--").into_iter().next());
        }
    }
    assert!(
        known.contains("pid-file") && known.contains("old"),
        "{known:?}"
    );
    for (name, mark) in FILES {
        let text = fs::read_to_string(file(name)).unwrap();
        let code = text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'));
        // The tools that are asked have options of their own.
        let ours = code.filter(|line| !line.contains("systemctl") || line.contains("unit="));
        let text: String = ours.map(|line| format!("{line}\n")).collect();
        // There `-l` is an option of `set`, too.
        let is_ours = |line: &&str| mark == "--" || line.trim_start().starts_with("complete ");
        let text: String = text
            .lines()
            .filter(is_ours)
            .map(|line| format!("{line}\n"))
            .collect();
        let mut found = names(&text, mark);
        for foreign in ["no-legend", "no-pager", "type"] {
            found.remove(foreign);
        }
        let missing: Vec<_> = known
            .difference(&found)
            .filter(|name| *name != "unit")
            .collect();
        assert!(missing.is_empty(), "{name} lacks {missing:?}");
        let unknown: Vec<_> = found.difference(&known).collect();
        assert!(unknown.is_empty(), "{name} has {unknown:?}");
    }
}

struct Shell {
    name: &'static str,
    offers: fn(&Scratch, &str) -> String,
}

const SHELLS: [Shell; 3] = [
    Shell {
        name: "bash",
        offers: bash,
    },
    Shell {
        name: "zsh",
        offers: zsh,
    },
    Shell {
        name: "fish",
        offers: fish,
    },
];

/// The shell, with the program where it looks for commands.
fn shell(scratch: &Scratch, name: &str) -> Spawn {
    let directory = program().parent().unwrap().to_owned();
    let path = format!("{}:/usr/bin:/bin", directory.display());
    Spawn::new(scratch, tool(name, name))
        .directory(scratch.path())
        .env("PATH", path)
        .env("HOME", scratch.path())
        .env("TERM", "dumb")
}

fn bash(scratch: &Scratch, line: &str) -> String {
    let library = Path::new("/usr/share/bash-completion/bash_completion");
    assert!(
        library.exists(),
        "the tests need bash-completion: install the Debian package of that name"
    );
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/comforts/complete.bash");
    let shell = shell(scratch, "bash").args(["--norc", "--noprofile"]);
    let shell = shell.arg(script).arg(file("seamless-run.bash")).arg(line);
    shell.finish().expect_success().stdout
}

fn zsh(scratch: &Scratch, line: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/comforts/complete.zsh");
    let out = scratch.join("offered");
    let directory = file("").to_owned();
    let shell = shell(scratch, "zsh").arg("-f").arg(script).arg(directory);
    shell.arg(&out).arg(line).finish().expect_success();
    fs::read_to_string(out).unwrap()
}

fn fish(scratch: &Scratch, line: &str) -> String {
    let code = format!(
        "source {}; complete -C '{line}'",
        file("seamless-run.fish").display()
    );
    let shell = shell(scratch, "fish").args(["--no-config", "-c", &code]);
    shell.finish().expect_success().stdout
}

/// What is typed, what has to be offered, and what must not be.
const CASES: &[(&str, &[&str], &[&str])] = &[
    ("seamless-run st", &["status", "stop"], &["restart"]),
    (
        "seamless-run ",
        &["status", "restart", "stop", "notify", "check"],
        &[],
    ),
    (
        "seamless-run --re",
        &["--ready", "--ready-timeout"],
        &["--listen"],
    ),
    ("seamless-run --dry", &["--dry-run"], &[]),
    ("seamless-run check --dry", &[], &["--dry-run"]),
    (
        "seamless-run --ready ",
        &["notify", "fd:", "listen:", "exec:"],
        &[],
    ),
    ("seamless-run -r l", &["listen:"], &["notify"]),
    ("seamless-run --listen-env n", &["nginx"], &["systemd"]),
    ("seamless-run --drain-signal Q", &["QUIT"], &["TERM"]),
    ("seamless-run --prepare-signal n", &["none"], &["QUIT"]),
    ("seamless-run -p ap", &["app.pid"], &["--name"]),
    ("seamless-run status ap", &["app.pid"], &[]),
    (
        "seamless-run status --",
        &["--json", "--watch", "--quiet"],
        &["--listen", "--old"],
    ),
    ("seamless-run restart --timeout 3", &["30s"], &["none"]),
    ("seamless-run stop --", &["--old"], &["--json"]),
    (
        "seamless-run notify st",
        &["started", "stopping", "status"],
        &["prepared"],
    ),
    ("seamless-run check --u", &["--unit", "--user"], &[]),
    // The command, and what is its own.
    ("seamless-run -p x slee", &["sleep"], &[]),
    ("seamless-run --listen http=:80 -- slee", &["sleep"], &[]),
    (
        "seamless-run -p x -- seamless-run sto",
        &["stop"],
        &["status"],
    ),
    (
        "seamless-run -p x seamless-run stop --",
        &["--old"],
        &["--listen"],
    ),
    // A verb is the first word only.
    ("seamless-run -q notif", &[], &["notify"]),
];

#[test]
fn each_shell_offers_what_can_be_typed_there() {
    let scratch = Scratch::new();
    fs::write(scratch.join("app.pid"), "").unwrap();
    for Shell { name, offers } in SHELLS {
        for (line, wanted, unwanted) in CASES {
            let text = offers(&scratch, line);
            // fish adds what it is, and bash and zsh what the terminal has already.
            let words: BTreeSet<&str> = text
                .lines()
                .map(|line| line.split('\t').next().unwrap().trim_end())
                .collect();
            for word in *wanted {
                assert!(
                    words.contains(word),
                    "{name}: {line:?} lacks {word}: {words:?}"
                );
            }
            for word in *unwanted {
                assert!(!words.contains(word), "{name}: {line:?} has {word}");
            }
        }
    }
}

/// An action stands behind a `=`, at which bash cuts words.
#[test]
fn an_action_is_offered_for_a_signal() {
    let scratch = Scratch::new();
    for Shell { name, offers } in SHELLS {
        let text = offers(&scratch, "seamless-run --on TERM=re");
        let mut words = text.lines().map(|line| line.split('\t').next().unwrap());
        let is_it = |word: &str| matches!(word, "restart" | "TERM=restart");
        assert!(words.clone().any(is_it), "{name}: {text:?}");
        assert!(words.all(|word| !word.contains("stop")), "{name}: {text:?}");
    }
}
