//! A spliced message is the one that decoding, changing and encoding would give, and keeps what is unknown.

use proptest::prelude::*;
use prost::{Message as _, encoding::encode_key};

use super::*;
use crate::wire::{Data, decode, encode, proto};

fn text() -> impl Strategy<Value = String> {
    prop_oneof![2 => "[a-z0-9_]{0,12}", 1 => "[a-zäß]{100,140}"]
}

fn data() -> impl Strategy<Value = Data> {
    let ids = (text(), text(), any::<bool>(), prop::collection::vec(any::<u8>(), 0..200));
    (0..9, ids).prop_map(|(kind, (connection_id, req_id, end, bytes))| match kind {
        0 => Data::ClientConfigureSession(proto::ClientConfigureSession {
            sample_rate: 16_000,
            ..Default::default()
        }),
        1 => Data::ServerConfirmSession(proto::ServerConfirmSession {
            connection_id,
            capabilities: vec![req_id],
        }),
        2 => Data::ClientAudioInput(proto::ClientAudioInput { req_id, end, audio: bytes.into() }),
        3 => {
            Data::ServerError(proto::ServerError { connection_id, req_id, code: -4001, message: "m".into() })
        }
        4 => Data::ServerResponseAnimation(proto::ServerResponseAnimation {
            connection_id,
            req_id,
            end,
            animation: bytes.into(),
            avatar_id: "avatar".into(),
        }),
        5 => Data::ClientInterrupt(proto::ClientInterrupt { req_id }),
        6 => Data::ClientPause(proto::ClientPause { req_id }),
        7 => Data::ClientResume(proto::ClientResume { req_id }),
        _ => Data::ServerPlaybackState(proto::ServerPlaybackState {
            connection_id,
            req_id,
            state: 1,
            played_ms: i64::from(end) * 90_000,
            reason: "explicit".into(),
        }),
    })
}

/// The two ids, where the content has such fields.
fn ids(data: &mut Data) -> (Option<&mut String>, Option<&mut String>, bool) {
    match data {
        Data::ClientConfigureSession(_) => (None, None, false),
        Data::ServerConfirmSession(m) => (Some(&mut m.connection_id), None, false),
        Data::ClientAudioInput(m) => (None, Some(&mut m.req_id), m.end),
        Data::ServerError(m) => (Some(&mut m.connection_id), Some(&mut m.req_id), false),
        Data::ServerResponseAnimation(m) => (Some(&mut m.connection_id), Some(&mut m.req_id), m.end),
        Data::ClientInterrupt(m) => (None, Some(&mut m.req_id), false),
        Data::ClientPause(m) => (None, Some(&mut m.req_id), false),
        Data::ClientResume(m) => (None, Some(&mut m.req_id), false),
        Data::ServerPlaybackState(m) => (Some(&mut m.connection_id), Some(&mut m.req_id), false),
    }
}

/// `data` with the ids replaced by decoding: what is empty stays so.
fn changed(mut data: Data, new: Rewrite<'_>) -> Data {
    let (connection_id, req_id, _) = ids(&mut data);
    for (field, id) in [(connection_id, new.connection_id), (req_id, new.req_id)] {
        if let (Some(field), Some(id)) = (field, id)
            && !field.is_empty()
        {
            id.clone_into(field);
        }
    }
    data
}

proptest! {
    #[test]
    fn a_spliced_message_is_the_one_that_encoding_it_anew_would_give(
        data in data(), connection_id in prop::option::of(text()), req_id in prop::option::of(text())
    ) {
        let new = Rewrite { connection_id: connection_id.as_deref(), req_id: req_id.as_deref() };
        let spliced = rewrite(&encode(data.clone()), new).unwrap();
        let expected = changed(data, new);
        prop_assert_eq!(decode(spliced.clone()), Ok(Some(expected.clone())));
        let emptied = connection_id.as_deref() == Some("") || req_id.as_deref() == Some("");
        // An id that becomes empty stays in the bytes as an empty one, which encoding leaves out.
        if !emptied {
            prop_assert_eq!(spliced, encode(expected));
        }
    }

    #[test]
    fn a_peek_reads_what_decoding_reads(mut data in data()) {
        let message = encode(data.clone());
        let found = peek(&message).unwrap();
        let (connection_id, req_id, end) = ids(&mut data);
        let expected = (
            connection_id.map_or("", |id| id.as_str()),
            req_id.map_or("", |id| id.as_str()),
            end,
        );
        prop_assert_eq!((found.connection_id, found.req_id, found.end), expected);
        let decoded = proto::Message::decode(message.clone()).unwrap();
        prop_assert_eq!(found.kind as i32, decoded.r#type);
    }

    #[test]
    fn nonsense_neither_panics_nor_grows(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let message = Bytes::from(bytes);
        let _ = peek(&message);
        if let Ok(spliced) = rewrite(&message, Rewrite { connection_id: Some("c"), req_id: Some("r") }) {
            // An id takes at least the byte that the new one has.
            prop_assert!(spliced.len() <= message.len());
        }
    }

    #[test]
    fn a_cut_message_is_an_error_or_another_message_but_never_a_panic(data in data(), keep in 0.0..1.0) {
        let message = encode(data);
        let cut = message.slice(..(message.len() as f64 * keep) as usize);
        let spliced = rewrite(&cut, Rewrite { connection_id: Some("other"), req_id: Some("other") });
        prop_assert_eq!(proto::Message::decode(cut).is_ok(), spliced.is_ok());
    }
}

/// A field that no version knows: number 99, of each wire type.
fn unknown_fields(out: &mut Vec<u8>) {
    use prost::encoding::WireType;
    encode_key(99, WireType::Varint, out);
    out.extend([0x80, 0x01]);
    encode_key(99, WireType::SixtyFourBit, out);
    out.extend([1; 8]);
    encode_key(99, WireType::LengthDelimited, out);
    out.extend([3, b'a', b'b', b'c']);
    encode_key(99, WireType::StartGroup, out);
    encode_key(2, WireType::LengthDelimited, out);
    out.extend([1, b'x']);
    encode_key(99, WireType::EndGroup, out);
    encode_key(99, WireType::ThirtyTwoBit, out);
    out.extend([2; 4]);
}

/// A playback state with unknown fields inside and around it, and lengths longer than they need be.
fn with_unknown_fields(connection_id: &str, req_id: &str) -> Bytes {
    let mut content = Vec::new();
    unknown_fields(&mut content);
    for (number, id) in [(1, connection_id), (2, req_id)] {
        content.push(number << 3 | 2);
        content.push(id.len() as u8);
        content.extend(id.as_bytes());
        unknown_fields(&mut content);
    }
    let mut message = vec![0x08, 10];
    unknown_fields(&mut message);
    message.push(11 << 3 | 2);
    encode_varint(content.len() as u64, &mut message);
    message.extend(content);
    unknown_fields(&mut message);
    message.into()
}

#[test]
fn fields_that_nobody_knows_stay_as_they_came() {
    let message = with_unknown_fields("con", "req");
    let other = Rewrite { connection_id: Some("a much longer connection id"), req_id: Some("r") };
    let spliced = rewrite(&message, other).unwrap();
    assert_eq!(spliced, with_unknown_fields("a much longer connection id", "r"));
    let back = Rewrite { connection_id: Some("con"), req_id: Some("req") };
    assert_eq!(rewrite(&spliced, back).unwrap(), message);
}

#[test]
fn a_length_that_takes_more_bytes_than_it_needs_is_read() {
    // An interrupt of "req" whose lengths are padded to three bytes.
    let message = Bytes::from_static(b"\x08\x07\x42\x87\x80\x00\x0a\x83\x80\x00req");
    assert_eq!(peek(&message).unwrap().req_id, "req");
    let spliced = rewrite(&message, Rewrite { req_id: Some("other"), connection_id: None }).unwrap();
    assert_eq!(&spliced[..], b"\x08\x07\x42\x87\x80\x00\x0a\x05other".as_slice(), "of the same length");
    let spliced = rewrite(&message, Rewrite { req_id: Some("longer"), connection_id: None }).unwrap();
    assert_eq!(&spliced[..], b"\x08\x07\x42\x08\x0a\x06longer".as_slice());
}

#[test]
fn an_error_that_names_no_request_does_not_begin_to_name_one() {
    let error = proto::ServerError { connection_id: "c".into(), code: 14, ..Default::default() };
    let message = encode(Data::ServerError(error));
    let spliced = rewrite(&message, Rewrite { connection_id: None, req_id: Some("r") }).unwrap();
    assert_eq!(spliced.as_ptr(), message.as_ptr(), "nothing to replace is no copy");
    let empty = Bytes::from_static(b"\x08\x04\x2a\x02\x12\x00");
    assert_eq!(rewrite(&empty, Rewrite { connection_id: None, req_id: Some("r") }).unwrap(), empty);
}

#[test]
fn a_content_that_comes_in_two_parts_is_read_and_rewritten_as_one() {
    let mut message = encode(Data::ClientPause(proto::ClientPause { req_id: "one".into() })).to_vec();
    message.extend(b"\x4a\x05\x0a\x03two");
    let message = Bytes::from(message);
    assert_eq!(peek(&message).unwrap().req_id, "two");
    let spliced = rewrite(&message, Rewrite { req_id: Some("x"), connection_id: None }).unwrap();
    assert_eq!(decode(spliced), Ok(Some(Data::ClientPause(proto::ClientPause { req_id: "x".into() }))));
}

#[test]
fn a_message_whose_type_is_not_its_content_is_not_read() {
    let mut message = encode(Data::ClientPause(proto::ClientPause { req_id: "r".into() })).to_vec();
    message[1] = 7;
    assert_eq!(peek(&message), None);
    assert_eq!(peek(b""), None);
    assert_eq!(peek(b"\x08\x7f"), None);
}

#[test]
fn groups_that_do_not_end_or_nest_too_deep_are_errors() {
    let ids = Rewrite { connection_id: Some("c"), req_id: Some("r") };
    assert!(rewrite(&Bytes::from(vec![0x0b; 100_000]), ids).is_err());
    assert!(rewrite(&Bytes::from_static(&[0x0b, 0x14]), ids).is_err(), "another group's end");
    assert!(rewrite(&Bytes::from_static(&[0x0c]), ids).is_err(), "an end without a beginning");
    assert_eq!(rewrite(&Bytes::from_static(&[0x0b, 0x0c]), ids).unwrap(), Bytes::from_static(&[0x0b, 0x0c]));
    assert_eq!(
        rewrite(&Bytes::from_static(&[0x42, 5]), ids).unwrap_err().to_string(),
        "the message cannot be relayed under another id: a field that is longer than its message"
    );
}
