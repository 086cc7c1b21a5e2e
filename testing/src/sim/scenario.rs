//! What a seed stands for: a configuration, a network, a venue, a user, and the model that watches them.

use super::dice::Dice;
use super::model::{Fact, Model, Terms, Witness};
use super::script::{Plan, Script};
use super::venue::{CLOSE_CODES, Venue};
use super::{Faults, Net, Outcome, Simulation, Stats};
use everwire_core::{Config, Endpoint, JsonRpc};
use std::time::Duration;

/// What the session under test can do: a venue asks for nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// It authenticates (`Protocol::authenticate`).
    pub authentication: bool,
    /// It keeps to limits (`Protocol::limits`).
    pub limits: bool,
    /// It answers heartbeats of the server.
    pub heartbeats: bool,
    /// It watches sequence numbers.
    pub tracking: bool,
}

/// What today's session can do. Whoever adds to the session switches it on here.
pub const fn features() -> Features {
    Features { authentication: false, limits: false, heartbeats: false, tracking: false }
}

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

impl Scenario {
    /// The scenario of a seed. The model keeps the last facts, as many as `keep`.
    pub fn new(seed: u64, keep: usize) -> Self {
        let mut dice = Dice::new(seed, 1);
        let length = dice.time(secs(30), secs(600));
        let mut terms = Terms::default();
        let net = network(&mut dice, length, &mut terms);
        let config = configuration(&mut dice, &mut terms);
        let plan = Plan {
            pace: dice.time(millis(50), secs(8)),
            topics: dice.between(1, 8),
            pauses: dice.chance(400),
            reconnects: dice.chance(400),
            longest: if dice.chance(200) { 300_000 } else { 5_000 },
            busy_until: length - length / 8,
            close_at: match dice.below(10) {
                0 => Some(dice.time(Duration::ZERO, length)),
                1..8 => Some(length - length / 16),
                _ => None,
            },
        };
        let witness = Witness::new(Model::new(terms).keep(keep));
        let venue = behaviour(&mut dice, Venue::new(seed, witness.clone()), length);
        let script = Script::new(seed, plan, witness.clone());
        let provided = dice.chance(300);
        let config = if provided { config(None) } else { config(Some("ws://venue.test:9/feed?v=2")) };
        Self { seed, config, net, venue, script, witness, provided, length }
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

fn network(dice: &mut Dice, length: Duration, terms: &mut Terms) -> Net {
    let reliable = Net::perfect().latency(millis(1)..millis(200)).jitter(millis(40)).window(64 << 10);
    match dice.below(10) {
        0 => {
            terms.reliable = Some(Duration::ZERO);
            Net::perfect()
        }
        1..4 => {
            terms.reliable = Some(millis(500));
            reliable.rechunk(1..4097)
        }
        4 => reliable.rechunk(1..20).faults(Faults::some()),
        5 => Net::lossy().faults(Faults::some().until(length / 2)),
        _ => Net::lossy(),
    }
}

/// A configuration for whatever URL it is to have.
fn configuration(dice: &mut Dice, terms: &mut Terms) -> impl Fn(Option<&str>) -> Config + use<> {
    let usual = dice.chance(300);
    if !usual {
        terms.backoff = (dice.time(millis(50), secs(1)), dice.time(secs(2), secs(40)));
        terms.stable_after = dice.time(secs(1), secs(20));
        terms.ping_interval = (!dice.chance(50)).then(|| dice.time(secs(2), secs(30)));
        terms.pong_timeout = dice.time(secs(1), secs(15));
        terms.request_timeout = dice.time(secs(2), secs(30));
        terms.close_timeout = dice.time(secs(1), secs(5));
    }
    let terms = terms.clone();
    let batch = [1, 2, 3, 100][dice.index(4)];
    let send_buffer = if dice.chance(300) { 4096 } else { 4 << 20 };
    let (recv_buffer, fragment) = (dice.between(4096, 40_000), dice.between(1024, 20_000));
    let sizes = [recv_buffer, fragment].map(|size| usize::try_from(size).unwrap_or(4096));
    move |url| {
        let config = url.and_then(|url| Config::new(url).ok()).unwrap_or_else(Config::provided);
        config
            .protocol(JsonRpc::new().topics_per_message(batch))
            .backoff(terms.backoff.0, terms.backoff.1)
            .stable_after(terms.stable_after)
            .ping_interval(terms.ping_interval)
            .pong_timeout(terms.pong_timeout)
            .request_timeout(terms.request_timeout)
            .close_timeout(terms.close_timeout)
            .send_buffer(send_buffer)
            .recv_buffer(sizes[0])
            .fragment_size(sizes[1])
    }
}

/// A venue with some of all faults; mostly few at a time.
fn behaviour(dice: &mut Dice, mut venue: Venue, length: Duration) -> Venue {
    let wild = if dice.chance(200) { 4 } else { 1 };
    let features = features();
    venue = venue.period(dice.time(millis(50), secs(5))).calm_after(length - length / 4);
    for topic in 0..3 {
        venue = venue.topic(&format!("t{topic}"), dice.time(millis(20), secs(20)));
    }
    if dice.chance(50 * wild) {
        venue = venue.quiet();
    }
    if dice.chance(150 * wild) {
        let mean = if dice.chance(200) { millis(800) } else { dice.time(secs(3), secs(100)) };
        venue = venue.closes(mean, &CLOSE_CODES);
    }
    if dice.chance(100 * wild) {
        // Some servers accept, and are gone again at once.
        let mean = if dice.chance(300) { millis(200) } else { dice.time(secs(1), secs(60)) };
        venue = venue.drops(mean);
    }
    if dice.chance(60 * wild) {
        venue = venue.freezes(dice.time(secs(5), secs(100)));
    }
    if dice.chance(100 * wild) {
        venue = venue.restarts(dice.time(secs(20), secs(200)), secs(40));
    }
    if dice.chance(150 * wild) {
        let answers = [
            (429, Some(3)),
            (429, None),
            (503, Some(20)),
            (503, None),
            (401, None),
            (500, None),
            (502, Some(1)),
        ];
        // A 401 ends a session that never was online.
        let few = &answers[dice.index(answers.len())..];
        venue = venue.refuses(u32::try_from(dice.between(50, 700)).unwrap_or(50), few);
    }
    if dice.chance(60 * wild) {
        venue = venue.misleads(200);
    }
    if dice.chance(200) {
        venue = venue.greets();
    }
    if dice.chance(100 * wild) {
        venue = venue.dataless_acks(200);
    }
    if dice.chance(120 * wild) {
        venue = venue.partial(200);
    }
    if dice.chance(120 * wild) {
        venue = venue.refuses_batches(400);
    }
    for topic in ["t0", "t1"] {
        if dice.chance(60 * wild) {
            let until = dice.time(Duration::ZERO, length);
            venue = venue.rejects(topic, dice.chance(700).then_some(until));
        }
    }
    if dice.chance(150 * wild) {
        venue = venue.late_acks(400, dice.time(millis(10), secs(40)));
    }
    if dice.chance(80 * wild) {
        venue = venue.lost_acks(200);
    }
    if dice.chance(300) {
        venue = venue.slow_answers(500, dice.time(millis(1), secs(10)));
    }
    if dice.chance(100 * wild) {
        venue = venue.skips(50);
    }
    if dice.chance(100 * wild) {
        venue = venue.duplicates(50);
    }
    if dice.chance(80 * wild) {
        venue = venue.silences(20);
    }
    if dice.chance(60 * wild) {
        venue = venue.forgets(10);
    }
    if dice.chance(200) {
        venue = venue.notices(dice.time(secs(1), secs(30)));
    }
    if dice.chance(100) {
        venue = venue.asks(dice.time(secs(1), secs(30)));
    }
    if dice.chance(300) {
        venue = venue.pings(dice.time(millis(200), secs(20)));
    }
    if dice.chance(200) {
        venue = venue.padding(3000);
    }
    if features.authentication && dice.chance(300) {
        venue = venue.auth("auth", "secret");
    }
    if features.heartbeats && dice.chance(200) {
        venue = venue.heartbeats(secs(10), secs(10));
    }
    venue
}
