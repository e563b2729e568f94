//! What is in the log and not in the database yet.
//!
//! A transaction of redb costs many times what a write to the log does, and whoever waits for an answer would wait for
//! both. So batches that need not wait for the disk are answered from the log, and applied together: with the next
//! transaction that is needed anyway, and with the sync of the log at the latest. Until then readers find them here.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::store::{Batch, Change, Key, Prefix, Revision};

/// The latest change of each key, with the revision of its batch.
pub(super) type Changes = BTreeMap<Key, (Revision, Change)>;

/// Changes that readers are to see over those of the database. As large as the log at most.
#[derive(Debug, Default)]
pub(super) struct Unapplied(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    changes: Arc<Changes>,
    /// That of the latest batch, in the database or here.
    latest: Revision,
}

impl Unapplied {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics half-way through a change, so a poisoned lock holds a whole value.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The revision of the latest batch that was accepted.
    pub(super) fn latest(&self) -> Revision {
        self.inner().latest
    }

    /// Adds batches that the log has, with their revisions.
    pub(super) fn add<'a>(&self, batches: impl Iterator<Item = (Revision, &'a Batch)>) {
        let mut inner = self.inner();
        for (revision, batch) in batches {
            inner.latest = revision;
            // Copied only where somebody still applies what was there before.
            let changes = Arc::make_mut(&mut inner.changes);
            for (key, change) in batch.changes() {
                changes.insert(key.clone(), (revision, change.clone()));
            }
        }
    }

    /// The database has all of it, and `latest` as its revision.
    pub(super) fn applied(&self, latest: Revision) {
        let applied = std::mem::replace(&mut *self.inner(), Inner { changes: Arc::default(), latest });
        // When readers do not wait for it any more.
        drop(applied);
    }

    /// All of it, to be applied. Only the thread that writes adds to it.
    pub(super) fn all(&self) -> Arc<Changes> {
        Arc::clone(&self.inner().changes)
    }

    /// What is to be seen of `key`. To be asked before a snapshot of the database is taken: what has gone from here then
    /// is in that.
    pub(super) fn of(&self, key: &Key) -> Option<(Revision, Change)> {
        self.inner().changes.get(key).cloned()
    }

    /// The same of a prefix from `start` on, with the revision that all of it amounts to.
    pub(super) fn under(&self, prefix: &Prefix, start: &str) -> (Revision, Changes) {
        let inner = self.inner();
        let found = inner.changes.range(Key::new(start)..).take_while(|(key, _)| prefix.holds(key));
        (inner.latest, found.map(|(key, change)| (key.clone(), change.clone())).collect())
    }
}
