//! When to ping, and when a silent connection is lost.

use std::time::Duration;

use tokio::time::Instant;

/// The pings of one connection. Every received frame is a sign of life, not only a pong.
#[derive(Debug)]
pub(super) struct Liveness {
    ping_every: Duration,
    half_open_after: Duration,
    last_sign: Instant,
    next_ping: Instant,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Ping,
    /// Nothing came for so long that the next tick would be past the bound.
    Lost,
}

impl Liveness {
    pub(super) fn new(ping_every: Duration, half_open_after: Duration, now: Instant) -> Self {
        Self { ping_every, half_open_after, last_sign: now, next_ping: now + ping_every }
    }

    pub(super) const fn sign(&mut self, now: Instant) {
        self.last_sign = now;
    }

    pub(super) fn tick(&mut self, now: Instant) -> Due {
        if now >= self.lost_at() {
            Due::Lost
        } else if now >= self.next_ping {
            self.next_ping = now + self.ping_every;
            Due::Ping
        } else {
            Due::Nothing
        }
    }

    pub(super) fn next_due(&self) -> Instant {
        self.next_ping.min(self.lost_at())
    }

    fn lost_at(&self) -> Instant {
        self.last_sign + self.half_open_after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_silent_connection_is_pinged_and_is_lost_at_the_bound() {
        let start = Instant::now();
        let mut liveness = Liveness::new(s(15), s(45), start);
        let ticks: Vec<Due> =
            [14, 15, 16, 30, 44, 45].into_iter().map(|at| liveness.tick(start + s(at))).collect();
        assert_eq!(ticks, [Due::Nothing, Due::Ping, Due::Nothing, Due::Ping, Due::Nothing, Due::Lost]);
    }

    #[test]
    fn any_sign_of_life_puts_the_loss_off() {
        let start = Instant::now();
        let mut liveness = Liveness::new(s(15), s(45), start);
        liveness.sign(start + s(40));
        assert_ne!(liveness.tick(start + s(60)), Due::Lost);
        assert_eq!(liveness.tick(start + s(85)), Due::Lost);
    }
}
