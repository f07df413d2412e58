//! Units, as `systemctl show` tells of them, and supervisord's configuration. Root writes them, or whose manager it is.

use std::collections::HashMap;

use super::{text, with_line};
use crate::check::reading::exec_start;
use crate::check::reading::supervisord::sections;
use crate::check::reading::unit::{Span, Unit, read};

pub(super) fn unit(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let properties = read(text);
    assert!(properties.len() <= text.lines().count());
    let mut later = read(&with_line(text, "WeatherOfToday=fine", 0));
    later.remove("WeatherOfToday");
    // A line that follows no newline is the last one's.
    if text.ends_with('\n') {
        assert_eq!(later, properties);
    }
    time(text);
    properties.values().for_each(|value| time(value));
    // Files are another matter: which ones, root says.
    let lines = text.lines().filter(|line| line.starts_with("Environment="));
    let lines: Vec<&str> = lines.collect();
    let environment = exec_start::environment(&lines.join("\n"));
    launch(text, environment);
}

fn time(text: &str) {
    let Some(Span::Of(time)) = Span::parse(text) else {
        return;
    };
    assert!(Span::Of(time) < Span::Infinite);
    // Of spaces alone there is no time; systemd writes none.
    assert!(time.is_zero() || text.bytes().any(|byte| byte.is_ascii_digit()));
}

/// The words of `ExecStart=`, which are divided by single spaces, and have lost their quotes.
fn launch(argv: &str, environment: HashMap<String, String>) {
    let argv = argv
        .replace(" ; ignore_errors=", " ")
        .replace(['\n', '\0'], " ");
    let line =
        format!("{{ path=/nowhere/x ; argv[]=seamless-run {argv} ; ignore_errors=no ; pid=0 }}");
    let unit = Unit {
        name: "app.service".to_owned(),
        properties: [("ExecStart".to_owned(), line)].into(),
        environment,
        ..Unit::default()
    };
    let Ok(launch) = unit.launch() else { return };
    assert!(launch.exec);
    if !argv.contains('$') {
        let words: Vec<&str> = launch
            .before
            .iter()
            .chain(&launch.words)
            .map(|word| word.text.as_str())
            .collect();
        let typed: Vec<&str> = ["seamless-run"]
            .into_iter()
            .chain(argv.split(' '))
            .collect();
        assert_eq!(words, typed);
    }
}

pub(super) fn ini(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let found = sections(text);
    let settings = || found.values().flatten();
    let length: usize = settings().map(|(key, value)| key.len() + value.len()).sum();
    // An upper-case letter may be longer than its lower-case one, but these are not.
    assert!(length <= text.len() + text.lines().count());
    for (key, value) in settings() {
        assert_eq!(key, &key.to_ascii_lowercase());
        assert!(!key.contains('\n') && !value.contains('\n'));
    }
    assert_eq!(sections(&with_line(text, "; weather = fine", 0)), found);
    let mut later = sections(&format!("{text}\n[weather]\ntoday = fine\n"));
    let weather = later.remove("weather").unwrap_or_default();
    if !text.contains("weather") {
        assert_eq!(
            weather,
            HashMap::from([("today".to_owned(), "fine".to_owned())])
        );
        let not_empty = |all: &HashMap<String, HashMap<String, String>>| {
            let all = all.clone().into_iter();
            all.filter(|(_, settings)| !settings.is_empty())
                .collect::<HashMap<_, _>>()
        };
        assert_eq!(not_empty(&later), not_empty(&found));
    }
}
