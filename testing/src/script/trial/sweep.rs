//! Many trials, and what came of them.

use super::{Script, Trial};
use crate::sim::Stats;
use std::fmt;
use std::num::NonZero;
use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// In how many threads trials are run at most.
const THREADS: usize = 4;

/// How a trial went.
#[derive(Debug, Clone)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What went wrong, if anything did.
    pub violation: Option<String>,
    /// How long it took, in virtual time.
    pub time: Duration,
    /// Counters.
    pub total: Total,
    /// What happened last, and what was said last; empty if all went well.
    pub log: String,
}

/// What happened in a trial, or in many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Total {
    /// How many trials.
    pub trials: u64,
    /// TCP connections.
    pub connections: u64,
    /// Times that the session came online again.
    pub reconnects: u64,
    /// Messages with data that were told.
    pub messages: u64,
    /// Gaps that were told, once for each topic.
    pub gaps: u64,
    /// Times that a subscription was confirmed.
    pub confirmed: u64,
    /// Times that one was rejected.
    pub rejected: u64,
    /// Requests that were made, and those that were answered.
    pub requests: (u64, u64),
}

/// Runs a trial for each seed, in up to four threads, prints what happened in all, and returns it.
///
/// # Panics
/// At the first trial in which something went wrong, with its seed, what it was, and what was said last. And if the trials were none: fewer messages
/// than trials, or among more than 20 of them fewer reconnects than one in ten.
pub fn sweep<S: Script + 'static>(seeds: Range<u64>, trial: impl Fn(u64) -> Trial<S> + Sync) -> Total {
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let mut total = Total::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return Ok(total);
            }
            let report = trial(seed).run(seed);
            if report.violation.is_some() {
                // Those before it are being tried: of all that fail the first is told.
                next.store(seeds.end, Ordering::Relaxed);
                return Err(Box::new(report));
            }
            total = total.plus(report.total);
        }
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(THREADS);
    let outcomes: Vec<Result<Total, Box<Report>>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined.map(|outcome| outcome.unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    let failed = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
    if let Some(report) = failed.min_by_key(|report| report.seed) {
        let Report { seed, time, log, .. } = &**report;
        let violation = report.violation.as_deref().unwrap_or_default();
        panic!("seed {seed} after {time:?}: {violation}\n\n{log}\nseed {seed}: {violation}");
    }
    let total = outcomes.into_iter().flatten().fold(Total::default(), Total::plus);
    println!("{total}");
    assert!(total.messages >= total.trials, "hardly anything was told: {total}");
    assert!(total.trials <= 20 || total.reconnects >= total.trials / 10, "hardly any reconnects: {total}");
    total
}

impl Report {
    pub(super) fn broken(seed: u64, violation: String) -> Self {
        let (time, total, log) = (Duration::ZERO, Total::default(), String::new());
        Self { seed, violation: Some(violation), time, total, log }
    }
}

impl Total {
    pub(super) fn with(self, stats: Stats) -> Self {
        Self { trials: 1, connections: stats.connections, reconnects: stats.reconnects, ..self }
    }

    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            trials: self.trials + other.trials,
            connections: self.connections + other.connections,
            reconnects: self.reconnects + other.reconnects,
            messages: self.messages + other.messages,
            gaps: self.gaps + other.gaps,
            confirmed: self.confirmed + other.confirmed,
            rejected: self.rejected + other.rejected,
            requests: (self.requests.0 + other.requests.0, self.requests.1 + other.requests.1),
        }
    }
}

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trials, connections, reconnects, messages, gaps, confirmed, rejected, requests } = self;
        write!(
            f,
            "{trials} trials: {connections} connections, {reconnects} reconnects, {messages} messages, {gaps} gaps, {confirmed} \
             confirmations, {rejected} rejections, {} requests, {} of them answered",
            requests.0, requests.1
        )
    }
}
