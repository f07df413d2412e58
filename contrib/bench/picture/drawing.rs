//! The picture: requests of each generation upon each other, their lives below, and what failed.
//!
//! It is shown by an `<img>`, on light and on dark pages: nothing is loaded, there is no ground, and every colour can be
//! read on both; where the page's scheme is known, the words are a little clearer still.

use std::{fmt::Write, time::Duration};

use super::{grouped::grouped, lanes, record::Record};

pub(crate) const WIDTH: f64 = 880.0;
pub(crate) const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
/// Of the areas: below what it is about, and words of two rows.
const TOP: f64 = 68.0;
const HEIGHT: f64 = 160.0;
const BUCKET: Duration = Duration::from_millis(50);
/// Of a character, about, in the font that is the widest of those that may be found.
const LETTER: f64 = 6.6;

/// Apart from each other for those who see no red or green either; white words can be read on all of them.
const COLOURS: [&str; 4] = ["#1f6fb4", "#b35900", "#0b7d68", "#8250b0"];

const STYLE: &str = "\
text{font:12.5px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;fill:#6b747e}\
.in{fill:#fff;font-weight:600}.lane{font-size:10.5px}.strong{font-weight:600}\
.line{stroke:#8b949e;stroke-width:1;fill:none}.grid{stroke:#8b949e;stroke-opacity:.3}\
.mark{stroke:#8b949e;stroke-dasharray:3 3}\
.good{fill:#1a8a4a;font-weight:600}.bad{fill:#d1242f;font-weight:600}\
@media(prefers-color-scheme:dark){text{fill:#b1bac4}.in{fill:#fff}.good{fill:#3fb950}.bad{fill:#ff7b72}}\
@media(prefers-color-scheme:light){text{fill:#424a53}.in{fill:#fff}.good{fill:#1a7f37}.bad{fill:#cf222e}}";

/// Where things are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    length: Duration,
}

impl Scale {
    pub(crate) fn x(self, at: Duration) -> f64 {
        let share = at.as_secs_f64() / self.length.as_secs_f64().max(0.001);
        LEFT + share.min(1.0) * (WIDTH - LEFT - RIGHT)
    }
}

/// The same colour for a generation wherever it is seen. Those that never served have none.
pub(crate) fn colour(record: &Record, generation: u32) -> &'static str {
    let served = record.lives.iter().filter(|(_, life)| life.ready.is_some());
    let place = served
        .take_while(|(number, _)| **number < generation)
        .count();
    COLOURS[place % COLOURS.len()]
}

pub(crate) fn draw(record: &Record) -> String {
    let scale = Scale {
        length: record.length,
    };
    let requests = record.answers.len() + record.failures.len();
    let failed = record.failures.len();
    let bottom = TOP + HEIGHT;
    let lanes = lanes::draw(record, scale, bottom + 14.0);
    let height = lanes.bottom + 26.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\" aria-labelledby=\"title desc\">\n\
         <title id=\"title\">Requests per generation over time, while a service is restarted</title>\n\
         <desc id=\"desc\">A measured run of {:.1} seconds under runit: {} requests, {failed} failed. A restart: \
         the old generation serves until the new one is ready. A restart to a version that crashes: the old one serves \
         on, until it is mended.</desc>\n<style>{STYLE}</style>\n",
        record.length.as_secs_f64(),
        grouped(requests as u64),
    );
    let buckets = stacked(record);
    let highest = buckets.iter().filter_map(|bucket| bucket.last()).max();
    let per_second = highest.map_or(0.0, |(_, sum)| f64::from(*sum) / BUCKET.as_secs_f64());
    let top = (per_second / 500.0).ceil().max(1.0) * 500.0;
    // Writing to a String does not fail, here and below.
    grid(&mut svg, top);
    areas(&mut svg, record, &buckets, scale, top);
    marks(&mut svg, record, scale, lanes.bottom);
    names(&mut svg, record, scale);
    svg += &lanes.svg;
    seconds(&mut svg, scale, lanes.bottom);
    svg += "</svg>\n";
    svg
}

/// For each bucket the generations that answered, each with the sum of those below it and its own.
fn stacked(record: &Record) -> Vec<Vec<(u32, u32)>> {
    let place = |at: Duration| (at.as_millis() / BUCKET.as_millis()) as usize;
    // Whole ones only: half of one would look like a loss.
    let whole = place(record.length);
    let mut counts = vec![std::collections::BTreeMap::<u32, u32>::new(); whole];
    for (at, generation) in &record.answers {
        if let Some(bucket) = counts.get_mut(place(*at)) {
            *bucket.entry(*generation).or_default() += 1;
        }
    }
    let sums = counts.into_iter().map(|bucket| {
        let mut sum = 0;
        let upon_each_other = bucket.into_iter().map(|(generation, count)| {
            sum += count;
            (generation, sum)
        });
        upon_each_other.collect()
    });
    sums.collect()
}

fn areas(svg: &mut String, record: &Record, buckets: &[Vec<(u32, u32)>], scale: Scale, top: f64) {
    let y = |sum: u32| {
        let rate = f64::from(sum) / BUCKET.as_secs_f64();
        TOP + HEIGHT - rate / top * HEIGHT
    };
    let at = |bucket: usize| scale.x(BUCKET.mul_f64(bucket as f64));
    for &generation in record.lives.keys() {
        // What it has in each bucket: from, to.
        let spans: Vec<Option<(u32, u32)>> = buckets
            .iter()
            .map(|bucket| {
                let place = bucket
                    .iter()
                    .position(|(number, _)| *number == generation)?;
                let below = place.checked_sub(1).map_or(0, |below| bucket[below].1);
                Some((below, bucket[place].1))
            })
            .collect();
        let mut path = String::new();
        let mut from = 0;
        while from < spans.len() {
            let run = spans[from..].iter().map_while(|span| *span);
            let run: Vec<(u32, u32)> = run.collect();
            if run.is_empty() {
                from += 1;
                continue;
            }
            let to = from + run.len();
            write!(path, "M{:.1} {:.1}", at(from), y(run[0].0)).ok();
            for (bucket, (_, high)) in (from..).zip(&run) {
                write!(path, "V{:.1}H{:.1}", y(*high), at(bucket + 1)).ok();
            }
            for (bucket, (low, _)) in (from..to).zip(&run).rev() {
                write!(path, "V{:.1}H{:.1}", y(*low), at(bucket)).ok();
            }
            path += "Z";
            from = to;
        }
        if path.is_empty() {
            continue;
        }
        let colour = colour(record, generation);
        writeln!(svg, "<path fill=\"{colour}\" d=\"{path}\"/>").ok();
    }
}

/// In each area whose it is, where no mark goes through it.
fn names(svg: &mut String, record: &Record, scale: Scale) {
    for (&generation, life) in &record.lives {
        let Some(ready) = life.ready else { continue };
        let label = format!("generation {generation}");
        // Where it serves alone.
        let (begin, end) = (ready, life.draining.unwrap_or(record.length));
        let marks = record.marks.iter().map(|(at, _)| *at);
        let within = marks.filter(|at| *at > begin && *at < end);
        let mut stops: Vec<f64> = [begin, end]
            .into_iter()
            .chain(within)
            .map(|at| scale.x(at))
            .collect();
        stops.sort_by(f64::total_cmp);
        let gaps = stops
            .windows(2)
            .map(|gap| (gap[1] - gap[0], f64::midpoint(gap[0], gap[1])));
        let Some((width, middle)) = gaps.max_by(|one, other| one.0.total_cmp(&other.0)) else {
            continue;
        };
        if width > label.len() as f64 * LETTER {
            let height = TOP + HEIGHT * 0.6;
            writeln!(
                svg,
                "<text class=\"in\" text-anchor=\"middle\" x=\"{middle:.1}\" y=\"{height}\">{label}</text>"
            )
            .ok();
        }
    }
}

/// Words at a moment, in the upper row where those before leave no room in the lower one.
fn marks(svg: &mut String, record: &Record, scale: Scale, bottom: f64) {
    let mut used = [f64::MIN; 2];
    for (at, what) in &record.marks {
        let x = scale.x(*at);
        let length = what.len() as f64 * LETTER;
        let (begin, anchor) = if x + length > WIDTH {
            (x - length, "end")
        } else {
            (x, "start")
        };
        let row = usize::from(used[0] > begin);
        used[row] = begin + length;
        let y = TOP - 14.0 - 18.0 * row as f64;
        writeln!(
            svg,
            "<path class=\"mark\" d=\"M{x:.1} {:.1}V{bottom:.1}\"/>\
             <text text-anchor=\"{anchor}\" x=\"{x:.1}\" y=\"{y:.1}\">{what}</text>",
            y + 4.0,
        )
        .ok();
    }
}

fn grid(svg: &mut String, top: f64) {
    for part in 0..=2 {
        let y = TOP + HEIGHT - HEIGHT * f64::from(part) / 2.0;
        let rate = top * f64::from(part) / 2.0;
        let unit = if part == 2 { "/s" } else { "" };
        writeln!(
            svg,
            "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{}\"/>\
             <text text-anchor=\"end\" x=\"{}\" y=\"{:.1}\">{}{unit}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y + 4.0,
            grouped(rate as u64),
        )
        .ok();
    }
    writeln!(svg, "<text class=\"strong\" x=\"4\" y=\"16\">requests a second, by the generation that answers</text>").ok();
}

fn seconds(svg: &mut String, scale: Scale, y: f64) {
    writeln!(
        svg,
        "<path class=\"line\" d=\"M{LEFT} {y:.1}H{}\"/>",
        WIDTH - RIGHT
    )
    .ok();
    for second in 0..=scale.length.as_secs() {
        let x = scale.x(Duration::from_secs(second));
        let unit = if second == 0 { " s" } else { "" };
        writeln!(
            svg,
            "<path class=\"line\" d=\"M{x:.1} {y:.1}v4\"/>\
             <text text-anchor=\"middle\" x=\"{x:.1}\" y=\"{:.1}\">{second}{unit}</text>",
            y + 18.0,
        )
        .ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Life;

    /// Two seconds: 1 until the first is over, then 2; a failure at its end.
    fn record() -> Record {
        let at = Duration::from_millis;
        let answers = |from: u64, generation| {
            (from..from + 1000)
                .step_by(10)
                .map(move |now| (at(now), generation))
        };
        let first = Life {
            ready: Some(at(0)),
            draining: Some(at(1000)),
            gone: Some(at(1500)),
            ..Life::default()
        };
        let second = Life {
            starting: at(500),
            ready: Some(at(1000)),
            ..Life::default()
        };
        Record {
            answers: answers(0, 1).chain(answers(1000, 2)).collect(),
            failures: vec![at(2000)],
            marks: vec![(at(500), "sv restart"), (at(1000), "it is ready")],
            lives: [(1, first), (2, second)].into(),
            length: at(2000),
        }
    }

    #[test]
    fn generations_stand_upon_each_other() {
        let mut record = record();
        record.answers.push((Duration::ZERO, 2));
        let buckets = stacked(&record);
        assert_eq!(buckets.len(), 40);
        assert_eq!(buckets[0], [(1, 5), (2, 6)]);
        assert_eq!(buckets[39], [(2, 5)]);
    }

    #[test]
    fn what_failed_is_seen() {
        let svg = draw(&record());
        assert!(svg.contains(">1 of 201 requests</text>"), "{svg}");
        assert!(svg.contains("<rect class=\"bad\""), "{svg}");
        let mut sound = record();
        sound.failures.clear();
        let svg = draw(&sound);
        assert!(svg.contains("<text class=\"good\""), "{svg}");
        assert!(!svg.contains("class=\"bad\""), "{svg}");
    }

    #[test]
    fn those_that_serve_one_after_the_other_look_different() {
        let mut record = record();
        // 2 is followed by 6: those between never served.
        for failed in 3..6 {
            record.lives.insert(failed, Life::default());
        }
        let ready = Some(Duration::from_secs(2));
        record.lives.insert(
            6,
            Life {
                ready,
                ..Life::default()
            },
        );
        assert_ne!(colour(&record, 2), colour(&record, 6));
    }
}
