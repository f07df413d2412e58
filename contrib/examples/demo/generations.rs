//! Who there has been, and what is worth a row of the picture.

use std::collections::BTreeMap;

use super::{status::Seen, tally::Sums};

/// By number; whether it lives.
#[derive(Debug, Default)]
pub(crate) struct Generations(BTreeMap<u32, (Seen, bool)>);

/// A row of the table.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) seen: Seen,
    pub(crate) lives: bool,
    /// Of attempts that failed one after the other, the first; `seen` is the last.
    pub(crate) first: u32,
}

impl Generations {
    /// All that there are now.
    pub(crate) fn hear(&mut self, all: Vec<Seen>) {
        for (_, lives) in self.0.values_mut() {
            *lives = false;
        }
        for seen in all {
            self.0.insert(seen.number, (seen, true));
        }
    }

    /// Of those that serve, the newest, and who there is of it.
    pub(crate) fn newest(&self, who: impl Fn(&Seen) -> Option<u32>) -> Option<(u32, u32)> {
        let living = self.0.values().rev().filter(|(_, lives)| *lives);
        let serving = living.map(|(seen, _)| seen).find(|seen| seen.serves)?;
        Some((serving.number, who(serving)?))
    }

    /// Those that live, the newest first; then those that have gone. Attempts that failed one after the other share a
    /// row.
    pub(crate) fn worth_showing(&self, sums: &Sums) -> Vec<Shown> {
        let (mut living, mut gone) = (Vec::new(), Vec::<Shown>::new());
        // Whether the row before is one of attempts that failed, and this one could join it.
        let mut failing = false;
        for (seen, lives) in self.0.values().rev() {
            let failed = !lives && !sums.answers.contains_key(&seen.number);
            let shown = Shown {
                seen: seen.clone(),
                lives: *lives,
                first: seen.number,
            };
            match gone.last_mut() {
                Some(last) if failing && failed => last.first = seen.number,
                _ if *lives => living.push(shown),
                _ => gone.push(shown),
            }
            failing = failed;
        }
        living.append(&mut gone);
        living
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(number: u32) -> Seen {
        Seen {
            number,
            phase: "serving".to_owned(),
            ready: true,
            serves: true,
            daemon: Some(number),
            keeper: None,
            launcher: None,
        }
    }

    #[test]
    fn attempts_that_failed_one_after_the_other_share_a_row() {
        let mut generations = Generations::default();
        generations.hear((1..=9).map(seen).collect());
        generations.hear(vec![seen(5)]);
        let sums = Sums {
            answers: [(1, 10), (2, 10), (5, 10), (8, 10)].into(),
            ..Sums::default()
        };
        let shown = generations.worth_showing(&sums);
        let rows: Vec<_> = shown
            .iter()
            .map(|shown| (shown.first, shown.seen.number, shown.lives))
            .collect();
        let wanted = [
            (5, 5, true),
            (9, 9, false),
            (8, 8, false),
            (6, 7, false),
            (3, 4, false),
            (2, 2, false),
            (1, 1, false),
        ];
        assert_eq!(rows, wanted);
    }
}
