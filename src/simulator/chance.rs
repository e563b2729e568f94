//! The lot behind a fault's `chance`.

use std::collections::HashMap;

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

/// Draws random numbers, for each fault its own row of them.
#[derive(Debug, Default)]
pub(super) struct Chance {
    seed: Option<u64>,
    /// By the fault's number; as many as the plan holds.
    rows: HashMap<u64, StdRng>,
}

impl Chance {
    pub(super) fn new(seed: Option<u64>) -> Self {
        Self { seed, rows: HashMap::new() }
    }

    /// The plan was emptied: its faults draw no more.
    pub(super) fn forget(&mut self) {
        self.rows.clear();
    }

    /// A number in 0..1. With a seed the nth draw of a fault does not depend on what other faults draw.
    pub(super) fn draw(&mut self, fault: u64) -> f64 {
        let Some(seed) = self.seed else { return rand::random() };
        // Numbers of neighbours lie far apart, so that their rows have nothing in common.
        let row = seed ^ fault.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.rows.entry(fault).or_insert_with(|| StdRng::seed_from_u64(row)).random()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_each_fault_its_own_row_that_comes_again() {
        let row = |chance: &mut Chance, fault| (0..8).map(|_| chance.draw(fault)).collect::<Vec<_>>();
        let (mut one, mut two) = (Chance::new(Some(7)), Chance::new(Some(7)));
        let first = row(&mut one, 1);
        let other = row(&mut two, 2);
        assert_eq!(row(&mut two, 1), first, "what fault 2 drew does not matter");
        assert_ne!(first, other);
        assert_ne!(row(&mut Chance::new(Some(8)), 1), first);
        assert_ne!(row(&mut Chance::new(None), 1), row(&mut Chance::new(None), 1));
    }
}
