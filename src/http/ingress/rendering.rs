//! How each error looks to a client: one table, in the service's own words, so that an SDK makes of an error of
//! Greenroom what it would make of the service's.
//!
//! Two forms: an upgrade is refused with a status and a body; after it comes a `ServerError`, then a close frame,
//! in the handshake as on a running session. Close codes of the service's own meaning are used where they have one;
//! the others are 4000 (do not reconnect) and 4500 (reconnect with backoff), which the service's contract calls
//! *at fault* and *briefly unable*, and the text says the rest. No text has the word that the older SDKs take for
//! refused egress credentials.
//!
//! `docs/ingress.md` shows the table; a test holds the two together.

use super::parting::{Parting, Words};
use crate::errors::{Egress, ErrorCode, Evidence, Observed, Phase, classify};

/// How one code looks to a client.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The code.
    pub code: ErrorCode,
    /// HTTP status of a refused upgrade.
    pub status: u16,
    /// The message in its body; `{avatar}` stands for the avatar's id.
    pub message: &'static str,
    /// The `ServerError` after the upgrade: its code, and its text. `None` where the service sends none.
    pub error: Option<(i32, &'static str)>,
    /// The close code after it; the reason is the text.
    pub close: u16,
    /// What this project's own table makes of the refused upgrade, where that cannot be the code itself, and why.
    pub upgrade_reads_as: Option<(ErrorCode, &'static str)>,
    /// What it makes of the `ServerError` and the close, where that cannot be the code itself, and why.
    pub closing_reads_as: Option<(ErrorCode, &'static str)>,
}

/// Do not reconnect: of the service's range for requests at fault, without a meaning of its own.
pub const AT_FAULT: u16 = 4000;
/// Reconnect with backoff: of the service's range for its own troubles, without a meaning of its own.
pub const BRIEFLY_UNABLE: u16 = 4500;
/// A dependency of the service is unavailable.
pub const UNAVAILABLE: u16 = 4503;
/// An endpoint that failed (RFC 6455).
pub const INTERNAL: u16 = 1011;

const fn row(
    code: ErrorCode,
    (status, message): (u16, &'static str),
    (error, text, close): (i32, &'static str, u16),
) -> Row {
    Row {
        code,
        status,
        message,
        error: Some((error, text)),
        close,
        upgrade_reads_as: None,
        closing_reads_as: None,
    }
}

impl Row {
    const fn upgrade_reads_as(mut self, code: ErrorCode, why: &'static str) -> Self {
        self.upgrade_reads_as = Some((code, why));
        self
    }

    const fn closing_reads_as(mut self, code: ErrorCode, why: &'static str) -> Self {
        self.closing_reads_as = Some((code, why));
        self
    }

    const fn without_error(mut self) -> Self {
        self.error = None;
        self
    }
}

/// The table, in the order of [`ErrorCode::ALL`].
pub static ROWS: [Row; ErrorCode::ALL.len()] = [
    row(
        ErrorCode::SessionTokenExpired,
        (401, "Session token expired"),
        (4010, "Session token expired", 4010),
    ),
    row(
        ErrorCode::SessionTokenInvalid,
        (400, "Invalid session token"),
        (4010, "Invalid session token", 4010),
    ),
    row(
        ErrorCode::AppIdUnrecognized,
        (404, "app id unrecognized"),
        (AT_FAULT as i32, "app id unrecognized", AT_FAULT),
    ),
    row(ErrorCode::AppIdMismatch, (400, "app id mismatch"), (4010, "app id mismatch", 4010)),
    row(
        ErrorCode::AvatarNotFound,
        (404, "Avatar not found: {avatar}"),
        (AT_FAULT as i32, "Avatar not found: {avatar}", AT_FAULT),
    ),
    row(
        ErrorCode::BillingRequired,
        (402, "session denied: billing required"),
        (AT_FAULT as i32, "session denied: billing required", AT_FAULT),
    ),
    row(
        ErrorCode::CreditsExhausted,
        (402, "session denied: credits exhausted"),
        (4001, "session denied: credits exhausted", 4001),
    ),
    row(
        ErrorCode::SessionDurationExceeded,
        (402, "maximum session duration reached"),
        (4002, "maximum session duration reached", 4002),
    ),
    row(
        ErrorCode::ConcurrencyLimit,
        (429, "concurrency limit reached"),
        (4003, "concurrency limit reached", 4003),
    ),
    row(
        ErrorCode::UnsupportedSampleRate,
        (400, "unsupported sample rate"),
        (AT_FAULT as i32, "unsupported sample rate", AT_FAULT),
    ),
    row(
        ErrorCode::InvalidEgressConfig,
        (400, "livekit_egress or agora_egress is refused"),
        (AT_FAULT as i32, "livekit_egress or agora_egress is refused", AT_FAULT),
    ),
    row(
        ErrorCode::EgressUnavailable,
        (503, "failed to create egress connection"),
        (BRIEFLY_UNABLE as i32, "failed to create egress connection", BRIEFLY_UNABLE),
    ),
    row(
        ErrorCode::IdleTimeout,
        (503, "no audio input for too long"),
        (0, "no audio input for too long", 1000),
    )
    .upgrade_reads_as(ErrorCode::UpstreamError, "no session is idle before it stands"),
    row(
        ErrorCode::UpstreamError,
        (503, "driven server request failed"),
        (UNAVAILABLE as i32, "driven server request failed", UNAVAILABLE),
    ),
    row(ErrorCode::InvalidRequest, (422, "invalid request"), (3, "invalid request", AT_FAULT)),
    row(
        ErrorCode::ConnectionFailed,
        (503, "the avatar service cannot be reached"),
        (UNAVAILABLE as i32, "the avatar service cannot be reached", UNAVAILABLE),
    )
    .upgrade_reads_as(ErrorCode::UpstreamError, "an answer cannot say that there was none")
    .closing_reads_as(ErrorCode::UpstreamError, "an answer cannot say that there was none"),
    row(
        ErrorCode::ConnectionClosed,
        (503, "the connection to the avatar service keeps breaking"),
        (0, "the connection to the avatar service keeps breaking", INTERNAL),
    )
    .without_error()
    .upgrade_reads_as(ErrorCode::UpstreamError, "before the upgrade there is no connection that could end"),
    row(
        ErrorCode::ProtocolError,
        (502, "unexpected message type from the avatar service"),
        (BRIEFLY_UNABLE as i32, "unexpected message type from the avatar service", BRIEFLY_UNABLE),
    ),
    row(
        ErrorCode::ServerError,
        (500, "the avatar service failed"),
        (13, "the avatar service failed", INTERNAL),
    ),
    row(ErrorCode::Unknown, (500, "unknown error"), (2, "unknown error", INTERNAL))
        .upgrade_reads_as(ErrorCode::ServerError, "every status of a refusal has a meaning")
        .closing_reads_as(ErrorCode::ServerError, "every ServerError has a meaning"),
];

impl Row {
    /// The row of `code`.
    pub fn of(code: ErrorCode) -> &'static Self {
        &ROWS[code.index()]
    }

    /// What our own table makes of a refused upgrade of this row.
    pub fn upgrade_code(&self) -> ErrorCode {
        self.upgrade_reads_as.map_or(self.code, |(code, _)| code)
    }

    /// What it makes of the `ServerError` and the close.
    pub fn closing_code(&self) -> ErrorCode {
        self.closing_reads_as.map_or(self.code, |(code, _)| code)
    }

    /// The message of a refused upgrade. The service's own words are taken where they mean the same there.
    pub(super) fn upgrade_message(&self, avatar_id: &str, words: Option<&str>) -> String {
        let own = words.filter(|words| {
            let told = Evidence {
                http_status: Some(self.status),
                server_detail: Some((*words).to_owned()),
                ..Evidence::new(Phase::WebsocketConnect, Observed::Answer, Egress::Unknown)
            };
            is_well_worded(words) && classify(&told).code == self.upgrade_code()
        });
        own.map_or_else(|| self.message.replace("{avatar}", avatar_id), str::to_owned)
    }

    /// The end of a connection. The service's own words are taken where they mean the same there.
    pub(super) fn parting(&self, avatar_id: &str, words: Option<&str>) -> Parting {
        let Some((code, text)) = self.error else {
            return Parting::silent(self.close, self.message);
        };
        let own = words.filter(|words| {
            let told = Evidence {
                server_code: Some(code.to_string()),
                server_detail: Some((*words).to_owned()),
                close_code: Some(self.close),
                ..Evidence::new(Phase::WebsocketRuntime, Observed::ServerError, Egress::Unknown)
            };
            is_well_worded(words) && classify(&told).code == self.closing_code()
        });
        let text = own.map_or_else(|| text.replace("{avatar}", avatar_id), str::to_owned);
        Parting::told(code, self.close, text)
    }
}

impl Row {
    /// What a client is told of a request that failed while its session goes on.
    pub(super) fn request_error(&self, avatar_id: &str, reason: &str) -> Words {
        let told = self.parting(avatar_id, Some(reason)).error;
        // A connection that broke has no error of the service's; a request that it took along has.
        told.unwrap_or_else(|| Words { code: UNAVAILABLE.into(), text: reason.to_owned() })
    }
}

/// The older SDKs read one word as refused egress credentials, wherever it stands.
fn is_well_worded(words: &str) -> bool {
    !words.trim().is_empty() && !words.to_lowercase().contains("unauthorized")
}

/// The table as Markdown, as it stands in `docs/ingress.md`.
pub fn markdown() -> String {
    let mut text = String::from(
        "| code | refused upgrade | after the upgrade: `ServerError` | close |\n| --- | --- | --- | --- |\n",
    );
    for row in &ROWS {
        let note = |reads_as: Option<(ErrorCode, &str)>| {
            reads_as.map_or_else(String::new, |(code, why)| format!(" (reads as `{code}`: {why})"))
        };
        let error = row.error.map_or_else(|| "none".to_owned(), |(code, text)| format!("{code} `{text}`"));
        text.push_str(&format!(
            "| `{}` | {} `{}`{} | {error}{} | {} |\n",
            row.code,
            row.status,
            row.message,
            note(row.upgrade_reads_as),
            note(row.closing_reads_as),
            row.close,
        ));
    }
    text
}

#[cfg(test)]
mod tests;
