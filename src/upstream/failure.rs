//! From what went wrong to a [`SessionError`], without secrets and within bounds.

use std::{sync::Arc, time::Duration};

use super::Secrets;
use crate::{
    errors::{
        Egress, Evidence, MAX_FIELD_BYTES, MAX_RAW_BODY_BYTES, Observed, Phase, SessionError, clip,
        evidence_from_body,
    },
    wire::proto::ServerError,
};

/// Makes the errors of one attempt or connection.
#[derive(Clone, Debug)]
pub(super) struct Failures {
    pub(super) egress: Egress,
    pub(super) secrets: Arc<Secrets>,
    /// The service's name for the connection, once it is confirmed.
    pub(super) connection_id: Option<String>,
}

/// A close frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CloseFrame {
    pub(super) code: Option<u16>,
    pub(super) reason: Option<String>,
}

/// The code of a connection that ended without a close frame (RFC 6455, 7.1.5): never on the wire.
const NO_CLOSE_FRAME: u16 = 1006;

impl Failures {
    fn text(&self, text: &str) -> String {
        // Cleaned before it is clipped: half a secret at the end would not be recognised.
        clip(&self.secrets.clean(text), MAX_FIELD_BYTES).to_owned()
    }

    fn finish(&self, mut error: SessionError) -> SessionError {
        error.connection_id.clone_from(&self.connection_id);
        error
    }

    fn seen(&self, phase: Phase, observed: Observed) -> Evidence {
        Evidence::new(phase, observed, self.egress)
    }

    /// No usable answer came.
    pub(super) fn no_answer(&self, phase: Phase, what: &str) -> SessionError {
        self.finish(SessionError::classified(self.seen(phase, Observed::NoAnswer), self.text(what)))
    }

    /// The service broke the protocol.
    pub(super) fn violation(&self, phase: Phase, what: &str) -> SessionError {
        self.finish(SessionError::classified(self.seen(phase, Observed::Violation), self.text(what)))
    }

    /// An HTTP answer that is no success.
    pub(super) fn refusal(
        &self,
        phase: Phase,
        status: u16,
        body: &str,
        retry_after: Option<Duration>,
    ) -> SessionError {
        let body = self.secrets.clean(body);
        let evidence = evidence_from_body(phase, self.egress, status, &body);
        let what = match phase {
            Phase::SessionToken => "the token call was answered with",
            Phase::WebsocketConnect
            | Phase::WebsocketHandshake
            | Phase::WebsocketSend
            | Phase::WebsocketRuntime => "the upgrade was answered with",
        };
        let status = evidence.http_status.unwrap_or(status);
        let message = match evidence.server_detail.as_ref().or(evidence.server_title.as_ref()) {
            Some(detail) => format!("{what} HTTP {status}: {detail}"),
            None => format!("{what} HTTP {status}"),
        };
        let mut error = self.finish(SessionError::classified(evidence, message));
        error.raw_body = (!body.is_empty()).then(|| clip(&body, MAX_RAW_BODY_BYTES).to_owned());
        error.retry_after = retry_after;
        error
    }

    /// The socket ended without a close frame.
    pub(super) fn socket_ended(&self, phase: Phase, what: &str) -> SessionError {
        let mut error = SessionError::classified(self.seen(phase, Observed::SocketEnded), self.text(what));
        error.close_code = Some(NO_CLOSE_FRAME);
        self.finish(error)
    }

    /// The service closed, without a `ServerError` before.
    pub(super) fn closed(&self, phase: Phase, close: &CloseFrame) -> SessionError {
        let evidence = Evidence {
            close_code: close.code,
            close_reason: close.reason.as_deref().map(|reason| self.text(reason)),
            ..self.seen(phase, Observed::SocketEnded)
        };
        let message = close_message(evidence.close_code, evidence.close_reason.as_deref());
        self.finish(SessionError::classified(evidence, message))
    }

    /// A `ServerError`, and the close that followed it, where one did: one failure. A close code from 4000 to
    /// 4999 outranks the code of the `ServerError`; any other only adds its fields.
    pub(super) fn server_error(
        &self,
        phase: Phase,
        server_error: &ServerError,
        close: Option<&CloseFrame>,
    ) -> SessionError {
        let detail = (!server_error.message.is_empty()).then(|| self.text(&server_error.message));
        let code = server_error.code.to_string();
        let close_code = close.and_then(|close| close.code);
        let close_reason = close.and_then(|close| close.reason.as_deref()).map(|reason| self.text(reason));
        let outranked = close_code.is_some_and(|code| (4000..=4999).contains(&code));
        let mut evidence =
            Evidence { server_detail: detail.clone(), ..self.seen(phase, Observed::ServerError) };
        if outranked {
            evidence.close_code = close_code;
            evidence.close_reason.clone_from(&close_reason);
        } else {
            evidence.server_code = Some(code.clone());
        }
        let message = match &detail {
            Some(detail) => format!("the service said: {detail} (code {code})"),
            None => format!("the service sent an error with code {code}"),
        };
        let mut error = SessionError::classified(evidence, message);
        error.server_code = Some(code);
        error.close_code = close_code;
        error.close_reason = close_reason;
        error.req_id =
            (!server_error.req_id.is_empty()).then(|| clip(&server_error.req_id, MAX_FIELD_BYTES).to_owned());
        let mut error = self.finish(error);
        if error.connection_id.is_none() && !server_error.connection_id.is_empty() {
            error.connection_id = Some(clip(&server_error.connection_id, MAX_FIELD_BYTES).to_owned());
        }
        error
    }
}

fn close_message(code: Option<u16>, reason: Option<&str>) -> String {
    match (code, reason) {
        (Some(code), Some(reason)) => format!("the service closed the connection: {code} {reason}"),
        (Some(code), None) => format!("the service closed the connection: {code}"),
        (None, _) => "the service closed the connection without a code".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;
    use crate::errors::ErrorCode;

    fn failures() -> Failures {
        let secrets = Secrets(vec![SecretString::from("hush-hush")]);
        Failures { egress: Egress::None, secrets: Arc::new(secrets), connection_id: Some("c1".into()) }
    }

    fn server_error(code: i32, message: &str) -> ServerError {
        ServerError { code, message: message.into(), ..ServerError::default() }
    }

    fn close(code: u16, reason: &str) -> CloseFrame {
        CloseFrame { code: Some(code), reason: Some(reason.into()) }
    }

    #[test]
    fn a_close_code_of_the_service_outranks_its_error_and_any_other_only_adds_its_fields() {
        let said = server_error(4002, "session over");
        let phase = Phase::WebsocketRuntime;
        let error = failures().server_error(phase, &said, Some(&close(4503, "gone")));
        assert_eq!(error.code, ErrorCode::UpstreamError);
        assert_eq!((error.server_code.as_deref(), error.close_code), (Some("4002"), Some(4503)));
        let error = failures().server_error(phase, &said, Some(&close(1011, "credits exhausted")));
        assert_eq!(error.code, ErrorCode::SessionDurationExceeded);
        assert_eq!(
            (error.close_code, error.close_reason.as_deref()),
            (Some(1011), Some("credits exhausted"))
        );
    }

    #[test]
    fn the_text_of_the_error_tells_what_a_bare_4010_means() {
        let said = server_error(4010, "session token expired");
        let bare = CloseFrame { code: Some(4010), reason: None };
        let error = failures().server_error(Phase::WebsocketRuntime, &said, Some(&bare));
        assert_eq!(error.code, ErrorCode::SessionTokenExpired);
    }

    #[test]
    fn no_secret_is_left_in_any_field() {
        let body = r#"{"message": "key hush-hush is bad"}"#;
        let errors = [
            failures().refusal(Phase::SessionToken, 401, body, None),
            failures().server_error(
                Phase::WebsocketRuntime,
                &server_error(3, "token hush-hush"),
                Some(&close(1000, "hush-hush")),
            ),
            failures().no_answer(Phase::WebsocketConnect, "cannot reach ?sessionKey=hush-hush"),
        ];
        for error in errors {
            assert!(!format!("{error:?}").contains("hush-hush"), "{error:?}");
        }
    }

    #[test]
    fn what_the_service_says_is_bounded() {
        let said = server_error(3, &"long ".repeat(10_000));
        let error = failures().server_error(Phase::WebsocketRuntime, &said, None);
        assert!(error.message.len() < 1000 && error.server_detail.unwrap().len() <= MAX_FIELD_BYTES);
    }
}
