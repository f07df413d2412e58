//! The words of run scripts, and of the tools before the program. Whoever owns the service directory writes them.

use std::path::Path;

use super::text;
use crate::check::reading::directory::makes;
use crate::check::reading::kernel::hides;
use crate::check::{script, tools};

pub(super) fn script(data: &[u8]) {
    if let Some(name) = script::interpreter(data) {
        assert!(!name.contains(|one: char| one.is_ascii_whitespace()));
    }
    let lossy = String::from_utf8_lossy(data);
    let commands = script::commands(&lossy);
    let words = || commands.iter().flatten();
    assert!(commands.iter().all(|words| !words.is_empty()));
    // Nothing is read twice, and in order.
    let mut rest = &*lossy;
    for word in words() {
        assert!(word.text.len() <= word.raw.len());
        let at = rest.find(&word.raw).expect("it stands there");
        rest = &rest[at + word.raw.len()..];
    }
    if let Ok(launch) = script::find_launch(&lossy) {
        assert!(launch.words.len() > 1);
        assert!(script::is_program(&launch.words[0].text));
        let all = launch.before.iter().chain(&launch.words);
        assert!(all.count() <= words().count());
    }
    for command in commands.iter().take(20) {
        let words: Vec<&str> = command.iter().map(|word| word.text.as_str()).collect();
        assert!(words.ends_with(tools::behind(&words)));
        if let Some(user) = tools::user_anywhere(&words) {
            assert!(words.iter().any(|word| word.ends_with(user)));
        }
    }
    let _ = script::makes_directory(&lossy, Path::new("/run/app"));
    if makes(&lossy, Path::new("/run/app")) {
        assert!(lossy.contains("run/app"));
    }
    if let Some(option) = hides(&lossy) {
        assert!(lossy.contains(&option) && option.starts_with("hidepid="));
    }
    if let Some(text) = text(data) {
        quoted(text);
    }
}

/// Whatever is quoted is read as it is.
fn quoted(text: &str) {
    let words: Vec<&str> = text.split('\0').take(50).collect();
    let quoted: Vec<String> = words
        .iter()
        .map(|word| format!("'{}'", word.replace('\'', "'\\''")))
        .collect();
    let line = format!("exec /opt/seamless-run {}", quoted.join(" "));
    let commands = script::commands(&line);
    assert_eq!(commands.len(), 1);
    let read: Vec<&str> = commands[0][2..]
        .iter()
        .map(|word| word.text.as_str())
        .collect();
    assert_eq!(read, words);
    let verbs = ["status", "restart", "stop", "notify", "check"];
    if !verbs.contains(&words[0]) {
        let launch = script::find_launch(&line).expect("nothing has to be expanded");
        assert!(launch.exec && !launch.aside && launch.words.len() == words.len() + 1);
    }
}
