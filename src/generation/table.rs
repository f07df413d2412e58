//! The whole table of [`step()`]: every phase and every event, checked and printed.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Action, Event, News, Phase, Policy, PrepareWhen, Reception, Voice, step};
use crate::departure::Ending;

const POLICY: Policy = Policy {
    prepare: PrepareWhen::Auto,
    prepare_timeout: Some(Duration::from_secs(5)),
    stop_timeout: Some(Duration::from_secs(30)),
};
const VOICES: [Voice; 3] = [Voice::Silent, Voice::Plain, Voice::Ours];
const RECEPTIONS: [Reception; 3] = [Reception::Handled, Reception::Runtime, Reception::Unhandled];
const ENDED: Ending = Ending::Exited(7);

fn phases(now: Instant) -> Vec<(String, Phase)> {
    let until = Some(now + Duration::from_secs(9));
    let mut phases = Vec::new();
    for (predecessor, words) in [(false, "alone"), (true, "predecessor serves")] {
        for voice in VOICES {
            let phase = Phase::Starting {
                voice,
                predecessor,
                assume_ready: None,
            };
            phases.push((format!("Starting, {}, {words}", said(voice)), phase));
        }
    }
    for voice in VOICES {
        phases.push((
            format!("Serving, {}", said(voice)),
            Phase::Serving { voice },
        ));
    }
    for (ready, words) in [(false, "never ready"), (true, "ready")] {
        phases.push((
            format!("Preparing, {words}"),
            Phase::Preparing { ready, until },
        ));
    }
    for (ready, words) in [(false, "never ready"), (true, "ready")] {
        phases.push((format!("Standby, {words}"), Phase::Standby { ready }));
    }
    phases.push(("Draining".to_owned(), Phase::Draining { until }));
    phases.push(("Stopping".to_owned(), Phase::Stopping { until }));
    phases.push((
        "Killing, supervised".to_owned(),
        Phase::Killing { supervised: true },
    ));
    phases.push((
        "Killing, detached".to_owned(),
        Phase::Killing { supervised: false },
    ));
    phases.push(("Gone".to_owned(), Phase::Gone));
    phases
}

fn said(voice: Voice) -> &'static str {
    match voice {
        Voice::Silent => "silent",
        Voice::Plain => "plain sd_notify",
        Voice::Ours => "our protocol",
    }
}

fn events() -> Vec<(String, Event)> {
    let mut events = Vec::new();
    for reception in RECEPTIONS {
        let words = match reception {
            Reception::Handled => "signal handled",
            Reception::Runtime => "caught by a runtime",
            Reception::Unhandled => "signal unhandled",
        };
        events.push((format!("restart, {words}"), Event::Restart(reception)));
    }
    events.push(("stop".to_owned(), Event::Stop));
    events.push(("daemon ended".to_owned(), Event::DaemonEnded(ENDED)));
    for voice in VOICES {
        if voice != Voice::Silent {
            events.push((format!("spoke, {}", said(voice)), Event::Spoke(voice)));
            events.push((format!("ready, {}", said(voice)), Event::Ready(voice)));
        }
    }
    events.push(("prepared".to_owned(), Event::Prepared));
    events.push(("predecessors gone".to_owned(), Event::PredecessorsGone));
    events.push(("launcher lost".to_owned(), Event::LauncherLost));
    events.push(("deadline".to_owned(), Event::Deadline));
    events
}

fn policies() -> Vec<Policy> {
    let mut policies = Vec::new();
    for prepare in [PrepareWhen::Auto, PrepareWhen::Named, PrepareWhen::Never] {
        for timeout in [None, Some(Duration::from_secs(1))] {
            policies.push(Policy {
                prepare,
                prepare_timeout: timeout,
                stop_timeout: timeout,
            });
        }
    }
    policies
}

/// Calls `check` with every step that there is.
fn every_step(check: impl Fn(&Policy, Phase, Event, Phase, &[Action])) {
    let now = Instant::now();
    for policy in policies() {
        for (_, phase) in phases(now) {
            for (_, event) in events() {
                let (next, actions) = step(&policy, phase, event, now);
                check(&policy, phase, event, next, &actions);
            }
        }
    }
}

fn supervised(phase: Phase) -> bool {
    match phase {
        Phase::Starting { .. }
        | Phase::Serving { .. }
        | Phase::Preparing { .. }
        | Phase::Stopping { .. }
        | Phase::Killing { supervised: true } => true,
        Phase::Standby { .. }
        | Phase::Draining { .. }
        | Phase::Killing { supervised: false }
        | Phase::Gone => false,
    }
}

fn leaves(actions: &[Action]) -> usize {
    let leaving = |action: &&Action| matches!(action, Action::LeaveDetached | Action::LeaveWith(_));
    actions.iter().filter(leaving).count()
}

#[test]
fn the_launcher_leaves_exactly_once_and_always() {
    every_step(|_, phase, event, next, actions| {
        let left = supervised(phase) && !supervised(next);
        let expected = usize::from(left && event != Event::LauncherLost);
        assert_eq!(leaves(actions), expected, "{phase:?} {event:?}");
    });
}

#[test]
fn the_lock_is_let_go_before_the_launcher_leaves() {
    every_step(|_, phase, event, next, actions| {
        if !supervised(phase) || supervised(next) {
            return;
        }
        let let_go = actions
            .iter()
            .position(|action| matches!(action, Action::Detach | Action::CleanUp));
        let left = actions.iter().position(|action| leaves(&[*action]) == 1);
        assert!(let_go.is_some(), "{phase:?} {event:?}");
        assert!(left.is_none() || let_go < left, "{phase:?} {event:?}");
    });
}

/// R3: whatever else happens, the launcher of a daemon that ended says how.
#[test]
fn an_end_is_mirrored() {
    every_step(|_, phase, event, next, actions| {
        if !matches!(event, Event::DaemonEnded(_)) || phase == Phase::Gone {
            return;
        }
        assert_eq!(next, Phase::Gone);
        assert_eq!(
            actions.contains(&Action::LeaveWith(ENDED)),
            supervised(phase)
        );
        assert!(actions.contains(&Action::CleanUp));
    });
}

/// R6: the signal goes to nobody who would die of it, and to nobody who did not mean us.
#[test]
fn who_is_told_to_prepare() {
    every_step(|policy, phase, event, _, actions| {
        let prepared = actions.contains(&Action::Prepare);
        let Event::Restart(reception) = event else {
            assert!(!prepared, "{phase:?} {event:?}");
            return;
        };
        if reception == Reception::Unhandled || policy.prepare == PrepareWhen::Never {
            assert!(!prepared, "{phase:?} {event:?}");
        }
        if let (PrepareWhen::Auto, Phase::Serving { voice }) = (policy.prepare, phase) {
            let expected = match voice {
                Voice::Ours => reception != Reception::Unhandled,
                Voice::Plain => false,
                Voice::Silent => reception == Reception::Handled,
            };
            assert_eq!(prepared, expected, "{phase:?} {event:?}");
        }
    });
}

/// R9, R13: until the new daemon is ready, its predecessor is not touched, but by a final stop.
#[test]
fn a_predecessor_is_told_to_drain_by_a_ready_successor_only() {
    every_step(|_, phase, event, next, actions| {
        if actions.contains(&Action::Commit) {
            let ready = matches!(event, Event::Ready(_))
                || (event == Event::Deadline && matches!(phase, Phase::Starting { .. }));
            assert!(ready, "{phase:?} {event:?}");
            assert!(!matches!(next, Phase::Starting { .. } | Phase::Gone));
        }
        if actions.contains(&Action::DrainPredecessors) {
            assert_eq!(event, Event::Stop);
        }
    });
}

/// R4 and §3: whatever was asked before, an end that was asked for comes.
#[test]
fn every_supervised_phase_stops_and_every_deadline_ends_its_phase() {
    every_step(|policy, phase, event, next, actions| {
        if event == Event::Stop && supervised(phase) {
            assert!(matches!(
                next,
                Phase::Stopping { .. } | Phase::Killing { .. }
            ));
        }
        if event == Event::Deadline && phase.deadline().is_some() {
            assert_ne!(next, phase);
        }
        if let Phase::Stopping { until } = next {
            let just_now = !matches!(phase, Phase::Stopping { .. });
            assert_eq!(
                just_now,
                actions.contains(&Action::Drain),
                "{phase:?} {event:?}"
            );
            assert!(!just_now || until.is_some() == policy.stop_timeout.is_some());
        }
    });
}

#[test]
fn no_answer_in_time_detaches_what_serves_and_ends_what_never_did() {
    let now = Instant::now();
    let late = |ready| {
        step(
            &POLICY,
            Phase::Preparing {
                ready,
                until: Some(now),
            },
            Event::Deadline,
            now,
        )
    };
    let (next, actions) = late(true);
    assert_eq!(next, Phase::Standby { ready: true });
    assert_eq!(
        actions[0],
        Action::Report(News::NeverPrepared { ready: true })
    );
    let (next, actions) = late(false);
    assert_eq!(
        next,
        Phase::Stopping {
            until: Some(now + Duration::from_secs(30))
        }
    );
    assert!(actions.contains(&Action::Drain));
}

#[test]
fn a_life_that_is_taken_for_readiness_commits_once() {
    let now = Instant::now();
    let (next, actions) = step(
        &POLICY,
        Phase::starting(true, Some(now)),
        Event::Deadline,
        now,
    );
    assert_eq!(
        next,
        Phase::Serving {
            voice: Voice::Silent
        }
    );
    assert!(actions.contains(&Action::Commit));
    let (_, again) = step(&POLICY, next, Event::Ready(Voice::Ours), now);
    assert_eq!(again, vec![]);
}

/// `docs/state-machine.md` holds the table as this code has it. After a change on purpose:
/// `SNAPSHOTS=overwrite cargo test --bin seamless-run table`.
#[test]
fn the_documented_table_is_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/state-machine.md");
    let text = fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- table: begin -->\n", "<!-- table: end -->");
    let (head, rest) = text.split_once(begin).unwrap();
    let (_, tail) = rest.split_once(end).unwrap();
    let expected = format!("{head}{begin}\n{}\n{end}{tail}", printed());
    if std::env::var_os("SNAPSHOTS").is_some_and(|value| value == "overwrite") {
        fs::write(&path, &expected).unwrap();
        return;
    }
    assert!(
        text == expected,
        "docs/state-machine.md is not what the code does; see this test"
    );
}

/// One row for all the events of a phase that have the same outcome.
fn printed() -> String {
    let now = Instant::now();
    let mut text = String::from("| phase | event | next | actions |\n|---|---|---|---|\n");
    for (phase_words, phase) in phases(now) {
        let mut rows: Vec<((String, String), Vec<String>)> = Vec::new();
        for (event_words, event) in events() {
            let (next, actions) = step(&POLICY, phase, event, now);
            let outcome = if next == phase && actions.is_empty() {
                ("unchanged".to_owned(), "–".to_owned())
            } else {
                let actions = actions.iter().map(|action| in_words(*action));
                (named(next), actions.collect::<Vec<_>>().join(", then "))
            };
            match rows.iter_mut().find(|(known, _)| *known == outcome) {
                Some((_, events)) => events.push(event_words),
                None => rows.push((outcome, vec![event_words])),
            }
        }
        rows.sort_by_key(|((next, _), _)| next == "unchanged");
        for ((next, actions), events) in rows {
            writeln!(
                text,
                "| {phase_words} | {} | {next} | {actions} |",
                events.join("; ")
            )
            .unwrap();
        }
    }
    text
}

fn named(phase: Phase) -> String {
    let with = |name: &str, ready: bool| {
        format!("{name}, {}", if ready { "ready" } else { "never ready" })
    };
    match phase {
        Phase::Starting {
            voice, predecessor, ..
        } => {
            let other = if predecessor {
                "predecessor serves"
            } else {
                "alone"
            };
            format!("Starting, {}, {other}", said(voice))
        }
        Phase::Serving { voice } => format!("Serving, {}", said(voice)),
        Phase::Preparing { ready, .. } => with("Preparing", ready),
        Phase::Standby { ready } => with("Standby", ready),
        Phase::Draining { .. } => "Draining".to_owned(),
        Phase::Stopping { .. } => "Stopping".to_owned(),
        Phase::Killing { supervised: true } => "Killing, supervised".to_owned(),
        Phase::Killing { supervised: false } => "Killing, detached".to_owned(),
        Phase::Gone => "Gone".to_owned(),
    }
}

fn in_words(action: Action) -> String {
    match action {
        Action::Prepare => "prepare signal",
        Action::Drain => "drain signal",
        Action::Kill => "KILL",
        Action::Commit => "commit",
        Action::DrainPredecessors => "drain signal to predecessors",
        Action::Detach => "let go of the lock",
        Action::LeaveDetached => "launcher leaves with 0",
        Action::LeaveWith(_) => "launcher leaves with the daemon's status",
        Action::CleanUp => "clean up",
        Action::Report(
            News::NeverPrepared { .. } | News::TakenForReady | News::LauncherLost | News::NotInTime,
        ) => "warning",
        Action::Report(
            News::Stopping | News::RestartedByStop { .. } | News::DetachedUnasked | News::Prepared,
        ) => "log line",
    }
    .to_owned()
}
