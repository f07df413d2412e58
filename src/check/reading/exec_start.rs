//! The command line in a unit's `ExecStart=`, as `systemctl show` tells of it: its words, with specifiers
//! expanded, quotes lost, and variables as they stand.

use std::collections::HashMap;
use std::fs;

use super::unit::Unit;
use crate::check::script::{self, Launch, Unclear};

impl Unit {
    /// How its ExecStart= runs seamless-run.
    pub(crate) fn launch(&self) -> Result<Launch, Unclear> {
        let line = self.get("ExecStart");
        let argv = between(line, "argv[]=", " ; ignore_errors=").unwrap_or_default();
        let path = between(line, "path=", " ; argv[]=").unwrap_or_default();
        let launch = self.launch_in(path, argv);
        match (&launch, self.main_pid()) {
            // What it was expanded to shows where it runs.
            (Err(Unclear::Expansion(_)), Some(pid)) => super::launch_of(pid).map_or(launch, Ok),
            _ => launch,
        }
    }

    fn launch_in(&self, path: &str, argv: &str) -> Result<Launch, Unclear> {
        if script::is_shell(path) {
            if let Some((_, script)) = argv.split_once(" -c ") {
                return script::find_launch(&script.replace("$$", "$"));
            }
            let file = argv.split(' ').nth(1).unwrap_or_default();
            return script::find_launch(&fs::read_to_string(file).unwrap_or_default());
        }
        if let Ok(script) = fs::read(path) {
            if script::interpreter(&script).is_some_and(|name| script::is_shell(&name)) {
                return script::find_launch(&String::from_utf8_lossy(&script));
            }
        }
        let quoted: Vec<String> = argv.split(' ').map(|word| self.quoted(word)).collect();
        let mut launch = script::find_launch(&quoted.join(" "))?;
        launch.exec = true;
        for word in launch.before.iter_mut().chain(&mut launch.words) {
            word.raw.clone_from(&word.text);
        }
        Ok(launch)
    }

    /// A word as a shell would have to see it, to take it as systemd does.
    fn quoted(&self, word: &str) -> String {
        match self.expanded(word) {
            Some(text) => format!("'{}'", text.replace('\'', "'\\''")),
            None => format!("\"{word}\""),
        }
    }

    /// `${NAME}` and `$$`; nothing where a variable is not known.
    fn expanded(&self, word: &str) -> Option<String> {
        let mut text = String::new();
        let mut rest = word;
        while let Some((before, after)) = rest.split_once('$') {
            text.push_str(before);
            rest = if let Some(after) = after.strip_prefix('$') {
                text.push('$');
                after
            } else {
                let (name, after) = after.strip_prefix('{')?.split_once('}')?;
                text.push_str(self.environment.get(name)?);
                after
            };
        }
        text.push_str(rest);
        Some(text)
    }
}

/// What `Environment=` and `EnvironmentFile=` give, in the lines of `systemctl show`.
pub(crate) fn environment(shown: &str) -> HashMap<String, String> {
    let mut environment = HashMap::new();
    let mut add = |text: &str| {
        for word in script::commands(text).into_iter().flatten() {
            if let Some((name, value)) = word.text.split_once('=') {
                environment.insert(name.to_owned(), value.to_owned());
            }
        }
    };
    let lines = |name: &'static str| {
        shown
            .lines()
            .filter_map(move |line| line.strip_prefix(name))
    };
    lines("Environment=").for_each(&mut add);
    for file in lines("EnvironmentFiles=") {
        let path = file.split(" (").next().unwrap_or(file);
        add(&fs::read_to_string(path).unwrap_or_default());
    }
    environment
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    Some(rest.split_once(end)?.0)
}

#[cfg(test)]
mod tests {
    use super::super::unit;
    use super::*;

    fn exec(path: &str, argv: &str) -> Unit {
        let line = format!("{{ path={path} ; argv[]={argv} ; ignore_errors=no ; pid=0 }}");
        Unit {
            properties: unit::read(&format!("ExecStart={line}\n")),
            environment: environment("Environment=FILE=/run/f.pid \"TWO=a b\"\n"),
            ..Unit::default()
        }
    }

    fn words(unit: &Unit) -> String {
        let launch = unit.launch().unwrap();
        assert!(launch.exec);
        let texts: Vec<String> = launch.words.into_iter().map(|word| word.text).collect();
        texts.join(" ")
    }

    #[test]
    fn the_launch_is_found_in_exec_start() {
        let program = "/usr/bin/seamless-run";
        let line = "/usr/bin/seamless-run -p /run/app/app.pid -- d $$x it's $Y";
        let plain = "/usr/bin/seamless-run -p /run/app/app.pid -- d $x it's $Y";
        assert_eq!(words(&exec(program, line)), plain);
        let shell = "/bin/sh -c umask 2; exec seamless-run -p f -- d";
        let wanted = "seamless-run -p f -- d";
        assert_eq!(words(&exec("/bin/sh", shell)), wanted);
        let line = "setpriv --reuid 7 seamless-run -p f -- d";
        let dropped = exec("/usr/bin/setpriv", line);
        let before = dropped.launch().unwrap().before;
        assert_eq!(script::raw(&before), "setpriv --reuid 7");
        assert_eq!(words(&dropped), wanted);
        assert_eq!(exec("/usr/bin/d", "d").launch(), Err(Unclear::Missing));
        assert_eq!(Unit::default().launch(), Err(Unclear::Missing));
    }

    #[test]
    fn variables_are_expanded_where_they_are_known() {
        let file = |word: &str| exec("/x", &format!("seamless-run -p {word} -- d"));
        assert_eq!(words(&file("${FILE}")), "seamless-run -p /run/f.pid -- d");
        assert_eq!(words(&file("x${TWO}$$y")), "seamless-run -p xa b$y -- d");
        for word in ["${NONE}", "$FILE", "${FILE"] {
            let unclear = Unclear::Expansion(format!("\"{word}\""));
            assert_eq!(file(word).launch(), Err(unclear), "{word}");
        }
    }

    #[test]
    fn files_of_variables_are_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "# x\nA=1\nB='2 3'\n").unwrap();
        let path = file.path().display();
        let shown = format!("Environment=A=0\nEnvironmentFiles={path} (ignore_errors=no)\n");
        let found = environment(&shown);
        assert_eq!(found["A"], "1");
        assert_eq!(found["B"], "2 3");
    }
}
