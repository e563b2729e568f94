//! Errors of the HTTP API: RFC 9457 problem details with a stable `code`.

use std::fmt;

use actix_web::{HttpResponse, ResponseError, http::StatusCode, http::header};
use serde::Serialize;

use crate::{
    errors::ErrorCode,
    manager::{CreateRefused, Undone, Unreachable},
    outbox::{Outcome, Refusal},
    session::AudioRefused,
    store::StoreError,
};

/// The code where audio comes for a request that has its outcome.
const REQUEST_ENDED: &str = "requestEnded";

/// Seconds after which a client may try again, where the trouble is this process's and passes soon.
const RETRY_AFTER_S: u32 = 1;

/// An answer that says what was wrong, where, and what to do.
#[derive(Debug, Serialize)]
pub struct Problem {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: String,
    code: String,
    /// The state of the session that refuses, where one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    /// Everything that is wrong with the body, where more than one thing can be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<String>,
    #[serde(skip)]
    retry_after_s: Option<u32>,
}

impl Problem {
    /// A problem with a code of this API's own.
    pub(super) fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
            code: code.to_owned(),
            state: None,
            errors: Vec::new(),
            retry_after_s: None,
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

    /// Whether audio came for a request that has its outcome already.
    pub(super) fn is_request_ended(&self) -> bool {
        self.code == REQUEST_ENDED
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
        if let Some(seconds) = self.retry_after_s {
            response.insert_header((header::RETRY_AFTER, seconds));
        }
        match serde_json::to_vec(self) {
            Ok(body) => response.body(body),
            Err(_) => response.finish(),
        }
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
            )
            .with_retry_after(RETRY_AFTER_S),
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
            }
            CreateRefused::Full { .. } => Self::new(StatusCode::SERVICE_UNAVAILABLE, "processFull", detail)
                .with_retry_after(RETRY_AFTER_S),
            CreateRefused::Unkept(error) => error.into(),
            CreateRefused::Draining => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "draining", detail).with_retry_after(RETRY_AFTER_S)
            }
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
            AudioRefused::UnknownRequest(_) => Self::new(StatusCode::NOT_FOUND, "notFound", detail),
            AudioRefused::Ledger(
                Refusal::Full { .. } | Refusal::NoRoom { .. } | Refusal::TooManyPieces { .. },
            ) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "outboxFull", detail)
                .with_retry_after(RETRY_AFTER_S),
            AudioRefused::Ledger(Refusal::TooManyOpen { .. }) => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "tooManyOpenRequests", detail)
            }
            AudioRefused::Ledger(Refusal::Ended(_) | Refusal::AfterEnd) => {
                Self::new(StatusCode::CONFLICT, REQUEST_ENDED, detail)
            }
        }
    }
}
