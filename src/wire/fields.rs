//! The fields of a protobuf message as they lie in its bytes, without decoding them.

use std::ops::Range;

/// Groups may be nested this deep, as in other decoders: they are deprecated, and nobody nests them.
const MAX_DEPTH: usize = 100;

/// Why bytes are no protobuf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A number has more than ten bytes, or its message ends in it.
    #[error("a varint that does not end")]
    Varint,
    /// A length is beyond the end of the message.
    #[error("a field that is longer than its message")]
    Length,
    /// A field has the number 0, or a wire type that does not exist, or a group does not end.
    #[error("an impossible field key")]
    Key,
}

/// One field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) number: u32,
    /// The key and the value.
    pub(super) whole: Range<usize>,
    /// Where the key ends: then the value comes, or the length of the content.
    pub(super) key_end: usize,
    pub(super) value: Value,
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Varint(u64),
    /// A string, bytes, or a message: where its content lies.
    Content(Range<usize>),
    /// Of a kind that no message of ours has.
    Other,
}

/// Walks over the fields of the message that lies in a range of the bytes.
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Fields<'a> {
    pub(super) const fn new(bytes: &'a [u8], range: Range<usize>) -> Self {
        Self { bytes, at: range.start, end: range.end }
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = *self.bytes.get(self.at).filter(|_| self.at < self.end).ok_or(Malformed::Varint)?;
            self.at += 1;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed::Varint)
    }

    fn skip(&mut self, length: u64) -> Result<Range<usize>, Malformed> {
        let left = self.end - self.at;
        let length =
            usize::try_from(length).ok().filter(|length| *length <= left).ok_or(Malformed::Length)?;
        let start = self.at;
        self.at += length;
        Ok(start..self.at)
    }

    fn key(&mut self) -> Result<(u32, u8), Malformed> {
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).map_err(|_| Malformed::Key)?;
        // A field number has 29 bits.
        if number == 0 || number >= 1 << 29 {
            return Err(Malformed::Key);
        }
        Ok((number, (key & 7) as u8))
    }

    fn value(&mut self, number: u32, wire_type: u8) -> Result<Value, Malformed> {
        match wire_type {
            0 => self.varint().map(Value::Varint),
            1 => self.skip(8).map(|_| Value::Other),
            2 => {
                let length = self.varint()?;
                self.skip(length).map(Value::Content)
            }
            3 => self.group(number).map(|()| Value::Other),
            5 => self.skip(4).map(|_| Value::Other),
            _ => Err(Malformed::Key),
        }
    }

    fn group(&mut self, number: u32) -> Result<(), Malformed> {
        let mut open = vec![number];
        while let Some(&innermost) = open.last() {
            match self.key()? {
                (number, 3) if open.len() < MAX_DEPTH => open.push(number),
                (number, 4) if number == innermost => {
                    open.pop();
                }
                (_, 3 | 4) => return Err(Malformed::Key),
                (number, wire_type) => {
                    self.value(number, wire_type)?;
                }
            }
        }
        Ok(())
    }

    fn field(&mut self) -> Result<Field, Malformed> {
        let start = self.at;
        let (number, wire_type) = self.key()?;
        let key_end = self.at;
        let value = self.value(number, wire_type)?;
        Ok(Field { number, whole: start..self.at, key_end, value })
    }
}

impl Iterator for Fields<'_> {
    type Item = Result<Field, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.end {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.at = self.end;
        }
        Some(field)
    }
}
