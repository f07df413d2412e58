//! What is said when the picture has gone.

use std::io::{self, Write};

use super::{row::wrapped, tally::Sums};

pub(crate) fn write(sums: &Sums, width: usize, out: &mut impl Write) -> io::Result<()> {
    for paragraph in paragraphs(sums) {
        for line in wrapped(&paragraph, width) {
            writeln!(out, "{line}")?;
        }
    }
    if let Some(why) = &sums.first_failure {
        writeln!(out, "\nFAILED: the first: {why}")?;
    }
    Ok(())
}

fn paragraphs(sums: &Sums) -> Vec<String> {
    let generations = match sums.answers.len() {
        1 => "1 generation".to_owned(),
        many => format!("{many} generations"),
    };
    let mut paragraphs = vec![format!(
        "{} requests answered by {generations}, {} failed; the slowest of the quick ones took {:.1} ms.",
        sums.answered,
        sums.failed,
        sums.slowest.as_secs_f64() * 1000.0,
    )];
    if sums.in_hand + sums.waited > 0 {
        paragraphs.push(format!(
            "{} died in the hands of a daemon that was killed; {} waited in the queue meanwhile, and were \
             answered by the next one.",
            sums.in_hand, sums.waited,
        ));
    }
    paragraphs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_wider_than_the_terminal_and_no_word_is_broken() {
        let sums = Sums {
            answered: 120_123,
            answers: [(1, 1)].into(),
            in_hand: 12,
            waited: 8,
            ..Sums::default()
        };
        for width in [40, 80, 100, 200] {
            let mut out = Vec::new();
            write(&sums, width, &mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            assert!(text.lines().all(|line| line.len() <= width), "{text}");
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
            let all: Vec<String> = words(&text);
            let whole: Vec<String> = words(&paragraphs(&sums).join("\n"));
            assert_eq!(all, whole);
        }
        assert!(paragraphs(&sums)[0].contains(" by 1 generation, "));
    }
}
