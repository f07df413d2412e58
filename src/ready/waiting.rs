//! Whether a process waits for connections, as `/proc` shows it: what it polls, and in which call it is.
//!
//! A socket that all generations share is listened at from the first one's start; but only who is up waits there.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::libc;

use crate::process;

/// What a descriptor of an epoll instance is a link to.
const EPOLL: &str = "anon_inode:[eventpoll]";
/// More than any server has in one call.
const MOST: usize = 1 << 12;

/// Whether `pid` waits at one of these sockets (`st_ino`).
pub(super) fn waits_at(pid: i32, sockets: &[u64]) -> io::Result<bool> {
    let open = Open::look(pid, sockets)?;
    if open.sockets.is_empty() {
        return Ok(false);
    }
    let in_epoll = |number: &i32| polls(pid, *number, sockets).unwrap_or(false);
    Ok(open.epolls.iter().any(in_epoll) || is_in_a_call(pid, &open.sockets))
}

/// Whether `pid` has one of them at all.
pub(super) fn has_one_of(pid: i32, sockets: &[u64]) -> io::Result<bool> {
    Ok(!Open::look(pid, sockets)?.sockets.is_empty())
}

/// The descriptors that matter, by number.
struct Open {
    epolls: Vec<i32>,
    sockets: Vec<i32>,
}

impl Open {
    fn look(pid: i32, sockets: &[u64]) -> io::Result<Open> {
        let links: Vec<String> = sockets
            .iter()
            .map(|one| format!("socket:[{one}]"))
            .collect();
        let mut open = Open {
            epolls: Vec::new(),
            sockets: Vec::new(),
        };
        for entry in fs::read_dir(format!("{}/fd", process::place_of(pid)))?.flatten() {
            let number = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            let link = match fs::read_link(entry.path()) {
                Ok(link) => link,
                // Another user's, to whom may not trace.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(error),
                // It has been closed.
                Err(_) => continue,
            };
            let Some(number) = number else { continue };
            if link == Path::new(EPOLL) {
                open.epolls.push(number);
            } else if links.iter().any(|socket| Path::new(socket) == link) {
                open.sockets.push(number);
            }
        }
        Ok(open)
    }
}

/// Whether an epoll instance has one of them: `tfd: 5 events: 19 data: 5 pos:0 ino:2f1a sdev:9`.
fn polls(pid: i32, epoll: i32, sockets: &[u64]) -> io::Result<bool> {
    let place = process::place_of(pid);
    let text = fs::read_to_string(format!("{place}/fdinfo/{epoll}"))?;
    let number = |line: &str| {
        let mut words = line.strip_prefix("tfd:")?.split_ascii_whitespace();
        u64::from_str_radix(words.find_map(|word| word.strip_prefix("ino:"))?, 16).ok()
    };
    let mut all = text.lines().filter_map(number);
    Ok(all.any(|number| sockets.contains(&number)))
}

/// Whether one of its threads is in a call that waits for one of these descriptors.
fn is_in_a_call(pid: i32, descriptors: &[i32]) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let mut calls = tasks.filter_map(|task| Call::of(&task.path()));
    calls.any(|call| call.waits_for(pid, descriptors).unwrap_or(false))
}

/// A system call, and its first two arguments.
pub(crate) struct Call {
    pub(crate) number: libc::c_long,
    pub(crate) first: u64,
    pub(crate) second: u64,
}

impl Call {
    /// `None`: it is in none.
    pub(crate) fn of(task: &Path) -> Option<Call> {
        let text = fs::read_to_string(task.join("syscall")).ok()?;
        let mut words = text.split_ascii_whitespace();
        let number = words.next()?.parse().ok()?;
        let mut argument = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
        Some(Call {
            number,
            first: argument()?,
            second: argument()?,
        })
    }

    fn waits_for(&self, pid: i32, descriptors: &[i32]) -> io::Result<bool> {
        if ACCEPTS.contains(&self.number) {
            return Ok(descriptors
                .iter()
                .any(|one| i64::from(*one) as u64 == self.first));
        }
        let memory = || File::open(format!("{}/mem", process::place_of(pid)));
        if POLLS.contains(&self.number) {
            // An array of `struct pollfd`.
            let count = usize::try_from(self.second).unwrap_or(MOST).min(MOST);
            let mut all = vec![0; count * 8];
            memory()?.read_exact_at(&mut all, self.first)?;
            let numbers = all
                .chunks_exact(8)
                .map(|one| [one[0], one[1], one[2], one[3]]);
            let mut numbers = numbers.map(i32::from_ne_bytes);
            return Ok(numbers.any(|number| descriptors.contains(&number)));
        }
        if SELECTS.contains(&self.number) && self.second != 0 {
            // An `fd_set`, of which the kernel reads as much as there are descriptors.
            let count = usize::try_from(self.first).unwrap_or(MOST).min(MOST);
            let mut set = vec![0; count.div_ceil(64) * 8];
            memory()?.read_exact_at(&mut set, self.second)?;
            let has = |number: &i32| {
                let number = usize::try_from(*number).unwrap_or(usize::MAX);
                let words = set
                    .chunks_exact(8)
                    .map(|word| word.try_into().map(u64::from_ne_bytes));
                let word = words.flatten().nth(number / 64);
                word.is_some_and(|word| word & (1 << (number % 64)) != 0)
            };
            return Ok(descriptors.iter().any(has));
        }
        Ok(false)
    }
}

/// The numbers of a 32-bit machine's calls for programs with a 64-bit time_t are the same on all of them.
const ACCEPTS: &[libc::c_long] = &[
    #[cfg(not(target_arch = "x86"))]
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    #[cfg(target_pointer_width = "32")]
    417,
];

/// Newer machines have only the calls that take a signal mask, too.
const POLLS: &[libc::c_long] = &[
    #[cfg(any(target_arch = "x86_64", target_arch = "x86", target_arch = "arm"))]
    libc::SYS_poll,
    libc::SYS_ppoll,
    #[cfg(target_pointer_width = "32")]
    414,
];
const SELECTS: &[libc::c_long] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_select,
    #[cfg(any(target_arch = "x86", target_arch = "arm"))]
    libc::SYS__newselect,
    libc::SYS_pselect6,
    #[cfg(target_pointer_width = "32")]
    413,
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::os::unix::fs::MetadataExt;
    use std::process::{Child, Command, Stdio};
    use std::thread;
    use std::time::{Duration, Instant};

    /// Python with a listening socket as descriptor 0.
    struct Waiter(Child);

    impl Drop for Waiter {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    impl Waiter {
        fn start(code: &str, socket: &TcpListener) -> Waiter {
            let given = OwnedFd::from(socket.try_clone().unwrap());
            let code = format!(
                "import select, socket, threading, time\ns = socket.socket(fileno=0)\n{code}"
            );
            let mut python = Command::new("python3");
            let python = python.args(["-c", &code]).stdin(Stdio::from(given));
            Waiter(python.spawn().expect("python3 (package python3-minimal)"))
        }

        /// Looks until that is so; there is no event to wait for.
        fn wait_until(&mut self, is_so: impl Fn(i32) -> bool) {
            let begin = Instant::now();
            while !is_so(self.0.id() as i32) {
                assert!(self.0.try_wait().unwrap().is_none(), "it has ended");
                assert!(begin.elapsed() < Duration::from_secs(60), "it never came");
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn number_of(socket: &TcpListener) -> u64 {
        let path = format!("/proc/self/fd/{}", socket.as_raw_fd());
        fs::metadata(path).unwrap().ino()
    }

    #[test]
    fn every_way_to_wait_is_seen() {
        for code in [
            "s.accept()",
            "s.settimeout(1000); s.accept()",
            "select.select([s], [], [], 1000)",
            "p = select.poll(); p.register(s, select.POLLIN); p.poll()",
            "e = select.epoll(); e.register(s, select.EPOLLIN); e.poll()",
            "threading.Thread(target=s.accept).start(); time.sleep(1000)",
        ] {
            let socket = TcpListener::bind("127.0.0.1:0").unwrap();
            let number = number_of(&socket);
            let mut waiter = Waiter::start(code, &socket);
            waiter.wait_until(|pid| waits_at(pid, &[number]).unwrap());
        }
    }

    #[test]
    fn to_have_it_is_not_to_wait_there() {
        for code in [
            "time.sleep(1000)",
            "e = select.epoll(); time.sleep(1000)",
            "t = socket.create_server(('127.0.0.1', 0)); e = select.epoll(); e.register(t); time.sleep(1000)",
        ] {
            let socket = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut waiter = Waiter::start(code, &socket);
            waiter.wait_until(|pid| {
                let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
                call.starts_with(&format!("{} ", libc::SYS_clock_nanosleep))
            });
            let pid = waiter.0.id() as i32;
            assert!(!waits_at(pid, &[number_of(&socket)]).unwrap(), "{code}");
            assert!(has_one_of(pid, &[number_of(&socket)]).unwrap());
        }
    }
}
