//! The breaker: nobody knocks at a service that does not answer.

use std::{collections::VecDeque, time::Duration};

use crate::recovery::Moment;

/// The window moves in this many steps: enough that it forgets smoothly, few enough to add up each time.
const BUCKETS: u64 = 10;

/// When the breaker opens, and how it closes again.
#[derive(Clone, Debug, PartialEq)]
pub struct BreakerConfig {
    /// The time over which attempts are counted.
    pub window: Duration,
    /// With fewer attempts in the window it stays closed.
    pub min_attempts: u32,
    /// It opens when this part of the attempts failed, from 0 to 1; and when the last [`Self::min_attempts`] failed
    /// in a row within the window, whatever went before: many successes of a minute ago say nothing of now.
    pub failure_ratio: f64,
    /// How long it stays open the first time.
    pub open_for: Duration,
    /// The longest that it stays open, after any number of failed probes.
    pub open_max: Duration,
    /// How many probes in a row must succeed before it closes.
    pub probes: u32,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(10),
            min_attempts: 20,
            failure_ratio: 0.5,
            open_for: Duration::from_secs(5),
            open_max: Duration::from_secs(60),
            probes: 3,
        }
    }
}

/// The number of an attempt that the breaker let pass; later ones are greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn(u64);

/// A breaker's state, with what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Attempts pass and are counted.
    Closed,
    /// Nobody knocks.
    Open {
        /// When it becomes half-open.
        until: Moment,
        /// How long it is open in all, this time.
        lasts: Duration,
    },
    /// One attempt at a time passes, to see how the service is.
    HalfOpen {
        /// How long it was open before.
        lasts: Duration,
        /// Successful probes so far, in a row.
        successes: u32,
        /// The probe under way.
        probe: Option<Turn>,
    },
    /// An operator holds it open.
    Forced,
}

/// What an attempt says about the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// It answered, whatever the answer was.
    Well,
    /// It gave no answer, or one that speaks of trouble of its own.
    Unwell,
    /// Nothing.
    Silent,
}

/// The breaker of one upstream endpoint.
#[derive(Clone, Debug)]
pub(super) struct Breaker {
    config: BreakerConfig,
    state: BreakerState,
    window: Window,
    next_turn: Turn,
    /// The first turn after the last change of state: what earlier ones find is old news.
    current_from: Turn,
}

impl Breaker {
    pub(super) fn new(config: BreakerConfig) -> Self {
        Self {
            window: Window::new(config.window),
            config,
            state: BreakerState::Closed,
            next_turn: Turn::default(),
            current_from: Turn::default(),
        }
    }

    pub(super) const fn state(&self) -> BreakerState {
        self.state
    }

    /// Whether an attempt may pass now.
    pub(super) const fn admits(&self) -> bool {
        match self.state {
            BreakerState::Closed => true,
            BreakerState::HalfOpen { probe, .. } => probe.is_none(),
            BreakerState::Open { .. } | BreakerState::Forced => false,
        }
    }

    /// Lets an attempt pass, which [`Breaker::admits`] must have allowed.
    pub(super) fn admit(&mut self) -> Turn {
        debug_assert!(self.admits(), "an attempt passed a breaker that admits none");
        let turn = self.next_turn;
        self.next_turn = Turn(turn.0 + 1);
        if let BreakerState::HalfOpen { probe, .. } = &mut self.state {
            *probe = Some(turn);
        }
        turn
    }

    /// An attempt waits for somebody else than the service: the next may pass, and what this one finds still
    /// counts.
    pub(super) fn release(&mut self, turn: Turn) {
        if let BreakerState::HalfOpen { probe, .. } = &mut self.state
            && *probe == Some(turn)
        {
            *probe = None;
        }
    }

    /// Takes what an attempt found; returns the new state where it has changed.
    pub(super) fn settle(&mut self, turn: Turn, finding: Finding, now: Moment) -> Option<BreakerState> {
        match self.state {
            BreakerState::Closed if turn >= self.current_from => self.count(finding, now),
            BreakerState::HalfOpen { lasts, successes, probe } if turn >= self.current_from => {
                let under_way = probe.filter(|probing| *probing != turn);
                self.probed(lasts, successes, under_way, finding, now)
            }
            BreakerState::Closed
            | BreakerState::HalfOpen { .. }
            | BreakerState::Open { .. }
            | BreakerState::Forced => None,
        }
    }

    fn count(&mut self, finding: Finding, now: Moment) -> Option<BreakerState> {
        match finding {
            Finding::Silent => return None,
            Finding::Well => self.window.add(Tally { attempts: 1, ..Tally::default() }, now),
            Finding::Unwell => self.window.add(Tally { attempts: 1, failures: 1, in_a_row: 1 }, now),
        }
        let Tally { attempts, failures, in_a_row } = self.window.total();
        let is_bad = f64::from(failures) >= f64::from(attempts) * self.config.failure_ratio;
        let opens = (attempts >= self.config.min_attempts && is_bad) || in_a_row >= self.config.min_attempts;
        opens.then(|| self.open(self.config.open_for, now))
    }

    fn probed(
        &mut self,
        lasts: Duration,
        successes: u32,
        probe: Option<Turn>,
        finding: Finding,
        now: Moment,
    ) -> Option<BreakerState> {
        match finding {
            Finding::Well if successes + 1 >= self.config.probes => Some(self.enter(BreakerState::Closed)),
            Finding::Well => {
                self.state = BreakerState::HalfOpen { lasts, successes: successes + 1, probe };
                None
            }
            Finding::Unwell => Some(self.open(lasts.saturating_mul(2), now)),
            Finding::Silent => {
                self.state = BreakerState::HalfOpen { lasts, successes, probe };
                None
            }
        }
    }

    /// Lets time pass; returns the new state where it has changed.
    pub(super) fn tick(&mut self, now: Moment) -> Option<BreakerState> {
        match self.state {
            BreakerState::Open { until, lasts } if now >= until => {
                Some(self.enter(BreakerState::HalfOpen { lasts, successes: 0, probe: None }))
            }
            BreakerState::Open { .. }
            | BreakerState::Closed
            | BreakerState::HalfOpen { .. }
            | BreakerState::Forced => None,
        }
    }

    /// When [`Breaker::tick`] is due.
    pub(super) const fn next_timeout(&self) -> Option<Moment> {
        match self.state {
            BreakerState::Open { until, .. } => Some(until),
            BreakerState::Closed | BreakerState::HalfOpen { .. } | BreakerState::Forced => None,
        }
    }

    /// An operator holds it open, until [`Breaker::close`].
    pub(super) fn force(&mut self) -> Option<BreakerState> {
        (self.state != BreakerState::Forced).then(|| self.enter(BreakerState::Forced))
    }

    /// An operator closes it; what was counted is forgotten.
    pub(super) fn close(&mut self) -> Option<BreakerState> {
        (self.state != BreakerState::Closed).then(|| self.enter(BreakerState::Closed))
    }

    fn open(&mut self, lasts: Duration, now: Moment) -> BreakerState {
        let lasts = lasts.min(self.config.open_max);
        self.enter(BreakerState::Open { until: now + lasts, lasts })
    }

    fn enter(&mut self, state: BreakerState) -> BreakerState {
        self.state = state;
        self.current_from = self.next_turn;
        self.window = Window::new(self.config.window);
        state
    }
}

/// What was counted over some time.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    attempts: u32,
    failures: u32,
    /// Failures since the last success.
    in_a_row: u32,
}

impl Tally {
    const fn and(self, other: Self) -> Self {
        Self {
            attempts: self.attempts.saturating_add(other.attempts),
            failures: self.failures.saturating_add(other.failures),
            in_a_row: self.in_a_row.saturating_add(other.in_a_row),
        }
    }
}

/// The attempts of the last `BUCKETS` steps of time.
#[derive(Clone, Debug)]
struct Window {
    step: Duration,
    /// At most `BUCKETS`, oldest first; steps without an attempt have none.
    buckets: VecDeque<Bucket>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    step: u128,
    tally: Tally,
}

impl Window {
    fn new(window: Duration) -> Self {
        // A window of no length would divide by zero.
        let step = (window / BUCKETS as u32).max(Duration::from_nanos(1));
        Self { step, buckets: VecDeque::new() }
    }

    fn add(&mut self, tally: Tally, now: Moment) {
        let step = now.since_start().as_nanos() / self.step.as_nanos();
        while self.buckets.front().is_some_and(|oldest| oldest.step + u128::from(BUCKETS) <= step) {
            self.buckets.pop_front();
        }
        if tally.failures == 0 {
            for bucket in &mut self.buckets {
                bucket.tally.in_a_row = 0;
            }
        }
        match self.buckets.back_mut() {
            Some(latest) if latest.step == step => latest.tally = latest.tally.and(tally),
            Some(_) | None => self.buckets.push_back(Bucket { step, tally }),
        }
    }

    fn total(&self) -> Tally {
        self.buckets.iter().fold(Tally::default(), |total, bucket| total.and(bucket.tally))
    }
}
