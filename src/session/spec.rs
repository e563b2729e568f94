//! What a session is made from: the body of `POST /v1/sessions`.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::{
    ToSchema,
    openapi::{
        ObjectBuilder, Type,
        schema::{AdditionalProperties, SchemaType},
    },
};

use super::Revision;
use crate::{errors, outbox::Continuity, wire::proto};

/// Characters of an avatar id at most; the service publishes no bound, and this one fits any URL.
const MAX_AVATAR_ID: usize = 256;
/// Labels of a session at most, so that lists of sessions stay small.
const MAX_LABELS: usize = 32;
/// Characters of a label's name at most.
const MAX_LABEL_NAME: usize = 63;
/// Characters of a label's value at most.
const MAX_LABEL_VALUE: usize = 256;
/// Above every rate that audio has; whether the service knows a rate is the service's to say.
const MAX_SAMPLE_RATE: u32 = 384_000;

/// The encoding of the audio that a client sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AudioFormat {
    /// Mono, 16 bit, little-endian, without a header.
    #[default]
    PcmS16le,
    /// One continuous Ogg Opus stream for each request.
    OggOpus,
}

/// Where the service publishes the avatar, instead of sending animation back.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum EgressSpec {
    /// A LiveKit room.
    Livekit {
        /// The LiveKit server's URL.
        #[serde(default)]
        url: String,
        /// The room.
        #[serde(default)]
        room_name: String,
        /// The identity that the avatar joins with.
        #[serde(default)]
        publisher_id: String,
        /// Further attributes of the participant.
        #[serde(default)]
        extra_attributes: BTreeMap<String, String>,
        /// Seconds of silence after which the service leaves; 0 is its own default.
        #[serde(default)]
        #[schema(maximum = 4_294_967_295_u32)]
        idle_timeout: u32,
        /// A LiveKit access token for the room.
        #[serde(default)]
        #[schema(value_type = String, format = Password, write_only)]
        api_token: SecretString,
        /// Deprecated by the service in favour of `api_token`.
        #[serde(default)]
        #[schema(value_type = String, format = Password, write_only)]
        api_key: SecretString,
        /// Deprecated by the service in favour of `api_token`.
        #[serde(default)]
        #[schema(value_type = String, format = Password, write_only)]
        api_secret: SecretString,
    },
    /// An Agora channel.
    Agora {
        /// The channel.
        #[serde(default)]
        channel_name: String,
        /// A token for the channel.
        #[serde(default)]
        #[schema(value_type = String, format = Password, write_only)]
        token: SecretString,
        /// The user id that the avatar joins with.
        #[serde(default)]
        #[schema(maximum = 4_294_967_295_u32)]
        uid: u32,
        /// The publisher's id.
        #[serde(default)]
        publisher_id: String,
    },
}

/// What a session is made from.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "avatar_id": "my-avatar", "sample_rate": 24000, "audio_format": "pcm_s16le", "labels": {"team": "red"}
}))]
pub struct SessionSpec {
    /// The avatar, by the service's id: opaque, 1 to 256 characters.
    #[schema(min_length = 1, max_length = 256)]
    pub avatar_id: String,
    /// Samples a second.
    #[serde(default = "default_sample_rate")]
    #[schema(minimum = 1, maximum = 384_000)]
    pub sample_rate: u32,
    /// Bits a second of encoded audio; 0 is the service's default.
    #[serde(default)]
    #[schema(maximum = 2_147_483_647)]
    pub bitrate: u32,
    /// The encoding of the audio.
    #[serde(default)]
    pub audio_format: AudioFormat,
    /// Where the avatar is published; without it, animation comes back.
    #[serde(default)]
    pub egress: Option<EgressSpec>,
    /// Names and values of the owner's choice.
    #[serde(default)]
    #[schema(schema_with = labels_schema)]
    pub labels: BTreeMap<String, String>,
    /// What happens to requests that are open when a connection breaks; `None` is what is configured.
    #[serde(default)]
    pub continuity: Option<Continuity>,
    /// How often it was changed since it was made.
    #[serde(skip)]
    pub revision: Revision,
}

impl EgressSpec {
    /// The egress that a client's configuration asks for.
    fn of(content: &proto::ClientConfigureSession) -> Option<Self> {
        match content.egress_type() {
            proto::EgressType::Unspecified => None,
            proto::EgressType::Livekit => {
                let livekit = content.livekit_egress.clone().unwrap_or_default();
                Some(Self::Livekit {
                    url: livekit.url,
                    room_name: livekit.room_name,
                    publisher_id: livekit.publisher_id,
                    extra_attributes: livekit.extra_attributes.into_iter().collect(),
                    idle_timeout: livekit.idle_timeout.try_into().unwrap_or_default(),
                    api_token: livekit.api_token.into(),
                    api_key: livekit.api_key.into(),
                    api_secret: livekit.api_secret.into(),
                })
            }
            proto::EgressType::Agora => {
                let agora = content.agora_egress.clone().unwrap_or_default();
                Some(Self::Agora {
                    channel_name: agora.channel_name,
                    token: agora.token.into(),
                    uid: agora.uid,
                    publisher_id: agora.publisher_id,
                })
            }
        }
    }
}

/// The labels' bounds, as [`SessionSpec::mistakes`] has them.
fn labels_schema() -> utoipa::openapi::schema::Object {
    let text = |max| ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).max_length(Some(max));
    ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::Object))
        .description(Some("Names and values of the owner's choice."))
        .max_properties(Some(MAX_LABELS))
        .property_names(Some(text(MAX_LABEL_NAME).min_length(Some(1))))
        .additional_properties(Some(AdditionalProperties::RefOr(text(MAX_LABEL_VALUE).into())))
        .build()
}

const fn default_sample_rate() -> u32 {
    16_000
}

impl SessionSpec {
    /// A spec with the defaults for everything but the avatar.
    pub fn for_avatar(avatar_id: impl Into<String>) -> Self {
        Self {
            avatar_id: avatar_id.into(),
            sample_rate: default_sample_rate(),
            bitrate: 0,
            audio_format: AudioFormat::default(),
            egress: None,
            labels: BTreeMap::new(),
            continuity: None,
            revision: Revision::default(),
        }
    }

    /// Everything that is wrong with the spec, each as one sentence.
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        let length = self.avatar_id.chars().count();
        if length == 0 || length > MAX_AVATAR_ID {
            mistakes.push(format!("avatar_id has {length} characters; 1 to {MAX_AVATAR_ID} are allowed"));
        }
        if self.sample_rate == 0 || self.sample_rate > MAX_SAMPLE_RATE {
            mistakes
                .push(format!("sample_rate is {}; 1 to {MAX_SAMPLE_RATE} Hz are allowed", self.sample_rate));
        }
        if i32::try_from(self.bitrate).is_err() {
            mistakes.push(format!("bitrate is {}; at most {} is allowed", self.bitrate, i32::MAX));
        }
        if self.labels.len() > MAX_LABELS {
            mistakes
                .push(format!("there are {} labels; at most {MAX_LABELS} are allowed", self.labels.len()));
        }
        for (name, value) in &self.labels {
            if name.is_empty() || name.chars().count() > MAX_LABEL_NAME {
                mistakes.push(format!("label name {name:?}: 1 to {MAX_LABEL_NAME} characters are allowed"));
            }
            if value.chars().count() > MAX_LABEL_VALUE {
                mistakes
                    .push(format!("the value of label {name:?} has more than {MAX_LABEL_VALUE} characters"));
            }
        }
        mistakes
    }

    /// The session's egress, as the classification asks for it.
    pub const fn egress_kind(&self) -> errors::Egress {
        match self.egress {
            None => errors::Egress::None,
            Some(EgressSpec::Livekit { .. }) => errors::Egress::Livekit,
            Some(EgressSpec::Agora { .. }) => errors::Egress::Agora,
        }
    }

    /// Bytes of audio in a second, where the format tells.
    pub const fn bytes_per_second(&self) -> Option<u32> {
        match self.audio_format {
            AudioFormat::PcmS16le => Some(self.sample_rate.saturating_mul(2)),
            AudioFormat::OggOpus => None,
        }
    }

    /// The spec of a session that its client configured: the format and the egress are the client's.
    #[must_use]
    pub fn configured(&self, content: &proto::ClientConfigureSession) -> Self {
        Self {
            sample_rate: content.sample_rate.try_into().unwrap_or_default(),
            bitrate: content.bitrate.try_into().unwrap_or_default(),
            audio_format: match content.audio_format() {
                proto::AudioFormat::PcmS16le => AudioFormat::PcmS16le,
                proto::AudioFormat::OggOpus => AudioFormat::OggOpus,
            },
            egress: EgressSpec::of(content),
            revision: self.revision.next(),
            ..self.clone()
        }
    }

    /// The message that configures the session at the service.
    pub fn configure_message(&self) -> proto::ClientConfigureSession {
        let mut message = proto::ClientConfigureSession {
            sample_rate: i32::try_from(self.sample_rate).unwrap_or(i32::MAX),
            bitrate: i32::try_from(self.bitrate).unwrap_or(i32::MAX),
            audio_format: match self.audio_format {
                AudioFormat::PcmS16le => proto::AudioFormat::PcmS16le,
                AudioFormat::OggOpus => proto::AudioFormat::OggOpus,
            }
            .into(),
            ..proto::ClientConfigureSession::default()
        };
        match &self.egress {
            None => {}
            Some(EgressSpec::Livekit {
                url,
                room_name,
                publisher_id,
                extra_attributes,
                idle_timeout,
                api_token,
                api_key,
                api_secret,
            }) => {
                message.egress_type = proto::EgressType::Livekit.into();
                message.livekit_egress = Some(proto::LiveKitEgressConfig {
                    url: url.clone(),
                    api_key: api_key.expose_secret().to_owned(),
                    api_secret: api_secret.expose_secret().to_owned(),
                    room_name: room_name.clone(),
                    publisher_id: publisher_id.clone(),
                    extra_attributes: extra_attributes.clone().into_iter().collect(),
                    idle_timeout: i32::try_from(*idle_timeout).unwrap_or(i32::MAX),
                    api_token: api_token.expose_secret().to_owned(),
                });
            }
            Some(EgressSpec::Agora { channel_name, token, uid, publisher_id }) => {
                message.egress_type = proto::EgressType::Agora.into();
                message.agora_egress = Some(proto::AgoraEgressConfig {
                    channel_name: channel_name.clone(),
                    token: token.expose_secret().to_owned(),
                    uid: *uid,
                    publisher_id: publisher_id.clone(),
                });
            }
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_needs_nothing_but_an_avatar() {
        let spec: SessionSpec = serde_json::from_str(r#"{"avatar_id": "a"}"#).unwrap();
        assert_eq!((spec.sample_rate, spec.audio_format), (16_000, AudioFormat::PcmS16le));
        assert!(spec.mistakes().is_empty());
        assert_eq!(spec.bytes_per_second(), Some(32_000));
    }

    #[test]
    fn an_unknown_field_is_named() {
        let error = serde_json::from_str::<SessionSpec>(r#"{"avatar_id": "a", "avatr": 1}"#).unwrap_err();
        assert!(error.to_string().contains("avatr"), "{error}");
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let mut spec = SessionSpec::for_avatar("");
        spec.sample_rate = 0;
        spec.labels.insert(String::new(), "x".repeat(300));
        assert_eq!(spec.mistakes().len(), 4, "{:?}", spec.mistakes());
    }

    #[test]
    fn a_spec_that_a_client_configured_says_what_the_client_said() {
        let mut spec: SessionSpec = serde_json::from_str(
            r#"{"avatar_id": "a", "sample_rate": 48000, "bitrate": 7, "audio_format": "ogg_opus",
                "egress": {"type": "livekit", "room_name": "r", "api_token": "t", "extra_attributes": {"k": "v"}}}"#,
        )
        .unwrap();
        let blank = SessionSpec::for_avatar("a");
        assert_eq!(blank.configured(&spec.configure_message()).configure_message(), spec.configure_message());
        spec.egress = Some(EgressSpec::Agora {
            channel_name: "c".into(),
            token: "t".into(),
            uid: 3,
            publisher_id: "p".into(),
        });
        assert_eq!(blank.configured(&spec.configure_message()).configure_message(), spec.configure_message());
        let nothing = proto::ClientConfigureSession::default();
        assert_eq!(blank.configured(&nothing).bytes_per_second(), Some(0));
    }

    #[test]
    fn egress_secrets_reach_the_service_and_no_debug_text() {
        let spec: SessionSpec = serde_json::from_str(
            r#"{"avatar_id": "a", "egress": {"type": "livekit", "api_token": "hush-hush", "room_name": "r"}}"#,
        )
        .unwrap();
        assert!(!format!("{spec:?}").contains("hush-hush"));
        let message = spec.configure_message();
        assert_eq!(message.livekit_egress.unwrap().api_token, "hush-hush");
        assert_eq!(message.egress_type, i32::from(proto::EgressType::Livekit));
    }
}
