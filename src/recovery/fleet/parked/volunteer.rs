//! A tenant whose sessions live only as long as their clients has nobody parked that could be called: the session of
//! a client that comes when the interval has passed is its probe.

use super::{Entry, Interval, ParkedSessions, Queue, Spot};
use crate::recovery::{Moment, SessionId, TenantId};

impl ParkedSessions {
    /// Whether a tenant's attempt of the interval is due, and nobody is there to be called for it.
    pub(in crate::recovery::fleet) fn wants_volunteer(&self, tenant: &TenantId, now: Moment) -> bool {
        let Some(ward) = self.wards.get(tenant).filter(|ward| ward.suspension.is_some()) else {
            return false;
        };
        match (&ward.interval, self.interval) {
            (Interval::Idle { since }, Some(span)) => now.since(*since) >= span,
            (Interval::Idle { .. } | Interval::Running { .. } | Interval::Probing(_), _) => false,
        }
    }

    /// A session that nobody called asks to be its tenant's probe; returns whether it is.
    pub(in crate::recovery::fleet) fn volunteer(
        &mut self,
        session: &SessionId,
        tenant: &TenantId,
        now: Moment,
    ) -> bool {
        if self.answer(session) {
            return true;
        }
        if !self.wants_volunteer(tenant, now) {
            return false;
        }
        self.forget(session, now);
        let Some(ward) = self.wards.get_mut(tenant) else { return false };
        ward.interval = Interval::Probing(session.clone());
        ward.called.insert(session.clone());
        let entry = Entry { tenant: tenant.clone(), queue: Queue::Blocked, spot: Spot::Volunteered };
        self.entries.insert(session.clone(), entry);
        true
    }

    /// The attempt of the interval that has just begun is due at once.
    pub(in crate::recovery::fleet) fn make_due(&mut self, tenant: &TenantId, now: Moment) {
        if let (Some(ward), Some(span)) = (self.wards.get_mut(tenant), self.interval)
            && matches!(ward.interval, Interval::Idle { .. })
        {
            ward.interval = Interval::Idle { since: now.minus(span) };
        }
    }
}
