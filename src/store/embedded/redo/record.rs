//! The body of a record: the batches of one group that were accepted, in their order, as what they change.
//!
//! Numbers are little-endian. The first revision (8 bytes), then each batch: how many changes it has (4), then each
//! change: the length of its key (4), the key, what it does (1: 0 deletes, 1 puts), and with a put the length of the
//! value (4) and the value.

use bytes::{Buf, BufMut, Bytes};

use crate::store::{Batch, Change, Key, Revision};

const DELETE: u8 = 0;
const PUT: u8 = 1;

/// Batches that were accepted in one group.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::store::embedded) struct Record {
    /// The revision of the first; the others follow on it.
    pub(in crate::store::embedded) first: Revision,
    pub(in crate::store::embedded) batches: Vec<Vec<(Key, Change)>>,
}

/// The bytes of the body with all of `batches`; fewer where some are not accepted.
pub(super) fn bytes_at_most(batches: &[Batch]) -> usize {
    8 + batches.iter().map(|batch| 4 + batch.changes().len() * 9 + batch.bytes()).sum::<usize>()
}

pub(super) fn encode<'a>(first: Revision, batches: impl Iterator<Item = &'a Batch>) -> Vec<u8> {
    let mut body = Vec::new();
    body.put_u64_le(first.0);
    for batch in batches {
        put_length(&mut body, batch.changes().len());
        for (key, change) in batch.changes() {
            put_bytes(&mut body, key.as_str().as_bytes());
            match change {
                Change::Put(value) => {
                    body.put_u8(PUT);
                    put_bytes(&mut body, value);
                }
                Change::Delete => body.put_u8(DELETE),
            }
        }
    }
    body
}

fn put_bytes(body: &mut Vec<u8>, bytes: &[u8]) {
    put_length(body, bytes.len());
    body.put_slice(bytes);
}

fn put_length(body: &mut Vec<u8>, length: usize) {
    // A batch is checked before it is written: its parts are far below the bound of four bytes.
    body.put_u32_le(u32::try_from(length).unwrap_or(u32::MAX));
}

/// Reads a body; `None` where it is none.
pub(super) fn decode(mut body: &[u8]) -> Option<Record> {
    let first = Revision(body.try_get_u64_le().ok()?);
    let mut batches = Vec::new();
    while !body.is_empty() {
        let changes = body.try_get_u32_le().ok()?;
        batches.push((0..changes).map(|_| change(&mut body)).collect::<Option<_>>()?);
    }
    Some(Record { first, batches })
}

fn change(body: &mut &[u8]) -> Option<(Key, Change)> {
    let key = Key::new(str::from_utf8(take(body)?).ok()?);
    match body.try_get_u8().ok()? {
        DELETE => Some((key, Change::Delete)),
        PUT => Some((key, Change::Put(Bytes::copy_from_slice(take(body)?)))),
        _ => None,
    }
}

fn take<'a>(body: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(body.try_get_u32_le().ok()?).ok()?;
    let (taken, rest) = body.split_at_checked(length)?;
    *body = rest;
    Some(taken)
}
