//! From what was seen to a [`SessionError`], with the session's secrets removed.

use std::collections::BTreeSet;

use secrecy::{ExposeSecret as _, SecretString};

use super::{Target, endpoint};
use crate::{
    errors::{Egress, Evidence, Observed, Phase, SessionError},
    wire::{self, Data, proto},
};

/// The most that is kept of one text of the service, in bytes: enough for every known text, and too little for
/// a proxy's error page to fill the logs.
const MAX_TEXT_BYTES: usize = 512;

/// The most that is kept of a raw body, in bytes.
const MAX_RAW_BODY_BYTES: usize = 2048;

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
        match wire::decode(target.configure.clone()) {
            Ok(Some(Data::ClientConfigureSession(configure))) => {
                reporter.secrets.extend(egress_secrets(&configure));
                Ok(reporter)
            }
            Ok(_) | Err(_) => {
                Err(Box::new(reporter.internal(
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
        clip(&redact(text, &self.secrets), MAX_TEXT_BYTES).to_owned()
    }

    /// A raw body without secrets, bounded; `None` where there is none. Of a body that was `cut` the end is
    /// left out: half a secret is not recognised.
    pub(super) fn raw_body(&self, body: &str, cut: bool) -> Option<String> {
        let longest =
            self.secrets.iter().map(|secret| secret.expose_secret().len()).max().unwrap_or_default();
        let whole = if cut { clip(body, body.len().saturating_sub(longest)) } else { body };
        let text = redact(whole.trim(), &self.secrets);
        (!text.is_empty()).then(|| clip(&text, MAX_RAW_BODY_BYTES).to_owned())
    }
}

/// The beginning of `text`, at most `max_bytes` long, cut between characters.
pub(super) fn clip(text: &str, max_bytes: usize) -> &str {
    &text[..text.floor_char_boundary(max_bytes)]
}

fn egress_secrets(configure: &proto::ClientConfigureSession) -> Vec<SecretString> {
    let livekit = configure
        .livekit_egress
        .iter()
        .flat_map(|egress| [egress.api_key.as_str(), egress.api_secret.as_str(), egress.api_token.as_str()]);
    let agora = configure.agora_egress.iter().map(|egress| egress.token.as_str());
    livekit.chain(agora).map(SecretString::from).collect()
}

/// `text` with each secret replaced, in clear and as a query value.
fn redact(text: &str, secrets: &[SecretString]) -> String {
    let mut forms = BTreeSet::new();
    for secret in secrets.iter().map(SecretString::expose_secret).filter(|secret| !secret.is_empty()) {
        // The longest first: a secret may be a part of another.
        forms.insert((std::cmp::Reverse(secret.len()), secret.to_owned()));
        let encoded = endpoint::encoded(secret);
        forms.insert((std::cmp::Reverse(encoded.len()), encoded));
    }
    forms.iter().fold(text.to_owned(), |text, (_, secret)| text.replace(secret, "[redacted]"))
}

#[cfg(test)]
mod tests {
    use super::*;

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
            configure: wire::encode(Data::ClientConfigureSession(configure)),
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
        let mut error = reporter.error(evidence, all);
        error.raw_body = reporter.raw_body(all, false);
        let r = "[redacted]";
        let expected = format!("{r} {r} {r} {r} {r} {r} end");
        for text in [
            Some(error.message),
            error.server_code,
            error.server_title,
            error.server_detail,
            error.close_reason,
            error.raw_body,
        ] {
            assert_eq!(text.as_deref(), Some(expected.as_str()));
        }
    }

    #[test]
    fn half_a_secret_at_the_cut_of_a_body_is_left_out() {
        let reporter = Reporter::new(&target()).unwrap();
        let kept = reporter.raw_body("plain text, then lk-secr", true).unwrap();
        assert!("plain text, then".starts_with(&kept), "{kept}");
    }

    #[test]
    fn texts_are_bounded() {
        let reporter = Reporter::new(&target()).unwrap();
        let long = "ü".repeat(5000);
        assert_eq!(reporter.clean(&long).len(), MAX_TEXT_BYTES);
        assert_eq!(reporter.raw_body(&long, false).map(|text| text.len()), Some(MAX_RAW_BODY_BYTES));
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
        let broken = Target { configure: bytes::Bytes::from_static(b"\x08\x03\x22\x00"), ..target() };
        let error = Reporter::new(&broken).err().unwrap();
        assert!(error.message.contains("ClientConfigureSession"), "{}", error.message);
    }
}
