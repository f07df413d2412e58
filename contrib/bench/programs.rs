//! What is audited, and what is needed for it.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::Outcome;

#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) seamless_run: PathBuf,
    pub(crate) http_tcp: PathBuf,
    pub(crate) http_unix: PathBuf,
    /// This one.
    pub(crate) audit: PathBuf,
}

impl Programs {
    /// They lie where cargo put this one: TARGET/PROFILE/examples/audit. Under `cargo run`, cargo sees to it that they
    /// are there.
    pub(crate) fn build() -> Outcome<Self> {
        let audit = env::current_exe()?;
        let examples = audit.parent().ok_or("where am I?")?;
        let profile = examples.parent().ok_or("where am I?")?;
        if let (Some(cargo), Some(package)) =
            (env::var_os("CARGO"), env::var_os("CARGO_MANIFEST_DIR"))
        {
            let mut build = Command::new(cargo);
            build
                .args(["build", "--bin", "seamless-run"])
                .args(["--example", "http_tcp", "--example", "http_unix"])
                .current_dir(package)
                .stdin(Stdio::null());
            if let Some(target) = profile.parent() {
                build.arg("--target-dir").arg(target);
            }
            if profile.ends_with("release") {
                build.arg("--release");
            }
            let status = build.status()?;
            if !status.success() {
                return Err(format!("cargo build: {status}").into());
            }
        }
        let programs = Self {
            seamless_run: profile.join("seamless-run"),
            http_tcp: examples.join("http_tcp"),
            http_unix: examples.join("http_unix"),
            audit: audit.clone(),
        };
        for program in [
            &programs.seamless_run,
            &programs.http_tcp,
            &programs.http_unix,
        ] {
            if !program.exists() {
                return Err(format!("{} is not there", program.display()).into());
            }
        }
        Ok(programs)
    }
}

/// A program of the system's, from a Debian package.
pub(crate) fn find(name: &str, package: &str) -> Outcome<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // Not in everybody's PATH.
    let sbin = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(sbin)
        .map(|directory| directory.join(name))
        .find(|program| Path::is_file(program))
        .ok_or_else(|| format!("{name} is missing: apt-get install {package}").into())
}
