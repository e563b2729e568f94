//! Who is there, by id and by key.

use std::{collections::BTreeMap, fmt, sync::Arc, time::SystemTime};

use crate::{
    config,
    recovery::TenantId,
    session::TenantRuntime,
    store::{
        ClientKeyHash, Pepper,
        records::{ClientKeyRecord, UnixMillis},
    },
};

/// A key of a tenant as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its name.
    pub name: String,
    /// When it was made; `None` for one of the configuration file.
    pub created_at: Option<SystemTime>,
    /// When it ends; `None` is never.
    pub expires_at: Option<SystemTime>,
}

struct Key {
    hash: ClientKeyHash,
    expires_at: Option<UnixMillis>,
    tenant: Arc<TenantRuntime>,
}

struct Member {
    runtime: Arc<TenantRuntime>,
    keys: Vec<KeyInfo>,
}

/// The tenants and their keys at one moment.
///
/// Keys are kept as hashes under the store's pepper. A key that is presented is hashed, and compared in constant
/// time with those in the same slot of the table: the slot depends on the hash, which nobody can choose.
pub struct Roster {
    pepper: Arc<Pepper>,
    members: BTreeMap<TenantId, Member>,
    keys: BTreeMap<u64, Vec<Key>>,
}

impl fmt::Debug for Roster {
    /// Leaves the keys out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roster").field("tenants", &self.members.keys()).finish_non_exhaustive()
    }
}

impl Roster {
    /// A roster without tenants.
    pub const fn new(pepper: Arc<Pepper>) -> Self {
        Self { pepper, members: BTreeMap::new(), keys: BTreeMap::new() }
    }

    /// Adds a tenant with these keys.
    pub fn add(&mut self, runtime: Arc<TenantRuntime>, keys: &[ClientKeyRecord], is_from_file: bool) {
        let time = |millis: UnixMillis| SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(millis.0);
        let mut shown = Vec::with_capacity(keys.len());
        for key in keys {
            shown.push(KeyInfo {
                name: key.name.clone(),
                created_at: Some(key.created_at).filter(|_| !is_from_file).map(time),
                expires_at: key.expires_at.map(time),
            });
            let entry = Key { hash: key.hash, expires_at: key.expires_at, tenant: Arc::clone(&runtime) };
            self.keys.entry(key.hash.slot()).or_default().push(entry);
        }
        self.members.insert(runtime.id.clone(), Member { runtime, keys: shown });
    }

    /// The tenant with this id.
    pub fn get(&self, id: &str) -> Option<&Arc<TenantRuntime>> {
        self.members.get(id).map(|member| &member.runtime)
    }

    /// The names of a tenant's keys, in the order in which they were made.
    pub fn keys_of(&self, id: &str) -> &[KeyInfo] {
        self.members.get(id).map_or(&[], |member| &member.keys)
    }

    /// Every tenant, by id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<TenantRuntime>> {
        self.members.values().map(|member| &member.runtime)
    }

    /// The tenant that `presented` is a key of at `now`.
    pub fn authenticate(&self, presented: &str, now: SystemTime) -> Option<&Arc<TenantRuntime>> {
        if presented.len() > config::Tenant::MAX_KEY_BYTES {
            return None;
        }
        let hash = self.pepper.hash(presented);
        let now = UnixMillis::from(now);
        let key = self.keys.get(&hash.slot())?.iter().find(|key| key.hash.matches(&hash))?;
        key.expires_at.is_none_or(|end| now < end).then_some(&key.tenant)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::*;
    use crate::{
        config::Config,
        manager::tenants::terms::{TenantDefaults, keys_of_file},
        store::{Memory, Vault},
        telemetry::Metrics,
    };

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

    fn config() -> Config {
        config::parse(TWO_TENANTS, "test.toml", &BTreeMap::new()).unwrap_or_else(|errors| panic!("{errors}"))
    }

    async fn roster() -> Roster {
        let pepper = Arc::new(Pepper::load(&Memory::new(), &Vault::default()).await.unwrap());
        let mut roster = Roster::new(Arc::clone(&pepper));
        let (config, metrics) = (config(), Metrics::new(2));
        let defaults = TenantDefaults::of(&config);
        for tenant in &config.tenants {
            let runtime = TenantRuntime::new(defaults.of_file(tenant), metrics.tenant(&tenant.id));
            roster.add(Arc::new(runtime), &keys_of_file(tenant, &pepper), true);
        }
        roster
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn who(roster: &Roster, presented: &str, now: u64) -> Option<String> {
        roster.authenticate(presented, at(now)).map(|tenant| tenant.id.to_string())
    }

    #[tokio::test]
    async fn each_key_is_its_own_tenants_and_nobody_elses() {
        let roster = roster().await;
        assert_eq!(who(&roster, "acme-key-one", 0).as_deref(), Some("acme"));
        assert_eq!(who(&roster, "acme-key-two", 0).as_deref(), Some("acme"));
        assert_eq!(who(&roster, "beta-key-one", 0).as_deref(), Some("beta"));
        assert_eq!(roster.get("acme").map(|tenant| tenant.tenant().max_sessions), Some(3));
        assert_eq!((roster.iter().len(), roster.keys_of("acme").len()), (2, 2));
    }

    #[tokio::test]
    async fn what_is_almost_a_key_is_none() {
        let roster = roster().await;
        let padded = "acme-key-one\0";
        let long = "acme-key-one".repeat(1000);
        for presented in ["", "acme-key-on", "acme-key-onf", "Acme-key-one", "acme-key-one ", padded, &long] {
            assert_eq!(who(&roster, presented, 0), None, "{presented:?}");
        }
        assert_eq!(who(&roster, "key-of-the-operators", 0), None);
    }

    #[tokio::test]
    async fn a_key_ends_when_it_expires_and_its_neighbour_goes_on() {
        let mut roster = roster().await;
        let runtime = Arc::clone(roster.get("acme").unwrap());
        let key = |name: &str, expires_at| ClientKeyRecord {
            name: name.to_owned(),
            hash: roster.pepper.hash(name),
            created_at: UnixMillis(5),
            expires_at,
        };
        let keys = [key("old-key-of-gamma", Some(UnixMillis(60_000))), key("new-key-of-gamma", None)];
        roster.add(runtime, &keys, false);
        assert_eq!(who(&roster, "old-key-of-gamma", 59).as_deref(), Some("acme"));
        assert_eq!(who(&roster, "old-key-of-gamma", 60), None);
        assert_eq!(who(&roster, "new-key-of-gamma", 60).as_deref(), Some("acme"));
        assert_eq!(roster.keys_of("acme")[0].expires_at, Some(at(60)));
    }

    #[tokio::test]
    async fn keys_do_not_show_in_debug_output() {
        let roster = roster().await;
        let shown = format!("{roster:?} {:?}", roster.get("acme").unwrap().tenant());
        for secret in ["acme-key", "beta-key", "upstream-a"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(shown.contains("acme"), "{shown}");
    }
}
