//! What operators say of tenants, in JSON.

use std::{collections::BTreeMap, time::SystemTime};

use secrecy::SecretString;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

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

/// The settings of a tenant, each of which may be left out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    app_id: Option<String>,
    upstream_api_key: Option<SecretString>,
    #[serde(default, deserialize_with = "own")]
    max_sessions: Own<u32>,
    #[serde(default, deserialize_with = "own")]
    max_starts_per_minute: Own<u32>,
    #[serde(default, deserialize_with = "own")]
    requests_per_second: Own<u32>,
    #[serde(default, deserialize_with = "own")]
    outbox_bytes: Own<u32>,
    #[serde(default, deserialize_with = "own")]
    continuity: Own<Continuity>,
    #[serde(default, deserialize_with = "own")]
    policy: Own<BTreeMap<ErrorCode, Option<Action>>>,
    #[serde(default, deserialize_with = "own")]
    idle_timeout_s: Own<u64>,
    #[serde(default, deserialize_with = "own")]
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    name: String,
    #[serde(default)]
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
