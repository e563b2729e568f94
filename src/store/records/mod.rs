//! The records: plain data, in JSON, each with its version, with what may hold secrets sealed.
//!
//! A record of a newer version is refused and not read by half. Fields may be added within a version where a
//! missing one has a default; anything else is a new version, and a step in the file's migration.
//!
//! [`Records`] stages changes into a [`Batch`], so that what belongs together (a session, the answer to the request
//! that made it, an entry of its history) is written together.

pub(super) mod envelope;
mod history;
mod idempotency;
mod minutes;
mod requests;
mod session;
mod tenant;

#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc, time::SystemTime};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use history::{HISTORY_PER_CLASS, HistoryClass, HistoryPlace, HistoryRecord};
use idempotency::Orphans;
pub use idempotency::{Asked, AskedAudio, Begun, BegunAudio, IDEMPOTENCY_HOURS, StoredAnswer, Ticket};
pub use minutes::MinutesRecord;
pub use requests::{EndRecord, OutcomeRecord, REQUESTS_PER_SESSION, RequestRecord};
pub use session::{
    BudgetRecord, Desired, EgressRecord, ErrorRecord, HoldRecord, Origin, SessionRecord, SpecRecord,
};
pub use tenant::{ClientKeyRecord, SuspensionRecord, TenantRecord};

use super::{
    Batch, Entry, Expect, Key, Page, Prefix, Range, Revision, Store, StoreError, Vault,
    client_keys::StoredPepper,
};

/// Calendar time in milliseconds since 1970, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// Hours since 1970.
    pub const fn hour(self) -> u64 {
        self.0 / 3_600_000
    }
}

impl From<SystemTime> for UnixMillis {
    /// Zero for what was before 1970.
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// A secret in a record. Written out by [`Records`] only, into what is sealed.
#[derive(Clone, Default)]
pub struct SecretText(SecretString);

impl SecretText {
    /// The secret.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.expose().is_empty()
    }
}

impl From<SecretString> for SecretText {
    fn from(secret: SecretString) -> Self {
        Self(secret)
    }
}

impl From<&str> for SecretText {
    fn from(secret: &str) -> Self {
        Self(SecretString::from(secret))
    }
}

impl From<SecretText> for SecretString {
    fn from(secret: SecretText) -> Self {
        secret.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText")
    }
}

impl PartialEq for SecretText {
    fn eq(&self, other: &Self) -> bool {
        subtle::ConstantTimeEq::ct_eq(self.expose().as_bytes(), other.expose().as_bytes()).into()
    }
}

impl Eq for SecretText {}

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.expose())
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        SecretString::deserialize(deserializer).map(Self)
    }
}

/// An id of any kind, from its text.
fn id<'de, D: Deserializer<'de>, T: From<String>>(deserializer: D) -> Result<T, D::Error> {
    String::deserialize(deserializer).map(T::from)
}

/// A record with the revision that it was read at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept<T> {
    /// The record.
    pub record: T,
    /// For [`Expect::At`], when it is written again.
    pub revision: Revision,
}

/// A page of records.
#[derive(Clone, Debug)]
pub struct Listed<T> {
    /// Those that could be read.
    pub records: Vec<Kept<T>>,
    /// Those that could not, each with its reason: the others are given all the same.
    pub unreadable: Vec<StoreError>,
    /// The key to go on after; `None` where this was the last page.
    pub next: Option<Key>,
}

/// The records in a store, with their secrets sealed.
#[derive(Clone, Debug)]
pub struct Records {
    store: Arc<dyn Store>,
    vault: Arc<Vault>,
    orphans: Orphans,
}

impl Records {
    /// The records in `store`.
    pub fn new(store: Arc<dyn Store>, vault: Arc<Vault>) -> Self {
        Self { store, vault, orphans: Orphans::default() }
    }

    /// The store itself.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// What seals and opens.
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// Writes a batch.
    ///
    /// # Errors
    ///
    /// Those of [`Store::commit`].
    pub async fn commit(&self, batch: Batch) -> Result<Revision, StoreError> {
        self.store.commit(batch).await
    }

    async fn page<T>(
        &self,
        prefix: Prefix,
        after: Option<Key>,
        limit: usize,
        read: impl Fn(&Entry) -> Result<T, StoreError>,
    ) -> Result<Listed<T>, StoreError> {
        let Page { entries, next, .. } = self.store.list(&Range { prefix, after, limit }).await?;
        let mut listed = Listed { records: Vec::with_capacity(entries.len()), unreadable: Vec::new(), next };
        for entry in entries {
            match read(&entry) {
                Ok(record) => listed.records.push(Kept { record, revision: entry.revision }),
                Err(error) => listed.unreadable.push(error),
            }
        }
        Ok(listed)
    }

    /// Deletes all that is under `prefix` but the latest `keep`, and gives how many.
    async fn trim(&self, prefix: Prefix, keep: usize) -> Result<usize, StoreError> {
        let mut range = Range::first(prefix);
        let mut keys = Vec::new();
        loop {
            let page = self.store.list(&range).await?;
            keys.extend(page.entries.into_iter().map(|entry| entry.key));
            match page.next {
                Some(next) => range.after = Some(next),
                None => break,
            }
        }
        keys.truncate(keys.len().saturating_sub(keep));
        for part in keys.chunks(Batch::MAX_CHANGES) {
            let batch = part.iter().cloned().fold(Batch::new(), Batch::delete);
            // Only requests and histories are trimmed, and what comes back is trimmed again.
            self.store.commit(batch.logged()).await?;
        }
        Ok(keys.len())
    }

    /// Seals anew what is in clear or under the previous key, and gives how many records that were; afterwards
    /// `store.encryption_key_previous` is not needed any more. A record that is changed meanwhile is sealed by
    /// whoever changes it.
    ///
    /// # Errors
    ///
    /// The first record that cannot be read or written. To be called again then.
    pub async fn reseal(&self) -> Result<usize, StoreError> {
        let prefixes = [Prefix::sessions(), Prefix::tenants(), Prefix::idempotency(), Prefix::new("m/")];
        let mut resealed = 0;
        for prefix in prefixes {
            let mut range = Range::first(prefix);
            loop {
                let page = self.store.list(&range).await?;
                for entry in page.entries {
                    let Some(value) = self.resealed(&entry)? else { continue };
                    let expect = Expect::At(entry.revision);
                    match self.store.compare_and_put(entry.key, expect, value).await {
                        Ok(_) => resealed += 1,
                        Err(StoreError::Conflict { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
                match page.next {
                    Some(next) => range.after = Some(next),
                    None => break,
                }
            }
        }
        Ok(resealed)
    }

    /// The value of a record with its fields sealed by the current key; `None` where they are.
    fn resealed(&self, entry: &Entry) -> Result<Option<bytes::Bytes>, StoreError> {
        let (key, value) = (&entry.key, &entry.value);
        match key.as_str().split_once('/') {
            Some(("s", _)) => session::reseal(&self.vault, key, value),
            Some(("t", _)) => tenant::reseal(&self.vault, key, value),
            Some(("i", _)) => idempotency::reseal(&self.vault, key, value),
            Some(("m", _)) if *key == StoredPepper::key() => {
                let mut stored: StoredPepper = envelope::decode(key, value, StoredPepper::VERSION)?;
                let outdated = envelope::reseal(&self.vault, key, "pepper", &mut stored.pepper)?;
                if outdated { envelope::encode(key, &stored).map(Some) } else { Ok(None) }
            }
            Some(_) | None => Ok(None),
        }
    }
}
