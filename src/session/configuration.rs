//! How a session is configured at the service, and what the service said to that.

use bytes::Bytes;

use super::SessionSpec;
use crate::{
    errors::Egress,
    upstream::egress_of,
    wire::{self, Data, proto},
};

/// How a session is configured at the service.
#[derive(Clone, Debug)]
pub(crate) enum Configuration {
    /// Its client has not said so yet.
    Unknown,
    /// By this encoded `Message`, which goes to the service as it is on every connection.
    Known {
        /// The message.
        message: Bytes,
        /// The egress that it asks for.
        egress: Egress,
    },
}

/// What the service said to the configuration that stands, on the latest connection that it confirmed.
#[derive(Clone, Debug)]
pub(super) struct Confirmation {
    /// The message, as it came.
    pub(super) message: Bytes,
    /// The id in it.
    pub(super) connection_id: String,
}

/// How a configuration compares to the one that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    /// Nothing stands yet.
    First,
    /// It says the same.
    Equal,
    /// It says something else, or something that this version does not understand.
    Different,
}

impl Configuration {
    /// That of a session which was made over HTTP.
    pub(crate) fn of(spec: &SessionSpec) -> Self {
        Self::Known {
            message: wire::encode(Data::ClientConfigureSession(spec.configure_message())),
            egress: spec.egress_kind(),
        }
    }

    /// A client's.
    pub(super) fn told(message: &Bytes, content: &proto::ClientConfigureSession) -> Self {
        // A copy: it is kept for as long as the session, and would hold the listener's read buffer.
        Self::Known { message: Bytes::copy_from_slice(message), egress: egress_of(content) }
    }

    /// The message for the service.
    pub(super) fn message(&self) -> Option<&Bytes> {
        match self {
            Self::Unknown => None,
            Self::Known { message, .. } => Some(message),
        }
    }

    /// The session's egress, by which errors are told apart.
    pub(super) const fn egress(&self) -> Egress {
        match self {
            Self::Unknown => Egress::Unknown,
            Self::Known { egress, .. } => *egress,
        }
    }

    /// Compares a client's configuration, encoded and decoded, to this one.
    pub(super) fn compare(&self, message: &Bytes, content: &proto::ClientConfigureSession) -> Comparison {
        let Some(standing) = self.message() else { return Comparison::First };
        if standing == message
            || (canonical(standing).as_ref() == Some(content) && is_whole(message, content))
        {
            Comparison::Equal
        } else {
            Comparison::Different
        }
    }
}

/// What a message says, where it says nothing that this version does not know.
fn canonical(message: &Bytes) -> Option<proto::ClientConfigureSession> {
    let content = decode(message).ok()?;
    is_whole(message, &content).then_some(content)
}

/// Whether the content is all that the message holds. Encoders differ in the order of fields, not in the length of
/// what they write; one that writes out default values is taken for one that says more.
fn is_whole(message: &Bytes, content: &proto::ClientConfigureSession) -> bool {
    wire::encode(Data::ClientConfigureSession(content.clone())).len() == message.len()
}

/// Decodes a client's configuration; the error says what it is instead.
pub(super) fn decode(message: &Bytes) -> Result<proto::ClientConfigureSession, String> {
    match wire::decode(message.clone()) {
        Ok(Some(Data::ClientConfigureSession(content))) => Ok(content),
        Ok(Some(
            Data::ServerConfirmSession(_)
            | Data::ClientAudioInput(_)
            | Data::ServerError(_)
            | Data::ServerResponseAnimation(_)
            | Data::ClientInterrupt(_)
            | Data::ClientPause(_)
            | Data::ClientResume(_)
            | Data::ServerPlaybackState(_),
        )) => Err("it is a message of another type".to_owned()),
        Ok(None) => Err("its type is not known".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(message: &Bytes) -> (Bytes, proto::ClientConfigureSession) {
        (message.clone(), decode(message).unwrap())
    }

    fn compare(standing: &Configuration, message: &Bytes) -> Comparison {
        let (message, content) = told(message);
        standing.compare(&message, &content)
    }

    #[test]
    fn a_configuration_that_says_the_same_in_other_bytes_is_equal() {
        let spec = SessionSpec { bitrate: 9, ..SessionSpec::for_avatar("a") };
        let standing = Configuration::of(&spec);
        assert_eq!(compare(&standing, standing.message().unwrap()), Comparison::Equal);
        // The bitrate before the sample rate, 16000.
        let swapped = Bytes::from_static(&[0x08, 1, 0x12, 5, 0x10, 9, 0x08, 0x80, 0x7d]);
        assert_ne!(Some(&swapped), standing.message());
        assert_eq!(compare(&standing, &swapped), Comparison::Equal);
    }

    #[test]
    fn a_configuration_that_says_more_or_else_is_different() {
        let standing = Configuration::of(&SessionSpec::for_avatar("a"));
        // Field 15 of the content is not known here.
        let more = Bytes::from_static(&[0x08, 1, 0x12, 5, 0x08, 0x80, 0x7d, 0x78, 0x2a]);
        assert_eq!(compare(&standing, &more), Comparison::Different);
        let (message, content) = told(&more);
        assert_eq!(compare(&Configuration::told(&message, &content), &more), Comparison::Equal);
        let else_ = SessionSpec { sample_rate: 24_000, ..SessionSpec::for_avatar("a") };
        let else_ = Configuration::of(&else_);
        assert_eq!(compare(&standing, else_.message().unwrap()), Comparison::Different);
        assert_eq!(compare(&Configuration::Unknown, else_.message().unwrap()), Comparison::First);
    }

    #[test]
    fn what_is_no_configuration_says_what_it_is() {
        let pause = wire::encode(Data::ClientPause(proto::ClientPause { req_id: "r".into() }));
        assert!(decode(&pause).unwrap_err().contains("another type"));
        assert!(decode(&Bytes::from_static(&[8, 0x7f])).unwrap_err().contains("not known"));
        assert!(decode(&Bytes::from_static(b"nonsense")).is_err());
    }
}
