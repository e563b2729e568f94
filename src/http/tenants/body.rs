//! What operators say of tenants, in JSON.

use std::{collections::BTreeMap, time::SystemTime};

use secrecy::SecretString;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{
    errors::{Action, ErrorCode},
    http::{Problem, body},
    manager::{KeyName, Own, TenantPatch},
    outbox::Continuity,
};

/// The name of a tenant's first key where its maker gives none.
const FIRST_KEY: &str = "first";

/// Null is something else than nothing: it takes a setting back to its default.
fn own<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Own<T>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// The settings of a tenant, each of which may be left out; null is the default.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TenantSettings, example = json!({"max_sessions": 500, "requests_per_second": 50}))]
pub(in crate::http) struct Settings {
    /// Its app id at the avatar service.
    #[schema(min_length = 1, max_length = 256, pattern = "^[!-~]+$")]
    app_id: Option<String>,
    /// Its API key there. It is sealed, and never shown again.
    #[schema(value_type = Option<String>, format = Password, min_length = 1, max_length = 4096, pattern = "^[!-~]+$")]
    upstream_api_key: Option<SecretString>,
    /// Most sessions at once.
    #[serde(default, deserialize_with = "own")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1_000_000)]
    max_sessions: Own<u32>,
    /// Most sessions that it may create in a minute.
    #[serde(default, deserialize_with = "own")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1_000_000)]
    max_starts_per_minute: Own<u32>,
    /// Most calls of the API in a second.
    #[serde(default, deserialize_with = "own")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 100_000)]
    requests_per_second: Own<u32>,
    /// Most bytes of audio that wait or are kept for a replay, over all its sessions.
    #[serde(default, deserialize_with = "own")]
    #[schema(value_type = Option<u32>, minimum = 1_048_576, maximum = 4_293_918_720_u32)]
    outbox_bytes: Own<u32>,
    /// What becomes of a request whose connection breaks.
    #[serde(default, deserialize_with = "own")]
    #[schema(value_type = Option<Continuity>)]
    continuity: Own<Continuity>,
    /// What is done about each code, where it differs; a code with null takes the default again.
    #[serde(default, deserialize_with = "own")]
    #[schema(value_type = Option<BTreeMap<String, Option<String>>>)]
    policy: Own<BTreeMap<ErrorCode, Option<Action>>>,
    /// Seconds without a client and audio after which a session sleeps; 0 is never.
    #[serde(default, deserialize_with = "own")]
    #[schema(value_type = Option<u64>, maximum = 604_800)]
    idle_timeout_s: Own<u64>,
    /// Minutes that its connections may stand in a day (UTC).
    #[serde(default, deserialize_with = "own")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1_000_000_000)]
    max_connected_minutes_per_day: Own<u32>,
}

impl From<Settings> for TenantPatch {
    fn from(settings: Settings) -> Self {
        let policy = match settings.policy {
            None => BTreeMap::new(),
            Some(None) => ErrorCode::ALL.into_iter().map(|code| (code, None)).collect(),
            Some(Some(rows)) => rows,
        };
        Self {
            app_id: settings.app_id,
            upstream_api_key: settings.upstream_api_key,
            max_sessions: settings.max_sessions,
            max_starts_per_minute: settings.max_starts_per_minute,
            requests_per_second: settings.requests_per_second,
            outbox_bytes: settings.outbox_bytes,
            continuity: settings.continuity,
            policy,
            idle_timeout_s: settings.idle_timeout_s,
            max_connected_minutes_per_day: settings.max_connected_minutes_per_day,
        }
    }
}

/// A change of a tenant.
pub(super) fn patch(object: Map<String, Value>) -> Result<TenantPatch, Problem> {
    body::read::<Settings>(object).map(TenantPatch::from)
}

/// A key that is to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewTenantKey, example = json!({"name": "2027-spring", "expires_at": "2027-06-30T00:00:00Z"}))]
pub(in crate::http) struct Key {
    /// What it is called: of the characters A-Z, a-z, 0-9, `.`, `_` and `-`.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._-]+$")]
    name: String,
    /// From when on it is nobody's: RFC 3339, UTC; left out is never.
    #[serde(default)]
    #[schema(format = "utc-time")]
    expires_at: Option<String>,
}

/// A key that is to be made.
pub(super) fn key(object: Map<String, Value>) -> Result<KeyName, Problem> {
    let Key { name, expires_at } = body::read(object)?;
    let expires_at = expires_at.map(|text| time(&text)).transpose()?;
    Ok(KeyName { name, expires_at })
}

fn time(text: &str) -> Result<SystemTime, Problem> {
    humantime::parse_rfc3339(text).map_err(|_| {
        let detail = "expires_at: must be a time in RFC 3339, UTC, such as \"2030-01-31T00:00:00Z\"";
        Problem::unprocessable("invalidBody", detail)
    })
}

/// A tenant that is to be made, as it is documented; [`Wanted::read`] reads it in parts.
#[derive(ToSchema)]
#[schema(as = NewTenant, example = json!({
    "id": "acme", "app_id": "app_123", "upstream_api_key": "its-key-at-the-avatar-service", "max_sessions": 200
}))]
#[expect(dead_code, reason = "only its schema is used")]
pub(in crate::http) struct New {
    /// Its name in the API, logs and metrics.
    #[schema(format = "tenant-id", min_length = 1)]
    id: String,
    /// What its first key is called, `first` where it is left out.
    key: Option<Key>,
}

/// A tenant that is to be made.
pub(super) struct Wanted {
    pub(super) id: String,
    pub(super) patch: TenantPatch,
    pub(super) key: KeyName,
}

impl Wanted {
    pub(super) fn read(text: &[u8]) -> Result<Self, Problem> {
        let invalid = |detail: &str| Problem::unprocessable("invalidBody", detail);
        let mut object = body::json_object(text)?;
        let id = match object.remove("id") {
            Some(Value::String(id)) => id,
            Some(_) => return Err(invalid("id: a string is expected")),
            None => {
                return Err(invalid("id: is missing; give the tenant's name in the API, logs and metrics"));
            }
        };
        let key = match object.remove("key") {
            None | Some(Value::Null) => KeyName { name: FIRST_KEY.to_owned(), expires_at: None },
            Some(Value::Object(given)) => key(given)?,
            Some(_) => return Err(invalid("key: {\"name\": ..., \"expires_at\": ...} is expected")),
        };
        Ok(Self { id, patch: patch(object)?, key })
    }
}
