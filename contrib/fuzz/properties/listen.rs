//! `--listen`, the labels of held sockets, and what a supervisor says that it passes (§9, §5).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::{assert_one_line, text};
use crate::listen::address::{Address, Place};
use crate::listen::{Convention, Label, Passed, Wanted};

pub(super) fn listen(data: &[u8]) {
    match Wanted::parse(OsStr::from_bytes(data)) {
        Ok(wanted) => typed(&wanted, text(data).expect("it was read")),
        Err(error) => assert_one_line(&error.to_string()),
    }
    let Some(text) = text(data) else { return };
    if let Ok(address) = Address::parse(text) {
        written(&address);
    }
    label(text);
    passed(text);
    let _ = Convention::parse(text)
        .map_err(|error| assert!(error.to_string().len() < 200 + 10 * text.len()));
}

fn typed(wanted: &Wanted, text: &str) {
    let usual = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    assert!((1..=255).contains(&wanted.name.len()) && wanted.name.bytes().all(usual));
    written(&wanted.address);
    assert_one_line(&wanted.label());
    let options = &wanted.options;
    assert!(options.backlog.is_none_or(|backlog| backlog > 0));
    assert!(options.mode.is_none_or(|mode| mode <= 0o7777));
    assert!(
        options
            .device
            .as_ref()
            .is_none_or(|device| (1..=15).contains(&device.len()))
    );
    // It excludes what is typed twice, unless the kernel is to share it out.
    let twice = Wanted::parse(OsStr::new(text)).expect("it was read once");
    assert_eq!(&twice, wanted);
    let shared = options.reuseport == Some(true);
    assert!(!(shared && wanted.excludes(&twice)));
    assert!(wanted.address.overlaps(&twice.address));
    // As it is called in messages it could be typed, but for commas, which end an address.
    let label = wanted.label();
    if !label.contains(',') {
        let again = Wanted::parse(OsStr::new(&label)).expect("its own label");
        assert_eq!(
            (again.name, again.address),
            (wanted.name.clone(), wanted.address.clone())
        );
    }
}

fn written(address: &Address) {
    let text = address.to_string();
    assert_one_line(&text);
    let again = Address::parse(&text).expect("what is written can be read");
    assert_eq!(&again, address, "{text}");
    match &address.place {
        Place::Path(path) => {
            assert!(path.is_absolute() && path.as_os_str().len() <= 107);
        }
        Place::Abstract(name) => assert!((1..=107).contains(&name.len())),
        Place::Internet { .. } => {}
    }
}

fn label(text: &str) {
    let Some(label) = Label::parse(text) else {
        return;
    };
    let written = label.to_string();
    assert_eq!(Label::parse(&written).as_ref(), Some(&label), "{written}");
    // R25.
    let (name, rest) = written.split_once(' ').expect("its name ends there");
    let later = format!("{name} weather=fine {rest}");
    assert_eq!(Label::parse(&later).as_ref(), Some(&label), "{later}");
}

fn passed(text: &str) {
    let (count, names) = text.split_once('\n').unwrap_or((text, ""));
    if let Ok(passed) = Passed::read(count, names) {
        let number = if count.is_empty() {
            Ok(0)
        } else {
            count.parse::<usize>()
        };
        assert_eq!(Ok(passed.names.len()), number);
        assert!(passed.end() >= 3);
    }
}
