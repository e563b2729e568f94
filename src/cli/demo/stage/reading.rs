//! One reading of the figures, as both the lines and the table show them.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use crate::cli::figures::{self, Figures};

/// Over how long frames per second are counted: a little less than from line to line, so that a line is
/// compared with the one before it.
const RATE_OVER: Duration = Duration::from_millis(1900);
/// Readings that are remembered for it, at most: the table's four a second fit twice.
const MAX_REMEMBERED: usize = 16;

/// The figures at one moment.
#[derive(Clone, Debug, Default)]
pub(in crate::cli::demo) struct Reading {
    /// Since the demo began.
    pub(super) at: Duration,
    pub(super) states: BTreeMap<String, f64>,
    pub(super) errors: BTreeMap<String, f64>,
    pub(super) outcomes: BTreeMap<String, f64>,
    /// Requests that were accepted.
    pub(super) accepted: u64,
    pub(super) restarts: f64,
    /// From lost to running again, in seconds: the mean of all, and of those since the reading before.
    pub(super) recovery_mean: Option<f64>,
    pub(super) recovery_last: Option<f64>,
    pub(super) frames: f64,
    pub(super) frames_per_second: f64,
}

/// What readings are compared with.
#[derive(Debug, Default)]
pub(in crate::cli::demo) struct Window {
    frames: VecDeque<(Duration, f64)>,
    /// Recoveries so far, and their seconds.
    recoveries: (f64, f64),
    last: Option<f64>,
}

impl Window {
    /// Reads the figures `at` a time since the demo began.
    pub(in crate::cli::demo) fn read(&mut self, figures: &Figures, at: Duration, accepted: u64) -> Reading {
        let by = |metric, label| figures.by(metric, label);
        let frames = by("greenroom_frames_total", "direction").get("down").copied().unwrap_or_default();
        let recovery = "greenroom_session_recovery_seconds";
        let (count, sum) =
            (figures.total(&format!("{recovery}_count")), figures.total(&format!("{recovery}_sum")));
        let (count_before, sum_before) = self.recoveries;
        if count > count_before {
            self.last = Some((sum - sum_before) / (count - count_before));
            self.recoveries = (count, sum);
        }
        Reading {
            at,
            states: by("greenroom_sessions", "state"),
            errors: by("greenroom_session_errors_total", "code"),
            outcomes: by("greenroom_requests_total", "outcome"),
            accepted,
            restarts: figures.total("greenroom_session_restarts_total"),
            recovery_mean: figures.mean(recovery),
            recovery_last: self.last,
            frames,
            frames_per_second: self.rate(at, frames),
        }
    }

    fn rate(&mut self, at: Duration, frames: f64) -> f64 {
        // One that is older than the window is kept, so that the window is covered.
        while self.frames.len() >= MAX_REMEMBERED
            || self.frames.get(1).is_some_and(|(then, _)| at.saturating_sub(*then) >= RATE_OVER)
        {
            self.frames.pop_front();
        }
        let (then, before) = self.frames.front().copied().unwrap_or_default();
        self.frames.push_back((at, frames));
        let seconds = at.saturating_sub(then).as_secs_f64();
        if seconds > 0.0 { (frames - before) / seconds } else { 0.0 }
    }
}

impl Reading {
    /// The figures in one line.
    pub(super) fn line(&self) -> String {
        let recovery = self.recovery_mean.map_or("-".to_owned(), |mean| format!("{mean:.2} s"));
        format!(
            "{:>5.0} s  {} | errors {} | restarts {:.0} | recovery {recovery} | frames {:.0} (+{:.0}/s)",
            self.at.as_secs_f64(),
            figures::list(&self.states),
            figures::list(&self.errors),
            self.restarts,
            self.frames,
            self.frames_per_second,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(frames: u32, recoveries: u32, seconds: f64) -> Figures {
        Figures::read(&format!(
            "greenroom_frames_total{{direction=\"down\"}} {frames}\ngreenroom_sessions{{state=\"running\"}} 2\n\
             greenroom_session_recovery_seconds_count {recoveries}\n\
             greenroom_session_recovery_seconds_sum {seconds}\n"
        ))
    }

    #[test]
    fn frames_per_second_are_those_of_the_last_seconds() {
        let mut window = Window::default();
        for quarter in 0..40 {
            let at = Duration::from_millis(250 * quarter);
            let reading = window.read(&figures(0, 0, 0.0), at, 0);
            assert_eq!(reading.frames_per_second, 0.0);
        }
        let reading = window.read(&figures(100, 0, 0.0), Duration::from_secs(10), 0);
        assert_eq!(reading.frames_per_second, 50.0);
    }

    #[test]
    fn the_last_recovery_is_kept_until_the_next() {
        let mut window = Window::default();
        let mut last = |recoveries, seconds| {
            window.read(&figures(0, recoveries, seconds), Duration::ZERO, 0).recovery_last
        };
        assert_eq!(last(0, 0.0), None);
        assert_eq!(last(1, 0.5), Some(0.5));
        assert_eq!(last(1, 0.5), Some(0.5));
        assert_eq!(last(3, 4.5), Some(2.0));
    }

    #[test]
    fn a_line_has_all_figures() {
        let reading = Window::default().read(&figures(100, 2, 3.0), Duration::from_secs(4), 0);
        let line = "    4 s  running=2 | errors none | restarts 0 | recovery 1.50 s | frames 100 (+25/s)";
        assert_eq!(reading.line(), line);
    }
}
