//! The ledger: each accepted request has exactly one outcome.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

use super::{
    config::{Continuity, LedgerConfig, MAX_PIECES},
    control::{Control, Controls},
    index::{Index, Key},
    names::{Names, Standing},
    record::{Outcome, Record, Refusal},
    request::{Intake, Open, Progress},
};
use crate::{errors::ErrorCode, recovery::Moment};

/// What is to be sent now. The ids are those by which the service knows the requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// Audio of a request.
    Audio {
        /// The request.
        req_id: String,
        /// The audio; empty where only the end is to be told.
        audio: Bytes,
        /// Whether it is the request's last.
        end: bool,
    },
    /// A word about a request.
    Control {
        /// The request.
        req_id: String,
        /// The word.
        control: Control,
    },
}

/// The requests of one session.
#[derive(Clone, Debug)]
pub struct Ledger {
    pub(super) config: LedgerConfig,
    pub(super) index: Index,
    pub(super) names: Names,
    pub(super) controls: Controls,
    next_place: u64,
    ended: VecDeque<Record>,
    settled: VecDeque<Record>,
}

impl Ledger {
    /// An empty ledger.
    pub const fn new(config: LedgerConfig) -> Self {
        Self {
            config,
            index: Index::new(),
            names: Names::new(),
            controls: Controls::new(),
            next_place: 0,
            ended: VecDeque::new(),
            settled: VecDeque::new(),
        }
    }

    /// Accepts audio for a request; an id that is not known begins a new one. `room` is how many bytes the bounds
    /// that sessions share leave free; copies of this session are dropped where that makes room.
    ///
    /// # Errors
    ///
    /// A bound is reached, or the request has ended; then nothing has changed.
    pub fn accept(
        &mut self,
        req_id: &str,
        audio: Bytes,
        end: bool,
        room: usize,
        now: Moment,
    ) -> Result<(), Refusal> {
        self.check_room(audio.len(), room)?;
        let known = self.check_request(req_id)?;
        self.make_room(audio.len(), room);
        let place = self.next_place;
        self.next_place += 1;
        if let Some(key) = known {
            self.index.edit(key, &self.config, |open| open.push(place, audio, end, now));
        } else {
            let keeps_copies = self.config.continuity != Continuity::Off;
            let mut open = Open::new(req_id.to_owned(), keeps_copies, now);
            open.push(place, audio, end, now);
            self.index.insert(Key(place), open, &self.config);
        }
        Ok(())
    }

    fn check_room(&self, bytes: usize, room: usize) -> Result<(), Refusal> {
        let (waiting, copies) = (self.index.waiting(), self.index.copies());
        // A single piece above the bound passes an empty outbox, or it could never be sent at all.
        if waiting.bytes > 0 && waiting.bytes.saturating_add(bytes) > self.config.session_bytes {
            return Err(Refusal::Full { queued: waiting.bytes, bound: self.config.session_bytes });
        }
        let room = room.saturating_add(copies.bytes);
        if bytes > room {
            return Err(Refusal::NoRoom { bytes, room });
        }
        if waiting.pieces >= MAX_PIECES {
            return Err(Refusal::TooManyPieces { queued: waiting.pieces });
        }
        Ok(())
    }

    fn check_request(&self, req_id: &str) -> Result<Option<Key>, Refusal> {
        if let Some(key) = self.index.key(req_id) {
            return match self.index.get(key).map(|open| open.intake) {
                Some(Intake::Ended) => Err(Refusal::AfterEnd),
                Some(Intake::Open) | None => Ok(Some(key)),
            };
        }
        if let Some(outcome) = self.ended_outcome(req_id) {
            return Err(Refusal::Ended(outcome));
        }
        if self.index.len() >= self.config.max_open {
            return Err(Refusal::TooManyOpen { open: self.index.len() });
        }
        Ok(None)
    }

    /// Drops copies until a piece of this many bytes fits.
    fn make_room(&mut self, bytes: usize, room: usize) {
        let here = self.kept_bytes().saturating_add(bytes).saturating_sub(self.config.session_bytes);
        self.drop_copies(here.max(bytes.saturating_sub(room)));
        while self.index.waiting().pieces + self.index.copies().pieces >= MAX_PIECES
            && self.drop_oldest_copies().is_some()
        {}
    }

    /// Drops copies of sent audio, those of the oldest request first, until `want` bytes are free; gives how many
    /// are. A request whose copies are dropped is not sent again if its connection breaks.
    pub fn drop_copies(&mut self, want: usize) -> usize {
        let mut freed = 0;
        while freed < want
            && let Some(bytes) = self.drop_oldest_copies()
        {
            freed += bytes;
        }
        freed
    }

    fn drop_oldest_copies(&mut self) -> Option<usize> {
        let key = self.index.first_copied()?;
        self.index.edit(key, &self.config, Open::drop_copies)
    }

    /// Takes what is to be sent next; the caller sends it on the connection that stands now. `fresh_id` makes the
    /// id for a request that is sent again.
    pub fn next_to_send(&mut self, fresh_id: impl FnOnce() -> String) -> Option<Outgoing> {
        if let Some(control) = self.controls.pop() {
            return Some(control);
        }
        let key = self.index.first_waiting()?;
        let (begins, sending, owes_pause) = self.index.edit(key, &self.config, |open| {
            let begins = open.begin(|record| match record.breaks {
                0 => record.req_id.clone(),
                _ => fresh_id(),
            });
            let sending = open.take()?;
            let owes_pause = sending.is_last_waiting && open.hold.pay();
            Some((begins, sending, owes_pause))
        })??;
        let open = self.index.get(key)?;
        let req_id = open.upstream_id()?.to_owned();
        if begins {
            self.names.insert(req_id.clone(), open.record.req_id.clone(), key);
        }
        if owes_pause {
            self.tell(key, Control::Pause);
        }
        // A single piece above the bound is not kept as a copy either.
        self.drop_copies(self.kept_bytes().saturating_sub(self.config.session_bytes));
        Some(Outgoing::Audio { req_id, audio: sending.audio, end: sending.end })
    }

    /// Fails one request by its client's id, and tells the service not to go on with it; `false` where it is not
    /// open.
    pub fn fail(&mut self, req_id: &str, code: ErrorCode, reason: &str, now: Moment) -> bool {
        let Some(key) = self.index.key(req_id) else { return false };
        self.settle_and_tell(key, Outcome::Failed(code), reason.to_owned(), now);
        true
    }

    /// The session does not go on by itself: no open request can be answered.
    pub fn fail_all(&mut self, code: ErrorCode, now: Moment) {
        let reason = format!("the session ended its attempts: {code}");
        self.settle_all(Outcome::Failed(code), &reason, now);
    }

    /// A person ended the session's turn.
    pub fn interrupt_all(&mut self, now: Moment) {
        self.settle_all(Outcome::Interrupted, "the session was ended or parked by command", now);
    }

    fn settle_all(&mut self, outcome: Outcome, reason: &str, now: Moment) {
        for key in self.index.keys_where(|_| true) {
            self.settle(key, outcome, Some(reason.to_owned()), now);
        }
        // The connection goes with the session's turn.
        self.controls.clear();
        self.names.clear();
    }

    /// Fails what is past its deadline; the service is told of what it has audio of, or it goes on. `cause` is the
    /// code of the session's trouble, where it has one.
    pub fn tick(&mut self, cause: Option<ErrorCode>, now: Moment) {
        while let Some((due, key)) = self.index.first_due()
            && due <= now
        {
            let Some(open) = self.index.get(key) else { return };
            let (code, reason) = match (&open.progress, open.intake) {
                (Progress::Waiting { since }, _) => (
                    cause.unwrap_or(ErrorCode::ConnectionFailed),
                    format!("its audio waited {} s for a connection", now.since(*since).as_secs()),
                ),
                (Progress::Sent(_), Intake::Open) => {
                    (ErrorCode::InvalidRequest, "no chunk with end=true came in time".to_owned())
                }
                (Progress::Sent(_), Intake::Ended) => {
                    (ErrorCode::UpstreamError, "the service did not finish its answer in time".to_owned())
                }
            };
            self.settle_and_tell(key, Outcome::Failed(code), reason, now);
        }
    }

    /// When [`Ledger::tick`] is due.
    pub fn next_timeout(&self) -> Option<Moment> {
        self.index.first_due().map(|(due, _)| due)
    }

    /// The next request that got its outcome since the last call.
    pub fn next_settled(&mut self) -> Option<Record> {
        self.settled.pop_front()
    }

    /// The account of a request that is open, or ended not too long ago.
    pub fn record(&self, req_id: &str) -> Option<&Record> {
        self.index
            .key(req_id)
            .and_then(|key| self.index.get(key))
            .map(|open| &open.record)
            .or_else(|| self.ended.iter().rev().find(|record| record.req_id == req_id))
    }

    /// The open request that began last, which an interrupt without an id means.
    pub fn latest_open(&self) -> Option<&Record> {
        self.index.latest().map(|open| &open.record)
    }

    /// What is carried out when a connection breaks.
    pub const fn continuity(&self) -> Continuity {
        self.config.continuity
    }

    /// Changes what is carried out when a connection breaks. Requests that are open have the copies that they have.
    pub const fn set_continuity(&mut self, continuity: Continuity) {
        self.config.continuity = continuity;
    }

    /// Changes the format that requests are cut and timed by, where a session is configured anew between two
    /// connections. The deadlines of what is open follow.
    pub fn set_format(&mut self, bytes_per_second: Option<u32>) {
        if self.config.bytes_per_second == bytes_per_second {
            return;
        }
        let before = self.config;
        self.config.bytes_per_second = bytes_per_second;
        self.index.rederive(&before, &self.config);
    }

    /// How long `bytes` of audio in the session's format last; `None` where that does not follow from their number.
    pub fn lasting(&self, bytes: u64) -> Option<Duration> {
        self.config.bytes_per_second.map(|_| self.config.length(bytes))
    }

    /// Bytes of audio that wait to be sent.
    pub const fn queued_bytes(&self) -> usize {
        self.index.waiting().bytes
    }

    /// Bytes of sent audio that are kept for a replay.
    pub const fn copies_bytes(&self) -> usize {
        self.index.copies().bytes
    }

    /// Bytes of audio that are held: those that wait, and copies.
    pub const fn kept_bytes(&self) -> usize {
        self.queued_bytes() + self.copies_bytes()
    }

    /// Requests without an outcome.
    pub fn open_count(&self) -> usize {
        self.index.len()
    }

    pub(super) fn ended_outcome(&self, req_id: &str) -> Option<Outcome> {
        self.ended.iter().rev().find(|record| record.req_id == req_id).and_then(|record| record.outcome)
    }

    fn settle_and_tell(&mut self, key: Key, outcome: Outcome, reason: String, now: Moment) {
        if let Some(upstream_id) = self.settle(key, outcome, Some(reason), now) {
            self.controls.push(upstream_id, Control::Interrupt);
        }
    }

    /// Gives a request its outcome; gives the id by which the service knows it, where it does.
    pub(super) fn settle(
        &mut self,
        key: Key,
        outcome: Outcome,
        reason: Option<String>,
        now: Moment,
    ) -> Option<String> {
        let Open { mut record, progress, .. } = self.index.remove(key, &self.config)?;
        record.outcome = Some(outcome);
        record.reason = reason;
        record.ended_at = Some(now);
        if self.ended.len() >= self.config.keep_ended {
            self.ended.pop_front();
        }
        self.ended.push_back(record.clone());
        self.settled.push_back(record);
        match progress {
            Progress::Waiting { .. } => None,
            Progress::Sent(attempt) => {
                let standing = match outcome {
                    Outcome::Interrupted => Standing::Interrupted,
                    Outcome::Completed | Outcome::Failed(_) => Standing::Over,
                };
                self.names.end(&attempt.upstream_id, standing, self.config.keep_ended);
                Some(attempt.upstream_id)
            }
        }
    }
}
