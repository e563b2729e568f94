//! From what was seen to a [`SessionError`], with the session's secrets removed.

use bytes::Bytes;
use secrecy::{ExposeSecret as _, SecretString};

use super::{Target, answer::Body, endpoint, sources::Lack};
use crate::{
    errors::{
        Egress, Evidence, MAX_FIELD_BYTES, MAX_RAW_BODY_BYTES, Observed, Phase, SessionError, clip,
        parse_error_body, redact,
    },
    wire::{self, Data, proto},
};

/// Makes the errors of one attempt and of the connection that comes of it.
pub(super) struct Reporter {
    egress: Egress,
    secrets: Vec<SecretString>,
    connection_id: Option<String>,
}

impl Reporter {
    /// A reporter that knows the secrets of `target`.
    pub(super) fn new(target: &Target) -> Result<Self, Box<SessionError>> {
        let mut reporter =
            Self { egress: target.egress, secrets: vec![target.api_key.clone()], connection_id: None };
        if let Some(configure) = &target.configure {
            reporter.secrets.extend(egress_secrets(&reporter.decoded(configure)?));
        }
        Ok(reporter)
    }

    /// The configuration that goes to the service: its egress, and the secrets in it.
    pub(super) fn learn_configuration(&mut self, configure: &Bytes) -> Result<(), Box<SessionError>> {
        let configure = self.decoded(configure)?;
        self.secrets.extend(egress_secrets(&configure));
        if self.egress == Egress::Unknown {
            self.egress = egress_of(&configure);
        }
        Ok(())
    }

    fn decoded(&self, configure: &Bytes) -> Result<proto::ClientConfigureSession, Box<SessionError>> {
        match wire::decode(configure.clone()) {
            Ok(Some(Data::ClientConfigureSession(configure))) => Ok(configure),
            Ok(_) | Err(_) => {
                Err(Box::new(self.internal(
                    Phase::SessionToken,
                    "the session's configuration is no ClientConfigureSession",
                )))
            }
        }
    }

    /// Another secret that must appear nowhere.
    pub(super) fn learn(&mut self, secret: SecretString) {
        self.secrets.push(secret);
    }

    /// The connection that later errors happen on.
    pub(super) fn on_connection(&mut self, connection_id: String) {
        self.connection_id = Some(connection_id);
    }

    /// Evidence that says only where and how.
    pub(super) fn evidence(&self, phase: Phase, observed: Observed) -> Evidence {
        Evidence::new(phase, observed, self.egress)
    }

    /// No usable answer came before the session stood.
    pub(super) fn no_answer(&self, phase: Phase, message: impl Into<String>) -> SessionError {
        self.error(self.evidence(phase, Observed::NoAnswer), message)
    }

    /// Greenroom's own machine lacked what the attempt needs, and so nothing was asked of the service.
    pub(super) fn short(&self, phase: Phase, lack: &Lack) -> SessionError {
        let mut error = self.no_answer(phase, lack.to_string());
        error.shortage = Some(lack.what());
        error
    }

    /// The service broke the protocol.
    pub(super) fn violation(&self, phase: Phase, message: impl Into<String>) -> SessionError {
        self.error(self.evidence(phase, Observed::Violation), message)
    }

    /// What we were given to send cannot be sent.
    pub(super) fn internal(&self, phase: Phase, message: impl Into<String>) -> SessionError {
        self.error(self.evidence(phase, Observed::Internal), message)
    }

    /// Classifies `evidence` as it came, then removes the secrets and bounds the texts.
    pub(super) fn error(&self, evidence: Evidence, message: impl Into<String>) -> SessionError {
        let mut error = SessionError::classified(evidence, message);
        error.message = self.clean(&error.message);
        for text in [
            &mut error.server_code,
            &mut error.server_title,
            &mut error.server_detail,
            &mut error.close_reason,
        ] {
            *text = text.as_deref().map(|text| self.clean(text));
        }
        error.connection_id.clone_from(&self.connection_id);
        error
    }

    /// `text` without secrets, bounded.
    pub(super) fn clean(&self, text: &str) -> String {
        clip(&self.redacted(text), MAX_FIELD_BYTES).to_owned()
    }

    /// The error of an HTTP answer that is none of success: its status, what its body says, the raw body.
    pub(super) fn refusal(&self, phase: Phase, status: u16, body: &Body, message: &str) -> SessionError {
        let said = body.text();
        let mut evidence = self.evidence(phase, Observed::Answer).with_http_answer(status, &said);
        if phase != Phase::SessionToken {
            // Only a token answer has its status inside: of an upgrade the one on the outside counts.
            evidence.http_status = Some(status);
        }
        let counted = evidence.http_status.unwrap_or(status);
        let mut error = self.error(evidence, format!("{message} HTTP {counted}"));
        // The code is from what was said. The texts are from what may be shown: a text is cut to its bound as it
        // is read, and half a secret at the cut would not be recognised.
        let shown = self.without_secrets(&said, body.is_cut());
        let facts = parse_error_body(status, &shown);
        error.server_code = facts.code.map(|text| self.clean(&text));
        error.server_title = facts.title.map(|text| self.clean(&text));
        error.server_detail = facts.detail.map(|text| self.clean(&text));
        error.raw_body = (!shown.is_empty()).then(|| clip(&shown, MAX_RAW_BODY_BYTES).to_owned());
        error
    }

    /// A body without secrets; of one that was cut, without the beginning of one at its end either.
    fn without_secrets(&self, body: &str, is_cut: bool) -> String {
        let begun = if is_cut { self.begun_at_the_end(body) } else { 0 };
        self.redacted(clip(body, body.len() - begun).trim())
    }

    /// The length of the longest beginning of a secret that `body` ends with.
    fn begun_at_the_end(&self, body: &str) -> usize {
        let secrets = self.secrets.iter().map(SecretString::expose_secret);
        secrets
            .flat_map(|secret| [secret.to_owned(), endpoint::encoded(secret)])
            .filter_map(|secret| {
                (1..secret.len())
                    .rev()
                    .find(|&length| body.as_bytes().ends_with(&secret.as_bytes()[..length]))
            })
            .max()
            .unwrap_or_default()
    }

    fn redacted(&self, text: &str) -> String {
        let secrets: Vec<&str> = self.secrets.iter().map(SecretString::expose_secret).collect();
        redact(text, &secrets)
    }
}

/// The egress that a configuration asks for, as the classification knows it.
pub(crate) fn egress_of(configure: &proto::ClientConfigureSession) -> Egress {
    match configure.egress_type() {
        proto::EgressType::Unspecified => Egress::None,
        proto::EgressType::Livekit => Egress::Livekit,
        proto::EgressType::Agora => Egress::Agora,
    }
}

fn egress_secrets(configure: &proto::ClientConfigureSession) -> Vec<SecretString> {
    let livekit = configure
        .livekit_egress
        .iter()
        .flat_map(|egress| [egress.api_key.as_str(), egress.api_secret.as_str(), egress.api_token.as_str()]);
    let agora = configure.agora_egress.iter().map(|egress| egress.token.as_str());
    livekit.chain(agora).map(SecretString::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::answer::BodyEnd;

    fn target() -> Target {
        let configure = proto::ClientConfigureSession {
            livekit_egress: Some(proto::LiveKitEgressConfig {
                api_secret: "lk-secret".into(),
                api_token: "lk-token".into(),
                ..Default::default()
            }),
            agora_egress: Some(proto::AgoraEgressConfig { token: "ag-token".into(), ..Default::default() }),
            ..Default::default()
        };
        Target {
            app_id: "app".into(),
            api_key: SecretString::from("key+/=1"),
            avatar_id: "a".into(),
            configure: Some(wire::encode(Data::ClientConfigureSession(configure))),
            egress: Egress::Livekit,
        }
    }

    #[test]
    fn no_secret_of_the_session_is_left_in_any_text() {
        let mut reporter = Reporter::new(&target()).unwrap();
        reporter.learn(SecretString::from("key+/=1-and-more"));
        let all = "key+/=1 key%2B%2F%3D1 key+/=1-and-more lk-secret lk-token ag-token end";
        let mut evidence = reporter.evidence(Phase::WebsocketConnect, Observed::Answer);
        evidence.server_code = Some(all.into());
        evidence.server_title = Some(all.into());
        evidence.server_detail = Some(all.into());
        evidence.close_reason = Some(all.into());
        let error = reporter.error(evidence, all);
        let r = "[redacted]";
        let expected = format!("{r} {r} {r} {r} {r} {r} end");
        for text in [
            Some(error.message),
            error.server_code,
            error.server_title,
            error.server_detail,
            error.close_reason,
        ] {
            assert_eq!(text.as_deref(), Some(expected.as_str()));
        }
        let error = refusal(&reporter, all, BodyEnd::Complete);
        assert_eq!(error.server_detail.as_deref(), Some(expected.as_str()));
        assert_eq!(error.raw_body.as_deref(), Some(expected.as_str()));
    }

    fn refusal(reporter: &Reporter, body: &str, end: BodyEnd) -> SessionError {
        let body = Body { bytes: bytes::Bytes::copy_from_slice(body.as_bytes()), end };
        reporter.refusal(Phase::WebsocketConnect, 400, &body, "refused with")
    }

    #[test]
    fn half_a_secret_at_a_cut_is_left_out() {
        let reporter = Reporter::new(&target()).unwrap();
        let error = refusal(&reporter, "plain text, then lk-secr", BodyEnd::TooLong);
        assert_eq!(error.raw_body.as_deref(), Some("plain text, then"));
        let error = refusal(&reporter, "plain text, then key%2", BodyEnd::Late);
        assert_eq!(error.raw_body.as_deref(), Some("plain text, then"));
        let error = refusal(&reporter, "plain text", BodyEnd::Late);
        assert_eq!(error.raw_body.as_deref(), Some("plain text"));
        // A field is cut to its bound: the secret stands across it.
        let detail = format!("{}lk-secret", "x".repeat(MAX_FIELD_BYTES - 4));
        let error = refusal(&reporter, &format!(r#"{{"message":"{detail}"}}"#), BodyEnd::Complete);
        assert!(error.server_detail.as_deref().is_some_and(|text| text.ends_with("x[red")), "{error:?}");
    }

    #[test]
    fn texts_are_bounded() {
        let reporter = Reporter::new(&target()).unwrap();
        let long = "ü".repeat(5000);
        assert_eq!(reporter.clean(&long).len(), MAX_FIELD_BYTES);
        let error = refusal(&reporter, &long, BodyEnd::Complete);
        assert_eq!(error.server_detail.map(|text| text.len()), Some(MAX_FIELD_BYTES));
        assert_eq!(error.raw_body.map(|text| text.len()), Some(MAX_RAW_BODY_BYTES));
    }

    #[test]
    fn a_status_inside_counts_for_the_token_answer_only() {
        let reporter = Reporter::new(&target()).unwrap();
        let body = Body {
            bytes: bytes::Bytes::from_static(br#"{"errors":[{"status":402}]}"#),
            end: BodyEnd::Complete,
        };
        let status = |phase| reporter.refusal(phase, 200, &body, "refused with").http_status;
        assert_eq!(status(Phase::SessionToken), Some(402));
        assert_eq!(status(Phase::WebsocketConnect), Some(200));
    }

    #[test]
    fn a_target_shows_none_of_its_secrets() {
        let shown = format!("{:?}", target());
        for secret in ["key+/=1", "lk-secret", "lk-token", "ag-token"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }

    #[test]
    fn a_configuration_that_is_none_is_refused_before_anything_is_sent() {
        let broken = Target { configure: Some(bytes::Bytes::from_static(b"\x08\x03\x22\x00")), ..target() };
        let error = Reporter::new(&broken).err().unwrap();
        assert!(error.message.contains("ClientConfigureSession"), "{}", error.message);
    }
}
