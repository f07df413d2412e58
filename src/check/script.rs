//! The words of a run script, as far as they can be told without running it.

use std::path::Path;

/// A word, as the shell would give it to a program, and as it stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) raw: String,
    /// Its text is what it would be: nothing in it has to be expanded.
    literal: bool,
}

impl Word {
    /// One that no shell has to look at.
    pub(crate) fn literal(text: &str) -> Word {
        Word {
            text: text.to_owned(),
            raw: text.to_owned(),
            literal: true,
        }
    }
}

/// The command that a script ends in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Launch {
    /// The shell becomes it.
    pub(crate) exec: bool,
    /// It is a part of a pipeline, or in the background: another shell's, which no `exec` helps.
    pub(crate) aside: bool,
    /// What stands before the program's name, `exec` left out: `chpst -u app`, `env A=b`.
    pub(crate) before: Vec<Word>,
    /// The program's own name, and everything behind it.
    pub(crate) words: Vec<Word>,
}

/// Why there is no command line to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unclear {
    /// `seamless-run` does not appear.
    Missing,
    /// This word would have to be expanded.
    Expansion(String),
}

/// Finds the command that runs `seamless-run`: the last one that does.
pub(crate) fn find_launch(script: &str) -> Result<Launch, Unclear> {
    let mut all = commands_and_places(script).into_iter().rev();
    let found = all.find_map(|(words, aside)| {
        let named = |word: &Word| is_program(&word.text);
        let at = words.iter().position(named)?;
        // `seamless-run status` asks, and `notify` tells.
        let verb = words.get(at + 1).map(|word| word.text.as_str());
        let is_verb = matches!(
            verb,
            None | Some("status" | "restart" | "stop" | "notify" | "check")
        );
        (!is_verb).then_some((at, words, aside))
    });
    let (at, mut words, aside) = found.ok_or(Unclear::Missing)?;
    let launched = words.split_off(at);
    let exec = words.first().is_some_and(|word| word.text == "exec");
    words.drain(..usize::from(exec));
    // What the command itself gets may be anything.
    let end = launched.iter().position(|word| word.text == "--");
    let ours = &launched[..end.unwrap_or(launched.len())];
    if let Some(word) = ours.iter().find(|word| !word.literal) {
        return Err(Unclear::Expansion(word.raw.clone()));
    }
    Ok(Launch {
        exec,
        aside,
        before: words,
        words: launched,
    })
}

/// The script that a shell would run for `sh -c SCRIPT`, or for an executable that it interprets.
pub(crate) fn is_shell(program: &str) -> bool {
    let name = Path::new(program).file_name().unwrap_or_default();
    matches!(
        name.to_str(),
        Some("sh" | "dash" | "bash" | "ash" | "ksh" | "zsh" | "busybox")
    )
}

/// The interpreter in the first line, if the script names one.
pub(crate) fn interpreter(script: &[u8]) -> Option<String> {
    let first = script.strip_prefix(b"#!")?.split(|byte| *byte == b'\n');
    let line = String::from_utf8_lossy(first.into_iter().next()?).into_owned();
    line.split_ascii_whitespace().next().map(str::to_owned)
}

pub(crate) fn is_program(word: &str) -> bool {
    Path::new(word).file_name() == Some("seamless-run".as_ref())
}

/// Whether a script has a command that makes this directory, or one in it.
pub(crate) fn makes_directory(script: &str, path: &Path) -> bool {
    let makes = |word: &Word| {
        let name = word.text.rsplit(['/', '=']).next();
        matches!(name, Some("mkdir" | "install"))
    };
    commands(script).iter().any(|words| {
        let mut after = words.iter().skip_while(|word| !makes(word)).skip(1);
        // A script may be one word of another one.
        let mut scripts = words.iter().filter(|word| word.text.contains(' '));
        after.any(|word| Path::new(&word.text).starts_with(path))
            || scripts.any(|word| makes_directory(&word.text, path))
    })
}

/// Every simple command, redirections left out.
pub(crate) fn commands(script: &str) -> Vec<Vec<Word>> {
    let all = commands_and_places(script).into_iter();
    all.map(|(words, _)| words).collect()
}

/// The same; and whether it is a part of a pipeline, or in the background.
fn commands_and_places(script: &str) -> Vec<(Vec<Word>, bool)> {
    let mut commands = Vec::new();
    let mut words: Vec<Word> = Vec::new();
    let mut piped = false;
    let mut rest = script;
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        if let Some(joined) = rest.strip_prefix("\\\n") {
            rest = joined;
            continue;
        }
        let Some(first) = rest.chars().next() else {
            break;
        };
        match first {
            '#' => rest = rest.find('\n').map_or("", |end| &rest[end..]),
            '\n' | ';' | '(' | ')' => {
                rest = &rest[1..];
                commands.push((std::mem::take(&mut words), piped));
                piped = false;
            }
            // `&>file`
            '&' if rest[1..].starts_with('>') => rest = &rest[1..],
            '&' | '|' => {
                let is_and_or = rest[1..].starts_with(first);
                rest = &rest[1 + usize::from(is_and_or)..];
                commands.push((std::mem::take(&mut words), piped || !is_and_or));
                piped = first == '|' && !is_and_or;
            }
            '<' | '>' => rest = skip_redirection(rest),
            _ => {
                let (word, after) = word(rest);
                // `2>&1`: the number belongs to the redirection.
                let is_number = word.raw.bytes().all(|byte| byte.is_ascii_digit());
                if !(is_number && after.starts_with(['<', '>'])) {
                    words.push(word);
                }
                rest = after;
            }
        }
    }
    commands.push((words, piped));
    commands.retain(|(words, _)| !words.is_empty());
    commands
}

fn skip_redirection(text: &str) -> &str {
    let text = text.trim_start_matches(['<', '>', '&', '|', ' ', '\t']);
    if text.starts_with(['\n', ';', '(', ')', '#']) || text.is_empty() {
        return text;
    }
    word(text).1
}

/// The word that begins here, and what follows it.
fn word(text: &str) -> (Word, &str) {
    let mut value = String::new();
    let mut literal = true;
    let mut quote = None;
    let mut characters = text.char_indices();
    let mut end = text.len();
    while let Some((index, character)) = characters.next() {
        match (quote, character) {
            (None, ' ' | '\t' | '\n' | ';' | '&' | '|' | '(' | ')' | '<' | '>') => {
                end = index;
                break;
            }
            (None, '\'' | '"') => quote = Some(character),
            (Some(open), close) if open == close => quote = None,
            (Some('\''), inside) => value.push(inside),
            (Some(_) | None, '\\') => match characters.next() {
                Some((_, '\n')) | None => {}
                // Between double quotes only these lose it.
                Some((_, other)) if quote.is_some() && !"$`\"\\".contains(other) => {
                    value.extend(['\\', other]);
                }
                Some((_, other)) => value.push(other),
            },
            (_, special) => {
                let expands = match quote {
                    Some(_) => "$`",
                    None => "$`*?[~",
                };
                literal &= !expands.contains(special);
                value.push(special);
            }
        }
    }
    let (raw, after) = text.split_at(end);
    let word = Word {
        text: value,
        raw: raw.to_owned(),
        literal,
    };
    (word, after)
}

/// The words as they stand there.
pub(crate) fn raw(words: &[Word]) -> String {
    let raw: Vec<&str> = words.iter().map(|word| word.raw.as_str()).collect();
    raw.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(words: &[Word]) -> Vec<&str> {
        words.iter().map(|word| word.text.as_str()).collect()
    }

    #[test]
    fn the_launch_is_found_in_a_script() {
        let script = "#!/bin/sh\n# seamless-run is good\nexec 2>&1\nmkdir -p /run/app\n\
            exec chpst -u app \\\n  /opt/seamless-run -p '/run/a b.pid' --listen \"http=:80\" 3>&- -- ./daemon \"$@\" # x\n";
        let launch = find_launch(script).unwrap();
        assert!(launch.exec);
        assert_eq!(raw(&launch.before), "chpst -u app");
        assert_eq!(
            texts(&launch.words),
            [
                "/opt/seamless-run",
                "-p",
                "/run/a b.pid",
                "--listen",
                "http=:80",
                "--",
                "./daemon",
                "$@"
            ]
        );
    }

    #[test]
    fn what_would_have_to_be_expanded_is_not_guessed() {
        for (script, raw) in [
            ("seamless-run -p $FILE -- x", "$FILE"),
            ("seamless-run -p \"$RUN/app.pid\" x", "\"$RUN/app.pid\""),
            ("seamless-run -p ~/app.pid x", "~/app.pid"),
        ] {
            let unclear = Unclear::Expansion(raw.to_owned());
            assert_eq!(find_launch(script), Err(unclear), "{script}");
        }
        assert!(find_launch("seamless-run -p '$x' -- $y").is_ok());
        for script in ["", "exec ./daemon", "seamless-run status -q f || exit"] {
            assert_eq!(find_launch(script), Err(Unclear::Missing), "{script}");
        }
    }

    #[test]
    fn a_shell_that_stays_is_told_from_one_that_does_not() {
        assert!(!find_launch("seamless-run -p f x").unwrap().exec);
        assert!(find_launch("cd /; exec seamless-run -p f x").unwrap().exec);
    }

    #[test]
    fn quotes_are_taken_off_as_a_shell_does() {
        let script = r#"a\ b 'c"d' "e\"f\g" h''i"#;
        let [command] = &commands(script)[..] else {
            panic!()
        };
        assert_eq!(texts(command), ["a b", "c\"d", "e\"f\\g", "hi"]);
        assert_eq!(raw(command), script);
        let aside = |script| find_launch(script).unwrap().aside;
        for script in [
            "exec seamless-run x | cat",
            "cat x | seamless-run x",
            "seamless-run x &",
            "a && seamless-run x 2>&1 | cat",
        ] {
            assert!(aside(script), "{script}");
        }
        for script in [
            "exec seamless-run x 2>&1",
            "exec seamless-run x &>log",
            "a | b; exec seamless-run x",
            "a || exec seamless-run x",
        ] {
            assert!(!aside(script), "{script}");
        }
        assert_eq!(commands("a;b&&c|d\n\n#e\n").len(), 4);
    }

    #[test]
    fn a_directory_that_is_made_is_seen() {
        let made = |script: &str| makes_directory(script, Path::new("/run/app"));
        for script in [
            "exec 2>&1\nmkdir -p /run/app\nexec x",
            "/bin/install -d -m 700 /run/app/tmp",
            "/bin/sh -c 'mkdir -p /run/app && exec x'",
            "{ path=/bin/mkdir ; argv[]=/bin/mkdir -p /run/app ; ignore_errors=no }",
        ] {
            assert!(made(script), "{script}");
        }
        for script in [
            "mkdir /run/other; exec seamless-run -p /run/app/app.pid x",
            "mkdir -p /run/application",
            "rm -r /run/app",
        ] {
            assert!(!made(script), "{script}");
        }
    }

    #[test]
    fn the_interpreter_is_in_the_first_line() {
        let named = |text: &str| interpreter(text.as_bytes());
        assert_eq!(named("#!/bin/sh -e\nx").as_deref(), Some("/bin/sh"));
        assert_eq!(named("#! /usr/bin/env sh").as_deref(), Some("/usr/bin/env"));
        assert_eq!(named("\x7fELF"), None);
        assert!(is_shell("/bin/dash") && !is_shell("/usr/bin/python3"));
    }
}
