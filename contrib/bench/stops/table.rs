//! What came out, for people.

use std::{collections::BTreeMap, fmt};

use super::{
    plan::{Moment, Trial},
    support::Kind,
    trial::Judged,
    verbs,
};

/// What was tried, and what was told right.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    tried: u32,
    right: u32,
}

impl Count {
    fn add(&mut self, other: Count) {
        self.tried += other.tried;
        self.right += other.right;
    }
}

impl fmt::Display for Count {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tried {
            0 => formatter.pad("-"),
            _ => formatter.pad(&format!("{}/{}", self.right, self.tried)),
        }
    }
}

/// One supervisor.
#[derive(Debug)]
pub(crate) struct Row {
    kind: Kind,
    counts: BTreeMap<(&'static str, Moment), Count>,
    pub(crate) requests: u64,
    /// Slow requests that were in hand at a stop, and got no answer.
    pub(crate) cut_off: u64,
    /// Requests that failed before a stop or in a restart.
    lost: u64,
    /// Stops that nothing but the orphan timeout told.
    by_timeout: u64,
}

impl Row {
    pub(crate) fn new(kind: Kind) -> Row {
        Row {
            kind,
            counts: BTreeMap::new(),
            requests: 0,
            cut_off: 0,
            lost: 0,
            by_timeout: 0,
        }
    }

    pub(crate) fn count(&mut self, trial: &Trial, judged: &Judged) {
        let count = self
            .counts
            .entry((trial.verb.name, trial.moment))
            .or_default();
        count.tried += 1;
        if let Ok(told) = judged {
            count.right += 1;
            self.lost += told.lost;
            self.by_timeout += u64::from(told.by_timeout);
        }
    }

    pub(crate) fn passed(&self) -> bool {
        let all_right = self.counts.values().all(|count| count.right == count.tried);
        all_right && self.lost == 0
    }

    fn sum(&self, wanted: impl Fn(&str, Moment) -> bool) -> Count {
        let mut sum = Count::default();
        for ((verb, moment), count) in &self.counts {
            if wanted(verb, *moment) {
                sum.add(*count);
            }
        }
        sum
    }
}

pub(crate) fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Runit => "runit",
        Kind::Daemontools => "daemontools",
        Kind::S6 => "s6",
        Kind::Systemd => "systemd",
        Kind::Supervisord => "supervisord",
    }
}

pub(crate) struct Table<'a>(pub(crate) &'a [Row]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "Told right / tried, by verb and moment:\n")?;
        write!(formatter, "{:<12} {:<22}", "", "")?;
        for moment in Moment::ALL {
            write!(formatter, " {:>10}", moment.short())?;
        }
        writeln!(formatter, " {:>10} {:>6}", "all", "wrong")?;
        for row in self.0 {
            for verb in verbs::of(row.kind) {
                line(formatter, row, verb.name)?;
            }
        }
        writeln!(formatter)?;
        for row in self.0 {
            summary(formatter, row)?;
        }
        Ok(())
    }
}

fn line(formatter: &mut fmt::Formatter<'_>, row: &Row, verb: &str) -> fmt::Result {
    write!(formatter, "{:<12} {verb:<22}", name(row.kind))?;
    for moment in Moment::ALL {
        let count = row.sum(|one, at| one == verb && at == moment);
        write!(formatter, " {count:>10}")?;
    }
    let all = row.sum(|one, _| one == verb);
    writeln!(formatter, " {all:>10} {:>6}", all.tried - all.right)
}

fn summary(formatter: &mut fmt::Formatter<'_>, row: &Row) -> fmt::Result {
    let is_stop = |name: &str| {
        verbs::of(row.kind)
            .iter()
            .any(|verb| verb.is_stop && verb.name == name)
    };
    let stops = row.sum(|verb, _| is_stop(verb));
    let restarts = row.sum(|verb, _| !is_stop(verb));
    writeln!(
        formatter,
        "{:<12} restarts {restarts}, stops {stops} ({} of them by the orphan timeout); {} requests answered, {} failed during restarts, {} slow ones cut off by stops",
        name(row.kind),
        row.by_timeout,
        row.requests,
        row.lost,
        row.cut_off,
    )
}
