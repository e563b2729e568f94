//! Audio as it comes in a body: what it is told by its first bytes, and is checked against the session's
//! format while it streams. Nothing here waits, and nothing holds more than a header.

#[cfg(feature = "fuzzing")]
pub(super) mod fuzz;
mod ogg;
mod wav;

use bytes::{Bytes, BytesMut};

use super::Problem;
use crate::session::{AudioFormat, SessionSpec};
use ogg::Ogg;
use wav::Wav;

/// Bytes after which a body is told from its beginning: `RIFF`, a size, `WAVE`.
const TOLD_AFTER: usize = 12;
/// How an Ogg stream begins: the capture pattern, version 0, the flag of a first page (RFC 3533 section 6).
/// Longer than the pattern, since samples that happen to spell four letters are to pass.
const OGG_START: &[u8] = b"OggS\x00\x02";

/// Audio that cannot be passed on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadAudio {
    /// It is audio, and not what the session takes.
    #[error("{0}")]
    WrongFormat(String),
    /// It is no whole number of samples, of so many bytes.
    #[error("{0} bytes are no whole number of 16-bit samples; nothing of an odd rest is sent")]
    Odd(usize),
    /// It begins as a WAV file and does not go on as one.
    #[error("the WAV file {0}")]
    Wav(String),
    /// It is not the one continuous Ogg Opus stream that a request is.
    #[error("the Ogg Opus stream {0}")]
    Ogg(String),
}

impl From<BadAudio> for Problem {
    fn from(bad: BadAudio) -> Self {
        let code = match &bad {
            BadAudio::WrongFormat(_) => "wrongAudioFormat",
            BadAudio::Odd(_) => "oddAudio",
            BadAudio::Wav(_) => "badWav",
            BadAudio::Ogg(_) => "badOggOpus",
        };
        Self::unprocessable(code, bad.to_string())
    }
}

/// What a body is.
#[derive(Debug)]
enum Kind {
    /// Not told yet: the beginning, which is shorter than [`TOLD_AFTER`].
    Untold(Bytes),
    /// Samples.
    Raw,
    /// Samples in a file.
    Wav(Wav),
    /// Pages, which are passed on as they are.
    Ogg(Ogg),
}

/// One body on its way in.
#[derive(Debug)]
pub(super) struct Intake {
    kind: Kind,
    format: AudioFormat,
    sample_rate: u32,
    /// Whether the body continues a request, and so may begin within an Ogg stream.
    continues: bool,
    /// The body's length, where the client announced it.
    announced: Option<usize>,
    /// The first half of a sample whose other half has not come.
    half: Bytes,
    samples_bytes: usize,
}

impl Intake {
    /// For a body of `announced` bytes to a session of `spec`; `continues` where an open request goes on.
    pub(super) const fn new(spec: &SessionSpec, continues: bool, announced: Option<usize>) -> Self {
        Self {
            kind: Kind::Untold(Bytes::new()),
            format: spec.audio_format,
            sample_rate: spec.sample_rate,
            continues,
            announced,
            half: Bytes::new(),
            samples_bytes: 0,
        }
    }

    /// Takes the body's next piece; gives the audio that can be passed on now.
    ///
    /// # Errors
    ///
    /// The body is not what the session takes. Nothing more is to be fed then.
    pub(super) fn feed(&mut self, piece: Bytes) -> Result<Bytes, BadAudio> {
        let piece = match &mut self.kind {
            Kind::Untold(beginning) => {
                let beginning = join(beginning, piece);
                match self.tell(&beginning, false)? {
                    Some(kind) => self.kind = kind,
                    None => {
                        self.kind = Kind::Untold(beginning);
                        return Ok(Bytes::new());
                    }
                }
                beginning
            }
            Kind::Raw | Kind::Wav(_) | Kind::Ogg(_) => piece,
        };
        self.pass(piece)
    }

    /// The body has ended; gives the audio that was held back. Another call gives nothing.
    ///
    /// # Errors
    ///
    /// The body ended where it should not.
    pub(super) fn finish(&mut self) -> Result<Bytes, BadAudio> {
        let mut audio = Bytes::new();
        if let Kind::Untold(beginning) = &mut self.kind {
            if beginning.is_empty() {
                return Ok(audio);
            }
            let beginning = std::mem::take(beginning);
            self.kind = self.tell(&beginning, true)?.unwrap_or(Kind::Raw);
            audio = self.pass(beginning)?;
        }
        match &self.kind {
            Kind::Untold(_) | Kind::Raw => {}
            Kind::Wav(wav) => wav.finish()?,
            Kind::Ogg(ogg) => ogg.finish()?,
        }
        if self.half.is_empty() { Ok(audio) } else { Err(BadAudio::Odd(self.samples_bytes)) }
    }

    /// What the body is; `None` while its beginning fits more than one kind.
    fn tell(&self, beginning: &[u8], is_all: bool) -> Result<Option<Kind>, BadAudio> {
        let has_more = !is_all && beginning.len() < TOLD_AFTER;
        let wav = looks_like_wav(beginning);
        if has_more && (wav || beginning.is_empty()) {
            return Ok(None);
        }
        let is_wav = wav && beginning.len() >= TOLD_AFTER;
        match self.format {
            AudioFormat::OggOpus if is_wav => Err(BadAudio::WrongFormat(self.mismatch("is a WAV file"))),
            AudioFormat::OggOpus => {
                let shared = beginning.len().min(4);
                if has_more && !self.continues && b"OggS".starts_with(beginning) {
                    return Ok(None);
                }
                if self.continues || beginning[..shared] == b"OggS"[..shared] {
                    return Ok(Some(Kind::Ogg(Ogg::new(self.continues))));
                }
                Err(BadAudio::WrongFormat(
                    self.mismatch("does not begin with \"OggS\": it is raw PCM, or other audio"),
                ))
            }
            AudioFormat::PcmS16le if is_wav => Ok(Some(Kind::Wav(Wav::new(self.sample_rate)))),
            AudioFormat::PcmS16le => {
                if beginning.starts_with(OGG_START) {
                    return Err(BadAudio::WrongFormat(self.mismatch("is an Ogg stream")));
                }
                if has_more && OGG_START.starts_with(beginning) {
                    return Ok(None);
                }
                match self.announced {
                    // Before any of it is sent.
                    Some(length) if length % 2 == 1 => Err(BadAudio::Odd(length)),
                    Some(_) | None => Ok(Some(Kind::Raw)),
                }
            }
        }
    }

    fn mismatch(&self, what: &str) -> String {
        let takes = match self.format {
            AudioFormat::PcmS16le => "pcm_s16le (raw samples or a WAV file)",
            AudioFormat::OggOpus => "ogg_opus (an Ogg Opus stream)",
        };
        format!("the body {what}; the session's audio_format is {takes}")
    }

    fn pass(&mut self, piece: Bytes) -> Result<Bytes, BadAudio> {
        let samples = match &mut self.kind {
            Kind::Untold(_) => return Ok(Bytes::new()),
            Kind::Ogg(ogg) => return ogg.feed(piece),
            Kind::Wav(wav) => wav.feed(piece)?,
            Kind::Raw => piece,
        };
        self.samples_bytes += samples.len();
        let mut samples = join(&self.half, samples);
        // A sample that is cut in two waits for its other half.
        self.half = samples.split_off(samples.len() - samples.len() % 2);
        Ok(samples)
    }
}

/// Whether bytes can be the beginning of a WAV file.
fn looks_like_wav(beginning: &[u8]) -> bool {
    beginning
        .iter()
        .zip(b"RIFF....WAVE")
        .enumerate()
        .all(|(at, (byte, wanted))| (4..8).contains(&at) || byte == wanted)
}

/// `before`, then `after`; without a copy where one is empty.
pub(super) fn join(before: &Bytes, after: Bytes) -> Bytes {
    if before.is_empty() {
        return after;
    }
    if after.is_empty() {
        return before.clone();
    }
    let mut joined = BytesMut::with_capacity(before.len() + after.len());
    joined.extend_from_slice(before);
    joined.extend_from_slice(&after);
    joined.freeze()
}

#[cfg(test)]
mod tests;
