//! `[[webhooks]]`, `[[tenants.webhooks]]` and `[webhook_delivery]`.

use std::{collections::BTreeSet, fmt, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{
    Place, Tenant,
    reader::{Section, alternatives},
};
use crate::recovery::TenantId;

/// What a webhook can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WebhookEvent {
    /// A session holds without a connection, and its code says why.
    SessionParked,
    /// A session that was parked runs again.
    SessionUnparked,
    /// A session has failed: a person must act.
    SessionFailed,
    /// A session runs again after an outage of its own.
    SessionRecovered,
    /// A session has failed because it used up its restart budget.
    RestartBudgetExhausted,
    /// A tenant was refused something because of one of its quotas.
    QuotaReached,
    /// Nothing new of a tenant knocks.
    TenantSuspended,
    /// A tenant's suspension is lifted.
    TenantReleased,
    /// The breaker of an upstream opened, closed, or tries.
    BreakerChanged,
}

impl WebhookEvent {
    /// Every type.
    pub const ALL: [Self; 9] = [
        Self::SessionParked,
        Self::SessionUnparked,
        Self::SessionFailed,
        Self::SessionRecovered,
        Self::RestartBudgetExhausted,
        Self::QuotaReached,
        Self::TenantSuspended,
        Self::TenantReleased,
        Self::BreakerChanged,
    ];

    /// The spelling in the configuration and in a message.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SessionParked => "session.parked",
            Self::SessionUnparked => "session.unparked",
            Self::SessionFailed => "session.failed",
            Self::SessionRecovered => "session.recovered",
            Self::RestartBudgetExhausted => "session.restart_budget_exhausted",
            Self::QuotaReached => "tenant.quota_reached",
            Self::TenantSuspended => "tenant.suspended",
            Self::TenantReleased => "tenant.released",
            Self::BreakerChanged => "upstream.breaker_changed",
        }
    }

    /// Whether a tenant may be told: the rest is for operators.
    pub const fn is_for_tenants(self) -> bool {
        match self {
            Self::SessionParked
            | Self::SessionUnparked
            | Self::SessionFailed
            | Self::SessionRecovered
            | Self::QuotaReached => true,
            Self::RestartBudgetExhausted
            | Self::TenantSuspended
            | Self::TenantReleased
            | Self::BreakerChanged => false,
        }
    }
}

/// Where webhooks are sent to, and what of.
#[derive(Clone)]
pub struct Webhook {
    /// Where messages are posted.
    pub url: Url,
    /// What they are signed with: one, or two while the receiver changes from one to the other.
    pub secrets: Vec<SecretString>,
    /// What is told; `None` is all that may be.
    pub events: Option<BTreeSet<WebhookEvent>>,
    /// Of which tenants, where an operator asks for some; `None` is all, and what is of none.
    pub tenants: Option<BTreeSet<TenantId>>,
}

impl fmt::Debug for Webhook {
    /// Without path and query: receivers have tokens there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("url", &shown_origin(&self.url))
            .field("secrets", &self.secrets.len())
            .field("events", &self.events)
            .field("tenants", &self.tenants)
            .finish()
    }
}

impl Webhook {
    /// Endpoints of operators, or of one tenant, at most: each has a queue and connections of its own.
    pub const MAX: usize = 16;
    /// Secrets of an endpoint at most: each is one more signature in a header.
    pub const MAX_SECRETS: usize = 4;
    /// What the specification asks of a secret's length, in bytes.
    const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

    /// Scheme, host and port of its address, which are no secret.
    pub fn origin(&self) -> String {
        shown_origin(&self.url)
    }
}

fn shown_origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// `[webhook_delivery]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookDelivery {
    /// How long one attempt may take, from the name's lookup to the answer.
    pub timeout: Duration,
    /// Whether addresses may be asked that are not public.
    pub allow_private: bool,
    /// Whether an address may begin with `http:`.
    pub allow_http: bool,
}

impl Default for WebhookDelivery {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(15), allow_private: false, allow_http: false }
    }
}

pub(super) fn read_delivery(section: &Section<'_>) -> WebhookDelivery {
    let default = WebhookDelivery::default();
    WebhookDelivery {
        timeout: section.millis("timeout_ms", default.timeout, 1000..=60_000),
        allow_private: section.switch("allow_private", default.allow_private),
        allow_http: section.switch("allow_http", default.allow_http),
    }
}

/// Whose endpoints are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    Operators,
    Tenant,
}

/// Reads the endpoints of a list. One with a mistake is left out: the mistake stands in the report.
pub(super) fn read_webhooks(section: &Section<'_>, whose: Whose, allow_http: bool) -> Vec<Webhook> {
    let read = section.sections("webhooks", |section| read_webhook(section, whose, allow_http));
    if read.len() > Webhook::MAX {
        section.mistake("webhooks", format!("has {} entries; {} are allowed", read.len(), Webhook::MAX));
    }
    let mut seen = BTreeSet::new();
    for (index, (place, webhook)) in read.iter().enumerate() {
        if let Some(webhook) = webhook
            && !seen.insert(webhook.url.as_str())
        {
            let key = section.path_of(&format!("webhooks[{index}].url"));
            section.report.mistake(place, &key, "is in this list already; name all its events there");
        }
    }
    read.into_iter().filter_map(|(_, webhook)| webhook).collect()
}

fn read_webhook(section: &Section<'_>, whose: Whose, allow_http: bool) -> (Place, Option<Webhook>) {
    let place = section.node("url").map_or_else(|| section.place().clone(), |node| node.place.clone());
    let url = section.text("url", "a URL in quotes", |text| read_url(text, allow_http));
    if section.node("url").is_none() {
        section.mistake("url", "is missing; give the address that messages are posted to");
    }
    let secrets = read_secrets(section);
    let events = read_words(section, "events", "the name of an event", |text| {
        let known = WebhookEvent::ALL.into_iter();
        let mut allowed = known.filter(|event| whose == Whose::Operators || event.is_for_tenants());
        let all: Vec<&str> = allowed.clone().map(WebhookEvent::as_str).collect();
        allowed.find(|event| event.as_str() == text).ok_or_else(|| {
            format!("\"{}\" is no event; use {}", text.escape_debug(), alternatives(all.iter()))
        })
    });
    let tenants = match whose {
        Whose::Tenant => None,
        Whose::Operators => read_words(section, "tenants", "the id of a tenant", |text| {
            Tenant::check_id(text).map(|()| TenantId::from(text))
        }),
    };
    let webhook = url.zip(secrets).map(|(url, secrets)| Webhook { url, secrets, events, tenants });
    (place, webhook)
}

/// The text is never quoted: receivers have tokens in their addresses.
fn read_url(text: &str, allow_http: bool) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is no URL ({error}); use one with https://"))?;
    match url.scheme() {
        "https" => {}
        "http" if allow_http => {}
        "http" => {
            let text = "begins with http://, which anybody on the way can read; use https://, or set \
                        webhook_delivery.allow_http";
            return Err(text.to_owned());
        }
        other => return Err(format!("has the scheme \"{}\"; use https", other.escape_debug())),
    }
    if !url.has_host() {
        return Err("has no host".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "has a user name or password in it; the signature tells the receiver who sends".to_owned()
        );
    }
    if url.fragment().is_some() {
        return Err("has a fragment, which is not sent; leave it out".to_owned());
    }
    Ok(url)
}

fn read_secrets(section: &Section<'_>) -> Option<Vec<SecretString>> {
    let is_given = section.node("secrets").is_some();
    let Some(secrets) = section.secrets("secrets") else {
        let text = if is_given {
            "is an empty list; give at least one secret"
        } else {
            "is missing; give a list of secrets such as { env = \"NAME\" }, made with: echo whsec_$(openssl rand -base64 32)"
        };
        section.mistake("secrets", text);
        return None;
    };
    let path = section.path_of("secrets");
    let mut is_right = !secrets.is_empty();
    if secrets.len() > Webhook::MAX_SECRETS {
        section.mistake("secrets", format!("has more than {} secrets", Webhook::MAX_SECRETS));
        is_right = false;
    }
    for (secret, place) in &secrets {
        if let Err(text) = check_secret(secret) {
            section.report.mistake(place, &path, text);
            is_right = false;
        }
    }
    is_right.then(|| secrets.into_iter().map(|(secret, _)| secret).collect())
}

/// `whsec_` and base64, as Standard Webhooks writes secrets.
fn check_secret(secret: &SecretString) -> Result<(), String> {
    const MADE_WITH: &str = "make one with: echo whsec_$(openssl rand -base64 32)";
    let Some(encoded) = secret.expose_secret().strip_prefix("whsec_") else {
        return Err(format!("does not begin with whsec_; {MADE_WITH}"));
    };
    let Ok(bytes) = BASE64_STANDARD.decode(encoded) else {
        return Err(format!("is no base64 behind whsec_; {MADE_WITH}"));
    };
    if Webhook::SECRET_BYTES.contains(&bytes.len()) {
        Ok(())
    } else {
        Err(format!("is {} bytes long; 24 to 64 are allowed; {MADE_WITH}", bytes.len()))
    }
}

/// The words of the list `key`; `None` where the file does not have it. An empty list is a mistake: whoever wants
/// nothing leaves the endpoint out.
fn read_words<T: Ord>(
    section: &Section<'_>,
    key: &'static str,
    what: &str,
    convert: impl Fn(&str) -> Result<T, String>,
) -> Option<BTreeSet<T>> {
    let items = section.list(key)?;
    if items.is_empty() {
        section.mistake(key, "is an empty list, so that nothing would be sent; leave it out for all");
    }
    let path = section.path_of(key);
    let mut words = BTreeSet::new();
    for item in items {
        let word = match item.text() {
            Some(text) => convert(text),
            None => Err(format!("is {}, but must be {what} in quotes", item.value.kind())),
        };
        match word {
            Ok(word) => {
                words.insert(word);
            }
            Err(text) => section.report.mistake(&item.place, &path, text),
        }
    }
    Some(words)
}

#[cfg(test)]
mod tests;
