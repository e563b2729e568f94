//! A store in memory that takes a while, and that fails at command, for tests of those who write.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{
    Answer, Batch, Durability, Entry, Key, Memory, Page, Prefix, Range, Records, Revision, Store, StoreError,
    Vault, Watch,
};

/// What a commit comes to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Health {
    #[default]
    Well,
    /// It is refused, and nothing is written.
    Full,
    /// It is written, and nobody knows.
    Unsure,
}

#[derive(Debug, Default)]
pub(crate) struct Disk {
    memory: Arc<Memory>,
    health: Mutex<Health>,
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
        let (memory, health) = (Arc::clone(&self.memory), self.health());
        let written = async move {
            // A commit takes a while, in which others note what they have to.
            tokio::time::sleep(Duration::from_millis(5)).await;
            memory.commit(batch).await
        };
        match health {
            Health::Well => Box::pin(written),
            Health::Full => Box::pin(async {
                tokio::task::yield_now().await;
                Err(StoreError::Unavailable { reason: "the disk is full".to_owned() })
            }),
            Health::Unsure => Box::pin(async {
                written.await?;
                Err(StoreError::Unsure { reason: "the disk failed".to_owned() })
            }),
        }
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
    /// A disk, and the records on it.
    pub(crate) fn with_records() -> (Arc<Self>, Records) {
        let disk = Arc::new(Self::default());
        let store: Arc<dyn Store> = Arc::<Self>::clone(&disk);
        (disk, Records::new(store, Arc::new(Vault::default())))
    }

    fn health(&self) -> Health {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the commits from now on come to.
    pub(crate) fn becomes(&self, health: Health) {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = health;
    }

    pub(crate) fn lists(&self) -> usize {
        self.lists.load(Ordering::Relaxed)
    }

    pub(crate) fn commits(&self) -> usize {
        self.commits.load(Ordering::Relaxed)
    }

    /// Those that have to wait for the disk.
    pub(crate) fn synced(&self) -> usize {
        self.synced.load(Ordering::Relaxed)
    }
}
