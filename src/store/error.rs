//! What can go wrong with the store, in words for whoever has to act.

use std::{path::PathBuf, time::Duration};

use super::{Key, Revision};

/// Why the store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// As many requests wait as may. Nothing was written.
    #[error("the store is busy: {waiting} requests wait already; try again in a moment")]
    Busy {
        /// The requests that wait.
        waiting: usize,
    },
    /// The request waited for its turn until its deadline. Nothing was written.
    #[error("the store is slow: the request waited {} ms for its turn; try again", waited.as_millis())]
    Late {
        /// How long it waited.
        waited: Duration,
    },
    /// No answer came until the deadline. The batch may have been written, or may be yet.
    #[error("the store gave no answer within {} ms; what was asked may or may not be done", after.as_millis())]
    NoAnswer {
        /// The deadline.
        after: Duration,
    },
    /// The disk or the file failed before anything was committed. Nothing was written.
    #[error("the store cannot be used: {reason}; it is tried again by itself")]
    Unavailable {
        /// What failed.
        reason: String,
    },
    /// The disk failed while the batch was being committed. It is written as a whole, or not at all.
    #[error("the store failed during a commit: {reason}; what was asked may or may not be done")]
    Unsure {
        /// What failed.
        reason: String,
    },
    /// A condition of the batch does not hold. Nothing was written.
    #[error("{key} is not what was expected: {}", found.map_or_else(|| "it does not exist".to_owned(), |found| format!("it is at revision {found}")))]
    Conflict {
        /// The key whose condition failed.
        key: Key,
        /// Its revision; `None` where it does not exist.
        found: Option<Revision>,
    },
    /// The batch or a part of it is beyond its bound. Nothing was written.
    #[error("{what}")]
    TooLarge {
        /// What is too large, and the bound.
        what: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// The spec or answer holds secrets, and there is no key to seal them with. Nothing was written.
    #[error(
        "{key} holds secrets, and the store has no key to seal them with: set store.encryption_key, or \
         store.plaintext_secrets = true to have them in clear"
    )]
    NoEncryptionKey {
        /// What was to be written.
        key: Key,
    },
    /// The record was sealed with a key that is not configured.
    #[error(
        "{key} is sealed with the key {key_id}, which is neither store.encryption_key nor \
         store.encryption_key_previous"
    )]
    UnknownEncryptionKey {
        /// The record.
        key: Key,
        /// The id of the key that it was sealed with.
        key_id: String,
    },
    /// The record cannot be read: it was changed from outside, or belongs to another key.
    #[error("{key} cannot be read: {reason}")]
    Damaged {
        /// The record.
        key: Key,
        /// What is wrong with it; never any of its content.
        reason: String,
    },
    /// The record was written by a newer Greenroom.
    #[error("{key} has version {found}, and this Greenroom knows {known} at most: use a newer Greenroom")]
    NewerRecord {
        /// The record.
        key: Key,
        /// Its version.
        found: u32,
        /// The newest version that is known.
        known: u32,
    },
    /// The system gave no random numbers, without which nothing can be sealed.
    #[error("the operating system gives no random numbers")]
    NoRandomness,
}

impl StoreError {
    /// Whether the same request may succeed later with nothing changed: over HTTP 503 with `Retry-After`.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Busy { .. }
            | Self::Late { .. }
            | Self::NoAnswer { .. }
            | Self::Unavailable { .. }
            | Self::Unsure { .. }
            | Self::NoRandomness
            | Self::Closed => true,
            Self::Conflict { .. }
            | Self::TooLarge { .. }
            | Self::NoEncryptionKey { .. }
            | Self::UnknownEncryptionKey { .. }
            | Self::Damaged { .. }
            | Self::NewerRecord { .. } => false,
        }
    }

    /// Whether the batch may have been written all the same.
    pub const fn may_be_written(&self) -> bool {
        matches!(self, Self::NoAnswer { .. } | Self::Unsure { .. })
    }
}

/// Why a store could not be opened. The file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{} is in use by another process; stop that one, or give this one a file of its own", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// It is no store: another type of file.
    #[error("{} is not a store of Greenroom: {reason}; give store.url another path, or move the file away", path.display())]
    NotAStore {
        /// The file.
        path: PathBuf,
        /// What it is.
        reason: String,
    },
    /// It is a store, and damaged.
    #[error("{} is damaged: {reason}; it was left as it is: restore it from a backup, or move it away to begin anew", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// A newer Greenroom wrote it.
    #[error("{} has schema {found}, and this Greenroom knows {known} at most: use the newer Greenroom that wrote it", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u64,
        /// The newest schema that is known.
        known: u64,
    },
    /// The operating system refuses the file.
    #[error("{} cannot be {attempt}: {error}", path.display())]
    Refused {
        /// The file or its directory.
        path: PathBuf,
        /// What was tried: "opened for writing", ...
        attempt: &'static str,
        /// What the system said.
        error: std::io::Error,
    },
    /// It was written by an older Greenroom, and cannot be brought to the present schema.
    #[error("{} has schema {found} and cannot be migrated: {reason}; it was left as it is", path.display())]
    Migration {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u64,
        /// What failed.
        reason: String,
    },
}
