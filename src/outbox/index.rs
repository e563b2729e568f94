//! The open requests, and what is derived from them: the order of sending, the deadlines, the copies, the sums.
//!
//! A request is changed only through [`Index::edit`], which compares what is derived before and after, so that neither
//! can go without the other. Each costs the logarithm of the number of open requests: the order is
//! kept by the first piece of each that waits, and not by every piece.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    config::LedgerConfig,
    request::{Amount, Open},
};
use crate::recovery::Moment;

/// An open request: the place of its first piece. Older requests have lower ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(pub(super) u64);

/// What is derived from one request; the default is what is derived from none.
#[derive(Default)]
struct Derived {
    /// The place of the first piece that waits.
    head: Option<u64>,
    deadline: Option<Moment>,
    waiting: Amount,
    copies: Amount,
}

impl Derived {
    fn of(open: &Open, config: &LedgerConfig) -> Self {
        Self {
            head: open.next_place(),
            deadline: Some(open.deadline(config)),
            waiting: open.waiting(),
            copies: open.copies(),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Index {
    open: BTreeMap<Key, Open>,
    keys: BTreeMap<String, Key>,
    /// By the place of the first piece that waits.
    heads: BTreeMap<u64, Key>,
    due: BTreeSet<(Moment, Key)>,
    copied: BTreeSet<Key>,
    waiting: Amount,
    copies: Amount,
}

impl Index {
    pub(super) const fn new() -> Self {
        Self {
            open: BTreeMap::new(),
            keys: BTreeMap::new(),
            heads: BTreeMap::new(),
            due: BTreeSet::new(),
            copied: BTreeSet::new(),
            waiting: Amount { bytes: 0, pieces: 0 },
            copies: Amount { bytes: 0, pieces: 0 },
        }
    }

    pub(super) fn insert(&mut self, key: Key, open: Open, config: &LedgerConfig) {
        self.keys.insert(open.record.req_id.clone(), key);
        self.replace(key, &Derived::default(), &Derived::of(&open, config));
        self.open.insert(key, open);
    }

    pub(super) fn remove(&mut self, key: Key, config: &LedgerConfig) -> Option<Open> {
        let open = self.open.remove(&key)?;
        self.keys.remove(&open.record.req_id);
        self.replace(key, &Derived::of(&open, config), &Derived::default());
        Some(open)
    }

    /// Changes one request.
    pub(super) fn edit<T>(
        &mut self,
        key: Key,
        config: &LedgerConfig,
        change: impl FnOnce(&mut Open) -> T,
    ) -> Option<T> {
        let open = self.open.get_mut(&key)?;
        let before = Derived::of(open, config);
        let result = change(open);
        let after = Derived::of(open, config);
        self.replace(key, &before, &after);
        Some(result)
    }

    /// Derives everything anew for changed settings.
    pub(super) fn rederive(&mut self, before: &LedgerConfig, after: &LedgerConfig) {
        let open = std::mem::take(&mut self.open);
        for (key, open) in &open {
            self.replace(*key, &Derived::of(open, before), &Derived::of(open, after));
        }
        self.open = open;
    }

    /// Touches only what differs: this is done for every piece of audio, and again when it is sent.
    fn replace(&mut self, key: Key, before: &Derived, after: &Derived) {
        if before.head != after.head {
            if let Some(place) = before.head {
                self.heads.remove(&place);
            }
            if let Some(place) = after.head {
                self.heads.insert(place, key);
            }
        }
        if before.deadline != after.deadline {
            if let Some(at) = before.deadline {
                self.due.remove(&(at, key));
            }
            if let Some(at) = after.deadline {
                self.due.insert((at, key));
            }
        }
        match (before.copies.pieces > 0, after.copies.pieces > 0) {
            (false, true) => {
                self.copied.insert(key);
            }
            (true, false) => {
                self.copied.remove(&key);
            }
            (true, true) | (false, false) => {}
        }
        self.waiting.subtract(before.waiting);
        self.waiting.add(after.waiting);
        self.copies.subtract(before.copies);
        self.copies.add(after.copies);
    }

    pub(super) fn get(&self, key: Key) -> Option<&Open> {
        self.open.get(&key)
    }

    /// For a change that moves nothing that is derived: frames and positions.
    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Open> {
        self.open.get_mut(&key)
    }

    pub(super) fn key(&self, req_id: &str) -> Option<Key> {
        self.keys.get(req_id).copied()
    }

    /// The keys of the requests that `which` chooses, the oldest first; `max_open` at most.
    pub(super) fn keys_where(&self, which: impl Fn(&Open) -> bool) -> Vec<Key> {
        self.open.iter().filter(|(_, open)| which(open)).map(|(key, _)| *key).collect()
    }

    /// The request whose piece is to be sent next.
    pub(super) fn first_waiting(&self) -> Option<Key> {
        self.heads.first_key_value().map(|(_, key)| *key)
    }

    /// The request that is due first.
    pub(super) fn first_due(&self) -> Option<(Moment, Key)> {
        self.due.first().copied()
    }

    /// The oldest request that has copies.
    pub(super) fn first_copied(&self) -> Option<Key> {
        self.copied.first().copied()
    }

    /// The request that began last.
    pub(super) fn latest(&self) -> Option<&Open> {
        self.open.last_key_value().map(|(_, open)| open)
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) const fn waiting(&self) -> Amount {
        self.waiting
    }

    pub(super) const fn copies(&self) -> Amount {
        self.copies
    }
}

impl Amount {
    const fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.pieces += other.pieces;
    }

    const fn subtract(&mut self, other: Self) {
        self.bytes -= other.bytes;
        self.pieces -= other.pieces;
    }
}
