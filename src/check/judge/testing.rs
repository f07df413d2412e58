//! What the judgements are tried on.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;

use super::Finding;
use crate::check::finding::Level;
use crate::check::reading::kernel::Kernel;
use crate::check::reading::unit::{self, Unit};
use crate::check::reading::{Options, Reading, Supervisor};
use crate::cli::{self, RunArguments, Service};

/// By its options; the PID file is `/run/app/app.pid`.
pub(super) fn service(options: &str) -> Service {
    let line = format!("--pid-file /run/app/app.pid {options} -- ./daemon");
    let words: Vec<OsString> = line.split_ascii_whitespace().map(OsString::from).collect();
    let arguments = RunArguments::read(&words, 125).unwrap();
    cli::service_of(arguments, Path::new("/")).unwrap().unwrap()
}

/// All is well with it, but for these lines.
pub(super) fn unit(lines: &str) -> Unit {
    let good = "Type=notify\nNotifyAccess=main\nKillMode=process\nKillSignal=15\nRestartKillSignal=15\n\
        TimeoutStopUSec=1min 30s\nTimeoutStartUSec=infinity\nRestart=always\nRestartUSec=100ms\n\
        RuntimeDirectory=app\nRuntimeDirectoryPreserve=yes\nStartLimitIntervalUSec=0\nStartLimitBurst=5\n\
        OOMPolicy=continue\nExitType=main\nProtectSystem=no\nRestrictAddressFamilies=~\nDynamicUser=no\n";
    Unit {
        name: "app.service".to_owned(),
        properties: unit::read(&format!("{good}{lines}")),
        environment: HashMap::new(),
        has_bus: true,
        of_user: false,
    }
}

pub(super) fn reading(supervisor: Supervisor, options: &str) -> Reading {
    Reading {
        supervisor,
        options: Options::Service(Box::new(service(options))),
        command: vec!["./daemon".into()],
        running: None,
        directory: None,
        program: None,
        kernel: Kernel::default(),
        obstacles: Vec::new(),
        user: Some(0),
    }
}

pub(super) fn settings(lines: &str) -> HashMap<String, String> {
    unit::read(lines)
}

/// `error code: line` for each, where there is a line.
pub(super) fn codes(findings: &[Finding]) -> Vec<String> {
    let of = |one: &Finding| {
        // Whoever reads it knows what to do.
        let is_whole = !one.found.is_empty() && !one.consequence.is_empty();
        assert!(is_whole, "{one:?}");
        assert!(!one.fix.is_empty() || one.level == Level::Note, "{one:?}");
        let line = one.line.as_ref().map(|line| format!(": {line}"));
        let line = line.unwrap_or_default();
        format!("{} {}{line}", one.level.name(), one.code)
    };
    findings.iter().map(of).collect()
}
