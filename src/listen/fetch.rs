//! A socket out of another process, for want of a keeper that hands it over (R20).

use std::fs;
use std::io;
use std::os::fd::AsFd;

use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

use super::label::inode;
use super::{Handed, Label};
use crate::process::Process;

/// Looks for the socket among a process's descriptors, whatever number it has there by now. `None`:
/// it has none of it.
pub(crate) fn fetch(process: &Process, label: &Label) -> io::Result<Option<Handed>> {
    let name = format!("socket:[{}]", label.inode);
    for entry in fs::read_dir(format!("/proc/{}/fd", process.pid))?.flatten() {
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let (Ok(target), Some(number)) = (fs::read_link(entry.path()), number) else {
            continue;
        };
        if target.as_os_str() != name.as_str() {
            continue;
        }
        let socket = pidfd_getfd(process, number, PidfdGetfdFlags::empty())?;
        // It may have put something else there meanwhile.
        if inode(socket.as_fd())? == label.inode {
            let label = label.clone();
            return Ok(Some(Handed { label, socket }));
        }
    }
    Ok(None)
}
