//! How long the audio of a request is. Pure.

use crate::wire::proto::AudioFormat;

/// Rates that the service takes, in Hz.
const PCM_RATES: [i32; 7] = [8000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000];
const OPUS_RATES: [i32; 5] = [8000, 12_000, 16_000, 24_000, 48_000];

/// Ogg Opus counts in 48 kHz samples whatever the input's rate is (RFC 7845 section 4).
const OPUS_UNITS_PER_FRAME: u64 = 48_000 / 25;

/// The header of an Ogg page without its segment table (RFC 3533 section 6).
const PAGE_HEADER_BYTES: usize = 27;

/// Whether the format has the rate.
pub(super) fn is_supported(format: AudioFormat, sample_rate: i32) -> bool {
    match format {
        AudioFormat::PcmS16le => PCM_RATES.contains(&sample_rate),
        AudioFormat::OggOpus => OPUS_RATES.contains(&sample_rate),
    }
}

/// Measures the audio of one request.
#[derive(Clone, Debug)]
pub(super) enum Meter {
    /// Counts bytes.
    Pcm { bytes: u64, bytes_per_frame: u64 },
    /// Reads the pages' positions.
    Ogg(OggMeter),
}

/// The request's bytes are no Ogg stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotOgg;

impl Meter {
    /// For a session of this format and rate (which the format has).
    pub(super) fn new(format: AudioFormat, sample_rate: i32) -> Self {
        match format {
            AudioFormat::PcmS16le => {
                let rate = u64::try_from(sample_rate).unwrap_or_default();
                Self::Pcm { bytes: 0, bytes_per_frame: rate / 25 * 2 }
            }
            AudioFormat::OggOpus => Self::Ogg(OggMeter::default()),
        }
    }

    pub(super) fn feed(&mut self, audio: &[u8]) -> Result<(), NotOgg> {
        match self {
            Self::Pcm { bytes, .. } => *bytes += audio.len() as u64,
            Self::Ogg(meter) => meter.feed(audio)?,
        }
        Ok(())
    }

    /// The length so far, and the length of a frame, in the same unit.
    pub(super) const fn units(&self) -> (u64, u64) {
        match self {
            Self::Pcm { bytes, bytes_per_frame } => (*bytes, *bytes_per_frame),
            Self::Ogg(meter) => (meter.samples(), OPUS_UNITS_PER_FRAME),
        }
    }
}

/// Follows an Ogg stream page by page and keeps nothing but the header it is in.
#[derive(Clone, Debug, Default)]
pub(super) struct OggMeter {
    /// The beginning of a header that is not complete yet: at most 27 + 255 bytes.
    header: Vec<u8>,
    /// Bytes of the page's body that are still to come; the first ones may hold the pre-skip.
    body_left: usize,
    /// The identification header's body, as far as the pre-skip.
    head: Vec<u8>,
    position: u64,
}

/// "OpusHead", version, channels, then the pre-skip as u16 (RFC 7845 section 5.1).
const PRE_SKIP_AT: usize = 10;

impl OggMeter {
    fn feed(&mut self, mut bytes: &[u8]) -> Result<(), NotOgg> {
        while !bytes.is_empty() {
            if self.body_left > 0 {
                let (body, rest) = bytes.split_at(self.body_left.min(bytes.len()));
                let wanted = (PRE_SKIP_AT + 2).saturating_sub(self.head.len());
                self.head.extend_from_slice(&body[..wanted.min(body.len())]);
                self.body_left -= body.len();
                bytes = rest;
                continue;
            }
            self.header.push(bytes[0]);
            bytes = &bytes[1..];
            self.read_header()?;
        }
        Ok(())
    }

    /// Takes the header if it is complete.
    fn read_header(&mut self) -> Result<(), NotOgg> {
        let have = self.header.len();
        if !b"OggS".starts_with(&self.header[..have.min(4)]) {
            return Err(NotOgg);
        }
        let Some(segments) = self.header.get(PAGE_HEADER_BYTES - 1) else { return Ok(()) };
        if have < PAGE_HEADER_BYTES + usize::from(*segments) {
            return Ok(());
        }
        let position = self.header.get(6..14).and_then(|bytes| bytes.try_into().ok()).map(i64::from_le_bytes);
        // -1 is a page on which no packet ends.
        if let Some(position) = position.and_then(|position| u64::try_from(position).ok()) {
            self.position = self.position.max(position);
        }
        self.body_left = self.header[PAGE_HEADER_BYTES..].iter().map(|lacing| usize::from(*lacing)).sum();
        self.header.clear();
        Ok(())
    }

    /// Samples at 48 kHz that have come, without the pre-skip.
    const fn samples(&self) -> u64 {
        let pre_skip = match self.head.as_slice() {
            [.., low, high] if self.head.len() == PRE_SKIP_AT + 2 => u16::from_le_bytes([*low, *high]),
            _ => 0,
        };
        self.position.saturating_sub(pre_skip as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(position: i64, body: &[u8]) -> Vec<u8> {
        let mut page = b"OggS\0\0".to_vec();
        page.extend_from_slice(&position.to_le_bytes());
        page.extend_from_slice(&[0; 12]);
        page.push(u8::try_from(body.len() / 255 + 1).unwrap());
        page.extend(std::iter::repeat_n(255, body.len() / 255));
        page.push(u8::try_from(body.len() % 255).unwrap());
        page.extend_from_slice(body);
        page
    }

    #[test]
    fn pcm_is_measured_in_bytes_at_every_rate() {
        for rate in PCM_RATES {
            let mut meter = Meter::new(AudioFormat::PcmS16le, rate);
            meter.feed(&vec![0; usize::try_from(rate).unwrap() * 2]).unwrap();
            let (units, per_frame) = meter.units();
            assert_eq!(units, per_frame * 25, "{rate} Hz");
        }
        assert!(!is_supported(AudioFormat::PcmS16le, 12_000));
        assert!(is_supported(AudioFormat::OggOpus, 12_000));
        assert!(!is_supported(AudioFormat::OggOpus, 44_100));
    }

    #[test]
    fn ogg_is_measured_by_its_positions_however_it_is_cut() {
        let mut head = b"OpusHead\x01\x01".to_vec();
        head.extend_from_slice(&312_u16.to_le_bytes());
        head.extend_from_slice(&[0; 7]);
        let stream =
            [page(0, &head), page(0, &[1; 600]), page(-1, &[2; 10]), page(48_312, &[3; 510])].concat();
        for chunk in [1, 7, 100, stream.len()] {
            let mut meter = Meter::new(AudioFormat::OggOpus, 48_000);
            for part in stream.chunks(chunk) {
                meter.feed(part).unwrap();
            }
            assert_eq!(meter.units(), (48_000, 1920), "in parts of {chunk}");
        }
    }

    #[test]
    fn what_is_no_ogg_is_said_to_be_none() {
        assert_eq!(Meter::new(AudioFormat::OggOpus, 48_000).feed(b"RIFF"), Err(NotOgg));
    }
}
