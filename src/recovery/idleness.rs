//! How long nobody has wanted anything of a session that costs money.
//!
//! A connection without a client and without audio is an orphan: it is billed, and serves nobody. Whoever holds the
//! session says at each change whether that is so; the time counts from when it began to be.

use std::time::Duration;

use super::Moment;

/// Whether anything is wanted of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Idleness {
    /// Something is, or there is no connection that could serve nobody.
    #[default]
    Busy,
    /// Nothing is.
    Idle {
        /// Since when.
        since: Moment,
    },
}

impl Idleness {
    /// What is so now; an idleness that goes on has begun when it did.
    pub const fn observe(&mut self, is_idle: bool, now: Moment) {
        *self = match (*self, is_idle) {
            (Self::Busy, true) => Self::Idle { since: now },
            (Self::Idle { since }, true) => Self::Idle { since },
            (Self::Busy | Self::Idle { .. }, false) => Self::Busy,
        };
    }

    /// When the session is to sleep, if it may be idle for so long; `None` where it may be for ever.
    pub fn next_timeout(self, timeout: Option<Duration>) -> Option<Moment> {
        match self {
            Self::Busy => None,
            Self::Idle { since } => timeout.map(|timeout| since + timeout),
        }
    }

    /// Whether the session is to sleep.
    pub fn is_over(self, timeout: Option<Duration>, now: Moment) -> bool {
        self.next_timeout(timeout).is_some_and(|due| due <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Option<Duration> = Some(Duration::from_secs(60));

    fn at(seconds: u64) -> Moment {
        Moment::at(Duration::from_secs(seconds))
    }

    #[test]
    fn idleness_counts_from_its_beginning_and_ends_with_the_first_wish() {
        // (second, idle?, due at)
        let script: [(u64, bool, Option<u64>); 7] = [
            (0, false, None),
            (10, true, Some(70)),
            (50, true, Some(70)),
            (60, false, None),
            (61, true, Some(121)),
            (120, true, Some(121)),
            (121, true, Some(121)),
        ];
        let mut idleness = Idleness::default();
        for (second, is_idle, due) in script {
            idleness.observe(is_idle, at(second));
            assert_eq!(idleness.next_timeout(MINUTE), due.map(at), "at {second} s");
            let is_over = due.is_some_and(|due| due <= second);
            assert_eq!(idleness.is_over(MINUTE, at(second)), is_over, "at {second} s");
        }
    }

    #[test]
    fn without_a_bound_a_session_is_idle_for_ever_and_a_new_bound_counts_from_the_beginning() {
        let mut idleness = Idleness::default();
        idleness.observe(true, at(5));
        assert!(!idleness.is_over(None, at(1_000_000)));
        assert_eq!(idleness.next_timeout(None), None);
        assert!(idleness.is_over(MINUTE, at(65)) && !idleness.is_over(MINUTE, at(64)));
    }
}
