//! `[store]`: where records are kept, and what seals the secrets in them.

use std::{path::PathBuf, sync::Arc};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use secrecy::{ExposeSecret, SecretBox, SecretString};
use zeroize::Zeroizing;

use super::{EncryptionKey, Store, StoreCommit, StorePlace, reader::Section};

const KEY_BYTES: usize = 32;
const FORMS: &str = "\"redb:PATH\" or \"memory:\"";

pub(super) fn read_store(section: &Section<'_>) -> Store {
    let default = Store::default();
    let place = section.text("url", FORMS, read_place).unwrap_or_default();
    let encryption_key = read_key(section, "encryption_key");
    let encryption_key_previous = read_key(section, "encryption_key_previous");
    let same = matches!((&encryption_key, &encryption_key_previous),
        (Some(now), Some(before)) if now.expose_secret() == before.expose_secret());
    if same {
        let text =
            "is the same key as store.encryption_key; leave it out, or give the one that was in use before";
        section.mistake("encryption_key_previous", text);
    }
    Store {
        place,
        encryption_key,
        encryption_key_previous,
        plaintext_secrets: section.switch("plaintext_secrets", default.plaintext_secrets),
        commit: read_commit(section),
    }
}

fn read_commit(section: &Section<'_>) -> StoreCommit {
    let default = StoreCommit::default();
    let (queue, group) = (small(default.queue), small(default.group));
    StoreCommit {
        queue: section.count("commit_queue", queue, 16..=1_000_000) as usize,
        group: section.count("commit_group", group, 1..=100_000) as usize,
        deadline: section.millis("commit_deadline_ms", default.deadline, 100..=60_000),
    }
}

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// What follows the scheme of another store may have a password in it, and is not quoted.
fn read_place(text: &str) -> Result<StorePlace, String> {
    match text.split_once(':') {
        Some(("memory", "")) => Ok(StorePlace::Memory),
        Some(("memory", _)) => Err("has something behind \"memory:\"; use \"memory:\" alone".to_owned()),
        Some(("redb", "")) => Err("has no path behind \"redb:\"; use one such as \"redb:data/greenroom.redb\"".to_owned()),
        Some(("redb", path)) if path.starts_with("//") => {
            Err("has \"//\" behind \"redb:\"; a path follows at once, such as \"redb:/var/lib/greenroom/greenroom.redb\"".to_owned())
        }
        Some(("redb", path)) if path.contains('\0') => Err("has a zero byte in its path".to_owned()),
        Some(("redb", path)) => Ok(StorePlace::Redb(PathBuf::from(path))),
        Some(("etcd", _)) => Err(format!("the etcd store is not built in this version; use {FORMS}")),
        Some(_) | None => Err(format!("is no such store; use {FORMS}")),
    }
}

fn read_key(section: &Section<'_>, key: &'static str) -> Option<EncryptionKey> {
    let secret = section.secret(key)?;
    let bytes = key_bytes(&secret);
    if bytes.is_none() {
        let text = format!(
            "is no key of {KEY_BYTES} bytes in hexadecimal (64 digits) or base64 (43 or 44 characters); a \
             passphrase is not taken, since it can be guessed: make a key with \"openssl rand -hex {KEY_BYTES}\""
        );
        section.mistake(key, text);
    }
    bytes
}

fn key_bytes(secret: &SecretString) -> Option<EncryptionKey> {
    let text = secret.expose_secret();
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    if text.len() == 2 * KEY_BYTES {
        for (byte, digits) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
            // A sign is a number to the standard library, and no digit.
            let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.contains('+'))?;
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
    } else {
        let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        let decoded = [alphabet::STANDARD, alphabet::URL_SAFE]
            .iter()
            .find_map(|alphabet| GeneralPurpose::new(alphabet, config).decode(text).ok())
            .map(Zeroizing::new)?;
        *key = decoded.as_slice().try_into().ok()?;
    }
    Some(Arc::new(SecretBox::new(Box::new(*key))))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::{Config, ConfigErrors, parse};

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eFF";

    fn read(text: &str) -> Result<Config, ConfigErrors> {
        parse(&format!("[store]\n{text}\n"), "test.toml", &BTreeMap::new())
    }

    #[track_caller]
    fn refused(text: &str, reason: &str) {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains(reason) && error.starts_with("test.toml:2:"), "{text}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_store_is_a_file_or_memory() {
        let place = |text| read(text).unwrap().store.place;
        assert_eq!(place("url = \"memory:\""), StorePlace::Memory);
        assert_eq!(place("url = \"redb:data/x.redb\""), StorePlace::Redb(PathBuf::from("data/x.redb")));
        assert_eq!(place("url = \"redb:/var/lib/x:y\""), StorePlace::Redb(PathBuf::from("/var/lib/x:y")));
        refused("url = \"etcd://me:hunter2@host:2379\"", "the etcd store is not built");
        for (url, reason) in [
            ("redb:", "has no path"),
            ("redb://data", "a path follows at once"),
            ("memory:data", "use \\\"memory:\\\" alone"),
            ("postgres://me:hunter2@host", "no such store"),
            ("data/hunter2.redb", "no such store"),
            ("", "no such store"),
        ] {
            refused(&format!("url = \"{url}\""), &reason.replace('\\', ""));
        }
    }

    #[test]
    fn a_key_is_32_bytes_in_hexadecimal_or_base64() {
        let key = |text: &str| {
            let config =
                read(&format!("encryption_key = \"{text}\"")).unwrap_or_else(|errors| panic!("{errors}"));
            *config.store.encryption_key.unwrap().expose_secret()
        };
        let mut expected: [u8; 32] = std::array::from_fn(|at| u8::try_from(at).unwrap());
        expected[31] = 0xff;
        assert_eq!(key(HEX), expected);
        assert_eq!(key("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHv8="), expected);
        assert_eq!(key("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHv8"), expected);
        assert_eq!(
            key("-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_8"),
            key("+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/8=")
        );
    }

    #[test]
    fn a_passphrase_or_a_key_of_another_size_is_refused_unseen() {
        let signs = "+1".repeat(32);
        for text in
            ["hunter2-hunter2", &HEX[2..], &format!("{HEX}00"), &signs, "hunter2-hunter2-hunter2-hunter2!"]
        {
            refused(&format!("encryption_key = \"{text}\""), "openssl rand -hex 32");
        }
        refused(
            &format!("encryption_key_previous = \"{HEX}\"\nencryption_key = \"{HEX}\""),
            "is the same key",
        );
    }

    #[test]
    fn a_key_does_not_show_and_the_bounds_are_read() {
        let text = format!(
            "encryption_key = \"{HEX}\"\nplaintext_secrets = true\ncommit_queue = 20\ncommit_group = 10\n\
             commit_deadline_ms = 1000"
        );
        let store = read(&text).unwrap().store;
        let commit = StoreCommit { queue: 20, group: 10, deadline: std::time::Duration::from_secs(1) };
        assert!(store.plaintext_secrets && store.commit == commit, "{store:?}");
        assert!(!format!("{store:?}").contains("30, 255"), "{store:?}");
        refused("plaintext_secrets = \"yes\"", "must be true or false");
        refused("commit_queue = 1", "from 16");
    }
}
