//! What a tenant is, from the configuration file or from its record, with the defaults for what it does not say.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    config::{self, Config},
    outbox::Continuity,
    recovery::RecoveryConfig,
    session::TenantTerms,
    store::{
        Pepper,
        records::{ClientKeyRecord, TenantRecord, UnixMillis},
    },
    tenants::{ManagedBy, Tenant},
};

/// What holds for a tenant that does not say otherwise.
#[derive(Clone, Debug)]
pub struct TenantDefaults {
    /// Backoff, budget and the action for each code.
    pub recovery: config::Recovery,
    /// The most bytes of the outboxes of its sessions.
    pub outbox_bytes: usize,
    /// What it has for its sessions.
    pub sessions: config::Defaults,
}

impl TenantDefaults {
    /// The defaults of a configuration.
    pub fn of(config: &Config) -> Self {
        Self {
            recovery: config.recovery.clone(),
            outbox_bytes: config.outbox.tenant_bytes,
            sessions: config.defaults.clone(),
        }
    }

    fn terms(&self, tenant: Tenant) -> TenantTerms {
        let config::Recovery { backoff, budget, stable_after, policy, park_probe: _ } = &self.recovery;
        let policy =
            tenant.policy.iter().fold(policy.clone(), |policy, (code, action)| policy.with(*code, *action));
        let recovery =
            RecoveryConfig { policy, backoff: *backoff, budget: *budget, stable_after: *stable_after };
        TenantTerms { tenant: Arc::new(tenant), recovery: Arc::new(recovery) }
    }

    /// Zero is for ever.
    fn idle_timeout(&self, own: Option<Duration>) -> Option<Duration> {
        own.map_or(self.sessions.idle_timeout, |own| Some(own).filter(|span| !span.is_zero()))
    }

    /// The terms of a tenant of the configuration file.
    pub(super) fn of_file(&self, tenant: &config::Tenant) -> TenantTerms {
        self.terms(Tenant {
            id: tenant.id.clone(),
            managed_by: ManagedBy::File,
            created_at: None,
            app_id: tenant.app_id.clone(),
            upstream_api_key: tenant.upstream_api_key.clone(),
            max_sessions: tenant.max_sessions,
            max_starts_per_minute: tenant.max_starts_per_minute,
            requests_per_second: tenant.requests_per_second,
            outbox_bytes: tenant.outbox_bytes.unwrap_or(self.outbox_bytes),
            continuity: tenant.continuity.unwrap_or(self.sessions.continuity),
            policy: tenant.policy.clone(),
            idle_timeout: self.idle_timeout(tenant.idle_timeout),
            max_connected_minutes_per_day: tenant.max_connected_minutes_per_day,
            pool: tenant.pool.clone(),
        })
    }

    /// The terms of a tenant that was made over HTTP.
    pub(super) fn of_record(&self, record: &TenantRecord) -> TenantTerms {
        let own = record.continuity.as_deref();
        let continuity = [Continuity::Off, Continuity::Unanswered, Continuity::Resume]
            .into_iter()
            .find(|continuity| own == Some(continuity.as_str()));
        let outbox_bytes = record.outbox_bytes.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        self.terms(Tenant {
            id: record.id.clone(),
            managed_by: ManagedBy::Api,
            created_at: Some(SystemTime::UNIX_EPOCH + Duration::from_millis(record.created_at.0)),
            app_id: record.app_id.clone(),
            upstream_api_key: record.upstream_api_key.clone().into(),
            max_sessions: record.max_sessions,
            max_starts_per_minute: record.max_starts_per_minute,
            requests_per_second: record.requests_per_second,
            outbox_bytes: outbox_bytes.unwrap_or(self.outbox_bytes),
            continuity: continuity.unwrap_or(self.sessions.continuity),
            policy: record.policy.clone(),
            idle_timeout: self.idle_timeout(record.idle_timeout_s.map(Duration::from_secs)),
            max_connected_minutes_per_day: record.max_connected_minutes_per_day,
            pool: Vec::new(),
        })
    }
}

/// Whether nothing of a tenant is another.
pub(super) fn is_same(before: &TenantTerms, now: &TenantTerms) -> bool {
    use secrecy::ExposeSecret as _;
    // What is shown of a tenant is all of it but its secret.
    before.tenant.upstream_api_key.expose_secret() == now.tenant.upstream_api_key.expose_secret()
        && format!("{before:?}") == format!("{now:?}")
}

/// The keys of a tenant of the configuration file, which have no names there.
pub(super) fn keys_of_file(tenant: &config::Tenant, pepper: &Pepper) -> Vec<ClientKeyRecord> {
    use secrecy::ExposeSecret as _;
    let named = tenant.keys.iter().enumerate();
    named
        .map(|(index, key)| ClientKeyRecord {
            name: format!("keys[{index}]"),
            hash: pepper.hash(key.expose_secret()),
            created_at: UnixMillis::default(),
            expires_at: None,
        })
        .collect()
}
