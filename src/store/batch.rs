//! What is written in one piece: conditions, and changes that happen all or not at all.

use std::fmt;

use bytes::Bytes;

use super::{Key, StoreError};

/// The number of a commit. Every batch that was written has one, greater than all before it; a record has the
/// one of the batch that wrote it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a record must be for its batch to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It does not exist.
    Absent,
    /// It was last written by this revision.
    At(Revision),
}

impl Expect {
    /// Whether a record with this revision, or none, is what is expected.
    pub fn meets(self, found: Option<Revision>) -> bool {
        match self {
            Self::Absent => found.is_none(),
            Self::At(revision) => found == Some(revision),
        }
    }
}

/// A change of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The record has this value now.
    Put(Bytes),
    /// There is no such record now.
    Delete,
}

/// What a batch outlives from its answer on. An order: what outlives more is the greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// The death of the process: the system has it. The loss of power, or the death of the system, may cost what was
    /// answered in the last second, the latest first.
    Logged,
    /// The loss of power too: it is on the disk.
    #[default]
    Synced,
}

/// Conditions, and the changes that are made where all of them hold.
///
/// Shaped after etcd's transactions and bounded as those are by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    conditions: Vec<(Key, Expect)>,
    changes: Vec<(Key, Change)>,
    durability: Durability,
}

impl Batch {
    /// The most conditions, and the most changes: etcd refuses transactions of more operations.
    pub const MAX_CHANGES: usize = 128;
    /// The largest value, in bytes: many times the largest spec.
    pub const MAX_VALUE_BYTES: usize = 512 * 1024;
    /// The most bytes of keys and values together: below the size of a request that etcd refuses (1.5 MiB).
    pub const MAX_BYTES: usize = 1024 * 1024;

    /// A batch that does nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes the batch only where `key` is what is expected.
    #[must_use]
    pub fn only_if(mut self, key: Key, expect: Expect) -> Self {
        self.conditions.push((key, expect));
        self
    }

    /// Writes a record.
    #[must_use]
    pub fn put(mut self, key: Key, value: impl Into<Bytes>) -> Self {
        self.changes.push((key, Change::Put(value.into())));
        self
    }

    /// Deletes a record; nothing where there is none.
    #[must_use]
    pub fn delete(mut self, key: Key) -> Self {
        self.changes.push((key, Change::Delete));
        self
    }

    /// Answers as soon as the death of the process cannot lose the batch, without a wait for the disk.
    #[must_use]
    pub const fn logged(mut self) -> Self {
        self.durability = Durability::Logged;
        self
    }

    /// What it outlives from its answer on.
    pub const fn durability(&self) -> Durability {
        self.durability
    }

    /// The conditions, in order.
    pub fn conditions(&self) -> &[(Key, Expect)] {
        &self.conditions
    }

    /// The changes, in order: a later one of the same key wins.
    pub fn changes(&self) -> &[(Key, Change)] {
        &self.changes
    }

    /// The changes, in order.
    pub fn into_changes(self) -> Vec<(Key, Change)> {
        self.changes
    }

    /// Whether there is nothing to change.
    pub const fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The bytes of its keys and values.
    pub fn bytes(&self) -> usize {
        let conditions = self.conditions.iter().map(|(key, _)| key.as_str().len());
        let changes = self.changes.iter().map(|(key, change)| {
            key.as_str().len()
                + match change {
                    Change::Put(value) => value.len(),
                    Change::Delete => 0,
                }
        });
        conditions.chain(changes).sum()
    }

    /// Refuses what is beyond the bounds.
    ///
    /// # Errors
    ///
    /// [`StoreError::TooLarge`], which names the bound.
    pub fn check(&self) -> Result<(), StoreError> {
        let too_large = |what: String| Err(StoreError::TooLarge { what });
        let most = Self::MAX_CHANGES;
        if self.changes.len() > most || self.conditions.len() > most {
            let (conditions, changes) = (self.conditions.len(), self.changes.len());
            return too_large(format!(
                "a batch has {conditions} conditions and {changes} changes; {most} of each are allowed"
            ));
        }
        let keys = self.conditions.iter().map(|(key, _)| key).chain(self.changes.iter().map(|(key, _)| key));
        for key in keys {
            if key.as_str().is_empty() || key.as_str().len() > Key::MAX_BYTES {
                let length = key.as_str().len();
                return too_large(format!("a key has {length} bytes; 1 to {} are allowed", Key::MAX_BYTES));
            }
        }
        for (key, change) in &self.changes {
            if let Change::Put(value) = change
                && value.len() > Self::MAX_VALUE_BYTES
            {
                let (length, most) = (value.len(), Self::MAX_VALUE_BYTES);
                return too_large(format!("{key} has {length} bytes; at most {most} are allowed"));
            }
        }
        match self.bytes() {
            bytes if bytes > Self::MAX_BYTES => {
                too_large(format!("a batch has {bytes} bytes; at most {} are allowed", Self::MAX_BYTES))
            }
            _ => Ok(()),
        }
    }

    /// The first condition that does not hold by `revision_of`, as the error that it gives.
    pub(super) fn conflict<E>(
        &self,
        mut revision_of: impl FnMut(&Key) -> Result<Option<Revision>, E>,
    ) -> Result<Option<StoreError>, E> {
        for (key, expect) in &self.conditions {
            let found = revision_of(key)?;
            if !expect.meets(found) {
                return Ok(Some(StoreError::Conflict { key: key.clone(), found }));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(batch: &Batch) -> String {
        batch.check().unwrap_err().to_string()
    }

    #[test]
    fn a_batch_within_its_bounds_passes_and_one_beyond_any_is_refused_by_name() {
        let key = |number: usize| Key::new(format!("k/{number}"));
        let many = |count| (0..count).fold(Batch::new(), |batch, number| batch.delete(key(number)));
        assert_eq!(many(Batch::MAX_CHANGES).check(), Ok(()));
        assert!(refusal(&many(Batch::MAX_CHANGES + 1)).contains("129 changes; 128"));
        let conditions =
            (0..129).fold(Batch::new(), |batch, number| batch.only_if(key(number), Expect::Absent));
        assert!(refusal(&conditions).contains("129 conditions"));
        let value = vec![0; Batch::MAX_VALUE_BYTES];
        assert_eq!(Batch::new().put(key(1), value.clone()).check(), Ok(()));
        assert!(refusal(&Batch::new().put(key(1), [&value[..], &[0]].concat())).contains("k/1 has 524289"));
        assert!(refusal(&Batch::new().put(key(1), value.clone()).put(key(2), value)).contains("a batch has"));
        assert!(refusal(&Batch::new().delete(Key::new(""))).contains("a key has 0 bytes"));
        assert!(refusal(&Batch::new().delete(Key::new("k".repeat(513)))).contains("a key has 513 bytes"));
    }
}
