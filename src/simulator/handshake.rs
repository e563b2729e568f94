//! Whether a session may be confirmed: what the service refuses in the first message. Pure.

use std::time::{Duration, SystemTime};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use serde_json::Value;

use super::audio;
use crate::wire::{
    self, Data, DecodeError,
    proto::{AudioFormat, ClientConfigureSession, EgressType, LiveKitEgressConfig, MessageType},
};

/// gRPC's INVALID_ARGUMENT and UNAUTHENTICATED, which the service relays in `ServerError.code`.
pub(super) const INVALID_ARGUMENT: i32 = 3;
pub(super) const UNAUTHENTICATED: i32 = 16;

/// A first message that is not confirmed: the ServerError's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: i32,
    pub(super) message: String,
    /// Whether the client broke the protocol, and not only asked for what cannot be had.
    pub(super) violation: bool,
}

impl Refusal {
    fn violation(message: impl Into<String>) -> Self {
        Self { code: INVALID_ARGUMENT, message: message.into(), violation: true }
    }

    fn refused(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), violation: false }
    }
}

/// A confirmed session's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) format: AudioFormat,
    pub(super) sample_rate: i32,
    pub(super) egress: Egress,
}

/// Where the animation goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Egress {
    /// Back on the WebSocket.
    None,
    /// To a room; the client's `idle_timeout` in seconds, if it names one.
    LiveKit {
        idle_timeout: Option<u32>,
    },
    Agora,
}

/// Judges the first message.
pub(super) fn judge(message: Bytes, now: SystemTime) -> Result<Session, Refusal> {
    let nil = DecodeError::Mismatch { kind: MessageType::MessageClientConfigureSession as i32 };
    match wire::decode(message) {
        Ok(Some(Data::ClientConfigureSession(configure))) => judge_configure(&configure, now),
        Ok(_) => Err(Refusal::violation("expected ClientConfigureSession message")),
        Err(error) if error == nil => Err(Refusal::violation("ClientConfigureSession message is nil")),
        Err(DecodeError::Mismatch { .. }) => {
            Err(Refusal::violation("expected ClientConfigureSession message"))
        }
        Err(DecodeError::Protobuf(error)) => {
            Err(Refusal::violation(format!("failed to unmarshal initial message: {error}")))
        }
    }
}

fn judge_configure(configure: &ClientConfigureSession, now: SystemTime) -> Result<Session, Refusal> {
    let Ok(format) = AudioFormat::try_from(configure.audio_format) else {
        let message = format!("unsupported audio format: {}", configure.audio_format);
        return Err(Refusal::refused(INVALID_ARGUMENT, message));
    };
    let sample_rate = configure.sample_rate;
    if !audio::is_supported(format, sample_rate) {
        return Err(Refusal::refused(0, format!("unsupported sample rate: {sample_rate}")));
    }
    let egress = match EgressType::try_from(configure.egress_type) {
        Ok(EgressType::Unspecified) => Egress::None,
        Ok(EgressType::Livekit) => judge_livekit(configure.livekit_egress.as_ref(), now)?,
        Ok(EgressType::Agora) if configure.agora_egress.is_none() => {
            return Err(Refusal::refused(INVALID_ARGUMENT, "agora_egress is required for this egress type"));
        }
        Ok(EgressType::Agora) => Egress::Agora,
        Err(_) => {
            let message = format!("unsupported egress type: {}", configure.egress_type);
            return Err(Refusal::refused(INVALID_ARGUMENT, message));
        }
    };
    Ok(Session { format, sample_rate, egress })
}

fn judge_livekit(config: Option<&LiveKitEgressConfig>, now: SystemTime) -> Result<Egress, Refusal> {
    let Some(config) = config else {
        return Err(Refusal::refused(INVALID_ARGUMENT, "livekit_egress is required for this egress type"));
    };
    let idle_timeout = u32::try_from(config.idle_timeout).ok().filter(|seconds| *seconds > 0);
    let egress = Egress::LiveKit { idle_timeout };
    if !config.api_token.is_empty() {
        return judge_jwt(&config.api_token, now)
            .map(|()| egress)
            .map_err(|why| Refusal::refused(UNAUTHENTICATED, format!("livekit: unauthorized: {why}")));
    }
    if config.api_key.is_empty() || config.api_secret.is_empty() {
        let message = "missing livekit credentials: provide api_token or both api_key and api_secret";
        return Err(Refusal::refused(INVALID_ARGUMENT, message));
    }
    Ok(egress)
}

/// A JWT by form, not by signature (nobody here has the key): three parts, header and claims JSON objects,
/// `exp` in the future.
fn judge_jwt(token: &str, now: SystemTime) -> Result<(), &'static str> {
    let mut parts = token.split('.');
    let (Some(header), Some(claims), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("invalid token: not three parts");
    };
    let object = |part: &str| {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).ok()?;
        serde_json::from_slice::<Value>(&bytes).ok().filter(Value::is_object)
    };
    let has_algorithm = object(header).is_some_and(|header| header.get("alg").is_some_and(Value::is_string));
    if !has_algorithm || BASE64_URL_SAFE_NO_PAD.decode(signature).is_err() {
        return Err("invalid token: malformed header or signature");
    }
    let claims = object(claims).ok_or("invalid token: malformed claims")?;
    let expires = claims.get("exp").and_then(Value::as_f64).ok_or("invalid token: no exp claim")?;
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64();
    if expires <= now { Err("token is expired") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::proto::{AgoraEgressConfig, ClientInterrupt};

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn configure(change: impl FnOnce(&mut ClientConfigureSession)) -> Result<Session, Refusal> {
        let mut configure = ClientConfigureSession { sample_rate: 16_000, ..Default::default() };
        change(&mut configure);
        judge(wire::encode(Data::ClientConfigureSession(configure)), now())
    }

    fn jwt(claims: &Value) -> String {
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.c2ln", part(&json!({"alg": "HS256"})), part(claims))
    }

    fn livekit(api_token: String) -> Result<Session, Refusal> {
        configure(|configure| {
            configure.egress_type = EgressType::Livekit as i32;
            configure.livekit_egress = Some(LiveKitEgressConfig { api_token, ..Default::default() });
        })
    }

    #[test]
    fn rates_are_those_of_the_format() {
        assert!(configure(|_| ()).is_ok_and(|session| session.egress == Egress::None));
        let refusal = configure(|configure| configure.sample_rate = 12_000).unwrap_err();
        assert_eq!((refusal.code, refusal.message.as_str()), (0, "unsupported sample rate: 12000"));
        let opus = configure(|configure| {
            configure.sample_rate = 12_000;
            configure.audio_format = AudioFormat::OggOpus as i32;
        });
        assert!(opus.is_ok());
    }

    #[test]
    fn livekit_tokens_are_judged_by_form_and_expiry() {
        assert!(
            livekit(jwt(&json!({"exp": 1_800_000_001})))
                .is_ok_and(|session| session.egress == Egress::LiveKit { idle_timeout: None })
        );
        for (token, says) in [
            (jwt(&json!({"exp": 1_800_000_000})), "expired"),
            (jwt(&json!({"sub": "x"})), "no exp"),
            ("opaque".into(), "three parts"),
            ("a.b.c".into(), "malformed"),
        ] {
            let refusal = livekit(token).unwrap_err();
            assert_eq!(refusal.code, UNAUTHENTICATED);
            assert!(refusal.message.contains("livekit") && refusal.message.contains("unauthorized"));
            assert!(refusal.message.contains(says), "{} should say {says}", refusal.message);
        }
        let refusal = livekit(String::new()).unwrap_err();
        assert_eq!(refusal.code, INVALID_ARGUMENT);
        assert!(refusal.message.contains("missing livekit credentials"));
    }

    #[test]
    fn egress_needs_its_configuration() {
        for (kind, says) in [(EgressType::Livekit, "livekit_egress"), (EgressType::Agora, "agora_egress")] {
            let refusal = configure(|configure| configure.egress_type = kind as i32).unwrap_err();
            assert!(refusal.message.contains(says));
        }
        let agora = configure(|configure| {
            configure.egress_type = EgressType::Agora as i32;
            configure.agora_egress = Some(AgoraEgressConfig::default());
        });
        assert!(agora.is_ok_and(|session| session.egress == Egress::Agora));
    }

    #[test]
    fn another_first_message_is_a_violation() {
        let interrupt = wire::encode(Data::ClientInterrupt(ClientInterrupt::default()));
        for (message, says) in [
            (interrupt, "expected ClientConfigureSession message"),
            (Bytes::from_static(&[0x08, 0x7f]), "expected ClientConfigureSession message"),
            (Bytes::from_static(&[0x08, 0x01]), "ClientConfigureSession message is nil"),
            (Bytes::from_static(b"nonsense"), "failed to unmarshal initial message"),
        ] {
            let refusal = judge(message, now()).unwrap_err();
            assert!(refusal.violation);
            assert!(refusal.message.starts_with(says), "{}", refusal.message);
        }
    }
}
