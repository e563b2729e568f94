//! What the connections of one tenant cost, also where its metrics are counted with others'.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Connections, and the time that they were open, up to `read_at`. Pure: times are arguments, since 1970.
#[derive(Debug, Default)]
struct Meter {
    open: u32,
    total: Duration,
    today: Duration,
    read_at: Duration,
}

impl Meter {
    /// Counts the time of the open connections up to `now`. What is before midnight (UTC) is yesterday's.
    fn read(&mut self, now: Duration) {
        let day_began = Duration::from_secs(now.as_secs() / DAY.as_secs() * DAY.as_secs());
        if self.read_at < day_began {
            self.today = Duration::ZERO;
        }
        let within_day = now.saturating_sub(self.read_at.max(day_began));
        self.total += now.saturating_sub(self.read_at) * self.open;
        self.today += within_day * self.open;
        self.read_at = self.read_at.max(now);
    }
}

/// A tenant's connections to the avatar service, and the time that they were open.
#[derive(Debug)]
pub struct TenantUsage {
    meter: Mutex<Meter>,
    /// The calendar is read once: a step of the system's clock must neither add time nor take any away.
    start: (Instant, Duration),
}

impl Default for TenantUsage {
    fn default() -> Self {
        let epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let meter = Meter { read_at: epoch, ..Meter::default() };
        Self { meter: Mutex::new(meter), start: (Instant::now(), epoch) }
    }
}

impl TenantUsage {
    fn now(&self) -> Duration {
        let (start, epoch) = self.start;
        epoch + start.elapsed()
    }

    /// The meter as it is now.
    fn read(&self) -> MutexGuard<'_, Meter> {
        // Nothing here panics half-way through a change, so a poisoned lock holds a whole value.
        let mut meter = self.meter.lock().unwrap_or_else(PoisonError::into_inner);
        meter.read(self.now());
        meter
    }

    /// Connections that are open now.
    pub fn connections(&self) -> u32 {
        self.read().open
    }

    /// How long connections were open since the process started, all together.
    pub fn connected(&self) -> Duration {
        self.read().total
    }

    /// How long connections were open on this day (UTC), all together.
    pub fn connected_today(&self) -> Duration {
        self.read().today
    }

    /// The number of this day (UTC) since 1970.
    pub fn day(&self) -> u64 {
        self.now().as_secs() / DAY.as_secs()
    }

    /// An earlier process has counted so much on `day`.
    pub fn resume(&self, day: u64, connected: Duration) {
        let mut meter = self.read();
        if day == self.day() {
            meter.today += connected;
        }
    }

    pub(super) fn opened(&self) {
        let mut meter = self.read();
        meter.open = meter.open.saturating_add(1);
    }

    pub(super) fn closed(&self) {
        let mut meter = self.read();
        meter.open = meter.open.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIDNIGHT: u64 = 20_000 * 24 * 3600;

    fn at(seconds: i64) -> Duration {
        Duration::from_secs(MIDNIGHT.checked_add_signed(seconds).unwrap())
    }

    #[test]
    fn each_open_connection_counts_and_the_day_begins_at_midnight() {
        let mut meter = Meter { read_at: at(-100), ..Meter::default() };
        // (second, connections from then on, total, today)
        for (second, open, total, today) in [
            (-100, 2, 0, 0),
            (-60, 3, 80, 80),
            (-30, 1, 170, 170),
            (10, 0, 210, 10),
            (500, 1, 210, 10),
            (510, 0, 220, 20),
            (24 * 3600 + 5, 0, 220, 0),
        ] {
            meter.read(at(second));
            meter.open = open;
            let seen = (meter.total.as_secs(), meter.today.as_secs());
            assert_eq!(seen, (total, today), "at {second} s");
        }
    }

    #[test]
    fn a_clock_that_goes_back_takes_nothing_away_and_counts_nothing_twice() {
        let mut meter = Meter { open: 1, read_at: at(0), ..Meter::default() };
        for second in [10, 5, 10, 20] {
            meter.read(at(second));
        }
        assert_eq!((meter.total, meter.today), (Duration::from_secs(20), Duration::from_secs(20)));
    }

    #[test]
    fn what_an_earlier_process_counted_today_counts_and_what_it_counted_before_does_not() {
        let usage = TenantUsage::default();
        let today = usage.day();
        usage.resume(today - 1, Duration::from_secs(1000));
        usage.resume(today, Duration::from_secs(60));
        assert_eq!(usage.connected_today(), Duration::from_secs(60));
        assert_eq!(usage.connected(), Duration::ZERO);
    }
}
