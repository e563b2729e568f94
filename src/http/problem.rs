//! Errors of the HTTP API: RFC 9457 problem details with a stable `code`.

use std::{fmt, time::Duration};

use actix_web::{HttpResponse, ResponseError, http::StatusCode, http::header};
use serde::Serialize;
use utoipa::ToSchema;

use super::request_id::RequestId;
use crate::{
    errors::ErrorCode,
    manager::{CreateRefused, Undone, Unreachable},
    outbox::{Outcome, Refusal},
    session::{AudioRefused, SessionView},
    store::StoreError,
    tenants::TooFast,
};

/// The code where audio comes for a request that has its outcome.
const REQUEST_ENDED: &str = "requestEnded";

/// Seconds after which a client may try again, where the trouble is this process's and passes soon.
pub(super) const RETRY_AFTER_S: u32 = 1;
/// Seconds after which a client may try again, where it needs the end of some other session.
const RETRY_QUOTA_AFTER_S: u32 = 10;

/// An answer that says what was wrong, where, and what to do.
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// Where to read about it, or `about:blank`.
    #[serde(rename = "type")]
    kind: String,
    /// The status in words.
    title: &'static str,
    /// The status of the answer.
    status: u16,
    /// What was wrong, where, and what to do.
    detail: String,
    /// What it is, for programs: stable.
    code: String,
    /// The state of the session that refuses, where one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    /// Everything that is wrong with the body, where more than one thing can be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<String>,
    /// What is there, where it is not what was expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<Box<SessionView>>,
    /// The id of the request, as in `X-Request-Id` and in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(skip)]
    retry_after_s: Option<u32>,
}

/// The code of a problem, kept with its answer for the audit log.
pub(super) struct Code(pub(super) String);

/// The statuses that say "not now", to which belongs when.
const fn is_not_now(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
}

impl Problem {
    /// A problem with a code of this API's own. With 429 and 503 goes a `Retry-After`.
    pub(super) fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
            code: code.to_owned(),
            state: None,
            errors: Vec::new(),
            current: None,
            request_id: RequestId::current().map(|id| id.to_string()),
            retry_after_s: is_not_now(status).then_some(RETRY_AFTER_S),
        }
    }

    /// What is absent and what is another tenant's look the same.
    pub(super) fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "notFound", format!("there is no such {what}"))
    }

    pub(super) fn unprocessable(code: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
    }

    pub(super) fn too_large(bound: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "bodyTooLarge",
            format!("the body may have {bound} bytes at most"),
        )
    }

    pub(super) fn with_errors(mut self, errors: Vec<String>) -> Self {
        self.errors = errors;
        self
    }

    /// The same problem, with what is there.
    pub(super) fn with_current(mut self, session: SessionView) -> Self {
        self.current = Some(Box::new(session));
        self
    }

    /// Whether audio came for a request that has its outcome already.
    pub(super) fn is_request_ended(&self) -> bool {
        self.code == REQUEST_ENDED
    }

    /// The process did not do what was asked, and may do it in a moment.
    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail).with_retry_after(RETRY_AFTER_S)
    }

    /// A tenant sends more requests than it may.
    pub(super) fn too_fast(too_fast: TooFast) -> Self {
        let TooFast { bound, retry_after } = too_fast;
        let detail = format!("the tenant may send {bound} requests in a second; send them more slowly");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "requestRateLimited", detail)
            .with_retry_after(whole_seconds(retry_after))
    }

    /// The request has its outcome already.
    pub(super) fn request_ended(outcome: Outcome) -> Self {
        Self::new(StatusCode::CONFLICT, REQUEST_ENDED, Refusal::Ended(outcome).to_string())
    }

    /// The same problem, with the id of the request that was begun: its outcome can be asked for.
    pub(super) fn about_request(mut self, req_id: &str) -> Self {
        self.detail = format!("{} (request {req_id}, whose outcome can be had by its id)", self.detail);
        self
    }

    /// What was taken of a request cannot be written, so that it is not promised and is given up.
    pub(super) fn unkept(req_id: &str, error: StoreError) -> Self {
        let detail = format!("request {req_id} could not be written and is interrupted: {error}");
        Self { detail, ..error.into() }
    }

    /// A request has its outcome, which cannot be written yet: to send its audio again would speak it twice.
    pub(super) fn unwritten(req_id: &str, error: StoreError) -> Self {
        let detail = format!(
            "request {req_id} has its outcome, which could not be written: {error}; do not send it again, ask for its \
             outcome by its id"
        );
        Self { detail, ..error.into() }
    }

    fn with_retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    fn named_by(mut self, code: ErrorCode) -> Self {
        code.as_str().clone_into(&mut self.code);
        self.kind = code.docs_url();
        self.detail = format!("{} {} See {}.", self.detail, code.meaning(), code.docs_url());
        self
    }
}

/// `Retry-After` has whole seconds, and coming too early is refused again.
fn whole_seconds(span: Duration) -> u32 {
    u32::try_from(span.as_secs()).unwrap_or(u32::MAX).saturating_add(1)
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status, self.code, self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        response.content_type("application/problem+json");
        if self.status == StatusCode::UNAUTHORIZED.as_u16() {
            response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
        }
        if let Some(session) = &self.current {
            response.insert_header((header::ETAG, session.revision().to_string()));
        }
        if let Some(seconds) = self.retry_after_s {
            response.insert_header((header::RETRY_AFTER, seconds));
        }
        let mut answer = match serde_json::to_vec(self) {
            Ok(body) => response.body(body),
            Err(_) => response.finish(),
        };
        answer.extensions_mut().insert(Code(self.code.clone()));
        answer
    }
}

impl From<Unreachable> for Problem {
    fn from(unreachable: Unreachable) -> Self {
        match unreachable {
            Unreachable::Ended => Self::new(
                StatusCode::CONFLICT,
                "sessionStopped",
                "the session is stopped, which is final; create a new one",
            ),
            Unreachable::Late => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                format!("{unreachable}; this process is overloaded, try again"),
            ),
        }
    }
}

impl From<Undone> for Problem {
    fn from(undone: Undone) -> Self {
        let detail = undone.to_string();
        match undone {
            Undone::Unreachable(unreachable) => unreachable.into(),
            Undone::Unkept(error) => Self { detail, ..error.into() },
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let detail = error.to_string();
        if error.is_transient() {
            return Self::new(StatusCode::SERVICE_UNAVAILABLE, "storeUnavailable", detail)
                .with_retry_after(RETRY_AFTER_S);
        }
        match error {
            StoreError::NoEncryptionKey { .. } => Self::unprocessable("noEncryptionKey", detail),
            StoreError::TooLarge { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "bodyTooLarge", detail),
            StoreError::Busy { .. }
            | StoreError::Late { .. }
            | StoreError::NoAnswer { .. }
            | StoreError::Unavailable { .. }
            | StoreError::Unsure { .. }
            | StoreError::Conflict { .. }
            | StoreError::Closed
            | StoreError::UnknownEncryptionKey { .. }
            | StoreError::Damaged { .. }
            | StoreError::NewerRecord { .. }
            | StoreError::NoRandomness => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "storeError", detail),
        }
    }
}

impl From<CreateRefused> for Problem {
    fn from(refused: CreateRefused) -> Self {
        let detail = refused.to_string();
        match refused {
            CreateRefused::UnknownTenant => Self::unprocessable("unknownTenant", detail),
            CreateRefused::TenantFull { .. } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "tenantQuotaReached", detail)
                    .with_retry_after(RETRY_QUOTA_AFTER_S)
            }
            CreateRefused::TooManyStarts { retry_after, .. } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "tenantStartsLimited", detail)
                    .with_retry_after(whole_seconds(retry_after))
            }
            CreateRefused::Full { .. } => Self::new(StatusCode::SERVICE_UNAVAILABLE, "processFull", detail)
                .with_retry_after(RETRY_QUOTA_AFTER_S),
            CreateRefused::Unkept(error) => error.into(),
            CreateRefused::Draining => Self::new(StatusCode::SERVICE_UNAVAILABLE, "draining", detail),
        }
    }
}

impl From<AudioRefused> for Problem {
    fn from(refused: AudioRefused) -> Self {
        let detail = refused.to_string();
        match refused {
            AudioRefused::State { state, code } => {
                let own = format!("session{}{}", state.as_str()[..1].to_uppercase(), &state.as_str()[1..]);
                let mut problem = Self::new(StatusCode::CONFLICT, &own, format!("{detail}."));
                if let Some(code) = code {
                    problem = problem.named_by(code);
                }
                problem.state = Some(state.as_str());
                problem
            }
            AudioRefused::MinutesUsed => {
                let mut problem = Self::new(StatusCode::CONFLICT, "tenantMinutesUsed", detail);
                problem.state = Some("parked");
                problem
            }
            AudioRefused::UnknownRequest(_) => Self::new(StatusCode::NOT_FOUND, "notFound", detail),
            AudioRefused::Ledger(
                Refusal::Full { .. } | Refusal::NoRoom { .. } | Refusal::TooManyPieces { .. },
            ) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "outboxFull", detail),
            AudioRefused::Ledger(Refusal::TooManyOpen { .. }) => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "tooManyOpenRequests", detail)
            }
            AudioRefused::Ledger(Refusal::Ended(_) | Refusal::AfterEnd) => {
                Self::new(StatusCode::CONFLICT, REQUEST_ENDED, detail)
            }
        }
    }
}
