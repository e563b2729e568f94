//! All sessions, readable from every thread without asking an actor.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use crate::{
    recovery::{SessionId, TenantId},
    session::SessionEntry,
};

type Entries = BTreeMap<SessionId, Arc<SessionEntry>>;

#[derive(Debug, Default)]
struct Index {
    all: Entries,
    by_tenant: BTreeMap<TenantId, Entries>,
}

/// The sessions by id, in all and for each tenant. Ids sort by the time of their making.
#[derive(Debug, Default)]
pub struct Registry {
    index: RwLock<Index>,
}

/// A page of a listing.
#[derive(Debug)]
pub struct Page {
    /// The sessions.
    pub entries: Vec<Arc<SessionEntry>>,
    /// The last id that was looked at, where there is more after it.
    pub next: Option<SessionId>,
}

/// Sessions that one page looks at, so that a filter that matches nothing does not hold the lock over all of
/// them; the page is short then and says where to go on.
const MAX_LOOKED_AT: usize = 10_000;

impl Registry {
    fn read(&self) -> RwLockReadGuard<'_, Index> {
        // Nothing here panics half-way through a change, so a poisoned lock holds a whole index.
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn insert(&self, entry: Arc<SessionEntry>) {
        let mut index = self.write();
        index.by_tenant.entry(entry.tenant.clone()).or_default().insert(entry.id.clone(), Arc::clone(&entry));
        index.all.insert(entry.id.clone(), entry);
    }

    pub(super) fn remove(&self, id: &SessionId) {
        let mut index = self.write();
        let Some(entry) = index.all.remove(id) else { return };
        let emptied = index.by_tenant.get_mut(&entry.tenant).is_some_and(|entries| {
            entries.remove(id);
            entries.is_empty()
        });
        if emptied {
            index.by_tenant.remove(&entry.tenant);
        }
    }

    /// The session with this id.
    pub fn get(&self, id: &str) -> Option<Arc<SessionEntry>> {
        self.read().all.get(id).cloned()
    }

    /// Sessions in all.
    pub fn len(&self) -> usize {
        self.read().all.len()
    }

    /// Whether there is no session.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All sessions of a tenant.
    pub fn of_tenant(&self, tenant: &TenantId) -> Vec<Arc<SessionEntry>> {
        self.read()
            .by_tenant
            .get(tenant)
            .map(|entries| entries.values().cloned().collect())
            .unwrap_or_default()
    }

    /// All sessions.
    pub fn all(&self) -> Vec<Arc<SessionEntry>> {
        self.read().all.values().cloned().collect()
    }

    /// A page of at most `limit` sessions after `after`, of one tenant or of all, that `wanted` holds for.
    pub fn page(
        &self,
        tenant: Option<&TenantId>,
        after: Option<&SessionId>,
        limit: usize,
        wanted: impl Fn(&SessionEntry) -> bool,
    ) -> Page {
        let index = self.read();
        let entries = match tenant {
            Some(tenant) => index.by_tenant.get(tenant),
            None => Some(&index.all),
        };
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut page = Page { entries: Vec::new(), next: None };
        let Some(entries) = entries else { return page };
        let mut last: Option<&SessionId> = None;
        for (looked_at, (id, entry)) in entries.range::<SessionId, _>((start, Bound::Unbounded)).enumerate() {
            if page.entries.len() >= limit || looked_at >= MAX_LOOKED_AT {
                page.next = last.cloned();
                break;
            }
            if wanted(entry) {
                page.entries.push(Arc::clone(entry));
            }
            last = Some(id);
        }
        page
    }
}
