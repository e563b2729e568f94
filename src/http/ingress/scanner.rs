//! Finds a frame that announces too much, as soon as its header is there. Pure.
//!
//! The codec of the WebSocket crate checks a frame's length only when all of it has come: a client that announces a
//! gigabyte would have a gigabyte buffered first.

/// Bytes of a frame's header at most: two, eight of length, four of mask (RFC 6455, 5.2).
const MAX_HEADER_BYTES: usize = 14;

/// The frame's payload is longer than is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Follows the frames in a stream of bytes.
#[derive(Clone, Debug)]
pub(super) struct Scanner {
    max_payload: u64,
    header: [u8; MAX_HEADER_BYTES],
    /// Bytes of the header that have come.
    have: usize,
    /// Bytes of the payload that are still to come.
    payload: u64,
}

impl Scanner {
    pub(super) fn new(max_payload: usize) -> Self {
        Self { max_payload: max_payload as u64, header: [0; MAX_HEADER_BYTES], have: 0, payload: 0 }
    }

    /// Looks at the next bytes of the stream.
    pub(super) fn scan(&mut self, mut bytes: &[u8]) -> Result<(), TooLong> {
        while !bytes.is_empty() {
            if self.payload > 0 {
                let inside = usize::try_from(self.payload).unwrap_or(usize::MAX).min(bytes.len());
                self.payload -= inside as u64;
                bytes = &bytes[inside..];
                continue;
            }
            self.header[self.have] = bytes[0];
            self.have += 1;
            bytes = &bytes[1..];
            if let Some(length) = self.payload_length() {
                if length > self.max_payload {
                    return Err(TooLong);
                }
                self.payload = length;
                self.have = 0;
            }
        }
        Ok(())
    }

    /// The payload's length, once the whole header has come.
    fn payload_length(&self) -> Option<u64> {
        let second = *self.header[..self.have].get(1)?;
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        let (extension, short) = match second & 0x7f {
            126 => (2, 0),
            127 => (8, 0),
            length => (0, u64::from(length)),
        };
        if self.have < 2 + extension + mask {
            return None;
        }
        let extended = &self.header[2..2 + extension];
        Some(extended.iter().fold(short, |length, byte| (length << 8) | u64::from(*byte)))
    }
}

#[cfg(test)]
mod tests {
    use actix_http::ws::{Codec, Item, Message};
    use bytes::{Bytes, BytesMut};
    use proptest::prelude::*;
    use tokio_util::codec::Encoder as _;

    use super::*;

    fn encode(codec: &mut Codec, payload: usize) -> BytesMut {
        let mut bytes = BytesMut::new();
        codec.encode(Message::Binary(Bytes::from(vec![0xff; payload])), &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_length_is_refused_when_its_header_is_there_and_not_before() {
        for mut codec in [Codec::new(), Codec::new().client_mode()] {
            for (payload, max) in [(101, 100), (126, 125), (70_000, 65_536), (65_536, 65_535), (500, 499)] {
                let bytes = encode(&mut codec, payload);
                let header = bytes.len() - payload;
                let mut scanner = Scanner::new(max);
                assert_eq!(scanner.scan(&bytes[..header - 1]), Ok(()), "{payload}");
                assert_eq!(scanner.scan(&bytes[header - 1..header]), Err(TooLong), "{payload}");
                assert_eq!(Scanner::new(payload).scan(&bytes), Ok(()), "{payload}");
            }
        }
    }

    #[test]
    fn the_greatest_length_that_can_be_announced_is_refused() {
        let mut bytes = vec![0x82, 0xff];
        bytes.extend_from_slice(&[0xff; 8]);
        bytes.extend_from_slice(&[0; 4]);
        assert_eq!(Scanner::new(usize::MAX >> 1).scan(&bytes), Err(TooLong));
    }

    proptest! {
        #[test]
        fn frames_are_followed_however_the_bytes_are_cut(
            payloads in prop::collection::vec(0_usize..70_000, 1..6),
            cuts in prop::collection::vec(1_usize..5000, 1..40),
            last in 1_usize..1000,
        ) {
            let mut codec = Codec::new().client_mode();
            let mut stream = BytesMut::new();
            let max = payloads.iter().copied().max().unwrap_or(0).max(125);
            for payload in &payloads {
                stream.extend_from_slice(&encode(&mut codec, *payload));
                codec.encode(Message::Ping(Bytes::from_static(b"ping")), &mut stream).unwrap();
            }
            let mut scanner = Scanner::new(max);
            let mut rest = &stream[..];
            for cut in cuts.iter().cycle() {
                let cut = (*cut).min(rest.len());
                prop_assert_eq!(scanner.scan(&rest[..cut]), Ok(()));
                rest = &rest[cut..];
                if rest.is_empty() { break }
            }
            let mut long = BytesMut::new();
            let first = Item::FirstBinary(Bytes::from(vec![0; max + last]));
            codec.encode(Message::Continuation(first), &mut long).unwrap();
            prop_assert_eq!(scanner.scan(&long), Err(TooLong));
        }
    }
}
