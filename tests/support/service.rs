//! The service that a supervisor is to run.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Log, Scratch, executable, scratch};

/// Where the service's stdout and stderr go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Output {
    #[default]
    Log,
    /// Wherever the supervisor sends them: supervisord's pipe, a file of the supervisor's in the scratch directory.
    Supervisor,
}

/// A service, described once for all supervisors, with what only some of them read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Service {
    argv: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    setup: Vec<String>,
    finish: Option<String>,
    output: Output,
    files: Vec<(PathBuf, String, u32)>,
    unit: Vec<String>,
    unit_service: Vec<String>,
    program: Vec<String>,
}

impl Service {
    pub(crate) fn new(argv: impl IntoIterator<Item = impl Into<OsString>>) -> Service {
        let argv: Vec<OsString> = argv.into_iter().map(Into::into).collect();
        assert!(!argv.is_empty(), "a service needs a command");
        Service {
            argv,
            ..Service::default()
        }
    }

    pub(crate) fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Service {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// A line of the run script, before the command is exec'ed: `cd /srv`, `trap "" HUP`, `ulimit -n 64`.
    /// On systemd such a script stands between it and the command, which is otherwise exec'ed directly.
    pub(crate) fn setup(mut self, line: impl Into<String>) -> Service {
        self.setup.push(line.into());
        self
    }

    /// The body of a `finish` script, in sh; its output goes where the service's does.
    /// runit gives it exit code and status byte, s6 exit code, signal, name, process group. The others have none.
    pub(crate) fn finish(mut self, body: impl Into<String>) -> Service {
        self.finish = Some(body.into());
        self
    }

    pub(crate) fn output(mut self, output: Output) -> Service {
        self.output = output;
        self
    }

    /// A file in the service directory of runit, daemontools and s6, such as s6's `notification-fd`.
    pub(crate) fn file(mut self, name: impl Into<PathBuf>, content: impl Into<String>) -> Service {
        self.files.push((name.into(), content.into(), 0o644));
        self
    }

    /// An executable in the service directory of runit, daemontools and s6, such as runit's `control/t`.
    pub(crate) fn script(
        mut self,
        name: impl Into<PathBuf>,
        content: impl Into<String>,
    ) -> Service {
        self.files.push((name.into(), content.into(), 0o755));
        self
    }

    /// A line for `[Unit]` of systemd.
    pub(crate) fn unit(mut self, line: impl Into<String>) -> Service {
        self.unit.push(line.into());
        self
    }

    /// A line for `[Service]` of systemd; it comes after our own lines, and the last one wins.
    pub(crate) fn unit_service(mut self, line: impl Into<String>) -> Service {
        self.unit_service.push(line.into());
        self
    }

    /// A line for `[program:app]` of supervisord.
    pub(crate) fn program(mut self, line: impl Into<String>) -> Service {
        self.program.push(line.into());
        self
    }

    /// Writes the service directory that runit, daemontools and s6 agree on.
    pub(super) fn write_directory(&self, directory: &Path, scratch: &Scratch, log: &Log) {
        fs::create_dir_all(directory).unwrap();
        write(
            &directory.join("run"),
            &self.run_script(scratch, log),
            0o755,
        );
        if let Some(body) = &self.finish {
            let mut script = self.head(scratch, log);
            writeln!(script, "{body}").unwrap();
            write(&directory.join("finish"), &script, 0o755);
        }
        for (name, content, mode) in &self.files {
            let path = directory.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            write(&path, content.as_bytes(), *mode);
        }
    }

    /// What the supervisor starts: a shell script that becomes the command.
    pub(super) fn run_script(&self, scratch: &Scratch, log: &Log) -> Vec<u8> {
        let mut script = self.head(scratch, log);
        for line in &self.setup {
            writeln!(script, "{line}").unwrap();
        }
        script.extend_from_slice(b"exec");
        for word in &self.argv {
            script.push(b' ');
            script.extend(quoted(word));
        }
        script.push(b'\n');
        script
    }

    fn head(&self, scratch: &Scratch, log: &Log) -> Vec<u8> {
        let mut script = b"#!/bin/sh\n".to_vec();
        if self.output == Output::Log {
            script.extend_from_slice(b"exec >>");
            script.extend(quoted(log.path().as_os_str()));
            script.extend_from_slice(b" 2>&1\n");
        }
        let mark = (scratch::VARIABLE.into(), scratch.path().into());
        for (name, value) in self.environment.iter().chain([&mark]) {
            script.extend_from_slice(b"export ");
            script.extend_from_slice(name.as_bytes());
            script.push(b'=');
            script.extend(quoted(value));
            script.push(b'\n');
        }
        script
    }

    /// Panics where the supervisor knows nothing of finish scripts: a test that has one relies on it.
    pub(super) fn refuse_finish(&self, supervisor: &str) {
        assert!(self.finish.is_none(), "{supervisor} has no finish scripts");
    }

    /// systemd's unit file.
    pub(super) fn unit_file(&self, script: &Path, scratch: &Scratch, log: &Log) -> String {
        let mut unit = vec![
            "[Unit]".to_owned(),
            "Description=app".to_owned(),
            // Five starts in ten seconds are systemd's limit, and a test makes more.
            "StartLimitIntervalSec=0".to_owned(),
        ];
        unit.extend_from_slice(&self.unit);
        unit.extend([
            "[Service]".to_owned(),
            "Type=exec".to_owned(),
            // control-group, the default, signals what a launcher leaves behind, and can hang a restart for 90 s.
            "KillMode=process".to_owned(),
            "Restart=always".to_owned(),
            "RestartSec=0".to_owned(),
            "StandardInput=null".to_owned(),
        ]);
        let log_file = match self.output {
            Output::Log => log.path().to_owned(),
            Output::Supervisor => scratch.join("systemd-app.out"),
        };
        unit.push(format!("StandardOutput=append:{}", log_file.display()));
        unit.push("StandardError=inherit".to_owned());
        let mark = (scratch::VARIABLE.into(), scratch.path().into());
        for (name, value) in self.environment.iter().chain([&mark]) {
            let mut assignment = name.clone();
            assignment.push("=");
            assignment.push(value);
            unit.push(format!("Environment={}", quoted_for_systemd(&assignment)));
        }
        let words: Vec<String> = if self.setup.is_empty() {
            let argv = self.argv.iter();
            argv.map(|word| quoted_for_systemd(word).replace('$', "$$"))
                .collect()
        } else {
            write(script, &self.run_script(scratch, log), 0o755);
            vec![quoted_for_systemd(script.as_os_str())]
        };
        unit.push(format!("ExecStart={}", words.join(" ")));
        unit.extend_from_slice(&self.unit_service);
        unit.join("\n") + "\n"
    }

    /// supervisord's lines for the program.
    pub(super) fn program_lines(&self) -> String {
        self.program.join("\n")
    }
}

pub(super) fn write(path: &Path, content: &[u8], mode: u32) {
    if mode & 0o111 != 0 {
        return executable::write(path, content, mode);
    }
    fs::write(path, content).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A word for sh, taken as it is.
fn quoted(word: &OsStr) -> Vec<u8> {
    let mut quoted = vec![b'\''];
    for &byte in word.as_bytes() {
        match byte {
            b'\'' => quoted.extend_from_slice(b"'\\''"),
            other => quoted.push(other),
        }
    }
    quoted.push(b'\'');
    quoted
}

/// A word for a unit file, taken as it is but for `$`, which only command lines expand.
fn quoted_for_systemd(word: &OsStr) -> String {
    let word = word.to_str().expect("a unit file is UTF-8");
    let mut quoted = String::from('"');
    for character in word.chars() {
        match character {
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            '\n' => quoted.push_str("\\n"),
            '%' => quoted.push_str("%%"),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
