//! A KILL at a call of the system, exactly: strace does it. Once is enough: with the first one that is KILLed the tracer
//! goes, or it would end whoever takes that one's place, for ever.

use std::{
    fs::{self, File},
    io::Read,
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use nix::{
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{signal::Signal, stat::Mode},
    unistd::mkfifo,
};

use super::{
    Outcome,
    service::Service,
    support::{process::Handle, scratch, tool},
};

#[derive(Debug)]
pub(crate) struct Tracer {
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    struck: AtomicBool,
    over: AtomicBool,
}

impl Tracer {
    /// With the last lines of the run script, which becomes the launcher as ever: the tracer is nobody's parent.
    pub(crate) fn prepare(service: &Service, call: &str, number: u64) -> Outcome<(Tracer, String)> {
        let calls = service.scripts.join("calls");
        fs::remove_file(&calls).ok();
        mkfifo(&calls, Mode::S_IRUSR | Mode::S_IWUSR)?;
        // For writing too, so that it neither waits for a writer nor sees an end.
        let fifo = File::options()
            .read(true)
            .write(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(&calls)?;
        let snippet = format!(
            "exec '{}' -DDD -f -q -b execve -e trace={call} -e inject={call}:signal=KILL:when={number} -o '{}' {}\n",
            tool("strace", "strace").display(),
            calls.display(),
            service.command,
        );
        let state = Arc::new(State::default());
        let mark: PathBuf = service.scratch.path().to_owned();
        let reading = Arc::clone(&state);
        thread::spawn(move || reading.read(fifo, &mark));
        Ok((Tracer { state }, snippet))
    }

    pub(crate) fn has_struck(&self) -> bool {
        self.state.struck.load(Ordering::Relaxed)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::Relaxed);
    }
}

impl State {
    fn read(&self, mut fifo: File, mark: &Path) {
        let mut tracers: Vec<Handle> = Vec::new();
        let mut written = Vec::new();
        while !self.over.load(Ordering::Relaxed) {
            let mut wait = [PollFd::new(fifo.as_fd(), PollFlags::POLLIN)];
            if !poll(&mut wait, PollTimeout::from(100u8)).is_ok_and(|ready| ready > 0) {
                continue;
            }
            let mut buffer = [0; 4096];
            let read = fifo.read(&mut buffer).unwrap_or(0);
            written.extend_from_slice(&buffer[..read]);
            if tracers.is_empty() {
                let found = scratch::processes_of(mark).into_iter();
                let found = found.filter(|process| process.comm == "strace");
                tracers.extend(found.filter_map(|process| Handle::open(process.pid)));
            }
            if String::from_utf8_lossy(&written).contains("killed by SIGKILL") {
                self.struck.store(true, Ordering::Relaxed);
                for tracer in &tracers {
                    tracer.signal(Signal::SIGKILL);
                }
                return;
            }
        }
    }
}
