//! When a request's frames are due. Pure: time is the duration since the connection was confirmed.
//!
//! 25 frames a second of audio; the last, partial one counts as one, and a request has at least one. Whether
//! a frame is the last is known only once more audio or the end has come, so the newest whole frame waits for
//! that: the number of frames then depends on the audio alone, however it was cut into chunks.

use std::time::Duration;

use super::config::Pace;

/// 25 frames a second.
pub(super) const FRAME_PERIOD: Duration = Duration::from_millis(40);

/// One frame that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Counted from 0.
    pub(super) index: u32,
    pub(super) last: bool,
}

/// The frames of one request.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    pace: Pace,
    units: u64,
    units_per_frame: u64,
    ended: bool,
    sent: u32,
    /// The earliest time of the next frame.
    next_at: Duration,
    paused: bool,
}

impl Schedule {
    pub(super) const fn new(pace: Pace) -> Self {
        Self {
            pace,
            units: 0,
            units_per_frame: 1,
            ended: false,
            sent: 0,
            next_at: Duration::ZERO,
            paused: false,
        }
    }

    /// All the audio that came so far is `units` long, at `units_per_frame`.
    pub(super) fn audio(&mut self, units: u64, units_per_frame: u64, end: bool, now: Duration) {
        let waited = !self.is_ready();
        self.units = units;
        self.units_per_frame = units_per_frame.max(1);
        self.ended |= end;
        if waited && self.is_ready() {
            self.next_at = self.next_at.max(now);
        }
    }

    pub(super) const fn is_ended(&self) -> bool {
        self.ended
    }

    pub(super) const fn sent(&self) -> u32 {
        self.sent
    }

    /// What has been played, at the frames' cadence.
    pub(super) fn played(&self) -> Duration {
        FRAME_PERIOD * self.sent
    }

    fn total(&self) -> u64 {
        self.units.div_ceil(self.units_per_frame).max(1)
    }

    fn is_ready(&self) -> bool {
        let sent = u64::from(self.sent);
        if self.ended { sent < self.total() } else { self.units > (sent + 1) * self.units_per_frame }
    }

    /// When the next frame is due, if its audio is there.
    pub(super) fn due(&self) -> Option<Duration> {
        (self.is_ready() && !self.paused).then_some(match self.pace {
            Pace::Realtime => self.next_at,
            Pace::Fast => Duration::ZERO,
        })
    }

    /// Takes the next frame, if it is due.
    pub(super) fn take(&mut self, now: Duration) -> Option<Frame> {
        let due = self.due()?;
        if due > now {
            return None;
        }
        let index = self.sent;
        self.sent += 1;
        // From the due time, not from now: a late wake-up must not slow the stream down for good.
        self.next_at += FRAME_PERIOD;
        Some(Frame { index, last: self.ended && u64::from(self.sent) == self.total() })
    }

    pub(super) const fn pause(&mut self) {
        self.paused = true;
    }

    pub(super) fn resume(&mut self, now: Duration) {
        self.paused = false;
        self.next_at = self.next_at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn drain(schedule: &mut Schedule, now: Duration) -> Vec<Frame> {
        std::iter::from_fn(|| schedule.take(now)).collect()
    }

    #[test]
    fn the_number_of_frames_depends_on_the_audio_and_not_on_its_chunks() {
        for (units, frames) in [(0, 1), (1, 1), (639, 1), (640, 1), (641, 2), (1280, 2), (16_000, 25)] {
            for chunk in [1, 320, 640, 1000, 100_000] {
                let mut schedule = Schedule::new(Pace::Fast);
                let mut seen = Vec::new();
                let mut have = 0;
                while have < units {
                    have = (have + chunk).min(units);
                    schedule.audio(have, 640, false, MS(0));
                    seen.extend(drain(&mut schedule, MS(0)));
                }
                schedule.audio(units, 640, true, MS(0));
                seen.extend(drain(&mut schedule, MS(0)));
                assert_eq!(seen.len(), frames, "{units} units in chunks of {chunk}");
                assert!(seen.iter().zip(0..).all(|(frame, index)| frame.index == index));
                assert_eq!(seen.iter().filter(|frame| frame.last).count(), 1);
                assert!(seen.last().unwrap().last);
            }
        }
    }

    #[test]
    fn in_real_time_a_clip_takes_as_long_as_it_sounds() {
        let mut schedule = Schedule::new(Pace::Realtime);
        schedule.audio(6400, 640, true, MS(100));
        let mut times = Vec::new();
        let mut now = MS(100);
        while let Some(due) = schedule.due() {
            now = now.max(due);
            assert!(schedule.take(now).is_some());
            times.push(now);
        }
        assert_eq!(times, (0..10).map(|frame| MS(100 + 40 * frame)).collect::<Vec<_>>());
    }

    #[test]
    fn a_late_wake_up_catches_up_and_late_audio_does_not() {
        let mut schedule = Schedule::new(Pace::Realtime);
        schedule.audio(6400, 640, false, MS(0));
        assert_eq!(drain(&mut schedule, MS(200)).len(), 6);
        assert_eq!(schedule.due(), Some(MS(240)));
        assert_eq!(drain(&mut schedule, MS(1000)).len(), 3);
        assert_eq!(schedule.due(), None, "the newest frame waits for more audio or the end");
        schedule.audio(12_800, 640, true, MS(2000));
        assert_eq!(schedule.due(), Some(MS(2000)));
        assert_eq!(drain(&mut schedule, MS(2000)).len(), 1);
    }

    #[test]
    fn a_pause_holds_the_frames_and_what_it_held_is_not_rushed_after_it() {
        let mut schedule = Schedule::new(Pace::Realtime);
        schedule.audio(6400, 640, true, MS(0));
        assert_eq!(drain(&mut schedule, MS(40)).len(), 2);
        schedule.pause();
        assert_eq!(schedule.due(), None);
        schedule.resume(MS(1000));
        assert_eq!(drain(&mut schedule, MS(1000)).len(), 1);
        assert_eq!(schedule.due(), Some(MS(1040)));
    }
}
