//! What is known about one request, and the answers that the ledger gives.

use std::time::Duration;

use crate::{errors::ErrorCode, recovery::Moment};

/// How a request ended. Every accepted request gets exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The service sent the last frame.
    Completed,
    /// A client or an operator ended it.
    Interrupted,
    /// It could not be answered, for the reason that the code names.
    Failed(ErrorCode),
}

impl Outcome {
    /// The spelling in JSON and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Interrupted => "interrupted",
            Self::Failed(_) => "failed",
        }
    }

    /// The code of a failure.
    pub const fn code(self) -> Option<ErrorCode> {
        match self {
            Self::Failed(code) => Some(code),
            Self::Completed | Self::Interrupted => None,
        }
    }
}

/// The account of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The request id.
    pub req_id: String,
    /// How it ended; `None` while it is open.
    pub outcome: Option<Outcome>,
    /// Why it ended so, where that needs words.
    pub reason: Option<String>,
    /// When its first audio was accepted.
    pub accepted_at: Moment,
    /// When its first frame came.
    pub first_frame_at: Option<Moment>,
    /// When it ended.
    pub ended_at: Option<Moment>,
    /// Bytes of audio that were accepted.
    pub audio_bytes: u64,
    /// Frames that came for it.
    pub frames: u64,
    /// Connections that ended while it was answered on them.
    pub breaks: u32,
}

impl Record {
    /// From the first accepted audio to the first frame.
    pub fn first_frame_after(&self) -> Option<Duration> {
        self.first_frame_at.map(|at| at.since(self.accepted_at))
    }

    /// From the first accepted audio to the outcome.
    pub fn total(&self) -> Option<Duration> {
        self.ended_at.map(|at| at.since(self.accepted_at))
    }
}

/// Why audio was not accepted. Nothing of the refused audio is kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The session's outbox is full.
    #[error(
        "the session's outbox is full: {queued} bytes wait to be sent and {bound} are allowed; send again when the session runs"
    )]
    Full {
        /// Bytes that wait.
        queued: usize,
        /// Bytes that may wait.
        bound: usize,
    },
    /// The outboxes of the tenant, or of all tenants, are full.
    #[error(
        "the outboxes together are full: {bytes} bytes came and {room} are left; send again when other sessions have sent theirs"
    )]
    NoRoom {
        /// Bytes that came.
        bytes: usize,
        /// Bytes that are left, this session's copies included.
        room: usize,
    },
    /// Too many pieces wait, however small they are.
    #[error(
        "the session's outbox is full: {queued} pieces of audio wait to be sent; send larger pieces, or send again when the session runs"
    )]
    TooManyPieces {
        /// Pieces that wait.
        queued: usize,
    },
    /// The session has too many open requests.
    #[error("the session has {open} open requests, which is the most that it may have; wait for one to end")]
    TooManyOpen {
        /// Open requests.
        open: usize,
    },
    /// The request has its outcome already.
    #[error("the request has ended already: {}", .0.as_str())]
    Ended(Outcome),
    /// The request's last chunk was accepted before.
    #[error("the request's audio was ended by an earlier chunk with end=true; use a new request id")]
    AfterEnd,
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameFate {
    /// It belongs to an open request.
    Deliver,
    /// Its request was interrupted, and its answer has not come to its end: clients expect the rest, which the
    /// service had on its way, up to the first frame that ends it.
    AfterInterrupt,
    /// Its request was completed or failed, was never accepted, or was not sent on this connection.
    Late,
}

/// What the service says of the playing of a request, where it publishes the avatar itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Playback {
    /// It plays, and had played this much of the audio that was sent on this connection.
    Playing(Duration),
    /// It is paused after this much.
    Paused(Duration),
    /// It has played all.
    Ended,
    /// It was broken off.
    Interrupted,
}
