//! Tenants, their keys and quotas: who is calling, and what they may have.

mod keys;
pub mod tokens;

use std::{fmt, sync::Arc};

use secrecy::{ExposeSecret, SecretString};

use crate::{
    config,
    recovery::{Policy, TenantId},
};

pub use crate::config::{PoolFormat, PoolSpec};
use keys::{KeyRing, Presented};

/// A tenant, as the rest of Greenroom knows it.
#[derive(Clone, Debug)]
pub struct Tenant {
    /// Its name in the API, the logs and the metrics.
    pub id: TenantId,
    /// Its app at the avatar service.
    pub app_id: String,
    /// Its API key at the avatar service.
    pub upstream_api_key: SecretString,
    /// The most sessions that it may have at once.
    pub max_sessions: u32,
    /// The action for each code.
    pub policy: Policy,
    /// The sessions that are kept connected for its drop-in clients.
    pub pool: Vec<PoolSpec>,
}

/// All tenants, by what their backends present and by id.
pub struct Directory {
    /// In the configuration's order.
    tenants: Vec<Arc<Tenant>>,
    /// The position in `tenants` that each key stands for.
    keys: KeyRing,
}

impl fmt::Debug for Directory {
    /// Leaves the keys out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").field("tenants", &self.tenants).finish_non_exhaustive()
    }
}

impl Directory {
    /// The directory of the tenants in `config`, whose ids and keys the configuration has found to differ.
    pub fn new(config: &config::Config) -> Self {
        let mut tenants = Vec::with_capacity(config.tenants.len());
        let mut keys = KeyRing::default();
        for (position, tenant) in config.tenants.iter().enumerate() {
            let config::Tenant { id, app_id, upstream_api_key, keys: own, max_sessions, policy, pool } =
                tenant;
            for key in own {
                keys.add(key.expose_secret(), position);
            }
            tenants.push(Arc::new(Tenant {
                id: id.clone(),
                app_id: app_id.clone(),
                upstream_api_key: upstream_api_key.clone(),
                max_sessions: *max_sessions,
                policy: policy.clone(),
                pool: pool.clone(),
            }));
        }
        Self { tenants, keys }
    }

    /// The tenant that `presented` is a key of.
    ///
    /// Takes the same time whichever key it is, and whether it is one at all: every key is compared, each to its end.
    pub fn authenticate(&self, presented: &str) -> Option<&Arc<Tenant>> {
        let position = self.keys.find(&Presented::new(presented)?)?;
        self.tenants.get(position)
    }

    /// The tenant with this id.
    pub fn get(&self, id: &str) -> Option<&Arc<Tenant>> {
        self.tenants.iter().find(|tenant| tenant.id.as_str() == id)
    }

    /// Every tenant, in the configuration's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<Tenant>> {
        self.tenants.iter()
    }
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

    const TWO_TENANTS: &str = r#"
        [admin]
        key = "key-of-the-operators"
        [[tenants]]
        id = "acme"
        app_id = "app-a"
        upstream_api_key = "upstream-a"
        keys = ["acme-key-one", "acme-key-two"]
        max_sessions = 3
        [[tenants]]
        id = "beta"
        app_id = "app-b"
        upstream_api_key = "upstream-b"
        keys = ["beta-key-one"]
    "#;

    fn config() -> config::Config {
        config::parse(TWO_TENANTS, "test.toml", &BTreeMap::new()).unwrap_or_else(|errors| panic!("{errors}"))
    }

    fn who(directory: &Directory, presented: &str) -> Option<String> {
        directory.authenticate(presented).map(|tenant| tenant.id.to_string())
    }

    #[test]
    fn each_key_is_its_own_tenants_and_nobody_elses() {
        let directory = Directory::new(&config());
        assert_eq!(who(&directory, "acme-key-one").as_deref(), Some("acme"));
        assert_eq!(who(&directory, "acme-key-two").as_deref(), Some("acme"));
        assert_eq!(who(&directory, "beta-key-one").as_deref(), Some("beta"));
        assert_eq!(directory.get("acme").map(|tenant| tenant.max_sessions), Some(3));
        assert_eq!(directory.iter().len(), 2);
    }

    #[test]
    fn what_is_almost_a_key_is_none() {
        let directory = Directory::new(&config());
        let padded = "acme-key-one\0";
        let long = "acme-key-one".repeat(1000);
        for presented in ["", "acme-key-on", "acme-key-onf", "Acme-key-one", "acme-key-one ", padded, &long] {
            assert_eq!(who(&directory, presented), None, "{presented:?}");
        }
        assert_eq!(who(&directory, "key-of-the-operators"), None);
        assert_eq!(who(&Directory::new(&config::Config::default()), "acme-key-one"), None);
    }

    #[test]
    fn the_admin_key_is_no_tenants_key_and_there_is_none_unless_configured() {
        let key = AdminKey::new(&config().admin).unwrap();
        assert!(key.matches("key-of-the-operators"));
        for presented in ["", "key-of-the-operator", "key-of-the-operators\0", "acme-key-one"] {
            assert!(!key.matches(presented), "{presented:?}");
        }
        assert!(AdminKey::new(&config::Admin::default()).is_none());
    }

    #[test]
    fn keys_do_not_show_in_debug_output() {
        let shown = format!("{:?} {:?}", Directory::new(&config()), AdminKey::new(&config().admin).unwrap());
        for secret in ["acme-key", "beta-key", "upstream-a", "operators"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(shown.contains("acme"), "{shown}");
    }
}
