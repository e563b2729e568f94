//! What happened to a session, the latest so many.

use serde::{Deserialize, Serialize};

use super::{Listed, Records, SessionRecord, UnixMillis, envelope};
use crate::{
    errors::ErrorCode,
    recovery::SessionId,
    store::{Batch, Key, Prefix, StoreError},
};

/// The entries that are kept of a session's history: days of an ordinary session, and the whole of an incident. With
/// the session itself they can be deleted in one batch.
pub const HISTORY_PER_SESSION: u64 = 100;

const VERSION: u32 = 1;

/// An entry of a session's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryRecord {
    /// When.
    pub at: UnixMillis,
    /// What: the name of an event, as the API spells it.
    pub event: String,
    /// The state it led to, as the API spells it.
    pub state: String,
    /// The code of the error that caused it.
    pub code: Option<ErrorCode>,
    /// More, for a person; never a secret.
    pub text: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    v: u32,
    #[serde(flatten)]
    entry: HistoryRecord,
}

/// The numbers of the entries that there are, where `next` comes next.
pub(super) fn numbers(next: u64) -> std::ops::Range<u64> {
    next.saturating_sub(HISTORY_PER_SESSION)..next
}

impl Records {
    /// Adds an entry to the session's history, and drops its oldest where there are too many. Changes the session's
    /// `history_next`: the session is to be written in the same batch.
    ///
    /// # Errors
    ///
    /// None that can be met in practice: an entry is always JSON.
    pub fn stage_history(
        &self,
        batch: Batch,
        session: &mut SessionRecord,
        entry: HistoryRecord,
    ) -> Result<Batch, StoreError> {
        let number = session.history_next;
        let key = Key::history(&session.id, number);
        let value = envelope::encode(&key, &Stored { v: VERSION, entry })?;
        session.history_next = number.saturating_add(1);
        let batch = batch.put(key, value);
        Ok(match number.checked_sub(HISTORY_PER_SESSION) {
            Some(oldest) => batch.delete(Key::history(&session.id, oldest)),
            None => batch,
        })
    }

    /// A page of a session's history, the oldest first.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn history(
        &self,
        id: &SessionId,
        after: Option<Key>,
        limit: usize,
    ) -> Result<Listed<HistoryRecord>, StoreError> {
        let read = |key: &Key, value: &[u8]| {
            envelope::decode::<Stored>(key, value, VERSION).map(|stored| stored.entry)
        };
        self.page(Prefix::history(id), after, limit, |entry| read(&entry.key, &entry.value)).await
    }
}
