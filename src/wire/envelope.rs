//! One protobuf `Message` in each binary WebSocket message.

use bytes::Bytes;
use prost::{
    Message as _,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint},
};

use super::proto::{Message, MessageType, message::Data};

/// The bytes are no `Message` of this protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not protobuf, or a field has the wrong type.
    #[error("undecodable protobuf: {0}")]
    Protobuf(String),
    /// The `type` says one thing and the content another, or there is no content.
    #[error("message type {kind} without its content")]
    Mismatch {
        /// The number in the `type` field.
        kind: i32,
    },
}

/// The `type` that goes with a content.
const fn message_type(data: &Data) -> MessageType {
    match data {
        Data::ClientConfigureSession(_) => MessageType::MessageClientConfigureSession,
        Data::ServerConfirmSession(_) => MessageType::MessageServerConfirmSession,
        Data::ClientAudioInput(_) => MessageType::MessageClientAudioInput,
        Data::ServerError(_) => MessageType::MessageServerError,
        Data::ServerResponseAnimation(_) => MessageType::MessageServerResponseAnimation,
        Data::ClientInterrupt(_) => MessageType::MessageClientInterrupt,
        Data::ClientPause(_) => MessageType::MessageClientPause,
        Data::ClientResume(_) => MessageType::MessageClientResume,
        Data::ServerPlaybackState(_) => MessageType::MessageServerPlaybackState,
    }
}

/// Encodes one message, with the `type` that belongs to its content.
pub fn encode(data: Data) -> Bytes {
    let kind = message_type(&data) as i32;
    Message { r#type: kind, data: Some(data) }.encode_to_vec().into()
}

/// Encodes a message of audio: as [`encode`] of a `ClientAudioInput`, of which most that is said to the service is,
/// without making one first.
pub fn encode_audio(req_id: &str, audio: &[u8], end: bool) -> Bytes {
    const KIND: u64 = MessageType::MessageClientAudioInput as u64;
    let delimited = |length: usize| match length {
        0 => 0,
        length => 1 + encoded_len_varint(length as u64) + length,
    };
    let content = delimited(req_id.len()) + if end { 2 } else { 0 } + delimited(audio.len());
    let mut message = Vec::with_capacity(3 + encoded_len_varint(content as u64) + content);
    encode_key(1, WireType::Varint, &mut message);
    encode_varint(KIND, &mut message);
    encode_key(4, WireType::LengthDelimited, &mut message);
    encode_varint(content as u64, &mut message);
    let put = |number, bytes: &[u8], message: &mut Vec<u8>| {
        if !bytes.is_empty() {
            encode_key(number, WireType::LengthDelimited, message);
            encode_varint(bytes.len() as u64, message);
            message.extend_from_slice(bytes);
        }
    };
    put(1, req_id.as_bytes(), &mut message);
    if end {
        encode_key(2, WireType::Varint, &mut message);
        encode_varint(1, &mut message);
    }
    put(3, audio, &mut message);
    message.into()
}

/// Decodes one message. `Ok(None)` is a message of a type that this version does not know, which both
/// sides of the protocol ignore: the service may add lifecycle messages.
///
/// # Errors
///
/// The bytes are no protobuf, or the `type` and the content disagree.
pub fn decode(bytes: Bytes) -> Result<Option<Data>, DecodeError> {
    let message = Message::decode(bytes).map_err(|error| DecodeError::Protobuf(error.to_string()))?;
    let kind = message.r#type;
    match (message.data, MessageType::try_from(kind)) {
        (Some(data), Ok(known)) if message_type(&data) == known => Ok(Some(data)),
        (_, Err(_)) => Ok(None),
        // An empty content may be left out: proto3 encodes an empty sub-message as present, but a type
        // whose content is another's cannot be meant.
        (Some(_) | None, Ok(_)) => Err(DecodeError::Mismatch { kind }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::proto::{ClientAudioInput, ClientInterrupt};

    #[test]
    fn a_message_reads_back_and_its_type_is_set() {
        let sent = Data::ClientAudioInput(ClientAudioInput {
            req_id: "20261122200000_abcdefghijkl".into(),
            end: true,
            audio: Bytes::from_static(&[1, 2, 3, 4]),
        });
        assert_eq!(decode(encode(sent.clone())), Ok(Some(sent)));
        // Field 1 (type) with value 3, then field 4 (client_audio_input).
        let bytes = encode(Data::ClientAudioInput(ClientAudioInput::default()));
        assert_eq!(&bytes[..], &[0x08, 3, 0x22, 0]);
    }

    #[test]
    fn audio_is_encoded_as_any_message_is() {
        for req_id in ["", "r", "20261122200000_abcdefghijkl", &"x".repeat(300)] {
            for length in [0, 1, 127, 128, 1280, 40_000] {
                for end in [false, true] {
                    let audio = vec![7; length];
                    let input = ClientAudioInput { req_id: req_id.into(), end, audio: audio.clone().into() };
                    let short = encode_audio(req_id, &audio, end);
                    assert_eq!(short, encode(Data::ClientAudioInput(input)), "{req_id} {length} {end}");
                }
            }
        }
    }

    #[test]
    fn unknown_types_are_ignored_and_nonsense_is_an_error() {
        assert_eq!(decode(Bytes::from_static(&[0x08, 0x7f])), Ok(None));
        assert!(matches!(decode(Bytes::from_static(b"not protobuf")), Err(DecodeError::Protobuf(_))));
        let mut interrupt = encode(Data::ClientInterrupt(ClientInterrupt { req_id: "r".into() })).to_vec();
        interrupt[1] = 2;
        assert_eq!(decode(interrupt.into()), Err(DecodeError::Mismatch { kind: 2 }));
        assert_eq!(decode(Bytes::new()), Err(DecodeError::Mismatch { kind: 0 }));
    }
}
