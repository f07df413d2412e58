//! The record, by the program and by the client crate (R5, R18, R25).

use super::client;
use super::{text, with_line};
use crate::files::{Entry, Record, State};
use crate::process::Identity;

pub(super) fn record(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let client = client::record::Record::parse(text, "a-b");
    if let Ok(mut record) = client {
        record.add(client::record::Identity { pid: 7, start: 8 }, 15);
        let rendered = record.render("a-b");
        let again = client::record::Record::parse(&rendered, "a-b");
        if !text.contains('\r') {
            assert_eq!(again.map(|again| again.render("a-b")), Ok(rendered));
        }
    }
    let Ok(record) = Record::parse(text) else {
        return;
    };
    assert!(record.generations.len() < text.lines().count());
    assert!(record.next() > record.last || record.last == u32::MAX);
    record.generations.iter().for_each(believable);
    // Where a line ends in a carriage return, what is written loses it.
    if text.contains('\r') {
        return;
    }
    let written = record.to_string();
    assert_eq!(Record::parse(&written).as_ref(), Ok(&record), "{written}");
    later_version(&record, &written);
    by_the_client(&record, &written);
}

/// Nothing negative and no 0 is ever taken for a process, by the program or by the client.
fn believable(entry: &Entry) {
    let others = [entry.keeper, entry.launcher, entry.supervisor];
    for identity in others.into_iter().flatten().chain([entry.daemon]) {
        let Identity { pid, .. } = identity;
        assert!(pid > 0, "{identity}");
        let clients = identity.to_string().parse::<client::record::Identity>();
        assert_eq!(clients.map(|clients| clients.pid), Ok(pid));
    }
    assert!(entry.drain.signal.can_be_caught());
}

/// What a later version adds changes nothing (R25).
fn later_version(record: &Record, written: &str) {
    let first = written.find('\n').map_or(0, |end| end + 1);
    let line = with_line(written, "weather fine", first);
    assert_eq!(Record::parse(&line).as_ref(), Ok(record), "{line}");
    let minor = written.replacen("1.0", "1.99 beta", 1);
    assert_eq!(Record::parse(&minor).as_ref(), Ok(record));
    let major = written.replacen("1.0", "2.0", 1);
    assert!(Record::parse(&major).is_err());

    let words: Vec<String> = written.lines().map(with_word).collect();
    let mut later = Record::parse(&words.join("\n")).expect("it was read without that word");
    for entry in &mut later.generations {
        assert_eq!(entry.unknown.pop().as_deref(), Some("weather=fine"));
    }
    assert_eq!(&later, record);
}

fn with_word(line: &str) -> String {
    match line.split_once(' ') {
        Some(("generation", _)) => format!("{line} weather=fine"),
        Some(("socket", label)) => match label.split_once(' ') {
            Some((name, rest)) => format!("socket {name} weather=fine {rest}"),
            None => line.to_owned(),
        },
        _ => line.to_owned(),
    }
}

/// Program and client read the same in it; and what the client writes, the program reads as the same.
fn by_the_client(record: &Record, written: &str) {
    let clients = client::record::Record::parse(written, &record.boot);
    let clients = clients.expect("what the program writes, the client can read");
    assert_eq!(clients.generations.len(), record.generations.len());
    for (theirs, ours) in clients.generations.iter().zip(&record.generations) {
        assert_eq!(theirs.number, ours.number);
        let shown =
            |identity: Option<client::record::Identity>| identity.map(|one| one.to_string());
        assert_eq!(shown(theirs.daemon()), Some(ours.daemon.to_string()));
        let keeper = ours.keeper.map(|keeper| keeper.to_string());
        assert_eq!(shown(theirs.keeper()), keeper);
        assert_eq!(theirs.is_draining(), ours.state == State::Draining);
        let drain = theirs.drain().unwrap_or(nix::libc::SIGTERM);
        assert_eq!(drain, ours.drain.signal.number());
    }
    let rewritten = Record::parse(&clients.render(&record.boot));
    assert_eq!(rewritten.as_ref(), Ok(record), "as the client writes it");
}
