//! Frames that are collected for the answer to their request.

use bytes::{Buf as _, Bytes, BytesMut};
use prost::encoding::{decode_varint, encode_varint, encoded_len_varint};

/// Bytes of memory that are taken at a time: a second of speech has some 30 KB.
const PIECE_BYTES: usize = 16 << 10;

/// The frames of a request, each the message as the service sent it, behind its length as a varint: the form in which
/// most of those who want them get them.
///
/// Each frame is copied here once, as it comes: what came shares the memory of the connection's read buffer, which would be
/// kept whole.
#[derive(Debug, Default)]
pub struct Frames {
    full: Vec<Bytes>,
    filling: BytesMut,
    /// Bytes of all of it.
    bytes: usize,
}

impl Frames {
    /// Adds a frame.
    pub(super) fn push(&mut self, frame: &[u8]) {
        let length = frame.len() as u64;
        let needed = encoded_len_varint(length) + frame.len();
        if self.filling.capacity() - self.filling.len() < needed {
            let filled =
                std::mem::replace(&mut self.filling, BytesMut::with_capacity(needed.max(PIECE_BYTES)));
            if !filled.is_empty() {
                self.full.push(filled.freeze());
            }
        }
        encode_varint(length, &mut self.filling);
        self.filling.extend_from_slice(frame);
        self.bytes += needed;
    }

    /// Bytes of all frames with their lengths.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// All of it, in pieces none of which ends within a frame.
    pub fn into_pieces(self) -> Vec<Bytes> {
        let mut pieces = self.full;
        pieces.extend((!self.filling.is_empty()).then(|| self.filling.freeze()));
        pieces
    }

    /// The frames.
    pub fn into_messages(self) -> impl Iterator<Item = Bytes> {
        self.into_pieces().into_iter().flat_map(|mut piece| {
            std::iter::from_fn(move || {
                let length = decode_varint(&mut piece).ok()?;
                let length = usize::try_from(length).ok().filter(|length| *length <= piece.remaining())?;
                Some(piece.split_to(length))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of such lengths, no two of them alike.
    fn frames(lengths: &[usize]) -> Vec<Vec<u8>> {
        lengths.iter().zip(1..).map(|(length, number)| vec![number; *length]).collect()
    }

    fn collected(frames: &[Vec<u8>]) -> Frames {
        let mut collected = Frames::default();
        for frame in frames {
            collected.push(frame);
        }
        collected
    }

    #[test]
    fn what_was_collected_comes_out_in_its_order_whatever_its_lengths() {
        for lengths in [
            &[][..],
            &[0],
            &[3, 0, 5],
            &[PIECE_BYTES - 3, 1],
            &[PIECE_BYTES - 2, PIECE_BYTES, PIECE_BYTES + 1, 1],
            &[100_000, 2, 70_000],
            &[1278; 200],
        ] {
            let frames = frames(lengths);
            let messages: Vec<Bytes> = collected(&frames).into_messages().collect();
            assert_eq!(messages, frames, "{lengths:?}");
            assert_eq!(collected(&frames).is_empty(), frames.is_empty());
        }
    }

    #[test]
    fn the_pieces_are_the_frames_behind_their_lengths_and_hold_little_more() {
        let frames = frames(&[1278; 200]);
        let mut delimited = BytesMut::new();
        for frame in &frames {
            encode_varint(frame.len() as u64, &mut delimited);
            delimited.extend_from_slice(frame);
        }
        let collected = collected(&frames);
        assert_eq!(collected.bytes(), delimited.len());
        let pieces = collected.into_pieces();
        assert_eq!(pieces.concat(), delimited);
        assert!(pieces.len() <= delimited.len().div_ceil(PIECE_BYTES - 1280), "{}", pieces.len());
    }
}
