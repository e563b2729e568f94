//! How a record becomes bytes, and back.

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::store::{Key, Protected, StoreError, Vault};

#[derive(Deserialize)]
struct Version {
    v: u32,
}

/// The bytes of a record, which has its version in `v`.
pub(in crate::store) fn encode<T: Serialize>(key: &Key, record: &T) -> Result<Bytes, StoreError> {
    serde_json::to_vec(record).map(Bytes::from).map_err(|error| damaged(key, &error))
}

/// The record in `bytes`, of version `known` or older.
pub(in crate::store) fn decode<T: DeserializeOwned>(
    key: &Key,
    bytes: &[u8],
    known: u32,
) -> Result<T, StoreError> {
    let Version { v: found } = serde_json::from_slice(bytes).map_err(|error| damaged(key, &error))?;
    if found > known {
        return Err(StoreError::NewerRecord { key: key.clone(), found, known });
    }
    serde_json::from_slice(bytes).map_err(|error| damaged(key, &error))
}

/// What serde says quotes the value at fault, which may be a secret: only where and of what kind is told.
pub(in crate::store) fn damaged(key: &Key, error: &serde_json::Error) -> StoreError {
    let kind = match error.classify() {
        serde_json::error::Category::Io => "cannot be written",
        serde_json::error::Category::Syntax => "is no JSON",
        serde_json::error::Category::Data => "lacks a field, or has one of another type",
        serde_json::error::Category::Eof => "ends too early",
    };
    let reason = format!("it {kind} (line {}, column {})", error.line(), error.column());
    StoreError::Damaged { key: key.clone(), reason }
}

/// Seals a field with the current key where it is not; gives whether it was changed.
pub(in crate::store) fn reseal(
    vault: &Vault,
    key: &Key,
    field: &str,
    protected: &mut Protected,
) -> Result<bool, StoreError> {
    let outdated = vault.is_outdated(protected);
    if outdated {
        let text = vault.open(key, field, protected)?;
        *protected = vault.seal(key, field, &text, true)?;
    }
    Ok(outdated)
}
