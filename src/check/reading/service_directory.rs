//! A service directory of runit, daemontools or s6.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::check::script::{self, Launch, Unclear};
use crate::supervisor::Format;

#[derive(Clone, Debug)]
pub(in crate::check) struct ServiceDirectory {
    pub(in crate::check) path: PathBuf,
    /// Who supervises it; by what it has left there, where nobody does now.
    pub(in crate::check) format: Option<Format>,
    pub(in crate::check) run: Run,
    /// The owner of `supervise/`, who alone can look into it.
    pub(in crate::check) owner: Option<u32>,
    pub(in crate::check) has_finish: bool,
    /// It asks `seamless-run status` before it does anything.
    pub(in crate::check) finish_asks: bool,
    /// Scripts that runsv runs in the place of a signal, or before it.
    pub(in crate::check) control: Vec<String>,
    pub(in crate::check) has_log: bool,
    /// Small files of s6's, without the newline.
    pub(in crate::check) notification_fd: Option<String>,
    pub(in crate::check) down_signal: Option<String>,
    pub(in crate::check) timeout_kill: Option<String>,
}

#[derive(Clone, Debug)]
pub(in crate::check) enum Run {
    /// In words.
    Unusable(String),
    Script {
        text: String,
        executable: bool,
        launch: Result<Launch, Unclear>,
    },
}

impl ServiceDirectory {
    pub(in crate::check) fn read(
        path: &Path,
        format: Option<Format>,
    ) -> io::Result<ServiceDirectory> {
        let path = fs::canonicalize(path)?;
        let small = |name: &str| {
            let text = fs::read_to_string(path.join(name)).ok()?;
            Some(text.trim().to_owned())
        };
        let finish = small("finish");
        let control = ["t", "d", "c", "x"]
            .iter()
            .map(|name| format!("control/{name}"));
        let supervise = fs::metadata(path.join("supervise")).ok();
        Ok(ServiceDirectory {
            format: format
                .or_else(|| supervised_by(&path))
                .or_else(|| left_by(&path)),
            run: run(&path.join("run")),
            owner: supervise.map(|found| found.uid()),
            has_finish: finish.is_some() && is_executable(&path.join("finish")),
            finish_asks: finish.is_some_and(|text| text.contains("status")),
            control: control
                .filter(|name| is_executable(&path.join(name)))
                .collect(),
            has_log: path.join("log/run").exists(),
            notification_fd: small("notification-fd"),
            down_signal: small("down-signal"),
            timeout_kill: small("timeout-kill"),
            path,
        })
    }

    pub(in crate::check) fn launch(&self) -> Option<&Launch> {
        match &self.run {
            Run::Script {
                launch: Ok(launch), ..
            } => Some(launch),
            Run::Script { .. } | Run::Unusable(_) => None,
        }
    }

    /// The script, as far as it can be read.
    pub(in crate::check) fn script(&self) -> &str {
        match &self.run {
            Run::Script { text, .. } => text,
            Run::Unusable(_) => "",
        }
    }
}

fn run(path: &Path) -> Run {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Run::Unusable("there is no run script".to_owned());
        }
        Err(error) => {
            let words = crate::report::cause(&error);
            return Run::Unusable(format!("its run script cannot be read: {words}"));
        }
    };
    let interpreter = script::interpreter(&text).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let launch = if interpreter.ends_with("execlineb") {
        // Lines mean nothing there, and each program becomes the next.
        let lines = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with('#'));
        let joined = lines.collect::<Vec<_>>().join(" ");
        script::find_launch(&joined).map(|launch| Launch {
            exec: true,
            ..launch
        })
    } else {
        script::find_launch(&text)
    };
    Run::Script {
        executable: is_executable(path),
        text,
        launch,
    }
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.mode() & 0o111 != 0)
}

/// Whoever runs in it now.
fn supervised_by(path: &Path) -> Option<Format> {
    let entries = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.find_map(|pid| {
        let format = Format::of(&crate::process::name_of(pid).ok()?)?;
        let directory = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
        (directory == path).then_some(format)
    })
}

/// Each has a status file of its own length.
fn left_by(path: &Path) -> Option<Format> {
    let length = fs::metadata(path.join("supervise/status")).ok()?.len();
    match length {
        18 => Some(Format::Daemontools),
        20 => Some(Format::Runit),
        35.. => Some(Format::S6),
        _ => None,
    }
}
