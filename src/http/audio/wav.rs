//! WAV files, read from their header on. The layout is that of Microsoft's "Multimedia Programming Interface
//! and Data Specifications 1.0" (RIFF) and of `mmreg.h` (`WAVEFORMATEX`, `WAVEFORMATEXTENSIBLE`).

use bytes::{Buf, Bytes};

use super::BadAudio;

/// What may come before the samples: pictures and edit lists fit, and a body that is all header is found out.
const MAX_BEFORE_DATA: u64 = 1 << 20;
/// Writers that cannot seek back leave 0, the greatest size, or (sox, arecord) one just below 2 GiB.
const UNKNOWN_FROM: u32 = 0x7FFF_0000;

const RIFF_BYTES: usize = 12;
const CHUNK_BYTES: usize = 8;
/// `fmt ` of plain PCM, and with the extension that has the subformat.
const FMT_BYTES: usize = 16;
const EXTENSIBLE_BYTES: usize = 40;

const TAG_PCM: u16 = 1;
const TAG_EXTENSIBLE: u16 = 0xFFFE;
/// What follows the tag in a subformat that stands for the tag (`KSDATAFORMAT_SUBTYPE_*`).
const SUBFORMAT_TAIL: [u8; 14] = [0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xAA, 0, 0x38, 0x9B, 0x71];

/// The sessions' samples: `pcm_s16le` is mono and has 16 bits.
const CHANNELS: u16 = 1;
const BITS: u16 = 16;

/// Where the reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In `RIFF`, the size, `WAVE`.
    Riff,
    /// In a chunk's name and size.
    Chunk,
    /// In the part of `fmt ` that is read; so many bytes, then so many to skip.
    Format { read: usize, skip: u64 },
    /// In a chunk that nobody asked for.
    Skip(u64),
    /// In the samples; `None` where they go on to the end of the body.
    Data(Option<u64>),
    /// Behind the samples.
    Behind,
}

/// A WAV file on its way through.
#[derive(Debug)]
pub(super) struct Wav {
    sample_rate: u32,
    place: Place,
    /// The beginning of what is being read: 40 bytes at most.
    header: Vec<u8>,
    has_format: bool,
    /// Bytes of chunks before the samples.
    before_data: u64,
}

impl Wav {
    /// For a session of this rate, in Hz.
    pub(super) const fn new(sample_rate: u32) -> Self {
        Self { sample_rate, place: Place::Riff, header: Vec::new(), has_format: false, before_data: 0 }
    }

    /// Takes the file's next piece; gives the samples in it.
    pub(super) fn feed(&mut self, mut piece: Bytes) -> Result<Bytes, BadAudio> {
        while !piece.is_empty() {
            match self.place {
                Place::Riff => {
                    if self.collect(&mut piece, RIFF_BYTES) {
                        self.move_to(Place::Chunk);
                    }
                }
                Place::Chunk => {
                    if self.collect(&mut piece, CHUNK_BYTES) {
                        self.enter_chunk()?;
                    }
                }
                Place::Format { read, skip } => {
                    if self.collect(&mut piece, read) {
                        self.check_format()?;
                        self.move_to(if skip == 0 { Place::Chunk } else { Place::Skip(skip) });
                    }
                }
                Place::Skip(left) => {
                    let skipped = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    piece.advance(skipped);
                    let left = left - skipped as u64;
                    self.move_to(if left == 0 { Place::Chunk } else { Place::Skip(left) });
                }
                Place::Data(None) => return Ok(piece),
                Place::Data(Some(left)) => {
                    piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                    let left = left - piece.len() as u64;
                    self.place = if left == 0 { Place::Behind } else { Place::Data(Some(left)) };
                    return Ok(piece);
                }
                Place::Behind => break,
            }
        }
        Ok(Bytes::new())
    }

    /// The body has ended.
    pub(super) fn finish(&self) -> Result<(), BadAudio> {
        match self.place {
            Place::Riff | Place::Chunk | Place::Format { .. } | Place::Skip(_) => {
                Err(BadAudio::Wav("ends before its samples (there is no `data` chunk)".to_owned()))
            }
            Place::Data(Some(left)) => Err(BadAudio::Wav(format!(
                "is cut off: {left} bytes that its `data` chunk announces did not come; send it whole, or with \
                 the size 0xFFFFFFFF if its length is not known"
            ))),
            Place::Data(None) | Place::Behind => Ok(()),
        }
    }

    fn move_to(&mut self, place: Place) {
        self.header.clear();
        self.place = place;
    }

    /// Moves bytes to the header until it has `wanted`; whether it has.
    fn collect(&mut self, piece: &mut Bytes, wanted: usize) -> bool {
        let part = piece.split_to(piece.len().min(wanted.saturating_sub(self.header.len())));
        self.header.extend_from_slice(&part);
        self.header.len() >= wanted
    }

    fn enter_chunk(&mut self) -> Result<(), BadAudio> {
        let (name, size) = (self.header[..4].to_vec(), u32_at(&self.header, 4));
        if name == b"data" {
            if !self.has_format {
                return Err(BadAudio::Wav("has no `fmt ` chunk before its samples".to_owned()));
            }
            let is_unknown = size == 0 || size >= UNKNOWN_FROM;
            self.move_to(Place::Data((!is_unknown).then_some(u64::from(size))));
            return Ok(());
        }
        // Chunks begin at even places.
        let whole = u64::from(size) + u64::from(size % 2);
        self.before_data += CHUNK_BYTES as u64 + whole;
        if self.before_data > MAX_BEFORE_DATA {
            return Err(BadAudio::Wav(format!(
                "has more than {MAX_BEFORE_DATA} bytes of other chunks before its samples (`{}` has {size})",
                name.escape_ascii()
            )));
        }
        if name != b"fmt " {
            self.move_to(if whole == 0 { Place::Chunk } else { Place::Skip(whole) });
            return Ok(());
        }
        let read = (size as usize).min(EXTENSIBLE_BYTES);
        if read < FMT_BYTES {
            return Err(BadAudio::Wav(format!(
                "has a `fmt ` chunk of {size} bytes; {FMT_BYTES} is the least"
            )));
        }
        self.move_to(Place::Format { read, skip: whole - read as u64 });
        Ok(())
    }

    fn check_format(&mut self) -> Result<(), BadAudio> {
        let fmt = &self.header;
        let (channels, rate, bits) = (u16_at(fmt, 2), u32_at(fmt, 4), u16_at(fmt, 14));
        let tag = match u16_at(fmt, 0) {
            TAG_EXTENSIBLE if fmt.get(26..EXTENSIBLE_BYTES) == Some(&SUBFORMAT_TAIL) => u16_at(fmt, 24),
            tag => tag,
        };
        let mut wrong = Vec::new();
        if tag != TAG_PCM {
            wrong.push(format!("{} (format tag {tag}; the session takes PCM, 1)", encoding(tag)));
        }
        if rate != self.sample_rate {
            wrong.push(format!("{rate} Hz (the session has {} Hz)", self.sample_rate));
        }
        if channels != CHANNELS {
            wrong.push(format!("{channels} channels (the session takes {CHANNELS})"));
        }
        if bits != BITS {
            wrong.push(format!("{bits} bits a sample (the session takes {BITS})"));
        }
        if wrong.is_empty() {
            self.has_format = true;
            return Ok(());
        }
        Err(BadAudio::WrongFormat(format!(
            "the WAV file has {}; convert it, or create a session that fits",
            wrong.join(", ")
        )))
    }
}

const fn encoding(tag: u16) -> &'static str {
    match tag {
        2 => "ADPCM",
        3 => "floating point",
        6 => "A-law",
        7 => "mu-law",
        _ => "another encoding",
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|two| two.try_into().ok()).map_or(0, u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_le_bytes)
}
