//! A store that forgets everything with the process: for tests, and for whoever needs no more.

use std::{
    collections::BTreeMap,
    future::ready,
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{
    Answer, Batch, Change, Entry, Key, Page, Prefix, Range, Revision, Store, StoreError, Watch, page_of,
    watch::Hub,
};

/// Records in memory.
#[derive(Debug)]
pub struct Memory {
    state: Mutex<State>,
    hub: Hub,
}

#[derive(Debug)]
struct State {
    records: BTreeMap<Key, Entry>,
    revision: Revision,
    is_closed: bool,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        let state = State { records: BTreeMap::new(), revision: Revision(0), is_closed: false };
        Self { state: Mutex::new(state), hub: Hub::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn open(&self) -> Result<&Self, StoreError> {
        if self.is_closed { Err(StoreError::Closed) } else { Ok(self) }
    }

    fn page(&self, range: &Range) -> Page {
        let start = match &range.after {
            Some(after) => Bound::Excluded(after.clone()),
            None => Bound::Included(Key::new(range.prefix.as_str())),
        };
        let entries = self.records.range((start, Bound::Unbounded));
        let page = page_of(range, self.revision, entries.map(|(_, entry)| Ok::<_, ()>(entry.clone())));
        page.unwrap_or_default()
    }

    fn commit(&mut self, batch: &Batch) -> Result<Revision, StoreError> {
        self.open()?;
        batch.check()?;
        let found = |key: &Key| Ok(self.records.get(key).map(|entry| entry.revision));
        if let Some(conflict) = batch.conflict(found)? {
            return Err(conflict);
        }
        self.revision = Revision(self.revision.0 + 1);
        let revision = self.revision;
        for (key, change) in batch.changes() {
            match change {
                Change::Put(value) => {
                    let entry = Entry { key: key.clone(), revision, value: value.clone() };
                    self.records.insert(key.clone(), entry);
                }
                Change::Delete => {
                    self.records.remove(key);
                }
            }
        }
        Ok(revision)
    }
}

fn answer<T: Send + 'static>(result: Result<T, StoreError>) -> Answer<T> {
    Box::pin(ready(result))
}

impl Store for Memory {
    fn get(&self, key: &Key) -> Answer<Option<Entry>> {
        answer(self.state().open().map(|state| state.records.get(key).cloned()))
    }

    fn list(&self, range: &Range) -> Answer<Page> {
        answer(self.state().open().map(|state| state.page(range)))
    }

    fn commit(&self, batch: Batch) -> Answer<Revision> {
        // Told under the lock, so that watchers hear of commits in their order.
        let mut state = self.state();
        let committed = state.commit(&batch);
        if let Ok(revision) = committed {
            self.hub.tell(revision, batch);
        }
        drop(state);
        answer(committed)
    }

    fn watch(&self, prefix: &Prefix) -> Watch {
        self.hub.watch(prefix)
    }

    fn trouble(&self) -> Option<String> {
        self.state().open().err().map(|error| error.to_string())
    }

    fn close(&self) -> Answer<()> {
        self.state().is_closed = true;
        self.hub.end();
        answer(Ok(()))
    }
}
