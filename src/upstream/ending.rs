//! How a connection ended, and the one error that comes of it.

use std::time::Duration;

use actix_http::ws::{CloseCode, CloseReason};

use super::report::Reporter;
use crate::{
    errors::{Evidence, Observed, Phase, SessionError, clip},
    wire::proto,
};

/// How long a `ServerError` that ends a connection waits for the close frame that belongs to it.
pub(super) const CLOSE_FRAME_WAIT: Duration = Duration::from_secs(1);

/// What the socket says where a close frame has no code (RFC 6455, 7.1.5).
const NO_STATUS: u16 = 1005;
/// What is said where the socket ended without a close frame (RFC 6455, 7.1.5).
const ABNORMAL: u16 = 1006;

/// The longest request or connection id that is believed, in bytes. The service's have 27 and 36.
pub(super) const MAX_ID_BYTES: usize = 256;

/// How a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// With a close frame.
    Closed(Option<CloseReason>),
    /// Without one.
    Lost(String),
    /// A write failed.
    WriteFailed(String),
    /// Nothing could be written for this long.
    Stalled(Duration),
    /// Nothing came for this long.
    HalfOpen(Duration),
    /// By us, since the peer broke the protocol.
    Violation(String),
    /// By us, since no close frame followed a `ServerError`.
    Unfollowed,
}

/// A `ServerError`, its texts not cleaned yet.
#[derive(Clone, Debug)]
pub(super) struct Reported {
    code: i32,
    text: String,
    req_id: Option<String>,
    connection_id: Option<String>,
}

impl From<proto::ServerError> for Reported {
    fn from(error: proto::ServerError) -> Self {
        let id = |text: String| (!text.is_empty()).then(|| clip(&text, MAX_ID_BYTES).to_owned());
        Self {
            code: error.code,
            text: error.message,
            req_id: id(error.req_id),
            connection_id: id(error.connection_id),
        }
    }
}

impl Reported {
    /// Whether it names a request.
    pub(super) fn names_a_request(&self) -> bool {
        self.req_id.is_some()
    }

    /// The error by itself.
    pub(super) fn error(&self, phase: Phase, reporter: &Reporter) -> SessionError {
        let mut evidence = reporter.evidence(phase, Observed::ServerError);
        evidence.server_code = Some(self.code.to_string());
        evidence.server_detail = Some(self.text.clone());
        self.complete(reporter.error(evidence, self.message()))
    }

    fn message(&self) -> String {
        format!("the service reported error {}: {}", self.code, self.text)
    }

    fn complete(&self, mut error: SessionError) -> SessionError {
        error.req_id.clone_from(&self.req_id);
        error.connection_id = error.connection_id.or_else(|| self.connection_id.clone());
        error
    }
}

/// The one error of a connection that ended, together with the `ServerError` before it, if there was one.
pub(super) fn error(
    end: End,
    reported: Option<&Reported>,
    phase: Phase,
    reporter: &Reporter,
) -> SessionError {
    let (mut evidence, how) = seen(end, phase, reporter);
    let Some(reported) = reported else {
        return reporter.error(evidence, how);
    };
    // One failure, one count: the close adds its code and reason to what the service reported.
    evidence.phase = phase;
    evidence.observed = Observed::ServerError;
    evidence.server_detail = Some(reported.text.clone());
    // The classification knows that a close code of the service's own outranks it.
    evidence.server_code = Some(reported.code.to_string());
    let message = format!("{}; {how}", reported.message());
    reported.complete(reporter.error(evidence, message))
}

fn seen(end: End, phase: Phase, reporter: &Reporter) -> (Evidence, String) {
    let ended = |phase| {
        let mut evidence = reporter.evidence(phase, Observed::SocketEnded);
        evidence.close_code = Some(ABNORMAL);
        evidence
    };
    // Before the confirmation the phase is the handshake, whatever was being done.
    let sending = if phase.is_established() { Phase::WebsocketSend } else { phase };
    match end {
        End::Closed(reason) => {
            let (code, text) = match reason {
                Some(reason) => (u16::from(reason.code), reason.description.filter(|text| !text.is_empty())),
                None => (NO_STATUS, None),
            };
            let mut evidence = reporter.evidence(phase, Observed::Answer);
            evidence.close_code = Some(code);
            evidence.close_reason.clone_from(&text);
            let text = text.map(|text| format!(": {text}")).unwrap_or_default();
            (evidence, format!("the service closed the connection with {code}{text}"))
        }
        End::Lost(how) => (ended(phase), format!("the connection was lost: {how}")),
        End::WriteFailed(how) => (ended(sending), format!("the connection was lost while writing: {how}")),
        End::Stalled(span) => (
            ended(sending),
            format!("the service took no bytes for {} ms: connection given up", span.as_millis()),
        ),
        End::HalfOpen(silent) => {
            (ended(phase), format!("half-open: nothing came for {} ms, pings unanswered", silent.as_millis()))
        }
        End::Violation(what) => {
            (reporter.evidence(phase, Observed::Violation), format!("the service broke the protocol: {what}"))
        }
        End::Unfollowed => (
            reporter.evidence(phase, Observed::ServerError),
            "no close frame followed, so the connection was closed here".to_owned(),
        ),
    }
}

/// What our Close answers to a close frame: the same code, where one may be sent.
pub(super) fn echo(reason: Option<&CloseReason>) -> Option<CloseCode> {
    reason.map(|reason| reason.code).filter(|code| !matches!(u16::from(*code), NO_STATUS | ABNORMAL))
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;
    use crate::{
        errors::{Egress, ErrorCode},
        upstream::Target,
        wire::{self, Data},
    };

    fn reporter() -> Reporter {
        let mut reporter = Reporter::new(&Target {
            app_id: "app".into(),
            api_key: SecretString::from("the-key"),
            avatar_id: "a".into(),
            configure: Some(wire::encode(Data::ClientConfigureSession(
                proto::ClientConfigureSession::default(),
            ))),
            egress: Egress::None,
        })
        .unwrap();
        reporter.on_connection("con-1".into());
        reporter
    }

    fn reported(code: i32, message: &str) -> Reported {
        proto::ServerError { code, message: message.into(), req_id: "req-1".into(), ..Default::default() }
            .into()
    }

    fn closed(code: u16, reason: &str) -> End {
        End::Closed(Some(CloseReason { code: code.into(), description: Some(reason.to_owned()) }))
    }

    fn together(code: i32, message: &str, end: End) -> SessionError {
        error(end, Some(&reported(code, message)), Phase::WebsocketRuntime, &reporter())
    }

    #[test]
    fn a_close_code_of_the_service_outranks_the_errors_code_which_is_kept() {
        for (code, end, expected) in [
            (4001, closed(4503, ""), ErrorCode::UpstreamError),
            (4001, closed(4002, ""), ErrorCode::SessionDurationExceeded),
            (13, closed(4010, "session token expired"), ErrorCode::SessionTokenExpired),
            (4001, closed(1000, ""), ErrorCode::CreditsExhausted),
            (4001, closed(1011, "internal"), ErrorCode::CreditsExhausted),
            (4001, End::Lost("reset".into()), ErrorCode::CreditsExhausted),
            (4001, End::Unfollowed, ErrorCode::CreditsExhausted),
            (4001, End::Violation("text".into()), ErrorCode::CreditsExhausted),
        ] {
            let error = together(code, "said", end);
            assert_eq!(error.code, expected, "{error:?}");
            assert_eq!(error.server_code, Some(code.to_string()));
            assert_eq!(error.server_detail.as_deref(), Some("said"));
            assert_eq!(error.req_id.as_deref(), Some("req-1"));
            assert_eq!(error.connection_id.as_deref(), Some("con-1"));
            assert_eq!(error.phase, Phase::WebsocketRuntime);
        }
    }

    #[test]
    fn an_error_that_matches_nothing_is_a_server_error_and_not_a_closed_connection() {
        assert_eq!(together(0, "who knows", End::Lost("reset".into())).code, ErrorCode::ServerError);
        assert_eq!(together(0, "who knows", closed(1001, "")).code, ErrorCode::ServerError);
    }

    #[test]
    fn the_phase_says_whether_it_was_found_by_sending() {
        for (phase, sending) in [
            (Phase::WebsocketRuntime, Phase::WebsocketSend),
            (Phase::WebsocketHandshake, Phase::WebsocketHandshake),
        ] {
            let of = |end| error(end, None, phase, &reporter());
            for end in [End::Stalled(Duration::from_secs(15)), End::WriteFailed("reset".into())] {
                let error = of(end);
                assert_eq!((error.phase, error.close_code), (sending, Some(1006)));
                assert_eq!(error.code, ErrorCode::ConnectionClosed);
            }
            for end in [End::HalfOpen(Duration::from_secs(30)), End::Lost("end".into())] {
                let error = of(end);
                assert_eq!((error.phase, error.close_code), (phase, Some(1006)));
                assert_eq!(error.code, ErrorCode::ConnectionClosed);
            }
            assert_eq!(of(End::Violation("text".into())).code, ErrorCode::ProtocolError);
        }
    }

    #[test]
    fn secrets_in_an_error_or_a_reason_are_removed() {
        let error = together(13, "the-key is bad", closed(4000, "the-key"));
        assert!(!format!("{error:?}").contains("the-key"), "{error:?}");
    }

    #[test]
    fn codes_that_may_not_be_sent_are_not_echoed() {
        let echoed =
            |code: u16| echo(Some(&CloseReason { code: code.into(), description: None })).map(u16::from);
        assert_eq!(echoed(4001), Some(4001));
        assert_eq!(echoed(1005), None);
        assert_eq!(echoed(1006), None);
        assert_eq!(echo(None), None);
    }
}
