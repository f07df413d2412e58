//! A network of its own, where there is nobody else and its switches can be set.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    process::Command,
};

use nix::{
    sched::{CloneFlags, unshare},
    unistd::geteuid,
};

use super::{Outcome, programs};

const TCP_MIGRATE_REQ: &str = "/proc/sys/net/ipv4/tcp_migrate_req";

/// Below the ports that the kernel gives to clients: one that connects while nobody listens could be given the very port
/// that it wants to reach, and would reach itself.
const FIRST_PORT: u16 = 18080;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    Own,
    /// We are not root.
    Shared,
}

impl Network {
    /// For root: a new network namespace with only `lo` in it, up. Before there are threads, which would stay behind.
    pub(crate) fn prepare() -> Outcome<Self> {
        if !geteuid().is_root() {
            return Ok(Self::Shared);
        }
        let ip = programs::find("ip", "iproute2")?;
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|error| format!("a network namespace for the audit: {error}"))?;
        let status = Command::new(ip)
            .args(["link", "set", "lo", "up"])
            .status()?;
        if !status.success() {
            return Err(format!("ip link set lo up: {status}").into());
        }
        Ok(Self::Own)
    }

    /// A port that is free, for each row another.
    pub(crate) fn port(self, row: u16) -> u16 {
        let first = FIRST_PORT + row * 100;
        let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
        (first..first + 100).find(free).unwrap_or(first)
    }

    /// Sees to it that the switch is at this, or says why it is not.
    pub(crate) fn set_tcp_migrate_req(self, on: bool) -> Result<(), String> {
        let wanted = if on { "1" } else { "0" };
        let found = match fs::read_to_string(TCP_MIGRATE_REQ) {
            Ok(found) => found.trim().to_owned(),
            // Before Linux 5.14 nothing migrated.
            Err(_) if !on => return Ok(()),
            Err(error) => return Err(format!("{TCP_MIGRATE_REQ}: {error}")),
        };
        match self {
            Self::Own => fs::write(TCP_MIGRATE_REQ, wanted)
                .map_err(|error| format!("{TCP_MIGRATE_REQ}: {error}")),
            Self::Shared if found == wanted => Ok(()),
            Self::Shared => Err(format!(
                "net.ipv4.tcp_migrate_req is {found} here, and only root can try what {wanted} does"
            )),
        }
    }
}
