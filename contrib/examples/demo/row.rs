//! One row of the picture: text of several colours, never wider than the terminal.

use std::fmt::Write;

use super::terminal::{Abilities, Colours};

/// What a piece of text is, and by that its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ink {
    Plain,
    Faint,
    Strong,
    Title,
    /// One after the other, as they came to answer.
    Generation(usize),
    Good,
    Bad,
    /// In the hands of the killed.
    Dead,
}

/// Of the 256 that are the same on every terminal: of middle lightness, for dark and light ones, and apart from each
/// other for those who see no red or green.
const MANY: [u8; 6] = [33, 208, 36, 170, 142, 99];
/// As the terminal's own theme has them: blue, yellow, cyan, magenta, and two bright ones.
const SIXTEEN: [u8; 6] = [34, 33, 36, 35, 94, 93];

fn of_generation<T: Copy>(palette: [T; 6], place: usize) -> T {
    palette[place % palette.len()]
}

impl Ink {
    /// The words of the escape sequence; empty: as the terminal has it.
    fn codes(self, colours: Colours) -> String {
        let coloured = |many: u8, sixteen: u8, more: &str| match colours {
            Colours::None => more.trim_start_matches(';').to_owned(),
            Colours::Sixteen => format!("{sixteen}{more}"),
            Colours::Many => format!("38;5;{many}{more}"),
        };
        match self {
            Self::Plain => String::new(),
            Self::Faint => "2".to_owned(),
            Self::Strong => "1".to_owned(),
            Self::Title => "1;7".to_owned(),
            Self::Generation(place) => coloured(
                of_generation(MANY, place),
                of_generation(SIXTEEN, place),
                "",
            ),
            Self::Good => coloured(35, 32, ";1"),
            Self::Bad => coloured(160, 31, ";1;7"),
            Self::Dead => coloured(172, 33, ";1"),
        }
    }

    fn background(self, colours: Colours) -> String {
        match (self, colours) {
            (Self::Generation(place), Colours::Many) => {
                format!(";48;5;{}", of_generation(MANY, place))
            }
            (Self::Generation(place), Colours::Sixteen) => {
                format!(";{}", of_generation(SIXTEEN, place) + 10)
            }
            _ => String::new(),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Row {
    text: String,
    used: usize,
    width: usize,
    colours: Colours,
}

impl Row {
    pub(crate) fn new(width: usize, abilities: Abilities) -> Self {
        Self {
            text: String::new(),
            used: 0,
            width,
            colours: abilities.colours,
        }
    }

    /// What is left of the text where there is room.
    pub(crate) fn put(&mut self, ink: Ink, text: &str) {
        let codes = ink.codes(self.colours);
        self.put_coded(&codes, text);
    }

    /// A block of one colour on another one.
    pub(crate) fn put_on(&mut self, ink: Ink, ground: Option<Ink>, block: char) {
        let mut codes = ink.codes(self.colours);
        if let Some(ground) = ground {
            codes += &ground.background(self.colours);
        }
        self.put_coded(&codes, block.encode_utf8(&mut [0; 4]));
    }

    fn put_coded(&mut self, codes: &str, text: &str) {
        // A character each; nothing that a log line could do to a terminal.
        let fitting = text.chars().filter(|char| !char.is_control());
        let fitting: String = fitting.take(self.width - self.used).collect();
        self.used += fitting.chars().count();
        if codes.is_empty() {
            self.text += &fitting;
        } else {
            // Writing to a String does not fail.
            write!(self.text, "\x1b[{codes}m{fitting}\x1b[0m").ok();
        }
    }

    /// Blanks up to this column.
    pub(crate) fn up_to(&mut self, column: usize) {
        let missing = column.min(self.width).saturating_sub(self.used);
        self.put(Ink::Plain, &" ".repeat(missing));
    }

    /// Right-justified in so many columns.
    pub(crate) fn put_right(&mut self, ink: Ink, text: &str, columns: usize) {
        let end = self.used + columns;
        self.up_to(end.saturating_sub(text.chars().count()));
        self.put(ink, text);
    }

    pub(crate) fn left(&self) -> usize {
        self.width - self.used
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

/// Lines of whole words.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last().map_or(0, |line| line.chars().count());
        if last > 0 && last + 1 + word.chars().count() > width {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_never_wider_than_the_terminal() {
        let abilities = Abilities {
            colours: Colours::None,
            unicode: true,
        };
        let mut row = Row::new(8, abilities);
        row.put(Ink::Plain, "abc\x1b[2J");
        row.put_right(Ink::Plain, "defghijk", 3);
        row.up_to(20);
        assert_eq!(row.as_str(), "abc[2Jde");
        assert_eq!(row.left(), 0);
    }

    #[test]
    fn without_colours_there_are_none() {
        let inks = [
            Ink::Good,
            Ink::Bad,
            Ink::Dead,
            Ink::Generation(3),
            Ink::Title,
        ];
        for ink in inks {
            let codes = ink.codes(Colours::None);
            assert!(
                codes.split(';').all(|code| matches!(code, "" | "1" | "7")),
                "{ink:?}: {codes}"
            );
        }
    }
}
