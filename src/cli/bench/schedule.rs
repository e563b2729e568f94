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

/// When session `number` begins: somewhere in the length of a request, drawn by its number, the same in every run
/// and for every client. Callers have no common clock. Evenly spread they would: 10 ms apart, every fourth
/// session's chunks fall into one instant.
pub(super) fn offset(number: u32) -> Duration {
    // splitmix64; sdk_client.py has the same.
    let mut drawn = (u64::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    drawn = (drawn ^ (drawn >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    drawn = (drawn ^ (drawn >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    drawn ^= drawn >> 31;
    let request_us = CHUNKS as u64 * 40_000;
    Duration::from_micros(drawn % request_us)
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
    fn sessions_do_not_speak_in_the_same_instants() {
        let mut together = [0_u32; 40];
        for number in 0..200 {
            let offset = offset(number);
            assert!(offset < request_length());
            together[usize::try_from(offset.as_millis() % CHUNK.as_millis()).unwrap()] += 1;
        }
        // Five in each millisecond on average; chance makes twelve at times, and not twenty.
        assert!(together.iter().all(|sessions| *sessions < 20), "{together:?}");
        assert!(together.iter().filter(|sessions| **sessions > 0).count() > 35, "{together:?}");
    }

    /// Computed with `offset_s` of sdk_client.py: both clients speak by the same schedule.
    #[test]
    fn an_offset_is_that_of_the_python_client() {
        let offsets = [0, 1, 199].map(|number| offset(number).as_micros());
        assert_eq!(offsets, [607_535, 355_700, 549_548]);
    }

    #[test]
    fn lengths_fit_together() {
        assert_eq!((requests_in(1), requests_in(2), requests_in(21)), (1, 1, 10));
        assert_eq!(request_length(), CHUNK * CHUNKS);
    }
}
