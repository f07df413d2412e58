//! The picture of one run: bars for starts, memory and restarts. It is readable on light and on dark.

use std::fmt::Write;

use super::{
    Measured, kind_name,
    latency::Way,
    memory::{Memory, State},
    programs::Who,
};

const WIDTH: f64 = 860.0;
const MARGIN: f64 = 24.0;
/// Where the bars begin.
const AXIS: f64 = 300.0;
const ROW: f64 = 20.0;
/// What a bar may be wide at most; its number comes after it.
const ROOM: f64 = WIDTH - AXIS - MARGIN - 90.0;

/// Tones that both backgrounds carry; the text is in better contrast where the reader's background is known.
const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#768390}\
.title{font-size:15px;font-weight:600}.small{font-size:11px}.number{font-size:12px}\
.ours{fill:#2f81f7}.peer{fill:#8c959f}.floor{fill:#bf8700}.line{stroke:#8c959f;stroke-width:1}\
@media(prefers-color-scheme:light){text{fill:#24292f}.small{fill:#57606a}}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.small{fill:#9198a1}}";

/// One bar.
struct Bar {
    name: String,
    value: f64,
    class: &'static str,
    number: String,
}

/// Bars that share a scale.
struct Panel {
    title: String,
    below: String,
    bars: Vec<Bar>,
}

pub(crate) fn draw(measured: &Measured) -> String {
    let mut panels: Vec<Panel> = [starts(measured), memory(measured), restarts(measured)]
        .into_iter()
        .flatten()
        .collect();
    panels.extend(scale(measured));
    let mut body = String::new();
    let mut y = MARGIN;
    for panel in &panels {
        y = draw_panel(&mut body, panel, y);
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y}\" width=\"{WIDTH}\" height=\"{y}\" role=\"img\">\n\
         <title>What seamless-run weighs, beside its peers</title>\n<style>{STYLE}</style>\n{body}</svg>\n"
    )
}

/// Gives where the next one begins. (Writing to a string does not fail.)
fn draw_panel(body: &mut String, panel: &Panel, from: f64) -> f64 {
    let mut y = from + 14.0;
    let _ = writeln!(
        body,
        "<text class=\"title\" x=\"{MARGIN}\" y=\"{y}\">{}</text>",
        escaped(&panel.title)
    );
    y += 17.0;
    let _ = writeln!(
        body,
        "<text class=\"small\" x=\"{MARGIN}\" y=\"{y}\">{}</text>",
        escaped(&panel.below)
    );
    y += 10.0;
    let top = y;
    let most = panel.bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
    for bar in &panel.bars {
        let width = if most > 0.0 {
            (bar.value.max(0.0) / most * ROOM).max(1.0)
        } else {
            1.0
        };
        let (text, end) = (y + 14.0, AXIS + width + 6.0);
        let (name, number) = (escaped(&bar.name), escaped(&bar.number));
        let beside = AXIS - 8.0;
        let _ = writeln!(
            body,
            "<text x=\"{beside}\" y=\"{text}\" text-anchor=\"end\">{name}</text>\
             <rect class=\"{}\" x=\"{AXIS}\" y=\"{}\" width=\"{width:.1}\" height=\"14\" rx=\"2\"/>\
             <text class=\"number\" x=\"{end:.1}\" y=\"{text}\">{number}</text>",
            bar.class,
            y + 3.0,
        );
        y += ROW;
    }
    let _ = writeln!(
        body,
        "<line class=\"line\" x1=\"{AXIS}\" y1=\"{top}\" x2=\"{AXIS}\" y2=\"{y}\"/>"
    );
    y + MARGIN
}

fn class(who: Who) -> &'static str {
    match who {
        Who::Plain | Who::Static => "ours",
        Who::Tini | Who::TiniStatic | Who::DumbInit | Who::Catatonit => "peer",
        Who::Go | Who::CGlibc | Who::CMusl | Who::Rust | Who::RustStatic => "floor",
    }
}

fn starts(measured: &Measured) -> Option<Panel> {
    let mut bars = Vec::new();
    for start in &measured.starts {
        let Some(value) = start.total.median() else {
            continue;
        };
        bars.push(Bar {
            name: start.who.name().to_owned(),
            value,
            class: class(start.who),
            number: format!("{value:.0} µs"),
        });
    }
    bars.sort_by(|one, other| one.value.total_cmp(&other.value));
    (!bars.is_empty()).then(|| Panel {
        title: "Start: what it adds to a command's time".to_owned(),
        below: format!(
            "median of {} pairs of `X -- true` and `true`, less is better; blue: ours, grey: others, yellow: the smallest that can be written",
            measured.rounds
        ),
        bars,
    })
}

fn memory(measured: &Measured) -> Option<Panel> {
    let shown = |memory: &&Memory| match memory.who.is_ours() {
        true => memory.state == State::Restarted,
        false => true,
    };
    let mut bars: Vec<Bar> = measured
        .memory
        .iter()
        .filter(shown)
        .map(|memory| Bar {
            name: match memory.who.is_ours() {
                true => format!("{}: both", memory.who.name()),
                false => memory.who.name().to_owned(),
            },
            value: memory.further.anonymous as f64,
            class: class(memory.who),
            number: format!("{} kB", memory.further.anonymous),
        })
        .collect();
    bars.sort_by(|one, other| one.value.total_cmp(&other.value));
    (!bars.is_empty()).then(|| Panel {
        title: "Anonymous memory while idle, without the daemon".to_owned(),
        below: "ours: launcher and keeper together, each page once".to_owned(),
        bars,
    })
}

fn restarts(measured: &Measured) -> Option<Panel> {
    let mut bars = Vec::new();
    for latency in &measured.latencies {
        let Some(median) = latency.to_answer.median() else {
            continue;
        };
        bars.push(Bar {
            name: format!("{}: {}", kind_name(latency.kind), latency.way.name()),
            value: median,
            class: match latency.way {
                Way::Bare => "floor",
                Way::Ready | Way::Prepared => "ours",
            },
            number: format!("{:.1} ms", median / 1e3),
        });
    }
    (!bars.is_empty()).then(|| Panel {
        title: "Restart: from TERM to the first answer of the new generation".to_owned(),
        below:
            "median; yellow: a launcher in C that does the least, and waits for nobody to be ready"
                .to_owned(),
        bars,
    })
}

fn scale(measured: &Measured) -> Option<Panel> {
    let scale = measured.scale.as_ref()?;
    let bar = |name: &str, kilobytes: u64, class| Bar {
        name: name.to_owned(),
        value: kilobytes as f64,
        class,
        number: format!("{:.1} MB", kilobytes as f64 / 1e3),
    };
    Some(Panel {
        title: format!("{} services at once: unshared memory", scale.services),
        below: format!(
            "started in {:.1} s; all restarted in {:.1} s, {} of {} requests lost meanwhile",
            scale.to_start.as_secs_f64(),
            scale.to_restart.as_secs_f64(),
            scale.lost,
            scale.requests
        ),
        bars: vec![
            bar("launchers and keepers", scale.ours.unshared, "ours"),
            bar("runsv and runsvdir", scale.supervisors.unshared, "peer"),
            bar("daemons", scale.daemons.unshared, "floor"),
        ],
    })
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
