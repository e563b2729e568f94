//! When audio is due: the same for every client that speaks in real time.

use std::time::Duration;

use bytes::Bytes;

/// The length of one chunk of audio: what a microphone's driver typically gives.
pub(super) const CHUNK: Duration = Duration::from_millis(40);
/// Chunks of a request: 2 s, an utterance.
pub(super) const CHUNKS: u32 = 50;
/// Frames of a request: the service answers 40 ms of audio with one.
pub(super) const FRAMES: u64 = CHUNKS as u64;
/// Samples a second.
pub(super) const SAMPLE_RATE: u32 = 16_000;
/// Bytes of a chunk of 16 bit samples.
pub(super) const CHUNK_BYTES: usize = SAMPLE_RATE as usize * 2 * 40 / 1000;
/// Seconds of audio of one request of a burst.
pub(super) const BURST_SECONDS: usize = 20;
/// Frames of one request of a burst.
pub(super) const BURST_FRAMES: u64 = BURST_SECONDS as u64 * 25;
/// How long an answer is waited for after its audio.
pub(super) const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// The length of a request's audio.
pub(super) const fn request_length() -> Duration {
    Duration::from_millis(CHUNKS as u64 * 40)
}

/// Requests that a session makes in this time, one right after the other.
pub(super) const fn requests_in(seconds: u32) -> u32 {
    let requests = seconds / 2;
    if requests == 0 { 1 } else { requests }
}

/// When session `number` of `sessions` begins: they are spread over the length of a request, as callers are.
pub(super) fn offset(number: u32, sessions: u32) -> Duration {
    request_length() * number / sessions.max(1)
}

/// One chunk: not silence, which nothing here looks at, but not zeros either.
pub(super) fn chunk() -> Bytes {
    Bytes::from(vec![1; CHUNK_BYTES])
}

/// The audio of one request of a burst.
pub(super) fn burst() -> Bytes {
    Bytes::from(vec![1; SAMPLE_RATE as usize * 2 * BURST_SECONDS])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_spread_evenly_over_a_request() {
        assert_eq!(offset(0, 4), Duration::ZERO);
        assert_eq!(offset(3, 4), Duration::from_millis(1500));
        assert_eq!((requests_in(1), requests_in(2), requests_in(21)), (1, 1, 10));
        assert_eq!(request_length(), CHUNK * CHUNKS);
    }
}
