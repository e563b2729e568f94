//! What the service says of requests.

use std::time::Duration;

use super::{
    Ledger,
    control::{Hold, Word},
    names::Standing,
    record::{FrameFate, Outcome, Playback},
    request::{Open, Position, Progress},
};
use crate::{errors::ErrorCode, recovery::Moment};

impl Ledger {
    /// Notes a frame; one with `end` completes its request. A frame for a request of which nothing was sent on
    /// this connection answers something else, such as a request of an earlier one with the same id.
    pub fn frame(&mut self, upstream_id: &str, end: bool, now: Moment) -> FrameFate {
        let key = match self.names.standing(upstream_id) {
            Some(Standing::Open(key)) => key,
            Some(Standing::Interrupted) => {
                if end {
                    self.names.answered(upstream_id);
                }
                return FrameFate::AfterInterrupt;
            }
            Some(Standing::Over) | None => return FrameFate::Late,
        };
        if let Some(open) = self.index.get_mut(key) {
            open.record.frames += 1;
            open.record.first_frame_at.get_or_insert(now);
            if let Progress::Sent(attempt) = &mut open.progress {
                attempt.frames += 1;
            }
        }
        if end {
            self.settle(key, Outcome::Completed, None, now);
        }
        FrameFate::Deliver
    }

    /// Notes what the service says of the playing of a request; gives whether that ended it.
    pub fn playback(&mut self, upstream_id: &str, playback: Playback, now: Moment) -> bool {
        let Some(Standing::Open(key)) = self.names.standing(upstream_id) else { return false };
        let position = self.position(playback, now);
        if let Some(open) = self.index.get_mut(key)
            && let Progress::Sent(attempt) = &mut open.progress
        {
            attempt.position = position;
        }
        match playback {
            Playback::Playing(_) => {
                self.index.edit(key, &self.config, |open| open.plays(now));
                false
            }
            Playback::Paused(_) => {
                self.index.edit(key, &self.config, |open| open.paused_by_service(now));
                false
            }
            Playback::Ended => false,
            Playback::Interrupted => {
                let reason = "the service broke off its playing".to_owned();
                self.settle(key, Outcome::Interrupted, Some(reason), now);
                true
            }
        }
    }

    fn position(&self, playback: Playback, now: Moment) -> Position {
        match playback {
            Playback::Playing(played) => Position::Playing { bytes: self.bytes_in(played), at: now },
            Playback::Paused(played) => Position::Standing(self.bytes_in(played)),
            Playback::Ended => Position::Over,
            Playback::Interrupted => Position::Unknown,
        }
    }

    /// Bytes of audio in `span`, up to the last whole sample of two bytes.
    pub(super) fn bytes_in(&self, span: Duration) -> u64 {
        let rate = u128::from(self.config.bytes_per_second.unwrap_or_default());
        let bytes = span.as_micros().saturating_mul(rate) / 1_000_000;
        u64::try_from(bytes).unwrap_or(u64::MAX) & !1
    }

    /// Fails the request that the service knows by this id and refuses; gives its client's id, where it was open.
    pub fn fail_upstream(
        &mut self,
        upstream_id: &str,
        code: ErrorCode,
        reason: &str,
        now: Moment,
    ) -> Option<String> {
        let Some(Standing::Open(key)) = self.names.standing(upstream_id) else { return None };
        let client_id = self.index.get(key)?.record.req_id.clone();
        self.settle(key, Outcome::Failed(code), Some(reason.to_owned()), now);
        Some(client_id)
    }

    /// The clients' ids of interrupted requests whose answers have yet to end on the connection that stands: when it
    /// goes, nothing more comes for them, and who waits for a last frame has to be told so.
    pub fn unended(&self) -> Vec<String> {
        self.names.unended()
    }

    /// The client's id of a request that the service knows by this one, on the connection that stands; also of one
    /// that ended not too long ago.
    pub fn client_id(&self, upstream_id: &str) -> Option<&str> {
        self.names.client_id(upstream_id)
    }
}

impl Open {
    /// The service says that it plays. That ends a pause that the service had spoken of: before, the word crossed
    /// ours on its way.
    fn plays(&mut self, now: Moment) {
        if matches!(self.hold, Hold::Paused { word: Word::Confirmed, .. }) {
            self.play_on(now);
        }
    }
}
