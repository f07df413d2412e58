//! What systemctl and supervisord answer, and the cgroup. Root's, or of the user who runs the manager.

use super::{text, with_line};
use crate::generation::Wish;
use crate::supervisor::{Program, Unit, supervisord};

pub(super) fn managers(data: &[u8]) {
    let Some(text) = text(data) else { return };
    jobs(text);
    states(text);
    cgroup(text);
    answer(text);
}

fn jobs(text: &str) {
    let unit = Unit {
        name: "app.service".to_owned(),
        of_user: false,
    };
    let wish = unit.read_job(text);
    let stops = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        words.get(1..3) == Some(&["app.service", "stop"])
    };
    assert!(wish == Wish::Up || text.lines().any(stops));
    if !text.lines().any(stops) {
        assert_eq!(wish, Wish::Up);
    }
    let other = with_line(text, "7 other.service stop running", 0);
    assert_eq!(unit.read_job(&other), wish);
}

fn states(text: &str) {
    let wish = Unit::read_state(text);
    assert_eq!(Unit::read_state(&with_line(text, "Weather=fine", 0)), wish);
    let says = |state: &str| {
        text.lines()
            .any(|line| line == format!("ActiveState={state}"))
    };
    if wish == Wish::Down {
        assert!(says("inactive") || says("failed"));
    }
    if let Err(words) = Unit::read_restart(text) {
        assert!(text.trim().starts_with("Restart="), "{words}");
    }
}

fn cgroup(text: &str) {
    if let Some(unit) = Unit::in_cgroup(text) {
        assert!(unit.name.ends_with(".service") && !unit.name.contains('/'));
        assert!(!unit.name.starts_with("user@") && text.contains(&unit.name));
        let more = with_line(text, "7:weather:/fine.service", 0);
        assert_eq!(Unit::in_cgroup(&more), Some(unit));
    }
}

fn answer(text: &str) {
    if let Some(state) = supervisord::state_in(text) {
        assert!(text.contains(&state) && !state.contains("</string>"));
        let wish = Program::read_state(&state);
        assert!(wish != Wish::Down || state == "STOPPED");
    }
    // What a program's description holds, XML has escaped.
    let escaped = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let member = |name: &str, value: &str| {
        format!(
            "<member>\n<name>{name}</name>\n<value><string>{value}</string></value>\n</member>\n"
        )
    };
    let all = [
        member("description", &escaped),
        member("statename", "RUNNING"),
        member("spawnerr", &escaped),
    ];
    let state = supervisord::state_in(&format!(
        "HTTP/1.0 200 OK\r\n\r\n<struct>{}</struct>",
        all.concat()
    ));
    assert_eq!(state.as_deref(), Some("RUNNING"));
}
