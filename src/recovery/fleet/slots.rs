//! The slots: attempts that were granted and have not settled.

use std::collections::{BTreeMap, BTreeSet};

use super::{Pass, Turn};
use crate::recovery::{Moment, SessionId, TenantId};

/// An attempt under way.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) tenant: TenantId,
    /// Its number at the breaker.
    pub(super) turn: Turn,
    /// When it loses its slot.
    pub(super) deadline: Moment,
    /// The session has asked again before this attempt settled.
    pub(super) again: Option<Pass>,
}

/// The attempts under way at one upstream.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots {
    attempts: BTreeMap<SessionId, Attempt>,
    deadlines: BTreeSet<(Moment, SessionId)>,
}

impl Slots {
    pub(super) fn len(&self) -> usize {
        self.attempts.len()
    }

    pub(super) fn get(&self, session: &SessionId) -> Option<&Attempt> {
        self.attempts.get(session)
    }

    pub(super) fn get_mut(&mut self, session: &SessionId) -> Option<&mut Attempt> {
        self.attempts.get_mut(session)
    }

    pub(super) fn insert(&mut self, session: SessionId, attempt: Attempt) {
        self.deadlines.insert((attempt.deadline, session.clone()));
        self.attempts.insert(session, attempt);
    }

    pub(super) fn remove(&mut self, session: &SessionId) -> Option<Attempt> {
        let attempt = self.attempts.remove(session)?;
        self.deadlines.remove(&(attempt.deadline, session.clone()));
        Some(attempt)
    }

    /// The first session whose attempt is past its deadline.
    pub(super) fn expired(&self, now: Moment) -> Option<SessionId> {
        self.deadlines.first().filter(|(deadline, _)| *deadline <= now).map(|(_, session)| session.clone())
    }

    pub(super) fn next_timeout(&self) -> Option<Moment> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// The sessions of a tenant that have an attempt under way; there are never more attempts than slots.
    pub(super) fn of_tenant(&self, tenant: &TenantId) -> Vec<SessionId> {
        let theirs = self.attempts.iter().filter(|(_, attempt)| attempt.tenant == *tenant);
        theirs.map(|(session, _)| session.clone()).collect()
    }
}
