//! What happened to a session, the latest so much.
//!
//! Outcomes of requests are counted apart from the rest: a session that speaks for hours must not push the error of
//! an hour ago out of its own history.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Records, envelope};
use crate::{
    recovery::SessionId,
    store::{Key, Prefix, Range, StoreError},
};

/// The entries of each class that are kept of a session's history: days of an ordinary session, and the whole of an
/// incident.
pub const HISTORY_PER_CLASS: usize = 100;

const VERSION: u32 = 1;

/// What an entry is counted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryClass {
    /// What became of the session.
    Change,
    /// What became of a request.
    Request,
}

impl HistoryClass {
    /// Every class.
    pub const ALL: [Self; 2] = [Self::Change, Self::Request];

    const fn as_char(self) -> char {
        match self {
            Self::Change => 'c',
            Self::Request => 'r',
        }
    }
}

/// An entry of a session's history.
#[derive(Clone, Debug)]
pub struct HistoryRecord {
    /// Its number: later entries have higher ones.
    pub number: u64,
    /// The event, as the API shows it; never a secret.
    pub event: Box<RawValue>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    v: u32,
    event: Box<RawValue>,
}

/// Where a session's history is: worked out once for all that is written of it at a time.
#[derive(Debug)]
pub struct HistoryPlace(Prefix);

impl HistoryPlace {
    /// That of `session`.
    pub fn of(session: &SessionId) -> Self {
        Self(Prefix::history(session))
    }

    fn key(&self, class: HistoryClass, number: u64) -> Key {
        // Sixteen hexadecimal digits sort as the numbers do.
        Key::new(format!("{}{}/{number:016x}", self.0.as_str(), class.as_char()))
    }
}

fn prefix(session: &SessionId, class: HistoryClass) -> Prefix {
    Prefix::new(format!("{}{}/", Prefix::history(session).as_str(), class.as_char()))
}

/// The number of the entry with this key.
fn number(key: &Key) -> Option<u64> {
    let (_, digits) = key.as_str().rsplit_once('/')?;
    u64::from_str_radix(digits, 16).ok()
}

impl HistoryRecord {
    /// The entry as it is stored.
    ///
    /// # Errors
    ///
    /// None that can be met in practice: an entry is always JSON.
    pub fn stored(self, place: &HistoryPlace, class: HistoryClass) -> Result<(Key, Bytes), StoreError> {
        let key = place.key(class, self.number);
        let value = envelope::encode(&key, &Stored { v: VERSION, event: self.event })?;
        Ok((key, value))
    }
}

impl Records {
    /// A session's history, in no order: a few hundred entries at most. What cannot be read is left out, and logged.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn history(&self, session: &SessionId) -> Result<Vec<HistoryRecord>, StoreError> {
        let mut range = Range::first(Prefix::history(session));
        let mut entries = Vec::new();
        loop {
            let page = self.store.list(&range).await?;
            for entry in page.entries {
                match envelope::decode::<Stored>(&entry.key, &entry.value, VERSION) {
                    Ok(Stored { v: _, event }) => {
                        entries.extend(number(&entry.key).map(|number| HistoryRecord { number, event }));
                    }
                    Err(error) => tracing::error!(%session, %error, "an entry of a history is left out"),
                }
            }
            match page.next {
                Some(next) => range.after = Some(next),
                None => return Ok(entries),
            }
        }
    }

    /// Deletes all of a session's history but the latest `keep` entries of each class.
    ///
    /// # Errors
    ///
    /// Those of the store; some may be deleted then.
    pub async fn trim_history(&self, session: &SessionId, keep: usize) -> Result<(), StoreError> {
        for class in HistoryClass::ALL {
            self.trim(prefix(session, class), keep).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_by_number_and_stay_within_their_session_and_class() {
        use HistoryClass::{Change, Request};
        let (one, other) = (SessionId::from("ses_a"), SessionId::from("ses_ab"));
        let key = |session, class, number| HistoryPlace::of(session).key(class, number);
        assert!(key(&one, Change, 9) < key(&one, Change, 10));
        assert!(prefix(&one, Change).holds(&key(&one, Change, u64::MAX)));
        assert!(!prefix(&one, Change).holds(&key(&one, Request, 1)));
        assert!(!Prefix::history(&one).holds(&key(&other, Change, 1)));
        assert_eq!(number(&key(&one, Request, 1_767_323_045_678_901)), Some(1_767_323_045_678_901));
    }
}
