//! Which trials, in which order.

use std::fmt;

use super::{
    random::Random,
    support::Kind,
    verbs::{self, Verb, Way},
};

/// When in the life of the service the verb comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Moment {
    /// It has just been started, and nobody serves.
    FirstStart,
    /// A new version is not ready, the old one serves in standby.
    BeforeReady,
    Serving,
    /// Less than 30 ms after a restart.
    SoonAfter,
    /// The launcher has left, and the next one has not been started.
    Gap,
    /// The old one has slow requests in hand.
    Draining,
    /// A new version crashes, again and again, and the old one serves in standby.
    Failing,
}

impl Moment {
    pub(crate) const ALL: [Moment; 7] = [
        Moment::FirstStart,
        Moment::BeforeReady,
        Moment::Serving,
        Moment::SoonAfter,
        Moment::Gap,
        Moment::Draining,
        Moment::Failing,
    ];

    /// For the head of a column.
    pub(crate) fn short(self) -> &'static str {
        match self {
            Moment::FirstStart => "starting",
            Moment::BeforeReady => "unready",
            Moment::Serving => "serving",
            Moment::SoonAfter => "< 30 ms",
            Moment::Gap => "gap",
            Moment::Draining => "draining",
            Moment::Failing => "failing",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Moment::FirstStart => "first start",
            Moment::BeforeReady => "before ready",
            Moment::Serving => "serving",
            Moment::SoonAfter => "< 30 ms after a restart",
            Moment::Gap => "in the gap",
            Moment::Draining => "while draining",
            Moment::Failing => "new version failing",
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Trial {
    pub(crate) verb: Verb,
    pub(crate) moment: Moment,
}

impl fmt::Display for Trial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.verb.name, self.moment.name())
    }
}

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) trials: Vec<Trial>,
}

impl Plan {
    /// Each verb at each moment as often as any other, as far as the numbers go.
    pub(crate) fn new(kind: Kind, restarts: usize, stops: usize, random: &mut Random) -> Plan {
        let mut trials = Vec::new();
        for (is_stop, wanted) in [(false, restarts), (true, stops)] {
            let verbs = verbs::of(kind)
                .iter()
                .filter(|verb| verb.is_stop == is_stop);
            let all: Vec<Trial> = verbs
                .flat_map(|&verb| moments(verb).map(move |moment| Trial { verb, moment }))
                .collect();
            let mut some = Vec::new();
            while some.len() < wanted {
                let mut round = all.clone();
                random.shuffle(&mut round);
                some.extend(round);
            }
            trials.extend(some.into_iter().take(wanted));
        }
        random.shuffle(&mut trials);
        Plan { trials }
    }

    /// How the supervisor has to be started for the next verb, from this trial on, that ends it.
    pub(crate) fn next_end(&self, from: usize) -> Option<Way> {
        let mut ends = self.trials.iter().skip(from).map(|trial| trial.verb);
        ends.find(|verb| verb.ends_supervisor).map(|verb| verb.way)
    }
}

fn moments(verb: Verb) -> impl Iterator<Item = Moment> {
    Moment::ALL
        .into_iter()
        .filter(move |moment| match verb.way {
            // They are moments themselves.
            Way::StartTimeout => *moment == Moment::BeforeReady,
            Way::RunTime => *moment == Moment::Serving,
            Way::StopInAutoRestart => *moment == Moment::Gap,
            Way::Words(_) | Way::Both(..) | Way::Svscanctl(_) | Way::SignalTo(_) | Way::Halt => {
                true
            }
        })
}
