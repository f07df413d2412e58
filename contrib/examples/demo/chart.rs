//! Requests of each generation over time: one column for each quarter of a second, the generations upon each other.

use std::time::Duration;

use super::{
    grouped::grouped,
    row::{Ink, Row},
    tally::{BUCKET, Bucket, Sums},
    terminal::{Abilities, Colours},
};

/// The parts that a block can show of a cell.
const EIGHTHS: u32 = 8;
const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// What stands to the left of it.
const SCALE: usize = 8;

/// What one cell shows: this generation from its foot, so many eighths high, and perhaps another one above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    low: u32,
    height: u32,
    above: Option<u32>,
}

pub(crate) fn columns(width: usize) -> usize {
    width.saturating_sub(SCALE + 1)
}

/// Rows from the top, and the axis below.
pub(crate) fn draw(
    buckets: &[Bucket],
    sums: &Sums,
    (rows, width): (usize, usize),
    abilities: Abilities,
) -> Vec<Row> {
    let columns = columns(width);
    let per_second = 1.0 / BUCKET.as_secs_f64();
    let highest = buckets.iter().map(Bucket::answered).max().unwrap_or(0);
    let top = round_up((f64::from(highest) * per_second) as u32).max(100);
    let top_of_bucket = f64::from(top) / per_second;
    let cells: Vec<Vec<Option<Cell>>> = buckets
        .iter()
        .map(|bucket| column(bucket, top_of_bucket, rows))
        .collect();
    let missing = columns.saturating_sub(cells.len());
    let mut drawn = Vec::new();
    for row in (0..rows).rev() {
        let mut line = Row::new(width, abilities);
        let label = match row {
            _ if row == rows - 1 => format!("{}/s ", grouped(top.into())),
            _ => String::new(),
        };
        line.put_right(Ink::Faint, &label, SCALE);
        line.put(Ink::Faint, if abilities.unicode { "│" } else { "|" });
        line.up_to(SCALE + 1 + missing);
        for cell in &cells {
            put(&mut line, cell.get(row).copied().flatten(), sums, abilities);
        }
        drawn.push(line);
    }
    drawn.push(axis(buckets, width, abilities));
    drawn
}

/// Failures are marked where they happened.
fn axis(buckets: &[Bucket], width: usize, abilities: Abilities) -> Row {
    let mut line = Row::new(width, abilities);
    line.put_right(Ink::Faint, "0 ", SCALE);
    let (corner, dash) = if abilities.unicode {
        ("└", "─")
    } else {
        ("+", "-")
    };
    line.put(Ink::Faint, corner);
    let columns = columns(width);
    let missing = columns.saturating_sub(buckets.len());
    // How long ago, in whole fives of seconds, where nothing else stands.
    let marks: Vec<(usize, String)> = (1..)
        .map(|five| five * 5)
        .map_while(|seconds| {
            let ago = Duration::from_secs(seconds).as_millis() / BUCKET.as_millis();
            let at = columns.checked_sub(usize::try_from(ago).ok()?)?;
            Some((at, format!("{seconds} s")))
        })
        .collect();
    let mut skip = 0;
    for at in 0..columns {
        if skip > 0 {
            skip -= 1;
            continue;
        }
        let bucket = at.checked_sub(missing).and_then(|at| buckets.get(at));
        let mark = marks.iter().find(|(from, _)| *from == at);
        let clear = |text: &String| {
            let covered = at..at + text.len();
            covered.into_iter().all(|at| {
                let bucket = at.checked_sub(missing).and_then(|at| buckets.get(at));
                bucket.is_none_or(|bucket| bucket.failed + bucket.in_hand == 0)
            })
        };
        match (bucket, mark) {
            (Some(bucket), _) if bucket.failed > 0 => line.put(Ink::Bad, "X"),
            (Some(bucket), _) if bucket.in_hand > 0 => line.put(Ink::Dead, "x"),
            (_, Some((_, text))) if clear(text) => {
                line.put(Ink::Faint, text);
                skip = text.len() - 1;
            }
            _ => line.put(Ink::Faint, dash),
        }
    }
    line
}

/// The cells of one column, from below.
fn column(bucket: &Bucket, top: f64, rows: usize) -> Vec<Option<Cell>> {
    let mut sum = 0;
    // Where each generation ends, in eighths of a cell; whoever answered at all is seen where there is room.
    let ends: Vec<(u32, u32)> = bucket
        .answers
        .iter()
        .map(|(generation, count)| {
            sum += count;
            let end = (f64::from(sum) / top * f64::from(EIGHTHS) * rows as f64).round() as u32;
            (*generation, end)
        })
        .collect();
    let share = |generation: usize, from: u32| {
        let begin = generation.checked_sub(1).map_or(0, |before| ends[before].1);
        let end = ends[generation].1;
        end.min(from + EIGHTHS).saturating_sub(begin.max(from))
    };
    (0..rows as u32)
        .map(|row| {
            let from = row * EIGHTHS;
            let mut parts: Vec<(usize, u32)> = (0..ends.len())
                .map(|generation| (generation, share(generation, from)))
                .filter(|(_, share)| *share > 0)
                .collect();
            // Two fit into a cell. Of three the smallest is not seen.
            while parts.len() > 2 {
                let smallest = parts.iter().enumerate().min_by_key(|(_, part)| part.1);
                let smallest = smallest.map_or(0, |(at, _)| at);
                parts.remove(smallest);
            }
            let (low, height) = *parts.first()?;
            let above = parts.get(1).map(|(generation, _)| ends[*generation].0);
            Some(Cell {
                low: ends[low].0,
                height,
                above,
            })
        })
        .collect()
}

fn put(line: &mut Row, cell: Option<Cell>, sums: &Sums, abilities: Abilities) {
    let Some(cell) = cell else {
        line.put(Ink::Plain, " ");
        return;
    };
    let ink = |generation| Ink::Generation(sums.place(generation));
    if abilities.unicode && abilities.colours != Colours::None {
        let block = BLOCKS[cell.height.min(EIGHTHS) as usize];
        let above = cell.above.map(ink);
        line.put_on(ink(cell.low), above, block);
        return;
    }
    // Its number says whose it is.
    let half = cell.height >= EIGHTHS / 2;
    let shown = if half { Some(cell.low) } else { cell.above };
    match shown.and_then(|shown| Some((shown, char::from_digit(shown % 10, 10)?))) {
        Some((generation, digit)) => line.put_on(ink(generation), None, digit),
        None => line.put(Ink::Plain, " "),
    }
}

/// To a number that is easily read, so that the scale does not change with every request.
fn round_up(number: u32) -> u32 {
    let mut unit = 1;
    loop {
        for step in [10, 12, 15, 20, 25, 30, 40, 50, 60, 80] {
            if number <= step * unit {
                return step * unit;
            }
        }
        unit *= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(answers: &[(u32, u32)]) -> Bucket {
        Bucket {
            answers: answers.iter().copied().collect(),
            ..Bucket::default()
        }
    }

    #[test]
    fn generations_stand_upon_each_other() {
        let cells = column(&bucket(&[(1, 10), (2, 20)]), 32.0, 4);
        let cell = |low, height, above| Some(Cell { low, height, above });
        // 10 and 20 of 32 eighths.
        let wanted = [
            cell(1, 8, None),
            cell(1, 2, Some(2)),
            cell(2, 8, None),
            cell(2, 6, None),
        ];
        assert_eq!(cells, wanted);
        assert_eq!(column(&bucket(&[]), 32.0, 2), [None, None]);
    }

    #[test]
    fn the_smallest_of_three_is_not_seen() {
        let cells = column(&bucket(&[(1, 4), (2, 1), (3, 3)]), 8.0, 1);
        let wanted = Cell {
            low: 1,
            height: 4,
            above: Some(3),
        };
        assert_eq!(cells, [Some(wanted)]);
    }

    #[test]
    fn the_scale_is_round() {
        let rounded = [0, 7, 99, 100, 101, 1999, 2001, 4100].map(round_up);
        assert_eq!(rounded, [10, 10, 100, 100, 120, 2000, 2500, 5000]);
    }
}
