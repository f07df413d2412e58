//! What is measured, and how it is made.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{Outcome, support};

const PARENT_C: &str = include_str!("programs/parent.c");
const PARENT_RUST: &str = include_str!("programs/parent.rs");
const PARENT_GO: &str = include_str!("programs/parent.go");
const SMALL: &str = include_str!("programs/small.c");
const COUNT: &str = include_str!("programs/count.c");
const LAUNCHER: &str = include_str!("programs/launcher.c");

/// A compiler, and the Debian package that it is in.
const CC: [&str; 2] = ["cc", "gcc"];
const MUSL: [&str; 2] = ["musl-gcc", "musl-tools"];
const GO: [&str; 2] = ["go", "golang-go"];
const RUSTC: [&str; 2] = ["rustc", "rustc"];

/// Who a line of the table is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Plain,
    Static,
    Tini,
    TiniStatic,
    DumbInit,
    Catatonit,
    Go,
    CGlibc,
    CMusl,
    Rust,
    RustStatic,
}

impl Who {
    pub(crate) const ALL: [Who; 11] = [
        Who::Static,
        Who::Plain,
        Who::Tini,
        Who::TiniStatic,
        Who::DumbInit,
        Who::Catatonit,
        Who::Go,
        Who::RustStatic,
        Who::Rust,
        Who::CGlibc,
        Who::CMusl,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Who::Plain => "seamless-run",
            Who::Static => "seamless-run, static",
            Who::Tini => "tini",
            Who::TiniStatic => "tini-static",
            Who::DumbInit => "dumb-init",
            Who::Catatonit => "catatonit",
            Who::Go => "smallest parent in Go",
            Who::CGlibc => "smallest in C, glibc",
            Who::CMusl => "smallest in C, musl",
            Who::Rust => "smallest in Rust",
            Who::RustStatic => "smallest in Rust, static",
        }
    }

    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Who::Plain | Who::Static)
    }
}

/// A parent of a daemon.
#[derive(Clone, Debug)]
pub(crate) struct Parent {
    pub(crate) who: Who,
    pub(crate) program: PathBuf,
    /// Before the daemon's own words.
    words: Vec<OsString>,
}

impl Parent {
    /// The words of a command that starts `daemon` as the service of this name. (Without a name that is of its own,
    /// two of ours would be two generations.)
    pub(crate) fn command(&self, files: &Path, name: &str, daemon: &[&str]) -> Vec<OsString> {
        let mut words = vec![self.program.clone().into_os_string()];
        words.extend_from_slice(&self.words);
        if self.who.is_ours() {
            words.push("--pid-file".into());
            words.push(files.join(format!("{name}.pid")).into());
            words.push("--".into());
        }
        words.extend(daemon.iter().map(OsString::from));
        words
    }
}

#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) parents: Vec<Parent>,
    /// What could not be had, and why.
    pub(crate) missing: Vec<String>,
    /// The daemon, a static one where there is a compiler for it.
    pub(crate) small: PathBuf,
    pub(crate) count: PathBuf,
    /// The bare launcher of the latencies.
    pub(crate) launcher: PathBuf,
}

impl Programs {
    /// In `scratch`, but for our own.
    pub(crate) fn make(
        scratch: &Path,
        ours: &Path,
        static_ours: Result<PathBuf, String>,
    ) -> Outcome<Programs> {
        let place = scratch.join("programs");
        fs::create_dir(&place)?;
        let make = |compiler: [&str; 2], options: &[&str], source: &str, name: &str| {
            compile(&place, compiler, options, source, name)
        };
        let small = make(MUSL, &["-O2", "-static"], SMALL, "small.c")
            .or_else(|_| make(CC, &["-O2"], SMALL, "small.c"))?;
        let count = make(CC, &["-O2"], COUNT, "count.c")?;
        let launcher = make(MUSL, &["-O2", "-static"], LAUNCHER, "launcher.c")
            .or_else(|_| make(CC, &["-O2"], LAUNCHER, "launcher.c"))?;
        let mut programs = Programs {
            parents: Vec::new(),
            missing: Vec::new(),
            small,
            count,
            launcher,
        };
        let target = format!("{}-unknown-linux-musl", env::consts::ARCH);
        for who in Who::ALL {
            let (program, words): (_, &[&str]) = match who {
                Who::Plain => (Ok(ours.to_owned()), &["-q"]),
                Who::Static => (static_ours.clone(), &["-q"]),
                // -s: without it tini complains that it is not PID 1.
                Who::Tini => (packaged("tini", "tini"), &["-s", "--"]),
                Who::TiniStatic => (packaged("tini-static", "tini"), &["-s", "--"]),
                Who::DumbInit => (packaged("dumb-init", "dumb-init"), &["--"]),
                Who::Catatonit => (packaged("catatonit", "catatonit"), &["--"]),
                Who::CGlibc => {
                    let options = ["-O2", "-static"];
                    (make(CC, &options, PARENT_C, "parent-glibc.c"), &[])
                }
                Who::CMusl => {
                    let options = ["-O2", "-static"];
                    (make(MUSL, &options, PARENT_C, "parent-musl.c"), &[])
                }
                Who::Rust => {
                    let options = ["-O", "--edition=2024"];
                    (make(RUSTC, &options, PARENT_RUST, "parent-rust.rs"), &[])
                }
                Who::RustStatic => {
                    let options = ["-O", "--edition=2024", "--target", &target];
                    (
                        make(RUSTC, &options, PARENT_RUST, "parent-rust-static.rs"),
                        &[],
                    )
                }
                Who::Go => {
                    let options = ["build", "-ldflags=-s -w"];
                    (make(GO, &options, PARENT_GO, "parent-go.go"), &[])
                }
            };
            match program {
                Ok(program) => programs.parents.push(Parent {
                    who,
                    program,
                    words: words.iter().map(OsString::from).collect(),
                }),
                Err(why) => programs.missing.push(format!("{}: {why}", who.name())),
            }
        }
        Ok(programs)
    }

    pub(crate) fn small(&self) -> &str {
        self.small.to_str().unwrap_or_default()
    }

    pub(crate) fn parent(&self, who: Who) -> Option<&Parent> {
        self.parents.iter().find(|parent| parent.who == who)
    }
}

/// Ours, both of them: built, where cargo is at hand, or as they lie there.
pub(crate) fn ours(given: Option<&Path>) -> Outcome<(PathBuf, Result<PathBuf, String>)> {
    let plain = support::program();
    let profile = plain.parent().ok_or("where am I?")?;
    let directory = profile.parent().ok_or("where am I?")?;
    let cargo = env::var_os("CARGO").zip(env::var_os("CARGO_MANIFEST_DIR"));
    if let Some((cargo, package)) = &cargo {
        let mut build = Command::new(cargo);
        build
            .args(["build", "--bin", "seamless-run", "--target-dir"])
            .arg(directory)
            .current_dir(package)
            .stdin(Stdio::null());
        if profile.ends_with("release") {
            build.arg("--release");
        }
        let status = build.status()?;
        if !status.success() {
            return Err(format!("cargo build: {status}").into());
        }
    }
    if !plain.exists() {
        return Err(format!("{} is not there", plain.display()).into());
    }
    let released = match (given, &cargo) {
        // The supervisors run it from directories of their own.
        (Some(given), _) => {
            let found = given.canonicalize();
            Ok(found.map_err(|error| format!("{}: {error}", given.display()))?)
        }
        (None, Some((_, package))) => build_released(Path::new(package), directory),
        (None, None) => Err("neither --static nor cargo says where it is".to_owned()),
    };
    Ok((plain, released))
}

/// As it is released.
fn build_released(package: &Path, directory: &Path) -> Result<PathBuf, String> {
    let script = "contrib/packaging/static";
    let built = Command::new("sh")
        .arg(script)
        .current_dir(package)
        .env("CARGO_TARGET_DIR", directory)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("{script}: {error}"))?;
    if !built.status.success() {
        return Err(format!("{script}: {}", built.status));
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&built.stdout).trim()))
}

/// A program of the system's.
pub(crate) fn packaged(name: &str, package: &str) -> Result<PathBuf, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
        .ok_or_else(|| format!("it is not there: apt-get install {package}"))
}

/// The program's name is that of its source, without the end.
fn compile(
    place: &Path,
    [compiler, package]: [&str; 2],
    options: &[&str],
    source: &str,
    name: &str,
) -> Result<PathBuf, String> {
    let compiler = packaged(compiler, package)?;
    let path = place.join(name);
    let program = path.with_extension("");
    fs::write(&path, source).map_err(|error| error.to_string())?;
    let compiled = Command::new(&compiler)
        .args(options)
        .arg("-o")
        .args([&program, &path])
        .current_dir(place)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if compiled.status.success() {
        return Ok(program);
    }
    let said = String::from_utf8_lossy(&compiled.stderr);
    let first = said.lines().next().unwrap_or("it is silent");
    Err(format!("{} cannot make it: {first}", compiler.display()))
}
