//! Below the areas: a lane for each generation's life, and one for the failures.

use std::{fmt::Write, time::Duration};

use super::{
    drawing::{LEFT, Scale, WIDTH, colour},
    grouped::grouped,
    record::{Life, Record},
};

const LANE: f64 = 19.0;
const BAR: f64 = 12.0;

#[derive(Debug)]
pub(crate) struct Lanes {
    pub(crate) svg: String,
    pub(crate) bottom: f64,
}

pub(crate) fn draw(record: &Record, scale: Scale, top: f64) -> Lanes {
    let mut svg = String::new();
    let mut y = top;
    // Writing to a String does not fail, here and below.
    failures(&mut svg, record, scale, y);
    y += LANE + 2.0;
    for (number, life) in &record.lives {
        writeln!(
            svg,
            "<text text-anchor=\"end\" x=\"{:.1}\" y=\"{:.1}\">gen. {number}</text>",
            LEFT - 6.0,
            y + 10.0
        )
        .ok();
        let lane = Lane {
            record,
            scale,
            y,
            colour: colour(record, *number),
        };
        lane.draw(&mut svg, life);
        y += LANE;
    }
    Lanes {
        svg,
        bottom: y + 2.0,
    }
}

/// None is what is to be seen.
fn failures(svg: &mut String, record: &Record, scale: Scale, y: f64) {
    let failed = record.failures.len();
    let class = if failed == 0 { "good" } else { "bad" };
    let requests = grouped((record.answers.len() + failed) as u64);
    writeln!(
        svg,
        "<text text-anchor=\"end\" x=\"{:.1}\" y=\"{:.1}\">failed</text>\
         <text class=\"{class}\" x=\"{LEFT}\" y=\"{:.1}\">{failed} of {requests} requests</text>",
        LEFT - 6.0,
        y + 10.0,
        y + 10.0,
    )
    .ok();
    for at in record.failures.iter().take(1000) {
        let x = scale.x(*at);
        writeln!(
            svg,
            "<rect class=\"bad\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"1\" height=\"{BAR}\"/>"
        )
        .ok();
    }
}

struct Lane<'a> {
    record: &'a Record,
    scale: Scale,
    y: f64,
    colour: &'static str,
}

impl Lane<'_> {
    fn draw(&self, svg: &mut String, life: &Life) {
        let end = life.gone.unwrap_or(self.record.length);
        let Some(ready) = life.ready else {
            self.failed(svg, life.starting, end);
            return;
        };
        if ready > life.starting {
            self.open_bar(svg, life.starting, ready, "starts", self.colour);
        }
        let draining = life.draining.unwrap_or(end);
        self.bar(svg, ready, draining, "serves");
        if life.draining.is_some() {
            self.open_bar(svg, draining, end, "drains", self.colour);
        }
    }

    fn failed(&self, svg: &mut String, from: Duration, to: Duration) {
        self.open_bar(svg, from, to, "", "#8b949e");
        let x = self.scale.x(to) + 6.0;
        writeln!(
            svg,
            "<text class=\"bad\" x=\"{x:.1}\" y=\"{:.1}\">crashes</text>",
            self.y + 10.0
        )
        .ok();
    }

    fn bar(&self, svg: &mut String, from: Duration, to: Duration, label: &str) {
        let (x, width) = self.span(from, to);
        let (y, colour) = (self.y, self.colour);
        writeln!(
            svg,
            "<rect fill=\"{colour}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\"/>"
        )
        .ok();
        self.label(svg, x, width, label, "in");
    }

    /// It does not serve yet, or accepts nothing new any more.
    fn open_bar(&self, svg: &mut String, from: Duration, to: Duration, label: &str, colour: &str) {
        let (x, width) = self.span(from, to);
        let y = self.y + 0.5;
        let height = BAR - 1.0;
        writeln!(
            svg,
            "<rect fill=\"{colour}\" fill-opacity=\".18\" stroke=\"{colour}\" x=\"{x:.1}\" y=\"{y:.1}\" \
             width=\"{width:.1}\" height=\"{height}\"/>"
        )
        .ok();
        self.label(svg, x, width, label, "small");
    }

    fn span(&self, from: Duration, to: Duration) -> (f64, f64) {
        let x = self.scale.x(from);
        (x, (self.scale.x(to) - x).clamp(1.0, WIDTH))
    }

    /// Only where there is room.
    fn label(&self, svg: &mut String, x: f64, width: f64, label: &str, class: &str) {
        if label.is_empty() || width < label.len() as f64 * 6.5 + 6.0 {
            return;
        }
        writeln!(
            svg,
            "<text class=\"{class} lane\" text-anchor=\"middle\" x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
            x + width / 2.0,
            self.y + 10.0
        )
        .ok();
    }
}
