//! A tenant that was made over HTTP, and what is remembered of one of the configuration file.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Kept, Listed, Records, SecretText, UnixMillis, envelope, id};
use crate::{
    errors::{Action, ErrorCode},
    recovery::TenantId,
    store::{Batch, ClientKeyHash, Expect, Key, Prefix, Protected, StoreError, Vault},
};

const FIELD: &str = "upstream_api_key";
const VERSION: u32 = 1;

/// A key that a tenant's backends present.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientKeyRecord {
    /// Its name, for people.
    pub name: String,
    /// Its hash; the key itself is nowhere.
    pub hash: ClientKeyHash,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it ends; `None` is never.
    pub expires_at: Option<UnixMillis>,
}

/// Why a tenant is suspended, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuspensionRecord {
    /// The code of the error that did it.
    pub code: ErrorCode,
    /// Since when.
    pub since: UnixMillis,
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantRecord {
    /// Its id.
    pub id: TenantId,
    /// Whether the configuration file has it: then the file says what it is, and only the suspension counts here.
    pub is_from_file: bool,
    /// When it was made.
    pub created_at: UnixMillis,
    /// Its app at the service.
    pub app_id: String,
    /// Its API key at the service.
    pub upstream_api_key: SecretText,
    /// What its backends present.
    pub keys: Vec<ClientKeyRecord>,
    /// The most sessions at once.
    pub max_sessions: u32,
    /// The most sessions made in a minute; `None` is no bound.
    pub max_starts_per_minute: Option<u32>,
    /// The most bytes of audio of all its sessions; `None` is no bound of its own.
    pub outbox_bytes: Option<u64>,
    /// The most minutes of connections in a day; `None` is no bound.
    pub max_connected_minutes_per_day: Option<u32>,
    /// Codes whose action is another than the configuration's, both as the API spells them.
    pub policy: BTreeMap<ErrorCode, Action>,
    /// The continuity of its sessions, as the API spells it.
    pub continuity: Option<String>,
    /// The most requests in a second over HTTP; `None` is no bound.
    pub requests_per_second: Option<u32>,
    /// How long its sessions may be without a client and without audio, in seconds: zero is for ever, `None` is what
    /// is configured.
    pub idle_timeout_s: Option<u64>,
    /// Whether it is being deleted: from here on it has no keys and makes no session, and whoever reads this finishes
    /// what was begun.
    pub is_leaving: bool,
    /// Whether it is suspended.
    pub suspension: Option<SuspensionRecord>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    v: u32,
    #[serde(deserialize_with = "id")]
    id: TenantId,
    is_from_file: bool,
    created_at: UnixMillis,
    app_id: String,
    upstream_api_key: Protected,
    keys: Vec<ClientKeyRecord>,
    max_sessions: u32,
    max_starts_per_minute: Option<u32>,
    outbox_bytes: Option<u64>,
    max_connected_minutes_per_day: Option<u32>,
    /// By the texts, since an action has no other form outside.
    policy: BTreeMap<ErrorCode, String>,
    continuity: Option<String>,
    #[serde(default)]
    requests_per_second: Option<u32>,
    #[serde(default)]
    idle_timeout_s: Option<u64>,
    #[serde(default)]
    is_leaving: bool,
    suspension: Option<SuspensionRecord>,
}

fn encode(vault: &Vault, key: &Key, tenant: &TenantRecord) -> Result<Bytes, StoreError> {
    let secret = &tenant.upstream_api_key;
    let upstream_api_key = vault.seal(key, FIELD, secret.expose(), !secret.is_empty())?;
    let TenantRecord {
        id,
        is_from_file,
        created_at,
        app_id,
        upstream_api_key: _,
        keys,
        max_sessions,
        max_starts_per_minute,
        outbox_bytes,
        max_connected_minutes_per_day,
        policy,
        continuity,
        requests_per_second,
        idle_timeout_s,
        is_leaving,
        suspension,
    } = tenant.clone();
    let policy = policy.into_iter().map(|(code, action)| (code, action.as_str().to_owned())).collect();
    let stored = Stored {
        v: VERSION,
        id,
        is_from_file,
        created_at,
        app_id,
        upstream_api_key,
        keys,
        max_sessions,
        max_starts_per_minute,
        outbox_bytes,
        max_connected_minutes_per_day,
        policy,
        continuity,
        requests_per_second,
        idle_timeout_s,
        is_leaving,
        suspension,
    };
    envelope::encode(key, &stored)
}

fn decode(vault: &Vault, key: &Key, value: &[u8]) -> Result<TenantRecord, StoreError> {
    let stored: Stored = envelope::decode(key, value, VERSION)?;
    let damaged = |reason: &str| StoreError::Damaged { key: key.clone(), reason: reason.to_owned() };
    let secret: Zeroizing<String> = vault.open(key, FIELD, &stored.upstream_api_key)?;
    let policy = stored.policy.into_iter().map(|(code, action)| Ok((code, action.parse()?)));
    let policy = policy.collect::<Result<_, crate::errors::UnknownAction>>();
    if Key::tenant(&stored.id) != *key {
        return Err(damaged("it has the id of another tenant"));
    }
    Ok(TenantRecord {
        id: stored.id,
        is_from_file: stored.is_from_file,
        created_at: stored.created_at,
        app_id: stored.app_id,
        upstream_api_key: SecretText::from(secret.as_str()),
        keys: stored.keys,
        max_sessions: stored.max_sessions,
        max_starts_per_minute: stored.max_starts_per_minute,
        outbox_bytes: stored.outbox_bytes,
        max_connected_minutes_per_day: stored.max_connected_minutes_per_day,
        policy: policy.map_err(|_| damaged("its policy has an unknown action"))?,
        continuity: stored.continuity,
        requests_per_second: stored.requests_per_second,
        idle_timeout_s: stored.idle_timeout_s,
        is_leaving: stored.is_leaving,
        suspension: stored.suspension,
    })
}

pub(super) fn reseal(vault: &Vault, key: &Key, value: &[u8]) -> Result<Option<Bytes>, StoreError> {
    let mut stored: Stored = envelope::decode(key, value, VERSION)?;
    if envelope::reseal(vault, key, FIELD, &mut stored.upstream_api_key)? {
        envelope::encode(key, &stored).map(Some)
    } else {
        Ok(None)
    }
}

impl Records {
    /// Adds the writing of a tenant to `batch`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoEncryptionKey`] where it has an upstream key and nothing seals it.
    pub fn stage_tenant(
        &self,
        batch: Batch,
        tenant: &TenantRecord,
        expect: Expect,
    ) -> Result<Batch, StoreError> {
        let key = Key::tenant(&tenant.id);
        let value = encode(&self.vault, &key, tenant)?;
        Ok(batch.only_if(key.clone(), expect).put(key, value))
    }

    /// Adds the removal of a tenant to `batch`.
    pub fn stage_tenant_removal(&self, batch: Batch, id: &TenantId, expect: Expect) -> Batch {
        let key = Key::tenant(id);
        batch.only_if(key.clone(), expect).delete(key)
    }

    /// A tenant; `None` where there is none.
    ///
    /// # Errors
    ///
    /// Those of the store, and of a record that cannot be read.
    pub async fn tenant(&self, id: &TenantId) -> Result<Option<Kept<TenantRecord>>, StoreError> {
        let Some(entry) = self.store.get(&Key::tenant(id)).await? else { return Ok(None) };
        let record = decode(&self.vault, &entry.key, &entry.value)?;
        Ok(Some(Kept { record, revision: entry.revision }))
    }

    /// A page of the tenants, by id.
    ///
    /// # Errors
    ///
    /// Those of the store. A tenant that cannot be read is in [`Listed::unreadable`].
    pub async fn tenants(
        &self,
        after: Option<Key>,
        limit: usize,
    ) -> Result<Listed<TenantRecord>, StoreError> {
        self.page(Prefix::tenants(), after, limit, |entry| decode(&self.vault, &entry.key, &entry.value))
            .await
    }
}
