//! Runs the session through thousands of seeded simulations, and checks each against the reference model.
//!
//! ```text
//! cargo run --release -p everwire-tests --bin simulate -- --seeds 10000 [--from N]
//! cargo run --release -p everwire-tests --bin simulate -- --seed N [--verbose]
//! ```
//!
//! It exits with 1 if a promise was broken, and names each seed with the command that runs it alone.

use everwire_testing::sim::{Report, simulate};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// Facts that are told of a single seed without `--verbose`.
const LAST: usize = 60;
/// Violations that are told in full.
const TOLD: u64 = 20;

#[derive(Debug, Default)]
struct Arguments {
    seeds: u64,
    from: u64,
    seed: Option<u64>,
    verbose: bool,
}

/// What is counted over all seeds.
#[derive(Debug, Default)]
struct Sum {
    time: Duration,
    reconnects: u64,
    violations: u64,
}

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(why) => {
            eprintln!("simulate: {why}\nusage: simulate [--seeds N] [--from N] | --seed N [--verbose]");
            return ExitCode::from(2);
        }
    };
    let sum = match arguments.seed {
        Some(seed) => one(seed, arguments.verbose),
        None => many(arguments.from, arguments.seeds),
    };
    let seeds = if arguments.seed.is_some() { 1 } else { arguments.seeds };
    let days = sum.time.as_secs_f64() / 86_400.0;
    println!(
        "simulate: {seeds} seeds, {days:.1} days of session time, {} reconnects, {} violations",
        sum.reconnects, sum.violations
    );
    if sum.violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(seed: u64, verbose: bool) -> Sum {
    let report = simulate(seed, if verbose { usize::MAX } else { LAST });
    report.log.iter().for_each(|line| println!("{line}"));
    println!("{:?}", report.stats);
    let mut sum = Sum::default();
    sum.add(&report);
    sum
}

/// Runs seeds on all cores. They are told in the order of their numbers, whichever thread is done first.
fn many(from: u64, seeds: u64) -> Sum {
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut sum = Sum::default();
    std::thread::scope(|scope| {
        let (done, reports) = mpsc::channel();
        for _ in 0..threads {
            let (done, next) = (done.clone(), &next);
            scope.spawn(move || {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= seeds || done.send((n, run(from.wrapping_add(n)))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(done);
        let mut early = std::collections::BTreeMap::new();
        let mut due = 0;
        for (n, report) in reports {
            early.insert(n, report);
            while let Some(report) = early.remove(&due) {
                sum.add(&report);
                due += 1;
            }
        }
    });
    sum
}

/// Runs a seed; a panic is a violation like any other.
fn run(seed: u64) -> Report {
    std::panic::catch_unwind(|| simulate(seed, 0)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Report::broken(seed, format!("panic: {}", text.unwrap_or_default()))
    })
}

impl Sum {
    fn add(&mut self, report: &Report) {
        self.time += report.time;
        self.reconnects += report.stats.reconnects;
        let Some(violation) = &report.violation else { return };
        self.violations += 1;
        let seed = report.seed;
        if self.violations <= TOLD {
            println!("seed {seed}: {violation}");
            println!("  cargo run --release -p everwire-tests --bin simulate -- --seed {seed} --verbose");
        } else {
            println!("seed {seed}");
        }
    }
}

impl Arguments {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut parsed = Self { seeds: 1000, ..Self::default() };
        while let Some(name) = arguments.next() {
            let mut number = || {
                let value = arguments.next().ok_or_else(|| format!("{name} wants a number"))?;
                value.parse().map_err(|_| format!("{name} wants a number, not {value:?}"))
            };
            match name.as_str() {
                "--seeds" => parsed.seeds = number()?,
                "--from" => parsed.from = number()?,
                "--seed" => parsed.seed = Some(number()?),
                "--verbose" => parsed.verbose = true,
                _ => return Err(format!("{name:?} is no option")),
            }
        }
        Ok(parsed)
    }
}
