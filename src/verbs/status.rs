//! `seamless-run status`.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::SystemTime;

use anyhow::{Result, anyhow};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::doorbell::Doorbell;
use super::view::View;
use super::{Format, Target, display, say, say_in};
use crate::control::{Connection, Message, Received};
use crate::departure::{FAILED, verb};
use crate::paint::Paint;
use crate::process::Process;
use crate::report::{cause, complain};

/// Shows each once; the highest of their statuses is the exit status.
pub(super) fn show(
    targets: &[Target],
    format: Format,
    paint: Paint,
    output: &mut dyn Write,
) -> i32 {
    let mut highest = verb::YES;
    for target in targets {
        let view = target.look(false).0;
        highest = highest.max(view.verdict());
        if let Err(error) = print(target, &view, format, paint, output) {
            return unprinted(&error);
        }
    }
    highest
}

/// Shows each whenever it changes, until nobody reads it any more.
pub(super) fn watch(
    targets: &[Target],
    format: Format,
    paint: Paint,
    output: &mut dyn Write,
) -> i32 {
    let mut all: Vec<Watched<'_>> = targets.iter().map(Watched::new).collect();
    loop {
        for one in &mut all {
            let view = match one.news() {
                Ok(Some(view)) => view,
                Ok(None) => continue,
                Err(error) => {
                    complain(&format!("{error:#}"));
                    return FAILED;
                }
            };
            if let Err(error) = print(one.target, &view, format, paint, output) {
                return unprinted(&error);
            }
        }
        if is_closed_after_wait(&all) {
            return verb::YES;
        }
    }
}

fn print(
    target: &Target,
    view: &View,
    format: Format,
    paint: Paint,
    output: &mut dyn Write,
) -> io::Result<()> {
    match format {
        Format::Text => say_in(paint, output, &display::text(target, view)),
        Format::Json => say(output, &[display::json(target, view, SystemTime::now())]),
        Format::Nothing => Ok(()),
    }
}

/// A reader that has gone away has read enough.
fn unprinted(error: &io::Error) -> i32 {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return verb::YES;
    }
    complain(&format!("cannot print the status: {}", cause(error)));
    FAILED
}

/// Waits for news; says whether nobody would read them.
fn is_closed_after_wait(all: &[Watched<'_>]) -> bool {
    let stdout = io::stdout();
    // Without a wish the kernel tells of errors alone: the reader of a pipe has gone.
    let mut sources = vec![PollFd::new(stdout.as_fd(), PollFlags::empty())];
    let descriptors = all.iter().flat_map(Watched::descriptors);
    sources.extend(descriptors.map(|source| PollFd::new(source, PollFlags::POLLIN)));
    // Interrupted: one looks, finds nothing, and waits again.
    let _ = poll(&mut sources, PollTimeout::NONE);
    let gone = PollFlags::POLLERR | PollFlags::POLLHUP;
    sources[0]
        .revents()
        .is_some_and(|flags| flags.intersects(gone))
}

/// A service that is watched.
struct Watched<'a> {
    target: &'a Target,
    contact: Contact,
    /// As it was shown last.
    shown: Option<View>,
}

enum Contact {
    /// It is to be looked for.
    Lost,
    Connected(Connection),
    /// Nobody is there. What the record names is held, to see its end.
    Absent(Doorbell, Vec<Process>),
}

impl Watched<'_> {
    fn new(target: &Target) -> Watched<'_> {
        Watched {
            target,
            contact: Contact::Lost,
            shown: None,
        }
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        match &self.contact {
            Contact::Lost => Vec::new(),
            Contact::Connected(connection) => vec![connection.as_fd()],
            Contact::Absent(bell, daemons) => {
                let daemons = daemons.iter().map(Process::as_fd);
                daemons.chain([bell.as_fd()]).collect()
            }
        }
    }

    /// What is to be shown, if anything has changed. Follows the service from keeper to keeper.
    fn news(&mut self) -> Result<Option<View>> {
        loop {
            let view = match &mut self.contact {
                Contact::Connected(connection) => match connection.receive() {
                    Received::Message(Message::State(state), _) => View::by_keeper(state),
                    // Words of a later version (R25).
                    Received::Message(..) | Received::Unreadable(_) => continue,
                    Received::NothingYet => return Ok(None),
                    Received::End => {
                        self.contact = Contact::Lost;
                        continue;
                    }
                },
                Contact::Absent(bell, daemons) => {
                    if !bell.rang() && daemons.iter().all(|daemon| !daemon.has_ended()) {
                        return Ok(None);
                    }
                    self.contact = Contact::Lost;
                    continue;
                }
                Contact::Lost => self.look()?,
            };
            let timeless = view.timeless();
            if self.shown.as_ref() != Some(&timeless) {
                self.shown = Some(timeless);
                return Ok(Some(view));
            }
        }
    }

    fn look(&mut self) -> Result<View> {
        // Before the look: whoever comes after it rings.
        let bell = Doorbell::open(&self.target.files.pid_file)
            .map_err(|error| anyhow!("{}: {error:#}", self.target.name))?;
        let (view, connection) = self.target.look(true);
        self.contact = match connection {
            Some(connection) => Contact::Connected(connection),
            None => {
                let daemons = view.state.generations.iter().filter_map(|one| one.daemon);
                let held = daemons.filter_map(|daemon| daemon.open().ok().flatten());
                Contact::Absent(bell, held.collect())
            }
        };
        Ok(view)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Scene, read, reply, state};
    use super::super::view::Source;
    use super::*;

    fn next(watched: &mut Watched<'_>) -> View {
        loop {
            if let Some(view) = watched.news().unwrap() {
                return view;
            }
            is_closed_after_wait(std::slice::from_ref(watched));
        }
    }

    #[test]
    fn it_is_shown_once_and_the_highest_status_counts() {
        let (one, other) = (Scene::new(), Scene::new());
        let keeper = reply(one.listener(), vec![state(&[(7, "serving")])]);
        let mut printed = Vec::new();
        let targets = [one.target, other.target];
        let status = show(&targets, Format::Text, Paint::Plain, &mut printed);
        assert_eq!(status, verb::NOTHING_RUNNING);
        let expected = "app: generation 7  pid 4007  serving  for 0 s\napp: nothing is running\n";
        assert_eq!(String::from_utf8(printed).unwrap(), expected);
        keeper.join().unwrap();
    }

    #[test]
    fn a_watch_follows_the_service_from_keeper_to_keeper() {
        let scene = Scene::new();
        let mut watched = Watched::new(&scene.target);
        assert_eq!(next(&mut watched).source, Source::Nothing);
        assert!(watched.news().unwrap().is_none());

        for number in [7, 8] {
            let keeper = scene.keeper(move |listener| {
                let connection = listener.next();
                assert_eq!(read(&connection), Message::Status { watch: true });
                for phase in ["starting", "serving", "serving", "standby"] {
                    connection.send(&state(&[(number, phase)])).unwrap();
                }
            });
            for phase in ["starting", "serving", "standby"] {
                let view = next(&mut watched);
                let standing = &view.state.generations[0];
                assert_eq!((standing.number, standing.phase.as_str()), (number, phase));
            }
            keeper.join().unwrap();
            assert_eq!(next(&mut watched).source, Source::Nothing);
        }
    }

    #[test]
    fn the_end_of_a_bare_daemon_is_seen() {
        let scene = Scene::new();
        let daemon = scene.daemon(7, "draining");
        let mut watched = Watched::new(&scene.target);
        assert!(matches!(next(&mut watched).source, Source::Record(_)));
        drop(daemon);
        assert_eq!(next(&mut watched).source, Source::Nothing);
    }
}
