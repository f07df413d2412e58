//! What came out, for people.

use std::{collections::BTreeMap, fmt, ops::AddAssign, time::Duration};

use super::{
    handover::Judged,
    plan::{Kind, Point, Trial},
};

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    handovers: u64,
    struck: u64,
    requests: u64,
    failed: u64,
    by_rule: u64,
    excepted: u64,
    leaks: u64,
    hits: u64,
    reused: u64,
    named: u64,
    wrong: u64,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Count) {
        self.handovers += other.handovers;
        self.struck += other.struck;
        self.requests += other.requests;
        self.failed += other.failed;
        self.by_rule += other.by_rule;
        self.excepted += other.excepted;
        self.leaks += other.leaks;
        self.hits += other.hits;
        self.reused += other.reused;
        self.named += other.named;
        self.wrong += other.wrong;
    }
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    counts: BTreeMap<(Kind, Point), Count>,
    pub(crate) slowest: Duration,
}

impl Table {
    pub(crate) fn count(&mut self, trial: &Trial, judged: &Judged, took: Duration) {
        self.slowest = self.slowest.max(took);
        *self.counts.entry((trial.kind, trial.point)).or_default() += Count {
            handovers: 1,
            struck: u64::from(judged.struck),
            requests: judged.requests,
            failed: judged.failed(),
            by_rule: judged.by_rule,
            excepted: judged.excepted,
            leaks: judged.leaks,
            hits: judged.hits,
            reused: judged.reused,
            named: judged.named,
            wrong: u64::from(judged.wrong.is_some()),
        };
    }

    fn sum(&self, wanted: impl Fn(Kind, Point) -> bool) -> Count {
        let mut sum = Count::default();
        for ((kind, point), count) in &self.counts {
            if wanted(*kind, *point) {
                sum += *count;
            }
        }
        sum
    }

    pub(crate) fn handovers(&self) -> u64 {
        self.sum(|_, _| true).handovers
    }

    pub(crate) fn wrong(&self) -> u64 {
        self.sum(|_, _| true).wrong
    }

    fn kinds(&self) -> Vec<Kind> {
        let mut kinds: Vec<Kind> = self.counts.keys().map(|(kind, _)| *kind).collect();
        kinds.dedup();
        kinds
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        head(formatter, "fault")?;
        for kind in self.kinds() {
            line(formatter, &kind.name(), self.sum(|one, _| one == kind))?;
        }
        line(formatter, "all", self.sum(|_, _| true))?;
        writeln!(formatter)?;
        head(formatter, "point")?;
        for point in Point::ALL {
            let count = self.sum(|_, one| one == point);
            if count.handovers > 0 {
                line(formatter, point.name(), count)?;
            }
        }
        writeln!(formatter)
    }
}

fn head(formatter: &mut fmt::Formatter<'_>, first: &str) -> fmt::Result {
    writeln!(
        formatter,
        "{first:<20} {:>9} {:>7} {:>9} {:>7} {:>8} {:>6} {:>6} {:>5} {:>7} {:>6} {:>6}",
        "handovers",
        "struck",
        "requests",
        "failed",
        "by rule",
        "R20",
        "leaks",
        "hit",
        "reused",
        "named",
        "wrong"
    )
}

fn line(formatter: &mut fmt::Formatter<'_>, first: &str, count: Count) -> fmt::Result {
    writeln!(
        formatter,
        "{first:<20} {:>9} {:>7} {:>9} {:>7} {:>8} {:>6} {:>6} {:>5} {:>7} {:>6} {:>6}",
        count.handovers,
        count.struck,
        count.requests,
        count.failed,
        count.by_rule,
        count.excepted,
        count.leaks,
        count.hits,
        count.reused,
        count.named,
        count.wrong
    )
}

/// Each fault at each point, with `--table`.
pub(crate) struct Grid<'a>(pub(crate) &'a Table);

impl fmt::Display for Grid<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "Struck/handovers, by fault and point:\n")?;
        write!(formatter, "{:<20}", "")?;
        for point in Point::ALL {
            write!(formatter, " {:>12}", point.name())?;
        }
        writeln!(formatter)?;
        for kind in self.0.kinds() {
            write!(formatter, "{:<20}", kind.name())?;
            for point in Point::ALL {
                let count = self.0.sum(|one, other| (one, other) == (kind, point));
                let shown = match count.handovers {
                    0 => "-".to_owned(),
                    all => format!("{}/{all}", count.struck),
                };
                write!(formatter, " {shown:>12}")?;
            }
            writeln!(formatter)?;
        }
        writeln!(formatter)
    }
}

/// What the words mean.
pub(crate) struct Legend;

impl fmt::Display for Legend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (word, meaning) in [
            (
                "struck",
                "the point came, and whom the fault was for was still there",
            ),
            ("failed", "requests refused, reset, cut short, timed out"),
            (
                "by rule",
                "of these: begun before a daemon that was KILLed was dead, reset or cut short, not refused, and, where the head of the answer names one, in that daemon's hands",
            ),
            (
                "R20",
                "of these: the log says that R20's exception was made",
            ),
            (
                "leaks",
                "handovers after which a process, a file or a descriptor was left",
            ),
            ("hit", "signals that innocents got"),
            (
                "reused",
                "PIDs of dead processes of ours that an innocent took over",
            ),
            (
                "named",
                "of these: while the record or the PID file still named them",
            ),
            (
                "wrong",
                "handovers after which something of this did not hold",
            ),
        ] {
            writeln!(formatter, "{word:<8} {meaning}")?;
        }
        writeln!(formatter)?;
        for point in Point::ALL {
            writeln!(formatter, "{:<13} {}", point.name(), point.what())?;
        }
        Ok(())
    }
}
