//! How the daemon is told of its sockets (§5): the variables of those who passed sockets before us.

use std::ffi::OsString;

use anyhow::{Result, bail};

use super::address::{Host, Place};
use super::{FIRST, Label, Passed};
use crate::cli::guess;

/// `--listen-env`: what is said beside `LISTEN_FDS`, which is always said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Convention {
    /// sd_listen_fds(3).
    #[default]
    Systemd,
    /// `NGINX`, as nginx passes its own sockets to its successor.
    Nginx,
    /// `SERVER_STARTER_PORT`, of Perl's Server::Starter.
    ServerStarter,
}

impl Convention {
    pub(crate) fn parse(text: &str) -> Result<Convention> {
        match text {
            "systemd" => Ok(Convention::Systemd),
            "nginx" => Ok(Convention::Nginx),
            "server-starter" => Ok(Convention::ServerStarter),
            _ => bail!(
                "--listen-env: unknown convention {text:?}; use systemd, nginx or server-starter{}",
                guess::question(text, ["systemd", "nginx", "server-starter"])
            ),
        }
    }

    /// nginx sets O_NONBLOCK only on sockets that it has opened, and relies on it of those that another
    /// nginx passes: a worker that blocked in accept would serve nobody else.
    pub(crate) fn never_blocks(self) -> bool {
        match self {
            Convention::Nginx => true,
            Convention::Systemd | Convention::ServerStarter => false,
        }
    }

    /// Everything but `LISTEN_PID`, which only the daemon itself can know.
    pub(crate) fn variables(
        self,
        passed: &Passed,
        ours: &[Label],
        generation: u32,
    ) -> Vec<(&'static str, OsString)> {
        let own_names = ours.iter().map(|label| &label.name);
        let names: Vec<&str> = passed
            .names
            .iter()
            .chain(own_names)
            .map(String::as_str)
            .collect();
        let mut variables = vec![
            ("LISTEN_FDS", names.len().to_string().into()),
            ("LISTEN_FDNAMES", names.join(":").into()),
        ];
        let end = passed.end();
        match self {
            Convention::Systemd => {}
            Convention::Nginx => {
                let all = (FIRST..).take(names.len());
                let all: String = all.map(|descriptor| format!("{descriptor};")).collect();
                variables.push(("NGINX", all.into()));
            }
            Convention::ServerStarter => {
                let all: Vec<String> = ours
                    .iter()
                    .zip(end..)
                    .map(|(label, descriptor)| format!("{}={descriptor}", place(label)))
                    .collect();
                variables.push(("SERVER_STARTER_PORT", all.join(";").into()));
                variables.push(("SERVER_STARTER_GENERATION", generation.to_string().into()));
            }
        }
        variables
    }
}

/// As `start_server` spells what it was told to listen on: `80`, `127.0.0.1:80`, `/run/app.sock`.
fn place(label: &Label) -> String {
    match &label.address.place {
        Place::Path(path) => path.display().to_string(),
        Place::Abstract(name) => format!("@{name}"),
        Place::Internet { host, .. } => {
            let bound = label.bound.as_deref().unwrap_or_default();
            match (host, bound.rsplit_once(':')) {
                (Host::Any, Some((_, port))) => port.to_owned(),
                _ => bound.to_owned(),
            }
        }
    }
}
