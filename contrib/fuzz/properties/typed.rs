//! Times, signals, rules and conditions, as they are typed (§9), and signals in a record.

use std::time::Duration;

use super::client::signals::by_name;
use super::{assert_one_line, text};
use crate::cli;
use crate::daemon::Drain;
use crate::ready::When;
use crate::signals::{Meaning, Signal};

pub(super) fn typed(data: &[u8]) {
    let Some(text) = text(data) else { return };
    time(text);
    signal(text);
    rule(text);
    condition(text);
    if let Some(drain) = Drain::parse(text) {
        assert!(drain.signal.can_be_caught());
        assert_eq!(Drain::parse(&drain.to_string()), Some(drain));
    }
}

fn time(text: &str) {
    let Some(Some(time)) = cli::parse_time(text) else {
        return;
    };
    assert!(!time.is_zero());
    let written = format!("{}s", time.as_secs_f64());
    let again = cli::parse_time(&written).flatten();
    is_about(again.expect("what is written can be read"), time);
    assert_eq!(cli::parse_time(&format!("-{text}")), None);
}

fn is_about(one: Duration, other: Duration) {
    let (one, other) = (one.as_secs_f64(), other.as_secs_f64());
    assert!((one - other).abs() <= 2e-9 + other * 1e-12, "{one} {other}");
}

/// A signal is one of this machine's, by every reader; the client's names are the program's.
fn signal(text: &str) {
    let signal = Signal::parse(text);
    if let Some(signal) = signal {
        assert!((1..=64).contains(&signal.number()));
        assert_eq!(Signal::parse(&signal.to_string()), Some(signal));
        assert_eq!(signal.bit().trailing_zeros(), signal.number() as u32 - 1);
        if signal.can_be_caught() {
            assert_eq!(by_name(&signal.to_string()), Some(signal.number()));
        }
    }
    // Of `RTMIN++2` the client makes what the program does not.
    if let Some(number) = by_name(text).filter(|_| !text.contains("++")) {
        assert_eq!(signal.map(Signal::number), Some(number), "{text}");
    }
}

fn rule(text: &str) {
    match cli::parse_on(text) {
        Ok((signal, meaning)) => {
            assert!(signal.can_be_caught() && signal != Signal::CHLD);
            if let Meaning::Forward(other) = meaning {
                assert!((1..=64).contains(&other.number()));
            }
        }
        Err(error) => assert_one_line(&error.to_string()),
    }
}

fn condition(text: &str) {
    let Ok(when) = When::parse(text, |time| cli::time("--ready after", time)) else {
        return;
    };
    let written = when.to_string();
    let again = When::parse(&written, |time| cli::time("--ready after", time));
    let again = again.expect("what is written can be read");
    match (&when, &again) {
        (When::After(one), When::After(other)) => is_about(*one, *other),
        _ => assert_eq!(again, when, "{written}"),
    }
    if let When::Descriptor(number) = when {
        assert!(number >= 3);
    }
}
