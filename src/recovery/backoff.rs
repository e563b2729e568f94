//! Exponential backoff with full jitter, and the restart budget.

use std::{collections::VecDeque, time::Duration};

use super::Moment;

/// How long to wait before the next attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The upper bound of the first wait.
    pub initial: Duration,
    /// The upper bound of every wait.
    pub max: Duration,
    /// How much the upper bound grows from attempt to attempt; at least 1.
    pub multiplier: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial: Duration::from_millis(500), max: Duration::from_secs(30), multiplier: 2.0 }
    }
}

impl Backoff {
    /// The upper bound of the wait after `attempts` failed attempts.
    pub fn ceiling(&self, attempts: u32) -> Duration {
        // 64 doublings exceed any maximum; the cap keeps the power finite.
        let exponent = i32::try_from(attempts.min(64)).unwrap_or(64);
        let seconds = self.initial.as_secs_f64() * self.multiplier.max(1.0).powi(exponent);
        if seconds >= self.max.as_secs_f64() { self.max } else { Duration::from_secs_f64(seconds) }
    }

    /// The wait after `attempts` failed attempts. Full jitter: `random`, from 0 up to but not including 1,
    /// spreads the wait over everything from nothing to the ceiling, so that sessions that broke together
    /// do not come back together.
    pub fn delay(&self, attempts: u32, random: f64) -> Duration {
        self.ceiling(attempts).mul_f64(random.clamp(0.0, 1.0))
    }
}

/// How many restarts a session may use in a window of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetConfig {
    /// Restarts within the window; one more and the session is failed.
    pub restarts: u32,
    /// The window.
    pub window: Duration,
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self { restarts: 10, window: Duration::from_secs(300) }
    }
}

/// The restarts that a session has used, as Erlang's supervisors count them: an intensity over a window, and
/// not a number of tries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    used: VecDeque<Moment>,
}

impl Budget {
    /// Uses one restart; `false` when none is left, and then nothing changes.
    pub fn take(&mut self, config: &BudgetConfig, now: Moment) -> bool {
        while self.used.front().is_some_and(|&at| now.since(at) >= config.window) {
            self.used.pop_front();
        }
        let left = self.used.len() < config.restarts as usize;
        if left {
            self.used.push_back(now);
        }
        left
    }

    /// A budget of which restarts were used at these moments, the oldest first.
    pub fn from_used(used: impl IntoIterator<Item = Moment>) -> Self {
        Self { used: used.into_iter().collect() }
    }

    /// When restarts were used, the oldest first, as far as they are remembered.
    pub fn used(&self) -> impl Iterator<Item = Moment> {
        self.used.iter().copied()
    }

    /// Forgets all that was used: a person has acted.
    pub fn reset(&mut self) {
        self.used.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ceilings_double_up_to_the_maximum() {
        let backoff = Backoff::default();
        let millis: Vec<u128> = (0..8).map(|n| backoff.ceiling(n).as_millis()).collect();
        assert_eq!(millis, [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
        assert_eq!(backoff.ceiling(u32::MAX), backoff.max);
    }

    proptest! {
        #[test]
        fn a_delay_is_never_above_its_ceiling(attempts in 0u32..200, random in 0.0f64..1.0) {
            let backoff = Backoff::default();
            prop_assert!(backoff.delay(attempts, random) <= backoff.ceiling(attempts));
            prop_assert!(backoff.ceiling(attempts) <= backoff.max);
        }

        #[test]
        fn a_budget_never_allows_more_than_its_restarts_in_any_window(
            gaps in prop::collection::vec(0u64..100, 1..200), restarts in 0u32..8, window in 1u64..300,
        ) {
            let config = BudgetConfig { restarts, window: Duration::from_secs(window) };
            let (mut budget, mut now, mut taken) = (Budget::default(), Moment::ZERO, Vec::new());
            for gap in gaps {
                now = now + Duration::from_secs(gap);
                if budget.take(&config, now) {
                    taken.push(now);
                }
                let recent = taken.iter().filter(|&&at| now.since(at) < config.window).count();
                prop_assert!(recent <= restarts as usize);
            }
        }
    }
}
