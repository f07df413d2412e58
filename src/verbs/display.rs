//! A view as text, and as JSON.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::Target;
use super::view::{Source, View, serves};
use crate::control::Standing;
use crate::paint::{Line, Style};
use crate::process::Identity;

/// For people: a line for each generation, and one for what else is to be said of it.
pub(super) fn text(target: &Target, view: &View) -> Vec<Line> {
    let name = &target.name;
    let begin = || Line::plain(format!("{name}: "));
    let mut lines = Vec::new();
    match &view.source {
        Source::Keeper => {}
        Source::Record(why) => {
            let line = begin().with(Style::Waiting, "by the record alone");
            lines.push(line.with(Style::Plain, format!(": {why}")));
        }
        Source::Nothing => lines.push(begin().with(Style::Bad, "nothing is running")),
        Source::Unknown(why) => {
            let line = begin().with(Style::Bad, "cannot tell what is running");
            lines.push(line.with(Style::Plain, format!(": {why}")));
        }
    }
    let timed = view.source == Source::Keeper;
    let standings = &view.state.generations;
    let cells: Vec<[String; 4]> = standings.iter().map(|one| cells(one, timed)).collect();
    let width = |column: usize| cells.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2), width(3)];
    for (standing, row) in standings.iter().zip(&cells) {
        let mut line = begin().with(Style::Plain, "generation");
        let mut gap = String::from(" ");
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            if width == 0 {
                continue;
            }
            let style = match column {
                PHASE => style(standing),
                _ => Style::Plain,
            };
            line = line.with(Style::Plain, gap).with(style, cell);
            gap = " ".repeat(2 + width - cell.len());
        }
        if !standing.command.is_empty() {
            line = line.with(Style::Plain, format!("{gap}{}", standing.command));
        }
        lines.push(line);
        let more = more(standing);
        if !more.is_empty() {
            let indent = name.len() + 2;
            lines.push(Line::plain(format!("{:indent$}{more}", "")));
        }
    }
    if let Some(failure) = &view.state.failure {
        let ago = span(failure.ago);
        let (number, why) = (failure.generation, &failure.why);
        let line = begin().with(Style::Bad, format!("generation {number} failed"));
        lines.push(line.with(Style::Plain, format!(" {ago} ago: {why}")));
    }
    lines
}

/// Which of the cells is the phase.
const PHASE: usize = 2;

fn style(standing: &Standing) -> Style {
    match standing.phase.as_str() {
        "serving" if standing.ready => Style::Good,
        "killing" | "holding" => Style::Bad,
        "draining" => Style::Aside,
        _ => Style::Waiting,
    }
}

fn cells(standing: &Standing, timed: bool) -> [String; 4] {
    let daemon = match standing.daemon {
        Some(daemon) => format!("pid {}", daemon.pid),
        None => "no daemon".to_owned(),
    };
    let never_ready =
        !standing.ready && !matches!(standing.phase.as_str(), "starting" | "draining");
    // "standby" alone sounds as if it did nothing.
    let serves_too = serves(standing) && standing.phase != "serving";
    let phase = match (never_ready, serves_too) {
        (true, _) => format!("{}, never ready", standing.phase),
        (false, true) => format!("{}, serves", standing.phase),
        (false, false) => standing.phase.clone(),
    };
    let age = timed.then(|| format!("for {}", span(standing.age)));
    let number = standing.number.to_string();
    [number, daemon, phase, age.unwrap_or_default()]
}

fn more(standing: &Standing) -> String {
    let mut parts = Vec::new();
    if let Some(deadline) = &standing.deadline {
        parts.push(format!("{} in {}", deadline.what, span(deadline.left)));
    }
    let mut process = |what: &str, identity: Option<Identity>| {
        parts.extend(identity.map(|identity| format!("{what} {}", identity.pid)));
    };
    process("keeper", standing.keeper);
    process("launcher", standing.launcher);
    for socket in &standing.sockets {
        parts.push(format!("{}={}", socket.name, socket.shown()));
    }
    if !standing.status.is_empty() {
        parts.push(format!("status: {}", standing.status));
    }
    parts.join(", ")
}

/// For programs: one object; `docs/protocol.md` promises the keys.
pub(super) fn json(target: &Target, view: &View, now: SystemTime) -> String {
    let (source, error) = match &view.source {
        Source::Keeper => (Some("keeper"), None),
        Source::Record(why) => (Some("record"), Some(why)),
        Source::Nothing => (None, None),
        Source::Unknown(why) => (None, Some(why)),
    };
    let generations = view.state.generations.iter();
    let generations: Vec<Value> = generations
        .map(|one| generation(one, source == Some("keeper"), now))
        .collect();
    let failure = view.state.failure.as_ref().map(|failure| {
        json!({
            "generation": failure.generation,
            "why": failure.why,
            "at": now.checked_sub(failure.ago).and_then(unix),
        })
    });
    json!({
        "file": target.files.pid_file.to_string_lossy(),
        "name": target.name,
        "source": source,
        "error": error,
        "generations": generations,
        "failure": failure,
    })
    .to_string()
}

fn generation(standing: &Standing, timed: bool, now: SystemTime) -> Value {
    let pid = |identity: Option<Identity>| identity.map(|identity| identity.pid);
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let since = now.checked_sub(standing.age).filter(|_| timed);
    let deadline = standing.deadline.as_ref().map(|deadline| {
        json!({
            "what": deadline.what,
            "at": now.checked_add(deadline.left).and_then(unix),
        })
    });
    let sockets: Vec<Value> = standing
        .sockets
        .iter()
        .map(|socket| json!({ "name": socket.name, "address": socket.shown() }))
        .collect();
    json!({
        "generation": standing.number,
        "phase": standing.phase,
        "ready": standing.ready,
        "serves": serves(standing),
        "supervised": standing.supervised,
        "pid": pid(standing.daemon),
        "keeper": pid(standing.keeper),
        "launcher": pid(standing.launcher),
        "since": since.and_then(unix),
        "deadline": deadline,
        "command": text(&standing.command),
        "status": text(&standing.status),
        "sockets": sockets,
    })
}

/// Seconds, to the millisecond: more is not known.
fn unix(time: SystemTime) -> Option<f64> {
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    Some(since.as_millis() as f64 / 1000.0)
}

/// As people say it: two units at most.
pub(crate) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 => format!("{} s", (time.as_secs_f64() * 10.0).round() / 10.0),
        10..60 => format!("{seconds} s"),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86400 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        86400.. => two(seconds / 86400, "d", seconds % 86400 / 3600, "h"),
    }
}

fn two(large: u64, unit: &str, small: u64, smaller: &str) -> String {
    match small {
        0 => format!("{large} {unit}"),
        _ => format!("{large} {unit} {small} {smaller}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Deadline;
    use crate::control::wire::{Failure, State};
    use crate::paint::Paint;
    use std::path::Path;

    fn view() -> View {
        let identity = |text: &str| Identity::parse(text);
        let newer = Standing {
            number: 10,
            phase: "serving".to_owned(),
            ready: true,
            supervised: true,
            daemon: identity("4300:9"),
            keeper: identity("4298:8"),
            launcher: identity("4297:7"),
            age: Duration::from_millis(192_500),
            command: "./daemon --flags".to_owned(),
            status: "12 connections".to_owned(),
            ..Standing::default()
        };
        let older = Standing {
            number: 9,
            phase: "draining".to_owned(),
            daemon: identity("999:1"),
            age: Duration::from_secs(5),
            deadline: Some(Deadline {
                what: "KILL".to_owned(),
                left: Duration::from_secs(595),
            }),
            command: "./daemon".to_owned(),
            ..Standing::default()
        };
        View::by_keeper(State {
            generations: vec![newer, older],
            failure: Some(Failure {
                generation: 11,
                why: "exit status 1 after 0.02 s".to_owned(),
                ago: Duration::from_millis(300),
            }),
        })
    }

    #[test]
    fn people_get_aligned_lines() {
        let target = Target::new(Path::new("/run/app/app.pid"));
        let expected = [
            "app: generation 10  pid 4300  serving   for 3 min 12 s  ./daemon --flags",
            "     keeper 4298, launcher 4297, status: 12 connections",
            "app: generation 9   pid 999   draining  for 5 s         ./daemon",
            "     KILL in 9 min 55 s",
            "app: generation 11 failed 0.3 s ago: exit status 1 after 0.02 s",
        ];
        let text = |view: &View| {
            let lines = text(&target, view);
            let plain = lines.iter().map(|line| line.shown(Paint::Plain));
            plain.collect::<Vec<_>>()
        };
        assert_eq!(text(&view()), expected);
        let unknown = View {
            source: Source::Unknown("it is not a socket".to_owned()),
            state: State::default(),
        };
        assert_eq!(
            text(&unknown),
            ["app: cannot tell what is running: it is not a socket"]
        );
    }

    #[test]
    fn who_serves_under_another_name_says_so() {
        let phase = |phase: &str, ready: bool| {
            let standing = Standing {
                phase: phase.to_owned(),
                ready,
                ..Standing::default()
            };
            cells(&standing, false)[PHASE].clone()
        };
        assert_eq!(phase("standby", true), "standby, serves");
        assert_eq!(phase("standby", false), "standby, never ready");
        assert_eq!(phase("preparing", true), "preparing, serves");
        for alone in ["serving", "draining", "holding"] {
            assert_eq!(phase(alone, true), alone);
        }
    }

    #[test]
    fn the_phase_is_coloured_and_nothing_moves() {
        let target = Target::new(Path::new("/run/app/app.pid"));
        let lines = text(&target, &view());
        let coloured = lines[0].shown(Paint::Colours);
        let plain = lines[0].shown(Paint::Plain);
        assert_eq!(coloured, plain.replace("serving", "\x1b[32mserving\x1b[0m"));
        let failed = lines[4].shown(Paint::Colours);
        assert!(
            failed.contains("\x1b[31mgeneration 11 failed\x1b[0m"),
            "{failed}"
        );
    }

    #[test]
    fn the_keys_of_json_are_a_promise() {
        let target = Target::new(Path::new("/run/app/app.pid"));
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let line = json(&target, &view(), now);
        let expected = concat!(
            r#"{"error":null,"#,
            r#""failure":{"at":999999999.7,"generation":11,"why":"exit status 1 after 0.02 s"},"#,
            r#""file":"/run/app/app.pid","generations":["#,
            r#"{"command":"./daemon --flags","deadline":null,"generation":10,"keeper":4298,"#,
            r#""launcher":4297,"phase":"serving","pid":4300,"ready":true,"serves":true,"#,
            r#""since":999999807.5,"sockets":[],"status":"12 connections","supervised":true},"#,
            r#"{"command":"./daemon","deadline":{"at":1000000595.0,"what":"KILL"},"generation":9,"#,
            r#""keeper":null,"launcher":null,"phase":"draining","pid":999,"ready":false,"#,
            r#""serves":false,"since":999999995.0,"sockets":[],"status":null,"supervised":false}],"#,
            r#""name":"app","source":"keeper"}"#
        );
        assert_eq!(line, expected);
    }

    #[test]
    fn times_are_said_in_two_units() {
        let said = |seconds: f64| span(Duration::from_secs_f64(seconds));
        assert_eq!(said(0.04), "0 s");
        assert_eq!(said(2.0), "2 s");
        assert_eq!(said(59.9), "59 s");
        assert_eq!(said(3600.0), "1 h");
        assert_eq!(said(90061.0), "1 d 1 h");
    }

    #[test]
    fn no_control_character_is_printed() {
        let mut printed = Vec::new();
        let lines = ["a\x1b[2J\nb\u{9b}c\x7f".to_owned(), "d".to_owned()];
        super::super::say(&mut printed, &lines).unwrap();
        assert_eq!(printed, b"a [2J b c \nd\n");
    }
}
