//! The last word to a client: how a [`Farewell`] looks before the upgrade is answered, and after.

use std::time::Duration;

use serde_json::json;

use super::rendering::{AT_FAULT, BRIEFLY_UNABLE, Row, UNAVAILABLE};
use crate::{
    errors::{ErrorCode, MAX_RAW_BODY_BYTES, Phase, SessionError, clip},
    manager::CreateRefused,
    session::Farewell,
};

/// Bytes of a close frame's reason at most (RFC 6455, 5.5: 125 for the payload, two of them for the code).
const MAX_REASON_BYTES: usize = 123;

/// How long a client is asked to wait where the trouble is expected to pass.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// The tenant's own bound, in the words for the service's: an SDK makes of both the same.
const MINUTES_USED: &str = "concurrency limit reached: the tenant's connected minutes of this day are used";

/// A refused upgrade, in the service's form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// HTTP status.
    pub(super) status: u16,
    pub(super) body: String,
    pub(super) retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal with the body `{"message": ...}` and a newline, as the service writes it.
    pub(super) fn new(status: u16, message: &str) -> Self {
        let retry_after = matches!(status, 429 | 503).then_some(RETRY_AFTER);
        Self { status, body: format!("{}\n", json!({ "message": message })), retry_after }
    }

    /// The refusal for a code, in the words of the table.
    pub(super) fn of_code(code: ErrorCode, avatar_id: &str) -> Self {
        let row = Row::of(code);
        Self::new(row.status, &row.upgrade_message(avatar_id, None))
    }

    /// The refusal of an upgrade that `farewell` ends.
    pub(super) fn of(farewell: &Farewell, avatar_id: &str) -> Self {
        match farewell {
            Farewell::Error(error) => Self::of_error(error, avatar_id),
            Farewell::Suspended(code) => Self::of_code(*code, avatar_id),
            Farewell::KeyRefused => Self::new(503, "the avatar service refuses this tenant's API key"),
            Farewell::MinutesUsed => Self::new(Row::of(ErrorCode::ConcurrencyLimit).status, MINUTES_USED),
            Farewell::ParkedByOperator => Self::new(503, "an operator has parked the session"),
            Farewell::Deleted => Self::new(409, "the session was deleted"),
            Farewell::Draining => Self::new(503, "this process is draining"),
            Farewell::TakenOver => Self::new(409, "another client has taken the session over"),
            Farewell::Overrun => Self::new(503, "too much waits for this client"),
        }
    }

    /// The refusal where no session was made.
    pub(super) fn of_create(refused: &CreateRefused) -> Self {
        let status = match refused {
            CreateRefused::UnknownTenant => 400,
            // The tenant's own bound on sessions, in the words for the service's.
            CreateRefused::TenantFull { .. } | CreateRefused::TooManyStarts { .. } => 429,
            CreateRefused::Full { .. } | CreateRefused::Draining | CreateRefused::Unkept(_) => 503,
        };
        match refused {
            CreateRefused::TenantFull { max } => {
                Self::new(status, &format!("concurrency limit reached: the tenant has {max} sessions"))
            }
            CreateRefused::TooManyStarts { retry_after, .. } => Self {
                retry_after: Some(*retry_after),
                ..Self::new(status, &format!("concurrency limit reached: {refused}"))
            },
            CreateRefused::UnknownTenant
            | CreateRefused::Full { .. }
            | CreateRefused::Draining
            | CreateRefused::Unkept(_) => Self::new(status, &refused.to_string()),
        }
    }

    fn of_error(error: &SessionError, avatar_id: &str) -> Self {
        let row = Row::of(error.code);
        let own = error
            .http_status
            .filter(|status| error.phase == Phase::WebsocketConnect && (400..600).contains(status));
        let Some(status) = own else {
            return Self {
                retry_after: error.retry_after.or_else(|| Self::new(row.status, "").retry_after),
                ..Self::new(row.status, &row.upgrade_message(avatar_id, error.server_detail.as_deref()))
            };
        };
        // The service's own answer, unless its body was longer than is kept: half a body is none.
        let body = error.raw_body.as_ref().filter(|body| body.len() < MAX_RAW_BODY_BYTES);
        let mut refusal = Self::new(status, error.server_detail.as_deref().unwrap_or(row.message));
        if let Some(body) = body {
            refusal.body = format!("{}\n", body.trim_end());
        }
        refusal.retry_after = error.retry_after.or(refusal.retry_after);
        refusal
    }
}

/// What a `ServerError` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) code: i32,
    pub(super) text: String,
}

/// The end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parting {
    /// Sent first, where there is one.
    pub(super) error: Option<Words>,
    /// The service's connection, where it named one that the client was never told of.
    pub(super) connection_id: Option<String>,
    pub(super) close: u16,
    pub(super) reason: String,
}

impl Parting {
    /// A close without a `ServerError`.
    pub(super) fn silent(close: u16, reason: &str) -> Self {
        Self { error: None, connection_id: None, close, reason: reason.to_owned() }
    }

    /// A `ServerError` and a close that say the same.
    pub(super) fn told(code: i32, close: u16, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { error: Some(Words { code, text: text.clone() }), ..Self::silent(close, &text) }
    }

    /// The end for a code, in the words of the table.
    pub(super) fn of_code(code: ErrorCode, avatar_id: &str) -> Self {
        Row::of(code).parting(avatar_id, None)
    }

    /// What a client is told whose connection `farewell` ends.
    pub(super) fn of(farewell: &Farewell, avatar_id: &str) -> Self {
        let at_fault = |text: &str| Self::told(AT_FAULT.into(), AT_FAULT, text);
        let unable = |close: u16, text: &str| Self::told(close.into(), close, text);
        match farewell {
            Farewell::Error(error) => Self::of_error(error, avatar_id),
            Farewell::Suspended(code) => Self::of_code(*code, avatar_id),
            Farewell::KeyRefused => unable(UNAVAILABLE, "the avatar service refuses this tenant's API key"),
            Farewell::MinutesUsed => {
                let row = Row::of(ErrorCode::ConcurrencyLimit);
                Self::told(row.close.into(), row.close, MINUTES_USED)
            }
            Farewell::ParkedByOperator => unable(BRIEFLY_UNABLE, "an operator has parked the session"),
            // The owner's own wish: a normal closure, which no SDK reports as an error.
            Farewell::Deleted => Self::silent(1000, "the session was deleted"),
            // What moves away closes with "service restart" and without an error: it is to be connected again.
            Farewell::Draining => Self::silent(1012, "this process is draining"),
            Farewell::TakenOver => at_fault("another client has taken the session over"),
            // Behind everything that waits an error would come no sooner than the close.
            Farewell::Overrun => Self::silent(1013, "too much waits for this client"),
        }
    }

    /// The service's own end of a session is given through; what Greenroom found is told by the table.
    fn of_error(error: &SessionError, avatar_id: &str) -> Self {
        let own = Row::of(error.code).parting(avatar_id, error.server_detail.as_deref());
        if matches!(error.phase, Phase::SessionToken | Phase::WebsocketConnect) {
            return own;
        }
        let says = error.server_code.is_some() || error.server_detail.is_some();
        let words = says.then(|| Words {
            code: error.server_code.as_deref().and_then(|code| code.parse().ok()).unwrap_or_default(),
            text: error.server_detail.clone().unwrap_or_default(),
        });
        let closed = error.close_code.filter(|code| is_sendable(*code));
        let connection_id = error.connection_id.clone();
        match (words, closed) {
            (None, None) => own,
            (error_words, Some(close)) => Self {
                error: error_words,
                connection_id,
                ..Self::silent(close, error.close_reason.as_deref().unwrap_or_default())
            },
            (Some(words), None) => Self { error: Some(words), connection_id, ..own },
        }
    }

    /// The reason, as long as a close frame can carry it.
    pub(super) fn reason(&self) -> &str {
        clip(&self.reason, MAX_REASON_BYTES)
    }
}

/// Whether an endpoint may send the code (RFC 6455, 7.4: 1005, 1006 and 1015 stand for what was not sent).
const fn is_sendable(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests;
