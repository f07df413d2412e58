//! What keepers and verbs say to each other (R25). Root and the keeper's own user are listened to.

use super::{text, with_line};
use crate::control::Message;

pub(super) fn control(data: &[u8]) {
    let message = match Message::parse(data) {
        Ok(message) => message,
        Err(unreadable) => {
            // It is the answer, and goes into a log.
            assert!(unreadable.0.len() <= 100 + 10 * data.len());
            return;
        }
    };
    let text = text(data).expect("it was read");
    bounded(&message, text);
    let written = message.to_string();
    let again = Message::parse(written.as_bytes()).expect("what is written can be read");
    // Whatever would end a line early is written as a space; nothing of ours has any.
    let plain = |character: char| character == '\n' || !character.is_control();
    assert!(written.chars().all(plain), "{written:?}");
    if text.chars().all(plain) {
        assert_eq!(again, message, "{written}");
    }
    later_version(&message, text);
}

/// A message is no larger than its text, and no PID in it is senseless.
fn bounded(message: &Message, text: &str) {
    assert!(message.to_string().len() <= 1000 + 200 * text.len());
    let Message::State(state) = message else {
        return;
    };
    assert!(state.generations.len() < text.lines().count());
    for standing in &state.generations {
        let identities = [standing.daemon, standing.keeper, standing.launcher];
        for identity in identities.into_iter().flatten() {
            assert!(identity.pid > 0);
        }
    }
}

fn later_version(message: &Message, text: &str) {
    let head = text.find('\n').map_or(text.len(), |end| end + 1);
    let line = with_line(text, "weather=fine", head);
    assert_eq!(Message::parse(line.as_bytes()).as_ref(), Ok(message));
    let (first, rest) = text.split_at(head);
    let first = first.trim_end_matches('\n');
    let mut words: Vec<&str> = first.split(' ').collect();
    words[1] = "1.99";
    words.push("beta");
    let later = format!("{}\n{rest}", words.join(" "));
    assert_eq!(Message::parse(later.as_bytes()).as_ref(), Ok(message));
    words[1] = "2.0";
    let other = format!("{}\n{rest}", words.join(" "));
    assert!(Message::parse(other.as_bytes()).is_err());
}
