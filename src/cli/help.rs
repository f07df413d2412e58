//! `-h` and `--help`, from the table of options.

use std::fmt::Write;
use std::io;

use super::options::{Form, HELP, Opt};
use crate::paint::{Paint, Style};

/// What fits every terminal, and a page.
const WIDTH: usize = 80;
/// Where the short texts begin.
const COLUMN: usize = 31;

/// For whoever asked, at standard output.
pub(super) fn text(form: &Form, long: bool) -> String {
    write(form, long, Paint::of(&io::stdout()))
}

pub(super) fn version() -> String {
    format!("seamless-run {}\n", env!("CARGO_PKG_VERSION"))
}

fn write(form: &Form, long: bool, paint: Paint) -> String {
    let mut text = String::new();
    text.push_str(form.about);
    text.push('\n');
    if long && !form.more.is_empty() {
        text.push('\n');
        fill(&mut text, form.more, 0, 0);
    }
    for (index, usage) in form.usage.iter().enumerate() {
        let before = match index {
            0 => format!("\n{} ", paint.show(Style::Bold, "Usage:")),
            _ => "       ".to_owned(),
        };
        text.push_str(&before);
        text.push_str(usage);
        text.push('\n');
    }
    let mut heading = "";
    for option in form.all().chain(HELP) {
        // The common ones have a heading of their own only where there are others.
        let ours = match form.has_command {
            true => option.heading,
            false => "Options",
        };
        if ours != heading {
            heading = ours;
            if text.ends_with("\n\n") {
                text.pop();
            }
            let title = paint.show(Style::Bold, &format!("{heading}:"));
            text.push_str(&format!("\n{title}\n"));
        }
        match long {
            true => in_full(&mut text, option, paint),
            false => in_brief(&mut text, option, paint),
        }
    }
    while text.ends_with("\n\n") {
        text.pop();
    }
    for part in [form.after, form.after_long] {
        let wanted = !part.is_empty() && (long || std::ptr::eq(part, form.after));
        if wanted {
            text.push('\n');
            headed(&mut text, part, paint);
        }
    }
    text
}

/// The option as it is typed, and how wide that is.
fn typed(option: &Opt, paint: Paint) -> (String, usize) {
    let short = match option.short {
        Some(letter) => format!("-{letter}, "),
        None => "    ".to_owned(),
    };
    let name = format!("{short}--{}", option.long);
    let value = match option.value {
        "" => String::new(),
        value => format!(" {value}"),
    };
    let width = 2 + name.len() + value.len();
    (
        format!("  {}{value}", paint.show(Style::Aside, &name)),
        width,
    )
}

fn in_brief(text: &mut String, option: &Opt, paint: Paint) {
    let (name, width) = typed(option, paint);
    text.push_str(&name);
    let mut said = option.brief.to_owned();
    if !option.default.is_empty() {
        let _ = write!(said, " [{}]", option.default.replace(' ', "\u{a0}"));
    }
    let mut at = width;
    if width + 2 > COLUMN {
        text.push('\n');
        at = 0;
    }
    text.push_str(&" ".repeat(COLUMN - at));
    fill(text, &said, COLUMN, COLUMN);
}

fn in_full(text: &mut String, option: &Opt, paint: Paint) {
    const INDENT: usize = 8;
    let (name, _) = typed(option, paint);
    text.push_str(&name);
    text.push('\n');
    let mut letters = option.brief.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    let mut said: String = first.into_iter().chain(letters).collect();
    if !said.ends_with('.') {
        said.push('.');
    }
    if !option.more.is_empty() {
        let _ = write!(said, " {}", option.more);
    }
    text.push_str(&" ".repeat(INDENT));
    fill(text, &said, INDENT, INDENT);
    let mut last = Vec::new();
    if !option.default.is_empty() {
        last.push(format!("Default: {}", option.default));
    }
    if !option.example.is_empty() {
        last.push(format!("Example: {}", option.example));
    }
    for line in last {
        let _ = writeln!(text, "{:INDENT$}{line}", "");
    }
    text.push('\n');
}

/// Words in lines of the width, the first of which begins `at` a column.
fn fill(text: &mut String, words: &str, mut at: usize, indent: usize) {
    let mut begun = false;
    for word in words.split(' ') {
        let width = word.chars().count();
        if begun && at + 1 + width > WIDTH {
            text.push('\n');
            text.push_str(&" ".repeat(indent));
            at = indent;
        } else if begun {
            text.push(' ');
            at += 1;
        }
        text.push_str(&word.replace('\u{a0}', " "));
        at += width;
        begun = true;
    }
    text.push('\n');
}

/// A part whose lines that end in a colon and are not indented are headings.
fn headed(text: &mut String, part: &str, paint: Paint) {
    for line in part.lines() {
        match line.split_once(':') {
            Some((title, rest)) if !line.starts_with(' ') && is_title(title) => {
                let _ = writeln!(
                    text,
                    "{}{rest}",
                    paint.show(Style::Bold, &format!("{title}:"))
                );
            }
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
}

fn is_title(title: &str) -> bool {
    ["Verbs", "Words", "Examples", "Exit status"]
        .iter()
        .any(|known| title.starts_with(known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::FORMS;

    #[test]
    fn it_fits_eighty_columns() {
        for form in FORMS {
            for long in [false, true] {
                let text = write(form, long, Paint::Plain);
                for line in text.lines() {
                    assert!(line.chars().count() <= 80, "{}: {line}", form.name);
                    assert_eq!(line.trim_end(), line, "{}", form.name);
                }
                assert!(!text.contains("\n\n\n"), "{text}");
                assert!(text.ends_with('\n') && !text.ends_with("\n\n"));
            }
        }
    }

    #[test]
    fn every_option_is_in_both_and_the_long_one_has_an_example_of_it() {
        for form in FORMS {
            let (short, long) = (
                write(form, false, Paint::Plain),
                write(form, true, Paint::Plain),
            );
            assert!(short.len() < long.len(), "{}", form.name);
            for option in form.all() {
                let name = format!("--{}", option.long);
                assert!(short.contains(&name) && long.contains(&name), "{name}");
                let letter = option.short.map(|letter| format!("-{letter}"));
                let starts = [Some(name.clone()), letter];
                let mut starts = starts.iter().flatten();
                let is_of_it = |start: &String| option.example.starts_with(start.as_str());
                assert!(starts.any(is_of_it), "{name}: {}", option.example);
            }
        }
    }

    #[test]
    fn each_heading_is_there_once() {
        let text = write(&crate::cli::options::RUN, false, Paint::Plain);
        for heading in [
            "The service:",
            "Sockets:",
            "Readiness:",
            "Signals:",
            "Time limits:",
            "Log and help:",
        ] {
            assert_eq!(text.matches(&format!("\n{heading}\n")).count(), 1, "{text}");
        }
    }

    #[test]
    fn colours_are_added_and_nothing_else() {
        let form = &crate::cli::options::RUN;
        let plain = write(form, true, Paint::Plain);
        let coloured = write(form, true, Paint::Colours);
        assert!(coloured.contains("\x1b[1m"));
        let mut stripped = coloured;
        for code in ["\x1b[1m", "\x1b[36m", "\x1b[0m"] {
            stripped = stripped.replace(code, "");
        }
        assert_eq!(stripped, plain);
    }
}
