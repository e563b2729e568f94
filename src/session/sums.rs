//! What threads share without a lock. `tests/loom` walks every order in which threads can come to it, with atomics of
//! its own in place of the processor's.

use super::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A sum of parts that several threads change, each its own part.
///
/// Nothing is published by it but the number itself, so that no order towards other memory is needed: each part is
/// taken away only by whoever added it, and the sum is never below what is held.
#[derive(Debug)]
pub(crate) struct Sum(AtomicUsize);

impl Sum {
    #[allow(clippy::missing_const_for_fn, reason = "loom's atomics are not made in constants")]
    pub(crate) fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// A part changes.
    pub(crate) fn change(&self, from: usize, to: usize) {
        if to >= from {
            self.0.fetch_add(to - from, Ordering::Relaxed);
        } else {
            self.0.fetch_sub(from - to, Ordering::Relaxed);
        }
    }
}

/// Something that one of several threads takes.
#[derive(Debug)]
pub(crate) struct TakenOnce(AtomicBool);

impl TakenOnce {
    #[allow(clippy::missing_const_for_fn, reason = "loom's atomics are not made in constants")]
    pub(crate) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Whether it was there to be taken; to one caller, once. What others did before they missed it is seen by nobody
    /// through this; what the taker of it did before is seen by whoever misses it.
    pub(crate) fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}
