//! Holds `config/greenroom.toml` and the code together.

use std::collections::BTreeMap;

use secrecy::ExposeSecret;

use super::*;

const FILE: &str = include_str!("../../config/greenroom.toml");

fn env() -> BTreeMap<String, String> {
    [
        ("GREENROOM_ADMIN_KEY", "the-admin-key"),
        ("ACME_UPSTREAM_KEY", "the-upstream-key"),
        ("ACME_GREENROOM_KEY", "the-greenroom-key"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

#[test]
fn the_shipped_file_has_the_values_of_the_defaults() {
    let config = parse(FILE, "config/greenroom.toml", &env()).unwrap_or_else(|errors| panic!("{errors}"));
    let default = Config::default();
    assert_eq!(config.server, default.server);
    assert_eq!(config.admin.listen, default.admin.listen);
    assert_eq!(config.upstream, default.upstream);
    assert_eq!(config.store.place, default.store.place);
    assert_eq!(config.store.plaintext_secrets, default.store.plaintext_secrets);
    assert_eq!(config.store.commit, default.store.commit);
    assert!(config.store.encryption_key.is_none() && config.store.encryption_key_previous.is_none());
    assert_eq!(config.defaults, default.defaults);
    assert_eq!(config.recovery, default.recovery);
    assert_eq!(config.outbox, default.outbox);
    assert_eq!(config.ingress, default.ingress);
    assert_eq!(config.sessions, default.sessions);
    assert_eq!(config.telemetry, default.telemetry);
    assert_eq!((config.webhooks.len(), &config.webhook_delivery), (0, &default.webhook_delivery));
    let [acme] = config.tenants.as_slice() else { panic!("one tenant, not {}", config.tenants.len()) };
    assert_eq!(acme.id.as_str(), "acme");
    assert_eq!(acme.max_sessions, Tenant::DEFAULT_MAX_SESSIONS);
    assert_eq!((acme.max_starts_per_minute, acme.requests_per_second), (None, None));
    assert_eq!((acme.outbox_bytes, acme.continuity, acme.idle_timeout), (None, None, None));
    assert_eq!(acme.max_connected_minutes_per_day, None);
    assert_eq!(acme.policy, BTreeMap::new());
    assert_eq!(acme.keys[0].expose_secret(), "the-greenroom-key");
    assert_eq!(config.admin.key.map(|key| key.expose_secret().to_owned()).as_deref(), Some("the-admin-key"));
}

#[test]
fn an_empty_file_is_the_default() {
    let config = parse("", "empty.toml", &BTreeMap::new()).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
}

#[test]
fn every_known_key_stands_in_the_shipped_file_and_each_setting_has_a_comment() {
    let Understood { known, .. } = read(FILE, "config/greenroom.toml", &env()).unwrap();
    assert!(known.len() > 60, "{known:?}");
    let written = written_keys();
    // A tenant's own policy has the codes of [recovery.policy], which are listed there.
    for key in known.iter().filter(|key| !key.starts_with("tenants[0].recovery.policy.")) {
        assert!(written.contains_key(key), "{key} is not in config/greenroom.toml");
    }
    for (key, has_comment) in written.iter().filter(|(key, _)| !key.starts_with("recovery.policy.")) {
        assert!(*has_comment, "{key} has no comment above it in config/greenroom.toml");
    }
}

/// The path of each key that has a line in the file, and whether a comment stands above it. A section that has no
/// default is there as a comment without a space (`#[server.tls]`), to be taken in by deleting the `#`.
fn written_keys() -> BTreeMap<String, bool> {
    let mut section = String::new();
    let mut previous = "";
    let mut keys = BTreeMap::new();
    for line in FILE.lines() {
        let written = line;
        let line = line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line);
        if let Some(header) = line.strip_prefix("[[") {
            section = format!("{}[0]", header.trim_end_matches(']'));
        } else if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']').to_owned();
        } else if let Some((key, _)) =
            // What is off by default stands there as `#key = ...`, without a space.
            line
                .strip_prefix('#')
                .unwrap_or(line)
                .split_once(" = ")
                .filter(|_| !line.starts_with("# "))
        {
            keys.insert(format!("{section}.{key}"), previous.starts_with('#'));
        }
        previous = written;
    }
    keys
}
