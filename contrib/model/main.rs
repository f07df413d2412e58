//! The model: several generations of the real state machine, with their launchers, a supervisor and whatever may go
//! wrong, in every order. A model checker looks at each world that can be reached.
//!
//!     cargo run --release --example model
//!     cargo run --release --example model -- --generations 4 --minutes 60
//!     cargo run --release --example model -- --mutation drains-for-a-newcomer

#[path = "../../src/linux/ancillary.rs"]
mod ancillary;
#[path = "../../src/departure.rs"]
#[expect(dead_code, reason = "the program's own, whole")]
mod departure;
#[path = "../../src/generation/mod.rs"]
#[expect(dead_code, reason = "the program's own, whole")]
mod generation;
mod keeper;
mod moves;
mod mutations;
mod predecessors;
mod promises;
#[path = "../../src/signals.rs"]
#[expect(dead_code, reason = "the program's own, whole")]
mod signals;
#[path = "../../src/sys.rs"]
#[expect(dead_code, reason = "the program's own, whole")]
mod sys;
mod wake;
mod words;
mod world;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use generation::{Action, Event, Phase, Policy, PrepareWhen, step};
use moves::Move;
use mutations::Mutation;
use stateright::{Checker, Expectation, HasDiscoveries, Model, Property, UniformChooser};
use world::{MOST, Promise, World};

/// How much a keeper can know of what its supervisor wants (§7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Supervisor {
    /// At once, as on runit and systemd.
    Readable,
    /// A moment after the signal, as on daemontools and s6.
    Late,
    /// Never: TERM is a restart, and R16 cleans up.
    Unreadable,
}

/// What holds in a whole run.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    policy: Policy,
    /// What is taken for readiness where there is no other (R13).
    life: Duration,
    /// The keepers hold sockets.
    sockets: bool,
    supervisor: Supervisor,
    supervisor_dies: bool,
    /// `seamless-run restart` and `stop` are used, too.
    verbs: bool,
    generations: usize,
    mutation: Option<Mutation>,
    /// A deadline passes only when nothing else is left to happen by itself.
    patient: bool,
    walks: bool,
    /// So many processes are KILLed, at most, before a generation serves alone again; `None`: any number.
    kills: Option<u8>,
}

impl Rules {
    /// The program's own, unless it is to be wrong.
    fn step(&self, phase: Phase, event: Event, now: Instant) -> (Phase, Vec<Action>) {
        let outcome = step(&self.policy, phase, event, now);
        match self.mutation {
            Some(mutation) => mutation.change(phase, event, outcome),
            None => outcome,
        }
    }
}

/// Explores every order in which a supervisor, launchers, keepers, daemons and faults can meet.
#[derive(Debug, Parser)]
#[command(name = "model")]
struct Options {
    /// Generations that are ever started [1 to 4]
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=MOST as i64))]
    generations: u8,
    #[arg(long, value_enum, default_value = "readable")]
    supervisor: Supervisor,
    /// The keepers hold the daemon's sockets
    #[arg(long)]
    sockets: bool,
    /// The supervisor may die, too
    #[arg(long)]
    supervisor_dies: bool,
    /// `seamless-run restart` and `stop` are used, too
    #[arg(long)]
    verbs: bool,
    /// Puts this fault into the machine
    #[arg(long, value_enum)]
    mutation: Option<Mutation>,
    /// Deadlines pass only when nothing else is left to happen by itself
    #[arg(long)]
    patient: bool,
    /// So many processes are KILLed, at most, within one handover [any number]
    #[arg(long, value_name = "N")]
    kills: Option<u8>,
    /// Ends the search then, with what it has seen
    #[arg(long, value_name = "N")]
    minutes: Option<u64>,
    /// Looks no deeper
    #[arg(long, value_name = "N")]
    depth: Option<usize>,
    #[arg(long, value_name = "N", default_value_t = 2)]
    threads: usize,
    /// Does not look at every world, but goes from one to the next by chance, over and over, from this seed; for
    /// --minutes
    #[arg(long, value_name = "SEED", requires = "minutes")]
    walks: Option<u64>,
}

/// No promise, but a sign that the model does something.
const LAST_SERVES: &str = "the last generation serves";

struct Search(Rules);

impl Model for Search {
    type State = World;
    type Action = Move;

    fn init_states(&self) -> Vec<World> {
        vec![World::begin()]
    }

    fn actions(&self, world: &World, moves: &mut Vec<Move>) {
        world.moves(&self.0, moves);
        if self.0.walks {
            // A walk is told again by the numbers of its steps, and those that lead nowhere have none.
            moves.retain(|chosen| world.after(&self.0, *chosen) != *world);
        }
    }

    fn next_state(&self, world: &World, chosen: Move) -> Option<World> {
        let next = world.after(&self.0, chosen);
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Search>> {
        fn keeps(world: &World, promise: Promise) -> bool {
            world.broken != Some(promise)
        }
        vec![
            Property::<Search>::always(
                "R11, R13: a ready daemon drains only for a ready successor, or a stop",
                |_, world| keeps(world, Promise::DrainsOnlyForAReason),
            ),
            Property::<Search>::always("R19: one generation is supervised", |_, world| {
                keeps(world, Promise::OneIsSupervised)
            }),
            Property::<Search>::always(
                "R11: who has committed has told every older one",
                |_, world| keeps(world, Promise::OlderOnesAreTold),
            ),
            Property::<Search>::always("R18: no stranger is signalled", |_, world| {
                keeps(world, Promise::NoStrangerIsSignalled)
            }),
            Property::<Search>::always("R18: the PID file names no stranger", |_, world| {
                keeps(world, Promise::NoStrangerIsNamed)
            }),
            Property::<Search>::always("R24: a launcher is told to leave once", |_, world| {
                keeps(world, Promise::LeavesOnce)
            }),
            Property::<Search>::sometimes(LAST_SERVES, |search, world| {
                world.serves(search.0.generations - 1)
            }),
            Property::<Search>::always("R15, R16: a stop leads to the end", |search, world| {
                world.has_ended_where_it_should(&search.0)
            }),
            Property::<Search>::always(
                "R11, R19, R24: older ones end after a commit, launchers leave, newcomers get their turn",
                |search, world| world.goes_on_where_it_should(&search.0),
            ),
        ]
    }
}

const POLICY: Policy = Policy {
    prepare: PrepareWhen::Auto,
    prepare_timeout: Some(Duration::from_secs(5)),
    ready_timeout: Some(Duration::from_secs(20)),
    drain_timeout: Some(Duration::from_secs(600)),
    stop_timeout: Some(Duration::from_secs(30)),
    orphan_timeout: Some(Duration::from_secs(60)),
    hold_timeout: Some(Duration::from_secs(70)),
};

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options, &mut io::stdout()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) | Err(_) => ExitCode::FAILURE,
    }
}

/// Says whether every promise was kept, or, with a fault put in, whether it was found.
fn run(options: &Options, output: &mut impl Write) -> io::Result<bool> {
    let rules = Rules {
        policy: POLICY,
        life: Duration::from_secs(10),
        sockets: options.sockets,
        supervisor: options.supervisor,
        supervisor_dies: options.supervisor_dies,
        verbs: options.verbs,
        generations: usize::from(options.generations),
        mutation: options.mutation,
        patient: options.patient,
        walks: options.walks.is_some(),
        kills: options.kills,
    };
    let begun = Instant::now();
    let mut checker = Search(rules)
        .checker()
        .threads(options.threads)
        .finish_when(HasDiscoveries::AnyFailures);
    let limit = options
        .minutes
        .map(|minutes| Duration::from_secs(60 * minutes));
    if let Some(limit) = limit {
        checker = checker.timeout(limit);
    }
    if let Some(depth) = options.depth {
        checker = checker.target_max_depth(depth);
    }
    match options.walks {
        Some(seed) => {
            let walks = checker.spawn_simulation(seed, UniformChooser).join();
            writeln!(
                output,
                "{} states, by chance (seed {seed})",
                walks.state_count()
            )?;
            report(&walks, options, output)
        }
        None => {
            let checker = checker.spawn_bfs().join();
            let took = begun.elapsed();
            let is_cut = limit.is_some_and(|limit| limit <= took) || options.depth.is_some();
            let mut found = checker.discoveries().into_keys();
            let is_broken = found.any(|name| name != LAST_SERVES);
            writeln!(
                output,
                "{} states{}, {} of them different, depth {}, {:.0} s",
                checker.state_count(),
                match (is_broken, is_cut) {
                    (true, _) => ", up to a broken promise",
                    (false, true) => ", so far",
                    (false, false) => ", all there are",
                },
                checker.unique_state_count(),
                checker.max_depth(),
                took.as_secs_f64(),
            )?;
            report(&checker, options, output)
        }
    }
}

/// Each promise, and how to come to a world that breaks it.
fn report(
    checker: &impl Checker<Search>,
    options: &Options,
    output: &mut impl Write,
) -> io::Result<bool> {
    let mut broken = false;
    for property in checker.model().properties() {
        let Some(path) = checker.discovery(property.name) else {
            let word = match property.expectation {
                Expectation::Sometimes => "not seen",
                Expectation::Always | Expectation::Eventually => "holds",
            };
            writeln!(output, "  {word}: {}", property.name)?;
            continue;
        };
        if matches!(property.expectation, Expectation::Sometimes) {
            writeln!(output, "  seen:  {}", property.name)?;
            continue;
        }
        broken = true;
        writeln!(output, "  BROKEN: {}", property.name)?;
        let mut action: Option<Move> = None;
        for (number, (world, next)) in path.into_vec().into_iter().enumerate() {
            if let Some(chosen) = action {
                let what: String = Move::words(chosen);
                writeln!(output, "  {number:>3}. {what}\n         {}", world.words())?;
            }
            action = next;
        }
    }
    Ok(broken == options.mutation.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it keeps every promise; so far as it was searched, where it is large.
    fn holds(words: &[&str]) -> bool {
        let options = Options::try_parse_from([&["model"], words].concat()).unwrap();
        let mut said = Vec::new();
        let held = run(&options, &mut said).unwrap();
        assert!(!said.is_empty());
        held
    }

    #[test]
    fn one_generation_at_a_time_keeps_every_promise() {
        for supervisor in ["readable", "late", "unreadable"] {
            for more in [&[][..], &["--sockets"], &["--supervisor-dies"]] {
                let words = ["--generations", "1", "--verbs", "--supervisor", supervisor];
                assert!(holds(&[&words, more].concat()), "{supervisor} {more:?}");
            }
        }
    }

    #[test]
    fn each_fault_that_is_put_in_is_found() {
        for mutation in Mutation::value_variants() {
            let name = mutation.to_possible_value().unwrap();
            let words = ["--generations", "2", "--kills", "1", "--mutation"];
            let found = holds(&[&words, &[name.get_name()][..]].concat());
            assert!(found, "{}", name.get_name());
        }
    }
}
