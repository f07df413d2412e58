//! What was to be reached (the issue "Light, fast, and a pleasure to pick up"), and what was.

use super::{
    Measured,
    latency::Way,
    memory::State,
    programs::Who,
    support::Kind,
    table::{Table, shown},
};

/// A line of the last table.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) what: String,
    pub(crate) ours: f64,
    /// What it is measured against, and what that came to.
    pub(crate) against: Option<&'static str>,
    pub(crate) theirs: f64,
    /// At most so many times theirs.
    pub(crate) factor: f64,
    pub(crate) unit: &'static str,
}

impl Target {
    pub(crate) fn limit(&self) -> f64 {
        self.theirs * self.factor
    }

    pub(crate) fn reached(&self) -> bool {
        self.ours <= self.limit()
    }
}

pub(crate) fn all(measured: &Measured) -> Vec<Target> {
    let mut targets = Vec::new();
    starts(measured, &mut targets);
    memory(measured, &mut targets);
    latencies(measured, &mut targets);
    if let Some(scale) = &measured.scale {
        targets.push(number(
            format!("{} services restarted: requests lost", scale.services),
            scale.lost as f64,
            0.0,
            "",
        ));
    }
    targets
}

fn number(what: String, ours: f64, limit: f64, unit: &'static str) -> Target {
    Target {
        what,
        ours,
        against: None,
        theirs: limit,
        factor: 1.0,
        unit,
    }
}

/// Of runit. The others take their own time, or say so late what they want that they are waited for (docs/weight.md).
fn latencies(measured: &Measured, targets: &mut Vec<Target>) {
    let of_runit = || {
        let latencies = measured.latencies.iter();
        latencies.filter(|latency| latency.kind == Kind::Runit)
    };
    let bare = of_runit().find(|latency| latency.way == Way::Bare);
    let Some(theirs) = bare.and_then(|bare| bare.to_answer.median()) else {
        return;
    };
    for latency in of_runit().filter(|latency| latency.way != Way::Bare) {
        let name = latency.way.name();
        if let Some(to_exit) = latency.to_exit.median() {
            let what = format!("runit, TERM to exit: {name}");
            targets.push(number(what, to_exit / 1e3, 1.0, "ms"));
        }
        if let Some(ours) = latency.to_answer.median() {
            targets.push(Target {
                what: format!("runit, TERM to the first answer: {name}"),
                ours: ours / 1e3,
                against: Some(Way::Bare.name()),
                theirs: theirs / 1e3,
                factor: 1.2,
                unit: "ms",
            });
        }
    }
}

fn starts(measured: &Measured, targets: &mut Vec<Target>) {
    let of = |who: Who| {
        let mut starts = measured.starts.iter();
        starts
            .find(|start| start.who == who)
            .and_then(|start| start.total.median())
    };
    let wanted = [
        (Who::Static, Who::Tini, 1.0),
        (Who::Static, Who::TiniStatic, 1.3),
        (Who::Plain, Who::DumbInit, 1.3),
    ];
    for (who, other, factor) in wanted {
        if let (Some(ours), Some(theirs)) = (of(who), of(other)) {
            targets.push(Target {
                what: format!("start: {}", who.name()),
                ours,
                against: Some(other.name()),
                theirs,
                factor,
                unit: "µs",
            });
        }
    }
}

fn memory(measured: &Measured, targets: &mut Vec<Target>) {
    let mut number = |what, ours, limit, unit| targets.push(number(what, ours, limit, unit));
    for memory in &measured.memory {
        if memory.state != State::Restarted {
            continue;
        }
        let name = memory.who.name();
        if memory.who == Who::Static {
            let both = memory.further;
            number(
                format!("anonymous memory, launcher and keeper: {name}"),
                both.anonymous as f64,
                96.0,
                "kB",
            );
            number(
                format!("unshared memory of a further service: {name}"),
                both.unshared as f64,
                96.0,
                "kB",
            );
        }
        number(
            format!("wake-ups in {} s: {name}", measured.idle.as_secs()),
            memory.wakeups as f64,
            0.0,
            "",
        );
        number(
            format!("threads of each process: {name}"),
            memory.threads as f64,
            1.0,
            "",
        );
    }
    for cost in &measured.costs {
        if let (true, Some(execs)) = (cost.who.is_ours(), cost.execs) {
            number(
                format!("execs for the daemon: {}", cost.who.name()),
                execs.saturating_sub(1) as f64,
                1.0,
                "",
            );
        }
    }
}

pub(crate) fn table(targets: &[Target]) -> Table {
    let heads = ["", "ours", "against", "theirs", "ratio", "target", ""];
    let mut table = Table::new("The targets", &heads);
    for target in targets {
        let decimals = if target.unit == "ms" { 2 } else { 0 };
        let with_unit = |value| {
            format!("{} {}", shown(Some(value), decimals), target.unit)
                .trim()
                .to_owned()
        };
        table.row([
            target.what.clone(),
            with_unit(target.ours),
            target.against.unwrap_or_default().to_owned(),
            match target.against {
                Some(_) => with_unit(target.theirs),
                None => String::new(),
            },
            match target.theirs {
                0.0 => String::new(),
                theirs => format!("{:.2} x", target.ours / theirs),
            },
            match target.against {
                Some(_) => format!("at most {:.1} x", target.factor),
                None => format!("at most {}", with_unit(target.theirs)),
            },
            if target.reached() {
                "reached".to_owned()
            } else {
                let over = with_unit(target.ours - target.limit());
                format!("NOT REACHED, {over} too much")
            },
        ]);
    }
    table
}
