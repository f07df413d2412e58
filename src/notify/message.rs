//! The words of a datagram: sd_notify's format, with `X_SEAMLESS=` for ours (R22).

use std::mem::discriminant;

use super::notice::lines_of;
use crate::generation::Voice;

/// One datagram, understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// In which voice it was said, as R6 asks.
    pub(crate) voice: Voice,
    pub(crate) statements: Vec<Statement>,
    /// As it was said, for whoever it is passed on to.
    pub(crate) text: String,
}

/// One thing that a daemon says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Statement {
    /// `X_SEAMLESS=started` or `READY=1`.
    Ready,
    /// `X_SEAMLESS=prepared`.
    Prepared,
    /// `STOPPING=1`.
    Stopping,
    /// `STATUS=…`.
    Status(String),
    /// A word of ours that this version does not know, to be answered with an error; of several the last.
    Unknown(String),
}

impl Message {
    /// What is not UTF-8, or holds a NUL, says nothing. Keys that nobody here acts on are skipped.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Message> {
        let text = std::str::from_utf8(bytes)
            .ok()
            .filter(|text| !text.contains('\0'))?;
        let mut message = Message {
            voice: Voice::Silent,
            statements: Vec::new(),
            text: text.to_owned(),
        };
        for line in lines_of(text) {
            let Some((key, value)) = line.split_once('=') else {
                continue;
            };
            let voice = if key == "X_SEAMLESS" {
                Voice::Ours
            } else {
                Voice::Plain
            };
            message.voice = message.voice.max(voice);
            let statement = match (key, value) {
                ("X_SEAMLESS", "started") | ("READY", "1") => Statement::Ready,
                ("X_SEAMLESS", "prepared") => Statement::Prepared,
                ("X_SEAMLESS", "ask") => continue,
                ("X_SEAMLESS", word) => Statement::Unknown(word.to_owned()),
                ("STOPPING", "1") => Statement::Stopping,
                ("STATUS", text) => Statement::Status(text.to_owned()),
                _ => continue,
            };
            // `READY=1` beside `X_SEAMLESS=started` says the same once more; of texts the last one counts.
            let same = |other: &Statement| discriminant(other) == discriminant(&statement);
            match message.statements.iter_mut().find(|other| same(other)) {
                Some(other) => *other = statement,
                None => message.statements.push(statement),
            }
        }
        (message.voice != Voice::Silent).then_some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Voice, Vec<Statement>) {
        let message = Message::parse(text.as_bytes()).unwrap();
        (message.voice, message.statements)
    }

    #[test]
    fn plain_words_and_ours_are_told_apart() {
        assert_eq!(parse("READY=1"), (Voice::Plain, vec![Statement::Ready]));
        assert_eq!(
            parse("X_SEAMLESS=started\n"),
            (Voice::Ours, vec![Statement::Ready])
        );
        assert_eq!(
            parse("READY=1\nX_SEAMLESS=started"),
            (Voice::Ours, vec![Statement::Ready])
        );
        assert_eq!(
            parse("X_SEAMLESS=prepared"),
            (Voice::Ours, vec![Statement::Prepared])
        );
        let status = Statement::Status("half = done".to_owned());
        assert_eq!(
            parse("STATUS=half = done\nX_SEAMLESS=ask"),
            (Voice::Ours, vec![status])
        );
        assert_eq!(
            parse("MAINPID=1\nREADY=0\nBARRIER=1"),
            (Voice::Plain, vec![])
        );
        let unknown = Statement::Unknown("fly".to_owned());
        assert_eq!(parse("X_SEAMLESS=fly"), (Voice::Ours, vec![unknown]));
    }

    #[test]
    fn of_what_is_said_twice_the_last_counts() {
        let many: String = (0..800)
            .map(|number| format!("STATUS={number}\n"))
            .collect();
        let last = Statement::Status("799".to_owned());
        assert_eq!(parse(&many), (Voice::Plain, vec![last]));
    }

    #[test]
    fn what_is_no_message_says_nothing() {
        for bytes in [&b""[..], b"\n", b"hello", b"READY=1\0", b"READY=\xff"] {
            assert_eq!(Message::parse(bytes), None);
        }
    }
}
