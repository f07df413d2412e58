//! The pages, against what the program does: what `docs/stability.md` promises, what they quote, where links lead.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{place, read};
use crate::stage::{BY_CHLD, STARTED, Stage};
use crate::support::{self, Spawn};

/// Every name in backquotes.
fn quoted(text: &str) -> BTreeSet<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Every key of every object in it.
fn keys(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                into.insert(key.clone());
                keys(value, into);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| keys(value, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_key_of_json_is_promised() {
    let page = read("docs/stability.md");
    let stage = Stage::new();
    let file = stage.pid_file.to_str().unwrap();
    let run = |words: &[&str]| {
        Spawn::new(&stage.scratch, support::program())
            .args(words)
            .finish()
    };
    let found = |words: &[&str]| {
        let mut found = BTreeSet::new();
        keys(
            &serde_json::from_str(&run(words).stdout).unwrap(),
            &mut found,
        );
        found
    };
    let promised = |beginning: &str| -> BTreeSet<String> {
        let (_, rest) = page.split_once(beginning).expect(beginning);
        let sentence = rest.split(['.', '\n']).next().expect("a sentence");
        quoted(sentence).into_iter().map(str::to_owned).collect()
    };
    let status = ["status", "--json", file];
    // One in standby, with a deadline and a socket; then one that fails after it.
    let options = ["--listen", "http=127.0.0.1:0", "--orphan-timeout", "1h"];
    let (launcher, _) = stage.daemon(&options, STARTED, BY_CHLD);
    launcher.signal(Signal::SIGTERM);
    launcher.finish();
    let mut of_status = found(&status);
    stage.seamless_run(&["--", "false"]).finish();
    of_status.extend(found(&status));
    assert_eq!(of_status, promised("`status --json`: "));
    let check = [
        "check", "--json", "-p", file, "-l", "[::1]:0", "--", "sleep",
    ];
    assert_eq!(found(&check), promised("`check --json`: "));
    run(&["stop", file]).expect_success();
    stage.scratch.wait_no_processes_but(&[]);
}

/// The names of the variables that `env` prints.
fn variables(printed: &str) -> BTreeSet<&str> {
    let names = printed
        .lines()
        .filter_map(|line| line.split_once('=').map(|(name, _)| name));
    names.collect()
}

#[test]
fn every_variable_is_promised() {
    let page = read("docs/stability.md");
    let promised = quoted(&page);
    let stage = Stage::new();
    let printed = |arguments: &[&str], program: PathBuf| {
        let spawn = Spawn::new(&stage.scratch, program).args(arguments);
        spawn.finish().stdout
    };
    let file = stage.pid_file.to_str().unwrap();
    let bare = printed(&[], support::tool("env", "coreutils"));
    let bare = variables(&bare);
    let before = stage.scratch.join("before");
    let keep = format!("env >{}", before.display());
    let mut all = BTreeSet::new();
    for convention in ["systemd", "nginx", "server-starter"] {
        let options = [
            "-q",
            "-p",
            file,
            "--listen",
            "127.0.0.1:0",
            "--listen-env",
            convention,
            "--prepare-signal",
            "USR1",
            "--drain-signal",
            "QUIT",
            "--pre-start",
            &keep,
            "env",
        ];
        let daemons = printed(&options, support::program());
        assert!(daemons.contains("SEAMLESS="), "{daemons}");
        let commands = fs::read_to_string(&before).unwrap();
        for name in variables(&daemons).union(&variables(&commands)) {
            // A shell's own.
            if !bare.contains(name) && !["_", "PWD", "OLDPWD", "SHLVL"].contains(name) {
                assert!(promised.contains(name), "{name}");
                all.insert((*name).to_owned());
            }
        }
    }
    let here = section_of("### Variables", &page);
    let (daemon, gone) = here.split_once("No other one").expect("a last sentence");
    assert!(gone.contains("LISTEN_PIDFDID"));
    let mut named = quoted(daemon);
    named.retain(|word| !word.starts_with("--") && *word != "WATCHDOG_PID");
    let all: BTreeSet<&str> = all.iter().map(String::as_str).collect();
    assert_eq!(named, all, "WATCHDOG_PID is systemd's");
}

/// Between a heading and the next one.
fn section_of<'a>(heading: &str, page: &'a str) -> &'a str {
    let (_, rest) = page.split_once(heading).expect("the heading");
    rest.split("\n#").next().unwrap_or(rest)
}

/// Everything that the program could say.
fn source(directory: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.push_str(&source(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(path).unwrap();
            // What is said about it is not said by it.
            let code = text.lines().filter(|line| !line.trim().starts_with("//"));
            code.for_each(|line| {
                all.push_str(line);
                all.push('\n');
            });
        }
    }
    all
}

/// What a page quotes of the log: indented lines of a service or of the program, and the first cells of a table of
/// lines.
fn lines_in(page: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut in_table = false;
    for line in page.lines() {
        in_table = line.starts_with("| line |") || (in_table && line.starts_with('|'));
        if in_table {
            let cell = line.split('|').nth(1).unwrap_or_default();
            lines.extend(quoted(cell));
        }
        let own = ["    app: ", "    seamless-run: "];
        lines.extend(own.iter().find_map(|own| line.strip_prefix(own)));
    }
    lines
}

/// Words that stand in the place of others.
const VALUES: [&str; 4] = ["runit", "generation", "s", "open"];

#[test]
fn every_line_that_is_quoted_is_said() {
    let source = source(&place("src"));
    // Not a name, a number, a path, an option, a value.
    let is_fixed = |word: &&str| {
        let bare = word.trim_matches([',', ';', ':', '(', ')']);
        let plain = |char: char| char.is_ascii_lowercase() || "'-".contains(char);
        bare.starts_with(|char: char| char.is_ascii_lowercase())
            && bare.chars().all(plain)
            && !VALUES.contains(&bare)
    };
    // What stands after these may come from elsewhere.
    let goes_on = |word: &&str| !word.ends_with([';', ':', ')']);
    let mut looked_at = 0;
    for page in ["docs/operators.md", "docs/troubleshooting.md"] {
        for line in lines_in(&read(page)) {
            let words: Vec<&str> = line.split_whitespace().collect();
            for three in words.windows(3) {
                if !three.iter().all(is_fixed) || !three[..2].iter().all(goes_on) {
                    continue;
                }
                let three = three.join(" ");
                let bare = three.trim_matches([',', ';', ':', '(', ')']);
                assert!(
                    source.contains(bare),
                    "{page}: {line:?}: {bare:?} is never said"
                );
                looked_at += 1;
            }
        }
    }
    assert!(looked_at > 100, "{looked_at}");
}

/// As GitHub makes them of headings.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text
        .chars()
        .filter(|char| char.is_alphanumeric() || " -_".contains(*char));
    kept.map(|char| if char == ' ' { '-' } else { char })
        .collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut pages = vec![place("README.md"), place("CHANGELOG.md")];
    for entry in fs::read_dir(place("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
    let mut links = 0;
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            if target.contains("://") || target.contains(' ') {
                continue;
            }
            let (path, fragment) = target.split_once('#').unwrap_or((target, ""));
            let leads_to = match path {
                "" => page.clone(),
                _ => page.parent().unwrap().join(path),
            };
            let here = format!("{}: {target}", page.display());
            assert!(leads_to.exists(), "{here}");
            if !fragment.is_empty() {
                let there = fs::read_to_string(&leads_to).unwrap();
                let mut anchors = there.lines().filter(|line| line.starts_with('#'));
                assert!(anchors.any(|line| anchor(line) == fragment), "{here}");
            }
            links += 1;
        }
    }
    assert!(links > 50, "{links}");
}
