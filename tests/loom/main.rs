//! What threads share without a lock, in every order in which they can come to it: loom's atomics stand in for the
//! processor's, and its scheduler walks all interleavings that the memory orders allow.
#![allow(clippy::unwrap_used, reason = "a thread that panics has found a breach")]

use loom::sync::atomic;

#[path = "../../src/session/sums.rs"]
mod sums;

use loom::{model, sync::Arc, thread};
use sums::{Sum, TakenOnce};

#[test]
fn a_sum_is_what_its_parts_are_and_never_less_than_what_is_held() {
    model(|| {
        let sum = Arc::new(Sum::new());
        // A part that nobody changes.
        sum.change(0, 5);
        let threads: Vec<_> = [3, 7]
            .map(|part| {
                let sum = Arc::clone(&sum);
                thread::spawn(move || {
                    sum.change(0, part);
                    assert!(sum.get() >= 5 + part, "its own part is in it");
                    sum.change(part, 1);
                    assert!((6..=13).contains(&sum.get()), "{}", sum.get());
                })
            })
            .into();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(sum.get(), 7);
        sum.change(5, 0);
        assert_eq!(sum.get(), 2);
    });
}

#[test]
fn one_of_those_who_reach_for_it_takes_it() {
    model(|| {
        let offer = Arc::new(TakenOnce::new());
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let offer = Arc::clone(&offer);
                thread::spawn(move || usize::from(offer.take()))
            })
            .collect();
        let taken: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(taken, 1);
        assert!(!offer.take());
    });
}
