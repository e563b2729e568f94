//! The one clock of the process: the core is told its readings.

use std::time::{Duration, Instant, SystemTime};

use crate::recovery::Moment;

/// Relates the core's moments to the runtime's timers and to the calendar.
///
/// Moments count from 1970, so that what was stored is a moment for the process that reads it. The calendar is read
/// once: a step of the system's clock moves no deadline and reorders no history.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    /// The calendar's time at the start, since 1970.
    epoch: Duration,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        let epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { start: tokio::time::Instant::now().into_std(), epoch }
    }

    /// The reading now.
    pub fn now(&self) -> Moment {
        Moment::at(self.epoch + tokio::time::Instant::now().into_std().saturating_duration_since(self.start))
    }

    /// How long it is from now to `moment`; zero where it has passed.
    pub fn until(&self, moment: Moment) -> Duration {
        moment.since(self.now())
    }

    /// The calendar time of `moment`.
    pub fn calendar(&self, moment: Moment) -> SystemTime {
        SystemTime::UNIX_EPOCH + moment.since_start()
    }

    /// The calendar time of `moment` in RFC 3339, UTC, with milliseconds.
    pub fn rfc3339(&self, moment: Moment) -> String {
        humantime::format_rfc3339_millis(self.calendar(moment)).to_string()
    }
}
