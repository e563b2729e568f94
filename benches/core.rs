//! Times of the core's machines: `cargo bench --bench core`. On a busy machine read `tests/bench-check` instead.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a bench is no product"
)]

mod work;

use criterion::{Criterion, criterion_group, criterion_main};

fn core(criterion: &mut Criterion) {
    for mut work in work::all() {
        criterion.bench_function(work.name, |bencher| bencher.iter(|| (work.once)()));
    }
}

criterion_group!(benches, core);
criterion_main!(benches);
