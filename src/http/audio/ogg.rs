//! Ogg Opus: the framing is checked (RFC 3533 section 6, RFC 7845 section 3), the bytes are left alone.

use bytes::Bytes;

use super::{BadAudio, join};

/// A page's header without its segment table.
const HEADER_BYTES: usize = 27;
const FLAGS_AT: usize = 5;
const SERIAL_AT: usize = 14;
const SEQUENCE_AT: usize = 18;
/// The flag of a stream's first page.
const FIRST: u8 = 2;
/// How the identification header begins: the signature, then a version whose upper half is 0 (RFC 7845
/// section 5.1).
const OPUS_HEAD: &[u8] = b"OpusHead";

/// Which page comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The stream's first.
    First,
    /// Any of a stream whose earlier pages came in another body.
    Continuing,
    /// The one behind page `sequence` of stream `serial`.
    After { serial: u32, sequence: u32 },
}

/// An Ogg Opus stream on its way through.
#[derive(Debug)]
pub(super) struct Ogg {
    next: Next,
    /// The beginning of a page's header: 27 + 255 bytes at most.
    header: Vec<u8>,
    /// Bytes of the page's body that are still to come.
    body_left: usize,
    /// The beginning of the first page's body, while the page is that one.
    head: Option<Vec<u8>>,
    /// What came before the stream was known to be Opus: the first page's header and 9 bytes at most.
    held: Bytes,
    /// Where the page begins, in bytes from the body's beginning, and its number there, from 1.
    page: (u64, u64),
    read: u64,
}

impl Ogg {
    /// `continues` where the stream began in an earlier body of the request.
    pub(super) const fn new(continues: bool) -> Self {
        Self {
            next: if continues { Next::Continuing } else { Next::First },
            header: Vec::new(),
            body_left: 0,
            head: if continues { None } else { Some(Vec::new()) },
            held: Bytes::new(),
            page: (0, 1),
            read: 0,
        }
    }

    /// Takes the stream's next piece, and gives it back when it is checked.
    pub(super) fn feed(&mut self, piece: Bytes) -> Result<Bytes, BadAudio> {
        let mut bytes = &piece[..];
        while let Some(&first) = bytes.first() {
            if self.body_left > 0 {
                let (body, rest) = bytes.split_at(self.body_left.min(bytes.len()));
                self.body_left -= body.len();
                self.read += body.len() as u64;
                self.check_head(body)?;
                bytes = rest;
                if self.body_left == 0 {
                    self.page = (self.read, self.page.1 + 1);
                }
                continue;
            }
            self.header.push(first);
            self.read += 1;
            bytes = &bytes[1..];
            self.check_header()?;
        }
        let piece = join(&self.held, piece);
        if self.head.is_some() {
            self.held = piece;
            return Ok(Bytes::new());
        }
        self.held = Bytes::new();
        Ok(piece)
    }

    /// The body has ended.
    pub(super) fn finish(&self) -> Result<(), BadAudio> {
        if self.body_left > 0 || !self.header.is_empty() {
            return Err(self.bad("is cut off within the page; every body has whole pages"));
        }
        Ok(())
    }

    fn bad(&self, what: &str) -> BadAudio {
        let (at, number) = self.page;
        BadAudio::Ogg(format!("{what} (page {number} of the body, at byte {at})"))
    }

    fn check_header(&mut self) -> Result<(), BadAudio> {
        let have = self.header.len();
        if !b"OggS\0".starts_with(&self.header[..have.min(5)]) {
            return Err(self.bad("has no page (\"OggS\", version 0) where one must begin"));
        }
        let Some(segments) = self.header.get(HEADER_BYTES - 1) else { return Ok(()) };
        if have < HEADER_BYTES + usize::from(*segments) {
            return Ok(());
        }
        self.check_order()?;
        self.body_left = self.header[HEADER_BYTES..].iter().map(|lacing| usize::from(*lacing)).sum();
        self.header.clear();
        if self.body_left == 0 {
            if self.head.is_some() {
                return Err(self.bad("has no OpusHead on its first page"));
            }
            self.page = (self.read, self.page.1 + 1);
        }
        Ok(())
    }

    fn check_order(&mut self) -> Result<(), BadAudio> {
        let is_first = self.header[FLAGS_AT] & FIRST != 0;
        let (serial, sequence) = (u32_at(&self.header, SERIAL_AT), u32_at(&self.header, SEQUENCE_AT));
        match self.next {
            Next::First if !is_first => {
                return Err(self.bad("does not begin with its first page (the flag for it is not set)"));
            }
            Next::Continuing | Next::After { .. } if is_first => {
                return Err(self
                    .bad("begins anew; a request is one stream, so send the next as a request of its own"));
            }
            Next::After { serial: earlier, .. } if serial != earlier => {
                return Err(self.bad(&format!("changes its serial number from {earlier} to {serial}")));
            }
            Next::After { sequence: earlier, .. } if sequence != earlier.wrapping_add(1) => {
                return Err(
                    self.bad(&format!("has a gap: page sequence number {sequence} follows {earlier}"))
                );
            }
            Next::First | Next::Continuing | Next::After { .. } => {}
        }
        self.next = Next::After { serial, sequence };
        Ok(())
    }

    /// Looks at the first page's body until it is known.
    fn check_head(&mut self, body: &[u8]) -> Result<(), BadAudio> {
        let Some(head) = &mut self.head else { return Ok(()) };
        let wanted = OPUS_HEAD.len() + 1 - head.len();
        head.extend_from_slice(&body[..wanted.min(body.len())]);
        let is_whole = head.len() > OPUS_HEAD.len();
        let shared = head.len().min(OPUS_HEAD.len());
        if head[..shared] != OPUS_HEAD[..shared] || (!is_whole && self.body_left == 0) {
            return Err(self.bad("has no OpusHead on its first page"));
        }
        if is_whole {
            if head[OPUS_HEAD.len()] & 0xF0 != 0 {
                return Err(self.bad("has an OpusHead of a version that is not known"));
            }
            self.head = None;
        }
        Ok(())
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_le_bytes)
}
