//! Programs that change something and become another one: what stands between a shell's `exec` and the
//! program that is meant.

use std::path::Path;

/// One of them.
#[derive(Clone, Copy, Debug)]
struct Tool<'a> {
    /// The user whose process it becomes, if it changes that, and not to root.
    user: Option<&'a str>,
}

/// The program that the tools at the beginning of a command become, and its arguments.
pub(crate) fn behind<'a, 'b>(words: &'b [&'a str]) -> &'b [&'a str] {
    let mut rest = words;
    while let Some((_, length)) = one(rest) {
        rest = &rest[length.min(rest.len())..];
    }
    rest
}

/// The user that the tools among these words leave, whatever else stands between them.
pub(crate) fn user_anywhere<'a>(words: &[&'a str]) -> Option<&'a str> {
    let at = (0..words.len()).rev();
    at.filter_map(|index| one(&words[index..]))
        .find_map(|(tool, _)| tool.user)
}

/// The tool that these words begin with, and how many of them are its own.
fn one<'a>(words: &[&'a str]) -> Option<(Tool<'a>, usize)> {
    let name = Path::new(words.first()?).file_name()?.to_str()?;
    let (user, length) = match name {
        "chpst" => options(words, "-u", "ubenlLmdofcrtspC/"),
        "setuidgid" | "s6-setuidgid" | "gosu" | "su-exec" => (words.get(1).copied(), 2),
        "setpriv" => setpriv(words),
        "runuser" | "sudo" | "doas" => options(words, "-u", "uUgGhpCrtTD"),
        "envdir" | "envuidgid" | "setlock" | "s6-envdir" | "s6-envuidgid" => (None, 2),
        "softlimit" | "s6-softlimit" => options(words, "", "acdfhlmnoprstu"),
        "nice" => options(words, "", "n"),
        "ionice" => options(words, "", "cnpPu"),
        "env" => environment(words),
        "nohup" | "pgrphack" | "s6-setsid" | "stdbuf" => options(words, "", "ioe"),
        _ => return None,
    };
    let tool = Tool {
        user: user.filter(|user| !is_root(user)),
    };
    Some((tool, length))
}

fn is_root(user: &str) -> bool {
    let name = user.split(':').find(|part| !part.is_empty());
    matches!(name, Some("root" | "0"))
}

/// Short options; those in `with_value` take one, attached or as the next word. Gives the value of
/// `wanted`.
fn options<'a>(words: &[&'a str], wanted: &str, with_value: &str) -> (Option<&'a str>, usize) {
    let (mut found, mut at) = (None, 1);
    while let Some(word) = words.get(at).filter(|word| word.starts_with('-')) {
        at += 1;
        if *word == "--" {
            break;
        }
        let letter = word.get(1..2).unwrap_or_default();
        let takes = !letter.is_empty() && with_value.contains(letter) && !word.starts_with("--");
        let attached = word.get(2..).filter(|value| !value.is_empty());
        let value = match attached {
            None if takes => {
                at += 1;
                words.get(at - 1).copied()
            }
            attached => attached,
        };
        if takes && word.get(..2) == Some(wanted) {
            found = value;
        }
    }
    (found, at)
}

fn setpriv<'a>(words: &[&'a str]) -> (Option<&'a str>, usize) {
    const WITH_VALUE: [&str; 14] = [
        "--ambient-caps",
        "--apparmor-profile",
        "--bounding-set",
        "--egid",
        "--euid",
        "--gid",
        "--groups",
        "--inh-caps",
        "--pdeathsig",
        "--regid",
        "--reuid",
        "--rgid",
        "--ruid",
        "--securebits",
    ];
    let (mut user, mut at) = (None, 1);
    while let Some(word) = words.get(at).filter(|word| word.starts_with('-')) {
        at += 1;
        if *word == "--" {
            break;
        }
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None if WITH_VALUE.contains(word) => {
                at += 1;
                (*word, words.get(at - 1).copied())
            }
            None => (*word, None),
        };
        if matches!(name, "--reuid" | "--euid") {
            user = value;
        }
    }
    (user, at)
}

fn environment<'a>(words: &[&'a str]) -> (Option<&'a str>, usize) {
    let (_, mut at) = options(words, "", "uCS");
    at += words.get(at..).map_or(0, |rest| {
        rest.iter().take_while(|word| word.contains('=')).count()
    });
    (None, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_stands_behind_its_tools() {
        for (line, user_of_it, program) in [
            ("./daemon -u x", None, "./daemon"),
            ("s6-softlimit -m 9 s6-setuidgid app d", Some("app"), "d"),
            ("chpst -u app ./daemon", Some("app"), "./daemon"),
            ("chpst -uapp:grp -o 10 -P d", Some("app:grp"), "d"),
            ("/usr/bin/setuidgid app d", Some("app"), "d"),
            ("s6-setuidgid root d", None, "d"),
            (
                "setpriv --reuid=7 --regid 7 --clear-groups d",
                Some("7"),
                "d",
            ),
            ("setpriv --reuid 0 -- d", None, "d"),
            ("env -i A=b C=d chpst -u app d", Some("app"), "d"),
            ("runuser -u app -- d", Some("app"), "d"),
            ("softlimit -m 1000 nice -n 5 d", None, "d"),
            ("chpst -u", None, ""),
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(user_anywhere(&words), user_of_it, "{line}");
            let first = behind(&words).first().copied();
            assert_eq!(first.unwrap_or_default(), program, "{line}");
        }
    }
}
