//! What the outside sees of a session: a snapshot that the session publishes at every change.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Clock, Continuity, Revision, SessionAddress, SessionSpec, ThreadId, expiry::standing};
use crate::{
    errors::SessionError,
    events::{ErrorDetail, StateChange},
    recovery::{
        Lifecycle, Moment, Policy, SessionId, StateName, TenantId,
        lifecycle::{Hold, State},
    },
};

/// How a session came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Made over HTTP: it lives until it is deleted.
    Api,
    /// Made by a drop-in client: it lives as long as that is there.
    Ingress,
}

impl Origin {
    /// The spelling in JSON and the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Ingress => "ingress",
        }
    }
}

/// An entry of the registry: what everybody may know of a session without asking its actor.
#[derive(Debug)]
pub struct SessionEntry {
    /// The session's id.
    pub id: SessionId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Whose life it shares; a session of the pool becomes its client's.
    pub origin: ArcSwap<Origin>,
    /// Whether it was made for whoever comes, and not for somebody.
    pub is_pooled: bool,
    /// When it was made.
    pub created_at: Moment,
    /// What it is made from; replaced when a client configures it.
    pub spec: ArcSwap<SessionSpec>,
    /// Where its actor is reached; replaced when the actor is rebuilt.
    pub address: ArcSwapOption<SessionAddress>,
    /// The thread that it lives on, once it does.
    pub thread: OnceLock<ThreadId>,
    /// The latest snapshot.
    pub snapshot: ArcSwap<Snapshot>,
}

/// The changing part of a session, as it was at its latest change.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The state.
    pub state: State,
    /// Restarts since it was made.
    pub restarts: u64,
    /// Failed attempts that were not forgotten at the time.
    pub attempt: u32,
    /// When those are forgotten, if it runs on.
    pub stable_at: Option<Moment>,
    /// When the next attempt is due.
    pub next_attempt_at: Option<Moment>,
    /// The latest error and when it happened.
    pub last_error: Option<(Arc<SessionError>, Moment)>,
}

impl Snapshot {
    /// The snapshot of `lifecycle` now.
    pub fn of(lifecycle: &Lifecycle, now: Moment) -> Self {
        Self {
            state: lifecycle.state().clone(),
            restarts: lifecycle.restarts(),
            attempt: lifecycle.attempt(now),
            stable_at: lifecycle.stable_at(),
            next_attempt_at: lifecycle.next_attempt_at(),
            last_error: lifecycle.last_error().map(|(error, at)| (Arc::clone(error), at)),
        }
    }

    /// The name of the state.
    pub const fn state_name(&self) -> StateName {
        self.state.name()
    }

    /// The code that a list of sessions is filtered by: what holds it, or its latest error.
    pub fn code(&self) -> Option<crate::errors::ErrorCode> {
        match &self.state {
            State::Parked(Hold::Error(code) | Hold::Suspension(code)) => Some(*code),
            State::Parked(Hold::KeyRefused | Hold::Minutes | Hold::Operator)
            | State::Starting(_)
            | State::Running { .. }
            | State::BackingOff(_)
            | State::Dormant
            | State::Failed
            | State::Stopped { .. } => self.last_error.as_ref().map(|(error, _)| error.code),
        }
    }

    /// The change that led to it, as far as it is known from where it led.
    pub fn change(&self) -> StateChange {
        let code = match &self.state {
            State::Parked(Hold::Error(code) | Hold::Suspension(code)) => Some(*code),
            State::BackingOff(_) | State::Failed => self.code(),
            State::Parked(Hold::KeyRefused | Hold::Minutes | Hold::Operator)
            | State::Starting(_)
            | State::Running { .. }
            | State::Dormant
            | State::Stopped { .. } => None,
        };
        StateChange {
            from: None,
            to: self.state_name(),
            code,
            parked_by: self.parked_by(),
            next_attempt_at: self.next_attempt_at,
            recovered_after: None,
            budget_exhausted: false,
        }
    }

    /// What holds a parked session, by a stable name: one of the service's codes, or one of this API's own.
    pub fn parked_by(&self) -> Option<&'static str> {
        match &self.state {
            State::Parked(Hold::Error(code) | Hold::Suspension(code)) => Some(code.as_str()),
            State::Parked(Hold::KeyRefused) => Some("apiKeyRefused"),
            State::Parked(Hold::Minutes) => Some("tenantMinutesUsed"),
            State::Parked(Hold::Operator) => Some("operator"),
            State::Starting(_)
            | State::Running { .. }
            | State::BackingOff(_)
            | State::Dormant
            | State::Failed
            | State::Stopped { .. } => None,
        }
    }

    /// Why the session does not run, in words; `None` where the state says enough.
    fn reason(&self, tenant: &TenantId) -> Option<String> {
        match &self.state {
            State::Parked(Hold::Minutes) => Some(format!(
                "the connections of tenant {tenant} have lasted for as long as they may in a day \
                 (max_connected_minutes_per_day); it starts again at 00:00 UTC, or when that is raised"
            )),
            State::Parked(Hold::Operator) => Some("parked by an operator until it is unparked".to_owned()),
            State::Parked(Hold::Suspension(code)) => Some(format!(
                "tenant {tenant} is suspended because of {code} on another session; see {}",
                code.docs_url()
            )),
            State::Parked(Hold::KeyRefused) => Some(format!(
                "the service refuses tenant {tenant}'s API key; change upstream_api_key, then unpark the tenant"
            )),
            State::Parked(Hold::Error(code)) => Some(format!("{} See {}", code.meaning(), code.docs_url())),
            State::Failed => self.last_error.as_ref().map(|(error, _)| {
                format!(
                    "{} Mend it, then restart the session; see {}",
                    error.code.meaning(),
                    error.code.docs_url()
                )
            }),
            State::Starting(_)
            | State::Running { .. }
            | State::BackingOff(_)
            | State::Dormant
            | State::Stopped { .. } => None,
        }
    }
}

/// A session in JSON. The names are the contract's.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Session, example = json!({
    "id": "ses_01kc0x7w5pz8m3q1r9t2v4y6b8", "tenant": "acme", "avatar_id": "my-avatar", "state": "running",
    "reason": null, "origin": "api", "sample_rate": 16000, "audio_format": "pcm_s16le",
    "connection_id": "c0ffee", "capabilities": [], "restarts": 0, "attempt": 0, "next_attempt_at": null,
    "last_error": null, "created_at": "2026-01-02T03:04:05.678Z", "running_since": "2026-01-02T03:04:06.012Z",
    "labels": {"team": "red"}, "continuity": "off"
}))]
pub struct SessionView {
    /// Its id.
    #[schema(value_type = String)]
    id: SessionId,
    /// Whose it is.
    #[schema(value_type = String)]
    tenant: TenantId,
    /// The avatar, by the service's id.
    avatar_id: String,
    /// `starting`, `running`, `backing_off`, `parked`, `dormant`, `failed` or `stopped`.
    state: &'static str,
    /// Why it does not run, in words.
    reason: Option<String>,
    /// What holds it while it is parked, by a stable name.
    parked_by: Option<&'static str>,
    origin: Origin,
    sample_rate: u32,
    audio_format: super::AudioFormat,
    /// The service's id of the connection, while it runs.
    #[schema(value_type = Option<String>)]
    connection_id: Option<Arc<str>>,
    /// What the service said it can do.
    #[schema(value_type = Vec<String>)]
    capabilities: Arc<[String]>,
    restarts: u64,
    attempt: u32,
    next_attempt_at: Option<String>,
    last_error: Option<ErrorDetail>,
    created_at: String,
    running_since: Option<String>,
    labels: BTreeMap<String, String>,
    /// What is carried out when a connection breaks.
    continuity: Continuity,
    /// What will go wrong, each with what to do before it does.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip)]
    revision: Revision,
}

impl SessionView {
    /// How often its spec was changed.
    pub const fn revision(&self) -> Revision {
        self.revision
    }
}

impl SessionEntry {
    /// What will go wrong with a session in this state, if nobody does anything.
    fn warnings(&self, state: &State, now: Moment) -> Vec<String> {
        if matches!(state, State::Stopped { .. }) {
            return Vec::new();
        }
        standing(self.spec.load().egress.as_ref(), now).warning().into_iter().collect()
    }

    /// The session in JSON.
    pub fn view(&self, clock: &Clock, policy: &Policy) -> SessionView {
        let snapshot = self.snapshot.load();
        let (connection_id, capabilities, running_since) = match &snapshot.state {
            State::Running { since, connection_id, capabilities, .. } => {
                (Some(Arc::clone(connection_id)), Arc::clone(capabilities), Some(clock.rfc3339(*since)))
            }
            State::Starting(_)
            | State::BackingOff(_)
            | State::Parked(_)
            | State::Dormant
            | State::Failed
            | State::Stopped { .. } => (None, Arc::from([]), None),
        };
        let spec = self.spec.load();
        let is_stable = snapshot.stable_at.is_some_and(|at| clock.now() >= at);
        SessionView {
            id: self.id.clone(),
            tenant: self.tenant.clone(),
            avatar_id: spec.avatar_id.clone(),
            state: snapshot.state_name().as_str(),
            reason: snapshot.reason(&self.tenant),
            parked_by: snapshot.parked_by(),
            origin: **self.origin.load(),
            sample_rate: spec.sample_rate,
            audio_format: spec.audio_format,
            connection_id,
            capabilities,
            restarts: snapshot.restarts,
            attempt: if is_stable { 0 } else { snapshot.attempt },
            next_attempt_at: snapshot.next_attempt_at.map(|at| clock.rfc3339(at)),
            last_error: snapshot
                .last_error
                .as_ref()
                .map(|(error, at)| ErrorDetail::new(Arc::clone(error), policy.answer(error).as_str(), *at)),
            created_at: clock.rfc3339(self.created_at),
            running_since,
            labels: spec.labels.clone(),
            continuity: spec.continuity.unwrap_or_default(),
            revision: spec.revision,
            warnings: self.warnings(&snapshot.state, clock.now()),
        }
    }
}
