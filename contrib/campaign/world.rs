//! The world in which it happens: PIDs, mounts and a network of its own, with a tiny `pid_max`. Whatever becomes of it,
//! it ends as a whole.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    thread,
};

use nix::{
    errno::Errno,
    sys::{
        signal::Signal,
        utsname::uname,
        wait::{WaitStatus, waitpid},
    },
    unistd::Pid,
};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use super::{
    Outcome, fault,
    programs::Programs,
    support::{process::Handle, scratch, tool},
};

/// Where control groups that count processes are: of the first version, or of the second.
const GROUPS: [&str; 2] = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"];

/// Starts the world, and waits for its end.
pub(crate) fn outside() -> Outcome<ExitCode> {
    Programs::build()?;
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let groups = groups()?;
    let mut child = Command::new(tool("unshare", "util-linux"))
        .args(["--pid", "--net", "--mount-proc", "--fork", "--kill-child"])
        .arg(env::current_exe()?)
        .arg("--role=init")
        .arg("--groups")
        .arg(&groups)
        .args(env::args_os().skip(1))
        .spawn()?;
    let handle = Handle::open(Pid::from_raw(child.id().try_into()?)).ok_or("it is our child")?;
    thread::spawn(move || {
        if signals.forever().next().is_some() {
            handle.signal(Signal::SIGKILL);
        }
    });
    let status = child.wait()?;
    remove_groups(&groups);
    scratch::sweep(&env::temp_dir());
    match status.code() {
        Some(code) => Ok(ExitCode::from(u8::try_from(code)?)),
        None => Err(format!("it did not come to its end: {status}").into()),
    }
}

/// A control group for those of the services.
fn groups() -> Outcome<PathBuf> {
    let counts = |place: &Path| {
        let own = fs::read_to_string(place.join("cgroup.subtree_control"));
        place.ends_with("pids") && place.is_dir()
            || own.is_ok_and(|own| own.split_whitespace().any(|one| one == "pids"))
    };
    let place = GROUPS
        .into_iter()
        .map(Path::new)
        .find(|place| counts(place));
    let place = place.ok_or("there is no control group that counts processes: neither /sys/fs/cgroup/pids nor `pids` in /sys/fs/cgroup/cgroup.subtree_control")?;
    let groups = place.join(format!("seamless-campaign-{}", std::process::id()));
    fs::create_dir(&groups).map_err(|error| format!("{}: {error}", groups.display()))?;
    if !place.ends_with("pids") {
        fs::write(groups.join("cgroup.subtree_control"), "+pids")?;
    }
    Ok(groups)
}

fn remove_groups(groups: &Path) {
    for entry in fs::read_dir(groups).into_iter().flatten().flatten() {
        fs::remove_dir(entry.path()).ok();
    }
    fs::remove_dir(groups).ok();
}

/// PID 1: it reaps, and nothing else.
pub(crate) fn init(pid_max: u32) -> Outcome<ExitCode> {
    fault::run("ip", "iproute2", &["link", "set", "lo", "up"])?;
    if has_own_pid_max()? {
        fs::write("/proc/sys/kernel/pid_max", pid_max.to_string())?;
    }
    let words = env::args_os().skip(1).filter(|word| word != "--role=init");
    let child = Command::new(env::current_exe()?)
        .arg("--role=campaign")
        .args(words)
        .spawn()?;
    let campaign = i32::try_from(child.id())?;
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid.as_raw() == campaign => {
                return Ok(ExitCode::from(u8::try_from(code)?));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid.as_raw() == campaign => {
                return Err(format!("the campaign died of {signal}").into());
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Before Linux 6.14 it is the whole machine's. There `ns_last_pid` alone does it.
fn has_own_pid_max() -> Outcome<bool> {
    let name = uname()?;
    let release = name.release().to_string_lossy().into_owned();
    let mut numbers = release
        .split(['.', '-'])
        .map(|word| word.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    Ok(version >= (6, 14))
}
