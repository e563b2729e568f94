//! How long tenants' connections have lasted on a day, for those that have a bound.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Records, envelope};
use crate::store::{Key, StoreError};

const VERSION: u32 = 1;
const NAME: &str = "minutes";

/// The connected time of a day.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MinutesRecord {
    /// The day (UTC) since 1970.
    pub day: u64,
    /// Milliseconds by tenant.
    pub connected_ms: BTreeMap<String, u64>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    v: u32,
    #[serde(flatten)]
    record: MinutesRecord,
}

impl Records {
    /// The connected time that was kept last.
    ///
    /// # Errors
    ///
    /// Those of the store, and of a record that cannot be read.
    pub async fn minutes(&self) -> Result<MinutesRecord, StoreError> {
        let Some(entry) = self.store.get(&Key::single(NAME)).await? else {
            return Ok(MinutesRecord::default());
        };
        let stored: Stored = envelope::decode(&entry.key, &entry.value, VERSION)?;
        Ok(stored.record)
    }

    /// Keeps the connected time in place of what was kept.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn keep_minutes(&self, record: MinutesRecord) -> Result<(), StoreError> {
        let key = Key::single(NAME);
        let value = envelope::encode(&key, &Stored { v: VERSION, record })?;
        self.store.put(key, value).await.map(drop)
    }
}
