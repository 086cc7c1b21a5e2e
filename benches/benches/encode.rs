//! Times how our engine encodes; `compare` sets it against others.

use std::rc::Rc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use everwire_benches::line::{Operation, encode_works};
use everwire_benches::{Batch, Kind, Line, engines};

fn encode(criterion: &mut Criterion) {
    // The floor stands in until our engine is there; its name says so.
    let engine = engines::everwire().unwrap_or_else(engines::plain_copy);
    let mut group = criterion.benchmark_group(format!("{} encode", engine.name));
    for (kind, size) in
        [(Kind::Text, 125), (Kind::Text, 4096), (Kind::Binary, 125), (Kind::Binary, 64 * 1024)]
    {
        let batch = Rc::new(Batch::new(kind, size));
        group.throughput(Throughput::Elements(batch.messages().len() as u64));
        let line = Line { operation: Operation::Encode, kind, size };
        for (_, mut work) in encode_works(&engine, &batch).expect("the engine encodes correctly") {
            group.bench_function(line.name(), |bencher| bencher.iter(|| work().expect("no byte is lost")));
        }
    }
    group.finish();
}

criterion_group!(benches, encode);
criterion_main!(benches);
