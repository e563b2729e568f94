//! A tenant as operators see it. Nothing in here is secret but a key that was just made.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    errors::{Action, ErrorCode},
    manager::{KeyInfo, ManagerHandle, TenantRuntime},
    outbox::Continuity,
    recovery::{StateName, TenantId},
};

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// A key of a tenant in JSON.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TenantKey)]
pub(in crate::http) struct KeyView {
    /// What it is called.
    name: String,
    /// When it was made, RFC 3339; null for one of the configuration file.
    created_at: Option<String>,
    /// From when on it is nobody's, RFC 3339; null is never.
    expires_at: Option<String>,
    /// The key itself, only in the answer to whoever made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

impl KeyView {
    pub(super) fn of(key: &KeyInfo) -> Self {
        Self {
            name: key.name.clone(),
            created_at: key.created_at.map(rfc3339),
            expires_at: key.expires_at.map(rfc3339),
            key: None,
        }
    }

    pub(super) fn with_key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }
}

/// Why nothing new of a tenant knocks.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Suspension)]
pub(in crate::http) struct SuspensionView {
    code: ErrorCode,
    /// RFC 3339.
    since: String,
}

/// A tenant in JSON. The names are the contract's.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Tenant)]
pub(in crate::http) struct TenantView {
    /// Its name in the API, logs and metrics.
    #[schema(value_type = String)]
    id: TenantId,
    /// Its app id at the avatar service.
    app_id: String,
    /// `file`, or `api`.
    managed_by: &'static str,
    suspended: Option<SuspensionView>,
    /// The number of its sessions in each state.
    #[schema(value_type = BTreeMap<String, usize>)]
    sessions: BTreeMap<&'static str, usize>,
    /// Connections to the avatar service, which are billed.
    upstream_connections: u32,
    /// Seconds that its connections stood, since the process started.
    connected_seconds: f64,
    /// On this day (UTC), as `max_connected_minutes_per_day` counts them.
    connected_minutes_today: f64,
    max_sessions: u32,
    max_starts_per_minute: Option<u32>,
    requests_per_second: Option<u32>,
    outbox_bytes: usize,
    continuity: Continuity,
    /// The codes whose action is its own.
    #[schema(value_type = BTreeMap<String, String>)]
    policy: BTreeMap<ErrorCode, Action>,
    /// Null is for ever.
    idle_timeout_s: Option<u64>,
    max_connected_minutes_per_day: Option<u32>,
    keys: Vec<KeyView>,
    /// Null for one of the configuration file.
    created_at: Option<String>,
    /// Its first key, only in the answer to whoever made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

impl TenantView {
    pub(super) fn of(runtime: &TenantRuntime, keys: &[KeyInfo], manager: &ManagerHandle) -> Self {
        let tenant = runtime.tenant();
        let mut sessions: BTreeMap<_, _> =
            StateName::ALL.into_iter().map(|state| (state.as_str(), 0)).collect();
        for entry in manager.registry().of_tenant(&runtime.id) {
            *sessions.entry(entry.snapshot.load().state_name().as_str()).or_default() += 1;
        }
        Self {
            id: runtime.id.clone(),
            app_id: tenant.app_id.clone(),
            managed_by: tenant.managed_by.as_str(),
            suspended: runtime.suspension().map(|suspension| SuspensionView {
                code: suspension.code,
                since: manager.clock().rfc3339(suspension.since),
            }),
            sessions,
            upstream_connections: runtime.usage.connections(),
            connected_seconds: runtime.usage.connected().as_secs_f64(),
            connected_minutes_today: runtime.usage.connected_today().as_secs_f64() / 60.0,
            max_sessions: tenant.max_sessions,
            max_starts_per_minute: tenant.max_starts_per_minute,
            requests_per_second: tenant.requests_per_second,
            outbox_bytes: tenant.outbox_bytes,
            continuity: tenant.continuity,
            policy: tenant.policy.clone(),
            idle_timeout_s: tenant.idle_timeout.as_ref().map(Duration::as_secs),
            max_connected_minutes_per_day: tenant.max_connected_minutes_per_day,
            keys: keys.iter().map(KeyView::of).collect(),
            created_at: tenant.created_at.map(rfc3339),
            key: None,
        }
    }

    pub(super) fn with_key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }
}
