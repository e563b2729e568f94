//! The slots: attempts that were granted and have not settled.
//!
//! An attempt that waits for its session's client has given its slot back: clients that dawdle must not keep others
//! from knocking. It is remembered until it settles, which is bounded by the number of sessions.

use std::collections::{BTreeMap, BTreeSet};

use super::{Pass, Turn};
use crate::recovery::{Moment, SessionId, TenantId};

/// An attempt under way.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) tenant: TenantId,
    /// Its number at the breaker.
    pub(super) turn: Turn,
    pub(super) hold: Hold,
    /// The session has asked again before this attempt settled.
    pub(super) again: Option<Pass>,
}

/// Whether an attempt has a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// It has, and loses it at this moment.
    Until(Moment),
    /// It waits for its session's client, which has a deadline of its own.
    GivenBack,
}

/// The attempts under way at one upstream.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots {
    attempts: BTreeMap<SessionId, Attempt>,
    deadlines: BTreeSet<(Moment, SessionId)>,
}

impl Slots {
    /// Slots that are taken.
    pub(super) fn taken(&self) -> usize {
        self.deadlines.len()
    }

    /// Whether no attempt is remembered.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.attempts.is_empty() && self.deadlines.is_empty()
    }

    pub(super) fn get(&self, session: &SessionId) -> Option<&Attempt> {
        self.attempts.get(session)
    }

    pub(super) fn get_mut(&mut self, session: &SessionId) -> Option<&mut Attempt> {
        self.attempts.get_mut(session)
    }

    pub(super) fn insert(&mut self, session: SessionId, attempt: Attempt) {
        if let Hold::Until(deadline) = attempt.hold {
            self.deadlines.insert((deadline, session.clone()));
        }
        self.attempts.insert(session, attempt);
    }

    /// The attempt gives its slot back and goes on; returns its number at the breaker where it had one.
    pub(super) fn give_back(&mut self, session: &SessionId) -> Option<Turn> {
        let attempt = self.attempts.get_mut(session)?;
        let Hold::Until(deadline) = attempt.hold else { return None };
        attempt.hold = Hold::GivenBack;
        self.deadlines.remove(&(deadline, session.clone()));
        Some(attempt.turn)
    }

    pub(super) fn remove(&mut self, session: &SessionId) -> Option<Attempt> {
        let attempt = self.attempts.remove(session)?;
        if let Hold::Until(deadline) = attempt.hold {
            self.deadlines.remove(&(deadline, session.clone()));
        }
        Some(attempt)
    }

    /// The first session whose attempt is past its deadline.
    pub(super) fn expired(&self, now: Moment) -> Option<SessionId> {
        self.deadlines.first().filter(|(deadline, _)| *deadline <= now).map(|(_, session)| session.clone())
    }

    pub(super) fn next_timeout(&self) -> Option<Moment> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// The sessions of a tenant that have an attempt under way.
    pub(super) fn of_tenant(&self, tenant: &TenantId) -> Vec<SessionId> {
        let theirs = self.attempts.iter().filter(|(_, attempt)| attempt.tenant == *tenant);
        theirs.map(|(session, _)| session.clone()).collect()
    }
}
