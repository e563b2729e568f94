//! The fault plan at work: which fault strikes next, and how often each has struck. Pure.

use std::{collections::BTreeSet, time::Duration};

use serde::Serialize;

use super::{
    fault_check::FaultError,
    faults::{Effect, Fault, Point, Who},
};

/// More faults than any scenario writes down; beyond it each message would walk a long list.
const MAX_FAULTS: usize = 1_000;

/// A fault of the plan, as `GET /_sim/faults` lists it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlannedFault {
    /// Its number, in the order of addition.
    pub id: u64,
    /// How often it has struck.
    pub hits: u64,
    /// The fault.
    pub fault: Fault,
}

impl PlannedFault {
    fn is_spent(&self) -> bool {
        self.fault.times.is_some_and(|times| self.hits >= times)
    }
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) chunks: u64,
    pub(super) frames: u64,
    /// Since the confirm.
    pub(super) elapsed: Duration,
}

impl Progress {
    fn reached(self, at: Point) -> bool {
        match at {
            Point::Token | Point::Upgrade | Point::Handshake => false,
            Point::AfterChunks(chunks) => self.chunks >= chunks,
            Point::AfterSeconds(seconds) => self.elapsed >= Duration::from_secs_f64(seconds),
            Point::AfterFrames(frames) => self.frames >= frames,
        }
    }
}

/// The faults in order of addition: the first that matches strikes, alone.
#[derive(Debug, Default)]
pub(super) struct FaultPlan {
    planned: Vec<PlannedFault>,
    next_id: u64,
}

impl FaultPlan {
    /// Adds a fault and gives its number.
    pub(super) fn add(&mut self, fault: Fault) -> Result<u64, FaultError> {
        fault.check()?;
        if self.planned.len() >= MAX_FAULTS {
            return Err(FaultError::Full(MAX_FAULTS));
        }
        self.next_id += 1;
        self.planned.push(PlannedFault { id: self.next_id, hits: 0, fault });
        Ok(self.next_id)
    }

    pub(super) fn clear(&mut self) {
        self.planned.clear();
    }

    pub(super) fn list(&self) -> &[PlannedFault] {
        &self.planned
    }

    /// What strikes at the token call, the upgrade or the handshake. `draw` gives a random number in 0..1
    /// for a fault's number.
    pub(super) fn strike(
        &mut self,
        at: Point,
        who: &Who,
        draw: &mut dyn FnMut(u64) -> f64,
    ) -> Option<(u64, Effect)> {
        let struck = self.planned.iter_mut().find(|planned| {
            planned.fault.at == at
                && !planned.is_spent()
                && planned.fault.who.matches(who)
                && planned.fault.chance.is_none_or(|chance| draw(planned.id) < chance)
        })?;
        struck.hits += 1;
        Some((struck.id, struck.fault.effect.clone()))
    }

    /// What strikes a connection that has come so far. `settled` are the faults that this connection has
    /// behind it, by striking or by chance: each concerns a connection once.
    pub(super) fn strike_live(
        &mut self,
        progress: Progress,
        who: &Who,
        settled: &mut BTreeSet<u64>,
        draw: &mut dyn FnMut(u64) -> f64,
    ) -> Option<(u64, Effect)> {
        for planned in &mut self.planned {
            let due = progress.reached(planned.fault.at)
                && !planned.is_spent()
                && planned.fault.who.matches(who)
                && settled.insert(planned.id);
            if due && planned.fault.chance.is_none_or(|chance| draw(planned.id) < chance) {
                planned.hits += 1;
                return Some((planned.id, planned.fault.effect.clone()));
            }
        }
        None
    }

    /// The soonest time after the confirm at which the clock alone makes a fault strike.
    pub(super) fn next_due(&self, who: &Who, settled: &BTreeSet<u64>) -> Option<Duration> {
        let due = |planned: &PlannedFault| match planned.fault.at {
            Point::AfterSeconds(seconds)
                if !planned.is_spent()
                    && !settled.contains(&planned.id)
                    && planned.fault.who.matches(who) =>
            {
                Some(Duration::from_secs_f64(seconds))
            }
            Point::AfterSeconds(_)
            | Point::Token
            | Point::Upgrade
            | Point::Handshake
            | Point::AfterChunks(_)
            | Point::AfterFrames(_) => None,
        };
        self.planned.iter().filter_map(due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::faults::Filter;

    fn who(avatar: &str) -> Who {
        Who { avatar_id: Some(avatar.into()), api_key: Some("k".into()), ..Who::default() }
    }

    fn certain() -> impl FnMut(u64) -> f64 {
        |_| 0.0
    }

    #[test]
    fn the_first_match_strikes_until_it_is_spent_and_then_the_next() {
        let mut plan = FaultPlan::default();
        plan.add(Fault::new(Point::Upgrade, Effect::http(402)).only(Filter::avatar("b"))).unwrap();
        plan.add(Fault::new(Point::Upgrade, Effect::http(503)).times(2)).unwrap();
        plan.add(Fault::new(Point::Upgrade, Effect::http(429))).unwrap();
        let mut strikes = || plan.strike(Point::Upgrade, &who("a"), &mut certain()).map(|(_, effect)| effect);
        assert_eq!(strikes(), Some(Effect::http(503)));
        assert_eq!(strikes(), Some(Effect::http(503)));
        assert_eq!(strikes(), Some(Effect::http(429)));
        assert_eq!(plan.strike(Point::Upgrade, &who("b"), &mut certain()), Some((1, Effect::http(402))));
        assert_eq!(plan.strike(Point::Token, &who("b"), &mut certain()), None);
        assert_eq!(plan.list().iter().map(|planned| planned.hits).collect::<Vec<_>>(), [1, 2, 1]);
    }

    #[test]
    fn a_live_fault_concerns_each_connection_once() {
        let mut plan = FaultPlan::default();
        plan.add(Fault::new(Point::AfterChunks(2), Effect::close(4001, ""))).unwrap();
        let mut settled = BTreeSet::new();
        let at = |chunks| Progress { chunks, ..Progress::default() };
        assert_eq!(plan.strike_live(at(1), &who("a"), &mut settled, &mut certain()), None);
        assert!(plan.strike_live(at(2), &who("a"), &mut settled, &mut certain()).is_some());
        assert_eq!(plan.strike_live(at(3), &who("a"), &mut settled, &mut certain()), None);
        assert!(plan.strike_live(at(9), &who("a"), &mut BTreeSet::new(), &mut certain()).is_some());
    }

    #[test]
    fn chance_is_drawn_once_per_connection() {
        let mut plan = FaultPlan::default();
        let fault = Fault::new(Point::AfterFrames(1), Effect::Silence {});
        plan.add(Fault { chance: Some(0.5), ..fault }).unwrap();
        let progress = Progress { frames: 1, ..Progress::default() };
        let mut settled = BTreeSet::new();
        assert_eq!(plan.strike_live(progress, &who("a"), &mut settled, &mut |_| 0.9), None);
        assert_eq!(plan.strike_live(progress, &who("a"), &mut settled, &mut |_| 0.1), None);
        assert!(plan.strike_live(progress, &who("a"), &mut BTreeSet::new(), &mut |_| 0.1).is_some());
    }

    #[test]
    fn the_clock_waits_for_the_soonest_fault_that_is_left() {
        let mut plan = FaultPlan::default();
        plan.add(Fault::new(Point::AfterSeconds(5.0), Effect::Silence {})).unwrap();
        let soon = plan.add(Fault::new(Point::AfterSeconds(2.0), Effect::Silence {})).unwrap();
        let mut settled = BTreeSet::new();
        assert_eq!(plan.next_due(&who("a"), &settled), Some(Duration::from_secs(2)));
        settled.insert(soon);
        assert_eq!(plan.next_due(&who("a"), &settled), Some(Duration::from_secs(5)));
    }
}
