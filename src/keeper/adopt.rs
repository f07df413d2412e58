//! A keeper in the place of one that was KILLed (R20): it finds in the record what that one had
//! begun, and goes on with it.

use anyhow::{Context, Result, bail};
use std::time::Instant;

use super::commands::Commands;
use super::{Keeper, Kin, become_keeper, limits_of, signals_of, sockets};
use crate::cli::Service;
use crate::clock::Clock;
use crate::control::{Attempt, Callers};
use crate::daemon::{Daemon, end_commands_of};
use crate::files::{Begun, CLEANING, Disbelief, Entry, Files, Record, State, Taken};
use crate::generation::{Action, Phase, Waits, Why};
use crate::link::{Link, Word};
use crate::notify::NotifySocket;
use crate::predecessors::Predecessors;
use crate::ready::{PidFileWatch, Readiness};
use crate::supervisor::{Supervisor, Wishes};

impl Keeper {
    pub(super) fn adopt(
        service: Service,
        link: &mut Link,
        kin: Kin,
        supervisor: Supervisor,
        inherited: &[u64],
    ) -> Result<Keeper> {
        let (report, identity) = become_keeper(&service)?;
        let files = Files::beside(&service.pid_file);
        // The lost keeper's lock went with it.
        let Taken::Lock(lock) = files.take_lock(CLEANING)? else {
            bail!("the keeper was lost, and another launcher has taken its place");
        };
        let mut record = match files.read_record() {
            Ok(record) => record,
            Err(Disbelief::Missing | Disbelief::EarlierBoot) => Record::default(),
            Err(Disbelief::Unreadable(words) | Disbelief::Suspicious(words)) => bail!(
                "the keeper was lost, and the record {} {words}; its daemon goes on without one",
                files.record.display()
            ),
        };
        let ours = |entry: &Entry| entry.launcher == Some(kin.launcher);
        let Some(index) = record.generations.iter().rposition(ours) else {
            bail!("the keeper was lost before it had started a daemon");
        };
        let entry = record.generations.remove(index);
        end_commands_of(entry.daemon.pid, entry.number, &service.pid_file);
        let daemon = Daemon::adopt(entry.daemon, kin.launcher.pid)?;
        let notify = match &entry.notify {
            Some(address) => NotifySocket::reopen(address),
            None => NotifySocket::open(),
        };
        let notify = notify.or_else(|error| {
            report.warn(&format!(
                "cannot listen where the daemon sends its messages: {error}; it will not be heard"
            ));
            NotifySocket::open()
        })?;
        let limits = limits_of(&service);
        let mut predecessors =
            Predecessors::attach(&record, &files, entry.number, limits, &report)?;
        predecessors.end_what_nobody_knows(&record, &report);
        let listener = files.listen(&lock)?;
        let sockets = sockets::adopt(&entry, &daemon, &mut predecessors, &report);

        let clock = Clock::start();
        let now = clock.now();
        let phase = phase_of(&entry, &service, &predecessors, clock, now);
        let starting = matches!(phase, Phase::Starting { .. });
        let started = now.checked_sub(daemon.identity.age()).unwrap_or(now);
        let held = entry.sockets.iter().map(|label| label.inode);
        let given = inherited.iter().copied().chain(held).collect();
        // One that serves needs none, whatever could be said of it now.
        let readiness = starting.then(|| {
            Readiness::resume(
                &service.ready,
                service.probe_timeout,
                given,
                started,
                daemon.identity.pid,
                &entry.met,
            )
        });
        let readiness = readiness.transpose();
        let readiness = readiness.context("cannot go on waiting for readiness")?;
        let mut keeper = Keeper {
            phase,
            since: now,
            started,
            readiness,
            // One that serves needs no place to run any in (R2).
            commands: if starting {
                Commands::resume(daemon.identity.pid)
            } else {
                Commands::default()
            },
            clock,
            kin,
            supervised: true,
            is_heard: std::env::var_os("NOTIFY_SOCKET").is_some(),
            wishes: Wishes::new(supervisor, kin),
            unclear: Vec::new(),
            unsettled_end: None,
            to_restart: Vec::new(),
            lock: Some(lock),
            said_ready: entry.state == State::Ready && !entry.assumed,
            voice: entry.voice,
            told_to_end: None,
            status: String::new(),
            named: None,
            told_by_daemon: None,
            failure: predecessors.failure.clone(),
            commit_failure: None,
            exec_failure: None,
            pid_file_watch: PidFileWatch::open(&files).ok().filter(|_| starting),
            directory_watch: None,
            callers: Callers::default(),
            write_failed: false,
            turned_away: false,
            deaf_until: None,
            changed: false,
            newcomer_waits: false,
            signals: signals_of(&service)?,
            number: entry.number,
            service,
            report,
            home: files.home(),
            files,
            identity,
            daemon,
            predecessors,
            sockets,
            notify,
            listener,
        };
        keeper.report.warn(&keeper.words_on_adoption());
        keeper.relieve_holders(!starting);
        keeper.settle(link);
        keeper.go_on(&entry, link);
        // Not before: whatever this one dies of, the next one would die of too.
        link.say(Word::Settled(keeper.daemon.pid()));
        keeper.ask_for_time(link);
        Ok(keeper)
    }

    /// Does again what the lost keeper may not have come to do.
    fn go_on(&mut self, entry: &Entry, link: &mut Link) {
        match (self.phase, entry.state) {
            (Phase::Serving { .. }, _) => {
                self.take_the_place(None);
                self.announce_ready(link);
                self.begin_restart_anew(entry, link);
            }
            (Phase::Starting { .. }, _) => self.begin_restart_anew(entry, link),
            // §3: the predecessor serves, and this one was not ready.
            (Phase::Stopping { .. }, State::Starting) => {
                let withdrawn = Attempt::Withdrawn { restart: false };
                self.predecessors.tell_attempt(&withdrawn);
                self.perform(Action::Drain, link);
            }
            (Phase::Stopping { why: Why::Stop, .. }, _) => {
                let within = self.service.policy.stop_timeout;
                self.perform(Action::StopPredecessors(within), link);
            }
            _ => {}
        }
        self.record_phase();
    }

    /// The daemon's answer may have come when nobody was there to hear it, and the launcher may not have been
    /// told to leave.
    fn begin_restart_anew(&mut self, entry: &Entry, link: &mut Link) {
        if let Some(begun @ (Begun::Preparing | Begun::Restarting)) = entry.begun {
            self.restart(begun == Begun::Restarting, link);
        }
    }
}

fn phase_of(
    entry: &Entry,
    service: &Service,
    predecessors: &Predecessors,
    clock: Clock,
    now: Instant,
) -> Phase {
    let voice = entry.voice;
    let after = |timeout: Option<_>| now.checked_add(timeout?);
    let stop_by = || {
        let recorded = entry.until.and_then(|until| clock.at_boot_time(until));
        recorded.or_else(|| after(service.policy.stop_timeout))
    };
    match (entry.begun, entry.state) {
        (Some(Begun::Stopping), _) => Phase::Stopping {
            until: stop_by(),
            why: Why::Stop,
        },
        (Some(Begun::Ending), _) | (_, State::Draining | State::Holding) => Phase::Stopping {
            until: stop_by(),
            why: Why::Restart,
        },
        (_, State::Ready) => Phase::Serving { voice },
        (_, State::Starting) if predecessors.any_serves() => Phase::Stopping {
            until: after(service.policy.stop_timeout),
            why: Why::NotReady,
        },
        (_, State::Starting) => Phase::Starting {
            voice,
            predecessor: false,
            waits: Waits::begin(now, None, service.policy.ready_timeout),
        },
    }
}
