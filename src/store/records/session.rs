//! A session: what it is made from, what should become of it, and what is remembered of its troubles.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Kept, Listed, Records, SecretText, UnixMillis, envelope, id};
use crate::{
    errors::{ErrorCode, Phase, SessionError},
    recovery::{SessionId, TenantId},
    store::{Batch, Expect, Key, Prefix, Protected, Shard, StoreError, Vault},
};

const FIELD: &str = "spec";
const VERSION: u32 = 1;

/// How a session came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Made over HTTP.
    Api,
    /// Made by a drop-in client; ends when that stays away.
    Ingress,
}

/// What a session is made from, as its creator gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecRecord {
    /// The avatar, by the service's id.
    pub avatar_id: String,
    /// Samples a second.
    pub sample_rate: u32,
    /// Bits a second of encoded audio; 0 is the service's default.
    pub bitrate: u32,
    /// The encoding of the audio, as the API spells it: `pcm_s16le`, `ogg_opus`.
    pub audio_format: String,
    /// Where the avatar is published; without it, animation comes back.
    pub egress: Option<EgressRecord>,
    /// Names and values of the owner's choice.
    pub labels: BTreeMap<String, String>,
    /// What the owner wants of open requests when a connection breaks, as the API spells it.
    pub continuity: Option<String>,
    /// How often it was changed since it was made.
    #[serde(default)]
    pub revision: u64,
}

/// Where the service publishes the avatar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum EgressRecord {
    /// A LiveKit room.
    Livekit {
        /// The LiveKit server's URL.
        url: String,
        /// The room.
        room_name: String,
        /// The identity that the avatar joins with.
        publisher_id: String,
        /// Further attributes of the participant.
        extra_attributes: BTreeMap<String, String>,
        /// Seconds of silence after which the service leaves.
        idle_timeout: u32,
        /// A LiveKit access token for the room.
        api_token: SecretText,
        /// Deprecated by the service.
        api_key: SecretText,
        /// Deprecated by the service.
        api_secret: SecretText,
    },
    /// An Agora channel.
    Agora {
        /// The channel.
        channel_name: String,
        /// A token for the channel.
        token: SecretText,
        /// The user id that the avatar joins with.
        uid: u32,
        /// The publisher's id.
        publisher_id: String,
    },
}

impl SpecRecord {
    /// Whether there is anything in it that must not be stored in clear.
    pub fn holds_secrets(&self) -> bool {
        match &self.egress {
            None => false,
            Some(EgressRecord::Livekit { api_token, api_key, api_secret, .. }) => {
                [api_token, api_key, api_secret].iter().any(|secret| !secret.is_empty())
            }
            Some(EgressRecord::Agora { token, .. }) => !token.is_empty(),
        }
    }
}

/// The state that a restart of the process brings a session back to. What is under way (starting, running, backing
/// off) is one: it should run, and starts again through the gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Desired {
    /// It should run.
    Run,
    /// It is held without a connection.
    Parked {
        /// Why.
        hold: HoldRecord,
    },
    /// It sleeps until audio comes.
    Dormant,
    /// A person must mend something first; its last error says what.
    Failed,
    /// It was ended by its owner, and is listed for a while.
    Stopped {
        /// When.
        at: UnixMillis,
    },
}

/// Why a session is parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum HoldRecord {
    /// An error of its own.
    Error {
        /// The error's code.
        code: ErrorCode,
    },
    /// The service refuses the tenant's API key.
    KeyRefused,
    /// Its tenant is suspended.
    Suspension {
        /// The code of the other session that suspended it.
        code: ErrorCode,
    },
    /// Its tenant's connections have lasted for as long as they may in a day.
    Minutes,
    /// An operator.
    Operator,
}

/// An error of a session, and when it happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorRecord {
    /// When.
    pub at: UnixMillis,
    /// The stable code.
    pub code: ErrorCode,
    /// Where in the session's life.
    pub phase: Phase,
    /// What happened, for a person.
    pub message: String,
    /// HTTP status.
    pub http_status: Option<u16>,
    /// The service's own code.
    pub server_code: Option<String>,
    /// The service's title.
    pub server_title: Option<String>,
    /// The service's detail.
    pub server_detail: Option<String>,
    /// The connection it happened on.
    pub connection_id: Option<String>,
    /// The request it names.
    pub req_id: Option<String>,
    /// WebSocket close code.
    pub close_code: Option<u16>,
    /// WebSocket close reason.
    pub close_reason: Option<String>,
    /// The first of the answer's body, secrets removed.
    pub raw_body: Option<String>,
    /// How long the service asked to wait, in milliseconds.
    pub retry_after_ms: Option<u64>,
    /// The number of the classification rule that gave the code.
    pub rule: u8,
}

impl ErrorRecord {
    /// The record of `error`, which happened at `at`.
    pub fn new(error: &SessionError, at: UnixMillis) -> Self {
        let SessionError {
            code,
            phase,
            message,
            http_status,
            server_code,
            server_title,
            server_detail,
            connection_id,
            req_id,
            close_code,
            close_reason,
            raw_body,
            retry_after,
            rule,
            // Of the moment: what an error of before a restart lacked says nothing any more.
            shortage: _,
        } = error.clone();
        Self {
            at,
            code,
            phase,
            message,
            http_status,
            server_code,
            server_title,
            server_detail,
            connection_id,
            req_id,
            close_code,
            close_reason,
            raw_body,
            retry_after_ms: retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            rule,
        }
    }

    /// The error, and when it happened.
    pub fn into_error(self) -> (SessionError, UnixMillis) {
        let Self {
            at,
            code,
            phase,
            message,
            http_status,
            server_code,
            server_title,
            server_detail,
            connection_id,
            req_id,
            close_code,
            close_reason,
            raw_body,
            retry_after_ms,
            rule,
        } = self;
        let error = SessionError {
            code,
            phase,
            message,
            http_status,
            server_code,
            server_title,
            server_detail,
            connection_id,
            req_id,
            close_code,
            close_reason,
            raw_body,
            retry_after: retry_after_ms.map(Duration::from_millis),
            rule,
            shortage: None,
        };
        (error, at)
    }
}

/// What counts against a session, so that a restart of the process does not give it a fresh start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetRecord {
    /// When it used its restarts, the oldest first; no more than the budget has.
    pub used: Vec<UnixMillis>,
    /// Failed attempts that are not forgotten.
    pub attempts: u32,
    /// Renewals of the token that are not forgotten.
    pub renewals: u32,
    /// `protocolError` and `unknown` in a row.
    pub strikes: u32,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its id.
    pub id: SessionId,
    /// Whose it is.
    pub tenant: TenantId,
    /// How it came to be.
    pub origin: Origin,
    /// When it was made.
    pub created_at: UnixMillis,
    /// What it is made from.
    pub spec: SpecRecord,
    /// What should become of it.
    pub desired: Desired,
    /// Restarts since it was made.
    pub restarts: u64,
    /// What counts against it.
    pub budget: BudgetRecord,
    /// Its latest error.
    pub last_error: Option<ErrorRecord>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    v: u32,
    #[serde(deserialize_with = "id")]
    id: SessionId,
    #[serde(deserialize_with = "id")]
    tenant: TenantId,
    origin: Origin,
    created_at: UnixMillis,
    spec: Protected,
    desired: Desired,
    restarts: u64,
    #[serde(default)]
    budget: BudgetRecord,
    #[serde(default)]
    last_error: Option<ErrorRecord>,
}

fn encode(vault: &Vault, key: &Key, session: &SessionRecord) -> Result<Bytes, StoreError> {
    let spec = serde_json::to_string(&session.spec).map(Zeroizing::new);
    let spec = spec.map_err(|error| envelope::damaged(key, &error))?;
    let spec = vault.seal(key, FIELD, &spec, session.spec.holds_secrets())?;
    let SessionRecord { id, tenant, origin, created_at, spec: _, desired, restarts, budget, last_error } =
        session.clone();
    let stored =
        Stored { v: VERSION, id, tenant, origin, created_at, spec, desired, restarts, budget, last_error };
    envelope::encode(key, &stored)
}

fn decode(vault: &Vault, key: &Key, value: &[u8]) -> Result<SessionRecord, StoreError> {
    let stored: Stored = envelope::decode(key, value, VERSION)?;
    let spec = vault.open(key, FIELD, &stored.spec)?;
    let spec = serde_json::from_str(&spec).map_err(|error| envelope::damaged(key, &error))?;
    let Stored { v: _, id, tenant, origin, created_at, spec: _, desired, restarts, budget, last_error } =
        stored;
    if Key::session(&id) != *key {
        let reason = "it has the id of another session".to_owned();
        return Err(StoreError::Damaged { key: key.clone(), reason });
    }
    Ok(SessionRecord { id, tenant, origin, created_at, spec, desired, restarts, budget, last_error })
}

pub(super) fn reseal(vault: &Vault, key: &Key, value: &[u8]) -> Result<Option<Bytes>, StoreError> {
    let mut stored: Stored = envelope::decode(key, value, VERSION)?;
    if envelope::reseal(vault, key, FIELD, &mut stored.spec)? {
        envelope::encode(key, &stored).map(Some)
    } else {
        Ok(None)
    }
}

impl Records {
    /// Adds the writing of a session to `batch`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoEncryptionKey`] where its spec holds secrets and nothing seals them.
    pub fn stage_session(
        &self,
        batch: Batch,
        session: &SessionRecord,
        expect: Expect,
    ) -> Result<Batch, StoreError> {
        let key = Key::session(&session.id);
        let value = encode(&self.vault, &key, session)?;
        Ok(batch.only_if(key.clone(), expect).put(key, value))
    }

    /// Adds the writing of a session to `batch`, whatever was there: for whoever is its only writer.
    ///
    /// # Errors
    ///
    /// As for [`Records::stage_session`].
    pub fn stage_session_over(&self, batch: Batch, session: &SessionRecord) -> Result<Batch, StoreError> {
        let key = Key::session(&session.id);
        let value = encode(&self.vault, &key, session)?;
        Ok(batch.put(key, value))
    }

    /// Adds the removal of a session to `batch`, whatever was there; its history is not touched.
    pub fn stage_session_drop(&self, batch: Batch, id: &SessionId) -> Batch {
        batch.delete(Key::session(id))
    }

    /// A session; `None` where there is none.
    ///
    /// # Errors
    ///
    /// Those of the store, and of a record that cannot be read.
    pub async fn session(&self, id: &SessionId) -> Result<Option<Kept<SessionRecord>>, StoreError> {
        let Some(entry) = self.store.get(&Key::session(id)).await? else { return Ok(None) };
        let record = decode(&self.vault, &entry.key, &entry.value)?;
        Ok(Some(Kept { record, revision: entry.revision }))
    }

    /// A page of the sessions, of one shard or of all.
    ///
    /// # Errors
    ///
    /// Those of the store. A session that cannot be read is in [`Listed::unreadable`].
    pub async fn sessions(
        &self,
        shard: Option<Shard>,
        after: Option<Key>,
        limit: usize,
    ) -> Result<Listed<SessionRecord>, StoreError> {
        let prefix = shard.map_or_else(Prefix::sessions, Prefix::sessions_of);
        self.page(prefix, after, limit, |entry| decode(&self.vault, &entry.key, &entry.value)).await
    }
}
