//! Tenants and their quotas: what each may have, and the key of operators.

mod keys;
mod quotas;
pub mod tokens;

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, SystemTime},
};

use secrecy::{ExposeSecret, SecretString};

use crate::{
    config,
    errors::{Action, ErrorCode},
    outbox::Continuity,
    recovery::TenantId,
};

pub use crate::config::{PoolFormat, PoolSpec};
use keys::{KeyRing, Presented};
pub use quotas::{Quotas, TooFast};

/// Who says what a tenant is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManagedBy {
    /// The configuration file.
    File,
    /// Operators, over HTTP.
    Api,
}

impl ManagedBy {
    /// The spelling in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Api => "api",
        }
    }
}

/// A tenant, as the rest of Greenroom knows it: what it has of its own, and the defaults for the rest.
#[derive(Clone, Debug)]
pub struct Tenant {
    /// Its name in the API, the logs and the metrics.
    pub id: TenantId,
    /// Who says what it is.
    pub managed_by: ManagedBy,
    /// When it was made; `None` for one of the configuration file, which does not say.
    pub created_at: Option<SystemTime>,
    /// Its app at the avatar service.
    pub app_id: String,
    /// Its API key at the avatar service.
    pub upstream_api_key: SecretString,
    /// The most sessions that it may have at once.
    pub max_sessions: u32,
    /// The most sessions that may be made in a minute; `None` is no bound.
    pub max_starts_per_minute: Option<u32>,
    /// The most requests in a second over HTTP; `None` is no bound.
    pub requests_per_second: Option<u32>,
    /// The most bytes that the outboxes of its sessions may hold together.
    pub outbox_bytes: usize,
    /// The continuity of a session whose creator does not say.
    pub continuity: Continuity,
    /// The codes whose action is the tenant's own.
    pub policy: BTreeMap<ErrorCode, Action>,
    /// How long a session may be without a client and without audio; `None` is for ever.
    pub idle_timeout: Option<Duration>,
    /// The most minutes of connections in a day (UTC); `None` is no bound.
    pub max_connected_minutes_per_day: Option<u32>,
    /// The sessions that are kept connected for its drop-in clients.
    pub pool: Vec<PoolSpec>,
}

/// The key of operators.
pub struct AdminKey(KeyRing);

impl fmt::Debug for AdminKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminKey")
    }
}

impl AdminKey {
    /// The key of the configuration; `None` where it has none, and the admin API is read-only.
    pub fn new(admin: &config::Admin) -> Option<Self> {
        admin.key.as_ref().map(|key| {
            let mut ring = KeyRing::default();
            ring.add(key.expose_secret(), 0);
            Self(ring)
        })
    }

    /// Whether `presented` is the key, in a time that does not tell how much of it is right.
    pub fn matches(&self, presented: &str) -> bool {
        Presented::new(presented).is_some_and(|presented| self.0.find(&presented).is_some())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const FILE: &str = "[admin]\nkey = \"key-of-the-operators\"\n";

    fn config() -> config::Config {
        config::parse(FILE, "test.toml", &BTreeMap::new()).unwrap_or_else(|errors| panic!("{errors}"))
    }

    #[test]
    fn the_admin_key_is_that_key_and_there_is_none_unless_configured() {
        let key = AdminKey::new(&config().admin).unwrap();
        assert!(key.matches("key-of-the-operators"));
        let long = "key-of-the-operators".repeat(1000);
        for presented in ["", "key-of-the-operator", "key-of-the-operators\0", "Key-of-the-operators", &long]
        {
            assert!(!key.matches(presented), "{presented:?}");
        }
        assert!(AdminKey::new(&config::Admin::default()).is_none());
        assert_eq!(format!("{key:?}"), "AdminKey");
    }
}
