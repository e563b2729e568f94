//! How many upgrades reach the service within a second, whatever the attempts went through before.
//!
//! The gate spaces attempts where they begin. Between that and the upgrade lies the token call, and a console that
//! answers slowly at first and then quickly lets attempts of two seconds arrive in one. So upgrades are counted once
//! more where they leave.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The span in which no more upgrades than allowed may leave. Longer than a second, by as much as may be lost or won
/// on the way to the service, which counts by its own clock: the gate's grid has the same margin.
const SPAN: Duration = Duration::from_millis(1050);

/// Lets a number of upgrades leave in any second. One for all threads of an upstream.
pub struct Pace {
    origin: Instant,
    /// `None`: any number.
    turns: Option<Mutex<Turns>>,
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pace").field("is_bounded", &self.turns.is_some()).finish()
    }
}

impl Pace {
    /// At most `per_second` upgrades in any second; at least one.
    pub fn new(per_second: u32) -> Self {
        Self { origin: Instant::now(), turns: Some(Mutex::new(Turns::new(per_second))) }
    }

    /// Any number.
    pub fn unbounded() -> Self {
        Self { origin: Instant::now(), turns: None }
    }

    /// Waits until one more upgrade may leave. Nobody waits for longer than those before it were held up themselves:
    /// the gate lets no more attempts begin than may leave.
    pub(super) async fn turn(&self) {
        let Some(turns) = &self.turns else { return };
        let now = self.origin.elapsed();
        let at = turns.lock().unwrap_or_else(PoisonError::into_inner).take(now);
        if at > now {
            tokio::time::sleep_until(self.origin + at).await;
        }
    }
}

/// The latest turns, as many as may be in one span.
struct Turns {
    bound: usize,
    taken: VecDeque<Duration>,
}

impl Turns {
    fn new(bound: u32) -> Self {
        Self { bound: bound.max(1) as usize, taken: VecDeque::new() }
    }

    /// When the next may leave, at `now` at the earliest. Whoever asks and then leaves no upgrade has used its turn.
    fn take(&mut self, now: Duration) -> Duration {
        let at = if self.taken.len() < self.bound {
            now
        } else {
            self.taken.pop_front().map_or(now, |oldest| now.max(oldest + SPAN))
        };
        self.taken.push_back(at);
        at
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn turns_are_given_at_once_until_a_second_is_full() {
        let mut turns = Turns::new(2);
        assert_eq!(
            [ms(0), ms(10), ms(20), ms(30)].map(|now| turns.take(now)),
            [ms(0), ms(10), SPAN, ms(10) + SPAN]
        );
        assert_eq!(turns.take(ms(5000)), ms(5000));
    }

    #[tokio::test]
    async fn whoever_is_one_too_many_waits() {
        let (pace, began) = (Pace::new(1), Instant::now());
        pace.turn().await;
        pace.turn().await;
        assert!(began.elapsed() >= SPAN);
        let (pace, began) = (Pace::unbounded(), Instant::now());
        for _ in 0..1000 {
            pace.turn().await;
        }
        assert!(began.elapsed() < SPAN);
    }

    proptest! {
        #[test]
        fn no_second_has_too_many_and_none_waits_without_need(
            bound in 1_u32..20,
            gaps in prop::collection::vec(0_u64..300, 1..200),
        ) {
            let mut turns = Turns::new(bound);
            let (mut now, mut all) = (Duration::ZERO, Vec::new());
            for gap in gaps {
                now += ms(gap);
                let at = turns.take(now);
                prop_assert!(at >= now);
                let within = all.iter().filter(|earlier| **earlier + SPAN > at).count();
                prop_assert!(within < bound as usize, "{within} within a span before {at:?}");
                // A moment sooner would have been one too many.
                let sooner = all.iter().filter(|earlier| **earlier + SPAN > at - ms(1).min(at)).count();
                prop_assert!(at == now || sooner >= bound as usize);
                all.push(at);
            }
        }
    }
}
