//! One open request: its audio, how far it is sent, whether it is held, and when it is due.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{config::LedgerConfig, control::Hold, record::Record};
use crate::recovery::Moment;

/// Whether more audio is to come for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intake {
    Open,
    Ended,
}

/// How far the service has played what was sent on this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// The service did not say.
    Unknown,
    /// It said this many bytes, and plays on since then.
    Playing { bytes: u64, at: Moment },
    /// It stands at this many bytes.
    Standing(u64),
    /// It has played all.
    Over,
}

/// A request on the connection that stands.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    /// The id by which the service knows it.
    pub(super) upstream_id: String,
    /// Bytes of the request's audio before the first that was sent on this connection.
    pub(super) base: u64,
    /// Frames that came on this connection.
    pub(super) frames: u64,
    pub(super) position: Position,
}

/// Whether the service knows of a request.
#[derive(Clone, Debug)]
pub(super) enum Progress {
    /// Nothing of it was sent on the connection that stands, or none stands.
    Waiting { since: Moment },
    /// Some of it was.
    Sent(Attempt),
}

/// Whether what was sent is kept for a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeping {
    Copies,
    Nothing,
}

#[derive(Clone, Debug)]
struct Piece {
    /// Its place among all pieces that the session accepted.
    place: u64,
    audio: Bytes,
    end: bool,
}

/// An amount of audio.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) bytes: usize,
    pub(super) pieces: usize,
}

/// What is sent of a request in one message.
#[derive(Clone, Debug)]
pub(super) struct Sending {
    pub(super) audio: Bytes,
    pub(super) end: bool,
    /// Whether nothing of the request waits after it.
    pub(super) is_last_waiting: bool,
}

/// A request without an outcome.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) record: Record,
    pub(super) intake: Intake,
    pub(super) progress: Progress,
    pub(super) hold: Hold,
    /// When its last chunk came, later by the time for which it was paused since.
    pub(super) last_chunk_at: Moment,
    keeping: Keeping,
    /// Copies first, then what waits.
    pieces: VecDeque<Piece>,
    /// How many of the pieces are copies.
    sent: usize,
    /// Bytes of the request's audio before the first piece.
    start: u64,
    copied_bytes: usize,
    waiting_bytes: usize,
}

impl Open {
    pub(super) const fn new(req_id: String, keeps_copies: bool, now: Moment) -> Self {
        Self {
            record: Record {
                req_id,
                outcome: None,
                reason: None,
                accepted_at: now,
                first_frame_at: None,
                ended_at: None,
                audio_bytes: 0,
                frames: 0,
                breaks: 0,
            },
            intake: Intake::Open,
            progress: Progress::Waiting { since: now },
            hold: Hold::None,
            last_chunk_at: now,
            keeping: if keeps_copies { Keeping::Copies } else { Keeping::Nothing },
            pieces: VecDeque::new(),
            sent: 0,
            start: 0,
            copied_bytes: 0,
            waiting_bytes: 0,
        }
    }

    pub(super) fn push(&mut self, place: u64, audio: Bytes, end: bool, now: Moment) {
        self.record.audio_bytes += audio.len() as u64;
        self.last_chunk_at = now;
        if end {
            self.intake = Intake::Ended;
        }
        self.waiting_bytes += audio.len();
        self.pieces.push_back(Piece { place, audio, end });
    }

    /// The place of the first piece that waits.
    pub(super) fn next_place(&self) -> Option<u64> {
        self.pieces.get(self.sent).map(|piece| piece.place)
    }

    /// Takes the first piece that waits, and keeps a copy where one is wanted.
    pub(super) fn take(&mut self) -> Option<Sending> {
        let piece = self.pieces.get(self.sent)?;
        let (audio, end) = (piece.audio.clone(), piece.end);
        self.waiting_bytes -= audio.len();
        self.copied_bytes += audio.len();
        self.sent += 1;
        if self.keeping == Keeping::Nothing {
            self.drop_copies();
        }
        Some(Sending { audio, end, is_last_waiting: self.sent == self.pieces.len() })
    }

    /// Begins an attempt by this id, unless one is under way; gives whether it did.
    pub(super) fn begin(&mut self, upstream_id: impl FnOnce(&Record) -> String) -> bool {
        if matches!(self.progress, Progress::Sent(_)) {
            return false;
        }
        self.progress = Progress::Sent(Attempt {
            upstream_id: upstream_id(&self.record),
            base: self.start,
            frames: 0,
            position: Position::Unknown,
        });
        true
    }

    /// The id by which the service knows it now.
    pub(super) fn upstream_id(&self) -> Option<&str> {
        match &self.progress {
            Progress::Waiting { .. } => None,
            Progress::Sent(attempt) => Some(&attempt.upstream_id),
        }
    }

    /// Gives up the copies, and the replay with them; gives how many bytes that frees.
    pub(super) fn drop_copies(&mut self) -> usize {
        self.keeping = Keeping::Nothing;
        self.pieces.drain(..self.sent);
        self.sent = 0;
        self.start += self.copied_bytes as u64;
        std::mem::take(&mut self.copied_bytes)
    }

    /// Bytes of the request's audio up to the end of what was sent.
    pub(super) const fn sent_end(&self) -> u64 {
        self.start + self.copied_bytes as u64
    }

    /// Bytes of the request's audio before the first that could be sent again.
    pub(super) const fn start(&self) -> u64 {
        self.start
    }

    /// Lets the audio from this byte on wait again, and forgets what is before it.
    pub(super) fn wait_again(&mut self, from: u64, now: Moment) {
        self.waiting_bytes += std::mem::take(&mut self.copied_bytes);
        self.sent = 0;
        while let Some(piece) = self.pieces.front_mut()
            && self.start < from
        {
            let skip = from - self.start;
            if piece.audio.len() as u64 > skip {
                let skip = usize::try_from(skip).unwrap_or(usize::MAX);
                drop(piece.audio.split_to(skip));
                self.waiting_bytes -= skip;
                self.start = from;
            } else {
                self.start += piece.audio.len() as u64;
                self.waiting_bytes -= piece.audio.len();
                self.pieces.pop_front();
            }
        }
        self.progress = Progress::Waiting { since: now };
        self.hold.owe();
    }

    pub(super) fn waiting(&self) -> Amount {
        Amount { bytes: self.waiting_bytes, pieces: self.pieces.len() - self.sent }
    }

    pub(super) const fn copies(&self) -> Amount {
        Amount { bytes: self.copied_bytes, pieces: self.sent }
    }

    /// Audio that waits is stale after `max_age`; every request is answered within its own length and the
    /// grace, from its last chunk.
    pub(super) fn deadline(&self, config: &LedgerConfig) -> Moment {
        let answer = self.last_chunk_at + config.length(self.record.audio_bytes) + config.grace;
        let due = match self.progress {
            Progress::Waiting { since } => answer.min(since + config.max_age),
            Progress::Sent(_) => answer,
        };
        match self.hold {
            Hold::None => due,
            Hold::Paused { .. } => due + config.max_pause,
        }
    }
}
