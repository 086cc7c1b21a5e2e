//! Whatever happens to a session, its record makes another one do the same: seeds of the simulator, recorded and replayed.

use everwire_record::{Body, MemoryRecorder, Redaction, Replay};
use everwire_testing::sim::Scenario;
use std::sync::Arc;

fn seeds(seeds: std::ops::Range<u64>) {
    let (mut lines, mut reconnects) = (0, 0);
    for seed in seeds {
        let recorder = Arc::new(MemoryRecorder::default());
        let report = Scenario::new(seed, 0).recorder(recorder.clone()).run();
        assert_eq!(report.violation, None, "seed {seed}");
        reconnects += report.stats.reconnects;
        let mut record = recorder.take();
        // Neither the header nor what TLS did is the session's.
        let own = record.iter().filter(|line| !matches!(line.what, Body::Header(_) | Body::Way { .. }));
        let count = own.count();
        // As a file has it.
        for line in &mut record {
            Redaction::new().apply(line);
            let text = serde_json::to_string(line).expect("a line is JSON");
            *line =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("seed {seed}: {error}: {text}"));
        }
        let replay = Replay::of(record).expect("it has a header");
        // Made anew, as sessions share their cool-downs.
        let config = Scenario::new(seed, 0).config().clone();
        let report = replay.check(config).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(report.compared, count as u64, "seed {seed}: all of it was compared");
        lines += count;
    }
    println!("{lines} lines, {reconnects} reconnects");
    assert!(reconnects > 20, "a network without faults proves little: {reconnects} reconnects");
}

#[test]
fn seeds_0_to_99() {
    seeds(0..100);
}

#[test]
fn seeds_100_to_199() {
    seeds(100..200);
}

/// As many as there is time for: `EVERWIRE_SEEDS=2000 cargo test --release -p everwire-record --test simulation -- --ignored`.
#[test]
#[ignore = "takes as long as it is told to"]
fn many_seeds() {
    let count = std::env::var("EVERWIRE_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(1000);
    seeds(0..count);
}
