//! What is demonstrated, and that it is there.

use std::{
    env,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use super::Outcome;

#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) seamless_run: PathBuf,
    pub(crate) http_unix: PathBuf,
}

impl Programs {
    /// They lie where cargo put this one: TARGET/PROFILE/examples/demo. Under `cargo run`, cargo sees to it that they
    /// are there.
    pub(crate) fn build() -> Outcome<Self> {
        let demo = env::current_exe()?;
        let examples = demo.parent().ok_or("where am I?")?;
        let profile = examples.parent().ok_or("where am I?")?;
        if let (Some(cargo), Some(package)) =
            (env::var_os("CARGO"), env::var_os("CARGO_MANIFEST_DIR"))
        {
            let mut build = Command::new(cargo);
            build
                .args(["build", "--bin", "seamless-run", "--example", "http_unix"])
                .current_dir(package);
            if let Some(target) = profile.parent() {
                build.arg("--target-dir").arg(target);
            }
            if profile.ends_with("release") {
                build.arg("--release");
            }
            quietly(build)?;
        }
        let programs = Self {
            seamless_run: profile.join("seamless-run"),
            http_unix: examples.join("http_unix"),
        };
        for program in [&programs.seamless_run, &programs.http_unix] {
            if !program.exists() {
                return Err(format!("{} is not there", program.display()).into());
            }
        }
        Ok(programs)
    }
}

/// Shows what cargo says only if it takes longer than two seconds, or fails.
fn quietly(mut build: Command) -> Outcome<()> {
    let mut cargo = build.stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let (sender, lines) = mpsc::channel();
    let stderr = cargo.stderr.take();
    thread::spawn(move || {
        for line in stderr
            .into_iter()
            .flat_map(|stderr| BufReader::new(stderr).lines())
        {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let patience = Instant::now() + Duration::from_secs(2);
    let mut held = Vec::new();
    loop {
        match lines.recv_timeout(patience.saturating_duration_since(Instant::now())) {
            Ok(line) => held.push(line),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                eprintln!("demo: first the service is built, which may take a minute:");
                for line in held.drain(..).chain(lines.iter()) {
                    eprintln!("{line}");
                }
                eprintln!();
                break;
            }
        }
    }
    let status = cargo.wait()?;
    if !status.success() {
        for line in held {
            eprintln!("{line}");
        }
        return Err(format!("cargo build: {status}").into());
    }
    Ok(())
}
