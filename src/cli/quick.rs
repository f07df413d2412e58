//! The quick reader: an ordinary command line, without building anything.
//!
//! A launcher starts beside every service, and clap's preparations took 200 µs of each start. This cuts words with
//! clap's own lexer, and takes only what nothing can be said against; everything else is left to clap, which knows
//! what to say. What both understand they understand alike: a test compares them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap_lex::{ArgCursor, RawArgs, ShortFlags};

use super::guess;
use super::options::{Form, Opt, RUN};
use super::typed::Typed;

/// What was typed; nothing where clap is to look at it.
pub(super) fn read(form: &'static Form, words: &[OsString]) -> Option<Typed> {
    let line = RawArgs::new(words);
    let mut cursor = line.cursor();
    let mut typed = Typed::nothing(form);
    while let Some(word) = line.next(&mut cursor) {
        if word.is_escape() {
            let rest = line.remaining(&mut cursor).map(OsStr::to_owned);
            typed.operands.extend(rest);
        } else if let Some((name, attached)) = word.to_long() {
            let name = name.ok()?;
            let option = form.all().find(|option| option.long == name)?;
            take(&mut typed, option, attached, &line, &mut cursor)?;
        } else if let Some(flags) = word.to_short() {
            letters(&mut typed, form, flags, &line, &mut cursor)?;
        } else if word.is_stdio() || word.is_empty() {
            return None;
        } else {
            typed.operands.push(word.to_value_os().to_owned());
            if form.has_command {
                let rest = line.remaining(&mut cursor).map(OsStr::to_owned);
                typed.operands.extend(rest);
            }
        }
    }
    fits_together(&typed).then_some(typed)
}

/// `-q`, `-qv`, `-p FILE`, `-pFILE`.
fn letters(
    typed: &mut Typed,
    form: &'static Form,
    mut flags: ShortFlags<'_>,
    line: &RawArgs,
    cursor: &mut ArgCursor,
) -> Option<()> {
    while let Some(letter) = flags.next_flag() {
        let letter = letter.ok()?;
        let option = form.all().find(|option| option.short == Some(letter))?;
        if option.value.is_empty() {
            take(typed, option, None, line, cursor)?;
        } else {
            let attached = flags.next_value_os();
            // clap takes it for --pid-file=FILE.
            if attached.is_some_and(|value| value.as_encoded_bytes().starts_with(b"=")) {
                return None;
            }
            take(typed, option, attached, line, cursor)?;
        }
    }
    Some(())
}

fn take(
    typed: &mut Typed,
    option: &'static Opt,
    attached: Option<&OsStr>,
    line: &RawArgs,
    cursor: &mut ArgCursor,
) -> Option<()> {
    if !option.repeats && typed.has(option.long) {
        return None;
    }
    if option.value.is_empty() {
        typed.found.push((option, None));
        return attached.is_none().then_some(());
    }
    let value = match attached {
        Some(value) => value,
        // What looks like an option may be one, and the value forgotten.
        None => line
            .next_os(cursor)
            .filter(|word| !word.as_encoded_bytes().starts_with(b"-"))?,
    };
    let is_odd = value.is_empty() || !option.bytes && value.to_str().is_none();
    typed.found.push((option, Some(value.to_owned())));
    (!is_odd).then_some(())
}

fn fits_together(typed: &Typed) -> bool {
    typed.found.iter().all(|(option, _)| {
        let needs = option.needs;
        let contradicts = option.excludes.iter().any(|other| typed.has(other));
        !contradicts && (needs.is_empty() || typed.has(needs))
    })
}

/// The PID file, and whether it is only a rehearsal, in a line that cannot be understood as a whole: as far as
/// the first word that must be the command's.
pub(super) fn glimpse(words: &[OsString]) -> (Option<OsString>, bool) {
    let line = RawArgs::new(words);
    let mut cursor = line.cursor();
    let (mut file, mut rehearsal) = (None, false);
    // What follows an option that nobody knows may be its value.
    let mut unknown = false;
    while let Some(word) = line.next(&mut cursor) {
        if word.is_escape() {
            break;
        } else if let Some((name, attached)) = word.to_long() {
            let name = name.unwrap_or_default();
            rehearsal |= guess::meant(name, ["dry-run"]).is_some();
            let option = RUN.all().find(|option| option.long == name);
            unknown = option.is_none();
            if let Some(option) = option.filter(|option| !option.value.is_empty()) {
                let value = attached.or_else(|| line.next_os(&mut cursor));
                file = value.filter(|_| option.long == PID_FILE).or(file);
            }
        } else if let Some(mut flags) = word.to_short() {
            while let Some(letter) = flags.next_flag() {
                let is_it = |option: &&Opt| option.short.is_some() && option.short == letter.ok();
                let option = RUN.all().find(is_it);
                unknown = option.is_none();
                if let Some(option) = option.filter(|option| !option.value.is_empty()) {
                    let attached = flags.next_value_os();
                    let attached = attached.map(without_equals_sign);
                    let value = attached.or_else(|| line.next_os(&mut cursor));
                    file = value.filter(|_| option.long == PID_FILE).or(file);
                }
            }
        } else if !std::mem::take(&mut unknown) {
            break;
        }
    }
    (file.map(OsStr::to_owned), rehearsal)
}

const PID_FILE: &str = "pid-file";

fn without_equals_sign(value: &OsStr) -> &OsStr {
    let bytes = value.as_bytes();
    OsStr::from_bytes(bytes.strip_prefix(b"=").unwrap_or(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::FORMS;

    /// What is known of a line, whatever its order between options.
    type Known = (Vec<(&'static str, Vec<Option<OsString>>)>, Vec<OsString>);

    fn known(form: &'static Form, typed: &Typed) -> Known {
        let values = |option: &Opt| {
            let mine = typed.found.iter();
            let mine = mine.filter(|(other, _)| other.long == option.long);
            mine.map(|(_, value)| value.clone()).collect()
        };
        let options = form.all().map(|option| (option.long, values(option)));
        (options.collect(), typed.operands.clone())
    }

    /// What clap makes of it; nothing where it refuses.
    fn by_clap(form: &'static Form, words: &[OsString]) -> Option<Known> {
        let typed = Typed::by_clap(form, words, 2).ok()?;
        Some(known(form, &typed))
    }

    fn line(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn every_option_is_read_quickly_in_every_spelling_as_clap_reads_it() {
        for form in FORMS {
            for option in form.all() {
                let long = format!("--{}", option.long);
                let short = option.short.map(|letter| format!("-{letter}"));
                let mut spellings: Vec<Vec<String>> = Vec::new();
                if option.value.is_empty() {
                    spellings.push(vec![long]);
                    spellings.extend(short.map(|short| vec![short]));
                } else {
                    spellings.push(vec![long.clone(), "v".to_owned()]);
                    spellings.push(vec![format!("{long}=v")]);
                    spellings.push(vec![format!("{long}=-v=w")]);
                    spellings.extend(short.iter().map(|short| vec![format!("{short}v")]));
                    spellings.extend(short.map(|short| vec![short, "v".to_owned()]));
                }
                for spelling in spellings {
                    let mut words = line(&spelling.iter().map(String::as_str).collect::<Vec<_>>());
                    if !option.needs.is_empty() {
                        words.push(format!("--{}=needed", option.needs).into());
                    }
                    for operands in [&["x"][..], &["--", "x", "-q"], &["x", "y"]] {
                        let all = [&words[..], &line(operands)].concat();
                        let quick = read(form, &all).map(|typed| known(form, &typed));
                        assert!(quick.is_some(), "{}: {all:?}", form.name);
                        assert_eq!(quick, by_clap(form, &all), "{}: {all:?}", form.name);
                    }
                }
            }
        }
    }

    #[test]
    fn what_it_takes_it_takes_as_clap_does() {
        // A small generator of our own, so that each run tries the same lines.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut below = |end: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % end as u64) as usize
        };
        let odd = [
            "--",
            "-",
            "",
            "x",
            "y",
            "-x",
            "--bogus",
            "--help",
            "-h",
            "-V",
            "-qv",
            "-qpf",
            "-p",
            "-p=f",
            "-pf",
            "--quiet=1",
            "--pid-file=",
            "é",
            "=",
            "-1",
            "--name",
            "-é",
            "--dry-run",
        ];
        let mut taken = 0;
        for _ in 0..6_000 {
            let form = FORMS[below(FORMS.len())];
            let options: Vec<&Opt> = form.all().collect();
            let mut words = Vec::new();
            for _ in 0..below(6) {
                let option = options.get(below(options.len() + 2));
                match (below(6), option) {
                    (0, _) | (_, None) => words.push(odd[below(odd.len())].to_owned()),
                    (1, Some(option)) => words.push(format!("--{}", option.long)),
                    (2, Some(option)) => words.push(format!("--{}=a", option.long)),
                    (3, Some(option)) if option.short.is_some() => {
                        words.push(format!("-{}", option.short.unwrap()));
                    }
                    (_, Some(option)) => {
                        words.push(format!("--{}", option.long));
                        if !option.value.is_empty() {
                            words.push(["a", "a b", "-a", "--"][below(4)].to_owned());
                        }
                    }
                }
            }
            for _ in 0..below(4) {
                words.push(["x", "--", "-q", "--pid-file"][below(4)].to_owned());
            }
            let words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
            if let Some(typed) = read(form, &words) {
                taken += 1;
                let quick = Some(known(form, &typed));
                assert_eq!(quick, by_clap(form, &words), "{}: {words:?}", form.name);
            }
        }
        assert!(taken > 1_000, "{taken}");
    }
}
