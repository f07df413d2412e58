//! What is typed before a COMMAND, as it was typed.

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::PathBuf;

use super::options::RUN;
use super::{Refusal, Typed};

/// Typed, or a default.
type Text = Cow<'static, str>;

/// The run options and the command. What is not typed has its default here.
#[derive(Debug)]
pub(crate) struct RunArguments {
    pub(crate) pid_file: Option<PathBuf>,
    pub(super) name: Option<String>,
    pub(super) pre_start: Option<String>,
    pub(super) post_start: Option<String>,
    pub(super) dry_run: bool,
    pub(super) listen: Vec<OsString>,
    pub(super) listen_env: Text,
    pub(super) ready: Vec<String>,
    pub(super) notification_fd: Option<String>,
    pub(super) on: Vec<String>,
    pub(super) prepare_signal: Text,
    pub(super) detach_signal: Text,
    pub(super) drain_signal: Text,
    pub(super) drain_group: bool,
    pub(super) ready_timeout: Text,
    pub(super) probe_timeout: Text,
    pub(super) prepare_timeout: Text,
    pub(super) drain_timeout: Text,
    pub(super) stop_timeout: Text,
    pub(super) orphan_timeout: Text,
    pub(super) hold_timeout: Text,
    pub(super) quiet: bool,
    pub(super) verbose: bool,
    pub(crate) command: Vec<OsString>,
}

impl RunArguments {
    /// Understands what follows the program's name; `status` is the exit status of wrong use.
    pub(crate) fn read(words: &[OsString], status: i32) -> Result<RunArguments, Refusal> {
        let typed = Typed::read(&RUN, words, status)?;
        let dry_run = typed.has("dry-run");
        let arguments = RunArguments {
            dry_run,
            ..RunArguments::from(typed)
        };
        if arguments.command.is_empty() {
            let line = format!("COMMAND is missing; use: {}", RUN.usage[0]);
            return Err(Refusal::Complaint(line, status));
        }
        Ok(arguments)
    }
}

impl From<Typed> for RunArguments {
    /// Of a form that has the run options; whether it is only a rehearsal is not among them.
    fn from(mut typed: Typed) -> RunArguments {
        let texts = |values: Vec<OsString>| {
            let values = values.into_iter();
            values.map(|value| value.to_string_lossy().into_owned())
        };
        RunArguments {
            pid_file: typed.one("pid-file").map(PathBuf::from),
            name: typed.text("name"),
            pre_start: typed.text("pre-start"),
            post_start: typed.text("post-start"),
            dry_run: false,
            listen: typed.all("listen"),
            listen_env: typed.or_default("listen-env"),
            ready: texts(typed.all("ready")).collect(),
            notification_fd: typed.text("notification-fd"),
            on: texts(typed.all("on")).collect(),
            prepare_signal: typed.or_default("prepare-signal"),
            detach_signal: typed.or_default("detach-signal"),
            drain_signal: typed.or_default("drain-signal"),
            drain_group: typed.has("drain-group"),
            ready_timeout: typed.or_default("ready-timeout"),
            probe_timeout: typed.or_default("probe-timeout"),
            prepare_timeout: typed.or_default("prepare-timeout"),
            drain_timeout: typed.or_default("drain-timeout"),
            stop_timeout: typed.or_default("stop-timeout"),
            orphan_timeout: typed.or_default("orphan-timeout"),
            hold_timeout: typed.or_default("hold-timeout"),
            quiet: typed.has("quiet"),
            verbose: typed.has("verbose"),
            command: typed.operands,
        }
    }
}
