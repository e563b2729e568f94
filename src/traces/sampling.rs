//! Which traces are kept.

use ring::digest::{SHA256, digest};

/// Keeps a share of the sessions, always the same ones, so that a session's requests and the attempts that they link
/// to are kept together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sampler {
    /// Hashes below it are kept; `None` keeps all.
    below: Option<u64>,
}

impl Sampler {
    /// Keeps this share, from 0 to 1.
    pub(super) fn new(ratio: f64) -> Self {
        // The cast takes what is out of range to the nearest that is in it.
        Self { below: (ratio < 1.0).then_some((ratio * u64::MAX as f64) as u64) }
    }

    /// Whether what goes by `key` is kept.
    pub(super) fn keeps(self, key: &str) -> bool {
        let Some(below) = self.below else { return true };
        let hash = digest(&SHA256, key.as_bytes());
        let (first, _) = hash.as_ref().split_at(size_of::<u64>());
        first.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)) < below
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(ratio: f64) -> Vec<usize> {
        let sampler = Sampler::new(ratio);
        (0..10_000).filter(|number| sampler.keeps(&format!("ses_{number}"))).collect()
    }

    #[test]
    fn the_share_that_is_kept_is_the_ratio_and_its_ends_are_none_and_all() {
        assert_eq!((kept(0.0).len(), kept(1.0).len()), (0, 10_000));
        for ratio in [0.01, 0.25, 0.9] {
            let share = kept(ratio).len() as f64 / 10_000.0;
            assert!((share - ratio).abs() < 0.02, "{share} of {ratio}");
        }
    }

    #[test]
    fn the_same_are_kept_each_time_and_by_each_higher_ratio() {
        let few = kept(0.1);
        assert_eq!(few, kept(0.1));
        let more = kept(0.3);
        assert!(few.iter().all(|number| more.contains(number)) && more.len() > few.len());
    }
}
