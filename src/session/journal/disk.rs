//! A store in memory that takes a while, and that fails at command.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::store::{
    Answer, Batch, Durability, Entry, Key, Memory, Page, Prefix, Range, Revision, Store, StoreError, Watch,
};

#[derive(Debug, Default)]
pub(in crate::session) struct Disk {
    memory: Arc<Memory>,
    is_broken: AtomicBool,
    commits: AtomicUsize,
    lists: AtomicUsize,
    synced: AtomicUsize,
}

impl Store for Disk {
    fn get(&self, key: &Key) -> Answer<Option<Entry>> {
        self.memory.get(key)
    }

    fn list(&self, range: &Range) -> Answer<Page> {
        self.lists.fetch_add(1, Ordering::Relaxed);
        self.memory.list(range)
    }

    fn commit(&self, batch: Batch) -> Answer<Revision> {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.synced.fetch_add(usize::from(batch.durability() == Durability::Synced), Ordering::Relaxed);
        if self.is_broken.load(Ordering::Relaxed) {
            let error = StoreError::Unavailable { reason: "the disk is full".to_owned() };
            return Box::pin(async move {
                tokio::task::yield_now().await;
                Err(error)
            });
        }
        let memory = Arc::clone(&self.memory);
        Box::pin(async move {
            // A commit takes a while, in which others note what they have to.
            tokio::time::sleep(Duration::from_millis(5)).await;
            memory.commit(batch).await
        })
    }

    fn watch(&self, prefix: &Prefix) -> Watch {
        self.memory.watch(prefix)
    }

    fn trouble(&self) -> Option<String> {
        None
    }

    fn close(&self) -> Answer<()> {
        self.memory.close()
    }
}

impl Disk {
    pub(in crate::session) fn is_broken(&self, is_broken: bool) {
        self.is_broken.store(is_broken, Ordering::Relaxed);
    }

    pub(in crate::session) fn lists(&self) -> usize {
        self.lists.load(Ordering::Relaxed)
    }

    pub(in crate::session) fn commits(&self) -> usize {
        self.commits.load(Ordering::Relaxed)
    }

    /// Those that have to wait for the disk.
    pub(in crate::session) fn synced(&self) -> usize {
        self.synced.load(Ordering::Relaxed)
    }
}
