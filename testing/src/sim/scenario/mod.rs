//! What a seed stands for: a configuration, a network, a venue, a user, and the model that watches them.

mod behaviour;
mod endpoints;
mod rules;
mod setup;

use super::dice::Dice;
use super::model::{Fact, Model, Terms, Witness};
use super::script::{Plan, Script};
use super::venue::Venue;
use super::{Net, Outcome, Simulation, Stats};
use behaviour::behaviour;
use endpoints::Endpoints;
use everwire_core::record::Recorder;
use everwire_core::{Config, Endpoint};
use rules::Rules;
use setup::{configuration, network};
use std::sync::Arc;
use std::time::Duration;

/// How one seed ended.
#[derive(Debug, Clone)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The promise that was broken, if one was.
    pub violation: Option<String>,
    /// How long the session ran, in virtual time.
    pub time: Duration,
    /// Counters of the run.
    pub stats: Stats,
    /// What happened last, if it was to be kept; one line each.
    pub log: Vec<String>,
}

impl Report {
    /// A run that came to nothing but this.
    pub fn broken(seed: u64, violation: String) -> Self {
        let (time, stats) = (Duration::ZERO, Stats::default());
        Self { seed, violation: Some(violation), time, stats, log: Vec::new() }
    }
}

/// Everything that a seed decides.
#[derive(Debug)]
pub struct Scenario {
    seed: u64,
    config: Config,
    net: Net,
    venue: Venue,
    script: Script,
    witness: Witness,
    provided: bool,
    length: Duration,
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Runs one seed. With `keep` the report tells so many of the things that happened last.
pub fn simulate(seed: u64, keep: usize) -> Report {
    Scenario::new(seed, keep).run()
}

/// Runs one seed with a bug planted in the session: what shows that the model would find it.
#[cfg(feature = "mutants")]
pub fn simulate_with(seed: u64, keep: usize, mutant: Option<everwire_core::Mutant>) -> Report {
    let mut scenario = Scenario::new(seed, keep);
    scenario.config = scenario.config.mutant(mutant);
    scenario.run()
}

impl Scenario {
    /// The scenario of a seed. The model keeps the last facts, as many as `keep`.
    pub fn new(seed: u64, keep: usize) -> Self {
        let mut dice = Dice::new(seed, 1);
        let length = dice.time(secs(30), secs(600));
        let mut terms = Terms::default();
        let net = network(&mut dice, length, &mut terms);
        let rules = Rules::new(&mut Dice::new(seed, 5), length, &mut terms);
        let config = configuration(&mut dice, &mut terms, &rules);
        let mut plan = Plan {
            pace: dice.time(millis(50), secs(8)),
            topics: dice.between(1, 8),
            begins: None,
            pauses: dice.chance(400),
            reconnects: dice.chance(400),
            queue_timeout: terms.queue_timeout,
            watch: rules.topic_watch,
            longest: if dice.chance(200) { 300_000 } else { 5_000 },
            busy_until: length - length / 8,
            close_at: match dice.below(10) {
                0 => Some(dice.time(Duration::ZERO, length)),
                1..8 => Some(length - length / 16),
                _ => None,
            },
        };
        // Many topics, of which something is wrong with many at a time.
        let mut many = Dice::new(seed, 7);
        if (rules.tracked || rules.watch.is_some()) && many.chance(200) {
            plan.topics = many.between(20, 60);
            plan.begins = Some(plan.topics * 2);
        }
        let mut place = Dice::new(seed, 6);
        let endpoints = if place.chance(250) { None } else { Some(Endpoints::new(&mut place)) };
        let provided = endpoints.is_none();
        let config = match &endpoints {
            Some(endpoints) => endpoints.configure(config, &mut terms),
            None => config(None),
        };
        let witness = Witness::new(Model::new(terms).keep(keep));
        let mut venue = behaviour(&mut dice, Venue::new(seed, witness.clone()), &rules, length);
        if let Some(endpoints) = endpoints {
            venue = endpoints.apply(venue);
        }
        let script = Script::new(seed, plan, witness.clone());
        Self { seed, config, net, venue, script, witness, provided, length }
    }

    /// The configuration of its session. What sessions share is shared with that too.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Tells all that its session does to a recorder.
    pub fn recorder(self, recorder: Arc<dyn Recorder>) -> Self {
        Self { config: self.config.recorder(recorder), ..self }
    }

    /// Runs it to its end.
    pub fn run(self) -> Report {
        let Self { seed, config, net, venue, script, witness, provided, length } = self;
        let mut simulation = match Simulation::new(config, seed, net, venue, script) {
            Ok(simulation) => simulation,
            Err(error) => return Report::broken(seed, format!("the configuration cannot work: {error}")),
        };
        if provided {
            simulation = simulation.provider(|now| {
                let url = format!("ws://venue.test:9/feed?at={}", now.as_millis());
                Endpoint::new(&url).map_err(Into::into)
            });
        }
        let outcome = simulation.run_until(length);
        witness.finish(simulation.now());
        let violation = witness.violation().or(match outcome {
            Outcome::Violation(text) => Some(text),
            _ => None,
        });
        let log = witness.with(|model| {
            model.recent().map(|(at, fact)| format!("{:>12.6} {}", at.as_secs_f64(), brief(fact))).collect()
        });
        Report { seed, violation, time: simulation.now(), stats: simulation.stats(), log }
    }
}

/// A fact in a line: looks repeat much of each other.
fn brief(fact: &Fact) -> String {
    match fact {
        Fact::Look(look) => {
            let last = look.transitions.len().saturating_sub(2);
            let changes = look.transitions.get(last..).unwrap_or_default();
            format!("Look {:?} {} B {changes:?} {:?}", look.state, look.received, look.subscriptions)
        }
        fact => format!("{fact:?}"),
    }
}
