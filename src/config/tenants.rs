//! `[[tenants]]` and the policy tables.

use std::collections::{BTreeMap, BTreeSet};

use secrecy::{ExposeSecret, SecretString};

use super::{
    Place, PoolFormat, PoolSpec, Tenant,
    reader::{Section, alternatives},
    webhooks::{Whose, read_webhooks},
};
use crate::{
    errors::{Action, ErrorCode},
    outbox::Continuity,
    recovery::{Policy, TenantId},
};

/// A tenant as far as it could be read, with what the checks between tenants need.
struct Draft {
    tenant: Option<Tenant>,
    id: Option<(String, Place)>,
    keys: Vec<(SecretString, Place, String)>,
}

/// Reads every tenant. A tenant with a mistake is left out: the mistake stands in the report.
pub(super) fn read_tenants(
    root: &Section<'_>,
    admin_key: Option<&SecretString>,
    allow_http: bool,
) -> Vec<Tenant> {
    let drafts = root.sections("tenants", |section| read_tenant(section, allow_http));
    refuse_equal_ids(root, &drafts);
    refuse_equal_keys(root, admin_key, &drafts);
    drafts.into_iter().filter_map(|draft| draft.tenant).collect()
}

fn read_tenant(section: &Section<'_>, allow_http: bool) -> Draft {
    let id = section.text("id", "a name in quotes", |text| Tenant::check_id(text).map(|()| text.to_owned()));
    let id_place = section.node("id").map(|node| node.place.clone());
    let app_id = section.text("app_id", "the app's id in quotes", |text| {
        Tenant::check_app_id(text).map(|()| text.to_owned())
    });
    let upstream_api_key = section.secret("upstream_api_key");
    let keys = read_keys(section);
    let max_sessions = section.count("max_sessions", Tenant::DEFAULT_MAX_SESSIONS, Tenant::MAX_SESSIONS);
    let max_starts_per_minute = section.own_count("max_starts_per_minute", Tenant::STARTS_PER_MINUTE);
    let requests_per_second = section.own_count("requests_per_second", Tenant::REQUESTS_PER_SECOND);
    let outbox_bytes = section.own_bytes("outbox_bytes", Tenant::OUTBOX_BYTES);
    let words = [Continuity::Off, Continuity::Unanswered, Continuity::Resume].map(|it| (it.as_str(), it));
    let continuity = section.own_choice("continuity", &words);
    let idle_timeout = section.own_seconds("idle_timeout_s", Tenant::IDLE_TIMEOUT_S);
    let max_connected_minutes_per_day =
        section.own_count("max_connected_minutes_per_day", Tenant::CONNECTED_MINUTES);
    let policy = section.section("recovery", |recovery| recovery.section("policy", read_rows));
    let pool = section.sections("pool", read_pool).into_iter().flatten().collect();
    let webhooks = read_webhooks(section, Whose::Tenant, allow_http);
    for (key, what) in [
        ("id", "the tenant's name in the API, logs and metrics"),
        ("app_id", "the tenant's app at the avatar service"),
        ("upstream_api_key", "the tenant's API key at the avatar service"),
        ("keys", "a list of at least one key that the tenant's backends present"),
    ] {
        let given = section.node(key).is_some();
        if !given {
            section.mistake(key, format!("is missing; give {what}"));
        }
    }
    let tenant = match (id.as_ref().zip(id_place.clone()), app_id, upstream_api_key) {
        (Some((id, place)), Some(app_id), Some(upstream_api_key)) => Some(Tenant {
            place,
            id: TenantId::from(id.as_str()),
            app_id,
            upstream_api_key,
            keys: keys.iter().map(|(key, ..)| key.clone()).collect(),
            max_sessions,
            max_starts_per_minute,
            requests_per_second,
            outbox_bytes,
            continuity,
            idle_timeout,
            max_connected_minutes_per_day,
            policy,
            pool,
            webhooks,
        }),
        _ => None,
    };
    Draft { tenant, id: id.zip(id_place), keys }
}

/// A pool without an avatar is left out: the mistake stands in the report.
fn read_pool(section: &Section<'_>) -> Option<PoolSpec> {
    let avatar_id =
        section.text("avatar_id", "the avatar's id in quotes", |text| match text.chars().count() {
            1..=PoolSpec::MAX_AVATAR_ID => Ok(text.to_owned()),
            length => Err(format!("has {length} characters; 1 to {} are allowed", PoolSpec::MAX_AVATAR_ID)),
        });
    if section.node("avatar_id").is_none() {
        section.mistake("avatar_id", "is missing; give the avatar whose sessions are kept connected");
    }
    let audio_format = section.text("audio_format", "an encoding in quotes", |text| match text {
        "pcm_s16le" => Ok(PoolFormat::PcmS16le),
        "ogg_opus" => Ok(PoolFormat::OggOpus),
        other => Err(format!("\"{}\" is not known; use \"pcm_s16le\" or \"ogg_opus\"", other.escape_debug())),
    });
    Some(PoolSpec {
        size: section.count("size", 1, 0..=10_000),
        sample_rate: section.count("sample_rate", 16_000, 1..=384_000),
        bitrate: section.count("bitrate", 0, 0..=i32::MAX.unsigned_abs()),
        audio_format: audio_format.unwrap_or_default(),
        avatar_id: avatar_id?,
    })
}

impl Tenant {
    /// Whether a tenant may have this id.
    ///
    /// # Errors
    ///
    /// Why not, and what is allowed.
    pub fn check_id(text: &str) -> Result<(), String> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
        if text.is_empty() || text.len() > 64 || !text.bytes().all(allowed) {
            let shown: String = text.chars().take(64).collect();
            return Err(format!(
                "\"{}\" is not allowed; use 1 to 64 of the characters a-z, 0-9, _ and -",
                shown.escape_debug()
            ));
        }
        if text == Self::RESERVED_ID {
            let text = "is what the metrics call the tenants beyond telemetry.max_tenant_labels; use another";
            return Err(text.to_owned());
        }
        Ok(())
    }

    /// Whether both are presented by the same keys, in the same order.
    pub fn has_the_keys_of(&self, other: &Self) -> bool {
        let keys = |tenant: &'_ Self| -> Vec<String> {
            tenant.keys.iter().map(|key| key.expose_secret().to_owned()).collect()
        };
        keys(self) == keys(other)
    }

    /// Whether a tenant's app may have this id: it travels in headers.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn check_app_id(text: &str) -> Result<(), String> {
        let is_graphic = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_graphic { Ok(()) } else { Err("must be visible ASCII characters".to_owned()) }
    }
}

fn read_keys(section: &Section<'_>) -> Vec<(SecretString, Place, String)> {
    let given = section.node("keys").is_some();
    let Some(secrets) = section.secrets("keys") else {
        if given {
            section.mistake("keys", "is an empty list; give at least one key");
        }
        return Vec::new();
    };
    let path = section.path_of("keys");
    for (secret, place) in &secrets {
        if let Err(text) = check_key(secret) {
            section.report.mistake(place, &path, text);
        }
    }
    secrets.into_iter().map(|(secret, place)| (secret, place, path.clone())).collect()
}

/// The bounds on a key that is presented to Greenroom.
pub(super) fn check_key(key: &SecretString) -> Result<(), String> {
    let (least, most) = (Tenant::MIN_KEY_BYTES, Tenant::MAX_KEY_BYTES);
    match key.expose_secret().len() {
        length if length < least => {
            Err(format!("is shorter than {least} characters, which can be guessed; use 16 or more"))
        }
        length if length > most => Err(format!("is longer than {most} characters")),
        _ => Ok(()),
    }
}

fn refuse_equal_ids(root: &Section<'_>, drafts: &[Draft]) {
    let mut seen = BTreeSet::new();
    for (index, draft) in drafts.iter().enumerate() {
        if let Some((id, place)) = &draft.id
            && !seen.insert(id)
        {
            let text = format!("\"{id}\" is the id of another tenant already; ids are unique");
            root.report.mistake(place, &format!("tenants[{index}].id"), text);
        }
    }
}

/// A key tells who calls: one key for two would let one tenant act as the other.
fn refuse_equal_keys(root: &Section<'_>, admin_key: Option<&SecretString>, drafts: &[Draft]) {
    let mut holders: BTreeMap<&str, String> = BTreeMap::new();
    if let Some(key) = admin_key {
        holders.insert(key.expose_secret(), "admin.key".to_owned());
    }
    for (key, place, path) in drafts.iter().flat_map(|draft| &draft.keys) {
        if let Some(holder) = holders.get(key.expose_secret()) {
            let text = format!("is the same key as in {holder}; a key belongs to one holder");
            root.report.mistake(place, path, text);
        } else {
            holders.insert(key.expose_secret(), path.clone());
        }
    }
}

/// `base`, changed by what `section` says for each code.
pub(super) fn read_policy(section: &Section<'_>, base: Policy) -> Policy {
    read_rows(section).into_iter().fold(base, |policy, (code, action)| policy.with(code, action))
}

/// What `section` says for each code that it names.
fn read_rows(section: &Section<'_>) -> BTreeMap<ErrorCode, Action> {
    let row = |code: ErrorCode| {
        let action = section.text(code.as_str(), "an action in quotes", |text| {
            text.parse::<Action>().map_err(|_| {
                let actions = alternatives(Action::ALL.iter());
                format!("\"{}\" is no action; use {actions}", text.escape_debug())
            })
        });
        Some((code, action?))
    };
    ErrorCode::ALL.into_iter().filter_map(row).collect()
}
