//! What is counted, for the line at the end.

use std::collections::BTreeMap;

use greenroom::{
    errors::ErrorCode,
    outbox::Outcome,
    recovery::lifecycle::{Count, Effect},
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) events: u64,
    pub(crate) attempts: u64,
    pub(crate) breaks: u64,
    pub(crate) outages: u64,
    pub(crate) suspensions: u64,
    pub(crate) breaker_changes: u64,
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    pub(crate) pieces: u64,
    pub(crate) resent: u64,
    pub(crate) resumed: u64,
    pub(crate) late_frames: u64,
    /// Drop-in clients that were given a session, that were refused one, that came back in time, and whose service
    /// waited for them.
    pub(crate) clients: u64,
    pub(crate) turned_away: u64,
    pub(crate) returned: u64,
    pub(crate) dawdled: u64,
    pub(crate) exhausted: u64,
    pub(crate) recovered: u64,
    pub(crate) errors: BTreeMap<&'static str, u64>,
    pub(crate) failures: BTreeMap<&'static str, u64>,
    pub(crate) outcomes: BTreeMap<&'static str, u64>,
}

impl Tally {
    pub(crate) fn effect(&mut self, effect: &Effect) {
        let Effect::Count(count) = effect else { return };
        match count {
            Count::Error(error) => *self.errors.entry(error.code.as_str()).or_default() += 1,
            Count::Failure(code) => *self.failures.entry(code.as_str()).or_default() += 1,
            Count::BudgetExhausted => self.exhausted += 1,
            Count::Recovered(_) => self.recovered += 1,
            Count::Restart(_) | Count::Park(_) => {}
        }
    }

    pub(crate) fn outcome(&mut self, outcome: Outcome) {
        *self.outcomes.entry(outcome.as_str()).or_default() += 1;
    }

    /// The codes that never happened.
    pub(crate) fn unseen(&self) -> Vec<ErrorCode> {
        ErrorCode::ALL.into_iter().filter(|code| !self.errors.contains_key(code.as_str())).collect()
    }
}
