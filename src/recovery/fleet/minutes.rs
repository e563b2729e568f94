//! Tenants whose connections have lasted for as long as they may in a day.
//!
//! Nothing of such a tenant knocks, with whatever right it asks: the bound is the owner's, and no attempt could
//! find out that it is lifted. Its sessions wait here until whoever counts the minutes says that there are some.

use std::collections::{BTreeMap, BTreeSet};

use crate::recovery::{SessionId, TenantId};

/// Tenants without minutes, and the sessions that wait for some.
#[derive(Clone, Debug, Default)]
pub(super) struct Minutes {
    used: BTreeMap<TenantId, BTreeSet<SessionId>>,
    tenants: BTreeMap<SessionId, TenantId>,
}

impl Minutes {
    pub(super) fn are_used(&self, tenant: &TenantId) -> bool {
        self.used.contains_key(tenant)
    }

    pub(super) fn use_up(&mut self, tenant: TenantId) {
        self.used.entry(tenant).or_default();
    }

    /// A session waits for minutes; answers whether its tenant has none.
    pub(super) fn park(&mut self, session: &SessionId, tenant: &TenantId) -> bool {
        let Some(waiting) = self.used.get_mut(tenant) else { return false };
        waiting.insert(session.clone());
        self.tenants.insert(session.clone(), tenant.clone());
        true
    }

    pub(super) fn forget(&mut self, session: &SessionId) {
        let Some(tenant) = self.tenants.remove(session) else { return };
        if let Some(waiting) = self.used.get_mut(&tenant) {
            waiting.remove(session);
        }
    }

    /// There are minutes again: whoever waited, in the order of their making.
    pub(super) fn renew(&mut self, tenant: &TenantId) -> BTreeSet<SessionId> {
        let waiting = self.used.remove(tenant).unwrap_or_default();
        for session in &waiting {
            self.tenants.remove(session);
        }
        waiting
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.used.is_empty() && self.tenants.is_empty()
    }
}
