//! The names of records: text, in one order, with what is numerous spread over shards.
//!
//! | prefix | record |
//! | --- | --- |
//! | `s/SHARD/SESSION` | a session |
//! | `h/SHARD/SESSION/CLASS/NUMBER` | an entry of its history |
//! | `r/SHARD/SESSION/REQUEST` | a request for audio of its |
//! | `t/TENANT` | a tenant |
//! | `i/SHARD/DIGEST` | an idempotency key, by the digest of tenant, route and key |
//! | `x/HOUR/KEY` | that `KEY` expires in that hour; no value |
//! | `m/NAME` | what there is one of |

use std::fmt;

use ring::digest::{SHA256, digest};

use crate::recovery::{SessionId, TenantId};

/// The number of shards. Never changes: it is part of every key.
pub const SHARDS: u16 = 1024;

/// One of [`SHARDS`] parts of the sessions. A node owns shards, not sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(u16);

impl Shard {
    /// The shard of an id: the first ten bits of its SHA-256.
    pub fn of(id: &str) -> Self {
        let digest = digest(&SHA256, id.as_bytes());
        match digest.as_ref() {
            [first, second, ..] => Self(u16::from_be_bytes([*first, *second]) >> 6),
            _ => Self(0),
        }
    }

    /// Every shard.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        (0..SHARDS).map(Self)
    }

    /// The number, below [`SHARDS`].
    pub const fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03x}", self.0)
    }
}

/// The name of a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// The longest key, in bytes: an id or a tenant's name is far shorter.
    pub const MAX_BYTES: usize = 512;

    /// A key of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The key of a session.
    pub fn session(id: &SessionId) -> Self {
        Self(format!("s/{}/{id}", Shard::of(id.as_str())))
    }

    /// The key of a request for audio.
    pub fn request(id: &SessionId, req_id: &str) -> Self {
        Self(format!("{}{req_id}", Prefix::requests(id).0))
    }

    /// The key of a tenant.
    pub fn tenant(id: &TenantId) -> Self {
        Self(format!("t/{id}"))
    }

    /// The key of an idempotency key. What a client gave is only in the digest: it may be any text.
    pub fn idempotency(tenant: &TenantId, route: &str, key: &str) -> Self {
        // Lengths before the texts, so that no two triples read alike.
        let text = format!("{}:{tenant}{}:{route}{key}", tenant.as_str().len(), route.len());
        let digest = hex(digest(&SHA256, text.as_bytes()).as_ref());
        Self(format!("i/{}/{digest}", Shard::of(&digest)))
    }

    /// The key that says that `key` expires in this hour since the epoch.
    pub fn expiry(hour: u64, key: &Self) -> Self {
        Self(format!("x/{hour:010}/{key}"))
    }

    /// The key of something there is one of.
    pub fn single(name: &str) -> Self {
        Self(format!("m/{name}"))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The hour and the key of an expiry.
    pub fn expires(&self) -> Option<(u64, Self)> {
        let (hour, key) = self.0.strip_prefix("x/")?.split_once('/')?;
        Some((hour.parse().ok()?, Self(key.to_owned())))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The beginning of keys that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(String);

impl Prefix {
    /// A prefix of this text; all keys where it is empty.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// All sessions, shard by shard.
    pub fn sessions() -> Self {
        Self::new("s/")
    }

    /// The sessions of a shard.
    pub fn sessions_of(shard: Shard) -> Self {
        Self(format!("s/{shard}/"))
    }

    /// The history of a session, class by class.
    pub fn history(id: &SessionId) -> Self {
        Self(format!("h/{}/{id}/", Shard::of(id.as_str())))
    }

    /// The requests of a session, from the one that began first.
    pub fn requests(id: &SessionId) -> Self {
        Self(format!("r/{}/{id}/", Shard::of(id.as_str())))
    }

    /// All tenants.
    pub fn tenants() -> Self {
        Self::new("t/")
    }

    /// All idempotency keys.
    pub fn idempotency() -> Self {
        Self::new("i/")
    }

    /// What expires, the earliest first.
    pub fn expiries() -> Self {
        Self::new("x/")
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `key` begins with it.
    pub fn holds(&self, key: &Key) -> bool {
        key.0.starts_with(&self.0)
    }
}

/// Two digits for each byte, in lower case.
pub(super) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sessions_shard_is_the_same_for_ever() {
        // Computed by another implementation of SHA-256: the first ten bits.
        assert_eq!(Key::session(&SessionId::from("ses_0")).as_str(), "s/2b9/ses_0");
        assert_eq!(Key::session(&SessionId::from("ses_1")).as_str(), "s/11a/ses_1");
    }

    #[test]
    fn ids_spread_over_all_shards() {
        let mut counts = vec![0_u32; usize::from(SHARDS)];
        for number in 0..100_000 {
            counts[usize::from(Shard::of(&format!("ses_{number}")).number())] += 1;
        }
        assert!(counts.iter().all(|count| (40..200).contains(count)), "{counts:?}");
    }

    #[test]
    fn idempotency_keys_differ_where_tenant_route_or_key_does() {
        let key = |tenant: &str, route, key| Key::idempotency(&TenantId::from(tenant), route, key);
        let keys = [key("a", "b", "c"), key("ab", "", "c"), key("a", "bc", ""), key("", "ab", "c")];
        for (at, one) in keys.iter().enumerate() {
            assert!(keys.iter().skip(at + 1).all(|other| other != one), "{keys:?}");
        }
        assert_eq!(key("a", "b", "c"), key("a", "b", "c"));
    }

    #[test]
    fn an_expiry_reads_back() {
        let key = Key::session(&SessionId::from("ses_1"));
        assert_eq!(Key::expiry(490_123, &key).expires(), Some((490_123, key.clone())));
        assert_eq!(key.expires(), None);
        assert!(Key::expiry(9, &key) < Key::expiry(10, &key));
    }
}
