//! An endpoint as operators see it.

use std::time::SystemTime;

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    client::Ended,
    endpoint::{Endpoint, Inner, Standing},
};
use crate::recovery::TenantId;

/// How an endpoint is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndpointState {
    /// The last attempt was taken, or there was none yet.
    Active,
    /// The last attempt was not taken; it is tried again.
    Failing,
    /// It answered 410 Gone and gets nothing until it is enabled.
    Disabled,
}

/// An attempt that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LastFailure {
    /// When; RFC 3339.
    at: String,
    /// `refused`, `gone`, `timeout`, `unreachable` or `forbidden`.
    outcome: &'static str,
    /// The status of the answer, where there was one.
    status: Option<u16>,
    /// What happened, in words.
    detail: String,
}

impl LastFailure {
    pub(super) fn new(at: SystemTime, ended: &Ended) -> Self {
        Self {
            at: rfc3339(at),
            outcome: ended.outcome.as_str(),
            status: ended.status,
            detail: ended.detail.clone(),
        }
    }
}

/// Where webhooks are sent to.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Webhook, example = json!({
    "id": "whk_0f3a9c6d1b2e4857", "tenant": "acme", "to": "https://hooks.acme.example",
    "events": ["session.parked", "session.unparked"], "tenants": null, "state": "failing", "queue": 3,
    "last_success": "2026-01-02T03:04:05.678Z",
    "last_failure": {"at": "2026-01-02T03:09:05.678Z", "outcome": "refused", "status": 503,
                     "detail": "answered with HTTP 503"}
}))]
pub struct EndpointView {
    /// Its id: of its owner and its address, and so the same after a restart.
    id: String,
    /// Whose it is; null is operators.
    #[schema(value_type = Option<String>)]
    tenant: Option<TenantId>,
    /// Scheme, host and port of its address. The rest may hold a token and is not shown.
    to: String,
    /// What it is told of; null is all that its owner may know.
    events: Option<Vec<&'static str>>,
    /// The tenants that it is told of; null is all.
    #[schema(value_type = Option<Vec<String>>)]
    tenants: Option<Vec<TenantId>>,
    state: EndpointState,
    /// Messages that are neither delivered nor given up.
    queue: usize,
    /// When a message was last taken; RFC 3339. Of this process.
    last_success: Option<String>,
    /// The last attempt that was not taken, of this process.
    last_failure: Option<LastFailure>,
}

/// What came of a test message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = WebhookTest, example = json!({
    "message_id": "msg_test_5f0c8a7d3e2b4195", "outcome": "delivered", "status": 204,
    "detail": "answered with HTTP 204", "took_ms": 41
}))]
pub struct TestResult {
    /// The `webhook-id` that it was sent with.
    pub(super) message_id: String,
    /// `delivered`, `refused`, `gone`, `timeout`, `unreachable` or `forbidden`.
    pub(super) outcome: &'static str,
    /// The status of the answer, where there was one.
    pub(super) status: Option<u16>,
    /// What happened, in words.
    pub(super) detail: String,
    /// How long it took; milliseconds.
    pub(super) took_ms: u64,
}

pub(super) fn rfc3339(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}

pub(super) fn view(endpoint: &Endpoint, inner: &Inner) -> EndpointView {
    let spec = endpoint.spec.load();
    let events = spec.webhook.events.as_ref();
    EndpointView {
        id: endpoint.id.clone(),
        tenant: spec.owner.clone(),
        to: spec.webhook.origin(),
        events: events.map(|events| events.iter().map(|event| event.as_str()).collect()),
        tenants: spec.webhook.tenants.as_ref().map(|tenants| tenants.iter().cloned().collect()),
        state: match inner.standing {
            Standing::Active => EndpointState::Active,
            Standing::Failing => EndpointState::Failing,
            Standing::Disabled => EndpointState::Disabled,
        },
        queue: inner.queue() + inner.under_way,
        last_success: inner.last_success.map(rfc3339),
        last_failure: inner.last_failure.clone(),
    }
}
