//! Bringing an older file to the present schema, in one transaction.
//!
//! | schema | layout |
//! | --- | --- |
//! | 0 | of development: the table `sessions`, session id to record without a version; no shards, no revisions |
//! | 1 | the table `records`, key to revision and value |

use redb::{ReadableTable, TableDefinition, TableHandle, WriteTransaction};
use serde_json::{Map, Value};

use super::table::{META, RECORDS, REVISION_ENTRY, SCHEMA, SCHEMA_ENTRY, stored};
use crate::{
    recovery::SessionId,
    store::{Key, Revision},
};

const SESSIONS_0: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("sessions");

type Step = fn(&WriteTransaction) -> Result<(), String>;

/// The steps: the one at `n` leads from schema `n` to the next.
const STEPS: [Step; SCHEMA as usize] = [shard_sessions];

/// Takes every step from schema `found` on. The caller commits.
pub(super) fn migrate(transaction: &WriteTransaction, found: u64) -> Result<(), String> {
    let first = usize::try_from(found).map_err(|error| error.to_string())?;
    for step in STEPS.iter().skip(first) {
        step(transaction)?;
    }
    transaction.open_table(META).map_err(text)?.insert(SCHEMA_ENTRY, SCHEMA).map_err(text)?;
    Ok(())
}

fn text(error: impl Into<redb::Error>) -> String {
    error.into().to_string()
}

/// From 0 to 1.
fn shard_sessions(transaction: &WriteTransaction) -> Result<(), String> {
    let revision = Revision(1);
    let mut records = transaction.open_table(RECORDS).map_err(text)?;
    let has_sessions =
        transaction.list_tables().map_err(text)?.any(|table| table.name() == SESSIONS_0.name());
    if has_sessions {
        let sessions = transaction.open_table(SESSIONS_0).map_err(text)?;
        for session in sessions.iter().map_err(text)? {
            let (id, value) = session.map_err(text)?;
            let id = SessionId::from(id.value());
            let mut fields: Map<String, Value> = serde_json::from_slice(value.value())
                .map_err(|error| format!("session {id} is no JSON object ({error})"))?;
            fields.insert("v".to_owned(), Value::from(1));
            let value = serde_json::to_vec(&fields).map_err(|error| error.to_string())?;
            let value = stored(revision, &value);
            records.insert(Key::session(&id).as_str(), value.as_slice()).map_err(text)?;
        }
        drop(sessions);
        transaction.delete_table(SESSIONS_0).map_err(text)?;
    }
    transaction.open_table(META).map_err(text)?.insert(REVISION_ENTRY, revision.0).map_err(text)?;
    Ok(())
}
