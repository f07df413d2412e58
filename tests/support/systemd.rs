//! A real systemd, as PID 1 of its own namespaces.

use std::ffi::OsStr;
use std::fs;
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};

use super::process::{self, Handle, wait_any_readable};
use super::service::write;
use super::{
    Kind, Log, PATIENCE, Pid, Scratch, Service, Spawn, Spawned, Supervisor, Verb, marked, poll,
    tool,
};

const PACKAGE: &str = "systemd";

/// PIDs inside differ from those outside: [`Supervisor::main_pid`] is one of outside, what the service itself
/// writes is one of inside.
#[derive(Debug)]
pub(crate) struct Systemd {
    mark: PathBuf,
    directory: PathBuf,
    messages: Log,
    /// The shell outside, which removes the cgroup when PID 1 has ended.
    boot: Spawned,
    init: Option<Handle>,
}

impl Systemd {
    pub(crate) fn start(scratch: &Scratch, log: &Log, service: &Service) -> Systemd {
        let systemd = Systemd::boot(scratch);
        systemd.install(scratch, log, service);
        systemd.run(Verb::Up).expect_success();
        systemd
    }

    /// Boots with no service yet.
    pub(crate) fn boot(scratch: &Scratch) -> Systemd {
        require_systemd();
        let directory = scratch.join("systemd");
        // Another one may have been here; its whole PID namespace has ended.
        if directory.exists() {
            fs::remove_dir_all(&directory).unwrap();
        }
        fs::create_dir_all(directory.join("units")).unwrap();
        let messages = Log::new(scratch, "systemd/kmsg");
        let ready = UnixDatagram::bind(directory.join("boot")).unwrap();
        setsockopt(&ready, sockopt::PassCred, &true).unwrap();
        let script = directory.join("boot.sh");
        write(&script, include_bytes!("systemd-boot.sh"), 0o755);

        let boot = Spawn::from(Command::new(tool("unshare", "util-linux")))
            .args(["--mount", "--cgroup", "sh"])
            .arg(&script)
            .arg("outer")
            .arg(&directory)
            .arg(scratch.path())
            .start();
        let mut systemd = Systemd {
            mark: scratch.path().to_owned(),
            directory,
            messages,
            boot,
            init: None,
        };
        systemd.init = Some(systemd.wait_ready(&ready));
        systemd
    }

    /// Waits for PID 1's own word, as a container manager does. The kernel says who sent it, in our numbers.
    fn wait_ready(&self, ready: &UnixDatagram) -> Handle {
        let boot = Handle::open(self.boot.pid()).expect("it has not been reaped");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let readable = wait_any_readable(&[ready.as_fd(), boot.as_fd()], deadline);
            assert!(
                readable == Some(0),
                "systemd did not boot: {}{}",
                self.boot.describe(),
                self.messages.listing()
            );
            let mut text = [0; 4096];
            let mut credentials = nix::cmsg_space!(nix::sys::socket::UnixCredentials);
            let mut slices = [IoSliceMut::new(&mut text)];
            let message = recvmsg::<()>(
                ready.as_raw_fd(),
                &mut slices,
                Some(&mut credentials),
                MsgFlags::MSG_CMSG_CLOEXEC,
            )
            .unwrap();
            let length = message.bytes;
            let sender = message.cmsgs().unwrap().find_map(|control| {
                if let ControlMessageOwned::ScmCredentials(sender) = control {
                    Some(Pid::from_raw(sender.pid()))
                } else {
                    None
                }
            });
            let text = String::from_utf8_lossy(&text[..length]);
            if text.lines().any(|line| line == "READY=1") {
                let init = sender.expect("SO_PASSCRED is set");
                return Handle::open(init).expect("PID 1 lives");
            }
        }
    }

    /// Writes app.service anew, and has it read.
    pub(crate) fn install(&self, scratch: &Scratch, log: &Log, service: &Service) {
        service.refuse_finish("systemd");
        let script = self.directory.join("run");
        self.write_unit("app.service", &service.unit_file(&script, scratch, log));
    }

    /// Writes a unit, such as app.socket or app.service.d/more.conf, and has it read.
    pub(crate) fn write_unit(&self, name: &str, text: &str) {
        let path = self.directory.join("units").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self.systemctl(&["daemon-reload"]).finish().expect_success();
    }

    /// Any systemctl command.
    pub(crate) fn systemctl(&self, words: &[&str]) -> Spawn {
        self.inside(tool("systemctl", PACKAGE)).args(words)
    }

    /// A property of app.service, such as `ActiveState`.
    pub(crate) fn property(&self, name: &str) -> String {
        self.property_of("app.service", name)
    }

    /// A property of another unit.
    pub(crate) fn property_of(&self, unit: &str, name: &str) -> String {
        let show = self.systemctl(&["show", "--property", name, "--value", unit]);
        show.finish().expect_success().stdout.trim().to_owned()
    }

    /// Waits until a property of app.service is as wanted: systemd gives no event for it without D-Bus.
    pub(crate) fn wait_property(&self, name: &str, wanted: impl Fn(&str) -> bool) -> String {
        let seen = poll(|| Some(self.property(name)).filter(|value| wanted(value)));
        seen.unwrap_or_else(|| panic!("{name} stays {:?}", self.property(name)))
    }

    /// What `systemctl status` shows of app.service, as soon as `part` is in it.
    pub(crate) fn wait_status(&self, part: &str) -> String {
        let status = || self.systemctl(&["status", "app.service"]).finish().stdout;
        let seen = poll(|| Some(status()).filter(|shown| shown.contains(part)));
        seen.unwrap_or_else(|| panic!("no {part:?} in {}", status()))
    }

    /// Starts a system bus, by which systemd answers every user, and not only root.
    pub(crate) fn start_bus(&self) {
        let bus = tool("dbus-daemon", "dbus");
        // systemd looks for a bus where units of these names are.
        let socket = "[Socket]\nListenStream=/run/dbus/system_bus_socket\n";
        self.write_unit("dbus.socket", socket);
        let service = format!(
            "[Unit]\nRequires=dbus.socket\n[Service]\nType=notify\nStandardOutput=null\n\
             ExecStart={} --system --address=systemd: --nofork --nopidfile --nosyslog\n",
            bus.display()
        );
        self.write_unit("dbus.service", &service);
        let start = self.systemctl(&["start", "dbus.service"]);
        start.finish().expect_success();
    }

    /// Gives the namespaces a /tmp and /var/tmp of their own, with nothing in them but the scratch directory.
    ///
    /// `PrivateTmp=` makes directories there, which nobody removes when PID 1 is KILLed.
    pub(crate) fn own_tmp(&self) {
        let script = r#"
            set -eu
            mkdir /run/scratch
            mount --bind "$1" /run/scratch
            for place in /tmp /var/tmp; do mount -t tmpfs -o mode=1777 tmpfs $place; done
            mkdir -p "$1"
            mount --move /run/scratch "$1"
        "#;
        let shell = self.inside("sh").args(["-c", script, "own-tmp"]);
        shell.arg(&self.mark).finish().expect_success();
    }

    /// A command in the namespaces.
    pub(crate) fn inside(&self, program: impl AsRef<OsStr>) -> Spawn {
        let nsenter = tool("nsenter", "util-linux");
        Spawn::from(marked(nsenter, &self.mark))
            .args(["--mount", "--pid", "--uts", "--ipc", "--cgroup", "--target"])
            .arg(self.init().to_string())
            .arg("--")
            .arg(program)
            .env("SYSTEMD_PAGER", "")
            .env("SYSTEMD_COLORS", "0")
    }

    /// What systemd itself says, such as `Found left-over process`.
    pub(crate) fn messages(&self) -> &Log {
        &self.messages
    }

    /// PID 1, as seen from outside.
    pub(crate) fn init(&self) -> Pid {
        self.init.as_ref().expect("it has booted").pid
    }

    /// The number outside of a process inside; None if there is none.
    pub(crate) fn outside(&self, inside: Pid) -> Option<Pid> {
        let namespace = pid_namespace(self.init())?;
        process::all().find(|&pid| {
            pid_namespace(pid).as_ref() == Some(&namespace) && Systemd::inside_of(pid) == inside
        })
    }

    /// The number that a process has in its own PID namespace.
    pub(crate) fn inside_of(outside: Pid) -> Pid {
        let numbers = process::status_field(outside, "NSpid").unwrap_or_default();
        let innermost = numbers.split_ascii_whitespace().next_back();
        Pid::from_raw(innermost.map_or(0, |number| number.parse().unwrap()))
    }
}

fn pid_namespace(pid: Pid) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

/// systemd itself is in no PATH.
fn require_systemd() {
    let places = ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"];
    assert!(
        places.iter().any(|place| Path::new(place).is_file()),
        "the tests need systemd: install the Debian package {PACKAGE}"
    );
    assert!(
        nix::unistd::geteuid().is_root(),
        "the tests need root: systemd runs in namespaces of its own"
    );
}

impl Supervisor for Systemd {
    fn kind(&self) -> Kind {
        Kind::Systemd
    }

    fn command(&self, verb: Verb) -> Spawn {
        match verb {
            Verb::Restart => self.systemctl(&["restart", "app.service"]),
            Verb::Down => self.systemctl(&["stop", "app.service"]),
            Verb::Up => self.systemctl(&["start", "app.service"]),
            Verb::Signal(signal) => self.systemctl(&[
                "kill",
                "--kill-who=main",
                "--signal",
                signal.as_str(),
                "app.service",
            ]),
            Verb::Exit => self.systemctl(&[
                "start",
                "--no-block",
                "--job-mode=replace-irreversibly",
                "halt.target",
            ]),
        }
    }

    fn beside(&self, _: &Scratch, program: &Path) -> Spawn {
        self.inside(program)
    }

    fn say(&self, words: &[&str]) -> Spawn {
        self.systemctl(words).arg("app.service")
    }

    fn shown_pid(&self) -> Option<Pid> {
        let inside: i32 = self.property("MainPID").parse().unwrap();
        if inside == 0 {
            return None;
        }
        self.outside(Pid::from_raw(inside))
    }

    fn own_processes(&self) -> Vec<Pid> {
        self.init.iter().map(|init| init.pid).collect()
    }

    fn wait_exit(&mut self) {
        self.boot.wait();
    }

    fn shutdown(&mut self) {
        match &self.init {
            Some(init) => init.signal(Signal::SIGKILL),
            // The boot has not come so far: unshare takes its child with it.
            None => process::children(self.boot.pid())
                .into_iter()
                .filter_map(Handle::open)
                .for_each(|unshare| unshare.signal(Signal::SIGKILL)),
        }
        // It removes the cgroup. Not `wait`, which panics, perhaps in a panic.
        if let Some(boot) = Handle::open(self.boot.pid()) {
            boot.wait_until(Instant::now() + PATIENCE);
        }
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        self.shutdown();
        self.boot.kill();
    }
}
