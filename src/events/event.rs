//! One event, and its JSON.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use crate::{
    errors::{ErrorCode, SessionError},
    recovery::{Moment, SessionId, StateName, TenantId},
};

/// The number of an event: later ones are higher, also those of a later process on the same machine.
///
/// It begins as the microseconds since 1970, which a JavaScript number holds exactly until the year 2255.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct EventId(pub u64);

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Something that happened. Its JSON is the contract of the timeline, of the stream and of webhooks.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "id": 1_767_323_045_678_901_u64, "at": "2026-01-02T03:04:05.678Z", "tenant": "acme",
    "session": "ses_01kc0x7w5pz8m3q1r9t2v4y6b8", "kind": "state", "from": "running", "to": "backing_off",
    "code": "connectionClosed", "parked_by": null, "next_attempt_at": "2026-01-02T03:04:06.012Z",
    "recovered_after_ms": null, "budget_exhausted": false
}))]
pub struct Event {
    /// Its number: later events have higher ones.
    #[schema(value_type = u64)]
    pub id: EventId,
    /// When; RFC 3339.
    #[serde(serialize_with = "rfc3339")]
    #[schema(value_type = String)]
    pub at: Moment,
    /// Whose it is; null where it is of the process itself.
    #[schema(value_type = Option<String>)]
    pub tenant: Option<TenantId>,
    /// The session that it is of; null where it is of none.
    #[schema(value_type = Option<String>)]
    pub session: Option<SessionId>,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What {
    /// A session went from one state to another.
    State(StateChange),
    /// A session had an error.
    Error {
        /// The error.
        error: ErrorDetail,
    },
    /// An attempt to connect ended.
    Attempt(Attempt),
    /// A request for audio has its outcome.
    Request(RequestEnd),
    /// An operator did something, or tried to.
    Operator(Command),
    /// A drop-in client came or went.
    Client {
        /// Which of it.
        action: ClientAction,
    },
    /// Something became of a tenant.
    Tenant {
        /// What.
        action: TenantAction,
        /// Because of which error.
        code: Option<ErrorCode>,
        /// Which quota, where one was reached.
        quota: Option<TenantQuota>,
    },
    /// The breaker of an upstream changed.
    Upstream {
        /// The upstream's name.
        name: &'static str,
        /// What the breaker is now.
        breaker: BreakerAction,
    },
}

/// The name of what happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum Kind {
    /// [`What::State`].
    State,
    /// [`What::Error`].
    Error,
    /// [`What::Attempt`].
    Attempt,
    /// [`What::Request`].
    Request,
    /// [`What::Operator`].
    Operator,
    /// [`What::Client`].
    Client,
    /// [`What::Tenant`].
    Tenant,
    /// [`What::Upstream`].
    Upstream,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::State,
        Self::Error,
        Self::Attempt,
        Self::Request,
        Self::Operator,
        Self::Client,
        Self::Tenant,
        Self::Upstream,
    ];

    /// The spelling in JSON and in the stream.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Error => "error",
            Self::Attempt => "attempt",
            Self::Request => "request",
            Self::Operator => "operator",
            Self::Client => "client",
            Self::Tenant => "tenant",
            Self::Upstream => "upstream",
        }
    }
}

/// A session went from one state to another.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct StateChange {
    /// The state before; null where the session has just been made.
    #[serde(serialize_with = "maybe_state")]
    #[schema(value_type = Option<String>)]
    pub from: Option<StateName>,
    /// The state now.
    #[serde(serialize_with = "state")]
    #[schema(value_type = String)]
    pub to: StateName,
    /// The code that led to it, where it backs off, is parked or has failed.
    pub code: Option<ErrorCode>,
    /// What holds it, where it is parked: a code of the service or a name of this API.
    pub parked_by: Option<&'static str>,
    /// When the next attempt is due; RFC 3339.
    #[serde(serialize_with = "maybe_rfc3339")]
    #[schema(value_type = Option<String>)]
    pub next_attempt_at: Option<Moment>,
    /// How long it did not run, where it runs again; milliseconds.
    #[serde(serialize_with = "maybe_millis")]
    #[serde(rename = "recovered_after_ms")]
    #[schema(value_type = Option<u64>)]
    pub recovered_after: Option<Duration>,
    /// Whether it failed because it used up its restart budget.
    pub budget_exhausted: bool,
}

/// An error in JSON, and what the policy does about it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = LastError)]
pub struct ErrorDetail {
    /// The error.
    #[serde(flatten, serialize_with = "shared")]
    #[schema(value_type = SessionError)]
    pub error: Arc<SessionError>,
    /// What the policy does about it.
    pub action: &'static str,
    /// When it happened; RFC 3339.
    #[serde(serialize_with = "rfc3339")]
    #[schema(value_type = String)]
    pub at: Moment,
    /// Its section of the runbooks.
    #[serde(rename = "docs_url", serialize_with = "docs_url")]
    #[schema(value_type = String)]
    code: ErrorCode,
}

impl ErrorDetail {
    /// The error, which happened at `at`, and the name of the policy's action.
    pub fn new(error: Arc<SessionError>, action: &'static str, at: Moment) -> Self {
        let code = error.code;
        Self { error, action, at, code }
    }
}

fn shared<S: Serializer>(error: &Arc<SessionError>, serializer: S) -> Result<S::Ok, S::Error> {
    error.as_ref().serialize(serializer)
}

fn docs_url<S: Serializer>(code: &ErrorCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&code.docs_url())
}

/// An attempt to connect that has ended. Steps that were not begun have no time.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Attempt {
    /// Which attempt in a row it is, from 1.
    pub attempt: u32,
    /// The number of the ask that it was granted to.
    pub generation: u64,
    /// How long it waited at the gate; milliseconds.
    #[serde(rename = "gate_ms", serialize_with = "millis")]
    #[schema(value_type = u64)]
    pub gate: Duration,
    /// How long the token call took; milliseconds.
    #[serde(rename = "token_ms", serialize_with = "maybe_millis")]
    #[schema(value_type = Option<u64>)]
    pub token: Option<Duration>,
    /// How long name lookup, TCP, TLS and upgrade took; milliseconds.
    #[serde(rename = "connect_ms", serialize_with = "maybe_millis")]
    #[schema(value_type = Option<u64>)]
    pub connect: Option<Duration>,
    /// From the upgrade to the confirmation; milliseconds.
    #[serde(rename = "handshake_ms", serialize_with = "maybe_millis")]
    #[schema(value_type = Option<u64>)]
    pub handshake: Option<Duration>,
    /// `running`, or the code of the error that ended it.
    #[serde(serialize_with = "attempt_outcome")]
    #[schema(value_type = String)]
    pub outcome: Option<ErrorCode>,
    /// The service's id of the connection, where it gave one.
    pub connection_id: Option<String>,
}

/// A request for audio that has its outcome.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RequestEnd {
    /// Its id, as its client knows it.
    pub req_id: String,
    /// `completed`, `interrupted` or `failed`.
    pub outcome: &'static str,
    /// The code of a failure.
    pub code: Option<ErrorCode>,
    /// Connections that ended while it was answered on them.
    pub breaks: u32,
    /// How long its audio lasts; milliseconds. Null where the format does not tell.
    #[serde(rename = "audio_ms", serialize_with = "maybe_millis")]
    #[schema(value_type = Option<u64>)]
    pub audio: Option<Duration>,
    /// Frames that came for it.
    pub frames: u64,
    /// From its first audio to its first frame; milliseconds.
    #[serde(rename = "first_frame_ms", serialize_with = "maybe_millis")]
    #[schema(value_type = Option<u64>)]
    pub first_frame: Option<Duration>,
    /// From its first audio to its outcome; milliseconds.
    #[serde(rename = "duration_ms", serialize_with = "millis")]
    #[schema(value_type = u64)]
    pub duration: Duration,
}

/// What an operator did.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Command {
    /// What was done, as the audit log names it: `session.park`.
    pub action: String,
    /// The name of the key that was presented.
    pub who: String,
    /// The status of the answer; null where the caller left before it.
    pub status: Option<u16>,
    /// The id of the HTTP request.
    pub request_id: String,
}

/// What a drop-in client did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAction {
    /// It has the session's seat.
    Attached,
    /// It is gone.
    Left,
    /// Another one has taken its place.
    TakenOver,
}

/// What became of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TenantAction {
    /// Nothing new of it knocks.
    Suspended,
    /// Its suspension is lifted.
    Released,
    /// It was made.
    Created,
    /// It was changed.
    Changed,
    /// It is no more.
    Deleted,
    /// It was refused something because of a quota; told once a minute at most for each quota.
    QuotaReached,
}

/// A quota of a tenant, by its name in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TenantQuota {
    /// Sessions at once.
    MaxSessions,
    /// Sessions that are made in a minute.
    MaxStartsPerMinute,
    /// Requests to the data plane in a second.
    RequestsPerSecond,
    /// Minutes that its connections last in a day.
    MaxConnectedMinutesPerDay,
}

impl TenantQuota {
    /// How many there are.
    pub const COUNT: usize = 4;
}

/// What a breaker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BreakerAction {
    /// Everybody may knock.
    Closed,
    /// Single attempts find out whether the service is back.
    HalfOpen,
    /// Nobody knocks.
    Open,
}

impl What {
    /// The name of what happened.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::State(_) => Kind::State,
            Self::Error { .. } => Kind::Error,
            Self::Attempt(_) => Kind::Attempt,
            Self::Request(_) => Kind::Request,
            Self::Operator(_) => Kind::Operator,
            Self::Client { .. } => Kind::Client,
            Self::Tenant { .. } => Kind::Tenant,
            Self::Upstream { .. } => Kind::Upstream,
        }
    }

    /// The error code that it names.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::State(change) => change.code,
            Self::Error { error } => Some(error.error.code),
            Self::Attempt(attempt) => attempt.outcome,
            Self::Request(request) => request.code,
            Self::Tenant { code, .. } => *code,
            Self::Operator(_) | Self::Client { .. } | Self::Upstream { .. } => None,
        }
    }

    /// The state that a session has come to.
    pub const fn state(&self) -> Option<StateName> {
        match self {
            Self::State(change) => Some(change.to),
            Self::Error { .. }
            | Self::Attempt(_)
            | Self::Request(_)
            | Self::Operator(_)
            | Self::Client { .. }
            | Self::Tenant { .. }
            | Self::Upstream { .. } => None,
        }
    }
}

impl Event {
    /// The event in JSON, without a line break.
    pub fn to_json(&self) -> String {
        // Texts, numbers and names: there is nothing in it that JSON lacks.
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn rfc3339<S: Serializer>(at: &Moment, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + at.since_start()))
}

fn maybe_rfc3339<S: Serializer>(at: &Option<Moment>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => rfc3339(at, serializer),
        None => serializer.serialize_none(),
    }
}

fn whole_millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn millis<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(whole_millis(*span))
}

fn maybe_millis<S: Serializer>(span: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    span.map(whole_millis).serialize(serializer)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn state<S: Serializer>(state: &StateName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(state.as_str())
}

fn maybe_state<S: Serializer>(from: &Option<StateName>, serializer: S) -> Result<S::Ok, S::Error> {
    from.map(StateName::as_str).serialize(serializer)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn attempt_outcome<S: Serializer>(outcome: &Option<ErrorCode>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(outcome.map_or(StateName::Running.as_str(), ErrorCode::as_str))
}
