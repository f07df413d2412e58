//! The words of a command line, as options of a form and what follows them.
//!
//! An ordinary line is read by [`super::quick`]; clap reads everything else, and says what is wrong with it.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command, value_parser};

use super::options::{Form, Opt};
use super::{Refusal, help, quick};

/// What was typed.
#[derive(Debug)]
pub(crate) struct Typed {
    form: &'static Form,
    /// Those of one option in their order.
    pub(super) found: Vec<(&'static Opt, Option<OsString>)>,
    /// The command with its words, or what the verb is about.
    pub(crate) operands: Vec<OsString>,
}

impl Typed {
    pub(super) fn nothing(form: &'static Form) -> Typed {
        Typed {
            form,
            found: Vec::new(),
            operands: Vec::new(),
        }
    }

    /// Understands what follows the name; `status` is the exit status of wrong use.
    pub(crate) fn read(
        form: &'static Form,
        words: &[OsString],
        status: i32,
    ) -> Result<Typed, Refusal> {
        match quick::read(form, words) {
            Some(typed) => Ok(typed),
            None => Typed::by_clap(form, words, status),
        }
    }

    pub(super) fn by_clap(
        form: &'static Form,
        words: &[OsString],
        status: i32,
    ) -> Result<Typed, Refusal> {
        let command = command(form);
        let mut matches = command
            .try_get_matches_from(words)
            .map_err(|error| refusal(form, words, &error, status))?;
        let mut typed = Typed::nothing(form);
        for option in form.all() {
            let id = option.long;
            let values: Vec<Option<OsString>> = match (option.value, option.bytes) {
                ("", _) if matches.get_flag(id) => vec![None],
                ("", _) => Vec::new(),
                (_, true) => {
                    let values = matches.remove_many::<OsString>(id);
                    values.into_iter().flatten().map(Some).collect()
                }
                (_, false) => {
                    let values = matches.remove_many::<String>(id).into_iter().flatten();
                    values.map(|value| Some(value.into())).collect()
                }
            };
            let values = values.into_iter().map(|value| (option, value));
            typed.found.extend(values);
        }
        let operands = matches.remove_many::<OsString>(OPERANDS);
        typed.operands = operands.into_iter().flatten().collect();
        Ok(typed)
    }

    pub(crate) fn has(&self, long: &str) -> bool {
        debug_assert!(self.form.all().any(|option| option.long == long), "{long}");
        self.found.iter().any(|(option, _)| option.long == long)
    }

    /// Every value of an option, in order.
    pub(crate) fn all(&mut self, long: &str) -> Vec<OsString> {
        debug_assert!(self.form.all().any(|option| option.long == long), "{long}");
        let mine = self.found.iter_mut();
        mine.filter(|(option, _)| option.long == long)
            .filter_map(|(_, value)| value.take())
            .collect()
    }

    /// The value of an option that is typed once.
    pub(crate) fn one(&mut self, long: &str) -> Option<OsString> {
        self.all(long).into_iter().next()
    }

    /// It is UTF-8, or was refused.
    pub(crate) fn text(&mut self, long: &str) -> Option<String> {
        let value = self.one(long)?;
        Some(value.to_string_lossy().into_owned())
    }

    /// What was typed, or what is meant where nothing was.
    pub(crate) fn or_default(&mut self, long: &str) -> Cow<'static, str> {
        if let Some(typed) = self.text(long) {
            return Cow::Owned(typed);
        }
        let option = self.form.all().find(|option| option.long == long);
        Cow::Borrowed(option.map_or("", |option| option.default))
    }
}

/// What is no option's. No option has that name.
const OPERANDS: &str = "";

/// The form as clap knows it.
pub(super) fn command(form: &'static Form) -> Command {
    let mut command = Command::new(form.name)
        .no_binary_name(true)
        .override_usage(form.usage[0])
        .version(env!("CARGO_PKG_VERSION"));
    for option in form.all() {
        let mut argument = Arg::new(option.long).long(option.long);
        if let Some(letter) = option.short {
            argument = argument.short(letter);
        }
        if !option.needs.is_empty() {
            argument = argument.requires(option.needs);
        }
        let argument = match (option.value, option.repeats) {
            ("", _) => argument.action(ArgAction::SetTrue),
            (value, true) => argument.value_name(value).action(ArgAction::Append),
            (value, false) => argument.value_name(value).action(ArgAction::Set),
        };
        let argument = match (option.value, option.bytes) {
            ("", _) => argument,
            (_, true) => argument.value_parser(value_parser!(OsString)),
            (_, false) => argument.value_parser(value_parser!(String)),
        };
        command = command.arg(argument.conflicts_with_all(option.excludes));
    }
    let operands = Arg::new(OPERANDS)
        .value_name("WORD")
        .num_args(0..)
        .trailing_var_arg(form.has_command)
        .value_parser(value_parser!(OsString));
    command.arg(operands)
}

fn refusal(form: &'static Form, words: &[OsString], error: &clap::Error, status: i32) -> Refusal {
    match error.kind() {
        ErrorKind::DisplayHelp => {
            let mut words = words.iter().take_while(|word| *word != "--");
            let long = words.any(|word| word == OsStr::new("--help"));
            Refusal::Answer(help::text(form, long))
        }
        ErrorKind::DisplayVersion => Refusal::Answer(help::version()),
        _ => Refusal::Complaint(in_one_line(form, error), status),
    }
}

/// clap says it in paragraphs; people who read a service's log want one line.
fn in_one_line(form: &Form, error: &clap::Error) -> String {
    let named = |kind| match error.get(kind) {
        Some(ContextValue::String(name)) => Some(name.clone()),
        Some(ContextValue::Strings(names)) => Some(names.join(" ")),
        _ => None,
    };
    let name = form.name;
    match (error.kind(), named(ContextKind::InvalidArg)) {
        (ErrorKind::MissingRequiredArgument, Some(missing)) => {
            format!("{missing} is missing; use: {}", form.usage[0])
        }
        (ErrorKind::UnknownArgument, Some(unknown)) => match named(ContextKind::SuggestedArg) {
            Some(meant) => format!("unknown option {unknown}; is {meant} meant?"),
            None if form.has_command => format!(
                "unknown option {unknown}; see {name} -h (a command of that name comes after --)"
            ),
            None => format!("unknown option {unknown}; see {name} -h"),
        },
        _ => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            let first = first.strip_prefix("error: ").unwrap_or(first);
            format!("{first}; see {name} -h")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::FORMS;

    #[test]
    fn clap_finds_no_fault_with_the_forms() {
        for form in FORMS {
            command(form).debug_assert();
        }
    }
}
