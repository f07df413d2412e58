//! The whole table of [`step()`]: every phase and every event, checked and printed.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{
    Action, AttemptEnd, Event, News, Patience, Phase, Policy, PrepareWhen, Reception, Voice, Waits,
    Why, Wish, step,
};
use crate::departure::Ending;

const POLICY: Policy = Policy {
    prepare: PrepareWhen::Auto,
    prepare_timeout: Some(Duration::from_secs(5)),
    ready_timeout: Some(Duration::from_secs(20)),
    drain_timeout: Some(Duration::from_secs(600)),
    stop_timeout: Some(Duration::from_secs(30)),
    orphan_timeout: Some(Duration::from_secs(60)),
    hold_timeout: Some(Duration::from_secs(70)),
};
/// Of a stop that somebody else asks for.
const WITHIN: Option<Duration> = Some(Duration::from_secs(8));
const WHYS: [Why; 3] = [Why::Stop, Why::Restart, Why::NotReady];
const VOICES: [Voice; 3] = [Voice::Silent, Voice::Plain, Voice::Ours];
const RECEPTIONS: [Reception; 3] = [Reception::Handled, Reception::Runtime, Reception::Unhandled];
const ENDED: Ending = Ending::Exited(7);

fn phases(now: Instant) -> Vec<(String, Phase)> {
    let until = Some(now + Duration::from_secs(9));
    let waits = Waits::begin(now, None, POLICY.ready_timeout);
    let mut phases = Vec::new();
    for (predecessor, words) in [(false, "alone"), (true, "predecessor serves")] {
        for voice in VOICES {
            let phase = Phase::Starting {
                voice,
                predecessor,
                waits,
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
        for (explicit, wish) in [(false, ""), (true, ", explicit")] {
            let phase = Phase::Preparing {
                ready,
                until,
                explicit,
            };
            phases.push((format!("Preparing, {words}{wish}"), phase));
        }
    }
    for (ready, words) in [(false, "never ready"), (true, "ready")] {
        for (explicit, wish) in [(false, ""), (true, ", explicit")] {
            let phase = Phase::Parting {
                ready,
                explicit,
                news: News::Prepared,
            };
            phases.push((format!("Parting, {words}{wish}"), phase));
        }
    }
    for (ready, words) in [(false, "never ready"), (true, "ready")] {
        for patience in [
            Patience::Until(until),
            Patience::Attached,
            Patience::Wanted,
            Patience::ForGood,
        ] {
            let phase = Phase::Standby { ready, patience };
            phases.push((format!("Standby, {words}, {}", waiting(patience)), phase));
        }
    }
    phases.push(("Holding".to_owned(), Phase::Holding { until }));
    phases.push((
        "Holding, for good".to_owned(),
        Phase::Holding { until: None },
    ));
    for (hold, words) in [(false, ""), (true, ", for a restart")] {
        let phase = Phase::Draining { until, hold };
        phases.push((format!("Draining{words}"), phase));
    }
    for why in WHYS {
        phases.push((
            format!("Stopping, {}", because(why)),
            Phase::Stopping { until, why },
        ));
    }
    for why in WHYS {
        let launcher = Some(why);
        phases.push((
            format!("Killing, {}", because(why)),
            Phase::Killing { launcher },
        ));
    }
    phases.push((
        "Killing, detached".to_owned(),
        Phase::Killing { launcher: None },
    ));
    phases.push(("Lingering".to_owned(), Phase::Lingering { ending: ENDED }));
    phases.push(("Gone".to_owned(), Phase::Gone));
    phases
}

fn waiting(patience: Patience) -> &'static str {
    match patience {
        Patience::Attached => "successor attached",
        Patience::Until(_) => "for a time",
        Patience::Wanted => "wanted up",
        Patience::ForGood => "for good",
    }
}

fn because(why: Why) -> &'static str {
    match why {
        Why::Stop => "for good",
        Why::Restart => "for a restart",
        Why::NotReady => "not ready in time",
    }
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
        for (explicit, wish) in [(false, ""), (true, "explicit ")] {
            let restart = Event::Restart {
                reception,
                explicit,
            };
            events.push((format!("{wish}restart, {words}"), restart));
        }
        events.push((
            format!("launcher lost, {words}"),
            Event::LauncherLost(reception),
        ));
        events.push((format!("orphaned, {words}"), Event::Orphaned(reception)));
    }
    let mut add = |words: &str, event| events.push((words.to_owned(), event));
    add(
        "let run after --pre-start",
        Event::Released { life: WITHIN },
    );
    add("stop", Event::Stop { within: WITHIN });
    add("the supervisor wants it up", Event::Wish(Wish::Up));
    add("the supervisor wants it down", Event::Wish(Wish::Down));
    add("the supervisor has died", Event::Wish(Wish::Gone));
    add("no telling what it wants", Event::Wish(Wish::Unknown));
    add("daemon ended", ended(ENDED, false));
    add("daemon ended, sockets left", ended(ENDED, true));
    for voice in VOICES {
        if voice != Voice::Silent {
            add(&format!("spoke, {}", said(voice)), Event::Spoke(voice));
            add(&format!("ready, {}", said(voice)), Event::Ready(voice));
        }
    }
    add("prepared", Event::Prepared);
    add("predecessors gone", Event::PredecessorsGone);
    add("predecessor ready", Event::PredecessorReady);
    add("last one gone", Event::LastOneGone);
    add("successor attached", Event::SuccessorAttached);
    add(
        "successor gone, another will come",
        Event::SuccessorLost { another: true },
    );
    add(
        "successor gone, perhaps for good",
        Event::SuccessorLost { another: false },
    );
    add("superseded", Event::Superseded { told: false });
    add(
        "superseded, told by the successor",
        Event::Superseded { told: true },
    );
    add("directory gone", Event::DirectoryGone);
    add("deadline", Event::Deadline);
    events
}

fn ended(ending: Ending, leaves_sockets: bool) -> Event {
    Event::DaemonEnded {
        ending,
        leaves_sockets,
    }
}

fn policies() -> Vec<Policy> {
    let mut policies = Vec::new();
    for prepare in [PrepareWhen::Auto, PrepareWhen::Named, PrepareWhen::Never] {
        for timeout in [None, Some(Duration::from_secs(1))] {
            policies.push(Policy {
                prepare,
                prepare_timeout: timeout,
                ready_timeout: timeout,
                drain_timeout: timeout,
                stop_timeout: timeout,
                orphan_timeout: timeout,
                hold_timeout: timeout,
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
        | Phase::Parting { .. }
        | Phase::Stopping { .. }
        | Phase::Lingering { .. } => true,
        Phase::Killing { launcher } => launcher.is_some(),
        Phase::Standby { .. } | Phase::Holding { .. } | Phase::Draining { .. } | Phase::Gone => {
            false
        }
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
        let lost = matches!(event, Event::LauncherLost(_));
        let expected = usize::from(left && !lost);
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
            .position(|action| matches!(action, Action::Detach));
        let left = actions.iter().position(|action| leaves(&[*action]) == 1);
        assert!(let_go.is_some(), "{phase:?} {event:?}");
        assert!(left.is_none() || let_go < left, "{phase:?} {event:?}");
    });
}

/// R3, R15: whatever else happens, the launcher of a daemon that ended says how; at a final stop
/// once the older ones have ended too.
#[test]
fn an_end_is_mirrored() {
    every_step(|_, phase, event, next, actions| {
        let over = matches!(
            phase,
            Phase::Holding { .. } | Phase::Lingering { .. } | Phase::Gone
        );
        let Event::DaemonEnded { leaves_sockets, .. } = event else {
            return;
        };
        if over {
            return;
        }
        let final_stop = matches!(
            phase,
            Phase::Stopping { why: Why::Stop, .. }
                | Phase::Killing {
                    launcher: Some(Why::Stop)
                }
        );
        if final_stop {
            assert_eq!(next, Phase::Lingering { ending: ENDED });
        } else {
            // One that was told to drain leaves nothing, unless another one was to come.
            let told = !matches!(
                phase,
                Phase::Standby { .. } | Phase::Draining { hold: true, .. }
            ) && !supervised(phase);
            if leaves_sockets && !told {
                assert!(matches!(next, Phase::Holding { .. }), "{phase:?}");
                assert!(actions.contains(&Action::Hold), "{phase:?}");
            } else {
                assert_eq!(next, Phase::Gone);
                assert!(actions.contains(&Action::CleanUp));
            }
            let left = actions.contains(&Action::LeaveWith(ENDED));
            assert_eq!(left, supervised(phase), "{phase:?}");
        }
    });
    let now = Instant::now();
    let lingering = Phase::Lingering { ending: ENDED };
    let (next, actions) = step(&POLICY, lingering, Event::LastOneGone, now);
    assert_eq!(next, Phase::Gone);
    assert!(actions.contains(&Action::LeaveWith(ENDED)));
}

/// R13: a supervisor that starts again what fails, and only that, does so.
#[test]
fn not_getting_ready_is_no_success() {
    let phase = Phase::Stopping {
        until: None,
        why: Why::NotReady,
    };
    for sockets in [false, true] {
        let ended = ended(Ending::Exited(0), sockets);
        let (_, actions) = step(&POLICY, phase, ended, Instant::now());
        assert!(actions.contains(&Action::LeaveWith(Ending::Exited(125))));
    }
}

/// R6: the signal goes to nobody who would die of it, and to nobody who did not mean us.
#[test]
fn who_is_told_to_prepare() {
    every_step(|policy, phase, event, _, actions| {
        let prepared = actions.contains(&Action::Prepare);
        let (Event::Restart { reception, .. }
        | Event::LauncherLost(reception)
        | Event::Orphaned(reception)) = event
        else {
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
    every_step(|policy, phase, event, next, actions| {
        if actions.contains(&Action::Commit) {
            let ready = matches!(event, Event::Ready(_))
                || (event == Event::Deadline && matches!(phase, Phase::Starting { .. }));
            assert!(ready, "{phase:?} {event:?}");
            assert!(!matches!(next, Phase::Starting { .. } | Phase::Gone));
        }
        if let Some(Action::StopPredecessors(within)) = actions
            .iter()
            .find(|action| matches!(action, Action::StopPredecessors(_)))
        {
            let wished = event == Event::Wish(Wish::Down) && *within == policy.stop_timeout;
            assert!(wished || event == Event::Stop { within: *within });
        }
    });
}

/// R4 and §3: whatever was asked before, an end that was asked for comes, and in time.
#[test]
fn a_stop_ends_every_phase_and_every_deadline_does_something() {
    every_step(|_, phase, event, next, actions| {
        if event == (Event::Stop { within: WITHIN }) && phase != Phase::Gone {
            let held = matches!(phase, Phase::Holding { .. });
            assert!(
                matches!(
                    next,
                    Phase::Stopping { why: Why::Stop, .. }
                        | Phase::Draining { .. }
                        | Phase::Killing { .. }
                        | Phase::Lingering { .. }
                ) || (held && next == Phase::Gone),
                "{phase:?} {next:?}"
            );
            let bounded = matches!(next, Phase::Killing { .. } | Phase::Lingering { .. });
            let bounded = bounded || next == Phase::Gone;
            assert!(bounded || next.deadline().is_some(), "{phase:?} {next:?}");
        }
        if event == Event::Deadline && phase.deadline().is_some() {
            let waits = matches!(phase, Phase::Starting { .. });
            assert!(waits || next != phase, "{phase:?}");
        }
        // R15: one drain signal, not two.
        let told = |phase| {
            matches!(
                phase,
                Phase::Stopping { .. } | Phase::Draining { .. } | Phase::Killing { .. }
            )
        };
        if told(phase) {
            assert!(!actions.contains(&Action::Drain), "{phase:?} {event:?}");
        }
        let killed = matches!(next, Phase::Killing { .. });
        if told(next) && !told(phase) && !killed && event != (Event::Superseded { told: true }) {
            assert!(actions.contains(&Action::Drain), "{phase:?} {event:?}");
        }
    });
}

/// R11, R13: whatever becomes of a successor before its commit, its predecessor serves on.
#[test]
fn a_standby_drains_by_a_commit_a_stop_or_its_deadline_only() {
    every_step(|_, phase, event, next, _| {
        if !matches!(phase, Phase::Standby { .. }) {
            return;
        }
        let ends = matches!(
            event,
            Event::Superseded { .. }
                | Event::Stop { .. }
                | Event::Deadline
                | Event::DaemonEnded { .. }
        );
        let attached = matches!(
            phase,
            Phase::Standby {
                patience: Patience::Attached,
                ..
            }
        );
        let ends = ends || (event == Event::Wish(Wish::Down) && !attached);
        assert_eq!(!matches!(next, Phase::Standby { .. }), ends, "{event:?}");
    });
}

/// §7: before the launcher leaves a daemon alone, the supervisor has been asked; and a stop that is seen
/// only then is one all the same.
#[test]
fn nobody_is_left_alone_unasked() {
    every_step(|_, phase, event, next, actions| {
        if actions.contains(&Action::LeaveDetached) && !matches!(event, Event::Orphaned(_)) {
            assert!(
                matches!(phase, Phase::Parting { .. }),
                "{phase:?} {event:?}"
            );
            assert!(matches!(
                event,
                Event::Wish(Wish::Up | Wish::Gone | Wish::Unknown)
            ));
        }
        if actions.contains(&Action::AskWish) {
            assert!(matches!(next, Phase::Parting { .. }), "{phase:?} {event:?}");
        }
    });
    let parting = Phase::Parting {
        ready: true,
        explicit: false,
        news: News::Prepared,
    };
    let now = Instant::now();
    let (next, actions) = step(&POLICY, parting, Event::Wish(Wish::Down), now);
    assert!(matches!(next, Phase::Stopping { why: Why::Stop, .. }));
    assert!(actions.contains(&Action::Drain));
    assert_eq!(leaves(&actions), 0);
}

/// §3: the sockets of a daemon that has died are somebody's at every moment, or closed on purpose.
#[test]
fn sockets_are_held_until_a_successor_has_them_a_stop_or_the_deadline() {
    every_step(|_, phase, event, next, actions| {
        let handed = actions.contains(&Action::PassOn);
        assert_eq!(
            handed,
            matches!(event, Event::Superseded { .. }) && !supervised(phase) && phase != Phase::Gone,
            "{phase:?} {event:?}"
        );
        if !matches!(phase, Phase::Holding { .. }) {
            return;
        }
        let closed = actions.contains(&Action::Close);
        assert_eq!(next == Phase::Gone, handed || closed, "{event:?}");
        if closed {
            let nobody = phase.deadline().is_none() && event == Event::DirectoryGone;
            let over = matches!(
                event,
                Event::Stop { .. } | Event::Wish(Wish::Down) | Event::Deadline
            );
            assert!(over || nobody, "{event:?}");
        }
    });
}

/// R16: what arms the orphan timeout, and what does not.
#[test]
fn patience_ends_where_an_absence_may_be_a_stop() {
    let now = Instant::now();
    let armed = Patience::Until(Some(now + Duration::from_secs(60)));
    let restart = |explicit| Event::Restart {
        reception: Reception::Unhandled,
        explicit,
    };
    let voice = Voice::Ours;
    let after = |phase, event| {
        let (Phase::Standby { patience, .. }, _) = step(&POLICY, phase, event, now) else {
            panic!("{phase:?} {event:?}");
        };
        patience
    };
    let serving = Phase::Serving { voice };
    let after_restart = |explicit| {
        // Nobody handles the signal, so nobody is asked but the supervisor.
        let (parting, _) = step(&POLICY, serving, restart(explicit), now);
        after(parting, Event::Wish(Wish::Unknown))
    };
    assert_eq!(after_restart(false), armed);
    assert_eq!(after_restart(true), Patience::ForGood);
    let lost = Event::LauncherLost(Reception::Handled);
    assert_eq!(after(serving, lost), armed);
    let standby = |patience| Phase::Standby {
        ready: true,
        patience,
    };
    let attached = standby(Patience::Attached);
    assert_eq!(
        after(standby(armed), Event::SuccessorAttached),
        Patience::Attached
    );
    let failed = Event::SuccessorLost { another: true };
    assert_eq!(after(attached, failed), Patience::ForGood);
    let withdrawn = Event::SuccessorLost { another: false };
    assert_eq!(after(attached, withdrawn), armed);
    assert_eq!(
        after(standby(armed), Event::Wish(Wish::Up)),
        Patience::Wanted
    );
    assert_eq!(after(standby(armed), Event::Wish(Wish::Unknown)), armed);
    let wanted = standby(Patience::Wanted);
    assert_eq!(after(wanted, Event::Wish(Wish::Unknown)), armed);
    assert_eq!(after(wanted, Event::DirectoryGone), armed);
    let for_good = standby(Patience::ForGood);
    for wish in [Wish::Up, Wish::Unknown] {
        assert_eq!(after(for_good, Event::Wish(wish)), Patience::ForGood);
    }
    for patience in [armed, Patience::Wanted, Patience::ForGood] {
        assert_eq!(after(standby(patience), Event::Wish(Wish::Gone)), armed);
    }
    assert_eq!(after(for_good, Event::DirectoryGone), armed);
    assert_eq!(after(attached, Event::DirectoryGone), Patience::Attached);
}

/// R13: the log speaks up twice, and then the timeout ends it.
#[test]
fn a_daemon_that_is_not_ready_is_spoken_of_and_given_up() {
    let now = Instant::now();
    let timeout = Some(Duration::from_secs(90));
    let mut phase = Phase::Starting {
        voice: Voice::Silent,
        predecessor: true,
        waits: Waits::begin(now, None, timeout),
    };
    for seconds in [5, 60] {
        let deadline = now + Duration::from_secs(seconds);
        assert_eq!(phase.deadline(), Some(deadline));
        let (next, actions) = step(&POLICY, phase, Event::Deadline, deadline);
        let news = News::NotReadyYet { predecessor: true };
        assert_eq!(actions, [Action::Report(news)]);
        phase = next;
    }
    let deadline = now + Duration::from_secs(90);
    assert_eq!(phase.deadline(), Some(deadline));
    let (next, actions) = step(&POLICY, phase, Event::Deadline, deadline);
    assert!(actions.contains(&Action::EndAttempt(AttemptEnd::NotReady)));
    assert!(matches!(
        next,
        Phase::Stopping {
            why: Why::NotReady,
            ..
        }
    ));
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
                explicit: false,
            },
            Event::Deadline,
            now,
        )
    };
    let (next, actions) = late(true);
    assert_eq!(actions, [Action::AskWish]);
    let (next, actions) = step(&POLICY, next, Event::Wish(Wish::Up), now);
    assert!(matches!(next, Phase::Standby { ready: true, .. }));
    assert_eq!(
        actions[0],
        Action::Report(News::NeverPrepared { ready: true })
    );
    let (next, actions) = late(false);
    assert_eq!(
        next,
        Phase::Stopping {
            until: Some(now + Duration::from_secs(30)),
            why: Why::Restart,
        }
    );
    assert!(actions.contains(&Action::Drain));
}

#[test]
fn a_life_that_is_taken_for_readiness_commits_once() {
    let now = Instant::now();
    let (next, actions) = step(
        &POLICY,
        Phase::Starting {
            voice: Voice::Silent,
            predecessor: true,
            waits: Waits::begin(now, Some(Duration::ZERO), None),
        },
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
            let moment = match (event, phase.deadline()) {
                (Event::Deadline, Some(deadline)) => deadline,
                _ => now,
            };
            let (next, actions) = step(&POLICY, phase, event, moment);
            if next == phase && actions.is_empty() {
                continue;
            }
            let actions = actions.iter().map(|action| in_words(*action));
            let outcome = (named(next), actions.collect::<Vec<_>>().join(", then "));
            match rows.iter_mut().find(|(known, _)| *known == outcome) {
                Some((_, events)) => events.push(event_words),
                None => rows.push((outcome, vec![event_words])),
            }
        }
        for ((next, actions), events) in rows {
            let events = summed_up(events);
            writeln!(text, "| {phase_words} | {events} | {next} | {actions} |").unwrap();
        }
    }
    text
}

/// Names what all variants of an event have in common without the variants.
fn summed_up(mut events: Vec<String>) -> String {
    let kinds = ["restart", "explicit restart", "launcher lost", "orphaned"];
    let ways = ["signal handled", "caught by a runtime", "signal unhandled"];
    let voices = ["plain sd_notify", "our protocol"];
    let families = kinds
        .iter()
        .map(|kind| (*kind, &ways[..]))
        .chain([("spoke", &voices[..]), ("ready", &voices[..])]);
    for (kind, variants) in families {
        let all: Vec<String> = variants
            .iter()
            .map(|way| format!("{kind}, {way}"))
            .collect();
        if let Some(first) = events.iter().position(|event| *event == all[0]) {
            if all.iter().all(|one| events.contains(one)) {
                events[first] = kind.to_owned();
                events.retain(|event| !all.contains(event));
            }
        }
    }
    events.join("; ")
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
        Phase::Preparing {
            ready, explicit, ..
        } => {
            let wish = if explicit { ", explicit" } else { "" };
            format!("{}{wish}", with("Preparing", ready))
        }
        Phase::Parting {
            ready, explicit, ..
        } => {
            let wish = if explicit { ", explicit" } else { "" };
            format!("{}{wish}", with("Parting", ready))
        }
        Phase::Standby { ready, patience } => {
            format!("{}, {}", with("Standby", ready), waiting(patience))
        }
        Phase::Holding { until: Some(_) } => "Holding".to_owned(),
        Phase::Holding { until: None } => "Holding, for good".to_owned(),
        Phase::Draining { hold: false, .. } => "Draining".to_owned(),
        Phase::Draining { hold: true, .. } => "Draining, for a restart".to_owned(),
        Phase::Stopping { why, .. } => format!("Stopping, {}", because(why)),
        Phase::Killing {
            launcher: Some(why),
        } => format!("Killing, {}", because(why)),
        Phase::Killing { launcher: None } => "Killing, detached".to_owned(),
        Phase::Lingering { .. } => "Lingering".to_owned(),
        Phase::Gone => "Gone".to_owned(),
    }
}

fn in_words(action: Action) -> String {
    match action {
        Action::Prepare => "prepare signal",
        Action::Drain => "drain signal",
        Action::Kill => "KILL",
        Action::Commit => "commit",
        Action::StopPredecessors(_) => "stop to older generations",
        Action::EndAttempt(AttemptEnd::Died(_) | AttemptEnd::NotReady) => {
            "*failed* to predecessors"
        }
        Action::EndAttempt(AttemptEnd::Withdrawn { .. }) => "*withdrawn* to predecessors",
        Action::AskWish => "ask the supervisor",
        Action::Detach => "let go of the lock",
        Action::LeaveDetached => "launcher leaves with 0",
        Action::LeaveWith(ENDED) => "launcher leaves with the daemon's status",
        Action::LeaveWith(_) => "launcher leaves with another status",
        Action::Unname => "remove the PID file",
        Action::Hold => "remove the PID file, record that the sockets are held",
        Action::PassOn => "the sockets are the successor's",
        Action::Close => "close the sockets",
        Action::CleanUp => "clean up",
        Action::Report(
            News::NeverPrepared { .. }
            | News::NotReadyYet { .. }
            | News::NotReadyInTime { .. }
            | News::NoSuccessor
            | News::Holding
            | News::NobodyCame
            | News::TakenForReady
            | News::LauncherLost
            | News::Orphaned
            | News::NotInTime,
        ) => "warning",
        Action::Report(
            News::Stopping { .. }
            | News::StoppingSooner { .. }
            | News::RestartedByStop { .. }
            | News::DetachedUnasked
            | News::Prepared
            | News::NotWanted { .. }
            | News::Superseded { .. },
        ) => "log line",
    }
    .to_owned()
}
