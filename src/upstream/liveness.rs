//! When to ping, and when silence means that nobody is there any more.
//!
//! Pure: readings of the clock are arguments.

use std::time::Duration;

use crate::recovery::Moment;

/// What a ping tick asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tick {
    /// It is not due yet.
    Wait,
    /// Send a ping.
    Ping,
    /// Nothing came for `silent`, though we asked: the connection is half open.
    HalfOpen {
        /// How long nothing has come.
        silent: Duration,
    },
}

/// Ping and half-open bookkeeping of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Liveness {
    every: Duration,
    /// The silence at a tick that ends the connection. One tick less than the whole time, since the tick after
    /// would be too late.
    patience: Duration,
    heard: Moment,
    due: Moment,
}

impl Liveness {
    /// A connection that was heard `now`, is pinged `every` so often, and is given up at the latest
    /// `half_open_after` its last sign of life.
    pub(super) fn new(now: Moment, every: Duration, half_open_after: Duration) -> Self {
        // At least one ping must have had its chance to be answered.
        let patience = half_open_after.saturating_sub(every).max(every);
        Self { every, patience, heard: now, due: now + every }
    }

    /// Something came from the peer.
    pub(super) fn heard(&mut self, now: Moment) {
        self.heard = now;
    }

    /// When [`Liveness::tick`] has something to say.
    pub(super) fn due(&self) -> Moment {
        self.due
    }

    /// Asks what is due `now`. What has come must have been read and reported before.
    pub(super) fn tick(&mut self, now: Moment) -> Tick {
        if now < self.due {
            return Tick::Wait;
        }
        let late = now.since(self.due);
        self.due = now + self.every;
        if late >= self.every {
            // It was us who were away (a suspended machine, a starved thread): silence proves nothing yet.
            self.heard = now;
            return Tick::Ping;
        }
        let silent = now.since(self.heard);
        if silent >= self.patience { Tick::HalfOpen { silent } } else { Tick::Ping }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(15);
    const HALF_OPEN: Duration = Duration::from_secs(45);

    fn at(seconds: u64) -> Moment {
        Moment::at(Duration::from_secs(seconds))
    }

    fn fresh() -> Liveness {
        Liveness::new(at(0), EVERY, HALF_OPEN)
    }

    #[test]
    fn a_ping_is_due_every_interval_whatever_comes() {
        let mut liveness = fresh();
        for second in 1..=600 {
            let expected = if second % 15 == 0 { Tick::Ping } else { Tick::Wait };
            assert_eq!(liveness.tick(at(second)), expected, "second {second}");
            liveness.heard(at(second));
        }
    }

    #[test]
    fn silence_ends_the_connection_before_the_configured_time_is_over() {
        for last_heard in 0..=30 {
            let mut liveness = fresh();
            let mut ended = None;
            for second in 1..=120 {
                if second == last_heard {
                    liveness.heard(at(second));
                }
                if let Tick::HalfOpen { silent } = liveness.tick(at(second)) {
                    ended = Some(second);
                    assert_eq!(silent, Duration::from_secs(second - last_heard));
                    break;
                }
            }
            let silent = ended.expect("silence never ended the connection") - last_heard;
            assert!((30..=45).contains(&silent), "heard at {last_heard}, ended after {silent} s of silence");
        }
    }

    #[test]
    fn a_ping_is_always_sent_before_silence_counts() {
        let mut liveness = Liveness::new(at(0), EVERY, EVERY);
        assert_eq!(liveness.tick(at(14)), Tick::Wait);
        // Half-open after one interval cannot be: nothing was asked in the first.
        liveness.heard(at(1));
        assert_eq!(liveness.tick(at(15)), Tick::Ping);
        assert_eq!(liveness.tick(at(30)), Tick::HalfOpen { silent: Duration::from_secs(29) });
    }

    #[test]
    fn an_absence_of_our_own_is_not_held_against_the_peer() {
        let mut liveness = fresh();
        assert_eq!(liveness.tick(at(3600)), Tick::Ping);
        assert_eq!(liveness.tick(at(3615)), Tick::Ping);
        assert_eq!(liveness.tick(at(3630)), Tick::HalfOpen { silent: Duration::from_secs(30) });
    }
}
