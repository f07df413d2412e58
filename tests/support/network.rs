//! A network of its own for one test.

use std::fs::File;
use std::marker::PhantomData;
use std::process::Command;

use nix::sched::{CloneFlags, setns, unshare};

use super::{Spawn, tool};

/// The calling thread is in a network namespace of its own until this is dropped, and so is whatever it starts.
///
/// Bound to its thread: dropped in another one it would move that one.
#[derive(Debug)]
pub(crate) struct Network {
    before: File,
    _thread: PhantomData<*const ()>,
}

/// Puts the calling thread into a new network namespace, with only `lo` in it, up. Needs root.
///
/// Threads started afterwards inherit it as children do; other tests of the same process are not touched.
pub(crate) fn isolate() -> Network {
    // Not /proc/self: that is the main thread.
    let before = File::open("/proc/thread-self/ns/net").unwrap();
    if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
        panic!("a network namespace for the test (are we root?): {error}");
    }
    let network = Network {
        before,
        _thread: PhantomData,
    };
    let ip = Command::new(tool("ip", "iproute2"));
    Spawn::from(ip)
        .args(["link", "set", "lo", "up"])
        .finish()
        .expect_success();
    network
}

impl Network {
    /// Sets a switch of this namespace, such as `ipv4.tcp_migrate_req`. `/proc/sys/net` shows every thread the
    /// namespace that it is in.
    pub(crate) fn set(&self, name: &str, value: &str) {
        let path = Network::path(name);
        if let Err(error) = std::fs::write(&path, value) {
            panic!("{path}: {error}");
        }
    }

    pub(crate) fn get(&self, name: &str) -> String {
        let path = Network::path(name);
        let value =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        value.trim().to_owned()
    }

    fn path(name: &str) -> String {
        format!("/proc/sys/net/{}", name.replace('.', "/"))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        setns(&self.before, CloneFlags::CLONE_NEWNET).unwrap();
    }
}
