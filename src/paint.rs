//! Colours, where somebody looks at a terminal and wants them.

use std::env;
use std::io::IsTerminal;

/// Whether there are any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paint {
    Plain,
    Colours,
}

/// What a piece of text is to the eye.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Bold,
    Good,
    Waiting,
    Bad,
    Aside,
}

impl Paint {
    /// What is written there shall be: coloured on a terminal that can, unless `NO_COLOR` (no-color.org) says no.
    pub(crate) fn of(output: &impl IsTerminal) -> Paint {
        let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        let can = is_set("TERM") && env::var_os("TERM").is_some_and(|term| term != "dumb");
        match output.is_terminal() && can && !is_set("NO_COLOR") {
            true => Paint::Colours,
            false => Paint::Plain,
        }
    }

    pub(crate) fn show(self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Plain => return text.to_owned(),
            Style::Bold => "1",
            Style::Good => "32",
            Style::Waiting => "33",
            Style::Bad => "31",
            Style::Aside => "36",
        };
        match self {
            Paint::Plain => text.to_owned(),
            Paint::Colours => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}

/// A line in pieces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line(Vec<(Style, String)>);

impl Line {
    pub(crate) fn plain(text: impl Into<String>) -> Line {
        Line::default().with(Style::Plain, text)
    }

    pub(crate) fn with(mut self, style: Style, text: impl Into<String>) -> Line {
        self.0.push((style, text.into()));
        self
    }

    /// What a daemon or a file name put into it must not reach a terminal as more than text.
    pub(crate) fn shown(&self, paint: Paint) -> String {
        let pieces = self.0.iter();
        pieces
            .map(|(style, text)| paint.show(*style, &text.replace(char::is_control, " ")))
            .collect()
    }
}

/// Whole lines, to be printed at once.
pub(crate) fn shown(lines: &[Line], paint: Paint) -> String {
    let mut text = String::new();
    for line in lines {
        text.push_str(&line.shown(paint));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_ours_alone() {
        let line = Line::plain("a\x1b[2J\nb").with(Style::Good, "c\u{9b}31m\x7f");
        assert_eq!(line.shown(Paint::Plain), "a [2J bc 31m ");
        assert_eq!(line.shown(Paint::Colours), "a [2J b\x1b[32mc 31m \x1b[0m");
        assert_eq!(
            shown(&[line.clone(), Line::default()], Paint::Plain),
            "a [2J bc 31m \n\n"
        );
    }
}
