//! The simulator finds bugs: each of those that can be planted in the session is found within a thousand seeds, and without one there is
//! nothing to find in the same seeds.

use everwire_core::Mutant;
use everwire_testing::sim::simulate_with;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Within so many seeds a bug must be found.
const SEEDS: u64 = 1000;

/// The first seed that finds this bug, and what it says.
fn first(mutant: Mutant) -> Option<(u64, String)> {
    let next = AtomicU64::new(0);
    let found: Mutex<Option<(u64, String)>> = Mutex::new(None);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let is_late =
                        |found: &Option<(u64, String)>| found.as_ref().is_some_and(|(at, _)| *at < seed);
                    if seed >= SEEDS || is_late(&found.lock().expect("no thread panics with the lock")) {
                        break;
                    }
                    let Some(text) = simulate_with(seed, 0, Some(mutant)).violation else { continue };
                    let mut found = found.lock().expect("no thread panics with the lock");
                    if !is_late(&found) {
                        *found = Some((seed, text));
                    }
                }
            });
        }
    });
    found.into_inner().expect("no thread panics with the lock")
}

#[test]
fn every_planted_bug_is_found() {
    let (mut missed, mut last) = (Vec::new(), 0);
    for mutant in Mutant::ALL {
        match first(mutant) {
            Some((seed, text)) => {
                println!("{mutant:?}: seed {seed}: {text}");
                last = last.max(seed);
            }
            None => missed.push(mutant),
        }
    }
    assert!(missed.is_empty(), "not found within {SEEDS} seeds: {missed:?}");
    // The bugs are what was found, and not the seeds.
    for seed in 0..=last {
        assert_eq!(simulate_with(seed, 0, None).violation, None, "seed {seed} without a bug");
    }
}
