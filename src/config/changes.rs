//! What a configuration that is read again says otherwise, by the keys of the file.
//!
//! The values are kept as digests, since secrets are among them.

use std::collections::{BTreeMap, BTreeSet};

use ring::digest::{SHA256, digest};
use secrecy::{ExposeSecret as _, SecretString};

use super::{
    Config, EncryptionKey,
    tree::{Node, Table, Value},
};

/// Keys whose change holds without a restart, and those below them.
const LIVE: [&str; 9] = [
    "tenants",
    "webhooks",
    "webhook_delivery",
    "defaults.continuity",
    "defaults.idle_timeout_s",
    "recovery.policy",
    "recovery.backoff",
    "recovery.budget",
    "outbox.tenant_bytes",
];

/// The keys that a file and the environment had, and digests of their values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Keys(BTreeMap<String, Vec<u8>>);

impl Keys {
    pub(super) fn of(tree: &Table) -> Self {
        let mut keys = BTreeMap::new();
        note_table(&mut keys, "", tree);
        Self(keys)
    }

    /// The keys whose value is another, or that one of both has only.
    fn other_than(&self, before: &Self) -> BTreeSet<String> {
        let all: BTreeSet<&String> = self.0.keys().chain(before.0.keys()).collect();
        all.into_iter().filter(|key| self.0.get(*key) != before.0.get(*key)).cloned().collect()
    }
}

fn note_table(keys: &mut BTreeMap<String, Vec<u8>>, path: &str, table: &Table) {
    for (key, node) in table {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        note(keys, &path, node);
    }
}

fn note(keys: &mut BTreeMap<String, Vec<u8>>, path: &str, node: &Node) {
    let text = match &node.value {
        Value::Table(table) => return note_table(keys, path, table),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                note(keys, &format!("{path}[{index}]"), item);
            }
            return;
        }
        Value::Text(text) => text.clone(),
        Value::Integer(number) => format!("{number:?}"),
        Value::Float(number) => format!("{number:?}"),
        Value::Boolean(on) => on.to_string(),
        Value::Datetime => String::new(),
    };
    keys.insert(path.to_owned(), digest(&SHA256, text.as_bytes()).as_ref().to_vec());
}

fn is_live(key: &str) -> bool {
    LIVE.iter().any(|live| {
        key.strip_prefix(live).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    })
}

fn same_secret(one: Option<&SecretString>, other: Option<&SecretString>) -> bool {
    one.map(|secret| secret.expose_secret()) == other.map(|secret| secret.expose_secret())
}

fn same_key(one: Option<&EncryptionKey>, other: Option<&EncryptionKey>) -> bool {
    one.map(|key| key.expose_secret()) == other.map(|key| key.expose_secret())
}

/// Whether what `key` may be about is the same in both: a key that is written out with its default changes nothing.
fn is_same(key: &str, before: &Config, now: &Config) -> bool {
    match key.split('.').next().unwrap_or_default() {
        "server" => before.server == now.server,
        "upstream" => before.upstream == now.upstream,
        "ingress" => before.ingress == now.ingress,
        "sessions" => before.sessions == now.sessions,
        "telemetry" => before.telemetry == now.telemetry,
        "outbox" => {
            let rest = |config: &Config| {
                let outbox = &config.outbox;
                (outbox.session_bytes, outbox.total_bytes, outbox.max_age)
            };
            rest(before) == rest(now)
        }
        "recovery" => before.recovery.park_probe == now.recovery.park_probe,
        "admin" => {
            before.admin.listen == now.admin.listen
                && same_secret(before.admin.key.as_ref(), now.admin.key.as_ref())
        }
        "store" => {
            let (before, now) = (&before.store, &now.store);
            (&before.place, before.plaintext_secrets, &before.commit)
                == (&now.place, now.plaintext_secrets, &now.commit)
                && same_key(before.encryption_key.as_ref(), now.encryption_key.as_ref())
                && same_key(before.encryption_key_previous.as_ref(), now.encryption_key_previous.as_ref())
        }
        _ => false,
    }
}

/// The keys whose change needs a restart, by name.
pub(super) fn need_restart(before: (&Config, &Keys), now: (&Config, &Keys)) -> Vec<String> {
    let mut named: BTreeSet<String> = now
        .1
        .other_than(before.1)
        .into_iter()
        .filter(|key| !is_live(key) && !is_same(key, before.0, now.0))
        .collect();
    // A secret may change where its reference stays.
    let (was, is) = (before.0, now.0);
    if !same_secret(was.admin.key.as_ref(), is.admin.key.as_ref()) {
        named.retain(|key| !key.starts_with("admin.key"));
        named.insert("admin.key".to_owned());
    }
    if !same_key(was.store.encryption_key.as_ref(), is.store.encryption_key.as_ref()) {
        named.retain(|key| !key.starts_with("store.encryption_key."));
        named.insert("store.encryption_key".to_owned());
    }
    named.into_iter().collect()
}
