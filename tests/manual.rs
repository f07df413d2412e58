//! The man pages, against `--help`, `docs/verbs.md` and mandoc.

mod pages;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{self, Scratch, Spawn};

const VERBS: [&str; 5] = ["notify", "status", "restart", "stop", "check"];
/// All that the program ever says by its own exit status (§9): what else is a number in a help is none.
const STATUSES: [&str; 9] = ["0", "1", "2", "3", "4", "124", "125", "126", "127"];

/// `--name` or `-n`, with the name of its value and its default, where it has one.
type Options = BTreeMap<String, Described>;

#[derive(Debug, Default, PartialEq, Eq)]
struct Described {
    short: Option<String>,
    value: Option<String>,
    default: Option<String>,
}

fn place(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(place(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Of the program, or of one of its verbs.
fn page(verb: &str) -> String {
    match verb {
        "" => read("docs/man/seamless-run.1"),
        _ => read(&format!("docs/man/seamless-run-{verb}.1")),
    }
}

fn help(verb: &str) -> String {
    let scratch = Scratch::new();
    let words = [verb, "--help"];
    let words = words.iter().filter(|word| !word.is_empty());
    let finished = Spawn::new(&scratch, support::program())
        .args(words)
        .finish()
        .expect_success();
    finished.stdout
}

/// The options of a help, however it is laid out: a line that begins with them, alone or before two spaces; the default
/// where it says one in a word.
fn options_of_help(help: &str) -> Options {
    let mut options = Options::new();
    let mut last: Option<String> = None;
    let lines = help.lines().map(str::trim);
    for line in lines.take_while(|line| !line.starts_with("Examples")) {
        let head = line.split("  ").next().unwrap_or_default();
        let words: Vec<&str> = head.split_whitespace().collect();
        if head.starts_with('-') && words.len() <= 3 {
            let mut described = Described::default();
            for word in words {
                match word.trim_end_matches(',') {
                    long if long.starts_with("--") => last = Some(long.to_owned()),
                    short if short.starts_with('-') => described.short = Some(short.to_owned()),
                    value => {
                        let bare = value.trim_start_matches('<').trim_end_matches('>');
                        described.value = Some(bare.to_owned());
                    }
                }
            }
            let name = last.clone().expect("a long name");
            options.insert(name, described);
        }
        let default = match line.split_once("[default: ") {
            Some((_, rest)) => rest.split(']').next(),
            None => line.strip_prefix("Default: "),
        };
        if let Some(default) = default.filter(|default| !default.contains(' ')) {
            let name = last.as_ref().expect("an option before a default");
            let described = options.get_mut(name).expect("it was put there");
            described.default = Some(default.to_owned());
        }
    }
    assert!(options.contains_key("--help"), "{help}");
    options
}

/// The options of a page: what stands after `.It Fl`; a default is the word after a line that ends in `default is`.
fn options_of_page(page: &str) -> Options {
    let mut options = Options::new();
    let mut last = None;
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with(".Sh ") {
            last = None;
        }
        if line.ends_with("default is") {
            let name: &String = last.as_ref().expect("an option before a default");
            let said = lines.peek().and_then(|line| line.strip_prefix(".Cm "));
            let default = said.and_then(|words| words.split(' ').next());
            let described = options.get_mut(name).expect("it was put there");
            described.default = Some(default.expect("`.Cm` and the default").to_owned());
        }
        let Some(item) = line.strip_prefix(".It Fl ") else {
            continue;
        };
        let (mut name, mut described) = (None, Described::default());
        let mut words = item.split(' ');
        while let Some(word) = words.next() {
            match word {
                "Fl" | "," => {}
                "Ar" => described.value = words.next().map(str::to_owned),
                long if long.starts_with('-') => name = Some(format!("-{long}")),
                short => described.short = Some(format!("-{short}")),
            }
        }
        let name = name.unwrap_or_else(|| panic!("no long name: {line:?}"));
        options.insert(name.clone(), described);
        last = Some(name);
    }
    options
}

/// Those two are the same everywhere, and stand in the first page.
fn without_help(mut options: Options) -> Options {
    options.remove("--help");
    options.remove("--version");
    options
}

fn assert_same(verb: &str, page: &Options, options: &Options, help: &str) {
    let names: BTreeSet<&String> = page.keys().chain(options.keys()).collect();
    for name in names {
        let what = format!("{verb} {name}: in the page, and in --help");
        let (page, option) = (page.get(name), options.get(name));
        let names = |one: Option<&Described>| one.map(|one| (one.short.clone(), one.value.clone()));
        assert_eq!(names(page), names(option), "{what}");
        let default = |one: Option<&Described>| one.and_then(|one| one.default.clone());
        match (default(page), default(option)) {
            // A help may say it in a sentence.
            (Some(default), None) => assert!(help.contains(&default), "{what}: {default}"),
            (page, option) => assert_eq!(page, option, "{what}"),
        }
    }
}

#[test]
fn every_option_stands_in_its_page_and_no_other() {
    let help_of_run = help("");
    let run = options_of_help(&help_of_run);
    assert!(run.len() > 20, "{run:?}");
    assert_same("", &options_of_page(&page("")), &run, &help_of_run);
    let run = without_help(run);
    for verb in VERBS {
        let help = help(verb);
        let mut options = without_help(options_of_help(&help));
        if verb == "check" {
            // It takes those of the program, too, and its page says so.
            assert!(page(verb).contains("run options of\n.Xr seamless-run 1"));
            options.retain(|name, described| run.get(name) != Some(described));
        }
        let page = without_help(options_of_page(&page(verb)));
        assert_same(verb, &page, &options, &help);
    }
}

#[test]
fn the_words_of_notify_stand_in_its_page() {
    let help = help("notify");
    let page = page("notify");
    for word in [
        "started",
        "ready",
        "prepared",
        "stopping",
        "reloading",
        "watchdog",
        "status",
    ] {
        assert!(help.contains(word), "{word}: {help}");
        let named = |line: &str| {
            let words = line.strip_prefix(".It Cm ").unwrap_or_default();
            words.split([' ', ',']).any(|one| one == word)
        };
        assert!(page.lines().any(named), "{word}: {page}");
    }
}

fn section<'a>(page: &'a str, name: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("\n.Sh {name}\n")).expect(name);
    rest.split("\n.Sh ").next().unwrap_or(rest)
}

/// Every number that `docs/verbs.md` has for a verb.
fn statuses_of_verbs(verb: &str) -> BTreeSet<String> {
    let verbs = read("docs/verbs.md");
    let mut column = None;
    let mut found = BTreeSet::new();
    for line in verbs.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        if line.starts_with("## ") {
            column = (line == "## check" && verb == "check").then_some(1);
        }
        let head = cells.iter().position(|cell| {
            cell.strip_prefix('`')
                .is_some_and(|cell| cell.split([' ', '`']).next() == Some(verb))
        });
        column = column.or(head.filter(|_| line.starts_with("| |")));
        let cell = column.and_then(|column| cells.get(column));
        if STATUSES.contains(&cells[0]) && cell.is_some_and(|cell| *cell != "–") {
            found.insert(cells[0].to_owned());
        }
    }
    found
}

#[test]
fn the_exit_statuses_agree() {
    for verb in [""].into_iter().chain(VERBS) {
        let page = page(verb);
        let items = section(&page, "EXIT STATUS").lines();
        let in_page: BTreeSet<String> = items
            .filter_map(|line| line.strip_prefix(".It ").map(str::to_owned))
            .collect();
        for status in &in_page {
            assert!(STATUSES.contains(&status.as_str()), "{verb}: {status}");
        }
        let help = help(verb);
        let (_, said) = help.split_once("Exit status").expect("exit statuses");
        let said = said.split("\n\n").next().unwrap_or(said);
        let said: BTreeSet<String> = said
            .split(|char: char| !char.is_ascii_alphanumeric())
            .filter(|word| STATUSES.contains(word))
            .map(str::to_owned)
            .collect();
        assert!(!said.is_empty(), "{help}");
        assert!(
            said.is_subset(&in_page),
            "{verb}: {said:?} in the help, {in_page:?} in the page"
        );
        if matches!(verb, "status" | "restart" | "stop" | "check") {
            assert_eq!(statuses_of_verbs(verb), in_page, "{verb}: docs/verbs.md");
        }
    }
}

#[test]
fn mandoc_finds_no_fault_with_the_pages() {
    let scratch = Scratch::new();
    let mandoc = support::tool("mandoc", "mandoc");
    let mut pages = 0;
    for entry in fs::read_dir(place("docs/man")).unwrap() {
        let path = entry.unwrap().path();
        // A database of other pages on this machine is nobody's concern here: errors and warnings are.
        let finished = Spawn::new(&scratch, &mandoc)
            .args(["-Tlint", "-W", "warning"])
            .arg(&path)
            .finish();
        assert_eq!(finished.stdout, "", "{}", path.display());
        assert_eq!(finished.code(), Some(0), "{}", path.display());
        pages += 1;
    }
    assert_eq!(pages, 2 + VERBS.len());
}
