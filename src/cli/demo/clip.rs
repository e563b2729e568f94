//! The clip that the demo's sessions speak.
//!
//! The first sentence of "Alice's Adventures in Wonderland" (1865, public domain), spoken by espeak-ng:
//! `espeak-ng -v en-gb -s 165 -w clip22.wav TEXT`, then `sox clip22.wav -r 16000 -c 1 -b 16 clip.wav`.

use bytes::Bytes;

const WAV: &[u8] = include_bytes!("clip.wav");

/// Samples a second of the clip.
pub(in crate::cli) const SAMPLE_RATE: u32 = 16_000;

/// The clip's samples: the `data` chunk of the WAV file.
pub(in crate::cli) fn samples() -> Bytes {
    let mut rest = WAV.get(12..).unwrap_or_default();
    while let [a, b, c, d, s0, s1, s2, s3, body @ ..] = rest {
        let size = u32::from_le_bytes([*s0, *s1, *s2, *s3]) as usize;
        let chunk = body.get(..size.min(body.len())).unwrap_or_default();
        if [*a, *b, *c, *d] == *b"data" {
            return Bytes::from_static(chunk);
        }
        rest = body.get(size + size % 2..).unwrap_or_default();
    }
    Bytes::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clip_is_some_seconds_of_sixteen_bit_sound() {
        let samples = samples();
        assert_eq!(samples.len() % 2, 0);
        assert!((200_000..300_000).contains(&samples.len()), "{}", samples.len());
        assert_eq!(WAV[24..28], SAMPLE_RATE.to_le_bytes());
        assert!(samples.iter().any(|&byte| byte != 0));
    }
}
