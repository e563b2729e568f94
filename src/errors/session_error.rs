//! One error of one session, with every field that was known.

use std::time::Duration;

use serde::Serialize;

use super::{ErrorCode, Evidence, Phase, classify};

/// An error of a session: its stable code, and what was known about it.
///
/// Texts come from the service and are bounded by whoever read them from the wire; secrets are removed
/// before they get here (see [`redact`](super::redact())).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(description = "An error of a session: its stable code, and what was known about it.")]
pub struct SessionError {
    /// The stable code.
    pub code: ErrorCode,
    /// Where in the session's life it happened.
    pub phase: Phase,
    /// What happened, for a person.
    pub message: String,
    /// HTTP status, where an HTTP answer was involved.
    pub http_status: Option<u16>,
    /// The service's own error code, as text.
    pub server_code: Option<String>,
    /// The service's title for the error.
    pub server_title: Option<String>,
    /// The service's detail for the error.
    pub server_detail: Option<String>,
    /// The connection it happened on, where one was confirmed.
    pub connection_id: Option<String>,
    /// The request it names, where it names one.
    pub req_id: Option<String>,
    /// WebSocket close code; 1006 where the socket ended without a close frame.
    pub close_code: Option<u16>,
    /// WebSocket close reason.
    pub close_reason: Option<String>,
    /// The raw body of the answer: the first 2 KiB, secrets removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw_body: Option<String>,
    /// How long the service asked to wait (`Retry-After`).
    #[serde(skip)]
    #[schema(ignore)]
    pub retry_after: Option<Duration>,
    /// The number of the classification rule that gave the code.
    #[serde(skip)]
    #[schema(ignore)]
    pub rule: u8,
}

impl SessionError {
    /// Classifies `evidence` and keeps what it says.
    pub fn classified(evidence: Evidence, message: impl Into<String>) -> Self {
        let verdict = classify(&evidence);
        let Evidence {
            phase,
            observed: _,
            egress: _,
            http_status,
            server_code,
            server_title,
            server_detail,
            close_code,
            close_reason,
        } = evidence;
        Self {
            code: verdict.code,
            phase,
            message: message.into(),
            http_status,
            server_code,
            server_title,
            server_detail,
            connection_id: None,
            req_id: None,
            close_code,
            close_reason,
            raw_body: None,
            retry_after: None,
            rule: verdict.rule,
        }
    }

    /// Whether the token call itself was refused: the tenant's API key at the service is at fault, so that
    /// no session of the tenant can get a token.
    pub fn is_api_key_refused(&self) -> bool {
        self.code == ErrorCode::SessionTokenInvalid && self.phase == Phase::SessionToken
    }

    /// Whether the failure speaks of the service's health (no answer, 5xx, 4503), which is what a breaker
    /// counts, and not of this tenant or this session.
    pub fn speaks_of_health(&self) -> bool {
        let no_answer = match self.phase {
            Phase::SessionToken | Phase::WebsocketConnect | Phase::WebsocketHandshake => {
                matches!(self.code, ErrorCode::ConnectionFailed | ErrorCode::ConnectionClosed)
            }
            Phase::WebsocketSend | Phase::WebsocketRuntime => false,
        };
        no_answer
            || self.http_status.is_some_and(|status| status >= 500)
            || self.close_code == Some(4503)
            || self.server_code.as_deref() == Some("4503")
    }
}
