//! What came out, for people.

use std::{fmt, time::Duration};

use super::{
    load::{Failure, Report, Tally, milliseconds},
    scenario::Scenario,
};

/// Why a row is not whole.
#[derive(Debug)]
pub(crate) enum Cut {
    Interrupted,
    TimeLimit,
    /// It cannot be tried here.
    NotHere(String),
    Failed(String),
}

impl fmt::Display for Cut {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupted => formatter.write_str("interrupted"),
            Self::TimeLimit => formatter.write_str("the time limit came first"),
            Self::NotHere(why) => write!(formatter, "not tried: {why}"),
            Self::Failed(what) => write!(formatter, "FAILED: {what}"),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) scenario: Scenario,
    /// As they were asked for.
    pub(crate) requests: u64,
    pub(crate) restarts: u32,
    /// `None` when there was no load.
    pub(crate) report: Option<Report>,
    /// From each `sv restart` to the first answer of the new generation.
    pub(crate) first_answers: Vec<Duration>,
    pub(crate) cut: Option<Cut>,
    /// What did not end as it should.
    pub(crate) left_behind: Option<String>,
    pub(crate) notes: Vec<String>,
}

impl Row {
    pub(crate) fn lost(&self) -> u64 {
        self.report.as_ref().map_or(0, Report::failed)
    }

    /// A held socket loses nothing, and what was asked for has been tried. The other rows may lose: that is what they
    /// show.
    pub(crate) fn passed(&self) -> bool {
        let measured = match self.cut {
            None => true,
            Some(Cut::NotHere(_) | Cut::TimeLimit) => !self.scenario.is_held(),
            Some(Cut::Failed(_) | Cut::Interrupted) => false,
        };
        let kept = !self.scenario.is_held() || self.lost() == 0;
        measured && kept && self.left_behind.is_none()
    }

    /// One generation more than there were restarts: else one came or went by itself.
    pub(crate) fn note_generations(&mut self, report: &Report) {
        let (answered, restarts) = (report.answers.len(), self.first_answers.len());
        if self.cut.is_none() && answered > restarts + 1 {
            self.notes.push(format!(
                "{answered} generations answered, after {restarts} restarts"
            ));
        }
    }

    /// One line when the row is done.
    pub(crate) fn progress(&self) -> String {
        let mut line = String::new();
        if let Some(report) = &self.report {
            let (requests, seconds) = (report.fast.finished(), report.elapsed.as_secs_f64());
            line = format!(
                "  {requests} requests, {} restarts in {seconds:.0} s: {:.0} a second, {} failed",
                self.first_answers.len(),
                requests as f64 / seconds,
                report.failed()
            );
        }
        match &self.cut {
            None => line,
            Some(cut) if line.is_empty() => format!("  {cut}"),
            Some(cut) => format!("{line}; {cut}"),
        }
    }
}

pub(crate) struct Table<'a>(pub(crate) &'a [Row]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "{:<37} {:>11} {:>18} {:>23}",
            "", "slowest", "slow requests", "TERM to the new answer"
        )?;
        writeln!(
            formatter,
            "{:<18} {:>9} {:>8} {:>11} {:>9} {:>8} {:>11} {:>11} {:>9}  failures",
            "",
            "requests",
            "failed",
            "fast one",
            "finished",
            "cut off",
            "median",
            "max",
            "restarts"
        )?;
        for row in self.0 {
            line(formatter, row)?;
        }
        writeln!(formatter)?;
        for row in self.0 {
            below(formatter, row)?;
        }
        Ok(())
    }
}

fn line(formatter: &mut fmt::Formatter<'_>, row: &Row) -> fmt::Result {
    let Some(report) = &row.report else {
        return writeln!(formatter, "{:<18} {:>9}", row.scenario, "-");
    };
    let (fast, slow) = (&report.fast, &report.slow);
    let median = middle(&row.first_answers);
    let longest = row.first_answers.iter().max().copied();
    write!(
        formatter,
        "{:<18} {:>9} {:>8} {:>11} {:>9} {:>8} {:>11} {:>11} {:>9}",
        row.scenario,
        fast.finished() + slow.finished(),
        report.failed(),
        shown(Some(fast.slowest)),
        slow.ok,
        cut_off(slow),
        shown(median),
        shown(longest),
        row.first_answers.len(),
    )?;
    for (number, (failure, first)) in report.first_failures.iter().enumerate() {
        let count = fast.count(*failure) + slow.count(*failure);
        let separator = if number == 0 { " " } else { "," };
        write!(formatter, "{separator} {count} {}", word(*failure))?;
        // No word for it: the kernel's own.
        if *failure == Failure::Other {
            write!(formatter, " ({})", first.text)?;
        }
    }
    writeln!(formatter)
}

fn below(formatter: &mut fmt::Formatter<'_>, row: &Row) -> fmt::Result {
    writeln!(formatter, "{:<18} {}", row.scenario, row.scenario.what())?;
    if let Some(cut) = &row.cut {
        writeln!(formatter, "{:<18} {cut}", "")?;
        if row.report.is_some() {
            writeln!(
                formatter,
                "{:<18} asked for: {} requests, {} restarts",
                "", row.requests, row.restarts
            )?;
        }
    }
    for note in row.notes.iter().chain(&row.left_behind) {
        writeln!(formatter, "{:<18} {note}", "")?;
    }
    Ok(())
}

/// Slow requests that had been let in. (One that found nobody was never begun.)
fn cut_off(slow: &Tally) -> u64 {
    let never_begun = slow.count(Failure::Refused) + slow.count(Failure::NotFound);
    slow.failed() - never_begun
}

/// The median.
fn middle(durations: &[Duration]) -> Option<Duration> {
    let mut sorted = durations.to_vec();
    sorted.sort();
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get((sorted.len() - 1) / 2)?;
    Some((lower + upper) / 2)
}

fn shown(duration: Option<Duration>) -> String {
    duration.map_or("-".to_owned(), |duration| {
        format!("{:.1} ms", milliseconds(duration))
    })
}

fn word(failure: Failure) -> &'static str {
    match failure {
        Failure::Refused => "refused",
        Failure::NotFound => "without a path",
        Failure::Reset => "reset",
        Failure::Truncated => "cut short",
        Failure::TimedOut => "timed out",
        Failure::BadStatus => "not 200",
        Failure::Other => "other",
    }
}
