//! What must survive: tenants, sessions, idempotency keys and histories, behind one trait.
//!
//! [`Store`] has what an embedded file and an etcd cluster both have: reading a key, listing a prefix page by page,
//! writing a batch under conditions, and watching. [`Embedded`] keeps everything in one file of redb, [`Memory`]
//! nowhere. [`Records`] knows what the values mean, seals the secrets in them and never writes one in clear.
//!
//! An answer of success comes after the commit: whoever sends a 2xx after it has sent it with the promise kept.
//! Nothing is written as a sign of life.

mod batch;
mod client_keys;
#[cfg(test)]
pub(crate) mod disk;
mod embedded;
mod error;
mod fault;
mod key;
mod memory;
pub mod records;
mod seal;
mod watch;

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;

pub use batch::{Batch, Change, Durability, Expect, Revision};
pub use client_keys::{ClientKeyHash, Pepper};
pub use embedded::{Embedded, SCHEMA};
pub use error::{OpenError, StoreError};
pub use key::{Key, Prefix, SHARDS, Shard};
pub use memory::Memory;
pub use records::Records;
pub use seal::{Protected, StoreKey, Vault};
pub use watch::{Event, News, Watch};

/// What a store will answer. The request is on its way when the future is made, and dropping that takes nothing
/// back. Has to be awaited in a tokio runtime with time.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;

/// A place that keeps records.
pub trait Store: fmt::Debug + Send + Sync {
    /// The record of `key`, or `None` where there is none.
    fn get(&self, key: &Key) -> Answer<Option<Entry>>;

    /// A page of the records under a prefix, in the order of their keys, all as they were at one moment.
    fn list(&self, range: &Range) -> Answer<Page>;

    /// Writes `batch` as a whole, and answers with its revision when it is as durable as its [`Durability`] says.
    ///
    /// [`StoreError::Conflict`] where a condition does not hold.
    fn commit(&self, batch: Batch) -> Answer<Revision>;

    /// Follows what is written under `prefix` from now on.
    fn watch(&self, prefix: &Prefix) -> Watch;

    /// Why the store cannot be used at present, for readiness; `None` where it can.
    fn trouble(&self) -> Option<String>;

    /// Carries out what waits and lets go of the file or the connection. Later requests are [`StoreError::Closed`].
    fn close(&self) -> Answer<()>;

    /// Writes one record, whatever was there.
    fn put(&self, key: Key, value: Bytes) -> Answer<Revision> {
        self.commit(Batch::new().put(key, value))
    }

    /// Writes one record where it is what is expected.
    fn compare_and_put(&self, key: Key, expect: Expect, value: Bytes) -> Answer<Revision> {
        self.commit(Batch::new().only_if(key.clone(), expect).put(key, value))
    }

    /// Deletes one record where it is what is expected.
    fn compare_and_delete(&self, key: Key, expect: Expect) -> Answer<Revision> {
        self.commit(Batch::new().only_if(key.clone(), expect).delete(key))
    }
}

/// A record as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub key: Key,
    /// The revision of the batch that wrote it.
    pub revision: Revision,
    /// Its value.
    pub value: Bytes,
}

/// Which records to list.
#[derive(Clone, Debug)]
pub struct Range {
    /// The beginning of their keys.
    pub prefix: Prefix,
    /// The key after which to go on: that of the last record of the page before.
    pub after: Option<Key>,
    /// The most records of the page; at most [`Range::MAX_LIMIT`] are given.
    pub limit: usize,
}

impl Range {
    /// The most records of a page, so that no list holds up those who wait behind it.
    pub const MAX_LIMIT: usize = 1000;
    /// The bytes of values after which a page ends: one page of the largest values would be half a gigabyte.
    const MAX_BYTES: usize = 4 * 1024 * 1024;

    /// The first page of a prefix.
    pub const fn first(prefix: Prefix) -> Self {
        Self { prefix, after: None, limit: Self::MAX_LIMIT }
    }
}

/// Some of the records under a prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The records, in the order of their keys.
    pub entries: Vec<Entry>,
    /// The key to go on after; `None` where this was the last page.
    pub next: Option<Key>,
    /// The revision of the latest batch that the page knows of.
    pub revision: Revision,
}

/// Builds a page from records in the order of their keys, the first of which are the range's.
fn page_of<E>(
    range: &Range,
    revision: Revision,
    entries: impl Iterator<Item = Result<Entry, E>>,
) -> Result<Page, E> {
    let limit = range.limit.clamp(1, Range::MAX_LIMIT);
    let (mut page, mut bytes) = (Page { revision, ..Page::default() }, 0);
    for entry in entries {
        let entry = entry?;
        if !range.prefix.holds(&entry.key) {
            break;
        }
        if page.entries.len() == limit || bytes >= Range::MAX_BYTES {
            page.next = page.entries.last().map(|last| last.key.clone());
            break;
        }
        bytes += entry.value.len();
        page.entries.push(entry);
    }
    Ok(page)
}

/// How much waits for a commit, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The most requests that wait for their turn.
    pub queue: usize,
    /// The most requests that one commit takes.
    pub group: usize,
    /// How long a request is waited for.
    pub deadline: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { queue: 4096, group: 1024, deadline: Duration::from_secs(5) }
    }
}

/// A commit that was tried.
#[derive(Clone, Copy, Debug)]
pub struct CommitReport {
    /// How long it took, from the begin of the transaction to the end of the sync, or of the write to the log where
    /// nothing in it had to wait for a sync.
    pub took: Duration,
    /// The batches in it; none where only what was in the log was brought to the disk.
    pub batches: usize,
    /// Whether it succeeded.
    pub succeeded: bool,
}

/// Hears of every commit, on the store's own thread: to be brief, and not to wait.
pub type Observer = Arc<dyn Fn(CommitReport) + Send + Sync>;
