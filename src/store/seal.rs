//! Secrets at rest: sealed with XChaCha20-Poly1305, each bound to the record and the field that it stands in.
//!
//! Nonces are drawn at random: 24 bytes are enough for that however much is written, which the 12 of the common
//! ciphers are not (after some months of 200 seals a second two may be equal). The associated data is the record's
//! key and the field's name, so that a sealed value which is moved to another record does not open there.
//!
//! The key is 32 random bytes and no passphrase: a passphrase can be guessed as fast as a thief's machines allow,
//! and stretching it would cost seconds at every start. Rotation: the new key goes to `store.encryption_key`, the
//! old one to `store.encryption_key_previous`; [`Records::reseal`](super::Records::reseal) writes what is still
//! sealed with the old one anew, and then the old one can go.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use ring::{
    hmac,
    rand::{SecureRandom, SystemRandom},
};
use secrecy::{ExposeSecret, SecretBox};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Key, StoreError, key::hex};

const NONCE_BYTES: usize = 24;

/// A key that values are sealed with.
#[derive(Clone)]
pub struct StoreKey {
    id: String,
    cipher: XChaCha20Poly1305,
}

impl StoreKey {
    /// The key of 32 random bytes. Its id, which records name, tells nothing of it.
    pub fn new(bytes: &SecretBox<[u8; 32]>) -> Self {
        let bytes = bytes.expose_secret();
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, bytes), b"greenroom store key id");
        let id = tag.as_ref().iter().copied().take(6).collect::<Vec<u8>>();
        Self { id: hex(&id), cipher: XChaCha20Poly1305::new(bytes.into()) }
    }

    /// The id that records name.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A text in a record that may hold secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protected {
    /// In clear: it holds no secrets, or the configuration allows them so.
    Plain(String),
    /// Sealed.
    Sealed {
        /// The id of the key.
        key: String,
        /// The nonce, in base64.
        nonce: String,
        /// The sealed text with its tag, in base64.
        text: String,
    },
}

/// Seals and opens.
#[derive(Clone, Debug, Default)]
pub struct Vault {
    current: Option<StoreKey>,
    previous: Option<StoreKey>,
    allows_plaintext: bool,
}

impl Vault {
    /// A vault that seals with `current` and opens with either. Without `current`, texts that hold secrets are
    /// refused unless `allows_plaintext`.
    pub const fn new(current: Option<StoreKey>, previous: Option<StoreKey>, allows_plaintext: bool) -> Self {
        Self { current, previous, allows_plaintext }
    }

    /// Seals `text` for the field `field` of the record `record`. With a key everything is sealed, since what holds
    /// a secret is not always known; without one, what holds none stays in clear.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoEncryptionKey`] where it holds secrets and must not be in clear.
    pub fn seal(
        &self,
        record: &Key,
        field: &str,
        text: &str,
        holds_secrets: bool,
    ) -> Result<Protected, StoreError> {
        let Some(key) = &self.current else {
            return if holds_secrets && !self.allows_plaintext {
                Err(StoreError::NoEncryptionKey { key: record.clone() })
            } else {
                Ok(Protected::Plain(text.to_owned()))
            };
        };
        let mut nonce = [0; NONCE_BYTES];
        SystemRandom::new().fill(&mut nonce).map_err(|_| StoreError::NoRandomness)?;
        let aad = associated(record, field);
        let payload = Payload { msg: text.as_bytes(), aad: &aad };
        // The cipher fails beyond 256 GiB only.
        let sealed = key
            .cipher
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| StoreError::TooLarge { what: format!("{record} is too large to be sealed") })?;
        Ok(Protected::Sealed {
            key: key.id.clone(),
            nonce: BASE64_STANDARD_NO_PAD.encode(nonce),
            text: BASE64_STANDARD_NO_PAD.encode(sealed),
        })
    }

    /// Opens what was sealed for this field of this record. The text is wiped when it is dropped.
    ///
    /// # Errors
    ///
    /// [`StoreError::UnknownEncryptionKey`] where it was sealed with a third key, [`StoreError::Damaged`] where it
    /// was changed or belongs elsewhere.
    pub fn open(
        &self,
        record: &Key,
        field: &str,
        protected: &Protected,
    ) -> Result<Zeroizing<String>, StoreError> {
        let damaged =
            |reason: &str| StoreError::Damaged { key: record.clone(), reason: format!("{field} {reason}") };
        let (id, nonce, text) = match protected {
            Protected::Plain(text) => return Ok(Zeroizing::new(text.clone())),
            Protected::Sealed { key, nonce, text } => (key, nonce, text),
        };
        let keys = self.current.iter().chain(&self.previous);
        let key = keys
            .into_iter()
            .find(|key| key.id == *id)
            .ok_or_else(|| StoreError::UnknownEncryptionKey { key: record.clone(), key_id: id.clone() })?;
        let nonce = BASE64_STANDARD_NO_PAD.decode(nonce).map_err(|_| damaged("has no nonce"))?;
        let nonce = <[u8; NONCE_BYTES]>::try_from(nonce).map_err(|_| damaged("has no nonce"))?;
        let text = BASE64_STANDARD_NO_PAD.decode(text).map_err(|_| damaged("is no base64"))?;
        let aad = associated(record, field);
        let opened = key
            .cipher
            .decrypt(&XNonce::from(nonce), Payload { msg: &text, aad: &aad })
            .map_err(|_| damaged("was changed, or sealed for another record"))?;
        String::from_utf8(opened).map(Zeroizing::new).map_err(|_| damaged("is no text"))
    }

    /// Whether `protected` should be sealed anew: with the current key, where it is not.
    pub fn is_outdated(&self, protected: &Protected) -> bool {
        match (&self.current, protected) {
            (None, _) => false,
            (Some(_), Protected::Plain(_)) => true,
            (Some(current), Protected::Sealed { key, .. }) => *key != current.id,
        }
    }
}

/// What a sealed text is bound to. A zero ends the key, which has none in it.
fn associated(record: &Key, field: &str) -> Vec<u8> {
    format!("greenroom seal 1\0{record}\0{field}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "{\"api_token\":\"hush-hush\"}";

    fn key(byte: u8) -> StoreKey {
        StoreKey::new(&SecretBox::new(Box::new([byte; 32])))
    }

    fn record(name: &str) -> Key {
        Key::new(name)
    }

    fn changed(text: &str) -> String {
        let other = if text.starts_with('A') { 'B' } else { 'A' };
        std::iter::once(other).chain(text.chars().skip(1)).collect()
    }

    #[test]
    fn what_was_sealed_opens_for_its_own_record_and_field_only() {
        let vault = Vault::new(Some(key(1)), None, false);
        let sealed = vault.seal(&record("s/1"), "spec", TEXT, true).unwrap();
        assert!(!serde_json::to_string(&sealed).unwrap().contains("hush"));
        assert_eq!(vault.open(&record("s/1"), "spec", &sealed).unwrap().as_str(), TEXT);
        for (key, field) in [("s/2", "spec"), ("s/1", "answer")] {
            let error = vault.open(&record(key), field, &sealed).unwrap_err();
            assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        }
    }

    #[test]
    fn a_changed_text_nonce_or_key_does_not_open() {
        let vault = Vault::new(Some(key(1)), Some(key(2)), false);
        let sealed = vault.seal(&record("s/1"), "spec", TEXT, true).unwrap();
        let Protected::Sealed { key: id, nonce, text } = sealed else { panic!("not sealed") };
        let other = key(2).id().to_owned();
        for (key, nonce, text) in [
            (id.clone(), nonce.clone(), changed(&text)),
            (id.clone(), changed(&nonce), text.clone()),
            (other, nonce.clone(), text.clone()),
            (id.clone(), String::new(), text),
            (id, nonce, "!".to_owned()),
        ] {
            let error =
                vault.open(&record("s/1"), "spec", &Protected::Sealed { key, nonce, text }).unwrap_err();
            assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        }
    }

    #[test]
    fn equal_texts_are_sealed_differently() {
        let vault = Vault::new(Some(key(1)), None, false);
        let seal = || vault.seal(&record("s/1"), "spec", TEXT, true).unwrap();
        assert_ne!(seal(), seal());
    }

    #[test]
    fn a_key_is_rotated_by_way_of_the_previous_one() {
        let old = Vault::new(Some(key(1)), None, false);
        let rotated = Vault::new(Some(key(2)), Some(key(1)), false);
        let new = Vault::new(Some(key(2)), None, false);
        let sealed = old.seal(&record("s/1"), "spec", TEXT, true).unwrap();
        assert!(!old.is_outdated(&sealed) && rotated.is_outdated(&sealed));
        assert_eq!(rotated.open(&record("s/1"), "spec", &sealed).unwrap().as_str(), TEXT);
        let error = new.open(&record("s/1"), "spec", &sealed).unwrap_err();
        let key_id = key(1).id().to_owned();
        assert_eq!(error, StoreError::UnknownEncryptionKey { key: record("s/1"), key_id });
        let again = rotated.seal(&record("s/1"), "spec", TEXT, true).unwrap();
        assert!(!rotated.is_outdated(&again));
        assert_eq!(new.open(&record("s/1"), "spec", &again).unwrap().as_str(), TEXT);
    }

    #[test]
    fn without_a_key_secrets_are_refused_unless_the_configuration_allows_them() {
        let strict = Vault::new(None, None, false);
        let error = strict.seal(&record("s/1"), "spec", TEXT, true).unwrap_err();
        assert_eq!(error, StoreError::NoEncryptionKey { key: record("s/1") });
        assert!(error.to_string().contains("store.encryption_key"), "{error}");
        let plain = Protected::Plain(TEXT.to_owned());
        assert_eq!(strict.seal(&record("s/1"), "spec", TEXT, false), Ok(plain.clone()));
        assert_eq!(Vault::new(None, None, true).seal(&record("s/1"), "spec", TEXT, true), Ok(plain.clone()));
        let keyed = Vault::new(Some(key(1)), None, true);
        assert!(matches!(keyed.seal(&record("s/1"), "spec", TEXT, false), Ok(Protected::Sealed { .. })));
        assert_eq!(keyed.open(&record("s/1"), "spec", &plain).unwrap().as_str(), TEXT);
        assert!(keyed.is_outdated(&plain) && !strict.is_outdated(&plain));
    }

    #[test]
    fn a_key_does_not_show() {
        let shown = format!("{:?}", Vault::new(Some(key(7)), None, false));
        assert!(!shown.contains("7, 7") && !shown.contains("0707"), "{shown}");
    }
}
