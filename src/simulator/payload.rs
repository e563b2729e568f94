//! What is in a frame's animation bytes: enough for a test to see that every frame came, once, in order and
//! unharmed. The service's own payload is opaque to everybody but its renderer.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

/// Index and checksum, four bytes each, little-endian.
pub const FRAME_HEADER_BYTES: usize = 8;

/// 32-bit FNV-1a over the request id, the index and the size: it ties a frame to its request and place.
fn checksum(req_id: &str, index: u32, size: usize) -> u32 {
    let size = u32::try_from(size).unwrap_or(u32::MAX);
    let bytes = req_id.bytes().chain(index.to_le_bytes()).chain(size.to_le_bytes());
    bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// The filler: the index's low byte, so that mixed-up frames differ all over.
const fn filler(index: u32) -> u8 {
    index.to_le_bytes()[0]
}

/// The payload of frame `index` of a request, `size` bytes long (at least the header).
pub fn frame_payload(req_id: &str, index: u32, size: usize) -> Vec<u8> {
    let size = size.max(FRAME_HEADER_BYTES);
    let mut payload = Vec::with_capacity(size);
    payload.extend_from_slice(&index.to_le_bytes());
    payload.extend_from_slice(&checksum(req_id, index, size).to_le_bytes());
    payload.resize(size, filler(index));
    payload
}

/// Reads a payload back and gives the frame's index.
///
/// # Errors
///
/// Says what is wrong with it: too short, another request's, or changed on its way.
pub fn check_frame_payload(req_id: &str, payload: &[u8]) -> Result<u32, String> {
    let word =
        |at: usize| payload.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    let (Some(index), Some(sum)) = (word(0), word(4)) else {
        return Err(format!("{} bytes are no frame of this simulator", payload.len()));
    };
    if sum != checksum(req_id, index, payload.len()) {
        return Err(format!("frame {index}: the checksum does not belong to request {req_id}"));
    }
    if payload[FRAME_HEADER_BYTES..].iter().any(|byte| *byte != filler(index)) {
        return Err(format!("frame {index} of request {req_id}: the content was changed"));
    }
    Ok(index)
}

/// Where the time of sending stands in a stamped payload: nanoseconds, 8 bytes, little-endian.
const STAMP: std::ops::Range<usize> = FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + 8;

/// The time on the machine's monotonic clock, which all its processes share and nobody sets.
pub fn monotonic_now() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or_default())
}

/// Puts the time of sending into a payload, in the place of filler. One too short for it stays as it is.
pub(super) fn stamp(payload: Bytes, now: Duration) -> Bytes {
    let mut payload = payload.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    if let Some(place) = payload.get_mut(STAMP) {
        let nanos = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        place.copy_from_slice(&nanos.to_le_bytes());
    }
    payload.freeze()
}

/// The index of a frame and the time of its sending on [`monotonic_now`]'s clock, from a payload of a
/// simulator that stamps its frames.
pub fn read_stamp(payload: &[u8]) -> Option<(u32, Duration)> {
    let index = u32::from_le_bytes(payload.get(..4)?.try_into().ok()?);
    let nanos = u64::from_le_bytes(payload.get(STAMP)?.try_into().ok()?);
    Some((index, Duration::from_nanos(nanos)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_reads_back_and_a_payload_without_room_for_it_stays_as_it_is() {
        let sent = monotonic_now();
        let payload = stamp(frame_payload("r", 7, 64).into(), sent);
        assert_eq!((payload.len(), read_stamp(&payload)), (64, Some((7, sent))));
        assert!(monotonic_now() >= sent);
        let short = Bytes::from(frame_payload("r", 7, 12));
        assert_eq!(stamp(short.clone(), sent), short);
        assert_eq!(read_stamp(&short), None);
    }

    #[test]
    fn a_payload_reads_back_and_any_change_is_seen() {
        let payload = frame_payload("r", 300, 64);
        assert_eq!(payload.len(), 64);
        assert_eq!(check_frame_payload("r", &payload), Ok(300));
        assert!(check_frame_payload("s", &payload).is_err());
        assert!(check_frame_payload("r", &payload[..63]).is_err());
        for at in 0..payload.len() {
            let mut changed = payload.clone();
            changed[at] ^= 1;
            assert!(check_frame_payload("r", &changed).is_err(), "byte {at}");
        }
        assert_eq!(frame_payload("r", 0, 0).len(), FRAME_HEADER_BYTES);
    }
}
