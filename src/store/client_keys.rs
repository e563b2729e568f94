//! What tenants' backends present, kept as hashes: whoever reads the file cannot act as a tenant.
//!
//! The hash is HMAC-SHA256 under a pepper. The keys are random and long, so that a slow hash would only make every
//! request slow. The pepper lies in the store, sealed: it outlives a change of the store's key, and without that
//! key the hashes cannot even be tried against a guess.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
use ring::{
    hmac,
    rand::{SecureRandom, SystemRandom},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{Expect, Key, Protected, Store, StoreError, Vault, records::envelope};

const PEPPER_BYTES: usize = 32;
const HASH_BYTES: usize = 32;
const FIELD: &str = "pepper";

/// The hash of a client's key.
#[derive(Clone, Copy)]
pub struct ClientKeyHash([u8; HASH_BYTES]);

impl ClientKeyHash {
    /// Whether both are of the same key, in a time that does not tell how much of them is equal.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// The part of it that a table is ordered by. What the time of a look-up tells of a hash is of no use: without
    /// the pepper nobody can make a key with a hash of their choice.
    pub const fn slot(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

impl PartialEq for ClientKeyHash {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other)
    }
}

impl Eq for ClientKeyHash {}

impl fmt::Debug for ClientKeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientKeyHash")
    }
}

impl Serialize for ClientKeyHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD_NO_PAD.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for ClientKeyHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64_STANDARD_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| D::Error::custom("no hash of 32 bytes in base64"))
    }
}

/// What makes the hashes of this store its own.
#[derive(Clone)]
pub struct Pepper(hmac::Key);

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper")
    }
}

/// The pepper's record.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredPepper {
    pub(super) v: u32,
    pub(super) pepper: Protected,
}

impl StoredPepper {
    pub(super) const VERSION: u32 = 1;

    pub(super) fn key() -> Key {
        Key::single(FIELD)
    }
}

impl Pepper {
    /// The store's pepper, which is made where there is none.
    ///
    /// Without a key to seal it, it lies beside the hashes in clear: they are then as good as plain SHA-256, which
    /// is enough for keys that are long and random.
    ///
    /// # Errors
    ///
    /// Those of the store, and of a pepper that cannot be opened.
    pub async fn load(store: &dyn Store, vault: &Vault) -> Result<Self, StoreError> {
        let key = StoredPepper::key();
        if let Some(pepper) = Self::read(store, vault, &key).await? {
            return Ok(pepper);
        }
        let mut bytes = Zeroizing::new([0; PEPPER_BYTES]);
        SystemRandom::new().fill(bytes.as_mut()).map_err(|_| StoreError::NoRandomness)?;
        let text = Zeroizing::new(BASE64_STANDARD_NO_PAD.encode(bytes.as_ref()));
        let pepper = vault.seal(&key, FIELD, &text, false)?;
        let value = envelope::encode(&key, &StoredPepper { v: StoredPepper::VERSION, pepper })?;
        match store.compare_and_put(key.clone(), Expect::Absent, value).await {
            Ok(_) => Ok(Self::new(bytes.as_ref())),
            // Another node was quicker.
            Err(StoreError::Conflict { .. }) => Self::read(store, vault, &key)
                .await?
                .ok_or_else(|| StoreError::Damaged { key, reason: "it comes and goes".to_owned() }),
            Err(error) => Err(error),
        }
    }

    async fn read(store: &dyn Store, vault: &Vault, key: &Key) -> Result<Option<Self>, StoreError> {
        let Some(entry) = store.get(key).await? else { return Ok(None) };
        let stored: StoredPepper = envelope::decode(key, &entry.value, StoredPepper::VERSION)?;
        let text = vault.open(key, FIELD, &stored.pepper)?;
        let bytes = BASE64_STANDARD_NO_PAD.decode(text.as_bytes()).map(Zeroizing::new);
        match bytes {
            Ok(bytes) if bytes.len() == PEPPER_BYTES => Ok(Some(Self::new(&bytes))),
            Ok(_) | Err(_) => {
                Err(StoreError::Damaged { key: key.clone(), reason: "is no pepper".to_owned() })
            }
        }
    }

    fn new(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// The hash of a client's key.
    pub fn hash(&self, key: &str) -> ClientKeyHash {
        let mut hash = [0; HASH_BYTES];
        for (to, from) in hash.iter_mut().zip(hmac::sign(&self.0, key.as_bytes()).as_ref()) {
            *to = *from;
        }
        ClientKeyHash(hash)
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretBox;

    use super::*;
    use crate::store::{Memory, StoreKey};

    #[tokio::test]
    async fn a_pepper_is_made_once_and_outlives_a_change_of_the_stores_key() {
        let key = |byte| Some(StoreKey::new(&SecretBox::new(Box::new([byte; 32]))));
        let (store, old) = (Memory::new(), Vault::new(key(1), None, false));
        let hash = Pepper::load(&store, &old).await.unwrap().hash("a-key-of-acme");
        let rotated = Vault::new(key(2), key(1), false);
        let again = Pepper::load(&store, &rotated).await.unwrap();
        assert!(again.hash("a-key-of-acme").matches(&hash));
        assert!(!again.hash("a-key-of-acmf").matches(&hash));
        let other = Pepper::load(&Memory::new(), &old).await.unwrap();
        assert!(!other.hash("a-key-of-acme").matches(&hash));
        let lost = Pepper::load(&store, &Vault::new(key(3), None, false)).await.unwrap_err();
        assert!(matches!(lost, StoreError::UnknownEncryptionKey { .. }), "{lost}");
    }

    #[tokio::test]
    async fn a_hash_reads_back_and_shows_nothing() {
        let pepper = Pepper::load(&Memory::new(), &Vault::default()).await.unwrap();
        let hash = pepper.hash("a-key-of-acme");
        let text = serde_json::to_string(&hash).unwrap();
        assert!(serde_json::from_str::<ClientKeyHash>(&text).unwrap().matches(&hash));
        assert!(serde_json::from_str::<ClientKeyHash>("\"AAAA\"").is_err());
        assert_eq!(format!("{hash:?} {pepper:?}"), "ClientKeyHash Pepper");
    }
}
