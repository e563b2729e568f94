//! The ledger: each accepted request has exactly one outcome.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;

use super::record::{FrameFate, InterruptFate, Outcome, Record, Refusal};
use crate::{errors::ErrorCode, recovery::Moment};

/// Pieces of audio that may wait to be sent. Each costs some hundred bytes beside its audio, which no bound
/// on audio counts; this many 10 ms chunks fill the default `session_bytes` anyway.
const MAX_QUEUED_PIECES: usize = 32_768;

/// Bytes in a second of the slowest encoding that speech is sent in (Opus at 6 kbit/s): where a format does not
/// tell its length, it is at most this long.
const SLOWEST_ENCODING: u32 = 750;

/// The ledger's bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerConfig {
    /// Bytes of audio that may wait to be sent.
    pub session_bytes: usize,
    /// How long audio may wait to be sent: speech that is older is stale, and nobody wants to see it.
    pub max_age: Duration,
    /// How long an answer may take beyond the length of the request's audio, from its last chunk.
    pub grace: Duration,
    /// Bytes of audio in a second, by which a request's length is known; `None` where the format does not
    /// tell.
    pub bytes_per_second: Option<u32>,
    /// Open requests at a time: clients have one or two; more is a mistake that must not grow memory.
    pub max_open: usize,
    /// Ended requests whose outcome can still be asked for.
    pub keep_ended: usize,
}

impl Default for LedgerConfig {
    fn default() -> Self {
        Self {
            session_bytes: 8 << 20,
            max_age: Duration::from_secs(30),
            grace: Duration::from_secs(30),
            bytes_per_second: Some(32_000),
            max_open: 64,
            keep_ended: 128,
        }
    }
}

/// Audio that is to be sent now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The request it belongs to.
    pub req_id: String,
    /// The audio; empty where only the end is to be told.
    pub audio: Bytes,
    /// Whether it is the request's last.
    pub end: bool,
}

/// Whether more audio is to come for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Intake {
    Open,
    Ended,
}

/// Whether the service knows of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Queued,
    Sent,
}

#[derive(Clone, Debug)]
struct Open {
    record: Record,
    intake: Intake,
    progress: Progress,
    last_chunk_at: Moment,
}

/// The requests of one session.
#[derive(Clone, Debug)]
pub struct Ledger {
    config: LedgerConfig,
    open: BTreeMap<String, Open>,
    queue: VecDeque<Outgoing>,
    queued_bytes: usize,
    ended: VecDeque<Record>,
    settled: VecDeque<Record>,
}

impl Ledger {
    /// An empty ledger.
    pub const fn new(config: LedgerConfig) -> Self {
        Self {
            config,
            open: BTreeMap::new(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            ended: VecDeque::new(),
            settled: VecDeque::new(),
        }
    }

    /// Accepts audio for a request; an id that is not known begins a new one.
    ///
    /// # Errors
    ///
    /// A bound is reached, or the request has ended; then nothing has changed.
    pub fn accept(&mut self, req_id: &str, audio: Bytes, end: bool, now: Moment) -> Result<(), Refusal> {
        let queued = self.queued_bytes;
        // A single piece above the bound passes an empty outbox, or it could never be sent at all.
        if queued > 0 && queued.saturating_add(audio.len()) > self.config.session_bytes {
            return Err(Refusal::Full { queued, bound: self.config.session_bytes });
        }
        if self.queue.len() >= MAX_QUEUED_PIECES {
            return Err(Refusal::TooManyPieces { queued: self.queue.len() });
        }
        if let Some(open) = self.open.get_mut(req_id) {
            if open.intake == Intake::Ended {
                return Err(Refusal::AfterEnd);
            }
            open.note_chunk(&audio, end, now);
        } else if let Some(outcome) = self.ended_outcome(req_id) {
            return Err(Refusal::Ended(outcome));
        } else if self.open.len() >= self.config.max_open {
            return Err(Refusal::TooManyOpen { open: self.open.len() });
        } else {
            let mut open = Open::new(req_id, now);
            open.note_chunk(&audio, end, now);
            self.open.insert(req_id.to_owned(), open);
        }
        self.queued_bytes += audio.len();
        self.queue.push_back(Outgoing { req_id: req_id.to_owned(), audio, end });
        Ok(())
    }

    /// Takes the next piece to send; the caller sends it on the connection that stands now.
    pub fn next_to_send(&mut self) -> Option<Outgoing> {
        let piece = self.queue.pop_front()?;
        self.queued_bytes -= piece.audio.len();
        if let Some(open) = self.open.get_mut(&piece.req_id) {
            open.progress = Progress::Sent;
        }
        Some(piece)
    }

    /// Notes a frame; one with `end` completes its request. A frame for a request of which nothing was sent
    /// answers something else, such as a request of an earlier connection with the same id.
    pub fn frame(&mut self, req_id: &str, end: bool, now: Moment) -> FrameFate {
        let Some(open) = self.open.get_mut(req_id).filter(|open| open.progress == Progress::Sent) else {
            return FrameFate::Late;
        };
        open.record.frames += 1;
        open.record.first_frame_at.get_or_insert(now);
        if end {
            self.settle(req_id, Outcome::Completed, None, now);
        }
        FrameFate::Deliver
    }

    /// Ends a request by a client's wish.
    pub fn interrupt(&mut self, req_id: &str, now: Moment) -> InterruptFate {
        match self.open.get(req_id).map(|open| open.progress) {
            Some(progress) => {
                self.settle(req_id, Outcome::Interrupted, None, now);
                match progress {
                    Progress::Sent => InterruptFate::TellUpstream,
                    Progress::Queued => InterruptFate::Dropped,
                }
            }
            None => self.ended_outcome(req_id).map_or(InterruptFate::Unknown, InterruptFate::AlreadyEnded),
        }
    }

    /// Fails one request; `false` where it is not open.
    pub fn fail(&mut self, req_id: &str, code: ErrorCode, reason: &str, now: Moment) -> bool {
        let open = self.open.contains_key(req_id);
        if open {
            self.settle(req_id, Outcome::Failed(code), Some(reason.to_owned()), now);
        }
        open
    }

    /// The connection broke: requests of which it had audio cannot be answered.
    pub fn fail_sent(&mut self, code: ErrorCode, now: Moment) {
        let reason = format!("the connection that its audio was sent on ended: {code}");
        self.settle_where(|open| open.progress == Progress::Sent, Outcome::Failed(code), &reason, now);
    }

    /// The session does not go on by itself: no open request can be answered.
    pub fn fail_all(&mut self, code: ErrorCode, now: Moment) {
        let reason = format!("the session ended its attempts: {code}");
        self.settle_where(|_| true, Outcome::Failed(code), &reason, now);
    }

    /// A person ended the session's turn.
    pub fn interrupt_all(&mut self, now: Moment) {
        self.settle_where(|_| true, Outcome::Interrupted, "the session was ended or parked by command", now);
    }

    /// Fails what is past its deadline, and gives the ids of those that the service has audio of: it is to be told,
    /// or it goes on. `cause` is the code of the session's trouble, where it has one.
    pub fn tick(&mut self, cause: Option<ErrorCode>, now: Moment) -> Vec<String> {
        let late: Vec<(String, Progress, Intake)> = self
            .open
            .values()
            .filter(|open| open.deadline(&self.config) <= now)
            .map(|open| (open.record.req_id.clone(), open.progress, open.intake))
            .collect();
        let mut known_upstream = Vec::new();
        for (req_id, progress, intake) in late {
            let (code, reason) = match (progress, intake) {
                (Progress::Queued, _) => (
                    cause.unwrap_or(ErrorCode::ConnectionFailed),
                    format!("its audio waited {} s for a connection", self.config.max_age.as_secs()),
                ),
                (Progress::Sent, Intake::Open) => {
                    (ErrorCode::InvalidRequest, "no chunk with end=true came in time".to_owned())
                }
                (Progress::Sent, Intake::Ended) => {
                    (ErrorCode::UpstreamError, "the service did not finish its answer in time".to_owned())
                }
            };
            self.settle(&req_id, Outcome::Failed(code), Some(reason), now);
            if progress == Progress::Sent {
                known_upstream.push(req_id);
            }
        }
        known_upstream
    }

    /// When [`Ledger::tick`] is due.
    pub fn next_timeout(&self) -> Option<Moment> {
        self.open.values().map(|open| open.deadline(&self.config)).min()
    }

    /// The next request that got its outcome since the last call.
    pub fn next_settled(&mut self) -> Option<Record> {
        self.settled.pop_front()
    }

    /// The account of a request that is open, or ended not too long ago.
    pub fn record(&self, req_id: &str) -> Option<&Record> {
        self.open
            .get(req_id)
            .map(|open| &open.record)
            .or_else(|| self.ended.iter().rev().find(|record| record.req_id == req_id))
    }

    /// The open request whose audio was accepted last, which an interrupt without an id means.
    pub fn latest_open(&self) -> Option<&Record> {
        self.open.values().map(|open| &open.record).max_by_key(|record| record.accepted_at)
    }

    /// Bytes of audio that wait to be sent.
    pub const fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Requests without an outcome.
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    fn ended_outcome(&self, req_id: &str) -> Option<Outcome> {
        self.ended.iter().rev().find(|record| record.req_id == req_id).and_then(|record| record.outcome)
    }

    fn settle_where(&mut self, which: impl Fn(&Open) -> bool, outcome: Outcome, reason: &str, now: Moment) {
        let chosen: Vec<String> =
            self.open.values().filter(|open| which(open)).map(|open| open.record.req_id.clone()).collect();
        for req_id in chosen {
            self.settle(&req_id, outcome, Some(reason.to_owned()), now);
        }
    }

    fn settle(&mut self, req_id: &str, outcome: Outcome, reason: Option<String>, now: Moment) {
        let Some(open) = self.open.remove(req_id) else { return };
        let mut record = open.record;
        record.outcome = Some(outcome);
        record.reason = reason;
        record.ended_at = Some(now);
        self.queue.retain(|piece| piece.req_id != req_id);
        self.queued_bytes = self.queue.iter().map(|piece| piece.audio.len()).sum();
        if self.ended.len() >= self.config.keep_ended {
            self.ended.pop_front();
        }
        self.ended.push_back(record.clone());
        self.settled.push_back(record);
    }
}

impl Open {
    fn new(req_id: &str, now: Moment) -> Self {
        Self {
            record: Record {
                req_id: req_id.to_owned(),
                outcome: None,
                reason: None,
                accepted_at: now,
                first_frame_at: None,
                ended_at: None,
                audio_bytes: 0,
                frames: 0,
            },
            intake: Intake::Open,
            progress: Progress::Queued,
            last_chunk_at: now,
        }
    }

    fn note_chunk(&mut self, audio: &Bytes, end: bool, now: Moment) {
        self.record.audio_bytes += audio.len() as u64;
        self.last_chunk_at = now;
        if end {
            self.intake = Intake::Ended;
        }
    }

    /// Audio that waits is stale after `max_age`; audio that was sent must be answered within its own
    /// length and the grace, from its last chunk.
    fn deadline(&self, config: &LedgerConfig) -> Moment {
        match self.progress {
            Progress::Queued => self.record.accepted_at + config.max_age,
            Progress::Sent => {
                let rate = config.bytes_per_second.unwrap_or(SLOWEST_ENCODING).max(1);
                // Hours of audio at most: the precision of f64 is far below a millisecond here.
                let length = Duration::from_secs_f64(self.record.audio_bytes as f64 / f64::from(rate));
                self.last_chunk_at + length + config.grace
            }
        }
    }
}
