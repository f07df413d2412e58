//! The terminal: taken over, and given back as it was, however the demo ends.

use std::{
    env,
    io::{self, IsTerminal},
    sync::{Mutex, PoisonError},
};

use rustix::{
    process::getpgrp,
    stdio::{stdin, stdout},
    termios::{
        LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcgetwinsize,
        tcsetattr,
    },
};

/// Another screen, no cursor, no line that goes on in the next one.
const TAKE: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";
const GIVE_BACK: &str = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l";

/// How it was, while it is taken. The keyboard may be none, and has no settings then.
static TAKEN: Mutex<Option<Option<Termios>>> = Mutex::new(None);

/// Whether there is one that can show a picture.
pub(crate) fn is_wanted() -> bool {
    let named = env::var("TERM").unwrap_or_default();
    io::stdout().is_terminal() && !named.is_empty() && named != "dumb" && !is_in_background()
}

/// Whoever asks the terminal for anything from there is stopped (SIGTTOU, SIGTTIN). On one that is not ours, or none, the
/// question has no answer, and nobody is stopped.
fn is_in_background() -> bool {
    let foreground = [tcgetpgrp(stdin()), tcgetpgrp(stdout())];
    let ours = getpgrp();
    foreground.into_iter().flatten().any(|group| group != ours)
}

/// Keys come one by one and unseen. Ctrl-C stays a signal, Ctrl-Z and Ctrl-\ are nothing: the service would go on
/// without anybody who looks.
pub(crate) fn take() -> io::Result<()> {
    let before = if io::stdin().is_terminal() {
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::IEXTEN;
        raw.input_modes -= rustix::termios::InputModes::IXON;
        raw.special_codes[SpecialCodeIndex::VSUSP] = 0;
        raw.special_codes[SpecialCodeIndex::VQUIT] = 0;
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        Some(before)
    } else {
        None
    };
    *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
    write(TAKE.as_bytes())
}

/// As it was. A second time changes nothing.
pub(crate) fn restore() {
    let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(before) = taken else { return };
    // Nobody is left to be told, where it has gone.
    write(GIVE_BACK.as_bytes()).ok();
    if let Some(before) = before {
        // Keys that nobody heard are not for the shell.
        tcsetattr(stdin(), OptionalActions::Flush, &before).ok();
    }
}

/// Rows and columns.
pub(crate) fn size() -> (usize, usize) {
    match tcgetwinsize(stdout()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_row.into(), size.ws_col.into()),
        // It does not know: a serial line.
        _ => (24, 80),
    }
}

/// Without std's lock: whoever ends the demo does not wait for one that is stuck in a write.
pub(crate) fn write(mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(stdout(), bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// What it can show.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Abilities {
    pub(crate) colours: Colours,
    /// Blocks and lines; otherwise ASCII.
    pub(crate) unicode: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colours {
    None,
    Sixteen,
    Many,
}

impl Abilities {
    pub(crate) fn of_this_one() -> Self {
        let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let named = variable("TERM").unwrap_or_default();
        let many =
            named.contains("256") || named.contains("direct") || variable("COLORTERM").is_some();
        let colours = match (variable("NO_COLOR"), many) {
            (Some(_), _) => Colours::None,
            (None, true) => Colours::Many,
            (None, false) => Colours::Sixteen,
        };
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .into_iter()
            .find_map(variable);
        // Without any locale, as in a container, the terminal knows UTF-8 all the same.
        let unicode = locale.is_none_or(|locale| {
            let locale = locale.to_ascii_lowercase();
            locale.contains("utf-8") || locale.contains("utf8")
        });
        Self { colours, unicode }
    }
}
