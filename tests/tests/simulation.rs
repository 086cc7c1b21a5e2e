//! Seeded simulations against the reference model: the same as the binary `simulate`, for so many seeds as a test has time for.

use everwire_testing::sim::simulate;

fn seeds(seeds: std::ops::Range<u64>) {
    let mut reconnects = 0;
    for seed in seeds {
        let report = simulate(seed, 0);
        if let Some(violation) = report.violation {
            panic!(
                "seed {seed}: {violation}\n  cargo run --release -p everwire-tests --bin simulate -- --seed {seed} --verbose"
            );
        }
        reconnects += report.stats.reconnects;
    }
    assert!(reconnects > 50, "a network without faults proves little: {reconnects} reconnects");
}

#[test]
fn seeds_0_to_99() {
    seeds(0..100);
}

#[test]
fn seeds_100_to_199() {
    seeds(100..200);
}

#[test]
fn a_seed_is_all_that_decides() {
    for seed in [3, 17, 40] {
        let runs = [simulate(seed, usize::MAX), simulate(seed, usize::MAX)];
        assert!(runs[0].log.len() > 10, "seed {seed} did nothing");
        assert_eq!(runs[0].log, runs[1].log, "seed {seed}");
        assert_eq!(runs[0].stats, runs[1].stats, "seed {seed}");
    }
}
