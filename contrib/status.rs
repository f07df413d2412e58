//! Who is there: `seamless-run status --json --watch`, which says whatever changes.
//!
//! For the demo and the picture of a restart, which take it in by `#[path]`.

use std::{
    io::{self, BufRead, BufReader},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
};

use serde_json::Value;

/// A generation, as the newest keeper knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) number: u32,
    pub(crate) phase: String,
    pub(crate) ready: bool,
    pub(crate) serves: bool,
    pub(crate) daemon: Option<u32>,
    pub(crate) keeper: Option<u32>,
    pub(crate) launcher: Option<u32>,
}

/// The verb, running.
#[derive(Debug)]
pub(crate) struct Watch(Child);

impl Watch {
    /// `hear` is called by another thread, until it says `false`.
    pub(crate) fn start(
        seamless_run: &Path,
        pid_file: &Path,
        mut hear: impl FnMut(Vec<Seen>) -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let mut verb = Command::new(seamless_run)
            .args(["status", "--json", "--watch"])
            .arg(pid_file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C is for whoever watches.
            .process_group(0)
            .spawn()?;
        let lines = verb.stdout.take().map(BufReader::new);
        thread::spawn(move || {
            for line in lines.into_iter().flat_map(BufRead::lines) {
                let Ok(line) = line else { return };
                if read(&line).is_some_and(|seen| !hear(seen)) {
                    return;
                }
            }
        });
        Ok(Self(verb))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The newest first. None: it could not be told for a moment, and what was known stands.
fn read(line: &str) -> Option<Vec<Seen>> {
    let status: Value = serde_json::from_str(line).ok()?;
    let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
    let generations: Vec<Seen> = status["generations"]
        .as_array()?
        .iter()
        .filter_map(|generation| {
            Some(Seen {
                number: number(&generation["generation"])?,
                phase: generation["phase"].as_str()?.to_owned(),
                ready: generation["ready"].as_bool()?,
                serves: generation["serves"].as_bool()?,
                daemon: number(&generation["pid"]),
                keeper: number(&generation["keeper"]),
                launcher: number(&generation["launcher"]),
            })
        })
        .collect();
    let cannot_tell = generations.is_empty() && !status["error"].is_null();
    (!cannot_tell).then_some(generations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read() {
        let line = r#"{"error":null,"generations":[{"generation":3,"keeper":30,"launcher":null,"phase":"standby",
            "pid":31,"ready":true,"serves":true}],"source":"keeper"}"#;
        let seen = Seen {
            number: 3,
            phase: "standby".to_owned(),
            ready: true,
            serves: true,
            daemon: Some(31),
            keeper: Some(30),
            launcher: None,
        };
        assert_eq!(read(line), Some(vec![seen]));
        let nobody = r#"{"error":null,"generations":[],"source":null}"#;
        assert_eq!(read(nobody), Some(Vec::new()));
        let unknown = r#"{"error":"nobody answers","generations":[],"source":null}"#;
        assert_eq!(read(unknown), None);
    }
}
