//! What was found, as text and as JSON.

use serde_json::{Value, json};

use super::Report;
use super::finding::{Finding, Level};
use super::reading::{Reading, Supervisor};
use crate::paint::{Line, Style};
use crate::supervisor::Format;

/// For people: a line for each finding, and a last one that counts them.
pub(super) fn text(report: &Report) -> Vec<Line> {
    let name = name(&report.reading);
    let first = format!("{name}: {}", said(&report.reading.supervisor));
    let mut lines = vec![Line::plain(first)];
    for one in &report.findings {
        let Finding {
            subject,
            found,
            consequence,
            fix,
            ..
        } = one;
        let style = style(one.level);
        let fix = match fix.as_str() {
            "" => String::new(),
            fix => format!("; {fix}"),
        };
        let line = Line::plain(format!("{subject}: ")).with(style, one.level.name());
        lines.push(line.with(Style::Plain, format!(": {found}: {consequence}{fix}")));
    }
    let count = |level: Level| {
        let plural = match report.count(level) {
            1 => "",
            _ => "s",
        };
        format!("{} {}{plural}", report.count(level), level.name())
    };
    let mut counted = vec![count(Level::Error), count(Level::Warning)];
    if report.count(Level::Note) > 0 {
        counted.push(count(Level::Note));
    }
    let verdict = match (report.count(Level::Error), report.count(Level::Warning)) {
        (0, 0) => Style::Good,
        (0, _) => Style::Waiting,
        (_, _) => Style::Bad,
    };
    lines.push(Line::plain(format!("{name}: ")).with(verdict, counted.join(", ")));
    lines
}

fn style(level: Level) -> Style {
    match level {
        Level::Error => Style::Bad,
        Level::Warning => Style::Waiting,
        Level::Note => Style::Aside,
    }
}

/// For programs: one object; `docs/verbs.md` promises the keys.
pub(super) fn json(report: &Report) -> String {
    let reading = &report.reading;
    let (supervisor, service) = identity(&reading.supervisor);
    let findings: Vec<Value> = report.findings.iter().map(finding).collect();
    let pid_file = reading
        .options
        .service()
        .map(|service| service.pid_file.to_string_lossy());
    json!({
        "name": name(reading),
        "file": pid_file,
        "supervisor": supervisor,
        "service": service,
        "findings": findings,
        "errors": report.count(Level::Error),
        "warnings": report.count(Level::Warning),
        "error": report.unclear(),
    })
    .to_string()
}

/// The same, where nothing can be told.
pub(super) fn failure(words: &str) -> String {
    json!({
        "name": Value::Null,
        "file": Value::Null,
        "supervisor": Value::Null,
        "service": Value::Null,
        "findings": [],
        "errors": 0,
        "warnings": 0,
        "error": words,
    })
    .to_string()
}

fn finding(one: &Finding) -> Value {
    json!({
        "level": one.level.name(),
        "subject": one.subject,
        "code": one.code,
        "found": one.found,
        "consequence": one.consequence,
        "fix": (!one.fix.is_empty()).then_some(&one.fix),
        "line": one.line,
    })
}

/// What the service is called, in the first and the last line.
fn name(reading: &Reading) -> String {
    if let Some(service) = reading.options.service() {
        return service.name.clone();
    }
    match &reading.supervisor {
        Supervisor::Systemd(unit) => unit.name.trim_end_matches(".service").to_owned(),
        Supervisor::Supervise(found) => {
            let name = found.path.file_name().unwrap_or_default();
            name.to_string_lossy().into_owned()
        }
        Supervisor::Supervisord(program) => program.name.clone(),
        Supervisor::Nobody(_) | Supervisor::Named(_) | Supervisor::Unknown => "service".to_owned(),
    }
}

/// Its supervisor, and what that one calls it.
fn identity(supervisor: &Supervisor) -> (Option<String>, Option<String>) {
    match supervisor {
        Supervisor::Systemd(unit) => (Some("systemd".to_owned()), Some(unit.name.clone())),
        Supervisor::Supervise(found) => {
            let path = found.path.display().to_string();
            (
                found.format.map(|format| format.name().to_owned()),
                Some(path),
            )
        }
        Supervisor::Supervisord(program) => {
            (Some("supervisord".to_owned()), Some(program.name.clone()))
        }
        Supervisor::Named(name) => (Some(name.clone()), None),
        Supervisor::Nobody(_) => (Some("nobody".to_owned()), None),
        Supervisor::Unknown => (None, None),
    }
}

pub(super) fn said(supervisor: &Supervisor) -> String {
    match supervisor {
        Supervisor::Systemd(unit) => format!("under systemd: {}", unit.name),
        Supervisor::Supervise(found) => {
            let name = found
                .format
                .map_or("a supervisor that does not run yet", Format::name);
            format!("under {name}: {}", found.path.display())
        }
        Supervisor::Supervisord(program) => match &program.file {
            Some(file) => format!("under supervisord: {} in {}", program.name, file.display()),
            None => format!("under supervisord: {}", program.name),
        },
        Supervisor::Named(name) => format!("under {name}"),
        Supervisor::Nobody(words) => format!("under nobody who would start it again: {words}"),
        Supervisor::Unknown => "supervisor: none recognised".to_owned(),
    }
}
