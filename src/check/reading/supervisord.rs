//! A program of supervisord's, by its configuration.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::running::{environment_of, open_numbers};

#[derive(Clone, Debug, Default)]
pub(in crate::check) struct Program {
    /// Without its group.
    pub(in crate::check) name: String,
    /// Where its section was found.
    pub(in crate::check) file: Option<PathBuf>,
    pub(in crate::check) settings: HashMap<String, String>,
    /// Where its state can be asked for, as supervisord tells its programs.
    pub(in crate::check) url: String,
    /// Who asks has to know a password.
    pub(in crate::check) has_password: bool,
    /// The daemon writes to a pipe that supervisord reads.
    pub(in crate::check) has_pipe: bool,
}

/// Where supervisord looks when it is not told.
const USUAL_PLACES: [&str; 3] = [
    "/etc/supervisor/supervisord.conf",
    "/etc/supervisord.conf",
    "/usr/local/etc/supervisord.conf",
];

impl Program {
    /// `group:name` under the supervisord `supervisor`, with its launcher and its daemon.
    pub(in crate::check) fn read(
        name: &str,
        supervisor: i32,
        launcher: i32,
        daemon: i32,
    ) -> Program {
        let name = name.rsplit(':').next().unwrap_or(name);
        let environment = environment_of(launcher);
        let url = environment
            .into_iter()
            .find(|(key, _)| key == "SUPERVISOR_SERVER_URL");
        let mut program = Program {
            name: name.to_owned(),
            url: url.map(|(_, url)| url).unwrap_or_default(),
            has_pipe: shares_pipe(daemon, supervisor),
            ..Program::default()
        };
        let wanted = format!("program:{name}");
        for file in configuration(supervisor) {
            let text = fs::read_to_string(&file).unwrap_or_default();
            let sections = sections(&text);
            let server = ["unix_http_server", "inet_http_server"];
            let mut servers = server.iter().filter_map(|server| sections.get(*server));
            program.has_password |= servers.any(|server| server.contains_key("password"));
            if let Some(settings) = sections.get(&wanted) {
                program.settings.clone_from(settings);
                program.file = Some(file);
            }
        }
        program
    }

    pub(in crate::check) fn get(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }
}

/// Whether what one process writes to, as its output, is read by the other.
fn shares_pipe(writer: i32, reader: i32) -> bool {
    let pipes = open_numbers(reader, "pipe");
    [1, 2].into_iter().any(|number| {
        let link = fs::read_link(format!("/proc/{writer}/fd/{number}")).unwrap_or_default();
        super::running::number_in(&link, "pipe").is_some_and(|pipe| pipes.contains(&pipe))
    })
}

/// The file that this supervisord was started with, and those that it includes.
fn configuration(supervisor: i32) -> Vec<PathBuf> {
    let directory = fs::read_link(format!("/proc/{supervisor}/cwd")).unwrap_or_default();
    let line = fs::read(format!("/proc/{supervisor}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line).into_owned();
    let named = named_in(&line.split('\0').collect::<Vec<_>>()).map(PathBuf::from);
    let main = match named {
        Some(named) => directory.join(named),
        None => match USUAL_PLACES.iter().find(|place| Path::new(place).exists()) {
            Some(place) => PathBuf::from(place),
            None => directory.join("supervisord.conf"),
        },
    };
    let text = fs::read_to_string(&main).unwrap_or_default();
    let sections = sections(&text);
    let included = sections
        .get("include")
        .and_then(|include| include.get("files"));
    let patterns = included.map(String::as_str).unwrap_or_default();
    let beside = main.parent().unwrap_or(&main).to_owned();
    let files = patterns.split_ascii_whitespace();
    let files: Vec<PathBuf> = files
        .flat_map(|pattern| matching(&beside, pattern))
        .collect();
    std::iter::once(main).chain(files).collect()
}

/// The value of `-c` or `--configuration`.
fn named_in<'a>(words: &[&'a str]) -> Option<&'a str> {
    let mut words = words.iter();
    loop {
        let word = words.next()?;
        if matches!(*word, "-c" | "--configuration") {
            return words.next().copied();
        }
        let attached = word.strip_prefix("--configuration=");
        if attached.is_some() {
            return attached;
        }
    }
}

/// Files by a pattern with one `*` in its last part, which is what people write.
fn matching(beside: &Path, pattern: &str) -> Vec<PathBuf> {
    let whole = beside.join(pattern);
    let name = whole
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let Some((start, end)) = name.split_once('*') else {
        return vec![whole];
    };
    let directory = whole.parent().unwrap_or(beside);
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let fits = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| {
            name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
        })
    };
    entries.map(|entry| entry.path()).filter(fits).collect()
}

/// The sections of an ini file, as Python's ConfigParser understands it: a later line counts more, and an
/// indented one belongs to the one before.
pub(crate) fn sections(text: &str) -> HashMap<String, HashMap<String, String>> {
    let mut sections: HashMap<String, HashMap<String, String>> = HashMap::new();
    let (mut section, mut key) = (String::new(), String::new());
    for line in text.lines() {
        let line = line.split(" ;").next().unwrap_or_default().trim_end();
        let bare = line.trim_start();
        if bare.is_empty() || bare.starts_with([';', '#']) {
            continue;
        }
        let values = sections.entry(section.clone()).or_default();
        if let Some(name) = bare
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            section = name.to_owned();
            key.clear();
        } else if line.len() > bare.len() && !key.is_empty() {
            let value = values.entry(key.clone()).or_default();
            value.push(' ');
            value.push_str(bare);
        } else if let Some(end) = bare.find(['=', ':']) {
            key = bare[..end].trim().to_ascii_lowercase();
            values.insert(key.clone(), bare[end + 1..].trim().to_owned());
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_of_a_program_are_read_as_python_does() {
        let text = "; x\n[program:a]\ncommand=x ; y\nStopSignal = INT\nfiles = a\n  b\n[program:b]\ncommand: z\nautorestart=false\nautorestart=true\n";
        let sections = sections(text);
        let of = |section: &str, key: &str| sections[section].get(key).cloned();
        assert_eq!(of("program:a", "command").as_deref(), Some("x"));
        assert_eq!(of("program:a", "stopsignal").as_deref(), Some("INT"));
        assert_eq!(of("program:a", "files").as_deref(), Some("a b"));
        assert_eq!(of("program:b", "command").as_deref(), Some("z"));
        assert_eq!(of("program:b", "autorestart").as_deref(), Some("true"));
    }

    #[test]
    fn the_configuration_is_named_on_the_command_line() {
        let words = [
            "/usr/bin/python3",
            "/usr/bin/supervisord",
            "-n",
            "-c",
            "a.conf",
        ];
        assert_eq!(named_in(&words), Some("a.conf"));
        assert_eq!(named_in(&["supervisord", "--configuration=b"]), Some("b"));
        assert_eq!(named_in(&["supervisord"]), None);
    }
}
