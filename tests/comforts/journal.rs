//! Under systemd a line's priority is the journal's (sd-daemon(3)), and nowhere else is one written.

use crate::stage::{DAEMON, Stage};
use crate::support::{Spawn, Systemd, program};

/// journald, in the namespaces of the test: it leaves the kernel's messages and its audit alone.
fn start_journal(systemd: &Systemd) {
    let settings = "mkdir -p /run/systemd/journald.conf.d && printf '[Journal]\\nStorage=volatile\\nReadKMsg=no\\nAudit=no\\nSeal=no\\n' >/run/systemd/journald.conf.d/test.conf";
    systemd
        .inside("sh")
        .args(["-c", settings])
        .finish()
        .expect_success();
    systemd.write_unit(
        "systemd-journald.socket",
        "[Unit]\nDefaultDependencies=no\n[Socket]\nListenDatagram=/run/systemd/journal/socket\n\
         ListenStream=/run/systemd/journal/stdout\nPassCredentials=yes\nService=systemd-journald.service\n",
    );
    systemd.write_unit(
        "systemd-journald.service",
        "[Unit]\nDefaultDependencies=no\nRequires=systemd-journald.socket\nAfter=systemd-journald.socket\n\
         [Service]\nType=notify\nExecStart=/lib/systemd/systemd-journald\nStandardOutput=null\n\
         Sockets=systemd-journald.socket\nRuntimeDirectory=systemd/journal\nRuntimeDirectoryPreserve=yes\n",
    );
    let start = systemd.systemctl(&["start", "systemd-journald.service"]);
    start.finish().expect_success();
}

#[test]
fn the_journal_knows_warnings_from_what_happens_every_day() {
    let stage = Stage::new();
    let systemd = Systemd::boot(&stage.scratch);
    start_journal(&systemd);
    let follow = systemd
        .inside("journalctl")
        .args(["--follow", "--lines=all", "--output=json"])
        .output_to(&stage.log)
        .start();
    let daemon = format!("echo \"stream $JOURNAL_STREAM\" >&2\necho \"<2>its own\" >&2\n{DAEMON}");
    let unit = |options: &str| {
        format!(
            "[Service]\nType=simple\nKillMode=process\nRuntimeDirectory=app\nRuntimeDirectoryPreserve=yes\n\
             Environment=PIPES={pipes} SEAMLESS_RUN={program}\n\
             Environment='READY=$SEAMLESS_RUN notify started status hello' 'PREPARE=kill -CHLD $PPID' SEAMLESS_TEST={mark}\n\
             StandardOutput=journal\nStandardError=journal\n\
             ExecStart={program} {options} --pid-file /run/app/app.pid -- {command}\n",
            pipes = stage.scratch.join("pipes").display(),
            mark = stage.scratch.path().display(),
            program = program().display(),
            command = stage.sh(&daemon).join(" "),
        )
    };
    // A line as the journal has it: whatever is in front of the message is no part of it.
    let says = |priority: u8, message: &str| {
        let priority = format!("\"PRIORITY\":\"{priority}\"");
        stage.log.wait(|line| {
            let words = line.split("\"MESSAGE\":\"").nth(1);
            line.contains(&priority) && words.is_some_and(|words| words.starts_with(message))
        });
    };
    // A stale PID file is worth a warning, and what the daemon says a detail.
    let stale = "mkdir -p /run/app && echo 1 >/run/app/app.pid";
    systemd
        .inside("sh")
        .args(["-c", stale])
        .finish()
        .expect_success();
    systemd.write_unit("app.service", &unit("-v"));
    systemd
        .systemctl(&["start", "app"])
        .finish()
        .expect_success();
    says(4, "app: ");
    says(6, "app: generation 1 (pid ");
    // The daemon has the same stream, and the variable that names it; what it writes is its own.
    says(6, "stream ");
    says(2, "its own");
    says(7, "app: generation 1 (pid ");
    systemd
        .systemctl(&["stop", "app"])
        .finish()
        .expect_success();

    // An error of the program's own.
    systemd.write_unit("app.service", &unit("--stop-timeout soon"));
    systemd.systemctl(&["start", "app"]).finish();
    says(3, "seamless-run: --stop-timeout: malformed time");
    drop(follow);
}

/// Whoever starts something from a service with another standard error gets plain lines.
#[test]
fn a_stream_that_is_not_the_journals_gets_no_priorities() {
    let stage = Stage::new();
    for stream in ["1:1", "", "nonsense"] {
        let ended = Spawn::new(&stage.scratch, program())
            .arg("--bogus")
            .env("JOURNAL_STREAM", stream)
            .finish();
        assert!(
            ended.stderr.starts_with("seamless-run: "),
            "{}",
            ended.stderr
        );
    }
}
