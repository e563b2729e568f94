//! Ids of a relayed message: read, and replaced, without decoding and encoding it.
//!
//! A relay passes on the bytes that came, since encoding drops the fields that this version does not know. Where
//! an id must be another one towards the receiver, it is spliced into the bytes, and the length of the enclosing
//! message is mended. Every other byte stays as it came.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use prost::encoding::{encode_varint, encoded_len_varint};

use super::{
    fields::{Field, Fields, Malformed, Value},
    proto::MessageType,
};

/// The ids that a message is to have. `None` leaves one as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewrite<'a> {
    /// The `connection_id`.
    pub connection_id: Option<&'a str>,
    /// The `req_id`.
    pub req_id: Option<&'a str>,
}

/// The bytes are no `Message` of this protocol, so that no id can be replaced in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message cannot be relayed under another id: {0}")]
pub struct SpliceError(#[from] Malformed);

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peek<'a> {
    /// Its type, which is that of its content.
    pub kind: MessageType,
    /// Its `connection_id`; empty where it has none.
    pub connection_id: &'a str,
    /// Its `req_id`; empty where it has none.
    pub req_id: &'a str,
    /// Whether it is the last of its request: of audio towards the service, or of frames from it.
    pub end: bool,
}

/// The numbers of the fields that a content has, as far as this module touches them.
struct Layout {
    kind: MessageType,
    connection_id: Option<u32>,
    req_id: Option<u32>,
    end: Option<u32>,
}

/// The layout of the content in this field of `Message`. The numbers are the service's, see the proto file.
const fn layout(number: u32) -> Option<Layout> {
    let (kind, connection_id, req_id, end) = match number {
        2 => (MessageType::MessageClientConfigureSession, None, None, None),
        3 => (MessageType::MessageServerConfirmSession, Some(1), None, None),
        4 => (MessageType::MessageClientAudioInput, None, Some(1), Some(2)),
        5 => (MessageType::MessageServerError, Some(1), Some(2), None),
        6 => (MessageType::MessageServerResponseAnimation, Some(1), Some(2), Some(3)),
        8 => (MessageType::MessageClientInterrupt, None, Some(1), None),
        9 => (MessageType::MessageClientPause, None, Some(1), None),
        10 => (MessageType::MessageClientResume, None, Some(1), None),
        11 => (MessageType::MessageServerPlaybackState, Some(1), Some(2), None),
        _ => return None,
    };
    Some(Layout { kind, connection_id, req_id, end })
}

/// Reads what a message is about; `None` where it is no message that this version knows.
pub fn peek(message: &[u8]) -> Option<Peek<'_>> {
    let mut kind = MessageType::MessageUnspecified as i32;
    let mut found: Option<Peek<'_>> = None;
    for field in Fields::new(message, 0..message.len()) {
        let Field { number, value, .. } = field.ok()?;
        match value {
            // An enum is an int32, of which a varint has the low bits.
            Value::Varint(value) if number == 1 => kind = value as i32,
            Value::Content(content) => {
                let Some(layout) = layout(number) else { continue };
                let empty = Peek { kind: layout.kind, connection_id: "", req_id: "", end: false };
                // The last of several contents counts; one of the same type goes on where the earlier ended.
                let earlier = found.filter(|earlier| earlier.kind == layout.kind);
                found = Some(peek_content(message, content, &layout, earlier.unwrap_or(empty))?);
            }
            Value::Varint(_) | Value::Other => {}
        }
    }
    found.filter(|found| found.kind as i32 == kind)
}

fn peek_content<'a>(
    message: &'a [u8],
    content: Range<usize>,
    layout: &Layout,
    mut peek: Peek<'a>,
) -> Option<Peek<'a>> {
    for field in Fields::new(message, content) {
        let Field { number, value, .. } = field.ok()?;
        let number = Some(number);
        match value {
            Value::Content(text) if number == layout.connection_id => {
                peek.connection_id = std::str::from_utf8(message.get(text)?).ok()?;
            }
            Value::Content(text) if number == layout.req_id => {
                peek.req_id = std::str::from_utf8(message.get(text)?).ok()?;
            }
            Value::Varint(value) if number == layout.end => peek.end = value != 0,
            Value::Content(_) | Value::Varint(_) | Value::Other => {}
        }
    }
    Some(peek)
}

/// Replaces ids. An id that is left out or empty stays so: an error that names no request must not name one.
///
/// # Errors
///
/// The bytes are no protobuf.
pub fn rewrite(message: &Bytes, ids: Rewrite<'_>) -> Result<Bytes, SpliceError> {
    let added = ids.connection_id.map_or(0, str::len) + ids.req_id.map_or(0, str::len);
    // Room for each id and for longer lengths before them: the usual message has each id once.
    let mut out = Splice { message, out: BytesMut::with_capacity(message.len() + added + 16), copied: 0 };
    for field in Fields::new(message, 0..message.len()) {
        let Field { number, key_end, value, .. } = field?;
        let Value::Content(content) = value else { continue };
        let Some(layout) = layout(number) else { continue };
        let Some(length) = new_length(message, content.clone(), &layout, ids)? else { continue };
        if length != content.len() {
            out.replace(key_end..content.start, |out| encode_varint(length as u64, out));
        }
        for field in Fields::new(message, content) {
            let field = field?;
            if let Some((old, id)) = replaced(&field, &layout, ids) {
                out.replace(field.key_end..old.end, |out| {
                    encode_varint(id.len() as u64, out);
                    out.extend_from_slice(id.as_bytes());
                });
            }
        }
    }
    if out.copied == 0 {
        return Ok(message.clone());
    }
    Ok(out.finish())
}

/// The length of a content with its ids replaced; `None` where none of them is.
fn new_length(
    message: &[u8],
    content: Range<usize>,
    layout: &Layout,
    ids: Rewrite<'_>,
) -> Result<Option<usize>, Malformed> {
    let mut length = content.len();
    let mut changes = false;
    for field in Fields::new(message, content) {
        let field = field?;
        if let Some((_, id)) = replaced(&field, layout, ids) {
            length -= field.whole.end - field.key_end;
            length += encoded_len_varint(id.len() as u64) + id.len();
            changes = true;
        }
    }
    Ok(changes.then_some(length))
}

/// Where the old id lies, if this field is one that is to be another, and the new id.
fn replaced<'a>(field: &Field, layout: &Layout, ids: Rewrite<'a>) -> Option<(Range<usize>, &'a str)> {
    let Value::Content(old) = &field.value else { return None };
    let number = Some(field.number);
    let id = if number == layout.connection_id {
        ids.connection_id
    } else if number == layout.req_id {
        ids.req_id
    } else {
        None
    };
    id.filter(|_| !old.is_empty()).map(|id| (old.clone(), id))
}

/// The new message so far, and how much of the old one it stands for.
struct Splice<'a> {
    message: &'a [u8],
    out: BytesMut,
    copied: usize,
}

impl Splice<'_> {
    /// Puts something else in the place of this part of the old message, and what is before it as it came.
    fn replace(&mut self, part: Range<usize>, write: impl FnOnce(&mut BytesMut)) {
        self.out.extend_from_slice(self.message.get(self.copied..part.start).unwrap_or_default());
        write(&mut self.out);
        self.copied = part.end;
    }

    fn finish(mut self) -> Bytes {
        self.out.extend_from_slice(self.message.get(self.copied..).unwrap_or_default());
        self.out.freeze()
    }
}

#[cfg(test)]
mod tests;
