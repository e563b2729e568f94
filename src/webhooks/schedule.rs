//! When a message is tried again.

use std::time::Duration;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// The waits between the attempts, as Standard Webhooks advises: a blink is bridged in seconds, a deployment in
/// minutes, and a weekend in three days. With the first, ten attempts.
pub(super) const WAITS: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * MINUTE),
    Duration::from_secs(30 * MINUTE),
    Duration::from_secs(2 * HOUR),
    Duration::from_secs(5 * HOUR),
    Duration::from_secs(10 * HOUR),
    Duration::from_secs(14 * HOUR),
    Duration::from_secs(20 * HOUR),
    Duration::from_secs(24 * HOUR),
];

/// What a wait may be longer by: the messages of one incident must not all come back in the same instant.
const JITTER: f64 = 0.2;

/// The longest `Retry-After` that is honoured: an endpoint must not be able to silence itself for longer than an
/// operator takes to notice.
const MAX_HOLD: Duration = Duration::from_secs(HOUR);

/// How long to wait after the attempt with this number, from 1, has failed; `None` where it was the last one.
/// `random` is from 0 to 1.
pub(super) fn wait_after(attempt: u32, random: f64) -> Option<Duration> {
    let wait = WAITS.get(usize::try_from(attempt.checked_sub(1)?).ok()?)?;
    Some(wait.mul_f64(1.0 + JITTER * random.clamp(0.0, 1.0)))
}

/// How long nothing is sent to an endpoint that asks for a pause.
pub(super) fn hold(retry_after: Duration) -> Duration {
    retry_after.min(MAX_HOLD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_tried_ten_times_over_three_days() {
        let seconds = |attempt, random| wait_after(attempt, random).map(|wait| wait.as_secs_f64());
        for (attempt, least, most) in [
            (1, 5.0, 6.0),
            (2, 300.0, 360.0),
            (3, 1_800.0, 2_160.0),
            (4, 7_200.0, 8_640.0),
            (5, 18_000.0, 21_600.0),
            (6, 36_000.0, 43_200.0),
            (7, 50_400.0, 60_480.0),
            (8, 72_000.0, 86_400.0),
            (9, 86_400.0, 103_680.0),
        ] {
            assert_eq!(seconds(attempt, 0.0), Some(least), "after attempt {attempt}");
            assert_eq!(seconds(attempt, 1.0), Some(most), "after attempt {attempt}");
            let between = seconds(attempt, 0.5).unwrap();
            assert!(least < between && between < most, "after attempt {attempt}: {between}");
        }
        assert_eq!(wait_after(10, 0.0), None);
        assert_eq!(wait_after(0, 0.0), None);
        assert_eq!(wait_after(u32::MAX, 0.0), None);
        let all: Duration = WAITS.iter().sum();
        assert_eq!(all.as_secs() / 3600, 75);
    }

    #[test]
    fn a_pause_that_is_asked_for_has_a_bound() {
        assert_eq!(hold(Duration::from_secs(30)), Duration::from_secs(30));
        assert_eq!(hold(Duration::from_secs(86_400)), Duration::from_secs(3600));
    }
}
