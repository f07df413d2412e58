//! The picture, from top to bottom.

use std::time::Duration;

use super::{
    chart,
    generations::Shown,
    grouped::grouped,
    row::{Ink, Row, wrapped},
    story::Caption,
    tally::{BUCKET, Bucket, Sums},
    terminal::Abilities,
};

const LEAST_ROWS: usize = 16;
const LEAST_COLUMNS: usize = 60;

/// What can be done by keys.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keys {
    /// There is no keyboard.
    None,
    /// Everything; `broken`: the version to be started is.
    All { broken: bool },
    /// After a stop; `again`: every process has gone, and it can be started once more.
    Over { again: bool },
}

/// All that is shown.
#[derive(Debug)]
pub(crate) struct Picture<'a> {
    pub(crate) caption: Caption,
    /// 2 of 10.
    pub(crate) step: (usize, usize),
    pub(crate) time: (Duration, Duration),
    pub(crate) paused: bool,
    pub(crate) keys: Keys,
    /// In the order in which they are shown.
    pub(crate) generations: &'a [Shown],
    pub(crate) sums: &'a Sums,
    pub(crate) buckets: &'a [Bucket],
    pub(crate) slow_in_flight: usize,
    /// The newest last.
    pub(crate) log: &'a [String],
    pub(crate) abilities: Abilities,
}

impl Picture<'_> {
    pub(crate) fn draw(&self, rows: usize, width: usize) -> Vec<Row> {
        let sketch = Sketch {
            rows: Vec::new(),
            width,
            abilities: self.abilities,
        };
        if rows < LEAST_ROWS || width < LEAST_COLUMNS {
            return self.too_small(sketch);
        }
        self.whole(sketch, rows)
    }

    fn too_small(&self, mut sketch: Sketch) -> Vec<Row> {
        sketch.line(Ink::Strong, self.caption.title);
        sketch.push(|row| self.balance(row));
        sketch.line(Ink::Faint, "60 columns, 16 rows: the picture");
        sketch.rows
    }

    fn whole(&self, mut sketch: Sketch, rows: usize) -> Vec<Row> {
        let width = sketch.width;
        sketch.push(|row| self.head(row));
        let mut text = wrapped(self.caption.text, width - 2);
        text.resize(2, String::new());
        for line in &text[..2] {
            sketch.line(Ink::Plain, &format!(" {line}"));
        }
        sketch.rule();

        let roomy = rows >= 30;
        let shown = if roomy { 6 } else { 4 };
        sketch.push(|row| {
            row.put(Ink::Faint, "   gen  phase ");
            for (title, columns) in [
                ("daemon", 14),
                ("keeper", 10),
                ("launcher", 10),
                ("answered", 12),
                ("a second", 11),
            ] {
                row.put_right(Ink::Faint, title, columns);
            }
        });
        for at in 0..shown {
            sketch.push(|row| {
                if let Some(shown) = self.generations.get(at) {
                    self.generation(row, shown);
                }
            });
        }
        if roomy {
            sketch.line(Ink::Plain, "");
        }
        sketch.push(|row| self.balance(row));
        sketch.push(|row| self.killed(row));
        if roomy {
            sketch.line(Ink::Plain, "");
        }

        // Chart and log share what is left; the axis, a rule and the keys are apart.
        let left = rows.saturating_sub(sketch.rows.len() + 3);
        let log = (left * 2 / 5).clamp(2, 12);
        let chart = left - log;
        let drawn = chart::draw(self.buckets, self.sums, (chart, width), self.abilities);
        sketch.rows.extend(drawn);
        sketch.rule();
        for (line, ink) in self.end_of_log(log, width) {
            sketch.line(ink, &line);
        }
        sketch.push(|row| self.keys(row));
        sketch.rows
    }

    fn head(&self, row: &mut Row) {
        row.put(Ink::Title, &format!(" {} ", self.caption.title));
        let seconds =
            |time: Duration| format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60);
        let (now, length) = self.time;
        let (step, steps) = self.step;
        let place = if self.paused {
            format!("paused at {step}/{steps}, {} ", seconds(now))
        } else {
            format!("{step}/{steps}, {} of {} ", seconds(now), seconds(length))
        };
        let left = row.left();
        row.put_right(
            if self.paused { Ink::Strong } else { Ink::Faint },
            &place,
            left,
        );
    }

    fn generation(&self, row: &mut Row, shown: &Shown) {
        let Shown { seen, lives, first } = shown;
        let lives = *lives;
        let ink = if lives {
            Ink::Generation(self.sums.place(seen.number))
        } else {
            Ink::Faint
        };
        let mark = match (seen.serves && lives, self.abilities.unicode) {
            (false, _) => ' ',
            (true, true) => '●',
            (true, false) => '*',
        };
        let number = if *first == seen.number {
            format!(" {mark}{first:>4}")
        } else {
            format!("{first}-{}", seen.number)
        };
        row.put_right(ink, &number, 6);
        row.put(ink, "  ");
        let answered = self.sums.answers.get(&seen.number).copied().unwrap_or(0);
        let phase = match (lives, answered) {
            (true, _) => seen.phase.as_str(),
            (false, 0) => "failed",
            (false, _) => "gone",
        };
        row.put(ink, &format!("{phase:<10}"));
        for pid in [seen.daemon, seen.keeper, seen.launcher] {
            let pid = pid
                .filter(|_| lives)
                .map_or("-".to_owned(), |pid| pid.to_string());
            row.put_right(if lives { Ink::Plain } else { Ink::Faint }, &pid, 10);
        }
        row.put_right(ink, &grouped(answered), 12);
        let rate = self.rate(|bucket| bucket.answers.get(&seen.number).copied().unwrap_or(0));
        let rate = if rate > 0 {
            grouped(rate)
        } else {
            "-".to_owned()
        };
        row.put_right(ink, &rate, 11);
    }

    /// In the last second.
    fn rate(&self, count: impl Fn(&Bucket) -> u32) -> u64 {
        let second = (1.0 / BUCKET.as_secs_f64()) as usize;
        let from = self.buckets.len().saturating_sub(second);
        self.buckets[from..]
            .iter()
            .map(|bucket| u64::from(count(bucket)))
            .sum()
    }

    fn balance(&self, row: &mut Row) {
        row.put(
            Ink::Strong,
            &format!(" {} answered", grouped(self.sums.answered)),
        );
        row.put(Ink::Plain, ", ");
        let failed = format!("{} failed", grouped(self.sums.failed));
        if self.sums.failed == 0 {
            row.put(Ink::Good, &failed);
        } else {
            row.put(Ink::Bad, &failed);
        }
        let rate = grouped(self.rate(Bucket::answered));
        let slowest = self.sums.slowest.as_secs_f64() * 1000.0;
        row.put(
            Ink::Plain,
            &format!(
                "; {rate} a second, slowest {slowest:.0} ms; {} slow in flight",
                self.slow_in_flight
            ),
        );
    }

    /// What `kill -9` costs is counted apart, and said.
    fn killed(&self, row: &mut Row) {
        let Sums {
            in_hand, waited, ..
        } = self.sums;
        if *in_hand + *waited == 0 {
            return;
        }
        row.put(
            Ink::Dead,
            &format!(" {in_hand} died in the hands of the killed daemon"),
        );
        row.put(Ink::Plain, &format!("; {waited} waited, and were answered"));
    }

    /// So many rows, the last ones; a long line takes several.
    fn end_of_log(&self, rows: usize, width: usize) -> Vec<(String, Ink)> {
        let mut drawn = Vec::new();
        for line in self.log.iter().rev().take(rows) {
            let ink = if line.starts_with("demo: ") {
                Ink::Strong
            } else {
                Ink::Plain
            };
            let pieces = wrapped(line, width.saturating_sub(4));
            let of_line = pieces.into_iter().enumerate().map(|(at, piece)| {
                let indent = if at == 0 { " " } else { "   " };
                (format!("{indent}{piece}"), ink)
            });
            drawn.splice(0..0, of_line);
        }
        let more = drawn.len().saturating_sub(rows);
        drawn.drain(..more);
        drawn.resize(rows, (String::new(), Ink::Plain));
        drawn
    }

    fn keys(&self, row: &mut Row) {
        let broken = match self.keys {
            Keys::None => {
                row.put(Ink::Faint, " it runs by itself; Ctrl-C ends it");
                return;
            }
            Keys::Over { again } => {
                if again {
                    row.put(Ink::Strong, " r");
                    row.put(Ink::Faint, " start it all once more ");
                }
                row.put(Ink::Strong, " q");
                row.put(Ink::Faint, " quit");
                return;
            }
            Keys::All { broken } => broken,
        };
        let pause = if self.paused { "go on" } else { "pause" };
        let wide = row.left() >= 112;
        let daemon = if wide { "kill -9 the daemon" } else { "kill" };
        let restart = match (broken, wide) {
            (true, _) => "mend it",
            (false, true) => "restart (mends)",
            (false, false) => "restart",
        };
        let keys = [
            ("r", restart),
            ("b", "broken"),
            ("h", "hang"),
            ("k", daemon),
            ("K", "keeper"),
            ("l", "launcher"),
            ("s", "stop"),
            ("space", pause),
            ("q", "quit"),
        ];
        for (key, meaning) in keys {
            row.put(Ink::Strong, &format!(" {key}"));
            let mends = broken && key == "r";
            let ink = if mends { Ink::Strong } else { Ink::Faint };
            row.put(ink, &format!(" {meaning}"));
            if wide {
                row.put(Ink::Plain, " ");
            }
        }
    }
}

/// What has been drawn so far.
struct Sketch {
    rows: Vec<Row>,
    width: usize,
    abilities: Abilities,
}

impl Sketch {
    fn push(&mut self, fill: impl FnOnce(&mut Row)) {
        let mut row = Row::new(self.width, self.abilities);
        fill(&mut row);
        self.rows.push(row);
    }

    fn line(&mut self, ink: Ink, text: &str) {
        self.push(|row| row.put(ink, text));
    }

    fn rule(&mut self) {
        let dash = if self.abilities.unicode { "─" } else { "-" };
        self.line(Ink::Faint, &dash.repeat(self.width));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{service::Version, status::Seen, story, terminal::Colours};

    fn picture(rows: usize, width: usize) -> Vec<String> {
        picture_with(Keys::All { broken: false }, rows, width)
    }

    fn picture_with(keys: Keys, rows: usize, width: usize) -> Vec<String> {
        let seen = Seen {
            number: 7,
            phase: "serving".to_owned(),
            ready: true,
            serves: true,
            daemon: Some(4_194_303),
            keeper: Some(4_194_302),
            launcher: Some(4_194_301),
        };
        let failed = Shown {
            seen: Seen {
                number: 6,
                ..seen.clone()
            },
            lives: false,
            first: 3,
        };
        let newest = Shown {
            seen,
            lives: true,
            first: 7,
        };
        let sums = Sums {
            answered: 12_345_678,
            in_hand: 12,
            waited: 11,
            ..Sums::default()
        };
        let picture = Picture {
            caption: story::BEGINNING,
            step: (10, 10),
            time: (Duration::from_secs(61), Duration::from_secs(90)),
            paused: false,
            keys,
            generations: &[newest, failed],
            sums: &sums,
            buckets: &[],
            slow_in_flight: 4,
            log: &["app: a line".to_owned()],
            abilities: Abilities {
                colours: Colours::None,
                unicode: true,
            },
        };
        let drawn = picture.draw(rows, width);
        // Without what makes it bold or faint.
        let plain = |row: &Row| {
            let pieces = row.as_str().split('\x1b');
            let texts = pieces.map(|piece| piece.split_once('m').map_or(piece, |(_, text)| text));
            texts.collect::<String>()
        };
        drawn.iter().map(plain).collect()
    }

    #[test]
    fn it_fills_the_terminal_and_no_more() {
        for (rows, width) in [(16, 60), (24, 80), (40, 120), (100, 300)] {
            let drawn = picture(rows, width);
            assert_eq!(drawn.len(), rows, "{width} x {rows}");
            assert!(drawn.iter().all(|row| row.chars().count() <= width));
        }
        assert!(picture(10, 40).len() <= 10);
    }

    #[test]
    fn all_of_it_is_seen_in_80_columns() {
        let drawn = picture(24, 80);
        for width in 80..120 {
            for broken in [false, true] {
                let keys = &picture_with(Keys::All { broken }, 24, width)[23];
                assert!(keys.trim_end().ends_with(" q quit"), "{width}: {keys}");
                assert_eq!(keys.contains(" r mend it "), broken, "{width}: {keys}");
            }
        }
        assert!(drawn[0].ends_with("10/10, 1:01 of 1:30 "), "{drawn:#?}");
        let row = " ●   7  serving      4194303   4194302   4194301           0          -";
        assert!(drawn.iter().any(|line| line == row), "{drawn:#?}");
        let row = "   3-6  failed             -         -         -           0          -";
        assert!(drawn.iter().any(|line| line == row), "{drawn:#?}");
    }

    #[test]
    fn every_caption_fits_into_two_lines() {
        let of_scripts = story::SCRIPT.iter().filter_map(|(action, _)| *action);
        let due = [Version::Good, Version::Crashes, Version::Hangs];
        let captions = of_scripts.flat_map(|action| due.map(|due| action.caption(due)));
        for caption in captions.chain([story::BEGINNING, story::STOPPED]) {
            assert!(wrapped(caption.text, 78).len() <= 2, "{}", caption.title);
        }
    }
}
