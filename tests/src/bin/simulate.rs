//! Runs the session through thousands of seeded simulations, and checks each against the reference model.
//!
//! ```text
//! cargo run --release -p everwire-tests --bin simulate -- --seeds 10000 [--from N]
//! cargo run --release -p everwire-tests --bin simulate -- --seed N [--verbose]
//! ```
//!
//! It exits with 1 if a promise was broken, and names each seed with the command that runs it alone. A seed that does not come to its end is
//! named too, and ends the program, after `--patience SECONDS` (default 60). With `--mutant NAME` a bug is planted in the session, to see what
//! finds it.

use everwire_core::Mutant;
use everwire_testing::sim::{Report, simulate_with};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

/// Facts that are told of a single seed without `--verbose`.
const LAST: usize = 60;
/// Violations that are told in full.
const TOLD: u64 = 20;
/// A seed that takes longer than this hangs: one takes milliseconds, and this machine may have other things to do.
const PATIENCE: u64 = 60;

#[derive(Debug)]
struct Arguments {
    seeds: u64,
    from: u64,
    seed: Option<u64>,
    verbose: bool,
    run: Run,
}

/// What is the same for all seeds.
#[derive(Debug, Clone, Copy)]
struct Run {
    mutant: Option<Mutant>,
    patience: Duration,
}

/// The seed that each thread is at, and since when.
type Slot = Mutex<Option<(u64, Instant)>>;

/// What is counted over all seeds.
#[derive(Debug)]
struct Sum {
    time: Duration,
    reconnects: u64,
    violations: u64,
    mutant: Option<Mutant>,
}

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(why) => {
            eprintln!(
                "simulate: {why}\nusage: simulate [--seeds N] [--from N] [--mutant NAME] [--patience SECONDS] | --seed N [--verbose] ..."
            );
            return ExitCode::from(2);
        }
    };
    let Run { mutant, .. } = arguments.run;
    let sum = match arguments.seed {
        Some(seed) => {
            let keep = if arguments.verbose { usize::MAX } else { LAST };
            many(seed, 1, arguments.run, |seed| {
                let report = run(seed, keep, mutant);
                report.log.iter().for_each(|line| println!("{line}"));
                println!("{:?}", report.stats);
                report
            })
        }
        None => many(arguments.from, arguments.seeds, arguments.run, |seed| run(seed, 0, mutant)),
    };
    let seeds = if arguments.seed.is_some() { 1 } else { arguments.seeds };
    let days = sum.time.as_secs_f64() / 86_400.0;
    println!(
        "simulate: {seeds} seeds, {days:.1} days of session time, {} reconnects, {} violations",
        sum.reconnects, sum.violations
    );
    if sum.violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs seeds on all cores. They are told in the order of their numbers, whichever thread is done first.
fn many(from: u64, seeds: u64, with: Run, run: impl Fn(u64) -> Report + Sync) -> Sum {
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let slots: Vec<Slot> = (0..threads).map(|_| Slot::default()).collect();
    let mut sum = Sum { time: Duration::ZERO, reconnects: 0, violations: 0, mutant: with.mutant };
    std::thread::scope(|scope| {
        let (done, reports) = mpsc::channel();
        for slot in &slots {
            let (done, next, run) = (done.clone(), &next, &run);
            scope.spawn(move || {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let seed = from.wrapping_add(n);
                    set(slot, (n < seeds).then(|| (seed, Instant::now())));
                    if n >= seeds || done.send((n, run(seed))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(done);
        let mut early = std::collections::BTreeMap::new();
        let mut due = 0;
        loop {
            let (n, report) = match reports.recv_timeout(Duration::from_secs(1)) {
                Ok(report) => report,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    end_if_one_hangs(&slots, with);
                    continue;
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            };
            end_if_one_hangs(&slots, with);
            early.insert(n, report);
            while let Some(report) = early.remove(&due) {
                sum.add(&report);
                due += 1;
            }
        }
    });
    sum
}

/// The command that runs a seed alone.
fn replay(seed: u64, mutant: Option<Mutant>) -> String {
    let planted = mutant.map_or_else(String::new, |mutant| format!(" --mutant {mutant:?}"));
    format!("cargo run --release -p everwire-tests --bin simulate -- --seed {seed} --verbose{planted}")
}

fn set(slot: &Slot, at: Option<(u64, Instant)>) {
    // What is in it is whole even if somebody panicked.
    *slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = at;
}

/// A thread that is in an endless loop cannot be stopped: the program ends, and says why.
fn end_if_one_hangs(slots: &[Slot], with: Run) {
    for slot in slots {
        let at = *slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((seed, _)) = at.filter(|(_, since)| since.elapsed() > with.patience) {
            println!("seed {seed}: hangs: it has not come to its end within {:?}", with.patience);
            println!("  {}", replay(seed, with.mutant));
            std::process::exit(1);
        }
    }
}

/// Runs a seed; a panic is a violation like any other.
fn run(seed: u64, keep: usize, mutant: Option<Mutant>) -> Report {
    std::panic::catch_unwind(|| simulate_with(seed, keep, mutant)).unwrap_or_else(|panic| {
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
            println!("  {}", replay(seed, self.mutant));
        } else {
            println!("seed {seed}");
        }
    }
}

impl Arguments {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let run = Run { mutant: None, patience: Duration::from_secs(PATIENCE) };
        let mut parsed = Self { seeds: 1000, from: 0, seed: None, verbose: false, run };
        while let Some(name) = arguments.next() {
            match name.as_str() {
                "--seeds" => parsed.seeds = number(&name, arguments.next())?,
                "--from" => parsed.from = number(&name, arguments.next())?,
                "--seed" => parsed.seed = Some(number(&name, arguments.next())?),
                "--mutant" => {
                    let name = arguments.next().ok_or("--mutant wants a name")?;
                    let named = |mutant: &Mutant| format!("{mutant:?}") == name;
                    let mut all = Mutant::ALL.into_iter().chain([Mutant::Hang]);
                    let none = || format!("{name:?} is none of {:?} and Hang", Mutant::ALL);
                    parsed.run.mutant = Some(all.find(named).ok_or_else(none)?);
                }
                "--patience" => {
                    parsed.run.patience = Duration::from_secs(number(&name, arguments.next())?);
                }
                "--verbose" => parsed.verbose = true,
                _ => return Err(format!("{name:?} is no option")),
            }
        }
        Ok(parsed)
    }
}

fn number(name: &str, value: Option<String>) -> Result<u64, String> {
    let value = value.ok_or_else(|| format!("{name} wants a number"))?;
    value.parse().map_err(|_| format!("{name} wants a number, not {value:?}"))
}
