//! What an operator may say of a tenant, and whether it can be so.

use std::{
    collections::BTreeMap,
    fmt::Display,
    ops::RangeInclusive,
    time::{Duration, SystemTime},
};

use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    config::Tenant,
    errors::{Action, ErrorCode},
    outbox::Continuity,
    recovery::TenantId,
    store::{
        StoreError,
        records::{SecretText, TenantRecord, UnixMillis},
    },
};

use super::KeyInfo;
use crate::manager::Unreachable;

/// The longest name of a key, in characters.
const MAX_KEY_NAME: usize = 64;
/// The longest upstream key, in bytes, as in the configuration file.
const MAX_UPSTREAM_KEY: usize = 4096;
/// The longest app id, in bytes.
const MAX_APP_ID: usize = 256;

/// A setting that is left as it is, taken back to its default (`Some(None)`), or set.
pub type Own<T> = Option<Option<T>>;

/// What is to be another of a tenant from now on; what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct TenantPatch {
    /// Its app at the service.
    pub app_id: Option<String>,
    /// Its API key at the service.
    pub upstream_api_key: Option<SecretString>,
    /// The most sessions at once.
    pub max_sessions: Own<u32>,
    /// The most sessions made in a minute.
    pub max_starts_per_minute: Own<u32>,
    /// The most requests in a second.
    pub requests_per_second: Own<u32>,
    /// The most bytes of the outboxes of its sessions.
    pub outbox_bytes: Own<u32>,
    /// The continuity of sessions whose creator does not say.
    pub continuity: Own<Continuity>,
    /// Actions by code; `None` is the default again. Codes that are not named stay as they are.
    pub policy: BTreeMap<ErrorCode, Option<Action>>,
    /// How long a session may be without a client and audio, in seconds; zero is for ever.
    pub idle_timeout_s: Own<u64>,
    /// The most minutes of connections in a day.
    pub max_connected_minutes_per_day: Own<u32>,
}

/// A key that is to be made.
#[derive(Clone, Debug)]
pub struct KeyName {
    /// Its name, for people.
    pub name: String,
    /// When it ends; `None` is never.
    pub expires_at: Option<SystemTime>,
}

/// A key that was just made. Nobody can be told it again.
#[derive(Clone, Debug)]
pub struct KeyMade {
    /// What it is called.
    pub name: KeyName,
    /// The key.
    pub key: SecretString,
}

/// Why a tenant was not made or changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TenantRefused {
    /// There is none.
    #[error("there is no such tenant")]
    Unknown,
    /// It has no key of this name.
    #[error("the tenant has no key of this name")]
    UnknownKey,
    /// The configuration file says what it is.
    #[error(
        "the tenant is managed by the configuration file: change it there, then send SIGHUP or POST /v1/config/reload"
    )]
    ManagedByFile,
    /// There is one of this id, or one is on its way out.
    #[error("there is a tenant of this id already, or one that is still being deleted; use another id")]
    Exists,
    /// It has a key of this name.
    #[error("the tenant has a key of this name already; use another name, or delete that one first")]
    KeyExists,
    /// It has as many keys as it may have.
    #[error("the tenant has {max} keys, which is the most; delete one first")]
    TooManyKeys {
        /// The bound.
        max: usize,
    },
    /// There are as many tenants as may be.
    #[error("there are {max} tenants, which is the most; delete one first")]
    TooMany {
        /// The bound.
        max: usize,
    },
    /// What is asked cannot be; each reason names its field.
    #[error("{}", .0.join("; "))]
    Invalid(Vec<String>),
    /// It could not be written.
    #[error(transparent)]
    Unkept(#[from] StoreError),
    /// The manager did not answer.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
}

fn check<T: PartialOrd + Display>(name: &str, value: &Own<T>, range: &RangeInclusive<T>) -> Option<String> {
    let value = value.as_ref()?.as_ref()?;
    let (least, most) = (range.start(), range.end());
    (!range.contains(value)).then(|| format!("{name}: is {value}; {least} to {most} are allowed"))
}

impl TenantPatch {
    /// What is wrong with it, field by field. Never any of a secret.
    pub fn mistakes(&self) -> Vec<String> {
        let app_id = self.app_id.as_ref().and_then(|id| {
            if id.len() > MAX_APP_ID {
                return Some(format!("app_id: is longer than {MAX_APP_ID} bytes"));
            }
            Tenant::check_app_id(id).err().map(|text| format!("app_id: {text}"))
        });
        let key = self.upstream_api_key.as_ref().and_then(|key| {
            let key = key.expose_secret();
            let is_good = (1..=MAX_UPSTREAM_KEY).contains(&key.len())
                && key.bytes().all(|byte| byte.is_ascii_graphic());
            (!is_good).then(|| {
                format!("upstream_api_key: 1 to {MAX_UPSTREAM_KEY} visible ASCII characters are allowed")
            })
        });
        [
            app_id,
            key,
            check("max_sessions", &self.max_sessions, &Tenant::MAX_SESSIONS),
            check("max_starts_per_minute", &self.max_starts_per_minute, &Tenant::STARTS_PER_MINUTE),
            check("requests_per_second", &self.requests_per_second, &Tenant::REQUESTS_PER_SECOND),
            check("outbox_bytes", &self.outbox_bytes, &Tenant::OUTBOX_BYTES),
            check("idle_timeout_s", &self.idle_timeout_s, &Tenant::IDLE_TIMEOUT_S),
            check(
                "max_connected_minutes_per_day",
                &self.max_connected_minutes_per_day,
                &Tenant::CONNECTED_MINUTES,
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// A tenant of this id that is nothing but what this says.
    pub(super) fn record(&self, id: &str, now: SystemTime) -> Result<TenantRecord, TenantRefused> {
        let mut mistakes: Vec<String> =
            Tenant::check_id(id).err().map(|text| format!("id: {text}")).into_iter().collect();
        if self.app_id.is_none() {
            mistakes.push("app_id: is missing; give the tenant's app at the avatar service".to_owned());
        }
        if self.upstream_api_key.is_none() {
            let text = "upstream_api_key: is missing; give the tenant's API key at the avatar service";
            mistakes.push(text.to_owned());
        }
        mistakes.extend(self.mistakes());
        if !mistakes.is_empty() {
            return Err(TenantRefused::Invalid(mistakes));
        }
        let mut record = TenantRecord {
            id: TenantId::from(id),
            is_from_file: false,
            created_at: UnixMillis::from(now),
            app_id: String::new(),
            upstream_api_key: SecretText::default(),
            keys: Vec::new(),
            max_sessions: Tenant::DEFAULT_MAX_SESSIONS,
            max_starts_per_minute: None,
            outbox_bytes: None,
            max_connected_minutes_per_day: None,
            policy: BTreeMap::new(),
            continuity: None,
            requests_per_second: None,
            idle_timeout_s: None,
            is_leaving: false,
            suspension: None,
        };
        self.apply(&mut record);
        Ok(record)
    }

    /// Changes `record` by what this says.
    pub(super) fn apply(&self, record: &mut TenantRecord) {
        fn set<T: Clone, U>(field: &mut Option<U>, own: &Own<T>, convert: impl Fn(T) -> U) {
            if let Some(own) = own {
                *field = own.clone().map(convert);
            }
        }
        if let Some(app_id) = &self.app_id {
            record.app_id.clone_from(app_id);
        }
        if let Some(key) = &self.upstream_api_key {
            record.upstream_api_key = SecretText::from(key.clone());
        }
        if let Some(max_sessions) = self.max_sessions {
            record.max_sessions = max_sessions.unwrap_or(Tenant::DEFAULT_MAX_SESSIONS);
        }
        set(&mut record.max_starts_per_minute, &self.max_starts_per_minute, |it| it);
        set(&mut record.requests_per_second, &self.requests_per_second, |it| it);
        set(&mut record.outbox_bytes, &self.outbox_bytes, u64::from);
        set(&mut record.continuity, &self.continuity, |it| it.as_str().to_owned());
        set(&mut record.idle_timeout_s, &self.idle_timeout_s, |it| it);
        set(&mut record.max_connected_minutes_per_day, &self.max_connected_minutes_per_day, |it| it);
        for (code, action) in &self.policy {
            match action {
                Some(action) => record.policy.insert(*code, *action),
                None => record.policy.remove(code),
            };
        }
    }
}

impl KeyName {
    /// How a key of this name that is made now is shown.
    pub fn info(&self) -> KeyInfo {
        let Self { name, expires_at } = self.clone();
        KeyInfo { name, created_at: Some(SystemTime::now()), expires_at }
    }

    /// What is wrong with it.
    pub(super) fn mistakes(&self, now: SystemTime) -> Vec<String> {
        let is_named = (1..=MAX_KEY_NAME).contains(&self.name.len())
            && self.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        let name = (!is_named).then(|| {
            format!(
                "name: is not allowed; use 1 to {MAX_KEY_NAME} of the characters A-Z, a-z, 0-9, ., _ and -"
            )
        });
        let is_over = self.expires_at.is_some_and(|end| end <= now + Duration::from_secs(1));
        let end = is_over.then(|| "expires_at: has passed; give a time in the future".to_owned());
        name.into_iter().chain(end).collect()
    }
}
