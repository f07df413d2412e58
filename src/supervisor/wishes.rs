//! A keeper's questions to its supervisor: when to ask, and when an answer counts.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use super::inquiry::{Inquiry, Progress};
use super::{Program, Supervisor, Unit, Unreadable, supervise};
use crate::changes::Changes;
use crate::generation::Wish;
use crate::keeper::Kin;
use crate::report::cause;

/// Between two looks at what says nothing by itself.
const INTERVAL: Duration = Duration::from_secs(1);
/// The same, after one to which there was no answer, or after many.
const LATER: Duration = Duration::from_secs(10);
/// So many looks are a minute: a stop that comes later need not be seen at once.
const MANY: u32 = 60;

/// Who the supervisor is, and what is being asked.
#[derive(Debug)]
pub(crate) struct Wishes {
    supervisor: Supervisor,
    /// The launcher, and its first parent: the supervisor's process, or one that stood between.
    kin: Kin,
    /// When a signal came last that may mean either.
    signalled: Option<Instant>,
    asked: Option<Asked>,
    /// Whether another launcher would follow.
    followed: Option<Inquiry>,
    watch: Option<Watch>,
    trouble: Trouble,
}

/// Whether there was no answer once; it is said once.
#[derive(Debug, Default)]
enum Trouble {
    #[default]
    None,
    Unsaid(String),
    Said,
}

impl Trouble {
    fn found(&mut self, why: String) {
        if let Trouble::None = self {
            *self = Trouble::Unsaid(why);
        }
    }
}

/// Somebody waits for an answer.
#[derive(Debug)]
struct Asked {
    /// No answer counts before.
    due: Instant,
    inquiry: Option<Inquiry>,
}

/// Nobody is signalled any more, and the wish is looked at for as long as that matters.
#[derive(Debug)]
struct Watch {
    look_at: Option<Instant>,
    looks: u32,
    inquiry: Option<Inquiry>,
    /// *Down* was read then for the first time.
    down_since: Option<Instant>,
    eye: Option<supervise::Watch>,
}

impl Wishes {
    pub(crate) fn new(supervisor: Supervisor, kin: Kin) -> Wishes {
        Wishes {
            supervisor,
            kin,
            signalled: None,
            asked: None,
            followed: None,
            watch: None,
            trouble: Trouble::None,
        }
    }

    /// Why a stop cannot be told from a restart, though it is known who sends it; the first time.
    pub(crate) fn trouble(&mut self) -> Option<String> {
        let (name, why, remedy) = match (&self.supervisor, &self.trouble) {
            (Supervisor::Unreadable(Some(Unreadable { name, why })), Trouble::None) => (
                *name,
                cause(why),
                "the launcher has to be root for that, and the daemon may be anybody: seamless-run ... -- chpst -u USER COMMAND",
            ),
            (Supervisor::Supervise(supervise), Trouble::Unsaid(why)) => (
                supervise.format.name(),
                why.clone(),
                "supervise/status in the service directory has to be there, and readable",
            ),
            (Supervisor::Systemd(_), Trouble::Unsaid(why)) => (
                "systemd",
                why.clone(),
                "an ordinary user needs D-Bus for that; or let signals tell: RestartKillSignal=SIGUSR1 with --on USR1=restart --on TERM=stop",
            ),
            (Supervisor::Supervisord(_), Trouble::Unsaid(why)) => (
                "supervisord",
                why.clone(),
                "it needs a [unix_http_server] that this user may use without a password; or let signals tell: stopsignal=INT, and supervisorctl signal TERM for a restart",
            ),
            (
                Supervisor::Supervise(_)
                | Supervisor::Systemd(_)
                | Supervisor::Supervisord(_)
                | Supervisor::Nobody(_)
                | Supervisor::Unreadable(_),
                _,
            ) => return None,
        };
        self.trouble = Trouble::Said;
        Some(format!(
            "cannot ask {name} whether it wants the service up: {why}; its stop is taken for a restart, and ends the service after the orphan timeout ({remedy})"
        ))
    }

    /// A signal has come that means what the supervisor wants: that, if it can be told at once. Else
    /// [`Wishes::read`] will give it.
    pub(crate) fn signalled(&mut self, now: Instant) -> Option<Wish> {
        self.signalled = Some(now);
        match &self.supervisor {
            Supervisor::Supervise(supervise) if self.settles_in().is_zero() => {
                Some(supervise.wish())
            }
            Supervisor::Supervise(_) | Supervisor::Systemd(_) => {
                self.ask(now);
                None
            }
            Supervisor::Nobody(_) => Some(Wish::Down),
            // supervisord is stopping it in both cases; its wish shows later.
            Supervisor::Supervisord(_) | Supervisor::Unreadable(_) => Some(Wish::Unknown),
        }
    }

    /// A signal is answered with *prepare* at once, for no time shall be lost: that it was a stop shows
    /// a moment later.
    pub(crate) fn restart_meanwhile(&self) -> bool {
        !self.settles_in().is_zero()
    }

    /// Asks anew: whatever is under way began too early.
    pub(crate) fn ask(&mut self, now: Instant) {
        let settled = self
            .signalled
            .and_then(|at| at.checked_add(self.settles_in()));
        let inquiry = match &self.supervisor {
            Supervisor::Systemd(unit) => {
                let put = unit.ask_job(now);
                put.map_err(|error| self.trouble.found(cause(&error))).ok()
            }
            Supervisor::Supervise(_)
            | Supervisor::Supervisord(_)
            | Supervisor::Nobody(_)
            | Supervisor::Unreadable(_) => None,
        };
        self.asked = Some(Asked {
            due: settled.map_or(now, |settled| settled.max(now)),
            inquiry,
        });
    }

    /// Begins to look by itself, or ceases to.
    pub(crate) fn watch(&mut self, wanted: bool, now: Instant) {
        if !wanted {
            self.watch = None;
        } else if self.watch.is_none() {
            let (look_at, eye) = match &self.supervisor {
                Supervisor::Supervise(supervise) => {
                    let settled = self
                        .signalled
                        .and_then(|at| at.checked_add(self.settles_in()));
                    let look_at = settled.map_or(now, |settled| settled.max(now));
                    (Some(look_at), supervise.watch().ok())
                }
                // The next one is started by then, most of the time.
                Supervisor::Systemd(_) | Supervisor::Supervisord(_) => {
                    (now.checked_add(INTERVAL), None)
                }
                Supervisor::Nobody(_) => (Some(now), None),
                Supervisor::Unreadable(_) => (None, None),
            };
            self.watch = Some(Watch {
                look_at,
                looks: 0,
                inquiry: None,
                down_since: None,
                eye,
            });
        }
    }

    /// An answer that counts, if there is one by now. To be called at every wake.
    pub(crate) fn read(&mut self, changes: Changes, now: Instant) -> Option<Wish> {
        let answered = self.read_asked(now);
        answered.or_else(|| self.read_watch(changes, now))
    }

    fn read_asked(&mut self, now: Instant) -> Option<Wish> {
        let asked = self.asked.as_mut()?;
        let wish = match (&self.supervisor, &mut asked.inquiry) {
            (Supervisor::Supervise(supervise), _) if asked.due <= now => supervise.wish(),
            (Supervisor::Supervise(_), _) => return None,
            (Supervisor::Systemd(unit), Some(inquiry)) => match inquiry.progress(now) {
                Progress::Pending => return None,
                Progress::Answered(answer) => unit.read_job(&answer),
                Progress::Failed(why) => {
                    self.trouble.found(why);
                    Wish::Unknown
                }
            },
            (Supervisor::Nobody(_), _) => Wish::Down,
            (Supervisor::Systemd(_), None)
            | (Supervisor::Supervisord(_) | Supervisor::Unreadable(_), _) => Wish::Unknown,
        };
        self.asked = None;
        if wish == Wish::Unknown && matches!(self.supervisor, Supervisor::Supervise(_)) {
            self.trouble.found("it says nothing".to_owned());
        }
        Some(wish)
    }

    fn read_watch(&mut self, changes: Changes, now: Instant) -> Option<Wish> {
        let lasts = self.lasts();
        let watch = self.watch.as_mut()?;
        let eye = watch.eye.as_mut();
        if eye.is_some_and(|eye| eye.has_news(changes)) {
            watch.look_at = Some(now);
        }
        let due = watch.look_at.is_some_and(|look_at| look_at <= now);
        let wish = match (&self.supervisor, &mut watch.inquiry) {
            (Supervisor::Supervise(supervise), _) if due => {
                // Without an eye (the kernel may have none) it is looked at like the others.
                let blind = watch.eye.is_none();
                watch.look_at = now.checked_add(INTERVAL).filter(|_| blind);
                supervise.wish_without(self.kin.launcher.pid)
            }
            (Supervisor::Nobody(_), _) if due => {
                watch.look_at = None;
                Wish::Down
            }
            (Supervisor::Systemd(_) | Supervisor::Supervisord(_), Some(inquiry)) => {
                let (wish, pause) = match inquiry.progress(now) {
                    Progress::Pending => return None,
                    Progress::Answered(answer) => {
                        let pause = if watch.looks < MANY { INTERVAL } else { LATER };
                        (read_state(&self.supervisor, &answer), pause)
                    }
                    Progress::Failed(_) if self.kin.supervisor.is_some_and(|it| !it.is_alive()) => {
                        (Wish::Gone, LATER)
                    }
                    Progress::Failed(why) => {
                        self.trouble.found(why);
                        (Wish::Unknown, LATER)
                    }
                };
                watch.inquiry = None;
                watch.looks = watch.looks.saturating_add(1);
                watch.look_at = now.checked_add(pause);
                wish
            }
            (Supervisor::Systemd(unit), None) if due => {
                return watch.begin(unit.ask_state(now), now, &mut self.trouble);
            }
            (Supervisor::Supervisord(program), None) if due => {
                return watch.begin(program.ask_state(now), now, &mut self.trouble);
            }
            _ => return None,
        };
        if wish != Wish::Down {
            watch.down_since = None;
            return Some(wish);
        }
        let since = *watch.down_since.get_or_insert(now);
        let believed = since + lasts;
        if believed <= now {
            return Some(Wish::Down);
        }
        let again = watch
            .look_at
            .map_or(believed, |look_at| look_at.min(believed));
        watch.look_at = Some(again);
        None
    }

    /// The next moment at which [`Wishes::read`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let asked = self.asked.as_ref().map(|asked| match &asked.inquiry {
            Some(inquiry) => inquiry.deadline(),
            None => asked.due,
        });
        let watch = self.watch.as_ref().and_then(|watch| match &watch.inquiry {
            Some(inquiry) => Some(inquiry.deadline()),
            None => watch.look_at,
        });
        let followed = self.followed.as_ref().map(Inquiry::deadline);
        [asked, watch, followed].into_iter().flatten().min()
    }

    /// What to wait for, beside CHLD for the end of an inquiry.
    pub(crate) fn to_watch(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let eyes = self.watch.iter().filter_map(|watch| watch.eye.as_ref());
        eyes.flat_map(supervise::Watch::to_watch)
    }

    /// Everything that is held open.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let asked = self.asked.iter().filter_map(|asked| asked.inquiry.as_ref());
        let watched = self.watch.iter().filter_map(|watch| watch.inquiry.as_ref());
        let inquiries = asked.chain(watched).map(Inquiry::descriptor);
        let eyes = self.watch.iter().filter_map(|watch| watch.eye.as_ref());
        let eyes = eyes.flat_map(supervise::Watch::descriptors);
        let own = self.supervisor.descriptor().into_iter();
        own.chain(inquiries).chain(eyes)
    }

    /// Whether a launcher that leaves unasked would be followed by another one: if that is known at once.
    /// Else [`Wishes::read_followed`] will give it.
    pub(crate) fn ask_followed(&mut self, now: Instant) -> Option<Result<(), String>> {
        let why = match &self.supervisor {
            Supervisor::Nobody(who) => who.clone(),
            Supervisor::Supervise(supervise) => {
                let name = supervise.format.name();
                match supervise.wish() {
                    Wish::Down => format!("{name} wants the service down"),
                    Wish::Gone => format!("the supervising process of {name} has died"),
                    Wish::Up | Wish::Unknown => return Some(Ok(())),
                }
            }
            Supervisor::Systemd(unit) => {
                // Whoever wants the restart waits for an answer meanwhile, and not for long.
                let put = unit.ask_restart(now);
                self.followed = put.map(|asked| asked.until(now + INTERVAL)).ok();
                return self.followed.is_none().then_some(Ok(()));
            }
            Supervisor::Supervisord(_) | Supervisor::Unreadable(_) => return Some(Ok(())),
        };
        Some(Err(format!("nobody would start a successor: {why}")))
    }

    pub(crate) fn read_followed(&mut self, now: Instant) -> Option<Result<(), String>> {
        let answer = match self.followed.as_mut()?.progress(now) {
            Progress::Pending => return None,
            Progress::Answered(answer) => Unit::read_restart(&answer),
            Progress::Failed(_) => Ok(()),
        };
        self.followed = None;
        Some(answer)
    }

    fn settles_in(&self) -> Duration {
        match &self.supervisor {
            Supervisor::Supervise(supervise) => supervise.format.settles_in(),
            Supervisor::Systemd(_)
            | Supervisor::Supervisord(_)
            | Supervisor::Nobody(_)
            | Supervisor::Unreadable(_) => Duration::ZERO,
        }
    }

    /// How long *down* must be seen, by whoever is not signalled, to be no part of a restart.
    fn lasts(&self) -> Duration {
        match &self.supervisor {
            // A restart passes STOPPED in some 14 ms; and a failed unit is inactive between `reset-failed`
            // and `start`.
            Supervisor::Systemd(_) | Supervisor::Supervisord(_) => INTERVAL,
            Supervisor::Supervise(_) | Supervisor::Nobody(_) | Supervisor::Unreadable(_) => {
                self.settles_in()
            }
        }
    }
}

impl Watch {
    fn begin(
        &mut self,
        inquiry: std::io::Result<Inquiry>,
        now: Instant,
        trouble: &mut Trouble,
    ) -> Option<Wish> {
        match inquiry {
            Ok(inquiry) => {
                self.inquiry = Some(inquiry);
                None
            }
            Err(error) => {
                trouble.found(cause(&error));
                self.look_at = now.checked_add(LATER);
                Some(Wish::Unknown)
            }
        }
    }
}

fn read_state(supervisor: &Supervisor, answer: &str) -> Wish {
    match supervisor {
        Supervisor::Systemd(_) => Unit::read_state(answer),
        Supervisor::Supervisord(_) => Program::read_state(answer),
        Supervisor::Supervise(_) | Supervisor::Nobody(_) | Supervisor::Unreadable(_) => {
            Wish::Unknown
        }
    }
}
