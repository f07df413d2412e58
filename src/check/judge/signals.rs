//! What the supervisor's signals mean to this launcher.

use crate::check::finding::{About, Finding};
use crate::cli::Service;
use crate::signals::{Meaning, Signal};

/// What a supervisor sends it for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    Restart,
    Stop,
    /// It does not tell them apart.
    Both,
}

/// A signal, with the setting that chooses it (`KillSignal=INT`) and the one to be set instead. What is
/// meant as it is sent gives nothing.
pub(super) fn judge(
    about: About<'_>,
    service: &Service,
    (setting, signal): (&str, Signal),
    purpose: For,
    instead: &str,
) -> Option<Finding> {
    let (restarts, stops) = (purpose != For::Stop, purpose != For::Restart);
    let meaning = service.meanings.of(signal);
    let finding = match meaning {
        Meaning::Stop if restarts => about.error(
            "signal",
            setting,
            format!("{signal} is a stop: each restart ends the daemon before the next one starts"),
        ),
        Meaning::Forward(other) => about.error(
            "signal",
            setting,
            format!("the daemon gets {other}, and the launcher hears of no restart and no stop"),
        ),
        Meaning::Ignore => about.error(
            "signal",
            setting,
            format!("{signal} is ignored, and the launcher hears of no restart and no stop"),
        ),
        Meaning::Restart if stops => about.warning(
            "signal",
            setting,
            format!("{signal} is always a restart here: a stop ends the service late, if at all"),
        ),
        Meaning::Auto | Meaning::Restart | Meaning::Stop => return None,
    };
    let was_typed = meaning == Meaning::Restart || signal == Signal::TERM;
    Some(if was_typed {
        finding.fix(format!("leave out --on {signal}"))
    } else {
        finding.set(instead)
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{codes, service};
    use super::*;

    #[test]
    fn a_signal_that_means_something_else_is_said() {
        let usr2 = Signal::USR2;
        let wrong = Some("error signal: K=TERM");
        for (options, signal, purpose, expected) in [
            ("", Signal::TERM, For::Both, None),
            ("", Signal::INT, For::Stop, None),
            ("", Signal::INT, For::Restart, wrong),
            ("", Signal::INT, For::Both, wrong),
            ("", usr2, For::Stop, wrong),
            ("--on USR2=restart", usr2, For::Restart, None),
            (
                "--on TERM=restart",
                Signal::TERM,
                For::Both,
                Some("warning signal"),
            ),
            (
                "--on TERM=stop",
                Signal::TERM,
                For::Both,
                Some("error signal"),
            ),
            (
                "--on TERM=ignore",
                Signal::TERM,
                For::Stop,
                Some("error signal"),
            ),
        ] {
            let service = service(options);
            let found = judge(About("app"), &service, ("K=x", signal), purpose, "K=TERM");
            let found: Vec<Finding> = found.into_iter().collect();
            let expected: Vec<&str> = expected.into_iter().collect();
            assert_eq!(codes(&found), expected, "{options} {signal} {purpose:?}");
        }
    }
}
