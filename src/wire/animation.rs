//! What is needed of a frame's message, read where it lies: nearly all that the service says are frames, and decoding one
//! costs an allocation for each of its texts.

use std::ops::Range;

use super::{
    fields::{Field, Fields, Value},
    proto::MessageType,
};

/// The field of `Message` that a frame lies in.
const FRAME: u32 = 6;

/// What a frame's message is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Animation {
    req_id: Range<usize>,
    /// Whether it is the last of its request.
    pub end: bool,
}

impl Animation {
    /// The request that it answers, as `message`, which this was read from, names it; empty where it names none.
    pub fn req_id<'a>(&self, message: &'a [u8]) -> &'a str {
        message.get(self.req_id.clone()).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
    }
}

/// Reads a message that is a frame and has nothing in it but what this version knows, each field once at most. `None`
/// of any other: what that is only [`decode`](super::decode) tells.
pub fn animation(message: &[u8]) -> Option<Animation> {
    let (mut kind, mut content) = (None, None);
    for field in Fields::new(message, 0..message.len()) {
        let Field { number, value, .. } = field.ok()?;
        match value {
            Value::Varint(value) if number == 1 && kind.is_none() => kind = Some(value),
            Value::Content(range) if number == FRAME && content.is_none() => content = Some(range),
            Value::Varint(_) | Value::Content(_) | Value::Other => return None,
        }
    }
    if kind != u64::try_from(MessageType::MessageServerResponseAnimation as i32).ok() {
        return None;
    }
    let mut animation = Animation { req_id: 0..0, end: false };
    let mut seen = 0_u32;
    for field in Fields::new(message, content?) {
        let Field { number, value, .. } = field.ok()?;
        // Numbers beyond the last known one are none of ours.
        let bit = 1_u32.checked_shl(number).filter(|_| (1..=5).contains(&number))?;
        if seen & bit != 0 {
            return None;
        }
        seen |= bit;
        match (number, value) {
            (1 | 5, Value::Content(text)) => drop(std::str::from_utf8(message.get(text)?).ok()?),
            (2, Value::Content(text)) => {
                std::str::from_utf8(message.get(text.clone())?).ok()?;
                animation.req_id = text;
            }
            (3, Value::Varint(value)) => animation.end = value != 0,
            (4, Value::Content(_)) => {}
            (_, Value::Varint(_) | Value::Content(_) | Value::Other) => return None,
        }
    }
    Some(animation)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{Data, decode, encode, proto::ServerResponseAnimation};

    fn frame(req_id: String, end: bool, animation: Vec<u8>) -> Bytes {
        encode(Data::ServerResponseAnimation(ServerResponseAnimation {
            connection_id: "connection".to_owned(),
            req_id,
            end,
            animation: animation.into(),
            avatar_id: "ä".to_owned(),
        }))
    }

    /// Whatever is read so is what decoding gives.
    fn agrees(message: &Bytes) -> bool {
        let Some(read) = animation(message) else { return false };
        match decode(message.clone()) {
            Ok(Some(Data::ServerResponseAnimation(decoded))) => {
                assert_eq!((read.req_id(message), read.end), (decoded.req_id.as_str(), decoded.end));
            }
            other => panic!("{other:?}"),
        }
        true
    }

    proptest! {
        #[test]
        fn every_frame_of_ours_is_read(
            req_id in "[a-z0-9_ä]{0,40}", end: bool, bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            prop_assert!(agrees(&frame(req_id, end, bytes)));
        }

        #[test]
        fn what_is_damaged_is_read_as_decoding_reads_it_or_not_at_all(
            bytes in prop::collection::vec(any::<u8>(), 0..20),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let mut message = frame("request".to_owned(), true, bytes).to_vec();
            for (at, byte) in damage {
                let at = at.index(message.len());
                message[at] = byte;
            }
            agrees(&message.into());
        }
    }

    #[test]
    fn what_is_no_frame_or_has_more_in_it_is_left_to_decoding() {
        let whole = frame("r".to_owned(), false, vec![1]);
        assert!(agrees(&whole));
        let with = |more: &[u8]| Bytes::from([&whole[..], more].concat());
        for other in [
            // An unknown field; a second type; a second content; text where a number is due.
            with(&[0x78, 1]),
            with(&[0x08, 5]),
            with(&[0x32, 0]),
            with(&[0x0a, 0]),
            encode(Data::ClientInterrupt(crate::wire::proto::ClientInterrupt { req_id: "r".into() })),
            Bytes::from_static(&[0x08, 4, 0x32, 0]),
            Bytes::from_static(&[0x08, 5, 0x32, 2, 0x78, 1]),
            Bytes::from_static(&[0x08, 5, 0x32, 3, 0x2a, 1, 0xff]),
            Bytes::from_static(&[0x08, 5]),
            Bytes::new(),
        ] {
            assert_eq!(animation(&other), None, "{other:?}");
        }
    }
}
