//! Datagrams of daemons, what goes up to the supervisor, and what is typed to make one (R22, R23).
//! Anybody on the machine can send one.

use std::collections::{HashSet, VecDeque};

use super::client::wire;
use super::{assert_one_line, text, with_line};
use crate::generation::Voice;
use crate::notify::{LONGEST, Message, Notice, Statement, make_room, verb};

pub(super) fn notify(data: &[u8]) {
    let message = Message::parse(data);
    if let Some(text) = text(data) {
        relayed(text);
        of_the_client(text);
        queued(text);
    }
    let Some(message) = message else { return };
    let text = text(data).expect("what is no UTF-8 says nothing");
    assert_eq!(message.text, text);
    assert!(!text.contains('\0'));
    let lines = lines_of(text);
    let ours = lines.iter().any(|line| line.starts_with("X_SEAMLESS="));
    let voice = if ours { Voice::Ours } else { Voice::Plain };
    assert_eq!(message.voice, voice);
    assert!(message.statements.len() <= lines.len());
    for statement in &message.statements {
        let said = match statement {
            Statement::Ready => lines.contains("READY=1") || lines.contains("X_SEAMLESS=started"),
            Statement::Prepared => lines.contains("X_SEAMLESS=prepared"),
            Statement::Stopping => lines.contains("STOPPING=1"),
            Statement::Status(words) => lines.contains(&*format!("STATUS={words}")),
            Statement::Unknown(word) => lines.contains(&*format!("X_SEAMLESS={word}")),
        };
        assert!(said, "{statement:?}");
    }
    // R25.
    let later = Message::parse(with_line(text, "WEATHER=fine", 0).as_bytes());
    let later = later.expect("it was read without that line");
    assert_eq!(later.voice, message.voice);
    assert_eq!(later.statements, message.statements);
}

/// As systemd divides it.
fn lines_of(text: &str) -> HashSet<&str> {
    text.split(['\n', '\r']).collect()
}

const NEVER: [&str; 4] = ["MAINPID", "STOPPING", "NOTIFYACCESS", "X_SEAMLESS"];

/// What a supervisor hears was said, and is nothing that is ours to say.
fn relayed(text: &str) {
    let said = lines_of(text);
    for (ready, brings) in [(false, false), (false, true), (true, false), (true, true)] {
        let Some(notice) = Notice::of(text, ready, brings) else {
            continue;
        };
        assert!(notice.text.len() <= text.len());
        for line in notice.text.split(['\n', '\r']) {
            let key = line.split('=').next().unwrap_or_default();
            assert!(!NEVER.contains(&key), "{line}");
            assert!(ready || key != "READY", "{line}");
            assert!(brings || !matches!(key, "FDSTORE" | "BARRIER"), "{line}");
            let started = line == "READY=1" && said.contains("X_SEAMLESS=started");
            assert!(said.contains(line) || started, "{line}");
        }
        let again = Notice::of(&notice.text, ready, brings);
        assert_eq!(again.map(|again| again.text), Some(notice.text));
    }
    let shown = Notice::status(text).text;
    assert_one_line(&shown);
    assert_eq!(shown.chars().count(), text.chars().count() + 7);
}

/// Whatever text a daemon gives for its status, it says that and nothing else.
fn of_the_client(text: &str) {
    let line = wire::one_line(text, 1024);
    assert!(line.len() <= 1024);
    let message = Message::parse(format!("STATUS={line}").as_bytes()).expect("it is a message");
    assert_eq!(message.voice, Voice::Plain);
    assert_eq!(message.statements, [Statement::Status(line)]);
    match wire::understand(text.as_bytes()) {
        wire::Answer::Ok => assert_eq!(text.trim_end(), "ok"),
        wire::Answer::Error(words) | wire::Answer::Unknown(words) => {
            assert!(words.len() <= text.len().min(4096));
            assert_one_line(&words);
        }
        wire::Answer::Silence | wire::Answer::Nobody => panic!("it has answered"),
    }
}

/// However much is said, little waits, and readiness is never dropped for it (R24).
fn queued(text: &str) {
    let mut queue = VecDeque::new();
    let lines = text.lines().take(200);
    let readiness = lines.clone().filter(|line| *line == "READY=1").count();
    for line in lines {
        make_room(&mut queue, |notice| Some(notice));
        queue.push_back(Notice::new(line.to_owned()));
    }
    let kept = queue
        .iter()
        .filter(|notice| notice.text == "READY=1")
        .count();
    assert_eq!(kept, readiness);
    assert!(queue.len() <= 200);
}

/// What ends a line for whoever reads it.
const LINE_ENDS: [char; 2] = ['\n', '\r'];

/// `seamless-run notify WORD...`: what is typed is what is said, line by line.
pub(super) fn words(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let words: Vec<String> = text.split('\0').map(str::to_owned).collect();
    let said = match verb::message(&words) {
        Ok(said) => said,
        // It repeats what was typed, at most as Rust spells it.
        Err(error) => return assert_one_line(&error.to_string()),
    };
    assert!(said.len() <= LONGEST);
    let message = Message::parse(said.as_bytes()).expect("what can be said can be heard");
    assert_eq!(message.voice, Voice::Ours, "it is answered");
    let lines = said.split(LINE_ENDS).count();
    let reloads = words.iter().filter(|word| *word == "reloading").count();
    // `status` takes a word, and `ask` may come on top.
    assert!(lines <= words.len() + reloads + 1, "{said:?}");
}
