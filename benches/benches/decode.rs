//! Times how our engine decodes; `compare` sets it against others.

use std::rc::Rc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use everwire_benches::line::{Operation, decode_works};
use everwire_benches::{Chunking, Input, Kind, Line, engines};

fn decode(criterion: &mut Criterion) {
    // The floor stands in until our engine is there; its name says so.
    let engine = engines::everwire().unwrap_or_else(engines::plain_copy);
    let mut group = criterion.benchmark_group(format!("{} decode", engine.name));
    for (kind, size, chunking) in [
        (Kind::Text, 125, Chunking::Full),
        (Kind::Text, 125, Chunking::PerMessage),
        (Kind::Text, 4096, Chunking::Full),
        (Kind::Binary, 125, Chunking::Full),
        (Kind::Binary, 64 * 1024, Chunking::Full),
    ] {
        let input = Rc::new(Input::new(kind, size, chunking));
        group.throughput(Throughput::Elements(input.messages() as u64));
        let line = Line { operation: Operation::Decode(chunking), kind, size };
        for (_, mut work) in decode_works(&engine, &input).expect("the engine decodes correctly") {
            group.bench_function(line.name(), |bencher| bencher.iter(|| work().expect("no message is lost")));
        }
    }
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
