//! Bodies of audio under the fuzzer: however a body is cut, the same comes through or the same is refused.

use bytes::{Bytes, BytesMut};

use super::{BadAudio, Intake};
use crate::session::{AudioFormat, SessionSpec};

/// Bytes that a body may hold back while it is read: a header, half a sample.
const MOST_HELD: usize = 1 << 10;

pub(crate) fn wav(bytes: &[u8]) {
    body(AudioFormat::PcmS16le, bytes);
}

pub(crate) fn ogg(bytes: &[u8]) {
    body(AudioFormat::OggOpus, bytes);
}

/// The first byte says how the rest is cut, and whether it continues a request.
fn body(format: AudioFormat, bytes: &[u8]) {
    let [how, body @ ..] = bytes else { return };
    let (continues, is_announced) = (how & 1 == 1, how & 2 == 2);
    let cut = usize::from(how >> 2) + 1;
    let mut spec = SessionSpec::for_avatar("fuzzed");
    (spec.audio_format, spec.sample_rate) = (format, 16_000);
    let read = |cut: usize| read(&spec, continues, is_announced.then_some(body.len()), body, cut);
    let (whole, pieces) = (read(body.len().max(1)), read(cut));
    match (&whole, &pieces) {
        (Ok(whole), Ok(pieces)) => assert_eq!(whole, pieces, "cut into pieces of {cut} bytes"),
        (Err(_), Err(_)) => {}
        (Ok(_), Err(_)) | (Err(_), Ok(_)) => {
            assert_eq!(whole.is_ok(), pieces.is_ok(), "{whole:?} whole, {pieces:?} by {cut} bytes");
        }
    }
    if let Ok(audio) = whole {
        assert!(audio.len() <= body.len(), "audio was made up");
        if format == AudioFormat::PcmS16le {
            assert!(audio.len().is_multiple_of(2), "half a sample came through");
        }
    }
}

fn read(
    spec: &SessionSpec,
    continues: bool,
    announced: Option<usize>,
    body: &[u8],
    cut: usize,
) -> Result<Bytes, BadAudio> {
    let mut intake = Intake::new(spec, continues, announced);
    let mut audio = BytesMut::new();
    for piece in body.chunks(cut) {
        audio.extend_from_slice(&intake.feed(Bytes::copy_from_slice(piece))?);
        let held =
            intake.half.len() + if let super::Kind::Untold(held) = &intake.kind { held.len() } else { 0 };
        assert!(held < MOST_HELD, "{held} bytes are held back");
    }
    audio.extend_from_slice(&intake.finish()?);
    Ok(audio.freeze())
}
